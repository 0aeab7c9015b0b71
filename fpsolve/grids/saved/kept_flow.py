"""What is kept of a characteristic solution: the initial law, and where its points are at any time.

Positions x(x0, t), ell = log ∂x/∂x0, bend = ∂ ell/∂x0 and the velocity stand at Chebyshev points of panels in x0 and in
t. So kinks and jumps of the law, which move with the flow, stay where they are exact.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d

from fpsolve.errors import InputError
from fpsolve.grids.budgets import ErrorBudget
from fpsolve.grids.flows.characteristics import CharacteristicEvolution
from fpsolve.grids.flows.pullback import Fields
from fpsolve.grids.flows.trajectories import Bundle, Flow, Loss, Stepper
from fpsolve.grids.flows.velocity import Velocity
from fpsolve.grids.saved.pieces import Pieces, fitted

_ROWS = 4  # x, ell, bend, v; then the errors of the first three
_FIT = 1e-10  # relative accuracy that polynomials should have; the misfit joins the errors
_JUDGED = 1e-12  # mass beyond a point, for the sake of which panels are halved
_FIRST = 8  # panels in x0 and, at least, in t
_DEPTH_X, _DEPTH_T = 8, 6
_PROBES = 9  # times at which panels in x0 are chosen
_MOST_NUMBERS = 3e7
_LARGEST = 1e30
_CONTINUED = 7  # points of the polynomial that goes on beyond an end
_PLACES = 0.5 - 0.5 * np.cos(np.pi * np.arange(_CONTINUED) / (_CONTINUED - 1))
_TO_POWERS = np.linalg.inv(np.vander(_PLACES, increasing=True))
_AROUND = 41  # origins: a difference that changes sign hides errors
_REGION, _ROUNDING = 1e-6, 1e-15


@dataclass(frozen=True)
class FlowTable:
    """`state` (4, origins, times) of x, ell, bend and v, and the errors of each; the origins stand in `origins`."""

    origins: Pieces
    clock: Pieces
    state: np.ndarray
    errors: np.ndarray


class KeptFlow:
    """A flow from its table: what `pull_back` and the law of a characteristic solution ask of a Flow."""

    def __init__(
        self, table: FlowTable, loss: Loss, t_span: tuple[float, float], support: tuple[float, float], periodic: bool
    ) -> None:
        self.table, self.loss, self.t_span = table, loss, t_span
        self.x0, self.velocity = table.origins.nodes, _KeptRange(support, periodic)
        self._at: OrderedDict[float, tuple[np.ndarray, np.ndarray]] = OrderedDict()

    def rows(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """State and errors (4, origins) at one time."""
        if t not in self._at:
            if len(self._at) > 64:
                self._at.popitem(last=False)
            clock = self.table.clock
            self._at[t] = clock.at_one(self.table.state, t), clock.around(self.table.errors, np.array([t]))[..., 0]
        return self._at[t]

    def nodes(self, t: float) -> tuple[Bundle, Bundle]:
        """All nodes at time `t`, twice: the difference of two integrations has become part of the errors."""
        found = _bundle(t, *self.rows(t))
        return found, found

    def carry(self, x0: np.ndarray, t: float, *, halved: bool = True) -> Bundle:
        """Bundle from `x0` at time `t`; `halved` makes no difference."""
        state, errors = self.rows(t)
        return _bundle(t, self.table.origins(state[:3], x0), self.table.origins.around(errors, x0))

    def errors(self, whole: Bundle, halved: Bundle) -> np.ndarray:
        """Estimated errors (3, n) of x, ell and bend."""
        return np.array([halved.rounding, halved.slope_error, halved.bend_error])

    def speed(self, x0: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Velocity of trajectories and its error."""
        state, errors = self.rows(t)
        return self.table.origins(state[3], x0), self.table.origins.around(errors[3], x0)


class _KeptRange(Velocity):
    """Where a flow lives, when the velocity itself is gone."""

    def __init__(self, support: tuple[float, float], periodic: bool) -> None:
        self.support, self.periodic = support, periodic


def _bundle(t: float, state: np.ndarray, errors: np.ndarray) -> Bundle:
    return Bundle(t, state[:3], np.zeros(state.shape[1]), errors[1], errors[2], errors[0])


