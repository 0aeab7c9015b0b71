"""Identities of the Fokker-Planck equation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from fpsolve.catalogue.fixtures import (
    GRID_RTOL,
    SIGMA,
    SINH_1,
    SINH_25,
    T_SPAN,
    THETA,
    Fixture,
    joined,
    refined,
    time_derivative,
    tolerance,
)
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.differences import differentiate
from fpsolve.problem.estimate import Estimate, exact
from fpsolve.problem.process import SDE
from fpsolve.verdict.checks import check_velocity
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.marginals import check_drift
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
_TIMES = (0.2, 0.4, 0.7)


@dataclass(frozen=True)
class Noise:
    """g² and its derivatives at some points."""

    g2: Array
    dx: Array
    dxx: Array


@dataclass(frozen=True)
class DiffusionTerm:
    """The second-order term of the equation: on a test function (weak), and on the density as (D q)/q (strong).

    `weak(φ, φ', φ'', g²)` is the integrand whose mean is ∫φ D q; `strong(s, q''/q, g²)` is (D q)/q.
    """

    weak: Callable[[Array, Array, Array, Noise], Array]
    strong: Callable[[Array, Array, Noise], Array]


@dataclass(frozen=True)
class TestFunction:
    """φ with two derivatives."""

    value: Callable[[Array], Array]
    dx: Callable[[Array], Array]
    dxx: Callable[[Array], Array]


_TESTS = (
    TestFunction(lambda x: np.sin(x) + 0.3 * x, lambda x: np.cos(x) + 0.3, lambda x: -np.sin(x)),
    TestFunction(np.tanh, lambda x: 1 - np.tanh(x) ** 2, lambda x: -2 * np.tanh(x) * (1 - np.tanh(x) ** 2)),
    TestFunction(
        lambda x: np.exp(-0.5 * x**2),
        lambda x: -x * np.exp(-0.5 * x**2),
        lambda x: (x**2 - 1) * np.exp(-0.5 * x**2),
    ),
)


def _noise_of(p: SDE, x: Array, t: float) -> Noise:
    return Noise(p.diffusion_squared(x, t), p.diffusion_squared_dx(x, t), p.diffusion_squared_dx(x, t, 2))


def _generator(fixture: Fixture, q: Evolution, term: DiffusionTerm, panels: int) -> tuple[Array, Array]:
    """E[f φ' + weak term] at all times and test functions, and what the error of the density contributes."""
    means, errors = [], []
    for t in _TIMES:
        x, weights = fixture.nodes(t, panels)
        density, uncertain = q.with_error("pdf", x, t)
        f, noise = fixture.process.drift(x, t), _noise_of(fixture.process, x, t)
        for phi in _TESTS:
            dx = phi.dx(x)
            integrand = f * dx + term.weak(phi.value(x), dx, phi.dxx(x), noise)
            means.append((weights * density * integrand).sum())
            errors.append((weights * uncertain * np.abs(integrand)).sum())
    return np.array(means), np.array(errors)


def _generator_route(fixture: Fixture, q: Evolution, term: DiffusionTerm, route: str) -> Estimate:
    value = refined(lambda panels: _generator(fixture, q, term, panels)[0], 40, route)
    return Estimate(value.value, error=value.error + _generator(fixture, q, term, 40)[1], route=route)


def _rate_of_means(fixture: Fixture) -> Estimate:
    """d/dt E φ(X_t), from quadratures at neighbouring times."""

    def means(t: float) -> Array:
        x, weights = fixture.nodes(t, 60)
        return np.array([(weights * fixture.law_at(t).pdf(x) * phi.value(x)).sum() for phi in _TESTS])

    return joined([time_derivative(means, t) for t in _TIMES], "d/dt of quadratures")


def _weakly(fixture: Fixture) -> Check:
    def check(term: DiffusionTerm, *, tol: float | None = None, seed: int = 0) -> Verdict:
        grid = fixture.on_grid(_TIMES, GRID_RTOL)
        return check_equal(
            _rate_of_means(fixture),
            _generator_route(fixture, fixture.exact, term, "generator, closed form"),
            _generator_route(fixture, grid, term, "generator, grid"),
            tol=tolerance(tol),
            seed=seed,
            title="Fokker-Planck equation, weakly",
        )

    return check


def _strong_rate(fixture: Fixture, term: DiffusionTerm, t: float) -> tuple[Array, Array]:
    """∂t log q = -f' - f s + (D q)/q on the closed form, and its error."""
    x, p, q = fixture.quantiles(t, 25), fixture.process, fixture.exact
    s, noise = q.score(x, t), _noise_of(p, x, t)
    s_dx, error = differentiate(lambda y: q.score(y, t), x, length=0.3)
    rate = -p.drift_dx(x, t) - p.drift(x, t) * s + term.strong(s, s_dx + s**2, noise)
    return rate, noise.g2 * error + 1e-9 * (1.0 + np.abs(rate))


def _rate_of_log_density(fixture: Fixture, t: float) -> tuple[Array, Array]:
    x = fixture.quantiles(t, 25)
    return time_derivative(lambda u: fixture.law_at(u).logpdf(x), t)


def _strongly(fixture: Fixture) -> Check:
    def check(term: DiffusionTerm, *, tol: float | None = None, seed: int = 0) -> Verdict:
        routes = (
            joined([_rate_of_log_density(fixture, t) for t in _TIMES], "differences of log q in time"),
            joined([_strong_rate(fixture, term, t) for t in _TIMES], "operator on the closed form"),
        )
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="Fokker-Planck equation, pointwise")

    return check


