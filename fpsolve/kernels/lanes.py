"""Arithmetic on rows of eight numbers at once: what the vector units can do and the compiler does not see by itself."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 8
_ROW = ir.VectorType(ir.DoubleType(), LANES)
_FUSED = ("contract",)  # products and differences may be rounded once


def _row(context: Any, builder: Any, array_type: Any, array: Any, row: Any) -> Any:
    """Pointer to row number `row` of a contiguous array whose last axis has LANES entries."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [builder.mul(row, ir.Constant(row.type, LANES))]), _ROW.as_pointer())


def _load(context: Any, builder: Any, array_type: Any, array: Any, row: Any) -> Any:
    return builder.load(_row(context, builder, array_type, array, row), align=8)


@intrinsic
def subtract_products(typing_context, u, at, stride, w, first):  # type: ignore[no-untyped-def]
    """u[at] -= Σ_k w[first + k] u[at + (k + 1) stride], k = 0..3, on rows."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        u, at, stride, w, first = args
        total = _difference(context, builder, signature, u, at, stride, w, first)
        builder.store(total, _row(context, builder, signature.args[0], u, at), align=8)
        return context.get_dummy_value()

    return types.void(u, at, stride, w, first), codegen


@intrinsic
def subtract_products_and_scale(typing_context, u, at, stride, w, first, scale):  # type: ignore[no-untyped-def]
    """u[at] = (u[at] - Σ_k w[first + k] u[at + (k + 1) stride]) scale[at], k = 0..3, on rows."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        u, at, stride, w, first, scale = args
        total = _difference(context, builder, signature, u, at, stride, w, first)
        total = builder.fmul(total, _load(context, builder, signature.args[5], scale, at), flags=_FUSED)
        builder.store(total, _row(context, builder, signature.args[0], u, at), align=8)
        return context.get_dummy_value()

    return types.void(u, at, stride, w, first, scale), codegen


def _difference(context: Any, builder: Any, signature: Any, u: Any, at: Any, stride: Any, w: Any, first: Any) -> Any:
    u_type, w_type = signature.args[0], signature.args[3]
    total, place, weight = _load(context, builder, u_type, u, at), at, first
    for _ in range(4):
        place = builder.add(place, stride)
        product = builder.fmul(
            _load(context, builder, w_type, w, weight), _load(context, builder, u_type, u, place), flags=_FUSED
        )
        total = builder.fsub(total, product, flags=_FUSED)
        weight = builder.add(weight, ir.Constant(weight.type, 1))
    return total
