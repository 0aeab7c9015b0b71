"""TransportEvolution: three levels of the conservative transport scheme, and what their differences say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter1d

from fpsolve.errors import InputError, check_choice, check_points
from fpsolve.grids.budgets import ErrorBudget
from fpsolve.grids.faced_law import FacedLaw
from fpsolve.grids.flows.transport import Coordinates, Level, State
from fpsolve.grids.flows.velocity import Velocity
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.law import Law, pointwise
from fpsolve.problem.process import Process

NAMES = ("pdf", "logpdf", "score", "cdf", "sf", "velocity")
ORDER = 4.0  # in the limit of small steps; five is what is seen while space dominates
# on 240 random flows this covers the density at all of 101 points but for one; median overestimate 9 in norm
SAFETY = 2.7
_WINDOW = 7  # cells of the coarsest level over which a difference counts
_EPS = 2.3e-16
_REGION = 1e-6
_TRUSTED = 0.1  # relative error of q up to which its logarithm and score are given an error
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(3)
_UNKNOWN = 1e300  # stands for a difference that does not exist
_INTEGRATED = 1.0 / np.arange(1.0, 6.0)


class Snapshot:
    """One level at one time as functions of x."""

    def __init__(self, state: State) -> None:
        self.state, self.coordinates = state, Coordinates(state.grid)
        self.below = np.append(0.0, np.cumsum(state.mass))
        self.above = np.append(np.cumsum(state.mass[::-1])[::-1], 0.0)
        self._ends = state.grid.left, state.grid.right

    def _cell(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = self.coordinates.place(np.clip(x, *self._ends))
        cell = np.clip(np.floor(y).astype(int), 0, self.state.mass.size - 1)
        return cell, np.clip(y - cell - 0.5, -0.5, 0.5)

    def pdf(self, x: np.ndarray) -> np.ndarray:
        """q: the polynomial of the cell, zero outside the grid."""
        cell, xi = self._cell(x)
        c = self.state.quartics[cell].T
        values = c[0] + xi * (c[1] + xi * (c[2] + xi * (c[3] + xi * c[4])))
        inside = (x >= self._ends[0]) & (x <= self._ends[1])
        return np.where(inside, np.maximum(values, 0.0) * self.coordinates.slope(x), 0.0)

    def score(self, x: np.ndarray) -> np.ndarray:
        """∂x log q of the polynomial of the cell."""
        cell, xi = self._cell(x)
        c = self.state.quartics[cell].T
        value = c[0] + xi * (c[1] + xi * (c[2] + xi * (c[3] + xi * c[4])))
        rise = c[1] + xi * (2.0 * c[2] + xi * (3.0 * c[3] + xi * 4.0 * c[4]))
        with np.errstate(all="ignore"):
            return rise / value * self.coordinates.slope(x) + self.coordinates.log_slope_dx(x)

    def tail(self, x: np.ndarray, *, upper: bool) -> np.ndarray:
        """Mass left of x, or with `upper` right of it, summed from its own side."""
        cell, xi = self._cell(x)
        c = self.state.quartics[cell] * _INTEGRATED
        if upper:
            part = sum(c[:, k] * (0.5 ** (k + 1) - xi ** (k + 1)) for k in range(5))
            return np.maximum(self.above[cell + 1] + part, 0.0)
        part = sum(c[:, k] * (xi ** (k + 1) - (-0.5) ** (k + 1)) for k in range(5))
        return np.maximum(self.below[cell] + part, 0.0)


@dataclass(frozen=True)
class Judged:
    """The three levels at one time, coarsest first, and pointwise errors at the places of `x`."""

    snapshots: tuple[Snapshot, Snapshot, Snapshot]
    x: np.ndarray
    errors: dict[str, np.ndarray]
    order: float

    def error(self, name: str, x: np.ndarray) -> np.ndarray:
        """Error of "pdf", "cdf" or "score" at `x`: the larger of the neighbouring places."""
        j = np.clip(np.searchsorted(self.x, x), 1, self.x.size - 1)
        return np.maximum(self.errors[name][j - 1], self.errors[name][j])


def judge(levels: tuple[Level, Level, Level], t: float, outside: float) -> Judged:
    """Errors of the finest level from its difference to the middle one and the order that the three show.

    The remainder is the last difference over 2^p - 1, with p the smaller of the orders observed in the mean and near
    the point, at most four; where p is below one (jumps, fronts that are not resolved) four times the last difference
    counts. Differences are the largest over a window, since they change sign.
    """
    coarse, middle, fine = (Snapshot(level.at(t)) for level in levels)
    places = np.sort(np.concatenate([fine.state.grid.faces, fine.state.grid.x]))  # a cell is worse inside than at faces
    values = {
        "pdf": [snapshot.pdf(places) for snapshot in (coarse, middle, fine)],
        "cdf": [snapshot.tail(places, upper=False) for snapshot in (coarse, middle, fine)],
        "score": [snapshot.score(places) for snapshot in (coarse, middle, fine)],
    }
    q, errors = values["pdf"][2], {}
    in_mean = 0.0
    for name, (first, second, third) in values.items():
        weight = np.gradient(places) * (q if name == "score" else 1.0)
        with np.errstate(all="ignore"):
            before, last = np.abs(second - first), np.abs(third - second)
        errors[name], order = _remainder(before, last, weight)
        in_mean = order if name == "pdf" else in_mean
    rounding = _EPS * (50.0 + 0.5 * float(levels[2].counts.sum()))
    errors["pdf"] += rounding * q.max()
    errors["cdf"] += rounding + outside
    errors["score"] += 1e-14 * (np.abs(values["score"][2]) + 1.0)
    with np.errstate(all="ignore"):
        known = (errors["pdf"] < _TRUSTED * q) & (errors["score"] < _UNKNOWN)
        errors["score"] = np.where(known, errors["score"], np.inf)
    return Judged((coarse, middle, fine), places, errors, in_mean)


def _remainder(before: np.ndarray, last: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Error of the finest level from two successive differences, and the order in the mean."""
    with np.errstate(all="ignore"):
        mean = float(np.log2(np.nansum(weight * before) / max(np.nansum(weight * last), 1e-300) + 1e-300))
        known = [np.nan_to_num(d, nan=_UNKNOWN, posinf=_UNKNOWN) for d in (before, last)]
        a, b = (maximum_filter1d(d, 8 * _WINDOW, mode="nearest") for d in known)
        near = np.log2(a / np.maximum(b, 1e-300) + 1e-300)
        order = np.clip(np.minimum(near, mean), 0.0, ORDER)
        factor = np.where(order >= 1.0, 1.0 / (2.0 ** np.maximum(order, 1.0) - 1.0), 2.0)
    return SAFETY * factor * b, min(max(mean, 0.0), ORDER)


