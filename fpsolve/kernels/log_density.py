"""The equation of u = ± log q on fixed points: linearly implicit Euler steps, extrapolated, on a banded system.

    u_t = ± p + r u_x + a (u_xx ± u_x²),   a = ½ g²,  r = 2 a_x - f,  p = a_xx - f_x

with the upper sign for φ = log q in the forward clock and the lower one for the value V = -log q of the control
problem in the reversed clock. One step of length H takes COUNTS[k] substeps h = H/COUNTS[k] in row k, each solving
(I - h J) du = h F(u), J the derivative of F at the first u of the step; the polynomial in h through the results has its
value at zero (Deuflhard 1985), and the value without the first row gives the local error.

Derivatives are weighted sums over nine neighbouring points. Where these reach beyond an end, their weights have been
folded back into the closure of that end, so that row i only knows points i-4..i+4 of the grid.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fpsolve.kernels.coefficients import OK, call_coefficient
from fpsolve.kernels.compile import inner_kernel, kernel
from fpsolve.kernels.extrapolation import substep_ends, weights_at_zero

REACH = 4  # points on each side that a derivative sees
BAND = 2 * REACH + 1
NOT_FINITE, TOO_MANY, STEP_VANISHED = 2, 3, 4
COUNTS = np.array([1, 2, 3, 4, 6, 8, 12])
ORDER = COUNTS.size
FRACTIONS, MEETING = substep_ends(COUNTS)  # (row, substep) -> index in FRACTIONS
BEST = weights_at_zero(COUNTS)
GAP = BEST - weights_at_zero(COUNTS, 1)
_FUSED: dict[str, Any] = {"fastmath": {"contract"}}  # products and sums may be rounded once


@kernel(**_FUSED)
def weigh(x, weights):  # type: ignore[no-untyped-def]
    """Weights (2, 9, n) of first and second derivatives at x[4:-4], exact for polynomials of degree eight."""
    n = weights.shape[2]
    z, bary = np.empty((BAND, n)), np.ones((BAND, n))
    for m in range(BAND):
        for i in range(n):
            z[m, i] = (x[i + m] - x[i + REACH]) / (x[i + REACH + 1] - x[i + REACH])
    for k in range(BAND):
        for j in range(k):
            for i in range(n):
                apart = z[k, i] - z[j, i]
                bary[k, i] *= apart
                bary[j, i] *= -apart
    first, second = weights[0], weights[1]
    first[REACH] = 0.0
    second[REACH] = 0.0
    for m in range(BAND):
        if m != REACH:
            for i in range(n):
                first[m, i] = -bary[REACH, i] / (bary[m, i] * z[m, i])
                first[REACH, i] -= first[m, i]
    for m in range(BAND):
        if m != REACH:
            for i in range(n):
                second[m, i] = 2.0 * first[m, i] * (first[REACH, i] + 1.0 / z[m, i])
    for m in range(BAND):
        for i in range(n):
            if m != REACH:
                scale = x[i + REACH + 1] - x[i + REACH]
                first[m, i] /= scale
                second[m, i] /= scale * scale
    for i in range(n):  # differences to the middle are summed, whose own weight is minus all others
        first[REACH, i] = 0.0
        second[REACH, i] = 0.0
        for m in range(BAND):
            if m != REACH:
                first[REACH, i] -= first[m, i]
                second[REACH, i] -= second[m, i]


@kernel
def tail_weights(known, at, log, centre, out):  # type: ignore[no-untyped-def]
    """Weights `out` of values at `known` points in their polynomial at one point, in x or in log|x - centre|."""
    place = np.log(abs(at - centre)) if log else at - centre
    for k in range(known.size):
        mine = np.log(abs(known[k] - centre)) if log else known[k] - centre
        out[k] = 1.0
        for j in range(known.size):
            if j != k:
                other = np.log(abs(known[j] - centre)) if log else known[j] - centre
                out[k] *= (place - other) / (mine - other)


@kernel
def fold(x, closures, weights):  # type: ignore[no-untyped-def]
    """Replace points beyond the ends by the closures (2, 3), each (degree, log, centre) of a tail."""
    n = weights.shape[2]
    share = np.empty(BAND)
    for side in range(2):
        count = int(closures[side, 0]) + 1
        known = x[REACH : REACH + count] if side == 0 else x[n + REACH - count : n + REACH]
        start = 0 if side == 0 else n - count
        for g in range(REACH):
            place = g if side == 0 else n + REACH + g
            tail_weights(known, x[place], closures[side, 1] > 0.0, closures[side, 2], share)
            for i in range(max(0, place - BAND + 1), min(n, place + 1)):
                for order in range(2):
                    for k in range(count):
                        weights[order, start + k + REACH - i, i] += share[k] * weights[order, place - i, i]
                    weights[order, place - i, i] = 0.0


@kernel(**_FUSED)
def fill(t, x, central, drift, noise, out):  # type: ignore[no-untyped-def]
    """Put p, r and a at x[4:-4] into out (3, n); `central` are the weights before they are folded."""
    f, a = np.empty(x.size), np.empty(x.size)
    status = call_coefficient(drift[0], x, x.size, t, drift[1], f)
    if status == OK:
        status = call_coefficient(noise[0], x, x.size, t, noise[1], a)
    if status != OK:
        return status
    n = out.shape[1]
    for j in range(x.size):
        a[j] *= 0.5 * a[j]
    out[:] = 0.0
    for m in range(BAND):
        for i in range(n):
            rise = a[i + m] - a[i + REACH]
            out[0, i] += central[1, m, i] * rise - central[0, m, i] * (f[i + m] - f[i + REACH])
            out[1, i] += 2.0 * central[0, m, i] * rise
    bad = 0.0
    for i in range(n):
        out[1, i] -= f[i + REACH]
        out[2, i] = a[i + REACH]
        bad += 0.0 * (out[0, i] + out[1, i] + out[2, i])
    return OK if np.isfinite(bad) else NOT_FINITE


@kernel(**_FUSED)
def derivatives(u, weights, padded, first, second):  # type: ignore[no-untyped-def]
    """u_x and u_xx; differences to the middle lose fewer digits than the values themselves; padded (n + 8,)."""
    n = u.size
    padded[:REACH] = 0.0
    padded[n + REACH :] = 0.0
    padded[REACH : n + REACH] = u
    one, two = weights[0], weights[1]
    for i in range(n):
        here = padded[i + 4]
        d0, d1, d2, d3 = padded[i] - here, padded[i + 1] - here, padded[i + 2] - here, padded[i + 3] - here
        d5, d6, d7, d8 = padded[i + 5] - here, padded[i + 6] - here, padded[i + 7] - here, padded[i + 8] - here
        left = one[0, i] * d0 + one[1, i] * d1 + one[2, i] * d2 + one[3, i] * d3
        first[i] = left + one[5, i] * d5 + one[6, i] * d6 + one[7, i] * d7 + one[8, i] * d8
        left = two[0, i] * d0 + two[1, i] * d1 + two[2, i] * d2 + two[3, i] * d3
        second[i] = left + two[5, i] * d5 + two[6, i] * d6 + two[7, i] * d7 + two[8, i] * d8


@kernel(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_FUSED)
def _factorise(h, sign, terms, slope, weights, low, up, pivot):  # type: ignore[no-untyped-def]
    """Factors of I - h J: low, up (n, 4) with the nearest point first, up divided by the pivot, and inverse pivots."""
    n = slope.size
    row = np.empty(BAND)
    for i in range(n):
        along = h * (terms[1, i] + 2.0 * sign * terms[2, i] * slope[i])
        across = h * terms[2, i]
        for m in range(BAND):
            row[m] = -along * weights[0, m, i] - across * weights[1, m, i]
        row[REACH] += 1.0
        for k in range(max(0, REACH - i), REACH):
            above = i + k - REACH
            share = row[k]
            low[i, REACH - 1 - k] = share * pivot[above]
            for m in range(REACH):
                row[k + 1 + m] -= share * up[above, m]
        pivot[i] = 1.0 / row[REACH]
        for m in range(REACH):
            up[i, m] = row[REACH + 1 + m] * pivot[i]


@kernel(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_FUSED)
def _substitute(d, low, up, pivot):  # type: ignore[no-untyped-def]
    """Solve in place; the nearest values stay in registers, and are waited for last."""
    n = d.size
    d1 = d2 = d3 = d4 = 0.0
    for i in range(n):
        total = d[i] - low[i, 3] * d4
        total -= low[i, 2] * d3
        total -= low[i, 1] * d2
        total -= low[i, 0] * d1
        d4, d3, d2, d1 = d3, d2, d1, total
        d[i] = total * pivot[i]
    d1 = d2 = d3 = d4 = 0.0
    for back in range(n):
        i = n - 1 - back
        total = d[i] - up[i, 3] * d4
        total -= up[i, 2] * d3
        total -= up[i, 1] * d2
        total -= up[i, 0] * d1
        d4, d3, d2, d1 = d3, d2, d1, total
        d[i] = total


@kernel(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_FUSED)
def _step(u, length, sign, stages, slope, result, gap):  # type: ignore[no-untyped-def]
    """One step from u; stages are (terms (k, 3, n), weights (k, 2, 9, n)) at FRACTIONS of it and at its start (last),
    or of length one; slope becomes u_x at the start."""
    n = u.size
    terms, weights = stages
    padded, change, here = np.zeros(n + 2 * REACH), np.empty(n), np.empty(n)
    first, second, moved = np.empty(n), np.empty(n), np.empty(n)
    low, up, pivot = np.zeros((n, REACH)), np.zeros((n, REACH)), np.empty(n)
    start = terms.shape[0] - 1
    derivatives(u, weights[start], padded, slope, second)
    result[:] = 0.0
    gap[:] = 0.0
    for k in range(ORDER):
        h = length / COUNTS[k]
        _factorise(h, sign, terms[start], slope, weights[start], low, up, pivot)
        moved[:] = 0.0
        for sub in range(COUNTS[k]):
            stage = min(start, MEETING[k, sub])
            for i in range(n):
                here[i] = u[i] + moved[i]
            derivatives(here, weights[stage], padded, first, second)
            p, r, a = terms[stage, 0], terms[stage, 1], terms[stage, 2]
            for i in range(n):
                force = sign * p[i] + r[i] * first[i]
                change[i] = h * (force + a[i] * (second[i] + sign * first[i] * first[i]))
            _substitute(change, low, up, pivot)
            for i in range(n):
                moved[i] += change[i]
        for i in range(n):
            result[i] += BEST[k] * moved[i]
            gap[i] += GAP[k] * moved[i]
    for i in range(n):
        result[i] += u[i]


@inner_kernel
def _stage(t, points, problem, term, weight, moves):  # type: ignore[no-untyped-def]
    """Coefficients and weights at one time; where points move, they see log q pass by."""
    x, velocity, begun, closures = points
    drift, noise, _ = problem
    here = x + (t - begun) * velocity
    weigh(here, weight)
    status = fill(t, here, weight, drift, noise, term)
    if moves:
        for i in range(term.shape[1]):
            term[1, i] += velocity[i + REACH]
    fold(here, closures, weight)
    return status


@inner_kernel
def _stages(t, length, points, problem, moves, fresh, stages):  # type: ignore[no-untyped-def]
    """Coefficients and weights over one step."""
    terms, weights = stages
    if not moves:
        return _stage(t, points, problem, terms[0], weights[0], False) if fresh else OK
    count = FRACTIONS.size
    for k in range(count):
        at = t + length if k == count - 1 else t + length * FRACTIONS[k]
        status = _stage(at, points, problem, terms[k], weights[k], True)
        if status != OK:
            return status
    return _stage(t, points, problem, terms[count], weights[count], True)


@inner_kernel
def _size(gap, u, sign, slope, weights, points, t, noisy):  # type: ignore[no-untyped-def]
    """Largest error of the score in units of its root mean square under q; rounding of u by `noisy` does not count."""
    n = u.size
    x = points[0] + (t - points[2]) * points[1]
    top = sign * u[0]
    for i in range(n):
        top = max(top, sign * u[i])
    mass, mean = 0.0, 0.0
    for i in range(n):
        q = np.exp(sign * u[i] - top) * (x[i + REACH + 1] - x[i + REACH - 1])
        mass += q
        mean += q * slope[i] * slope[i]
    scale = np.sqrt(mean / mass)
    padded, first, second = np.zeros(n + 2 * REACH), np.empty(n), np.empty(n)
    derivatives(gap, weights, padded, first, second)
    worst = 0.0
    for i in range(n):
        noise = noisy * (abs(u[i]) + 30.0) / (x[i + REACH + 1] - x[i + REACH - 1])
        worst = max(worst, abs(first[i]) - noise)
        if not np.isfinite(first[i]):
            worst = np.inf
    return worst / scale if np.isfinite(scale) else np.inf


@inner_kernel
def _room(n, moves):  # type: ignore[no-untyped-def]
    count = FRACTIONS.size + 1 if moves else 1
    return np.empty((count, 3, n)), np.empty((count, 2, BAND, n))


@kernel
def single_step(u, t, length, points, problem, moves):  # type: ignore[no-untyped-def]
    """One step; returns (status, u at its end)."""
    n = u.size
    stages = _room(n, moves)
    slope, result, gap = np.empty(n), np.empty(n), np.empty(n)
    status = _stages(t, length, points, problem, moves, True, stages)
    if status == OK:
        _step(u, length, problem[2], stages, slope, result, gap)
    return status, result


@kernel
def march(u, t, end, tol, step, points, problem, moves, states, at):  # type: ignore[no-untyped-def]
    """Adaptive steps from t to `end`, each with a local error of the score below tol[0] of its root mean square;
    differences of u by tol[1] of itself between neighbours are taken for rounding.

    points is (x (n + 8,) at time `begun`, four of them beyond each end, velocity (n + 8,), begun, closures (2, 3)),
    problem (drift, noise, sign); `moves` says whether coefficients or points do. Step ends go into states (S, n) and
    at (S,). Returns (status, steps taken, next step, steps refused); TOO_MANY when the arrays are full.
    """
    n = u.size
    stages = _room(n, moves)
    u = u.copy()
    slope, result, gap = np.empty(n), np.empty(n), np.empty(n)
    taken, refused, fresh = 0, 0, True
    shortest = 1e-14 * max(abs(end), abs(t), end - t)
    while t < end:
        if taken == at.size:
            return TOO_MANY, taken, step, refused
        length, last = step, False
        if t + 1.0001 * step >= end:
            length, last = end - t, True
        elif t + 2.0 * step > end:
            length = 0.5 * (end - t)
        status = _stages(t, length, points, problem, moves, fresh, stages)
        if status != OK:
            return status, taken, step, refused
        fresh = False
        _step(u, length, problem[2], stages, slope, result, gap)
        error = _size(gap, u, problem[2], slope, stages[1][stages[1].shape[0] - 1], points, t, tol[1])
        factor = 0.85 * (tol[0] / max(error, 1e-300)) ** (1.0 / ORDER)
        if not error <= tol[0]:
            refused += 1
            step = length * min(0.7, max(0.1, factor))
            if step < shortest:
                return STEP_VANISHED, taken, step, refused
            continue
        t = end if last else t + length
        u[:] = result
        states[taken] = u
        at[taken] = t
        taken += 1
        step = max(length, step if last else 0.0) * min(6.0, max(0.3, factor))
    return OK, taken, step, refused
