"""The identity of the equation that the logarithm of a density solves, and its score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fpsolve.catalogue.fixtures import (
    FIELD_TIMES,
    GRID_RTOL,
    SINH_1,
    SINH_25,
    SINH_T,
    Fixture,
    joined,
    time_derivative,
    tolerance,
)
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.catalogue.information import HEAT
from fpsolve.catalogue.lines import POINTS, Coefficients, Rate, on_lines
from fpsolve.problem.differences import differentiate
from fpsolve.problem.estimate import Estimate
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
END = 0.5
LOG_RTOL = 1e-5


@dataclass(frozen=True)
class LogEquation:
    """∂t log q from (coefficients, s, s'), and ∂t s from (coefficients, s, s', s'')."""

    log: Callable[[Coefficients, Array, Array], Array]
    score: Callable[[Coefficients, Array, Array, Array], Array]


def _equation(square: float = 1.0, tilt: float = 1.0) -> LogEquation:
    """The equation with a multiple of s², and of (g²)' s."""

    def log(c: Coefficients, s: Array, s_dx: Array) -> Array:
        return -c.f_dx - c.f * s + 0.5 * c.g2_dxx + tilt * c.g2_dx * s + 0.5 * c.g2 * (s_dx + square * s**2)

    def score(c: Coefficients, s: Array, s_dx: Array, s_dxx: Array) -> Array:
        moved = -c.f_dxx - c.f_dx * s - c.f * s_dx + tilt * (c.g2_dxx * s + c.g2_dx * s_dx)
        return moved + 0.5 * c.g2_dx * (s_dx + square * s**2) + 0.5 * c.g2 * (s_dxx + 2.0 * square * s * s_dx)

    return LogEquation(log, score)


_EQUATION = _equation()


def _with_log(log: Callable[[Coefficients, Array, Array], Array]) -> LogEquation:
    return LogEquation(log, _EQUATION.score)


def _with_score(score: Callable[[Coefficients, Array, Array, Array], Array]) -> LogEquation:
    return LogEquation(_EQUATION.log, score)


def _rates(fixture: Fixture, name: str) -> Estimate:
    """Differences in time of the textbook's log q, or of its score."""
    parts = []
    for t in FIELD_TIMES:
        x = fixture.quantiles(t, 25)
        parts.append(time_derivative(lambda u, x=x: getattr(fixture.law_at(u), name)(x), t))  # type: ignore[misc]
    return joined(parts, f"differences of the {name} in time")


def _formula_for_log(fixture: Fixture, equation: LogEquation, t: float) -> tuple[Array, Array]:
    x, c = fixture.quantiles(t, 25), Coefficients.of(fixture, fixture.quantiles(t, 25), t)
    s = fixture.exact.score(x, t)
    s_dx, error = differentiate(lambda y: fixture.exact.score(y, t), x, length=0.3)
    rate = equation.log(c, s, s_dx)
    return rate, c.g2 * error + 1e-9 * (1.0 + np.abs(rate))


def _formula_for_score(fixture: Fixture, equation: LogEquation, t: float) -> tuple[Array, Array]:
    x, c = fixture.quantiles(t, 25), Coefficients.of(fixture, fixture.quantiles(t, 25), t)
    s = fixture.exact.score(x, t)
    (s_dx, error), (s_dxx, error_2) = (
        differentiate(lambda y: fixture.exact.score(y, t), x, order=k, length=0.3) for k in (1, 2)
    )
    rate = equation.score(c, s, s_dx, s_dxx)
    weight = np.abs(c.f) + 1.5 * np.abs(c.g2_dx) + c.g2 * np.abs(s)
    return rate, weight * error + c.g2 * error_2 + 1e-7 * (1.0 + np.abs(rate))


_FORMULAS = {"logpdf": _formula_for_log, "score": _formula_for_score}


def _pointwise(fixture: Fixture, name: str) -> Check:
    def check(equation: LogEquation, *, tol: float | None = None, seed: int = 0) -> Verdict:
        formula = [_FORMULAS[name](fixture, equation, t) for t in FIELD_TIMES]
        routes = _rates(fixture, name), joined(formula, "formula on the closed form")
        size = 1.0 if name == "logpdf" else None  # log q in nats
        return check_equal(*routes, tol=tolerance(tol), scale=size, seed=seed, title=f"equation of the {name}")

    return check


