"""Every check confirms what is right and refutes what is wrong, with and without a closed form.

The wrong formulas are those that one finds in derivations: a term with the wrong factor, sign, or derivative. Where
a verdict is sampled its seed is fixed, and its false-alarm rate is 1e-4 (the α of a claim).
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsolve as fps
from fpsolve.problem.streams import Stream
from fpsolve.verdict.candidate import Candidate
from fpsolve.verdict.field_referees import FieldClaim, IntegratedReferee, density_integrals
from fpsolve.verdict.framing import field_of
from fpsolve.verdict.marginals import may_explode
from fpsolve.verdict.sources import declare, sources_of

SINH = fps.maps.Sinh(1.0)
SUBTLE = fps.maps.Sinh(25.0)
P = fps.processes.sinh_ou(length=1.0)
Q0 = fps.Pushforward(fps.GaussianMixture([0.4, 0.6], [-0.6, 0.7], [0.3, 0.4]), SINH)
SPAN = (0.0, 1.0)
Q = fps.exact_evolution(P, Q0, SPAN)
OU, NORMAL = fps.processes.ou(), fps.Normal(0, 1)
WELL = fps.SDE(lambda x: x - x**3, lambda x: 0.6 * np.sqrt(1 + 0.3 * x**2))
WELL_Q0 = fps.Normal(0.2, 0.5)
MOVING = fps.path(lambda x, t: -0.5 * (x - t) ** 2 - 0.5 * np.log(2 * np.pi), t_span=SPAN)
SMALL_BUDGET = 1e8  # grid and closed form only

Formula = Callable[..., Any]

VELOCITIES: dict[str, Formula] = {
    "right": lambda f, g2, g2_dx, s: f - g2_dx / 2 - g2 * s / 2,
    "full score term": lambda f, g2, g2_dx, s: f - g2_dx / 2 - g2 * s,
    "sign of the score": lambda f, g2, g2_dx, s: f - g2_dx / 2 + g2 * s / 2,
    "no noise derivative": lambda f, g2, s: f - g2 * s / 2,
    "full noise derivative": lambda f, g2, g2_dx, s: f - g2_dx - g2 * s / 2,
    "derivative of g": lambda f, g2, g2_dx, s: f - g2_dx / (2 * np.sqrt(g2)) / 2 - g2 * s / 2,
}
REVERSALS: dict[str, Formula] = {
    "right": lambda f, g2, g2_dx, s: -f + g2_dx + g2 * s,
    "half noise derivative": lambda f, g2, g2_dx, s: -f + g2_dx / 2 + g2 * s,
    "no noise derivative": lambda f, g2, s: -f + g2 * s,
    "sign of the noise derivative": lambda f, g2, g2_dx, s: -f - g2_dx + g2 * s,
    "half score term": lambda f, g2, g2_dx, s: -f + g2_dx + g2 * s / 2,
    "sign of the score": lambda f, g2, g2_dx, s: -f + g2_dx - g2 * s,
    "sign of the drift": lambda f, g2, g2_dx, s: f + g2_dx + g2 * s,
}
SCORES: dict[str, Formula] = {
    "right": Q.score,
    "half": lambda x, t: 0.5 * Q.score(x, t),
    "sign": lambda x, t: -Q.score(x, t),
    "a per cent": lambda x, t: 1.01 * Q.score(x, t),
    "late": lambda x, t: Q.score(x, min(1.0, t + 0.02)),
    "derivative of the density": lambda x, t: Q.score(x, t) * Q.pdf(x, t),
}
DENSITIES: dict[str, Formula] = {
    "right": Q.pdf,
    "not normalised": lambda x, t: 1.001 * Q.pdf(x, t),
    "late": lambda x, t: Q.pdf(x, min(1.0, t + 0.01)),
    "of the hidden process": lambda x, t: Q.inner.pdf(x, t),  # type: ignore[attr-defined]
    "log-density": Q.logpdf,
}


def expected(name: str) -> str:
    return "confirmed" if name == "right" else "refuted"


# --- a closed form and the grid ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VELOCITIES)
def test_velocity(name: str) -> None:
    v = fps.check_velocity((P, Q0), VELOCITIES[name], t_span=SPAN).require(expected(name))
    assert v.routes[0] == "closed form"


@pytest.mark.parametrize("name", REVERSALS)
def test_reverse_drift(name: str) -> None:
    fps.check_reverse((P, Q0), REVERSALS[name], t_span=SPAN).require(expected(name))


@pytest.mark.parametrize("name", REVERSALS)
def test_reverse_drift_in_the_forward_clock(name: str) -> None:
    def backward(f: Any, g2: Any, g2_dx: Any, s: Any) -> Any:
        given_names = {"f": f, "g2": g2, "g2_dx": g2_dx, "s": s}
        formula = REVERSALS[name]
        return -formula(**{n: given_names[n] for n in formula.__code__.co_varnames})

    fps.check_reverse((P, Q0), backward, t_span=SPAN, clock="forward").require(expected(name))
    if name == "right":
        fps.check_reverse((P, Q0), backward, t_span=SPAN).require("refuted")


@pytest.mark.parametrize("name", SCORES)
def test_score(name: str) -> None:
    fps.check_score((P, Q0), SCORES[name], t_span=SPAN).require(expected(name))


@pytest.mark.parametrize("name", DENSITIES)
def test_density(name: str) -> None:
    fps.check_density((P, Q0), DENSITIES[name], t_span=SPAN).require(expected(name))


def test_subtle_error_is_refuted_although_it_is_small() -> None:
    p = fps.processes.sinh_ou(length=25.0)
    what = (p, fps.Pushforward(fps.Normal(0.5, 0.4), SUBTLE))
    fps.check_reverse(what, REVERSALS["right"], t_span=SPAN).require()
    v = fps.check_reverse(what, REVERSALS["half noise derivative"], t_span=SPAN).require("refuted")
    assert 1e-4 < v.discrepancy.value < 1e-2  # type: ignore[union-attr]


@settings(max_examples=6)
@given(
    st.floats(0.2, 1.5),
    st.floats(0.3, 1.2),
    st.floats(0.7, 3.0),
    st.floats(-0.8, 0.8),
    st.sampled_from(["right", "half noise derivative", "half score term"]),
)
def test_reversal_of_random_processes(theta: float, sigma: float, length: float, centre: float, name: str) -> None:
    p = fps.processes.sinh_ou(theta=theta, sigma=sigma, length=length)
    q0 = fps.Pushforward(fps.Normal(centre, 0.4), fps.maps.Sinh(length))
    fps.check_reverse((p, q0), REVERSALS[name], t_span=SPAN).require(expected(name))


@settings(max_examples=5)
@given(st.floats(0.0, 1.5), st.floats(-1.0, 1.0), st.booleans())
def test_marginal_family_of_random_noises(level: float, bend: float, right: bool) -> None:
    p = P.with_noise(lambda x, t: level * (1 + 0.3 * bend * np.sin(x + t)), Q)
    wrong = p if right else fps.SDE(lambda x, t: p.drift(x, t) + 0.05, p.diffusion)
    fps.check_drift((P, Q0), wrong, t_span=SPAN).require("confirmed" if right else "refuted")


# --- no closed form: the grid and particles ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in REVERSALS if n != "right"])
def test_double_well_refutes_wrong_reversals(name: str) -> None:
    v = fps.check_reverse((WELL, WELL_Q0), REVERSALS[name], t_span=SPAN).require("refuted")
    assert "closed form" not in v.routes


@pytest.mark.parametrize("name", [n for n in VELOCITIES if n != "right"])
def test_double_well_refutes_wrong_velocities(name: str) -> None:
    fps.check_velocity((WELL, WELL_Q0), VELOCITIES[name], t_span=SPAN).require("refuted")


@functools.cache
def right_velocity_of_the_well(seed: int) -> fps.Verdict:
    return fps.check_velocity((WELL, WELL_Q0), VELOCITIES["right"], t_span=SPAN, times=[0.5], seed=seed)


def test_double_well_confirms_the_right_velocity() -> None:
    v = right_velocity_of_the_well(0).require()
    assert {f.engine for f in v.findings} == {"grid", "particles"}


def test_double_well_confirms_the_right_reversal() -> None:
    v = fps.check_reverse((WELL, WELL_Q0), REVERSALS["right"], t_span=SPAN, times=[0.5]).require()
    assert {f.engine for f in v.findings} == {"grid", "particles"}


def test_double_well_marginals() -> None:
    q = fps.solve_fokker_planck(WELL, WELL_Q0, SPAN, t_eval=[0.5, 1.0])
    wrong = fps.SDE(lambda x: x - x**3 + 0.05, WELL.diffusion)
    assert fps.check_drift((WELL, WELL_Q0), wrong, t_span=SPAN).refuted
    assert fps.check_drift(q, wrong).refuted
    assert not fps.check_drift(q, WELL, budget=SMALL_BUDGET).refuted


# --- which path law ---------------------------------------------------------------------------------------------------


def other_noise(level: float) -> fps.SDE:
    """Reversed marginals with another noise: -v + ½ γ² s at 1 - τ."""
    return fps.SDE(lambda x, t: -Q.velocity(x, 1 - t) + 0.5 * level**2 * Q.score(x, 1 - t), level)


def test_reversal_with_another_noise_has_the_marginals_and_not_the_path_law() -> None:
    candidate = other_noise(0.8)
    v = fps.check_reverse((P, Q0), candidate, t_span=SPAN).require("refuted")
    assert "noise" in v.explain()
    fps.check_reverse((P, Q0), candidate, t_span=SPAN, law="marginals").require()
    shifted = fps.SDE(lambda x, t: candidate.drift(x, t) + 0.05, 0.8)
    fps.check_reverse((P, Q0), shifted, t_span=SPAN, law="marginals").require("refuted")


def test_reversal_as_a_process_and_as_a_flow() -> None:
    fps.check_reverse((P, Q0), P.reverse(Q), t_span=SPAN).require()
    fps.check_reverse((P, Q0), P, t_span=SPAN).require("refuted")
    flow = fps.ODE(lambda x, t: -Q.velocity(x, 1 - t))
    fps.check_reverse((P, Q0), flow, t_span=SPAN, law="marginals").require()
    fps.check_reverse((P, Q0), flow, t_span=SPAN).require("refuted")


def test_process_in_the_forward_clock_is_read_at_forward_times() -> None:
    back = P.reverse(Q)
    forward = fps.SDE(lambda x, t: -back.drift(x, 1 - t), P.diffusion)
    fps.check_reverse((P, Q0), forward, t_span=SPAN, clock="forward").require()
    fps.check_reverse((P, Q0), forward, t_span=SPAN).require("refuted")


def test_formula_may_use_the_reversed_clock() -> None:
    p = fps.processes.sinh_ou(sigma=lambda t: 0.5 + 0.4 * t)
    q = fps.exact_evolution(p, Q0, SPAN)
    back = p.reverse(q)
    fps.check_reverse((p, Q0), lambda x, tau: back.drift(x, tau), t_span=SPAN).require()
    fps.check_reverse((p, Q0), lambda x, t: back.drift(x, 1 - t), t_span=SPAN).require()
    fps.check_reverse((p, Q0), lambda x, t: back.drift(x, t), t_span=SPAN).require("refuted")


def test_same_marginals() -> None:
    fps.check_same_marginals(P, P.probability_flow(Q), Q0, SPAN).require()
    fps.check_same_marginals(P, P.with_noise(0.3, Q), Q0, SPAN).require()
    fps.check_same_marginals(P, P, Q0, SPAN).require()
    fps.check_same_marginals(P, fps.ODE(P.drift), Q0, SPAN).require("refuted")
    fps.check_same_marginals(P, P.to_stratonovich(), Q0, SPAN).require()
    as_if_ito = fps.SDE(P.to_stratonovich().drift, P.diffusion)
    fps.check_same_marginals(P, as_if_ito, Q0, SPAN).require("refuted")


# --- candidates that run away -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "candidate",
    [fps.SDE(lambda x: x**3, 0.6), fps.ODE(lambda x: x**3), fps.SDE(lambda x: -(x**2), 1.0)],
    ids=["sde", "ode", "one side"],
)
def test_mass_thrown_to_infinity_is_the_reason(candidate: Any) -> None:
    v = fps.check_drift((P, Q0), candidate, t_span=SPAN).require("refuted")
    assert "it leaves every domain in finite time" in v.note
    assert v.note in v.explain()


def test_mass_thrown_to_infinity_without_a_closed_form() -> None:
    v = fps.check_drift((WELL, WELL_Q0), fps.SDE(lambda x: x + x**3, 0.6), t_span=SPAN).require("refuted")
    assert "it leaves every domain in finite time" in v.note
    v = fps.check_same_marginals(WELL, fps.SDE(lambda x: x + x**3, 0.6), WELL_Q0, SPAN).require("refuted")
    assert "it leaves every domain in finite time" in v.note


@pytest.mark.parametrize(
    ("process", "explodes"),
    [
        (fps.SDE(lambda x: x**3, 1.0), True),
        (fps.SDE(lambda x: -(x**3), 1.0), False),
        (fps.SDE(lambda x: x**2, 1.0), True),
        (fps.SDE(lambda x: 5 * x, 1.0), False),
        (fps.SDE(lambda x: np.exp(np.minimum(x, 800.0)), 1.0), True),
        (fps.SDE(lambda x: x**3, 1.0, support=(-1, 1), boundary="reflecting"), False),
        (fps.SDE(1.0, 1.0), False),
    ],
)
def test_what_may_explode(process: fps.SDE, explodes: bool) -> None:
    assert may_explode(process, SPAN) is explodes


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_candidate_that_is_infinite_somewhere_is_refuted(bad: float) -> None:
    for what in ((P, Q0), MOVING):
        v = fps.check_score(what, lambda x, t: np.where(np.abs(x) < 0.3, bad, -x), t_span=SPAN).require("refuted")
        assert v.note.startswith("the candidate score is not finite at x = ")
        assert v.where is not None
        assert abs(v.where[0]) < 0.3


def test_process_that_is_infinite_somewhere_is_refuted() -> None:
    v = fps.check_drift((P, Q0), fps.SDE(lambda x, t: np.where(np.abs(x - 0.5) < 0.05, np.inf, -x), 1.0), t_span=SPAN)
    assert v.refuted
    assert "the candidate drift is not finite at x = " in v.note


# --- fields with nothing to compare with, and parts of the line -------------------------------------------------------


def test_field_that_vanishes_needs_a_scale() -> None:
    with pytest.raises(fps.InputError, match=r"the velocity vanishes at t=0\.1, so it has no size"):
        fps.check_velocity((OU, NORMAL), 0.0, t_span=SPAN)
    fps.check_velocity((OU, NORMAL), 0.0, t_span=SPAN, scale=1.0).require()
    v = fps.check_velocity((OU, NORMAL), 0.01, t_span=SPAN, scale=1.0).require("refuted")
    assert np.isclose(v.discrepancy.value, 0.01)  # type: ignore[union-attr]


def test_tolerance_is_that_of_the_user() -> None:
    def off(x: Any, t: float) -> Any:
        return Q.score(x, t) + 0.01

    v = fps.check_score((P, Q0), off, t_span=SPAN, tol=0.05).require()
    assert v.tolerance == 0.05
    assert "resolved but below tolerance" in v.explain()
    fps.check_score((P, Q0), off, t_span=SPAN).require("refuted")


def test_region_is_what_is_examined() -> None:
    def right_inside(x: Any, s: Any) -> Any:
        return np.where(x > 1.5, 0.0, s)

    v = fps.check_score((P, Q0), right_inside, t_span=SPAN, region=(-1.5, 1.5)).require()
    assert "-1.5 < x < 1.5 at t = 0.1, 0.35, 0.65, 0.9; outside not examined" in v.scope
    v = fps.check_score((P, Q0), right_inside, t_span=SPAN).require("refuted")
    assert v.where is not None
    assert v.where[0] > 1.5
    assert "F, 1-F > 1e-6" in v.scope


def test_times_are_those_asked_for() -> None:
    def wrong_later(x: Any, t: float, s: Any) -> Any:
        return s + 0.1 * (t > 0.5)

    fps.check_score((P, Q0), wrong_later, t_span=SPAN, times=[0.2, 0.4]).require()
    v = fps.check_score((P, Q0), wrong_later, t_span=SPAN, times=[0.2, 0.4, 0.6]).require("refuted")
    assert v.where is not None
    assert v.where[1] == 0.6
    fps.check_velocity((P, Q0), VELOCITIES["right"], t_span=(0, 0.5)).require()


def test_supremum_refutes_where_the_mean_does_not_see_it() -> None:
    def bump(x: Any, t: float) -> Any:
        return -(x - t) + 1e-3 * np.exp(-(((x - t - 4.0) / 0.2) ** 2))

    v = fps.check_score(MOVING, bump).require("refuted")
    assert "small on average, but its supremum is off" in v.note
    assert v.findings[0].discrepancy.value < 1e-4
    assert v.where is not None
    assert abs(v.where[0] - v.where[1] - 4.0) < 0.3


@pytest.mark.parametrize("c", [1e-5, -1e-3])
def test_velocity_with_a_flux_from_infinity_is_refuted(c: float) -> None:
    # v + c/q solves the continuity equation pointwise; only what flows at infinity tells it from v
    fps.check_velocity((P, Q0), lambda x, t: Q.velocity(x, t) + c / Q.pdf(x, t), t_span=SPAN).require("refuted")
    fps.check_velocity(MOVING, lambda x, logq: 1.0 + c * np.exp(-logq), times=[0.5]).require("refuted")


# --- a path without a process -----------------------------------------------------------------------------------------


def test_path_of_a_user() -> None:
    fps.check_velocity(MOVING, 1.0, times=[0.3, 0.8]).require()
    fps.check_velocity(MOVING, 1.001, times=[0.3, 0.8]).require("refuted")
    fps.check_velocity(MOVING, lambda x: x, times=[0.3, 0.8]).require("refuted")
    fps.check_velocity(MOVING, fps.ODE(1.0), times=[0.3]).require()
    fps.check_score(MOVING, lambda x, t: t - x).require()
    fps.check_score(MOVING, lambda x: -x).require("refuted")
    fps.check_drift(MOVING, fps.ODE(1.0), times=[0.5]).require()
    fps.check_drift(MOVING, fps.ODE(0.99), times=[0.5]).require("refuted")
    fps.check_drift(MOVING, fps.SDE(lambda x, t: 1 + 0.5 * (t - x), 1.0), times=[0.5]).require()


def test_density_of_a_path_is_compared_by_points_and_by_panels() -> None:
    v = fps.check_density(MOVING, MOVING.pdf).require()
    assert set(v.routes) == {"given path", "given path, integrated"}
    fps.check_density(MOVING, lambda x, t: 1.001 * MOVING.pdf(x, t)).require("refuted")


def test_integrated_referee_of_a_density_can_fail_by_itself() -> None:
    problem = declare(MOVING, None, [0.4])
    field = Candidate("density", lambda x, t: 1.001 * MOVING.pdf(x, t))
    claim = FieldClaim("density", field, field_of("pdf"), problem, 1e-4, None, None)
    (source,) = sources_of(problem)
    seen = IntegratedReferee(claim, source, density_integrals).measure(1, Stream(0), 1e-4)
    assert float(seen.discrepancy.value) == pytest.approx(1e-3, rel=1e-2)


def test_evolution_as_candidate_and_as_what_is_examined() -> None:
    fps.check_density((P, Q0), Q, t_span=SPAN).require()
    solved = fps.solve_fokker_planck(P, Q0, SPAN, t_eval=[0.25, 0.5, 1.0])
    v = fps.check_density(solved, lambda x, t: Q.pdf(x, t)).require()
    assert set(v.routes) == {"grid", "closed form"}


# --- what the verdict says --------------------------------------------------------------------------------------------


def blind(process: Any, law: Any) -> str:
    return "; ".join(fps.check_score((process, law), 0.0, t_span=SPAN, scale=1.0, budget=1.0).blind_to)


def test_blind_spots_of_the_instance() -> None:
    shown = blind(OU, NORMAL)
    for term in (
        "∂x g² (additive noise)",
        "f'' (f' constant in x)",
        "autonomous",
        "Gaussian marginals",
        "symmetric density",
    ):
        assert term in shown
    shown = blind(P, Q0)
    for term in ("∂x g²", "f''", "Gaussian", "symmetric", "noise"):
        assert term not in shown
    assert "autonomous" in shown
    driven = fps.processes.sinh_ou(sigma=lambda t: 0.5 + 0.4 * t)
    assert blind(driven, Q0) == ""
    assert "every noise term (g = 0)" in blind(fps.ODE(lambda x, t: t - x), fps.Normal(0.2, 1.0))


def test_times_at_the_ends_are_left_to_the_routes_that_can_see_them() -> None:
    for times in ([0.0, 0.5], [0.5, 1.0]):
        v = fps.check_velocity((WELL, WELL_Q0), VELOCITIES["no noise derivative"], t_span=SPAN, times=times)
        assert v.refuted
    v = fps.check_velocity((WELL, WELL_Q0), VELOCITIES["right"], t_span=SPAN, times=[1.0])
    assert "only grid could examine it" in v.note


def test_same_seed_same_verdict() -> None:
    first, other = right_velocity_of_the_well(0), right_velocity_of_the_well(1)
    again = right_velocity_of_the_well.__wrapped__(0)
    assert first.table == again.table
    assert first.explain() == again.explain()
    sampled = [next(row for row in v.table if row["route"].startswith("particles")) for v in (first, other)]
    assert sampled[0]["discrepancy"] != sampled[1]["discrepancy"]
    assert first.outcome == other.outcome


def test_verdict_of_a_check_is_told_in_full() -> None:
    v = fps.check_reverse((P, Q0), REVERSALS["half noise derivative"], t_span=SPAN)
    text = v.explain()
    assert text.startswith("REFUTED: reverse drift\n")
    assert "largest at x = " in text
    assert "blind to: " in text
    assert v.budget["spent"] > 0
    x, t = v.where  # type: ignore[misc]
    assert t in (0.1, 0.35, 0.65, 0.9)
    assert Q.at(t).quantile_span(1e-6)[0] <= x <= Q.at(t).quantile_span(1e-6)[1]
    axes = v.plot()
    axes.figure.canvas.draw()
