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
from fpsolve.problem.gamma import NoncentralChiSquare
from fpsolve.problem.law import Law

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
    "cir": (fps.processes.cir(), fps.GammaMixture([0.4, 0.6], [5.5, 5.5], [0.1, 0.4])),
    "cir from a point": (fps.processes.cir(), fps.PointMass(0.5)),
    "cir below Feller": (fps.processes.cir(1.1, 0.9, 2.0, boundary="reflecting"), fps.PointMass(0.5)),
    "jacobi": (fps.processes.jacobi(), fps.PointMass(0.7)),
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
@pytest.mark.parametrize("name", [name for name in FIXTURES if name != "cir below Feller"])  # infinite at 0
def test_closed_form_solves_its_equation(name: str, t: float) -> None:
    assert fokker_planck_residual(evolution(name), FIXTURES[name][0], t) < 2e-7


@pytest.mark.parametrize("name", ["sinh", "sinh subtle", "sinh driven", "gbm", "cir", "jacobi"])
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


@pytest.mark.parametrize("name", ["driven", "vp", "sinh", "sinh driven", "gbm", "cir", "jacobi"])
def test_transitions_obey_chapman_and_kolmogorov(name: str) -> None:
    q: Any = evolution(name)
    y, x = (float(q.ppf(p, t)) for p, t in ((0.3, 0.2), (0.6, 0.9)))

    def through(z: np.ndarray) -> np.ndarray:
        return np.exp(q.transition_logpdf(x, 0.9, z, 0.5) + q.transition_logpdf(z, 0.5, y, 0.2))

    direct = math.exp(float(q.transition_logpdf(x, 0.9, y, 0.2)))
    assert math.isclose(integral(through, *q.span(0.5, 1e-13), panels=60), direct, rel_tol=1e-8)
    assert not math.isclose(integral(through, *q.span(0.5, 1e-13), panels=60), 1.001 * direct, rel_tol=1e-4)


@pytest.mark.parametrize("name", ["driven", "sinh", "gbm", "cir", "cir from a point", "jacobi"])
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


# --- square-root and Jacobi processes ---------------------------------------------------------------------------------


@given(st.floats(0.2, 3.0), st.floats(0.2, 2.0), st.floats(0.05, 2.0), st.floats(0.1, 3.0), st.floats(0.01, 3.0))
def test_square_root_process_from_a_point(kappa: float, theta: float, xi: float, x0: float, t: float) -> None:
    boundary = "natural" if 2 * kappa * theta > 1.01 * xi**2 else "reflecting"
    q = fps.exact_evolution(fps.processes.cir(kappa, theta, xi, boundary=boundary), fps.PointMass(x0), (0, 3))
    left = math.exp(-kappa * t)
    assert math.isclose(q.mean(t), theta + (x0 - theta) * left, rel_tol=1e-10)
    var = xi**2 / kappa * (x0 * (left - left**2) + 0.5 * theta * (1 - left) ** 2)
    assert math.isclose(q.var(t), var, rel_tol=1e-10)
    assert math.isclose(q.mass(t), 1.0, rel_tol=1e-9)
    p = np.array([1e-6, 0.1, 0.5, 0.9, 1 - 1e-6])
    assert np.allclose(q.cdf(q.ppf(p, t), t), p, rtol=1e-9)


def test_gamma_laws_stay_gamma_laws() -> None:
    q, process = evolution("cir"), FIXTURES["cir"][0]
    assert isinstance(q.at(0.7), fps.GammaMixture)
    assert math.isclose(q.mean(0.7), 0.9 + (FIXTURES["cir"][1].mean() - 0.9) * math.exp(-0.77), rel_tol=1e-12)
    for start in (stats.gamma(5.5, scale=0.4), fps.GammaMixture([1.0], [5.5], [0.4])):
        assert math.isclose(fps.exact_evolution(process, start, (0, 1)).var(0.0), 5.5 * 0.16, rel_tol=1e-12)
    settled = fps.exact_evolution(process, FIXTURES["cir"][1], (0, 40)).at(40.0)
    x = np.linspace(0.1, 3, 9)
    assert np.allclose(settled.pdf(x), stats.gamma(5.5, scale=0.36 / 2.2).pdf(x), rtol=1e-9)


