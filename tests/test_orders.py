"""Declared orders are measured, wrong ones refuted; samples and work-precision tables."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fpsolve as fps
from fpsolve import cli
from fpsolve.report.bench import PROBLEMS, schemes_in_file
from fpsolve.report.work_precision import COLUMNS
from fpsolve.verdict.orders import EXACT_TOL
from fpsolve.verdict.slopes import Levels, fitted

GBM = fps.processes.gbm(0.7, 0.5)
# the same law in the other calculus
GBM_S = fps.SDE(lambda x: 0.575 * x, lambda x: 0.5 * x, calculus="stratonovich", support=(0, np.inf))
SINH = fps.processes.sinh_ou(length=1.0)
# f = -θ y r, g = σ r, r = √(1 + x²), is SINH read as Stratonovich
SINH_S = fps.SDE(
    lambda x: -0.8 * np.arcsinh(x) * np.sqrt(1 + x**2), lambda x: 0.7 * np.sqrt(1 + x**2), calculus="stratonovich"
)
BENT = fps.SDE(lambda x: np.sin(3 * x), 1.5)  # strong errors settle early
GENTLE = fps.SDE(lambda x: -x - 0.5 * np.sin(2 * x), 0.7)  # and weak ones
OU = fps.processes.ou(1.2, 0.8, 0.3)
ODE = fps.ODE(lambda x, t: -x * np.cos(2 * t) + np.sin(x))
LANGEVIN = fps.processes.langevin(fps.Normal(0.0, 0.8))
NOISY = [name for name, scheme in fps.SCHEMES.items() if scheme.noise != "none"]
PROCESS = {"rossler-1.5-additive": BENT, "exact-ou": OU, "ula": LANGEVIN, "mala": LANGEVIN}


def process_for(name: str, smooth: bool = False) -> fps.SDE:
    """A process on which the scheme has no more than its order."""
    if name in PROCESS:
        return PROCESS[name]
    other = fps.SCHEMES[name].calculus == "stratonovich"
    return (SINH_S if other else SINH) if smooth else (GBM_S if other else GBM)


@pytest.mark.parametrize("name", [n for n in NOISY if fps.SCHEMES[n].strong_order and n != "exact-ou"])
def test_declared_strong_order(name: str) -> None:
    fps.check_order(name, process_for(name), kind="strong").require("confirmed")


@pytest.mark.parametrize("name", [n for n in NOISY if n not in ("mala", "exact-ou", "rossler-1.5")])
def test_declared_weak_order(name: str) -> None:
    process = GENTLE if name == "rossler-1.5-additive" else process_for(name, smooth=name == "platen-weak-2")
    fps.check_order(name, process, kind="weak").require("confirmed")


def test_weak_order_of_rossler_is_one_and_a_half() -> None:
    """Its stages have a term in √h that no moment cancels; where g is linear the leading term vanishes."""
    fps.check_order("rossler-1.5", SINH, kind="weak", order=1.5).require("confirmed")
    fps.check_order("rossler-1.5", SINH, kind="weak", order=2.0).require("refuted")


@pytest.mark.deep
@pytest.mark.parametrize(
    "process",
    [LANGEVIN, fps.processes.langevin(fps.GaussianMixture([0.4, 0.6], [-1, 1], [0.7, 0.8]))],
    ids=["normal", "mixture"],
)
def test_sampled_weak_order_of_mala(process: fps.SDE) -> None:
    # the neighbouring orders are 0.5 away
    verdict = fps.check_order("mala", process, kind="weak", tol=0.3).require("confirmed")
    assert "coupled paths" in verdict.routes[0]


@pytest.mark.deep
@pytest.mark.parametrize("name", ["euler-maruyama", "milstein", "milstein-derivative-free", "rossler-1.5", "theta"])
def test_declared_strong_order_with_nonlinear_noise(name: str) -> None:
    fps.check_order(name, SINH, kind="strong").require("confirmed")


@pytest.mark.deep
@pytest.mark.parametrize("name", ["heun", "euler-heun"])
def test_stratonovich_schemes_against_an_ito_reference(name: str) -> None:
    verdict = fps.check_order(name, SINH_S, kind="strong").require("confirmed")
    assert verdict.routes == ("coupled paths against rossler-1.5",)


def test_exact_scheme_is_exact_in_law_and_of_order_one_on_the_path() -> None:
    weak = fps.check_order("exact-ou", OU, kind="weak").require("confirmed")
    assert weak.tolerance == EXACT_TOL
    assert weak.discrepancy is not None
    assert weak.discrepancy.value < 1e-11
    fps.check_order("exact-ou", OU, kind="strong", order=1.0).require("confirmed")
    fps.check_order("euler-maruyama", OU, kind="weak", order=1.0).require("confirmed")


def test_exactness_is_refuted() -> None:
    @fps.scheme(strong_order=1.0, weak_order=float(2**10), noise="additive")
    def nearly(x: Any, t: float, h: float, dw: Any, process: Any) -> Any:
        return 0.3 + (x - 0.3) * np.exp(-1.2 * h) + 0.8 * np.sqrt(-np.expm1(-2.4 * h) / 2.4 / h) * dw * (1 + 1e-5)

    never = fps.Scheme("nearly", 1.0, np.inf, "ito", "additive", nearly.step, ode_order=np.inf)
    fps.check_order(never, OU, kind="weak").require("refuted")


@pytest.mark.parametrize("name", [n for n in fps.SCHEMES if n not in ("mala", "exact-ou", "dopri5")])
def test_declared_order_without_noise(name: str) -> None:
    fps.check_order(name, ODE, kind="deterministic").require("confirmed")


@pytest.mark.parametrize(
    ("velocity", "end"),
    [(lambda x, t: -x + t**3, 3), (lambda x, t: -x + t**4, 2), (lambda x: x * (2 - x), 2)],
    ids=["driven", "driven harder", "logistic"],
)
def test_order_of_dormand_prince(velocity: Any, end: float) -> None:
    fps.check_order("dopri5", fps.ODE(velocity), kind="deterministic", t_span=(0, end)).require("confirmed")


def test_order_that_rounding_hides_is_left_open() -> None:
    """The term of order five of Dormand and Prince is so small that many flows show six until rounding hides both."""
    curved = fps.ODE(lambda x, t: 1 / (1 + x * x) + t * t)
    verdict = fps.check_order("dopri5", curved, kind="deterministic", t_span=(0, 2)).require("inconclusive")
    assert "not at an order of its own" in verdict.explain()


@pytest.mark.parametrize(
    ("name", "kind", "order"),
    [
        ("euler-maruyama", "strong", 1.0),
        ("milstein", "strong", 0.5),
        ("milstein", "strong", 1.5),
        ("rossler-1.5", "strong", 1.0),
        ("platen-weak-2", "strong", 1.5),
        ("euler-maruyama", "weak", 2.0),
        ("milstein", "weak", 1.5),
        ("platen-weak-2", "weak", 1.0),
        ("theta", "deterministic", 1.0),
        ("heun", "deterministic", 3.0),
    ],
)
def test_neighbouring_order_is_refuted(name: str, kind: str, order: float) -> None:
    process = GBM_S if fps.SCHEMES[name].calculus == "stratonovich" else GBM
    fps.check_order(name, process, kind=kind, order=order).require("refuted")


def milstein_step(share: float, curved: float = 1.0) -> Callable[..., Any]:
    def step(x: Any, t: float, h: float, dw: Any, process: Any) -> Any:
        f, g2_dx = process.drift(x, t), process.diffusion_squared_dx(x, t)
        return x + curved * f * h + process.diffusion(x, t) * dw + 0.25 * share * g2_dx * (dw**2 - h)

    return step


def test_users_scheme_with_its_declarations() -> None:
    mine = fps.scheme(strong_order=1.0, weak_order=1.0)(milstein_step(1.0))
    for kind in ("strong", "weak", "deterministic"):
        fps.check_order(mine, GBM, kind=kind).require("confirmed")


@pytest.mark.parametrize("kind", ["strong", "weak"])
@pytest.mark.parametrize(("share", "curved"), [(0.0, 1.0), (1.0, 0.9)], ids=["noise term dropped", "drift too small"])
def test_users_scheme_with_a_wrong_term(kind: str, share: float, curved: float) -> None:
    wrong = fps.scheme(strong_order=1.0, weak_order=1.0)(milstein_step(share, curved))
    verdict = fps.check_order(wrong, GBM, kind=kind)
    # without its noise term Milstein's scheme is Euler's, whose weak order is one too
    verdict.require("confirmed" if kind == "weak" and curved == 1.0 else "refuted")


def test_ito_scheme_declared_as_stratonovich() -> None:
    wrong = fps.scheme(strong_order=0.5, weak_order=1.0, calculus="stratonovich")(milstein_step(0.0))
    for kind in ("strong", "weak"):
        assert not fps.check_order(wrong, GBM_S, kind=kind, budget=1e7).confirmed


def test_faster_on_simpler_processes_is_no_refutation() -> None:
    verdict = fps.check_order("euler-maruyama", OU, kind="strong").require("confirmed")
    assert "faster here" in verdict.explain()
    fps.check_order("euler-maruyama", OU, kind="strong", order=0.5).require("refuted")


def test_verdict_is_reproducible_and_depends_on_the_seed() -> None:
    a, b, c = (fps.check_order("milstein", GBM, seed=seed).discrepancy for seed in (3, 3, 4))
    assert a == b
    assert a != c


def test_too_small_a_budget_is_inconclusive() -> None:
    """A slope that still falls from level to level decides nothing."""
    bent = fps.SDE(lambda x: -x + 0.5 * np.sin(2 * x), lambda x: 0.6 * np.sqrt(1 + 0.5 * x * x))
    verdict = fps.check_order("rossler-1.5", bent, kind="weak", order=2.0, budget=1.0)
    assert verdict.inconclusive
    assert "could have been decided" in verdict.note


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        (lambda: fps.check_order("heun", GBM), "calculus"),
        (lambda: fps.check_order("ula", GBM), "additive"),
        (lambda: fps.check_order("mala", LANGEVIN), "declares no strong order"),
        (lambda: fps.check_order("milstein", GBM, kind="wek"), "weak"),
        (lambda: fps.check_order("milstien", GBM), "milstein"),
        (lambda: fps.check_order("milstein", GBM, tests=[]), "functions of x"),
        (lambda: fps.check_order("milstein", GBM, order=0.0), "order"),
        (lambda: fps.check_order("milstein", lambda x: x), "process"),
        (lambda: fps.check_order("milstein", fps.SDE(0.0, 1.0, support=(0, 9), boundary="reflecting")), "natural"),
        (lambda: fps.work_precision(["heun"], ODE), "SDE"),
        (lambda: fps.work_precision([], GBM), "at least one"),
        (lambda: fps.work_precision(["ula"], GBM), "additive"),
        (lambda: fps.work_precision(["milstein"], GBM, steps=(3,)), "power of two"),
    ],
)
def test_bad_input_is_refused(call: Callable[[], Any], rule: str) -> None:
    with pytest.raises(fps.InputError, match=rule):
        call()


# The fit itself


def levels(slopes: Callable[[np.ndarray], np.ndarray], floor: float = 0.0, noise: float = 0.0) -> Levels:
    h = 2.0 ** -np.arange(2.0, 9.0)
    error = slopes(h)
    return Levels(h, error, np.full(h.size, floor), np.diag((noise * error) ** 2), 0.0)


def test_fit_covers_curvature() -> None:
    for p in (0.5, 1.0, 1.5, 2.0):
        for curve in (-1.5, -0.5, 0.5, 3.0):
            slope = fitted(levels(lambda h, p=p, c=curve: h**p * (1 + c * h)), 1e-4)  # type: ignore[misc]
            assert slope is not None
            assert abs(slope.value - p) <= slope.error + 1e-9


def test_fit_leaves_out_what_is_in_the_floor() -> None:
    slope = fitted(levels(lambda h: h**2, floor=1e-5), 1e-4)
    assert slope is not None
    assert slope.used.error.min() > 1e-5 / 0.03
    assert "floor" in slope.note
    assert fitted(levels(lambda h: h**2, floor=1.0), 1e-4) is None
    assert fitted(levels(lambda h: h, noise=0.5), 1e-4) is None


def test_fit_does_not_believe_slopes_that_run_away() -> None:
    slope = fitted(levels(lambda h: 0.004 * h + h**2), 1e-4)
    assert slope is not None
    assert abs(slope.value - 2.0) + slope.error > 0.5
    assert abs(slope.value - 1.0) - slope.error < 0.2


# Samples


NORMAL = fps.exact_evolution(fps.processes.ou(1.0, 2**0.5), fps.Normal(0, 1), (0, 1))
DRAWS = np.random.default_rng(7).normal(size=400_000)


def test_samples_of_the_law_are_confirmed() -> None:
    verdict = fps.check_samples(NORMAL, DRAWS, 0.5, tol=0.01).require("confirmed")
    assert verdict.where is not None
    assert verdict.where[1] == 0.5


@pytest.mark.parametrize("wrong", [lambda x: 1.05 * x, lambda x: x + 0.05, lambda x: np.where(x > 2.2, -x, x)])
def test_samples_of_another_law_are_refuted(wrong: Callable[[np.ndarray], np.ndarray]) -> None:
    fps.check_samples(NORMAL, wrong(DRAWS), 0.5).require("refuted")


def test_few_samples_are_inconclusive_and_it_says_how_many_would_do() -> None:
    verdict = fps.check_samples(NORMAL, DRAWS[:1000], 0.5)
    assert verdict.inconclusive
    assert "samples could decide" in verdict.note


def test_samples_that_repeat_and_atoms() -> None:
    rounded = fps.check_samples(NORMAL, np.round(DRAWS, 1), 0.5, tol=0.005)
    rounded.require("refuted")
    point = fps.exact_evolution(fps.processes.ou(), fps.PointMass(1.0), (0, 1))
    fps.check_samples(point, np.ones(100_000), 0.0, tol=0.01).require("confirmed")
    fps.check_samples(point, np.full(100_000, 1.0 + 1e-9), 0.0, tol=0.01).require("refuted")


def test_samples_against_a_pair_and_a_region() -> None:
    pair = (fps.processes.ou(1.0, 2**0.5), fps.Normal(0, 1))
    spoilt = np.where(DRAWS > 1.0, DRAWS + 1.0, DRAWS)
    fps.check_samples(pair, spoilt, 0.5, t_span=(0, 1), region=(-2, 1), tol=0.02).require("confirmed")
    verdict = fps.check_samples(pair, spoilt, 0.5, t_span=(0, 1), tol=0.02).require("refuted")
    assert {row["route"].split(" the ")[1] for row in verdict.table} == {"closed form", "grid"}


@pytest.mark.parametrize(
    ("samples", "rule"),
    [
        ([np.nan, *[0.0] * 20], "finite"),
        ([np.inf, *[0.0] * 20], "finite"),
        ([0.0] * 3, "at least 10"),
        (np.zeros((20, 2)), "one row"),
        (["a"] * 20, "real numbers"),
        (np.zeros(20, complex), "real numbers"),
    ],
)
def test_bad_samples_are_refused(samples: Any, rule: str) -> None:
    with pytest.raises(fps.InputError, match=rule):
        fps.check_samples(NORMAL, samples, 0.5)


def test_samples_outside_the_span_are_refused() -> None:
    with pytest.raises(fps.InputError, match="times"):
        fps.check_samples(NORMAL, DRAWS, 2.0)


@pytest.mark.deep
def test_true_samples_are_never_refuted() -> None:
    for seed in range(200):
        draws = np.random.default_rng(seed).normal(size=20_000)
        assert not fps.check_samples(NORMAL, draws, 0.5, tol=1e-6).refuted


# Work against error


def test_table_has_rows_floors_and_errors_that_fall() -> None:
    table = fps.work_precision(["euler-maruyama", "milstein", "heun"], GBM, steps=(4, 16, 64), n_paths=4000, repeat=1)
    assert table.schemes == ("euler-maruyama", "milstein", "heun")
    assert len(table.rows) == 9
    assert table.floors["strong"] < 1e-12  # the exact solution
    spread = np.sqrt(np.exp(4 * 0.7 + 6 * 0.25) - np.exp(2 * (2 * 0.7 + 0.25)))
    assert 0.5 * spread / np.sqrt(4000) < table.floors["weak"] < 2 * spread / np.sqrt(4000)
    for name, order in (("euler-maruyama", 0.5), ("milstein", 1.0), ("heun", 1.0)):
        coarse, _, fine = table.of(name)
        assert abs(np.log2(coarse["strong_error"] / fine["strong_error"]) / 4 - order) < 0.15
        assert fine["weak_std_error"] < table.floors["weak"]  # what common noise is for
        assert coarse["evaluations"] == 4 * sum(fps.SCHEMES[name].cost)
        assert coarse["seconds"] > 0
    text = str(table)
    assert all(column.strip() in text for column in COLUMNS)
    assert len(text.splitlines()) == 12


def test_evaluations_of_a_users_scheme_are_counted() -> None:
    mine = fps.scheme(strong_order=1.0, weak_order=1.0)(milstein_step(1.0))
    row = fps.work_precision([mine], GBM, steps=(4,), n_paths=100, repeat=1).rows[0]
    assert row["evaluations"] == 12


def test_lost_paths_are_reported_and_not_averaged() -> None:
    stiff = fps.SDE(lambda x: -10 * x**3, 1.0)
    table = fps.work_precision(["euler-maruyama"], stiff, start=fps.Normal(0, 1), steps=(16,), n_paths=500, repeat=1)
    assert table.rows[0]["lost"] > 0
    assert table.rows[0]["weak_error"] is None
    assert "lost" in str(table)


def test_picture_has_a_curve_for_each_scheme_and_the_floor() -> None:
    table = fps.work_precision(["euler-maruyama", "milstein"], GBM, steps=(4, 8), n_paths=500, repeat=1)
    for error in ("weak", "strong"):
        axes = table.plot(error=error, work="seconds")
        labels = axes.get_legend_handles_labels()[1]
        # the exact reference of the strong errors is out of sight
        assert labels == ["euler-maruyama", "milstein", *["floor: sampling error"] * (error == "weak")]
    with pytest.raises(fps.InputError):
        table.plot(error="weka")


# The command

SCHEMES = """import fpsolve as fps
from fpsolve import SCHEMES

