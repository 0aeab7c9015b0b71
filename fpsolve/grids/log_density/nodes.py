"""Points of one slab of time for the log-density: spacing by a length scale, stencils, closures, interpolation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import PchipInterpolator

from fpsolve.kernels.log_density import BAND, REACH, derivatives, fold, weigh

BETA = 0.5  # growth of the length scale with the distance from where it is small
_POINTS = 10  # of the local polynomials that interpolate
_GAUSS, _GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(6)


@dataclass(frozen=True)
class Closure:
    """The tail beyond one end: a polynomial of `degree` in x - centre, or with `log` in log|x - centre|."""

    degree: int
    log: bool = False
    centre: float = 0.0

    def coordinate(self, x: np.ndarray) -> np.ndarray:
        """What the tail is a polynomial of."""
        return np.log(np.abs(x - self.centre)) if self.log else x - self.centre

    @property
    def row(self) -> tuple[float, float, float]:
        """The closure as the kernel takes it."""
        return float(self.degree), float(self.log), self.centre


def lagrange(nodes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Weights (m, k) of values at nodes (m or 1, k) in their polynomial at points (m,)."""
    apart, count = at[:, None] - nodes, nodes.shape[1]
    weights = np.ones((at.size, count))
    for k in range(count):
        for j in range(count):
            if j != k:
                weights[:, k] *= apart[:, j] / (nodes[:, k] - nodes[:, j])
    return weights


def _extended(x: np.ndarray) -> np.ndarray:
    """Points, or their velocities, with four more on each side that continue them by their last spacing."""
    steps = np.arange(1.0, REACH + 1.0)
    return np.concatenate([x[0] - (x[1] - x[0]) * steps[::-1], x, x[-1] + (x[-1] - x[-2]) * steps])


