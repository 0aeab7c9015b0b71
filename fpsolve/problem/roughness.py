"""Places where a coefficient has a jump or a kink: no field is compared there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fpsolve.problem.process import Process

_POINTS = 3001
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
            found += _rough_places_of(lambda x, fn=fn: fn(x, t), left, right)  # type: ignore[misc]
    return np.array(sorted(found))


def _rough_places_of(fn: Callable[[np.ndarray], np.ndarray], left: float, right: float) -> list[float]:
    x = np.linspace(left, right, _POINTS)
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
        close = np.linspace(x[max(0, k - 1)], x[min(_POINTS - 1, k + 3)], 33)
        closer = np.abs(np.diff(fn(close), 2)).max()
        if bend[k] < _SMOOTH_RATIO * closer:
            rough.append(_located(fn, float(x[max(0, k - 1)]), float(x[min(_POINTS - 1, k + 3)])))
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
