"""Euler-Maruyama over compiled coefficients: one kernel for every process, with functionals and coupled halving.

Coefficients stand in one table: row 0 the drift, row 1 the diffusion, rows 2+2m and 3+2m the integrands a and b of
functional m. A lost path stays where it was last seen, inside the support, and is no longer moved.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fpsolve.kernels.coefficients import call_coefficient
from fpsolve.kernels.compile import kernel
from fpsolve.kernels.normals import U, fill_normal_pairs, fma

# what `advance` returns
DONE, RAISED, NOT_FINITE, STOPPED = 0, 1, 2, 3
# why a path was lost (Paths.cause)
LEFT_SUPPORT, OVERFLOW, COEFFICIENT_OVERFLOW, FUNCTIONAL_OVERFLOW = 1, 2, 3, 4


HUGE = 1e100  # a path beyond has overflowed: the squares of test functions still fit a float


class Table(NamedTuple):
    """Coefficients as the kernel sees them; every array has one entry per row, except params."""

    addresses: np.ndarray  # int64
    offsets: np.ndarray  # int64, where the parameters of a row begin in params
    params: np.ndarray
    constant: np.ndarray  # uint8, evaluated once per call


class Paths(NamedTuple):
    """State of some paths; changed in place."""

    x: np.ndarray  # (n,)
    sums: np.ndarray  # (functionals, n)
    lost: np.ndarray  # (n,) time of loss, inf while the path lives
    cause: np.ndarray  # (n,) uint8


class Limits(NamedTuple):
    """Where paths may be: ends within ±HUGE, whether they reflect, and from what |x| on a coefficient may overflow."""

    left: float
    right: float
    reflect_left: bool
    reflect_right: bool
    far: float


@intrinsic
def _read_flag(typing_context: Any, flags: Any) -> Any:
    """Read flags[0] atomically, so that the compiler cannot move the look at it out of a loop."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load_atomic(builder.bitcast(data, ir.IntType(8).as_pointer()), "monotonic", 1)

    return types.uint8(flags), codegen


@kernel
def _evaluate(table, row, x, t, out):  # type: ignore[no-untyped-def]
    return call_coefficient(table.addresses[row], x, x.size, t, table.params[table.offsets[row] :], out)


@kernel
def _fold(x, limits):  # type: ignore[no-untyped-def]
    """Reflect once at each reflecting end; a jump over more than the whole support is folded in `_settle`."""
    if limits.reflect_left:
        for j in range(x.size):
            x[j] = limits.left + abs(x[j] - limits.left)
    if limits.reflect_right:
        for j in range(x.size):
            x[j] = limits.right - abs(limits.right - x[j])


@kernel
def _folded(x, limits):  # type: ignore[no-untyped-def]
    """Reflect until inside, where both ends reflect."""
    if not (limits.reflect_left and limits.reflect_right and math.isfinite(x)):
        return x
    width = limits.right - limits.left
    y = (x - limits.left) % (2.0 * width)
    return limits.left + (y if y <= width else 2.0 * width - y)


@kernel
def _cause_of_loss(j, x, new, values, sums, limits):  # type: ignore[no-untyped-def]
    """Return (cause, row): 0 if path j is well, -1 with the guilty row if a coefficient failed at an ordinary place."""
    for row in range(values.shape[0]):
        if not math.isfinite(values[row, j]):
            return (COEFFICIENT_OVERFLOW, row) if abs(x[j]) > limits.far else (-1, row)
    if not abs(new[j]) <= HUGE:
        return OVERFLOW, 0
    if not limits.left <= new[j] <= limits.right:
        return LEFT_SUPPORT, 0
    for m in range(sums.shape[0]):
        if not math.isfinite(sums[m, j]):
            return FUNCTIONAL_OVERFLOW, 0
    return 0, 0


@kernel
def _settle(x, new, values, paths, t, t_next, limits, report):  # type: ignore[no-untyped-def]
    """Look at each path after a step in which something was not finite or outside: mark the lost, or stop the run."""
    for j in range(x.size):
        if paths.lost[j] < math.inf:
            continue
        new[j] = _folded(new[j], limits)
        cause, row = _cause_of_loss(j, x, new, values, paths.sums, limits)
        if cause < 0:
            report[0], report[1], report[2], report[3] = row, t, x[j], j
            return NOT_FINITE
        if cause > 0:
            paths.lost[j], paths.cause[j], new[j] = t_next, cause, x[j]
    return DONE


@kernel
def _add_to_sum(s, lost, a, b, z, dt, root):  # type: ignore[no-untyped-def]
    """I += a dt + b dW for the living; return how many sums are not finite."""
    bad = 0
    for j in range(s.size):
        y = fma(b[j], root * z[j], fma(a[j], dt, s[j]))
        s[j] = y if lost[j] == math.inf else s[j]
        bad += not abs(y) < math.inf
    return bad


