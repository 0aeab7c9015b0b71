"""The protocol of paths of densities, on a path that a user gives by its log-density."""

import importlib
import math
import subprocess
import sys
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsolve as fps
from fpsolve import __version__
from fpsolve.errors import CoefficientError, DensityError, InputError, UnknownName
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.mixtures import Normal
from fpsolve.problem.streams import as_stream

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


# --- both tails -------------------------------------------------------------------------------------------------------

OU = fps.processes.ou(1.0, 2**0.5)
MIX = fps.GaussianMixture([0.3, 0.7], [-2.0, 1.0], [0.4, 0.6])
POSITIVE = fps.Pushforward(Normal(0.0, 0.3), fps.maps.Exp())
EXACT = fps.exact_evolution(OU, MIX, (0, 1))


@pytest.fixture(scope="module")
def solved() -> Any:
    return fps.solve_fokker_planck(OU, MIX, (0, 1), rtol=1e-9, t_eval=[0.2, 0.6, 1.0])


EVOLUTIONS = {
    "closed form": lambda: EXACT,
    "mapped": lambda: fps.exact_evolution(fps.processes.gbm(), POSITIVE, (0, 1)),
    "point mass": lambda: fps.exact_evolution(OU, fps.PointMass(0.3), (0, 1)),
    "path": lambda: MOVING,
    "path with cdf": lambda: fps.path(log_moving, t_span=(0, 2), cdf=lambda x, t: KNOWN.cdf(x, t)),
    "high order": lambda: fps.solve_fokker_planck(OU, MIX, (0, 1), rtol=1e-7),
    "robust": lambda: fps.solve_fokker_planck(OU, MIX, (0, 1), rtol=1e-3, scheme="robust"),
    "characteristics": lambda: fps.solve_liouville(fps.ODE(lambda x: -x), MIX, (0, 1)),
    "finite volumes": lambda: fps.solve_liouville(fps.ODE(lambda x: -x), MIX, (0, 1), scheme="finite-volume"),
}


@pytest.mark.parametrize("kind", EVOLUTIONS)
def test_two_tails_of_every_evolution(kind: str) -> None:
    q = EVOLUTIONS[kind]()
    p = np.array([1e-8, 1e-3, 0.2, 0.5, 0.8, 0.999])
    for t in (0.3, 1.0):
        x, y = q.ppf(p, t), q.isf(p, t)
        assert np.allclose(q.cdf(x, t), p, rtol=1e-9, atol=0)
        assert np.allclose(q.sf(y, t), p, rtol=1e-9, atol=0)
        assert np.allclose(q.cdf(x, t) + q.sf(x, t), 1.0, atol=1e-9)
        assert (np.diff(y) < 0).all()
        assert np.shape(q.sf(np.zeros((2, 3)) + 0.5, t)) == (2, 3)


@pytest.mark.parametrize("kind", [kind for kind in EVOLUTIONS if kind != "point mass"])
def test_survival_function_with_its_error(kind: str) -> None:
    q = EVOLUTIONS[kind]()
    x = q.ppf(np.array([0.01, 0.3, 0.9]), 0.4)
    value, error = q.with_error("sf", x, 0.4)
    assert np.allclose(value, q.sf(x, 0.4), atol=1e-12)
    assert (error < 1e-2).all()


def test_right_tail_of_a_path_keeps_its_digits() -> None:
    for q in (MOVING, EVOLUTIONS["path with cdf"](), KNOWN):
        x = math.sin(0.5) + spread(0.5) * np.array([2.0, 6.0, 11.0])
        assert np.allclose(q.sf(x, 0.5), KNOWN.at(0.5).sf(x), rtol=1e-9, atol=0)
        assert np.allclose(q.isf(q.sf(x, 0.5), 0.5), x, rtol=1e-9)


def test_tails_of_a_grid_solution_versus_closed_form(solved: Any) -> None:
    for t in (0.2, 0.73):
        x, y = EXACT.ppf(1e-8, t), EXACT.isf(1e-8, t)
        assert math.isclose(solved.cdf(x, t), 1e-8, rel_tol=1e-3)
        assert math.isclose(solved.sf(y, t), 1e-8, rel_tol=1e-3)


def test_entropy_and_fisher_versus_closed_form(solved: Any) -> None:
    for t in (0.0, 0.1, 0.6, 0.93):
        assert math.isclose(solved.entropy(t), EXACT.entropy(t), abs_tol=1e-8)
        assert math.isclose(solved.fisher(t), EXACT.fisher(t), abs_tol=1e-8)


