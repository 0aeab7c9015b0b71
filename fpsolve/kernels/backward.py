"""Backward equations on nodes: v_τ = a ∂y v + b ∂yy v - k v + s, one extrapolated implicit step.

The eight runs of implicit Euler side by side, their substeps and weights are those of `kernels.implicit`; the rows are
not conservative: node i sees v' and v'' through d1[i, m] and d2[i, m] at nodes i - REACH + m.
"""

from __future__ import annotations

import numpy as np

from fpsolve.kernels.compile import kernel
from fpsolve.kernels.implicit import (
    BEST,
    COUNTS,
    GAP,
    HALVES,
    MEETING,
    eliminate,
    places,
    substitute_ring,
)
from fpsolve.kernels.lanes import REACH, WIDTH


@kernel
def _factorise_nodes(first, second, rate, weights, substep, place, low, up, pivot):  # type: ignore[no-untyped-def]
    """Factors of I - substep (first d1 + second d2 - rate) in every lane, as `substitute_ring` takes them.

    first, second, rate (n, WIDTH), substep (WIDTH,). Neighbours of a row, joined to a ring, stand `reach` apart.
    """
    d1, d2 = weights
    n, reach, count = low.shape
    row = np.empty((2 * reach + 1, count))
    node = np.empty(n, np.int64)
    for i in range(n):
        node[place[i] - reach] = i
    for r in range(n):
        i = node[r]
        row[:] = 0.0
        for m in range(2 * REACH + 1):
            if d1[i, m] == 0.0 and d2[i, m] == 0.0:
                continue
            at = place[(i - REACH + m) % n] - r
            for lane in range(count):
                row[at, lane] -= substep[lane] * (first[i, lane] * d1[i, m] + second[i, lane] * d2[i, m])
        for lane in range(count):
            row[reach, lane] += 1.0 + substep[lane] * rate[i, lane]
        eliminate(row, r, low, up, pivot)


@kernel
def _load_lanes(half, s, rates, loaded):  # type: ignore[no-untyped-def]
    """Put a, b, k and s at the ends of substep s into the lanes of one half."""
    first, second, rate, source = loaded
    for j in range(WIDTH):
        k = MEETING[s, half * WIDTH + j] if rates.shape[0] > 1 else 0
        for i in range(rates.shape[2]):
            first[half, i, j], second[half, i, j] = rates[k, 0, i], rates[k, 1, i]
            rate[half, i, j], source[half, i, j] = rates[k, 2, i], rates[k, 3, i]


@kernel
def backward_step(v, length, rates, weights, again, work, result, gap):  # type: ignore[no-untyped-def]
    """One step of `length` in τ from v (n,) into `result`, and the difference of orders 8 and 7 into `gap`.

    rates (1 or FRACTIONS, 4, n) are a, b, k, s at the ends of all substeps, or at all times; `again` says that rates,
    if they do not move, and length are as before.
    """
    loaded, low, up, pivot, lanes, place = work
    n = v.size
    anew = rates.shape[0] > 1
    substep = length / COUNTS
    for half in range(HALVES):
        lanes[half] = 0.0
        for i in range(n):
            for j in range(WIDTH):
                lanes[half, place[i], j] = v[i]
    for i in range(n):
        result[i], gap[i] = v[i], 0.0
    done = 0
    for s in range(COUNTS[-1]):
        for half in range(0 if s < COUNTS[WIDTH - 1] else 1, HALVES):
            part = substep[half * WIDTH : (half + 1) * WIDTH]
            if anew or (s == 0 and not again):
                _load_lanes(half, s, rates, loaded)
                rows = loaded[0][half], loaded[1][half], loaded[2][half], weights, part, place
                _factorise_nodes(*rows, low[half], up[half], pivot[half])
            for i in range(n):
                for j in range(WIDTH):
                    lanes[half, place[i], j] += part[j] * loaded[3][half, i, j]
            substitute_ring(lanes[half], low[half], up[half], pivot[half])
        if s + 1 == COUNTS[done]:
            half, j = done // WIDTH, done % WIDTH
            for i in range(n):
                change = lanes[half, place[i], j] - v[i]
                result[i] += BEST[done] * change
                gap[i] += GAP[done] * change
            done += 1


def backward_workspace(nodes: int, ring: bool) -> tuple:
    """Arrays that the steps write to, and where nodes stand."""
    reach = 2 * REACH if ring else REACH
    return (
        tuple(np.zeros((HALVES, nodes, WIDTH)) for _ in range(4)),
        np.zeros((HALVES, nodes, reach, WIDTH)),
        np.zeros((HALVES, nodes, reach, WIDTH)),
        np.zeros((HALVES, nodes, WIDTH)),
        np.zeros((HALVES, nodes + 2 * reach, WIDTH)),
        places(nodes, ring),
    )