def _solved(fixture: Fixture) -> Check:
    """log q at the end, by the equation on lines, and by both engines that solve for densities."""
    x = fixture.forward(POINTS)

    def check(equation: LogEquation, *, tol: float | None = None, seed: int = 0) -> Verdict:
        def on_nodes(y: Array) -> Rate:
            c = Coefficients.of(fixture, y, 0.0)
            return lambda t, u, s, s_dx: equation.log(c, s, s_dx)

        engine = fixture.of_log_density(END, LOG_RTOL).with_error("logpdf", x, 0.0)
        density, error = fixture.on_grid((END,), GRID_RTOL).with_error("pdf", x, END)
        return check_equal(
            Estimate(fixture.law_at(END).logpdf(x), error=1e-11, route="textbook law"),
            on_lines(fixture, on_nodes, fixture.law_at(0.0).logpdf, END, "equation of log q on lines"),
            Estimate(engine[0], error=engine[1], route="engine of log q"),
            Estimate(np.log(density), error=error / density, route="logarithm of the grid density"),
            tol=tolerance(tol),
            scale=1.0,
            seed=seed,
            title="log q solved directly",
        )

    return check


_LOGS = ("log q, L = 1", "log q, L = 25", "log q, g(x, t)")
_SCORES = ("score, L = 1", "score, L = 25", "score, g(x, t)", "score, heat flow")
_SOLVED = ("solved, L = 1", "solved, L = 25")
_NO_BURGERS = _SCORES[:3]

LOG_DENSITY = Identity(
    id="fp-log-density-score-pde",
    statement=(
        "∂t log q = -f' - f s + ½ (g²)'' + (g²)' s + ½ g² (s' + s²), and ∂t s is ∂x of that;\n"
        "without drift and with noise g(t) it is Burgers' equation ∂t s = ½ g² (s'' + 2 s s')"
    ),
    conditions="q > 0; f', (g²)'' continuous, for s one derivative more. log q in nats.",
    source="Cole (1951), Hopf (1950); the logarithm of Winther et al. (arXiv 2606.31576) eqs. 5-7",
    routes=(
        "differences in time of log q, or of its score, in the textbook's law",
        "formula with the score of the closed form and its derivatives",
        "the equation solved by the method of lines, by the engine of log q, and log q of a grid density",
    ),
    truth=_EQUATION,
    settings={
        _LOGS[0]: _pointwise(SINH_1, "logpdf"),
        _LOGS[1]: _pointwise(SINH_25, "logpdf"),
        _LOGS[2]: _pointwise(SINH_T, "logpdf"),
        _SCORES[0]: _pointwise(SINH_1, "score"),
        _SCORES[1]: _pointwise(SINH_25, "score"),
        _SCORES[2]: _pointwise(SINH_T, "score"),
        _SCORES[3]: _pointwise(HEAT, "score"),
        _SOLVED[0]: _solved(SINH_1),
        _SOLVED[1]: _solved(SINH_25),
    },
    siblings=(
        Sibling("s² dropped", _equation(square=0.0)),
        Sibling("s s' for 2 s s': ½ s²", _equation(square=0.5)),
        Sibling("½ (g²)' s", _equation(tilt=0.5), only=(*_LOGS, *_NO_BURGERS, *_SOLVED)),
        Sibling(
            "½ (g²)'' dropped",
            _with_log(lambda c, s, s_dx: _EQUATION.log(c, s, s_dx) - 0.5 * c.g2_dxx),
            only=(*_LOGS, *_SOLVED),
        ),
        Sibling(
            "½ dropped: g² (s' + s²)",
            _with_log(lambda c, s, s_dx: _EQUATION.log(c, s, s_dx) + 0.5 * c.g2 * (s_dx + s**2)),
            only=_LOGS,
        ),
        Sibling(
            "g² taken out of ∂x in ∂t s",
            _with_score(lambda c, s, s_dx, s_dxx: _EQUATION.score(c, s, s_dx, s_dxx) - 0.5 * c.g2_dx * (s_dx + s**2)),
            only=_NO_BURGERS,
        ),
        Sibling(
            "f' s dropped in ∂t s",
            _with_score(lambda c, s, s_dx, s_dxx: _EQUATION.score(c, s, s_dx, s_dxx) + c.f_dx * s),
            only=_NO_BURGERS,
        ),
    ),
)
