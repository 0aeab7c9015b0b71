"""Many paths over many steps: one kernel for every process and scheme, with functionals and coupled halving.

A path ends when it is lost or absorbed: a lost one stays where it was last seen, inside the support, an absorbed one
at the end that absorbed it, and neither is moved any more.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fpsolve.kernels.brownian import BRIDGE, draw_normals, draw_step, new_draws, new_tree, uniforms
from fpsolve.kernels.compile import inner_kernel, kernel
from fpsolve.kernels.normals import fma
from fpsolve.kernels.schemes import (
    DIFFUSION,
    DONE,
    DRIFT,
    EULER,
    NOT_FINITE,
    OWN_ROWS,
    RAISED,
    STOPPED,
    evaluate_row,
    new_stages,
    scheme_step,
)
from fpsolve.kernels.walls import bridge_top, count_near, meet_ends

# why a path ended (Paths.cause)
LEFT_SUPPORT, OVERFLOW, COEFFICIENT_OVERFLOW, FUNCTIONAL_OVERFLOW, STAGE_FAILED = range(1, 6)
LEFT_REGION = 6
ABSORBED_LEFT, ABSORBED_RIGHT = 7, 8
# kinds of functionals
INTEGRAL, MAXIMUM, MINIMUM = 0, 1, 2
_EXTREME_DRAW = 32

HUGE = 1e100  # a path beyond has overflowed: the squares of test functions still fit a float


class Paths(NamedTuple):
    """State of some paths; changed in place."""

    x: np.ndarray  # (n,)
    sums: np.ndarray  # (functionals, n)
    ended: np.ndarray  # (n,) time of loss or absorption, inf while the path lives
    cause: np.ndarray  # (n,) uint8


class Scratch(NamedTuple):
    """Arrays of one block and level."""

    new: np.ndarray  # (n,)
    values: np.ndarray  # (rows, n)
    dw: np.ndarray  # (n,)
    dz: np.ndarray
    coarse: bool  # whether these are the steps of 2 h


@intrinsic
def _read_flag(typing_context: Any, flags: Any) -> Any:
    """Read flags[0] atomically, so that the compiler cannot move the look at it out of a loop."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.load_atomic(builder.bitcast(data, ir.IntType(8).as_pointer()), "monotonic", 1)

    return types.uint8(flags), codegen


@inner_kernel
def _failure(j, x, y, values, bounded, sums, limits):  # type: ignore[no-untyped-def]
    """Return (cause, row): 0 if path j is well, -1 with the guilty row if a coefficient failed at an ordinary place."""
    for row in range(values.shape[0]):
        if not math.isfinite(values[row, j]):
            if bounded[row]:
                return LEFT_REGION, row
            return (COEFFICIENT_OVERFLOW, row) if abs(x[j]) > limits.far else (-1, row)
    if math.isnan(y):
        return STAGE_FAILED, 0
    if not abs(y) <= HUGE:
        return OVERFLOW, 0
    for m in range(sums.shape[0]):
        if not math.isfinite(sums[m, j]):
            return FUNCTIONAL_OVERFLOW, 0
    return 0, 0


@inner_kernel
def _settle(new, values, bounded, paths, t, h, limits, first_path, k, key, coarse, report):  # type: ignore[no-untyped-def]
    """Look at each living path after a step in which something failed, or came near an end."""
    x = paths.x
    for j in range(x.size):
        if paths.ended[j] < math.inf:
            continue
        cause, row = _failure(j, x, new[j], values, bounded, paths.sums, limits)
        if cause < 0:
            report[0], report[1], report[2], report[3] = row, t, x[j], j
            return NOT_FINITE
        if cause == 0:
            y, after, at_left = meet_ends(x[j], new[j], values[DIFFUSION, j], h, limits, first_path + j, k, key, coarse)
            if after < math.inf:
                new[j], paths.ended[j] = y, t + after
                paths.cause[j] = ABSORBED_LEFT if at_left else ABSORBED_RIGHT
                continue
            new[j] = y
            if not limits.left <= y <= limits.right:
                cause = LEFT_SUPPORT
        if cause > 0:
            paths.ended[j], paths.cause[j], new[j] = t + h, cause, x[j]
    return DONE


