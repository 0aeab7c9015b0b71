"""Evolutions in files: what is loaded against what was saved, where no table holds it; and damaged files."""

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fpsolve as fps
from fpsolve.errors import InputError
from fpsolve.grids.moving import Frame, Walls
from fpsolve.grids.saved import on_grid, storage
from fpsolve.grids.saved.panels import Demand, Tabulation, between
from fpsolve.grids.saved.storage import LoadedEvolution
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.law_record import law_of, record_of
from fpsolve.problem.streams import as_stream

OU = fps.processes.ou(1.0, 2**0.5)
MIX = fps.GaussianMixture([0.3, 0.7], [-2.0, 1.0], [0.4, 0.6])
FIELDS = ("pdf", "logpdf", "score", "cdf", "sf", "velocity")


def again(q: Evolution, folder: Path) -> LoadedEvolution:
    loaded = fps.load(q.save(folder / "q.npz"))
    assert isinstance(loaded, LoadedEvolution)
    return loaded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("saved")


@pytest.fixture(scope="module")
def solved() -> Any:
    return fps.solve_fokker_planck(OU, MIX, (0, 1), rtol=1e-8, t_eval=[0.25, 0.5, 1.0])


@pytest.fixture(scope="module")
def file(solved: Any, folder: Path) -> Path:
    return solved.save(folder / "solved.npz")


@pytest.fixture(scope="module")
def loaded(file: Path) -> LoadedEvolution:
    return fps.load(file)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def exact(folder: Path) -> tuple[Evolution, LoadedEvolution]:
    q = fps.exact_evolution(OU, MIX, (0, 1))
    return q, fps.load(q.save(folder / "exact"))  # type: ignore[return-value]


# --- grid solutions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.0, 1e-7, 0.003, 0.1234, 0.5, 0.87, 1.0])
@pytest.mark.parametrize("name", FIELDS)
def test_loaded_solution_versus_the_solution(solved: Any, loaded: LoadedEvolution, name: str, t: float) -> None:
    x = np.linspace(*solved.span(t, 1e-7), 173)
    was, error = solved.with_error(name, x, t)
    now, bound = loaded.with_error(name, x, t)
    # kept within the estimate of the solve itself: its norm, or its value at the point
    allowed = np.maximum(error, float(np.sqrt(np.mean(error**2))))
    assert (np.abs(now - was) <= allowed + 1e-10 * (1 + np.abs(was))).all()
    assert np.median(bound) >= 0.5 * np.median(error)


@pytest.mark.parametrize("t", [0.003, 0.4321, 1.0])
def test_loaded_errors_cover_the_truth(loaded: LoadedEvolution, t: float) -> None:
    truth = fps.exact_evolution(OU, MIX, (0, 1))
    x = np.linspace(*truth.span(t, 1e-6), 300)
    for name in FIELDS:
        value, error = loaded.with_error(name, x, t)
        covered = np.abs(value - getattr(truth, name)(x, t)) <= error + 1e-12
        assert covered.mean() > 0.98, name


def test_budgets_are_kept(solved: Any, loaded: LoadedEvolution) -> None:
    assert set(loaded.error) == set(solved.error)
    for name, budget in solved.error.items():
        kept = loaded.error[name]
        assert kept.norm == budget.norm
        for part in ("times", "space", "time", "domain", "initial", "rounding"):
            assert np.array_equal(getattr(kept, part), getattr(budget, part)), (name, part)
        assert kept.main_cause == budget.main_cause


def test_what_a_loaded_evolution_says(solved: Any, loaded: LoadedEvolution) -> None:
    assert loaded.message == f"loaded from solved.npz: {solved.message}"
    assert loaded.stats["steps"] == solved.stats["steps"]
    assert (loaded.grid, loaded.t_span, loaded.initial) == (solved.grid, solved.t_span, MIX)
    assert loaded.process is None
    assert "SDE" in loaded.description
    assert loaded.header["units"]["pdf"] == "1/x"
    assert "loaded from" in repr(loaded)


