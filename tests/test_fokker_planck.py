"""Both grid schemes against closed forms written here; the robust one's claims (order, positivity, mass); bad input.

What only the high-order scheme can do is in test_high_order.py.
"""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

import fpsolve as fps
from fpsolve.grids.extrapolation import interpolate, positive_masses, refine_once
from fpsolve.grids.scheme import Schedule, Stepper

WEIGHTS, MEANS, STDS = np.array([0.3, 0.7]), np.array([-2.0, 1.0]), np.array([0.5, 0.3])
LAW = fps.GaussianMixture(WEIGHTS, MEANS, STDS)
OU = fps.SDE(lambda x: -x, 2**0.5)


def mixture(x: np.ndarray, means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log q, score, and posterior weights of a Gaussian mixture."""
    parts = np.log(WEIGHTS) - 0.5 * (x[:, None] - means) ** 2 / variances - 0.5 * np.log(2 * np.pi * variances)
    log_q = np.logaddexp.reduce(parts, axis=1)
    share = np.exp(parts - log_q[:, None])
    return log_q, (share * (means - x[:, None]) / variances).sum(axis=1), share


def ou_exact(theta: float, sigma: float) -> Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(log q, score, velocity) of dX = -theta X dt + sigma dW from LAW."""

    def at(x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        a = np.exp(-theta * t)
        log_q, score, _ = mixture(x, MEANS * a, STDS**2 * a**2 + sigma**2 / (2 * theta) * (1 - a**2))
        return log_q, score, -theta * x - 0.5 * sigma**2 * score

    return at


def sinh_exact(length: float) -> Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The same for X = L sinh(Y/L), Y with theta = 0.8, sigma = 0.7."""

    def at(x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        slope = np.sqrt(1 + (x / length) ** 2)
        log_q, score, velocity = ou_exact(0.8, 0.7)(length * np.arcsinh(x / length), t)
        return log_q - np.log(slope), score / slope - x / length**2 / slope**2, velocity * slope

    return at


def linear_exact(x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dX = (-X + t) dt + (1 + t) dW: m' = -m + t, V' = -2V + (1 + t)^2, solved by hand."""
    means = MEANS * np.exp(-t) + t - 1 + np.exp(-t)
    variances = STDS**2 * np.exp(-2 * t) + 0.5 * (1 + t) ** 2 - 0.5 * (1 + t) + 0.25 - 0.25 * np.exp(-2 * t)
    log_q, score, _ = mixture(x, means, variances)
    return log_q, score, -x + t - 0.5 * (1 + t) ** 2 * score


def sinh_process(length: float) -> fps.SDE:
    return fps.SDE(
        lambda x: -0.8 * length * np.arcsinh(x / length) * np.sqrt(1 + (x / length) ** 2) + 0.49 * x / (2 * length**2),
        lambda x: 0.7 * np.sqrt(1 + (x / length) ** 2),
    )


CASES = {
    "OU": (OU, LAW, ou_exact(1.0, 2**0.5)),
    "SinhOU(1)": (sinh_process(1.0), fps.Pushforward(LAW, fps.maps.Sinh(1.0)), sinh_exact(1.0)),
    "SinhOU(25)": (sinh_process(25.0), fps.Pushforward(LAW, fps.maps.Sinh(25.0)), sinh_exact(25.0)),
    "linear": (fps.SDE(lambda x, t: -x + t, lambda t: 1 + t), LAW, linear_exact),
}


SAVED = [0, 0.1, 0.5, 1.0]
SCHEMES = ("auto", "robust")


@pytest.fixture(scope="module", params=[(case, scheme) for case in CASES for scheme in SCHEMES], ids="-".join)
def solved(request: pytest.FixtureRequest) -> tuple[fps.Evolution, Callable]:
    case, scheme = request.param
    process, law, exact = CASES[case]
    return fps.solve_fokker_planck(process, law, (0, 1), t_eval=SAVED, scheme=scheme), exact


@pytest.mark.parametrize("t", [0.1, 0.5, 1.0])
def test_errors_are_small_and_below_their_estimates(solved: tuple[fps.Evolution, Callable], t: float) -> None:
    q, exact = solved
    k = SAVED.index(t)
    x = np.linspace(*q.at(t).quantile_span(1e-6), 500)
    log_q, score, velocity = exact(x, t)
    pdf = np.exp(log_q)
    assert abs(q.pdf(x, t) - pdf).max() / pdf.max() < min(q.error["pdf"].total[k], 1e-6)
    weight = pdf * np.gradient(x)
    for name, true in (("score", score), ("velocity", velocity)):
        values, errors = q.with_error(name, x, t)
        size = np.sqrt((weight * (values - true) ** 2).sum())
        assert size < min(q.error[name].total[k], 1e-4)
        assert size < np.sqrt((weight * errors**2).sum())
        assert abs(values - true).max() < q.error[f"{name}_sup"].total[k]
    values, errors = q.with_error("logpdf", x, t)
    assert (abs(values - log_q) <= errors).mean() > 0.98
    assert q.error["pdf"].worst <= 1e-6
    assert "meets" in q.message


def test_velocity_at_the_start_comes_from_the_first_steps(solved: tuple[fps.Evolution, Callable]) -> None:
    q, exact = solved
    x = np.linspace(*q.at(0.0).quantile_span(1e-3), 50)
    values, errors = q.with_error("velocity", x, 0.0)
    log_q, _, true = exact(x, 0.0)
    flux = np.exp(log_q) * true
    assert (np.exp(log_q) * abs(values - true)).max() < 1e-4 * abs(flux).max()
    assert (abs(values - true) <= errors + 1e-12).all()


def test_mass_moments_and_law(solved: tuple[fps.Evolution, Callable]) -> None:
    q, exact = solved
    for t in (0.1, 1.0):
        assert abs(q.mass(t) - 1) < 1e-12
        density = q.masses(t) / q.grid.widths
        assert density.min() >= (0 if q.stats["scheme"] == "robust" else -1e-9 * density.max())
        law = q.at(t)
        p = np.array([1e-10, 1e-3, 0.5, 0.9])
        assert np.allclose(law.cdf(law.ppf(p)), p, rtol=1e-9)
        left = q.span(t)[0]
        assert law.cdf(left) == pytest.approx(1e-6, rel=1e-3)
        x = np.linspace(*law.quantile_span(1e-13), 40001)
        pdf = np.exp(exact(x, t)[0])
        assert q.mean(t) == pytest.approx(np.trapezoid(x * pdf, x), abs=1e-5)
        assert q.fisher(t) == pytest.approx(np.trapezoid(exact(x, t)[1] ** 2 * pdf, x), rel=1e-5)
        assert left > q.span(t, 1e-9)[0]


def cell_masses(law: fps.Normal, grid: fps.Grid) -> np.ndarray:
    """Masses of all cells, with what lies outside in the end cells."""
    ends = [-np.inf, *grid.faces[1:-1], np.inf]
    return np.where(grid.x < law.mean(), np.diff(law.cdf(ends)), -np.diff(law.sf(ends)))


def masses_after(process: fps.SDE, law: fps.Normal, grid: fps.Grid, times: np.ndarray) -> np.ndarray:
    stepper = Stepper(process, (0.0, 1.0))
    mass = cell_masses(law, grid)
    stepper.run(mass, times, stepper.points(grid), np.zeros_like(mass))
    return mass


def raw_cdf(cells: int, steps: int) -> np.ndarray:
    """F by the scheme without extrapolation, at faces that all grids have, for the OU process at t = 1/2."""
    mass = masses_after(OU, fps.Normal(1.0, 0.6), fps.Grid(-6, 6, cells), np.linspace(0, 0.5, steps + 1))
    return np.cumsum(mass.reshape(40, -1).sum(axis=1))


def observed_order(coarse: np.ndarray, middle: np.ndarray, fine: np.ndarray) -> float:
    return float(np.log2(abs(middle - coarse).max() / abs(fine - middle).max()))


def test_raw_order_in_time_is_one_and_its_error_is_small() -> None:
    found = [raw_cdf(800, n) for n in (200, 400, 800)]
    assert observed_order(*found) == pytest.approx(1.0, abs=0.1)
    a = np.exp(-0.5)
    exact = scipy.stats.norm(a, np.sqrt(0.36 * a**2 + 1 - a**2)).cdf(np.linspace(-6, 6, 41)[1:])
    assert abs(found[2] - exact).max() < 3e-4


def test_raw_order_in_space_is_two() -> None:
    assert observed_order(*(raw_cdf(n, 100) for n in (160, 320, 640))) == pytest.approx(2.0, abs=0.1)


@given(
    step=st.floats(1e-8, 1e8),
    roughness=st.floats(0, 1e3),
    noise=st.floats(0, 50),
    centre=st.floats(-3, 3),
    std=st.floats(0.02, 1.0),
)
def test_masses_stay_positive_and_their_sum_stays_for_any_step(
    step: float, roughness: float, noise: float, centre: float, std: float
) -> None:
    process = fps.SDE(lambda x: roughness * np.sign(np.sin(40 * x)), lambda x: noise * np.abs(np.cos(7 * x)))
    mass = masses_after(process, fps.Normal(centre, std), fps.Grid(-4, 4, 100), step * np.arange(4.0))
    assert (mass >= 0).all()
    assert abs(mass.sum() - 1) < 1e-12


def test_tails_keep_their_relative_accuracy() -> None:
    """After one tiny step the mass of a far cell is that of the Taylor series, although it is 1e-60 of the total."""
    grid = fps.Grid(-10, 10, 200)
    start = cell_masses(fps.Normal(-6.0, 1.0), grid)
    mass = masses_after(OU, fps.Normal(-6.0, 1.0), grid, np.array([0.0, 1e-12]))
    assert start[-1] < 1e-50
    assert np.allclose(mass, start, rtol=1e-7, atol=0)


def test_equilibrium_stays() -> None:
    """The normal law is the equilibrium of OU also on the grid: w is the exact potential difference on equal cells."""
    grid = fps.Grid(-6, 6, 120)
    stepper = Stepper(OU, (0.0, 1.0))
    mass = np.exp(-0.5 * grid.x**2)
    mass /= mass.sum()
    after, change = mass.copy(), np.zeros_like(mass)
    stepper.run(after, np.linspace(0, 10, 50), stepper.points(grid), change)
    assert np.allclose(after, mass, rtol=1e-11, atol=0)


def test_schedules_land_on_requested_times() -> None:
    schedule = Schedule(np.array([0.0, 0.3, 1.0]), np.array([1.2, -0.5]), np.array([3, 4]), np.array([1, 2]))
    for k, factor in ((0, 1), (0, 4), (1, 2)):
        fine, coarse = schedule.segment(k, 2 * factor), schedule.segment(k, factor)
        assert np.allclose(fine[::2], coarse, rtol=1e-14)
        assert (coarse[0], coarse[-1]) == (schedule.landings[k], schedule.landings[k + 1])


def student_after(x: np.ndarray, t: float) -> np.ndarray:
    """Density of the OU process from Student-t(3), by quadrature over the noise."""
    a, s = np.exp(-t), np.sqrt(1 - np.exp(-2 * t))
    nodes, weights = np.polynomial.legendre.leggauss(600)
    z = 9 * nodes
    kernel = 9 * weights * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    return (scipy.stats.t(3).pdf((x[:, None] - s * z) / a) / a * kernel).sum(axis=1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_time_is_known(scheme: str) -> None:
    q = fps.solve_fokker_planck(OU, LAW, (0, 1), t_eval=[0.25, 1.0], rtol=1e-4, scheme=scheme)
    assert q.times is None
    for t in (0.05, 0.3, 0.99):
        x = np.linspace(*q.at(t).quantile_span(1e-6), 300)
        pdf = np.exp(ou_exact(1.0, 2**0.5)(x, t)[0])
        values, errors = q.with_error("pdf", x, t)
        assert abs(values - pdf).max() < 1e-4 * pdf.max()
        assert (abs(values - pdf) <= errors).mean() > 0.95
        assert q.slice(t).time == t
        assert abs(q.masses(t).sum() - 1) < 1e-12
    assert q.error["pdf"].times.tolist() == [0.25, 1.0]
    with pytest.raises(fps.InputError, match="within"):
        q.pdf(0.0, 1.1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_heavy_tails_and_a_domain_that_is_too_narrow(scheme: str) -> None:
    x = np.linspace(-7.5, 7.5, 201)
    true = student_after(x, 1.0)
    free = fps.solve_fokker_planck(OU, scipy.stats.t(3), (0, 1), t_eval=[1.0], rtol=1e-5, scheme=scheme)
    assert abs(free.pdf(x, 1.0) - true).max() / true.max() < free.error["pdf"].worst < 1e-5
    given_grid = fps.solve_fokker_planck(
        OU, scipy.stats.t(3), (0, 1), t_eval=[1.0], grid=fps.Grid(-8, 8, 400), rtol=1e-4, scheme=scheme
    )
    error = abs(given_grid.pdf(x, 1.0) - true).max() / true.max()
    assert 1e-4 < error < given_grid.error["pdf"].domain[0]
    assert given_grid.error["pdf"].main_cause == "domain"
    assert "misses" in given_grid.message
    assert (given_grid.grid.left, given_grid.grid.cells) == (-8, 400)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_reflecting_box_against_its_cosine_series(scheme: str) -> None:
    box = fps.SDE(0.0, 1.0, support=(0, 1), boundary="reflecting")
    q0 = scipy.stats.beta(4, 3)
    q = fps.solve_fokker_planck(box, q0, (0, 0.1), t_eval=[0.1], scheme=scheme)
    x, k = np.linspace(0, 1, 101), np.arange(1, 30)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    y = 0.5 * (nodes + 1)
    modes = np.cos(np.pi * k[:, None] * y) @ (0.5 * weights * q0.pdf(y)) * np.exp(-((np.pi * k) ** 2) * 0.05)
    true = 1 + 2 * np.cos(np.pi * np.outer(x, k)) @ modes
    values, errors = q.with_error("pdf", x, 0.1)
    assert (abs(values - true) <= 3 * errors).all()
    assert abs(values - true).max() < q.error["pdf"].worst * true.max()
    assert abs(values - true).max() < 1e-6 * true.max()


def test_pure_transport_declares_its_low_order() -> None:
    q = fps.solve_fokker_planck(fps.ODE(lambda x: -x), fps.Normal(1, 0.5), (0, 1), t_eval=[1.0], rtol=3e-2)
    x = np.linspace(-0.5, 1.2, 100)
    true = fps.Normal(np.exp(-1), 0.5 * np.exp(-1)).pdf(x)
    assert abs(q.pdf(x, 1.0) - true).max() / true.max() < q.error["pdf"].worst


@pytest.mark.parametrize(("scheme", "rtol"), [("robust", 1e-4), ("auto", 1e-6)])
def test_outside_the_domain(scheme: str, rtol: float) -> None:
    q = fps.solve_fokker_planck(OU, LAW, (0, 1), t_eval=[1.0], rtol=rtol, scheme=scheme)
    assert q.pdf(100.0, 1.0) == 0
    assert q.logpdf(100.0, 1.0) == -np.inf
    assert np.isinf(q.with_error("score", 100.0, 1.0)[1])
    assert q.score(100.0, 1.0) < 0 < q.score(-100.0, 1.0)
    assert q.flux(100.0, 1.0) == 0
    assert (q.cdf([-100.0, 100.0], 1.0) == [0, 1]).all()


def test_account_of_the_work(capsys: pytest.CaptureFixture) -> None:
    vp = fps.processes.vp()
    q = fps.solve_fokker_planck(vp, LAW, (0, 1), t_eval=[1.0], rtol=1e-3, progress=True)
    assert "estimated error" in capsys.readouterr().err
    assert "order-8 scheme (coefficients are smooth)" in q.message
    assert q.stats["cell_steps"] < 2e6
    assert q.stats["cells"] == q.grid.cells
    assert set(q.stats["mass"]) == {"inside", "absorbed left", "absorbed right"}
    assert q.stats["mass defect"] < 1e-12
    assert q.stats["min q"] >= -1e-3
    assert set(q.stats["coefficients"].values()) <= {"python", "compiled", "constant"}
    r = fps.solve_fokker_planck(vp, LAW, (0, 1), t_eval=[1.0], rtol=1e-3, scheme="robust")
    assert "robust scheme (as asked)" in r.message
    assert r.stats["cells"] == [r.grid.cells // 4, r.grid.cells // 2, r.grid.cells]
    assert r.stats["mass defect"] < 1e-13
    assert r.stats["min q"] >= 0
    assert r.stats["cell_steps"] < 2e6


@pytest.mark.parametrize(("drift", "span"), [(lambda x: x**3, (0, 2)), (lambda x: -(x**2), (0, 3))])
def test_mass_that_leaves_in_finite_time(drift: Callable, span: tuple[float, float]) -> None:
    with pytest.raises(fps.MassEscape) as caught:
        fps.solve_fokker_planck(fps.SDE(drift, 0.5), fps.Normal(0, 1), span)
    assert caught.value.side in ("left", "right")
    assert 0 < caught.value.time < span[1]


def test_a_coefficient_that_fails_on_the_way_is_named() -> None:
    late = fps.SDE(lambda x, t: np.where(t > 0.5, np.nan, -x), 1.0)
    with pytest.raises(fps.CoefficientError, match=r"drift must be finite.*t=0\.5"):
        fps.solve_fokker_planck(late, LAW, (0, 1))

    def broken(x: np.ndarray, t: float) -> np.ndarray:
        if t > 0.5:
            raise KeyError("late")
        return -x

    with pytest.raises(KeyError, match="late"):
        fps.solve_fokker_planck(fps.SDE(broken, 1.0), LAW, (0, 1))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"t_span": (1, 0)}, fps.InputError, "reverse"),
        ({"t_span": (0, 0)}, fps.InputError, "empty"),
        ({"t_eval": [0.5, 2.0]}, fps.InputError, "inside the span"),
        ({"scheme": "robst"}, fps.UnknownName, "did you mean 'robust'"),
        ({"rtol": 0.0}, fps.InputError, "rtol"),
        ({"grid": (-8, 8)}, fps.InputError, r"fps\.Grid"),
        ({"grid": fps.Grid(-1, 1, 100)}, fps.DensityError, r"mass 0\.6.*use a grid that covers"),
        ({"q0": [0.0, 1.0, 2.0]}, fps.InputError, "KDE"),
        ({"process": lambda x: -x}, fps.InputError, r"fps\.SDE"),
        ({"process": fps.SDE(-1.0, 1.0, support=(0, np.inf), boundary="reflecting")}, fps.DensityError, "support"),
    ],
)
def test_bad_input(changes: dict, error: type, words: str) -> None:
    arguments = {"process": OU, "q0": LAW, "t_span": (0, 1)} | changes
    positional = [arguments.pop(name) for name in ("process", "q0", "t_span")]
    with pytest.raises(error, match=words) as caught:
        fps.solve_fokker_planck(*positional, **arguments)
    assert "Fix:" in str(caught.value)


@given(st.lists(st.floats(0, 1), min_size=12, max_size=12), st.lists(st.floats(-2, 2), min_size=11, max_size=11))
def test_limiter_keeps_sign_and_sum(low: list[float], shift: list[float]) -> None:
    masses = np.array([low])
    moved, held, _ = positive_masses(masses, np.array([[0.0, *shift, 0.0]]))
    assert (moved >= 0).all()
    assert moved.sum() == pytest.approx(masses.sum(), abs=1e-12)
    small = 1e-3 * masses.min() * np.array([[0.0, *shift, 0.0]])
    moved, held, limited = positive_masses(masses, small)
    assert limited[0] == 0
    assert held[0] == 0
    assert np.allclose(moved, masses + np.diff(small))


def test_interpolation_reproduces_polynomials() -> None:
    grid = fps.Grid(-3, 5, 64, stretch=1.0, centre=0.5)
    y = np.arcsinh((grid.faces - 0.5) / 1.0)
    x = np.linspace(-3, 5, 301)
    assert np.allclose(interpolate(grid, y**7, x), np.arcsinh(x - 0.5) ** 7, rtol=1e-9, atol=1e-9)
    nodes = np.linspace(0, 1, 21)[None, :]
    assert np.allclose(refine_once(nodes**9), np.linspace(0, 1, 41)[None, :] ** 9, atol=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_law_so_narrow_that_far_cells_underflow(scheme: str) -> None:
    still = fps.SDE(0.0, 0.05)
    q = fps.solve_fokker_planck(still, fps.Normal(0, 0.01), (0, 1), t_eval=[1e-6, 1.0], rtol=1e-4, scheme=scheme)
    x = np.linspace(-0.05, 0.05, 101)
    for t in (1e-6, 1.0):
        exact = fps.Normal(0, np.sqrt(1e-4 + 0.0025 * t)).pdf(x)
        assert abs(q.pdf(x, t) - exact).max() / exact.max() < q.error["pdf"].worst < 1e-4
    far = np.linspace(*q.at(1e-6).support, 1001)
    assert (q.pdf(far, 1e-6)[abs(far) > 0.1] < 1e-12 * q.pdf(0.0, 1e-6)).all()
