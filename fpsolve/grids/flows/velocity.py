"""The velocity of a flow with its first two derivatives in x, by differences whose spacing follows the function."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fpsolve.problem.process import Process

_POINTS = 9
_EPS = 2.3e-16
_OFFSETS = np.arange(-4.0, 5.0)
_SPACINGS = 0.25 * 0.25 ** np.arange(11)  # tried at the start, in units of the distance to the centre plus the scale


def _weights(order: int, points: int) -> np.ndarray:
    """Weights of the derivative at offset -shift from the middle of equally spaced points, for shifts -4..4."""
    first = (_POINTS - points) // 2
    table = np.zeros((_POINTS, _POINTS))
    for row, shift in enumerate(range(-4, 5)):
        offsets = np.arange(points) - (points // 2) + float(shift)
        powers = np.vander(offsets, points, increasing=True).T
        unit = np.zeros(points)
        unit[order] = math.factorial(order)
        table[row, first : first + points] = np.linalg.solve(powers, unit)
    return table


# (shifts, points, 4): first and second derivative, of eighth and of sixth order
_TABLE = np.stack([_weights(1, 9), _weights(1, 7), _weights(2, 9), _weights(2, 7)], axis=2)


@dataclass(frozen=True)
class Jet:
    """v, ∂x v and ∂xx v at points, and the estimated errors of the two derivatives."""

    v: np.ndarray
    dx: np.ndarray
    dxx: np.ndarray
    dx_error: np.ndarray
    dxx_error: np.ndarray


class Velocity:
    """v(x, t) of a process without noise, on the whole line: wrapped if periodic, else constant beyond its support.

    Derivatives are eighth-order differences; the disagreement with the sixth-order ones is their error. At a finite
    end of the support the nine points are moved inwards.
    """

    def __init__(self, process: Process) -> None:
        self.coefficient = process.drift_coefficient
        self.support = process.support
        self.periodic = process.boundary == ("periodic", "periodic")
        self._bounded = not self.periodic and bool(np.isfinite(self.support).any())
        self._room = 0.1 * (self.support[1] - self.support[0])  # nine points must fit

    def __call__(self, x: np.ndarray, t: float) -> np.ndarray:
        """v(x, t) at one-dimensional x; not checked to be finite, since trial steps may overflow."""
        return self.coefficient.raw(self.inside(x), t)

    def inside(self, x: np.ndarray) -> np.ndarray:
        """Points moved into the support: by whole turns, or to its nearer end."""
        left, right = self.support
        if self.periodic:
            return left + np.mod(x - left, right - left)
        return np.clip(x, left, right)

    def jet(self, x: np.ndarray, t: float, spacing: np.ndarray) -> Jet:
        """Value and derivatives at `x` from points `spacing` apart."""
        left, right = self.support
        with np.errstate(all="ignore"):
            at, shift = x, np.zeros(x.size, dtype=int)
            if self._bounded:
                at = np.clip(x, left, right)
                low, high = np.ceil(4.0 - (at - left) / spacing), np.ceil(4.0 - (right - at) / spacing)
                shift = (np.clip(low, 0, 4) - np.clip(high, 0, 4)).astype(int)
            points = at[:, None] + (_OFFSETS + shift[:, None]) * spacing[:, None]
            values = self(points.ravel(), t).reshape(points.shape)
            moved = shift.any()
            first, lower, second, curved = (
                np.einsum("np,npk->kn", values, _TABLE[shift + 4]) if moved else (values @ _TABLE[4]).T
            )
            noise = 4.0 * _EPS * (np.abs(values).max(axis=1) + np.abs(at / spacing * first))
            slopes = np.array([first, np.abs(first - lower) + noise]) / spacing
            bends = np.array([second, np.abs(second - curved) + 4.0 * noise]) / spacing**2
            if self._bounded:
                slopes[:, at != x] = bends[:, at != x] = 0.0
        return Jet(values[np.arange(x.size), 4 - shift], slopes[0], bends[0], slopes[1], bends[1])

    def first_spacing(self, x: np.ndarray, t: float, scale: float, centre: float) -> np.ndarray:
        """Spacing at each point at which the first derivative is most accurate."""
        tried = np.minimum(_SPACINGS[:, None] * (np.abs(x - centre) + scale), self._room)
        return self._best(x, t, tried)

    def follow_spacing(self, x: np.ndarray, t: float, spacing: np.ndarray, scale: float, centre: float) -> np.ndarray:
        """Spacing near the one that was used a step before."""
        largest = np.minimum(0.25 * (np.abs(x - centre) + scale), self._room)
        return self._best(x, t, np.minimum(np.array([1.0, 2.0, 0.25])[:, None] * spacing, largest))

    def _best(self, x: np.ndarray, t: float, tried: np.ndarray) -> np.ndarray:
        errors = np.array([self.jet(x, t, spacing).dx_error for spacing in tried])
        return tried[np.argmin(np.where(np.isfinite(errors), errors, np.inf), axis=0), np.arange(x.size)]