def test_functionals(solved: Any, loaded: LoadedEvolution) -> None:
    for t in (0.1, 0.77):
        for name in ("mean", "var", "entropy", "fisher", "mass"):
            assert math.isclose(getattr(loaded, name)(t), getattr(solved, name)(t), rel_tol=1e-8), name
        p = np.array([1e-9, 0.2, 0.9])
        assert np.allclose(loaded.ppf(p, t), solved.ppf(p, t), atol=1e-6)
        assert np.allclose(loaded.isf(p, t), solved.isf(p, t), atol=1e-6)


def test_loaded_as_a_coefficient(solved: Any, loaded: LoadedEvolution) -> None:
    x = np.linspace(-2, 2, 21)
    assert np.allclose(OU.reverse(loaded).drift(x, 0.3), OU.reverse(solved).drift(x, 0.3), atol=1e-6)
    assert np.allclose(OU.probability_flow(loaded).velocity(x, 0.3), solved.velocity(x, 0.3), atol=1e-5)


def test_loaded_in_a_check(loaded: LoadedEvolution) -> None:
    truth = fps.exact_evolution(OU, MIX, (0, 1))
    assert fps.check_score(loaded, truth.score, times=[0.3, 0.8]).outcome != "refuted"
    assert fps.check_score(loaded, lambda x, t: 1.01 * truth.score(x, t), times=[0.3, 0.8]).refuted


def test_loaded_is_saved_as_it_is(loaded: LoadedEvolution, folder: Path) -> None:
    twice = fps.load(loaded.save(folder / "twice.npz"))
    x = np.linspace(-3, 3, 31)
    for name in FIELDS:
        for one, other in zip(twice.with_error(name, x, 0.37), loaded.with_error(name, x, 0.37), strict=True):
            assert np.array_equal(one, other), name
    assert twice.message == loaded.message


def test_plot_and_sample(loaded: LoadedEvolution) -> None:
    assert len(loaded.plot(times=[0.1, 0.6]).lines) == 2
    x = loaded.sample(2000, 0.37, rng=5)
    assert np.array_equal(x, loaded.sample(2000, 0.37, rng=5))
    draws = as_stream(5).generator("evolution").random(2000)
    assert np.allclose(loaded.cdf(x, 0.37), draws, atol=1e-12)


def test_initial_law_without_a_name_comes_from_its_table(folder: Path) -> None:
    law = fps.Density(lambda x: -0.5 * x**2 - 0.5 * math.log(2 * math.pi))
    q = fps.solve_fokker_planck(OU, law, (0, 1), rtol=1e-6)
    kept = again(q, folder)
    x = np.linspace(-3, 3, 41)
    for name in ("pdf", "score", "cdf"):
        assert np.allclose(getattr(kept, name)(x, 0.0), getattr(law, name)(x), atol=1e-6), name
        assert np.allclose(getattr(kept.initial, name)(x), getattr(law, name)(x), atol=1e-6), name
    assert math.isclose(float(kept.at(0.0).ppf(0.2)), float(fps.Normal(0, 1).ppf(0.2)), rel_tol=1e-6)


@pytest.mark.parametrize("law", [MIX, fps.LaplaceMixture([1.0], [0.3], [0.7])], ids=["smooth", "kink"])
def test_robust_scheme(law: Any, folder: Path) -> None:
    q = fps.solve_fokker_planck(OU, law, (0, 0.5), rtol=1e-3, scheme="robust")
    kept = again(q, folder)
    for t in (0.0, 1e-4, 0.021, 0.31, 0.5):
        x = np.linspace(*q.span(t, 1e-4), 61)
        for name in ("pdf", "cdf"):
            was, error = q.with_error(name, x, t)
            now, bound = kept.with_error(name, x, t)
            assert (np.abs(now - was) <= error.max() + bound + 1e-13).all(), (name, t)


