"""Processes dX = f dt + g dW, declared once and frozen; an ODE is the case g = 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from fpsolve.errors import InputError, check_choice, check_t_span
from fpsolve.problem.built_on import BuiltOn, is_evolution
from fpsolve.problem.coefficient import Coefficient
from fpsolve.problem.declaration import Declaration

_ANY_SPAN = (0.0, 1.0)  # stands for a clock that does not matter
ProcessType = TypeVar("ProcessType", bound="Process")


class Process(Declaration):
    """Common part of SDE and ODE: calculus, time reversal, flows and noise levels."""

    def _rebuilt(self, drift: Any, diffusion: Any, **changes: Any) -> Process:
        options = {"support": self._ends.resolved(), "boundary": self.boundary} | changes
        return SDE(drift, diffusion, **options)

    @property
    def evolutions(self) -> tuple[Any, ...]:
        """Paths of densities whose scores are in the coefficients, as in those of `reverse`."""
        parts = (*self.drift_coefficient.built_on, *self.diffusion_coefficient.built_on)
        return tuple({id(part.evolution): part.evolution for part in parts}.values())

    def to_ito(self) -> Process:
        """Return the same law in Itô form: f_ito = f_stratonovich + ¼ ∂x g².

        Examples
        --------
        >>> p = fps.SDE(0.0, lambda x: 2 * x, calculus="stratonovich")
        >>> round(float(p.to_ito().drift(1.0, 0.0)), 8)
        2.0
        """
        if self.calculus == "ito":
            return self
        return self._in_calculus("ito", +0.25)

    def to_stratonovich(self) -> Process:
        """Return the same law in Stratonovich form: f_stratonovich = f_ito - ¼ ∂x g².

        Examples
        --------
        >>> p = fps.SDE(0.0, lambda x: 2 * x).to_stratonovich()
        >>> round(float(p.drift(1.0, 0.0)), 8), p.calculus
        (-2.0, 'stratonovich')
        """
        if self.calculus == "stratonovich":
            return self
        return self._in_calculus("stratonovich", -0.25)

    def _in_calculus(self, calculus: str, share: float) -> Process:
        def drift(x: np.ndarray, t: float) -> np.ndarray:
            return self.drift(x, t) + share * self.diffusion_squared_dx(x, t)

        _inherit(drift, self.drift_coefficient)
        unchanged = not self.diffusion_coefficient.uses_x and self._square_dx is None
        same = self._rebuilt(
            self.drift_coefficient.resolved() if unchanged else drift,
            self.diffusion_coefficient.resolved(),
            calculus=calculus,
            diffusion_squared_dx=self._square_dx and self._square_dx.resolved(),
        )
        object.__setattr__(same, "closed_form", self.closed_form)
        return same

    def reverse(self, q: Any, *, t_span: tuple[float, float] | None = None) -> SDE:
        """Return the time reversal in the clock τ = t1 - t: drift -f + ∂x g² + g² s at t1 - τ, noise g.

        Parameters
        ----------
        q : Evolution or callable
            The marginals of this process, or their score (x, t) in the forward clock.
        t_span : (float, float), optional
            Span (t0, t1) of the forward process; that of `q` unless given. The result runs over (0, t1 - t0).

        Raises
        ------
        InputError
            If `q` is a callable and no span is given.

        Notes
        -----
        Anderson (1982); survey eq. for the reverse-time SDE; Winther et al. eqs. 11-20. Among all processes
        with these marginals it is the one with the reversed path law.

        Examples
        --------
        >>> p = fps.processes.ou(theta=1.0, sigma=2**0.5)
        >>> q = fps.exact_evolution(p, fps.Normal(0, 1), (0, 1))
        >>> float(np.round(p.reverse(q).drift(0.5, 0.2), 12))
        -0.5
        """
        score, (t0, t1) = _score_of(q, t_span)
        p = self.to_ito()

        def drift(x: np.ndarray, t: float) -> np.ndarray:
            u = t1 - t
            return -p.drift(x, u) + p.diffusion_squared_dx(x, u) + p.diffusion_squared(x, u) * score(x, u)

        _build_on(drift, (0.0, t1 - t0), q, p.diffusion_squared, p, lambda t: t1 - t)
        return SDE(drift, p._reversed_diffusion(t1), support=self._ends.reversed(t1), boundary=self.boundary)

    def _reversed_diffusion(self, t1: float) -> Any:
        g = self.diffusion_coefficient
        return (lambda x, t: g(x, t1 - t)) if g.uses_t else g.resolved()

    def probability_flow(self, q: Any) -> ODE:
        """Return the ODE with velocity v = f - ½ ∂x g² - ½ g² s, which has the marginals q.

        Parameters
        ----------
        q : Evolution or callable
            The marginals of this process, or their score (x, t).

        Notes
        -----
        Winther et al. eqs. 11-20; survey, probability-flow ODE (Proposition 3).

        Examples
        --------
        >>> p = fps.processes.ou(theta=1.0, sigma=2**0.5)
        >>> float(np.round(p.probability_flow(lambda x, t: -x).velocity(0.5, 0.2) + 1, 12))
        1.0
        """
        score, span = _score_of(q, getattr(q, "t_span", _ANY_SPAN))
        p = self.to_ito()

        def velocity(x: np.ndarray, t: float) -> np.ndarray:
            return p._velocity(x, t, score)

        _build_on(velocity, span, q, lambda x, t: 0.5 * p.diffusion_squared(x, t), p)
        return ODE(velocity, support=self._ends.resolved(), boundary=self.boundary)

    def _velocity(self, x: np.ndarray, t: float, score: Callable[..., Any]) -> np.ndarray:
        if self.is_ode:
            return self.drift(x, t)
        return (
            self.drift(x, t) - 0.5 * self.diffusion_squared_dx(x, t) - 0.5 * self.diffusion_squared(x, t) * score(x, t)
        )

    def with_noise(self, gamma: Any, q: Any) -> SDE:
        """Return the process with noise γ(x, t) and the same marginals q: drift v + ½ ∂x γ² + ½ γ² s.

        Parameters
        ----------
        gamma : float or callable
            The new noise level.
        q : Evolution or callable
            The marginals of this process, or their score (x, t).

        Notes
        -----
        The family of Winther et al. eqs. 11-20; γ = g returns the process itself, γ = 0 its probability flow.

        Examples
        --------
        >>> p = fps.ODE(lambda x, t: 0 * x).with_noise(2.0, lambda x, t: -x)
        >>> float(p.drift(0.5, 0.0))
        -1.0
        """
        score, span = _score_of(q, getattr(q, "t_span", _ANY_SPAN))
        p = self.to_ito()
        noise = self._coefficient("noise level", gamma, {})

        def drift(x: np.ndarray, t: float) -> np.ndarray:
            return p._velocity(x, t, score) + 0.5 * noise.square_dx(x, t) + 0.5 * noise(x, t) ** 2 * score(x, t)

        _build_on(drift, span, q, lambda x, t: 0.5 * (noise(x, t) ** 2 - p.diffusion_squared(x, t)), p)
        return SDE(drift, noise.resolved(), support=self._ends.resolved(), boundary=self.boundary)

    def controlled(self, u: Any) -> SDE:
        """Return the process with drift f + g u.

        Examples
        --------
        >>> float(fps.SDE(0.0, 2.0).controlled(lambda x, t: x).drift(3.0, 0.0))
        6.0
        """
        p = self.to_ito()
        control = self._coefficient("control", u, {})

        def drift(x: np.ndarray, t: float) -> np.ndarray:
            return p.drift(x, t) + p.diffusion(x, t) * control(x, t)

        _inherit(drift, p.drift_coefficient, control)
        return SDE(
            drift,
            p.diffusion_coefficient.resolved(),
            support=self._ends.resolved(),
            boundary=self.boundary,
        )


class SDE(Process):
    """The process dX = f(X, t) dt + g(X, t) dW.

    Parameters
    ----------
    drift, diffusion : float or callable
        f and g: numbers, or callables bound by parameter name, `f(x, t)`, `f(t, x)`, `f(x)` or `f(t)`; `x` is an
        array and the result has its shape. Arguments with defaults are constants; further names are parameters.
    calculus : {"ito", "stratonovich"}
        How g dW is meant.
    support : (float or callable, float or callable)
        Where the process lives. An end that is a function of `t` (and of parameters) is a moving wall; the attribute
        `support` then has its place at `probe_time`, `support_at(t)` at any time.
    boundary : str or (str, str)
        "natural", "reflecting", "absorbing" or "periodic" at the ends of `support`; a moving end is absorbing or
        reflecting.
    params : dict of float, optional
        Values of the parameters; `with_params` changes them without compiling again.
    diffusion_squared_dx : callable, optional
        ∂x g², if known; compared with differences of g².

    Raises
    ------
    CoefficientError
        If a coefficient returns the wrong shape or type, raises, is not finite, or depends on neighbouring entries.
    UnknownName
        If an argument, parameter, calculus or boundary is not known.
    InputError
        If a "natural" boundary is declared at a finite end that the process reaches (regular or exit, see `ends`) or
        that moves, or if a moving end is not a finite number left of the other at the time of examination.

    Examples
    --------
    >>> p = fps.SDE(lambda x, k: -k * x, 1.0, params={"k": 2.0})
    >>> float(p.drift(3.0, t=0.0)), float(p.with_params(k=1.0).drift(3.0, t=0.0))
    (-6.0, -3.0)
    """

    def __init__(
        self,
        drift: Any,
        diffusion: Any,
        *,
        calculus: str = "ito",
        support: tuple[Any, Any] = (-np.inf, np.inf),
        boundary: Any = "natural",
        params: Mapping[str, float] | None = None,
        diffusion_squared_dx: Any = None,
    ) -> None:
        self._declare("drift", drift, diffusion, calculus, support, boundary, params, diffusion_squared_dx)

    def with_params(self, **params: float) -> SDE:
        """Return the process with some parameters changed; machine code is shared."""
        changed = _changed(self.params, params)
        square_dx = None if self._square_dx is None else self._square_dx.source
        other = SDE(
            self.drift_coefficient.source,
            self.diffusion_coefficient.source,
            calculus=self.calculus,
            support=self._ends.source,
            boundary=self.boundary,
            params=changed,
            diffusion_squared_dx=square_dx,
        )
        return _sharing_machine_code(self, other)

    def __repr__(self) -> str:
        return f"SDE(support={self._ends}, boundary={self.boundary}, calculus={self.calculus!r}, params={self.params})"


class ODE(Process):
    """The flow dX = v(X, t) dt: an SDE without noise.

    Parameters
    ----------
    velocity : float or callable
        v, bound by parameter name as in SDE.
    support, boundary, params
        As in SDE.

    Raises
    ------
    CoefficientError, UnknownName, InputError
        As in SDE.

    Examples
    --------
    >>> flow = fps.ODE(lambda x, t: -x)
    >>> float(flow.velocity(2.0, 0.0)), flow.is_ode
    (-2.0, True)
    """

    def __init__(
        self,
        velocity: Any,
        *,
        support: tuple[Any, Any] = (-np.inf, np.inf),
        boundary: Any = "natural",
        params: Mapping[str, float] | None = None,
    ) -> None:
        self._declare("velocity", velocity, 0.0, "ito", support, boundary, params, None)

    def velocity(self, x: Any, t: float) -> np.ndarray:
        """Velocity v(x, t), shape of x."""
        return self.drift(x, t)

    def with_params(self, **params: float) -> ODE:
        """Return the flow with some parameters changed; machine code is shared."""
        other = ODE(
            self.drift_coefficient.source,
            support=self._ends.source,
            boundary=self.boundary,
            params=_changed(self.params, params),
        )
        return _sharing_machine_code(self, other)

    def __repr__(self) -> str:
        return f"ODE(support={self._ends}, boundary={self.boundary}, params={self.params})"


def _sharing_machine_code(old: Process, new: ProcessType) -> ProcessType:
    for name in ("drift_coefficient", "diffusion_coefficient"):
        getattr(new, name).share_machine_code(getattr(old, name))
    return new


def _changed(old: Mapping[str, float], new: Mapping[str, float]) -> dict[str, float]:
    for name in new:
        check_choice("a parameter", name, old or {"(this process has no parameters)"})
    return {**old, **new}


def _same_clock(t: float) -> float:
    return t


def _build_on(
    fn: Any,
    t_span: tuple[float, float],
    q: Any,
    weight: Callable[..., Any],
    p: Process,
    clock: Callable[[float], float] = _same_clock,
) -> None:
    """Have a function that is `weight` times the score of `q`, and the drift of `p`, examined where q is known."""
    fn.probe_times = (0.63 * t_span[0] + 0.37 * t_span[1], *t_span)
    own = (BuiltOn(q, clock, weight),) if is_evolution(q) else ()
    fn.built_on = (*own, *(part.seen_through(clock) for part in p.drift_coefficient.built_on))


def _inherit(fn: Any, *coefficients: Coefficient) -> None:
    """Have a function that is made of coefficients examined where they are, and know what they are built on."""
    fn.probe_times = tuple(t for c in coefficients for t in getattr(c.source, "probe_times", ()))
    fn.built_on = tuple(part for c in coefficients for part in c.built_on)


def _score_of(q: Any, t_span: Any) -> tuple[Callable[..., Any], tuple[float, float]]:
    """Return the score of an Evolution, or of a callable bound by name, and the span."""
    if hasattr(q, "score") and hasattr(q, "t_span"):
        return q.score, check_t_span(q.t_span if t_span is None else t_span)
    if t_span is None:
        raise InputError("a score needs the span of its clock", None, "give t_span=(t0, t1), or pass an Evolution")
    return Coefficient("score", q), check_t_span(t_span)
