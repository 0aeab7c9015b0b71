"""Identities of linear drifts, whose kernels are Gaussian, and of the moments of any process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import comb
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp
from scipy.stats import ncx2

from fpsolve.catalogue.fixtures import (
    FIELD_TIMES,
    OU_T,
    SINH_1,
    SINH_25,
    SINH_T,
    VP8,
    VP20,
    Fixture,
    refined,
    time_derivative,
    tolerance,
    vp_channel,
)
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.problem.estimate import Estimate
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


@dataclass(frozen=True)
class LinearRules:
    """Ṗ from (a, P, g²); g² from (σ², d/dt σ², λ̇) with λ = log α²/σ²; σ²_{t|s} from (α_{t|s}, σ_s², σ_t²)."""

    variance_rate: Callable[[float, Array, float], Array]
    noise: Callable[[Array, Array, Array], Array]
    step: Callable[[float, float, float], float]


def _variance(fixture: Fixture) -> Check:
    """Var X_t from the variance of the data, at several times."""
    start, times = fixture.law_at(0.0).var(), np.array(FIELD_TIMES)

    def by_ode(rules: LinearRules) -> Estimate:
        def rate(t: float, variance: Array) -> Array:
            a, g2 = fixture.rates(t)
            return rules.variance_rate(a, variance, g2)

        low, high = (
            solve_ivp(rate, (0.0, times[-1]), [start], "DOP853", times, rtol=r, atol=r).y[0] for r in (1e-8, 1e-11)
        )
        return Estimate(high, error=np.abs(high - low) + 1e-11, route="ODE for the variance")

    def by_quadrature(panels: int) -> Array:
        """α² (P_0 + ∫g²/α²)."""
        values = []
        for t in times:
            half = 0.5 * t / panels
            u = half * (2 * np.arange(panels)[:, None] + 1 + _NODES)
            shares = [fixture.rates(v)[1] / fixture.kernel(0.0, v)[0] ** 2 for v in u.ravel()]
            values.append(fixture.kernel(0.0, t)[0] ** 2 * (start + half * np.tile(_WEIGHTS, panels) @ shares))
        return np.array(values)

    def check(rules: LinearRules, *, tol: float | None = None, seed: int = 0) -> Verdict:
        by_engine = np.array([fixture.exact.var(t) for t in times])
        return check_equal(
            by_ode(rules),
            refined(by_quadrature, 2, "quadrature of g²/α²"),
            Estimate(by_engine, error=1e-11, route="variance of the closed form"),
            tol=tolerance(tol),
            seed=seed,
            title="variance under a linear drift",
        )

    return check


@dataclass(frozen=True)
class Schedule:
    """(α, σ) as functions of time, and the g² that they were made with."""

    channel: Callable[[float], tuple[float, float]]
    noise: Callable[[float], float]


_COSINE = Schedule(
    lambda t: (float(np.cos(0.5 * np.pi * t)), float(np.sin(0.5 * np.pi * t))),
    lambda t: float(np.pi * np.tan(0.5 * np.pi * t)),
)
_STRAIGHT = Schedule(lambda t: (1 - t, t), lambda t: 2 * t / (1 - t))
_VP8 = Schedule(lambda t: vp_channel(8.0, t), lambda t: VP8.rates(t)[1])


def _inverse(schedule: Schedule) -> Check:
    """g² of a schedule, from the rates of σ² and of the log signal-to-noise ratio."""

    def of_channel(t: float) -> Array:
        alpha, sigma = schedule.channel(t)
        return np.array([sigma**2, 2 * np.log(alpha / sigma)])

    def increments(t: float) -> Array:
        """Variance added from t onward, σ_u² - (α_u/α_t)² σ_t², as a function of u; its rate at u = t is g²."""
        alpha, sigma = schedule.channel(t)

        def added(u: float) -> Array:
            later, noise = schedule.channel(u)
            return np.asarray(noise**2 - (later / alpha * sigma) ** 2)

        return np.array(time_derivative(added, t, 5e-3))

    def check(rules: LinearRules, *, tol: float | None = None, seed: int = 0) -> Verdict:
        values, errors = [], []
        for t in FIELD_TIMES:
            (var_rate, snr_rate), error = time_derivative(of_channel, t, 5e-3)
            var = np.asarray(schedule.channel(t)[1] ** 2)
            values.append(rules.noise(var, var_rate, snr_rate))
            errors.append(error[0] + (var + np.sqrt(var)) * error[1])
        rates = np.array([increments(t) for t in FIELD_TIMES])
        return check_equal(
            Estimate(np.array(values), error=np.array(errors), route="g² from the schedule"),
            Estimate([schedule.noise(t) for t in FIELD_TIMES], error=1e-12, route="g² written down"),
            Estimate(rates[:, 0], error=rates[:, 1], route="rate of the variance that is added"),
            tol=tolerance(tol),
            seed=seed,
            title="noise of a schedule",
        )

    return check


def _convolved(fixture: Fixture, s: float, t: float) -> Check:
    """Chapman-Kolmogorov: q_t is q_s under the Gaussian kernel from s to t."""
    x = fixture.quantiles(t, 41, tail=1e-4)

    def through_kernel(rules: LinearRules, panels: int) -> Array:
        (alpha_s, var_s), (alpha_t, var_t) = fixture.kernel(0.0, s), fixture.kernel(0.0, t)
        ratio = alpha_t / alpha_s
        variance = rules.step(ratio, var_s, var_t)
        y, weights = fixture.nodes(s, panels)
        kernel = np.exp(-0.5 * (x[:, None] - ratio * y) ** 2 / variance) / np.sqrt(2 * np.pi * variance)
        return kernel @ (weights * fixture.law_at(s).pdf(y))

    def check(rules: LinearRules, *, tol: float | None = None, seed: int = 0) -> Verdict:
        return check_equal(
            refined(lambda panels: through_kernel(rules, panels), 40, "convolution with the kernel"),
            Estimate(fixture.law_at(t).pdf(x), error=1e-12, route="textbook mixture"),
            Estimate(fixture.exact.pdf(x, t), error=1e-11, route="closed form from integrated coefficients"),
            tol=tolerance(tol),
            seed=seed,
            title="Chapman-Kolmogorov equation",
        )

    return check


_RULES = LinearRules(
    variance_rate=lambda a, p, g2: 2 * a * p + g2,
    noise=lambda var, var_rate, snr_rate: -var * snr_rate,
    step=lambda ratio, var_s, var_t: var_t - ratio**2 * var_s,
)
_OF_VARIANCE = ("variance, VP8", "variance, OU with g(t)")
_OF_SCHEDULE = ("g², VP8", "g², cosine", "g², straight path")
_OF_KERNEL = ("kernel, VP8", "kernel, VP20", "kernel, OU with g(t)", "short step, VP8")

LINEAR_KERNEL = Identity(
    id="fp-linear-kernel-ck",
    statement=(
        "drift a(t) x: X_t = α X_0 + σ ε with α = exp ∫a, σ² = α² ∫g²/α², and a variance P solves Ṗ = 2 a P + g²\n"
        "inverse: g² = -σ² λ̇ with λ = log α²/σ²\n"
        "kernel from s to t: α_{t|s} = α_t/α_s, σ²_{t|s} = σ_t² - α²_{t|s} σ_s² (1 - exp -∫β if variance-preserving)\n"
        "mixtures of Gaussians stay mixtures; q_t = ∫p(x, t | y, s) q_s(y) dy"
    ),
    conditions="g depends on t alone; α > 0 up to t. Where a = 0, g² = d/dt σ² holds too.",
    source="Särkkä & Solin (2019) ch. 6; Kingma et al. (2021) for g² = -σ² λ̇; Chapman-Kolmogorov equation",
    routes=(
        "variance: the ODE, quadrature of g²/α², and the variance of the closed-form engine",
        "g²: rates of the schedule by differences, g² written down, the rate at which kernels add variance",
        "kernel: q_s convolved with it, the textbook mixture at t, and the closed-form engine",
    ),
    truth=_RULES,
    settings={
        "variance, VP8": _variance(VP8),
        "variance, OU with g(t)": _variance(OU_T),
        "g², VP8": _inverse(_VP8),
        "g², cosine": _inverse(_COSINE),
        "g², straight path": _inverse(_STRAIGHT),
        "kernel, VP8": _convolved(VP8, 0.3, 0.6),
        "kernel, VP20": _convolved(VP20, 0.1, 0.3),
        "kernel, OU with g(t)": _convolved(OU_T, 0.3, 0.6),
        "short step, VP8": _convolved(VP8, 0.3, 0.31),
    },
    siblings=(
        Sibling("Ṗ = a P + g²", replace(_RULES, variance_rate=lambda a, p, g2: a * p + g2), only=_OF_VARIANCE),
        Sibling("g² = d/dt σ²", replace(_RULES, noise=lambda var, var_rate, rate: var_rate), only=_OF_SCHEDULE),
        Sibling("g² = -σ λ̇", replace(_RULES, noise=lambda var, _, rate: -np.sqrt(var) * rate), only=_OF_SCHEDULE),
        Sibling("σ_t² - σ_s²", replace(_RULES, step=lambda ratio, var_s, var_t: var_t - var_s), only=_OF_KERNEL),
        Sibling(
            "α_{t|s} not squared",
            replace(_RULES, step=lambda ratio, var_s, var_t: var_t - ratio * var_s),
            only=_OF_KERNEL,
        ),
    ),
)


Mean = Callable[[Array], float]


@dataclass(frozen=True)
class MomentRules:
    """d/dt E Xⁿ = n E[X^{n-1} drift] + share n (n-1) E[X^{n-2} g²]; d/dt Var X = 2 Cov(X, drift) + 2 share noise.

    `drift(f, (g²)')` and `noise(mean, g²)`, with `mean` the expectation under q.
    """

    drift: Callable[[Array, Array], Array] = lambda f, g2_dx: f
    share: float = 0.5
    noise: Callable[[Mean, Array], float] = lambda mean, g2: mean(g2)

    def rates(self, orders: int, mean: Mean, x: Array, f: Array, g2: Array, g2_dx: Array) -> Array:
        """Rates of the moments of order 1, 2, ..., and of the variance last."""
        drift = self.drift(f, g2_dx)
        of_moments = [n * mean(x ** (n - 1) * drift) for n in range(1, orders + 1)]
        for n in range(2, orders + 1):
            of_moments[n - 1] += self.share * n * (n - 1) * mean(x ** (n - 2) * g2)
        of_variance = 2 * (mean(x * drift) - mean(x) * mean(drift)) + 2 * self.share * self.noise(mean, g2)
        return np.array([*of_moments, of_variance])


@dataclass(frozen=True)
class MomentRoutes:
    """Rates of moments of order 1, 2, ... and of the variance, three ways, at some times."""

    orders: int
    closed: Callable[[float], Array]
    integrated: Callable[[float, int], Array]
    claimed: Callable[[MomentRules, float, int], Array]
    times: tuple[float, ...] = FIELD_TIMES

    def check(self, rules: MomentRules, *, tol: float | None = None, seed: int = 0) -> Verdict:
        """Each rate relative to its own size over the times."""
        written = [time_derivative(lambda u: _with_variance(self.closed(u)), t) for t in self.times]
        values, errors = (np.array(column) for column in zip(*written, strict=True))
        size = np.abs(values).max(axis=0)

        def measured(panels: int) -> Array:
            rates = [time_derivative(lambda u: _with_variance(self.integrated(u, panels)), t) for t in self.times]
            return np.array([rate for rate, _ in rates]) / size

        def ruled(panels: int) -> Array:
            return np.array([self.claimed(rules, t, panels) for t in self.times]) / size

        by_quadrature = refined(measured, 30, "differences of quadratures in time")
        return check_equal(
            # sums that cancel to eight digits where L is large
            Estimate(values / size, error=errors / size + 1e-9, route="differences of closed moments in time"),
            Estimate(by_quadrature.value, error=by_quadrature.error + errors / size, route=by_quadrature.route),
            refined(ruled, 30, "right side by quadrature"),
            tol=tolerance(tol),
            scale=1.0,
            seed=seed,
            title="rates of moments",
        )


def _with_variance(moments: Array) -> Array:
    return np.append(moments, moments[1] - moments[0] ** 2)


def _of_fixture(fixture: Fixture, length: float, orders: int = 4) -> Check:
    p = fixture.process

    def closed(t: float) -> Array:
        """E (L sinh(Y/L))ⁿ for a Gaussian mixture Y, from E exp(cY) = Σ w exp(c m + ½ c² V)."""
        law: Any = fixture.law_at(t)
        base, powers = law.base, []
        for n in range(1, orders + 1):
            rates = (n - 2 * np.arange(n + 1))[:, None] / length
            signs = np.array([(-1) ** j * comb(n, j) for j in range(n + 1)])
            means = np.exp(rates * base.means + 0.5 * (rates * base.stds) ** 2) @ base.weights
            powers.append((0.5 * length) ** n * (signs @ means))
        return np.array(powers)

    def nodes(t: float, panels: int) -> tuple[Array, Array]:
        """Ever further out, so that the change from more panels shows what high moments lose in the tails."""
        return fixture.nodes(t, panels, tail=10.0 ** (-0.5 * panels))

    def integrated(t: float, panels: int) -> Array:
        x, weights = nodes(t, panels)
        mass = weights * fixture.law_at(t).pdf(x)
        return np.array([(mass * x**n).sum() for n in range(1, orders + 1)])

    def claimed(rules: MomentRules, t: float, panels: int) -> Array:
        x, weights = nodes(t, panels)
        mass = weights * fixture.exact.pdf(x, t)
        f, g2, g2_dx = p.drift(x, t), p.diffusion_squared(x, t), p.diffusion_squared_dx(x, t)
        return rules.rates(orders, lambda values: float((mass * values).sum()), x, f, g2, g2_dx)

    return MomentRoutes(orders, closed, integrated, claimed).check


@dataclass(frozen=True)
class SquareRoot:
    """dX = κ (θ - X) dt + ξ √X dW from x₀: c times a noncentral χ² variable."""

    rate: float = 1.1
    level: float = 0.9
    noise: float = 0.6
    start: float = 1.7

    def moments(self, t: float) -> Array:
        """E X and E X², written down."""
        k, fade = self.rate, np.exp(-self.rate * t)
        mean = self.level + (self.start - self.level) * fade
        variance = self.noise**2 / k * (self.start * (fade - fade**2) + 0.5 * self.level * (1 - fade) ** 2)
        return np.array([mean, variance + mean**2])

    def masses(self, t: float, panels: int) -> tuple[Array, Array]:
        """Gauss nodes, and weights that contain the density."""
        c = -(self.noise**2) * np.expm1(-self.rate * t) / (4 * self.rate)
        law = ncx2(4 * self.rate * self.level / self.noise**2, self.start * np.exp(-self.rate * t) / c, scale=c)
        mean, second = self.moments(t)
        spread = np.sqrt(second - mean**2)
        edges = np.linspace(max(0.0, mean - 12 * spread), mean + 18 * spread, panels + 1)
        half = 0.5 * np.diff(edges)[:, None]
        x = (0.5 * (edges[1:] + edges[:-1])[:, None] + half * _NODES).ravel()
        return x, (half * _WEIGHTS).ravel() * law.pdf(x)


def _of_square_root(process: SquareRoot) -> Check:
    def integrated(t: float, panels: int) -> Array:
        x, mass = process.masses(t, panels)
        return np.array([(mass * x).sum(), (mass * x**2).sum()])

    def claimed(rules: MomentRules, t: float, panels: int) -> Array:
        x, mass = process.masses(t, panels)
        f, g2 = process.rate * (process.level - x), process.noise**2 * x
        slope = np.full_like(x, process.noise**2)
        return rules.rates(2, lambda values: float((mass * values).sum()), x, f, g2, slope)

    return MomentRoutes(2, process.moments, integrated, claimed).check


MOMENT_ODES = Identity(
    id="fp-moment-odes",
    statement=(
        "d/dt E Xⁿ = n E[X^{n-1} f] + ½ n (n-1) E[X^{n-2} g²], d/dt Var X = 2 Cov(X, f) + E g²\n"
        "square-root process dX = κ (θ - X) dt + ξ √X dW: mean θ + (x₀ - θ) e^{-κt},\n"
        "variance x₀ ξ²/κ (e^{-κt} - e^{-2κt}) + θ ξ²/2κ (1 - e^{-κt})²"
    ),
    conditions="Itô; the moments exist and no flux of them through the ends. Examined to order 4 (square root: 2).",
    source="Särkkä & Solin (2019) ch. 5; Cox, Ingersoll & Ross (1985), the moments of the square-root process",
    routes=(
        "differences in time of moments that are written down",
        "differences in time of quadratures against the textbook law",
        "right side by quadrature against the closed-form engine (square-root process: the noncentral χ² density)",
    ),
    truth=MomentRules(),
    settings={
        "L = 1": _of_fixture(SINH_1, 1.0),
        "L = 25": _of_fixture(SINH_25, 25.0),
        "g(x, t)": _of_fixture(SINH_T, 1.0),
        "square root": _of_square_root(SquareRoot()),
    },
    siblings=(
        Sibling("½ dropped: n (n-1) E[X^{n-2} g²]", MomentRules(share=1.0)),
        Sibling("drift f - ½ g g'", MomentRules(drift=lambda f, g2_dx: f - 0.25 * g2_dx)),
        Sibling("diffusion dropped", MomentRules(share=0.0)),
        Sibling(
            "(E g)² for E g²",
            MomentRules(noise=lambda mean, g2: mean(np.sqrt(g2)) ** 2),
            below_tolerance={"L = 25": 2.2e-7},
        ),
    ),
)