def test_absorbed_mass_is_kept(folder: Path) -> None:
    p = fps.SDE(0.0, 1.0, support=(0.0, np.inf), boundary="absorbing")
    q = fps.solve_fokker_planck(p, fps.GammaMixture([1.0], [9.0], [0.2]), (0, 1), rtol=1e-5)
    kept = again(q, folder)
    for t in (0.33, 1.0):
        assert math.isclose(kept.mass(t), q.mass(t), rel_tol=1e-7)
        assert np.allclose(kept.slice(t).absorbed, q.slice(t).absorbed, atol=1e-8)
        assert math.isclose(kept.mean(t), q.mean(t), rel_tol=1e-7)
    assert (kept.support, kept.boundary) == (p.support, p.boundary)


# --- flows, lost mass, moving walls, atoms ----------------------------------------------------------------------------

WALL = {"support": (0.0, np.inf), "boundary": "absorbing"}
GAMMA = fps.GammaMixture([1.0], [9.0], [0.2])


def check_covered(q: Any, kept: Any, times: list[float], tiny: float = 1e-12) -> None:
    """Check that what differs stays within the errors, and that nearly all of it within that of the loaded path."""
    for t in times:
        with np.errstate(all="ignore"):  # a velocity has poles at absorbing ends
            _check_covered_at(q, kept, t, tiny)
        p = np.array([0.1, 0.3]) * q.mass(t)
        assert np.allclose(kept.ppf(p, t), q.ppf(p, t), atol=1e-4), t
        for name in ("mass", "mean", "var"):
            assert math.isclose(getattr(kept, name)(t), getattr(q, name)(t), rel_tol=3e-5, abs_tol=1e-8), (name, t)
        if hasattr(q, "absorbed"):
            assert np.allclose(kept.absorbed(t), q.absorbed(t), atol=1e-7), t


def _check_covered_at(q: Any, kept: Any, t: float, tiny: float) -> None:
    x = np.linspace(*q.span(t, 1e-5), 161)
    inner = [end + side * 1e-6 for side, end in zip((1, -1), q.at(t).support, strict=True) if math.isfinite(end)]
    x = np.sort(np.append(x, inner))
    for name in (*FIELDS, "flux"):
        (was, error), (now, bound) = (
            p.flux_with_error(x, t) if name == "flux" else p.with_error(name, x, t) for p in (q, kept)
        )
        known = np.isfinite(was) & np.isfinite(now)
        assert (known | ~np.isfinite(error) | ~np.isfinite(bound) | (was == now)).all(), (name, t)
        gap, room = np.abs(now - was)[known], tiny * (1 + np.abs(was[known]))
        assert (gap <= bound[known] + error[known] + room).all(), (name, t)
        assert (gap <= bound[known] + room).mean() > 0.98, (name, t)


@pytest.mark.parametrize(
    ("flow", "law", "end"),
    [
        pytest.param(
            fps.ODE(lambda x: x - x**3),
            fps.GaussianMixture([0.5, 0.5], [-1, 1.2], [0.5, 0.3]),
            0.5,
            marks=pytest.mark.deep,
        ),
        (fps.ODE(lambda x: -x), fps.LaplaceMixture([1.0], [0.3], [0.7]), 1.0),
        (fps.ODE(lambda x, t: -np.cos(5 * t) - 0 * x, **WALL), GAMMA, 1.0),
        pytest.param(fps.ODE(lambda x: -1 - 0.1 * x, **WALL), GAMMA, 0.5, marks=pytest.mark.deep),
        (fps.ODE(lambda x: 2.0 + 0 * x, support=(-1, 1), boundary="absorbing"), fps.Normal(0, 0.15), 0.6),
        (fps.ODE(lambda x: 1 + 0.5 * np.sin(x), support=(0, 2 * np.pi), boundary="periodic"), fps.Normal(3, 0.3), 1.0),
    ],
    ids=["bistable", "kink", "turning", "slope at the end", "two ends", "ring"],
)
def test_characteristics(flow: Any, law: Any, end: float, folder: Path) -> None:
    q: Any = fps.solve_liouville(flow, law, (0, end), rtol=1e-3)
    kept: Any = fps.load(q.save(folder / "flow"))
    check_covered(q, kept, [0.0, 0.1 * end, 0.63 * end, end])
    assert kept.process is None
    assert "ODE" in kept.description
    assert math.isclose(kept.entropy(end), q.entropy(end), rel_tol=1e-6)
    assert kept.error["pdf"].worst < q.error["pdf"].worst + 1e-3
    assert np.isinf(kept.with_error("velocity", 50.0, end)[1])
    assert kept.stats["nodes"] == q.stats["nodes"]


