"""Identities of the decay of Fisher information and of the production of entropy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsolve.catalogue.fixtures import (
    FIELD_TIMES,
    SIGMA,
    SINH_1,
    SINH_25,
    T_SPAN,
    THETA,
    VP8,
    VP20,
    Fixture,
    refined,
    tolerance,
)
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.catalogue.information import (
    EXACT_TAIL,
    HEAT,
    PANELS,
    Snapshot,
    by_engines,
    entropy_of,
    rates,
    view_of,
)
from fpsolve.problem.differences import differentiate
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.law import Law
from fpsolve.problem.maps import Pushforward, Sinh
from fpsolve.problem.mixtures import Normal
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
# (J, E s'², E s', a, g²) -> J̇
FisherRate = Callable[[float, float, float, float, float], float]
# (fixture, x, t, panels) -> (q, s, s')
Fields = Callable[[Fixture, Array, float, int], tuple[Array, Array, Array]]
GAUSSIAN = Fixture(VP8.process, VP8.kernel, VP8.rates, None, Normal(0.6, 0.5))
_START, _END = 0.05, 0.8


def _closed_fields(fixture: Fixture, x: Array, t: float, panels: int) -> tuple[Array, Array, Array]:
    q = fixture.exact
    return q.pdf(x, t), q.score(x, t), differentiate(lambda y: q.score(y, t), x, length=0.3)[0]


def _posterior_fields(fixture: Fixture, x: Array, t: float, panels: int) -> tuple[Array, Array, Array]:
    """Tweedie: the noise N in X = Φ X_0 + √N ε has s = E[Φ X_0 - x | x]/N and N s' = Var[Φ X_0 | x]/N - 1."""
    factor, noise = fixture.kernel(0.0, t)
    y, weights = fixture.nodes(0.0, panels)
    apart = factor * y - x[:, None]
    joint = weights * fixture.law_at(0.0).pdf(y) * np.exp(-0.5 * apart**2 / noise)
    q = joint.sum(axis=1)
    mean = (joint * apart).sum(axis=1) / q
    variance = (joint * (apart - mean[:, None]) ** 2).sum(axis=1) / q
    return q / np.sqrt(2 * np.pi * noise), mean / noise, (variance / noise - 1.0) / noise


def _fisher(fixture: Fixture, t: float) -> float:
    x, weights = fixture.nodes(t, PANELS)
    law = fixture.law_at(t)
    return float((weights * law.pdf(x) * law.score(x) ** 2).sum())


def _fisher_rate(fixture: Fixture, fields: Fields, formula: FisherRate, t: float, panels: int) -> tuple[float, float]:
    """(J, J̇ by the formula)."""
    x, weights = fixture.nodes(t, panels, 1e-12)
    q, s, s_dx = fields(fixture, x, t, panels)
    fisher, mean, square = (float((weights * q * part).sum()) for part in (s**2, s_dx, s_dx**2))
    return fisher, formula(fisher, square, mean, *fixture.rates(t))


def _from_fields(compute: Callable[[Fields, int], Array]) -> tuple[Estimate, Estimate]:
    """Both ways to s and s', each at two numbers of panels."""
    named = ((_closed_fields, "formula, closed form"), (_posterior_fields, "formula, Bayes' rule"))
    found = [refined(lambda panels, way=way: compute(way, panels), 20, route) for way, route in named]  # type: ignore[misc]
    # differences of the score carry 1e-9 of it
    closed, bayes = (Estimate(e.value, error=e.error + 1e-8 * np.abs(e.value), route=e.route) for e in found)
    return closed, bayes


def _fisher_decay(fixture: Fixture) -> Check:
    def check(formula: FisherRate, *, tol: float | None = None, seed: int = 0) -> Verdict:
        def compute(fields: Fields, panels: int) -> Array:
            return np.array([_fisher_rate(fixture, fields, formula, t, panels)[1] for t in FIELD_TIMES])

        routes = rates(lambda t: _fisher(fixture, t), "differences of J"), *_from_fields(compute)
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="rate of the Fisher information")

    return check


def _stam(formula: FisherRate, *, tol: float | None = None, seed: int = 0) -> Verdict:
    """1/J grows from variance _START to _END by the integral of -J̇/J²."""
    nodes, weights = np.polynomial.legendre.leggauss(12)
    half = 0.5 * (_END - _START)

    def compute(fields: Fields, panels: int) -> Array:
        pairs = [_fisher_rate(HEAT, fields, formula, _START + half * (1.0 + u), panels) for u in nodes]
        return np.asarray(half * sum(-w * rate / fisher**2 for w, (fisher, rate) in zip(weights, pairs, strict=True)))

    grown = Estimate(1.0 / _fisher(HEAT, _END) - 1.0 / _fisher(HEAT, _START), error=1e-10, route="1/J at both ends")
    return check_equal(grown, *_from_fields(compute), tol=tolerance(tol), seed=seed, title="Stam's inequality")


