"""Reversibility: detailed balance, the Dirichlet form, and the spectrum of processes with polynomial eigenfunctions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special, stats
from scipy.linalg import eigh

from fpsolve.catalogue.fixtures import SIGMA, SINH_1, SINH_25, THETA, refined, tolerance
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.catalogue.stationary import (
    BETA_PARAMETERS,
    CIR,
    GAMMA_PARAMETERS,
    KAPPA,
    LEVEL,
    ON_HALF_LINE,
    ON_INTERVAL,
    XI,
    Stationary,
    on_line,
    sinh_law,
)
from fpsolve.paths import processes
from fpsolve.paths.closed_forms import exact_evolution
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.mixtures import Normal, PointMass
from fpsolve.problem.process import SDE
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray


@dataclass(frozen=True)
class Reversible:
    """What the identity says: stationary parameters, weight of the Dirichlet form, rates and eigenfunctions.

    `variance(θ, σ)` of an Ornstein-Uhlenbeck process, `shape(κ, θ, ξ)` of a square-root one; `weight(g², mean of g²)`
    with ∫φ (Lψ) q∞ = -∫ weight φ'ψ' q∞; `rate(k, κ, c)` for drift slope -κ and g² = ... + c x²; polynomials in x,
    `jacobi(k, a, b)` and `laguerre(k, a, rate)`, for stationary laws Beta(a, b) and Gamma(a, rate).
    """

    variance: Callable[[float, float], float]
    shape: Callable[[float, float, float], float]
    weight: Callable[[Array, float], Array]
    rate: Callable[[Any, float, float], Any]
    jacobi: Callable[[int, float, float], np.poly1d]
    laguerre: Callable[[int, float, float], np.poly1d]


def _jacobi_in_unit_interval(k: int, alpha: float, beta: float) -> np.poly1d:
    return special.jacobi(k, alpha, beta)(np.poly1d([2.0, -1.0]))


def _laguerre_scaled(k: int, alpha: float, rate: float) -> np.poly1d:
    return special.genlaguerre(k, alpha)(np.poly1d([rate, 0.0]))


_REVERSIBLE = Reversible(
    variance=lambda theta, sigma: sigma**2 / (2 * theta),
    shape=lambda kappa, theta, xi: 2 * kappa * theta / xi**2,
    weight=lambda g2, mean: 0.5 * g2,
    rate=lambda k, kappa, c: k * (kappa - 0.5 * c * (k - 1)),
    jacobi=lambda k, a, b: _jacobi_in_unit_interval(k, b - 1, a - 1),
    laguerre=lambda k, a, rate: _laguerre_scaled(k, a - 1, rate),
)

_LAG = 2.5
_ORDERS = np.arange(1.0, 6.0)


def _swapped(process: SDE, x: Array, stationary: Array, kernel: Callable[[float], Array]) -> tuple[Estimate, Estimate]:
    """q∞(x) p(y|x) from the textbook's kernel, and q∞(y) p(x|y) from the closed form; rows are x."""
    there = np.array([weight * kernel(float(start)) for start, weight in zip(x, stationary, strict=True)])
    span = (0.0, _LAG)
    back = [exact_evolution(process, PointMass(float(y)), span).pdf(x, _LAG) for y in x]
    back = np.array(back).T * stationary
    return Estimate(there, error=1e-12 * there, route="x to y, textbook kernel"), Estimate(
        back, error=1e-11 * back, route="y to x, closed form"
    )


def _balance_of_ou(candidate: Reversible, *, tol: float | None = None, seed: int = 0) -> Verdict:
    decay, std = np.exp(-THETA * _LAG), SIGMA / np.sqrt(2 * THETA)
    stationary = stats.norm(0.0, np.sqrt(candidate.variance(THETA, SIGMA)))
    x = std * np.linspace(-2.5, 2.5, 15)

    def kernel(start: float) -> Array:
        return stats.norm.pdf(x, start * decay, std * np.sqrt(1 - decay**2))

    routes = _swapped(processes.ou(THETA, SIGMA), x, stationary.pdf(x), kernel)
    return check_equal(*routes, tol=tolerance(tol), seed=seed, title="detailed balance")


def _balance_of_cir(candidate: Reversible, *, tol: float | None = None, seed: int = 0) -> Verdict:
    stationary = stats.gamma(candidate.shape(KAPPA, LEVEL, XI), scale=0.5 * XI**2 / KAPPA)
    x = np.asarray(ON_HALF_LINE.law.ppf(np.linspace(0.02, 0.98, 15)))
    c = 0.25 * XI**2 * (1 - np.exp(-KAPPA * _LAG)) / KAPPA

    def kernel(start: float) -> Array:
        return stats.ncx2.pdf(x, 4 * KAPPA * LEVEL / XI**2, start * np.exp(-KAPPA * _LAG) / c, scale=c)

    routes = _swapped(CIR, x, stationary.pdf(x), kernel)
    return check_equal(*routes, tol=tolerance(tol), seed=seed, title="detailed balance")


