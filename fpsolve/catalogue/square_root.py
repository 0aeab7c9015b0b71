"""The transition law of the square-root process, the tractable diffusion that is not Gaussian."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats
from scipy.linalg import expm
from scipy.special import ive

from fpsolve.catalogue.fixtures import refined, tolerance
from fpsolve.catalogue.identity import Identity, Sibling
from fpsolve.catalogue.stationary import CIR, GAMMA_PARAMETERS, KAPPA, LEVEL, XI
from fpsolve.grids.fokker_planck import solve_fokker_planck
from fpsolve.paths.closed_forms import exact_evolution
from fpsolve.problem.differences import differentiate
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.gamma import GammaMixture
from fpsolve.problem.mixtures import PointMass
from fpsolve.verdict.checks import check_velocity
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
START, LAG, SPAN = 0.5, 0.5, (0.0, 0.5)
# asymmetric, and one part narrower than the stationary law
WEIGHTS, SCALES = np.array([0.4, 0.6]), np.array([0.05, 0.4])
FIRST = GammaMixture(WEIGHTS, [GAMMA_PARAMETERS[0]] * 2, SCALES)


@dataclass(frozen=True)
class Kernel:
    """What the identity says, each part from (κ, θ, ξ) and the time u.

    X_u is c Z, Z noncentral chi-square with `df(κ, θ, ξ)` degrees of freedom, c = `scale(κ, ξ, u)`, noncentrality
    `noncentrality(x0, κ, u, c)`; `score(z, λ, ν)` is c ∂x log p at z = x/c; a Gamma law of shape 2κθ/ξ² and scale S
    gets `gamma_scale(S, κ, ξ, u)`; `velocity` is bound by name.
    """

    df: Callable[[float, float, float], float]
    scale: Callable[[float, float, float], float]
    noncentrality: Callable[[Any, float, float, float], Any]
    score: Callable[[Array, float, float], Array]
    gamma_scale: Callable[[Array, float, float, float], Array]
    velocity: Callable[..., Array]

    def law(self, start: Any = START, lag: float = LAG) -> Any:
        """SciPy's noncentral chi-square law with these parameters."""
        c = self.scale(KAPPA, XI, lag)
        return stats.ncx2(self.df(KAPPA, LEVEL, XI), self.noncentrality(start, KAPPA, lag, c), scale=c)


def _ratio(z: Array, noncentrality: float, upper: float, lower: float) -> Array:
    """√(λ/z) I_upper/I_lower at √(λz)."""
    root = np.sqrt(noncentrality * z)
    return np.sqrt(noncentrality / z) * ive(upper, root) / ive(lower, root)


TRUTH = Kernel(
    df=lambda kappa, theta, xi: 4 * kappa * theta / xi**2,
    scale=lambda kappa, xi, u: xi**2 * (1 - np.exp(-kappa * u)) / (4 * kappa),
    noncentrality=lambda x0, kappa, u, c: x0 * np.exp(-kappa * u) / c,
    score=lambda z, lam, df: -0.5 + (df / 2 - 1) / z + 0.5 * _ratio(z, lam, df / 2, df / 2 - 1),
    gamma_scale=lambda s, kappa, xi, u: s * np.exp(-kappa * u) + xi**2 * (1 - np.exp(-kappa * u)) / (2 * kappa),
    velocity=lambda x, s: KAPPA * (LEVEL - x) - 0.5 * XI**2 - 0.5 * XI**2 * x * s,
)


def _log_transforms(frequencies: Array, steps: int) -> Array:
    """A + B x0 with E exp(iωX_u) = exp(A + B x0): B' = -κB + ½ξ²B², A' = κθB, B(0) = iω; Runge-Kutta, no kernel."""

    def rate(state: Array) -> Array:
        b = state[0]
        return np.array([-KAPPA * b + 0.5 * XI**2 * b**2, KAPPA * LEVEL * b])

    state, h = np.array([1j * frequencies, np.zeros(frequencies.size)]), LAG / steps
    for _ in range(steps):
        k1 = rate(state)
        k2 = rate(state + 0.5 * h * k1)
        k3 = rate(state + 0.5 * h * k2)
        state = state + h / 6.0 * (k1 + 2 * k2 + 2 * k3 + rate(state + h * k3))
    return state[1] + state[0] * START