def test_all_mass_gone(folder: Path) -> None:
    flow = fps.ODE(lambda x: 3.0 + 0 * x, support=(0, 2), boundary="absorbing")
    q = fps.solve_liouville(flow, fps.Normal(1, 0.1), (0, 2))
    kept: Any = fps.load(q.save(folder / "gone"))
    assert (kept.mass(2.0), kept.absorbed(2.0)) == (0.0, pytest.approx((0.0, 1.0), abs=1e-12))
    assert (kept.pdf(np.linspace(0, 2, 9), 1.0) == 0.0).all()
    with pytest.raises(InputError, match="lost mass cannot be sampled"):
        kept.sample(3, 1.0)


def test_characteristics_from_a_law_without_a_name(folder: Path) -> None:
    law = fps.Density(lambda x: 0.0 * x - math.log(2.0), (-1, 1))  # a jump at each end
    q = fps.solve_liouville(fps.ODE(lambda x: -x), law, (0, 1), rtol=1e-6)
    kept: Any = fps.load(q.save(folder / "box"))
    assert "initial times" in kept.arrays
    x = np.array([-0.36, 0.0, 0.1, 0.36])
    assert np.allclose(kept.pdf(x, 1.0), 0.5 * math.e, rtol=1e-8)
    assert np.allclose(kept.cdf(x, 1.0), q.cdf(x, 1.0), atol=1e-8)
    assert kept.pdf(0.38, 1.0) == 0.0


@pytest.mark.parametrize("absorbing", [False, True])
def test_transport(absorbing: bool, folder: Path) -> None:
    flow = fps.ODE(lambda x: -1 - 0.3 * x, **(WALL if absorbing else {}))
    q = fps.solve_liouville(flow, GAMMA, (0, 1), scheme="finite-volume", rtol=1e-3)
    kept: Any = fps.load(q.save(folder / "transport"))
    check_covered(q, kept, [0.0, 0.123, 0.64, 1.0])
    assert isinstance(kept, LoadedEvolution)
    assert (kept.mass(1.0) < 0.9) == absorbing
    x = np.array([0.5, 1.0])
    assert np.allclose(kept.cdf(x, 1.0) + kept.sf(x, 1.0), kept.mass(1.0), atol=1e-12)
    if absorbing:
        with pytest.raises(InputError, match="lost mass cannot be sampled"):
            kept.sample(3, 1.0)


@pytest.mark.deep
def test_a_front(folder: Path) -> None:
    q = fps.solve_liouville(fps.ODE(lambda x: -np.sign(x)), fps.Normal(0.5, 0.5), (0, 0.2), rtol=1e-2)
    kept: Any = fps.load(q.save(folder / "front"))
    for t in (0.07, 0.2):
        x = np.linspace(-1, 2, 301)
        for name in ("pdf", "cdf"):
            (was, error), (now, bound) = (p.with_error(name, x, t) for p in (q, kept))
            assert (np.abs(now - was) <= bound + error + 1e-10).all(), (name, t)
        assert math.isclose(kept.mean(t), q.mean(t), abs_tol=2e-3)


def test_flux_and_velocity_at_an_absorbing_end(folder: Path) -> None:
    q: Any = fps.solve_fokker_planck(fps.SDE(0.0, 1.0, **WALL), GAMMA, (0, 1), rtol=1e-5)
    kept = again(q, folder)
    check_covered(q, kept, [0.11, 1.0])
    assert math.isclose(float(kept.flux(0.0, 1.0)), float(q.flux(0.0, 1.0)), rel_tol=1e-6)


