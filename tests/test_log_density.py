"""The log-density route against closed forms, far out where densities underflow."""

import numpy as np
import pytest

import fpsolve as fps

OU = fps.processes.ou(1.0, 2**0.5)
VE = fps.SDE(0.0, lambda t: 0.1 * 30.0**t)
CASES = {
    "OU, equal narrow": (OU, fps.GaussianMixture([0.5, 0.5], [-1, 1], [0.1, 0.1])),
    "OU, unequal": (OU, fps.GaussianMixture([0.3, 0.7], [-2, 1], [0.5, 0.3])),
    "VP, unequal": (fps.processes.vp(), fps.GaussianMixture([0.3, 0.7], [-2, 1], [0.5, 0.4])),
    "VE, narrow": (VE, fps.GaussianMixture([0.2, 0.5, 0.3], [-2, 0.5, 2], [0.2, 0.4, 0.1])),
}
TIMES = (0.01, 0.04, 0.3, 1.0)


def far_score_errors(q: fps.Evolution, exact: fps.Evolution, t: float) -> tuple[np.ndarray, np.ndarray]:
    """Errors of the score and their estimates on 12 standard deviations, in units of its root mean square."""
    law = exact.at(t)
    x = law.mean() + np.linspace(-12.0, 12.0, 801) * law.std()
    rms = np.sqrt(law.expect(lambda y: law.score(y) ** 2))
    score, estimate = q.with_error("score", x, t)
    return np.abs(score - law.score(x)) / rms, estimate / rms


@pytest.mark.parametrize("name", CASES)
def test_score_of_mixture_versus_closed_form(name: str) -> None:
    process, law = CASES[name]
    q = fps.solve_log_density(process, law, (0, 1), t_eval=TIMES)
    exact = fps.exact_evolution(process, law, (0, 1))
    for t in TIMES:
        error, estimate = far_score_errors(q, exact, t)
        assert error.max() < 1e-6
        assert (error <= estimate).mean() > 0.99
    x = np.linspace(-1.0, 1.0, 9)
    assert np.abs(q.cdf(x, 1.0) - exact.cdf(x, 1.0)).max() < 1e-8
    assert abs(q.mass(1.0) - 1.0) < 1e-8


def test_layers_have_eight_cells() -> None:
    process, law = CASES["OU, unequal"]
    q = fps.solve_log_density(process, law, (0, 1), t_eval=[0.05])
    x = q.moment(0.05).nodes.x
    parts = fps.exact_evolution(process, law, (0, 1)).at(0.05)
    (m, n), (v, w) = parts.means, parts.stds**2
    gap = np.polynomial.Polynomial([-m, 1]) ** 2 / (2 * v) - np.polynomial.Polynomial([-n, 1]) ** 2 / (2 * w)
    crossings = (gap - np.log(parts.weights[0] / parts.weights[1]) + 0.5 * np.log(v / w)).roots()
    for middle in crossings:
        jump = abs((middle - m) / v - (middle - n) / w)
        assert (np.abs(x - middle) < 0.5 / jump).sum() >= 8


def test_state_dependent_noise_versus_closed_form() -> None:
    process = fps.processes.sinh_ou(0.8, 0.7, 1.0)
    law = fps.Pushforward(fps.GaussianMixture([0.4, 0.6], [-0.7, 0.5], [0.3, 0.35]), fps.maps.Sinh(1.0))
    q = fps.solve_log_density(process, law, (0, 0.5), t_eval=[0.5])
    exact = fps.exact_evolution(process, law, (0, 0.5))
    x = np.linspace(-8.0, 8.0, 201)
    score, estimate = q.with_error("score", x, 0.5)
    error = np.abs(score - exact.score(x, 0.5))
    assert error.max() < 1e-5
    assert (error <= estimate).mean() > 0.99


def test_inflow_ends_are_closed_by_the_tail() -> None:
    # a wide law contracts: f - g² s points inward at both ends
    law = fps.Normal(0.5, 3.0)
    q = fps.solve_log_density(OU, law, (0, 1), t_eval=[0.5, 1.0])
    exact = fps.exact_evolution(OU, law, (0, 1))
    for t in (0.5, 1.0):
        error, _ = far_score_errors(q, exact, t)
        assert error.max() < 1e-7
    assert q.error["score_sup"].domain.max() < 1e-6


def test_reversed_clock_has_the_value_function() -> None:
    process, law = CASES["OU, equal narrow"]
    forward = fps.solve_log_density(process, law, (0, 0.5), t_eval=[0.2])
    reverse = fps.solve_log_density(process, law, (0, 0.5), t_eval=[0.3], clock="reversed")
    x = np.linspace(-6.0, 6.0, 101)
    assert np.abs(reverse.value(x, 0.3) + forward.logpdf(x, 0.2)).max() < 1e-7
    assert reverse.t_span == (0.0, 0.5)
    assert reverse.at(0.5) is reverse.initial
    assert np.abs(reverse.velocity(x, 0.3) + forward.velocity(x, 0.2)).max() < 1e-5


def test_given_grid_is_used_as_it_is() -> None:
    grid = fps.Grid(-10, 10, 402)
    q = fps.solve_log_density(OU, fps.Normal(0.3, 0.5), (0, 1), grid=grid, t_eval=[1.0])
    assert q.grid is grid
    assert q.moment(1.0).nodes.x.size == 405
    exact = fps.exact_evolution(OU, fps.Normal(0.3, 0.5), (0, 1))
    assert np.abs(q.score(np.linspace(-9, 9, 50), 1.0) - exact.score(np.linspace(-9, 9, 50), 1.0)).max() < 1e-6


@pytest.mark.parametrize(
    ("process", "law", "rule"),
    [
        (fps.SDE(0.0, 1.0, support=(0, 1), boundary="absorbing"), fps.Density(lambda x: 0 * x, (0, 1)), "whole line"),
        (fps.ODE(lambda x: -x), fps.Normal(0, 1), "needs noise"),
        (fps.SDE(0.0, lambda x: x), fps.Normal(0, 1), "noise everywhere"),
        (fps.SDE(0.0, 1.0), fps.Density(lambda x: -x, (0, np.inf)), "finite on the whole line"),
    ],
    ids=["walls", "no noise", "noise that vanishes", "half-line"],
)
def test_what_has_no_logarithm_is_refused(process: fps.SDE, law: object, rule: str) -> None:
    with pytest.raises(fps.InputError, match=rule):
        fps.solve_log_density(process, law, (0, 1))


def test_kinks_need_a_grid() -> None:
    kinked = fps.LaplaceMixture([1.0], [0.0], [1.0])
    with pytest.raises(fps.InputError, match="without kinks"):
        fps.solve_log_density(OU, kinked, (0, 1))
