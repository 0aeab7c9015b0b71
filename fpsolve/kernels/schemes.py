"""One step of every scheme, on a block of paths: stochastic Runge-Kutta tableaux and the few that are not.

A tableau has points X_i = x + Σ_j h a_ij f_j + (b_ij0 ΔW + b_ij1 √h + b_ij2 I/h) g_j, j < i, at t + c_i h, and ends
with x + Σ_i h α_i f_i + (β_i0 ΔW + β_i1 (ΔW² - h)/(2√h) + β_i2 I/h + β_i3 (ΔW³ - 3 h ΔW)/(6 h)) g_i, where
I = ∫ (W_s - W_t) ds over the step.

Rows of the coefficient table: 0 the drift f, 1 the diffusion g, 2 what a scheme needs besides (¼ ∂x g² for Milstein,
log π for MALA; else the number zero), then two for each functional.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fpsolve.kernels.brownian import BRIDGE, uniforms
from fpsolve.kernels.coefficients import Block, call_coefficient
from fpsolve.kernels.compile import inner_kernel
from fpsolve.kernels.normals import fma

# what `scheme_step` and `advance` return
DONE, RAISED, NOT_FINITE, STOPPED = 0, 1, 2, 3
# kinds of Method
EULER, TABLEAU, MILSTEIN, TAMED, LINEAR, THETA, MALA, CALLBACK, ADAPTIVE = range(9)
DRIFT, DIFFUSION, EXTRA = 0, 1, 2
OWN_ROWS = 3  # of the table, before those of functionals
GROUP = 64  # paths that share adaptive steps, counted from path 0
_NEWTON, _SETTLED = 30, 1e-14
_MALA_DRAW = 15
_MOST_SUBSTEPS = 100_000


class Table(NamedTuple):
    """Coefficients as the kernel sees them; every array has one entry per row, except params."""

    addresses: np.ndarray  # int64
    offsets: np.ndarray  # int64, where the parameters of a row begin in params
    params: np.ndarray
    constant: np.ndarray  # uint8, evaluated once per call
    bounded: np.ndarray  # uint8, known in a region alone: not a number beyond it


class Method(NamedTuple):
    """A scheme as the kernel sees it."""

    kind: int
    c: np.ndarray  # (s,)
    uses: np.ndarray  # (s, 2) uint8: whether f and g are needed at a point
    a: np.ndarray  # (s, s)
    b: np.ndarray  # (s, s, 3)
    alpha: np.ndarray  # (s,)
    beta: np.ndarray  # (s, 4)
    number: float  # rate of LINEAR, θ of THETA, tolerance of ADAPTIVE
    callback: int  # address, of CALLBACK


class Stages(NamedTuple):
    """Scratch of one block."""

    f: np.ndarray  # (s, n)
    g: np.ndarray
    point: np.ndarray  # (n,)
    other: np.ndarray
    random: np.ndarray  # (4, n): ΔW is not among them
    packed: np.ndarray  # (2 + 2 n,) for callbacks


@inner_kernel
def evaluate_row(table, row, x, t, out, report):  # type: ignore[no-untyped-def]
    """Fill `out` with one coefficient; after RAISED the report has row and time."""
    if call_coefficient(table.addresses[row], x, x.size, t, table.params[table.offsets[row] :], out) != 0:
        report[0], report[1] = row, t
        return RAISED
    return DONE


@inner_kernel
def new_stages(method, n):  # type: ignore[no-untyped-def]
    """Return scratch for a block of n paths."""
    s = method.c.size
    packed = 2 + 2 * n if method.kind == CALLBACK else 0
    return Stages(np.empty((s, n)), np.empty((s, n)), np.empty(n), np.empty(n), np.empty((4, n)), np.empty(packed))


@inner_kernel
def _add(target, weight, source):  # type: ignore[no-untyped-def]
    if weight != 0.0:
        for j in range(target.size):
            target[j] = fma(weight, source[j], target[j])


@inner_kernel
def _add_product(target, weight, random, source):  # type: ignore[no-untyped-def]
    if weight != 0.0:
        for j in range(target.size):
            target[j] = fma(weight * random[j], source[j], target[j])


@inner_kernel
def _fill_random(random, h, dw, dz, integral):  # type: ignore[no-untyped-def]
    """Iterated integrals over √h or h, so that all have the size of ΔW."""
    root = math.sqrt(h)
    for j in range(dw.size):
        random[0, j] = root
        random[1, j] = (dw[j] * dw[j] - h) / (2.0 * root)
        random[2, j] = dz[j] / h if integral else 0.0
        random[3, j] = dw[j] * (dw[j] * dw[j] - 3.0 * h) / (6.0 * h)


@inner_kernel
def _tableau_step(method, table, x, t, h, dw, values, stages, new, report):  # type: ignore[no-untyped-def]
    f, g, random, point = stages.f, stages.g, stages.random, stages.point
    for i in range(method.c.size):
        at = x
        moved = False
        for m in range(i):
            moved = moved or bool(method.a[i, m] != 0.0 or np.any(method.b[i, m] != 0.0))
        if moved:
            at = point
            for j in range(x.size):
                point[j] = x[j]
            for m in range(i):
                _add(point, h * method.a[i, m], f[m])
                _add_product(point, method.b[i, m, 0], dw, g[m])
                _add_product(point, method.b[i, m, 1], random[0], g[m])
                _add_product(point, method.b[i, m, 2], random[2], g[m])
        for row, out in ((DRIFT, f[i]), (DIFFUSION, g[i])):
            if not method.uses[i, row]:
                continue
            if table.constant[row] or (not moved and method.c[i] == 0.0):
                for j in range(x.size):
                    out[j] = values[row, j]
            elif evaluate_row(table, row, at, t + method.c[i] * h, out, report) != DONE:
                return RAISED
    for j in range(x.size):
        new[j] = x[j]
    for i in range(method.c.size):
        _add(new, h * method.alpha[i], f[i])
        _add_product(new, method.beta[i, 0], dw, g[i])
        _add_product(new, method.beta[i, 1], random[1], g[i])
        _add_product(new, method.beta[i, 2], random[2], g[i])
        _add_product(new, method.beta[i, 3], random[3], g[i])
    return DONE


@inner_kernel
def _linear_step(rate, x, h, dw, values, new):  # type: ignore[no-untyped-def]
    """Exact in law for f = -rate (x - m) and constant g; f at x carries the mean."""
    part = h if rate == 0.0 else -math.expm1(-rate * h) / rate
    spread = 1.0 if rate == 0.0 else math.sqrt(-math.expm1(-2.0 * rate * h) / (2.0 * rate * h))
    for j in range(x.size):
        new[j] = fma(spread * dw[j], values[DIFFUSION, j], fma(values[DRIFT, j], part, x[j]))


@inner_kernel
def _theta_step(theta, table, x, t, h, dw, ended, values, stages, new, report):  # type: ignore[no-untyped-def]
    """y = x + (1-θ) h f + g ΔW + θ h f(y, t+h) by Newton steps with differences; NaN where it does not settle."""
    f, shifted, known, moved = stages.f[0], stages.g[0], stages.other, stages.point
    for j in range(x.size):
        known[j] = x[j] + (1.0 - theta) * h * values[DRIFT, j] + values[DIFFUSION, j] * dw[j]
        new[j] = known[j] + theta * h * values[DRIFT, j]
    for _ in range(_NEWTON):
        if evaluate_row(table, DRIFT, new, t + h, f, report) != DONE:
            return RAISED
        for j in range(x.size):
            moved[j] = new[j] + 1e-7 * (1.0 + abs(new[j]))
        if evaluate_row(table, DRIFT, moved, t + h, shifted, report) != DONE:
            return RAISED
        unsettled = 0
        for j in range(x.size):
            slope = (shifted[j] - f[j]) / (moved[j] - new[j])
            change = (new[j] - known[j] - theta * h * f[j]) / (1.0 - theta * h * slope)
            new[j] -= change
            unsettled += not abs(change) <= _SETTLED * (1.0 + abs(new[j])) and ended[j] == math.inf
        if unsettled == 0:
            return DONE
    for j in range(x.size):
        gap = abs(new[j] - known[j] - theta * h * f[j])
        if not gap <= 1e-9 * (1.0 + abs(new[j])):
            new[j] = math.nan
    return DONE


@inner_kernel
def _mala_step(table, x, t, h, dw, first_path, k, key, draw, values, stages, new, report):  # type: ignore[no-untyped-def]
    """Propose x + f h + g ΔW; accept with the ratio of π and of the two proposals."""
    f, height = stages.f[0], stages.g[0]
    for j in range(x.size):
        new[j] = x[j] + values[DRIFT, j] * h + values[DIFFUSION, j] * dw[j]
    if evaluate_row(table, DRIFT, new, t, f, report) != DONE:
        return RAISED
    if evaluate_row(table, EXTRA, new, t, height, report) != DONE:
        return RAISED
    for j in range(x.size):
        there, back = new[j] - x[j] - values[DRIFT, j] * h, x[j] - new[j] - f[j] * h
        variance = values[DIFFUSION, j] * values[DIFFUSION, j] * h
        log_ratio = height[j] - values[EXTRA, j] + (there * there - back * back) / (2.0 * variance)
        uniform, _, _ = uniforms(first_path + j, k, BRIDGE, draw, key)
        if not math.log(uniform) < log_ratio:  # also when the density ends: log π = -inf
            new[j] = x[j]
    return DONE


@inner_kernel
def _callback_step(method, x, t, h, dw, dz, integral, stages, new, report):  # type: ignore[no-untyped-def]
    """A user's step: one call into Python for the whole block."""
    packed, n = stages.packed, x.size
    packed[0], packed[1] = h, 1.0 if integral else 0.0
    for j in range(n):
        packed[2 + j] = dw[j]
        packed[2 + n + j] = dz[j] if integral else 0.0
    if call_coefficient(method.callback, x, n, t, packed, new) != 0:
        report[0], report[1] = -1, t
        return RAISED
    return DONE