@inner_kernel
def _add_to_integral(s, ended, a, b, dw, h):  # type: ignore[no-untyped-def]
    """I += a dt + b dW for the living; return how many sums are not finite."""
    bad = 0
    for j in range(s.size):
        y = fma(b[j], dw[j], fma(a[j], h, s[j]))
        s[j] = y if ended[j] == math.inf else s[j]
        bad += not abs(y) < math.inf
    return bad


@inner_kernel
def _update_extreme(s, sign, x, new, living, g, h, limits, first_path, k, key, draw):  # type: ignore[no-untyped-def]
    """Running maximum (sign 1) or minimum (sign -1) after a step from x to new of the paths that were living before."""
    for j in range(s.size):
        if not living[j]:
            continue
        top = max(sign * x[j], sign * new[j])
        if limits.bridge:
            room, variance = sign * s[j] - top, g[j] * g[j] * h
            if room < 0.0 or room * room < 20.0 * variance:  # beyond, a bridge gets there with probability exp(-40)
                uniform, _, _ = uniforms(first_path + j, k, BRIDGE, draw, key)
                top = bridge_top(sign * x[j], sign * new[j], variance, uniform)
        end = limits.right if sign > 0.0 else -limits.left
        s[j] = sign * max(sign * s[j], min(top, end))


@inner_kernel
def _freeze(x, new, ended, left, right):  # type: ignore[no-untyped-def]
    """Keep paths that have ended where they were; return how many others are outside or not a number."""
    outside = 0
    for j in range(x.size):
        y, before = new[j], x[j]  # both read at once, or the loop does not become vectors
        y = y if ended[j] == math.inf else before
        new[j] = y
        outside += 1 - ((left <= y) & (y <= right))
    return outside


@inner_kernel
def _euler(x, f, g, h, scale, unit, ended, left, right, new):  # type: ignore[no-untyped-def]
    """Euler-Maruyama with ΔW = scale · unit and `_freeze` in one loop over plain arrays, which become vectors."""
    outside = 0
    for j in range(x.size):
        y = fma(g[j], scale * unit[j], fma(f[j], h, x[j]))
        y = y if ended[j] == math.inf else x[j]
        new[j] = y
        outside += 1 - ((left <= y) & (y <= right))
    return outside


@inner_kernel
def _swapped(paths, scratch):  # type: ignore[no-untyped-def]
    """Take the new positions for the old, without copying."""
    return (
        Paths(scratch.new, paths.sums, paths.ended, paths.cause),
        Scratch(paths.x, scratch.values, scratch.dw, scratch.dz, scratch.coarse),
    )


@inner_kernel
def _step(  # type: ignore[no-untyped-def]
    method, table, noise, kinds, paths, scratch, stages, living, t, h, first_path, k, limits, report
):
    """One step of all paths, from paths.x to scratch.new; return a status."""
    x, new, values, dw, coarse = paths.x, scratch.new, scratch.values, scratch.dw, scratch.coarse
    for row in range(values.shape[0]):
        if not table.constant[row] and evaluate_row(table, row, x, t, values[row], report) != DONE:
            return RAISED
    extremes, bad = False, 0
    for m in range(kinds.size):
        extremes = extremes or kinds[m] != INTEGRAL
        if kinds[m] == INTEGRAL:
            a, b = values[OWN_ROWS + 2 * m], values[OWN_ROWS + 1 + 2 * m]
            bad += _add_to_integral(paths.sums[m], paths.ended, a, b, dw, h)
    if extremes:
        for j in range(x.size):
            living[j] = paths.ended[j] == math.inf
    if method.kind == EULER:
        bad += _euler(x, values[DRIFT], values[DIFFUSION], h, 1.0, dw, paths.ended, limits.left, limits.right, new)
    else:
        status = scheme_step(
            method, table, noise, x, t, h, dw, scratch.dz, paths.ended, first_path, k, coarse, values, stages, new,
            report,
        )  # fmt: skip
        if status != DONE:
            return status
        bad += _freeze(x, new, paths.ended, limits.left, limits.right)
    bad += count_near(x, new, values[DIFFUSION], paths.ended, h, limits)
    if bad > 0:
        status = _settle(new, values, table.bounded, paths, t, h, limits, first_path, k, noise.key, coarse, report)
        if status != DONE:
            return status
    for m in range(kinds.size):
        if kinds[m] != INTEGRAL:
            sign, draw = (1.0 if kinds[m] == MAXIMUM else -1.0), _EXTREME_DRAW + 2 * m + (1 if coarse else 0)
            _update_extreme(
                paths.sums[m], sign, x, new, living, values[DIFFUSION], h, limits, first_path, k, noise.key, draw
            )
    return DONE


