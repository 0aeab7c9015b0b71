"""Ensembles against the exact moments of the scheme, path identities, failures, and flows against closed forms.

Statistical tests have fixed seeds. Each compares at |z| < 4.5, a false alarm of 7e-6 per comparison; there are
fewer than 40, so the suite's is below 3e-4.
"""

import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from fpsolve.errors import BlowUp, CoefficientError, InputError, UnknownName
from fpsolve.particles import flow_map, run, simulate, workers
from fpsolve.particles.moments import Moments
from fpsolve.particles.plan import segments
from fpsolve.problem.density import Normal, PointMass
from fpsolve.problem.process import ODE, SDE
from fpsolve.problem.streams import Stream

Z = 4.5
OU = SDE(lambda x: -x, 2**0.5)
POINT = PointMass(0.0)


def small(process: Any = OU, start: Any = POINT, t_span: Any = (0.0, 1.0), **options: Any) -> Any:
    return simulate(process, start, t_span, **({"n_paths": 300, "n_steps": 16} | options))


def check_z(estimate: Any, exact: Any) -> None:
    z = (estimate.value - np.asarray(exact)) / estimate.std_error
    assert np.abs(z).max() < Z, f"z = {z}"


def ou_scheme(x0: float, n: int, h: float) -> tuple[float, float]:
    """Mean and variance of Euler-Maruyama for dX = -X dt + √2 dW after n steps."""
    r = (1 - h) ** 2
    return x0 * (1 - h) ** n, 2 * h * (1 - r**n) / (1 - r)


# the scheme ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_paths", [50_000, 400_000], ids=["python", "compiled"])
def test_moments_of_ou_against_the_scheme(n_paths: int) -> None:
    ens = simulate(OU, PointMass(1.5), (0, 2), n_paths=n_paths, n_steps=40, rng=3)
    mean, var = ou_scheme(1.5, 40, 0.05)
    check_z(ens.expect(lambda x: x), mean)
    check_z(ens.expect(lambda x: (x - mean) ** 2), var)
    check_z(ens.expect(lambda x: ((x - mean) ** 2 / var - 1) ** 2), 2.0)
    assert ens.stats["coefficients"]["drift"].startswith("python" if n_paths == 50_000 else "compiled")
    assert ens.stats["coefficients"]["diffusion"] == "constant"


def test_moments_of_gbm_against_the_scheme() -> None:
    gbm = SDE(lambda x: 0.3 * x, lambda x: 0.2 * x, support=(0, np.inf))
    ens = simulate(gbm, PointMass(1.0), (0, 1), n_paths=100_000, n_steps=25, rng=4)
    h = 1 / 25
    check_z(ens.expect(lambda x: x), (1 + 0.3 * h) ** 25)
    check_z(ens.expect(lambda x: x**2), ((1 + 0.3 * h) ** 2 + 0.04 * h) ** 25)


def test_time_dependent_coefficients_use_the_left_end_of_each_step() -> None:
    ens = small(SDE(lambda t: t, lambda t: 1 + t), n_paths=40_000, n_steps=8, t_span=(1.0, 3.0), rng=5)
    times = 1.0 + 0.25 * np.arange(8)
    check_z(ens.expect(lambda x: x), 0.25 * times.sum())
    check_z(ens.expect(lambda x: (x - 0.25 * times.sum()) ** 2), 0.25 * ((1 + times) ** 2).sum())


def test_ode_is_plain_euler_exactly() -> None:
    ens = small(ODE(lambda x, t: -x), PointMass(2.0), n_paths=5, n_steps=10)
    np.testing.assert_allclose(ens.x, 2.0 * 0.9**10, rtol=1e-14)


def test_start_law_is_sampled() -> None:
    ens = small(ODE(lambda x: 0 * x), Normal(1.0, 2.0), n_paths=100_000, n_steps=1)
    check_z(ens.expect(lambda x: x), 1.0)
    check_z(ens.expect(lambda x: (x - 1) ** 2), 4.0)


@pytest.mark.parametrize("n_steps", [3, 50], ids=["long jumps", "short jumps"])
def test_brownian_motion_between_reflecting_ends_becomes_uniform(n_steps: int) -> None:
    # folding is exact in law for constant noise; exp(-π² 9 / 2) is nothing
    motion = SDE(0.0, 3.0, support=(-1.0, 2.0), boundary="reflecting")
    ens = simulate(motion, PointMass(-0.9), (0, 9), n_paths=30_000, n_steps=n_steps, rng=6)
    assert ens.x.min() >= -1.0
    assert ens.x.max() <= 2.0
    check_z(ens.expect(lambda x: x), 0.5)
    check_z(ens.expect(lambda x: (x - 0.5) ** 2), 9 / 12)


