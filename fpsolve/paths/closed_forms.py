"""Closed forms: linear SDEs from Gaussian mixtures and point masses, their images under a map, and who has one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fpsolve.errors import InputError, NoClosedForm, check_points, check_t_span
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.density import as_law
from fpsolve.problem.law import Law
from fpsolve.problem.maps import Map, Pushforward
from fpsolve.problem.mixtures import GaussianMixture, PointMass
from fpsolve.problem.process import Process

_LOG_2PI = float(np.log(2.0 * np.pi))
# both ends, and times that no period of the coefficients hits
_PROBE_PARTS = np.append(np.arange(1, 12) * 0.6180339887498949 % 1.0, [0.0, 1.0])
_PROBES = np.array([-40.0, -3.0, -1.0, 0.0, 0.7, 2.0, 31.0])
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(16)
_MOST_PANELS = 1024


def _running_integrals() -> np.ndarray:
    """Matrix that takes values at the Gauss nodes to integrals from -1 to each node."""
    powers = np.polynomial.legendre.legvander(_NODES, 15)
    integrated = [
        np.polynomial.legendre.legval(_NODES, np.polynomial.legendre.legint(row, lbnd=-1)) for row in np.eye(16)
    ]
    return np.array(integrated).T @ np.linalg.inv(powers)


_RUNNING = _running_integrals()


class LinearCoefficients:
    """a, b and g² of dX = (a(t) X + b(t)) dt + g(t) dW."""

    def __init__(self, process: Process) -> None:
        self._process = process.to_ito()

    def __call__(self, t: float) -> tuple[float, float, float]:
        f = self._process.drift(np.array([-1.0, 0.0, 1.0]), t)
        g = self._process.diffusion(np.zeros(1), t)
        return 0.5 * float(f[2] - f[0]), float(f[1]), float(g[0]) ** 2

    def why_not_linear(self, t_span: tuple[float, float]) -> str:
        """Reason why the process is not linear with additive noise on the whole line, or an empty string."""
        p = self._process
        if np.isfinite(p.support).any():
            return f"its support is {p.support}"
        for t in t_span[0] + (t_span[1] - t_span[0]) * _PROBE_PARTS:
            f, g = p.drift(_PROBES, t), p.diffusion(_PROBES, t)
            a, b, _ = self(t)
            if np.ptp(g) > 1e-13 * np.abs(g).max():
                return f"its diffusion depends on x at t={t:g}"
            if np.abs(f - (a * _PROBES + b)).max() > 1e-12 * (np.abs(f).max() + 1e-300):
                return f"its drift is not linear in x at t={t:g}"
        return ""


class ExactEvolution(Evolution):
    """An evolution in closed form: values are exact to rounding, and transitions between any two times are known."""

    def flux_with_error(self, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return J = q v and its rounding error."""
        flux = self.pdf(x, t) * self.velocity(x, t)
        return flux, 1e-12 * np.abs(flux)

    def with_error(self, name: str, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return exact values with the error of the moments and of rounding."""
        values = getattr(self, name)(x, t)
        return values, 1e-11 * (1.0 + np.abs(values))

    @abstractmethod
    def transition_logpdf(self, x: Any, t: float, y: Any, s: float) -> np.ndarray:
        """log p(X_t = x | X_s = y) for s < t; x and y broadcast."""


class LinearMixture(ExactEvolution):
    """Gaussian mixture (or point mass) carried by a linear SDE: moments solve m' = a m + b, V' = 2 a V + g²."""

    def __init__(self, process: Process, initial: Law, t_span: tuple[float, float]) -> None:
        self.process, self.initial, self.t_span = process, initial, t_span
        self.coefficients = LinearCoefficients(process)
        self.message = "closed form: Gaussian mixture under a linear SDE"
        if isinstance(initial, PointMass):
            self._weights, self._means, self._vars = np.ones(1), np.array([initial.mean()]), np.zeros(1)
        else:
            self._weights, self._means, self._vars = initial.weights, initial.means, initial.stds**2  # type: ignore[attr-defined]
        self._kernels: dict[tuple[float, float], tuple[float, float, float]] = {}
        self._laws: dict[float, Law] = {t_span[0]: initial}

    def kernel(self, s: float, t: float) -> tuple[float, float, float]:
        """Return (Φ, B, N): X_t given X_s = y is Gaussian with mean Φ y + B and variance N."""
        key = (self.check_t(s), self.check_t(t))
        if key not in self._kernels:
            if len(self._kernels) > 4096:
                self._kernels.clear()
            self._kernels[key] = self._integrate(*key)
        return self._kernels[key]

    def _integrate(self, s: float, t: float) -> tuple[float, float, float]:
        """Integrate on ever more panels until (log Φ, B, N) settle to rounding."""
        panels, before = 1, np.full(3, np.inf)
        while panels <= _MOST_PANELS:
            with np.errstate(over="ignore", invalid="ignore"):  # what is not finite ends the search
                log_factor, shift, noise = self._over_panels(np.linspace(s, t, panels + 1))
            found = np.array([log_factor, shift, noise])
            if not np.isfinite(found).all():
                break
            # scales of the span, so that a moment that happens to vanish does not ask for more panels
            if (np.abs(found - before) <= 1e-13 * (np.array([1.0, 1.0 + abs(shift), noise]))).all():
                return float(np.exp(log_factor)), float(shift), float(noise)
            panels, before = 2 * panels, found
        raise NoClosedForm(
            "the coefficients of a linear SDE must be integrable over the span", f"({s:g}, {t:g})", "shorten t_span"
        )

    def _over_panels(self, edges: np.ndarray) -> tuple[float, float, float]:
        """log Φ, B and N over panels in a row."""
        log_factor, shift, noise = 0.0, 0.0, 0.0
        for a, b in pairwise(edges):
            step = self._panel(float(a), float(b))
            factor = np.exp(step[0])
            log_factor, shift, noise = log_factor + step[0], factor * shift + step[1], factor**2 * noise + step[2]
        return log_factor, shift, noise

    def _panel(self, s: float, t: float) -> tuple[float, float, float]:
        """log Φ, B and N over one panel: X_t = Φ (X_s + ∫ b/φ du + ∫ g/φ dW) with φ the factor up to u."""
        half = 0.5 * (t - s)
        a, b, g2 = np.array([self.coefficients(float(u)) for u in s + half * (1.0 + _NODES)]).T
        log_factor = half * float(_NODE_WEIGHTS @ a)
        left = np.exp(log_factor - half * (_RUNNING @ a))  # from u to t
        return log_factor, half * float(_NODE_WEIGHTS @ (left * b)), half * float(_NODE_WEIGHTS @ (left**2 * g2))

    def _moments(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        factor, shift, noise = self.kernel(self.t_span[0], t)
        return factor * self._means + shift, factor**2 * self._vars + noise

    def at(self, t: float) -> Law:
        """Return the law at time `t`: a GaussianMixture (or the point mass that it started from)."""
        time = self.check_t(t)
        if time not in self._laws:
            means, variances = self._moments(time)
            if (variances <= 0).any():
                self._laws[time] = PointMass(float(means[0]))
            else:
                self._laws[time] = GaussianMixture(self._weights, means, np.sqrt(variances))
        return self._laws[time]

    def velocity(self, x: Any, t: float) -> np.ndarray:
        """v = -∂t F/q, exactly: each component moves with m' + (σ'/σ)(x - m), weighted by its posterior."""
        points = check_points("x", x)
        a, b, g2 = self.coefficients(self.check_t(t))
        means, variances = self._moments(t)
        if (variances <= 0).any():
            raise InputError("a point mass has no velocity field", t, "ask at a later time")
        apart = points[..., None] - means
        log_parts = np.log(self._weights) - 0.5 * apart**2 / variances - 0.5 * np.log(variances)
        parts = np.exp(log_parts - log_parts.max(axis=-1, keepdims=True))
        moves = a * means + b + (a + 0.5 * g2 / variances) * apart
        return (parts * moves).sum(axis=-1) / parts.sum(axis=-1)

    def transition_logpdf(self, x: Any, t: float, y: Any, s: float) -> np.ndarray:
        """log p(X_t = x | X_s = y) for s < t; x and y broadcast."""
        factor, shift, noise = self.kernel(s, t)
        return -0.5 * (np.asarray(x) - factor * np.asarray(y) - shift) ** 2 / noise - 0.5 * (np.log(noise) + _LOG_2PI)


class MappedEvolution(ExactEvolution):
    """X = map(Y) for a process Y with a closed form."""

    def __init__(self, process: Process, inner: LinearMixture, initial: Law, map_: Map) -> None:
        self.process, self.inner, self.initial, self.t_span = process, inner, initial, inner.t_span
        self.map = map_
        self.message = f"closed form: image of a linear SDE under {self.map}"

    def at(self, t: float) -> Law:
        """Return the law at time `t`, the image of the law of Y."""
        law = self.inner.at(t)
        if isinstance(law, PointMass):
            return PointMass(float(self.map.forward(np.array(law.mean()))))
        return Pushforward(law, self.map)

    def velocity(self, x: Any, t: float) -> np.ndarray:
        """v_X = (dx/dy) v_Y: mass moves with the map."""
        y = self.map.inverse(check_points("x", x))
        return self.map.derivative(y) * self.inner.velocity(y, t)

    def flux_with_error(self, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the flux, which the map leaves unchanged, and its rounding error."""
        return self.inner.flux_with_error(self.map.inverse(check_points("x", x)), t)

    def transition_logpdf(self, x: Any, t: float, y: Any, s: float) -> np.ndarray:
        """log p(X_t = x | X_s = y) for s < t; x and y broadcast."""
        u, v = self.map.inverse(np.asarray(x, float)), self.map.inverse(np.asarray(y, float))
        return self.inner.transition_logpdf(u, t, v, s) - self.map.log_derivative(u)


