"""Tables of functions of (x, t), refined until their error, measured apart from the nodes, is below a tolerance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_banded

from fpsolve.kernels.lookup import DEGREE, LOBATTO, NODES, Panel, spline_values, time_weights

Fill = Callable[[np.ndarray, float], np.ndarray]
Region = Callable[[float], tuple[float, float]]

MOST_VALUES = 8_000_000  # of the function, for one table
_FEWEST_CELLS, _MOST_CELLS = 24, 4096
_MOST_PARTS = 4096  # a panel is at least this part of the span
_OF_NOISE = 0.1  # part of the error of the function itself that interpolation may add
_KNOWN = 0.01  # the function counts as known where its own error is below this part of its size
_PREDICTABLE = 64.0  # times the tolerance: from there one more doubling does, and the order tells what is enough
_DIRECT_SHARE = 0.1  # part of the span at most in which the function itself is called
_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)
_SIXTH_DIFFERENCE = np.array([1.0, -6.0, 15.0, -20.0, 15.0, -6.0, 1.0])
_AT_KNOTS = np.array([1.0, 26.0, 66.0, 26.0, 1.0]) / 120.0
_TRIALS = 3  # numbers of cells that are tried on a panel
_SAMPLED = 65  # points in x from which the need of panels in time is seen
_BETWEEN = (0, 3, 6)  # gaps of the nodes in time in whose middle the table is checked


class NotTabulated(Exception):
    """A function cannot be tabulated to the tolerance; says why."""


@dataclass(frozen=True)
class Tabulation:
    """Panels of a table with the errors that were measured between its nodes.

    `error` is the largest, relative to the largest value of about the same time, where the function itself is known.
    `rms_error` and `rms_noise` are absolute: of the interpolation and of the function itself, under the density in x
    and over all times.
    """

    panels: tuple[Panel, ...]
    rtol: float
    error: float
    rms_error: float
    rms_noise: float
    evaluations: int

    @property
    def filled(self) -> list[Panel]:
        """Panels that have a table."""
        return [panel for panel in self.panels if panel.rows is not None]

    @property
    def shape(self) -> tuple[int, int]:
        """Nodes in x of the finest panel, and nodes in t of all of them."""
        return max(panel.cells + 1 for panel in self.filled), NODES * len(self.filled)

    @property
    def region(self) -> tuple[float, float]:
        """Hull of the regions of all times."""
        return min(panel.left for panel in self.filled), max(panel.right for panel in self.filled)

    @property
    def direct(self) -> float:
        """Part of the time in which the function itself is called, because no panel is fine enough."""
        whole = self.panels[-1].end - self.panels[0].start
        return 1.0 - sum(panel.end - panel.start for panel in self.filled) / whole

    @property
    def description(self) -> str:
        """Size and region, for a reader."""
        (nodes, times), (left, right) = self.shape, self.region
        text = f"{nodes} x {times} on [{left:.4g}, {right:.4g}]"
        return text + (f", called directly in {self.direct:.2g} of the time" if self.direct > 1e-9 else "")


def tabulate(
    fill: Fill,
    region: Region,
    t_span: tuple[float, float],
    rtol: float,
    noise: Fill | None = None,
    density: Fill | None = None,
) -> Tabulation:
    """Tabulate `fill(x, t)` on the `region(t)` for the times of `t_span`, or raise NotTabulated.

    Time is halved where eight Chebyshev nodes do not do; what is not resolved by 2^-12 of the span is left out, and is
    asked from the function. `noise` is the error of the function itself: there is no use in interpolating it much
    better. `density` weighs x in the mean errors.
    """
    return _Tabulator(fill, region, t_span, rtol, noise, density).run()


def spline_coefficients(values: np.ndarray) -> np.ndarray:
    """Coefficients (…, cells + 5) of quintic splines through equally spaced `values` (…, cells + 1), not-a-knot."""
    n = values.shape[-1]
    size = n + DEGREE - 1
    right = np.zeros((size, values.size // n))
    right[2 : 2 + n] = values.reshape(-1, n).T
    bands = np.zeros((13, size))
    for row, first in ((0, 0), (1, 1), (size - 2, size - 8), (size - 1, size - 7)):
        for k, weight in enumerate(_SIXTH_DIFFERENCE):
            bands[6 + row - (first + k), first + k] = weight
    for k, weight in enumerate(_AT_KNOTS):
        bands[6 + 2 - k, k : k + n] = weight
    return solve_banded((6, 6), bands, right, check_finite=False).T.reshape(*values.shape[:-1], size)


def spline_at(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Values (rows, places) of splines at places in units of cells."""
    out = np.empty((rows.shape[0], places.size))
    spline_values(np.ascontiguousarray(rows), places, out)
    return out