class _Smooth(Velocity):
    """A velocity that goes on smoothly beyond absorbing ends, so that polynomials hold what reaches them."""

    def __init__(self, q: CharacteristicEvolution) -> None:
        super().__init__(q.process)
        self._reach = min(0.25 * q.flow.spread, self._room)
        self._beyond = [(side, q.support[side]) for side in (0, 1) if q.boundary[side] == "absorbing"]
        self._bounded = self._bounded and len(self._beyond) < np.isfinite(self.support).sum()

    def __call__(self, x: np.ndarray, t: float) -> np.ndarray:
        """v(x, t), continued by polynomials as far as they reach, then constant."""
        values = np.array(super().__call__(x, t))
        for side, end in self._beyond:
            inward = 1.0 - 2.0 * side
            away = (end - x) * inward
            out = away > 0.0
            if out.any():
                inside = super().__call__(end + inward * self._reach * _PLACES, t)
                apart = np.minimum(away[out] / self._reach, 1.0)
                values[out] = np.vander(-apart, _CONTINUED, increasing=True) @ (_TO_POWERS @ inside)
        return values


class _Carried:
    """Trajectories of a flow from other origins, along the steps of the flow and their halves."""

    def __init__(self, q: CharacteristicEvolution, x0: np.ndarray) -> None:
        flow = self.flow = q.flow
        self.velocity = _Smooth(q) if "absorbing" in q.boundary else flow.velocity
        self.stepper = Stepper(self.velocity, flow.stepper.scale, flow.stepper.centre)
        self.bundles = [(self.stepper.start(x0, flow.t_span[0]),) * 2]
        # trajectories that reached an absorbing end are of no account
        left, right = (kind == "absorbing" for kind in q.boundary)
        self._ends = (q.support[0] if left else -np.inf), (q.support[1] if right else np.inf)
        self.gone = [np.zeros(x0.size, dtype=bool)]
        for t in flow.times[1:]:
            self.bundles.append(self._stepped(self.bundles[-1], float(t)))
            self.gone.append(self.gone[-1] | self._outside(self.bundles[-1][1]))

    def _outside(self, bundle: Bundle) -> np.ndarray:
        return (bundle.x < self._ends[0]) | (bundle.x > self._ends[1])

    def _stepped(self, pair: tuple[Bundle, ...], t: float) -> tuple[Bundle, Bundle]:
        whole, halved = pair
        step = self.stepper.step
        return step(whole, t)[0], step(step(halved, 0.5 * (halved.t + t))[0], t)[0]

    def rows(self, t: float) -> np.ndarray:
        """x, ell, bend, v, the errors of the first three, and whether it is gone (8, n) at time `t`."""
        k = int(np.searchsorted(self.flow.times, t, side="right")) - 1
        whole, halved = self.bundles[k] if t == self.flow.times[k] else self._stepped(self.bundles[k], t)
        v = self.velocity(halved.x, t)
        gone = self.gone[k] | self._outside(halved)
        return np.concatenate([halved.state, v[None], self.flow.errors(whole, halved), gone[None]])


