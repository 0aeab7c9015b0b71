"""The identity of means that are weighted along paths: densities of the past, and prices of bonds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from fpsolve.catalogue.fixtures import SINH_1, SINH_25, Fixture, tolerance
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.catalogue.lines import POINTS, Coefficients, Rate, on_lines
from fpsolve.catalogue.log_density import END
from fpsolve.catalogue.path_measures import SAMPLED_TOL
from fpsolve.catalogue.reversed_clock import REGION, anti_diffusion
from fpsolve.grids.backward.backward import solve_backward
from fpsolve.particles.simulate import simulate
from fpsolve.paths import processes
from fpsolve.problem.density import PointMass
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.grid import Grid
from fpsolve.problem.process import SDE
from fpsolve.problem.streams import Stream
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
Function = Callable[[Array], Array]
_MATURITY = 2.0

# (κ, θ, σ, T, r) -> price
Price = Callable[[float, float, float, float, Array], Array]


def _vasicek(kappa: float, theta: float, sigma: float, t: float, r: Array, convexity: float = 1.0) -> Array:
    """Of dr = κ (θ - r) dt + σ dW; `convexity` multiplies what the noise does to the price."""
    b = (1.0 - np.exp(-kappa * t)) / kappa
    noise = 0.5 * convexity * sigma**2 / kappa**2
    return np.asarray(np.exp((theta - noise) * (b - t) - 0.5 * noise * kappa * b**2 - b * r))


def _square_root(
    kappa: float, theta: float, xi: float, t: float, r: Array, noise: float = 2.0, exponent: float = 2.0
) -> Array:
    """Of dr = κ (θ - r) dt + ξ √r dW, with γ² = κ² + noise ξ² and exponent κθ/ξ² of the factor without r."""
    gamma = np.sqrt(kappa**2 + noise * xi**2)
    grown = np.expm1(gamma * t)
    below = (gamma + kappa) * grown + 2.0 * gamma
    factor = (2.0 * gamma * np.exp(0.5 * (kappa + gamma) * t) / below) ** (exponent * kappa * theta / xi**2)
    return np.asarray(factor * np.exp(-2.0 * grown / below * r))


@dataclass(frozen=True)
class Weighted:
    """ψ = E[φ(Y_T) e^(sign ∫c)] and the density q_T as one: drift from (f, (g²)'), c from (f', (g²)''); bond prices.

    `inside` tells that the exponential is taken inside the mean.
    """

    drift: Callable[[Array, Array], Array] = lambda f, g2_dx: -f + g2_dx
    potential: Callable[[Array, Array], Array] = lambda f_dx, g2_dxx: f_dx - 0.5 * g2_dxx
    sign: float = -1.0
    inside: bool = True
    vasicek: Price = _vasicek
    square_root: Price = _square_root


def _by_engine(
    claim: Weighted, process: SDE, terminal: Any, c: Function, x: Array, t: float, grid: Grid | None
) -> Estimate:
    """ψ by the backward engine; with the exponential outside the mean it takes two equations."""

    def at_start(terminal: Any, **terms: Any) -> Estimate:
        return solve_backward(process, terminal, (0.0, t), grid=grid, t_eval=[0.0], **terms).with_error("value", x, 0.0)

    if claim.inside:
        found = at_start(terminal, potential=lambda x: -claim.sign * c(x))
        return Estimate(found.value, error=found.error, route="backward engine")
    plain, mean = at_start(terminal), at_start(0.0, source=c)
    value = plain.value * np.exp(claim.sign * mean.value)
    error = plain.error / plain.value + mean.error
    return Estimate(value, error=np.abs(value) * error, route="backward engine")


def _past(fixture: Fixture) -> Check:
    """q_T as a mean of q_0 over the anti-diffusion."""
    places, data = fixture.forward(POINTS), fixture.law_at(0.0)

    def equation_of(claim: Weighted) -> Callable[[Array], Rate]:
        def equation(x: Array) -> Rate:
            k = Coefficients.of(fixture, x, 0.0)
            b, c = claim.drift(k.f, k.g2_dx), claim.potential(k.f_dx, k.g2_dxx)
            return lambda t, v, v_dx, v_dxx: 0.5 * k.g2 * v_dxx + b * v_dx + claim.sign * c * v

        return equation

    def check(claim: Weighted, *, tol: float | None = None, seed: int = 0) -> Verdict:
        def c(x: Array) -> Array:
            k = Coefficients.of(fixture, x, 0.0)
            return claim.potential(k.f_dx, k.g2_dxx)

        now = fixture.law_at(END).pdf(places)
        routes = [
            Estimate(now, error=1e-12 * now, route="textbook law"),
            _by_engine(
                claim, anti_diffusion(fixture, claim.drift), data.pdf, c, places, END, fixture.even_grid(*REGION)
            ),
        ]
        if claim.inside:
            routes.append(on_lines(fixture, equation_of(claim), data.pdf, END, "weighted mean on lines"))
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="density as a mean over the anti-diffusion")

    return check


def _past_sampled(fixture: Fixture, start: float) -> Check:
    """The same at one place by paths of the particle engine."""
    place, data = fixture.forward(np.array(start)), fixture.law_at(0.0)

    def check(claim: Weighted, *, tol: float | None = None, seed: int = 0) -> Verdict:
        def c(x: Array) -> Array:
            k = Coefficients.of(fixture, x, 0.0)
            return claim.potential(k.f_dx, k.g2_dxx)

        def particles(effort: int, stream: Stream) -> Estimate:
            run = simulate(
                anti_diffusion(fixture, claim.drift), PointMass(float(place)), (0.0, END), n_paths=2 ** (15 + effort),
                n_steps=2 ** (4 + effort), bias="halving", functionals={"c": (c, 0.0)}, rng=stream,
            )  # fmt: skip
            return run.expect(lambda x, c: data.pdf(x) * np.exp(claim.sign * c))

        now = fixture.law_at(END).pdf(place)
        closed, goal = Estimate(float(now), error=1e-12, route="textbook law"), tolerance(tol, SAMPLED_TOL)
        return check_equal(closed, particles, tol=goal, seed=seed, title="density as a mean over paths")

    return check


def _riccati(r: Array, rates: Callable[[float], tuple[float, float]]) -> Estimate:
    """exp(A - B r) with (A', B') from B, both 0 at maturity."""
    ends = [
        solve_ivp(lambda t, u: rates(u[1]), (0.0, _MATURITY), [0.0, 0.0], method="DOP853", rtol=rtol, atol=rtol).y[
            :, -1
        ]
        for rtol in (1e-9, 1e-12)
    ]
    coarse, fine = (np.exp(a - b * r) for a, b in ends)
    return Estimate(fine, error=np.abs(fine - coarse) + 1e-12, route="Riccati equation")


def _bond_of_vasicek(sigma: float) -> Check:
    kappa, theta, r = 0.9, 0.06, np.array([-0.02, 0.01, 0.05, 0.12])

    def check(claim: Weighted, *, tol: float | None = None, seed: int = 0) -> Verdict:
        process = processes.ou(kappa, sigma, theta)
        return check_equal(
            Estimate(claim.vasicek(kappa, theta, sigma, _MATURITY, r), error=1e-14, route="formula for the price"),
            _riccati(r, lambda b: (-kappa * theta * b + 0.5 * sigma**2 * b**2, 1.0 - kappa * b)),
            _by_engine(claim, process, 1.0, lambda x: x, r, _MATURITY, Grid(-6 * sigma, theta + 6 * sigma, 200)),
            tol=tolerance(tol),
            seed=seed,
            title="price of a bond, Gaussian rate",
        )

    return check


def _bond_of_square_root(xi: float) -> Check:
    kappa, theta, r = 0.9, 0.08, np.array([0.01, 0.05, 0.12, 0.3])

    def check(claim: Weighted, *, tol: float | None = None, seed: int = 0) -> Verdict:
        process = processes.cir(kappa, theta, xi)
        return check_equal(
            Estimate(claim.square_root(kappa, theta, xi, _MATURITY, r), error=1e-14, route="formula for the price"),
            _riccati(r, lambda b: (-kappa * theta * b, 1.0 - kappa * b - 0.5 * xi**2 * b**2)),
            _by_engine(claim, process, 1.0, lambda x: x, r, _MATURITY, None),
            tol=tolerance(tol),
            seed=seed,
            title="price of a bond, square-root rate",
        )

    return check


_PAST, _PAST_SAMPLED = ("density, L = 1", "density, L = 25"), ("density, L = 1, sampled",)
_VASICEK = ("bond, Vasicek", "bond, Vasicek, little noise")
_SQUARE_ROOT = ("bond, square root", "bond, square root, little noise")
_DENSITIES = (*_PAST, *_PAST_SAMPLED)

FEYNMAN_KAC = Identity(
    id="ctl-feynman-kac",
    statement=(
        "-∂τ ψ = ½ g² ψ'' + b ψ' - c ψ with ψ = φ at T is ψ(y, τ) = E[φ(Y_T) e^(-∫c) | Y_τ = y] for dY = b dτ + g dB\n"
        "with b = -f + (g²)', c = f' - ½ (g²)'', φ = q_0 it is ψ(y, 0) = q_T(y), and ψ = e^(-V) (Hopf, Cole);\n"
        "with c = r and φ = 1 it is the price of a bond: exp(A - B r) for dr = κ (θ - r) dt + σ dW, or + ξ √r dW"
    ),
    conditions="c bounded below, or the weight integrable; for the density q_0 > 0 and coefficients at t = T - τ.",
    source=(
        "Kac (1949); Berner, Richter & Ullrich (arXiv 2211.01364) for the density;\n"
        "Vasicek (1977) and Cox, Ingersoll & Ross (1985) for bonds"
    ),
    routes=(
        "q_T of the textbook, the backward engine, the method of lines, and weighted particles (sampled)",
        "bonds: formula for the price, Riccati equation, and the backward engine",
    ),
    truth=Weighted(),
    settings={
        _PAST[0]: _past(SINH_1),
        _PAST[1]: _past(SINH_25),
        _PAST_SAMPLED[0]: _past_sampled(SINH_1, 0.8),
        _VASICEK[0]: _bond_of_vasicek(0.25),
        _VASICEK[1]: _bond_of_vasicek(0.03),
        _SQUARE_ROOT[0]: _bond_of_square_root(0.35),
        _SQUARE_ROOT[1]: _bond_of_square_root(0.05),
    },
    siblings=(
        Sibling("sign of c", Weighted(sign=1.0)),
        Sibling("½ (g²)'' dropped", Weighted(potential=lambda f_dx, g2_dxx: f_dx), only=_DENSITIES),
        Sibling("(g²)' dropped", Weighted(drift=lambda f, g2_dx: -f), only=_DENSITIES),
        Sibling("½ (g²)'", Weighted(drift=lambda f, g2_dx: -f + 0.5 * g2_dx), only=_DENSITIES),
        Sibling("drift + f", Weighted(drift=lambda f, g2_dx: f + g2_dx), only=_DENSITIES),
        Sibling(
            "exponential of the mean: E[φ] e^(-E ∫c)",
            Weighted(inside=False),
            below_tolerance={_PAST[1]: 2.9e-4, _SQUARE_ROOT[1]: 1.7e-4},
            only=(*_PAST, *_VASICEK, *_SQUARE_ROOT),
        ),
        Sibling(
            "noise left out of the price",
            Weighted(vasicek=lambda k, theta, s, t, r: _vasicek(k, theta, s, t, r, 0.0)),
            only=_VASICEK,
        ),
        Sibling(
            "sign of the noise in the price",
            Weighted(vasicek=lambda k, theta, s, t, r: _vasicek(k, theta, s, t, r, -1.0)),
            only=_VASICEK,
        ),
        Sibling(
            "γ² = κ² + ξ²",
            Weighted(square_root=lambda k, theta, xi, t, r: _square_root(k, theta, xi, t, r, noise=1.0)),
            only=_SQUARE_ROOT,
        ),
        Sibling(
            "exponent κθ/ξ²",
            Weighted(square_root=lambda k, theta, xi, t, r: _square_root(k, theta, xi, t, r, exponent=1.0)),
            only=_SQUARE_ROOT,
        ),
    ),
)