@inner_kernel
def _plain_steps(table, noise, paths, scratch, first_path, k0, k1, t0, h, limits, stop, report):  # type: ignore[no-untyped-def]
    """Euler-Maruyama steps k0 ... k1 on independent increments, with nothing else to keep up: half of `_step`'s time.

    Passing what every scheme may need costs as much as moving 500 paths; and ΔW is never written.
    """
    x, new, values, scale = paths.x, scratch.new, scratch.values, math.sqrt(h)
    f, g, draws = values[DRIFT], values[DIFFUSION], new_draws(x.size)
    even, odd = draws.z[0], draws.z[1]
    for k in range(k0, k1):
        if _read_flag(stop) != 0:
            return STOPPED
        if noise.active and (k == k0 or k % 2 == 0):
            draw_normals(first_path, k // 2, np.int64(0), noise, draws, even, odd)
        t = t0 + (k - k0) * h
        if not table.constant[DRIFT] and evaluate_row(table, np.int64(DRIFT), x, t, f, report) != DONE:
            return RAISED
        if not table.constant[DIFFUSION] and evaluate_row(table, np.int64(DIFFUSION), x, t, g, report) != DONE:
            return RAISED
        unit = even if k % 2 == 0 else odd
        bad = _euler(x, f, g, h, scale, unit, paths.ended, limits.left, limits.right, new)
        bad += count_near(x, new, g, paths.ended, h, limits)
        if bad > 0:
            before = Paths(x, paths.sums, paths.ended, paths.cause)
            status = _settle(
                new, values, table.bounded, before, t, h, limits, first_path, k, noise.key, scratch.coarse, report
            )
            if status != DONE:
                return status
        x, new = new, x
    for j in range(x.size):
        paths.x[j] = x[j]
    return DONE


@inner_kernel
def _block(n, sums):  # type: ignore[no-untyped-def]
    return Paths(np.empty(n), np.empty((sums, n)), np.empty(n), np.empty(n, np.uint8))


@inner_kernel
def _copy(source, a, target, b, n):  # type: ignore[no-untyped-def]
    """Copy n paths; loops, because numba takes seconds to compile an assignment of slices."""
    for j in range(n):
        target.x[b + j] = source.x[a + j]
        target.ended[b + j] = source.ended[a + j]
        target.cause[b + j] = source.cause[a + j]
        for m in range(source.sums.shape[0]):
            target.sums[m, b + j] = source.sums[m, a + j]


@inner_kernel
def _scratch(table, x, t, coarse, report):  # type: ignore[no-untyped-def]
    """Room for one level, constants filled in."""
    n = x.size
    values = np.zeros((table.addresses.size, n))
    for row in range(values.shape[0]):
        if table.constant[row]:
            evaluate_row(table, row, x, t, values[row], report)
    return Scratch(np.empty(n), values, np.zeros(n), np.zeros(n), coarse)


@inner_kernel
def _gather(coarse, fine, first, h):  # type: ignore[no-untyped-def]
    """Increments of a step of 2 h from those of its two halves: called after each half."""
    for j in range(coarse.dw.size):
        if first:
            coarse.dw[j], coarse.dz[j] = fine.dw[j], fine.dz[j]
        else:
            coarse.dz[j] += fine.dz[j] + h * coarse.dw[j]
            coarse.dw[j] += fine.dw[j]


@inner_kernel
def _advance_block(fine, coarse, first_path, noise, k0, k1, t0, h, method, table, kinds, limits, stop, report):  # type: ignore[no-untyped-def]
    """Advance one block over the steps k0 ... k1; `coarse`, if not empty, goes two steps at once on the same noise."""
    n, coupled, home, second_home = fine.x.size, coarse.x.size > 0, fine.x, coarse.x
    # by comparison, for a literal would have numba compile everything below once for each
    one, two = _scratch(table, fine.x, t0, k1 < k0, report), _scratch(table, coarse.x, t0, k0 <= k1, report)
    if method.kind == EULER and noise.levels < 0 and kinds.size == 0 and not coupled:
        return _plain_steps(table, noise, fine, one, first_path, k0, k1, t0, h, limits, stop, report)
    tree, draws, stages, living = new_tree(noise, n), new_draws(n), new_stages(method, n), np.empty(n, np.bool_)
    for k in range(k0, k1):
        if _read_flag(stop) != 0:
            return STOPPED
        draw_step(noise, first_path, k, k == k0, h, tree, draws, one.dw, one.dz)
        t = t0 + (k - k0) * h
        status = _step(method, table, noise, kinds, fine, one, stages, living, t, h, first_path, k, limits, report)
        if status != DONE:
            return status
        fine, one = _swapped(fine, one)
        if not coupled:
            continue
        _gather(two, one, k % 2 == 0, h)
        if k % 2 == 1:
            status = _step(
                method, table, noise, kinds, coarse, two, stages, living, t - h, 2.0 * h, first_path, k // 2, limits,
                report,
            )  # fmt: skip
            if status != DONE:
                return status
            coarse, two = _swapped(coarse, two)
    for j in range(n):
        home[j] = fine.x[j]
    for j in range(coarse.x.size):
        second_home[j] = coarse.x[j]
    return DONE


@kernel
def advance(fine, coarse, first_path, noise, block, k0, k1, t0, h, method, table, kinds, limits, stop, report):  # type: ignore[no-untyped-def]
    """Advance paths over the steps k0 ... k1 of size h from time t0; return a status.

    Parameters
    ----------
    fine : Paths
        Path j of them has the number first_path + j, which with the noise and the step number decides its increments.
    coarse : Paths
        The same paths with step 2 h on the same noise (then k0 and k1 are even), or an empty Paths.
    block : int
        Paths handled at a time; it changes the speed alone (a multiple of GROUP, which adaptive steps share).
    kinds : ndarray of uint8, shape (functionals,)
        INTEGRAL, MAXIMUM or MINIMUM.
    stop : ndarray of uint8, shape (1,)
        Looked at in every step; nonzero ends the call with STOPPED.
    report : ndarray, shape (4,)
        After RAISED: row of the coefficient (-1: a user's step), time. After NOT_FINITE: row, time, x, place in `fine`.
    """
    for a in range(0, fine.x.size, block):
        n = min(block, fine.x.size - a)
        part, second = _block(n, fine.sums.shape[0]), _block(min(n, coarse.x.size), coarse.sums.shape[0])
        _copy(fine, a, part, 0, n)
        _copy(coarse, a, second, 0, second.x.size)
        status = _advance_block(
            part, second, first_path + a, noise, k0, k1, t0, h, method, table, kinds, limits, stop, report
        )
        if status != DONE:
            report[3] += a
            return status
        _copy(part, 0, fine, a, n)
        _copy(second, 0, coarse, a, second.x.size)
    return DONE