print("chatter")
heun = SCHEMES["heun"]

@fps.scheme(strong_order=0.5, weak_order=1.0)
def mine(x, t, h, dw, process):
    return x + process.drift(x, t) * h + process.diffusion(x, t) * dw
"""


def test_bench_prints_tables_and_writes_record_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "PROBLEMS", PROBLEMS[:2])
    (tmp_path / "mine.py").write_text(SCHEMES)
    record, picture = tmp_path / "out.json", tmp_path / "out.png"
    files = ["--json", str(record), "--picture", str(picture)]
    assert cli.main(["bench", str(tmp_path / "mine.py"), "--paths", "500", *files]) == 0
    out = capsys.readouterr().out
    assert "chatter" not in out
    for word in ("additive", "multiplicative", "mine", "platen-weak-2", "floors"):
        assert word in out
    found = json.loads(record.read_text())
    assert [problem["name"] for problem in found["problems"]] == ["additive", "multiplicative"]
    assert {"scheme", "evaluations", "weak_error", "strong_std_error"} <= found["problems"][0]["rows"][0].keys()
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_bench_skips_problems_with_other_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "PROBLEMS", PROBLEMS[1:2])
    (tmp_path / "mine.py").write_text(SCHEMES.replace("weak_order=1.0", "weak_order=1.0, noise='additive'"))
    assert cli.main(["bench", str(tmp_path / "mine.py")]) == cli.ERROR_STATUS
    assert "none of these schemes" in capsys.readouterr().out


def test_bench_says_what_is_wrong_with_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none.py").write_text("x = 1\n")
    for file in ("none.py", "absent.py"):
        assert cli.main(["bench", str(tmp_path / file)]) == cli.ERROR_STATUS
    err = capsys.readouterr().err
    assert "@fps.scheme" in err
    assert "must exist" in err


def test_built_in_schemes_of_a_file_are_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SCHEMES)
    assert [scheme.name for scheme in schemes_in_file(str(tmp_path / "mine.py"))] == ["mine"]


def test_double_well_and_reverse_problem_are_right() -> None:
    """The reversed process ends in the mixture that it was made from."""
    problem = PROBLEMS[3]
    ens = fps.simulate(problem.process, problem.law, problem.span, n_paths=40_000, n_steps=512, scheme="rossler-1.5")
    data = fps.path(
        lambda x, t: fps.GaussianMixture([0.5, 0.5], [-1.5, 1.5], [0.3, 0.3]).logpdf(x) + 0 * t, t_span=(0, 1)
    )
    fps.check_samples(data, ens.x[0], 0.5, tol=0.03).require("confirmed")
