"""Doob's transform: a process weighted by what its paths end with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_choice, check_points, check_t_span
from fpsolve.grids.backward.backward import solve_backward
from fpsolve.problem.coefficient import Coefficient
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.grid import Grid
from fpsolve.problem.mixtures import PointMass
from fpsolve.problem.process import SDE, Process
from fpsolve.theory.bridge import PointBridge
from fpsolve.theory.control import ControlProblem, ControlSolution

NAMES = ("log_h", "score")


class Conditioned:
    """The process whose paths are weighted by h(X_t1); made by `conditioned`.

    Attributes
    ----------
    process : SDE
        The conditioned process: drift f + g² ∂x log h, the same noise. Bridges to a point exist before the end of the
        span only: there the drift grows like (z - x)/(t1 - t), and all paths meet in z.
    message : str
        How h was found, and how closely.
    t_span : (float, float)
        Span.
    """

    def __init__(self, original: Process, solution: ControlSolution | PointBridge) -> None:
        self._original, self._solution = original, solution
        self.t_span, self.message = solution.t_span, solution.message

        def drift(x: np.ndarray, t: float) -> np.ndarray:
            return original.drift(x, t) + original.diffusion(x, t) * solution.control(x, t)

        drift.probe_times = (0.63 * self.t_span[0] + 0.37 * self.t_span[1], self.t_span[0])  # type: ignore[attr-defined]
        noise = original.diffusion_coefficient.resolved()
        self.process = SDE(drift, noise, support=original.support, boundary=original.boundary)

    def log_h(self, x: Any, t: float) -> np.ndarray:
        """log h(x, t) with h(x, t) = E[h(X_t1) | X_t = x], shape of x; NaN where it is not known."""
        return -self._solution(x, t)

    def score(self, x: Any, t: float) -> np.ndarray:
        """∂x log h(x, t), shape of x; NaN where it is not known."""
        return -self._solution.gradient(x, t)

    def with_error(self, name: str, x: Any, t: float) -> Estimate:
        """Return "log_h" or "score" at points with an estimated error.

        Raises
        ------
        InputError
            Where it is not known.
        """
        found = self._solution.with_error(
            {"log_h": "value", "score": "gradient"}[check_choice("a field", name, NAMES)], x, t
        )
        return Estimate(-np.asarray(found.value), error=found.error, route=found.route)

    def log_weight(self, q0: Any) -> Callable[[np.ndarray], np.ndarray]:
        """log of q0(x) h(x, t0): the conditioned process starts from the law with this unnormalised density."""

        def logarithm(x: np.ndarray) -> np.ndarray:
            points = check_points("x", x)
            return q0.logpdf(points) + np.nan_to_num(self.log_h(points, self.t_span[0]), nan=-np.inf)

        return logarithm


def conditioned(
    process: Process, h: Any, t_span: tuple[float, float], *, grid: Grid | None = None, rtol: float = 1e-6
) -> Conditioned:
    """Weight the paths of a process by h(X_t1): drift f + g² ∂x log h(x, t), h(x, t) = E[h(X_t1) | X_t = x].

    Parameters
    ----------
    process : SDE
        With absorbing ends, only paths that are not absorbed count: h = 1 conditions on survival.
    h : callable, float or density
        Function of x, nowhere negative. If it is a density, or positive everywhere (underflow counts as zero), and no
        end absorbs, log h is solved for itself, so that tails keep their digits; else h. With `fps.PointMass(z)` all
        paths end in z (a bridge): h is the transition density to z, between ends that are not reached and with noise
        g(x, t) = c(t) γ(x). What is singular at the end is split off in closed form.
    t_span : (float, float)
        Span, t0 < t1.
    grid, rtol
        As in `solve_backward`; of log h or of h.

    Returns
    -------
    Conditioned
        With the process as `.process`, `.log_h(x, t)`, `.score(x, t)` and `.log_weight(q0)`.

    Raises
    ------
    InputError
        If h is negative somewhere, or for a bad argument.

    Notes
    -----
    Doob (1957); Rogers and Williams (1987), IV.39. Marginals are q_t h_t / Z for the start q_0 h_0 / Z.

    A bridge is simulated and solved for up to a time before t1. Its log h at t is
    -d²/2s - ½ log 2πs - log γ(z) - B - U with s the time left in the clock of the noise, and a smooth U = O(s).

    Examples
    --------
    >>> bridge = fps.conditioned(fps.SDE(0.0, 1.0), fps.Normal(2, 0.1), (0, 1))
    >>> round(float(bridge.process.drift(0.5, 0.25)), 5) == round((2 - 0.5) / (0.75 + 0.01), 5)
    True
    >>> pinned = fps.conditioned(fps.SDE(0.0, 1.0), fps.PointMass(2.0), (0, 1))
    >>> round(float(pinned.process.drift(0.5, 0.25)), 9)
    2.0
    """
    span, original = check_t_span(t_span), process.to_ito()
    if isinstance(h, PointMass):
        return Conditioned(original, PointBridge(original, h.x, span, grid, rtol))
    cost = _minus_log(h, original, span[1])
    if cost is not None and "absorbing" not in original.boundary:
        solution = ControlProblem(original, 0.0, cost, span).solve_hjb(grid=grid, rtol=rtol)
    else:
        weight = h.pdf if hasattr(h, "pdf") else h
        solution = ControlSolution(original, solve_backward(original, weight, span, grid=grid, rtol=rtol), True)
    return Conditioned(original, solution)


def _minus_log(h: Any, process: Process, t: float) -> Callable[[np.ndarray], np.ndarray] | None:
    """-log h, or None if it does not exist everywhere; refuses what is negative."""
    if hasattr(h, "logpdf"):
        return lambda x: -h.logpdf(x)
    weight = Coefficient("h", h, {}, process.support)
    places = _places(process.support)
    values = weight(places, t)
    if values.min() < 0.0 or values.max() == 0.0:
        worst = int(values.argmin())
        raise InputError(
            "h must be nowhere negative and somewhere positive",
            f"{values[worst]:.4g} at x={places[worst]:.4g}",
            "give a weight of the paths by where they end",
        )
    return None if values.min() == 0.0 else lambda x: -np.log(weight(x, t))


def _places(support: tuple[float, float]) -> np.ndarray:
    """Where a weight is looked at: far out, where the support is infinite."""
    left, right = support
    far = np.append(np.linspace(-20.0, 20.0, 401), [-100.0, 100.0])
    if np.isfinite(left) and np.isfinite(right):
        return np.linspace(left, right, 403)[1:-1]
    if np.isfinite(left) or np.isfinite(right):
        return left + 1e-3 + np.abs(far) if np.isfinite(left) else right - 1e-3 - np.abs(far)
    return far
