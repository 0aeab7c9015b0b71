"""Identities of Langevin chains: the law in which they settle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fpsolve.catalogue.fixtures import refined, tolerance
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.catalogue.steps import observed_order
from fpsolve.particles.simulate import simulate
from fpsolve.problem.estimate import Estimate, exact
from fpsolve.problem.mixtures import Normal
from fpsolve.problem.process import SDE
from fpsolve.problem.streams import Stream
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
ORDER_TOL, SAMPLED_TOL = 0.02, 0.03


@dataclass(frozen=True)
class Target:
    """A law to sample from: log-density up to a constant, score, and an interval beyond which nothing is left."""

    logpdf: Callable[[Array], Array]
    score: Callable[[Array], Array]
    left: float
    right: float
    noise: float

    def mean_of_powers(self, panels: int) -> Array:
        """E X and E X² by quadrature."""
        edges = np.linspace(self.left, self.right, panels + 1)
        half = 0.5 * (edges[1] - edges[0])
        x = (0.5 * (edges[1:] + edges[:-1])[:, None] + half * _NODES).ravel()
        mass = np.tile(_WEIGHTS, panels) * np.exp(self.logpdf(x))
        return np.array([mass @ x, mass @ x**2]) / mass.sum()

    def proposals(self, h: float, n: int) -> tuple[Array, Array]:
        """Places and the log-density of x_j = x_i + ½ g² h s(x_i) + g √h ξ, row i."""
        x, variance = np.linspace(self.left, self.right, n), self.noise**2 * h
        ahead = x + 0.5 * variance * self.score(x)
        return x, -0.5 * (x - ahead[:, None]) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)


def _gaussian(variance: float, noise: float) -> Target:
    reach = 8.5 * np.sqrt(variance)
    return Target(lambda x: -0.5 * x**2 / variance, lambda x: -x / variance, -reach, reach, noise)


# tilted, so that it has no symmetry
_WELLS = Target(lambda x: -2 * (x**2 - 1) ** 2 + 0.5 * x, lambda x: -8 * x * (x**2 - 1) + 0.5, -2.6, 2.6, 1.0)

# (log π(x'), log π(x), log r(x | x'), log r(x' | x)) -> logarithm of the acceptance, before it is cut at zero
Acceptance = Callable[[Array, Array, Array, Array], Array]


@dataclass(frozen=True)
class Langevin:
    """Stationary variance of the chain on N(0, v) from (v, g², h), order of its bias, and what MALA accepts."""

    variance: Callable[[float, float, float], float]
    acceptance: Acceptance
    order: float = 1.0


def _settled(transition: Array, x: Array) -> Array:
    """E X and E X² under the law that a transition matrix keeps."""
    n = len(x)
    system = np.vstack([(transition.T - np.eye(n))[:-1], np.ones(n)])
    law = np.linalg.solve(system, np.append(np.zeros(n - 1), 1.0))
    return np.array([law @ x, law @ x**2])


def _unadjusted(target: Target, h: float, n: int = 351) -> Array:
    x, logs = target.proposals(h, n)
    transition = np.exp(logs)
    return _settled(transition / transition.sum(axis=1, keepdims=True), x)


def _adjusted(target: Target, acceptance: Acceptance, h: float, n: int = 351) -> Array:
    x, logs = target.proposals(h, n)
    logpdf = target.logpdf(x)
    accepted = np.minimum(0.0, acceptance(logpdf[None, :], logpdf[:, None], logs.T, logs))
    transition = np.exp(logs + accepted) * (x[1] - x[0])
    np.fill_diagonal(transition, 0.0)
    np.fill_diagonal(transition, 1.0 - transition.sum(axis=1))
    return _settled(transition, x)


def _iterated_variance(v: float, g2: float, h: float) -> Estimate:
    variance = before = v
    for _ in range(100_000):
        before, variance = variance, (1.0 - 0.5 * g2 * h / v) ** 2 * variance + g2 * h
        if abs(variance - before) < 1e-15 * v:
            break
    return Estimate(variance, error=1e-11, route="second moment, step by step")


def _gaussian_target(v: float, noise: float, h: float, n: int) -> Check:
    def check(claimed: Langevin, *, tol: float | None = None, seed: int = 0) -> Verdict:
        settled = _unadjusted(_gaussian(v, noise), h, n)[1]
        return check_equal(
            Estimate(claimed.variance(v, noise**2, h), error=1e-14, route="formula"),
            _iterated_variance(v, noise**2, h),
            Estimate(settled, error=1e-8, route="law that the kernel keeps"),
            tol=tolerance(tol),
            seed=seed,
            title="stationary variance of the Langevin chain",
        )

    return check


def _sampled_variance(v: float, noise: float, h: float) -> Check:
    process = SDE(lambda x: -0.5 * noise**2 / v * x, noise)

    def particles(effort: int, stream: Stream) -> Estimate:
        start, steps = Normal(0.0, float(np.sqrt(v))), 60
        run = simulate(process, start, (0.0, steps * h), n_paths=2 ** (16 + effort), n_steps=steps, rng=stream)
        return run.expect(lambda x: x**2)

    def check(claimed: Langevin, *, tol: float | None = None, seed: int = 0) -> Verdict:
        formula = Estimate(claimed.variance(v, noise**2, h), error=1e-14, route="formula")
        goal = tolerance(tol, SAMPLED_TOL)
        return check_equal(formula, particles, tol=goal, seed=seed, title="stationary variance, sampled")

    return check


def _order_of_bias(claimed: Langevin, *, tol: float | None = None, seed: int = 0) -> Verdict:
    truth = _WELLS.mean_of_powers(40)
    errors = [_unadjusted(_WELLS, h) - truth for h in (0.008, 0.004, 0.002, 0.001)]
    routes = exact(claimed.order), observed_order(errors, "laws that the kernels keep")
    return check_equal(*routes, tol=tolerance(tol, ORDER_TOL), scale=1.0, seed=seed, title="order of the bias")


def _adjusted_chain(h: float) -> Check:
    def check(claimed: Langevin, *, tol: float | None = None, seed: int = 0) -> Verdict:
        return check_equal(
            refined(_WELLS.mean_of_powers, 20, "quadrature of the target"),
            Estimate(_adjusted(_WELLS, claimed.acceptance, h), error=1e-9, route="law that the kernel keeps"),
            tol=tolerance(tol),
            seed=seed,
            title="stationary law of the adjusted chain",
        )

    return check


_LANGEVIN = Langevin(
    variance=lambda v, g2, h: v / (1.0 - g2 * h / (4 * v)),
    acceptance=lambda new, old, back, forth: new - old + back - forth,
)
_V, _G = 0.8, 0.95
_WITH_VARIANCE = ("Gaussian, h = .35", "Gaussian, h = .002", "Gaussian, h = .35, sampled")
_WITH_WELLS = ("adjusted, h = .05", "adjusted, h = .01")

ULA_BIAS = Identity(
    id="int-ula-bias",
    statement=(
        "x' = x + ½ g² h s(x) + g √h ξ settles on N(0, v) with variance v/(1 - g² h/4v), in general O(h) away from π\n"
        "accepted with probability min(1, π(x') r(x | x')/(π(x) r(x' | x))) it keeps π for every h (MALA)"
    ),
    conditions="s = ∂x log π, g constant; stable: g² h < 4 v on the Gaussian, h small where s is steep.",
    source="Roberts & Tweedie (1996)",
    routes=(
        "Gaussian: formula; second moment iterated; law that the matrix of the kernel keeps; paths of the particle "
        "engine (sampled)",
        "tilted double well: laws that the matrices keep, against quadrature of the target",
    ),
    truth=_LANGEVIN,
    settings={
        "Gaussian, h = .35": _gaussian_target(_V, _G, 0.35, 401),
        "Gaussian, h = .002": _gaussian_target(_V, _G, 0.002, 801),
        "Gaussian, h = .35, sampled": _sampled_variance(_V, _G, 0.35),
        "order of the bias": _order_of_bias,
        "adjusted, h = .05": _adjusted_chain(0.05),
        "adjusted, h = .01": _adjusted_chain(0.01),
    },
    siblings=(
        Sibling(
            "g² h/2v for g² h/4v",
            replace(_LANGEVIN, variance=lambda v, g2, h: v / (1 - g2 * h / (2 * v))),
            only=_WITH_VARIANCE,
        ),
        Sibling("no bias", replace(_LANGEVIN, variance=lambda v, g2, h: v), only=_WITH_VARIANCE),
        Sibling(
            "first order: v (1 + g² h/4v)",
            replace(_LANGEVIN, variance=lambda v, g2, h: v * (1 + g2 * h / (4 * v))),
            below_tolerance={"Gaussian, h = .002": 3.2e-7},
            only=("Gaussian, h = .35", "Gaussian, h = .002"),
        ),
        Sibling("bias of order two", replace(_LANGEVIN, order=2.0), only=("order of the bias",)),
        Sibling(
            "acceptance without the proposals",
            replace(_LANGEVIN, acceptance=lambda new, old, back, forth: new - old),
            only=_WITH_WELLS,
        ),
        Sibling(
            "proposals upside down",
            replace(_LANGEVIN, acceptance=lambda new, old, back, forth: new - old + forth - back),
            only=_WITH_WELLS,
        ),
        Sibling(
            "all accepted",
            replace(_LANGEVIN, acceptance=lambda new, old, back, forth: np.zeros_like(back)),
            only=_WITH_WELLS,
        ),
    ),
)