@pytest.mark.parametrize(
    ("support", "boundary", "law"),
    [
        ((lambda t: 0.6 * t - 1, np.inf), "absorbing", fps.Normal(1, 0.2)),
        ((lambda t: -1 + 0.2 * np.sin(3 * t), lambda t: 1 + t), ("reflecting", "absorbing"), fps.Normal(0, 0.15)),
        pytest.param((-1.0, lambda t: 1 + t), "absorbing", fps.PointMass(0.2), marks=pytest.mark.deep),
    ],
    ids=["one", "two", "from an atom"],
)
def test_moving_walls(support: Any, boundary: Any, law: Any, folder: Path) -> None:
    p = fps.SDE(lambda x: -x, 1.0, support=support, boundary=boundary)
    q: Any = fps.solve_fokker_planck(p, law, (0, 0.5), rtol=1e-4)
    kept: Any = fps.load(q.save(folder / "walls"))
    check_covered(q, kept, [0.063, 0.3, 0.5], tiny=1e-9)
    ends = p.support_at(0.3)
    assert kept.at(0.0) == law
    assert np.allclose(kept.at(0.3).support, q.at(0.3).support, rtol=1e-12)
    assert kept.pdf(ends[0] - 0.01, 0.3) == 0.0
    assert math.isclose(kept.entropy(0.3), q.entropy(0.3), rel_tol=1e-6)
    assert math.isclose(kept.fisher(0.3), q.fisher(0.3), rel_tol=1e-4)
    assert set(kept.error) == set(q.error)
    assert np.allclose(kept.error["score"].total, q.error["score"].total)
    assert kept.save(folder / "walls twice").read_bytes()
    assert dict(kept.to_xarray(x=[0.0, 0.1], times=[0.3]).sizes) == {"t": 1, "x": 2}


def test_walls_that_are_not_smooth_are_refused() -> None:
    p = fps.SDE(0.0, 1.0, support=(lambda t: -1 - 0.1 * abs(t - 0.3), np.inf), boundary="absorbing")
    frame = Frame(p)
    frame.speed = lambda t: (0.0, 0.0)  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"polynomials in time, which must reach 1e-07 of them; got '\S+ near t=0\."):
        Walls.of(frame, (0.0, 1.0)).smooth()


@pytest.mark.parametrize("law", [fps.PointMass(1.0), fps.Empirical([0.5, -1.0, 0.5, 2.0])], ids=["one", "many"])
def test_atoms(law: Any, folder: Path) -> None:
    for q in (
        fps.solve_liouville(fps.ODE(lambda x: -(x**3)), law, (0, 1)),
        fps.solve_liouville(
            fps.ODE(lambda x: 1 + 0.5 * np.sin(x), support=(-np.pi, np.pi), boundary="periodic"), law, (0, 9), rtol=1e-8
        ),
        *([fps.exact_evolution(fps.ODE(lambda x: -x), law, (0, 1))] if isinstance(law, fps.PointMass) else []),
    ):
        kept: Any = fps.load(q.save(folder / "atoms"))
        for t in (0.0, 0.37, q.t_span[1]):
            assert type(kept.at(t)) is type(q.at(t))
            assert np.abs(kept.at(t).samples - q.at(t).samples).max() <= kept.error["x"] + 1e-11
            assert math.isclose(kept.mean(t), q.mean(t), rel_tol=1e-9)
        assert kept.error["x"] < 1e-6
        with pytest.raises(InputError, match="no velocity at every x"):
            kept.velocity(0.0, 0.5)


# --- closed forms and given paths -------------------------------------------------------------------------------------


def check_same(q: Evolution, kept: LoadedEvolution, times: list[float], tol: float) -> None:
    """Check fields relative to their size over the mass, tails relative to themselves."""
    for t in times:
        x = np.linspace(*q.span(t, 1e-9), 157)
        for name in FIELDS:
            was, own = q.with_error(name, x, t)
            scale = np.abs(was) + (0 if name in ("cdf", "sf") else np.sqrt(np.mean(was**2)))
            assert (np.abs(kept.with_error(name, x, t)[0] - was) <= tol * scale + own + 1e-15).all(), (name, t)
        assert math.isclose(kept.entropy(t), q.entropy(t), rel_tol=1e-8, abs_tol=1e-8)


