"""A coordinate v on the whole line for any interval: logarithmic towards its ends, so that power laws become smooth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

Array = np.ndarray
_FARTHEST = 1e100  # squares and cubes of larger numbers overflow
_NEAREST = 1e-30  # distance from an end at zero; elsewhere x - end loses its digits long before
_DIGITS = 1e-8  # such a part of the size of an end


@dataclass(frozen=True)
class Coordinate:
    """x(v) on (left, right): centre + scale sinh v on the line, exponential or logistic towards finite ends.

    A ring is cut open and has x = left + length v.
    """

    left: float
    right: float
    ring: bool = False
    centre: float = 0.0
    scale: float = 1.0

    @property
    def _finite(self) -> tuple[bool, bool]:
        return math.isfinite(self.left), math.isfinite(self.right)

    def x(self, v: Array) -> Array:
        """Places."""
        match self._finite:
            case (True, True) if self.ring:
                return self.left + (self.right - self.left) * v
            case (True, True):
                length = self.right - self.left
                return np.where(v < 0, self.left + length * expit(v), self.right - length * expit(-v))
            case (True, False):
                return self.left + np.exp(v)
            case (False, True):
                return self.right - np.exp(-v)
        return self.centre + self.scale * np.sinh(v)

    def slope(self, v: Array) -> Array:
        """dx/dv, positive."""
        match self._finite:
            case (True, True):
                length = self.right - self.left
                return np.full(v.shape, length) if self.ring else length * expit(v) * expit(-v)
            case (True, False):
                return np.exp(v)
            case (False, True):
                return np.exp(-v)
        return self.scale * np.cosh(v)

    def v(self, x: Array) -> Array:
        """The inverse of x(v); ±inf at the ends."""
        with np.errstate(divide="ignore"):
            match self._finite:
                case (True, True) if self.ring:
                    return (x - self.left) / (self.right - self.left)
                case (True, True):
                    return np.log(x - self.left) - np.log(self.right - x)
                case (True, False):
                    return np.log(x - self.left)
                case (False, True):
                    return -np.log(self.right - x)
        return np.arcsinh((x - self.centre) / self.scale)

    def limits(self) -> tuple[float, float]:
        """Range of v beyond which float64 knows the place no better."""
        if self.ring:
            return 0.0, 1.0
        length = self.right - self.left
        unit = length if math.isfinite(length) else 1.0
        near = [
            math.log(max(_NEAREST, _DIGITS * abs(end)) / unit) if math.isfinite(end) else -math.log(_FARTHEST)
            for end in (self.left, self.right)
        ]
        if not any(self._finite):
            near = [-math.asinh(_FARTHEST / self.scale)] * 2
        return near[0], -near[1]
