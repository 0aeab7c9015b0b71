"""Identities of the probability flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fpsolve.catalogue.fixtures import SINH_1, SINH_25, T_SPAN, VP8, VP20, Fixture, refined, tolerance
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.particles.flow import flow_map
from fpsolve.problem.differences import differentiate
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.process import ODE, SDE
from fpsolve.verdict.checks import check_reverse, check_velocity
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.marginals import check_drift
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray


def _velocity(fixture: Fixture) -> Check:
    def check(formula: Callable[..., Array], *, tol: float | None = None, seed: int = 0) -> Verdict:
        return check_velocity(fixture.what(tol), formula, t_span=T_SPAN, tol=tol, seed=seed)

    return check


VELOCITY = Identity(
    id="pf-velocity",
    statement="v = f - ½ (g²)' - ½ g² s = -∂t F/q: the flow ẋ = v has the marginals of dX = f dt + g dW",
    conditions="Itô; q > 0; no flux at the ends.",
    source="Winther et al. (arXiv 2606.31576) eqs. 11-20; Ranganath & Singhal (arXiv 2605.06829) Prop. 3",
    routes=("formula against -∂t F/q, closed form", "the same on a grid solution"),
    truth=lambda f, g2, g2_dx, s: f - 0.5 * g2_dx - 0.5 * g2 * s,
    settings={"L = 1": _velocity(SINH_1), "L = 25": _velocity(SINH_25)},
    siblings=(
        Sibling("g² s for ½ g² s", lambda f, g2, g2_dx, s: f - 0.5 * g2_dx - g2 * s),
        Sibling("½ (g²)' dropped", lambda f, g2, s: f - 0.5 * g2 * s),
        Sibling("(g²)' for ½ (g²)'", lambda f, g2, g2_dx, s: f - g2_dx - 0.5 * g2 * s),
        Sibling("½ g g' for g g'", lambda f, g2, g2_dx, s: f - 0.25 * g2_dx - 0.5 * g2 * s),
    ),
)


# (±v, s, γ², (γ²)') -> drift; the current v changes its sign with the clock
Member = Callable[[Any, Any, Any, Any], Any]
Level = Callable[[Array], tuple[Array, Array]]


def _wavy(x: Array) -> tuple[Array, Array]:
    """γ² and (γ²)' of γ = .6 + .3 sin 2x."""
    gamma = 0.6 + 0.3 * np.sin(2 * x)
    return gamma**2, 1.2 * gamma * np.cos(2 * x)


def _nearly_constant(x: Array) -> tuple[Array, Array]:
    """γ² and (γ²)' of γ² = .36 (1 + .002 sin 2x)."""
    return 0.36 * (1 + 0.002 * np.sin(2 * x)), 0.36 * 0.004 * np.cos(2 * x)


def _process(fixture: Fixture, member: Member, level: Level, *, forward: bool) -> SDE:
    """Member of the family as a process in its own clock, with the textbook velocity and score."""
    sign = 1.0 if forward else -1.0

    def drift(x: Array, t: float) -> Array:
        u = float(t) if forward else T_SPAN[1] - float(t)
        g2, g2_dx = level(x)
        return member(sign * fixture.velocity(x, u), fixture.law_at(u).score(x), g2, g2_dx)

    return SDE(drift, lambda x: np.sqrt(level(x)[0]))


def _forward_member(fixture: Fixture, level: Level) -> Check:
    def check(member: Member, *, tol: float | None = None, seed: int = 0) -> Verdict:
        candidate = _process(fixture, member, level, forward=True)
        return check_drift(fixture.what(tol), candidate, t_span=T_SPAN, tol=tol, seed=seed)

    return check


def _backward_member(fixture: Fixture, level: Level) -> Check:
    def check(member: Member, *, tol: float | None = None, seed: int = 0) -> Verdict:
        candidate = _process(fixture, member, level, forward=False)
        return check_reverse(fixture.what(tol), candidate, law="marginals", t_span=T_SPAN, tol=tol, seed=seed)

    return check


MARGINAL_FAMILY = Identity(
    id="pf-marginal-family",
    statement=(
        "for every noise level γ(x, t) ≥ 0 the processes\n"
        "dX = [v + ½ (γ²)' + ½ γ² s] dt + γ dW and, with τ = T - t, dY = [-v + ½ (γ²)' + ½ γ² s] dτ + γ dB\n"
        "have the marginals q_t; γ = g gives f and Anderson's drift, γ = 0 the flow"
    ),
    conditions="q > 0; in one dimension the drift is unique for given marginals and γ.",
    source="Winther et al. (arXiv 2606.31576) eqs. 11-20",
    routes=(
        "flux of the member, made from the textbook velocity and score, against -∂t F of the closed form",
        "the same against a grid solution",
        "in the forward and in the reversed clock",
    ),
    truth=lambda v, s, g2, g2_dx: v + 0.5 * g2_dx + 0.5 * g2 * s,
    settings={
        "γ = .6 + .3 sin 2x": _forward_member(VP8, _wavy),
        "γ² = .36 (1 + .002 sin 2x)": _forward_member(VP8, _nearly_constant),
        "γ = .6 + .3 sin 2x, reversed, L = 1": _backward_member(SINH_1, _wavy),
        "γ² = .36 (1 + .002 sin 2x), reversed, L = 25": _backward_member(SINH_25, _nearly_constant),
    },
    siblings=(
        Sibling("½ (γ²)' dropped", lambda v, s, g2, g2_dx: v + 0.5 * g2 * s),
        Sibling("γ² s for ½ γ² s", lambda v, s, g2, g2_dx: v + 0.5 * g2_dx + g2 * s),
        Sibling("sign: - ½ (γ²)' - ½ γ² s", lambda v, s, g2, g2_dx: v - 0.5 * g2_dx - 0.5 * g2 * s),
    ),
)


