"""The protocol of paths of densities, on a path that a user gives by its log-density."""

import math
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fpsolve as fps
from fpsolve.errors import CoefficientError, DensityError, InputError, UnknownName
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.mixtures import Normal

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
X = np.linspace(-2.0, 2.0, 9)


def spread(t: Any) -> Any:
    return 0.5 + 0.4 * t


def log_moving(x: Any, t: Any) -> Any:
    return -0.5 * ((x - np.sin(t)) / spread(t)) ** 2 - np.log(spread(t)) - HALF_LOG_2PI


MOVING = fps.path(log_moving, t_span=(0, 2))


class Known(Evolution):
    """The same path from its law alone, so that everything else is generic."""

    t_span = (0.0, 2.0)

    def at(self, t: float) -> Normal:
        time = self.check_t(t)
        return Normal(math.sin(time), float(spread(time)))


KNOWN = Known()


@pytest.mark.parametrize("name", ["pdf", "logpdf", "score", "cdf"])
@pytest.mark.parametrize("t", [0.0, 0.7, 2.0])
def test_path_versus_law(name: str, t: float) -> None:
    assert np.allclose(getattr(MOVING, name)(X, t), getattr(KNOWN, name)(X, t), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("t", [0.0, 0.7, 2.0])
def test_functionals_of_a_gaussian(t: float) -> None:
    s = float(spread(t))
    for q in (MOVING, KNOWN):
        assert math.isclose(q.mean(t), math.sin(t), rel_tol=1e-9, abs_tol=1e-9)
        assert math.isclose(q.var(t), s**2, rel_tol=1e-8)
        assert math.isclose(q.entropy(t), 0.5 + HALF_LOG_2PI + math.log(s), rel_tol=1e-8)
        assert math.isclose(q.fisher(t), s**-2, rel_tol=1e-6)
        assert math.isclose(q.mass(t), 1.0, rel_tol=1e-9)
        assert np.allclose(q.ppf([0.1, 0.5], t), Normal(math.sin(t), s).ppf(np.array([0.1, 0.5])), atol=1e-8)
        assert math.isclose(q.expect(lambda x: x**2, t), s**2 + math.sin(t) ** 2, rel_tol=1e-8)


@pytest.mark.parametrize("q", [MOVING, KNOWN], ids=["path", "law"])
@pytest.mark.parametrize("t", [0.0, 1e-3, 0.7, 1.9999, 2.0])
def test_velocity_covers_the_truth_up_to_the_ends(q: Evolution, t: float) -> None:
    s = float(spread(t))
    x = math.sin(t) + s * np.array([-3.0, -0.4, 0.0, 1.0, 3.0])
    truth = math.cos(t) + 0.4 * (x - math.sin(t)) / s
    values, error = q.with_error("velocity", x, t)
    assert (np.abs(values - truth) <= error + 1e-13).all()
    assert error.max() < 1e-5
    assert np.allclose(q.flux(x, t), truth * q.pdf(x, t), atol=1e-8)


@given(st.floats(0.5, 8.0), st.floats(0.05, 1.95))
def test_error_of_the_flux_covers_fast_paths(rate: float, t: float) -> None:
    # the path must be known to be slow or fast only through its values
    q = Known()
    q.at = lambda u: Normal(math.sin(rate * u), 0.5)  # type: ignore[method-assign]
    x = math.sin(rate * t) + 0.5 * np.array([-2.0, 0.0, 1.5])
    flux, error = q.flux_with_error(x, t)
    assert (np.abs(flux - rate * math.cos(rate * t) * q.pdf(x, t)) <= error + 1e-13).all()


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_results_have_the_shape_of_x(shape: tuple[int, ...]) -> None:
    x = np.full(shape, 0.3)
    for q in (MOVING, KNOWN):
        for name in ("pdf", "logpdf", "score", "cdf", "velocity", "flux"):
            assert np.shape(getattr(q, name)(x, 0.5)) == shape, name


def test_names_of_arguments_decide() -> None:
    swapped = fps.path(lambda t, x: log_moving(x, t), t_span=(0, 2))
    assert np.array_equal(swapped.logpdf(X, 0.3), MOVING.logpdf(X, 0.3))
    still = fps.path(lambda x: -0.5 * x**2 - HALF_LOG_2PI, t_span=(0, 1))
    assert np.abs(still.velocity(X, 0.5)).max() < 1e-12
    with pytest.raises(UnknownName, match="got 'time'"):
        fps.path(lambda x, time: -0.5 * x**2 - HALF_LOG_2PI, t_span=(0, 1))


# --- a cdf that is given ----------------------------------------------------------------------------------------------


def test_given_cdf_is_used() -> None:
    calls = []

    def cdf(x: Any, t: float) -> Any:
        calls.append(t)
        return KNOWN.cdf(x, t)

    q = fps.path(log_moving, t_span=(0, 2), cdf=cdf)
    calls.clear()
    assert np.array_equal(q.cdf(X, 0.5), KNOWN.cdf(X, 0.5))
    assert calls == [0.5]
    assert q.cdf(np.full((2, 3), 0.1), 0.5).shape == (2, 3)
    truth = math.cos(0.5) + 0.4 * (X - math.sin(0.5)) / spread(0.5)
    assert np.allclose(q.flux(X, 0.5), truth * KNOWN.pdf(X, 0.5), atol=1e-10)


def test_given_cdf_must_be_one() -> None:
    with pytest.raises(DensityError, match=r"a cdf must lie in \[0, 1\].*P\(X_t ≤ x\)"):
        fps.path(log_moving, t_span=(0, 2), cdf=lambda x: x)
    with pytest.raises(DensityError, match=r"cdf must be the integral of exp\(logpdf\).*leave cdf out"):
        fps.path(log_moving, t_span=(0, 2), cdf=lambda x, t: 0.999 * KNOWN.cdf(x, t))
    later = fps.path(log_moving, t_span=(0, 2), cdf=lambda x, t: KNOWN.cdf(x, t) + (t == 0.5))
    with pytest.raises(DensityError, match="a cdf must lie in"):
        later.cdf(X, 0.5)
    with pytest.raises(CoefficientError, match="the cdf must return one value per point"):
        fps.path(log_moving, t_span=(0, 2), cdf=lambda x: np.zeros(2))


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.0, 1.0, 2.0])
def test_path_that_is_not_normalised_at_an_end_or_in_the_middle_is_refused(t: float) -> None:
    def lost(x: Any, t_: float) -> Any:
        return log_moving(x, t_) - 0.1 * (t_ == t)

    with pytest.raises(DensityError, match="a density must integrate to one"):
        fps.path(lambda x, t: lost(x, t), t_span=(0, 2))


