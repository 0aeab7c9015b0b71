"""Mixtures of shifted and scaled copies of one kernel, evaluated in log-space and in blocks of bounded size."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fpsolve.errors import DensityError, check_count, check_number
from fpsolve.problem.law import Declared, Law, check_faces, generator_of, narrow, pointwise

_MANY = 64  # quantiles for which one table of the cdf is cheaper than bisecting each
_BLOCK = 1 << 17  # entries of a points-by-components table that stay in the cache


def check_column(what: str, values: Any) -> np.ndarray:
    """Return `values` as a new one-dimensional array of at least one finite float."""
    try:
        array = np.atleast_1d(np.array(values, dtype=float))
    except (TypeError, ValueError):
        raise DensityError(f"{what} must be real numbers", values, "give a one-dimensional sequence") from None
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise DensityError(
            f"{what} must be finite numbers in one dimension", array, "drop NaN and inf, and flatten the array"
        )
    return array


def log_sum_exp(terms: np.ndarray) -> np.ndarray:
    """log Σ exp(terms) along the last axis, -inf where all terms are."""
    top = terms.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore", under="ignore"):
        return np.log(np.exp(terms - top).sum(axis=-1)) + top[..., 0]


class ScaleMixture(Declared, Law):
    """Σ w_k K((x - m_k)/s_k)/s_k for a symmetric standard kernel K, which a subclass gives by the five hooks."""

    _names: tuple[str, str, str]
    _kernel_variance: float
    _weights: np.ndarray
    _centres: np.ndarray
    _scales: np.ndarray

    def _declare(self, weights: Any, centres: Any, scales: Any) -> None:
        columns = [check_column(name, v) for name, v in zip(self._names, (weights, centres, scales), strict=True)]
        sizes = [column.size for column in columns]
        if len(set(sizes)) > 1:
            rule = f"{', '.join(self._names)} must have one entry per component"
            raise DensityError(rule, f"lengths {sizes}", "give three sequences of equal length")
        w, _, s = columns
        if (w < 0.0).any():
            raise DensityError("weights must not be negative", float(w.min()), "drop or correct that component")
        if abs(w.sum() - 1.0) > 1e-12 * w.size:
            raise DensityError("weights must sum to one", float(w.sum()), "divide them by their sum")
        if (s <= 0.0).any():
            fix = "use a positive width; a point of mass is fps.PointMass(x)"
            raise DensityError(f"{self._names[2]} must be positive", float(s.min()), fix)
        self._remember(**dict(zip(("_weights", "_centres", "_scales"), columns, strict=True)))

    @staticmethod
    @abstractmethod
    def _kernel_log(z: np.ndarray) -> np.ndarray:
        """log K(z)."""

    @staticmethod
    @abstractmethod
    def _kernel_score(z: np.ndarray) -> np.ndarray:
        """d log K / dz."""

    @staticmethod
    @abstractmethod
    def _kernel_cdf(z: np.ndarray) -> np.ndarray:
        """Distribution function of K."""

    @staticmethod
    @abstractmethod
    def _kernel_log_cdf(z: np.ndarray) -> np.ndarray:
        """Its logarithm, accurate in the left tail."""

    @staticmethod
    @abstractmethod
    def _kernel_lower_quantile(p: np.ndarray) -> np.ndarray:
        """Quantile of p ≤ ½."""

    @staticmethod
    @abstractmethod
    def _kernel_interval(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Mass between a < b, where a ≤ 0."""

    @staticmethod
    @abstractmethod
    def _kernel_sample(rng: np.random.Generator, n: int) -> np.ndarray:
        """n draws from K."""

    def _in_blocks(self, fn: Callable[[np.ndarray, np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
        """Apply fn(points, standardised points × components) to blocks of points, so that memory stays bounded."""
        out = np.empty(x.shape)
        step = max(1, _BLOCK // self._weights.size)
        for start in range(0, x.size, step):
            part = x[start : start + step]
            with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
                out[start : start + step] = fn(part, (part[:, None] - self._centres) / self._scales)
        return out

    def _log_terms(self, z: np.ndarray) -> np.ndarray:
        return np.log(self._weights) - np.log(self._scales) + self._kernel_log(z)

    @property
    def weights(self) -> np.ndarray:
        """Weights of the components, shape (k,)."""
        return self._weights

    @property
    def support(self) -> tuple[float, float]:
        """The whole line."""
        return -math.inf, math.inf

    def _landmarks(self) -> Sequence[float]:
        return tuple(np.unique(np.quantile(self._centres, np.linspace(0.0, 1.0, 64), method="nearest")))

    @pointwise
    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the density, in log-space throughout."""
        return self._in_blocks(lambda _, z: log_sum_exp(self._log_terms(z)), x)

    @pointwise
    def score(self, x: np.ndarray) -> np.ndarray:
        """Score ∂x log q(x); where every component underflows, that of the widest one."""
        widest = int(self._scales.argmax())

        def block(_: np.ndarray, z: np.ndarray) -> np.ndarray:
            terms = self._log_terms(z)
            top = terms.max(axis=1, keepdims=True)
            share = np.exp(terms - top)
            slopes = self._kernel_score(z) / self._scales
            mixed = (share * slopes).sum(axis=1) / share.sum(axis=1)
            return np.where(np.isfinite(top[:, 0]), mixed, slopes[:, widest])

        return self._in_blocks(block, x)

    @pointwise
    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Distribution function, relatively accurate in the left tail."""
        return self._in_blocks(lambda _, z: self._kernel_cdf(z) @ self._weights, x)

    @pointwise
    def sf(self, x: np.ndarray) -> np.ndarray:
        """Survival function, relatively accurate in the right tail."""
        return self._in_blocks(lambda _, z: self._kernel_cdf(-z) @ self._weights, x)

    @pointwise
    def logcdf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the distribution function, beyond where it underflows."""
        return self._in_blocks(lambda _, z: log_sum_exp(np.log(self._weights) + self._kernel_log_cdf(z)), x)

    @pointwise
    def logsf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the survival function, beyond where it underflows."""
        return self._in_blocks(lambda _, z: log_sum_exp(np.log(self._weights) + self._kernel_log_cdf(-z)), x)

    def _bracket(self, p: np.ndarray, upper: bool) -> tuple[np.ndarray, np.ndarray]:
        """The quantile lies between the smallest and the largest quantile of the components."""
        present = self._weights > 0.0
        m, s = self._centres[present], self._scales[present]
        z = self._kernel_lower_quantile(p) * (-1.0 if upper else 1.0)
        low, high = np.empty(p.shape), np.empty(p.shape)
        step = max(1, _BLOCK // m.size)
        for start in range(0, p.size, step):
            part = slice(start, start + step)
            quantiles = m + s * z[part, None]
            low[part], high[part] = quantiles.min(axis=1), quantiles.max(axis=1)
        if p.size > _MANY and m.size > 8:
            nodes = np.linspace(low.min(), high.max(), 1025)
            return narrow(self.sf if upper else self.cdf, nodes, p, low, high, upper)
        return low, high

    def quantile_span(self, p: float) -> tuple[float, float]:
        """Finite (left, right) with cdf(left) ≤ p and sf(right) ≤ p: the outermost quantiles of the components."""
        tail = np.array([check_number("p", p, above=0.0, below=0.5) * (1.0 - 1e-6)])
        return float(self._bracket(tail, False)[0][0]), float(self._bracket(tail, True)[1][0])

    def cell_masses(self, faces: Any) -> np.ndarray:
        """Masses of the n cells between n + 1 increasing faces, relatively accurate in both tails."""
        faces = check_faces(faces)
        left, right = faces[:-1], faces[1:]
        out = np.empty(left.shape)
        step = max(1, _BLOCK // self._weights.size)
        for start in range(0, left.size, step):
            part = slice(start, start + step)
            a = (left[part, None] - self._centres) / self._scales
            b = (right[part, None] - self._centres) / self._scales
            mirrored = a > 0.0  # a difference of two numbers near one loses the right tail
            with np.errstate(under="ignore"):
                masses = self._kernel_interval(np.where(mirrored, -b, a), np.where(mirrored, -a, b))
            out[part] = masses @ self._weights
        return out

    def mean(self) -> float:
        """Mean Σ w m."""
        return float(self._weights @ self._centres)

    def var(self) -> float:
        """Variance Σ w (c s² + (m - mean)²) with c the variance of the kernel."""
        spread = self._kernel_variance * self._scales**2 + (self._centres - self.mean()) ** 2
        return float(self._weights @ spread)

    def sample(self, n: int, rng: Any) -> np.ndarray:
        """Draw `n` independent values; `rng` is a NumPy generator or a seed."""
        n, generator = check_count("n", n, at_least=0), generator_of(rng)
        edges = np.cumsum(self._weights)
        which = np.searchsorted(edges[:-1], edges[-1] * generator.random(n), side="right")
        return self._centres[which] + self._scales[which] * self._kernel_sample(generator, n)
