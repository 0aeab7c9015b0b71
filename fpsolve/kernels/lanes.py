"""Banded elimination in four lanes at once, one vector of 256 bits: the compiler does not find that by itself.

From one row to the next there is one fused product and difference to wait for: the four rows before stay in
registers, the nearest is taken last, and rows of the upper factor are kept divided by their pivot.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WIDTH = 4  # lanes of one vector
REACH = 4  # cells on each side that a row reaches
_DOUBLE, _INT = ir.DoubleType(), ir.IntType(64)
_ROW = ir.VectorType(_DOUBLE, WIDTH)
_FUSED = ("contract",)  # products and differences may be rounded once


class _Rows:
    """Loads and stores of vectors and numbers in contiguous arrays, by flat index."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.builder = builder
        pairs = zip(signature.args, args, strict=True)
        arrays = [context.make_array(kind)(context, builder, array) for kind, array in pairs]
        self.data = [array.data for array in arrays]
        self.shapes = [cgutils.unpack_tuple(builder, array.shape) for array in arrays]

    def at(self, index: Any, factor: int, shift: int) -> Any:
        """index * factor + shift."""
        scaled = self.builder.mul(index, ir.Constant(_INT, factor))
        return self.builder.add(scaled, ir.Constant(_INT, shift))

    def _place(self, array: int, row: Any) -> Any:
        first = self.builder.mul(row, ir.Constant(_INT, WIDTH))
        return self.builder.bitcast(self.builder.gep(self.data[array], [first]), _ROW.as_pointer())

    def load(self, array: int, row: Any) -> Any:
        return self.builder.load(self._place(array, row), align=8)

    def store(self, array: int, row: Any, value: Any) -> None:
        self.builder.store(value, self._place(array, row), align=8)

    def same(self, array: int, index: Any) -> Any:
        """A vector of one number of an array."""
        number = self.builder.load(self.builder.gep(self.data[array], [index]))
        one = self.builder.insert_element(ir.Constant(_ROW, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(
            one, ir.Constant(_ROW, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        )

    def product(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b, flags=_FUSED)

    def less(self, total: Any, a: Any, b: Any) -> Any:
        """total - a b."""
        return self.builder.fsub(total, self.product(a, b), flags=_FUSED)


def _carried(builder: Any, count: int) -> list[Any]:
    """Vectors, zero at first, that live from one turn of a loop to the next."""
    places = [cgutils.alloca_once(builder, _ROW) for _ in range(count)]
    for place in places:
        builder.store(ir.Constant(_ROW, [0.0] * WIDTH), place)
    return places


def _shift(builder: Any, places: list[Any], newest: Any) -> None:
    """Put `newest` before the others and forget the oldest."""
    for older, newer in zip(places[:0:-1], places[-2::-1], strict=True):
        builder.store(builder.load(newer), older)
    builder.store(newest, places[0])


@intrinsic
def substitute_lanes(typing_context, u, low, up, pivot):  # type: ignore[no-untyped-def]
    """Solve in each lane; u is (n + 2 REACH, WIDTH); low and up (n, REACH, WIDTH), pivot (n, WIDTH) as below."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        rows = _Rows(context, builder, signature, args)
        n = rows.shapes[1][0]
        before = _carried(builder, REACH)
        with cgutils.for_range(builder, n) as loop:
            i = loop.index
            total = rows.load(0, rows.at(i, 1, REACH))
            for k in reversed(range(REACH)):  # the nearest last: it has only just been found
                total = rows.less(total, rows.load(1, rows.at(i, REACH, k)), builder.load(before[k]))
            rows.store(0, rows.at(i, 1, REACH), total)
            _shift(builder, before, total)
        after = _carried(builder, REACH)
        with cgutils.for_range(builder, n) as loop:
            i = builder.sub(builder.sub(n, ir.Constant(_INT, 1)), loop.index)
            total = rows.product(rows.load(0, rows.at(i, 1, REACH)), rows.load(3, i))
            for k in reversed(range(REACH)):
                total = rows.less(total, rows.load(2, rows.at(i, REACH, k)), builder.load(after[k]))
            rows.store(0, rows.at(i, 1, REACH), total)
            _shift(builder, after, total)
        return context.get_dummy_value()

    return types.void(u, low, up, pivot), codegen


@intrinsic
def factorise_lanes(typing_context, velocity, spread, value, slope, substep, low, up, pivot):  # type: ignore[no-untyped-def]
    """Factors of I - substep A; velocity, spread (n + 1, WIDTH), value, slope (n + 1, 2 REACH), substep (WIDTH,).

    pivot has the inverse pivots; rows of low and up have the nearest cell first, those of up are divided by the pivot.
    """

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        rows = _Rows(context, builder, signature, args)
        n, size = rows.shapes[5][0], 2 * REACH
        zero, one = (ir.Constant(_ROW, [value] * WIDTH) for value in (0.0, 1.0))
        length = rows.load(4, ir.Constant(_INT, 0))

        def flux(i: Any) -> list[Any]:
            """Weights of the cells around face i in substep times the flux there."""
            velocity, spread = (rows.product(rows.load(array, i), length) for array in (0, 1))
            found = []
            for m in range(size):
                at = rows.at(i, size, m)
                along = rows.product(velocity, rows.same(2, at))
                found.append(rows.less(along, spread, rows.same(3, at)))
            return found

        left = _carried(builder, size)
        for place, weight in zip(left, flux(ir.Constant(_INT, 0)), strict=True):
            builder.store(weight, place)
        # of the rows before, nearest first
        inverses = _carried(builder, REACH)
        above = [_carried(builder, REACH) for _ in range(REACH)]
        with cgutils.for_range(builder, n) as loop:
            i = loop.index
            out, into = flux(rows.at(i, 1, 1)), [builder.load(place) for place in left]
            row = [builder.fsub(a, b) for a, b in zip([zero, *out], [*into, zero], strict=True)]
            row[REACH] = builder.fadd(row[REACH], one)
            for place, weight in zip(left, out, strict=True):
                builder.store(weight, place)
            for k in range(REACH):  # the row k before the diagonal is REACH - k rows above
                share = rows.product(row[k], builder.load(inverses[REACH - 1 - k]))
                rows.store(5, rows.at(i, REACH, REACH - 1 - k), share)
                for m in range(REACH):
                    row[k + 1 + m] = rows.less(row[k + 1 + m], share, builder.load(above[REACH - 1 - k][m]))
            inverse = builder.fdiv(one, row[REACH])
            rows.store(7, i, inverse)
            _shift(builder, inverses, inverse)
            # the rounding of the inverse would change all of a row alike, and with it the mass
            missed = rows.less(one, row[REACH], inverse)
            for m in range(REACH):
                part = rows.product(row[REACH + 1 + m], inverse)
                part = builder.fadd(part, rows.product(part, missed), flags=_FUSED)
                rows.store(6, rows.at(i, REACH, m), part)
                _shift(builder, [above[k][m] for k in range(REACH)], row[REACH + 1 + m])
        return context.get_dummy_value()

    return types.void(velocity, spread, value, slope, substep, low, up, pivot), codegen