def test_path_that_loses_mass_later_is_refused_when_asked() -> None:
    q = fps.path(lambda x, t: log_moving(x, t) + 1e-3 * t * (t - 1) * (t - 2), t_span=(0, 2))
    with pytest.raises(DensityError, match="a density must integrate to one"):
        q.pdf(0.0, 0.5)
    assert q.pdf(0.0, 1.0) > 0


@pytest.mark.parametrize("q", [MOVING, KNOWN], ids=["path", "law"])
def test_times_outside_and_points_that_are_no_numbers(q: Evolution) -> None:
    for name in ("pdf", "logpdf", "score", "cdf", "velocity", "flux"):
        with pytest.raises(InputError, match=r"t must lie within \[0, 2\]; got 2.5"):
            getattr(q, name)(0.0, 2.5)
    for name in ("at", "mean", "var", "entropy", "fisher", "mass"):
        with pytest.raises(InputError, match=r"t must lie within \[0, 2\]; got -1"):
            getattr(q, name)(-1)
    with pytest.raises(InputError, match="x must not contain NaN"):
        q.flux(np.nan, 0.5)


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_sample_is_of_the_law_and_reproducible() -> None:
    # false-alarm rate: a mean beyond 6 standard errors happens with probability 2e-9
    n = 20_000
    x = MOVING.sample(n, 0.7, rng=3)
    assert abs(x.mean() - math.sin(0.7)) < 6 * spread(0.7) / math.sqrt(n)
    assert np.array_equal(x, MOVING.sample(n, 0.7, rng=3))
    assert not np.array_equal(x, MOVING.sample(n, 0.7, rng=4))
    assert MOVING.sample(5, 0.7, np.random.default_rng(0)).shape == (5,)


def test_plot_draws_the_times_that_are_asked_for() -> None:
    axes = MOVING.plot()
    assert len(axes.lines) == 5
    assert axes.get_xlabel() == "x"
    _, own = plt.subplots()
    assert MOVING.plot(own, times=[0.5]) is own
    assert [line.get_label() for line in own.lines] == ["t = 0.5"]
    plt.close("all")


def test_defaults_of_the_protocol() -> None:
    assert (MOVING.grid, MOVING.process, MOVING.initial, MOVING.times, MOVING.stats) == (None, None, None, None, {})
    assert MOVING.message == "given by its log-density"
    left, right = MOVING.span(1.0)
    assert math.isclose(MOVING.cdf(left, 1.0), 1e-6, rel_tol=1e-4)
    assert math.isclose(1 - MOVING.cdf(right, 1.0), 1e-6, rel_tol=1e-4)
