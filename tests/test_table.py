"""Tables of coefficients: against closed forms, against the function itself, and what happens beyond them."""

import pickle
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsolve as fps
from fpsolve.errors import CoefficientError, InputError
from fpsolve.kernels.coefficients import OK, Block, evaluate
from fpsolve.kernels.lookup import DEGREE, LOBATTO, NODES, time_weights
from fpsolve.problem import coefficient as coefficients
from fpsolve.problem.coefficient import TABULATE_FROM, Coefficient
from fpsolve.problem.tabulation import spline_at, spline_coefficients

SPAN = (0.0, 1.0)
MANY = 1e12
OU = fps.processes.ou(theta=1.0, sigma=2**0.5)
MIXTURE = fps.GaussianMixture([0.35, 0.65], [-1.6, 1.1], [0.35, 0.5])
RNG = np.random.default_rng(5)


def values_of(block: Block, x: np.ndarray, t: float) -> np.ndarray:
    """Values as a kernel sees them; what the function raised is raised again."""
    out = np.full_like(x, np.nan)
    status = evaluate(block.address, x, t, block.params, out)
    block.raise_stored()
    assert status == OK
    return out


@pytest.fixture(scope="module")
def exact() -> fps.Evolution:
    return fps.exact_evolution(OU, MIXTURE, SPAN)


@pytest.fixture(scope="module")
def solved() -> fps.Evolution:
    return fps.solve_fokker_planck(OU, MIXTURE, SPAN)


# interpolation --------------------------------------------------------------------------------------------------------


def test_splines_reproduce_polynomials_of_their_degree() -> None:
    nodes = np.arange(13.0)
    rows = np.array([(nodes / 6 - 1) ** k for k in range(DEGREE + 1)])
    places = np.concatenate([12 * RNG.random(50), [0.0, 12.0, 5.0]])
    expected = np.array([(places / 6 - 1) ** k for k in range(DEGREE + 1)])
    assert np.abs(spline_at(spline_coefficients(rows), places) - expected).max() < 1e-13


def test_splines_converge_at_order_six() -> None:
    errors = []
    for cells in (40, 80):
        places = cells * (0.003 + 0.994 * RNG.random(400))
        rows = spline_coefficients(np.sin(6 * np.arange(cells + 1.0) / cells)[None])
        errors.append(np.abs(spline_at(rows, places)[0] - np.sin(6 * places / cells)).max())
    assert 5.5 < np.log2(errors[0] / errors[1]) < 7.0


def test_rows_reproduce_polynomials_in_time() -> None:
    weights = np.empty(NODES)
    for part in (0.0, 0.31, 0.5, 1.0, float(LOBATTO[3])):
        time_weights(part, weights)
        for k in range(NODES):
            assert abs(weights @ LOBATTO**k - part**k) < 1e-14


# against the function itself ------------------------------------------------------------------------------------------


def test_table_against_a_closed_form() -> None:
    def fn(x: np.ndarray, t: float) -> np.ndarray:
        return np.tanh(3 * x) * np.exp(-t) + 0.3 * x * t**2

    table = fps.Table(fn, (-4, 4), SPAN)
    assert table.error < 1e-8
    assert table.called_directly == 0.0
    for t in (0.0, 0.123, 0.5, 0.987, 1.0):
        x = np.concatenate([-4 + 8 * RNG.random(2000), [-4.0, 4.0]])
        assert np.abs(table(x, t) - fn(x, t)).max() < 2e-8 * np.abs(fn(x, t)).max()


def test_table_keeps_the_shape_of_x() -> None:
    table = fps.Table(lambda x, t: np.sin(x + t), (-1, 1), SPAN)
    assert table(0.3, 0.5).shape == ()
    assert table(np.zeros((2, 3)), 0.5).shape == (2, 3)
    assert table(np.zeros((4, 6)).T[::2], 0.5).shape == (3, 4)
    assert table(np.zeros(0), 0.5).shape == (0,)


def test_one_value_does_not_depend_on_its_neighbours() -> None:
    table = fps.Table(lambda x, t: np.sin(5 * x + t), (-1, 1), SPAN)
    x = -0.999 + 1.998 * RNG.random(517)
    together = table(x, 0.3)
    assert np.abs(together - [float(table(one, 0.3)) for one in x]).max() < 1e-15


