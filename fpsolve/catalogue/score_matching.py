"""Identities of score matching in the channel X_t = α X_0 + σ ε."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from fpsolve.catalogue.fixtures import DATA, refined, tolerance, vp_channel
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.mixtures import GaussianMixture, LaplaceMixture
from fpsolve.problem.streams import Stream
from fpsolve.verdict.decision import SAMPLING_TOL
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
LAPLACE = LaplaceMixture([0.4, 0.6], [-1.5, 1.0], [0.3, 0.5])
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
_BETA_MAX = 8.0


@dataclass(frozen=True)
class Channel:
    """X = α X_0 + σ ε with X_0 from a mixture, at time t of the variance-preserving process VP8."""

    data: GaussianMixture | LaplaceMixture
    t: float

    @property
    def alpha_sigma(self) -> tuple[float, float]:
        """(α, σ)."""
        return vp_channel(_BETA_MAX, self.t)

    def nodes(self, panels: int) -> tuple[Array, Array]:
        """Gauss nodes and weights over the data, panels aligned with the kinks of its density."""
        left, right = self.data.quantile_span(1e-15)
        kinks = self.data.locations if isinstance(self.data, LaplaceMixture) else np.empty(0)
        edges = np.union1d(np.linspace(left, right, panels + 1), kinks)
        half = 0.5 * np.diff(edges)[:, None]
        return (0.5 * (edges[1:] + edges[:-1])[:, None] + half * _NODES).ravel(), (half * _WEIGHTS).ravel()

    def posterior(self, x: Array, panels: int) -> Array:
        """Mean, variance and third cumulant of X_0 given X = x, shape (3, n), by quadrature of Bayes' rule."""
        alpha, sigma = self.alpha_sigma
        y, weights = self.nodes(panels)
        logs = self.data.logpdf(y) - 0.5 * ((x[:, None] - alpha * y) / sigma) ** 2
        mass = weights * np.exp(logs - logs.max(axis=1, keepdims=True))
        mass /= mass.sum(axis=1, keepdims=True)
        mean = mass @ y
        apart = y - mean[:, None]
        return np.array([mean, (mass * apart**2).sum(axis=1), (mass * apart**3).sum(axis=1)])

    def log_derivatives(self, x: Array) -> tuple[Array, Array, Array]:
        """s, s' and s'' from closed derivatives of q."""
        q, *parts = self.derivatives(x)
        s, second, third = (part / q for part in parts)
        return s, second - s**2, third - 3 * s * second + 2 * s**3

    def derivatives(self, x: Array) -> Array:
        """q and its first three derivatives, closed, shape (4, n)."""
        if isinstance(self.data, LaplaceMixture):
            return _laplace_derivatives(self.data, x, *self.alpha_sigma)
        return _gaussian_derivatives(self.data, x, *self.alpha_sigma)

    def outer_nodes(self, panels: int) -> tuple[Array, Array]:
        """Gauss nodes over X and weights that contain q."""
        alpha, sigma = self.alpha_sigma
        left, right = self.data.quantile_span(1e-12)
        edges = np.linspace(alpha * left - 7 * sigma, alpha * right + 7 * sigma, panels + 1)
        half = 0.5 * np.diff(edges)[:, None]
        x = (0.5 * (edges[1:] + edges[:-1])[:, None] + half * _NODES).ravel()
        return x, (half * _WEIGHTS).ravel() * self.derivatives(x)[0]


def _gaussian_derivatives(data: GaussianMixture, x: Array, alpha: float, sigma: float) -> Array:
    std = np.sqrt(alpha**2 * data.stds**2 + sigma**2)
    z = (x[:, None] - alpha * data.means) / std
    q = data.weights * np.exp(-0.5 * z**2) / (np.sqrt(2 * np.pi) * std)
    parts = (q, -z / std * q, (z**2 - 1) / std**2 * q, (3 * z - z**3) / std**3 * q)
    return np.array(parts).sum(axis=2)


