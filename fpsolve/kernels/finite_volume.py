"""Backward Euler for masses in cells: an exponentially fitted flux, an elimination without subtractions.

Flux through an interior face, with D = ½g² at the centres, C the logarithmic mean of the two neighbours and d their
distance:

    J = f q - ∂x(D q)  ≈  up q_left - down q_right,     v = f - ΔD/d,
    up, down = (C/d) B(∓|v|d/C),  B(w) = w/(e^w - 1)     (Chang & Cooper 1970; Scharfetter & Gummel 1969)

so that v > 0 makes `up` the large one (up - down = v), C = 0 is upwinding, and no rate is ever negative.
The matrix I - τA of one step is then an M-matrix with unit column sums for every τ > 0: masses stay positive and their
sum stays. The pivots are built from sums of positive numbers only (Grassmann, Taksar & Heyman 1985), so that
even masses of 1e-200 keep their relative accuracy.

Cost per cell and step: 8 doubles read and 4 written (96 bytes, from L1/L2), 1 division and about 10 flops in one
chain of dependent operations (division, product, sum), and one exponential more where a coefficient depends on t.
Measured (benchmarks/grids.py, one core of an EPYC): 10 ns, and 37 ns where compiled coefficients depend on t.
"""

from __future__ import annotations

import numpy as np

from fpsolve.kernels.coefficients import OK, call_coefficient
from fpsolve.kernels.compile import kernel

NOT_FINITE = 2


@kernel
def bernoulli(w: float) -> float:
    """Return w/(e^w - 1) for w >= 0."""
    if w < 0.3:  # the series of B, to rounding: well resolved problems live here, and it is far cheaper
        s = w * w
        return 1.0 - 0.5 * w + s / 12.0 * (1.0 - s / 60.0 * (1.0 - s / 42.0 * (1.0 - s / 40.0 * (1.0 - s / 39.6))))
    return w / np.expm1(w) if w < 700.0 else 0.0


@kernel
def logarithmic_mean(a: float, b: float) -> float:
    """(b - a)/log(b/a): with it a jump of D passes between the cells as it must, D q being continuous."""
    total = a + b
    if a <= 0.0 or b <= 0.0:
        return 0.0
    r = (b - a) / total
    s = r * r
    if s < 1e-3:
        return 0.5 * total / (1.0 + s * (1.0 / 3.0 + s * (0.2 + s * (1.0 / 7.0 + s / 9.0))))
    return (b - a) / np.log(b / a)


@kernel
def fill_rates(drift, half_g2, widths, gaps, right, left):  # type: ignore[no-untyped-def]
    """Rates per unit mass across each interior face: `right` out of its left cell, `left` out of its right cell."""
    for i in range(drift.size):
        distance = gaps[i]
        velocity = drift[i] - (half_g2[i + 1] - half_g2[i]) / distance
        spread = logarithmic_mean(half_g2[i], half_g2[i + 1]) / distance
        speed = abs(velocity)
        small = spread * bernoulli(speed / spread) if speed < 700.0 * spread else 0.0
        up, down = small, small
        if velocity > 0.0:
            up += speed
        else:
            down += speed
        right[i] = up / widths[i]
        left[i] = down / widths[i + 1]


@kernel
def euler_step(mass, tau, right, left, forward, inverse):  # type: ignore[no-untyped-def]
    """Replace `mass` by the solution of (I - tau A) new = mass."""
    n = mass.size
    kept = 1.0  # what remains of a pivot when the outflow to the right is taken away
    forward[0] = mass[0]
    inverse[0] = 1.0 / (1.0 + tau * right[0])
    for i in range(1, n):
        kept = 1.0 + tau * left[i - 1] * (kept * inverse[i - 1])
        forward[i] = mass[i] + tau * right[i - 1] * (forward[i - 1] * inverse[i - 1])
        inverse[i] = 1.0 / (kept + tau * right[i]) if i < n - 1 else 1.0 / kept
    mass[n - 1] = forward[n - 1] * inverse[n - 1]
    for i in range(n - 2, -1, -1):
        mass[i] = (forward[i] + tau * left[i] * mass[i + 1]) * inverse[i]