# bounded functions with their first two derivatives; two of them are not odd or even
_WAVES = (
    (np.sin, np.cos, lambda x: -np.sin(x)),
    (lambda x: np.cos(2 * x + 0.5), lambda x: -2 * np.sin(2 * x + 0.5), lambda x: -4 * np.cos(2 * x + 0.5)),
    (lambda x: np.exp(-((x - 0.4) ** 2)), lambda x: -2 * (x - 0.4) * np.exp(-((x - 0.4) ** 2)), None),
)


def _dirichlet_of(case: Stationary) -> Check:
    """∫φ (Lψ) q∞ against the Dirichlet form, for pairs of functions."""
    pairs = [(phi, psi) for phi in _WAVES for psi in _WAVES if psi[2] is not None]

    def generated(panels: int) -> Array:
        x, mass, g2 = case.nodes(panels)
        f = case.process.drift(x, 0.0)
        return np.array([(mass * phi[0](x) * (f * psi[1](x) + 0.5 * g2 * psi[2](x))).sum() for phi, psi in pairs])

    def check(candidate: Reversible, *, tol: float | None = None, seed: int = 0) -> Verdict:
        def form(panels: int) -> Array:
            x, mass, g2 = case.nodes(panels)
            weight = candidate.weight(g2, float((mass * g2).sum()))
            return -np.array([(mass * weight * phi[1](x) * psi[1](x)).sum() for phi, psi in pairs])

        routes = refined(generated, 40, "∫ φ Lψ q"), refined(form, 40, "Dirichlet form")
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="symmetry of the generator")

    return check


def _generator_on_monomials(process: SDE, left: float, right: float) -> Array:
    """Eigenvalues of the generator on polynomials of degree ≤ 5, from its values at Chebyshev points."""
    n = int(_ORDERS[-1])
    basis = [np.polynomial.Chebyshev.basis(k, domain=[left, right]) for k in range(n + 1)]
    x = 0.5 * (left + right) + 0.5 * (right - left) * np.cos(np.pi * (np.arange(24) + 0.5) / 24)
    f, g2 = process.drift(x, 0.0), process.diffusion_squared(x, 0.0)
    images = np.array([f * p.deriv()(x) + 0.5 * g2 * p.deriv(2)(x) for p in basis]).T
    matrix = np.linalg.lstsq(np.array([p(x) for p in basis]).T, images, rcond=None)[0]
    return np.sort(-np.linalg.eigvals(matrix).real)[1:]


def _ritz_values(case: Stationary) -> Callable[[int], Array]:
    """Stationary values of ∫½g²φ'² q∞ / ∫φ² q∞ over polynomials of degree ≤ 5."""
    n = int(_ORDERS[-1])

    def values(panels: int) -> Array:
        x, mass, g2 = case.nodes(panels)
        left, right = case.law.quantile_span(1e-4)
        basis = [np.polynomial.Chebyshev.basis(k, domain=[left, right]) for k in range(n + 1)]
        rows, slopes = np.array([p(x) for p in basis]), np.array([p.deriv()(x) for p in basis])
        return eigh(slopes * (0.5 * mass * g2) @ slopes.T, rows * mass @ rows.T, eigvals_only=True)[1:]

    return values


def _rates_of(case: Stationary, slope: float, curvature: float) -> Check:
    def check(candidate: Reversible, *, tol: float | None = None, seed: int = 0) -> Verdict:
        on_polynomials = _generator_on_monomials(case.process, *case.law.quantile_span(1e-3))
        routes = (
            Estimate(candidate.rate(_ORDERS, slope, curvature), route="formula"),
            Estimate(on_polynomials, error=1e-9, route="generator on polynomials"),
            refined(_ritz_values(case), 40, "Dirichlet form on polynomials"),
        )
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="decay rates")

    return check


def _eigenfunctions_of(case: Stationary, pick: Callable[[Reversible, int], np.poly1d], c: float) -> Check:
    """f φ' + ½g² φ'' = -λ φ at points, each φ in units of its largest value there."""

    def check(candidate: Reversible, *, tol: float | None = None, seed: int = 0) -> Verdict:
        x, images, multiples = case.points(), [], []
        f, g2 = case.process.drift(x, 0.0), case.process.diffusion_squared(x, 0.0)
        for k in _ORDERS:
            phi = pick(candidate, int(k))
            size, rate = np.abs(phi(x)).max(), float(candidate.rate(k, KAPPA, c))
            images.append((f * phi.deriv()(x) + 0.5 * g2 * phi.deriv(2)(x)) / size)
            multiples.append(-rate * phi(x) / size)
        routes = (
            Estimate(np.array(images), error=1e-9, route="generator on polynomials"),
            Estimate(np.array(multiples), error=1e-9, route="multiple of the eigenfunction"),
        )
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="eigenfunctions")

    return check


_OU = on_line(processes.ou(THETA, SIGMA), Normal(0.0, SIGMA / np.sqrt(2 * THETA)), 3.0, THETA)


