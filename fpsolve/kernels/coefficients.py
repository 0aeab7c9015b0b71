"""One calling convention for every coefficient: a C function that fills a block and returns a status.

    int32 coefficient(double *x, int64 n, double t, double *params, double *out)

A kernel is compiled once and calls whatever address it is given: a user's function compiled by numba,
or a callback into Python for a function that numba cannot or must not compile.
"""

from __future__ import annotations

import builtins
import ctypes
import dis
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fpsolve.kernels.compile import kernel

OK, RAISED = 0, 1

_POINTER = types.CPointer(types.float64)
_SIGNATURE = types.int32(_POINTER, types.int64, types.float64, _POINTER, _POINTER)
_C_POINTER = ctypes.POINTER(ctypes.c_double)
_C_TYPE = ctypes.CFUNCTYPE(ctypes.c_int32, _C_POINTER, ctypes.c_int64, ctypes.c_double, _C_POINTER, _C_POINTER)


@intrinsic
def call_coefficient(typing_context, address, x, n, t, params, out):  # type: ignore[no-untyped-def]
    """Call the coefficient at `address` on the first `n` entries of contiguous arrays; return its status."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        double, i64, i32 = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
        pointer = double.as_pointer()
        function = ir.FunctionType(i32, [pointer, i64, double, pointer, pointer])
        data = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in (1, 4, 5)]
        target = builder.inttoptr(args[0], function.as_pointer())
        return builder.call(target, [data[0], args[2], args[3], data[1], data[2]])

    block = types.Array(types.float64, 1, "C")
    return types.int32(types.int64, block, types.int64, types.float64, block, block), codegen


@kernel
def evaluate(address: int, x: np.ndarray, t: float, params: np.ndarray, out: np.ndarray) -> int:
    """Fill `out` with the coefficient at `address` on `x`; return its status."""
    return call_coefficient(address, x, x.size, t, params, out)


# NumPy functions that cost 100 ns a value in machine code and 1 ns through a callback on a block
_BUILD_ARRAYS = {"where", "select", "piecewise", "clip", "interp"}


class NotCompiled(Exception):
    """A function is better left to Python; says why."""


class Block:
    """A coefficient as kernels see it: an address, its parameters, and how it came to be."""

    def __init__(self, address: int, params: np.ndarray, how: str, keep: Any) -> None:
        self.address, self.params, self.how = address, np.ascontiguousarray(params, dtype=float), how
        self._keep = keep  # the machine code lives as long as this object
        self.exception: BaseException | None = None

    def raise_stored(self) -> None:
        """Raise what the user's function raised inside a kernel, as itself."""
        if self.exception is not None:
            exception, self.exception = self.exception, None
            raise exception


def constant_block(value: float) -> Block:
    """Block for a number."""
    fill = _constant_function()
    return Block(fill.address, np.array([value]), "constant", fill)


_constant: list[Any] = []


def _constant_function() -> Any:
    if not _constant:
        _constant.append(compile_block(lambda value: value, ["value"], ["value"]))
    return _constant[0]


def compile_block(fn: Callable[..., float], arguments: Sequence[str], params: Sequence[str]) -> Any:
    """Compile a scalar function of x, t and parameters into a block function (a numba CFunc), or raise NotCompiled."""
    refusal = why_not_compiled(fn)
    if refusal:
        raise NotCompiled(refusal)
    values = {"x": "x[j]", "t": "t"} | {name: f"p[{k}]" for k, name in enumerate(params)}
    call = ", ".join(f"{name}={values[name]}" for name in arguments)
    source = (
        "def block(px, n, t, pp, po):\n"
        f"    x, p, out = carray(px, n), carray(pp, {max(1, len(params))}), carray(po, n)\n"
        "    for j in range(n):\n"
        f"        out[j] = scalar({call})\n"
        "    return 0\n"
    )
    scalar = fn if isinstance(fn, numba.core.registry.CPUDispatcher) else numba.njit(error_model="numpy")(fn)
    namespace: dict[str, Any] = {"carray": numba.carray, "scalar": scalar}
    exec(source, namespace)
    try:
        return numba.cfunc(_SIGNATURE, error_model="numpy")(namespace["block"])
    except Exception as problem:  # numba meets code that it does not know with errors of every kind
        raise NotCompiled(f"numba: {(str(problem) or type(problem).__name__).splitlines()[0]}") from problem


def why_not_compiled(fn: Any, depth: int = 0) -> str:
    """Reason why machine code for `fn` could misbehave where Python would not, or an empty string."""
    if isinstance(fn, numba.core.registry.CPUDispatcher):
        return ""
    if not isinstance(fn, FunctionType):
        return f"{type(fn).__name__} is not a plain function"
    if depth > 3:
        return "functions are nested too deeply"
    code = fn.__code__
    if code.co_kwonlyargcount:
        return "it has keyword-only arguments"
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("RAISE_VARARGS", "RERAISE", "LOAD_ASSERTION_ERROR"):
            return "it can raise"
        if "SUBSCR" in instruction.opname or instruction.argrepr == "[]":
            return "it indexes an array"
    cells = {k: c.cell_contents for k, c in zip(code.co_freevars, fn.__closure__ or (), strict=True)}
    for name in (*code.co_names, *code.co_freevars):
        value = cells.get(name, fn.__globals__.get(name, getattr(builtins, name, None)))
        if isinstance(value, FunctionType):
            nested = why_not_compiled(value, depth + 1)
            if nested:
                return f"{name}: {nested}"
        elif isinstance(value, np.ndarray):
            return f"{name} is an array"
    for name in sorted(_BUILD_ARRAYS.intersection(code.co_names)):
        return f"{name} builds an array for every single number"
    return ""


def python_block(fill: Callable[[np.ndarray, float], np.ndarray]) -> Block:
    """Block that calls back into Python; an exception is kept on the block and stops the kernel."""

    def call(px: Any, n: int, t: float, _: Any, po: Any) -> int:
        try:
            np.ctypeslib.as_array(po, (n,))[:] = fill(np.ctypeslib.as_array(px, (n,)).copy(), t)
        except BaseException as exception:  # Ctrl-C must reach the caller like any other exception
            block.exception = exception
            return RAISED
        return OK

    callback = _C_TYPE(call)
    block = Block(ctypes.cast(callback, ctypes.c_void_p).value or 0, np.zeros(1), "python", callback)
    return block