def test_closed_form(exact: tuple[Evolution, LoadedEvolution]) -> None:
    q, kept = exact
    check_same(q, kept, [0.0, 1e-5, 0.137, 0.71, 1.0], 1e-9)
    assert kept.message == "loaded from exact.npz: closed form: Gaussian mixture under a linear SDE"
    assert kept.error["pdf"].worst < 1e-8
    p = np.array([1e-12, 1e-6, 0.5])
    assert np.allclose(kept.isf(p, 0.3), q.isf(p, 0.3), atol=1e-5)


@settings(max_examples=2)
@given(st.floats(0.2, 3.0), st.floats(0.3, 2.0), st.floats(-3.0, 3.0), st.floats(0.2, 2.0), st.floats(0.1, 0.9))
def test_mixtures_under_linear_processes(
    tmp_path_factory: pytest.TempPathFactory, theta: float, sigma: float, mean: float, std: float, part: float
) -> None:
    law = fps.GaussianMixture([0.4, 0.6], [mean, 0.5], [std, 0.8])
    q = fps.exact_evolution(fps.processes.ou(theta, sigma), law, (0.5, 1.5))
    check_same(q, again(q, tmp_path_factory.mktemp("ou")), [0.5 + part], 1e-9)


def test_positive_process(folder: Path) -> None:
    law = fps.Pushforward(fps.Normal(0.0, 0.3), fps.maps.Exp())
    q = fps.exact_evolution(fps.processes.gbm(), law, (0, 1))
    kept = again(q, folder)
    check_same(q, kept, [0.0, 0.4], 2e-8)
    assert kept.initial == law
    assert kept.grid.left > 0.0


def test_given_path(folder: Path) -> None:
    def log_density(x: Any, t: float) -> Any:
        return -0.5 * (x - t**2) ** 2 - 0.5 * math.log(2 * math.pi)

    q = fps.path(log_density, t_span=(0, 1), cdf=lambda x, t: fps.Normal(0, 1).cdf(x - t**2))
    kept = again(q, folder)
    assert np.allclose(kept.velocity([-1.0, 0.3, 2.0], 0.4), 0.8, atol=1e-5)
    assert np.allclose(kept.score([-1.0, 0.3, 2.0], 0.4), 0.16 - np.array([-1.0, 0.3, 2.0]), atol=1e-8)


def test_point_mass_is_known_at_the_start_and_later(folder: Path) -> None:
    q = fps.exact_evolution(OU, fps.PointMass(2.0), (0, 1))
    kept = again(q, folder)
    assert kept.first == pytest.approx(1e-6)
    check_same(q, kept, [kept.first, 1e-4, 0.03, 1.0], 1e-8)
    assert kept.at(0.0) == fps.PointMass(2.0)
    assert (kept.sample(3, 0.0) == 2.0).all()
    with pytest.raises(InputError, match="kept at 0 and from 1e-06 on; got 1e-07"):
        kept.pdf(2.0, 1e-7)
    with pytest.raises(InputError, match="atoms have no density"):
        kept.slice(0.0)


def test_kink_that_moves_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_grid, "_MOST_CELLS", 200)
    q = fps.path(lambda x, t: -np.abs(x - t) - math.log(2), t_span=(0, 1))
    with pytest.raises(InputError, match=r"a table in x must reach 1e-09 of every field.*smoother"):
        q.save(folder / "kink")
    assert not (folder / "kink.npz").exists()


