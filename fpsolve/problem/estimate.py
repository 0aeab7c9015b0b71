"""A number (or array) with its deterministic and its statistical error kept apart."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import ndtri

from fpsolve.errors import InputError


def normal_quantile(alpha: float) -> float:
    """Two-sided standard normal quantile: P(|Z| > normal_quantile(alpha)) = alpha."""
    return float(-ndtri(0.5 * alpha))


@dataclass(frozen=True)
class Estimate:
    """A measured quantity: value, bound on its deterministic error, standard error of its sampling.

    Parameters
    ----------
    value : float or ndarray
        The measured value.
    error : float or ndarray
        Estimated bound of the deterministic error (discretisation, truncation, rounding), same units.
    std_error : float or ndarray
        Standard error of the statistical part, same units.
    at : tuple of float, optional
        Place (x, t) where the value was found, for a supremum.
    route : str
        How it was obtained.

    Raises
    ------
    InputError
        If a part is not finite or an error is negative.

    Notes
    -----
    Sums, differences and products add deterministic errors and combine standard errors in quadrature, so the
    operands are taken as statistically independent.

    Examples
    --------
    >>> a = fps.Estimate(1.0, error=0.1, route="grid")
    >>> b = fps.Estimate(0.5, std_error=0.2, route="particles")
    >>> (a - b).value, (a - b).error, (a - b).std_error
    (0.5, 0.1, 0.2)
    """

    value: Any
    error: Any = field(default=0.0, kw_only=True)
    std_error: Any = field(default=0.0, kw_only=True)
    at: tuple[float, ...] | None = field(default=None, kw_only=True)
    route: str = field(kw_only=True)

    __array_ufunc__ = None  # array + estimate is our sum, not an array of estimates

    def __post_init__(self) -> None:
        for name in ("value", "error", "std_error"):
            part = getattr(self, name)
            try:
                array = np.asarray(part, dtype=float)
            except (TypeError, ValueError):
                raise InputError(f"Estimate {name} must be a real number or array", part, "convert it first") from None
            if not np.isfinite(array).all():
                raise InputError(
                    f"Estimate {name} must be finite", part, "do not report a failed computation as a figure"
                )
            if name != "value" and (array < 0).any():
                raise InputError(f"Estimate {name} must not be negative", part, "give its size")
            object.__setattr__(self, name, float(array) if array.ndim == 0 else array)

    def joint_error(self, alpha: float = 1e-4) -> Any:
        """Half-width that covers both errors with probability at least 1 - alpha (normal sampling error)."""
        return self.error + normal_quantile(alpha) * self.std_error

    def __add__(self, other: Any) -> Estimate:
        b = as_estimate(other)
        return Estimate(
            self.value + b.value,
            error=self.error + b.error,
            std_error=_in_quadrature(self.std_error, b.std_error),
            at=self.at,
            route=f"{self.route} + {b.route}",
        )

    def __neg__(self) -> Estimate:
        return Estimate(-self.value, error=self.error, std_error=self.std_error, at=self.at, route=f"-({self.route})")

    def __sub__(self, other: Any) -> Estimate:
        total = self + (-as_estimate(other))
        return Estimate(
            total.value,
            error=total.error,
            std_error=total.std_error,
            at=self.at,
            route=f"{self.route} - {as_estimate(other).route}",
        )

    def __mul__(self, other: Any) -> Estimate:
        b = as_estimate(other)
        return Estimate(
            self.value * b.value,
            error=abs(self.value) * b.error + abs(b.value) * self.error + self.error * b.error,
            std_error=_in_quadrature(
                _in_quadrature((abs(self.value) + self.error) * b.std_error, (abs(b.value) + b.error) * self.std_error),
                self.std_error * b.std_error,
            ),
            at=self.at,
            route=f"{self.route} * {b.route}",
        )

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: Any) -> Estimate:
        return as_estimate(other) - self


def _in_quadrature(a: Any, b: Any) -> Any:
    return math.hypot(a, b) if np.ndim(a) == np.ndim(b) == 0 else np.hypot(a, b)


def exact(value: Any) -> Estimate:
    """Return `value` as an Estimate without error: a closed form or a published definition.

    Examples
    --------
    >>> fps.exact(2.0).error
    0.0
    """
    return Estimate(value, route="exact")


def as_estimate(value: Any) -> Estimate:
    """Return an Estimate as it is and a plain number as an exact one (for arithmetic only)."""
    return value if isinstance(value, Estimate) else Estimate(value, route="number")