def _combined(rows: Any, part: float) -> np.ndarray:
    weights = np.empty(NODES)
    time_weights(part, weights)
    return weights @ rows


class _Unresolved(Exception):
    """A stretch of time needs shorter panels; says why."""


class _Tabulator:
    def __init__(
        self,
        fill: Fill,
        region: Region,
        t_span: tuple[float, float],
        rtol: float,
        noise: Fill | None,
        density: Fill | None,
    ) -> None:
        self._fill, self._region, self._t_span, self._rtol = fill, region, t_span, rtol
        self._noise, self._density = noise, density
        self._evaluations, self._error = 0, 0.0
        self._squares: list[np.ndarray] = []  # of interpolation and noise, times the length of the panel

    def run(self) -> Tabulation:
        """Halve panels, from the left, until each is resolved or too short."""
        self._check_promising()
        t0, t1 = self._t_span
        waiting, panels = [(0, 1)], []  # (place, parts): panel number `place` of that many equal ones
        direct = 0.0
        while waiting:
            place, parts = waiting.pop()
            start, end = (t1 if k == parts else t0 + (t1 - t0) * (k / parts) for k in (place, place + 1))
            try:
                panels.append(self._panel(start, end))
            except _Unresolved as why:
                if parts < _MOST_PARTS:
                    waiting += [(2 * place + 1, 2 * parts), (2 * place, 2 * parts)]
                    continue
                panels.append(Panel(start, end, 0.0, 0.0, None))
                direct += 1.0 / parts
                if direct > _DIRECT_SHARE:
                    raise NotTabulated(str(why)) from None
        rms = np.sqrt(np.sum(self._squares, axis=0) / (t1 - t0))
        return Tabulation(tuple(panels), self._rtol, self._error, float(rms[0]), float(rms[1]), self._evaluations)

    def _check_promising(self) -> None:
        """Give up early where cells in x do not do at any of three times: halving time would not help."""
        t0, t1 = self._t_span
        for part in (0.79, 0.47, 0.21):
            t = t0 + part * (t1 - t0)
            try:
                left, right = self._common_region(t, t)
                x = np.linspace(left, right, _SAMPLED)
                self._enough_cells(left, right, np.array([t]), self._scale(x, [t], [self._values(x, t)]))
                return
            except _Unresolved as why:
                reason = str(why)
        raise NotTabulated(reason)

    def _panel(self, start: float, end: float) -> Panel:
        left, right = self._common_region(start, end)
        times = start + (end - start) * LOBATTO
        tests = [0.5 * (times[k] + times[k + 1]) for k in _BETWEEN]
        x = left + (right - left) * ((0.5 + _GOLDEN * np.arange(_SAMPLED)) % 1.0)
        seen = np.array([self._values(x, t) for t in times])
        scale = self._scale(x, times[:: NODES - 1], seen[:: NODES - 1])
        for t in tests:
            gap = np.abs(_combined(seen, (t - start) / (end - start)) - self._values(x, t))
            ratio, error = self._judged(gap, self._noise_at(x, t), scale)
            if not ratio <= 1.0:
                raise _Unresolved(f"an error {error:.1e} of interpolation in time is left at t={t:g}")
        cells = self._enough_cells(left, right, times[[0, NODES // 2, NODES - 1]], scale)
        for _ in range(_TRIALS):
            nodes = np.linspace(left, right, cells + 1)
            panel = Panel(
                start, end, left, right, spline_coefficients(np.array([self._values(nodes, t) for t in times]))
            )
            ratio, error, squares = self._measured(panel, tests, scale)
            if ratio <= 1.0:
                self._error = max(self._error, error)
                self._squares.append((end - start) * squares)
                return panel
            cells = 2 * cells  # a function that is known only so well does not converge at the order of the spline
        raise _Unresolved(f"an error {error:.1e} is left at times from {start:g} to {end:g}")

    def _measured(self, panel: Panel, tests: list[float], scale: float) -> tuple[float, float, np.ndarray]:
        """Measure between the nodes, at one place in each cell at each of the times.

        Return the largest miss in units of what is allowed, the largest relative error where the function is known, and
        the mean squares of the interpolation error and of the noise.
        """
        ratios, errors, squares = [], [], []
        number, width = np.arange(panel.cells), (panel.right - panel.left) / panel.cells
        for k, t in enumerate(tests):
            places = number + (0.25 + 0.25 * k + _GOLDEN * number) % 1.0
            x = panel.left + width * places
            row = _combined(panel.rows, (t - panel.start) / (panel.end - panel.start))
            gap, noise = np.abs(spline_at(row[None], places)[0] - self._values(x, t)), self._noise_at(x, t)
            ratio, error = self._judged(gap, noise, scale)
            weights = np.ones(x.shape) if self._density is None else self._asked(self._density, x, float(t))
            squares.append([weights @ gap**2 / weights.sum(), weights @ noise**2 / weights.sum()])
            ratios.append(ratio)
            errors.append(error)
        return max(ratios), max(errors), np.mean(squares, axis=0)

    def _common_region(self, start: float, end: float) -> tuple[float, float]:
        """Region at all times of a panel, from its ends and its middle, if it does not change much meanwhile."""
        spans = np.array([self._asked(self._region, t) for t in (start, 0.5 * (start + end), end)])
        left, right = float(spans[:, 0].max()), float(spans[:, 1].min())
        if not right - left > 0.5 * float(spans[:, 1].max() - spans[:, 0].min()):
            raise _Unresolved(f"its region changes too fast at times from {start:g} to {end:g}")
        return left, right

    def _values(self, x: np.ndarray, t: float) -> np.ndarray:
        self._evaluations += x.size
        if self._evaluations > MOST_VALUES:
            raise NotTabulated(f"a table needs more than {MOST_VALUES:.0e} values")
        values = self._asked(self._fill, x, float(t))
        if not np.isfinite(values).all():
            raise _Unresolved(f"it is not finite at x={x[~np.isfinite(values)][0]:g}, t={t:g}")
        return values

    def _asked(self, fn: Callable[..., Any], *arguments: Any) -> Any:
        try:
            with np.errstate(all="ignore"):  # what is not finite is not tabulated
                return fn(*arguments)
        except Exception as problem:  # there is no table here, and who comes here meets the exception itself
            raise _Unresolved(f"it raises {type(problem).__name__} at t={arguments[-1]:g}") from None

    def _scale(self, x: np.ndarray, times: Any, seen: Any) -> float:
        """Largest value, at places where the function is known to 1 %, if there are any."""
        sizes = np.abs(seen)
        known = np.array([self._noise_at(x, t) for t in times]) <= _KNOWN * sizes
        return float(sizes[known].max() if known.any() else sizes.max())

    def _noise_at(self, x: np.ndarray, t: float) -> np.ndarray:
        """Error of the function; an estimate that happens to vanish at some point is not believed there."""
        if self._noise is None:
            return np.zeros(x.shape)
        noise = self._asked(self._noise, x, float(t))
        return np.maximum(noise, np.median(noise))

    def _judged(self, gap: np.ndarray, noise: np.ndarray, scale: float) -> tuple[float, float]:
        """Return (largest gap, in units of what is allowed; relative error where the function is known)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(gap > 0.0, gap / (self._rtol * scale + _OF_NOISE * noise), 0.0).max()
        return float(ratio), float(gap[noise <= _KNOWN * scale].max(initial=0.0)) / max(scale, 1e-300)

    def _enough_cells(self, left: float, right: float, times: np.ndarray, scale: float) -> int:
        """Cells that resolve the function at some times: doubled until the error predicts how many."""
        cells, nodes = _FEWEST_CELLS, np.linspace(left, right, _FEWEST_CELLS + 1)
        values = np.array([self._values(nodes, t) for t in times])
        while cells <= _MOST_CELLS:
            places = np.arange(cells) + 0.5
            x = left + (right - left) * (places / cells)
            found = spline_at(spline_coefficients(values), places)
            refined = np.empty((times.size, 2 * cells + 1))
            refined[:, ::2] = values
            worst = 0.0
            for k, t in enumerate(times):
                refined[k, 1::2] = self._values(x, t)
                ratio, _ = self._judged(np.abs(found[k] - refined[k, 1::2]), self._noise_at(x, t), scale)
                worst = max(worst, ratio)
            if worst <= _PREDICTABLE:
                return math.ceil(cells * max(1.0, (2.0 * worst) ** (1.0 / (DEGREE + 1))))
            cells, values = 2 * cells, refined
        raise _Unresolved(f"{_MOST_CELLS} cells do not resolve it in x at t={times[0]:g} to {times[-1]:g}")
