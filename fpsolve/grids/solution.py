"""GridEvolution: the solution of a grid solver at its saved times, with errors by cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_choice, check_points
from fpsolve.grids.extrapolation import POINTS, interpolate
from fpsolve.grids.fields import CAUSES, NAMES, Tableau
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law, check_faces, pointwise
from fpsolve.problem.process import Process

_REGION = 3e-7  # F and 1 - F exceed this at the faces from which sup norms over F > 1e-6 are taken
_TRUSTED = 1e-2  # relative error of q below which quotients of it are above their noise
_GREGORY = np.array([3.0 / 8.0, 7.0 / 6.0, 23.0 / 24.0])  # end weights of the trapezoidal rule, order 4
_EXACT = 1e-15


@dataclass(frozen=True)
class ErrorBudget:
    """Estimated error of one quantity at each of `times`, by cause; `norm` says in which norm."""

    norm: str
    times: np.ndarray
    space: np.ndarray
    time: np.ndarray
    domain: np.ndarray
    initial: np.ndarray
    rounding: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Sum over the causes, at each time."""
        return sum(getattr(self, cause) for cause in CAUSES)

    @property
    def worst(self) -> float:
        """Largest total over all times."""
        return float(self.total.max())

    @property
    def main_cause(self) -> str:
        """Cause that contributes most at the time of the largest total."""
        k = int(self.total.argmax())
        return max(CAUSES, key=lambda cause: float(getattr(self, cause)[k]))