@pytest.mark.parametrize("t", [0.02, 0.3, 2.0])
@pytest.mark.parametrize(("mean", "xi", "x0"), [(0.4, 0.6, 0.7), (0.2, 1.5, 0.05), (0.5, 0.15, 0.5)])
def test_jacobi_process_from_a_point(mean: float, xi: float, x0: float, t: float) -> None:
    kappa, boundary = 1.1, "natural" if xi < 0.8 else "reflecting"
    q = fps.exact_evolution(fps.processes.jacobi(kappa, mean, xi, boundary=boundary), fps.PointMass(x0), (0, 3))
    law = q.at(t)
    assert math.isclose(q.mass(t), 1.0, rel_tol=1e-9)
    # moments by quadrature, and E X² from its own equation
    first = mean + (x0 - mean) * math.exp(-kappa * t)
    u, w = 0.5 * t * (1 + NODES), 0.5 * t * WEIGHTS
    rate = 2 * kappa + xi**2
    source = (2 * kappa * mean + xi**2) * (mean + (x0 - mean) * np.exp(-kappa * u))
    second = x0**2 * math.exp(-rate * t) + float((w * np.exp(-rate * (t - u)) * source).sum())
    assert math.isclose(q.mean(t), first, rel_tol=1e-12)
    assert math.isclose(q.var(t) + first**2, second, rel_tol=1e-10)
    assert math.isclose(law.expect(lambda x: x), first, rel_tol=1e-8)
    assert math.isclose(law.expect(lambda x: x**2), second, rel_tol=1e-8)
    # the distribution function has a series of its own; log x, since the density may be infinite at 0
    a, b = q.ppf(np.array([0.1, 0.8]), t)
    mass = integral(lambda u: np.exp(u) * law.pdf(np.exp(u)), math.log(a), math.log(b))
    assert math.isclose(mass, 0.7, rel_tol=1e-9)
    assert np.allclose(law.cdf([a, b]) + law.sf([a, b]), 1.0, rtol=1e-12)


def test_jacobi_process_settles_to_its_beta_law() -> None:
    q = fps.exact_evolution(fps.processes.jacobi(1.1, 0.4, 0.6), fps.PointMass(0.7), (0, 40))
    x = np.linspace(0.02, 0.98, 25)
    known = stats.beta(2 * 1.1 * 0.4 / 0.36, 2 * 1.1 * 0.6 / 0.36)
    assert np.allclose(q.pdf(x, 40.0), known.pdf(x), rtol=1e-11)
    assert np.allclose(q.score(x, 40.0), slope(known.logpdf, x, 2e-3), rtol=1e-4)


@pytest.mark.parametrize("t", [0.003, 0.05])
def test_error_of_the_jacobi_series_covers_its_difference_from_a_detour(t: float) -> None:
    q: Any = fps.exact_evolution(fps.processes.jacobi(), fps.PointMass(0.7), (0, 1))
    x = q.ppf(np.array([1e-6, 0.01, 0.5, 0.99, 1 - 1e-6]), t)
    values, error = q.with_error("pdf", x, t)
    assert (error < 1e-8 * values.max()).all()
    balance = q.family.log_stationary(x) - q.family.log_stationary(np.array([0.7]))
    swapped = [float(q.transition_logpdf(0.7, t, float(y), 0.0)) for y in x]
    assert (np.abs(values - np.exp(swapped + balance)) <= 4 * error).all()


def test_jacobi_series_refuses_a_time_that_is_too_short() -> None:
    process = fps.processes.jacobi()
    q = fps.exact_evolution(process, fps.PointMass(0.7), (0, 1))
    with pytest.raises(NoClosedForm, match="needs a longer time since the start"):
        q.at(1e-4)
    assert find_closed_form(process, fps.PointMass(0.7), (0, 1e-4)) is None