@dataclass(frozen=True)
class Mapped:
    """The published process X = map(Y) of a linear process Y; called with (process, law, t_span) it solves it."""

    hidden: Process
    map: Map

    def __call__(self, process: Process, law: Law, span: tuple[float, float]) -> MappedEvolution:
        """Return the evolution from a point mass, or from the image of a Gaussian mixture."""
        if isinstance(law, PointMass):
            start: Law = PointMass(float(self.map.inverse(np.array(law.mean()))))
        elif isinstance(law, Pushforward) and law.map == self.map:
            start = law.base
        else:
            raise NoClosedForm(
                f"the law must be the image of a Gaussian mixture under {self.map}",
                law,
                f"use fps.Pushforward(mixture, {self.map}), or fps.solve_fokker_planck",
            )
        return MappedEvolution(process, _linear_evolution(self.hidden, start, span), law, self.map)


def exact_evolution(process: Process, q0: Any, t_span: Any) -> ExactEvolution:
    """Return the marginals in closed form.

    Parameters
    ----------
    process : SDE or ODE
        Linear in x with additive noise on the whole line (coefficients may depend on t), or a published instance as
        `fps.processes` returned it: gbm, sinh_ou, cir, jacobi. What is built from an instance is not one.
    q0 : density
        Law at t_span[0]: a Gaussian mixture or a point mass; for gbm and sinh_ou its image
        `fps.Pushforward(mixture, map)` or a point mass; for cir a point mass or a Gamma mixture of shape 2κθ/ξ²; for
        jacobi a point mass.
    t_span : (float, float)
        Span of time.

    Raises
    ------
    NoClosedForm
        If the process has none, or the law does not stay in the family; for jacobi also at times so close to the start
        that the series does not converge.
    InputError
        If a point mass lies outside the support.

    Notes
    -----
    Moments of linear processes solve m' = a m + b and V' = 2 a V + g² to a relative 1e-13.

    Examples
    --------
    >>> q = fps.exact_evolution(fps.processes.ou(theta=1.0, sigma=2**0.5), fps.PointMass(2.0), (0, 1))
    >>> bool(abs(q.mean(1.0) - 2 * np.exp(-1)) < 1e-12), bool(abs(q.var(1.0) - 1 + np.exp(-2)) < 1e-12)
    (True, True)
    """
    solve = process.closed_form or _linear_evolution
    return solve(process, as_law(q0, "q0"), check_t_span(t_span))


def _linear_evolution(process: Process, law: Law, span: tuple[float, float]) -> LinearMixture:
    reason = LinearCoefficients(process).why_not_linear(span)
    fix = "use fps.solve_fokker_planck"
    if reason:
        raise NoClosedForm(
            "a closed form needs a linear SDE with additive noise, or a published instance of fps.processes",
            reason,
            fix,
        )
    if not isinstance(law, (GaussianMixture, PointMass)):
        raise NoClosedForm("a closed form needs a Gaussian mixture or a point mass at the start", law, fix)
    return LinearMixture(process, law, span)


def find_closed_form(process: Process, law: Law, span: tuple[float, float]) -> ExactEvolution | None:
    """Return the closed form where there is one, else None."""
    try:
        return exact_evolution(process, law, span)
    except NoClosedForm:
        return None


__all__ = ["ExactEvolution", "LinearMixture", "Mapped", "MappedEvolution", "exact_evolution", "find_closed_form"]