@pytest.mark.parametrize("rtol", [1e-4, 1e-7, 1e-10])
def test_measured_error_is_below_what_was_asked_for_and_true(rtol: float, exact: fps.Evolution) -> None:
    table = fps.Table(lambda x, t: exact.score(x, t), (-4, 4), (0.1, 1.0), rtol=rtol)
    assert table.error <= rtol
    t = 0.1 + 0.9 * RNG.random(20)
    x = -4 + 8 * RNG.random(500)
    scale = [np.abs(exact.score(np.linspace(-4, 4, 200), float(u))).max() for u in t]
    worst = max(np.abs(table(x, float(u)) - exact.score(x, float(u))).max() / s for u, s in zip(t, scale, strict=True))
    assert worst < 3 * rtol


@settings(max_examples=8)
@given(
    means=st.lists(st.floats(-2, 2), min_size=2, max_size=3),
    std=st.floats(0.15, 1.0),
    theta=st.floats(0.2, 3.0),
)
def test_reverse_drift_of_mixtures_against_the_table(means: list[float], std: float, theta: float) -> None:
    p = fps.processes.ou(theta=theta, sigma=1.0)
    law = fps.GaussianMixture(np.full(len(means), 1 / len(means)), means, np.full(len(means), std))
    q = fps.exact_evolution(p, law, SPAN)
    drift = p.reverse(q).drift_coefficient
    block = drift.path_block(MANY, SPAN)
    assert block.how.startswith("table")
    for t in (0.0, 0.37, 0.9, 0.999, 1.0):
        x = q.sample(400, 1.0 - t, rng=1)
        expected = drift(x, t)
        # relative to the largest value in the table, which may lie between the modes
        scale = np.abs(drift(np.linspace(*q.span(1.0 - t, 1e-9), 500), t)).max()
        assert np.abs(values_of(block, x, t) - expected).max() < 5e-8 * scale


# in time --------------------------------------------------------------------------------------------------------------


def test_steep_start_is_resolved_by_shorter_panels() -> None:
    table = fps.Table(lambda x, t: -x / (1e-3 + t), (-3, 3), SPAN)
    assert table.called_directly == 0.0
    panels = table.tabulation.panels
    assert panels[0].end < 0.01
    assert panels[-1].end - panels[-1].start > 0.1
    for t in (0.0, 1e-4, 1e-3, 0.02, 0.7):
        x = np.linspace(-3, 3, 50)
        assert np.abs(table(x, t) * (1e-3 + t) / x + 1).max() < 1e-7


def test_singular_time_is_left_to_the_function() -> None:
    def fn(x: np.ndarray, t: float) -> np.ndarray:
        return -x / t

    table = fps.Table(fn, (-3, 3), SPAN)
    assert 0.0 < table.called_directly <= 4 / 4096
    x = np.linspace(-3, 3, 7)
    assert (table(x, 1e-5) == fn(x, 1e-5)).all()
    assert np.abs(table(x, 0.01) - fn(x, 0.01)).max() < 1e-7 * 300
    assert not np.isfinite(table(x, 0.0)).any()


def test_layer_that_no_table_resolves_is_named() -> None:
    with pytest.raises(CoefficientError, match=r"table must resolve .*cells do not resolve it in x"):
        fps.Table(lambda x, t: np.sign(x - 0.1234), (-1, 1), SPAN)
    with pytest.raises(CoefficientError, match="interpolation in time"):
        fps.Table(lambda x, t: np.sin(x) * (1.0 if t < 0.4 else 2.0) + np.sin(3e4 * t), (-1, 1), SPAN)


# beyond the table -----------------------------------------------------------------------------------------------------


def test_outside_the_function_itself_is_called() -> None:
    asked: list[float] = []

    def fn(x: np.ndarray, t: float) -> np.ndarray:
        asked.extend(x)
        return np.cos(x) * (1 + t)

    table = fps.Table(fn, (-1, 1), SPAN)
    asked.clear()
    x = np.array([0.2, -1.5, 0.9, 7.0, 1.0, -1.0])
    found = table(x, 0.5)
    assert set(asked) == {-1.5, 7.0}
    assert np.abs(found - np.cos(x) * 1.5).max() < 1e-7
    assert found[1] == np.cos(-1.5) * 1.5
    asked.clear()
    assert (table(x, 1.25) == np.cos(x) * 2.25).all()
    assert asked == x.tolist()


