"""Identities of laws of paths: Girsanov's density and the divergence between two drifts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fpsolve.catalogue.fixtures import DATA_2, SIGMA, SINH_1, SINH_25, T_SPAN, THETA, Fixture, refined, tolerance
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.catalogue.steps import Model, carried_mean, limit, normal_nodes, sinh_ou
from fpsolve.particles.simulate import simulate
from fpsolve.paths import processes
from fpsolve.problem.density import PointMass
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.law import Law
from fpsolve.problem.maps import Pushforward, Sinh
from fpsolve.problem.mixtures import GaussianMixture
from fpsolve.problem.streams import Stream
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
# in nats, and for means of a bounded function
SAMPLED_TOL = 0.03
THETA_Q = 1.7
_STARTS = np.array([-0.9, 0.2, 0.6, 1.3])


def _phi(x: Array) -> Array:
    return np.tanh(1.5 * x - 0.4)


@dataclass(frozen=True)
class PathRules:
    """Formulas for the divergence KL(P‖Q) of paths and for the density dP/dQ.

    `rate` is its growth from (b_P - b_Q, g²), whose mean is taken under P or not. `start` chooses from
    (KL(P_0‖Q_0), KL(Q_0‖P_0)). `log_weight` is that of a step from (u, ΔB, h). `diffusive` is the share of the noise
    in how far X moves within a step of the Euler interpolation.
    """

    rate: Callable[[Array, Array], Array]
    log_weight: Callable[[Array, Array, float], Array]
    under_p: bool = True
    start: Callable[[float, float], float] = lambda forward, backward: forward
    diffusive: float = 1.0


def _kernel(theta: float, h: float) -> tuple[float, float]:
    """Factor and variance of dY = -θ Y dt + σ dW over h."""
    return float(np.exp(-theta * h)), float(-(SIGMA**2) * np.expm1(-2 * theta * h) / (2 * theta))


def _gaussian_divergence(mean_square: Any, variance: Any, other: Any) -> Any:
    """Mean of KL(N(m, v)‖N(m', v')) from E (m - m')², v and v'."""
    return 0.5 * (variance / other - 1.0 - np.log(variance / other) + mean_square / other)


def _law_of_q(fixture: Fixture, t: float) -> Law:
    """Law of X_t under Q, which starts from the other mixture."""
    factor, noise = _kernel(THETA_Q, t)
    base = GaussianMixture(DATA_2.weights, factor * DATA_2.means, np.sqrt(factor**2 * DATA_2.stds**2 + noise))
    return Pushforward(base, Sinh(fixture.length))  # type: ignore[arg-type]


def _at_start(fixture: Fixture, panels: int) -> tuple[float, float]:
    """KL(P_0‖Q_0) and KL(Q_0‖P_0) by quadrature."""
    p, q = fixture.law_at(0.0), _law_of_q(fixture, 0.0)
    x, weights = fixture.nodes(0.0, panels, 1e-30)
    logs, other = p.logpdf(x), q.logpdf(x)
    return float((weights * np.exp(logs)) @ (logs - other)), float((weights * np.exp(other)) @ (other - logs))


def _of_chain(fixture: Fixture, n: int) -> float:
    """KL of the laws of Y at n + 1 equal times: from the start, and from every Gaussian kernel."""
    h = (T_SPAN[1] - T_SPAN[0]) / n
    (factor, noise), (factor_q, noise_q) = _kernel(THETA, h), _kernel(THETA_Q, h)
    data, total = fixture.data, _at_start(fixture, 60)[0]
    square = data.var() + data.mean() ** 2
    for _ in range(n):
        total += _gaussian_divergence((factor - factor_q) ** 2 * square, noise, noise_q)
        square = factor**2 * square + noise
    return total


def _integrated(fixture: Fixture, rules: PathRules, panels: int) -> Array:
    """The divergence at the start, and the mean of its rate in time, with f and g of X as declared."""
    p, q = (processes.sinh_ou(theta, SIGMA, fixture.length) for theta in (THETA, THETA_Q))  # type: ignore[arg-type]
    nodes, weights = np.polynomial.legendre.leggauss(panels)
    total = rules.start(*_at_start(fixture, 3 * panels))
    for u, weight in zip(0.5 * (1.0 + nodes), 0.5 * weights, strict=True):
        t = float(u)
        x, mass = fixture.nodes(t, 3 * panels)
        law = fixture.law_at(t) if rules.under_p else _law_of_q(fixture, t)
        rate = rules.rate(p.drift(x, t) - q.drift(x, t), p.diffusion_squared(x, t))
        total += float(weight * ((mass * law.pdf(x)) @ rate))
    return np.asarray(total)


def _divergence(fixture: Fixture) -> Check:
    def check(rules: PathRules, *, tol: float | None = None, seed: int = 0) -> Verdict:
        return check_equal(
            limit([_of_chain(fixture, 2**k) for k in range(3, 9)], "chains at more and more times", 1e-9),
            refined(lambda panels: _integrated(fixture, rules, panels), 10, "integral of the mean rate"),
            tol=tolerance(tol),
            scale=1.0,
            seed=seed,
            title="divergence of laws of paths",
        )

    return check


def _euler_step(model: Model, x: Array, dw: Array, h: float) -> Array:
    c = model.coefficients(x)
    return np.asarray(x + c.f * h + c.g * dw)


def _reweighted(fixture: Fixture, end: float = 0.5) -> Check:
    """E_Q[dP/dQ φ(X_T)] by the weighted chain of Q, its steps extrapolated to zero, against E_P φ(X_T)."""
    p, q = (sinh_ou(theta, SIGMA, fixture.length) for theta in (THETA, THETA_Q))  # type: ignore[arg-type]

    def check(rules: PathRules, *, tol: float | None = None, seed: int = 0) -> Verdict:
        def log_weight(x: Array, dw: Array, h: float) -> Array:
            of_p, of_q = p.coefficients(x), q.coefficients(x)
            return rules.log_weight((of_p.f - of_q.f) / of_q.g, dw, h)

        chain = [carried_mean(q, _euler_step, _phi, _STARTS, end, 2**k, log_weight) for k in range(2, 7)]
        return check_equal(
            limit(chain, "weighted chain of Q, h → 0", 1e-9),
            Estimate(p.mean(_phi, _STARTS, end), error=1e-10, route="kernel of P"),
            tol=tolerance(tol),
            scale=1.0,
            seed=seed,
            title="means under P by paths of Q",
        )

    return check


def _reweighted_particles(rules: PathRules, *, tol: float | None = None, seed: int = 0) -> Verdict:
    """The same from one point with paths of the particle engine, L = 1."""
    start, end, one = 1.3, 0.25, np.ones(1)

    def u(x: Array) -> Array:
        return (THETA_Q - THETA) / SIGMA * np.arcsinh(x)

    # log dP/dQ = ∫ of_time u² dt + ∫ of_noise u dB
    of_time = float(rules.log_weight(one, 0.0 * one, 1.0)[0])
    of_noise = float(rules.log_weight(one, one, 0.0)[0])

    def particles(effort: int, stream: Stream) -> Estimate:
        run = simulate(
            processes.sinh_ou(THETA_Q, SIGMA, 1.0), PointMass(start), (0.0, end), n_paths=2 ** (15 + effort),
            n_steps=16, bias="halving", rng=stream,
            functionals={"log_w": (lambda x: of_time * u(x) ** 2, lambda x: of_noise * u(x))},
        )  # fmt: skip
        return run.expect(lambda x, log_w: np.exp(log_w) * _phi(x))

    truth = sinh_ou(THETA, SIGMA, 1.0).mean(_phi, np.array(start), end)
    closed = Estimate(float(truth), error=1e-10, route="kernel of P")
    goal = tolerance(tol, SAMPLED_TOL)
    return check_equal(closed, particles, tol=goal, scale=1.0, seed=seed, title="means under P by particles of Q")


def _squares_at(n: int, start: tuple[float, float]) -> list[tuple[float, float]]:
    """Mean and variance of dY = -θ Y dt + σ dW at the starts of n steps over [0, 1]."""
    factor, noise = _kernel(THETA, 1.0 / n)
    found = [start]
    for _ in range(n - 1):
        mean, variance = found[-1]
        found.append((factor * mean, factor**2 * variance + noise))
    return found


def _interpolated_chain(n: int, start: tuple[float, float], parts: int) -> float:
    """KL of the laws at `parts` times per step: Y against the Euler step whose drift stays as at the start of the step.

    The means differ by (Φ - 1) Y_t + θ δ Y_k, with Y_t = Φ_t Y_k + noise.
    """
    delta = 1.0 / (n * parts)
    factor, noise = _kernel(THETA, delta)
    total = 0.0
    for mean, variance in _squares_at(n, start):
        for j in range(parts):
            factor_j, noise_j = _kernel(THETA, j * delta)
            of_start = (factor - 1.0) * factor_j + THETA * delta
            apart = of_start**2 * (mean**2 + variance) + (factor - 1.0) ** 2 * noise_j
            total += _gaussian_divergence(apart, noise, SIGMA**2 * delta)
    return total


def _interpolated(rules: PathRules, n: int, start: tuple[float, float], nodes: int) -> Array:
    """Mean rate with b(Y_t) - b(Y_k) = θ (Y_k - Y_t), integrated over all steps."""
    z, mass = normal_nodes(12)
    u, weights = np.polynomial.legendre.leggauss(nodes)
    total = 0.0
    for mean, variance in _squares_at(n, start):
        for share, weight in zip(0.5 * (1.0 + u), 0.5 * weights, strict=True):
            factor, noise = _kernel(THETA, float(share) / n)
            spread = (1.0 - factor) ** 2 * variance + rules.diffusive * noise
            gap = THETA * ((1.0 - factor) * mean + np.sqrt(spread) * z)
            total += weight / n * float(mass @ rules.rate(gap, np.full_like(gap, SIGMA**2)))
    return np.asarray(total)


def _interpolation(n: int) -> Check:
    start = (1.2, 0.3)

    def check(rules: PathRules, *, tol: float | None = None, seed: int = 0) -> Verdict:
        chains = [_interpolated_chain(n, start, 2**k) for k in range(2, 8)]
        return check_equal(
            limit(chains, "chains at more and more times", 1e-10),
            refined(lambda nodes: _interpolated(rules, n, start, nodes), 6, "integral of the mean rate"),
            tol=tolerance(tol),
            seed=seed,
            title="divergence from the Euler interpolation",
        )

    return check


_RULES = PathRules(rate=lambda gap, g2: 0.5 * gap**2 / g2, log_weight=lambda u, db, h: u * db - 0.5 * u**2 * h)
_PATHS, _WEIGHTS = ("L = 1", "L = 25"), ("weights, L = 1", "weights, L = 25", "weights, L = 1, sampled")
_EULER = ("Euler interpolation, 4 steps", "Euler interpolation, 32 steps")

GIRSANOV = Identity(
    id="elbo-girsanov-path-kl",
    statement=(
        "KL(P‖Q) = KL(P_0‖Q_0) + ½ ∫E_P[(b_P - b_Q)²/g²] dt for the laws of paths of dX = b dt + g dW\n"
        "dP/dQ = exp(∫u dB - ½ ∫u² dt) from the same start, u = (b_P - b_Q)/g, B Brownian under Q\n"
        "Euler interpolation, its drift frozen at the start t_k of each step: ½ ∫E_P[(b(X_t) - b(X_{t_k}))²/g²] dt"
    ),
    conditions="the same g > 0; Novikov's condition, or E_P ∫u² dt finite for the divergence. In nats.",
    source="Girsanov (1960); Liptser & Shiryaev (2001) chapter 7; Winther et al. (arXiv 2606.31576) eqs. 28-37",
    routes=(
        "KL of the Gaussian chains at n times, which grows to that of the paths, extrapolated",
        "quadrature over the textbook laws, integrated in time, with f and g² of the declared processes",
        "weighted chain of Q carried backward, weighted particles of Q (sampled), against the kernel of P",
    ),
    truth=_RULES,
    settings={
        "L = 1": _divergence(SINH_1),
        "L = 25": _divergence(SINH_25),
        "weights, L = 1": _reweighted(SINH_1),
        "weights, L = 25": _reweighted(SINH_25),
        "weights, L = 1, sampled": _reweighted_particles,
        "Euler interpolation, 4 steps": _interpolation(4),
        "Euler interpolation, 32 steps": _interpolation(32),
    },
    siblings=(
        Sibling("½ dropped", replace(_RULES, rate=lambda gap, g2: gap**2 / g2), only=(*_PATHS, *_EULER)),
        Sibling(
            "/g for /g²", replace(_RULES, rate=lambda gap, g2: 0.5 * gap**2 / np.sqrt(g2)), only=(*_PATHS, *_EULER)
        ),
        Sibling("E under Q", replace(_RULES, under_p=False), only=_PATHS),
        Sibling("KL(Q‖P)", replace(_RULES, under_p=False, start=lambda forward, backward: backward), only=_PATHS),
        Sibling("KL at the start dropped", replace(_RULES, start=lambda forward, backward: 0.0), only=_PATHS),
        Sibling("+ ½ ∫u² dt", replace(_RULES, log_weight=lambda u, db, h: u * db + 0.5 * u**2 * h), only=_WEIGHTS),
        Sibling("- ∫u² dt", replace(_RULES, log_weight=lambda u, db, h: u * db - u**2 * h), only=_WEIGHTS),
        Sibling("- ∫u dB", replace(_RULES, log_weight=lambda u, db, h: -u * db - 0.5 * u**2 * h), only=_WEIGHTS),
        Sibling("noise dropped in X_t - X_{t_k}", replace(_RULES, diffusive=0.0), only=_EULER),
    ),
)