@inner_kernel
def _adaptive_group(method, table, x, t, h, ended, f, point, new, report):  # type: ignore[no-untyped-def]
    """Dormand and Prince 5(4) from t to t + h for paths that share their steps; x is used up."""
    s, tol = method.c.size, method.number
    done, step = 0.0, h
    for _ in range(_MOST_SUBSTEPS):
        step = min(step, h - done)
        for i in range(s):
            for j in range(x.size):
                point[j] = x[j]
            for m in range(i):
                _add(point, step * method.a[i, m], f[m])
            if evaluate_row(table, DRIFT, point, t + done + method.c[i] * step, f[i], report) != DONE:
                return RAISED
        worst = 0.0
        for j in range(x.size):
            y, gap = x[j], 0.0
            for i in range(s):
                y += step * method.alpha[i] * f[i, j]
                gap += step * method.beta[i, 0] * f[i, j]
            new[j] = y
            if ended[j] == math.inf:
                size = abs(gap) / (tol * (1.0 + max(abs(x[j]), abs(y))))
                worst = max(worst, size if math.isfinite(size) else 1e9)
        if worst <= 1.0:
            done += step
            for j in range(x.size):
                x[j] = new[j]
            if done >= h * (1.0 - 1e-14):
                return DONE
        step *= min(5.0, max(0.2, 0.9 * max(worst, 1e-10) ** -0.2))
        if step < 1e-14 * h:
            break
    for j in range(x.size):
        new[j] = math.nan if ended[j] == math.inf else new[j]
    return DONE


