"""The method of characteristics: F is constant along x' = v(x, t), so the law is looked up where a point came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.optimize import brentq

from fpsolve.errors import InputError, check_choice, check_points
from fpsolve.grids.budgets import ErrorBudget
from fpsolve.grids.flows.pullback import Fields, Trace, pull_back, trace_of
from fpsolve.grids.flows.trajectories import Flow
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.law import Law, check_faces, check_probabilities, generator_of, pointwise
from fpsolve.problem.process import Process

NAMES = ("pdf", "logpdf", "score", "cdf", "sf", "velocity")
_EPS = 2.3e-16
_REGION = 1e-6
_RULE = np.polynomial.legendre.leggauss(3)
_REMEMBERED = 8


class CharacteristicEvolution(Evolution):
    """Path of densities carried by a flow, known at every time and point at the accuracy of its trajectories.

    With x0 the origin of (x, t), ell = ∫ ∂x v along its trajectory and bend = ∂ ell/∂x0:
    F = F0(x0), 1 - F = (1 - F0)(x0), q = q0(x0) e^-ell, s = (s0(x0) - bend) e^-ell; quantiles are carried forward.
    `velocity` is the flow's own v(x, t), an input and not evidence, and `flux` is q v.
    At absorbing ends the law loses mass: F starts from 0 at the left end and ends at `mass(t)`; see `absorbed`.

    Attributes
    ----------
    error : dict of ErrorBudget
        As for a GridEvolution, at the times `t_eval`.
    flow : Flow
        The nodes and their trajectories.
    """

    initial: Law

    def __init__(
        self, process: Process, initial: Law, flow: Flow, times: np.ndarray, message: str, stats: dict[str, Any]
    ) -> None:
        self.process, self.initial, self.flow = process, initial, flow
        self.support, self.boundary = process.support, process.boundary
        self.t_span, self.message, self._stats = flow.t_span, message, stats
        self.fields = Fields(initial, flow.loss.left + flow.loss.right)
        self.turns = {side: self._turning_times(side) for side in (0, 1) if self.boundary[side] == "absorbing"}
        self._cuts: dict[tuple[int, float], float] = {}
        self._cut_errors: dict[float, float] = {}
        self._laws: dict[float, CharacteristicLaw] = {}
        self.error = self._budgets(times)

    @property
    def stats(self) -> dict[str, Any]:
        """Counters of the work: nodes, steps, point-steps, seconds, mass that may have run to infinity."""
        return self._stats | {"point_steps": self.flow.stepper.point_steps}

    @property
    def breaks(self) -> np.ndarray:
        """Origins between which the law is integrated."""
        return self.flow.x0

    def described(self, message: str, stats: dict[str, Any]) -> CharacteristicEvolution:
        """The same evolution with its account of the work."""
        self.message, self._stats = message, stats
        return self

    def roughness(self) -> float:
        """Error of the differences of v summed along the worst trajectory with mass: large where v jumps."""
        whole, halved = self.flow.nodes(self.t_span[1])
        region = np.minimum(self.initial.cdf(self.flow.x0), self.initial.sf(self.flow.x0)) > _REGION
        error = self.flow.errors(whole, halved)[1]
        return float(error[region].max(initial=0.0))

    def at(self, t: float) -> CharacteristicLaw:
        """Return the law at time `t`."""
        time = self.check_t(t)
        if time not in self._laws:
            if len(self._laws) > 64:
                self._laws.pop(next(iter(self._laws)))
            self._laws[time] = CharacteristicLaw(self, time)
        return self._laws[time]

    def with_error(self, name: str, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (values, estimated errors) of "pdf", "logpdf", "score", "cdf", "sf" or "velocity" at points `x`."""
        check_choice("name", name, NAMES)
        points, law = check_points("x", x), self.at(t)
        values, error = law.field(name, points.ravel())
        return values.reshape(points.shape), error.reshape(points.shape)

    def velocity(self, x: Any, t: float) -> np.ndarray:
        """The velocity of the flow, as declared."""
        return self.with_error("velocity", x, t)[0]

    def velocity_with_error(self, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        """The velocity at one-dimensional `x`, and its rounding error; infinite outside the support."""
        values, inside = self.flow.velocity(x, t), (x >= self.support[0]) & (x <= self.support[1])
        return values, np.where(inside, 2.0 * _EPS * np.abs(values), np.inf)

    def flux(self, x: Any, t: float) -> np.ndarray:
        """Probability flux q v."""
        return self.flux_with_error(x, t)[0]

    def flux_with_error(self, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the flux and its estimated error."""
        (q, error), (v, v_error) = self.with_error("pdf", x, t), self.with_error("velocity", x, t)
        v_error = np.where(np.isfinite(v_error), v_error, 2.0 * _EPS * np.abs(v))  # no mass moves out there
        return q * v, error * np.abs(v) + q * v_error

    def mass(self, t: float) -> float:
        """Mass between the ends: one, less what was absorbed."""
        left, right = self.absorbed(t)
        return 1.0 - left - right

    def absorbed(self, t: float) -> tuple[float, float]:
        """Mass absorbed at the left and at the right end until `t`."""
        time = self.check_t(t)
        low, high = self.cut(0, time), self.cut(1, time)
        return (
            0.0 if low == -np.inf else float(self.initial.cdf(low)),
            0.0 if high == np.inf else float(self.initial.sf(high)),
        )

    def cut(self, side: int, t: float) -> float:
        """The x0 up to which (left) or from which (right) trajectories have been absorbed until `t`."""
        if side not in self.turns:
            return (-np.inf, np.inf)[side]
        if (side, t) not in self._cuts:
            end = np.array([self.support[side]])
            feet, doubt = [], 0.0
            for u in {*self.turns[side][self.turns[side] < t], t}:
                trace = pull_back(self.flow, end, u)
                feet.append(float(trace.x0[0]) if trace.side[0] == 0 else float(trace.side[0]) * np.inf)
                if trace.side[0] == 0:
                    doubt = max(doubt, float(self.fields.tail(trace, upper=side == 1)[1][0]))
            self._cuts[side, t] = max(feet) if side == 0 else min(feet)
            self._cut_errors[t] = self._cut_errors.get(t, 0.0) + doubt
        return self._cuts[side, t]

    def cut_error(self, t: float) -> float:
        """Error of the absorbed masses at time `t`."""
        self.absorbed(t)
        return self._cut_errors.get(t, 0.0)

    def _turning_times(self, side: int) -> np.ndarray:
        """Times at which v at an absorbing end turns inward: until then mass was lost there."""
        end = np.array([self.support[side]])

        def outward(t: float) -> float:
            return float(self.flow.velocity(end, t)[0]) * (-1.0, 1.0)[side]

        clock = np.linspace(*self.t_span, 513)
        v = np.array([outward(t) for t in clock])
        turns = np.flatnonzero((v[:-1] > 0.0) & (v[1:] <= 0.0))
        return np.array([brentq(outward, clock[k], clock[k + 1], xtol=1e-14) for k in turns])

    def carry(self, x0: np.ndarray, t: float) -> np.ndarray:
        """Positions at time `t` of trajectories from `x0`; those beyond all nodes are kept with the outermost node."""
        inside = np.clip(x0, self.flow.x0[0], self.flow.x0[-1])
        return self.flow.carry(inside, t).x

    def entropy(self, t: float) -> float:
        """Differential entropy in nats, -E log q."""
        law = self.at(t)
        return -law.expect_along(lambda trace, _: self.fields.logpdf(trace)[0])

    def fisher(self, t: float) -> float:
        """Fisher information E s²."""
        law = self.at(t)
        return law.expect_along(lambda trace, _: self.fields.score(trace)[0] ** 2)

    def _budgets(self, times: np.ndarray) -> dict[str, ErrorBudget]:
        rows: dict[str, list[np.ndarray]] = {name: [] for name in ("pdf", "cdf", "score", "score_sup")}
        with np.errstate(all="ignore"):
            for t in times:
                whole, halved = self.flow.nodes(float(t))
                trace = trace_of(self.flow, whole.part(slice(1, -1)), halved.part(slice(1, -1)), self.flow.x0[1:-1])
                q, q_error = self.fields.pdf(trace)
                low, cdf_error = self.fields.tail(trace, upper=False)
                high = self.fields.tail(trace, upper=True)[0]
                s_error = self.fields.score(trace)[1]
                region = (low > _REGION) & (high > _REGION)
                mass = np.diff(np.append(0.0, low)) * region
                rows["pdf"].append(q_error.max() / q.max())
                rows["cdf"].append(cdf_error.max() + self.cut_error(float(t)))
                rows["score"].append(np.sqrt(np.where(mass > 0.0, mass * s_error**2, 0.0).sum()))
                rows["score_sup"].append(np.where(region, s_error, 0.0).max())
        zero = np.zeros(times.size)
        rounding = np.full(times.size, 4.0 * _EPS)
        norms = {
            "pdf": "sup, relative to max q",
            "cdf": "sup",
            "score": "L²(q)",
            "score_sup": "sup where F and 1 - F exceed 1e-6",
        }
        # positions are wrong by their steps in time; jumps of q0 by what they are within that
        budgets = {
            name: ErrorBudget(norm, times, zero, np.array(rows[name], dtype=float), zero, zero, rounding)
            for name, norm in norms.items()
        }
        given = ErrorBudget("exact: the declared velocity", times, zero, zero, zero, zero, rounding)
        return budgets | {"velocity": given, "velocity_sup": given}


class CharacteristicLaw(Law):
    """Law of a CharacteristicEvolution at one time."""

    def __init__(self, evolution: CharacteristicEvolution, t: float) -> None:
        self._evolution, self._time = evolution, t
        self._flow, self._fields = evolution.flow, evolution.fields
        self._periodic = evolution.flow.velocity.periodic
        self._ends = evolution.support
        self._cut = evolution.cut(0, t), evolution.cut(1, t)
        self._absorbed = evolution.absorbed(t) if "absorbing" in evolution.boundary else (0.0, 0.0)
        self._traces: dict[bytes, tuple[Trace, np.ndarray]] = {}
        self._quadrature: tuple[Trace, np.ndarray, np.ndarray] | None = None
        self._start = 0.0
        if self._periodic:
            trace, turns = self._trace(np.array([self._ends[0]]))
            self._start = float(evolution.initial.cdf(trace.x0)[0] - turns[0])

    @property
    def support(self) -> tuple[float, float]:
        """Ends of the support: the images of those of the initial law, within the process's."""
        if self._periodic:
            return self._ends
        low, high = self._evolution.initial.support
        ends = [
            float(self._evolution.carry(np.array([end]), self._time)[0]) if np.isfinite(end) else end
            for end in (max(low, self._cut[0]), min(high, self._cut[1]))
        ]
        return max(ends[0], self._ends[0]), min(ends[1], self._ends[1])

    def _trace(self, x: np.ndarray) -> tuple[Trace, np.ndarray]:
        """Trace of points, and by how many turns they were moved (periodic)."""
        key = x.tobytes()
        if key not in self._traces:
            if len(self._traces) > _REMEMBERED:
                self._traces.pop(next(iter(self._traces)))
            turns = np.zeros(x.size)
            if self._periodic:
                length = self._ends[1] - self._ends[0]
                base = self._flow.nodes(self._time)[1].x[0]
                turns = np.ceil((base - x) / length)
            points = x + turns * (self._ends[1] - self._ends[0]) if self._periodic else x
            self._traces[key] = pull_back(self._flow, points, self._time), turns
        return self._traces[key]

    def trace(self, x: np.ndarray) -> Trace:
        """Where the points `x` came from."""
        return self._trace(np.clip(x, *self._ends))[0]

    def field(self, name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values and estimated errors of a field at one-dimensional `x`."""
        if name == "velocity":
            return self._evolution.velocity_with_error(x, self._time)
        inside = (x >= self._ends[0]) & (x <= self._ends[1])
        if name in ("cdf", "sf"):
            return self._tail(x, upper=name == "sf")
        trace, _ = self._trace(np.where(inside, x, np.clip(x, *self._ends)))
        values, error = getattr(self._fields, name)(trace)
        gone = ~inside | (trace.x0 < self._cut[0]) | (trace.x0 > self._cut[1])
        empty, unknown = {"pdf": (0.0, 0.0), "logpdf": (-np.inf, np.inf), "score": (np.nan, np.inf)}[name]
        # a point next to what was absorbed may lie on the other side of it
        doubt = np.minimum(np.abs(trace.x0 - self._cut[0]), np.abs(trace.x0 - self._cut[1])) <= trace.x0_error
        half_known = np.exp(-trace.ell) + np.abs(values) if name == "pdf" else np.inf
        error = np.where(gone, unknown, error) + np.where(doubt, half_known, 0.0)
        return np.where(gone, empty, values), error

    def _tail(self, x: np.ndarray, *, upper: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mass left of x, or with `upper` right of it."""
        trace, turns = self._trace(np.clip(x, *self._ends))
        left, right = self._absorbed
        if self._periodic:
            values, error = self._fields.tail(trace, upper=False)
            below = values - turns - self._start
            return np.clip(1.0 - below if upper else below, 0.0, 1.0), 2.0 * error + 4.0 * _EPS
        values, error = self._fields.tail(trace, upper=upper)
        total = 1.0 - left - right
        values = np.clip(values - (right if upper else left), 0.0, total)
        values = np.where(x < self._ends[0], total if upper else 0.0, values)
        values = np.where(x > self._ends[1], 0.0 if upper else total, values)
        return values, error + self._evolution.cut_error(self._time)

    @pointwise
    def pdf(self, x: np.ndarray) -> np.ndarray:
        """Density."""
        return self.field("pdf", x)[0]

    @pointwise
    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Log-density, -inf where there is no mass."""
        return self.field("logpdf", x)[0]

    @pointwise
    def score(self, x: np.ndarray) -> np.ndarray:
        """∂x log q."""
        return self.field("score", x)[0]

    @pointwise
    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Mass left of x."""
        return self._tail(x, upper=False)[0]

    @pointwise
    def sf(self, x: np.ndarray) -> np.ndarray:
        """Mass right of x."""
        return self._tail(x, upper=True)[0]

    def ppf(self, p: Any) -> Any:
        """Quantiles of the initial law, carried forward."""
        return self._quantile(check_probabilities(p), False)[()]

    def isf(self, p: Any) -> Any:
        """Upper quantiles of the initial law, carried forward."""
        return self._quantile(check_probabilities(p), True)[()]

    def _quantile(self, p: np.ndarray, upper: bool) -> np.ndarray:
        initial, flat = self._evolution.initial, p.ravel()
        if self._periodic:
            level = (1.0 - flat if upper else flat) + self._start
            turns = np.floor(level)
            at = self._evolution.carry(np.asarray(initial.ppf(level - turns)), self._time)
            return np.clip(at + turns * (self._ends[1] - self._ends[0]), *self._ends).reshape(p.shape)
        level = np.minimum(flat + self._absorbed[1 if upper else 0], 1.0)
        x = self._evolution.carry(np.asarray(initial.isf(level) if upper else initial.ppf(level)), self._time)
        x = np.where(flat == 0.0, self.support[1 if upper else 0], x)
        x = np.where(flat >= 1.0 - sum(self._absorbed), self.support[0 if upper else 1], x)
        return np.clip(x, *self._ends).reshape(p.shape)

    def quantile_span(self, p: float) -> tuple[float, float]:
        """Finite (left, right) that leave at most `p` outside on each side."""
        return float(self.ppf(p)), float(self.isf(p))

    def cell_masses(self, faces: Any) -> np.ndarray:
        """Masses between increasing faces, relatively accurate in both tails."""
        cuts = check_faces(faces)
        low, high = self.cdf(cuts), self.sf(cuts)
        return np.where(low[1:] <= 0.5, np.diff(low), -np.diff(high))

    def expect(self, fn: Callable[[np.ndarray], np.ndarray]) -> float:
        """E fn(X), by quadrature over origins; what was absorbed counts as zero."""
        return self.expect_along(lambda _, x: fn(x))

    def expect_along(self, fn: Callable[[Trace, np.ndarray], np.ndarray]) -> float:
        """E fn(trace, X): Gauss-Legendre between the nodes, where absorption began, and at the seam of a circle."""
        if self._quadrature is None:
            flow, initial = self._flow, self._evolution.initial
            breaks = [cut for cut in self._cut if np.isfinite(cut)]
            if self._periodic:
                seam = float(initial.ppf(self._start % 1.0))
                breaks = [seam] if np.isfinite(seam) else []
            cuts = np.unique(np.concatenate([self._evolution.breaks, breaks]))
            cuts = cuts[(cuts >= self._cut[0]) & (cuts <= self._cut[1])]
            half = 0.5 * np.diff(cuts)[:, None]
            x0 = (0.5 * (cuts[1:] + cuts[:-1])[:, None] + half * _RULE[0]).ravel()
            halved = flow.carry(x0, self._time)
            x = flow.velocity.inside(halved.x) if self._periodic else halved.x
            weights = (half * _RULE[1]).ravel() * initial.pdf(x0)
            self._quadrature = trace_of(flow, halved, halved, x0), x, weights
        trace, x, weights = self._quadrature
        with np.errstate(all="ignore"):
            return float(np.where(weights > 0.0, weights * fn(trace, x), 0.0).sum())

    def mean(self) -> float:
        """Mean."""
        return self.expect(lambda x: x)

    def var(self) -> float:
        """Variance."""
        centre = self.mean()
        return self.expect(lambda x: (x - centre) ** 2)

    def sample(self, n: int, rng: Any) -> np.ndarray:
        """Draw from the initial law and carry along the flow."""
        if sum(self._absorbed) > 0.0:
            raise InputError("a law that lost mass cannot be sampled", self._absorbed, "sample before it was absorbed")
        x = self._evolution.carry(self._evolution.initial.sample(n, generator_of(rng)), self._time)
        return self._flow.velocity.inside(x) if self._periodic else x