FISHER_DECAY = Identity(
    id="info-fisher-decay",
    statement=(
        "J̇ = -2 a J - g² E[s'²] for f = a(t) x and g = g(t), with J = E s² = -E s'\n"
        "heat flow, v the variance added: 1/J(v) - 1/J(0) - v = ∫ Var(s')/J² dv ≥ 0 (Stam), zero iff q is Gaussian"
    ),
    conditions="q > 0; no flux at the ends; J and E[s'²] finite.",
    source="Stam (1959); McKean (1966), the second derivative of the entropy along the heat flow",
    routes=(
        "differences in time of J of the textbook law; 1/J at both ends for Stam's inequality",
        "formula with the closed score and its derivative by differences",
        "formula with s and s' from mean and variance of Bayes' rule over the data",
    ),
    truth=lambda fisher, square, mean, a, g2: -2 * a * fisher - g2 * square,
    settings={
        "VP8": _fisher_decay(VP8),
        "VP20": _fisher_decay(VP20),
        "Gaussian data": _fisher_decay(GAUSSIAN),
        "Stam": _stam,
    },
    siblings=(
        Sibling("½ g²", lambda fisher, square, mean, a, g2: -2 * a * fisher - 0.5 * g2 * square),
        Sibling(
            "drift term dropped",
            lambda fisher, square, mean, a, g2: -g2 * square,
            only=("VP8", "VP20", "Gaussian data"),
        ),
        Sibling(
            "a for 2 a",
            lambda fisher, square, mean, a, g2: -a * fisher - g2 * square,
            only=("VP8", "VP20", "Gaussian data"),
        ),
        Sibling(
            "(E s')² for E[s'²]",
            lambda fisher, square, mean, a, g2: -2 * a * fisher - g2 * mean**2,
            below_tolerance={"Gaussian data": 0.0},
        ),
        Sibling(
            "sign of a",
            lambda fisher, square, mean, a, g2: 2 * a * fisher - g2 * square,
            only=("VP8", "VP20", "Gaussian data"),
        ),
    ),
)


@dataclass(frozen=True)
class Production:
    """Formulas for the entropy production Π, for the heat Π - Ḣ, and for s_∞.

    The last takes (y/Var Y_∞, dx/dy, ∂x log dx/dy) of the map from Y, which is Gaussian at equilibrium.
    """

    rate: Callable[[Snapshot], float]
    heat: Callable[[Snapshot], float]
    equilibrium: Callable[[Array, Array, Array], Array]


VARIANCE = SIGMA**2 / (2 * THETA)


def _stationary(fixture: Fixture) -> Law:
    """Law of X_∞."""
    law = Normal(0.0, float(np.sqrt(VARIANCE)))
    return law if fixture.length is None else Pushforward(law, Sinh(fixture.length))


def _balance(fixture: Fixture) -> Check:
    """Ḣ = Π - heat."""

    def check(formula: Production, *, tol: float | None = None, seed: int = 0) -> Verdict:
        routes = (
            rates(entropy_of(fixture), "differences of the entropy"),
            *by_engines(fixture, lambda q: formula.rate(q) - formula.heat(q), "production minus heat"),
        )
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="entropy balance")

    return check


def _relaxation(fixture: Fixture) -> Check:
    """Π = -d/dt KL(q‖q_∞) = ½ E[g² (s - s_∞)²]."""
    law = _stationary(fixture)

    def negative_divergence(t: float) -> float:
        x, weights = fixture.nodes(t, PANELS)
        logs = fixture.law_at(t).logpdf(x)
        return float((weights * np.exp(logs) * (law.logpdf(x) - logs)).sum())

    def by_scores(formula: Production, panels: int) -> Array:
        values = []
        for t in FIELD_TIMES:
            x, weights = fixture.nodes(t, panels)
            g2, g2_dx = fixture.noise(x)
            equilibrium = formula.equilibrium(fixture.inverse(x) / VARIANCE, np.sqrt(g2) / SIGMA, 0.5 * g2_dx / g2)
            gap = fixture.law_at(t).score(x) - equilibrium
            values.append(0.5 * (weights * fixture.law_at(t).pdf(x) * g2 * gap**2).sum())
        return np.array(values)

    def check(formula: Production, *, tol: float | None = None, seed: int = 0) -> Verdict:
        routes = (
            rates(negative_divergence, "differences of KL"),
            refined(lambda panels: by_scores(formula, panels), PANELS, "scores"),
            *by_engines(fixture, formula.rate, "production"),
        )
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="entropy production of a relaxation")

    return check