@settings(max_examples=4)
@given(st.floats(0.2, 2.0), st.floats(0.4, 1.5), st.floats(-2.0, 2.0), st.floats(0.3, 1.2), st.floats(0.05, 1.0))
def test_entropy_and_fisher_of_mixtures(theta: float, sigma: float, mean: float, std: float, t: float) -> None:
    p, law = fps.processes.ou(theta, sigma), fps.GaussianMixture([0.5, 0.5], [mean, 0.2], [std, 0.7])
    truth = fps.exact_evolution(p, law, (0, 1))
    q = fps.solve_fokker_planck(p, law, (0, 1), rtol=1e-9, t_eval=[1.0])
    assert math.isclose(q.entropy(t), truth.entropy(t), abs_tol=1e-8)
    assert math.isclose(q.fisher(t), truth.fisher(t), rel_tol=1e-8)


# --- xarray -----------------------------------------------------------------------------------------------------------


def test_dataset_of_a_closed_form() -> None:
    data = EXACT.to_xarray(x=[-1.0, 0.0, 2.0], times=[0.25, 0.5])
    assert dict(data.sizes) == {"t": 2, "x": 3}
    names = {"pdf", "logpdf", "cdf", "sf", "score", "velocity"}
    assert set(data) == names | {f"{name}_error" for name in names}
    for name in names:
        assert data[name].dims == ("t", "x")
        assert np.array_equal(data[name].sel(t=0.5), getattr(EXACT, name)(np.array([-1.0, 0.0, 2.0]), 0.5))
        assert {"units", "long_name"} <= set(data[name].attrs)
        assert data[f"{name}_error"].max() < 1e-9
    assert data["velocity"].attrs["units"] == "x/t"
    assert data.attrs["message"] == EXACT.message
    assert data.attrs["source"] in (f"fpsolve {__version__}", "fpsolve unknown")


def test_dataset_of_a_grid_solution(solved: Any) -> None:
    data = solved.to_xarray()
    assert np.array_equal(data.x, solved.grid.faces)
    assert np.array_equal(data.t, [0.2, 0.6, 1.0])
    assert np.array_equal(data["score_error"][1], solved.with_error("score", solved.grid.faces, 0.6)[1])
    assert "order-8" in data.attrs["stats"]


def test_dataset_of_defaults_and_atoms() -> None:
    data = fps.exact_evolution(OU, fps.PointMass(0.3), (0, 1)).to_xarray(x=np.linspace(-2, 2, 5))
    assert dict(data.sizes) == {"t": 33, "x": 5}
    assert np.isnan(data["pdf"][0]).all()
    assert np.array_equal(data["cdf"][0], [0, 0, 0, 1, 1])
    assert np.isfinite(data["velocity"][1:]).all()
    moved = fps.solve_liouville(fps.ODE(lambda x: -x), fps.Empirical([1.0, 2.0]), (0, 1)).to_xarray(x=[0.0, 0.5])
    assert np.isnan(moved["score"]).all()
    assert np.array_equal(moved["cdf"][-1], [0.0, 0.5])
    assert dict(MOVING.to_xarray(times=[0.5]).sizes) == {"t": 1, "x": 401}


@pytest.mark.parametrize("x", [[1.0, 0.0], [[0.0, 1.0]], [0.0, np.inf], [0.0, 0.0]])
def test_dataset_needs_increasing_points(x: Any) -> None:
    with pytest.raises(InputError, match="x must be increasing finite points"):
        EXACT.to_xarray(x=x, times=[0.5])


def test_without_xarray_the_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(InputError, match=r"run: pip install 'fpsolve\[xarray\]'"):
        EXACT.to_xarray()
    with pytest.raises(ImportError):
        importlib.import_module("xarray")


def test_importing_fpsolve_imports_no_xarray() -> None:
    code = "import sys, fpsolve; print('xarray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


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


@pytest.mark.parametrize("t", [0.0, 0.123, 0.6])
def test_samples_are_quantiles_of_uniform_draws(solved: Any, t: float) -> None:
    x = solved.sample(500, t, rng=7)
    draws = as_stream(7).generator("evolution").random(500)
    if t > 0.0:  # at the start the initial law draws in its own way
        assert np.allclose(solved.cdf(x, t), draws, rtol=1e-9, atol=1e-13)
        assert np.allclose(x, solved.ppf(draws, t), rtol=0, atol=1e-10)
        many, exact = solved.sample(50_000, t, rng=7), as_stream(7).generator("evolution").random(50_000)
        assert np.allclose(solved.cdf(many, t), exact, rtol=0, atol=1e-8)  # through a table
    assert np.array_equal(x, solved.sample(500, t, rng=7))
    assert not np.array_equal(x, solved.sample(500, t, rng=8))


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
