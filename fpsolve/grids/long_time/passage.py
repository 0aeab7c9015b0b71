"""First passage of an autonomous diffusion: mean and side by scale and speed, law of the time by modes or grid."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_choice, check_number, check_points
from fpsolve.grids.fokker_planck import solve_fokker_planck
from fpsolve.grids.long_time.passage_law import GridSeries, ModeSeries
from fpsolve.grids.long_time.scale_speed import DEPTH, MOVED, NODES, ROUNDED, Autonomous, ScaleSpeed
from fpsolve.grids.long_time.spectrum import spectrum
from fpsolve.grids.long_time.stretch import cuts, top_seen_from
from fpsolve.problem.mixtures import PointMass
from fpsolve.problem.process import SDE
from fpsolve.problem.support import SIDES

Array = np.ndarray
_TERMS = (32, 12, 4)
_DEPTH = 66.0
_FINER = 6
_DIGITS = 1e-13


class FirstPassage:
    """When and where a path from x0 leaves (lower, upper).

    Attributes
    ----------
    mean, mean_error : float
        E T by quadrature of scale and speed, and its estimated error; both inf where T need not be finite, has no mean,
        or has one above the range of float64.
    probability_upper, probability_error : float
        Probability that it leaves through the upper end, by the scale function, or runs off to that end for good; and
        its estimated error.
    process : SDE
        The process with absorbing ends at what was given as lower and upper.
    """

    def __init__(self, coefficients: Autonomous, x0: float, t_max: float | None) -> None:
        self._coefficients, self.x0, self.t_max = coefficients, x0, t_max
        self.process = coefficients.process
        look = coefficients.look()
        self._roles = [_role(coefficients, look, side) for side in (0, 1)]
        if "exit" not in self._roles:
            raise InputError(
                "a first passage needs an end to reach",
                f"ends that are never reached or reflect: {self._roles[0]} and {self._roles[1]}",
                "give lower= or upper=, or declare an absorbing end",
            )
        kinds = ("closed" if self._roles[0] == "closed" else "open", "closed" if self._roles[1] == "closed" else "open")
        edges, start = self._panels(look, kinds)
        found = self._at_resolutions(edges, start)
        self.mean, self.probability_upper = found[0]
        self.mean_error, self.probability_error = (_error(*values) for values in zip(*found, strict=True))

    def _at_resolutions(self, edges: Array, start: int) -> list[tuple[float, float]]:
        """Mean and side with most nodes, with fewer, with moved places, and with one panel less on each side."""
        moved = edges.copy()
        moved[start] += MOVED * abs(self.x0) / float(self._coefficients.coordinate.slope(edges[start : start + 1])[0])
        fine, rough, jolted = (
            self._coefficients.sample(at, n, start, by)
            for at, n, by in ((edges, NODES + _FINER, 0.0), (edges, NODES, 0.0), (moved, NODES + _FINER, MOVED))
        )
        # what lies beyond the panels is extrapolated: from further inside too
        first, last = int(start > 1), edges.size - 1 - int(start < edges.size - 2)
        found = [self._integrals(mesh, start) for mesh in (fine, rough, jolted)]
        return [*found, self._integrals(fine.within(first, last), start - first)]

    def _panels(self, look: ScaleSpeed, kinds: tuple[str, str]) -> tuple[Array, int]:
        """Edges in v that hold the start and all that matters, and the index of the start among them."""
        coordinate = self._coefficients.coordinate
        start = float(coordinate.v(np.array([self.x0]))[0])
        at = int(np.argmin(np.abs(look.v.ravel() - start)))
        tops = [top_seen_from(look, kinds, side) for side in (0, 1)]
        depth = _DEPTH + max(0.0, *(top - float(logs[at]) for top, logs in tops))
        ends = []
        for side, cut in enumerate(cuts(look, kinds, min(depth, DEPTH))):
            outward = 2 * side - 1
            if self._roles[side] == "exit" and math.isfinite(self._coefficients.support[side]):
                ends.append(float(look.edges[-side]))  # on the way to it time passes everywhere
            elif outward * (cut.v - start) > 0.0:
                ends.append(cut.v)
            else:  # cut where a power law begins, and the start is closer to the end
                ends.append(start + outward)
        low, high = max(ends[0], float(look.edges[0])), min(ends[1], float(look.edges[-1]))
        if not low < start < high:
            raise InputError(
                "x0 must be further from an end than 1e-8 of it",
                self.x0,
                "shift the process so that this end is at 0",
            )
        edges = self._coefficients.resolve(low, high, (start,))
        return edges, int(np.argmin(np.abs(edges - start)))

    def _integrals(self, mesh: ScaleSpeed, start: int) -> tuple[float, float]:
        """Mean time and probability of the upper end."""
        left, right = self._roles
        scale_tails, speed_tails = (
            [mesh.tail(logs, side) if math.isfinite(mesh.tail(logs, side)) else -math.inf for side in (0, 1)]
            for logs in (mesh.log_scale, mesh.log_speed)
        )
        below, below_edges = mesh.running(mesh.log_scale, scale_tails[0])
        above, above_edges = mesh.running(mesh.log_scale, scale_tails[1], backwards=True)
        total = float(np.logaddexp(below_edges[-1], scale_tails[1]))
        two_sided = all(role in ("exit", "escape") for role in (left, right))
        upper = math.exp(below_edges[start] - total) if two_sided else float(right == "exit")
        if "escape" in self._roles or "recurrent" in self._roles:
            return math.inf, min(upper, 1.0)
        with np.errstate(over="ignore"):
            if two_sided:
                to_upper, to_lower = below_edges[start] - total, above_edges[start] - total
                logs = mesh.log_speed + mesh.log_weights
                near, far = below[:start] + to_lower, above[start:] + to_upper
                return float(np.exp(logs + np.concatenate([near, far])).sum()), min(upper, 1.0)
            logs = mesh.log_scale + mesh.log_weights
            if right == "exit":
                mass, edges = mesh.running(mesh.log_speed, speed_tails[0])
                rest = np.exp(edges[-1] + scale_tails[1])
                return float(np.exp(logs[start:] + mass[start:]).sum() + rest), 1.0
            mass, edges = mesh.running(mesh.log_speed, speed_tails[1], backwards=True)
            rest = np.exp(edges[0] + scale_tails[0])
            return float(np.exp(logs[:start] + mass[:start]).sum() + rest), 0.0

    @cached_property
    def _modes(self) -> ModeSeries | InputError:
        """Modes of what is left inside, or why there are none; beside a very small rate only a few have digits."""
        if "escape" in self._roles:
            return InputError(
                "modes hold paths that pass or come back",
                f"paths that run off at the {SIDES[self._roles.index('escape')]} end",
                "give t_max=",
            )
        for terms in _TERMS:
            try:
                found = spectrum(self.process, terms)
            except InputError as why:
                refusal = why
                continue
            if found.edge > 2.0 * found.eigenvalues[-1]:
                return ModeSeries(found, self.x0)
        return refusal

    @cached_property
    def first(self) -> float:
        """Time from which on survival and density come from modes; inf if they never do."""
        return math.inf if isinstance(self._modes, InputError) else self._modes.first

    def route(self, t: float) -> str:
        """Return "modes" or "grid": how `survival(t)` and `density(t)` are found."""
        return "modes" if t >= self.first else "grid"

    @cached_property
    def _grid(self) -> GridSeries:
        until = self.first if math.isfinite(self.first) else self.t_max
        if until is None:
            raise InputError("the time on a grid must be limited where no modes are known", self._modes, "give t_max=")
        evolution = solve_fokker_planck(self.process, PointMass(self.x0), (0.0, until))
        return GridSeries(evolution, [role == "exit" for role in self._roles])

    def survival(self, t: Any) -> Array:
        """P(T > t), shape of t: by modes where they suffice (`route`), else by solve_fokker_planck."""
        return self.with_error("survival", t)[0]

    def density(self, t: Any) -> Array:
        """Density of T at t, shape of t: -∂t P(T > t), by modes, or by the fluxes through absorbing ends on a grid."""
        return self.with_error("density", t)[0]

    def with_error(self, name: str, t: Any) -> tuple[Array, Array]:
        """Return (values, estimated errors) of "survival" or "density" at times `t`, both of its shape."""
        order = ("survival", "density").index(check_choice("name", name, ("survival", "density")))
        times = check_points("t", t)
        if (times < 0.0).any():
            raise InputError("t must not be negative", t, "the path starts at 0")
        flat = times.ravel()
        values, error = np.empty(flat.shape), np.empty(flat.shape)
        late = flat >= self.first
        if late.any() and isinstance(self._modes, ModeSeries):
            values[late], error[late] = self._modes.at(flat[late], order)
        if not late.all():
            values[~late], error[~late] = self._grid.at(flat[~late], order)
        return values.reshape(times.shape)[()], error.reshape(times.shape)[()]

    def __repr__(self) -> str:
        return f"FirstPassage(x0={self.x0:.6g}, mean={self.mean:.10g}, probability_upper={self.probability_upper:.10g})"


def _error(value: float, rough: float, jolted: float, shorter: float) -> float:
    """Two resolutions, rounding of places and what was extrapolated."""
    if not math.isfinite(value):
        return math.inf
    return abs(value - rough) + ROUNDED * abs(value - jolted) + abs(value - shorter) + _DIGITS * value


def _role(coefficients: Autonomous, look: ScaleSpeed, side: int) -> str:
    """What an end is to a path: "exit", "closed" (comes back), "escape" (lost), "recurrent" (back, after long)."""
    mass = look.tail(look.log_speed, side) < math.inf
    scale = look.tail(look.log_scale, side) < math.inf
    if coefficients.boundary[side] == "absorbing" and scale:
        return "exit"
    if mass:
        return "closed"
    return "escape" if scale else "recurrent"


def first_passage(
    process: Any, x0: float, *, lower: float | None = None, upper: float | None = None, t_max: float | None = None
) -> FirstPassage:
    """Return mean, side and law of the time at which a path from x0 first reaches `lower` or `upper`.

    Parameters
    ----------
    process : SDE
        Its coefficients do not depend on time; its own ends stay what they are where no limit is given: absorbing
        ends are reached too.
    x0 : float
        Start, between the limits.
    lower, upper : float, optional
        The places to reach.
    t_max : float, optional
        Until when survival and density may be asked where a grid must carry them: the spectrum is not discrete, or
        paths may run off to an end for good.

    Returns
    -------
    FirstPassage
        `.mean`, `.probability_upper`, `.survival(t)` and `.density(t)`; `.mean_error`, `.probability_error` and
        `.with_error(name, t)` have their estimated errors.

    Raises
    ------
    InputError
        If a coefficient depends on time, x0 is not between the limits or too close to one, nothing is to be reached, or
        (from `survival` and `density`) a grid needs t_max.

    Notes
    -----
    With scale density s = e^-Ψ and speed density m = 2 e^Ψ/g², Ψ = ∫ 2f/g²: probability_upper = S(lower, x0)/S(lower,
    upper), E T = ∫ G m with Green's function G, one-sided E T = ∫_x0^upper s(y) ∫_left^y m (Karlin and Taylor 1981,
    section 15.3). All terms are positive and summed in log space. Kramers' 2π e^{2ΔV/σ²}/√(V''(a) |V''(b)|) is
    what E T from well a over the barrier b to the other well tends to as the noise decreases, not E T itself: in
    `processes.double_well` it is 20 % below it at σ = 0.5, 5 % at 0.25 and 2 % at 0.15.

    Examples
    --------
    >>> T = fps.first_passage(fps.SDE(0.5, 1.0), 1.0, lower=0.0, upper=3.0)
    >>> p = (1 - np.exp(-1.0)) / (1 - np.exp(-3.0))
    >>> bool(abs(T.probability_upper - p) < 1e-12), bool(abs(T.mean - (3 * p - 1) / 0.5) < 1e-11)
    (True, True)
    """
    declared = Autonomous(process, "a first passage")
    start = check_number("x0", x0)
    left, right = declared.support
    limits = [
        end if limit is None else check_number(name, limit, at_least=left)
        for name, limit, end in (("lower", lower, left), ("upper", upper, right))
    ]
    if not limits[0] < start < limits[1] or limits[1] > right:
        raise InputError("x0 must lie between lower and upper, inside the support", start, f"start within {limits}")
    if declared.ring and (lower is None or upper is None):
        raise InputError("a first passage on a ring needs both limits", (lower, upper), "give lower= and upper=")
    boundary = ["absorbing" if given is not None else declared.boundary[i] for i, given in enumerate((lower, upper))]
    p = declared.process
    cut = SDE(
        p.drift_coefficient.resolved(),
        p.diffusion_coefficient.resolved(),
        support=(limits[0], limits[1]),
        boundary=boundary,
    )
    until = None if t_max is None else check_number("t_max", t_max, above=0.0)
    return FirstPassage(Autonomous(cut, "a first passage"), start, until)
