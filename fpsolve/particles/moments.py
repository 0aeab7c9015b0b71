"""Means and variances of many rows of numbers, merged part by part without keeping the numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations along the last axis.

    Notes
    -----
    Merged by the formula of Chan, Golub, LeVeque (1983), which does not cancel.
    """

    count: int
    mean: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Moments of `values` (..., n) along the last axis; n = 0 is allowed."""
        if values.shape[-1] == 0:
            return cls(0, np.zeros(values.shape[:-1]), np.zeros(values.shape[:-1]))
        with np.errstate(over="ignore"):  # Estimate refuses what is not finite
            mean = values.mean(axis=-1)
            return cls(values.shape[-1], mean, ((values - mean[..., None]) ** 2).sum(axis=-1))

    def merged(self, other: Moments) -> Moments:
        """Moments of both parts together."""
        if not self.count or not other.count:
            return other if not self.count else self
        count = self.count + other.count
        gap = other.mean - self.mean
        mean = self.mean + gap * (other.count / count)
        return Moments(count, mean, self.squares + other.squares + gap**2 * (self.count * other.count / count))

    @property
    def std_error(self) -> np.ndarray:
        """Standard error of the mean; needs a count of at least 2."""
        return np.sqrt(self.squares / (self.count - 1) / self.count)