def _root_noise(s: Array, curvature: Array, n: Noise) -> Array:
    g = np.sqrt(n.g2)
    g_dx = n.dx / (2 * g)
    return 0.5 * ((0.5 * n.dxx - g_dx**2) / g + 2 * g_dx * s + g * curvature)


STRONG_WEAK = Identity(
    id="fp-strong-weak",
    statement=(
        "∂t q = -∂x(f q) + ½ ∂xx(g² q), and weakly d/dt E φ(X_t) = E[f φ' + ½ g² φ'']\n"
        "pointwise: ∂t log q = -f' - f s + ½ ((g²)'' + 2 (g²)' s + g² (s' + s²))"
    ),
    conditions="dX = f dt + g dW in the sense of Itô; φ twice differentiable; no flux through the ends.",
    source="Winther et al. (arXiv 2606.31576) eqs. 5-7",
    routes=(
        "weakly: differences in time of quadratures of φ against the textbook marginals",
        "weakly: quadrature of the generator against the closed form, and against a grid solution",
        "pointwise: differences of log q in time against the operator on the closed form",
    ),
    truth=DiffusionTerm(
        lambda phi, dx, dxx, n: 0.5 * n.g2 * dxx,
        lambda s, curvature, n: 0.5 * (n.dxx + 2 * n.dx * s + n.g2 * curvature),
    ),
    settings={
        "weak, L = 1": _weakly(SINH_1),
        "weak, L = 25": _weakly(SINH_25),
        "pointwise, L = 1": _strongly(SINH_1),
        "pointwise, L = 25": _strongly(SINH_25),
    },
    siblings=(
        Sibling(
            "½ dropped: ∂xx(g² q)",
            DiffusionTerm(lambda phi, dx, dxx, n: n.g2 * dxx, lambda s, c, n: n.dxx + 2 * n.dx * s + n.g2 * c),
        ),
        Sibling(
            "g² outside the derivatives: ½ g² ∂xx q",
            DiffusionTerm(
                lambda phi, dx, dxx, n: 0.5 * (n.g2 * dxx + 2 * n.dx * dx + n.dxx * phi), lambda s, c, n: 0.5 * n.g2 * c
            ),
        ),
        Sibling(
            "Stratonovich form with the Itô drift: ½ ∂x(g ∂x(g q))",
            DiffusionTerm(
                lambda phi, dx, dxx, n: 0.5 * n.g2 * dxx + 0.25 * n.dx * dx,
                lambda s, c, n: 0.5 * (0.5 * n.dxx + 1.5 * n.dx * s + n.g2 * c),
            ),
        ),
        Sibling(
            "Fick's law: ½ ∂x(g² ∂x q)",
            DiffusionTerm(
                lambda phi, dx, dxx, n: 0.5 * (n.g2 * dxx + n.dx * dx), lambda s, c, n: 0.5 * (n.dx * s + n.g2 * c)
            ),
        ),
        Sibling("g for g²: ½ ∂xx(g q)", DiffusionTerm(lambda phi, dx, dxx, n: 0.5 * np.sqrt(n.g2) * dxx, _root_noise)),
    ),
)


StratonovichDrift = Callable[[Any, Any], Any]


