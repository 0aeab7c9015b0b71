"""Absorption, reflection and running extremes of Brownian motion with drift against their laws.

With constant coefficients the bridge is exact at any step, so large steps are used. Fixed seeds; comparisons at
|z| < 4.5 (7e-6 each, under 40 of them) or by Kolmogorov-Smirnov at a p-value of 1e-5 (under 10 of them).
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fpsolve.particles import simulate
from fpsolve.problem.density import PointMass
from fpsolve.problem.process import ODE, SDE

Z, P_VALUE = 4.5, 1e-5
N = 40_000


def run(process: Any, x0: float, n_steps: int, span: tuple[float, float] = (0.0, 1.0), **options: Any) -> Any:
    return simulate(process, PointMass(x0), span, **({"n_paths": N, "n_steps": n_steps, "rng": 1} | options))


def check_share(found: np.ndarray, exact: float) -> None:
    z = (found.mean() - exact) / np.sqrt(exact * (1 - exact) / found.size)
    assert abs(z) < Z, f"z = {z}"


def survived(x0: float, drift: float, sigma: float, t: float) -> float:
    """P(no touch of 0 before t) for x0 + drift t + sigma W."""
    root = sigma * np.sqrt(t)
    beyond = np.exp(-2 * drift * x0 / sigma**2) * stats.norm.cdf((-x0 + drift * t) / root)
    return float(stats.norm.cdf((x0 + drift * t) / root) - beyond)


@settings(max_examples=6, deadline=None)
@given(
    x0=st.floats(0.3, 1.5), drift=st.floats(-1.0, 1.0), sigma=st.floats(0.5, 1.5), n_steps=st.integers(1, 5),
    left=st.booleans(),
)  # fmt: skip
def test_absorption_at_one_end_is_exact_at_any_step(
    x0: float, drift: float, sigma: float, n_steps: int, left: bool
) -> None:
    sign = 1.0 if left else -1.0
    support, boundary = (
        ((0.0, np.inf), ("absorbing", "natural")) if left else ((-np.inf, 0.0), ("natural", "absorbing"))
    )
    ens = run(SDE(sign * drift, sigma, support=support, boundary=boundary), sign * x0, n_steps)
    for t in (0.25, 0.6, 1.0):
        # drawn afresh for each example: 54 comparisons, a false alarm of 4e-4 for all
        check_share(ens.absorbed_at > t, survived(x0, drift, sigma, t))
    gone = np.isfinite(ens.absorbed_at)
    assert (ens.x[0, gone] == 0.0).all()
    assert (sign * ens.x[0, ~gone] > 0.0).all()


def test_two_absorbing_ends_share_the_mass() -> None:
    # small steps, for a bridge sees one wall at a time; P(right end first) = x0 for Brownian motion on (0, 1)
    motion = SDE(0.0, 1.0, support=(0.0, 1.0), boundary="absorbing")
    ens = run(motion, 0.3, 400, (0.0, 3.0))
    check_share(ens.x[0] == 1.0, 0.3)
    k = np.arange(1, 60)
    alive = (
        4 / np.pi * np.sin((2 * k - 1) * np.pi * 0.3) / (2 * k - 1) * np.exp(-0.5 * ((2 * k - 1) * np.pi) ** 2 * 0.2)
    ).sum()
    check_share(ens.absorbed_at > 0.2, alive)


def test_absorption_without_the_bridge_is_late_by_half_an_order() -> None:
    motion = SDE(0.0, 1.0, support=(0.0, np.inf), boundary=("absorbing", "natural"))
    exact = survived(1.0, 0.0, 1.0, 1.0)
    excess = [float((run(motion, 1.0, n, bridge=False).absorbed_at > 1.0).mean()) - exact for n in (16, 64, 256)]
    # the barrier seems to lie 0.5826 √h further out (Broadie, Glasserman, Kou 1997)
    for n, gap in zip((16, 64, 256), excess, strict=True):
        expected = survived(1.0 + 0.5826 / np.sqrt(n), 0.0, 1.0, 1.0) - exact
        assert abs(gap - expected) < Z * 0.5 / np.sqrt(N) + 0.05 * expected


def test_absorbed_paths_do_not_move_and_do_not_count_as_lost() -> None:
    motion = SDE(0.5, 1.0, support=(0.0, np.inf), boundary=("absorbing", "natural"))
    ens = run(motion, 0.5, 8, save_at=[0.5, 1.0], keep="saved", functionals={"time": (1.0, 0.0)},
              observables={"alive": lambda x, alive: alive})  # fmt: skip
    early = ens.absorbed_at <= 0.5
    assert (ens.x[:, early] == 0.0).all()
    assert ens.stats["lost"]["count"] == 0
    assert ens.observables["alive"].value[0] == pytest.approx(1 - early.mean(), abs=1e-15)
    assert ens.expect(lambda x, alive: alive, 0.5).value == pytest.approx(1 - early.mean(), abs=1e-15)
    assert ens.functionals["time"][early].max() <= 0.5 + 1e-12


def test_a_flow_is_absorbed_on_the_spot() -> None:
    ens = run(
        ODE(lambda x: -1.0 + 0 * x, support=(0.0, np.inf), boundary=("absorbing", "natural")), 0.35, 10, n_paths=3
    )
    np.testing.assert_allclose(ens.absorbed_at, 0.35, rtol=1e-12)


@pytest.mark.parametrize("n_steps", [1, 4])
def test_reflection_with_drift_is_exact_at_any_step(n_steps: int) -> None:
    drift, sigma, x0 = -0.8, 1.0, 0.4
    motion = SDE(drift, sigma, support=(0.0, np.inf), boundary=("reflecting", "natural"))
    ens = run(motion, x0, n_steps)

    def cdf(y: np.ndarray) -> np.ndarray:
        root = sigma
        beyond = np.exp(2 * drift * y / sigma**2) * stats.norm.cdf((-y - x0 - drift) / root)
        return stats.norm.cdf((y - x0 - drift) / root) - beyond

    assert stats.kstest(ens.x[0], cdf).pvalue > P_VALUE


def test_reflection_without_the_bridge_is_seen_to_be_wrong() -> None:
    motion = SDE(0.0, 1.0, support=(0.0, np.inf), boundary=("reflecting", "natural"))
    right, wrong = (run(motion, 0.0, 16, bridge=bridge).expect(lambda x: x) for bridge in (True, False))
    exact = np.sqrt(2 / np.pi)
    assert abs(right.value - exact) < Z * right.std_error
    assert exact - wrong.value > 20 * wrong.std_error


def test_periodic_ends_wrap() -> None:
    ring = SDE(2.0, 0.5, support=(-1.0, 1.0), boundary="periodic")
    ens = run(ring, 0.9, 3)
    free = run(SDE(2.0, 0.5), 0.9, 3)
    gap = (ens.x[0] - free.x[0]) / 2.0
    np.testing.assert_allclose(gap, np.round(gap), rtol=0, atol=1e-12)
    assert (abs(ens.x) <= 1.0).all()
    check_share(
        ens.x[0] > 0, float(sum(np.diff(stats.norm.cdf([2 * k, 2 * k + 1], 2.9, 0.5))[0] for k in range(-3, 8)))
    )


@pytest.mark.parametrize(("kind", "sign"), [("maximum", 1.0), ("minimum", -1.0)])
def test_running_extreme_is_exact_at_any_step(kind: str, sign: float) -> None:
    drift = 0.4
    ens = run(SDE(sign * drift, 1.0), 0.0, 3, functionals={"top": kind})

    def cdf(m: np.ndarray) -> np.ndarray:
        return stats.norm.cdf(m - drift) - np.exp(2 * drift * m) * stats.norm.cdf(-m - drift)

    assert stats.kstest(sign * ens.functionals["top"], cdf).pvalue > P_VALUE
    assert (sign * ens.functionals["top"] >= sign * ens.x[0]).all()
    seen = run(SDE(sign * drift, 1.0), 0.0, 3, functionals={"top": kind}, bridge=False).functionals["top"]
    assert stats.kstest(sign * seen, cdf).pvalue < 1e-20


def test_halving_measures_the_bias_at_a_wall() -> None:
    process = SDE(lambda x: 1 - x, lambda x: 0.5 * (1 + x), support=(0.0, np.inf), boundary=("absorbing", "natural"))
    ens = run(process, 0.4, 16, bias="halving")
    alive = ens.expect(lambda x, alive: alive)
    finer = run(process, 0.4, 512, rng=2).expect(lambda x, alive: alive)
    assert abs(alive.value - finer.value) < alive.error + Z * np.hypot(alive.std_error, finer.std_error)
