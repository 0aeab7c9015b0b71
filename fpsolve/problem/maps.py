"""Increasing maps of the line, and the law of a mapped variable by change of variables."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from fpsolve.errors import InputError, check_number
from fpsolve.problem.law import Declared, Law, check_faces, pointwise

__all__ = ["Affine", "Exp", "Sinh"]


class Map(Protocol):
    """An increasing differentiable map x = forward(y) of the whole line onto the interval `support`."""

    @property
    def support(self) -> tuple[float, float]:
        """Interval of the values x."""

    def forward(self, y: Any) -> Any:
        """Value x(y)."""

    def inverse(self, x: Any) -> Any:
        """Argument y(x)."""

    def derivative(self, y: Any) -> Any:
        """dx/dy."""

    def log_derivative(self, y: Any) -> Any:
        """log dx/dy."""

    def log_derivative_dy(self, y: Any) -> Any:
        """d/dy log dx/dy."""


@dataclass(frozen=True)
class Affine:
    """The map x = shift + scale y of the line onto itself.

    Parameters
    ----------
    shift, scale : float
        Where zero goes, and the factor, above zero.

    Raises
    ------
    InputError
        If the scale is not a positive number.

    Examples
    --------
    >>> from fpsolve.problem.maps import Affine
    >>> float(Affine(1.0, 2.0).forward(3.0))
    7.0
    """

    shift: float
    scale: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "shift", check_number("shift", self.shift))
        object.__setattr__(self, "scale", check_number("scale", self.scale, above=0.0))

    @property
    def support(self) -> tuple[float, float]:
        """The whole line."""
        return -math.inf, math.inf

    def forward(self, y: Any) -> Any:
        """x = shift + scale y."""
        return self.shift + self.scale * np.asarray(y, dtype=float)

    def inverse(self, x: Any) -> Any:
        """y = (x - shift)/scale."""
        return (np.asarray(x, dtype=float) - self.shift) / self.scale

    def inverted(self) -> Affine:
        """The map y(x)."""
        return Affine(-self.shift / self.scale, 1.0 / self.scale)

    def derivative(self, y: Any) -> Any:
        """dx/dy = scale."""
        return np.full(np.shape(y), self.scale)

    def log_derivative(self, y: Any) -> Any:
        """log scale."""
        return np.full(np.shape(y), math.log(self.scale))

    def log_derivative_dy(self, y: Any) -> Any:
        """Zero."""
        return np.zeros(np.shape(y))


@dataclass(frozen=True)
class Sinh:
    """The map x = L sinh(y/L) of the line onto itself: close to x = y for |y| ≪ L, exponential beyond.

    Parameters
    ----------
    scale : float
        Length L above zero.

    Raises
    ------
    InputError
        If the scale is not a positive number.

    Examples
    --------
    >>> from fpsolve.problem.maps import Sinh
    >>> float(Sinh(2.0).inverse(Sinh(2.0).forward(3.0)))
    3.0
    """

    scale: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", check_number("scale", self.scale, above=0.0))

    @property
    def support(self) -> tuple[float, float]:
        """The whole line."""
        return -math.inf, math.inf

    def forward(self, y: Any) -> Any:
        """Value x = L sinh(y/L)."""
        with np.errstate(over="ignore"):
            return self.scale * np.sinh(np.asarray(y) / self.scale)

    def inverse(self, x: Any) -> Any:
        """Argument y = L asinh(x/L)."""
        return self.scale * np.arcsinh(np.asarray(x) / self.scale)

    def derivative(self, y: Any) -> Any:
        """dx/dy = cosh(y/L)."""
        with np.errstate(over="ignore"):
            return np.cosh(np.asarray(y) / self.scale)

    def log_derivative(self, y: Any) -> Any:
        """log cosh(y/L), without overflow."""
        size = np.abs(np.asarray(y) / self.scale)
        with np.errstate(under="ignore"):
            return size + np.log1p(np.exp(-2.0 * size)) - math.log(2.0)

    def log_derivative_dy(self, y: Any) -> Any:
        """tanh(y/L)/L."""
        return np.tanh(np.asarray(y) / self.scale) / self.scale


@dataclass(frozen=True)
class Exp:
    """The map x = exp(y) of the line onto (0, ∞).

    Examples
    --------
    >>> from fpsolve.problem.maps import Exp
    >>> float(Exp().forward(0.0)), float(Exp().inverse(1.0))
    (1.0, 0.0)
    """

    @property
    def support(self) -> tuple[float, float]:
        """The positive numbers."""
        return 0.0, math.inf

    def forward(self, y: Any) -> Any:
        """Value x = exp(y)."""
        with np.errstate(over="ignore", under="ignore"):
            return np.exp(y)

    def inverse(self, x: Any) -> Any:
        """Argument y = log(x), -inf for x ≤ 0."""
        with np.errstate(divide="ignore"):
            return np.log(np.maximum(x, 0.0))

    def derivative(self, y: Any) -> Any:
        """dx/dy = exp(y)."""
        return self.forward(y)

    def log_derivative(self, y: Any) -> Any:
        """log dx/dy = y."""
        return np.asarray(y, dtype=float)

    def log_derivative_dy(self, y: Any) -> Any:
        """d/dy log dx/dy = 1."""
        return np.ones_like(np.asarray(y, dtype=float))


class Pushforward(Declared, Law):
    """Law of X = map(Y) for Y of law `base`, exact by change of variables: log q(x) = log p(y) - log dx/dy.

    Parameters
    ----------
    base : Law
        Law of Y.
    map : Map
        An increasing map, for instance Sinh(scale) or Exp().

    Raises
    ------
    InputError
        If `base` is not a law or `map` lacks a method of the protocol.

    Examples
    --------
    >>> from fpsolve.problem.maps import Exp, Pushforward
    >>> lognormal = Pushforward(fps.Normal(0.0, 0.5), Exp())
    >>> bool(abs(lognormal.mean() - np.exp(0.125)) < 1e-12), float(lognormal.ppf(0.5))
    (True, 1.0)
    """

    def __init__(self, base: Law, map: Map) -> None:
        if not isinstance(base, Law):
            raise InputError("base must be a law", base, "give for instance fps.Normal(0, 1), or convert with as_law")
        missing = [name for name in _MAP_NAMES if not hasattr(map, name)]
        if missing:
            rule = f"a map must have {', '.join(_MAP_NAMES)}"
            raise InputError(rule, map, f"add {', '.join(missing)}, or use Sinh(scale) or Exp()")
        self._remember(base=base, map=map)

    base: Law
    map: Map

    def _arguments(self) -> dict[str, Any]:
        return {"base": self.base, "map": self.map}

    @property
    def support(self) -> tuple[float, float]:
        """Image of the base's support."""
        left, right = self.base.support
        return float(self.map.forward(left)), float(self.map.forward(right))

    @property
    def breaks(self) -> tuple[float, ...]:
        """Images of the breaks of the base."""
        return tuple(float(self.map.forward(y)) for y in self.base.breaks)

    def _landmarks(self) -> tuple[float, ...]:
        return tuple(float(self.map.forward(y)) for y in self.base._landmarks())

    def _outside(self, x: np.ndarray) -> np.ndarray:
        return (x <= self.map.support[0]) | (x >= self.map.support[1])

    @pointwise
    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the density, log p(y) - log dx/dy at y = inverse(x)."""
        y = self.map.inverse(x)
        with np.errstate(invalid="ignore"):
            values = self.base.logpdf(y) - self.map.log_derivative(y)
        return np.where(self._outside(x), -np.inf, values)

    @pointwise
    def score(self, x: np.ndarray) -> np.ndarray:
        """Score (score_base(y) - d/dy log dx/dy) / (dx/dy); NaN where there is no density."""
        y = self.map.inverse(x)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore", under="ignore"):
            values = (self.base.score(y) - self.map.log_derivative_dy(y)) / self.map.derivative(y)
        return np.where(self._outside(x), np.nan, values)

    @pointwise
    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Distribution function, that of the base at y."""
        return self.base.cdf(self.map.inverse(x))

    @pointwise
    def sf(self, x: np.ndarray) -> np.ndarray:
        """Survival function, that of the base at y."""
        return self.base.sf(self.map.inverse(x))

    @pointwise
    def logcdf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the distribution function."""
        return self.base.logcdf(self.map.inverse(x))

    @pointwise
    def logsf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the survival function."""
        return self.base.logsf(self.map.inverse(x))

    def ppf(self, p: Any) -> Any:
        """Quantile, the mapped quantile of the base."""
        return self.map.forward(self.base.ppf(p))

    def isf(self, p: Any) -> Any:
        """Upper quantile, the mapped one of the base."""
        return self.map.forward(self.base.isf(p))

    def quantile_span(self, p: float) -> tuple[float, float]:
        """Finite (left, right) with cdf(left) ≤ p and sf(right) ≤ p."""
        left, right = self.base.quantile_span(p)
        return float(self.map.forward(left)), float(self.map.forward(right))

    def cell_masses(self, faces: Any) -> np.ndarray:
        """Masses of the n cells between n + 1 increasing faces: those of the base between the inverse faces."""
        y = np.asarray(self.map.inverse(check_faces(faces)), dtype=float)
        masses = np.zeros(y.size - 1)
        wide = np.flatnonzero(y[1:] > y[:-1])
        if wide.size:  # cells outside the support of the map are empty
            masses[wide[0] : wide[-1] + 1] = self.base.cell_masses(y[wide[0] : wide[-1] + 2])
        return masses

    def expect(self, fn: Callable[[np.ndarray], np.ndarray]) -> float:
        """E fn(map(Y)), by quadrature over the base."""
        return self.base.expect(lambda y: np.asarray(fn(self.map.forward(y))))

    def sample(self, n: int, rng: Any) -> np.ndarray:
        """Map `n` draws of the base; `rng` is a NumPy generator or a seed."""
        return self.map.forward(self.base.sample(n, rng))


_MAP_NAMES = ("forward", "inverse", "derivative", "log_derivative", "log_derivative_dy", "support")
