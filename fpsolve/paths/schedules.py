"""Noise schedules: how much signal α(t) and noise σ(t) are left, and the SDE that does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_number
from fpsolve.problem.process import SDE

__all__ = ["VP"]


@dataclass(frozen=True)
class VP:
    """Variance-preserving schedule with β(t) = beta_min + (beta_max - beta_min) t on [0, 1], data at t = 0.

    α(t) = exp(-½ ∫₀ᵗ β), σ² = 1 - α², and dX = -½ β X dt + √β dW.

    Parameters
    ----------
    beta_min, beta_max : float
        Rates at t = 0 and t = 1, positive.

    Raises
    ------
    InputError
        If a rate is not positive.

    Notes
    -----
    Survey (Ranganath & Singhal), variance-preserving SDE; Winther et al. eqs. 47-53.

    Examples
    --------
    >>> schedule = fps.schedules.VP(0.1, 20.0)
    >>> float(np.round(schedule.alpha(1.0), 4)), schedule.data_at
    (0.0066, 0.0)
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    data_at = 0.0

    def __post_init__(self) -> None:
        for name in ("beta_min", "beta_max"):
            object.__setattr__(self, name, check_number(name, getattr(self, name), above=0.0))

    def beta(self, t: Any) -> Any:
        """Rate β(t)."""
        return self.beta_min + (self.beta_max - self.beta_min) * t

    def _integral(self, t: Any) -> Any:
        time = np.asarray(t, dtype=float)
        if ((time < 0) | (time > 1)).any():
            raise InputError("a VP schedule lives on 0 <= t <= 1", t, "rescale the time")
        return self.beta_min * time + 0.5 * (self.beta_max - self.beta_min) * time**2

    def alpha(self, t: Any) -> Any:
        """Signal factor α(t), with X_t = α X_0 + σ ε."""
        return np.exp(-0.5 * self._integral(t))

    def sigma(self, t: Any) -> Any:
        """Noise level σ(t) = √(1 - α²)."""
        return np.sqrt(-np.expm1(-self._integral(t)))

    def log_snr(self, t: Any) -> Any:
        """λ(t) = log(α²/σ²)."""
        total = self._integral(t)
        return -total - np.log(-np.expm1(-total))

    def sde(self) -> SDE:
        """Return the forward process, from data to noise."""
        beta_min, slope = self.beta_min, self.beta_max - self.beta_min
        return SDE(
            lambda x, t: -0.5 * (beta_min + slope * t) * x,
            lambda t: np.sqrt(beta_min + slope * t),
        )
