"""Backward Euler for masses in cells: an exponentially fitted flux, an elimination without subtractions.

Flux through an interior face, with D = ½g² at the centres, C the logarithmic mean of the two neighbours and d their
distance:

    J = f q - ∂x(D q)  ≈  up q_left - down q_right,     v = f - ΔD/d,
    up, down = (C/d) B(∓|v|d/C),  B(w) = w/(e^w - 1)     (Chang & Cooper 1970; Scharfetter & Gummel 1969)

so that v > 0 makes `up` the large one (up - down = v), C = 0 is upwinding, and no rate is ever negative. On a ring the
last cell is the neighbour of the first. At an absorbing wall q = 0, J' = 0, hence q'' = c q' with c = (f - 2D')/D: the
flux is that of any face, with D continued outwards, from a q outside that makes q/(e^(c x) - 1) the same at the centres
on both sides of the wall x = 0. This is even in the width of the cells, so that errors keep their expansion in h².

The matrix I - τA of one step is an M-matrix for every τ > 0, with column sums one, or more where a wall absorbs: masses
stay positive, and with what was absorbed their sum stays. The pivots are built from sums of positive numbers only
(Grassmann, Taksar & Heyman 1985), so that even masses of 1e-200 keep their relative accuracy.

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
def fitted(drift, behind, ahead, gap):  # type: ignore[no-untyped-def]
    """Rates `up` and `down` through a face between centres `gap` apart with D `behind` and `ahead`; see above."""
    velocity = drift - (ahead - behind) / gap
    spread = logarithmic_mean(behind, ahead) / gap
    speed = abs(velocity)
    small = spread * bernoulli(speed / spread) if speed < 700.0 * spread else 0.0
    return (small + speed, small) if velocity > 0.0 else (small, small + speed)


@kernel
def beyond(at_wall, first, second):  # type: ignore[no-untyped-def]
    """D at the mirror image (in y) of the first centre: a parabola through log D at the wall and at two centres."""
    if at_wall <= 0.0 or first <= 0.0 or second <= 0.0:
        return 2.0 * at_wall - first
    return np.exp((8.0 * np.log(at_wall) - 6.0 * np.log(first) + np.log(second)) / 3.0)


@kernel
def wall_rate(inward, outside, inside, gap, reach):  # type: ignore[no-untyped-def]
    """Rate out through an absorbing wall at the distance `reach` of the first centre, D and `gap` as for any face.

    Outside stands -r times the q of the first cell. With an infinite reach nothing comes in: mass drifts out as it may.
    """
    up, down = fitted(inward, outside, inside, gap)
    if reach == np.inf:
        return max(down - up, 0.0)
    if up <= 0.0 or down <= 0.0:
        return down
    bend = (np.log(up / down) - np.log(inside / outside)) / gap
    within = gap - reach
    ratio = -np.expm1(-bend * within) / np.expm1(bend * reach) if abs(bend * gap) > 1e-12 else within / reach
    return up * ratio + down


@kernel
def rates_at(t, points, drift, noise, right, left):  # type: ignore[no-untyped-def]
    """Rates per unit mass across all faces at time t; returns a status.

    right[i] leads out of the cell before face i, left[i] out of the cell after it; left[0] and right[n] out of the
    domain, or round the ring. points is (faces, spots, widths, gaps, reaches, kinds): `faces` at which the drift is
    asked for, those at the ends only where these are open; `spots`, the centres and any absorbing walls; distances
    `gaps` of the centres across each face, `reaches` of the end centres from absorbing walls (infinite where g vanishes
    there and mass only drifts out); `kinds` whether the left and the right end absorb, and whether they are joined.
    """
    faces, spots, widths, gaps, reaches, kinds = points
    absorbs_left, absorbs_right, ring = kinds
    n = widths.size
    f, half_g2 = np.empty(faces.size), np.empty(spots.size)
    status = call_coefficient(drift[0], faces, faces.size, t, drift[1], f)
    if status == OK:
        status = call_coefficient(noise[0], spots, spots.size, t, noise[1], half_g2)
    if status != OK:
        return status
    for i in range(spots.size):
        half_g2[i] = 0.5 * half_g2[i] * half_g2[i]
    if not (np.isfinite(f).all() and np.isfinite(half_g2).all()):
        return NOT_FINITE
    before = 0 if absorbs_left or ring else 1  # faces at which the drift was not asked for
    for i in range(1, n):
        up, down = fitted(f[i - before], half_g2[i - 1], half_g2[i], gaps[i])
        right[i], left[i] = up / widths[i - 1], down / widths[i]
    left[0] = right[n] = 0.0
    if absorbs_left:
        outside = beyond(half_g2[n], half_g2[0], half_g2[1])
        left[0] = wall_rate(f[0], outside, half_g2[0], gaps[0], reaches[0]) / widths[0]
    if absorbs_right:
        outside = beyond(half_g2[spots.size - 1], half_g2[n - 1], half_g2[n - 2])
        right[n] = wall_rate(-f[f.size - 1], outside, half_g2[n - 1], gaps[n], reaches[1]) / widths[n - 1]
    if ring:
        up, down = fitted(0.5 * (f[0] + f[n]), half_g2[n - 1], half_g2[0], gaps[0])
        right[n], left[0] = up / widths[n - 1], down / widths[0]
    return OK


@kernel
def line_step(mass, tau, right, left, work):  # type: ignore[no-untyped-def]
    """Replace `mass` by the solution of (I - tau A) new = mass; what leaves through the ends is gone."""
    forward, inverse = work[0], work[1]
    n = mass.size
    kept = 1.0 + tau * left[0]  # what remains of a pivot when the outflow to the right is taken away
    forward[0] = mass[0]
    inverse[0] = 1.0 / (kept + tau * right[1])
    for i in range(1, n):
        kept = 1.0 + tau * left[i] * (kept * inverse[i - 1])
        forward[i] = mass[i] + tau * right[i] * (forward[i - 1] * inverse[i - 1])
        inverse[i] = 1.0 / (kept + tau * right[i + 1])
    mass[n - 1] = forward[n - 1] * inverse[n - 1]
    for i in range(n - 2, -1, -1):
        mass[i] = (forward[i] + tau * left[i + 1] * mass[i + 1]) * inverse[i]


@kernel
def ring_step(mass, tau, right, left, work):  # type: ignore[no-untyped-def]
    """As `line_step` where the last cell is next to the first: it is eliminated last, and joined to every other."""
    forward, inverse, to_last, from_last = work[0], work[1], work[2], work[3]
    n = mass.size
    last = n - 1
    kept, kept_last, gathered = 1.0, 1.0, mass[last]
    to_last[0], from_last[0] = tau * left[0], tau * right[n]
    forward[0] = mass[0]
    for i in range(last):
        onward = tau * right[i + 1]
        inverse[i] = 1.0 / (kept + onward + to_last[i])
        kept_last += from_last[i] * (kept * inverse[i])
        gathered += to_last[i] * (forward[i] * inverse[i])
        back = tau * left[i + 1]
        if i < last - 1:
            forward[i + 1] = mass[i + 1] + onward * (forward[i] * inverse[i])
            to_last[i + 1] = back * (to_last[i] * inverse[i])
            from_last[i + 1] = onward * (from_last[i] * inverse[i])
            kept = 1.0 + back * (kept * inverse[i])
        else:
            kept_last += back * (kept * inverse[i])
            gathered += onward * (forward[i] * inverse[i])
    mass[last] = gathered / kept_last
    for i in range(last - 1, -1, -1):
        mass[i] = (forward[i] + tau * left[i + 1] * mass[i + 1] + from_last[i] * mass[last]) * inverse[i]


@kernel
def euler_step(mass, tau, right, left, ring, work):  # type: ignore[no-untyped-def]
    """One step of backward Euler; work is (4, n)."""
    if ring:
        ring_step(mass, tau, right, left, work)
    else:
        line_step(mass, tau, right, left, work)


@kernel
def advance(mass, times, points, drift, noise, change, ends, moves):  # type: ignore[no-untyped-def]
    """Step `mass` from times[0] through times[1:]; `change` is what the last step added.

    drift and noise are (address, params); `moves` says for each whether it depends on t. To ends[0] the masses are
    added that leave through the left and the right end; ends[1] becomes the flux J through both in the last step.
    Returns (status, steps done): OK, RAISED, or NOT_FINITE at the step that could not be made.
    """
    n, ring = mass.size, points[5][2]
    right, left, work = np.empty(n + 1), np.empty(n + 1), np.empty((4, n))
    for k in range(1, times.size):
        if k == 1 or moves[0] or moves[1]:
            status = rates_at(times[k], points, drift, noise, right, left)
            if status != OK:
                return status, k - 1
        if k == times.size - 1:
            for i in range(n):
                change[i] = mass[i]
        tau = times[k] - times[k - 1]
        euler_step(mass, tau, right, left, ring, work)
        leftwards, rightwards = left[0] * mass[0], right[n] * mass[n - 1]
        if ring:
            ends[1, 0] = ends[1, 1] = rightwards - leftwards
        else:
            ends[0, 0] += tau * leftwards
            ends[0, 1] += tau * rightwards
            ends[1, 0], ends[1, 1] = -leftwards, rightwards
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
    ring = points[5][2]
    right, left, work = np.empty(n + 1), np.empty(n + 1), np.empty((4, n))
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
        euler_step(mass, stop - t, right, left, ring, work)
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
