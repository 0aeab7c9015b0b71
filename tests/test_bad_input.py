"""Bad input: each message says the rule that was broken, the value that broke it, and the fix."""

import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import fpsolve as fps
from fpsolve.errors import check_choice, check_number, describe

OU = fps.processes.ou()
NORMAL = fps.Normal(0, 1)
SPAN = (0, 1)
WALLED = fps.SDE(0.0, 1.0, support=(0, np.inf), boundary="absorbing")
GAUSSIAN = fps.path(lambda x, t: -0.5 * (x - t) ** 2 - 0.5 * np.log(2 * np.pi), t_span=SPAN)


def raising(x: Any) -> Any:
    raise ZeroDivisionError("by zero")


def solve(process: Any = OU, q0: Any = NORMAL, t_span: Any = SPAN, **options: Any) -> Any:
    return fps.solve_fokker_planck(process, q0, t_span, **options)


def simulate(process: Any = OU, start: Any = NORMAL, t_span: Any = SPAN, **options: Any) -> Any:
    return fps.simulate(process, start, t_span, **{"n_paths": 16, "n_steps": 4} | options)


def check(what: Any = (OU, NORMAL), candidate: Any = 0.0, **options: Any) -> Any:
    return fps.check_score(what, candidate, **{"t_span": SPAN} | options)


class Case(NamedTuple):
    """One piece of bad input: what raises, the kind of exception, and words of rule, value and fix."""

    call: Callable[[], Any]
    kind: type[fps.InputError]
    rule: str
    value: str
    fix: str


