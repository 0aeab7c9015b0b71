"""Schemes: kernel against one step in NumPy, refusals, a user's own; Brownian paths across step sizes.

Statistical tests have fixed seeds and compare at |z| < 4.5, a false alarm of 7e-6 each, under 30 of them.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import fpsolve as fps
from fpsolve.errors import BlowUp, InputError, UnknownName

Z = 4.5
GENERAL = fps.SDE(lambda x, t: -x + 0.1 * t, lambda x, t: (1 + 0.3 * np.sin(x)) * (1 + 0.1 * t))
ADDITIVE = fps.SDE(lambda x: np.sin(2 * x) - x, lambda t: 1 + 0.3 * np.cos(t))
FLOW = fps.ODE(lambda x, t: np.sin(x) - t)
TARGET = fps.GaussianMixture([0.4, 0.6], [-1.0, 1.2], [0.6, 0.5])
BY_NOISE = {"general": GENERAL, "additive": ADDITIVE, "none": FLOW}


def process_for(scheme: fps.Scheme) -> Any:
    if scheme.name == "exact-ou":
        return fps.SDE(lambda x: 0.3 - 1.4 * x, 0.7)
    if scheme.name in ("ula", "mala"):
        return fps.processes.langevin(TARGET)
    process = BY_NOISE[scheme.noise]
    return process.to_stratonovich() if scheme.calculus == "stratonovich" else process


def run(process: Any, scheme: Any, n_steps: int, n_paths: int = 7, **options: Any) -> Any:
    return fps.simulate(process, fps.PointMass(0.7), (0, 1), n_paths=n_paths, n_steps=n_steps, scheme=scheme, **options)


@pytest.mark.parametrize("name", [name for name in fps.SCHEMES if name not in ("mala", "dopri5")])
@pytest.mark.parametrize("compiled", [False, True])
def test_kernel_is_the_step_function(name: str, compiled: bool, monkeypatch: Any) -> None:
    if compiled:
        monkeypatch.setattr("fpsolve.problem.coefficient.COMPILE_FROM", 1)
    scheme, n = fps.SCHEMES[name], 8
    process, path = process_for(scheme), fps.BrownianPath((0, 1), rng=3)
    dw, dz = path.increments(n, 7), path.integrals(n, 7)
    x = np.full(7, 0.7)
    for k in range(n):
        x = scheme.step(x, k / n, 1 / n, dw[k] * (not process.is_ode), process, dz[k])
    np.testing.assert_allclose(run(process, name, n, brownian=path).x[0], x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["euler-maruyama", "rossler-1.5", "theta", "mala", "dopri5"])
def test_any_cut_gives_the_same_bits(name: str, monkeypatch: Any) -> None:
    scheme = fps.SCHEMES[name]
    options = {"n_paths": 2001, "functionals": {"top": "maximum"}, "rng": 4}
    whole = run(process_for(scheme), name, 5, **options)
    monkeypatch.setattr("fpsolve.particles.run.BLOCK", 64)
    monkeypatch.setattr("fpsolve.particles.run.MAX_TASK", 512)
    cut = run(process_for(scheme), name, 5, **options)
    np.testing.assert_array_equal(cut.x, whole.x)
    np.testing.assert_array_equal(cut.functionals["top"], whole.functionals["top"])


def test_a_users_scheme_gets_everything() -> None:
    @fps.scheme(strong_order=1.0, weak_order=1.0)
    def own(x: Any, t: float, h: float, dw: Any, process: Any, dz: Any) -> Any:
        assert dz.shape == dw.shape == x.shape
        return x + process.drift(x, t) * h + process.diffusion(x, t) * dw

    options = {"n_paths": 900, "functionals": {"w": (1.0, 0.5), "top": "maximum"}, "bias": "halving"}
    mine, theirs = run(GENERAL, own, 6, **options), run(GENERAL, "euler-maruyama", 6, **options)
    assert own.integral
    assert mine.stats["scheme"] == "own"
    np.testing.assert_allclose(mine.x, theirs.x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(mine.functionals["top"], theirs.functionals["top"], rtol=0, atol=1e-12)
    assert mine.expect(lambda x: x).error == pytest.approx(theirs.expect(lambda x: x).error, rel=1e-9)


def test_an_exception_of_a_users_step_comes_back() -> None:
    @fps.scheme(strong_order=0.5, weak_order=1.0)
    def broken(x: Any, t: float, h: float, dw: Any, process: Any) -> Any:
        raise ZeroDivisionError("my own words")

    with pytest.raises(ZeroDivisionError, match="my own words") as caught:
        run(GENERAL, broken, 4)
    assert "raised by the step of the scheme" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("process", "scheme", "words"),
    [
        (GENERAL, "heun", "stratonovich calculus.*to_stratonovich.*platen-weak-2"),
        (GENERAL.to_stratonovich(), "milstein", "ito calculus.*to_ito.*euler-heun"),
        (GENERAL, "rossler-1.5-additive", "additive noise.*milstein"),
        (ADDITIVE, "rk4", "for an ODE.*rossler-1.5-additive"),
        (GENERAL, "exact-ou", "additive noise"),
        (ADDITIVE, "exact-ou", "dX = -a"),
        (fps.SDE(lambda x: -(x**3), 1.0), "exact-ou", "affine"),
        (fps.SDE(lambda x: -x, 1.0), "mala", "langevin"),
    ],
)
def test_what_a_scheme_does_not_support_is_refused(process: Any, scheme: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(process, scheme, 4)


def test_additive_noise_has_one_calculus() -> None:
    assert run(ADDITIVE, "heun", 4).x.shape == (1, 7)
    assert run(ADDITIVE.to_stratonovich(), "euler-maruyama", 4).x.shape == (1, 7)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"strong_order": 0.0, "weak_order": 1.0}, InputError),
        ({"strong_order": 0.5, "weak_order": 1.0, "calculus": "itô"}, UnknownName),
        ({"strong_order": 0.5, "weak_order": 1.0, "noise": "any"}, UnknownName),
    ],
)
def test_a_declaration_is_checked(options: dict[str, Any], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        fps.scheme(**options)
    with pytest.raises(InputError, match="x, t, h, dw, process"):
        fps.scheme(strong_order=0.5, weak_order=1.0)(lambda y, h: y)


def test_tamed_and_implicit_steps_hold_where_euler_overflows() -> None:
    stiff = fps.SDE(lambda x: -(x**3), 1.0)
    start = fps.PointMass(30.0)
    options: dict[str, Any] = {"n_paths": 100, "n_steps": 16}
    with pytest.raises(BlowUp, match="overflow"):
        fps.simulate(stiff, start, (0, 1), **options).expect(lambda x: x)
    for name in ("tamed-euler", "implicit-euler"):
        assert abs(fps.simulate(stiff, start, (0, 1), scheme=name, **options).x).max() < 30.0


def test_a_stage_outside_the_support_is_named() -> None:
    growing = fps.SDE(lambda x: -x, lambda x: x**1.5, support=(0, np.inf))
    ens = fps.simulate(growing, fps.PointMass(4.0), (0, 1), n_paths=500, n_steps=1, scheme="platen-weak-2")
    assert ens.stats["lost"]["count"] == 500
    assert "stage" in ens.stats["lost"]["cause"]
    with pytest.raises(BlowUp, match="stage"):
        ens.expect(lambda x: x)


def test_exact_ou_has_the_law_at_any_step() -> None:
    process = fps.SDE(lambda x: 0.3 - 1.4 * x, 0.7)
    ens = run(process, "exact-ou", 2, n_paths=50_000)
    law = fps.exact_evolution(fps.processes.ou(1.4, 0.7, 0.3 / 1.4), fps.PointMass(0.7), (0, 1)).at(1.0)
    assert stats.kstest(ens.x[0], law.cdf).pvalue > 1e-5


def test_mala_removes_the_bias_of_ula() -> None:
    process, n = fps.processes.langevin(fps.Normal(0.0, 1.0)), 40_000
    start = fps.Normal(0.0, 1.0)
    runs = {
        name: fps.simulate(process, start, (0, 10), n_paths=n, n_steps=20, scheme=name, rng=5)
        for name in ("ula", "mala")
    }
    squares = {name: ens.expect(lambda x: x**2) for name, ens in runs.items()}
    assert abs(squares["mala"].value - 1.0) < Z * squares["mala"].std_error
    # stationary variance 1/(1 - h/2) of x (1 - h) + √(2h) ξ, h = ½
    assert abs(squares["ula"].value - 1.0 / (1 - 0.25)) < Z * squares["ula"].std_error


def test_dormand_prince_meets_its_tolerance() -> None:
    flow = fps.ODE(lambda x, t: np.cos(3 * t) * x)
    ens = fps.simulate(flow, fps.PointMass(1.0), (0, 2), n_paths=3, n_steps=1, scheme="dopri5")
    np.testing.assert_allclose(ens.x[0], np.exp(np.sin(6.0) / 3), rtol=1e-7)


def _gbm_factor(name: str, mu: float, sigma: float, h: float, xi: np.ndarray) -> np.ndarray:
    """What one step multiplies x by for dX = μX dt + σX dW (Itô) with ΔW = √h ξ, worked out by hand."""
    w = np.sqrt(h) * xi
    euler, square = 1 + mu * h + sigma * w, (w**2 - h) / 2
    drift = mu - sigma**2 / 2  # as Stratonovich schemes read it
    predicted = 1 + drift * h + sigma * w
    up, down = (1 + mu * h + sign * sigma * np.sqrt(h) for sign in (1, -1))
    return {
        "euler-maruyama": euler,
        "milstein": euler + sigma**2 * square,
        "milstein-derivative-free": euler + sigma * (mu * np.sqrt(h) + sigma) * square,
        "euler-heun": 1 + drift * h + sigma * w + sigma**2 * w**2 / 2,
        "heun": 1 + (drift * h + sigma * w) * (1 + predicted) / 2,
        "platen-weak-2": 1 + mu * h * (1 + euler) / 2 + sigma * w * (up + down + 2) / 4
        + sigma * (up - down) * square / (2 * np.sqrt(h)),
        "theta": (1 + mu * h / 2 + sigma * w) / (1 - mu * h / 2),
        "implicit-euler": (1 + sigma * w) / (1 - mu * h),
    }[name]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "euler-maruyama",
        "milstein",
        "milstein-derivative-free",
        "euler-heun",
        "heun",
        "platen-weak-2",
        "theta",
        "implicit-euler",
    ],
)
def test_weak_errors_on_gbm_are_those_of_the_closed_moments(name: str) -> None:
    # two comparisons within 4 standard errors for each of 8 schemes: a false alarm of 1e-3 for all, the seed is fixed
    mu, sigma, n = 0.4, 0.5, 4
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    factor = _gbm_factor(name, mu, sigma, 1 / n, nodes)
    gbm = fps.processes.gbm(mu, sigma)
    process = gbm.to_stratonovich() if fps.SCHEMES[name].calculus == "stratonovich" else gbm
    free = fps.SDE(process.drift, process.diffusion, calculus=process.calculus)  # a step may cross zero
    ens = fps.simulate(free, fps.PointMass(1.0), (0, 1), n_paths=400_000, n_steps=n, scheme=name, rng=11)
    truth, resolved = (np.exp(mu), np.exp(2 * mu + sigma**2)), []
    for power in (1, 2):
        closed = (weights @ factor**power / weights.sum()) ** n - truth[power - 1]
        found = ens.expect(lambda x, power=power: x**power)
        assert abs(found.value - truth[power - 1] - closed) < 4 * found.std_error
        resolved.append(abs(closed) > 4 * found.std_error)
    assert any(resolved) or fps.SCHEMES[name].weak_order > 1  # else there was nothing to agree with


# Brownian paths ------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(levels=st.integers(0, 9), seed=st.integers(0, 10**6), length=st.floats(0.1, 10.0), first=st.integers(0, 10**12))
def test_one_path_at_every_step_size(levels: int, seed: int, length: float, first: int) -> None:
    path, n = fps.BrownianPath((1.0, 1.0 + length), rng=seed), 2**levels
    coarse, fine = (path.increments(k * n, 3, first) for k in (1, 2))
    scale = np.sqrt(length)
    np.testing.assert_allclose(fine[0::2] + fine[1::2], coarse, rtol=0, atol=1e-13 * scale)
    half = length / (2 * n)
    of_coarse, of_fine = path.integrals(n, 3, first), path.integrals(2 * n, 3, first)
    joined = of_fine[0::2] + of_fine[1::2] + half * fine[0::2]
    np.testing.assert_allclose(joined, of_coarse, rtol=0, atol=1e-13 * scale * length)


def test_increments_have_their_law() -> None:
    n, paths = 8, 40_000
    path, h = fps.BrownianPath((0, 2), rng=1), 2 / n
    w, z = path.increments(n, paths) / np.sqrt(h), path.integrals(n, paths) / h**1.5
    area = (z - 0.5 * w) * np.sqrt(12.0)
    both = np.concatenate([w, area])
    assert min(stats.kstest(row, "norm").pvalue for row in both) > 1e-6
    correlations = np.corrcoef(both) - np.eye(2 * n)
    assert abs(correlations).max() < Z / np.sqrt(paths)


def test_antithetic_pairs_are_opposite_and_counted_as_one() -> None:
    path = fps.BrownianPath((0, 1), rng=2, antithetic=True)
    dw = path.increments(4, 6)
    np.testing.assert_array_equal(dw[:, 0::2], -dw[:, 1::2])
    np.testing.assert_array_equal(path.increments(4, 3, 3), dw[:, 3:6])
    ens = run(fps.SDE(lambda x: -x, 1.0), "euler-maruyama", 8, n_paths=2000, brownian=path,
              observables={"x": lambda x: x, "square": lambda x: x**2})  # fmt: skip
    pairs = 0.5 * (ens.x[0, 0::2] + ens.x[0, 1::2])
    assert np.ptp(pairs) < 1e-12  # linear: the mean is exact
    assert ens.observables["x"].std_error[0] < 1e-13
    assert ens.expect(lambda x: x).std_error < 1e-13
    squares = 0.5 * (ens.x[0, 0::2] ** 2 + ens.x[0, 1::2] ** 2)
    assert ens.observables["square"].std_error[0] == pytest.approx(squares.std(ddof=1) / np.sqrt(1000), rel=1e-9)


def test_simulate_lands_save_times_on_the_tree() -> None:
    path = fps.BrownianPath((0, 1), rng=6)
    motion = fps.SDE(0.0, 1.0)
    ens = run(motion, "euler-maruyama", 16, brownian=path, save_at=[0.25, 0.625, 1.0], keep="saved")
    w = 0.7 + path.increments(16, 7).cumsum(axis=0)
    np.testing.assert_allclose(ens.x, w[[3, 9, 15]], rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_steps": 12}, "power of two.*16 or|power of two.*8 or"),
        ({"n_steps": 8, "save_at": [0.3, 1.0]}, "dyadic"),
        ({"n_steps": 8, "brownian": fps.BrownianPath((0, 2))}, "cover t_span"),
        ({"n_steps": 8, "brownian": 3}, "must be a BrownianPath"),
        ({"n_steps": 8, "n_paths": 3, "brownian": fps.BrownianPath((0, 1), antithetic=True)}, "even n_paths"),
    ],
)
def test_a_path_that_does_not_fit_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        fps.simulate(
            fps.SDE(0.0, 1.0), fps.PointMass(0.0), (0, 1),
            **({"n_paths": 4, "brownian": fps.BrownianPath((0, 1))} | options),
        )  # fmt: skip


# histograms ----------------------------------------------------------------------------------------------------------


def test_streaming_histogram_and_quantiles() -> None:
    bins = fps.Histogram(np.linspace(-5, 5, 401))
    ens = fps.simulate(fps.SDE(0.0, 1.0), fps.PointMass(0.0), (0, 1), n_paths=60_000, n_steps=1, keep="none",
                       observables={"law": bins}, save_at=[0.5, 1.0])  # fmt: skip
    law = ens.observables["law"]
    assert law.value.shape == (2, 400)
    exact = np.diff(stats.norm.cdf(bins.edges))
    z = (law.value[1] - exact) / np.sqrt(exact * (1 - exact) / 60_000)
    assert abs(z).max() < 5.5  # 400 bins
    for p in (0.01, 0.5, 0.9):
        found = bins.quantile(law, p)
        assert abs(found.value[1] - stats.norm.ppf(p)) < found.error[1] + Z * found.std_error[1]
        assert found.std_error[1] == pytest.approx(
            np.sqrt(p * (1 - p) / 60_000) / stats.norm.pdf(stats.norm.ppf(p)), rel=0.3
        )
    width = 10 / 400
    density = bins.density(law)
    np.testing.assert_allclose(density.value, law.value / width, rtol=1e-12)
    with pytest.raises(InputError, match="inside the bins"):
        bins.quantile(law, 1.5)
    with pytest.raises(InputError, match="increasing"):
        fps.Histogram([1.0, 1.0])


# functionals and multilevel ------------------------------------------------------------------------------------------


def test_girsanov_weights_give_the_other_law() -> None:
    p, q = (
        fps.SDE(lambda x: -x, lambda x: 1 + 0.2 * np.cos(x)),
        fps.SDE(lambda x: 0.3 - x, lambda x: 1 + 0.2 * np.cos(x)),
    )
    n_steps, n = 16, 60_000
    ens = run(p, "euler-maruyama", n_steps, n_paths=n, functionals={
        "w": fps.functionals.girsanov(p, q), "kl": fps.functionals.path_kl(p, q)}, rng=7)  # fmt: skip
    one = ens.expect(lambda w: np.exp(w))
    assert abs(one.value - 1.0) < Z * one.std_error
    weighted, direct = (
        ens.expect(lambda x, w: x**2 * np.exp(w)),
        run(q, "euler-maruyama", n_steps, n_paths=n, rng=8).expect(lambda x: x**2),
    )
    assert abs(weighted.value - direct.value) < Z * np.hypot(weighted.std_error, direct.std_error)
    gap = ens.expect(lambda w, kl: w + kl)  # E_P log dQ/dP = -KL(P|Q)
    assert abs(gap.value) < Z * gap.std_error


def test_log_det_is_the_derivative_of_the_flow() -> None:
    p = fps.SDE(lambda x: np.sin(x), lambda x: 1 + 0.3 * np.sin(x))
    path, n, d = fps.BrownianPath((0, 1), rng=9), 4096, 1e-4
    ens = run(p, "milstein", n, n_paths=50, brownian=path, functionals={"j": fps.functionals.log_det(p)})
    ahead, behind = (
        fps.simulate(p, fps.PointMass(0.7 + s * d), (0, 1), n_paths=50, n_steps=n, scheme="milstein", brownian=path).x[
            0
        ]
        for s in (1, -1)
    )
    np.testing.assert_allclose(ens.functionals["j"], np.log((ahead - behind) / (2 * d)), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (fps.SDE(0.0, 1.0), fps.SDE(0.0, 2.0), "same g"),
        (fps.ODE(0.0), fps.SDE(0.0, 2.0), "with noise"),
        (fps.SDE(0.0, 1.0), 3, "must be an SDE"),
    ],
)
def test_functionals_refuse(one: Any, other: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        fps.functionals.girsanov(one, other)


def test_multilevel_meets_its_goal() -> None:
    # false alarm: 4 σ beyond the estimated bias, 6e-5 each
    gbm = fps.processes.gbm(0.3, 0.4)
    for name in ("euler-maruyama", "milstein"):
        options = {"std_error": 0.004, "n_steps": 8, "scheme": name, "rng": 3}
        found = fps.multilevel(gbm, fps.PointMass(1.0), (0, 1), lambda x: x**2, **options)
        assert found.std_error <= 0.004
        assert abs(found.value - np.exp(0.6 + 0.16)) < found.error + 4 * found.std_error
    ring = fps.SDE(0.0, 1.0, support=(0, np.inf), boundary=("absorbing", "natural"))
    alive = fps.multilevel(ring, fps.PointMass(1.0), (0, 1), lambda alive: alive, std_error=0.005)
    assert abs(alive.value - (2 * stats.norm.cdf(1.0) - 1)) < alive.error + 4 * alive.std_error


def test_multilevel_refuses_what_would_never_end() -> None:
    with pytest.raises(InputError, match="raise std_error"):
        fps.multilevel(fps.SDE(0.0, 1.0), fps.PointMass(0.0), (0, 1), lambda x: x, std_error=1e-7)