def _with(**changes: Any) -> Reversible:
    return replace(_REVERSIBLE, **changes)


_OF_OU, _OF_CIR = ("balance, Ornstein-Uhlenbeck",), ("balance, square root",)
_FORMS = ("Dirichlet form, L = 1", "Dirichlet form, L = 25")
_RATES = ("rates, Ornstein-Uhlenbeck", "rates, square root", "rates, x(1 - x)")

REVERSIBILITY_SPECTRUM = Identity(
    id="fp-reversibility-spectrum",
    statement=(
        "p(y, t | x) q∞(x) = p(x, t | y) q∞(y);  ∫ φ (Lψ) q∞ = -½ ∫ g² φ' ψ' q∞\n"
        "for f' = -κ and g² = ... + c x²: L φ_k = -λ_k φ_k with λ_k = k (κ - ½ c (k - 1)) and polynomials φ_k:\n"
        "Ornstein-Uhlenbeck He_k, square root Laguerre L_k^(a-1)(2κx/ξ²), x(1 - x) Jacobi P_k^(b-1, a-1)(2x - 1)"
    ),
    conditions="One dimension, stationary law with zero flux; φ_k square-integrable.",
    source="Kolmogorov (1937) for detailed balance; Wong (1964) and Karlin & Taylor (1981) for the spectra",
    routes=(
        "x to y by the textbook kernel against y to x by the closed-form engine",
        "two quadratures: of the generator, and of the Dirichlet form",
        "the rates against the generator on polynomials, and against the Dirichlet form on polynomials",
        "the generator on the eigenfunctions against their multiples",
    ),
    truth=_REVERSIBLE,
    settings={
        _OF_OU[0]: _balance_of_ou,
        _OF_CIR[0]: _balance_of_cir,
        _FORMS[0]: _dirichlet_of(on_line(SINH_1.process, sinh_law(1.0), 6.0, THETA)),
        _FORMS[1]: _dirichlet_of(on_line(SINH_25.process, sinh_law(25.0), 3.0, THETA)),
        _RATES[0]: _rates_of(_OU, THETA, 0.0),
        _RATES[1]: _rates_of(ON_HALF_LINE, KAPPA, 0.0),
        _RATES[2]: _rates_of(ON_INTERVAL, KAPPA, -(XI**2)),
        "eigenfunctions, square root": _eigenfunctions_of(
            ON_HALF_LINE, lambda c, k: c.laguerre(k, *GAMMA_PARAMETERS), 0.0
        ),
        "eigenfunctions, x(1 - x)": _eigenfunctions_of(
            ON_INTERVAL, lambda c, k: c.jacobi(k, *BETA_PARAMETERS), -(XI**2)
        ),
    },
    siblings=(
        Sibling("variance σ²/θ", _with(variance=lambda theta, sigma: sigma**2 / theta), only=_OF_OU),
        Sibling("variance σ/2θ", _with(variance=lambda theta, sigma: sigma / (2 * theta)), only=_OF_OU),
        Sibling(
            "variance off by a thousandth",
            _with(variance=lambda theta, sigma: 1.001 * sigma**2 / (2 * theta)),
            only=_OF_OU,
        ),
        Sibling("Gamma shape + ½", _with(shape=lambda k, theta, xi: 2 * k * theta / xi**2 + 0.5), only=_OF_CIR),
        Sibling("Gamma shape + 1", _with(shape=lambda k, theta, xi: 2 * k * theta / xi**2 + 1), only=_OF_CIR),
        Sibling("Dirichlet form without ½", _with(weight=lambda g2, mean: g2), only=_FORMS),
        Sibling(
            "mean of g² in the Dirichlet form",
            _with(weight=lambda g2, mean: 0.5 * mean + 0 * g2),
            below_tolerance={_FORMS[1]: 1.2e-4},
            only=_FORMS,
        ),
        Sibling("½ of the rates", _with(rate=lambda k, kappa, c: 0.5 * k * (kappa - 0.5 * c * (k - 1))), only=_RATES),
        Sibling(
            "rates without ½: k (κ - c (k - 1))",
            _with(rate=lambda k, kappa, c: k * (kappa - c * (k - 1))),
            only=_RATES[2:],
        ),
        Sibling("rates of the drift alone: k κ", _with(rate=lambda k, kappa, c: k * kappa), only=_RATES[2:]),
        Sibling("k² in the rates", _with(rate=lambda k, kappa, c: k * (kappa - 0.5 * c * k)), only=_RATES[2:]),
        Sibling(
            "Laguerre of order a",
            _with(laguerre=lambda k, a, rate: _laguerre_scaled(k, a, rate)),
            only=("eigenfunctions, square root",),
        ),
        Sibling(
            "Jacobi parameters swapped",
            _with(jacobi=lambda k, a, b: _jacobi_in_unit_interval(k, a - 1, b - 1)),
            only=("eigenfunctions, x(1 - x)",),
        ),
    ),
)