def _laplace_derivatives(data: LaplaceMixture, x: Array, alpha: float, sigma: float) -> Array:
    scale = alpha * data.scales
    z = x[:, None] - alpha * data.locations
    size = data.weights / (2 * scale) * np.exp(0.5 * (sigma / scale) ** 2)
    right = size * np.exp(-z / scale) * ndtr(z / sigma - sigma / scale)
    left = size * np.exp(z / scale) * ndtr(-z / sigma - sigma / scale)
    bell = data.weights / scale**2 * np.exp(-0.5 * (z / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
    parts = (
        right + left,
        (left - right) / scale,
        (left + right) / scale**2 - bell,
        (left - right) / scale**3 + bell * z / sigma**2,
    )
    return np.array(parts).sum(axis=2)


# (x, α, σ, s, s', s'') -> (mean, variance, third cumulant) of X_0 given x
Moments = Callable[[Array, float, float, Array, Array, Array], tuple[Array, Array, Array]]


def _tweedie(channel: Channel) -> Check:
    alpha, sigma = channel.alpha_sigma

    def check(formula: Moments, *, tol: float | None = None, seed: int = 0) -> Verdict:
        y = np.asarray(channel.data.ppf(np.linspace(0.02, 0.98, 25)))
        x = alpha * y + sigma * np.cos(np.arange(y.size))
        truth = refined(lambda panels: channel.posterior(x, panels), 400, "quadrature of Bayes' rule")
        size = np.abs(truth.value).max(axis=1, keepdims=True)
        claimed = np.array(formula(x, alpha, sigma, *channel.log_derivatives(x)))
        return check_equal(
            Estimate(truth.value / size, error=truth.error / size, route=truth.route),
            Estimate(claimed / size, error=1e-9, route="derivatives of log q"),
            tol=tolerance(tol),
            scale=1.0,
            seed=seed,
            title="posterior moments from derivatives of log q",
        )

    return check


def _with_mean(mean: Callable[..., Array]) -> Moments:
    return lambda x, a, o, s, s1, s2: (mean(x, a, o, s), (o / a) ** 2 * (1 + o**2 * s1), (o**2 / a) ** 3 * s2)


TWEEDIE = Identity(
    id="sm-tweedie",
    statement=(
        "E[X_0 | x] = (x + σ² s)/α, Var[X_0 | x] = (σ²/α²)(1 + σ² s'), third cumulant (σ²/α)³ s''\n"
        "in general the n-th cumulant is (σ²/α)ⁿ ∂xⁿ (log q + x²/2σ²)"
    ),
    conditions="X = α X_0 + σ ε with Gaussian ε; any law of the data; α, σ > 0.",
    source="Robbins (1956); Efron (2011); Winther et al. (arXiv 2606.31576) eqs. 54-56",
    routes=("posterior moments by quadrature of Bayes' rule over the data", "closed derivatives of q in the formula"),
    truth=_with_mean(lambda x, a, o, s: (x + o**2 * s) / a),
    settings={
        "Gaussian mixture, t = .35": _tweedie(Channel(DATA, 0.35)),
        "Gaussian mixture, t = .01": _tweedie(Channel(DATA, 0.01)),
        "Laplace mixture, t = .35": _tweedie(Channel(LAPLACE, 0.35)),
    },
    siblings=(
        Sibling("σ for σ²", _with_mean(lambda x, a, o, s: (x + o * s) / a)),
        Sibling("1/α dropped", _with_mean(lambda x, a, o, s: x + o**2 * s)),
        Sibling("sign of the score", _with_mean(lambda x, a, o, s: (x - o**2 * s) / a)),
        Sibling("½ σ²", _with_mean(lambda x, a, o, s: (x + 0.5 * o**2 * s) / a)),
        Sibling(
            "variance with 1 - σ² s'",
            lambda x, a, o, s, s1, s2: ((x + o**2 * s) / a, (o / a) ** 2 * (1 - o**2 * s1), (o**2 / a) ** 3 * s2),
        ),
    ),
)


# (Fisher information, α, σ, mmse, Fisher information at t + 1e-3) -> the constant
Constant = Callable[[float, float, float, float, float], float]


def _model_score(x: Array) -> Array:
    """A score that nobody would call right."""
    return -0.8 * x + 0.4 * np.sin(2 * x)


def _denoising_loss(channel: Channel, panels: int) -> Array:
    """E|s_θ(X) - ∂x log p(X | X_0)|², by quadrature over X_0 and ε."""
    alpha, sigma = channel.alpha_sigma
    y, weights = channel.nodes(panels)
    noise, noise_weights = np.polynomial.hermite_e.hermegauss(4 * panels)
    loss = (_model_score(alpha * y[:, None] + sigma * noise) + noise / sigma) ** 2
    mass = weights * channel.data.pdf(y)
    return mass @ (loss @ noise_weights) / noise_weights.sum()


def _fisher(channel: Channel, panels: int) -> float:
    x, mass = channel.outer_nodes(panels)
    return float((mass * channel.log_derivatives(x)[0] ** 2).sum())


def _explicit_loss(channel: Channel, constant: Constant, panels: int) -> Array:
    """E|s_θ - s|² + C, by quadrature over X; mmse from the posterior."""
    x, mass = channel.outer_nodes(panels)
    alpha, sigma = channel.alpha_sigma
    information = _fisher(channel, panels)
    later = _fisher(Channel(channel.data, channel.t + 1e-3), panels)
    mmse = float((mass * channel.posterior(x, 60)[1]).sum())
    loss = (mass * (_model_score(x) - channel.log_derivatives(x)[0]) ** 2).sum()
    return np.asarray(loss + constant(information, alpha, sigma, mmse, later))


def _sampled_loss(data: GaussianMixture, t: float) -> Callable[[int, Stream], Estimate]:
    """The denoising loss of Gaussian data as a mean over Sobol points, the error from 64 random shifts."""
    alpha, sigma = vp_channel(_BETA_MAX, t)

    def loss(points: Array) -> float:
        z, noise = ndtri(points).T
        signal = alpha * (data.means + data.stds * z[:, None])
        terms = (_model_score(signal + sigma * noise[:, None]) + noise[:, None] / sigma) ** 2
        return float(terms.mean(axis=0) @ data.weights)

    def sampled(effort: int, stream: Stream) -> Estimate:
        points = qmc.Sobol(2, scramble=False).random_base2(10 + effort)
        shifts = stream.generator("shifts").random((64, 2))
        losses = np.array([loss((points + shift) % 1.0) for shift in shifts])
        return Estimate(losses.mean(), std_error=losses.std(ddof=1) / 8.0, route="shifted Sobol points")

    return sampled


def _explicit_route(channel: Channel, constant: Constant) -> Estimate:
    return refined(lambda panels: _explicit_loss(channel, constant, panels), 40, "score loss + constant")


def _losses(channel: Channel) -> Check:
    def check(constant: Constant, *, tol: float | None = None, seed: int = 0) -> Verdict:
        denoising = refined(lambda panels: _denoising_loss(channel, panels), 20, "denoising loss")
        routes = denoising, _explicit_route(channel, constant)
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="denoising and explicit score matching")

    return check


def _sampled(data: GaussianMixture, t: float) -> Check:
    def check(constant: Constant, *, tol: float | None = None, seed: int = 0) -> Verdict:
        routes = _sampled_loss(data, t), _explicit_route(Channel(data, t), constant)
        return check_equal(*routes, tol=tolerance(tol, SAMPLING_TOL), seed=seed, title="denoising loss, sampled")

    return check


ESM_DSM = Identity(
    id="sm-esm-dsm",
    statement=(
        "E|s_θ - ∂x log p(X_t | X_0)|² = E|s_θ - s|² + C with C = 1/σ² - J = (α²/σ⁴) mmse\n"
        "J = E s² and mmse = E Var(X_0 | X_t); C does not depend on s_θ"
    ),
    conditions="X = α X_0 + σ ε with Gaussian ε; both losses finite.",
    source="Vincent (2011); Winther et al. (arXiv 2606.31576) eqs. 54-56",
    routes=(
        "denoising loss by quadrature over (X_0, ε)",
        "score loss by quadrature over X_t, plus the constant",
        "denoising loss sampled at randomly shifted Sobol points (its own setting, at the tolerance of sampling)",
    ),
    truth=lambda fisher, a, o, mmse, later: 1 / o**2 - fisher,
    settings={
        "t = .35": _losses(Channel(DATA, 0.35)),
        "t = .05": _losses(Channel(DATA, 0.05)),
        "Laplace mixture, t = .35": _losses(Channel(LAPLACE, 0.35)),
        "t = .35, sampled": _sampled(DATA, 0.35),
    },
    siblings=(
        Sibling("C = 0", lambda fisher, a, o, mmse, later: 0.0),
        Sibling("C = 1/σ²", lambda fisher, a, o, mmse, later: 1 / o**2),
        Sibling("C = 1/σ - J", lambda fisher, a, o, mmse, later: 1 / o - fisher),
        Sibling("C = (α/σ²) mmse", lambda fisher, a, o, mmse, later: a / o**2 * mmse),
        Sibling(
            "J at t + 1e-3",
            lambda fisher, a, o, mmse, later: 1 / o**2 - later,
            below_tolerance={"t = .05": 2.0e-4, "t = .35, sampled": 2.6e-3},
        ),
    ),
)
