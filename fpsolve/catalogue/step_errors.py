"""Identities of one step: what Heun's scheme converges to, and how far a step of the reversed process is off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fpsolve.catalogue.fixtures import (
    SIGMA,
    SINH_1,
    SINH_25,
    SINH_T,
    THETA,
    VP8,
    Fixture,
    joined,
    time_derivative,
    tolerance,
)
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.catalogue.steps import Model, carried_mean, gbm, limit, normal_nodes, one_step_mean, sinh_ou
from fpsolve.problem.differences import differentiate
from fpsolve.problem.estimate import Estimate
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
# (f, (g²)') -> drift of the Stratonovich form
StratonovichDrift = Callable[[Array, Array], Array]
_STARTS = np.array([-0.9, 0.2, 0.6, 1.3])
_SINH_MODELS = {1.0: sinh_ou(THETA, SIGMA, 1.0), 25.0: sinh_ou(THETA, SIGMA, 25.0)}


def _phi(x: Array) -> Array:
    return np.tanh(1.5 * x - 0.4)


def _heun(rule: StratonovichDrift, model: Model, x: Array, dw: Array, h: float) -> Array:
    """Trapezoid of drift and noise between the start and an Euler step."""

    def drift_and_noise(y: Array) -> tuple[Array, Array]:
        c = model.coefficients(y)
        return rule(c.f, 2.0 * c.g * c.g_dx), c.g

    (a, g), start = drift_and_noise(x), x
    later_a, later_g = drift_and_noise(start + a * h + g * dw)
    return np.asarray(start + 0.5 * (a + later_a) * h + 0.5 * (g + later_g) * dw)


def _heun_moments(mu: float, sigma: float) -> Check:
    """E X and E X² of GBM at t = 1: the moments of one factor, to the power of the number of steps."""
    model = gbm(mu, sigma)

    def moments(rule: StratonovichDrift, n: int) -> Array:
        step = partial(_heun, rule)
        powers = [one_step_mean(model, step, lambda x, k=k: x**k, np.ones(1), 1.0 / n)[0] for k in (1, 2)]  # type: ignore[misc]
        return np.array(powers) ** n

    def check(rule: StratonovichDrift, *, tol: float | None = None, seed: int = 0) -> Verdict:
        closed, (weights, ends) = np.exp([mu, 2 * mu + sigma**2]), model.kernel(np.ones(1), 1.0)
        return check_equal(
            limit([moments(rule, 2**k) for k in range(3, 10)], "Heun's scheme, h → 0", 1e-10),
            Estimate(closed, error=1e-14, route="moment equations"),
            Estimate(np.array([weights @ ends[0] ** k for k in (1, 2)]), error=1e-12, route="law of the solution"),
            tol=tolerance(tol),
            seed=seed,
            title="moments by Heun's scheme",
        )

    return check


def _heun_means(fixture: Fixture, end: float = 0.5) -> Check:
    """E φ of the Itô process from several points, by its kernel and by the chain."""
    model = _SINH_MODELS[fixture.length]  # type: ignore[index]

    def check(rule: StratonovichDrift, *, tol: float | None = None, seed: int = 0) -> Verdict:
        chain = [carried_mean(model, partial(_heun, rule), _phi, _STARTS, end, 2**k) for k in range(2, 7)]
        return check_equal(
            limit(chain, "Heun's scheme, h → 0", 1e-9),
            Estimate(model.mean(_phi, _STARTS, end), error=1e-10, route="kernel of the process"),
            tol=tolerance(tol),
            scale=1.0,
            seed=seed,
            title="means by Heun's scheme",
        )

    return check


def _heun_one_step(fixture: Fixture) -> Check:
    """E[X_h - x]/h for h → 0, of the scheme and of the process, against the declared drift."""
    model, x = _SINH_MODELS[fixture.length], fixture.quantiles(0.5, 15)  # type: ignore[index]
    steps = [0.02 * 2.0**-k for k in range(5)]

    def check(rule: StratonovichDrift, *, tol: float | None = None, seed: int = 0) -> Verdict:
        scheme = [(one_step_mean(model, partial(_heun, rule), np.asarray, x, h) - x) / h for h in steps]
        process = [(model.mean(np.asarray, x, h) - x) / h for h in steps]
        return check_equal(
            limit(scheme, "one step of Heun's scheme", 1e-11),
            limit(process, "kernel of the process", 1e-11),
            Estimate(fixture.process.drift(x, 0.0), error=1e-13, route="f"),
            tol=tolerance(tol),
            seed=seed,
            title="drift of Heun's scheme",
        )

    return check


STRATONOVICH_HEUN = Identity(
    id="int-stratonovich-heun",
    statement=(
        "Heun's scheme X' = X + ½ (a(X) + a(X*)) h + ½ (g(X) + g(X*)) ΔW with X* = X + a(X) h + g(X) ΔW\n"
        "converges to dX = f dt + g dW (Itô) for a = f - ½ g g'; one step has E[X' - X]/h → f"
    ),
    conditions="f, g smooth, without t as written; φ smooth.",
    source="Rümelin (1982); Kloeden & Platen (1992) section 4.9 for f - ½ g g'",
    routes=(
        "GBM: moments of the chain extrapolated to h = 0, moment equations, law of the solution",
        "means of the chain, carried backward by quadrature and extrapolated, against the textbook kernel",
        "mean of one step over h → 0, of the chain and of the textbook kernel, against f",
    ),
    truth=lambda f, g2_dx: f - 0.25 * g2_dx,
    settings={
        "GBM": _heun_moments(0.4, 0.6),
        "L = 1": _heun_means(SINH_1),
        "L = 25": _heun_means(SINH_25),
        "one step, L = 1": _heun_one_step(SINH_1),
        "one step, L = 25": _heun_one_step(SINH_25),
    },
    siblings=(
        Sibling("the Itô drift f", lambda f, g2_dx: f, below_tolerance={"L = 25": 1.16e-4}),
        Sibling("f - g g'", lambda f, g2_dx: f - 0.5 * g2_dx, below_tolerance={"L = 25": 1.16e-4}),
        Sibling("sign: f + ½ g g'", lambda f, g2_dx: f + 0.25 * g2_dx, below_tolerance={"L = 25": 2.3e-4}),
    ),
)


@dataclass(frozen=True)
class Field:
    """A drift with its derivatives in x (two) and in τ, and g² with its own, at points x."""

    b: Array
    b_dx: Array
    b_dxx: Array
    b_tau: Array
    g2: Array
    g2_dx: Array
    g2_dxx: Array
    g2_tau: Array


@dataclass(frozen=True)
class LocalErrors:
    """Coefficients of h²: of E[ΔY] - h b̃, of E[ΔY²] - h g², and of a step of the flow from v, v' and v̇."""

    mean: Callable[[Field], Array]
    square: Callable[[Field], Array]
    flow: Callable[[Array, Array, Array], Array]


