"""LogDensityEvolution: log q at any time and point, with errors by cause from levels that differ in one thing each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.ndimage import maximum_filter1d

from fpsolve.errors import check_choice, check_points
from fpsolve.grids.budgets import ErrorBudget
from fpsolve.grids.faced_law import FacedLaw
from fpsolve.grids.log_density.march import Track
from fpsolve.grids.log_density.nodes import Nodes
from fpsolve.grids.log_density.plan import middle_and_half
from fpsolve.grids.slices import CAUSES, EXACT, SOLVING
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law, pointwise
from fpsolve.problem.process import Process

REGION = 12.0  # standard deviations about the mean in which the score is judged
_WINDOW = 7
_LEAST, _SAFETY = 1.0 / 8.0, 4.0  # of the difference of two levels that is taken for the error of the finer one
_TIME = 2.0  # of the difference that steps in two parts make: the finest level has steps of its own
_ANYWHERE = 0.3  # of the tolerance of a step: so much it may be wrong where that shows no difference
_DOMAIN = 6.0  # of the difference to the narrower domain is taken for the error of the whole one
_KEPT = 64


@dataclass(frozen=True)
class Levels:
    """The solution; with half and a quarter of the points; with half, each step in two parts; on a narrower domain.

    The steps of `split` and `narrow` are those of `half`; `narrow` lacks some of its points near each end.
    """

    fine: Track
    half: Track
    quarter: Track | None
    split: Track
    narrow: Track


class Moment:
    """The solution at one time: points, log q, score, cell masses, and errors of log q and score by cause."""

    def __init__(self, levels: Levels, t: float) -> None:
        self.nodes, self.logs = levels.fine.at(t)
        self.score = self.nodes.derivatives(self.logs)[0]
        self.masses = self.nodes.cell_integrals(self.logs)
        self.middle, self.half = middle_and_half(self.nodes, self.logs)
        fine = np.array([self.logs, self.score])
        halves, split = (self._fields(track.at(t)) for track in (levels.half, levels.split))
        space = _windowed(halves - fine[:, ::2])
        if levels.quarter is not None:
            before = _windowed(self._fields(levels.quarter.at(t)) - halves[:, ::2])
            with np.errstate(divide="ignore", invalid="ignore"):
                shrink = np.clip(np.nan_to_num(_SAFETY * space[:, ::2] / before, nan=_LEAST), _LEAST, 1.0)
            space = space * _between(maximum_filter1d(shrink, 3, axis=1))
        domain = _DOMAIN * self._beyond_narrow(levels.narrow.at(t), halves)
        noise = 1e-15 * (np.abs(self.logs) + 30.0)
        floor = _ANYWHERE * levels.fine.tol * self.rms * np.array([[self.half], [1.0]])
        zero = np.zeros_like(fine)
        errors = {
            "space": _between(space),
            "time": _between(_TIME * _windowed(split - halves)) + floor,
            "domain": _between(domain),
            "initial": zero,
            "rounding": np.array([noise, 6.0 * noise / np.gradient(self.nodes.x)]),
        }
        self.errors = {"logpdf": {c: errors[c][0] for c in CAUSES}, "score": {c: errors[c][1] for c in CAUSES}}
        self.below = self._tail(0) + np.append(0.0, np.cumsum(self.masses))
        self.above = self._tail(-1) + np.append(np.cumsum(self.masses[::-1])[::-1], 0.0)

    def _beyond_narrow(self, found: tuple[Nodes, np.ndarray], halves: np.ndarray) -> np.ndarray:
        """Difference to the narrower domain, moved outwards: by what the end makes at the same distance from it."""
        cut = int(np.searchsorted(self.nodes.x[::2], 0.5 * (found[0].x[0] + found[0].x[1]))) - 1
        apart = _windowed(self._fields(found) - halves[:, cut:-cut])
        middle = halves.shape[1] // 2
        return np.concatenate([apart[:, :middle], apart[:, middle - halves.shape[1] :]], axis=1)

    def _tail(self, end: int) -> float:
        """Mass beyond one end, from the score there."""
        slope, curve = (float(v[end]) for v in self.nodes.derivatives(self.logs))
        outward = slope if end == 0 else -slope
        # of a power with exponent k the mass is q |x|/(k - 1) = q |s|/(s² - s'), of an exponential q/|s|
        power = slope * slope - max(curve, 0.0)
        return float(np.exp(self.logs[end])) * outward / power if outward > 0.0 and power > 0.0 else 0.0

    @staticmethod
    def _fields(found: tuple[Nodes, np.ndarray]) -> np.ndarray:
        nodes, logs = found
        return np.array([logs, nodes.derivatives(logs)[0]])

    def total(self, name: str) -> np.ndarray:
        """Sum of the errors of all causes at the points."""
        return sum(self.errors[name][cause] for cause in CAUSES)

    @property
    def lost(self) -> float:
        """What the integral of q misses to one."""
        return abs(float(self.masses.sum()) + self._tail(0) + self._tail(-1) - 1.0)

    @property
    def rms(self) -> float:
        """Root mean square of the score under q."""
        weight = np.exp(self.logs) * np.gradient(self.nodes.x)
        return float(np.sqrt((weight * self.score**2).sum() / weight.sum()))

    @property
    def region(self) -> np.ndarray:
        """Which points lie within REGION standard deviations of the mean."""
        return np.abs(self.nodes.x - self.middle) <= REGION * self.half


def _windowed(values: np.ndarray) -> np.ndarray:
    """Largest size over a window: differences change sign."""
    return maximum_filter1d(np.nan_to_num(np.abs(values), nan=np.inf), _WINDOW, axis=1, mode="nearest")


def _between(values: np.ndarray) -> np.ndarray:
    """Errors at every second point carried to all: the larger neighbour."""
    out = np.repeat(values, 2, axis=1)[:, :-1]
    out[:, 1::2] = np.maximum(values[:, :-1], values[:, 1:])
    return out


class LogDensityBudgets(Mapping[str, ErrorBudget]):
    """Error budgets by name, each computed when it is first asked for."""

    NORMS: ClassVar[dict[str, str]] = {
        "pdf": "sup, relative to max q",
        "cdf": "sup",
        "score": "L²(q)",
        "score_sup": f"sup over {REGION:g} standard deviations about the mean",
        "velocity": "L²(q)",
    }

    def __init__(self, evolution: LogDensityEvolution, times: np.ndarray) -> None:
        self._evolution, self._times = evolution, times

    def __getitem__(self, name: str) -> ErrorBudget:
        check_choice("an error budget", name, self.NORMS)
        rows = [self._row(name, float(t)) for t in self._times]
        parts = {cause: np.array([row[cause] for row in rows]) for cause in CAUSES}
        return ErrorBudget(self.NORMS[name], self._times, **parts)

    def _row(self, name: str, t: float) -> dict[str, float]:
        if self._evolution.starts_at(t):
            return {c: EXACT * (c == "rounding") for c in CAUSES}
        at = self._evolution.moment(t)
        q = np.exp(at.logs)
        weight = q * np.gradient(at.nodes.x)
        logs, score = at.errors["logpdf"], at.errors["score"]
        if name == "pdf":
            return {c: float((q * np.expm1(np.minimum(logs[c], 600.0))).max() / q.max()) for c in CAUSES}
        if name == "cdf":
            lost = {"domain": at.lost}
            return {c: float((weight * np.minimum(logs[c], 1.0)).sum()) + lost.get(c, 0.0) for c in CAUSES}
        if name == "score_sup":
            return {c: float(score[c][at.region].max()) for c in CAUSES}
        factor = 0.5 * self._evolution.noise(at.nodes.x, t) if name == "velocity" else 1.0
        return {c: float(np.sqrt((weight * (factor * score[c]) ** 2).sum())) for c in CAUSES}

    def __iter__(self) -> Iterator[str]:
        return iter(self.NORMS)

    def __len__(self) -> int:
        return len(self.NORMS)


class LogDensityEvolution(Evolution):
    """Path of densities from their logarithms: log q and its score are accurate where q itself underflows.

    In the reversed clock it is r(x, τ) = q(x, t1 - τ), and `value(x, τ)` is V = -log r.
    """

    initial: Law

    def __init__(
        self,
        process: Process,
        initial: Law,
        levels: Levels,
        times: np.ndarray,
        reversed_span: tuple[float, float] | None,
        grid: Grid | None,
    ) -> None:
        self.process, self.initial, self.grid = process, initial, grid
        self._levels, self._reversed = levels, reversed_span
        span = levels.fine.equation.span
        self._forward_span = span
        self.t_span = span if reversed_span is None else (0.0, span[1] - span[0])
        self._moments: OrderedDict[float, Moment] = OrderedDict()
        self._ito = process.to_ito()
        self._stats: dict[str, Any] = {}
        self.error: Mapping[str, ErrorBudget] = LogDensityBudgets(self, times)

    @property
    def stats(self) -> dict[str, Any]:
        """Counters of the work: points, slabs, steps, point-steps, seconds, domain, mass defect."""
        return self._stats

    def described(self, message: str, stats: dict[str, Any]) -> LogDensityEvolution:
        """The same with an account of how it came to be."""
        self.message, self._stats = message, stats
        return self

    def _forward(self, t: float) -> float:
        """The time of the forward process."""
        if self._reversed is None:
            return t
        return float(np.clip(self._forward_span[1] - t, *self._forward_span))

    def noise(self, x: np.ndarray, t: float) -> np.ndarray:
        """The g² of the forward process."""
        return self._ito.diffusion_squared(x, self._forward(t))

    def moment(self, t: float) -> Moment:
        """Points, fields and errors at one time."""
        time = self._forward(self.check_t(t))
        with SOLVING:
            if time not in self._moments:
                if len(self._moments) >= _KEPT:
                    self._moments.popitem(last=False)
                self._moments[time] = Moment(self._levels, time)
            return self._moments[time]

    def starts_at(self, t: float) -> bool:
        """Whether the law is the initial one at `t`."""
        return self._forward(t) == self._forward_span[0]

    def at(self, t: float) -> Law:
        """Return the law at time `t`."""
        time = self.check_t(t)
        return self.initial if self.starts_at(time) else LogDensityLaw(self, time)

    def value(self, x: Any, t: float) -> np.ndarray:
        """V = -log q, the value function of the control problem of the reversed clock."""
        return -self.logpdf(x, t)

    def velocity(self, x: Any, t: float) -> np.ndarray:
        """Velocity of the forward process, f - ½ ∂x g² - ½ g² s; in the reversed clock with the other sign."""
        return self.with_error("velocity", x, t)[0]

    def flux(self, x: Any, t: float) -> np.ndarray:
        """Probability flux J = q v."""
        return self.flux_with_error(x, t)[0]

    def flux_with_error(self, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the flux and its estimated error."""
        (v, v_error), (q, q_error) = (self.with_error(name, x, t) for name in ("velocity", "pdf"))
        return q * v, q * v_error + np.abs(v) * q_error

    def with_error(self, name: str, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (values, estimated errors) of "pdf", "logpdf", "score", "cdf", "sf" or "velocity" at points `x`.

        Beyond the ends of the points log q continues by the closures; its errors there are infinite.
        """
        check_choice("name", name, ("pdf", "logpdf", "score", "cdf", "sf", "velocity"))
        points, time = check_points("x", x), self.check_t(t)
        flat = points.ravel()
        if self.starts_at(time) and name != "velocity":
            values = np.asarray(getattr(self.initial, name)(flat))
            return values.reshape(points.shape), (EXACT * (1.0 + np.abs(values))).reshape(points.shape)
        values, error = getattr(self, f"_{name}")(flat, time)
        return values.reshape(points.shape), error.reshape(points.shape)

    def _field(self, name: str, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        at = self.moment(t)
        values = at.logs if name == "logpdf" else at.score
        inside = np.clip(x, at.nodes.x[0], at.nodes.x[-1])
        found = at.nodes.interpolate(values, x)
        error = np.interp(inside, at.nodes.x, at.total(name)) + np.abs(found - at.nodes.interpolate(values, x, 8))
        return found, np.where(inside == x, error, np.inf)

    def _logpdf(self, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        return self._field("logpdf", x, t)

    def _score(self, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        return self._field("score", x, t)

    def _pdf(self, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        logs, error = self._field("logpdf", x, t)
        with np.errstate(under="ignore"):
            q = np.exp(logs)
        return q, np.where(np.isinf(error), q, q * np.expm1(np.minimum(error, 600.0)))

    def _velocity(self, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        if self.starts_at(t):
            s, error = np.asarray(self.initial.score(x)), EXACT * np.ones(x.shape)
        else:
            s, error = self._field("score", x, t)
        time, p = self._forward(t), self._ito
        g2 = p.diffusion_squared(x, time)
        v = p.drift(x, time) - 0.5 * p.diffusion_squared_dx(x, time) - 0.5 * g2 * s
        return (v if self._reversed is None else -v), 0.5 * g2 * error + 1e-12 * np.abs(v)

    def _side(self, x: np.ndarray, t: float, upper: bool) -> tuple[np.ndarray, np.ndarray]:
        at = self.moment(t)
        nodes, (one, other) = at.nodes.x, (at.above, at.below) if upper else (at.below, at.above)
        inside = np.clip(x, nodes[0], nodes[-1])
        cell = np.clip(np.searchsorted(nodes, inside) - 1, 0, nodes.size - 2)
        part = _part_of_cell(at, cell, inside, upper)
        start = one[cell + 1] if upper else one[cell]
        value = np.minimum(start + part, one[0] if upper else one[-1])
        rest = np.maximum(other[cell + 1] if not upper else other[cell], 0.0) + at.masses[cell] - part
        error = self.error_of_mass(at)
        return np.where(value <= 0.5, value, 1.0 - rest), np.full(x.shape, error)

    @staticmethod
    def error_of_mass(at: Moment) -> float:
        """Estimated error of F: the errors of q, and what its integral misses to one."""
        weight = np.exp(at.logs) * np.gradient(at.nodes.x)
        return float((weight * np.minimum(at.total("logpdf"), 1.0)).sum()) + at.lost + 1e-14

    def _cdf(self, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        return self._side(x, t, upper=False)

    def _sf(self, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        return self._side(x, t, upper=True)

    def mass(self, t: float) -> float:
        """Integral of q, which nothing holds at one: what it misses is an error that was not estimated otherwise."""
        if self.starts_at(self.check_t(t)):
            return 1.0
        at = self.moment(t)
        return float(at.below[-1] + at.above[-1])


def _part_of_cell(at: Moment, cell: np.ndarray, x: np.ndarray, upper: bool) -> np.ndarray:
    """Mass between x and the left, or with `upper` the right, end of its cell."""
    places, weights = np.polynomial.legendre.leggauss(6)
    nodes = at.nodes.x
    low, high = (x, nodes[cell + 1]) if upper else (nodes[cell], x)
    half = 0.5 * (high - low)[:, None]
    between = at.nodes.interpolate(at.logs, (low[:, None] + half * (1.0 + places)).ravel())
    with np.errstate(under="ignore"):
        return (np.exp(between).reshape(-1, 6) * weights * half).sum(axis=1)


class LogDensityLaw(FacedLaw):
    """Law of a LogDensityEvolution at one time."""

    def __init__(self, evolution: LogDensityEvolution, t: float) -> None:
        self._evolution, self._time = evolution, t

    @property
    def support(self) -> tuple[float, float]:
        """The line."""
        return -np.inf, np.inf

    @pointwise
    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """log q, by the closures beyond the ends."""
        return self._evolution.with_error("logpdf", x, self._time)[0]

    @pointwise
    def score(self, x: np.ndarray) -> np.ndarray:
        """∂x log q."""
        return self._evolution.with_error("score", x, self._time)[0]

    @pointwise
    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Distribution function, relatively accurate in the left tail."""
        return self._evolution.with_error("cdf", x, self._time)[0]

    @pointwise
    def sf(self, x: np.ndarray) -> np.ndarray:
        """Survival function, relatively accurate in the right tail."""
        return self._evolution.with_error("sf", x, self._time)[0]

    def _at_faces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = self._evolution.moment(self._time)
        return at.nodes.x, at.below, at.above
