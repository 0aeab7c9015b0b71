"""First and second derivatives at equally spaced nodes, the ends included, and what is known of v at an end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import factorial

import numpy as np

from fpsolve.kernels.lanes import REACH

# what holds at an end:
ABSORBING = "absorbing"  # v = 0
SLOPE = "slope"  # v' is given: zero at a reflecting end, that of the terminal function at an artificial one
OPEN = "open"  # paths run inwards: the equation itself, v'' taken from the next node
DEGENERATE = "degenerate"  # no noise, and no drift outwards: the equation itself
RING = "ring"


@dataclass(frozen=True)
class NodeWeights:
    """Weights (n, 2 REACH + 1) of nodes i - REACH .. i + REACH in v' and v'' at node i, for nodes at distance one.

    `lift1`, `lift2` (2, n) are what a slope of one at the left and at the right end adds. Order 8 inside; at an end the
    polynomial through the five nodes next to it, and one node more with each step inwards: order 4 at least.
    """

    first: np.ndarray
    second: np.ndarray
    lift1: np.ndarray
    lift2: np.ndarray


@lru_cache(maxsize=256)
def _weights(offsets: tuple[int, ...], derivative: int, slope_at: int | None) -> np.ndarray:
    """Weights of values at the offsets (then of a slope) in a derivative at 0 of the polynomial that has them."""
    size = len(offsets) + (slope_at is not None)
    powers = np.arange(float(size))
    system = np.array(offsets, dtype=float)[:, None] ** powers
    if slope_at is not None:
        row = powers * float(slope_at) ** np.maximum(powers - 1.0, 0.0)
        system = np.vstack([system, row])
    target = np.zeros(size)
    target[derivative] = factorial(derivative)
    return np.linalg.solve(system.T, target)


@lru_cache(maxsize=64)
def node_weights(nodes: int, kinds: tuple[str, str]) -> NodeWeights:
    """Weights for `nodes` nodes with the given kinds of ends."""
    middle = tuple(range(-REACH, REACH + 1))
    first, second = (np.tile(_weights(middle, k, None), (nodes, 1)) for k in (1, 2))
    lift1, lift2 = np.zeros((2, nodes)), np.zeros((2, nodes))
    if kinds[0] == RING:
        return NodeWeights(first, second, lift1, lift2)
    for side, sign in ((0, 1), (1, -1)):
        for k in range(REACH):
            i = k if side == 0 else nodes - 1 - k
            d1, d2, slope1, slope2 = _near_end(k, kinds[side])
            # seen from the right end odd derivatives and slopes change sign
            first[i], second[i] = sign * d1[::sign], d2[::sign]
            lift1[side, i], lift2[side, i] = slope1, sign * slope2
    return NodeWeights(first, second, lift1, lift2)


def _near_end(k: int, kind: str) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Weights for v', v'' at node k from a left end, in its window, and of the slope at that end in them."""
    d1, d2 = np.zeros(2 * REACH + 1), np.zeros(2 * REACH + 1)
    if k == 0 and kind == ABSORBING:
        return d1, d2, 0.0, 0.0
    offsets = tuple(range(-k, REACH + 1))
    columns = np.array(offsets) + REACH
    slope_at = -k if kind == SLOPE else None
    w1, w2 = (_weights(offsets, order, slope_at) for order in (1, 2))
    d1[columns], d2[columns] = w1[: columns.size], w2[: columns.size]
    if kind == OPEN and k == 0:
        d2[:] = 0.0
        d2[REACH : REACH + 3] = 1.0, -2.0, 1.0
    if kind != SLOPE:
        return d1, d2, 0.0, 0.0
    if k == 0:
        return np.zeros_like(d1), d2, 1.0, float(w2[-1])
    return d1, d2, float(w1[-1]), float(w2[-1])
