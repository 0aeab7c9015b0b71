"""Published processes with closed forms."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from fpsolve.errors import check_number
from fpsolve.paths.schedules import VP
from fpsolve.problem.declaration import Latent
from fpsolve.problem.maps import Exp, Sinh
from fpsolve.problem.process import SDE

__all__ = ["gbm", "ou", "sinh_ou", "vp"]


def ou(theta: float = 1.0, sigma: Any = 2**0.5, mean: float = 0.0) -> SDE:
    """Ornstein-Uhlenbeck process dX = θ (mean - X) dt + σ dW.

    Parameters
    ----------
    theta : float
        Rate, 1/time.
    sigma : float or callable of t
        Noise.
    mean : float
        Where it is drawn to.

    Examples
    --------
    >>> float(fps.processes.ou(theta=2.0, sigma=1.0).drift(3.0, 0.0))
    -6.0
    """
    theta, mean = check_number("theta", theta), check_number("mean", mean)
    return SDE(lambda x: theta * (mean - x), sigma)


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> SDE:
    """Variance-preserving process dX = -½ β(t) X dt + √β(t) dW on [0, 1], β linear (the process of fps.schedules.VP).

    Parameters
    ----------
    beta_min, beta_max : float
        β(0) and β(1), positive.

    Examples
    --------
    >>> float(fps.processes.vp(0.1, 8.0).drift(2.0, 0.0))
    -0.1
    """
    return VP(beta_min, beta_max).sde()


def gbm(mu: float = 0.05, sigma: float = 0.2) -> SDE:
    """Geometric Brownian motion dX = μ X dt + σ X dW on (0, ∞): X = exp(Y) with dY = (μ - ½ σ²) dt + σ dW.

    Its closed form needs a law fps.Pushforward(mixture, fps.maps.Exp()) or a point mass.

    Parameters
    ----------
    mu : float
        Rate of growth of the mean, 1/time.
    sigma : float
        Relative noise, positive.

    Examples
    --------
    >>> q = fps.exact_evolution(fps.processes.gbm(0.1, 0.3), fps.PointMass(1.0), (0, 2))
    >>> bool(abs(q.ppf(0.5, 2.0) - np.exp(2 * (0.1 - 0.045))) < 1e-9)
    True
    """
    mu, sigma = check_number("mu", mu), check_number("sigma", sigma, above=0.0)
    process = SDE(
        lambda x: mu * x, lambda x: sigma * x, support=(0.0, np.inf), diffusion_squared_dx=lambda x: 2 * sigma**2 * x
    )
    return _solved_by(process, SDE(mu - 0.5 * sigma**2, sigma), Exp())


def sinh_ou(theta: float = 0.8, sigma: Any = 0.7, length: float = 1.0) -> SDE:
    """Process X = L sinh(Y/L) of an Ornstein-Uhlenbeck process Y: exact marginals with state-dependent noise.

    f = -θ y √(1 + x²/L²) + σ² x/(2 L²) with y = L asinh(x/L), and g = σ √(1 + x²/L²). At L = 1 the noise is
    strongly multiplicative; at L = 25 it is almost additive, so that errors in its terms become subtle.

    Parameters
    ----------
    theta : float
        Rate of Y.
    sigma : float or callable of t
        Noise of Y.
    length : float
        L.

    Examples
    --------
    >>> p = fps.processes.sinh_ou(length=1.0)
    >>> q = fps.exact_evolution(p, fps.Pushforward(fps.Normal(0.5, 0.4), fps.maps.Sinh(1.0)), (0, 1))
    >>> bool(0.6 < q.cdf(0.5, 1.0) < 0.9)
    True
    """
    theta, length = check_number("theta", theta), check_number("length", length, above=0.0)
    noise: Callable[[Any], Any]
    if isinstance(sigma, numbers.Real):
        level = check_number("sigma", sigma, above=0.0)
        process = SDE(
            lambda x: (
                -theta * length * np.arcsinh(x / length) * np.sqrt(1 + (x / length) ** 2)
                + level**2 * x / (2 * length**2)
            ),
            lambda x: level * np.sqrt(1 + (x / length) ** 2),
        )
        return _solved_by(process, SDE(lambda x: -theta * x, level), Sinh(length))
    noise = sigma
    process = SDE(
        lambda x, t: (
            -theta * length * np.arcsinh(x / length) * np.sqrt(1 + (x / length) ** 2)
            + noise(t) ** 2 * x / (2 * length**2)
        ),
        lambda x, t: noise(t) * np.sqrt(1 + (x / length) ** 2),
    )
    return _solved_by(process, SDE(lambda x: -theta * x, noise), Sinh(length))


def _solved_by(process: SDE, hidden: SDE, map_: Any) -> SDE:
    object.__setattr__(process, "latent", Latent(hidden, map_))
    return process