def test_one_reflecting_end_folds() -> None:
    motion = SDE(0.0, 1.0, support=(0.0, np.inf), boundary=("reflecting", "natural"))
    ens = simulate(motion, PointMass(0.0), (0, 1), n_paths=30_000, n_steps=4, rng=7)
    check_z(ens.expect(lambda x: x), np.sqrt(2 / np.pi))
    check_z(ens.expect(lambda x: x**2), 1.0)


# functionals, observables, times -----------------------------------------------------------------------------------


def test_functionals_add_up_to_the_path() -> None:
    process = SDE(lambda x, t: np.sin(x) - t, lambda x: 1 + 0.3 * np.cos(x))
    ens = small(
        process, Normal(0, 1), functionals={"drift": (process.drift, 0.0), "noise": (0.0, process.diffusion)}, rng=8
    )
    start = small(process, Normal(0, 1), save_at=[0.0], keep="saved", rng=8).x[0]
    total = ens.functionals["drift"] + ens.functionals["noise"]
    np.testing.assert_allclose(ens.x[0] - start, total, rtol=0, atol=1e-13)


def test_ito_isometry() -> None:
    n, h = 20, 0.05
    ens = simulate(OU, POINT, (0, 1), n_paths=60_000, n_steps=n, functionals={"i": (0.0, lambda x, t: x)}, rng=9)
    check_z(ens.stats["functionals"]["i"], 0.0)
    exact = h * sum(ou_scheme(0.0, k, h)[1] for k in range(n))
    check_z(ens.expect(lambda x, i: i**2), exact)


def test_exponential_martingale_has_mean_one() -> None:
    # exp(∫ b dW - ½ ∫ b² dt) with constant b is exact in law at any step
    ens = simulate(OU, POINT, (0, 1), n_paths=60_000, n_steps=7, functionals={"m": (-0.125, 0.5)}, rng=10)
    check_z(ens.expect(lambda m: np.exp(m)), 1.0)
    np.testing.assert_allclose(ens.stats["functionals"]["m"].value, ens.functionals["m"].mean(), rtol=1e-12)


