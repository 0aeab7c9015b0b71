"""Identities of the Liouville equation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fpsolve.catalogue.fixtures import SINH_1, SINH_25, T_SPAN, VP8, Fixture, joined, time_derivative, tolerance
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.problem.estimate import Estimate
from fpsolve.verdict.candidate import Candidate, Ingredients
from fpsolve.verdict.checks import check_velocity
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
Rate = Callable[[Array, float], Array]
# (∂t F as a function of (x, t), fixture) -> a velocity, bound by name
Formula = Callable[[Rate, Fixture], Callable[..., Array]]
CUT = -2.4


def _rate_from_left(fixture: Fixture) -> Rate:
    return lambda x, t: time_derivative(lambda u: np.asarray(fixture.law_at(u).cdf(x)), t)[0]


def _rate_from_right(fixture: Fixture) -> Rate:
    return lambda x, t: -time_derivative(lambda u: np.asarray(fixture.law_at(u).sf(x)), t)[0]


def _as_velocity(fixture: Fixture, rate: Callable[[Fixture], Rate]) -> Check:
    def check(formula: Formula, *, tol: float | None = None, seed: int = 0) -> Verdict:
        return check_velocity(fixture.what(tol), formula(rate(fixture), fixture), t_span=T_SPAN, tol=tol, seed=seed)

    return check


def _of_quantiles(fixture: Fixture) -> Check:
    """∂t Q_t(p) = u(Q_t(p), t)."""
    times = (0.2, 0.5, 0.8)

    def check(formula: Formula, *, tol: float | None = None, seed: int = 0) -> Verdict:
        levels, ingredients = np.linspace(0.02, 0.98, 25), Ingredients(fixture.process, fixture.exact, T_SPAN[1])
        velocity = Candidate("velocity", formula(_rate_from_left(fixture), fixture))
        moves = [time_derivative(lambda u: np.asarray(fixture.law_at(u).ppf(levels)), t) for t in times]
        values = np.concatenate([velocity(ingredients, fixture.quantiles(t, 25), t)[0] for t in times])
        return check_equal(
            joined(moves, "motion of quantiles"),
            Estimate(values, error=1e-8 * (1.0 + np.abs(values)), route="velocity from the distribution function"),
            tol=tolerance(tol),
            seed=seed,
            title="quantiles move with the velocity",
        )

    return check


def _truth(rate: Rate, fixture: Fixture) -> Callable[..., Array]:
    return lambda x, t: -rate(x, t) / fixture.law_at(t).pdf(x)


def _with_sign(rate: Rate, fixture: Fixture) -> Callable[..., Array]:
    return lambda x, t: rate(x, t) / fixture.law_at(t).pdf(x)


def _whole_noise(rate: Rate, fixture: Fixture) -> Callable[..., Array]:
    return lambda f, g2, g2_dx, s: f - 0.5 * g2_dx - g2 * s


def _cut_off(rate: Rate, fixture: Fixture) -> Callable[..., Array]:
    return lambda x, t: (rate(np.full_like(x, CUT), t) - rate(x, t)) / fixture.law_at(t).pdf(x)


def _leaking(rate: Rate, fixture: Fixture) -> Callable[..., Array]:
    return lambda x, t: (1e-3 - rate(x, t)) / fixture.law_at(t).pdf(x)


DRIFT_FROM_CDF = Identity(
    id="lv-drift-from-cdf",
    statement=(
        "u = -∂t F/q = ∂t(1 - F)/q is the only velocity with Liouville marginals q and no flux at ±∞\n"
        "it moves the quantiles, ∂t Q_t(p) = u(Q_t(p), t); every other solution of ∂t q = -∂x(u q) is u + c(t)/q"
    ),
    conditions="q > 0 on the line (or between reflecting walls); on a circle c(t) is free.",
    source="Winther et al. (arXiv 2606.31576) eqs. 6-7, integrated once in x",
    routes=(
        "∂t F of the textbook law, from the left tail or from the right, against the closed form and the grid",
        "motion of the quantiles in time",
    ),
    truth=_truth,
    settings={
        "VP8": _as_velocity(VP8, _rate_from_left),
        "VP8, right tail": _as_velocity(VP8, _rate_from_right),
        "L = 1": _as_velocity(SINH_1, _rate_from_left),
        "L = 25": _as_velocity(SINH_25, _rate_from_left),
        "quantiles, L = 1": _of_quantiles(SINH_1),
    },
    siblings=(
        Sibling("sign: +∂t F/q", _with_sign),
        Sibling("g² s for ½ g² s", _whole_noise),
        Sibling(f"F accumulated from x = {CUT}", _cut_off),
        Sibling("u + 1e-3/q, which solves the Liouville equation too", _leaking),
    ),
)