@inner_kernel
def _adaptive_step(method, table, x, t, h, ended, first_path, stages, new, report):  # type: ignore[no-untyped-def]
    start = 0
    while start < x.size:
        end = min(x.size, start + GROUP - (first_path + start) % GROUP)
        part = x[start:end].copy()
        f = np.empty((method.c.size, end - start))
        status = _adaptive_group(
            method, table, part, t, h, ended[start:end], f, stages.point[start:end], new[start:end], report
        )
        if status != DONE:
            return status
        start = end
    return DONE


@inner_kernel
def scheme_step(method, table, noise, x, t, h, dw, dz, ended, first_path, k, coarse, values, stages, new, report):  # type: ignore[no-untyped-def]
    """Fill `new` with the positions after step k from `x`, ends of the support apart; return DONE or RAISED.

    Euler-Maruyama is not among them: it has a loop of its own in `stepping`.
    """
    if method.kind == TABLEAU:
        _fill_random(stages.random, h, dw, dz, noise.integral)
        return _tableau_step(method, table, x, t, h, dw, values, stages, new, report)
    if method.kind == MILSTEIN:
        for j in range(x.size):
            y = fma(values[DIFFUSION, j], dw[j], fma(values[DRIFT, j], h, x[j]))
            new[j] = fma(values[EXTRA, j], dw[j] * dw[j] - h, y)
        return DONE
    if method.kind == TAMED:
        for j in range(x.size):
            f = values[DRIFT, j]
            new[j] = fma(values[DIFFUSION, j], dw[j], x[j] + f * h / (1.0 + h * abs(f)))
        return DONE
    if method.kind == LINEAR:
        _linear_step(method.number, x, h, dw, values, new)
        return DONE
    if method.kind == THETA:
        return _theta_step(method.number, table, x, t, h, dw, ended, values, stages, new, report)
    if method.kind == MALA:
        draw = _MALA_DRAW + (1 if coarse else 0)
        return _mala_step(table, x, t, h, dw, first_path, k, noise.key, draw, values, stages, new, report)
    if method.kind == CALLBACK:
        return _callback_step(method, x, t, h, dw, dz, noise.integral, stages, new, report)
    return _adaptive_step(method, table, x, t, h, ended, first_path, stages, new, report)


Step = Callable[[np.ndarray, float, float, np.ndarray, np.ndarray | None], Any]
_C_POINTER = ctypes.POINTER(ctypes.c_double)
_C_STEP = ctypes.CFUNCTYPE(ctypes.c_int32, _C_POINTER, ctypes.c_int64, ctypes.c_double, _C_POINTER, _C_POINTER)


def step_block(step: Step) -> Block:
    """Block for `step(x, t, h, dw, dz)` (dz None unless wanted); what it raises is kept on the block."""

    def call(px: Any, n: int, t: float, packed: Any, po: Any) -> int:
        try:
            given = np.ctypeslib.as_array(packed, (2 + 2 * n,)).copy()
            dz = given[2 + n :] if given[1] else None
            x = np.ctypeslib.as_array(px, (n,)).copy()
            np.ctypeslib.as_array(po, (n,))[:] = step(x, t, float(given[0]), given[2 : 2 + n], dz)
        except BaseException as exception:  # Ctrl-C must reach the caller like any other exception
            block.exception = exception
            return RAISED
        return DONE

    callback = _C_STEP(call)
    block = Block(ctypes.cast(callback, ctypes.c_void_p).value or 0, np.zeros(1), "python", callback)
    return block
