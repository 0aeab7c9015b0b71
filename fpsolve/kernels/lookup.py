"""Look-up of a tabulated coefficient: one compiled function for every table, which stands in its parameters.

Time is cut into panels. On each the table has `NODES` rows, at Chebyshev-Lobatto times, of coefficients of a quintic
spline in x with equal cells. A call has one time: the rows are combined into one, and every x is looked up in that.
Whatever lies outside the table, in x or in t, is asked from a coefficient of the usual kind, whose address is in the
table too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numba
import numpy as np

from fpsolve.kernels.coefficients import _SIGNATURE, OK, Block, call_coefficient
from fpsolve.kernels.compile import cache_folder, kernel

NODES = 8  # times of a panel
DEGREE = 5  # of the spline
# a table: [size, address of the coefficient beyond, panels], one record of each panel, rows
_SIZE, _ADDRESS, _PANELS, _HEAD = 0, 1, 2, 3
# a record: start and end in time, left end, cells per unit of x, number of cells (0: no table here), place of the rows
_START, _END, _LEFT, _DENSITY, _CELLS, _ROWS, _RECORD = 0, 1, 2, 3, 4, 5, 6

_half = np.arange(NODES) * np.pi / (NODES - 1)
LOBATTO = 0.5 - 0.5 * np.cos(_half)  # on [0, 1]
_WEIGHTS = np.where(np.arange(NODES) % 2, -1.0, 1.0) * np.where((LOBATTO == 0.0) | (LOBATTO == 1.0), 0.5, 1.0)


class Panel(NamedTuple):
    """Table of one stretch of time; `rows` has the shape (NODES, cells + DEGREE), or is None where there is none."""

    start: float
    end: float
    left: float
    right: float
    rows: np.ndarray | None

    @property
    def cells(self) -> int:
        """Number of cells in x."""
        return 0 if self.rows is None else self.rows.shape[1] - DEGREE


def packed(panels: Sequence[Panel], beyond: int) -> np.ndarray:
    """Return the panels, in order of time, as parameters of the look-up; `beyond` is the address for the rest."""
    place = _HEAD + _RECORD * len(panels)
    records, rows = [], []
    for panel in panels:
        density = panel.cells / (panel.right - panel.left) if panel.rows is not None else 0.0
        records.append([panel.start, panel.end, panel.left, density, panel.cells, place])
        if panel.rows is not None:
            rows.append(panel.rows.ravel())
            place += panel.rows.size
    # an address is below 2^53 on every machine that we know, and exact as a float
    return np.concatenate([[place, beyond, len(panels)], np.ravel(records), *rows])


@kernel
def _record_of(t, table):  # type: ignore[no-untyped-def]
    """Place of the record of the panel with time t, or -1; a time that is outside by rounding alone is inside."""
    panels = int(table[_PANELS])
    first, last = _HEAD, _HEAD + (panels - 1) * _RECORD
    slack = 1e-12 * (table[last + _END] - table[first + _START])
    if not table[first + _START] - slack <= t <= table[last + _END] + slack:
        return -1
    low, high = 0, panels - 1
    while low < high:
        middle = (low + high) // 2
        if t <= table[_HEAD + middle * _RECORD + _END]:
            high = middle
        else:
            low = middle + 1
    return _HEAD + low * _RECORD


@kernel
def time_weights(part, weights):  # type: ignore[no-untyped-def]
    """Fill the weights with which the rows at the times LOBATTO give the row at `part` (barycentric formula)."""
    total = 0.0
    for k in range(NODES):
        gap = part - LOBATTO[k]
        if gap == 0.0:
            for i in range(NODES):
                weights[i] = 1.0 if i == k else 0.0
            return
        weights[k] = _WEIGHTS[k] / gap
        total += weights[k]
    for k in range(NODES):
        weights[k] /= total


@kernel
def _combine(rows, weights, width, a, b, row):  # type: ignore[no-untyped-def]
    """row[a:b] = Σ weights[k] rows[k, a:b]."""
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    w4, w5, w6, w7 = weights[4], weights[5], weights[6], weights[7]
    r0, r1, r2, r3 = rows, rows[width:], rows[2 * width :], rows[3 * width :]
    r4, r5, r6, r7 = rows[4 * width :], rows[5 * width :], rows[6 * width :], rows[7 * width :]
    for i in range(a, b):
        first = w0 * r0[i] + w1 * r1[i] + w2 * r2[i] + w3 * r3[i]
        row[i] = first + w4 * r4[i] + w5 * r5[i] + w6 * r6[i] + w7 * r7[i]


@kernel
def _locate(x, left, density, cells, cell, part):  # type: ignore[no-untyped-def]
    """Fill the cell of each x and the part of it that lies left of x; return how many x are outside."""
    outside = 0
    for j in range(x.size):
        y = (x[j] - left) * density
        outside += not 0.0 <= y <= cells
        y = y if y > 0.0 else 0.0
        y = y if y < cells else cells
        k = np.int64(y)
        k = k if k < cells else cells - 1
        cell[j] = k
        part[j] = y - k
    return outside


@kernel
def _extent(cell, cells):  # type: ignore[no-untyped-def]
    low, high = cells - 1, 0
    for j in range(cell.size):
        low, high = min(low, cell[j]), max(high, cell[j])
    return low, high


@kernel
def _gather(row, cell, near):  # type: ignore[no-untyped-def]
    """near[k] = row[cell + k], by itself: a processor loads six neighbours faster than it gathers."""
    for j in range(cell.size):
        i = np.uint64(cell[j])
        near[0, j], near[1, j], near[2, j] = row[i], row[i + np.uint64(1)], row[i + np.uint64(2)]
        near[3, j], near[4, j], near[5, j] = row[i + np.uint64(3)], row[i + np.uint64(4)], row[i + np.uint64(5)]


@kernel
def _splines(near, part, out):  # type: ignore[no-untyped-def]
    """Uniform quintic B-splines at `part` times the six coefficients that reach there."""
    c0, c1, c2, c3, c4, c5 = near[0], near[1], near[2], near[3], near[4], near[5]
    for j in range(out.size):
        u = part[j]
        v = 1.0 - u
        u2, v2 = u * u, v * v
        total = v2 * v2 * v * c0[j] + u2 * u2 * u * c5[j]
        total += (26.0 + u * (-50.0 + u * (20.0 + u * (20.0 + u * (-20.0 + u * 5.0))))) * c1[j]
        total += (26.0 + v * (-50.0 + v * (20.0 + v * (20.0 + v * (-20.0 + v * 5.0))))) * c4[j]
        total += (66.0 + u2 * (-60.0 + u2 * (30.0 - 10.0 * u))) * c2[j]
        total += (66.0 + v2 * (-60.0 + v2 * (30.0 - 10.0 * v))) * c3[j]
        out[j] = total * (1.0 / 120.0)


@kernel
def _ask_beyond(x, t, table, left, density, cells, outside, out):  # type: ignore[no-untyped-def]
    """Replace what was looked up at the `outside` places by values of the coefficient beyond; return its status."""
    places, asked, values = np.empty(outside, np.int64), np.empty(outside), np.empty(outside)
    m = 0
    for j in range(x.size):
        if not 0.0 <= (x[j] - left) * density <= cells:
            places[m], asked[m] = j, x[j]
            m += 1
    status = call_coefficient(np.int64(table[_ADDRESS]), asked, m, t, table, values)
    for k in range(m):
        out[places[k]] = values[k]
    return status


@kernel
def look_up(x, t, table, out):  # type: ignore[no-untyped-def]
    """Fill `out` with the tabulated coefficient at the points x and one time; return a status."""
    record = _record_of(t, table)
    if record < 0 or table[record + _CELLS] == 0.0:
        return call_coefficient(np.int64(table[_ADDRESS]), x, x.size, t, table, out)
    cells, place = np.int64(table[record + _CELLS]), np.int64(table[record + _ROWS])
    left, density, start = table[record + _LEFT], table[record + _DENSITY], table[record + _START]
    cell, part, near = np.empty(x.size, np.int64), np.empty(x.size), np.empty((DEGREE + 1, x.size))
    weights, row = np.empty(NODES), np.empty(cells + DEGREE)
    outside = _locate(x, left, density, cells, cell, part)
    low, high = _extent(cell, cells)
    time_weights((t - start) / (table[record + _END] - start), weights)
    _combine(table[place:], weights, cells + DEGREE, low, high + DEGREE + 1, row)
    _gather(row, cell, near)
    _splines(near, part, out)
    return OK if outside == 0 else _ask_beyond(x, t, table, left, density, cells, outside, out)


_compiled: list[Any] = []


def _function() -> Any:
    """The look-up as a coefficient, made or loaded when it is first needed."""
    if not _compiled:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(cache_folder() or before)  # as in `kernel`
        try:
            options = {"error_model": "numpy", "cache": cache_folder() is not None}
            _compiled.append(numba.cfunc(_SIGNATURE, **options)(_look_up_block))
        finally:
            numba.config.CACHE_DIR = before
    return _compiled[0]


def _look_up_block(px, n, t, pp, po):  # type: ignore[no-untyped-def]
    table = numba.carray(pp, np.int64(numba.carray(pp, 1)[_SIZE]))
    return look_up(numba.carray(px, n), t, table, numba.carray(po, n))


class TableBlock(Block):
    """A table as kernels see it, with the block that it asks for what is not in it."""

    def __init__(self, panels: Sequence[Panel], how: str, beyond: Block) -> None:
        function = _function()
        super().__init__(function.address, packed(panels, beyond.address), how, (function, beyond))
        self._beyond = beyond

    def raise_stored(self) -> None:
        """Raise what the coefficient beyond the table raised inside a kernel, as itself."""
        self._beyond.raise_stored()


@kernel
def spline_values(rows, places, out):  # type: ignore[no-untyped-def]
    """Fill out[k, j] with the spline of coefficients rows[k] at places[j], in cells from its left end."""
    cells = rows.shape[1] - DEGREE
    cell, part, near = np.empty(places.size, np.int64), np.empty(places.size), np.empty((DEGREE + 1, places.size))
    _locate(places, 0.0, 1.0, cells, cell, part)
    for k in range(rows.shape[0]):
        _gather(rows[k], cell, near)
        _splines(near, part, out[k])
