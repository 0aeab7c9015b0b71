"""The identity of processes that are conditioned on where they end: Doob's transform and bridges."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.integrate import solve_ivp

from fpsolve.catalogue.fixtures import (
    GRID_RTOL,
    SIGMA,
    SINH_1,
    SINH_25,
    SINH_T,
    Fixture,
    joined,
    time_derivative,
    tolerance,
)
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.catalogue.lines import Coefficients
from fpsolve.catalogue.steps import normal_nodes
from fpsolve.grids.backward.backward import solve_backward
from fpsolve.grids.fokker_planck import solve_fokker_planck
from fpsolve.paths.closed_forms import exact_evolution
from fpsolve.problem.density import Density, PointMass
from fpsolve.problem.differences import differentiate
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.process import SDE
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
_END, _TIMES = 0.5, (0.1, 0.25, 0.4)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


def _linear_bridge(theta: float, g2: float, t: float, end: float) -> tuple[float, float, float]:
    """(slope in x, factor of z, variance from a fixed start) of the bridge of dX = -θ X dt + g dW to z at `end`."""
    left, whole = np.sinh(theta * (end - t)), np.sinh(theta * end)
    slope, pull = -theta * np.cosh(theta * (end - t)) / left, theta / left
    return float(slope), float(pull), float(g2 * np.sinh(theta * t) * left / (theta * whole))


def _brownian_bridge(theta: float, g2: float, t: float, end: float) -> tuple[float, float, float]:
    return -1.0 / (end - t), 1.0 / (end - t), g2 * t * (end - t) / end


@dataclass(frozen=True)
class Transform:
    """The transformed process: drift from (f, g², (g²)', ∂x log h), start from (q_0, h_0), and the linear bridge.

    `bridge(θ, g², t, T)` is (slope in x, factor of z, variance) of an Ornstein-Uhlenbeck process from a fixed start.
    """

    drift: Callable[[Array, Array, Array, Array], Array] = lambda f, g2, g2_dx, r: f + g2 * r
    start: Callable[[Array, Array], Array] = lambda q, h: q * h
    bridge: Callable[[float, float, float, float], tuple[float, float, float]] = _linear_bridge


def _phi(x: Array) -> Array:
    return 1.0 + 0.9 * np.tanh(1.5 * x)


def _phi_dx(x: Array) -> Array:
    return 1.35 * (1.0 - np.tanh(1.5 * x) ** 2)


def _h(fixture: Fixture, x: Array, t: float) -> tuple[Array, Array]:
    """h = E[φ(X_T) | X_t = x] and ∂x log h, by quadrature of the textbook kernel."""
    z, weights = normal_nodes(40)
    (factor, noise), y = fixture.kernel(t, _END), fixture.inverse(x)
    ends = factor * y[..., None] + np.sqrt(noise) * z
    places, places_dy = fixture.forward(ends), factor * fixture.stretch(ends)[0]
    h = _phi(places) @ weights
    return h, (_phi_dx(places) * places_dy) @ weights / fixture.stretch(y)[0] / h


def _left_masses(fixture: Fixture, points: Array, t: float) -> Array:
    """∫ q h left of each point, by Gauss panels in Y between them; not normalised."""
    inner = np.linspace(points[:-1], points[1:], 4)[:-1].T.ravel()
    edges = np.concatenate([np.linspace(-7.0, points[0], 30)[:-1], inner, points[-1:]])
    half = 0.5 * np.diff(edges)[:, None]
    y = (edges[:-1, None] + half) + half * _NODES
    x = fixture.forward(y)
    mass = (half * _WEIGHTS * fixture.stretch(y)[0] * fixture.law_at(t).pdf(x) * _h(fixture, x, t)[0]).sum(axis=1)
    return np.asarray(np.cumsum(mass)[28::3])


@dataclass(frozen=True)
class Slopes:
    """∂x log q and ∂x log h at the points of all times, with the sum of their errors."""

    s: Array
    r: Array
    error: Array


@lru_cache
def _velocity_of_law(fixture: Fixture) -> Estimate:
    """-∂t F/(q h) at all times: the factor Z drops out."""
    parts = []
    for t in _TIMES:
        x = fixture.quantiles(t, 15)
        y, density = fixture.inverse(x), fixture.law_at(t).pdf(x) * _h(fixture, x, t)[0]
        rate, error = time_derivative(lambda u, y=y: _left_masses(fixture, y, u), t)  # type: ignore[misc]
        parts.append((-rate / density, error / density))
    return joined(parts, "-∂t F/q of q h")


@lru_cache
def _closed_form(fixture: Fixture) -> Slopes:
    """By the closed-form engine: its score, and quadrature of its transition density."""
    q, (places, weights), rows = fixture.exact, fixture.nodes(_END, 60), []
    for t in _TIMES:
        x = fixture.quantiles(t, 15)

        def log_h(y: Array, t: float = t) -> Array:
            kernel = np.exp(q.transition_logpdf(places, _END, y[:, None], t))  # type: ignore[attr-defined]
            return np.log(kernel @ (weights * _phi(places)))

        rows.append((q.score(x, t), *differentiate(log_h, x, length=0.5)))
    return Slopes(*map(np.concatenate, zip(*rows, strict=True)))


@lru_cache
def _grid_engines(fixture: Fixture) -> Slopes:
    """By grids: the score of a solution forward in time, and h of one backward."""
    q, rows = fixture.on_grid(_TIMES, GRID_RTOL), []
    h = solve_backward(fixture.process, _phi, (0.0, _END), t_eval=_TIMES, rtol=1e-7)
    for t in _TIMES:
        x = fixture.quantiles(t, 15)
        s, s_error = q.with_error("score", x, t)
        value, slope = h.with_error("value", x, t), h.with_error("gradient", x, t)
        r = slope.value / value.value
        rows.append((s, r, s_error + (slope.error + np.abs(r) * value.error) / (value.value - value.error)))
    return Slopes(*map(np.concatenate, zip(*rows, strict=True)))


def _velocity(fixture: Fixture, transform: Transform, slopes: Slopes, route: str) -> Estimate:
    """Drift less ½ (g²)' + ½ g² (s + ∂x log h)."""
    at = [Coefficients.of(fixture, fixture.quantiles(t, 15), t) for t in _TIMES]
    f, g2, g2_dx = (np.concatenate([getattr(c, name) for c in at]) for name in ("f", "g2", "g2_dx"))
    value = transform.drift(f, g2, g2_dx, slopes.r) - 0.5 * g2_dx - 0.5 * g2 * (slopes.s + slopes.r)
    # siblings have up to twice the slope of h
    return Estimate(value, error=2.0 * np.maximum(g2, np.sqrt(g2)) * slopes.error + 1e-9, route=route)


def _velocities(fixture: Fixture) -> Check:
    def check(transform: Transform, *, tol: float | None = None, seed: int = 0) -> Verdict:
        return check_equal(
            _velocity_of_law(fixture),
            _velocity(fixture, transform, _closed_form(fixture), "formula, closed form"),
            _velocity(fixture, transform, _grid_engines(fixture), "formula, grid engines"),
            tol=tolerance(tol),
            seed=seed,
            title="velocity of the transformed process",
        )

    return check


def _carried(fixture: Fixture) -> Check:
    """q h/Z at the end and before, against the grid solution of the transformed process from its start."""
    times = (_TIMES[1], _END)

    def tilted(t: float, x: Array) -> Array:
        at, weights = fixture.nodes(t, 60)
        total = (weights * fixture.law_at(t).pdf(at) * _h(fixture, at, t)[0]).sum()
        return np.asarray(fixture.law_at(t).pdf(x) * _h(fixture, x, t)[0] / total)

    def check(transform: Transform, *, tol: float | None = None, seed: int = 0) -> Verdict:
        x, weights = fixture.nodes(0.0, 60)
        law = fixture.law_at(0.0)

        def density(x: Array) -> Array:
            return transform.start(law.pdf(x), _h(fixture, x, 0.0)[0])

        total = float(weights @ density(x))

        def drift(x: Array, t: float) -> Array:
            c = Coefficients.of(fixture, x, t)
            return transform.drift(c.f, c.g2, c.g2_dx, _h(fixture, x, min(t, _END))[1])

        with np.errstate(divide="ignore"):
            start = Density(lambda x: np.log(density(x) / total), law.support)
            process = SDE(drift, lambda x, t: np.sqrt(Coefficients.of(fixture, x, t).g2))
            q = solve_fokker_planck(process, start, (0.0, _END), t_eval=times, rtol=1e-6)
        places = [fixture.quantiles(t, 15) for t in times]
        known = np.concatenate([tilted(t, y) for t, y in zip(times, places, strict=True)])
        return check_equal(
            Estimate(known, error=1e-10, route="q h, textbook"),
            joined(
                [q.with_error("pdf", y, t) for t, y in zip(times, places, strict=True)], "transformed process, grid"
            ),
            tol=tolerance(tol),
            seed=seed,
            title="law of the transformed process",
        )

    return check


@dataclass(frozen=True)
class Bridge:
    """dX = -θ X dt + g dW from x to z at T; its mean and variance at three times, stacked."""

    theta: float
    end: float
    start: float = 0.7
    goal: float = -0.4
    g2: float = SIGMA**2

    @property
    def times(self) -> Array:
        """Times."""
        return self.end * np.array([0.2, 0.5, 0.8])

    def kernel(self, t: float) -> tuple[float, float]:
        """Factor and variance over a time t."""
        return float(np.exp(-self.theta * t)), float(-self.g2 * np.expm1(-2 * self.theta * t) / (2 * self.theta))

    def by_bayes(self) -> Estimate:
        """Product of the law of X_t from the start and of the likelihood of the end."""
        rows = []
        for t in self.times:
            (factor, noise), (onward, rest) = self.kernel(t), self.kernel(self.end - t)
            precision = 1.0 / noise + onward**2 / rest
            rows.append((factor * self.start / noise + onward * self.goal / rest, precision))
        pulls, precisions = np.array(rows).T
        values = np.array([pulls / precisions, 1.0 / precisions])
        return Estimate(values, error=1e-12 * np.abs(values), route="Bayes' rule, textbook kernels")

    def by_formula(self, transform: Transform) -> Estimate:
        """Mean that the slope and the pull of the formula carry, and the formula for the variance."""

        def rate(t: float, m: Array) -> Array:
            slope, pull, _ = transform.bridge(self.theta, self.g2, t, self.end)
            return slope * m + pull * self.goal

        runs = [
            solve_ivp(rate, (0.0, self.times[-1]), [self.start], "DOP853", self.times, rtol=rtol, atol=rtol).y[0]
            for rtol in (1e-8, 1e-11)
        ]
        variance = np.array([transform.bridge(self.theta, self.g2, t, self.end)[2] for t in self.times])
        error = np.array([np.abs(runs[1] - runs[0]) + 1e-11, 1e-12 * variance])
        return Estimate(np.array([runs[1], variance]), error=error, route="mean of the drift, formula for the variance")

    def by_transform(self, transform: Transform) -> Estimate:
        """Closed-form engine, on the drift transformed with the transition density to the end."""

        def drift(x: Array, t: float) -> Array:
            factor, noise = self.kernel(self.end - t)
            r = factor * (self.goal - factor * x) / noise
            return transform.drift(-self.theta * x, self.g2, 0.0, r)  # type: ignore[arg-type]

        process = SDE(drift, lambda x: np.sqrt(self.g2) + 0.0 * x)
        q = exact_evolution(process, PointMass(self.start), (0.0, float(self.times[-1])))
        values = np.array([[q.mean(t) for t in self.times], [q.var(t) for t in self.times]])
        return Estimate(values, error=1e-9 * (1.0 + np.abs(values)), route="transform, closed-form engine")


def _bridged(bridge: Bridge) -> Check:
    def check(transform: Transform, *, tol: float | None = None, seed: int = 0) -> Verdict:
        routes = bridge.by_bayes(), bridge.by_formula(transform), bridge.by_transform(transform)
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="bridge of a linear process")

    return check