_TIMES = (0.35, 0.65)
_POINTS = 15
_SPAN = 0.08


def _second_coefficient(increments: Callable[[float], Array]) -> tuple[Array, Array]:
    """Coefficient of h² of increments that vanish at h = 0, by a polynomial; the error from one of lower degree."""
    found = []
    for degree in (8, 9):
        h = _SPAN * 0.5 * (1.0 - np.cos(np.pi * (np.arange(degree) + 0.5) / degree))
        values = np.array([increments(step) / step for step in h])
        found.append(np.linalg.solve(np.vander(h / _SPAN, increasing=True), values)[1] / _SPAN)
    return found[1], np.abs(found[1] - found[0])


def _joined_times(at: Callable[[float], tuple[Array, Array]], route: str) -> Estimate:
    return joined([at(t) for t in _TIMES], route)


def _bayes(fixture: Fixture, power: int, t: float) -> tuple[Array, Array]:
    """Coefficient of h² of E[(X_{t-h} - x)ⁿ | X_t = x], n = `power`: Bayes' rule with the textbook kernel."""
    x, (z, weights) = fixture.quantiles(t, _POINTS), normal_nodes(80)

    def increments(h: float) -> Array:
        factor, noise = fixture.kernel(t - h, t)
        y = (fixture.inverse(x)[:, None] - np.sqrt(noise) * z) / factor
        before = fixture.forward(y)
        stretch = 1.0 if fixture.length is None else np.cosh(y / fixture.length)
        mass = weights * fixture.law_at(t - h).pdf(before) * stretch
        return np.asarray((mass * (before - x[:, None]) ** power).sum(axis=1) / mass.sum(axis=1))

    return _second_coefficient(increments)