# (f', (g²)', (g²)'', g², s, s') -> v'
Divergence = Callable[[Any, Any, Any, Any, Any, Any], Any]
_LEVELS = np.linspace(0.01, 0.99, 25)


def _along_quantiles(fixture: Fixture, divergence: Divergence, nodes: int) -> Estimate:
    """log q_T(x_T) + ∫ v' dt with x_t = Q_t(p): a flow on the line keeps F, so that no velocity is needed."""
    p = fixture.process

    def rate(t: float) -> Array:
        law = fixture.law_at(t)
        x = np.asarray(law.ppf(_LEVELS))
        s_dx = differentiate(law.score, x, length=0.3)[0]
        g2, g2_dx, g2_dxx = p.diffusion_squared(x, t), p.diffusion_squared_dx(x, t), p.diffusion_squared_dx(x, t, 2)
        return divergence(p.drift_dx(x, t), g2_dx, g2_dxx, g2, law.score(x), s_dx)

    def total(n: int) -> Array:
        t, weights = np.polynomial.legendre.leggauss(n)
        rates = [0.5 * w * rate(0.5 * (1.0 + u)) for u, w in zip(t, weights, strict=True)]
        end = fixture.law_at(T_SPAN[1])
        return np.asarray(end.logpdf(end.ppf(_LEVELS))) + np.sum(rates, axis=0)

    value = refined(total, nodes, "divergence along quantiles")
    return Estimate(value.value, error=value.error + 1e-8, route=value.route)


def _by_flow_map(fixture: Fixture) -> Estimate:
    """log q_T(x_T) + log dx_T/dx_0 along the textbook velocity, its divergence by differences."""
    start, end = (fixture.law_at(t) for t in T_SPAN)
    flow = flow_map(ODE(lambda x, t: fixture.velocity(x, t)), start.ppf(_LEVELS), T_SPAN, rtol=1e-8, log_det=True)
    error = np.abs(end.score(flow.x)) * flow.error + np.asarray(flow.log_det_error)
    return Estimate(end.logpdf(flow.x) + flow.log_det, error=error + 1e-9, route="flow map")


def _log_data(fixture: Fixture) -> Estimate:
    law = fixture.law_at(T_SPAN[0])
    return Estimate(law.logpdf(law.ppf(_LEVELS)), error=1e-11, route="log density of the data")


def _likelihood(fixture: Fixture, nodes: int) -> Check:
    def check(divergence: Divergence, *, tol: float | None = None, seed: int = 0) -> Verdict:
        routes = _log_data(fixture), _along_quantiles(fixture, divergence, nodes), _by_flow_map(fixture)
        # in nats
        return check_equal(*routes, tol=tolerance(tol), scale=1.0, seed=seed, title="likelihood by the flow")

    return check


LIKELIHOOD = Identity(
    id="pf-likelihood",
    statement=(
        "log q_0(x_0) = log q_T(x_T) + ∫ v'(x_t, t) dt along ẋ = v\nwith v' = f' - ½ (g²)'' - ½ (g²)' s - ½ g² s'"
    ),
    conditions="v Lipschitz in x; discrepancies are in nats. VP is blind to the terms in (g²)' and (g²)''.",
    source="Chen et al. (2018), instantaneous change of variables; Winther et al. (arXiv 2606.31576) eqs. 23-24",
    routes=(
        "closed log density of the data",
        "v' of the formula integrated along the quantiles of the textbook laws, which the flow carries along",
        "flow map of the textbook velocity, log-determinant by differences",
    ),
    truth=lambda f_dx, g2_dx, g2_dxx, g2, s, s_dx: f_dx - 0.5 * g2_dxx - 0.5 * g2_dx * s - 0.5 * g2 * s_dx,
    settings={"VP20": _likelihood(VP20, 36), "L = 1": _likelihood(SINH_1, 14), "L = 25": _likelihood(SINH_25, 14)},
    siblings=(
        Sibling(
            "sign of the divergence",
            lambda f_dx, g2_dx, g2_dxx, g2, s, s_dx: -(f_dx - 0.5 * g2_dxx - 0.5 * g2_dx * s - 0.5 * g2 * s_dx),
        ),
        Sibling("f' omitted", lambda f_dx, g2_dx, g2_dxx, g2, s, s_dx: -0.5 * (g2_dxx + g2_dx * s + g2 * s_dx)),
        Sibling(
            "½ (g²)'' dropped",
            lambda f_dx, g2_dx, g2_dxx, g2, s, s_dx: f_dx - 0.5 * g2_dx * s - 0.5 * g2 * s_dx,
            below_tolerance={"VP20": 0.0},
        ),
    ),
)
