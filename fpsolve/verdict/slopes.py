"""The slope of log error against log h, with what sampling, floors and curvature leave open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpsolve.problem.estimate import normal_quantile

_FLOOR_SHARE = 0.03  # an error that is known worse than this share of itself is in the floor
_NOISE_SHARE = 0.1
_FEWEST = 3
# with local slopes p + c h a window of levels is as far off as these multiples of what dropping its coarsest level
# changes, and of its distance from the finest local slope
_OF_DROPPING, _OF_FINEST = 3.2, 2.2
# a change of local slopes above the first that is not below the second times the one before may go on for many levels
_VISIBLE, _SETTLING, _LEVELS_TO_COME = 0.1, 0.8, 10.0


@dataclass(frozen=True)
class Levels:
    """Errors of a scheme at falling steps.

    Attributes
    ----------
    h, error : ndarray, shape (levels,)
        Steps, each half of the one before, and errors.
    floor : ndarray, shape (levels,)
        What is not known of each error for other reasons than sampling: reference, quadrature, rounding.
    covariance : ndarray, shape (levels, levels)
        Of the errors; zero where nothing was sampled.
    work : float
        Steps of paths or of quadrature points.
    """

    h: np.ndarray
    error: np.ndarray
    floor: np.ndarray
    covariance: np.ndarray
    work: float

    @classmethod
    def without_noise(cls, h: np.ndarray, error: np.ndarray, floor: np.ndarray, work: float) -> Levels:
        """Levels of a route that samples nothing."""
        return cls(h, error, floor, np.zeros((h.size, h.size)), work)

    @property
    def std_error(self) -> np.ndarray:
        """Standard error of each error."""
        return np.sqrt(np.diagonal(self.covariance))

    @property
    def uncertainty(self) -> np.ndarray:
        """Below this an error cannot be told from zero: the floor and two standard errors."""
        return self.floor + 2.0 * self.std_error

    def only(self, keep: slice) -> Levels:
        """Return some of the levels."""
        return Levels(self.h[keep], self.error[keep], self.floor[keep], self.covariance[keep, keep], self.work)


@dataclass(frozen=True)
class Slope:
    """A fitted order: value, deterministic error (floors and curvature), standard error, and the levels used."""

    value: float
    error: float
    std_error: float
    used: Levels
    note: str


def fitted(levels: Levels, alpha: float) -> Slope | None:
    """Weighted regression over the levels above the floor; coarse ones go where curvature costs more than it gains.

    None if fewer than three levels are above the floor.
    """
    run = _above_floor(levels)
    if run.stop - run.start < _FEWEST:
        return None
    best, drift = None, _drift(levels.only(run))
    for start in range(run.start, run.stop - _FEWEST + 1):
        window = levels.only(slice(start, run.stop))
        value, floor, std_error = _line(window)
        shorter, finest = (_line(window.only(part))[0] for part in (slice(1, None), slice(-2, None)))
        curved = max(_OF_DROPPING * abs(value - shorter), _OF_FINEST * abs(value - finest), drift)
        whole = curved + floor + normal_quantile(alpha) * std_error
        if best is None or whole < best[0]:
            best = whole, Slope(value, curved + floor, std_error, window, _dropped(levels, start, run))
    return best[1] if best else None


def _above_floor(levels: Levels) -> slice:
    """The longest run of levels whose errors are known well enough."""
    with np.errstate(divide="ignore", invalid="ignore"):
        sound = (levels.floor < _FLOOR_SHARE * levels.error) & (levels.std_error < _NOISE_SHARE * levels.error)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], sound & np.isfinite(levels.error), [False]])))
    runs = [slice(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return max(runs, key=lambda run: run.stop - run.start, default=slice(0, 0))


def _drift(levels: Levels) -> float:
    """What local slopes may still change by: 0 if their changes shrink.

    Falling slopes may go on even so, for a small term of low order wins in the end.
    """
    local = np.diff(np.log2(levels.error)) / np.diff(np.log2(levels.h))
    if local.size < 3:
        return 0.0
    before, last = np.diff(local)[-2:]
    visible = abs(last) > _VISIBLE and (last < 0 or abs(last) > _SETTLING * abs(before))
    return float(_LEVELS_TO_COME * abs(last)) if visible else 0.0


def _line(levels: Levels) -> tuple[float, float, float]:
    """Slope of log2 error on log2 h, its error from the floors, its standard error."""
    x, y = np.log2(levels.h), np.log2(levels.error)
    known = levels.floor / levels.error / np.log(2.0)
    spread = levels.covariance / np.outer(levels.error, levels.error) / np.log(2.0) ** 2
    weights = 1.0 / (np.diagonal(spread) + known**2 + 1e-4)
    off = x - np.average(x, weights=weights)
    c = weights * off / (weights * off**2).sum()
    return float(c @ y), float(np.abs(c) @ known), float(np.sqrt(max(0.0, c @ spread @ c)))


def _dropped(levels: Levels, start: int, run: slice) -> str:
    """Say which levels are left out, and why."""
    parts = []
    if start > run.start:
        parts.append(f"h ≥ {levels.h[start - 1]:.3g} left out: not yet asymptotic")
    if run.start > 0:
        parts.append(f"h ≥ {levels.h[run.start - 1]:.3g} left out: paths lost or errors unresolved")
    if run.stop < levels.h.size:
        parts.append(f"h ≤ {levels.h[run.stop]:.3g} left out: in the floor of sampling or rounding")
    return "; ".join(parts)
