"""Stochastic control with quadratic cost of the control: value, optimal control, cost of any control."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_choice, check_number, check_points, check_t_span, check_time, check_times
from fpsolve.grids.backward.backward import FIRST_CELLS, declared, exits, solve_backward, solved
from fpsolve.grids.backward.domain import choose_domain
from fpsolve.grids.backward.solution import BackwardSolution
from fpsolve.grids.extrapolation import interpolate
from fpsolve.particles.simulate import simulate
from fpsolve.problem.coefficient import Coefficient
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.grid import Grid
from fpsolve.problem.process import Process

NAMES = ("value", "gradient", "control")
_SAVED = 8
_LEAST = 1e-11  # goal of the linear equation, where v is small somewhere in the region
_FIRM = 1e-4  # error of a gradient, in units of its largest size in the region (or of one), at which it is still used
_LOOKS, _FEW = 5, 4  # times at which gradients are looked at, and nodes on each side that a control needs at least
_EDGE = 0.02  # part of the interval that the straight continuation of a control looks at


@dataclass(frozen=True)
class ControlSolution:
    """Value V(x, t) of a control problem, its gradient, and the optimal control u* = -g ∂x V.

    `solution` is V itself, or v = e^-V if `exponential`. `message` says what was reached.
    """

    process: Process
    solution: BackwardSolution
    exponential: bool
    _recent: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def message(self) -> str:
        """What was reached, of the equation that was solved."""
        return f"{'v = e^-V' if self.exponential else 'V'}: {self.solution.message}"

    @property
    def t_span(self) -> tuple[float, float]:
        """Span."""
        return self.solution.t_span

    @property
    def region(self) -> tuple[float, float]:
        """Region of interest."""
        return self.solution.region

    def __call__(self, x: Any, t: float) -> np.ndarray:
        """Value V(x, t), shape of x; NaN where it is not known."""
        v = self.solution(x, t)
        return _minus_log(v) if self.exponential else v

    def gradient(self, x: Any, t: float) -> np.ndarray:
        """∂x V(x, t), shape of x; NaN where it is not known."""
        slope = self.solution.gradient(x, t)
        if not self.exponential:
            return slope
        v = self.solution(x, t)
        return -np.divide(slope, v, out=np.full(np.shape(v), np.nan), where=v > 0.0)

    def control(self, x: Any, t: float) -> np.ndarray:
        """Optimal control u*(x, t) = -g ∂x V; beyond where the gradient is known it goes on straight."""
        points, t = check_points("x", x), check_time(t, self.t_span)
        key = t, points.size, float(points.sum())
        if self._recent.get("key") != key or not np.array_equal(self._recent["x"], points):
            self._recent.update(key=key, x=points.copy(), u=self._control(points.ravel(), t).reshape(points.shape))
        return self._recent["u"]

    def _control(self, x: np.ndarray, t: float) -> np.ndarray:
        grid, (left, right) = self.solution.grid, self.known
        v, slope = self.solution.smooth_nodes(t)
        nodes, ring = grid.faces, v.size == grid.cells
        if self.exponential:
            slope = -np.divide(slope, v, out=np.zeros(v.size), where=v > 0.0)
        if ring:
            slope, x = np.append(slope, slope[0]), left + (x - left) % (right - left)
        else:
            good = (nodes >= left) & (nodes <= right)
            slope = _straight_beyond(nodes[good], slope[good], nodes)
        inner = np.clip(x, grid.left, grid.right)
        found = interpolate(grid, slope, inner)
        beyond = x != inner
        if beyond.any():
            found[beyond] = _straight_beyond(nodes, slope, x[beyond])
        return -self.process.diffusion(x, t) * found

    @cached_property
    def known(self) -> tuple[float, float]:
        """As far around the best known place in the region of interest as gradients are known at all times."""
        nodes = self.solution.grid.faces
        inside = (nodes >= self.region[0]) & (nodes <= self.region[1])
        worst = np.zeros(nodes.size)
        for t in np.linspace(*self.t_span, _LOOKS + 1)[:-1]:
            slope, error = self._estimated("gradient", nodes, float(t))
            firm = inside & np.isfinite(error)
            worst = np.maximum(worst, error / max(1.0, float(np.abs(slope[firm]).max(initial=0.0))))
        best = int(np.where(inside, np.nan_to_num(worst, nan=np.inf), np.inf).argmin())
        bad = np.flatnonzero(~(worst <= _FIRM))
        first, last = bad[bad < best].max(initial=-1) + 1, bad[bad > best].min(initial=nodes.size) - 1
        return float(nodes[min(first, max(0, best - _FEW))]), float(nodes[max(last, min(nodes.size - 1, best + _FEW))])

    def with_error(self, name: str, x: Any, t: float) -> Estimate:
        """Return "value", "gradient" or "control" at points with an estimated error.

        Raises
        ------
        InputError
            Where it is not known.
        """
        check_choice("a field", name, NAMES)
        points, t = check_points("x", x), check_time(t, self.t_span)
        value, error = self._estimated("value" if name == "value" else "gradient", points, t)
        if name == "control":
            g = self.process.diffusion(points, t)
            value, error = -g * value, np.abs(g) * error
        if not np.isfinite(value + error).all():
            rule = "a value function is asked for where it is known"
            raise InputError(rule, f"{name} at points beyond", "stay inside .known, or give grid=")
        return Estimate(value, error=error, route="hopf-cole" if self.exponential else "hjb")

    def _estimated(self, name: str, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Value or gradient of V, and its error."""
        if not self.exponential:
            found = self.solution.with_error(name, x, t)
            return np.asarray(found.value), np.asarray(found.error)
        v = self.solution.with_error("value", x, t)
        size, off = np.asarray(v.value), np.asarray(v.error)
        with np.errstate(all="ignore"):
            relative = np.where(size > 2.0 * off, -np.log1p(-np.minimum(off / size, 0.5)), np.inf)
        if name == "value":
            return _minus_log(size), relative
        slope = self.solution.with_error("gradient", x, t)
        with np.errstate(all="ignore"):
            ratio = -np.asarray(slope.value) / size
            error = np.where(size > 2.0 * off, (np.asarray(slope.error) + np.abs(ratio) * off) / (size - off), np.inf)
        return np.where(size > 0.0, ratio, np.nan), error