@kernel
def _euler_step(table, paths, x, new, values, z, t, t_next, dt, root, limits, report):  # type: ignore[no-untyped-def]
    """One step from x to new with dW = root z; return a status."""
    for row in range(values.shape[0]):
        if not table.constant[row] and _evaluate(table, row, x, t, values[row]) != 0:
            report[0], report[1] = row, t
            return RAISED
    bad = 0
    for m in range(paths.sums.shape[0]):
        bad += _add_to_sum(paths.sums[m], paths.lost, values[2 + 2 * m], values[3 + 2 * m], z, dt, root)
    f, g, lost = values[0], values[1], paths.lost
    for j in range(x.size):
        y = fma(g[j], root * z[j], fma(f[j], dt, x[j]))
        new[j] = y if lost[j] == math.inf else x[j]
    if limits.reflect_left or limits.reflect_right:
        _fold(new, limits)
    for j in range(x.size):
        bad += not (limits.left <= new[j] <= limits.right)
    return DONE if bad == 0 else _settle(x, new, values, paths, t, t_next, limits, report)


@kernel
def _fill_constants(table, x, t, values):  # type: ignore[no-untyped-def]
    for row in range(values.shape[0]):
        if table.constant[row]:
            _evaluate(table, row, x, t, values[row])


@kernel
def _block(n, sums):  # type: ignore[no-untyped-def]
    return Paths(np.empty(n), np.empty((sums, n)), np.empty(n), np.empty(n, np.uint8))


@kernel
def _copy(source, a, target, b, n):  # type: ignore[no-untyped-def]
    """Copy n paths; loops, because numba takes seconds to compile an assignment of slices."""
    for j in range(n):
        target.x[b + j] = source.x[a + j]
        target.lost[b + j] = source.lost[a + j]
        target.cause[b + j] = source.cause[a + j]
        for m in range(source.sums.shape[0]):
            target.sums[m, b + j] = source.sums[m, a + j]


@kernel
def _advance_block(fine, coarse, first_path, key, noisy, k0, k1, t0, h, table, limits, stop, report):  # type: ignore[no-untyped-def]
    """Advance one block over the steps k0 ... k1; `coarse`, if not empty, goes two steps at once on the same noise."""
    n, coupled = fine.x.size, coarse.x.size > 0
    x, new, y, other = fine.x.copy(), np.empty(n), coarse.x.copy(), np.empty(coarse.x.size)
    values = np.empty((table.addresses.size, n))
    u, v, z = np.empty(n, np.uint64), np.empty(n, np.uint64), np.zeros((2, n))
    root = math.sqrt(h)
    _fill_constants(table, x, t0, values)
    for pair in range(k0 // 2, (k1 + 1) // 2):
        if noisy:
            fill_normal_pairs(U(first_path), U(pair), U(0), U(0), key, u, v, z[0], z[1])
        for k in range(max(k0, 2 * pair), min(k1, 2 * pair + 2)):
            if _read_flag(stop) != 0:
                return STOPPED
            t, t_next = t0 + (k - k0) * h, t0 + (k + 1 - k0) * h
            status = _euler_step(table, fine, x, new, values, z[k % 2], t, t_next, h, root, limits, report)
            if status != DONE:
                return status
            x, new = new, x
        if coupled:
            for j in range(n):
                z[0, j] += z[1, j]
            t, t_next = t0 + (2 * pair - k0) * h, t0 + (2 * pair + 2 - k0) * h
            status = _euler_step(table, coarse, y, other, values, z[0], t, t_next, 2.0 * h, root, limits, report)
            if status != DONE:
                return status
            y, other = other, y
    for j in range(n):
        fine.x[j] = x[j]
    for j in range(y.size):
        coarse.x[j] = y[j]
    return DONE


@kernel
def advance(fine, coarse, first_path, key, noisy, block, k0, k1, t0, h, table, limits, stop, report):  # type: ignore[no-untyped-def]
    """Advance paths by Euler-Maruyama over the steps k0 ... k1 of size h from time t0; return a status.

    Parameters
    ----------
    fine : Paths
        Path j of them has the number first_path + j, which with `key` and the step number decides its noise.
    coarse : Paths
        The same paths with step 2 h on the same noise (then k0 and k1 are even), or an empty Paths.
    noisy : bool
        Whether any coefficient of dW can differ from zero.
    block : int
        Paths handled at a time; it changes the speed alone.
    stop : ndarray of uint8, shape (1,)
        Looked at in every step; nonzero ends the call with STOPPED.
    report : ndarray, shape (4,)
        After RAISED: row of the coefficient, time. After NOT_FINITE: row, time, x, place of the path in `fine`.
    """
    for a in range(0, fine.x.size, block):
        n = min(block, fine.x.size - a)
        part, second = _block(n, fine.sums.shape[0]), _block(min(n, coarse.x.size), coarse.sums.shape[0])
        _copy(fine, a, part, 0, n)
        _copy(coarse, a, second, 0, second.x.size)
        status = _advance_block(part, second, first_path + a, key, noisy, k0, k1, t0, h, table, limits, stop, report)
        if status != DONE:
            report[3] += a
            return status
        _copy(part, 0, fine, a, n)
        _copy(second, 0, coarse, a, second.x.size)
    return DONE