class GridEvolution(Evolution):
    """Path of densities known at `times`, by a grid solver.

    Between faces values are interpolated by local polynomials of degree seven: log q, so that the density is positive,
    and F, whose increments are the non-negative cell masses that add up to one. Outside the artificial domain the
    density is zero and score and velocity continue linearly with unknown (infinite) error.
    At the first time density, score and cdf are those of the initial law itself.

    Attributes
    ----------
    times : ndarray
        Saved times; any other time raises InputError.
    error : dict of ErrorBudget
        "pdf" (sup, relative to max q), "cdf" (sup), "score" and "velocity" (L²(q), absolute), "score_sup" and
        "velocity_sup" (sup where F and 1 - F exceed 1e-6).
    """

    times: np.ndarray
    initial: Law
    grid: Grid

    def __init__(
        self,
        process: Process,
        initial: Law,
        t_span: tuple[float, float],
        times: np.ndarray,
        tableau: Tableau,
        message: str,
        stats: dict[str, Any],
    ) -> None:
        self.process, self.initial, self.t_span, self.times = process, initial, t_span, times
        self.grid = tableau.grid
        self._fields = {name: tableau.field(name) for name in NAMES}
        self._masses, held, limited = tableau.masses()
        first = int(times[0] == t_span[0])  # the law itself stands at the first time
        if first:
            self._put_initial_law()
        self._stats = stats | {
            "limiter": {
                "faces": int(limited[first:].sum()),
                "largest transfer held back": float(held[first:].max(initial=0.0)),
            },
            "mass defect": float(np.abs(self._masses.sum(axis=1) - 1.0).max()),
            "min q": float(np.exp(self._fields["logpdf"].value).min()),
        }
        self.message = message
        self._below = np.concatenate([np.zeros((times.size, 1)), np.cumsum(self._masses, axis=1)], axis=1)
        above = np.cumsum(self._masses[:, ::-1], axis=1)[:, ::-1]
        self._above = np.concatenate([above, np.zeros((times.size, 1))], axis=1)
        self.error = self._budgets()

    def _put_initial_law(self) -> None:
        """Replace the first row by the law itself: only the velocity needs the solver there."""
        law, faces = self.initial, self.grid.faces
        with np.errstate(divide="ignore", invalid="ignore"):
            exact = {"logpdf": np.maximum(law.logpdf(faces), -690.0), "score": law.score(faces), "cdf": law.cdf(faces)}
        self._masses[0] = np.maximum(law.cell_masses(faces), 0.0)
        self._masses[0, 0] += law.cdf(faces[0])
        self._masses[0, -1] += law.sf(faces[-1])
        for name, values in exact.items():
            field = self._fields[name]
            field.value[0] = np.nan_to_num(values)
            for cause in CAUSES:
                if not field.errors[cause].flags.writeable:
                    field.errors[cause] = field.errors[cause].copy()
                field.errors[cause][0] = 0.0
            field.errors["rounding"][0] = _EXACT * (1.0 + np.abs(field.value[0]))

    @property
    def stats(self) -> dict[str, Any]:
        """Counters of the work: cells, steps, cell-steps, seconds, coefficient evaluations, domain, mass defect."""
        return self._stats

    def row(self, t: Any) -> int:
        """Index of the saved time `t`, or InputError naming the saved times."""
        time = self.check_t(t)
        k = int(np.abs(self.times - time).argmin())
        if abs(self.times[k] - time) > 1e-12 * (self.t_span[1] - self.t_span[0]):
            near = ", ".join(f"{u:.6g}" for u in self.times[max(0, k - 1) : k + 2])
            raise InputError(
                f"a grid solution is known at its {self.times.size} saved times only, here near {near}",
                time,
                f"solve with t_eval=[..., {time:.6g}, ...]",
            )
        return k

    def at(self, t: float) -> Law:
        """Return the law at the saved time `t`."""
        k = self.row(t)
        return self.initial if k == 0 and self.times[0] == self.t_span[0] else GridLaw(self, k)

    def velocity(self, x: Any, t: float) -> np.ndarray:
        """Velocity -∂t F/q, each level's own quotient extrapolated."""
        return self.with_error("velocity", x, t)[0]

    def flux(self, x: Any, t: float) -> np.ndarray:
        """Probability flux J = q v."""
        return self.flux_with_error(x, t)[0]

    def flux_with_error(self, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the flux and its estimated error."""
        (v, v_error), (q, q_error) = (self.with_error(name, x, t) for name in ("velocity", "pdf"))
        inside = q > 0.0
        with np.errstate(invalid="ignore"):
            error = np.where(inside, q * v_error + np.abs(v) * q_error, q_error)
        return np.where(inside, q * v, 0.0), error

    def with_error(self, name: str, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (values, estimated errors) of "pdf", "logpdf", "score", "cdf" or "velocity" at points `x`.

        The errors are pointwise: all causes, and the interpolation between faces. Outside the domain they are
        infinite for score, velocity and logpdf.
        """
        check_choice("name", name, ("pdf", *NAMES))
        points, k = check_points("x", x), self.row(t)
        flat = points.ravel()
        if k == 0 and self.times[0] == self.t_span[0] and name != "velocity":
            values = np.asarray(getattr(self.initial, name)(flat))
            return values.reshape(points.shape), (_EXACT * (1.0 + np.abs(values))).reshape(points.shape)
        if name == "pdf":
            logs, error = self._at_points("logpdf", flat, k)
            values = np.exp(logs)
            with np.errstate(invalid="ignore", over="ignore"):
                error = np.where(values > 0.0, values * np.expm1(np.minimum(error, 50.0)), self._edge_density(k))
        else:
            values, error = self._at_points(name, flat, k)
        return values.reshape(points.shape), error.reshape(points.shape)

    def _edge_density(self, k: int) -> float:
        """Density at the ends, a bound of what is missing outside."""
        logs = self._fields["logpdf"].value[k]
        return float(np.exp(max(logs[0], logs[-1])))

    def _at_points(self, name: str, x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        grid, field = self.grid, self._fields[name]
        inside = np.clip(x, grid.left, grid.right)
        outside = inside != x
        if name == "cdf":
            low, high = (interpolate(grid, side[k], inside) for side in (self._below, self._above))
            rough = interpolate(grid, self._below[k], inside, POINTS - 2)
            values = np.where(low <= 0.5, np.maximum(low, 0.0), 1.0 - np.maximum(high, 0.0))
            return values, np.interp(inside, grid.faces, field.total[k]) + np.abs(low - rough)
        values = interpolate(grid, field.value[k], inside)
        error = np.interp(inside, grid.faces, field.total[k])
        error = error + np.abs(values - interpolate(grid, field.value[k], inside, POINTS - 2))
        if name == "logpdf":
            return np.where(outside, -np.inf, values), np.where(outside, np.inf, error)
        if outside.any():
            for side, tail in ((x < grid.left, self._below[k]), (x > grid.right, self._above[k])):
                values[side] = self._continued(field.value[k], tail, x[side])
        return values, np.where(outside, np.inf, error)

    def _continued(self, values: np.ndarray, tail: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Linear continuation from where the tail still holds a mass of 1e-10: nearer the end the wall is felt."""
        faces = self.grid.faces
        j = int(np.abs(np.log(np.maximum(tail, 1e-300) / 1e-10)).argmin())
        j = min(max(j, 1), faces.size - 2)
        slope = (values[j + 1] - values[j - 1]) / (faces[j + 1] - faces[j - 1])
        return values[j] + slope * (x - faces[j])

    def span(self, t: float, mass: float = 1e-6) -> tuple[float, float]:
        """Return the interval that leaves `mass` outside on each side, cut to where quotients of q are above noise."""
        k = self.row(t)
        left, right = self.at(t).quantile_span(mass)
        bad = np.flatnonzero(self._fields["logpdf"].total[k] > _TRUSTED)
        middle = int(np.searchsorted(self._below[k], 0.5))
        faces = self.grid.faces
        if (bad < middle).any():
            left = max(left, float(faces[bad[bad < middle].max() + 1]))
        if (bad >= middle).any():
            right = min(right, float(faces[bad[bad >= middle].min() - 1]))
        return left, right

    def expect(self, fn: Callable[[np.ndarray], np.ndarray], t: float) -> float:
        """E φ(X_t) by the trapezoidal rule with end corrections in the coordinate in which faces are uniform."""
        k, weights = self.row(t), np.gradient(self.grid.faces, edge_order=2)
        weights[:3] *= _GREGORY
        weights[-3:] *= _GREGORY[::-1]
        with np.errstate(invalid="ignore"):
            terms = weights * np.exp(self._fields["logpdf"].value[k]) * fn(self.grid.faces)
        return float(np.nansum(terms))

    def mean(self, t: float) -> float:
        """E X_t."""
        return self.expect(lambda x: x, t)

    def var(self, t: float) -> float:
        """Variance of X_t."""
        centre = self.mean(t)
        return self.expect(lambda x: (x - centre) ** 2, t)

    def entropy(self, t: float) -> float:
        """Differential entropy in nats."""
        return -self.expect(lambda x: self._fields["logpdf"].value[self.row(t)], t)

    def fisher(self, t: float) -> float:
        """Fisher information E s²."""
        return self.expect(lambda x: self._fields["score"].value[self.row(t)] ** 2, t)

    def mass(self, t: float) -> float:
        """Sum of the cell masses: one to rounding."""
        return float(self._masses[self.row(t)].sum())

    def masses(self, t: float) -> np.ndarray:
        """Non-negative masses of the cells of `grid`."""
        return self._masses[self.row(t)]

    def _budgets(self) -> dict[str, ErrorBudget]:
        logs = self._fields["logpdf"]
        q = np.exp(logs.value)
        weights = q * np.gradient(self.grid.faces)
        region = (self._below > _REGION) & (self._above > _REGION)
        relative = {c: np.expm1(np.minimum(logs.errors[c], 50.0)) for c in CAUSES}

        def budget(norm: str, measure: Callable[[str], np.ndarray]) -> ErrorBudget:
            return ErrorBudget(norm, self.times, *(measure(cause) for cause in CAUSES))

        def quadratic(name: str) -> ErrorBudget:
            errors = self._fields[name].errors

            def mean_square(cause: str) -> np.ndarray:
                # an unknown (infinite) error where there is no mass counts for nothing
                with np.errstate(over="ignore", invalid="ignore"):
                    return np.sqrt(np.where(weights > 0.0, weights * errors[cause] ** 2, 0.0).sum(axis=1))

            return budget("L²(q)", mean_square)

        def largest(name: str) -> ErrorBudget:
            errors = self._fields[name].errors
            return budget("sup where F and 1 - F exceed 1e-6", lambda c: (errors[c] * region).max(axis=1))

        return {
            "pdf": budget("sup, relative to max q", lambda c: (q * relative[c]).max(axis=1) / q.max(axis=1)),
            "cdf": budget("sup", lambda c: self._fields["cdf"].errors[c].max(axis=1)),
            "score": quadratic("score"),
            "velocity": quadratic("velocity"),
            "score_sup": largest("score"),
            "velocity_sup": largest("velocity"),
        }


class GridLaw(Law):
    """Law of a GridEvolution at one saved time."""

    def __init__(self, evolution: GridEvolution, k: int) -> None:
        self._evolution, self._k = evolution, k
        self._time = float(evolution.times[k])

    @property
    def support(self) -> tuple[float, float]:
        """Ends of the grid."""
        return self._evolution.grid.left, self._evolution.grid.right

    @pointwise
    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """log q, -inf outside the grid."""
        return self._evolution.with_error("logpdf", x, self._time)[0]

    @pointwise
    def score(self, x: np.ndarray) -> np.ndarray:
        """∂x log q, extrapolated as a field."""
        return self._evolution.with_error("score", x, self._time)[0]

    @pointwise
    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Distribution function."""
        return self._side(self._evolution._below, self._evolution._above, x)

    @pointwise
    def sf(self, x: np.ndarray) -> np.ndarray:
        """Survival function, relatively accurate in the right tail."""
        return self._side(self._evolution._above, self._evolution._below, x)

    def _side(self, side: np.ndarray, other: np.ndarray, x: np.ndarray) -> np.ndarray:
        grid = self._evolution.grid
        inside = np.clip(x, grid.left, grid.right)
        value, rest = (np.maximum(interpolate(grid, part[self._k], inside), 0.0) for part in (side, other))
        return np.where(value <= 0.5, value, 1.0 - rest)

    def _bracket(self, p: np.ndarray, upper: bool) -> tuple[np.ndarray, np.ndarray]:
        faces, side = self._evolution.grid.faces, (self._evolution._above if upper else self._evolution._below)[self._k]
        at = faces.size - np.searchsorted(side[::-1], p) if upper else np.searchsorted(side, p)
        return faces[np.clip(at - 2, 0, faces.size - 1)], faces[np.clip(at + 1, 0, faces.size - 1)]

    def cell_masses(self, faces: Any) -> np.ndarray:
        """Masses between increasing faces, relatively accurate in both tails."""
        cuts = check_faces(faces)
        low, high = self.cdf(cuts), self.sf(cuts)
        return np.where(low[1:] <= 0.5, np.diff(low), -np.diff(high))

    def expect(self, fn: Callable[[np.ndarray], np.ndarray]) -> float:
        """E fn(X) on the grid."""
        return self._evolution.expect(fn, self._time)
