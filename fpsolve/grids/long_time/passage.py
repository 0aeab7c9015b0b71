"""First passage of an autonomous diffusion: mean and side by scale and speed, law of the time by modes or grid."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_number, check_points
from fpsolve.grids.fokker_planck import solve_fokker_planck
from fpsolve.grids.long_time.scale_speed import DEPTH, NODES, Autonomous, ScaleSpeed
from fpsolve.grids.long_time.spectrum import Spectrum, spectrum
from fpsolve.grids.long_time.stretch import cuts, top_seen_from
from fpsolve.grids.long_time.transition import first_usable
from fpsolve.problem.mixtures import PointMass
from fpsolve.problem.process import SDE

Array = np.ndarray
_TERMS = 32
_DEPTH = 66.0
_FINER = 6


class FirstPassage:
    """When and where a path from x0 leaves (lower, upper).

    Attributes
    ----------
    mean, mean_error : float
        E T by quadrature of scale and speed, and its estimated error; inf where T need not be finite or has no mean.
    probability_upper : float
        Probability that it leaves through the upper end, by the scale function; or runs off to that end for good.
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
        found = [self._integrals(coefficients.sample(edges, n, base=start), start) for n in (NODES, NODES + _FINER)]
        (rough, rough_upper), (mean, upper) = found
        self.probability_upper = upper
        self.mean = mean
        self.mean_error = abs(mean - rough) + 1e-13 * mean if math.isfinite(mean) else math.inf
        self._probability_error = abs(upper - rough_upper)

    def _panels(self, look: ScaleSpeed, kinds: tuple[str, str]) -> tuple[Array, int]:
        """Edges in v that hold the start and all that matters, and the index of the start among them."""
        coordinate = self._coefficients.coordinate
        start = float(coordinate.v(np.array([self.x0]))[0])
        at = int(np.argmin(np.abs(look.v.ravel() - start)))
        tops = [top_seen_from(look, kinds, side) for side in (0, 1)]
        depth = _DEPTH + max(0.0, *(top - float(logs[at]) for top, logs in tops))
        both = cuts(look, kinds, min(depth, DEPTH))
        low, high = min(both[0].v, start - 1.0), max(both[1].v, start + 1.0)
        low, high = max(low, float(look.edges[0])), min(high, float(look.edges[-1]))
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
        if two_sided:
            to_upper, to_lower = below_edges[start] - total, above_edges[start] - total
            logs = mesh.log_speed + mesh.log_weights
            near = np.exp(logs[:start] + below[:start] + to_lower).sum()
            return float(near + np.exp(logs[start:] + above[start:] + to_upper).sum()), min(upper, 1.0)
        logs = mesh.log_scale + mesh.log_weights
        if right == "exit":
            mass, edges = mesh.running(mesh.log_speed, speed_tails[0])
            rest = math.exp(edges[-1] + scale_tails[1])
            return float(np.exp(logs[start:] + mass[start:]).sum() + rest), 1.0
        mass, edges = mesh.running(mesh.log_speed, speed_tails[1], backwards=True)
        return float(np.exp(logs[:start] + mass[:start]).sum() + math.exp(edges[0] + scale_tails[0])), 0.0

    @cached_property
    def _modes(self) -> tuple[Spectrum, Array] | str:
        """Modes of what is left inside with their weights in the survival, or why there are none."""
        try:
            found = spectrum(self.process, _TERMS)
        except InputError as refusal:
            return str(refusal)
        modes = found.modes
        mesh = modes.mesh
        weights = np.exp(mesh.log_speed - modes.log_mass + mesh.log_weights)
        masses = (weights * modes.values).sum(axis=(1, 2))
        for side, at in ((0, (0, 0)), (1, (-1, -1))):
            if found.kinds[side] == "closed":
                masses += math.exp(mesh.tail(mesh.log_speed, side) - modes.log_mass) * modes.values[:, *at]
        return found, found.eigenfunctions(self.x0) * masses

    @cached_property
    def first(self) -> float:
        """Time from which on survival and density come from modes; inf if they never do."""
        if isinstance(self._modes, str):
            return math.inf
        found, weights = self._modes
        return first_usable(found.eigenvalues, weights)

    def route(self, t: float) -> str:
        """Return "modes" or "grid": how `survival(t)` and `density(t)` are found."""
        return "modes" if t >= self.first else "grid"

    @cached_property
    def _grid(self) -> Any:
        until = self.first if math.isfinite(self.first) else self.t_max
        if until is None:
            raise InputError("the time on a grid must be limited where no modes are known", self._modes, "give t_max=")
        return solve_fokker_planck(self.process, PointMass(self.x0), (0.0, until))

    def survival(self, t: Any) -> Array:
        """P(T > t), shape of t: by modes where they suffice (`route`), else by solve_fokker_planck."""
        return self._by_time(t, 0)

    def density(self, t: Any) -> Array:
        """Density of T at t, shape of t: -∂t P(T > t), by modes, or by the fluxes through absorbing ends on a grid."""
        return self._by_time(t, 1)

    def _by_time(self, t: Any, derivative: int) -> Array:
        times = check_points("t", t)
        if (times < 0.0).any():
            raise InputError("t must not be negative", t, "the path starts at 0")
        flat = times.ravel()
        values = np.empty(flat.shape)
        late = flat >= self.first
        if late.any() and not isinstance(self._modes, str):
            found, weights = self._modes
            rates = found.eigenvalues
            values[late] = (weights * rates**derivative) @ np.exp(-np.outer(rates, flat[late]))
        for i in np.flatnonzero(~late):
            values[i] = self._on_grid(float(flat[i]), derivative)
        return values.reshape(times.shape)[()]

    def _on_grid(self, t: float, derivative: int) -> float:
        if t == 0.0:
            return 1.0 - derivative
        if not derivative:
            return float(self._grid.mass(t))
        slice_ = self._grid.slice(t)
        ends = np.array([self._grid.grid.left, self._grid.grid.right])
        fluxes = slice_.field("flux").value[[0, -1]] if slice_.has_flux else self._grid.flux(ends, t)
        return float(sum(abs(flux) for flux, role in zip(fluxes, self._roles, strict=True) if role == "exit"))

    def __repr__(self) -> str:
        return f"FirstPassage(x0={self.x0:.6g}, mean={self.mean:.10g}, probability_upper={self.probability_upper:.10g})"


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
        Until when survival and density may be asked where the spectrum is not discrete, and a grid must carry them.

    Returns
    -------
    FirstPassage
        `.mean`, `.probability_upper`, `.survival(t)` and `.density(t)`.

    Raises
    ------
    InputError
        If a coefficient depends on time, x0 is not between the limits, nothing is to be reached, or (from `survival`
        and `density`) a grid needs t_max.

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