@kernel
def rates_at(t, points, drift, noise, right, left):  # type: ignore[no-untyped-def]
    """Rates across all interior faces at time t; returns a status. points is (inner faces, centres, widths, gaps)."""
    faces, centres, widths, gaps = points
    n = centres.size
    f, half_g2 = np.empty(n - 1), np.empty(n)
    status = call_coefficient(drift[0], faces, n - 1, t, drift[1], f)
    if status == OK:
        status = call_coefficient(noise[0], centres, n, t, noise[1], half_g2)
    if status != OK:
        return status
    for i in range(n):
        half_g2[i] = 0.5 * half_g2[i] * half_g2[i]
    if not (np.isfinite(f).all() and np.isfinite(half_g2).all()):
        return NOT_FINITE
    fill_rates(f, half_g2, widths, gaps, right, left)
    return OK


@kernel
def advance(mass, times, points, drift, noise, change, moves):  # type: ignore[no-untyped-def]
    """Step `mass` from times[0] through times[1:]; `change` is what the last step added.

    drift and noise are (address, params); `moves` says for each whether it depends on t.
    Returns (status, steps done): OK, RAISED, or NOT_FINITE at the step that could not be made.
    """
    n = mass.size
    right, left = np.empty(n - 1), np.empty(n - 1)
    forward, inverse = np.empty(n), np.empty(n)
    for k in range(1, times.size):
        if k == 1 or moves[0] or moves[1]:
            status = rates_at(times[k], points, drift, noise, right, left)
            if status != OK:
                return status, k - 1
        if k == times.size - 1:
            for i in range(n):
                change[i] = mass[i]
        euler_step(mass, times[k] - times[k - 1], right, left, forward, inverse)
    for i in range(n):
        change[i] = mass[i] - change[i]
    return OK, times.size - 1


@kernel
def where_sum_reaches(mass, level, backwards):  # type: ignore[no-untyped-def]
    """Number of cells from one end whose masses add up to less than `level`."""
    n, total = mass.size, 0.0
    for k in range(n):
        total += mass[n - 1 - k] if backwards else mass[k]
        if total >= level:
            return k
    return n


@kernel
def follow(mass, state, limits, points, drift, noise, moves, times, bends, ends, tails, cores):  # type: ignore[no-untyped-def]
    """Adaptive backward Euler steps, each moving about `target` of the mass; what is seen goes into the arrays.

    state is (t, step, rate (n,)); limits (end, target, shortest and
    longest step, tail). For each step k: times[k], bends[k] the
    total variation of the change of the rate over the time it took, ends[k] the masses in three cells at either end,
    tails[k] and cores[k] the cells outside which `tail` and 10 % of the mass lie on each side. Returns (status, steps
    done); fewer than there is room for means that the end is reached.
    """
    end, target, shortest, longest, tail = limits
    t, step = state[0], state[1]
    n = mass.size
    rate, change = state[2:], np.empty(n)
    right, left = np.empty(n - 1), np.empty(n - 1)
    forward, inverse = np.empty(n), np.empty(n)
    done, fresh = 0, True
    while t < end and done < times.size:
        for i in range(n):
            change[i] = mass[i]
        stop = end if t + 1.01 * step >= end else t + step
        if fresh or moves[0] or moves[1]:
            status = rates_at(stop, points, drift, noise, right, left)
            if status != OK:
                state[0] = stop
                return status, done
            fresh = False
        euler_step(mass, stop - t, right, left, forward, inverse)
        for i in range(n):
            change[i] = mass[i] - change[i]
        moved = 0.0
        for i in range(n):
            moved += 0.5 * abs(change[i])
        if moved > 3.0 * target and step > shortest:
            for i in range(n):
                mass[i] -= change[i]
            step *= 0.3
            continue
        length, bend = stop - t, 0.0
        for i in range(n):
            now = change[i] / length
            bend += abs(now - rate[i])
            rate[i] = now
        times[done], bends[done] = stop, bend / length
        ends[done, 0] = mass[0] + mass[1] + mass[2]
        ends[done, 1] = mass[n - 1] + mass[n - 2] + mass[n - 3]
        tails[done, 0] = where_sum_reaches(mass, tail, False)
        tails[done, 1] = n - where_sum_reaches(mass, tail, True)
        cores[done, 0] = where_sum_reaches(mass, 0.1, False)
        cores[done, 1] = n - where_sum_reaches(mass, 0.1, True)
        t, done = stop, done + 1
        step = min(step * min(1.6, max(0.4, target / max(moved, 1e-300))), longest)
    state[0], state[1] = t, step
    return OK, done