def _reversed_drift(fixture: Fixture, x: Array, t: float) -> Array:
    p = fixture.process
    g2 = p.diffusion_squared(x, t)
    return np.asarray(-p.drift(x, t) + p.diffusion_squared_dx(x, t) + g2 * fixture.law_at(t).score(x))


def _reversed_field(fixture: Fixture, t: float) -> tuple[Field, Array]:
    """b̃ and its derivatives at the examined points, and the sum of the errors of the differences."""
    p, x = fixture.process, fixture.quantiles(t, _POINTS)
    in_x = partial(_reversed_drift, fixture, t=t)
    (b_dx, e_1), (b_dxx, e_2) = (differentiate(in_x, x, order=k, length=0.6) for k in (1, 2))
    # τ runs against t
    b_dt, e_3 = time_derivative(lambda u: _reversed_drift(fixture, x, u), t)
    g2_dt, e_4 = time_derivative(lambda u: p.diffusion_squared(x, u), t)
    g2, g2_dx, g2_dxx = p.diffusion_squared(x, t), p.diffusion_squared_dx(x, t), p.diffusion_squared_dx(x, t, 2)
    return Field(in_x(x), b_dx, b_dxx, -b_dt, g2, g2_dx, g2_dxx, -g2_dt), e_1 + e_2 + e_3 + e_4


def _reverse_step(fixture: Fixture, power: int) -> Check:
    def check(rule: LocalErrors, *, tol: float | None = None, seed: int = 0) -> Verdict:
        def at(t: float) -> tuple[Array, Array]:
            field, error = _reversed_field(fixture, t)
            value = (rule.mean if power == 1 else rule.square)(field)
            return value, error * (1.0 + np.abs(field.b) + field.g2)

        routes = (
            _joined_times(lambda t: _bayes(fixture, power, t), "Bayes' rule, polynomial in h"),
            _joined_times(at, "derivatives of b̃"),
        )
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="local error of the reversed process")

    return check


def _flow_step(fixture: Fixture) -> Check:
    def by_quantiles(t: float) -> tuple[Array, Array]:
        x, levels = fixture.quantiles(t, _POINTS), np.linspace(0.02, 0.98, _POINTS)
        return _second_coefficient(lambda h: np.asarray(fixture.law_at(t - h).ppf(levels)) - x)

    def check(rule: LocalErrors, *, tol: float | None = None, seed: int = 0) -> Verdict:
        def at(t: float) -> tuple[Array, Array]:
            x = fixture.quantiles(t, _POINTS)
            v_dx, error = differentiate(lambda y: fixture.velocity(y, t), x, length=0.6)
            v_dt, error_2 = time_derivative(lambda u: fixture.velocity(x, u), t)
            v = fixture.velocity(x, t)
            return rule.flow(v, v_dx, v_dt), error_2 + np.abs(v) * error

        routes = _joined_times(by_quantiles, "quantiles, polynomial in h"), _joined_times(at, "derivatives of v")
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="local error of the reversed flow")

    return check


_LOCAL = LocalErrors(
    mean=lambda y: 0.5 * (y.b_tau + y.b * y.b_dx + 0.5 * y.g2 * y.b_dxx),
    square=lambda y: 0.5 * (y.g2_tau + 2 * y.b**2 + y.b * y.g2_dx + 0.5 * y.g2 * (4 * y.b_dx + y.g2_dxx)),
    flow=lambda v, v_dx, v_dt: 0.5 * (v_dt + v * v_dx),
)


def _with(**parts: Any) -> LocalErrors:
    return replace(_LOCAL, **parts)


