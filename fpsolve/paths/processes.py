"""Published processes, with the closed forms that belong to them."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from fpsolve.errors import check_number
from fpsolve.paths.closed_forms import Mapped
from fpsolve.paths.jacobi import Jacobi
from fpsolve.paths.schedules import VP
from fpsolve.paths.square_root import SquareRoot
from fpsolve.problem.density import as_law
from fpsolve.problem.maps import Exp, Sinh
from fpsolve.problem.process import SDE

__all__ = ["cir", "double_well", "gbm", "jacobi", "langevin", "ou", "pearson", "sinh_ou", "vp"]


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
    return _solved_by(process, Mapped(SDE(mu - 0.5 * sigma**2, sigma), Exp()))


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
        return _solved_by(process, Mapped(SDE(lambda x: -theta * x, level), Sinh(length)))
    noise = sigma
    process = SDE(
        lambda x, t: (
            -theta * length * np.arcsinh(x / length) * np.sqrt(1 + (x / length) ** 2)
            + noise(t) ** 2 * x / (2 * length**2)
        ),
        lambda x, t: noise(t) * np.sqrt(1 + (x / length) ** 2),
    )
    return _solved_by(process, Mapped(SDE(lambda x: -theta * x, noise), Sinh(length)))


def double_well(a: float = 1.0, b: float = 1.0, sigma: float = 1.0) -> SDE:
    """Double well dX = (a X - b X³) dt + σ dW: no transition law in closed form, stationary density ∝ exp(-2V/σ²).

    V = ¼ b x⁴ - ½ a x² has its wells at ±√(a/b) for positive a.

    Parameters
    ----------
    a : float
        Rate at which the middle pushes away, 1/time (negative: one well).
    b : float
        Strength of the wall, positive.
    sigma : float
        Noise, positive.

    Examples
    --------
    >>> p = fps.processes.double_well(a=4.0)
    >>> float(p.drift(2.0, 0.0)), float(p.drift(1.0, 0.0))
    (0.0, 3.0)
    """
    a, b, sigma = check_number("a", a), check_number("b", b, above=0.0), check_number("sigma", sigma, above=0.0)
    return SDE(lambda x: a * x - b * x**3, sigma)


def cir(kappa: float = 1.1, theta: float = 0.9, xi: float = 0.6, boundary: Any = "natural") -> SDE:
    """Square-root process dX = κ (θ - X) dt + ξ √X dW on (0, ∞) (Feller; Cox, Ingersoll & Ross).

    Stationary law Gamma(2κθ/ξ², scale ξ²/(2κ)). Closed form from a point mass (scaled noncentral chi-square) and from
    an `fps.GammaMixture` of shape 2κθ/ξ².

    Parameters
    ----------
    kappa, theta, xi : float
        Rate, mean and noise, positive.
    boundary : str
        At 0: "natural" where 2κθ ≥ ξ² (Feller's condition); else it is reached, and must be "reflecting" (the usual
        choice, to which the closed form belongs) or "absorbing" (which has none here).

    Raises
    ------
    InputError
        If 0 is reached and the boundary is natural, or a parameter is not positive.

    Examples
    --------
    >>> q = fps.exact_evolution(fps.processes.cir(kappa=1.0, theta=2.0), fps.PointMass(1.0), (0, 3))
    >>> bool(abs(q.mean(3.0) - 2 + np.exp(-3)) < 1e-12)
    True
    """
    kappa, theta = check_number("kappa", kappa, above=0.0), check_number("theta", theta, above=0.0)
    xi = check_number("xi", xi, above=0.0)
    process = SDE(
        lambda x: kappa * (theta - x),
        lambda x: xi * np.sqrt(x),
        support=(0.0, np.inf),
        boundary=boundary,
        diffusion_squared_dx=lambda x: xi**2 + 0 * x,
    )
    return _solved_by(process, SquareRoot(kappa, theta, xi))


def jacobi(kappa: float = 1.1, mean: float = 0.4, xi: float = 0.6, boundary: Any = "natural") -> SDE:
    """Jacobi process dX = κ (m - X) dt + ξ √(X (1 - X)) dW on (0, 1) (Wright-Fisher with mutation).

    Stationary law Beta(2κm/ξ², 2κ(1 - m)/ξ²). Closed form from a point mass: a series of Jacobi polynomials, with an
    error estimate, at times that are not too short for it.

    Parameters
    ----------
    kappa, xi : float
        Rate and noise, positive.
    mean : float
        m, between 0 and 1.
    boundary : str or (str, str)
        "natural" where 2κm ≥ ξ² (at 0) and 2κ(1 - m) ≥ ξ² (at 1); an end that is reached must be "reflecting", to which
        the closed form belongs too, or "absorbing".

    Raises
    ------
    InputError
        If an end with a natural boundary is reached, or a parameter is out of range.

    Examples
    --------
    >>> q = fps.exact_evolution(fps.processes.jacobi(kappa=1.0, mean=0.4), fps.PointMass(0.7), (0, 2))
    >>> bool(abs(q.mean(2.0) - 0.4 - 0.3 * np.exp(-2)) < 1e-12)
    True
    """
    kappa, xi = check_number("kappa", kappa, above=0.0), check_number("xi", xi, above=0.0)
    mean = check_number("mean", mean, above=0.0, below=1.0)
    process = SDE(
        lambda x: kappa * (mean - x),
        lambda x: xi * np.sqrt(x * (1 - x)),
        support=(0.0, 1.0),
        boundary=boundary,
        diffusion_squared_dx=lambda x: xi**2 * (1 - 2 * x),
    )
    return _solved_by(process, Jacobi(kappa, mean, xi))


def pearson(nu: float = 5.0) -> SDE:
    """Pearson diffusion dX = -X dt + √(2 (ν + X²)/(ν - 1)) dW, whose stationary law is Student's t with ν degrees.

    Its transition law has no closed form here.

    Parameters
    ----------
    nu : float
        ν, above 1; the noise is nearly additive when it is large.

    Examples
    --------
    >>> p = fps.processes.pearson(nu=3.0)
    >>> float(p.diffusion(1.0, 0.0)), float(p.drift(1.0, 0.0))
    (2.0, -1.0)
    """
    nu = check_number("nu", nu, above=1.0)
    return SDE(
        lambda x: -x,
        lambda x: np.sqrt(2 * (nu + x**2) / (nu - 1)),
        diffusion_squared_dx=lambda x: 4 * x / (nu - 1),
    )


def langevin(target: Any, diffusion: float = 2**0.5) -> SDE:
    """Langevin process dX = ½ σ² s(X) dt + σ dW, whose stationary law is `target`.

    Parameters
    ----------
    target : density
        Any law with a score; its support is that of the process, finite ends reflect.
    diffusion : float
        σ, positive: the clock.

    Raises
    ------
    InputError, DensityError
        If σ is not positive, or `target` is not a density.

    Notes
    -----
    Roberts and Tweedie (1996); schemes "ula" and "mala" are for it.

    Examples
    --------
    >>> p = fps.processes.langevin(fps.Normal(1.0, 2.0))
    >>> round(float(p.drift(3.0, 0.0)), 12)
    -0.5
    """
    law, sigma = as_law(target, "target"), check_number("diffusion", diffusion, above=0.0)
    boundary = tuple("reflecting" if np.isfinite(end) else "natural" for end in law.support)
    process = SDE(lambda x: 0.5 * sigma**2 * law.score(x), sigma, support=law.support, boundary=boundary)
    object.__setattr__(process, "target", law)
    return process


def _solved_by(process: SDE, closed_form: Callable[[Any, Any, Any], Any]) -> SDE:
    object.__setattr__(process, "closed_form", closed_form)
    return process
