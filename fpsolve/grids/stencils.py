"""Weights of conservative finite volumes of order 2, 4, 6 and 8 on cells that are equal in y."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import factorial

import numpy as np

from fpsolve.kernels.implicit import REACH

ORDERS = (2, 4, 6, 8)
_DERIVATIVE_POINTS = 9


@dataclass(frozen=True)
class Stencils:
    """Weights at the faces of n cells of width 1, for the window of 2 REACH cells around each face.

    `value` and `slope` (n + 1, 2 REACH) give Q and ∂y Q at a face from cell averages. At an end where Q vanishes
    (`absorbing`) the polynomials know that.

    Rows reach REACH cells, so that walls keep an order of their own. The flux at face 1 from a reflecting wall has
    five cells, that at an absorbing wall four and Q = 0 there; either way ∂y Q is off by h⁴. One wrong flux ε shifts q
    by ε h, so that masses and densities have the order 5 at most. At a reflecting wall itself Q is read off four
    cells: order 4 at most in the maximum norm.
    """

    value: np.ndarray
    slope: np.ndarray
    ring: bool = False

    def at_faces(self, averages: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Apply `weights` to cell averages (n,)."""
        n = averages.size
        padded = np.pad(averages, REACH, mode="wrap" if self.ring else "constant")
        return sum(weights[:, m] * padded[m : m + n + 1] for m in range(2 * REACH))


def _face_weights(cells: np.ndarray, derivative: int, vanishes_at: float | None = None) -> np.ndarray:
    """Weights of averages over cells [c, c + 1] for a derivative at 0 of the polynomial that has them.

    With `vanishes_at` the polynomial has one degree more, and vanishes there.
    """
    size = cells.size + (vanishes_at is not None)
    powers = np.arange(1.0, size + 1.0)
    edges = cells.astype(float)[:, None]
    system = ((edges + 1.0) ** powers - edges**powers) / powers
    if vanishes_at is not None:
        system = np.vstack([system, vanishes_at ** (powers - 1.0)])
    target = np.zeros(size)
    target[derivative] = factorial(derivative)
    return np.linalg.solve(system.T, target)[: cells.size]


@lru_cache(maxsize=64)
def _near_end(order: int, absorbing: bool) -> tuple[np.ndarray, np.ndarray]:
    """Weights for faces 0..REACH-1 next to a left end, in their windows."""
    value, slope = np.zeros((REACH, 2 * REACH)), np.zeros((REACH, 2 * REACH))
    for face in range(REACH):
        reach = order // 2
        if face >= reach and not absorbing:
            cells = np.arange(face - reach, face + reach)
        else:
            # rows must not reach beyond their band, so polynomials next to the end have fewer points
            cells = np.arange(max(0, face - reach), max(min(face + REACH, order + 1), face + reach))
            cells = cells[cells < face + REACH]
        wall = -float(face) if absorbing and cells[0] == 0 else None
        columns = cells - face + REACH
        value[face, columns] = _face_weights(cells - face, 0, wall)
        slope[face, columns] = _face_weights(cells - face, 1, wall)
    if absorbing:
        value[0] = 0.0
    return value, slope


@lru_cache(maxsize=64)
def stencils(cells: int, order: int, absorbing: tuple[bool, bool], ring: bool = False) -> Stencils:
    """Weights for `cells` cells of width 1, in a row or in a ring."""
    reach = order // 2
    middle = np.arange(-reach, reach)
    value, slope = np.zeros((cells + 1, 2 * REACH)), np.zeros((cells + 1, 2 * REACH))
    value[:, middle + REACH] = _face_weights(middle, 0)
    slope[:, middle + REACH] = _face_weights(middle, 1)
    if ring:
        return Stencils(value, slope, ring)
    value[:REACH], slope[:REACH] = _near_end(order, absorbing[0])
    mirrored = _near_end(order, absorbing[1])
    value[-REACH:], slope[-REACH:] = mirrored[0][::-1, ::-1], -mirrored[1][::-1, ::-1]
    return Stencils(value, slope)


def derivative_weights(points: int, start: int, faces: int) -> tuple[np.ndarray, np.ndarray]:
    """First index and weights (faces, 9) of ∂y at points `start`, `start` + 1, ... of `points` at distance one."""
    places = np.arange(faces) + start
    first = np.clip(places - _DERIVATIVE_POINTS // 2, 0, points - _DERIVATIVE_POINTS)
    offsets, which = np.unique(first - places, return_inverse=True)
    return first, np.array([_point_weights(int(offset)) for offset in offsets])[which]


@lru_cache(maxsize=32)
def _point_weights(offset: int) -> np.ndarray:
    system = np.vander(np.arange(offset, offset + float(_DERIVATIVE_POINTS)), increasing=True).T
    target = np.zeros(_DERIVATIVE_POINTS)
    target[1] = 1.0
    return np.linalg.solve(system, target)