def test_what_the_function_raises_outside_arrives_as_itself() -> None:
    def fn(x: np.ndarray, t: float) -> np.ndarray:
        if (np.abs(x) > 2).any():
            raise LookupError("not measured there")
        return -x

    table = fps.Table(fn, (-1.9, 1.9), SPAN)
    with pytest.raises(LookupError, match="not measured"):
        table(3.0, 0.5)
    p = fps.SDE(table, 0.5)
    with pytest.raises(LookupError, match="not measured"):
        fps.simulate(p, fps.PointMass(2.5), SPAN, n_paths=5, n_steps=5)


def test_nan_is_not_looked_up() -> None:
    table = fps.Table(lambda x, t: np.sin(x), (-1, 1), SPAN)
    assert np.isnan(table(np.array([0.0, np.nan]), 0.5)).tolist() == [False, True]


def test_beyond_a_grid_solution_nothing_is_made_up(solved: fps.Evolution) -> None:
    drift = OU.reverse(solved).drift_coefficient
    far = np.array([0.0, solved.grid.right + 1.0, solved.grid.left - 1.0])
    for evaluations in (1, MANY):
        found = values_of(drift.path_block(evaluations, SPAN), far, 0.4)
        assert np.isnan(found).tolist() == [False, True, True]
    # beyond the table, and not beyond the grid, the function answers
    inside = np.array([0.999 * solved.grid.right])
    assert (values_of(drift.path_block(MANY, SPAN), inside, 0.4) == drift(inside, 0.4)).all()


def test_beyond_a_closed_form_the_function_answers(exact: fps.Evolution) -> None:
    drift = OU.reverse(exact).drift_coefficient
    x = np.array([-30.0, 0.3, 25.0])
    assert np.abs(values_of(drift.path_block(MANY, SPAN), x, 0.4) - drift(x, 0.4)).max() < 1e-6


# which coefficients get a table ---------------------------------------------------------------------------------------


def test_table_only_where_it_pays_and_only_for_paths(solved: fps.Evolution) -> None:
    drift = OU.reverse(solved).drift_coefficient
    assert drift.path_block(TABULATE_FROM / 2, SPAN).how == "python"
    block = drift.path_block(MANY, SPAN)
    assert block.how.startswith("table (")
    assert "interpolation error" in block.how
    assert "error of the score" in block.how
    assert drift.block(MANY, SPAN).how == "python"


def test_errors_of_the_table_against_the_truth(solved: fps.Evolution, exact: fps.Evolution) -> None:
    """The table of a grid solution misses the exact drift by what it says, in the mean over paths."""
    drift, truth = OU.reverse(solved).drift_coefficient, OU.reverse(exact).drift_coefficient
    block = drift.path_block(MANY, SPAN)
    table = drift._tables[SPAN]
    assert not isinstance(table, str)
    squares, interpolation = [], []
    for t in np.linspace(0.01, 0.99, 40):
        x = exact.sample(2000, 1.0 - t, rng=2)
        found = values_of(block, x, float(t))
        squares.append(np.mean((found - truth(x, float(t))) ** 2))
        interpolation.append(np.mean((found - drift(x, float(t))) ** 2))
    assert np.sqrt(np.mean(squares)) < table.rms_noise + table.rms_error
    assert np.sqrt(np.mean(interpolation)) < max(3 * table.rms_error, 1e-8)


@pytest.mark.parametrize("kind", ["flow", "noise", "controlled", "stratonovich", "twice"])
def test_everything_built_on_an_evolution_has_a_table(kind: str, exact: fps.Evolution) -> None:
    built: Any = {
        "flow": lambda: OU.probability_flow(exact),
        "noise": lambda: OU.with_noise(lambda x: 1.0 + 0.1 * np.sin(x), exact),
        "controlled": lambda: OU.reverse(exact).controlled(lambda x: 0.1 * x),
        "stratonovich": lambda: OU.reverse(exact).to_stratonovich(),
        "twice": lambda: OU.reverse(exact).probability_flow(lambda x, t: -x),
    }[kind]()
    assert built.evolutions == (exact,)
    drift = built.drift_coefficient
    block = drift.path_block(MANY, SPAN)
    assert block.how.startswith("table")
    x = np.linspace(-2, 2, 101)
    for t in (0.05, 0.6, 0.95):
        assert np.abs(values_of(block, x, t) - drift(x, t)).max() < 1e-6