CASES = {
    # coefficients
    "wrong shape": Case(
        lambda: fps.SDE(lambda x: np.ones(3), 1.0),
        fps.CoefficientError,
        "the drift must return one value per point",
        "shape (3,) for x of shape (7,)",
        "return an array shaped like x",
    ),
    "extra axis": Case(
        lambda: fps.SDE(0.0, lambda x: x[:, None]),
        fps.CoefficientError,
        "the diffusion must return one value per point",
        "shape (7, 1)",
        "return an array shaped like x",
    ),
    "complex": Case(
        lambda: fps.ODE(lambda x: 1j * x),
        fps.CoefficientError,
        "the velocity must return real numbers",
        "complex128",
        "float array",
    ),
    "raises": Case(
        lambda: fps.SDE(raising, 1.0),
        fps.CoefficientError,
        "the drift must not raise",
        "ZeroDivisionError: by zero (for an array x",
        "make it return one value per point",
    ),
    "nan": Case(
        lambda: fps.SDE(lambda x: np.where(x > 0, np.nan, x), 1.0),
        fps.CoefficientError,
        "the drift must be finite on the support",
        "nan at x=0.408, t=0.37",
        "declare support= without that point",
    ),
    "nan number": Case(
        lambda: fps.SDE(np.nan, 1.0), fps.CoefficientError, "the drift must be finite", "nan", "finite number"
    ),
    "neighbours": Case(
        lambda: fps.SDE(lambda x: x - x.mean(), 1.0),
        fps.CoefficientError,
        "the drift must treat every point by itself",
        "values that change when points are reordered",
        "do not use means, sums, sorting or neighbours",
    ),
    "not callable": Case(
        lambda: fps.SDE("x", 1.0),
        fps.CoefficientError,
        "a number or a callable with named arguments",
        "'x'",
        "lambda x, t: -x",
    ),
    "star arguments": Case(
        lambda: fps.SDE(lambda *args: args[0], 1.0),
        fps.CoefficientError,
        "a callable with named arguments",
        "<function",
        "wrap it: lambda x, t: fn(x, t)",
    ),
    "unknown argument": Case(
        lambda: fps.SDE(lambda x, k: k * x, 1.0), fps.UnknownName, "must be among x, t", "'k'", "pass params={'k': ...}"
    ),
    "unused parameter": Case(
        lambda: fps.SDE(lambda x, k: k * x, 1.0, params={"k": 1.0, "sigma": 2.0}),
        fps.UnknownName,
        "a parameter must be one of k",
        "'sigma'",
        "use one of the known names",
    ),
    "unknown parameter": Case(
        lambda: fps.SDE(lambda x, kappa: kappa * x, 1.0, params={"kappa": 1.0}).with_params(kapa=2.0),
        fps.UnknownName,
        "a parameter must be one of kappa",
        "'kapa'",
        "did you mean 'kappa'",
    ),
    "parameter without number": Case(
        lambda: fps.SDE(lambda x, k: k * x, 1.0, params={"k": "fast"}),
        fps.InputError,
        "parameter k must be a finite number",
        "'fast'",
        "give parameter k as one number",
    ),
    # processes
    "boundary": Case(
        lambda: fps.SDE(0.0, 1.0, support=(0, 1), boundary="reflectin"),
        fps.UnknownName,
        "boundary must be one of absorbing, natural, periodic, reflecting",
        "'reflectin'",
        "did you mean 'reflecting'",
    ),
    "three boundaries": Case(
        lambda: fps.SDE(0.0, 1.0, support=(0, 1), boundary=("absorbing",) * 3),
        fps.InputError,
        "boundary must be one name or a pair",
        "('absorbing', 'absorbing', 'absorbing')",
        "name each side",
    ),
    "boundary of no kind": Case(
        lambda: fps.SDE(0.0, 1.0, support=(0, 1), boundary=3),
        fps.InputError,
        "one name or a pair",
        "3",
        "name each side",
    ),
    "half periodic": Case(
        lambda: fps.SDE(0.0, 1.0, support=(0, 1), boundary=("periodic", "absorbing")),
        fps.InputError,
        "a periodic boundary joins two finite ends",
        "('periodic', 'absorbing')",
        'boundary="periodic"',
    ),
    "periodic at infinity": Case(
        lambda: fps.SDE(0.0, 1.0, boundary="periodic"),
        fps.InputError,
        "joins two finite ends",
        "(-inf, inf)",
        "finite support",
    ),
    "reflecting at infinity": Case(
        lambda: fps.SDE(0.0, 1.0, boundary=("reflecting", "natural")),
        fps.InputError,
        "reflecting needs a finite end",
        "(-inf, inf)",
        "a finite left end",
    ),
    "reached natural end": Case(
        lambda: fps.SDE(lambda x: 0.2 - x, lambda x: np.sqrt(x), support=(0, np.inf)),
        fps.InputError,
        "a natural boundary needs an end that the process cannot reach",
        "the left end 0, which it reaches",
        "one of reflecting, absorbing, periodic",
    ),
    "calculus": Case(
        lambda: fps.SDE(0.0, 1.0, calculus="itô"),
        fps.UnknownName,
        "calculus must be one of",
        "'itô'",
        "did you mean 'ito'",
    ),
    "support": Case(
        lambda: fps.SDE(0.0, 1.0, support=(1, 0)), fps.InputError, "left < right", "(1, 0)", "swap the ends"
    ),
    "support of one number": Case(
        lambda: fps.SDE(0.0, 1.0, support=1), fps.InputError, "a pair (left, right)", "1", "support=(0,"
    ),
    # times
    "reversed span": Case(lambda: solve(t_span=(1, 0)), fps.InputError, "with t0 < t1", "(1, 0)", "p.reverse(q)"),
    "empty span": Case(lambda: solve(t_span=(1, 1)), fps.InputError, "with t0 < t1", "(1, 1)", "give it some length"),
    "infinite span": Case(
        lambda: simulate(t_span=(0, np.inf)), fps.InputError, "finite numbers", "inf", "use finite times"
    ),
    "span of one number": Case(
        lambda: check(t_span=1.0), fps.InputError, "t_span must be a pair", "1", "t_span=(0, 1)"
    ),
    "span of three": Case(
        lambda: solve(t_span=(0, 1, 2)), fps.InputError, "t_span must be a pair", "(0, 1, 2)", "t_span=(0, 1)"
    ),
    "reversed span of a closed form": Case(
        lambda: fps.exact_evolution(OU, NORMAL, (1, 0)), fps.InputError, "with t0 < t1", "(1, 0)", "p.reverse(q)"
    ),
    "no span": Case(
        lambda: check(t_span=None), fps.InputError, "needs the span of time", "None", "give t_span=(t0, t1)"
    ),
    "time outside": Case(
        lambda: GAUSSIAN.pdf(0.0, 1.5), fps.InputError, "t must lie within [0, 1]", "1.5", "solve over a longer one"
    ),
    "times outside": Case(
        lambda: check(times=[0.5, 2.0]),
        fps.InputError,
        "times must be increasing finite times within [0, 1]",
        "2",
        "ask inside",
    ),
    "saved times outside": Case(
        lambda: solve(t_eval=[0.5, 1.1]),
        fps.InputError,
        "t_eval must be increasing finite times within [0, 1]",
        "1.1",
        "ask inside",
    ),
    "unsorted times": Case(
        lambda: check(times=[0.5, 0.2]), fps.InputError, "increasing", "[0.5, 0.2]", "sort the times"
    ),
    "time that is no number": Case(
        lambda: GAUSSIAN.pdf(0.0, [0.5]), fps.InputError, "t must be a finite number", "[0.5]", "give t as one number"
    ),
    # laws
    "weights": Case(
        lambda: fps.GaussianMixture([0.5, 0.6], [0, 1], [1, 1]),
        fps.InputError,
        "weights must sum to one",
        "1.1",
        "divide",
    ),
    "negative weight": Case(
        lambda: fps.GaussianMixture([1.5, -0.5], [0, 1], [1, 1]),
        fps.InputError,
        "weights must not be negative",
        "-0.5",
        "drop or correct",
    ),
    "negative std": Case(lambda: fps.Normal(0, -1), fps.InputError, "std must be", "-1", "give"),
    "negative stds": Case(
        lambda: fps.GaussianMixture([0.5, 0.5], [0, 1], [1, -1]),
        fps.InputError,
        "stds must be positive",
        "-1",
        "use a positive width",
    ),
    "not normalised": Case(
        lambda: fps.Density(lambda x: -0.5 * x**2),
        fps.DensityError,
        "a density must integrate to one within 1e-8",
        "2.5066",
        "Unnormalized",
    ),
    "path not normalised": Case(
        lambda: fps.path(lambda x, t: -0.5 * x**2 - 0.9189385332046727 + t, t_span=SPAN),
        fps.DensityError,
        "a density must integrate to one within 1e-8",
        "an integral of 1.6487",
        "correct the constant",
    ),
    "grid misses the mass": Case(
        lambda: solve(grid=fps.Grid(4, 8, 64)),
        fps.DensityError,
        "a grid must hold the initial law",
        "outside [4, 8]",
        "covers [-7.03",
    ),
    "grid short of a wall": Case(
        lambda: solve(WALLED, fps.Normal(5, 0.3), grid=fps.Grid(1, 12, 64)),
        fps.InputError,
        "a grid must reach the end of the support that is absorbing",
        "(1.0, 12.0)",
        "let it end at 0",
    ),
    "grid beyond a wall": Case(
        lambda: solve(WALLED, fps.Normal(5, 0.3), grid=fps.Grid(-1, 12, 64)),
        fps.InputError,
        "a grid must lie within the support [0, inf]",
        "(-1.0, 12.0)",
        "cut the grid",
    ),
    "grid that stands still": Case(
        lambda: solve(
            fps.SDE(0.0, 1.0, support=(lambda t: t, np.inf), boundary="absorbing"),
            fps.Normal(5, 0.3),
            grid=fps.Grid(0, 12, 64),
        ),
        fps.InputError,
        "this process has a moving wall",
        "Grid(",
        "leave grid= out",
    ),
    "grid that is a pair": Case(
        lambda: solve(grid=(-8, 8)), fps.InputError, "grid must be a Grid", "(-8, 8)", "fps.Grid(-8, 8, 400)"
    ),
    "grid that misses an atom": Case(
        lambda: solve(q0=fps.PointMass(9.0), grid=fps.Grid(-6, 6, 100)),
        fps.DensityError,
        "a grid must hold the initial law",
        "outside [-6, 6]",
        "leave grid= out",
    ),
    "atom outside the support": Case(
        lambda: solve(WALLED, fps.Empirical([0.5, -1.0])),
        fps.DensityError,
        "q0 must lie within the support",
        "mass 0.5 outside (0, inf)",
        "truncate or move q0",
    ),
    "atom on a wall": Case(
        lambda: solve(WALLED, fps.PointMass(0.0)),
        fps.DensityError,
        "q0 must lie within the support",
        "mass 1 outside (0, inf)",
        "truncate or move q0",
    ),
    "density over a wall": Case(
        lambda: solve(WALLED, NORMAL),
        fps.DensityError,
        "q0 must lie within the support",
        "mass 0.5 outside (0, inf)",
        "truncate or move q0",
    ),
    "atom without noise": Case(
        lambda: solve(fps.SDE(lambda x: -x, lambda x: x), fps.PointMass(0.0)),
        fps.DensityError,
        "atoms need noise to become a density",
        "g = 0 at one of",
        "start from a density",
    ),
    "drift that is nan far out": Case(
        lambda: solve(fps.SDE(lambda x: np.where(x > 3.3, np.nan, -x), 1.0)),
        fps.CoefficientError,
        "the drift must be finite on the support",
        "nan at x=3.",
        "declare support= without that point",
    ),
    "noise that is nan later": Case(
        lambda: solve(fps.SDE(0.0, lambda t: np.where(t > 0.5, np.nan, 1.0))),
        fps.CoefficientError,
        "the diffusion must be finite",
        "t=0.5",
        "correct it there",
    ),
    "too many turns for the robust scheme": Case(
        lambda: solve(fps.SDE(60.0, 0.1, support=(0, 1), boundary="periodic"), fps.PointMass(0.5), scheme="robust"),
        fps.InputError,
        "the robust scheme needs a cell and a step for each small part of a turn round a ring",
        "60 turns, 1188 cells by 71064 steps",
        "use order-8, or a shorter span",
    ),
    "sample as law": Case(
        lambda: solve(q0=np.random.default_rng(0).normal(size=50)),
        fps.InputError,
        "q0 must be a law",
        "shape (50,)",
        "KDE",
    ),
    "list as law": Case(
        lambda: check(what=(OU, [1.0, 2.0])), fps.InputError, "q0 must be a law", "a list", "fps.Empirical(samples)"
    ),
    "sample as start": Case(
        lambda: simulate(start=np.zeros(50)), fps.InputError, "start must be a law", "shape (50,)", "fps.KDE(samples)"
    ),
    "text as law": Case(lambda: solve(q0="normal"), fps.InputError, "q0 must be a law", "'normal'", "fps.Normal(0, 1)"),
    # schemes and grids
    "grid scheme": Case(
        lambda: solve(scheme="robus"), fps.UnknownName, "scheme must be one of", "'robus'", "did you mean"
    ),
    "particle scheme": Case(
        lambda: simulate(scheme="euler-marujama"),
        fps.UnknownName,
        "scheme must be one of",
        "'euler-marujama'",
        "euler-maruyama",
    ),
    "grid ends": Case(
        lambda: fps.Grid(1, 0, 64), fps.InputError, "a grid needs left < right", "(1.0, 0.0)", "swap the ends"
    ),
    "few cells": Case(
        lambda: fps.Grid(0, 1, 4), fps.InputError, "cells must be a whole number of at least 8", "4", "int"
    ),
    "rtol": Case(lambda: solve(rtol=-1.0), fps.InputError, "rtol must be", "-1", "give rtol"),
    "no paths": Case(
        lambda: simulate(n_paths=0), fps.InputError, "n_paths must be a whole number", "0", "give n_paths"
    ),
    "seed": Case(lambda: simulate(rng=-1), fps.InputError, "rng must be a non-negative int", "-1", "rng=0"),
    # checks
    "no pair": Case(
        lambda: check(what=OU),
        fps.InputError,
        "an Evolution or a pair (process, q0)",
        "SDE(",
        "(sde, fps.Normal(0, 1))",
    ),
    "unknown field": Case(
        lambda: check(candidate=lambda x, sigma: x),
        fps.UnknownName,
        "must be among x, t, tau, f,",
        "'sigma'",
        "rename it",
    ),
    "field that a path does not know": Case(
        lambda: fps.check_score(GAUSSIAN, lambda g2: g2),
        fps.InputError,
        "names g2",
        "'g2'",
        "pass the pair (process, q0)",
    ),
    "candidate shape": Case(
        lambda: check(candidate=lambda x: np.ones(3)),
        fps.CoefficientError,
        "the score must return one value per point",
        "(3,)",
        "array",
    ),
    "candidate nowhere finite": Case(
        lambda: check(candidate=lambda x: np.nan * x),
        fps.CoefficientError,
        "finite somewhere",
        "nan",
        "by hand at one point",
    ),
    "tolerance": Case(
        lambda: check(tol=0.0), fps.InputError, "tol must be a finite number above 0", "0", "within these limits"
    ),
    "scale": Case(
        lambda: check(scale=-1.0), fps.InputError, "scale must be a finite number above 0", "-1", "within these limits"
    ),
    "budget": Case(
        lambda: check(budget=0), fps.InputError, "budget must be a finite number above 0", "0", "within these limits"
    ),
    "region": Case(lambda: check(region=(1, -1)), fps.InputError, "region must be a pair", "(1, -1)", "in this order"),
    "region of one number": Case(
        lambda: check(region=2), fps.InputError, "region must be a pair", "2", "region=(-2, 2)"
    ),
    "clock": Case(
        lambda: fps.check_reverse((OU, NORMAL), 0.0, t_span=SPAN, clock="sideways"),
        fps.UnknownName,
        "clock must be one of forward, reversed",
        "'sideways'",
        "use one of the known names",
    ),
    "law of a reversal": Case(
        lambda: fps.check_reverse((OU, NORMAL), 0.0, t_span=SPAN, law="marginal"),
        fps.UnknownName,
        "law must be one of marginals, path",
        "'marginal'",
        "did you mean 'marginals'",
    ),
    "reversal of a path": Case(
        lambda: fps.check_reverse(GAUSSIAN, 0.0),
        fps.InputError,
        "a reversal needs the process",
        "LogDensityPath",
        "pair",
    ),
    "no process": Case(
        lambda: fps.check_drift(GAUSSIAN, lambda x: x),
        fps.InputError,
        "the candidate must be a process",
        "<function",
        "fps.SDE(drift",
    ),
    "noise in a velocity": Case(
        lambda: fps.check_velocity(GAUSSIAN, fps.SDE(1.0, 1.0)),
        fps.InputError,
        "a velocity has no noise",
        "SDE(",
        "fps.check_drift",
    ),
    "bare float": Case(
        lambda: fps.check_equal(1.0, fps.exact(1.0)),
        fps.InputError,
        "a route must be an Estimate",
        "1",
        "fps.exact(...)",
    ),
    "one route": Case(
        lambda: fps.check_equal(fps.exact(1.0)), fps.InputError, "at least two routes", "1", "another route"
    ),
    "vanishing quantity": Case(
        lambda: fps.check_equal(fps.exact(0.0), fps.exact(0.0)),
        fps.InputError,
        "no size to compare with",
        "0",
        "give scale=",
    ),
    "vanishing field": Case(
        lambda: fps.check_velocity((OU, NORMAL), 0.0, t_span=SPAN),
        fps.InputError,
        "the velocity vanishes at t=0.1",
        "e-",
        "give scale=",
    ),
    "shapes of routes": Case(
        lambda: fps.check_equal(fps.exact([1.0, 2.0]), fps.exact(1.0)),
        fps.InputError,
        "must have one shape",
        "(2,)",
        "like with like",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_message_has_rule_value_and_fix(name: str) -> None:
    case = CASES[name]
    with pytest.raises(case.kind) as caught:
        case.call()
    error, text = caught.value, str(caught.value)
    assert case.rule in error.rule
    assert case.value in describe(error.value)
    assert case.fix in error.fix
    assert text == f"{error.rule}; got {describe(error.value)}. Fix: {error.fix}."
    assert len(text) < 500
    assert "\n" not in text


def test_exceptions_survive_a_process_boundary() -> None:
    error = fps.CoefficientError("a rule", 3.0, "a fix")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.rule) == (type(error), str(error), "a rule")


@pytest.mark.parametrize("value", [True, "1", None, np.nan, np.inf, [1.0], 1j])
def test_what_is_not_a_number(value: Any) -> None:
    with pytest.raises(fps.InputError, match="speed must be a finite number above 0 below 2"):
        check_number("speed", value, above=0.0, below=2.0)


@pytest.mark.parametrize(
    ("value", "closest"), [("reflect", "'reflecting'"), ("Natural", "'natural'"), ("xyz", "known names")]
)
def test_close_matches_are_offered(value: str, closest: str) -> None:
    with pytest.raises(fps.UnknownName) as caught:
        check_choice("boundary", value, ("natural", "reflecting", "absorbing"))
    assert closest in caught.value.fix