class Nodes:
    """Points x (n,) at time `begun` that move with a velocity (n,), and polynomials through values at them."""

    def __init__(
        self,
        x: np.ndarray,
        closures: tuple[Closure, Closure],
        velocity: np.ndarray | None = None,
        begun: float = 0.0,
    ) -> None:
        self.x, self.closures, self.velocity, self.begun = x, closures, velocity, begun

    @cached_property
    def points(self) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
        """What the kernel takes."""
        still = np.zeros(self.x.size) if self.velocity is None else self.velocity
        closures = np.array([closure.row for closure in self.closures])
        return _extended(self.x), _extended(still), self.begun, closures

    def at(self, t: float) -> Nodes:
        """The points at time t, at rest."""
        if self.velocity is None or t == self.begun:
            return Nodes(self.x, self.closures)
        return Nodes(self.x + (t - self.begun) * self.velocity, self.closures)

    def until_they_meet(self) -> float:
        """Time after which the first cell has no length."""
        if self.velocity is None:
            return math.inf
        closing = np.maximum(-np.diff(self.velocity), 0.0).max()
        return float((np.diff(self.x) / np.maximum(-np.diff(self.velocity), 1e-300)).min()) if closing else math.inf

    def every(self, step: int) -> Nodes:
        """Every second or fourth of the points."""
        velocity = None if self.velocity is None else self.velocity[::step]
        return Nodes(self.x[::step], self.closures, velocity, self.begun)

    def without(self, count: int) -> Nodes:
        """All but the first and last `count` points."""
        velocity = None if self.velocity is None else self.velocity[count:-count]
        return Nodes(self.x[count:-count], self.closures, velocity, self.begun)

    @cached_property
    def _weights(self) -> np.ndarray:
        weights = np.empty((2, BAND, self.x.size))
        extended, _, _, closures = self.points
        weigh(extended, weights)
        fold(extended, closures, weights)
        return weights

    def derivatives(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and second derivative at the points, at time `begun`."""
        first, second = np.empty(values.size), np.empty(values.size)
        derivatives(values, self._weights, np.empty(values.size + 2 * REACH), first, second)
        return first, second

    def interpolate(self, values: np.ndarray, x: np.ndarray, points: int = _POINTS) -> np.ndarray:
        """Local polynomials through values at the points, and the closures beyond the ends."""
        inside = np.clip(x, self.x[0], self.x[-1])
        first = np.searchsorted(self.x, inside) - points // 2
        index = np.clip(first, 0, self.x.size - points)[:, None] + np.arange(points)
        out = (lagrange(self.x[index], inside) * values[index]).sum(axis=1)
        for side, closure in enumerate(self.closures):
            outside = x < self.x[0] if side == 0 else x > self.x[-1]
            if outside.any():
                known, near = (self.x, values) if side == 0 else (self.x[::-1], values[::-1])
                tail = closure.coordinate(known[None, : closure.degree + 1])
                out[outside] = lagrange(tail, closure.coordinate(x[outside])) @ near[: closure.degree + 1]
        return out

    @cached_property
    def _gauss(self) -> tuple[np.ndarray, np.ndarray]:
        """Points (cells, 6) and weights of a quadrature in each cell."""
        half = 0.5 * np.diff(self.x)[:, None]
        return self.x[:-1, None] + half * (1.0 + _GAUSS), half * _GAUSS_WEIGHTS

    def cell_integrals(self, logs: np.ndarray) -> np.ndarray:
        """∫ exp(log q) over each cell between two points."""
        places, weights = self._gauss
        between = self.interpolate(logs, places.ravel()).reshape(places.shape)
        with np.errstate(under="ignore", over="ignore"):
            return (np.exp(between) * weights).sum(axis=1)


def length_scale(nodes: Nodes, logs: np.ndarray) -> np.ndarray:
    """Length (n,) on which log q departs from a parabola: |φ'''|^(-1/3), less what is rounding.

    Across a layer in which the score rises by Δ, its least is about 2/Δ.
    """
    x = nodes.x
    second = nodes.derivatives(logs)[1]
    third = nodes.derivatives(second)[0]
    widths = np.gradient(x)
    noise = 1e-14 * (np.abs(logs) + 1.0) / widths**3
    bend = np.maximum(np.abs(third) - noise, 0.0)
    near = logs > logs.max() - 40.0
    curved = np.sqrt(np.maximum(-second, 0.0)) / 6.0 * near
    with np.errstate(divide="ignore"):
        return 1.0 / np.maximum(np.cbrt(bend), curved)


def envelope(x: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted points and the largest function below `scale` there that grows by at most BETA."""
    order = np.argsort(x)
    x, scale = x[order], scale[order]
    ahead = np.minimum.accumulate(scale - BETA * x) + BETA * x
    behind = (np.minimum.accumulate((scale + BETA * x)[::-1])[::-1]) - BETA * x
    return x, np.minimum(ahead, behind)


def dilated(x: np.ndarray, scale: np.ndarray, times: float) -> tuple[np.ndarray, np.ndarray]:
    """Points and scales that reach `times` their length further on both sides."""
    parts = np.linspace(-times, times, 2 * math.ceil(times) + 1)
    known = np.isfinite(scale)
    x, scale = x[known], scale[known]
    return (x + parts[:, None] * scale).ravel(), np.tile(scale, parts.size)


class Spacing:
    """A length scale over [left, right] from which points are made: `cells` per length.

    It is nowhere above `widest`, a pair of points that reach from end to end and lengths there.
    """

    def __init__(
        self, x: np.ndarray, scale: np.ndarray, widest: tuple[np.ndarray, np.ndarray], left: float, right: float
    ) -> None:
        scale = np.append(np.minimum(scale, np.interp(x, *widest)), widest[1])
        x = np.append(x, widest[0])
        inside = (x >= left) & (x <= right) & np.isfinite(scale)
        self.x, self.scale = envelope(x[inside], scale[inside])
        keep = np.append(True, np.diff(self.x) > 1e-12 * (right - left))
        self.x, self.scale = self.x[keep], self.scale[keep]
        # the envelope has a corner between two points: what is between is less wide than the mean
        between = 0.5 * (self.scale[1:] + self.scale[:-1])
        self.count = np.append(0.0, np.cumsum(np.diff(self.x) / between))

    def points(self, cells: int) -> np.ndarray:
        """Points of `cells` cells that are equal in units of the length scale."""
        places = np.linspace(0.0, self.count[-1], cells + 1)
        x = PchipInterpolator(self.count, self.x)(places)
        x[0], x[-1] = self.x[0], self.x[-1]
        return x

    def at(self, x: np.ndarray) -> np.ndarray:
        """Length scale at points."""
        return np.interp(x, self.x, self.scale)