def _by_fourier(x: Array) -> Estimate:
    """Density by the trapezoidal rule over frequencies: its period 2π/0.8 is far beyond the mass, its cut varies."""

    def density(count: int) -> Array:
        frequencies = 0.8 * np.arange(count)
        halves = np.where(frequencies == 0.0, 0.5, 1.0)
        waves = np.exp(_log_transforms(frequencies, 4 * count) - 1j * frequencies * x[:, None])
        return 0.8 / np.pi * (waves.real @ halves)

    return refined(density, 150, "Fourier inversion of the affine transform")


def _density(kernel: Kernel, *, tol: float | None = None, seed: int = 0) -> Verdict:
    x = np.asarray(TRUTH.law().ppf(np.linspace(0.02, 0.98, 25)))
    engine = exact_evolution(CIR, PointMass(START), SPAN).with_error("pdf", x, LAG)
    routes = (
        Estimate(kernel.law().pdf(x), route="noncentral chi-square"),
        _by_fourier(x),
        Estimate(engine[0], error=engine[1], route="closed form, Bessel functions"),
    )
    return check_equal(*routes, tol=tolerance(tol), seed=seed, title="transition density")


def _moments(kernel: Kernel, *, tol: float | None = None, seed: int = 0) -> Verdict:
    """E X, E X², E X³, each in units of the power of θ."""
    matrix = np.zeros((4, 4))  # L x^n = nκ(θ x^{n-1} - x^n) + ½n(n-1)ξ² x^{n-1}
    for n in (1, 2, 3):
        matrix[n, n], matrix[n, n - 1] = -n * KAPPA, n * KAPPA * LEVEL + 0.5 * n * (n - 1) * XI**2
    units = LEVEL ** np.arange(1.0, 4.0)
    from_generator = (expm(matrix * LAG) @ START ** np.arange(4.0))[1:] / units
    mean, var, skew = (float(value) for value in kernel.law().stats("mvs"))
    raw = np.array([mean, var + mean**2, skew * var**1.5 + 3 * mean * var + mean**3]) / units
    law = exact_evolution(CIR, PointMass(START), SPAN).at(LAG)
    by_quadrature = np.array([law.expect(np.poly1d([1.0] + [0.0] * n)) for n in (1, 2, 3)]) / units
    routes = (
        Estimate(raw, error=1e-12, route="noncentral chi-square"),
        Estimate(from_generator, error=1e-12, route="generator on polynomials"),
        Estimate(by_quadrature, error=1e-11, route="closed form, by quadrature"),
    )
    return check_equal(*routes, tol=tolerance(tol), seed=seed, title="moments")


def _score(kernel: Kernel, *, tol: float | None = None, seed: int = 0) -> Verdict:
    law, c = TRUTH.law(), TRUTH.scale(KAPPA, XI, LAG)
    x = np.asarray(law.ppf(np.linspace(0.02, 0.98, 25)))
    found, error = differentiate(law.logpdf, x, length=0.2, support=(0.0, np.inf))
    df, lam = law.args
    routes = (
        Estimate(kernel.score(x / c, lam, df) / c, error=1e-10, route="ratio of Bessel functions"),
        Estimate(found, error=error + 1e-9, route="differences of the log-density"),
    )
    return check_equal(*routes, tol=tolerance(tol), seed=seed, title="score of the transition density")


def _closure(kernel: Kernel, *, tol: float | None = None, seed: int = 0) -> Verdict:
    scales = kernel.gamma_scale(SCALES, KAPPA, XI, LAG)
    parts = [w * stats.gamma.pdf(_POINTS, GAMMA_PARAMETERS[0], scale=s) for w, s in zip(WEIGHTS, scales, strict=True)]

    def carried(panels: int) -> Array:
        """∫ p(x | y) q0(y) dy over log y."""
        nodes, weights = np.polynomial.legendre.leggauss(12)
        edges = np.linspace(-7.0, 3.0, panels + 1)
        half = 0.5 * np.diff(edges)[:, None]
        y = np.exp(((edges[:-1, None] + half) + half * nodes).ravel())
        first = sum(w * stats.gamma.pdf(y, GAMMA_PARAMETERS[0], scale=s) for w, s in zip(WEIGHTS, SCALES, strict=True))
        kernels = TRUTH.law(y[:, None]).pdf(_POINTS)
        return ((half * weights).ravel() * y * first) @ kernels

    grid = solve_fokker_planck(CIR, FIRST, SPAN, t_eval=[LAG], rtol=1e-5).with_error("pdf", _POINTS, LAG)
    routes = (
        Estimate(np.sum(parts, axis=0), route="Gamma laws"),
        refined(carried, 16, "Chapman-Kolmogorov by quadrature"),
        Estimate(grid[0], error=grid[1], route="grid"),
    )
    return check_equal(*routes, tol=tolerance(tol), seed=seed, title="Gamma laws stay Gamma laws")


