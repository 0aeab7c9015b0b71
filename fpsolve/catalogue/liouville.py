"""Identities of the Liouville equation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp

from fpsolve.catalogue.fixtures import (
    DATA,
    SINH_1,
    SINH_25,
    T_SPAN,
    VP8,
    Fixture,
    joined,
    refined,
    time_derivative,
    tolerance,
)
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.particles.flow import flow_map
from fpsolve.problem.differences import differentiate
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.maps import Pushforward, Sinh
from fpsolve.problem.mixtures import GaussianMixture
from fpsolve.problem.process import ODE
from fpsolve.verdict.candidate import Candidate, Ingredients
from fpsolve.verdict.checks import check_velocity
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
Rate = Callable[[Array, float], Array]
# (∂t F as a function of (x, t), fixture) -> a velocity, bound by name
Formula = Callable[[Rate, Fixture], Callable[..., Array]]
CUT = -2.4


def _rate_from_left(fixture: Fixture) -> Rate:
    return lambda x, t: time_derivative(lambda u: np.asarray(fixture.law_at(u).cdf(x)), t)[0]


def _rate_from_right(fixture: Fixture) -> Rate:
    return lambda x, t: -time_derivative(lambda u: np.asarray(fixture.law_at(u).sf(x)), t)[0]


def _as_velocity(fixture: Fixture, rate: Callable[[Fixture], Rate]) -> Check:
    def check(formula: Formula, *, tol: float | None = None, seed: int = 0) -> Verdict:
        return check_velocity(fixture.what(tol), formula(rate(fixture), fixture), t_span=T_SPAN, tol=tol, seed=seed)

    return check


def _of_quantiles(fixture: Fixture) -> Check:
    """∂t Q_t(p) = u(Q_t(p), t)."""
    times = (0.2, 0.5, 0.8)

    def check(formula: Formula, *, tol: float | None = None, seed: int = 0) -> Verdict:
        levels, ingredients = np.linspace(0.02, 0.98, 25), Ingredients(fixture.process, fixture.exact, T_SPAN[1])
        velocity = Candidate("velocity", formula(_rate_from_left(fixture), fixture))
        moves = [time_derivative(lambda u: np.asarray(fixture.law_at(u).ppf(levels)), t) for t in times]
        values = np.concatenate([velocity(ingredients, fixture.quantiles(t, 25), t)[0] for t in times])
        return check_equal(
            joined(moves, "motion of quantiles"),
            Estimate(values, error=1e-8 * (1.0 + np.abs(values)), route="velocity from the distribution function"),
            tol=tolerance(tol),
            seed=seed,
            title="quantiles move with the velocity",
        )

    return check


def _truth(rate: Rate, fixture: Fixture) -> Callable[..., Array]:
    return lambda x, t: -rate(x, t) / fixture.law_at(t).pdf(x)


def _with_sign(rate: Rate, fixture: Fixture) -> Callable[..., Array]:
    return lambda x, t: rate(x, t) / fixture.law_at(t).pdf(x)


def _whole_noise(rate: Rate, fixture: Fixture) -> Callable[..., Array]:
    return lambda f, g2, g2_dx, s: f - 0.5 * g2_dx - g2 * s


def _cut_off(rate: Rate, fixture: Fixture) -> Callable[..., Array]:
    return lambda x, t: (rate(np.full_like(x, CUT), t) - rate(x, t)) / fixture.law_at(t).pdf(x)


def _leaking(rate: Rate, fixture: Fixture) -> Callable[..., Array]:
    return lambda x, t: (1e-3 - rate(x, t)) / fixture.law_at(t).pdf(x)


DRIFT_FROM_CDF = Identity(
    id="lv-drift-from-cdf",
    statement=(
        "u = -∂t F/q = ∂t(1 - F)/q is the only velocity with Liouville marginals q and no flux at ±∞\n"
        "it moves the quantiles, ∂t Q_t(p) = u(Q_t(p), t); every other solution of ∂t q = -∂x(u q) is u + c(t)/q"
    ),
    conditions="q > 0 on the line (or between reflecting walls); on a circle c(t) is free.",
    source="Winther et al. (arXiv 2606.31576) eqs. 6-7, integrated once in x",
    routes=(
        "∂t F of the textbook law, from the left tail or from the right, against the closed form and the grid",
        "motion of the quantiles in time",
    ),
    truth=_truth,
    settings={
        "VP8": _as_velocity(VP8, _rate_from_left),
        "VP8, right tail": _as_velocity(VP8, _rate_from_right),
        "L = 1": _as_velocity(SINH_1, _rate_from_left),
        "L = 25": _as_velocity(SINH_25, _rate_from_left),
        "quantiles, L = 1": _of_quantiles(SINH_1),
    },
    siblings=(
        Sibling("sign: +∂t F/q", _with_sign),
        Sibling("g² s for ½ g² s", _whole_noise),
        Sibling(f"F accumulated from x = {CUT}", _cut_off),
        Sibling("u + 1e-3/q, which solves the Liouville equation too", _leaking),
    ),
)


# (v' at the point, v' at the starting point) -> d/dt log q along ẋ = v
Rule = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Flow:
    """A velocity with its derivative, and the density that it starts from."""

    velocity: Callable[[Array, float], Array]
    velocity_dx: Callable[[Array, float], Array]
    density: Callable[[Array], Array]

    def along(self, rule: Rule, starts: Array) -> tuple[Estimate, Array]:
        """Log density at the end of each characteristic by the rule, and the ends."""
        n, found = starts.size, []

        def rate(t: float, y: Array) -> Array:
            return np.concatenate(
                [self.velocity(y[:n], t), rule(self.velocity_dx(y[:n], t), self.velocity_dx(starts, t))]
            )

        begin = np.concatenate([starts, np.log(self.density(starts))])
        for rtol in (1e-8, 1e-11):
            found.append(solve_ivp(rate, T_SPAN, begin, method="DOP853", rtol=rtol, atol=rtol).y[:, -1])
        value, error = found[1][n:], np.abs(found[1] - found[0])[n:]
        return Estimate(value, error=error + 1e-10, route="rate along characteristics"), found[1][:n]


@dataclass(frozen=True)
class Fourier:
    """A function of period 2π by its values at equal steps from 0."""

    values: Array

    @property
    def _modes(self) -> tuple[Array, Array]:
        n = self.values.size
        k = np.arange(-(n // 2) + 1, n // 2)
        return k, (np.fft.fft(self.values) / n)[k]

    def derivative(self) -> Array:
        """Derivative at the same points."""
        n = self.values.size
        k = np.arange(n // 2 + 1)
        return np.fft.irfft(np.where(k < n // 2, 1j * k, 0.0) * np.fft.rfft(self.values), n)

    def at(self, x: Array) -> Array:
        """Trigonometric interpolant."""
        k, c = self._modes
        return (np.exp(1j * np.multiply.outer(x, k)) @ c).real

    def integral(self, x: Array) -> Array:
        """Integral from zero to x."""
        k, c = self._modes
        waves = np.expm1(1j * np.multiply.outer(x, k)) / np.where(k == 0, 1, 1j * k)
        return (waves @ np.where(k == 0, 0, c)).real + c[k == 0].real * x


STEPS = 64


def _equal_steps(n: int) -> Array:
    return 2 * np.pi * np.arange(n) / n


WAVE = Flow(
    lambda x, t: 0.6 * np.sin(x) + 0.3 * t * np.cos(2 * x) + 0.2,
    lambda x, t: 0.6 * np.cos(x) - 0.6 * t * np.sin(2 * x),
    lambda x: (1 + 0.5 * np.sin(x) + 0.3 * np.cos(2 * x - 1)) / (2 * np.pi),
)


def _spectral(n: int) -> Fourier:
    """∂t q = -∂x(v q) with n Fourier modes."""
    x = _equal_steps(n)
    found = solve_ivp(
        lambda t, q: -Fourier(WAVE.velocity(x, t) * q).derivative(),
        T_SPAN,
        WAVE.density(x),
        method="DOP853",
        rtol=1e-10,
        atol=1e-11,
    )
    return Fourier(found.y[:, -1])


def _log_jacobian() -> Estimate:
    """log dx_T/dx_0 of the periodic flow: the displacement at equal steps, differentiated."""

    def compute(n: int) -> Array:
        starts = _equal_steps(n)
        displacement = flow_map(ODE(WAVE.velocity), starts, T_SPAN, rtol=1e-11).x - starts
        return np.log1p(Fourier(displacement).derivative())[:: n // STEPS]

    return refined(compute, STEPS, "Jacobian of the flow map")


def _on_the_circle(rule: Rule, *, tol: float | None = None, seed: int = 0) -> Verdict:
    starts = _equal_steps(STEPS)
    along, ends = WAVE.along(rule, starts)
    density = refined(lambda n: np.log(_spectral(n).at(ends)), 48, "spectral solution of the equation")
    jacobian = _log_jacobian()
    flow = Estimate(np.log(WAVE.density(starts)) - jacobian.value, error=jacobian.error, route=jacobian.route)
    # in nats
    return check_equal(along, density, flow, tol=tolerance(tol), scale=1.0, seed=seed, title="density along a flow")


def _mass_between(rule: Rule, *, tol: float | None = None, seed: int = 0) -> Verdict:
    """∫ q_T over the interval between the ends of characteristics, eight of them."""
    starts, edges = _equal_steps(STEPS), _equal_steps(8)
    along, ends = WAVE.along(rule, starts)
    log_mass = along + _log_jacobian()
    carried = Fourier(np.exp(log_mass.value)).integral(edges)
    arrived = refined(
        lambda n: np.diff(_spectral(n).integral(ends[:: STEPS // 8])), 48, "spectral solution of the equation"
    )
    begun = (edges - 0.5 * np.cos(edges) + 0.15 * np.sin(2 * edges - 1)) / (2 * np.pi)
    routes = (
        Estimate(np.diff(begun), route="mass at the start"),
        arrived,
        Estimate(np.diff(carried), error=log_mass.error.max(), route="rate along characteristics, with the Jacobian"),
    )
    return check_equal(*routes, tol=tolerance(tol), seed=seed, title="mass between characteristics")


RATE, PUSH = 0.7, -0.4


def _sinh_velocity(x: Array, t: float) -> Array:
    return (RATE * np.arcsinh(x) + PUSH) * np.sqrt(1 + x**2)


STRETCH = Flow(
    _sinh_velocity,
    lambda x, t: RATE + (RATE * np.arcsinh(x) + PUSH) * x / np.sqrt(1 + x**2),
    Pushforward(DATA, Sinh(1.0)).pdf,
)


def _on_the_line(rule: Rule, *, tol: float | None = None, seed: int = 0) -> Verdict:
    """x = sinh y with ẏ = a y + b, which carries a Gaussian mixture along."""
    starts = np.sinh(np.asarray(DATA.ppf(np.linspace(0.02, 0.98, 25))))
    along, ends = STRETCH.along(rule, starts)
    factor = np.exp(RATE)
    moved = GaussianMixture(DATA.weights, factor * DATA.means + PUSH * (factor - 1) / RATE, factor * DATA.stds)
    slope, error = differentiate(lambda x: flow_map(ODE(_sinh_velocity), x, T_SPAN, rtol=1e-11).x, starts, length=0.5)
    routes = (
        along,
        Estimate(Pushforward(moved, Sinh(1.0)).logpdf(ends), error=1e-9, route="closed form"),
        Estimate(np.log(STRETCH.density(starts) / slope), error=error / slope + 1e-9, route="Jacobian of the flow map"),
    )
    return check_equal(*routes, tol=tolerance(tol), scale=1.0, seed=seed, title="density along a flow")


CHARACTERISTICS = Identity(
    id="lv-characteristics",
    statement=(
        "ẋ = v(x, t) with flow φ: q_T(φ(x)) φ'(x) = q_0(x), log φ' = ∫ v'(x_t, t) dt, so d/dt log q_t(x_t) = -v'\n"
        "the mass between two characteristics is conserved"
    ),
    conditions="v differentiable in x, with a flow that exists up to T.",
    source="Winther et al. (arXiv 2606.31576) eqs. 23-24; Chen et al. (2018), theorem 1",
    routes=(
        "spectral solution of ∂t q = -∂x(v q) on the circle, v = .6 sin x + .3 t cos 2x + .2",
        "the rate of the formula integrated along the characteristics",
        "q_0 divided by the derivative of the flow map",
        "mass between characteristics from the closed distribution function at the start",
        "on the line, x = sinh y with linear ẏ: the closed law",
    ),
    truth=lambda slope, slope_at_start: -slope,
    settings={
        "circle": _on_the_circle,
        "circle, mass between characteristics": _mass_between,
        "line, x = sinh y": _on_the_line,
    },
    siblings=(
        Sibling("sign: d/dt log q = +v'", lambda slope, slope_at_start: slope),
        Sibling("no Jacobian: q constant along characteristics", lambda slope, slope_at_start: 0.0 * slope),
        Sibling("v' at the starting point", lambda slope, slope_at_start: -slope_at_start),
        Sibling("½ v'", lambda slope, slope_at_start: -0.5 * slope),
    ),
)
