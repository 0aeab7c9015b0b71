"""Closed forms against the equations that define them: Fokker-Planck, Chapman-Kolmogorov, and known moments."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import fpsolve as fps
from fpsolve.errors import InputError, NoClosedForm
from fpsolve.paths.closed_forms import find_closed_form
from fpsolve.paths.evolution import Evolution

SINH, EXP = fps.maps.Sinh(1.0), fps.maps.Exp()
BIMODAL = fps.GaussianMixture([0.35, 0.65], [-1.1, 0.8], [0.35, 0.5])
DRIVEN = fps.SDE(
    lambda x, t: -(1 + t) * x + np.sin(3 * t),
    lambda t: 0.5 + 0.3 * np.cos(2 * t),
)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)


def rising(t: Any) -> Any:
    return 0.5 + 0.4 * t


FIXTURES: dict[str, tuple[fps.SDE, Any]] = {
    "ou": (fps.processes.ou(theta=1.3, sigma=0.9, mean=0.4), BIMODAL),
    "vp": (fps.processes.vp(0.1, 8.0), BIMODAL),
    "driven": (DRIVEN, BIMODAL),
    "heat": (fps.SDE(0.0, 1.0), BIMODAL),
    "unstable": (fps.SDE(lambda x: 0.7 * x, 0.4), BIMODAL),
    "sinh": (fps.processes.sinh_ou(length=1.0), fps.Pushforward(BIMODAL, SINH)),
    "sinh subtle": (fps.processes.sinh_ou(length=25.0), fps.Pushforward(BIMODAL, fps.maps.Sinh(25.0))),
    "sinh driven": (fps.processes.sinh_ou(sigma=rising), fps.Pushforward(BIMODAL, SINH)),
    "gbm": (fps.processes.gbm(0.3, 0.4), fps.Pushforward(fps.Normal(0.1, 0.3), EXP)),
}


def evolution(name: str) -> Evolution:
    process, law = FIXTURES[name]
    return fps.exact_evolution(process, law, (0, 1))


def slope(fn: Callable[[Any], Any], x: Any, h: float, order: int = 1) -> Any:
    """Sixth-order central differences."""
    if order == 1:
        return (45 * (fn(x + h) - fn(x - h)) - 9 * (fn(x + 2 * h) - fn(x - 2 * h)) + fn(x + 3 * h) - fn(x - 3 * h)) / (
            60 * h
        )
    inner = 270 * (fn(x + h) + fn(x - h)) - 27 * (fn(x + 2 * h) + fn(x - 2 * h)) + 2 * (fn(x + 3 * h) + fn(x - 3 * h))
    return (inner - 490 * fn(x)) / (180 * h**2)


def fokker_planck_residual(q: Evolution, process: fps.SDE, t: float, extra: float = 0.0) -> float:
    """Largest |∂t q + ∂x(f q) - ½ ∂xx(g² q)| relative to the largest term, with `extra` ∂x g² added to f."""
    x = q.ppf(np.linspace(0.01, 0.99, 41), t)
    h = 0.02 * float(q.ppf(0.6, t) - q.ppf(0.4, t))

    def drift_flux(y: Any) -> Any:
        return (process.drift(y, t) + extra * process.diffusion_squared_dx(y, t)) * q.pdf(y, t)

    terms = [
        slope(lambda u: q.pdf(x, float(u)), t, 2e-3),
        slope(drift_flux, x, h),
        -0.5 * slope(lambda y: process.diffusion_squared(y, t) * q.pdf(y, t), x, h, order=2),
    ]
    return float(np.abs(sum(terms)).max() / np.abs(terms).max())


# --- Fokker-Planck ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("name", FIXTURES)
def test_closed_form_solves_its_equation(name: str, t: float) -> None:
    assert fokker_planck_residual(evolution(name), FIXTURES[name][0], t) < 2e-7


@pytest.mark.parametrize("name", ["sinh", "sinh subtle", "sinh driven", "gbm"])
def test_residual_notices_a_wrong_noise_term(name: str) -> None:
    assert fokker_planck_residual(evolution(name), FIXTURES[name][0], 0.5, extra=0.25) > 1e-4


@pytest.mark.parametrize("name", FIXTURES)
def test_velocity_versus_differences_of_the_distribution_function(name: str) -> None:
    q = evolution(name)
    for t in (0.05, 0.4, 0.999):
        x = q.ppf(np.array([1e-4, 0.03, 0.3, 0.5, 0.8, 0.9999]), t)
        flux, error = Evolution.flux_with_error(q, x, t)
        own, own_error = q.flux_with_error(x, t)
        assert (np.abs(flux - own) <= error + own_error + 1e-14).all()
        assert (error < 1e-5 * np.abs(own).max()).all()
        assert np.allclose(q.velocity(x, t), own / q.pdf(x, t), rtol=1e-10)


@pytest.mark.parametrize("name", FIXTURES)
def test_velocity_versus_the_formula(name: str) -> None:
    process, q = FIXTURES[name][0], evolution(name)
    for t in (0.1, 0.7):
        x = q.ppf(np.linspace(0.01, 0.99, 21), t)
        formula = (
            process.drift(x, t)
            - 0.5 * process.diffusion_squared_dx(x, t)
            - 0.5 * process.diffusion_squared(x, t) * q.score(x, t)
        )
        assert np.allclose(q.velocity(x, t), formula, rtol=1e-8, atol=1e-8 * np.abs(formula).max())


# --- moments ----------------------------------------------------------------------------------------------------------


@given(st.floats(0.1, 3.0), st.floats(0.1, 2.0), st.floats(-2, 2), st.floats(0.01, 3.0))
def test_ornstein_uhlenbeck_moments(theta: float, sigma: float, mean: float, t: float) -> None:
    q = fps.exact_evolution(fps.processes.ou(theta, sigma, mean), fps.Normal(1.5, 0.7), (0, 3))
    left = math.exp(-theta * t)
    assert math.isclose(q.mean(t), mean + (1.5 - mean) * left, rel_tol=1e-11, abs_tol=1e-11)
    assert math.isclose(q.var(t), 0.49 * left**2 + sigma**2 * (1 - left**2) / (2 * theta), rel_tol=1e-10)


@given(st.floats(-0.5, 0.8), st.floats(0.05, 0.8), st.floats(0.1, 2.0), st.floats(0.01, 2.0))
def test_geometric_brownian_motion_is_log_normal(mu: float, sigma: float, x0: float, t: float) -> None:
    q = fps.exact_evolution(fps.processes.gbm(mu, sigma), fps.PointMass(x0), (0, 2))
    known = stats.lognorm(s=sigma * math.sqrt(t), scale=x0 * math.exp((mu - 0.5 * sigma**2) * t))
    x = known.ppf([0.001, 0.2, 0.5, 0.99])
    assert np.allclose(q.cdf(x, t), known.cdf(x), rtol=1e-9)
    assert np.allclose(q.pdf(x, t), known.pdf(x), rtol=1e-8)
    assert math.isclose(q.mean(t), x0 * math.exp(mu * t), rel_tol=1e-8)
    assert math.isclose(q.var(t), x0**2 * math.exp(2 * mu * t) * math.expm1(sigma**2 * t), rel_tol=1e-7)


@pytest.mark.parametrize("t", [0.2, 1.0])
def test_driven_moments_versus_their_integrals(t: float) -> None:
    # variation of constants, by Gauss-Legendre
    u, w = 0.5 * t * (1 + NODES), 0.5 * t * WEIGHTS

    def decay(since: Any) -> Any:
        return np.exp(-(t - since) - 0.5 * (t**2 - since**2))

    q = evolution("driven")
    mean = BIMODAL.mean() * decay(0.0) + (w * decay(u) * np.sin(3 * u)).sum()
    var = BIMODAL.var() * decay(0.0) ** 2 + (w * decay(u) ** 2 * (0.5 + 0.3 * np.cos(2 * u)) ** 2).sum()
    assert math.isclose(q.mean(t), mean, rel_tol=1e-11)
    assert math.isclose(q.var(t), var, rel_tol=1e-11)


def test_variance_preserving_schedule_is_its_process() -> None:
    schedule, q = fps.schedules.VP(0.1, 8.0), evolution("vp")
    for t in (0.1, 1.0):
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        assert math.isclose(alpha**2 + sigma**2, 1.0)
        assert math.isclose(schedule.log_snr(t), math.log(alpha**2 / sigma**2), rel_tol=1e-10)
        assert np.allclose(q.at(t).means, alpha * BIMODAL.means, rtol=1e-10)
        assert np.allclose(q.at(t).stds ** 2, alpha**2 * BIMODAL.stds**2 + sigma**2, rtol=1e-10)
    with pytest.raises(InputError, match="a VP schedule lives on 0 <= t <= 1"):
        schedule.alpha(1.5)


def test_stratonovich_form_has_the_same_closed_form() -> None:
    for name in ("driven", "sinh"):
        process, law = FIXTURES[name]
        x = np.linspace(-2, 2, 9)
        other = fps.exact_evolution(process.to_stratonovich(), law, (0, 1))
        assert np.allclose(other.pdf(x, 0.6), evolution(name).pdf(x, 0.6), rtol=1e-13)


# --- transitions ------------------------------------------------------------------------------------------------------


def integral(fn: Callable[[np.ndarray], np.ndarray], left: float, right: float, panels: int = 24) -> float:
    edges = np.linspace(left, right, panels + 1)
    half = 0.5 * np.diff(edges)
    x = (edges[:-1] + half)[:, None] + half[:, None] * NODES
    return float((half[:, None] * WEIGHTS * fn(x)).sum())


@pytest.mark.parametrize("name", ["driven", "vp", "sinh", "sinh driven", "gbm"])
def test_transitions_obey_chapman_and_kolmogorov(name: str) -> None:
    q: Any = evolution(name)
    y, x = (float(q.ppf(p, t)) for p, t in ((0.3, 0.2), (0.6, 0.9)))

    def through(z: np.ndarray) -> np.ndarray:
        return np.exp(q.transition_logpdf(x, 0.9, z, 0.5) + q.transition_logpdf(z, 0.5, y, 0.2))

    direct = math.exp(float(q.transition_logpdf(x, 0.9, y, 0.2)))
    assert math.isclose(integral(through, *q.span(0.5, 1e-13), panels=60), direct, rel_tol=1e-8)
    assert not math.isclose(integral(through, *q.span(0.5, 1e-13), panels=60), 1.001 * direct, rel_tol=1e-4)


@pytest.mark.parametrize("name", ["driven", "sinh", "gbm"])
def test_transitions_carry_the_marginals(name: str) -> None:
    q: Any = evolution(name)
    x = float(q.ppf(0.7, 0.8))
    carried = integral(
        lambda y: np.exp(q.transition_logpdf(x, 0.8, y, 0.3)) * q.pdf(y, 0.3), *q.span(0.3, 1e-13), panels=60
    )
    assert math.isclose(carried, q.pdf(x, 0.8), rel_tol=1e-8)


def test_kernel_of_no_time_is_the_identity() -> None:
    q: Any = evolution("driven")
    assert q.kernel(0.4, 0.4) == (1.0, 0.0, 0.0)


# --- starts -----------------------------------------------------------------------------------------------------------


def test_point_mass_spreads() -> None:
    q = fps.exact_evolution(DRIVEN, fps.PointMass(0.5), (0, 1))
    assert isinstance(q.at(0.0), fps.PointMass)
    assert q.var(0.5) > 0
    with pytest.raises(InputError, match="a point mass has no velocity field"):
        q.velocity(0.5, 0.0)


def test_point_mass_moves_along_a_flow() -> None:
    q = fps.exact_evolution(fps.ODE(lambda x: -x), fps.PointMass(0.5), (0, 1))
    assert isinstance(q.at(1.0), fps.PointMass)
    assert math.isclose(q.mean(1.0), 0.5 * math.exp(-1), rel_tol=1e-12)


def test_initial_law_is_returned_as_it_is() -> None:
    q = evolution("sinh")
    x = np.linspace(-2, 2, 9)
    assert np.array_equal(q.pdf(x, 0.0), FIXTURES["sinh"][1].pdf(x))


# --- where there is none ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("process", "law", "reason"),
    [
        (fps.SDE(lambda x: x - x**3, 1.0), BIMODAL, "its drift is not linear in x at t="),
        (fps.SDE(lambda x, t: -x + np.sin(4 * np.pi * t) * x**3, 1.0), BIMODAL, "its drift is not linear in x at t="),
        (fps.SDE(lambda x: -x, lambda x: 1 + 0.1 * np.tanh(x)), BIMODAL, "its diffusion depends on x at t="),
        (fps.SDE(lambda x: -x, 1.0, support=(0, np.inf), boundary="reflecting"), BIMODAL, "its support is (0.0, inf)"),
        (fps.processes.ou(), fps.LaplaceMixture([1.0], [0.0], [1.0]), "LaplaceMixture"),
        (fps.processes.gbm(), fps.Normal(5, 1), "Normal"),
        (fps.processes.sinh_ou(length=2.0), fps.Pushforward(BIMODAL, SINH), "Pushforward"),
    ],
    ids=["nonlinear", "nonlinear at times", "noise", "support", "law", "law of gbm", "law of another map"],
)
def test_no_closed_form_says_why(process: fps.SDE, law: Any, reason: str) -> None:
    with pytest.raises(NoClosedForm) as caught:
        fps.exact_evolution(process, law, (0, 1))
    assert reason in str(caught.value)
    assert "fps.solve_fokker_planck" in caught.value.fix
    assert find_closed_form(process, law, (0, 1)) is None


def test_linear_with_exploding_coefficients_has_no_closed_form() -> None:
    q = fps.exact_evolution(fps.SDE(lambda x, t: x / (0.5 - t) ** 2, 1.0), BIMODAL, (0, 1))
    assert q.mean(0.1) > BIMODAL.mean()
    with pytest.raises(NoClosedForm, match="coefficients of a linear SDE must be integrable"):
        q.mean(0.9)