@pytest.mark.deep
def test_path_that_jumps_in_time_is_refused(folder: Path) -> None:
    def log_density(x: Any, t: float) -> Any:
        return -0.5 * (x - (t > 0.43)) ** 2 - 0.5 * math.log(2 * math.pi)

    q = fps.path(log_density, t_span=(0, 1), cdf=lambda x, t: fps.Normal(0, 1).cdf(x - (t > 0.43)))
    with pytest.raises(InputError, match=r"a table in time must reach 1e-09 of every field; got '\S+ near t=0.4"):
        q.save(folder / "jump")


# --- files ------------------------------------------------------------------------------------------------------------


def contents(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return json.loads(bytes(arrays.pop("header"))), arrays


def written(file: Path, header: Any, arrays: dict[str, np.ndarray]) -> Path:
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(file, header=text, **arrays)
    return file


def test_file_has_a_strict_json_header_and_no_objects(file: Path) -> None:
    header, arrays = contents(file)
    assert (header["kind"], header["format"], header["class"]) == ("fpsolve evolution", 2, "GridEvolution")
    assert header["support"] == ["-inf", "inf"]
    assert header["boundary"] == ["natural", "natural"]
    assert all(array.dtype.kind == "f" for array in arrays.values())
    assert file.stat().st_size < 3e6


def test_names_of_files(exact: tuple[Evolution, LoadedEvolution], folder: Path) -> None:
    kept = exact[1]
    assert kept.save(str(folder / "a.b")) == folder / "a.b.npz"
    assert fps.load(folder / "a.b").t_span == (0.0, 1.0)
    for bad, rule in ((folder, "a file needs a name"), (3, "named by a string"), (folder / "no" / "q", "folder")):
        with pytest.raises(InputError, match=rule):
            kept.save(bad)
    with pytest.raises(InputError, match="load needs a file that exists"):
        fps.load(folder / "nothing")


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.999])
def test_truncated_file(file: Path, tmp_path: Path, part: float) -> None:
    short = tmp_path / "short.npz"
    short.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    with pytest.raises(
        InputError, match=r"short.npz is not a file that save has written, or it is damaged.*save it again"
    ):
        fps.load(short)


@given(st.floats(0.0, 0.999), st.integers(1, 255))
@settings(max_examples=15)
def test_changed_bytes_never_pass_in_silence(file: Path, folder: Path, place: float, change: int) -> None:
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= change
    damaged = folder / "damaged.npz"
    damaged.write_bytes(content)
    try:
        found = fps.load(damaged)
    except InputError:
        return
    # a byte of the archive that nobody reads, such as a date
    x = np.linspace(-2, 2, 9)
    assert np.array_equal(found.pdf(x, 0.3), fps.load(file).pdf(x, 0.3))


def test_foreign_files(tmp_path: Path) -> None:
    text, table, single = tmp_path / "a.npz", tmp_path / "b.npz", tmp_path / "c.npz"
    text.write_text("not a zip file")
    np.savez(table, x=np.ones(3))
    with single.open("wb") as stream:
        np.save(stream, np.ones(3))
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    for name in ("a", "b", "c", "d"):
        with pytest.raises(InputError, match="is not a file that save has written"):
            fps.load(tmp_path / name)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", header=np.array([{"kind": "fpsolve evolution"}], dtype=object))
    with pytest.raises(InputError, match="cannot be read"):
        fps.load(tmp_path / "evil.npz")


def test_other_kinds_and_newer_formats(file: Path, tmp_path: Path) -> None:
    header, arrays = contents(file)
    with pytest.raises(InputError, match="not a file that save has written; got 'a picture'"):
        fps.load(written(tmp_path / "k.npz", {**header, "kind": "a picture"}, arrays))
    newer = written(tmp_path / "n.npz", {**header, "format": 3, "fpsolve": "9.0"}, arrays)
    with pytest.raises(InputError, match=r"format 3, by fpsolve 9.0.*install a newer fpsolve"):
        fps.load(newer)