_VELOCITIES = ("velocity, L = 1", "velocity, L = 25", "velocity, g(x, t)")
_LAWS = ("law, L = 1", "law, L = 25")
_BRIDGES = ("bridge, θT = .8", "bridge, θT = .04")
_NOISY = (*_VELOCITIES, *_LAWS)

DOOB_BRIDGE = Identity(
    id="ctl-doob-bridge",
    statement=(
        "paths weighted by φ(X_T): with h(x, t) = E[φ(X_T) | X_t = x] they solve dX = (f + g² ∂x log h) dt + g dW\n"
        "from q_0 h_0/Z, and have the marginals q_t h_t/Z; bridge of dX = -θ X dt + g dW to z:\n"
        "drift θ [z/sinh θ(T-t) - x coth θ(T-t)], variance g² sinh θt sinh θ(T-t)/(θ sinh θT) from a fixed start"
    ),
    conditions="φ ≥ 0 with Z = E φ(X_T) positive and finite; a bridge takes the transition density to z for φ.",
    source="Doob (1957); Rogers & Williams (1987) IV.39",
    routes=(
        "velocity: -∂t F/q of q h by quadrature of textbook laws, formula on the closed form, and on the grid engines",
        "law: q h/Z of the textbook, against a grid solution of the transformed process",
        "bridge: Bayes' rule, moments of the drift with the formula for the variance, and the closed-form engine",
    ),
    truth=Transform(),
    settings={
        _VELOCITIES[0]: _velocities(SINH_1),
        _VELOCITIES[1]: _velocities(SINH_25),
        _VELOCITIES[2]: _velocities(SINH_T),
        _LAWS[0]: _carried(SINH_1),
        _LAWS[1]: _carried(SINH_25),
        _BRIDGES[0]: _bridged(Bridge(0.8, 1.0)),
        _BRIDGES[1]: _bridged(Bridge(0.8, 0.05)),
    },
    siblings=(
        Sibling("g ∂x log h", Transform(drift=lambda f, g2, g2_dx, r: f + np.sqrt(g2) * r)),
        Sibling("½ g² ∂x log h", Transform(drift=lambda f, g2, g2_dx, r: f + 0.5 * g2 * r)),
        Sibling("sign: f - g² ∂x log h", Transform(drift=lambda f, g2, g2_dx, r: f - g2 * r), only=_NOISY),
        Sibling(
            "Stratonovich drift: + ¼ (g²)'",
            Transform(drift=lambda f, g2, g2_dx, r: f + g2 * r + 0.25 * g2_dx),
            below_tolerance={_LAWS[1]: 2.2e-4},
            only=_NOISY,
        ),
        Sibling(
            "+ (g²)', that of a reversal",
            Transform(drift=lambda f, g2, g2_dx, r: f + g2 * r + g2_dx),
            only=_NOISY,
        ),
        Sibling("start q_0, not weighted", Transform(start=lambda q, h: q), only=_LAWS),
        Sibling(
            "bridge of Brownian motion",
            Transform(bridge=_brownian_bridge),
            below_tolerance={_BRIDGES[1]: 6.9e-5},
            only=_BRIDGES,
        ),
        Sibling(
            "drift - θ x kept in a Brownian bridge",
            Transform(
                bridge=lambda theta, g2, t, end: (-theta - 1.0 / (end - t), *_linear_bridge(theta, g2, t, end)[1:])
            ),
            only=_BRIDGES,
        ),
        Sibling(
            "variance of the process without the end",
            Transform(
                bridge=lambda theta, g2, t, end: (
                    *_linear_bridge(theta, g2, t, end)[:2],
                    -g2 * np.expm1(-2 * theta * t) / (2 * theta),
                )
            ),
            only=_BRIDGES,
        ),
    ),
)
