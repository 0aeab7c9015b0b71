"""Laws on the positive numbers that the square-root process keeps: mixtures of Gamma laws, noncentral chi-square."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats
from scipy.special import gammainc, gammaincc, gammainccinv, gammaincinv, gammaln, hyp0f1, ive

from fpsolve.errors import DensityError, check_count, check_number
from fpsolve.problem.law import Declared, Law, generator_of, pointwise
from fpsolve.problem.scale_mixture import check_column, log_sum_exp

_LARGE = 300.0  # √(order² + x²) from which four terms of the uniform expansion are exact to rounding


class GammaMixture(Declared, Law):
    """Mixture of Gamma laws on (0, ∞), q(x) = Σ w_k x^(a_k - 1) exp(-x/S_k) / (Γ(a_k) S_k^a_k).

    Parameters
    ----------
    weights, shapes, scales : sequence of float, shape (k,)
        Weights (not negative, summing to one), shapes a_k and scales S_k (positive).

    Raises
    ------
    DensityError
        If the weights are negative or do not sum to one within 1e-12 k, a shape or scale is not positive, the lengths
        differ, or a number is not finite.

    Notes
    -----
    With shapes 2κθ/ξ² the square-root process `fps.processes.cir` keeps the family (Cox, Ingersoll & Ross 1985).

    Examples
    --------
    >>> q = fps.GammaMixture([0.4, 0.6], [2.0, 5.5], [0.5, 0.3])
    >>> round(q.mean(), 12), round(float(q.score(100.0)), 9)
    (1.39, -1.99)
    """

    def __init__(self, weights: Any, shapes: Any, scales: Any) -> None:
        names = ("weights", "shapes", "scales")
        w, a, s = (check_column(name, v) for name, v in zip(names, (weights, shapes, scales), strict=True))
        if len({w.size, a.size, s.size}) > 1:
            rule = "weights, shapes and scales must have one entry per component"
            raise DensityError(rule, f"lengths {[w.size, a.size, s.size]}", "give three sequences of equal length")
        if (w < 0.0).any():
            raise DensityError("weights must not be negative", float(w.min()), "drop or correct that component")
        if abs(w.sum() - 1.0) > 1e-12 * w.size:
            raise DensityError("weights must sum to one", float(w.sum()), "divide them by their sum")
        for name, column in (("shapes", a), ("scales", s)):
            if (column <= 0.0).any():
                raise DensityError(f"{name} must be positive", float(column.min()), "correct that component")
        self._remember(weights=w, shapes=a, scales=s)

    weights: np.ndarray
    shapes: np.ndarray
    scales: np.ndarray

    def _arguments(self) -> dict[str, Any]:
        return {"weights": self.weights, "shapes": self.shapes, "scales": self.scales}

    @property
    def support(self) -> tuple[float, float]:
        """The positive numbers."""
        return 0.0, math.inf

    def _landmarks(self) -> tuple[float, ...]:
        return tuple(np.unique(self.shapes * self.scales))

    def log_parts(self, x: np.ndarray) -> np.ndarray:
        """log(w_k q_k(x)) at positive `x`, components along a new last axis."""
        z = np.asarray(x)[..., None] / self.scales
        with np.errstate(divide="ignore"):
            return (self.shapes - 1.0) * np.log(z) - z - gammaln(self.shapes) + np.log(self.weights / self.scales)

    def shares(self, x: np.ndarray) -> np.ndarray:
        """Posterior weights of the components at positive `x`, along a new last axis."""
        logs = self.log_parts(x)
        with np.errstate(under="ignore"):
            return np.exp(logs - log_sum_exp(logs)[..., None])

    @pointwise
    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the density, -inf outside (0, ∞)."""
        inside = _inside(x)
        return np.where(inside == x, log_sum_exp(self.log_parts(inside)), -np.inf)

    @pointwise
    def score(self, x: np.ndarray) -> np.ndarray:
        """Score ∂x log q(x), NaN outside (0, ∞)."""
        inside = _inside(x)
        slopes = (self.shapes - 1.0) / inside[:, None] - 1.0 / self.scales
        return np.where(inside == x, (self.shares(inside) * slopes).sum(axis=1), np.nan)

    @pointwise
    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Distribution function, relatively accurate in the left tail."""
        return gammainc(self.shapes, np.maximum(x, 0.0)[:, None] / self.scales) @ self.weights

    @pointwise
    def sf(self, x: np.ndarray) -> np.ndarray:
        """Survival function, relatively accurate in the right tail."""
        return gammaincc(self.shapes, np.maximum(x, 0.0)[:, None] / self.scales) @ self.weights

    def _bracket(self, p: np.ndarray, upper: bool) -> tuple[np.ndarray, np.ndarray]:
        """Quantiles of the components enclose that of the mixture; each part alone, w_k F_k ≤ F, bounds it too."""
        present = self.weights > 0.0
        shapes, scales, weights = self.shapes[present], self.scales[present], self.weights[present]
        inverse = gammainccinv if upper else gammaincinv
        own = scales * inverse(shapes, p[:, None])
        alone = scales * inverse(shapes, np.minimum(p[:, None] / weights, 1.0))
        if upper:
            low, high = np.maximum(own.min(axis=1), alone.max(axis=1)), own.max(axis=1)
        else:
            low, high = own.min(axis=1), np.minimum(own.max(axis=1), alone.min(axis=1))
        # a law of one component has no room between the two, and its quantile is rounded
        return low * (1.0 - 1e-12), high * (1.0 + 1e-12)

    def mean(self) -> float:
        """Mean Σ w a S."""
        return float(self.weights @ (self.shapes * self.scales))

    def var(self) -> float:
        """Variance Σ w (a S² + (a S - mean)²)."""
        means = self.shapes * self.scales
        return float(self.weights @ (means * self.scales + (means - self.mean()) ** 2))

    def sample(self, n: int, rng: Any) -> np.ndarray:
        """Draw `n` independent values; `rng` is a NumPy generator or a seed."""
        n, generator = check_count("n", n, at_least=0), generator_of(rng)
        edges = np.cumsum(self.weights)
        which = np.searchsorted(edges[:-1], edges[-1] * generator.random(n), side="right")
        return self.scales[which] * generator.standard_gamma(self.shapes[which])


class NoncentralChiSquare(Declared, Law):
    """Law of c Z for Z noncentral chi-square: the transition law of the square-root process.

    Parameters
    ----------
    df : float
        Degrees of freedom ν, positive.
    noncentrality : float
        λ, positive.
    scale : float
        c, positive.

    Raises
    ------
    InputError
        If a parameter is not a positive number.

    Notes
    -----
    q(x) = ½/c exp(-½(z + λ)) (z/λ)^(μ/2) I_μ(√(λz)) with z = x/c, μ = ν/2 - 1 (Johnson, Kotz & Balakrishnan,
    Continuous Univariate Distributions 2, ch. 29). Distribution functions are SciPy's (Boost).

    Examples
    --------
    >>> from fpsolve.problem.gamma import NoncentralChiSquare
    >>> q = NoncentralChiSquare(11.0, 4.0, 0.1)
    >>> round(q.mean(), 12), round(q.var(), 12), bool(abs(q.expect(np.ones_like) - 1) < 1e-12)
    (1.5, 0.38, True)
    """

    def __init__(self, df: float, noncentrality: float, scale: float = 1.0) -> None:
        self._remember(
            df=check_number("df", df, above=0.0),
            noncentrality=check_number("noncentrality", noncentrality, above=0.0),
            scale=check_number("scale", scale, above=0.0),
        )

    df: float
    noncentrality: float
    scale: float

    def _arguments(self) -> dict[str, Any]:
        return {"df": self.df, "noncentrality": self.noncentrality, "scale": self.scale}

    @property
    def support(self) -> tuple[float, float]:
        """The positive numbers."""
        return 0.0, math.inf

    def _landmarks(self) -> tuple[float, ...]:
        return (self.mean(),)

    @pointwise
    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the density, -inf outside (0, ∞)."""
        inside = _inside(x)
        values = noncentral_logpdf(inside, self.df, self.noncentrality, self.scale)
        return np.where(inside == x, values, -np.inf)

    def growth(self, x: np.ndarray) -> np.ndarray:
        """q_{ν+2}/q_ν at positive `x`, the densities with ν + 2 and ν degrees of freedom: -∂F/∂λ is their product."""
        order, argument = 0.5 * self.df - 1.0, np.sqrt(self.noncentrality * x / self.scale)
        ratio = np.exp(log_scaled_bessel(order + 1.0, argument) - log_scaled_bessel(order, argument))
        return np.sqrt(x / self.scale / self.noncentrality) * ratio

    @pointwise
    def score(self, x: np.ndarray) -> np.ndarray:
        """Score (-½ + (ν/2 - 1)/z + ½ √(λ/z) I_{μ+1}/I_μ)/c, NaN outside (0, ∞)."""
        inside = _inside(x)
        z = inside / self.scale
        values = (0.5 * self.df - 1.0) / z - 0.5 + 0.5 * self.noncentrality / z * self.growth(inside)
        return np.where(inside == x, values / self.scale, np.nan)

    def _of_scipy(self, name: str, x: np.ndarray) -> np.ndarray:
        return np.asarray(getattr(stats.ncx2, name)(x, self.df, self.noncentrality))

    @pointwise
    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Distribution function."""
        return self._of_scipy("cdf", x / self.scale)

    @pointwise
    def sf(self, x: np.ndarray) -> np.ndarray:
        """Survival function."""
        return self._of_scipy("sf", x / self.scale)

    def mean(self) -> float:
        """Mean c (ν + λ)."""
        return self.scale * (self.df + self.noncentrality)

    def var(self) -> float:
        """Variance 2 c² (ν + 2λ)."""
        return 2.0 * self.scale**2 * (self.df + 2.0 * self.noncentrality)

    def sample(self, n: int, rng: Any) -> np.ndarray:
        """Draw `n` independent values; `rng` is a NumPy generator or a seed."""
        n, generator = check_count("n", n, at_least=0), generator_of(rng)
        return self.scale * generator.noncentral_chisquare(self.df, self.noncentrality, n)


def _inside(x: np.ndarray) -> np.ndarray:
    """The points where the law lives, with a stand-in elsewhere."""
    return np.where((x > 0.0) & (x < np.inf), x, 1.0)


def noncentral_logpdf(x: Any, df: Any, noncentrality: Any, scale: Any) -> np.ndarray:
    """Log-density of c Z, Z noncentral chi-square, at positive `x`; arrays broadcast."""
    z, order = x / scale, 0.5 * df - 1.0
    apart = np.sqrt(z) - np.sqrt(noncentrality)
    power = 0.5 * order * np.log(z / noncentrality)
    return power - 0.5 * apart**2 - np.log(2.0 * scale) + log_scaled_bessel(order, np.sqrt(noncentrality * z))


def log_scaled_bessel(order: float, x: Any) -> np.ndarray:
    """log(e^{-x} I_order(x)) for order > -1 and x > 0, where the Bessel function itself would under- or overflow.

    Uniform expansion in 1/√(order² + x²) where that is small (Abramowitz & Stegun 9.7.7), else SciPy's function, or
    its power series where that underflows.
    """
    x = np.asarray(x, dtype=float)
    with np.errstate(all="ignore"):
        radius = np.hypot(order, x)
        scaled = ive(order, x)
        lost = (radius < _LARGE) & (scaled < 1e-290)
        small = np.where(lost, x, 0.0)  # the series converges at once there, and must not overflow elsewhere
        series = order * np.log(0.5 * x) - gammaln(order + 1.0) - x + np.log(hyp0f1(order + 1.0, 0.25 * small**2))
        far = order**2 / (radius + x) - order * np.arcsinh(order / x) - 0.5 * np.log(2.0 * np.pi * radius)
        near = np.where(lost, series, np.log(scaled))
        return np.where(radius < _LARGE, near, far + np.log1p(_uniform_terms(order, radius)))


def _uniform_terms(order: float, radius: np.ndarray) -> np.ndarray:
    """Σ u_k(p)/order^k with p = order/radius, up to k = 4."""
    q, r = (order / radius) ** 2, 1.0 / radius
    u1 = (3.0 - 5.0 * q) / 24.0
    u2 = (81.0 - 462.0 * q + 385.0 * q**2) / 1152.0
    u3 = (30375.0 - 369603.0 * q + 765765.0 * q**2 - 425425.0 * q**3) / 414720.0
    u4 = (4465125.0 - 94121676.0 * q + 349922430.0 * q**2 - 446185740.0 * q**3 + 185910725.0 * q**4) / 39813120.0
    return r * (u1 + r * (u2 + r * (u3 + r * u4)))