def test_stationary_laws_of_processes_without_transition_law() -> None:
    x = np.linspace(-1.5, 1.5, 7)
    well, student = fps.processes.double_well(1.2, 0.8, 0.7), fps.processes.pearson(4.0)
    score = 2 * (1.2 * x - 0.8 * x**3) / 0.49  # of exp(-2V/σ²), without flux: f q = ½ (g² q)'
    assert np.allclose(well.drift(x, 0.0), 0.5 * well.diffusion_squared(x, 0.0) * score)
    g2, g2_dx = student.diffusion_squared(x, 0.0), student.diffusion_squared_dx(x, 0.0)
    assert np.allclose(student.drift(x, 0.0), 0.5 * (g2_dx + g2 * slope(stats.t(4.0).logpdf, x, 1e-2)), atol=1e-9)


@pytest.mark.parametrize("name", ["cir", "jacobi", "sinh", "gbm"])
def test_what_is_built_from_an_instance_has_no_closed_form(name: str) -> None:
    process, law = FIXTURES[name]
    q = evolution(name)
    for other in (process.controlled(lambda x: 0 * x), process.with_params(), process.reverse(q)):
        assert find_closed_form(other, law, (0, 1)) is None
    x = q.ppf(np.array([0.1, 0.6]), 0.5)
    same = fps.exact_evolution(process.to_stratonovich(), law, (0, 1))
    assert np.allclose(same.pdf(x, 0.5), q.pdf(x, 0.5), rtol=1e-13)


@pytest.mark.parametrize("process", [fps.processes.cir(), fps.processes.jacobi()], ids=["cir", "jacobi"])
def test_a_start_outside_the_support_is_refused(process: fps.SDE) -> None:
    with pytest.raises(InputError, match="the start must lie inside the support"):
        fps.exact_evolution(process, fps.PointMass(-0.5), (0, 1))
    with pytest.raises(InputError, match="a point mass has no velocity field"):
        fps.exact_evolution(process, fps.PointMass(0.5), (0, 1)).velocity(0.5, 0.0)


def test_a_reached_end_needs_a_boundary() -> None:
    for make in (lambda **kw: fps.processes.cir(xi=2.0, **kw), lambda **kw: fps.processes.jacobi(xi=1.5, **kw)):
        with pytest.raises(InputError, match="a natural boundary needs an end that the process cannot reach"):
            make()
        assert fps.exact_evolution(make(boundary="reflecting"), fps.PointMass(0.5), (0, 1)).mass(0.5) > 0.999


# --- laws of the square-root process ----------------------------------------------------------------------------------


def test_gamma_mixture_versus_scipy() -> None:
    q = fps.GammaMixture([0.3, 0.7], [0.6, 5.5], [2.0, 0.3])
    parts = [(0.3, stats.gamma(0.6, scale=2.0)), (0.7, stats.gamma(5.5, scale=0.3))]
    x = np.array([1e-8, 0.01, 0.5, 2.0, 9.0])
    assert np.allclose(q.pdf(x), sum(w * law.pdf(x) for w, law in parts), rtol=1e-12)
    assert np.allclose(q.cdf(x), sum(w * law.cdf(x) for w, law in parts), rtol=1e-12)
    assert np.allclose(q.sf(x), sum(w * law.sf(x) for w, law in parts), rtol=1e-12)
    assert math.isclose(q.expect(lambda y: y), q.mean(), rel_tol=1e-10)
    assert math.isclose(q.expect(lambda y: (y - q.mean()) ** 2), q.var(), rel_tol=1e-10)
    assert np.allclose(q.score(x), slope(q.logpdf, x, 1e-3 * x), rtol=1e-8)
    for p in (1e-100, 1e-9, 0.3, 0.5):
        assert math.isclose(q.cdf(q.ppf(p)), p, rel_tol=1e-12)
        assert math.isclose(q.sf(q.isf(p)), p, rel_tol=1e-12)
    draws = q.sample(200_000, 1)  # four standard errors: by chance once in 16 000 seeds
    assert abs(draws.mean() - q.mean()) < 4 * math.sqrt(q.var() / draws.size)
    assert q.pdf(-1.0) == q.cdf(-1.0) == 0.0
    assert np.isnan(q.score(-1.0))


