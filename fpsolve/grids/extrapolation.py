"""Extrapolation to zero cell width and zero step from six solves, with errors by cause.

Levels (i, j) with i + j ≤ 2 have N 2^i cells and n 2^j steps. Where the error of the scheme has an expansion in
X = h² and Y = τ, the six values at a common face fix the polynomial 1, X, Y, X², XY, Y², whose value at zero is
returned: what remains is of third degree in (h², τ). This costs 17 N n cell-steps, a third of the full table of nine.

Error estimates. With first and second correction A and B of one cause (A ~ a1 X, B ~ a2 X²), geometric growth of the
coefficients makes what is left B²/A times 4 (space, X halved twice) or 2 (time); the mixed terms of third degree leave
|XY term| (B/A of space + B/A of time). Each is taken over a window, since both corrections change sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.ndimage import maximum_filter1d

from fpsolve.problem.grid import Grid

PAIRS = ((0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (0, 2))
COST = sum(2 ** (i + j) for i, j in PAIRS)  # in units of the coarsest level's cell-steps
STEPS = sum(2**j for _, j in PAIRS)

# chosen on 150 random problems (OU, VP, linear in t, SinhOU); on 148 fresh ones it covered all in norm and over 99 % of
# points, with a median overestimate of 13
SAFETY = 3.0
# part of the second correction below which an estimate never falls: sign changes make B²/A small by accident
FLOOR = 0.1
# outside the asymptotic regime, where the last difference counts: successive differences in space (1/4 in theory)
# or time (1/2 in theory), or successive corrections, shrink by less than this
SHRINK = (0.32, 0.75, 0.5)
_WINDOW = 9
POINTS = 10  # of the local polynomials that interpolate in x


@lru_cache(maxsize=64)
def _weights(points: int, at: float) -> np.ndarray:
    """Weights of values at 0, 1, ..., points - 1 in their polynomial at `at`."""
    nodes = np.arange(float(points))
    apart = nodes[:, None] - nodes[None, :]
    np.fill_diagonal(apart, 1.0)
    return np.array([np.prod(np.delete((at - nodes) / apart[k], k)) for k in range(points)])


def refine_once(values: np.ndarray, points: int = 10) -> np.ndarray:
    """Values (T, n+1) at equally spaced nodes, with those at the midpoints put in between by local polynomials."""
    n = values.shape[1] - 1
    points = min(points, n + 1)
    half = points // 2
    middle = np.empty((values.shape[0], n))
    central = _weights(points, half - 0.5)
    inner = n - points + 2
    middle[:, half - 1 : half - 1 + inner] = sum(w * values[:, k : k + inner] for k, w in enumerate(central))
    for m in range(half - 1):
        edge = _weights(points, m + 0.5)
        middle[:, m] = values[:, :points] @ edge
        middle[:, n - 1 - m] = values[:, ::-1][:, :points] @ edge
    fine = np.empty((values.shape[0], 2 * n + 1))
    fine[:, ::2], fine[:, 1::2] = values, middle
    return fine


def spread(values: np.ndarray) -> np.ndarray:
    """Error values on coarse faces carried to faces four times as many: the larger neighbour."""
    fine = np.repeat(values, 4, axis=1)[:, :-3]
    for k in (1, 2, 3):
        fine[:, k::4] = np.maximum(values[:, :-1], values[:, 1:])
    return fine


def interpolate(grid: Grid, values: np.ndarray, x: np.ndarray, points: int = POINTS) -> np.ndarray:
    """Local polynomials in the uniform coordinate of the grid through `values` at its faces."""
    place = grid.place(x)
    first = np.clip(np.floor(place).astype(int) - points // 2 + 1, 0, grid.cells + 1 - points)
    apart = (place - first)[:, None] - np.arange(points)
    barycentric = np.array([(-1.0) ** k * math.comb(points - 1, k) for k in range(points)])
    on_node = apart == 0.0
    weights = barycentric / np.where(on_node, 1.0, apart)
    weights = np.where(on_node.any(axis=1, keepdims=True), on_node, weights)
    samples = values[first[:, None] + np.arange(points)]
    return (weights * samples).sum(axis=1) / weights.sum(axis=1)


def interpolate_log(grid: Grid, logs: np.ndarray, x: np.ndarray, points: int = POINTS) -> np.ndarray:
    """As `interpolate`, held near the four nearest values: polynomials overshoot where logarithms end in noise."""
    near = np.clip(np.floor(grid.place(x)).astype(int)[:, None] + np.arange(-1, 3), 0, grid.cells)
    least, most = logs[near].min(axis=1), logs[near].max(axis=1)
    room = 0.5 * (most - least) + 1e-3
    return np.clip(interpolate(grid, logs, x, points), least - room, most + room)


@dataclass(frozen=True)
class Extrapolated:
    """Field at the faces of the finest grid (T, faces) with pointwise errors by cause."""

    value: np.ndarray
    space: np.ndarray
    time: np.ndarray
    off: np.ndarray  # (T, 2) bool: whether space or time is outside the asymptotic regime


def _remainder(first: np.ndarray, second: np.ndarray, growth: float) -> tuple[np.ndarray, np.ndarray]:
    """Estimated remainder and ratio of two successive corrections, windowed."""
    a, b = (maximum_filter1d(np.abs(v), _WINDOW, axis=1, mode="nearest") for v in (first, second))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(b > 0.0, b / np.maximum(a, b), 0.0)
    return SAFETY * np.maximum(growth * ratio / (1.0 - 0.9 * ratio), FLOOR) * b, ratio


def _shrinks_too_slowly(
    first: np.ndarray, second: np.ndarray, weight: np.ndarray, limit: float, floor: float
) -> np.ndarray:
    a, b = ((np.abs(v) * weight).max(axis=1) for v in (first, second))
    return (b > limit * a) & (b > floor)


def extrapolate(field: dict[tuple[int, int], np.ndarray], weight: np.ndarray, floor: float) -> Extrapolated:
    """Extrapolate `field`, given at the faces of each level; `weight` (T, coarse faces) says where its size matters.

    Where the corrections of a cause do not shrink, the finest value of that cause is used and the last difference
    is its error; `floor` is the size below which that is rounding.
    """
    base, fine = field[0, 0], field[2, 0]
    mid = field[1, 0][:, ::2]
    d1, d2 = mid - base, fine[:, ::4] - mid
    space_b = (4.0 * d2 - d1) / 45.0
    u1, u2 = field[0, 1] - base, field[0, 2] - field[0, 1]
    time_b = (2.0 * u2 - u1) / 3.0
    mixed = (8.0 / 3.0) * (field[1, 1][:, ::2] - mid - field[0, 1] + base)
    space_error, space_ratio = _remainder(d2 / 3.0, space_b, 4.0)
    time_error, time_ratio = _remainder(u2, time_b, 2.0)
    cross = SAFETY * maximum_filter1d(np.abs(mixed), _WINDOW, axis=1, mode="nearest")
    space_error = space_error + cross * space_ratio
    time_error = time_error + cross * time_ratio

    space_error = np.maximum(space_error, _where_slow(d1, d2, SHRINK[0]))
    time_error = np.maximum(time_error, _where_slow(u1, u2, SHRINK[1]))

    off_space = _shrinks_too_slowly(d1, d2, weight, SHRINK[0], floor)
    off_space |= _shrinks_too_slowly(d2 / 3.0, space_b, weight, SHRINK[2], floor)
    off_time = _shrinks_too_slowly(u1, u2, weight, SHRINK[1], floor)
    off_time |= _shrinks_too_slowly(u2, time_b, weight, SHRINK[2], floor)
    keep_space, keep_time = ~off_space[:, None], ~off_time[:, None]
    time_part = u1 + u2 + keep_time * (u2 + time_b)
    on_coarse = time_part + mixed * (keep_space & keep_time)
    on_middle = (fine[:, ::2] - field[1, 0]) / 3.0 * keep_space + refine_once(on_coarse + space_b * keep_space)
    correction = refine_once(on_middle)
    interpolation = np.abs(correction - refine_once(on_middle, 8))
    interpolation[:, ::2] += np.abs(on_middle - refine_once(on_middle[:, ::2], 8))
    space_error = np.where(keep_space, space_error, _last(d2, mixed))
    time_error = np.where(keep_time, time_error, _last(u2, mixed))
    return Extrapolated(
        fine + correction,
        spread(space_error) + maximum_filter1d(interpolation, _WINDOW, axis=1, mode="nearest"),
        spread(time_error),
        np.stack([off_space, off_time], axis=1),
    )


def _where_slow(first: np.ndarray, second: np.ndarray, limit: float) -> np.ndarray:
    """Size of the last difference at places (windows) where it shrinks too slowly, zero elsewhere."""
    a, b = (maximum_filter1d(np.abs(v), _WINDOW, axis=1, mode="nearest") for v in (first, second))
    return np.where(b > limit * a, b, 0.0)


def _last(difference: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    return SAFETY * maximum_filter1d(np.abs(difference) + np.abs(mixed), _WINDOW, axis=1, mode="nearest")


def positive_masses(
    low: np.ndarray, cdf_shift: np.ndarray, sweeps: int = 60
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Masses `low` (T, n) >= 0 moved towards low + diff(cdf_shift) as far as they stay non-negative.

    cdf_shift (T, n+1) vanishes at both ends; each face transfers the same amount out of one cell and into the
    other, so that the sum cannot change (Zalesak 1979). Returns masses, and by row the largest transfer
    held back and the faces limited.
    """
    share = np.ones_like(cdf_shift)
    for sweep in range(sweeps):
        moved = share * cdf_shift
        mass = low + np.diff(moved, axis=1)
        bad = mass < 0.0
        if sweep == sweeps - 1:
            bad[:] = True
        if not bad.any():
            break
        leaving = np.maximum(-moved[:, 1:], 0.0) + np.maximum(moved[:, :-1], 0.0)
        allowed = np.divide(0.999999 * low, leaving, out=np.ones_like(low), where=bad & (leaving > low))
        shrink = np.ones_like(share)
        shrink[:, 1:] = np.where(moved[:, 1:] < 0.0, allowed, 1.0)
        shrink[:, :-1] = np.minimum(shrink[:, :-1], np.where(moved[:, :-1] > 0.0, allowed, 1.0))
        share = share * shrink
    moved = share * cdf_shift
    limited = share < 1.0
    return low + np.diff(moved, axis=1), np.abs(cdf_shift - moved).max(axis=1), limited.sum(axis=1)