def test_observables_agree_with_saved_paths() -> None:
    watched = {"mean": lambda x: x, "square": lambda x, t: x**2 + t}
    ens = small(save_at=[0.0, 0.3, 1.0], keep="saved", observables=watched, n_paths=1234, start=Normal(0, 1))
    x = ens.x
    np.testing.assert_allclose(ens.observables["mean"].value, x.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(ens.observables["mean"].std_error, x.std(axis=1, ddof=1) / np.sqrt(1234), rtol=1e-12)
    np.testing.assert_allclose(ens.observables["square"].value, (x**2).mean(axis=1) + ens.t, rtol=1e-12)
    bare = small(save_at=[0.0, 0.3, 1.0], keep="none", observables=watched, n_paths=1234, start=Normal(0, 1))
    np.testing.assert_array_equal(bare.observables["square"].value, ens.observables["square"].value)
    assert bare.x.shape == (0, 1234)
    with pytest.raises(InputError, match="kept positions"):
        bare.expect(lambda x: x)


def test_save_times_are_landed_on() -> None:
    save_at = [0.1, 1 / 3, 0.77]
    ens = small(ODE(lambda t: 1.0 + 0 * t), save_at=save_at, keep="saved", n_steps=10, n_paths=2)
    np.testing.assert_array_equal(ens.t, save_at)
    np.testing.assert_allclose(ens.x[:, 0], save_at, rtol=1e-13)
    assert ens.stats["steps"] == 1 + 3 + 5 + 3
    assert [s.steps for s in segments((0.0, 1.0), np.array([0.1, 0.5]), 100)] == [10, 40, 50]


def test_odd_segments_continue_the_noise() -> None:
    # 3 + 5 steps of equal size: the second segment starts with the second normal of a pair
    whole = small(SDE(0.0, 1.0), n_steps=8)
    cut = small(SDE(0.0, 1.0), n_steps=8, save_at=[3 / 8, 1.0], keep="saved")
    np.testing.assert_allclose(cut.x[1], whole.x[0], rtol=0, atol=1e-13)


def test_moments_merge_like_the_whole() -> None:
    values = np.random.default_rng(1).normal(1e6, 1.0, (2, 1000))
    merged = Moments.of(values[:, :1]).merged(Moments.of(values[:, 1:1])).merged(Moments.of(values[:, 1:]))
    np.testing.assert_allclose(merged.mean, values.mean(axis=1), rtol=1e-15)
    np.testing.assert_allclose(merged.std_error, values.std(axis=1, ddof=1) / np.sqrt(1000), rtol=1e-9)


# step bias -----------------------------------------------------------------------------------------------------------


def test_halving_against_the_exact_bias() -> None:
    ens = simulate(OU, PointMass(2.0), (0, 1), n_paths=100_000, n_steps=10, bias="halving", rng=11)
    mean = ens.expect(lambda x: x)
    fine, coarse = ou_scheme(2.0, 20, 0.05), ou_scheme(2.0, 10, 0.1)
    check_z(mean, fine[0])
    assert mean.error == pytest.approx(abs(coarse[0] - fine[0]), rel=0.05)
    true_bias = abs(fine[0] - 2 * np.exp(-1))
    assert true_bias < mean.error < 2 * true_bias
    square = ens.expect(lambda x: (x - fine[0]) ** 2)
    check_z(square, fine[1])
    assert "halving" in square.route


def test_halving_of_an_ode_is_exact() -> None:
    ens = small(ODE(lambda x: -x), PointMass(1.0), n_steps=4, bias="halving", observables={"x": lambda x: x})
    expected = abs(0.75**4 - 0.875**8)
    assert ens.expect(lambda x: x).error == pytest.approx(expected, rel=1e-12)
    assert ens.observables["x"].error[0] == pytest.approx(expected, rel=1e-12)
    assert ens.observables["x"].std_error[0] < 1e-15


def test_fine_half_of_a_coupled_run_is_the_plain_run_with_half_the_step() -> None:
    options = {"functionals": {"w": (1.0, lambda x: x)}, "n_paths": 777}
    fine, plain = small(n_steps=13, bias="halving", **options), small(n_steps=26, **options)
    np.testing.assert_array_equal(fine.x, plain.x)
    np.testing.assert_array_equal(fine.functionals["w"], plain.functionals["w"])


def test_coarse_half_has_the_noise_of_both_fine_steps() -> None:
    ens = small(SDE(0.0, 1.0), n_steps=5, bias="halving")
    assert ens.expect(lambda x: x**2).error < 1e-13


def test_without_halving_the_route_says_so() -> None:
    mean = small().expect(lambda x: x)
    assert mean.error == 0.0
    assert "step bias not measured" in mean.route


# reproducibility -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 100, 4096])
@pytest.mark.parametrize("threads", [1, 3])
def test_same_bits_for_every_block_and_thread_count(monkeypatch: Any, block: int, threads: int) -> None:
    process = SDE(lambda x, t: -x * t, lambda x: 1.0 / (1.0 + x * x))
    options = {
        "n_paths": 1301 if block == 1 else 70_001,
        "n_steps": 145 if block > 1 else 5,
        "start": Normal(0, 1),
        "observables": {"x": lambda x: x},
        "functionals": {"w": (0.0, 1.0)},
        "rng": 12,
    }
    expected = small(process, **options)
    monkeypatch.setattr(run, "BLOCK", block)
    monkeypatch.setattr(workers, "default_threads", lambda: threads)
    found = small(process, **options)
    np.testing.assert_array_equal(found.x, expected.x)
    np.testing.assert_array_equal(found.functionals["w"], expected.functionals["w"])
    assert found.observables["x"].value == expected.observables["x"].value
    assert found.stats["threads"] == threads


@pytest.mark.parametrize("n_paths", [1, 3, 513, 100_001])
def test_any_number_of_paths(n_paths: int) -> None:
    ens = small(n_paths=n_paths, n_steps=3)
    assert ens.x.shape == (1, n_paths)
    assert np.isfinite(ens.x).all()
    np.testing.assert_array_equal(ens.x[0, :1], small(n_paths=1, n_steps=3).x[0])


def test_rng_accepts_seed_stream_and_generator() -> None:
    np.testing.assert_array_equal(small(rng=5).x, small(rng=Stream(5)).x)
    assert (small(rng=5).x != small(rng=6).x).all()
    drawn = [small(rng=np.random.default_rng(1)).x for _ in range(2)]
    np.testing.assert_array_equal(*drawn)


def test_memory_does_not_grow_with_paths() -> None:
    small(keep="none", observables={"x": lambda x: x})
    tracemalloc.start()
    ens = small(ODE(0.5), keep="none", observables={"x": lambda x: x}, n_paths=1_500_000, n_steps=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert ens.observables["x"].value[0] == pytest.approx(0.5, rel=1e-14)
    assert peak < 6e6  # one array over the paths would take 12e6


# failures ------------------------------------------------------------------------------------------------------------


class Unusual(Exception):
    """An exception that nothing else raises."""


@pytest.mark.parametrize("kind", [Unusual, KeyboardInterrupt, ZeroDivisionError, TimeoutError])
def test_exceptions_of_a_coefficient_come_back_as_themselves(kind: type[BaseException]) -> None:
    def drift(x: np.ndarray, t: float) -> np.ndarray:
        if t == 0.5:  # not among the times at which a coefficient is probed
            raise kind("my own words")
        return -x

    with pytest.raises(kind, match="my own words") as caught:
        small(SDE(drift, 1.0), n_paths=30_000)
    assert any("raised by the drift in simulate at t=0.5" in note for note in caught.value.__notes__)
    assert "drift" in [entry.name for entry in caught.traceback]


def test_exceptions_of_an_observable_come_back_as_themselves() -> None:
    def watched(x: np.ndarray) -> np.ndarray:
        raise Unusual("here")

    with pytest.raises(Unusual, match="here") as caught:
        small(observables={"mine": watched})
    assert "observable 'mine'" in caught.value.__notes__[0]


def test_few_paths_over_many_steps_are_worth_compiling() -> None:
    p = SDE(lambda x: -x, 2**0.5)
    ways = [simulate(p, PointMass(0.0), (0, 1), n_paths=4, n_steps=n).stats["coefficients"] for n in (100, 20_000)]
    assert [way["drift"].split(":")[0] for way in ways] == ["python", "compiled"]


def test_ctrl_c_stops_a_compiled_run() -> None:
    script = dedent("""
        import time
        from fpsolve.particles import simulate
        from fpsolve.problem.density import PointMass
        from fpsolve.problem.process import SDE
        for process in (SDE(lambda x: -x, 1.0), SDE(0.0, 1.0)):
            simulate(process, PointMass(0.0), (0, 1), n_paths=10**4, n_steps=1001)  # what is to be compiled or loaded
            print("running", flush=True)
            try:
                simulate(process, PointMass(0.0), (0, 1), n_paths=10**6, n_steps=10**6)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
    """)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(2):
            assert child.stdout.readline() == "running\n"
            time.sleep(0.8)
            begun = time.perf_counter()
            child.send_signal(signal.SIGINT)
            assert child.stdout.readline() == "interrupted\n"
            assert time.perf_counter() - begun < 3.0
        assert child.wait(timeout=3.0) == 0


def test_kernels_let_other_threads_run(monkeypatch: Any) -> None:
    calls, ticks, kernel = [], [], run.advance

    def timed(*args: Any) -> int:
        calls.append(time.perf_counter())
        status = kernel(*args)
        calls.append(time.perf_counter())
        return status

    monkeypatch.setattr(run, "advance", timed)
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.002):
            ticks.append(time.perf_counter())

    clock = threading.Thread(target=tick)
    clock.start()
    simulate(SDE(0.0, 1.0), POINT, (0, 1), n_paths=512, n_steps=400_000)
    done.set()
    clock.join()
    longest = max(b - a for a, b in zip(calls[::2], calls[1::2], strict=True))
    assert np.diff(ticks).max() < 0.5 * longest


@pytest.mark.parametrize("n_paths", [100, 200_000], ids=["python", "compiled"])
def test_a_coefficient_that_becomes_nan_late_is_named(n_paths: int) -> None:
    with pytest.raises(CoefficientError, match=r"the diffusion must be finite.*x=.*t=0\.703125, on path \d+"):
        small(SDE(lambda x: -x, lambda x, t: np.sqrt(0.7 - t) + 0 * x), n_paths=n_paths, n_steps=64)


def test_a_functional_that_is_not_finite_is_named() -> None:
    with pytest.raises(CoefficientError, match="dW part of functional 'w' must be finite"):
        small(functionals={"w": (0.0, lambda x: 1.0 / np.maximum(x - 0.5, 0.0) if x.size > 7 else x)}, n_paths=20)


def check_lost(ens: Any, cause: str) -> None:
    """Lost paths are NaN, counted, and no mean is given."""
    lost = ens.stats["lost"]
    gone = np.isnan(ens.x[-1])
    assert lost["count"] == gone.sum() > 0
    assert gone[lost["first_path"]]
    assert cause in lost["cause"]
    assert f"{lost['count']} path(s) lost" in ens.message
    with pytest.raises(BlowUp, match=f"{lost['count']} path") as caught:
        ens.expect(lambda x: x)
    assert caught.value.time == lost["first_time"]
    assert caught.value.x == lost["start"]


def test_overflowing_paths_are_lost_and_counted() -> None:
    ens = small(
        SDE(lambda x: x**3, 0.5), Normal(0, 1), n_paths=2000, t_span=(0, 3), n_steps=300, save_at=[0.0, 0.05, 3.0],
        keep="saved", observables={"x": lambda x: x}, functionals={"w": (1.0, 0.0)},
    )  # fmt: skip
    check_lost(ens, "overflow")
    assert 0 < ens.stats["lost"]["count"] <= 2000
    assert np.isfinite(ens.expect(lambda x: x, 0.0).value)
    assert np.isnan(ens.functionals["w"]).sum() == ens.stats["lost"]["count"]
    assert ens.stats["functionals"]["w"] is None
    with pytest.raises(BlowUp):
        ens.observables  # noqa: B018


def test_paths_that_leave_the_support_are_lost_and_counted() -> None:
    gbm = SDE(lambda x: 0.1 * x, lambda x: x, support=(0, np.inf))
    check_lost(small(gbm, PointMass(1.0), n_steps=2, n_paths=1000), "left the support")
    check_lost(small(gbm, PointMass(1.0), n_steps=2, n_paths=1000, bias="halving"), "left the support")


def test_paths_left_over_are_those_of_the_undisturbed_run() -> None:
    cubic = SDE(lambda x: x**3, 0.5)
    ens = small(cubic, Normal(0, 1), n_paths=700, t_span=(0, 2), n_steps=200)
    alone = small(cubic, Normal(0, 1), n_paths=700, t_span=(0, 2), n_steps=200, functionals={"w": (0.0, 1.0)})
    np.testing.assert_array_equal(ens.x, alone.x)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"process": lambda x: x}, InputError, "must be an SDE"),
        ({"n_paths": 0}, InputError, "n_paths"),
        ({"n_steps": 2.5}, InputError, "n_steps"),
        ({"t_span": (1, 0)}, InputError, "reverse the process"),
        ({"scheme": "euler-maryuama"}, UnknownName, "did you mean 'euler-maruyama'"),
        ({"keep": "save"}, UnknownName, "saved"),
        ({"bias": "halve"}, UnknownName, "halving"),
        ({"save_at": [0.5, 1.5]}, InputError, "save_at"),
        ({"save_at": [0.5, 0.5]}, InputError, "increasing"),
        ({"rng": -1}, InputError, "rng"),
        ({"start": np.zeros(5)}, InputError, "Empirical"),
        ({"observables": lambda x: x}, InputError, "observables must be a dict"),
        ({"observables": {"m": lambda x: x[:3]}}, CoefficientError, "one value per point"),
        ({"observables": {"m": lambda y: y}}, UnknownName, "rename it"),
        ({"observables": {"m": lambda x: np.log(x)}}, CoefficientError, "must be finite"),
        ({"observables": {"m": lambda x: x}, "n_paths": 1}, InputError, "two paths"),
        ({"functionals": [(1.0, 2.0)]}, InputError, "functionals must be a dict"),
        ({"functionals": {"w": 1.0}}, InputError, "for a missing part"),
        ({"functionals": {"x": (0.0, 1.0)}}, InputError, "name of a functional"),
        ({"functionals": {"w": (lambda x: x[:2], 0.0)}}, CoefficientError, "one value per point"),
        ({"process": SDE(0.0, 1.0, support=(0, lambda t: 1 + t), boundary="absorbing")}, InputError, "grid engine"),
        ({"functionals": {"w": "top"}}, InputError, "maximum"),
        ({"functionals": {"alive": (0.0, 1.0)}}, InputError, "name of a functional"),
        ({"process": SDE(0.0, 1.0, support=(1, 2), boundary="reflecting")}, InputError, "within the support"),
    ],
)
def test_bad_input_is_refused(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        small(**options)


def test_expect_refuses_what_it_cannot_answer() -> None:
    ens = small(save_at=[0.5, 1.0], keep="saved")
    with pytest.raises(InputError, match="kept time"):
        ens.expect(lambda x: x, 0.25)
    with pytest.raises(UnknownName):
        ens.expect(lambda x, w: x * w)
    with pytest.raises(InputError, match="two paths"):
        small(n_paths=1).expect(np.sin)


def test_progress_bar_changes_nothing() -> None:
    np.testing.assert_array_equal(small(progress=True).x, small().x)


# flows ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t_span", [(0.0, 2.0), (2.0, 0.5)])
def test_flow_of_a_linear_ode(t_span: tuple[float, float]) -> None:
    x0 = np.linspace(-3, 2, 150).reshape(3, 50)
    flow = flow_map(ODE(lambda x, t: t * (x + 1)), x0, t_span, log_det=True)
    log_det = 0.5 * (t_span[1] ** 2 - t_span[0] ** 2)
    exact = (x0 + 1) * np.exp(log_det) - 1
    assert flow.x.shape == flow.error.shape == x0.shape
    assert flow.log_det is not None
    assert np.abs(flow.x - exact).max() < 1e-8
    assert (np.abs(flow.x - exact) <= flow.error + 1e-12).all()
    np.testing.assert_allclose(flow.log_det, log_det, rtol=0, atol=1e-8)


def test_log_det_is_that_of_the_map_and_backward_inverts() -> None:
    ode = ODE(lambda x, t: np.sin(x) + 0.3 * np.cos(3 * t))
    x0, d = np.linspace(-2, 2, 9), 1e-4
    flow = flow_map(ode, x0, (0, 1.5), log_det=True)
    ahead, behind = (flow_map(ode, x0 + s * d, (0, 1.5), rtol=1e-12).x for s in (1, -1))
    assert flow.log_det is not None
    np.testing.assert_allclose(flow.log_det, np.log((ahead - behind) / (2 * d)), rtol=0, atol=1e-7)
    np.testing.assert_allclose(flow_map(ode, flow.x, (1.5, 0)).x, x0, rtol=0, atol=1e-8)


def test_flow_carries_a_law() -> None:
    # change of variables: N(0, 1) under x' = -x is N(0, e^-1) at t = ½
    flow = flow_map(ODE(lambda x: -x), np.linspace(-3, 3, 7), (0, 0.5), log_det=True)
    assert flow.log_det is not None
    carried = norm.logpdf(np.linspace(-3, 3, 7)) - flow.log_det
    np.testing.assert_allclose(carried, norm.logpdf(flow.x, scale=np.exp(-0.5)), rtol=0, atol=1e-9)


def test_flow_of_one_number() -> None:
    flow = flow_map(ODE(lambda x: -x), 1.0, (0, 1))
    assert flow.x.shape == ()
    assert float(flow.x) == pytest.approx(np.exp(-1), rel=1e-9)
    assert flow.log_det is None


@pytest.mark.parametrize("log_det", [False, True])
def test_flow_that_blows_up_says_from_where_and_when(log_det: bool) -> None:
    with pytest.raises(BlowUp, match="x=2") as caught:
        flow_map(ODE(lambda x: x**2), [0.1, 2.0, -5.0], (0, 1), log_det=log_det)
    assert caught.value.x == 2.0
    assert caught.value.time == pytest.approx(0.5, abs=1e-6)


def test_flow_that_leaves_the_support_is_refused() -> None:
    with pytest.raises(BlowUp, match="left the support"):
        flow_map(ODE(lambda x: -1.0 + 0 * x, support=(0, np.inf), boundary="reflecting"), [3.0, 0.5], (0, 1))


@pytest.mark.parametrize(
    ("process", "x0", "t_span", "kind", "words"),
    [
        (OU, 1.0, (0, 1), InputError, "probability_flow"),
        (ODE(lambda x: -x), 1.0, (1, 1), InputError, "finite length"),
        (ODE(lambda x: -x), np.nan, (0, 1), InputError, "NaN"),
        (ODE(lambda x: -x), np.inf, (0, 1), InputError, "inside the support"),
        (ODE(lambda x, t: x + np.sqrt(0.5 - t)), 1.0, (0, 1), CoefficientError, r"just after t=0\.5"),
    ],
)
def test_flow_refuses(process: Any, x0: Any, t_span: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        flow_map(process, x0, t_span)