class _Judge:
    """What the rows of a flow may be off by, and for the sake of which of its points panels are halved."""

    def __init__(self, q: CharacteristicEvolution) -> None:
        self.law, self.spread = q.initial, q.flow.spread

    def limit(self, rows: np.ndarray) -> np.ndarray:
        """Limits (8, n) of rows (8, n); what is not a state does not count."""
        with np.errstate(all="ignore"):
            stretch = np.exp(np.clip(rows[1], -600.0, 600.0))
            own = np.nan_to_num(rows[_ROWS:-1], nan=_LARGEST, posinf=_LARGEST)
            limits = np.full(rows.shape, np.inf)
            limits[0] = np.maximum(own[0], _FIT * self.spread * stretch)
            limits[1] = np.maximum(own[1], _FIT)
            limits[2] = np.maximum(own[2], 10.0 * _FIT * (1.0 / self.spread + np.abs(rows[2])))
            limits[3] = _FIT * (np.abs(rows[3]) + np.abs(rows[3]).mean()) + 1e-300
        return limits

    def counts(self, x0: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Which origins matter: with mass beyond them, and not gone."""
        return (rows[-1] == 0.0) & (np.minimum(self.law.cdf(x0), self.law.sf(x0)) > _JUDGED)


def table_of_flow(q: CharacteristicEvolution) -> FlowTable:
    """Tabulate the flow of a solution: panels in x0 from a few times, then panels in t; misfits join the errors."""
    flow, judge = q.flow, _Judge(q)
    t0, t1 = flow.t_span
    probes = t0 + (t1 - t0) * (0.5 - 0.5 * np.cos(np.pi * np.arange(1, _PROBES + 1) / _PROBES))

    def at_probes(x0: np.ndarray) -> np.ndarray:
        carried = _Carried(q, x0)
        return np.array([carried.rows(float(t)) for t in probes])

    def limit_in_x(x0: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.array([judge.limit(part) for part in rows]), np.array([[judge.counts(x0, part)] for part in rows])

    first = flow.x0[np.unique(np.linspace(0, flow.x0.size - 1, _FIRST + 1).astype(int))]
    origins, _, missed = fitted(at_probes, first, limit_in_x, _DEPTH_X)
    missed_x = origins.spread(missed.max(axis=0)[:_ROWS])
    carried, x0 = _Carried(q, origins.nodes), origins.nodes
    known: dict[float, np.ndarray] = {}

    def over_time(times: np.ndarray) -> np.ndarray:
        for t in times.tolist():
            if t not in known:
                known[t] = carried.rows(t)
        if len(known) * x0.size * 2 * _ROWS > _MOST_NUMBERS:
            raise InputError("a table must fit into memory", f"{len(known)} times", "save a shorter span")
        return np.stack([known[t] for t in times.tolist()], axis=-1)

    def limit_in_t(times: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        limits = np.stack([judge.limit(rows[..., k]) for k in range(times.size)], axis=-1)
        return limits, judge.counts(x0[:, None], rows)[None]

    clock, rows, missed = fitted(over_time, np.linspace(t0, t1, 3), limit_in_t, _DEPTH_T)
    limits = limit_in_t(clock.nodes, rows)[0][:_ROWS]
    with np.errstate(all="ignore"):
        gaps = (clock.spread(missed[:_ROWS]) + missed_x[..., None]) * limits
        own = np.stack([_own_errors(flow, x0, t) for t in clock.nodes.tolist()], axis=-1)
        gaps[:3] += np.maximum(own, rows[_ROWS:-1])
    return FlowTable(origins, clock, rows[:_ROWS], np.minimum(np.nan_to_num(gaps, nan=_LARGEST), _LARGEST))


def _own_errors(flow: Flow, x0: np.ndarray, t: float) -> np.ndarray:
    """Errors (3, n) of x, ell and bend that the solution itself has around the origins."""
    errors = np.nan_to_num(flow.errors(*flow.nodes(t)), nan=_LARGEST, posinf=_LARGEST)
    wide = maximum_filter1d(errors, _AROUND, axis=1, mode="nearest")
    k = np.clip(np.searchsorted(flow.x0, x0), 1, flow.x0.size - 1)
    return np.maximum(wide[:, k - 1], wide[:, k])


class KeptCharacteristics(CharacteristicEvolution):
    """A characteristic solution whose flow is a KeptFlow, begun by what reads it from a file."""

    flow: KeptFlow  # type: ignore[assignment]

    def _begin(
        self,
        fields: Fields,
        flow: KeptFlow,
        boundary: tuple[str, str],
        turns: dict[int, np.ndarray],
        times: np.ndarray,
        breaks: np.ndarray,
    ) -> None:
        self._breaks = breaks
        self.fields, self.initial, self.flow = fields, fields.law, flow
        self.support, self.boundary, self.t_span = flow.velocity.support, boundary, flow.t_span
        self.turns = turns
        self._cuts, self._cut_errors, self._laws = {}, {}, {}
        self.error = self._budgets(times)

    @property
    def breaks(self) -> np.ndarray:
        """Origins between which the law is integrated: those of the solution that was kept."""
        return self._breaks

    def _budgets(self, times: np.ndarray) -> dict[str, ErrorBudget]:
        """As of the solution, but that the velocity is a table too."""
        budgets = super()._budgets(times)
        x0, zero = self.flow.x0, np.zeros(times.size)
        mass = np.minimum(np.gradient(self.initial.cdf(x0)), 1.0)
        region = np.minimum(self.initial.cdf(x0), self.initial.sf(x0)) > _REGION
        rows = [self.flow.rows(float(t))[1][3] * region for t in times]
        for name, found, norm in (
            ("velocity", [np.sqrt((mass * row**2).sum()) for row in rows], "L²(q)"),
            ("velocity_sup", [row.max() for row in rows], "sup where F and 1 - F exceed 1e-6"),
        ):
            budgets[name] = ErrorBudget(norm, times, zero, np.array(found), zero, zero, zero + _ROUNDING)
        return budgets

    def velocity_with_error(self, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Velocity of the trajectory that is at `x`; not known beyond all of them."""
        trace = self.at(t).trace(x)
        values, error = self.flow.speed(np.clip(trace.x0, self.flow.x0[0], self.flow.x0[-1]), t)
        inside = (x >= self.support[0]) & (x <= self.support[1]) & (trace.side == 0)
        # a point is where it is, but its origin is known only so far
        near = [self.flow.speed(trace.x0 + sign * trace.x0_error, t)[0] for sign in (-1.0, 1.0)]
        wide = np.max(np.abs(np.array(near) - values), axis=0)
        return values, np.where(inside, error + wide, np.inf)