def test_function_that_uses_an_evolution_is_found(exact: fps.Evolution) -> None:
    def score(x: np.ndarray, t: float) -> np.ndarray:
        return exact.score(x, t)

    for fn in (
        lambda x, t: x + 2 * exact.score(x, 1.0 - t),
        lambda x, t: score(x, t),
        lambda x, t, q=exact: q.velocity(x, t),
        exact.score,
    ):
        drift = Coefficient("drift", fn)
        assert [part.evolution for part in drift.built_on] == [exact]
        block = drift.path_block(MANY, SPAN)
        assert block.how.startswith("table")
        x = np.linspace(-2, 2, 101)
        assert np.abs(values_of(block, x, 0.4) - drift(x, 0.4)).max() < 1e-6
    assert Coefficient("drift", lambda x: -x).built_on == ()
    assert OU.evolutions == ()


def test_no_table_is_said_and_the_function_is_called() -> None:
    q = fps.exact_evolution(OU, MIXTURE, SPAN)
    drift = Coefficient("drift", lambda x, t: np.sign(x) * q.score(x, t))
    assert drift.path_block(MANY, SPAN).how == "python"
    assert "no table" in drift.refusal()


# paths ----------------------------------------------------------------------------------------------------------------


def test_paths_with_and_without_the_table(solved: fps.Evolution, monkeypatch: pytest.MonkeyPatch) -> None:
    n_paths, n_steps = 4000, 128
    monkeypatch.setattr(coefficients, "TABULATE_FROM", 1)
    many = fps.simulate(OU.reverse(solved), solved.at(1.0), SPAN, n_paths=n_paths, n_steps=n_steps)
    monkeypatch.setattr(coefficients, "TABULATE_FROM", np.inf)
    few = fps.simulate(OU.reverse(solved), solved.at(1.0), SPAN, n_paths=n_paths, n_steps=n_steps)
    assert many.stats["coefficients"]["drift"].startswith("table")
    assert few.stats["coefficients"]["drift"].startswith("python")
    assert np.abs(many.x - few.x).max() < 1e-2
    assert np.sqrt(np.mean((many.x - few.x) ** 2)) < 1e-4
    z = (many.expect(lambda x: x).value - MIXTURE.mean()) / many.expect(lambda x: x).std_error
    assert abs(z) < 4.5


def test_table_by_hand_in_a_simulation() -> None:
    drift = fps.Table(lambda x, t: -np.tanh(x) * (1 + t), (-4, 4), SPAN)
    p = fps.SDE(drift, 1.0)
    looked_up = fps.simulate(p, fps.PointMass(0.5), SPAN, n_paths=500, n_steps=20)
    direct = fps.simulate(
        fps.SDE(lambda x, t: -np.tanh(x) * (1 + t), 1.0), fps.PointMass(0.5), SPAN, n_paths=500, n_steps=20
    )
    assert looked_up.stats["coefficients"]["drift"].startswith("table (")
    assert np.abs(looked_up.x - direct.x).max() < 1e-7


def test_table_travels_to_another_process() -> None:
    table = fps.Table(lambda x, t: np.sin(x + t), (-1, 1), SPAN)
    again = pickle.loads(cloudpickle.dumps(table))
    x = np.linspace(-2, 2, 30)
    assert (again(x, 0.3) == table(x, 0.3)).all()
    assert again.error == table.error


# bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("region", "options", "match"),
    [
        ((1, -1), {}, "region must be a pair"),
        ((0, np.inf), {}, "region must be a pair"),
        (3.0, {}, "region must be a pair"),
        ((-1, 1), {"rtol": 0.0}, "rtol must be a finite number above 0"),
        ((-1, 1), {"t_span": (1, 0)}, "t_span must be a pair"),
    ],
)
def test_bad_arguments_are_named(region: Any, options: Any, match: str) -> None:
    with pytest.raises(InputError, match=match):
        fps.Table(lambda x, t: -x, region, **({"t_span": SPAN} | options))
