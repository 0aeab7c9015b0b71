"""Identities of time reversal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsolve.catalogue.fixtures import GRID_RTOL, SINH_1, SINH_25, SINH_T, T_SPAN, Fixture, refined, tolerance
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.grids.fokker_planck import solve_fokker_planck
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.density import Density
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.process import SDE
from fpsolve.verdict.checks import check_reverse
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
Drift = Callable[[Any, Any, Any, Any], Any]
_TIMES = (0.3, 0.7)
_EARLY, _LATE = 0.1, 0.9
_HERMITE, _HERMITE_WEIGHTS = np.polynomial.hermite_e.hermegauss(64)


@dataclass(frozen=True)
class FromFixture:
    """A candidate that needs the laws of the fixture on which it is examined."""

    build: Callable[[Fixture], Callable[..., Array]]


def _anderson(fixture: Fixture) -> Check:
    def check(candidate: Any, *, tol: float | None = None, seed: int = 0) -> Verdict:
        formula = candidate.build(fixture) if isinstance(candidate, FromFixture) else candidate
        return check_reverse(fixture.what(tol), formula, t_span=T_SPAN, tol=tol, seed=seed)

    return check


def _score_at_wrong_time(fixture: Fixture) -> Callable[..., Array]:
    return lambda x, tau, f, g2, g2_dx: -f + g2_dx + g2 * fixture.law_at(float(tau)).score(x)


ANDERSON = Identity(
    id="rev-anderson",
    statement=(
        "Y_τ = X_{T-τ} solves dY = [-f + (g²)' + g² s](Y, T-τ) dτ + g(Y, T-τ) dB\n"
        "and has the marginals q_{T-τ}: b q - ½ ∂x(g² q) = ∂t F"
    ),
    conditions="q > 0 and smooth; ∫g² s² q finite; the score is taken at the forward time t = T - τ.",
    source="Anderson (1982); Winther et al. (arXiv 2606.31576) eqs. 11-20, there in the forward clock",
    routes=("flux of the reversed process against ∂t F, closed form", "the same on a grid solution"),
    truth=lambda f, g2, g2_dx, s: -f + g2_dx + g2 * s,
    settings={"L = 1": _anderson(SINH_1), "L = 25": _anderson(SINH_25), "g(x, t)": _anderson(SINH_T)},
    siblings=(
        Sibling("(g²)' dropped", lambda f, g2, s: -f + g2 * s),
        Sibling("½ (g²)'", lambda f, g2, g2_dx, s: -f + 0.5 * g2_dx + g2 * s),
        Sibling("½ g² s", lambda f, g2, g2_dx, s: -f + g2_dx + 0.5 * g2 * s),
        Sibling("sign of f", lambda f, g2, g2_dx, s: f + g2_dx + g2 * s),
        Sibling("score at τ instead of T - τ", FromFixture(_score_at_wrong_time)),
    ),
)


@dataclass(frozen=True)
class Reversal:
    """A reversed process: its drift from (f, g², (g²)', s), and its noise γ² as a multiple of g²."""

    drift: Drift
    noise: float = 1.0


@dataclass(frozen=True)
class OneStepMean:
    """The drift taken as E[X_{t-h} - x | X_t = x]/h at one step size, without a limit."""

    h: float
    noise: float = 1.0


def _member(noise: float) -> Reversal:
    """Member of the family -v + ½ (γ²)' + ½ γ² s with γ² = noise g²: right marginals, another joint law."""
    return Reversal(lambda f, g2, g2_dx, s: -f + 0.5 * (1 + noise) * (g2_dx + g2 * s), noise)


def _bayes_rates(fixture: Fixture, x: Array, t: float, h: float, panels: int) -> Array:
    """(E[ΔX | x]/h, E[ΔX² | x]/h) for ΔX = X_{t-h} - x, with p(y | x) ∝ p(x | y) q_{t-h}(y), by quadrature in Y."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    factor, noise = fixture.kernel(t - h, t)
    centre, width = fixture.inverse(x)[:, None], 11.0 * np.sqrt(noise)
    edges = np.linspace(-width, width, panels + 1)
    half = 0.5 * np.diff(edges)[:, None]
    offsets = ((edges[:-1, None] + half) + half * nodes).ravel()
    y = centre / factor + offsets / factor
    earlier = fixture.forward(y)
    dx_dy = np.ones_like(y) if fixture.length is None else np.cosh(y / fixture.length)
    kernel = np.exp(-0.5 * (centre - factor * y) ** 2 / noise)
    mass = kernel * fixture.law_at(t - h).pdf(earlier) * dx_dy * (half * weights).ravel()
    step = earlier - x[:, None]
    return np.array([(mass * step).sum(axis=1), (mass * step**2).sum(axis=1)]) / mass.sum(axis=1) / h


def _at_zero_step(fixture: Fixture, x: Array, t: float, panels: int) -> tuple[Array, Array]:
    """Rates extrapolated in h by polynomials of degree four, and the change from degree three."""
    steps = 0.02 * 0.5 ** np.arange(5)
    rates = [_bayes_rates(fixture, x, t, h, panels) for h in steps]
    low, high = (_lagrange_at_zero(steps[k:]) @ np.reshape(rates[k:], (5 - k, -1)) for k in (1, 0))
    return high.reshape(2, -1), np.abs(high - low).reshape(2, -1)


def _lagrange_at_zero(nodes: Array) -> Array:
    return np.linalg.solve(np.vander(nodes, increasing=True).T, np.eye(nodes.size)[0])


def _bayes_route(fixture: Fixture) -> Estimate:
    """Rates at all times, stacked as (2, times, x)."""
    rows = []
    for t in _TIMES:
        x = fixture.quantiles(t, 15)
        coarse, (fine, step_error) = _at_zero_step(fixture, x, t, 16)[0], _at_zero_step(fixture, x, t, 32)
        rows.append((fine, step_error + np.abs(fine - coarse)))
    values, errors = (np.stack([row[k] for row in rows], axis=1) for k in (0, 1))
    return Estimate(values, error=errors + 1e-9, route="Bayes' rule, h → 0")


def _candidate_route(fixture: Fixture, q: Evolution, candidate: Any, route: str) -> Estimate:
    values, errors = [], []
    p = fixture.process
    for t in _TIMES:
        x = fixture.quantiles(t, 15)
        f, g2, g2_dx = p.drift(x, t), p.diffusion_squared(x, t), p.diffusion_squared_dx(x, t)
        s, error = q.with_error("score", x, t)
        if isinstance(candidate, OneStepMean):
            drift = _bayes_rates(fixture, x, t, candidate.h, 32)[0]
        else:
            drift = candidate.drift(f, g2, g2_dx, s)
        values.append([drift, candidate.noise * g2])
        errors.append([g2 * error + 1e-10 * np.abs(drift), 1e-12 * g2])
    return Estimate(np.stack(values, axis=1), error=np.stack(errors, axis=1), route=route)


def _one_step(fixture: Fixture) -> Check:
    def check(candidate: Any, *, tol: float | None = None, seed: int = 0) -> Verdict:
        bayes = _bayes_route(fixture)
        sizes = Estimate(1.0 / np.sqrt((bayes.value**2).mean(axis=2, keepdims=True)), route="size")
        routes = [
            bayes,
            _candidate_route(fixture, fixture.exact, candidate, "drift from the closed form"),
            _candidate_route(fixture, fixture.on_grid(_TIMES, GRID_RTOL), candidate, "drift from the grid"),
        ]
        scaled = [Estimate(r.value * sizes.value, error=r.error * sizes.value, route=r.route) for r in routes]
        title = "mean and variance of one step back"
        return check_equal(*scaled, tol=tolerance(tol), scale=1.0, seed=seed, title=title)

    return check


_FUNCTIONS: tuple[Callable[[Array], Array], ...] = (np.sin, np.tanh, lambda x: np.exp(-0.5 * (x - 1.0) ** 2))


def _tilt(x: Array) -> Array:
    return 1.0 + 0.9 * np.tanh(1.5 * x)


def _forward_route(fixture: Fixture) -> Estimate:
    """Cov(ψ(X_t), φ(X_s)) for all φ: Gauss-Hermite over the transition, Gauss-Legendre over X_s."""

    def compute(panels: int) -> Array:
        x, weights = fixture.nodes(_EARLY, panels)
        factor, noise = fixture.kernel(_EARLY, _LATE)
        later = fixture.forward(factor * fixture.inverse(x)[:, None] + np.sqrt(noise) * _HERMITE)
        weight_of = _tilt(later) @ _HERMITE_WEIGHTS / _HERMITE_WEIGHTS.sum()
        mass = weights * fixture.law_at(_EARLY).pdf(x)
        return np.array([(mass * (weight_of - (mass * weight_of).sum()) * phi(x)).sum() for phi in _FUNCTIONS])

    value = refined(compute, 40, "forward kernel")
    return Estimate(value.value, error=value.error + 1e-9, route=value.route)


def _backward_route(fixture: Fixture, candidate: Reversal) -> Estimate:
    """Z (E φ(Y) - E φ(X_s)) for the candidate Y after t - s, started from ψ q_t/Z and solved on the grid."""
    p, law, span = fixture.process, fixture.law_at(_LATE), _LATE - _EARLY
    x, weights = fixture.nodes(_LATE, 80)
    total = float((weights * law.pdf(x) * _tilt(x)).sum())
    start = Density(lambda y: law.logpdf(y) + np.log(_tilt(y)) - np.log(total), law.support)

    def drift(x: Array, t: float) -> Array:
        g2, g2_dx = fixture.noise(x)
        return candidate.drift(p.drift(x, _LATE - t), g2, g2_dx, fixture.law_at(_LATE - t).score(x))

    ratio = float(np.sqrt(candidate.noise))
    reverse = SDE(drift, lambda x, t: ratio * p.diffusion(x, _LATE - t))
    q = solve_fokker_planck(reverse, start, (0.0, span), t_eval=[span], rtol=GRID_RTOL)
    x, weights = fixture.nodes(_EARLY, 80)
    density, error = q.with_error("pdf", x, span)
    change = density - fixture.law_at(_EARLY).pdf(x)
    means = [total * (weights * change * phi(x)).sum() for phi in _FUNCTIONS]
    errors = [total * (weights * error * np.abs(phi(x))).sum() for phi in _FUNCTIONS]
    return Estimate(np.array(means), error=np.array(errors), route="reversed process on the grid")


def _two_times(fixture: Fixture) -> Check:
    def check(candidate: Reversal, *, tol: float | None = None, seed: int = 0) -> Verdict:
        routes = _forward_route(fixture), _backward_route(fixture, candidate)
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="two-time law of the reversal")

    return check


JOINT_LAW = Identity(
    id="rev-joint-law",
    statement=(
        "p(x_s | x_t) = p(x_t | x_s) q_s/q_t, so E[X_{t-h} - x | X_t = x] = h (-f + (g²)' + g² s) + O(h²)\n"
        "with variance g² h + O(h²), and Cov(ψ(X_t), φ(X_s)) is that of the reversal;\n"
        "no other process with the same marginals has this joint law"
    ),
    conditions="q > 0 and smooth; the two-time law separates the reversal from its relatives with another noise level.",
    source="Nelson (1967); Anderson (1982); Winther et al. (arXiv 2606.31576) eqs. 11-20",
    routes=(
        "one step: quadrature of Bayes' rule with h → 0, against the drift from the closed form and from the grid",
        "two times: quadrature of the forward kernel, against the reversed process on the grid from a tilted law",
    ),
    truth=_member(1.0),
    settings={
        "one step, L = 1": _one_step(SINH_1),
        "one step, L = 25": _one_step(SINH_25),
        "two times, L = 1": _two_times(SINH_1),
        "two times, L = 25": _two_times(SINH_25),
    },
    siblings=(
        Sibling("current velocity as drift: -v", Reversal(lambda f, g2, g2_dx, s: -f + 0.5 * g2_dx + 0.5 * g2 * s)),
        Sibling("(g²)' dropped", Reversal(lambda f, g2, g2_dx, s: -f + g2 * s)),
        Sibling(
            "½ (g²)'",
            Reversal(lambda f, g2, g2_dx, s: -f + 0.5 * g2_dx + g2 * s),
            below_tolerance={"two times, L = 25": 2.1e-4},
        ),
        Sibling("½ g² s", Reversal(lambda f, g2, g2_dx, s: -f + g2_dx + 0.5 * g2 * s)),
        Sibling("same marginals, γ² = 1.5 g²", _member(1.5)),
        Sibling("same marginals, γ² = 1.005 g²", _member(1.005)),
        Sibling("one step of h = 1e-3, no limit", OneStepMean(1e-3), only=("one step, L = 1", "one step, L = 25")),
    ),
)