def _straight_beyond(nodes: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Values at points, interpolated; beyond the nodes on the straight lines through values near their ends."""
    inset = max(1, int(_EDGE * nodes.size))
    found = np.interp(x, nodes, values)
    for end, near, out in ((0, inset, x < nodes[0]), (-1, -1 - inset, x > nodes[-1])):
        turned = (values[end] - values[near]) / (nodes[end] - nodes[near])
        found = np.where(out, values[end] + turned * (x - nodes[end]), found)
    return found


def _minus_log(v: np.ndarray) -> np.ndarray:
    """-log v, NaN where v is not positive."""
    return -np.log(v, out=np.full(np.shape(v), np.nan), where=v > 0.0)


class ControlProblem:
    """Minimise E[∫ (½ u² + running(X, t)) dt + terminal(X_t1)] for dX = (f + g u) dt + g dW.

    The value V(x, t) is the least cost from x at t on; -∂t V = f V' + ½ g² V'' + running - ½ g² V'², u* = -g V'
    (Hamilton, Jacobi, Bellman). With v = e^-V (Hopf, Cole) that is -∂t v = f v' + ½ g² v'' - running v.

    Parameters
    ----------
    process : SDE
        The process without control.
    running : callable or float
        Function of x and t.
    terminal : callable or float
        Function of x.
    t_span : (float, float)
        Span, t0 < t1.
    exit_cost : float or (float, float), optional
        Cost of leaving through an absorbing end; a pair for the left and the right one. Unless given, leaving is
        forbidden: V is infinite at an absorbing end.

    Raises
    ------
    InputError
        If the process has no noise or moving ends, or for an exit cost without an absorbing end.
    CoefficientError
        If a cost is not a finite function of single points.

    Notes
    -----
    Two routes to V. `solve_hjb` takes V itself by Radau collocation and Newton's method, on differences and closures of
    its own; `solve_hopf_cole` takes e^-V by extrapolated implicit Euler steps. They share the declared functions, the
    choice of the domain and of the places of nodes, interpolation between nodes, and the loop that refines, compares
    and estimates; neither coefficients at nodes nor differences, starts, conditions at ends or steps.

    Fleming and Rishel (1975), chapter VI; Berner et al. (2211.01364), section 2 and Lemma 2.3; Kappen (2005).

    Examples
    --------
    >>> problem = fps.ControlProblem(fps.SDE(0.0, 1.0), lambda x: 0.5 * x**2, 0.0, (0, 1))
    >>> V = problem.solve_hjb()
    >>> bool(abs(V(1.0, 0.0) - 0.5 * np.tanh(1.0) - 0.5 * np.log(np.cosh(1.0))) < 1e-6)
    True
    >>> bool(abs(V.control(1.0, 0.0) + np.tanh(1.0)) < 1e-5)
    True
    """

    def __init__(
        self, process: Process, running: Any, terminal: Any, t_span: tuple[float, float], *, exit_cost: Any = None
    ) -> None:
        self.process, self.t_span = process.to_ito(), check_t_span(t_span)
        declared(process, 0.0, None, None, self.t_span)  # refuses what no backward equation is solved for
        self.running = Coefficient("running cost", running, {}, process.support)
        self.terminal = Coefficient("terminal cost", terminal, {}, process.support)
        self.exit_cost = None if exit_cost is None else exits("exit_cost", exit_cost, process)

    def solve_hjb(
        self, *, grid: Grid | None = None, t_eval: Any = None, rtol: float = 1e-6, progress: bool = False
    ) -> ControlSolution:
        """Solve the nonlinear equation for V itself; `grid`, `t_eval`, `rtol`, `progress` as in `solve_backward`.

        Raises
        ------
        InputError
            For a bad argument, or an absorbing end without an exit cost, where V is infinite.
        BlowUp
            If V is too steep for its own equation, as it is where a terminal cost jumps far.
        """
        exit_values = self._exit_values("use solve_hopf_cole()")
        setting = declared(self.process, self.terminal.source, None, self.running.source, self.t_span, bends=True)
        setting = replace(setting, exit_values=exit_values)
        goal = check_number("rtol", rtol, above=0.0, below=1.0)
        domain = choose_domain(setting, grid, FIRST_CELLS)
        return ControlSolution(self.process, solved(setting, domain, self._times(t_eval), goal, grid, progress), False)

    def _exit_values(self, otherwise: str) -> tuple[float, float]:
        """Exit costs; refuses absorbing ends without one, where V is infinite."""
        if self.exit_cost is None and "absorbing" in self.process.boundary:
            raise InputError("V must be finite at all ends", "an absorbing end", f"give exit_cost=, or {otherwise}")
        return self.exit_cost or (0.0, 0.0)

    def solve_hopf_cole(
        self, *, grid: Grid | None = None, t_eval: Any = None, rtol: float = 1e-6, progress: bool = False
    ) -> ControlSolution:
        """Solve the linear equation for v = e^-V, as closely as `rtol` in V asks for; arguments as in `solve_hjb`."""
        goal = check_number("rtol", rtol, above=0.0, below=1.0)

        def weight(x: np.ndarray) -> np.ndarray:
            return np.exp(-self.terminal.raw(x, self.t_span[1]))

        for _ in range(2):
            v = solve_backward(
                self.process,
                weight,
                self.t_span,
                potential=self.running.source,
                exit_value=0.0 if self.exit_cost is None else tuple(np.exp(-np.array(self.exit_cost)).tolist()),
                grid=grid,
                t_eval=self._times(t_eval),
                rtol=goal,
                progress=progress,
            )
            places = np.linspace(*v.region, 65)[1:-1]
            sizes, top = v(places, self.t_span[0]), v(places, self.t_span[1]).max()
            needed = max(_LEAST, rtol * float(np.clip(sizes.min() / top, 0.0, 1.0)))
            if needed > 0.5 * goal:
                break
            goal = needed
        return ControlSolution(self.process, v, True)

    def _times(self, t_eval: Any) -> np.ndarray:
        if t_eval is None:
            return np.linspace(*self.t_span, _SAVED + 1)[:-1]
        return check_times("t_eval", t_eval, self.t_span)

    def cost(self, u: Any, *, grid: Grid | None = None, rtol: float = 1e-6) -> BackwardSolution:
        """Cost J(x, t) of a control u(x, t): the linear equation of the controlled process, source running + ½ u².

        Parameters
        ----------
        u : callable or float
            Function of x and t. An optimal control (`solution.control`) goes on straight beyond where it is known.
        grid, rtol
            As in `solve_backward`.

        Examples
        --------
        >>> problem = fps.ControlProblem(fps.SDE(0.0, 1.0), 0.0, lambda x: x**2, (0, 1))
        >>> J = problem.cost(lambda x: -x)
        >>> gone = (1 - np.exp(-2)) / 2
        >>> exact = 0.9**2 * np.exp(-2) + gone + 0.5 * (0.9**2 * gone + 0.5 * (1 - gone))
        >>> bool(abs(J(0.9, 0.0) - exact) < 1e-6)
        True
        """
        control = Coefficient("control", u, {}, self.process.support)
        return solve_backward(
            self.process.controlled(control.resolved()),
            self.terminal.resolved(),
            self.t_span,
            source=self._spent(control),
            exit_value=self._exit_values("reflect there: a control that cannot keep paths inside has no finite cost"),
            grid=grid,
            rtol=rtol,
        )

    def verification_gap(
        self, u: Any, *, optimal: ControlSolution | None = None, grid: Grid | None = None, rtol: float = 1e-6
    ) -> BackwardSolution:
        """½ E ∫ (u - u*)² dt under the control u, from (x, t) on: what the cost of u exceeds V by.

        Parameters
        ----------
        u : callable or float
            Function of x and t.
        optimal : ControlSolution, optional
            Where u* comes from; `solve_hopf_cole()` unless given.
        grid, rtol
            As in `solve_backward`.

        Examples
        --------
        >>> problem = fps.ControlProblem(fps.SDE(0.0, 1.0), lambda x: 0.5 * x**2, 0.0, (0, 1))
        >>> V, J, gap = problem.solve_hjb(), problem.cost(0.0), problem.verification_gap(0.0)
        >>> bool(abs(J(0.5, 0.0) - V(0.5, 0.0) - gap(0.5, 0.0)) < 1e-6)
        True
        """
        control = Coefficient("control", u, {}, self.process.support)
        self._exit_values("reflect there: a control that cannot keep paths inside has no finite cost")
        best = (optimal or self.solve_hopf_cole()).control
        return solve_backward(
            self.process.controlled(control.resolved()),
            0.0,
            self.t_span,
            source=lambda x, t: 0.5 * (control(x, t) - best(x, t)) ** 2,
            grid=grid,
            rtol=rtol,
        )

    def simulated_cost(self, u: Any, start: Any, *, n_paths: int, n_steps: int, rng: Any = 0) -> Estimate:
        """Cost of a control from the law `start` at t0 on, as a mean over paths (Euler-Maruyama).

        Examples
        --------
        >>> problem = fps.ControlProblem(fps.SDE(0.0, 1.0), 0.5, 0.0, (0, 1))
        >>> round(float(problem.simulated_cost(2.0, fps.PointMass(0.0), n_paths=100, n_steps=8).value), 9)
        2.5
        """
        if "absorbing" in self.process.boundary:
            raise InputError(
                "simulated costs are those of paths that are not absorbed", "an absorbing end", "use cost(u)"
            )
        control = Coefficient("control", u, {}, self.process.support)
        ensemble = simulate(
            self.process.controlled(control.resolved()),
            start,
            self.t_span,
            n_paths=n_paths,
            n_steps=n_steps,
            functionals={"spent": (self._spent(control), 0.0)},
            rng=rng,
        )
        ensemble.check_complete()
        return ensemble.expect(lambda x, spent: self.terminal(x, self.t_span[1]) + spent)

    def _spent(self, control: Coefficient) -> Callable[[np.ndarray, float], np.ndarray]:
        return lambda x, t: self.running(x, t) + 0.5 * control(x, t) ** 2