def _flux_form(fixture: Fixture) -> Check:
    """J = f_S q - ½ g ∂x(g q), divided by q."""

    def check(drift: StratonovichDrift, *, tol: float | None = None, seed: int = 0) -> Verdict:
        def velocity(f: Array, g2: Array, g2_dx: Array, s: Array) -> Array:
            return drift(f, g2_dx) - 0.25 * g2_dx - 0.5 * g2 * s

        return check_velocity(fixture.what(tol), velocity, t_span=T_SPAN, tol=tol, seed=seed)

    return check


def _declared(fixture: Fixture) -> Check:
    """The marginals of the process that is declared with f_S in the Stratonovich sense."""

    def check(drift: StratonovichDrift, *, tol: float | None = None, seed: int = 0) -> Verdict:
        p = fixture.process
        candidate = SDE(
            lambda x, t: drift(p.drift(x, t), p.diffusion_squared_dx(x, t)),
            lambda x, t: p.diffusion(x, t),
            calculus="stratonovich",
        )
        return check_drift(fixture.what(tol), candidate, t_span=T_SPAN, tol=tol, seed=seed)

    return check


def _driver(t: float) -> float:
    return float(np.sin(3.0 * t) + 0.5 * t)


def _driver_rate(t: float) -> float:
    return float(3.0 * np.cos(3.0 * t) + 0.5)


def _smooth_driver(fixture: Fixture) -> Check:
    """Wong-Zakai: with a smooth path w for W, ẋ = f_S + g ẇ is X = L sinh(Y/L) with Ẏ = -θ Y + σ ẇ."""
    starts = np.array([-1.5, -0.4, 0.3, 1.0, 1.8])

    def by_map() -> Estimate:
        nodes, weights = np.polynomial.legendre.leggauss(40)
        u = 0.5 * (1.0 + nodes)
        noise = 0.5 * sum(w * np.exp(-THETA * (1 - t)) * _driver_rate(t) for t, w in zip(u, weights, strict=True))
        y = np.exp(-THETA) * fixture.inverse(starts) + SIGMA * noise
        return exact(fixture.forward(y))

    def by_ode(drift: StratonovichDrift) -> Estimate:
        p, ends = fixture.process, []

        def rate(t: float, x: Array) -> Array:
            return drift(p.drift(x, t), p.diffusion_squared_dx(x, t)) + p.diffusion(x, t) * _driver_rate(t)

        for rtol in (1e-8, 1e-11):
            ends.append(solve_ivp(rate, T_SPAN, starts, method="DOP853", rtol=rtol, atol=rtol).y[:, -1])
        return Estimate(ends[1], error=np.abs(ends[1] - ends[0]), route="ordinary calculus along a smooth driver")

    def check(drift: StratonovichDrift, *, tol: float | None = None, seed: int = 0) -> Verdict:
        routes = by_map(), by_ode(drift)
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="ordinary calculus along a smooth driver")

    return check


ITO_STRATONOVICH = Identity(
    id="fp-ito-stratonovich",
    statement=(
        "f dt + g dW (Itô) is f_S dt + g∘dW with f_S = f - ½ g g' = f - ¼ (g²)'\n"
        "-∂x(f q) + ½ ∂xx(g² q) = -∂x(f_S q) + ½ ∂x(g ∂x(g q))"
    ),
    conditions="g differentiable in x; the correction vanishes for additive noise.",
    source="Stratonovich (1966); Wong & Zakai (1965)",
    routes=(
        "velocity (f_S q - ½ g ∂x(g q))/q against -∂t F/q, closed form and grid",
        "marginals of the process declared in the Stratonovich sense, closed form and grid",
        "a smooth path in place of W: the ordinary differential equation against its exact solution",
    ),
    truth=lambda f, g2_dx: f - 0.25 * g2_dx,
    settings={
        "flux, L = 1": _flux_form(SINH_1),
        "flux, L = 25": _flux_form(SINH_25),
        "declared, L = 1": _declared(SINH_1),
        "smooth driver, L = 1": _smooth_driver(SINH_1),
        "smooth driver, L = 25": _smooth_driver(SINH_25),
    },
    siblings=(
        Sibling("sign: f + ½ g g'", lambda f, g2_dx: f + 0.25 * g2_dx),
        Sibling("½ dropped: f - g g'", lambda f, g2_dx: f - 0.5 * g2_dx),
        Sibling("no correction: f", lambda f, g2_dx: f),
    ),
)
