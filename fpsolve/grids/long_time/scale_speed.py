"""Scale and speed of an autonomous diffusion in log space, on panels of Gauss points that resolve them.

With Ψ = ∫ 2f/g² the scale density is e^-Ψ, the speed density 2 e^Ψ/g². Only their logarithms are kept, so that neither
the depth of a well nor the length of a tail is limited by the range of float64.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.polynomial import legendre

from fpsolve.errors import InputError
from fpsolve.grids.long_time.coordinate import Coordinate
from fpsolve.problem.coefficient import Coefficient
from fpsolve.problem.process import Process

Array = np.ndarray
NODES = 16
DEPTH = 700.0  # logarithms of densities that far below their top are zero in float64
_COARSE = 0.5  # width of the panels in v of the first look
_WIDEST, _STEEPEST = 1.0, 4.0  # of a panel: its width in v, and the change of a logarithm along it
_RESOLVED = 1e-13
_MOST_PANELS = 4000
_SETTLED = 1e-3  # slopes of logarithms below this do not decide whether an integral converges
_RECENTRINGS, _NEAR = 30, 30.0  # the peak shall stand within so many scales, and be as wide as one to this factor
_STEEP, _DEEP = 1e4, 1e5  # fall of Ψ along a panel, and up to there, beyond both of which it is left out
MOVED = 2.0**-33  # part by which places are moved to see rounding: large beside it, small beside everything else
ROUNDED = 5.0 * 2.3e-16 / MOVED  # what that changes, times this, is the error of rounding
_TIMES = (0.0, 0.1, 0.37, 1.0, 2.718, 11.3)


@lru_cache
def gauss(n: int) -> tuple[Array, Array, Array, Array]:
    """Nodes and weights on (-1, 1), the matrix of running integrals to the nodes, and that of Legendre coefficients."""
    nodes, weights = legendre.leggauss(n)
    degrees = np.arange(n)
    to_coefficients = (legendre.legvander(nodes, n - 1) * weights[:, None]).T * (degrees[:, None] + 0.5)
    antiderivatives = np.array([legendre.legval(nodes, legendre.legint(row, lbnd=-1)) for row in np.eye(n)]).T
    return nodes, weights, antiderivatives @ to_coefficients, to_coefficients


@dataclass(frozen=True)
class ScaleSpeed:
    """Logarithms of scale and speed at the nodes of panels in v; arrays have the shape (panels, nodes).

    `rise` is Ψ less a constant, `rise_at_edges` that at the edges, `log_noise` log g².
    """

    coordinate: Coordinate
    edges: Array
    v: Array
    x: Array
    log_slope: Array
    rise: Array
    rise_at_edges: Array
    log_noise: Array

    @cached_property
    def half(self) -> Array:
        """Half the widths of the panels, as a column."""
        return 0.5 * np.diff(self.edges)[:, None]

    @cached_property
    def log_weights(self) -> Array:
        """Logarithms of the weights of an integral over x."""
        return np.log(self.half * gauss(self.v.shape[1])[1]) + self.log_slope

    @cached_property
    def log_speed(self) -> Array:
        """log of the speed density 2 e^Ψ/g², per dx."""
        return math.log(2.0) - self.log_noise + self.rise

    @property
    def log_scale(self) -> Array:
        """log of the scale density e^-Ψ, per dx."""
        return -self.rise

    def outer_slopes(self, logs: Array) -> Array:
        """Mean slopes in v of logarithms along the outermost panels."""
        ends = [0, -1]
        return (logs[ends, -1] - logs[ends, 0]) / (self.v[ends, -1] - self.v[ends, 0])

    def tail(self, log_density: Array, side: int) -> float:
        """log of the integral beyond an outermost edge, where the density per dv goes on as an exponential of v."""
        panel, where = (0, (0, -1)) if side == 0 else (-1, (-1, 0))
        logs = (log_density + self.log_slope)[panel]
        v = self.v[panel]
        rate = (logs[where[1]] - logs[where[0]]) / abs(v[where[1]] - v[where[0]])
        if rate < _SETTLED:
            return math.inf
        distance = abs(self.edges[panel] - v[where[0]])
        return float(logs[where[0]] - rate * distance - math.log(rate))

    def running(self, log_density: Array, start: float, *, backwards: bool = False) -> tuple[Array, Array]:
        """Logs of the integral from the left (or right) end to the nodes and the edges; `start` is what lies before."""
        logs = log_density + self.log_slope
        half = self.half
        if backwards:
            logs, half = logs[::-1, ::-1], half[::-1]
        _, weights, integrals, _ = gauss(logs.shape[1])
        top = logs.max(axis=1, keepdims=True)
        parts = np.exp(logs - top)
        with np.errstate(divide="ignore"):
            inside = np.log(np.maximum(parts @ integrals.T, 0.0) * half) + top
            whole = np.log(parts @ weights) + np.log(half[:, 0]) + top[:, 0]
        at_edges = np.logaddexp.accumulate(np.concatenate([[start], whole]))
        at_nodes = np.logaddexp(at_edges[:-1, None], inside)
        return (at_nodes[::-1, ::-1], at_edges[::-1]) if backwards else (at_nodes, at_edges)

    def within(self, first: int, last: int) -> ScaleSpeed:
        """Only the panels first ≤ p < last."""
        rows = slice(first, last)
        arrays = {name: getattr(self, name)[rows] for name in ("v", "x", "log_slope", "rise", "log_noise")}
        ends = {name: getattr(self, name)[first : last + 1] for name in ("edges", "rise_at_edges")}
        return replace(self, **arrays, **ends)

    def place(self, x: Array) -> tuple[Array, Array]:
        """Panel of each point, and its place in (-1, 1) there; beyond the panels the place is outside (-1, 1)."""
        v = self.coordinate.v(x)
        panel = np.clip(np.searchsorted(self.edges, v, side="right") - 1, 0, self.half.size - 1)
        with np.errstate(invalid="ignore"):
            return panel, (v - self.edges[panel]) / self.half[panel, 0] - 1.0

    def interpolate(self, values: Array, x: Array) -> Array:
        """Values at points from values (..., panels, nodes): polynomials in v, constant beyond the outermost edges."""
        panel, place = self.place(x)
        n = values.shape[-1]
        basis = legendre.legvander(np.clip(place, -1.0, 1.0), n - 1) @ gauss(n)[3]
        return np.einsum("...xn,xn->...x", values[..., panel, :], basis)


def _where_known(coefficient: Coefficient, x: Array, t: float) -> Array:
    """Values, NaN where the function refuses or overflows: far out few functions were tried."""
    try:
        return coefficient.raw(x, t)
    except (ArithmeticError, ValueError):
        values = np.full(x.shape, math.nan)
        for i in range(x.size):
            with suppress(ArithmeticError, ValueError):
                values[i] = coefficient.raw(x[i : i + 1], t)[0]
        return values


def _useful(rises: Array) -> int:
    """Number of panels from the base outwards before Ψ has fallen far and falls on in steps too large for a panel."""
    with np.errstate(invalid="ignore"):
        fallen = np.maximum.accumulate(rises)[:-1] - rises[:-1]
        lost = ~(np.diff(rises) > -_STEEP) & (fallen > _DEEP)
    return int(np.argmax(lost)) if lost.any() else lost.size


class Autonomous:
    """The coefficients of an Itô process that does not depend on time, as functions of x alone."""

    def __init__(self, process: Any, what: str) -> None:
        if not isinstance(process, Process):
            raise InputError("process must be an fps.SDE", process, "declare it with fps.SDE(drift, diffusion)")
        if process.is_ode:
            raise InputError(f"{what} needs noise", "an ODE", "declare an fps.SDE with a diffusion")
        if any(process.moving):
            raise InputError(f"{what} needs ends at rest", "a moving wall", "use fps.solve_fokker_planck")
        self.process = process.to_ito()
        self.time = self.process.probe_time
        self._check_constant(what)
        self.support, self.boundary = process.support, process.boundary
        self.ring = self.boundary[0] == "periodic"
        self.coordinate = Coordinate(*self.support, ring=self.ring)

    def _check_constant(self, what: str) -> None:
        for coefficient in (self.process.drift_coefficient, self.process.diffusion_coefficient):
            if not coefficient.uses_t:
                continue
            points = coefficient.probe_points()
            with np.errstate(all="ignore"):
                found = np.array([coefficient.raw(points, t) for t in (self.time, *_TIMES)])
            found = found[np.isfinite(found).all(axis=1)]
            spread = np.abs(found - found[0]).max(axis=1)
            if spread.max() > 1e-12 * np.abs(found).max():
                worst = int(np.argmax(spread))
                raise InputError(
                    f"{what} needs coefficients that do not depend on time",
                    f"a {coefficient.what} that changes by {spread[worst]:.3g}",
                    "freeze the time in it, or use fps.solve_fokker_planck",
                )

    def values(self, x: Array) -> tuple[Array, Array]:
        """Drift and g² at points; not finite or zero where they cannot be used."""
        with np.errstate(all="ignore"):
            flat = x.ravel()
            f, g = (
                _where_known(coefficient, flat, self.time)
                for coefficient in (self.process.drift_coefficient, self.process.diffusion_coefficient)
            )
            return f.reshape(x.shape), (g**2).reshape(x.shape)

    def sample(self, edges: Array, n: int = NODES, base: int = 0, moved: float = 0.0) -> ScaleSpeed:
        """Scale and speed on the panels between these edges in v, n nodes each; Ψ = 0 at the edge `base`.

        Places are `moved` by that part of them, to either side at random: what this changes is what rounding does.
        """
        nodes, weights, integrals, _ = gauss(n)
        half = 0.5 * np.diff(edges)[:, None]
        v = edges[:-1, None] + half * (1.0 + nodes)
        x, slope = self.coordinate.x(v), self.coordinate.slope(v)
        f, g2 = self.values(x + moved * np.random.default_rng(0).choice([-1.0, 1.0], x.shape) * x if moved else x)
        with np.errstate(all="ignore"):
            force = half * (2.0 * f / g2 * slope)
            rises = force @ weights
            # summed from the base outwards: far out Ψ may be so large that nothing is left of its values here
            before = -np.cumsum(rises[:base][::-1])[::-1]
            at_edges = np.concatenate([before, [0.0], np.cumsum(rises[base:])])
            inside = force @ integrals.T
            inside[:base] -= rises[:base, None]
            anchors = np.where(np.arange(half.size) < base, at_edges[1:], at_edges[:-1])
            rise = anchors[:, None] + inside
            return ScaleSpeed(self.coordinate, edges, v, x, np.log(slope), rise, at_edges, np.log(g2))

    def look(self) -> ScaleSpeed:
        """Scale and speed over the whole range that float64 knows, coarsely; on the line about the highest peak."""
        found = self._look()
        for _ in range(_RECENTRINGS if not np.isfinite(self.support).any() else 0):
            x, logs = found.x.ravel(), found.log_speed.ravel()
            top = int(np.argmax(logs))
            lower = np.flatnonzero(logs < logs[top] - 1.0)
            left, right = lower[lower < top], lower[lower > top]
            if not (left.size and right.size):
                break  # it grows towards an end
            width = min(x[top] - x[left[-1]], x[right[0]] - x[top])
            old = self.coordinate
            if abs(x[top] - old.centre) < _NEAR * old.scale and old.scale / _NEAR < width < old.scale * _NEAR:
                break
            self.coordinate = Coordinate(*self.support, centre=float(x[top]), scale=float(width))
            found = self._look()
        return found

    def _look(self) -> ScaleSpeed:
        low, high = self.coordinate.limits()
        panels = 40 if self.ring else max(8, math.ceil((high - low) / _COARSE))
        edges = np.linspace(low, high, panels + 1)
        found = self.sample(edges)
        f, g2 = self.values(found.x)
        inside = (found.x > self.support[0]) & (found.x < self.support[1])
        with np.errstate(all="ignore"):
            force = 2.0 * f / g2 * np.exp(found.log_slope)
        good = (np.isfinite(force) & np.isfinite(found.log_noise) & inside).all(axis=1)
        points = self.process.drift_coefficient.probe_points()
        base = int(found.place(points[2:3] + self.coordinate.centre)[0][0])
        if not good[base] or (self.ring and not good.all()):
            raise InputError(
                "the noise must not vanish inside the support",
                f"2f/g² that is not finite near x={found.x[base, 0]:.6g}",
                "declare the support of the process that moves, from one zero of g to the next",
            )
        bad = np.flatnonzero(~good)
        first = int(bad[bad < base].max(initial=-1)) + 1
        last = int(bad[bad > base].min(initial=good.size))
        found = self.sample(edges[first : last + 1], base=base - first)
        # far below everything else the panels resolve nothing, and what they say is not needed
        right = _useful(found.rise_at_edges[base - first :])
        left = _useful(found.rise_at_edges[base - first :: -1]) if base > first else 0
        return found.within(base - first - left, base - first + right)

    def resolve(self, low: float, high: float, marks: tuple[float, ...] = ()) -> Array:
        """Edges in v between which 16 nodes resolve Ψ' and g², and nothing changes by more than e⁴."""
        if self.ring:
            start = np.linspace(low, high, 17)
        else:
            start = np.linspace(low, high, 1 + max(1, math.ceil((high - low) / _WIDEST)))
        edges = np.unique(np.concatenate([start, [m for m in marks if low < m < high]]))
        left, right = edges[:-1], edges[1:]
        done: list[Array] = []
        while left.size:
            rough = self._unresolved(left, right) & (right - left > 1e-12 * (1.0 + np.abs(left)))
            done.append(left[~rough])
            if sum(part.size for part in done) + 2 * int(rough.sum()) > _MOST_PANELS:
                raise InputError(
                    f"drift and noise must be resolved by {_MOST_PANELS} panels",
                    f"a stretch around x={float(self.coordinate.x(left[rough][:1])[0]):.6g} that is not",
                    "smooth them there, or narrow the support",
                )
            left, right = left[rough], right[rough]
            middle = 0.5 * (left + right)
            left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
        return np.append(np.sort(np.concatenate(done)), high)

    def _unresolved(self, left: Array, right: Array) -> Array:
        """Which panels are too wide."""
        nodes, _, _, to_coefficients = gauss(NODES)
        half = 0.5 * (right - left)[:, None]
        v = left[:, None] + half * (1.0 + nodes)
        x, slope = self.coordinate.x(v), self.coordinate.slope(v)
        f, g2 = self.values(x)
        force, log_noise = half * (2.0 * f / g2 * slope), np.log(g2)
        # rounding of x - end, seen through a coefficient that depends on it as a power
        noise = 1e-15 * (np.abs(x) / slope).max(axis=1) * (1.0 + np.abs(force).max(axis=1))
        too_much = np.ptp(log_noise, axis=1) > 2.0 * _STEEPEST
        too_much |= np.abs(force).max(axis=1) > 0.5 * _STEEPEST
        for values in (force, log_noise):
            size = np.maximum(np.abs(values).max(axis=1), 1.0)
            last = np.abs(values @ to_coefficients[-3:].T).max(axis=1)
            too_much |= last * np.minimum(half[:, 0], 1.0) > _RESOLVED * size + noise
        return too_much