@pytest.mark.parametrize("what", ["missing", "shape", "nan", "times", "span", "grid", "budget", "law", "type"])
def test_parts_that_do_not_fit(file: Path, tmp_path: Path, what: str) -> None:
    header, arrays = contents(file)
    if what == "missing":
        del arrays["score"]
    elif what == "shape":
        arrays["masses"] = arrays["masses"][:, 1:]
    elif what == "nan":
        arrays["velocity"][3, 5] = np.nan
    elif what == "times":
        arrays["times"] = arrays["times"][::-1]
    elif what == "span":
        header["t_span"] = [0.0, 2.0]
    elif what == "grid":
        header["grid"]["left"] = 100.0
    elif what == "budget":
        arrays["budget pdf"] = arrays["budget pdf"][:3]
    elif what == "law":
        header["initial"] = {"law": "os.system", "command": "true"}
    else:
        arrays["logpdf"] = arrays["logpdf"].astype(str)
    with pytest.raises(InputError, match=r"p.npz is damaged: its parts must fit each other"):
        fps.load(written(tmp_path / "p.npz", header, arrays))


@pytest.mark.parametrize("interruption", [OSError("no space left"), KeyboardInterrupt()])
def test_interrupted_save_leaves_the_old_file(
    exact: tuple[Evolution, LoadedEvolution],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruption: BaseException,
) -> None:
    kept, target = exact[1], tmp_path / "q.npz"
    kept.save(target)
    before = target.read_bytes()

    def half_written(stream: Any, **_: Any) -> None:
        stream.write(b"PK half")
        raise interruption

    monkeypatch.setattr(storage.np, "savez_compressed", half_written)
    with pytest.raises((InputError, KeyboardInterrupt)):
        kept.save(target)
    assert target.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["q.npz"]


# --- parts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "law",
    [
        fps.Normal(1.0, 2.0),
        MIX,
        fps.LaplaceMixture([0.5, 0.5], [-1, 1], [0.3, 2.0]),
        fps.GammaMixture([1.0], [2.0], [3.0]),
        fps.KDE([1.0, 2.0, 4.5]),
        fps.PointMass(0.25),
        fps.Empirical([3.0, 1.0]),
        fps.Pushforward(MIX, fps.maps.Sinh(0.5)),
        fps.Pushforward(fps.Normal(0, 1), fps.maps.Exp()),
    ],
    ids=lambda law: type(law).__name__,
)
def test_laws_as_data(law: Any) -> None:
    assert law_of(json.loads(json.dumps(record_of(law)))) == law


def test_laws_that_numbers_do_not_tell() -> None:
    assert record_of(fps.Density(lambda x: -0.5 * x**2 - 0.9189385332046727)) is None
    for record in ({"law": "Law"}, {"law": "Normal"}, {}, None, {"law": "Normal", "mean": 0.0, "std": -1.0}):
        with pytest.raises(InputError, match="a stored law must have a known name"):
            law_of(record)


@given(st.floats(0.0, 1.0))
def test_interpolated_masses_keep_their_sum_and_sign(place: float) -> None:
    nodes = np.cos(np.pi * np.arange(12) / 11)
    weights = np.array([np.prod((place - np.delete(nodes, k)) / (nodes[k] - np.delete(nodes, k))) for k in range(12)])
    rate = np.linspace(-8.0, 8.0, 30)
    masses = np.exp(np.outer(nodes, rate))
    found = between(masses, weights)
    assert (found > 0.0).all()
    assert np.allclose(found, np.exp(place * rate), rtol=1e-6)
    assert math.isclose(weights.sum(), 1.0, rel_tol=1e-9)


def test_table_is_exact_at_its_nodes(solved: Any) -> None:
    table = Tabulation(solved.slice, solved.grid, 0.0, Demand(1e-3, 0, strict=False)).table(0.1, 1.0, None)
    for t in table.times[[0, 5, -1]]:
        found, truth = table.slice(float(t)), solved.slice(float(t))
        for name in ("logpdf", "score", "velocity"):
            assert np.array_equal(found.field(name).value, truth.field(name).value)
        assert np.array_equal(found.masses, truth.masses)
        for cause, error in truth.field("score").errors.items():
            assert (found.field("score").errors[cause] >= 0.999999 * np.minimum(error, 1e38)).all()
