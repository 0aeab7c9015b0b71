"""Places where a coefficient has a jump or a kink: no field is compared there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fpsolve.problem.process import Process

_POINTS, _TIMES = 3001, 401
_BEFORE = 1e-9  # of the span: the place of a jump is known better
# halving a step three times divides a second difference by 64 if smooth, by 8 at a kink, by 1 at a jump
_SMOOTH_RATIO = 24.0
# part of the region left out on each side: some cells of the coarsest grid
MARGIN = 0.015
_ZOOMS = 9  # each into an eighth


def rough_places(process: Process, t: float, left: float, right: float) -> np.ndarray:
    """Return the points between the ends at which f or g² is not smooth in x."""
    p = process.to_ito()
    found: list[float] = []
    for coefficient, fn in ((p.drift_coefficient, p.drift), (p.diffusion_coefficient, p.diffusion_squared)):
        if coefficient.uses_x:
            found += rough_places_of(lambda x, fn=fn: fn(x, t), left, right)  # type: ignore[misc]
    return np.array(sorted(found))


def rough_times(process: Process, t_span: tuple[float, float], left: float, right: float) -> np.ndarray:
    """Return times, each just before one at which f or g² jumps or has a kink in t somewhere between the ends."""
    p = process.to_ito()
    length = t_span[1] - t_span[0]
    x = left + (right - left) * np.array([0.11, 0.29, 0.47, 0.52, 0.71, 0.9])
    weights = np.array([1.0, -0.7, 0.9, 1.3, -0.8, 1.1])  # nothing is to cancel
    found: list[float] = []
    for coefficient, fn in ((p.drift_coefficient, p.drift), (p.diffusion_coefficient, p.diffusion_squared)):
        if coefficient.uses_t:

            def mixed(times: np.ndarray, fn: Callable[..., np.ndarray] = fn) -> np.ndarray:
                return np.array([weights @ fn(x, float(t)) for t in times])

            found += rough_places_of(mixed, *t_span, _TIMES)
    before = np.unique(found) - _BEFORE * length
    return before[(before > t_span[0]) & (before < t_span[1])]


def rough_places_of(
    fn: Callable[[np.ndarray], np.ndarray], left: float, right: float, points: int = _POINTS
) -> list[float]:
    """Return the points between two ends at which a function of one variable has a jump or a kink."""
    x = np.linspace(left, right, points)
    values = fn(x)
    bend = np.abs(np.diff(values, 2))
    noticeable = 1e-9 * float(np.ptp(values)) + 1e-13 * float(np.abs(values).max())
    peaks = [
        int(k)
        for k in np.argsort(bend)[::-1][:60]
        if bend[k] > noticeable and bend[k] == bend[max(0, k - 3) : k + 4].max()
    ]
    rough = []
    for k in peaks:
        close = np.linspace(x[max(0, k - 1)], x[min(points - 1, k + 3)], 33)
        closer = np.abs(np.diff(fn(close), 2)).max()
        if bend[k] < _SMOOTH_RATIO * closer:
            rough.append(_located(fn, float(x[max(0, k - 1)]), float(x[min(points - 1, k + 3)])))
    return rough


def _located(fn: Callable[[np.ndarray], np.ndarray], left: float, right: float) -> float:
    """Where between two points the second difference is largest, by zooming in on it."""
    for _ in range(_ZOOMS):
        x = np.linspace(left, right, 33)
        values = fn(x)
        bend = np.abs(np.diff(values, 2))
        k = int(bend.argmax())
        if bend[k] <= 1e-13 * np.abs(values).max():
            break
        left, right = float(x[max(k - 1, 0)]), float(x[min(k + 3, 32)])
    return 0.5 * (left + right)


def keep_away(x: np.ndarray, places: np.ndarray, left: float, right: float) -> np.ndarray:
    """Return which points lie far enough from every rough place."""
    if places.size == 0:
        return np.ones(x.shape, dtype=bool)
    return np.abs(x[:, None] - places).min(axis=1) > MARGIN * (right - left)