_OF_MEAN = ("mean, L = 1", "mean, L = 25", "mean, g(x, t)", "mean, VP8")
_OF_SQUARE = ("square, L = 1", "square, L = 25", "square, g(x, t)")
_OF_FLOW = ("flow, L = 1", "flow, VP8")

LOCAL_ERROR = Identity(
    id="int-local-error",
    statement=(
        "one step of dY = b̃ dτ + g dB, the reversed process, from y:\n"
        "E[ΔY] - h b̃ = ½ h² (∂τ b̃ + b̃ b̃' + ½ g² b̃'') + O(h³)\n"
        "E[ΔY²] - h g² = ½ h² (∂τ g² + 2 b̃² + b̃ (g²)' + ½ g² (4 b̃' + (g²)'')) + O(h³)\n"
        "reversed flow: Δy + h v = ½ h² (v̇ + v v') + O(h³), with v at t"
    ),
    conditions="q > 0 smooth; b̃ = -f + (g²)' + g² s at t = T - τ. VP is blind to the terms in (g²)'.",
    source="Itô-Taylor expansion, Kloeden & Platen (1992) section 5.1, of the generator ∂τ + b̃ ∂x + ½ g² ∂xx",
    routes=(
        "moments of X_{t-h} given X_t by Bayes' rule with the textbook kernel, a polynomial in h",
        "derivatives of b̃, made from the closed score, in the formula",
        "flow: quantiles of the textbook laws as a polynomial in h; derivatives of the textbook velocity",
    ),
    truth=_LOCAL,
    settings={
        "mean, L = 1": _reverse_step(SINH_1, 1),
        "mean, L = 25": _reverse_step(SINH_25, 1),
        "mean, g(x, t)": _reverse_step(SINH_T, 1),
        "mean, VP8": _reverse_step(VP8, 1),
        "square, L = 1": _reverse_step(SINH_1, 2),
        "square, L = 25": _reverse_step(SINH_25, 2),
        "square, g(x, t)": _reverse_step(SINH_T, 2),
        "flow, L = 1": _flow_step(SINH_1),
        "flow, VP8": _flow_step(VP8),
    },
    siblings=(
        Sibling("½ g² b̃'' dropped", _with(mean=lambda y: 0.5 * (y.b_tau + y.b * y.b_dx)), only=_OF_MEAN),
        Sibling("∂τ b̃ dropped", _with(mean=lambda y: 0.5 * (y.b * y.b_dx + 0.5 * y.g2 * y.b_dxx)), only=_OF_MEAN),
        Sibling(
            "∂t for ∂τ", _with(mean=lambda y: 0.5 * (-y.b_tau + y.b * y.b_dx + 0.5 * y.g2 * y.b_dxx)), only=_OF_MEAN
        ),
        Sibling("no ½ before h²", _with(mean=lambda y: y.b_tau + y.b * y.b_dx + 0.5 * y.g2 * y.b_dxx), only=_OF_MEAN),
        Sibling("E[ΔY²] with b̃² alone", _with(square=lambda y: y.b**2), only=_OF_SQUARE),
        Sibling(
            "b̃ (g²)' dropped",
            _with(square=lambda y: 0.5 * (y.g2_tau + 2 * y.b**2 + 0.5 * y.g2 * (4 * y.b_dx + y.g2_dxx))),
            only=_OF_SQUARE,
        ),
        Sibling(
            "∂τ g² dropped",
            _with(square=lambda y: 0.5 * (2 * y.b**2 + y.b * y.g2_dx + 0.5 * y.g2 * (4 * y.b_dx + y.g2_dxx))),
            below_tolerance={"square, L = 1": 0.0, "square, L = 25": 0.0},
            only=_OF_SQUARE,
        ),
        Sibling("v̇ dropped", _with(flow=lambda v, v_dx, v_dt: 0.5 * v * v_dx), only=_OF_FLOW),
        Sibling("sign of v̇", _with(flow=lambda v, v_dx, v_dt: 0.5 * (v * v_dx - v_dt)), only=_OF_FLOW),
    ),
)