_POINTS = np.linspace(0.15, 3.5, 25)


def _velocity(kernel: Kernel, *, tol: float | None = None, seed: int = 0) -> Verdict:
    return check_velocity((CIR, FIRST), kernel.velocity, t_span=SPAN, tol=tol, seed=seed)


def _with(**changes: Any) -> Kernel:
    return replace(TRUTH, **changes)


_LAW = ("density", "moments")

CIR_KERNEL = Identity(
    id="fp-cir-kernel",
    statement=(
        "dX = κ (θ - X) dt + ξ √X dW: X_u given x0 is c χ'²_ν(λ)\n"
        "with c = ξ² (1 - e^{-κu})/4κ, ν = 4κθ/ξ², λ = x0 e^{-κu}/c\n"
        "score (1/c) [-½ + (ν/2 - 1)/z + ½ √(λ/z) I_{ν/2}(√(λz))/I_{ν/2-1}(√(λz))] at z = x/c\n"
        "Gamma(ν/2, scale S) becomes Gamma(ν/2, scale S e^{-κu} + 2c); v = κ (θ - x) - ½ξ² - ½ξ² x s"
    ),
    conditions="ν ≥ 2, or reflection at 0; Gamma laws stay Gamma laws for the shape ν/2 only.",
    source="Feller (1951); Cox, Ingersoll & Ross (1985) eq. 18",
    routes=(
        "noncentral chi-square density against Fourier inversion of Riccati equations, and the closed-form engine",
        "its moments against the generator on polynomials, and quadrature of the closed form",
        "Bessel ratio against differences of the log-density",
        "Gamma laws against Chapman-Kolmogorov by quadrature, and the grid",
        "velocity against -∂t F/q, closed form and grid",
    ),
    truth=TRUTH,
    settings={
        "density": _density,
        "moments": _moments,
        "score": _score,
        "closure": _closure,
        "velocity": _velocity,
    },
    siblings=(
        Sibling("ν = 2κθ/ξ²", _with(df=lambda k, theta, xi: 2 * k * theta / xi**2), only=_LAW),
        Sibling("ν off by a thousandth", _with(df=lambda k, theta, xi: 1.001 * 4 * k * theta / xi**2), only=_LAW),
        Sibling(
            "c = ξ² (1 - e^{-κu})/2κ", _with(scale=lambda k, xi, u: xi**2 * (1 - np.exp(-k * u)) / (2 * k)), only=_LAW
        ),
        Sibling("λ with e^{-2κu}", _with(noncentrality=lambda x0, k, u, c: x0 * np.exp(-2 * k * u) / c), only=_LAW),
        Sibling(
            "(ν/4 - ½)/z in the score",
            _with(score=lambda z, lam, df: -0.5 + (df / 4 - 0.5) / z + 0.5 * _ratio(z, lam, df / 2, df / 2 - 1)),
            only=("score",),
        ),
        Sibling(
            "Bessel orders one higher",
            _with(score=lambda z, lam, df: -0.5 + (df / 2 - 1) / z + 0.5 * _ratio(z, lam, df / 2 + 1, df / 2)),
            only=("score",),
        ),
        Sibling(
            "scale S e^{-κu} + c",
            _with(gamma_scale=lambda s, k, xi, u: s * np.exp(-k * u) + xi**2 * (1 - np.exp(-k * u)) / (4 * k)),
            only=("closure",),
        ),
        Sibling(
            "scale S e^{-κu}: noise forgotten",
            _with(gamma_scale=lambda s, k, xi, u: s * np.exp(-k * u)),
            only=("closure",),
        ),
        Sibling(
            "½ (g²)' dropped in the velocity",
            _with(velocity=lambda x, s: KAPPA * (LEVEL - x) - 0.5 * XI**2 * x * s),
            only=("velocity",),
        ),
        Sibling(
            "(g²)' without ½ in the velocity",
            _with(velocity=lambda x, s: KAPPA * (LEVEL - x) - XI**2 - 0.5 * XI**2 * x * s),
            only=("velocity",),
        ),
        Sibling(
            "ξ² x s without ½ in the velocity",
            _with(velocity=lambda x, s: KAPPA * (LEVEL - x) - 0.5 * XI**2 - XI**2 * x * s),
            only=("velocity",),
        ),
    ),
)