def _path_divergence(fixture: Fixture, panels: int) -> Array:
    """KL between the laws of (X_0, X_T) and of the pair run backward from q_T, by quadrature over (Y_0, noise)."""
    start, end = (fixture.law_at(t) for t in T_SPAN)
    nodes, weights = fixture.nodes(T_SPAN[0], panels)
    noise, noise_weights = np.polynomial.hermite_e.hermegauss(panels)
    factor, variance = fixture.kernel(*T_SPAN)
    before = fixture.inverse(nodes)[:, None]
    after = factor * before + np.sqrt(variance) * noise
    x, z = nodes[:, None], fixture.forward(after)
    logs = start.logpdf(x) - end.logpdf(z) + 0.5 * ((before - factor * after) ** 2 / variance - noise**2)
    # the kernels are those of Y: dx/dy = g/σ at either end
    logs += 0.5 * np.log(fixture.noise(x)[0] / fixture.noise(z)[0])
    return np.asarray((weights * start.pdf(nodes)) @ (logs @ noise_weights) / noise_weights.sum())


def _path_reversal(fixture: Fixture) -> Check:
    """∫ Π dt = KL(path ‖ path of the same dynamics from q_T, run backward) = KL(q_0‖q_∞) - KL(q_T‖q_∞)."""
    law, view = _stationary(fixture), view_of(fixture, fixture.exact)

    def integrated(formula: Production, panels: int) -> Array:
        nodes, weights = np.polynomial.legendre.leggauss(panels)
        middle, half = 0.5 * sum(T_SPAN), 0.5 * (T_SPAN[1] - T_SPAN[0])
        produced = [formula.rate(view(float(t), PANELS, EXACT_TAIL, False)) for t in middle + half * nodes]
        return np.asarray(half * weights @ produced)

    def relative_entropy(t: float) -> Array:
        x, weights = fixture.nodes(t, 2 * PANELS)
        logs = fixture.law_at(t).logpdf(x)
        return np.asarray((weights * np.exp(logs) * (logs - law.logpdf(x))).sum())

    def check(formula: Production, *, tol: float | None = None, seed: int = 0) -> Verdict:
        lost = float(relative_entropy(T_SPAN[0]) - relative_entropy(T_SPAN[1]))
        routes = (
            refined(lambda panels: _path_divergence(fixture, panels), 30, "two-time laws"),
            Estimate(lost, error=1e-10, route="KL lost to the equilibrium"),
            refined(lambda nodes: integrated(formula, nodes), 12, "integrated production"),
        )
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="entropy production and time reversal")

    return check


def _with(**parts: Any) -> Production:
    truth: dict[str, Any] = {
        "rate": lambda q: q.mean(2 * q.v**2 / q.g2),
        "heat": lambda q: q.mean(2 * q.v * (q.f - 0.5 * q.g2_dx) / q.g2),
        "equilibrium": lambda pull, stretch, bend: -pull / stretch - bend,
    }
    return Production(**{**truth, **parts})


_BALANCE, _RELAXATION = ("balance, L = 1", "balance, L = 25"), ("relaxation, L = 1", "relaxation, L = 25")

ENTROPY_PRODUCTION = Identity(
    id="info-entropy-production",
    statement=(
        "Π = E[2 v²/g²] ≥ 0 and Ḣ = Π - E[2 v (f - ½ (g²)')/g²]\n"
        "f, g without t: Π = -d/dt KL(q‖q_∞) = ½ E[g² (s - s_∞)²] and\n"
        "∫ Π dt = KL(path ‖ the same dynamics started from q_T, run backward) = KL(q_0‖q_∞) - KL(q_T‖q_∞)"
    ),
    conditions="Itô, g > 0; no flux at the ends; for the second part one dimension, where q_∞ carries no flux.",
    source="Seifert (2005), on average over paths; Maes & Netočný (2003) for the path run backward",
    routes=(
        "differences in time of the entropy, or of KL(q‖q_∞), of the textbook laws",
        "formula with velocity of the closed form, and of a grid solution (there v = -∂t F/q)",
        "scores of the textbook laws against s_∞",
        "KL of the two-time laws by quadrature over (X_0, X_T)",
    ),
    truth=_with(),
    settings={
        "balance, L = 1": _balance(SINH_1),
        "balance, L = 25": _balance(SINH_25),
        "relaxation, L = 1": _relaxation(SINH_1),
        "relaxation, L = 25": _relaxation(SINH_25),
        "path reversal, L = 1": _path_reversal(SINH_1),
        "path reversal, L = 25": _path_reversal(SINH_25),
    },
    siblings=(
        Sibling("E[v²/g²], the 2 dropped", _with(rate=lambda q: q.mean(q.v**2 / q.g2))),
        Sibling("(g²)' dropped in the heat", _with(heat=lambda q: q.mean(2 * q.v * q.f / q.g2)), only=_BALANCE),
        Sibling(
            "sign of the heat",
            _with(heat=lambda q: -q.mean(2 * q.v * (q.f - 0.5 * q.g2_dx) / q.g2)),
            only=_BALANCE,
        ),
        Sibling("E v², 2/g² dropped", _with(rate=lambda q: q.mean(q.v**2))),
        Sibling(
            "s_∞ of Y without the Jacobian of the map",
            _with(equilibrium=lambda pull, stretch, bend: -pull / stretch),
            only=_RELAXATION,
        ),
    ),
)