@pytest.mark.parametrize(
    ("weights", "shapes", "scales", "rule"),
    [
        ([0.5, 0.6], [1, 1], [1, 1], "weights must sum to one"),
        ([-0.5, 1.5], [1, 1], [1, 1], "weights must not be negative"),
        ([1.0], [0.0], [1.0], "shapes must be positive"),
        ([1.0], [1.0], [-1.0], "scales must be positive"),
        ([1.0], [1.0, 2.0], [1.0], "must have one entry per component"),
    ],
)
def test_gamma_mixture_refuses(weights: list, shapes: list, scales: list, rule: str) -> None:
    with pytest.raises(fps.DensityError, match=rule):
        fps.GammaMixture(weights, shapes, scales)


@pytest.mark.parametrize(
    ("df", "noncentrality", "scale"),
    [(11.0, 4.0, 0.1), (0.3, 2.0, 1.0), (2.0, 1e-8, 1.0), (11.0, 1e5, 1e-5), (400.0, 30.0, 0.01), (900.0, 1.0, 0.01)],
)
def test_noncentral_chi_square_versus_scipy_and_quadrature(df: float, noncentrality: float, scale: float) -> None:
    q = NoncentralChiSquare(df, noncentrality, scale)
    p = np.array([1e-9, 0.01, 0.3, 0.9, 1 - 1e-9])
    x = q.ppf(p)
    known = stats.ncx2(df, noncentrality, scale=scale)
    assert np.allclose(q.pdf(x), known.pdf(x), rtol=1e-9)
    # the distribution function is Boost's, the density ours: their quadratures agree
    assert np.allclose(Law.cdf(q, x), q.cdf(x), rtol=1e-10)
    assert np.allclose(Law.sf(q, x), q.sf(x), rtol=1e-10)
    inner = x[1:4]
    assert np.allclose(q.score(inner), slope(q.logpdf, inner, 1e-3 * inner), rtol=1e-6, atol=1e-6 / inner.min())
    assert math.isclose(q.expect(lambda y: y), q.mean(), rel_tol=1e-10)
    assert math.isclose(q.expect(lambda y: (y - q.mean()) ** 2), q.var(), rel_tol=1e-8)
    draws = q.sample(100_000, 1)  # four standard errors: by chance once in 16 000 seeds
    assert abs(draws.mean() - q.mean()) < 4 * math.sqrt(q.var() / draws.size)


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
        (fps.processes.double_well(), BIMODAL, "its drift is not linear in x at t="),
        (fps.processes.pearson(), BIMODAL, "its diffusion depends on x at t="),
        (fps.processes.cir(), fps.GammaMixture([1.0], [5.4], [1.0]), "GammaMixture"),
        (fps.processes.cir(), stats.gamma(5.5, loc=1.0), "SciPyLaw"),
        (fps.processes.cir(xi=2.0, boundary="absorbing"), fps.PointMass(1.0), "absorbing"),
        (fps.processes.jacobi(), stats.beta(2, 3), "SciPyLaw"),
        (fps.processes.sinh_ou(length=2.0), fps.Pushforward(BIMODAL, SINH), "Pushforward"),
    ],
    ids=[
        "nonlinear",
        "nonlinear at times",
        "noise",
        "support",
        "law",
        "law of gbm",
        "double well",
        "pearson",
        "shape of cir",
        "shifted gamma",
        "absorbing",
        "law of jacobi",
        "law of another map",
    ],
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