class TransportEvolution(Evolution):
    """Path of densities of the conservative transport scheme, known at every time by stepping from a checkpoint.

    Inside a cell the density is the polynomial of its mass, so F is exact at faces and the mass is kept to rounding.
    `velocity` is the flow's own v(x, t), an input and not evidence; `flux` is that of the scheme at the faces.
    Errors of cells and steps, refined together, stand under "space".

    Attributes
    ----------
    error : dict of ErrorBudget
        As for a GridEvolution, at the times `t_eval`.
    """

    initial: Law

    def __init__(
        self,
        process: Process,
        initial: Law,
        levels: tuple[Level, Level, Level],
        times: np.ndarray,
        outside: float,
        message: str,
        stats: dict[str, Any],
    ) -> None:
        self.process, self.initial, self.levels, self.outside = process, initial, levels, outside
        self.t_span, self.grid, self.message, self._stats = levels[2].t_span, levels[2].grid, message, stats
        self._velocity = Velocity(process)
        self._judged: dict[float, Judged] = {}
        self.error = self._budgets(times)

    @property
    def stats(self) -> dict[str, Any]:
        """Counters of the work: cells, steps, cell-steps, seconds, observed order, least mass of a cell."""
        return self._stats | {"cell_steps": sum(level.cell_steps for level in self.levels)}

    def judged(self, t: float) -> Judged:
        """The three levels at time `t` with their errors."""
        time = self.check_t(t)
        if time not in self._judged:
            if len(self._judged) > 64:
                self._judged.pop(next(iter(self._judged)))
            self._judged[time] = judge(self.levels, time, self.outside)
        return self._judged[time]

    def snapshot(self, t: float) -> Snapshot:
        """The finest level at time `t`."""
        return self.judged(t).snapshots[2]

    def at(self, t: float) -> Law:
        """Return the law at time `t`; at the first time the initial law itself."""
        time = self.check_t(t)
        return self.initial if time == self.t_span[0] else TransportLaw(self, time)

    def velocity(self, x: Any, t: float) -> np.ndarray:
        """The velocity of the flow, as declared."""
        return self.with_error("velocity", x, t)[0]

    def with_error(self, name: str, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (values, estimated errors) of "pdf", "logpdf", "score", "cdf", "sf" or "velocity" at points `x`."""
        check_choice("name", name, NAMES)
        points, time = check_points("x", x), self.check_t(t)
        flat = points.ravel()
        if name == "velocity":
            values = self._velocity(flat, time)
            inside = (flat >= self.process.support[0]) & (flat <= self.process.support[1])
            error = np.where(inside, 2.0 * _EPS * np.abs(values), np.inf)
        elif time == self.t_span[0]:
            values = np.asarray(getattr(self.initial, name)(flat))
            error = 1e-15 * (1.0 + np.abs(values))
        else:
            values, error = self._solved(name, flat, time)
        return values.reshape(points.shape), error.reshape(points.shape)

    def _solved(self, name: str, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        judged = self.judged(t)
        fine = judged.snapshots[2]
        outside = (x < fine.state.grid.left) | (x > fine.state.grid.right)
        if name in ("cdf", "sf"):
            return fine.tail(x, upper=name == "sf"), judged.error("cdf", x)
        if name == "score":
            return fine.score(x), np.where(outside, np.inf, judged.error("score", x))
        values, error = fine.pdf(x), np.where(outside, self.outside, judged.error("pdf", x))
        if name == "pdf":
            return values, error
        with np.errstate(all="ignore"):
            relative = error / values
            return np.log(values), np.where(relative < 0.5, -np.log1p(-np.minimum(relative, 0.5)), np.inf)

    def flux(self, x: Any, t: float) -> np.ndarray:
        """Probability flux -∂t F of the scheme at the faces, between them q v."""
        return self.flux_with_error(x, t)[0]

    def flux_with_error(self, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the flux q v corrected to that of the scheme at the faces, and its estimated error."""
        points, time = check_points("x", x), self.check_t(t)
        flat, fine = points.ravel(), self.levels[2]
        state, faces = self.snapshot(time).state, fine.faces
        at_faces = fine.flux(state, time)
        gap = np.interp(flat, faces, at_faces - self.pdf(faces, time) * self._velocity(faces, time))
        (q, error), v = self.with_error("pdf", flat, time), self._velocity(flat, time)
        values = q * v + gap
        return values.reshape(points.shape), (error * np.abs(v) + np.abs(gap)).reshape(points.shape)

    def span(self, t: float, mass: float = 1e-6) -> tuple[float, float]:
        """Return the interval that leaves `mass` outside on each side, cut to where q is well above its error."""
        left, right = self.at(t).quantile_span(mass)
        judged = self.judged(t)
        fine = judged.snapshots[2]
        good = judged.errors["pdf"] < _TRUSTED * fine.pdf(judged.x)
        good &= (judged.x >= left) & (judged.x <= right)
        return (float(judged.x[good][0]), float(judged.x[good][-1])) if good.any() else (left, right)

    def absorbed(self, t: float) -> tuple[float, float]:
        """Mass absorbed at the left and at the right end until `t`."""
        lost = self.snapshot(t).state.lost
        return float(lost[0]), float(lost[1])

    def masses(self, t: float) -> np.ndarray:
        """Non-negative masses of the cells of `grid`."""
        return self.snapshot(t).state.mass

    def mass(self, t: float) -> float:
        """Sum of the cell masses: one to rounding, less what was absorbed."""
        return float(self.masses(t).sum())

    def expect(self, fn: Callable[[np.ndarray], np.ndarray], t: float) -> float:
        """E φ(X_t) by three points in each cell."""
        x, weights = self._quadrature(self.check_t(t))
        with np.errstate(all="ignore"):
            return float(np.where(weights > 0.0, weights * fn(x), 0.0).sum())

    def _quadrature(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        faces = self.grid.faces  # type: ignore[union-attr]
        half = 0.5 * np.diff(faces)[:, None]
        x = (0.5 * (faces[1:] + faces[:-1])[:, None] + half * _NODES).ravel()
        return x, (half * _WEIGHTS).ravel() * self.snapshot(t).pdf(x)

    def mean(self, t: float) -> float:
        """E X_t."""
        return self.expect(lambda x: x, t)

    def var(self, t: float) -> float:
        """Variance of X_t."""
        centre = self.mean(t)
        return self.expect(lambda x: (x - centre) ** 2, t)

    def entropy(self, t: float) -> float:
        """Differential entropy in nats."""
        return -self.expect(lambda x: np.log(self.snapshot(t).pdf(x)), t)

    def fisher(self, t: float) -> float:
        """Fisher information E s²."""
        return self.expect(lambda x: self.snapshot(t).score(x) ** 2, t)

    def _budgets(self, times: np.ndarray) -> dict[str, ErrorBudget]:
        rows: dict[str, list[float]] = {name: [] for name in ("pdf", "cdf", "score", "score_sup")}
        for t in times:
            judged = self.judged(float(t))
            fine = judged.snapshots[2]
            q, low, high = fine.pdf(judged.x), fine.tail(judged.x, upper=False), fine.tail(judged.x, upper=True)
            score = judged.errors["score"]
            region, weight = (low > _REGION) & (high > _REGION), q * np.gradient(judged.x)
            known = np.where(np.isfinite(score), score, 0.0)
            rows["pdf"].append(float((judged.errors["pdf"]).max() / q.max()))
            rows["cdf"].append(float(judged.errors["cdf"].max()))
            rows["score"].append(float(np.sqrt((weight * known**2).sum())))
            rows["score_sup"].append(float(score[region].max(initial=0.0)))
        zero, rounding = np.zeros(times.size), np.full(times.size, 1e-14)
        norms = {
            "pdf": "sup, relative to max q",
            "cdf": "sup",
            "score": "L²(q) where q is known to a tenth",
            "score_sup": "sup where F and 1 - F exceed 1e-6",
        }
        first = times == self.t_span[0]
        domain = np.full(times.size, self.outside)
        budgets = {
            name: ErrorBudget(norm, times, np.where(first, 0.0, rows[name]), zero, domain, zero, rounding)
            for name, norm in norms.items()
        }
        given = ErrorBudget("exact: the declared velocity", times, zero, zero, zero, zero, rounding)
        return budgets | {"velocity": given, "velocity_sup": given}

    def sample(self, n: int, t: float, rng: Any = 0) -> np.ndarray:
        """Draw `n` values of X_t."""
        if sum(self.absorbed(t)) > 0.0:
            raise InputError(
                "a law that lost mass cannot be sampled", self.absorbed(t), "sample before it was absorbed"
            )
        return super().sample(n, t, rng)


class TransportLaw(FacedLaw):
    """Law of a TransportEvolution at one time."""

    def __init__(self, evolution: TransportEvolution, t: float) -> None:
        self._evolution, self._time, self._fine = evolution, t, evolution.snapshot(t)

    @property
    def support(self) -> tuple[float, float]:
        """Ends of the grid."""
        return self._fine.state.grid.left, self._fine.state.grid.right

    @pointwise
    def pdf(self, x: np.ndarray) -> np.ndarray:
        """Density."""
        return self._fine.pdf(x)

    @pointwise
    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Log-density, -inf where there is no mass."""
        with np.errstate(divide="ignore"):
            return np.log(self._fine.pdf(x))

    @pointwise
    def score(self, x: np.ndarray) -> np.ndarray:
        """∂x log q."""
        return self._fine.score(x)

    @pointwise
    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Mass left of x."""
        return self._fine.tail(x, upper=False)

    @pointwise
    def sf(self, x: np.ndarray) -> np.ndarray:
        """Mass right of x."""
        return self._fine.tail(x, upper=True)

    def _at_faces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._fine.state.grid.faces, self._fine.below, self._fine.above

    def expect(self, fn: Callable[[np.ndarray], np.ndarray]) -> float:
        """E fn(X) over the cells."""
        return self._evolution.expect(fn, self._time)
