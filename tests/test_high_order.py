"""The high-order scheme: observed orders, accuracy against closed forms written here, walls, starts, properties."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

import fpsolve as fps
from fpsolve.grids.march import March, Setting
from fpsolve.kernels.implicit import BEST, COUNTS, GAP, LANES

WEIGHTS, MEANS, STDS = np.array([0.3, 0.7]), np.array([-2.0, 1.0]), np.array([0.5, 0.3])
LAW = fps.GaussianMixture(WEIGHTS, MEANS, STDS)
OU = fps.processes.ou()
Exact = Callable[[np.ndarray, float], np.ndarray]


# ---- closed forms


def normal(x: np.ndarray, mean: float, std: float) -> np.ndarray:
    """Normal density."""
    return np.exp(-0.5 * ((x - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))


def mixture(x: np.ndarray, a: float, noise: float) -> np.ndarray:
    """Density of a X + √noise Z for X from LAW."""
    return sum(w * normal(x, a * m, np.hypot(a * s, noise**0.5)) for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True))


def ou(x: np.ndarray, t: float) -> np.ndarray:
    """dX = -X dt + √2 dW from LAW."""
    return mixture(x, np.exp(-t), 1 - np.exp(-2 * t))


def ou_velocity(x: np.ndarray, t: float) -> np.ndarray:
    """-∂t F/q, by hand: component k moves as m' + s' (x - m)/s with m its mean and s its width."""
    a, parts, flux = np.exp(-t), np.zeros(x.shape), np.zeros(x.shape)
    for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True):
        var = 1 + (s**2 - 1) * a**2
        part = w * normal(x, a * m, var**0.5)
        parts, flux = parts + part, flux + part * (-a * m + (1 - var) / var * (x - a * m))
    return flux / parts


def vp(x: np.ndarray, t: float) -> np.ndarray:
    """β from 0.1 to 20 over one unit of time, from LAW."""
    a = np.exp(-0.5 * (0.1 * t + 0.5 * 19.9 * t**2))
    return mixture(x, a, 1 - a**2)


def sinh_ou(x: np.ndarray, t: float) -> np.ndarray:
    """X = sinh Y, dY = -0.8 Y dt + 0.7 dW, Y from LAW."""
    a = np.exp(-0.8 * t)
    return mixture(np.arcsinh(x), a, 0.49 / 1.6 * (1 - a**2)) / np.sqrt(1 + x**2)


def cir(x: np.ndarray, t: float) -> np.ndarray:
    """CIR of κ = 1.1, θ = 0.9, ξ = 0.6 from a point mass at 1: a scaled noncentral chi-square (Cox et al. 1985)."""
    c = 0.36 * (1 - np.exp(-1.1 * t)) / 4.4
    return scipy.stats.ncx2(4 * 1.1 * 0.9 / 0.36, np.exp(-1.1 * t) / c).pdf(x / c) / c


def gbm(x: np.ndarray, t: float) -> np.ndarray:
    """Geometric Brownian motion of μ = 0.05, σ = 0.2 from lognormal(log 1.2, 0.3)."""
    return normal(np.log(x), np.log(1.2) + 0.03 * t, np.sqrt(0.09 + 0.04 * t)) / x


def jacobi(x: np.ndarray, t: float) -> np.ndarray:
    """Jacobi process from a point mass at 1/2: the series of polynomials of paths.closed_forms, no grid."""
    return fps.exact_evolution(fps.processes.jacobi(), fps.PointMass(0.5), (0, 1)).pdf(x, t)


def through_kernel(pdf: Callable, cuts: list[float]) -> Exact:
    """OU from a density that is smooth between `cuts`: ∫ q0(y) N(x; a y, 1 - a²) dy, Gauss-Legendre on panels."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    edges = np.concatenate([np.linspace(a, b, int(np.ceil((b - a) / 0.2)) + 1)[:-1] for a, b in pairwise(cuts)])
    edges = np.append(edges, cuts[-1])
    half = 0.5 * np.diff(edges)
    y = (0.5 * (edges[1:] + edges[:-1])[:, None] + half[:, None] * nodes).ravel()
    weight = (half[:, None] * weights).ravel() * pdf(y)

    def at(x: np.ndarray, t: float) -> np.ndarray:
        return normal(x[:, None], np.exp(-t) * y, np.sqrt(1 - np.exp(-2 * t))) @ weight

    return at


def images(x: np.ndarray, t: float, drift: float) -> np.ndarray:
    """Brownian motion with drift from 1, absorbed at 0."""
    s = np.sqrt(t)
    return normal(x, 1 + drift * t, s) - np.exp(-2 * drift) * normal(x, -1 + drift * t, s)


def survival(t: float, drift: float) -> float:
    """Mass that has not been absorbed, of the same."""
    cdf, s = scipy.stats.norm.cdf, np.sqrt(t)
    return float(cdf((1 + drift * t) / s) - np.exp(-2 * drift) * cdf((-1 + drift * t) / s))


def points(q: fps.Evolution, t: float) -> np.ndarray:
    """Where q is compared: even in x, and even in probability."""
    law = q.at(t)
    return np.unique(
        np.concatenate([np.linspace(*law.quantile_span(1e-11), 400), law.ppf(np.linspace(1e-3, 1 - 1e-3, 200))])
    )


def relative_error(q: fps.Evolution, exact: Exact, t: float) -> float:
    """max|Δq|/max q."""
    x = points(q, t)
    true = exact(x, t)
    return float(abs(q.pdf(x, t) - true).max() / true.max())


def lowest(q: fps.Evolution, t: float) -> float:
    """Most negative mean density of a cell, relative to the largest: q.pdf itself is positive by construction."""
    density = q.masses(t) / q.grid.widths
    return float(density.min() / density.max())


# ---- order in x


def order_between(error: Callable[[int], float], cells: tuple[int, int], largest: float) -> float:
    """Observed order between two numbers of cells, with a look at the size of the error."""
    coarse, fine = (error(n) for n in cells)
    assert fine < largest
    return float(np.log(coarse / fine) / np.log(cells[1] / cells[0]))


@pytest.mark.parametrize(
    ("order", "cells", "largest"),
    [(2, (400, 800), 4e-5), (4, (200, 400), 2e-7), (6, (160, 320), 2e-9), (8, (160, 240), 1e-10)],
)
def test_order_in_x(order: int, cells: tuple[int, int], largest: float) -> None:
    def error(n: int) -> float:
        grid = fps.Grid(-7, 7, n)
        q = fps.solve_fokker_planck(OU, LAW, (0, 0.5), t_eval=[0.5], grid=grid, rtol=1e-12, scheme=f"order-{order}")
        assert q.stats["scheme"] == f"order-{order}"
        true = ou(grid.faces, 0.5)
        return float(abs(q.pdf(grid.faces, 0.5) - true).max() / true.max())

    assert order_between(error, cells, largest) == pytest.approx(order, abs=0.1)


def wrapped(x: np.ndarray, t: float, std: float) -> np.ndarray:
    """Drift 0.7 and noise 1/2 on a ring of length one, from the wrapped normal law of `std` at 0.3."""
    return normal(x[:, None] + np.arange(-8, 9), 0.3 + 0.7 * t, np.sqrt(std**2 + 0.25 * t)).sum(axis=1)


RING = fps.SDE(0.7, 0.5, support=(0, 1), boundary="periodic")


def test_order_eight_on_a_ring() -> None:
    law = fps.Density(lambda x: np.log(wrapped(np.ravel(x), 0.0, 0.1)).reshape(np.shape(x)), (0, 1))

    def error(n: int) -> float:
        grid = fps.Grid(0, 1, n)
        q = fps.solve_fokker_planck(RING, law, (0, 0.1), t_eval=[0.1], grid=grid, rtol=1e-12)
        true = wrapped(grid.faces, 0.1, 0.1)
        return float(abs(q.pdf(grid.faces, 0.1) - true).max() / true.max())

    assert order_between(error, (40, 80), 1e-10) == pytest.approx(8, abs=0.1)


def box_density(kind: str, x: np.ndarray, t: float) -> np.ndarray:
    """Between walls at 0 and 1, dX = dt + dW: e^x times cosines (with 1/(kπ) sines) or sines that decay."""

    def mode(k: int) -> np.ndarray:
        wave = np.sin(k * np.pi * x)
        if kind == "reflecting":
            wave = np.cos(k * np.pi * x) + wave / (k * np.pi)
        return np.exp(x - 0.5 * (1 + (k * np.pi) ** 2) * t) * wave

    if kind == "reflecting":
        return 2 * np.exp(2 * x) / np.expm1(2) + 0.3 * mode(1) + 0.1 * mode(2)
    sizes = {1: 1.0, 2: 0.3, 3: 0.1}
    total = sum(s * k * np.pi * (1 - (-1) ** k * np.e) / (1 + (k * np.pi) ** 2) for k, s in sizes.items())
    return sum(s * mode(k) for k, s in sizes.items()) / total


def box_error(kind: str, scheme: str, n: int) -> float:
    """Largest error at all faces, those at the walls among them, at t = 0.05."""
    law = fps.Density(lambda x: np.log(np.maximum(box_density(kind, x, 0.0), 1e-300)), (0, 1))
    box, grid = fps.SDE(1.0, 1.0, support=(0, 1), boundary=kind), fps.Grid(0, 1, n)
    q = fps.solve_fokker_planck(box, law, (0, 0.05), t_eval=[0.05], grid=grid, rtol=1e-12, scheme=scheme)
    true = box_density(kind, grid.faces, 0.05)
    return float(abs(q.pdf(grid.faces, 0.05) - true).max() / true.max())


@pytest.mark.parametrize(("kind", "most", "largest"), [("reflecting", 4, 3e-7), ("absorbing", 5, 6e-9)])
@pytest.mark.parametrize(("order", "cells"), [(2, (150, 250)), (4, (150, 250)), (6, (75, 110)), (8, (75, 110))])
def test_order_next_to_walls(kind: str, most: int, largest: float, order: int, cells: tuple[int, int]) -> None:
    found = order_between(lambda n: box_error(kind, f"order-{order}", n), cells, 4e-5 if order == 2 else largest)
    assert found == pytest.approx(min(order, most), abs=0.1)


# ---- order in time


def exact_weights(first: int) -> list[Fraction]:
    """Weights that extrapolate lanes first..7 to step zero."""
    steps = [Fraction(1, int(c)) for c in COUNTS[first:]]
    found = []
    for s in steps:
        product = Fraction(1)
        for other in steps:
            product *= 1 if other == s else other / (other - s)
        found.append(product)
    return [Fraction(0)] * first + found


@pytest.mark.parametrize(("first", "order"), [(0, 8), (1, 7)])
def test_order_in_time_is_exact(first: int, order: int) -> None:
    """The Taylor coefficients of Σ w (1 - z/c)^(-c) are those of e^z up to z^order, in rational numbers."""
    weights = exact_weights(first)
    assert np.allclose([float(w) for w in weights], BEST if first == 0 else BEST - GAP, rtol=1e-12)
    for k in range(order + 2):
        taylor = Fraction(0)
        for w, c in zip(weights, (int(c) for c in COUNTS), strict=True):
            term = Fraction(1)
            for j in range(k):
                term *= Fraction(c + j, (j + 1) * c)
            taylor += w * term
        factorial = Fraction(1)
        for j in range(k):
            factorial /= j + 1
        assert (taylor == factorial) == (k <= order)


def setting(process: fps.SDE, span: tuple[float, float]) -> Setting:
    ito = process.to_ito()
    return Setting(ito, span, 8, ring=ito.boundary[0] == "periodic")


def ring_matrix(n: int, drift: float, noise: float) -> np.ndarray:
    """The semi-discrete generator of constant coefficients on a ring of length 2π: polynomials of degree 7."""
    h, cells = 2 * np.pi / n, np.arange(-4, 4)
    powers = np.arange(1.0, 9.0)
    averages = ((cells + 1.0)[:, None] ** powers - cells[:, None] ** powers) / powers
    value, slope = (np.linalg.solve(averages.T, row) for row in np.eye(8)[:2])
    flux = np.zeros((n, n))
    for i in range(n):
        flux[i, (i + cells) % n] += drift * value / h - 0.5 * noise**2 * slope / h**2
    return flux - np.roll(flux, -1, axis=0)


def ou_matrix(found: March) -> np.ndarray:
    """The semi-discrete generator of the OU process between closed ends, with the weights of a march."""
    faces, stencils = found.grid.faces, found.stencils
    averages = np.eye(found.grid.cells)
    flux = np.array(
        [-faces * stencils.at_faces(row, stencils.value) - stencils.at_faces(row, stencils.slope) for row in averages]
    ).T
    flux[[0, -1]] = 0.0
    return flux[:-1] - flux[1:]


@pytest.mark.parametrize("kind", ["line", "ring"])
def test_one_step_is_the_rational_function_of_the_matrix(kind: str) -> None:
    """Σ w (1 - H A/c)^(-c) u, of which the order is that of the weights."""
    n, length = 32, 0.4
    process = OU if kind == "line" else fps.SDE(1.0, 0.3, support=(0, 2 * np.pi), boundary="periodic")
    grid = fps.Grid(-6, 6, n) if kind == "line" else fps.Grid(0, 2 * np.pi, n)
    start = np.exp(np.sin(grid.x)) / n
    found = March(setting(process, (0.0, length)), grid, start, 1e-6, np.array([0.0, length]))
    matrix = ou_matrix(found) if kind == "line" else ring_matrix(n, 1.0, 0.3)
    exact = np.zeros(n)
    for w, c in zip(exact_weights(0), (int(c) for c in COUNTS), strict=True):
        exact += float(w) * np.linalg.matrix_power(np.linalg.inv(np.eye(n) - length / c * matrix), c) @ start
    assert abs(found.masses(length) - exact).max() < 1e-11 * start.max()
    if kind == "ring":
        assert abs(found.masses(length) - expm(length * matrix) @ start).max() < 1e-6 * start.max()


def around_ring(moves: bool) -> fps.SDE:
    """Y = X + 0.2 sin X has on a ring the drift 1 and the noise 0.05, or those times functions of t."""
    ring = {"support": (0, 2 * np.pi), "boundary": "periodic"}
    if not moves:
        return fps.SDE(
            lambda x: 1 / (1 + 0.2 * np.cos(x)) + 0.00025 * np.sin(x) / (1 + 0.2 * np.cos(x)) ** 3,
            lambda x: 0.05 / (1 + 0.2 * np.cos(x)),
            **ring,
        )
    return fps.SDE(
        lambda x, t: (
            (1 + 0.1 * np.sin(t)) / (1 + 0.2 * np.cos(x))
            + 0.00025 * (1 + 0.5 * np.cos(t)) * np.sin(x) / (1 + 0.2 * np.cos(x)) ** 3
        ),
        lambda x, t: 0.05 * np.sqrt(1 + 0.5 * np.cos(t)) / (1 + 0.2 * np.cos(x)),
        **ring,
    )


@pytest.mark.parametrize("moves", [False, True], ids=["f(x), g(x)", "f(x, t), g(x, t)"])
def test_observed_order_of_steps(moves: bool) -> None:
    """One wave that runs 16 times around a ring: of running waves the order is seen before rounding hides it."""
    grid, t1, process = fps.Grid(0, 2 * np.pi, 192), 100.0, around_ring(moves)
    y = grid.faces + 0.2 * np.sin(grid.faces)

    def masses(angle: float, variance: float) -> np.ndarray:
        return np.diff(y + 0.9 * np.exp(-0.5 * 0.05**2 * variance) * np.sin(y - angle)) / (2 * np.pi)

    exact = masses(t1 + 0.1 * (1 - np.cos(t1)), t1 + 0.5 * np.sin(t1)) if moves else masses(t1, t1)

    def error(steps: int) -> float:
        ends = np.linspace(0, t1, steps + 1)
        found = March(setting(process, (0.0, t1)), grid, masses(0.0, 0.0), 1e-6, ends)
        assert found.steps == steps
        return float(abs(found.masses(t1) - exact).max() / exact.max())

    assert order_between(error, (280, 360), 1e-9) == pytest.approx(8, abs=0.1)


def amplification(z: np.ndarray) -> np.ndarray:
    """What one step makes of a mode that grows at rate z/step."""
    return sum(w * (1 - z / c) ** (-float(c)) for w, c in zip(BEST, COUNTS, strict=True))


def test_steps_damp_every_decaying_mode() -> None:
    size = np.geomspace(1e-6, 1e14, 20001)
    for degrees in (0, 45, 80, 89):
        assert (abs(amplification(-size * np.exp(1j * np.deg2rad(degrees)))) <= 1 + 1e-12).all()
    assert abs(amplification(np.array([-1e14]))) < 1e-14
    assert BEST.sum() == pytest.approx(1.0, abs=1e-14)
    assert GAP.sum() == pytest.approx(0.0, abs=1e-14)
    assert abs(BEST).sum() < 136
    assert BEST.size == LANES


def test_one_giant_step_ends_in_equilibrium() -> None:
    grid = fps.Grid(-7, 7, 120)
    masses = np.diff(scipy.stats.norm(2, 0.3).cdf(grid.faces))
    found = March(setting(OU, (0.0, 1e4)), grid, masses, 1e-6, np.array([0.0, 1e4])).masses(1e4)
    assert abs(found - np.diff(scipy.stats.norm.cdf(grid.faces))).max() < 1e-6 * found.max()


# ---- rtol


class Problem:
    """A process, a law, its closed form, and times at which it is compared."""

    def __init__(self, process: fps.SDE, law: object, exact: Exact, times: tuple[float, ...]) -> None:
        self.process, self.law, self.exact, self.times = process, law, exact, times

    def solve(self, rtol: float, **options: object) -> fps.Evolution:
        """Solve over (0, 1), or over the times that are asked for."""
        return fps.solve_fokker_planck(
            self.process, self.law, (0, self.times[-1]), t_eval=self.times, rtol=rtol, **options
        )


TIMES = (0.02, 0.1, 0.5, 1.0)
PROBLEMS = {
    "OU mixture": Problem(OU, LAW, ou, TIMES),
    "VP": Problem(fps.processes.vp(0.1, 20), LAW, vp, TIMES),
    "SinhOU": Problem(fps.processes.sinh_ou(length=1.0), fps.Pushforward(LAW, fps.maps.Sinh(1.0)), sinh_ou, TIMES),
    "CIR": Problem(fps.processes.cir(), fps.PointMass(1.0), cir, TIMES),
    "Jacobi": Problem(fps.processes.jacobi(), fps.PointMass(0.5), jacobi, (0.3, 0.5, 1.0)),
    "GBM": Problem(fps.processes.gbm(), scipy.stats.lognorm(s=0.3, scale=1.2), gbm, TIMES),
    "OU point": Problem(
        OU,
        fps.PointMass(0.7),
        lambda x, t: normal(x, 0.7 * np.exp(-t), np.sqrt(1 - np.exp(-2 * t))),
        TIMES,
    ),
}


def check_rtol(problem: Problem, rtol: float) -> None:
    q = problem.solve(rtol)
    assert "order-8 scheme (coefficients are smooth)" in q.message
    estimates = q.error["pdf"].total
    errors = np.array([relative_error(q, problem.exact, t) for t in problem.times])
    assert (errors <= rtol).all()
    assert (errors <= estimates.max()).all()
    # the message counts the worst of each cause, over all times
    assert estimates.max() <= 2 * rtol
    assert "meets" in q.message or estimates.max() > 0.3 * rtol


@pytest.mark.parametrize("rtol", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("name", PROBLEMS)
def test_rtol_is_met_at_saved_times(name: str, rtol: float) -> None:
    check_rtol(PROBLEMS[name], rtol)


@pytest.mark.deep
@pytest.mark.parametrize("rtol", [1e-4, 1e-5, 1e-7, 1e-8])
@pytest.mark.parametrize("name", PROBLEMS)
def test_rtol_is_met_for_every_rtol(name: str, rtol: float) -> None:
    check_rtol(PROBLEMS[name], rtol)


def test_more_accuracy_costs_little_more_work() -> None:
    work = [PROBLEMS["OU mixture"].solve(rtol).stats["cell_steps"] for rtol in (1e-3, 1e-6, 1e-9)]
    assert work[0] < work[1] < work[2] < 1.5e7
    assert work[0] < 2e5


@pytest.mark.parametrize("scheme", ["order-8", "robust"])
def test_jump_of_the_noise_in_time(scheme: str) -> None:
    process = fps.SDE(lambda x: -x, lambda t: np.where(t > 0.5, 2.0, 1.0))
    q = fps.solve_fokker_planck(process, LAW, (0, 1), t_eval=[0.6, 1.0], rtol=1e-4, scheme=scheme)
    for k, t in enumerate((0.6, 1.0)):
        early = np.exp(-2 * (t - 0.5))
        x = points(q, t)
        true = mixture(x, np.exp(-t), 0.5 * (1 - np.exp(-1)) * early + 2 * (1 - early))
        assert abs(q.pdf(x, t) - true).max() / true.max() < q.error["pdf"].total[k]


# ---- starts that are not smooth


@pytest.mark.parametrize("name", ["OU point", "CIR", "Jacobi"])
def test_point_masses_leave_no_spike(name: str) -> None:
    q = PROBLEMS[name].solve(1e-6)
    for t in PROBLEMS[name].times:
        assert lowest(q, t) > -1e-9
        assert abs(q.mass(t) - 1) < 1e-10


def test_atoms_of_a_sample() -> None:
    atoms = np.array([-1.0, 0.5, 2.0])
    q = fps.solve_fokker_planck(OU, fps.Empirical(atoms), (0, 1), t_eval=[0.1, 1.0])

    def exact(x: np.ndarray, t: float) -> np.ndarray:
        return normal(x[:, None], atoms * np.exp(-t), np.sqrt(1 - np.exp(-2 * t))).mean(axis=1)

    for t in (0.1, 0.4, 1.0):
        assert relative_error(q, exact, t) < 1e-6
    assert q.at(0.0) == fps.Empirical(atoms)


ROUGH_STARTS = {
    "uniform": (scipy.stats.uniform(-1, 2), [-1.0, 1.0]),
    "Laplace": (fps.LaplaceMixture([1.0], [0.5], [0.4]), [-15.5, 0.5, 16.5]),
    "exponential": (scipy.stats.expon(), [0.0, 38.0]),
}


@pytest.mark.parametrize("rtol", [1e-4, 1e-8])
@pytest.mark.parametrize("name", ROUGH_STARTS)
def test_jumps_and_kinks_of_the_start(name: str, rtol: float) -> None:
    law, cuts = ROUGH_STARTS[name]
    times = (0.02, 0.1, 1.0)
    q = fps.solve_fokker_planck(OU, law, (0, 1), t_eval=times, rtol=rtol)
    exact = through_kernel(law.pdf, cuts)
    for k, t in enumerate(times):
        error = relative_error(q, exact, t)
        assert error < rtol
        assert error < q.error["pdf"].total[k]
        assert lowest(q, t) > -1e-3 * rtol


# ---- walls


@pytest.mark.parametrize("drift", [-0.5, 0.3])
def test_one_absorbing_wall(drift: float) -> None:
    process = fps.SDE(drift, 1.0, support=(0, np.inf), boundary="absorbing")
    q = fps.solve_fokker_planck(process, fps.PointMass(1.0), (0, 1), t_eval=TIMES)
    assert "order-8 scheme (coefficients are smooth)" in q.message
    x = np.linspace(0, 5, 501)
    for t in (*TIMES, 0.3):
        true = images(x, t, drift)
        assert abs(q.pdf(x, t) - true).max() < 1e-6 * true.max()
        assert abs(q.mass(t) - survival(t, drift)) < 1e-7
        left, right = q.absorbed(t)
        assert abs(q.mass(t) + left - 1) < 1e-7
        assert right == 0.0
        assert q.cdf(0.0, t) == pytest.approx(left, abs=1e-12)
        assert q.pdf(0.0, t) < 1e-9
    budget = q.stats["mass"]
    assert budget["inside"] == pytest.approx(survival(1.0, drift), abs=1e-7)
    assert q.stats["mass defect"] < 1e-7


def test_mass_budget_of_an_atom_next_to_a_wall() -> None:
    process = fps.SDE(0.0, 1.0, support=(0, np.inf), boundary="absorbing")
    q = fps.solve_fokker_planck(process, fps.PointMass(0.01), (0, 1), t_eval=[0.1, 1.0])
    for t in (0.1, 1.0):
        assert abs(q.mass(t) - (2 * scipy.stats.norm.cdf(0.01 / np.sqrt(t)) - 1)) < 1e-7
        assert abs(q.mass(t) + q.absorbed(t)[0] - 1) < 1e-12
    # the flux is integrated apart from the masses, through a burst right after the start
    flown = q.stats["mass"]["absorbed left"]
    missed = abs(flown - 2 * scipy.stats.norm.sf(0.01))
    assert missed < 5e-5  # inside its first step a solution from an atom is less accurate than at the end of it
    assert q.stats["mass defect"] == pytest.approx(missed, abs=1e-7)


def test_expectations_and_flux_next_to_absorbing_walls() -> None:
    """One sine: the mean inside, the entropy and the flux -½ ∂x q are known."""
    box = fps.SDE(0.0, 1.0, support=(0, 1), boundary="absorbing")
    law = fps.Density(lambda x: np.log(np.maximum(0.5 * np.pi * np.sin(np.pi * x), 1e-300)), (0, 1))
    q = fps.solve_fokker_planck(box, law, (0, 0.1), t_eval=[0.1])
    inside = np.exp(-0.05 * np.pi**2)
    assert q.mass(0.1) == pytest.approx(inside, abs=1e-7)
    assert q.expect(np.ones_like, 0.1) == pytest.approx(1.0, abs=1e-6)
    assert q.expect(lambda x: (x - 0.5) ** 2, 0.1) == pytest.approx(
        inside * (0.25 - 2 / np.pi**2) + 0.25 * (1 - inside), abs=1e-6
    )
    assert q.entropy(0.1) == pytest.approx(-inside * (np.log(0.5 * np.pi * inside) + np.log(2) - 1), abs=1e-5)
    x = np.linspace(0, 1, 201)
    assert abs(q.flux(x, 0.1) + 0.25 * np.pi**2 * inside * np.cos(np.pi * x)).max() < 1e-4


@pytest.mark.parametrize("start", ["beta", "point"])
def test_two_absorbing_walls(start: str) -> None:
    box = fps.SDE(0.0, 1.0, support=(0, 1), boundary="absorbing")
    k = np.arange(1, 100)
    if start == "beta":
        law = scipy.stats.beta(4, 3)
        nodes, weights = np.polynomial.legendre.leggauss(300)
        y = 0.5 * (nodes + 1)
        sizes = np.sin(np.pi * k[:, None] * y) @ (weights * law.pdf(y))
    else:
        law, sizes = fps.PointMass(0.3), 2 * np.sin(0.3 * np.pi * k)
    q = fps.solve_fokker_planck(box, law, (0, 0.2), t_eval=[0.02, 0.2], rtol=1e-7)
    x, rates = np.linspace(0, 1, 301), 0.5 * (np.pi * k) ** 2
    for t in (0.02, 0.1, 0.2):
        decay = sizes * np.exp(-rates * t)
        true = np.sin(np.pi * np.outer(x, k)) @ decay
        assert abs(q.pdf(x, t) - true).max() < 1e-7 * true.max()
        inside = (decay * (1 - (-1.0) ** k) / (np.pi * k)).sum()
        # ∂t of the mass beyond an end is ½ ∂x q there; the mean is a martingale, so both parts follow from two sums
        mean_inside = (decay * (-((-1.0) ** k)) / (np.pi * k)).sum()
        mean = 4 / 7 if start == "beta" else 0.3
        right = mean - mean_inside
        assert np.allclose(q.absorbed(t), (1 - inside - right, right), rtol=0, atol=2e-7)
        assert abs(q.mass(t) - inside) < 1e-7
        assert abs(q.mass(t) + sum(q.absorbed(t)) - 1) < 1e-7


@pytest.mark.parametrize("rtol", [1e-4, 1e-9])
def test_reflecting_walls_and_a_start_that_does_not_fit_them(rtol: float) -> None:
    law, k = scipy.stats.beta(4, 3), np.arange(0, 60)
    box = fps.SDE(0.0, 1.0, support=(0, 1), boundary="reflecting")
    q = fps.solve_fokker_planck(box, law, (0, 0.1), t_eval=[0.03, 0.1], rtol=rtol)
    nodes, weights = np.polynomial.legendre.leggauss(300)
    y = 0.5 * (nodes + 1)
    sizes = np.where(k == 0, 0.5, 1) * (np.cos(np.pi * k[:, None] * y) @ (weights * law.pdf(y)))
    x = np.linspace(0, 1, 301)
    for t in (0.03, 0.1):
        true = np.cos(np.pi * np.outer(x, k)) @ (sizes * np.exp(-0.5 * (np.pi * k) ** 2 * t))
        assert abs(q.pdf(x, t) - true).max() < min(rtol, q.error["pdf"].worst) * true.max()
        assert abs(q.mass(t) - 1) < 1e-10


@pytest.mark.parametrize("rtol", [1e-4, 1e-9])
def test_ring_from_a_point_mass(rtol: float) -> None:
    q = fps.solve_fokker_planck(RING, fps.PointMass(0.3), (0, 1), t_eval=[0.02, 0.1, 1.0], rtol=rtol)
    assert "order-8 scheme (coefficients are smooth)" in q.message
    x = np.linspace(0, 1, 301)
    for t in (0.02, 0.1, 0.57, 1.0):
        true = wrapped(x, t, 0.0)
        assert abs(q.pdf(x, t) - true).max() < rtol * true.max()
        assert abs(q.mass(t) - 1) < 1e-10
        assert q.absorbed(t) == (0.0, 0.0)


def test_moving_absorbing_wall() -> None:
    """In the frame of the wall x = 0.6 t a Brownian motion has drift -0.6."""
    process = fps.SDE(0.0, 1.0, support=(lambda t: 0.6 * t, np.inf), boundary="absorbing")
    q = fps.solve_fokker_planck(process, fps.PointMass(1.0), (0, 1), t_eval=[0.1, 0.5, 1.0], rtol=1e-4)
    assert q.message.startswith("in the frame of the moving walls")
    for t in (0.1, 0.37, 1.0):
        x = 0.6 * t + np.linspace(0, 5, 301)
        true = images(x - 0.6 * t, t, -0.6)
        assert abs(q.pdf(x, t) - true).max() < 1e-4 * true.max()
        assert abs(q.mass(t) - survival(t, -0.6)) < 1e-5
        assert abs(q.mass(t) + q.absorbed(t)[0] - 1) < 1e-7
        assert q.pdf(0.6 * t - 0.1, t) == 0


def test_each_side_by_itself() -> None:
    """Reflecting on the left, absorbing on the right: cosines of odd quarter waves."""
    mixed = fps.SDE(0.0, 1.0, support=(0, 1), boundary=("reflecting", "absorbing"))
    q = fps.solve_fokker_planck(mixed, fps.PointMass(0.4), (0, 0.2), t_eval=[0.05, 0.2])
    waves, x = np.pi * (np.arange(60) + 0.5), np.linspace(0, 1, 301)
    for t in (0.05, 0.2):
        decay = 2 * np.cos(0.4 * waves) * np.exp(-0.5 * waves**2 * t)
        true = np.cos(np.outer(x, waves)) @ decay
        assert abs(q.pdf(x, t) - true).max() < 1e-6 * true.max()
        inside = (decay * np.sin(waves) / waves).sum()
        assert q.absorbed(t) == (0.0, pytest.approx(1 - inside, abs=1e-7))


# ---- heavy tails and many scales


def test_stationary_heavy_tails_stay() -> None:
    student = scipy.stats.t(5)
    q = fps.solve_fokker_planck(fps.processes.pearson(nu=5), student, (0, 1), t_eval=[0.1, 1.0], rtol=1e-8)
    x = np.linspace(-60, 60, 2001)
    for t in (0.1, 0.33, 1.0):
        assert abs(q.pdf(x, t) - student.pdf(x)).max() < 1e-8
        assert q.sf(30.0, t) == pytest.approx(student.sf(30.0), rel=1e-6)
        assert q.cdf(-30.0, t) == pytest.approx(student.cdf(-30.0), rel=1e-6)
    assert q.stats["cells"] < 1000
    assert q.stats["domain"][1] > 300


@pytest.mark.parametrize("grid", [None, fps.Grid(1e-5, 1e5, 300, left_wall=0.0)], ids=["chosen", "logarithmic"])
def test_six_decades(grid: fps.Grid | None) -> None:
    law = scipy.stats.lognorm(s=1.2)
    q = fps.solve_fokker_planck(fps.processes.gbm(0.05, 1.2), law, (0, 1), t_eval=[0.1, 1.0], grid=grid)
    for t in (0.1, 1.0):
        exact = scipy.stats.lognorm(s=1.2 * np.sqrt(1 + t), scale=np.exp((0.05 - 0.72) * t))
        x = exact.ppf(np.linspace(1e-8, 1 - 1e-8, 1001))
        assert x[-1] / x[0] > 1e6
        assert abs(q.pdf(x, t) - exact.pdf(x)).max() < 1e-6 * exact.pdf(x).max()


# ---- every time, every x


@pytest.fixture(scope="module")
def dense() -> fps.Evolution:
    return fps.solve_fokker_planck(OU, LAW, (0, 1), t_eval=[0.25, 0.5, 1.0], rtol=1e-9)


@pytest.mark.parametrize("t", [0.001, 0.01, 0.13, 0.4, 0.77, 0.999])
def test_between_saved_times_q_is_as_accurate(dense: fps.Evolution, t: float) -> None:
    # nothing was asked of the time before the first saved one
    assert relative_error(dense, ou, t) < (1e-9 if t > 0.005 else 3e-9)
    assert abs(dense.mass(t) - 1) < 1e-11


@pytest.mark.parametrize("t", [0.0, 0.003, 0.13, 0.5, 1.0])
def test_velocity_is_that_of_the_distribution_function(dense: fps.Evolution, t: float) -> None:
    x = points(dense, t)
    values, errors = dense.with_error("velocity", x, t)
    true = ou_velocity(x, t)
    assert (ou(x, t) * abs(values - true)).max() < (1e-5 if t < 0.01 else 1e-7)
    assert (abs(values - true) <= errors).mean() > 0.95
    # the flux of q itself: f q - ½ ∂x(g² q)
    apart = abs(dense.flux(x, t) - dense.pdf(x, t) * (-x - dense.score(x, t))).max()
    assert apart < (1e-5 if t < 0.01 else 1e-7)


@pytest.mark.parametrize("t", [0.1, 0.33, 1.0])
def test_tails_are_relatively_accurate(dense: fps.Evolution, t: float) -> None:
    a = np.exp(-t)
    stds = np.sqrt(1 + (STDS**2 - 1) * a**2)
    law, normal_law = dense.at(t), scipy.stats.norm
    p = 10.0 ** -np.arange(1, 11)
    for x, found, side in ((law.ppf(p), dense.cdf, normal_law.cdf), (law.isf(p), dense.sf, normal_law.sf)):
        true = side((x[:, None] - a * MEANS) / stds) @ WEIGHTS
        relative = abs(found(x, t) / true - 1)
        assert (relative < 1e-3).all()
        assert (relative < 1e-11 / p + 1e-8).all()


def test_moments_and_entropy(dense: fps.Evolution) -> None:
    x = np.linspace(-9, 9, 20001)
    for t in (0.13, 1.0):
        pdf, a = ou(x, t), np.exp(-t)
        assert dense.mean(t) == pytest.approx(a * (WEIGHTS * MEANS).sum(), abs=1e-9)
        assert dense.entropy(t) == pytest.approx(-np.trapezoid(pdf * np.log(pdf), x), abs=1e-8)
        score = -x - ou_velocity(x, t)
        assert dense.fisher(t) == pytest.approx(np.trapezoid(score**2 * pdf, x), rel=1e-7)


# ---- properties


@st.composite
def smooth_problems(draw: Callable) -> tuple[Callable, Callable, fps.GaussianMixture]:
    """Confining drift with a wave, state-dependent noise, and two normal laws."""
    rate, wave, ripple = draw(st.floats(0.3, 2.0)), draw(st.floats(-1.0, 1.0)), draw(st.floats(-0.4, 0.4))
    means, stds = (draw(st.tuples(low, low)) for low in (st.floats(-2, 2), st.floats(0.15, 1.0)))
    weight = draw(st.floats(0.1, 0.9))
    law = fps.GaussianMixture([weight, 1 - weight], means, stds)
    return (lambda x: -rate * x + wave * np.sin(x)), (lambda x: 1 + ripple * np.cos(x)), law


@settings(max_examples=8)
@given(smooth_problems())
def test_mass_is_kept_and_q_is_not_negative(problem: tuple[Callable, Callable, fps.GaussianMixture]) -> None:
    drift, noise, law = problem
    q = fps.solve_fokker_planck(fps.SDE(drift, noise), law, (0, 1), t_eval=[0.1, 1.0])
    for t in (0.1, 0.37, 1.0):
        assert abs(q.mass(t) - 1) < 3e-11  # rounding: 160 problems gave 8e-12 at most
        assert lowest(q, t) > -1e-8
        x = points(q, t)
        assert (q.pdf(x, t) > 0).all()
        assert (np.diff(q.cdf(x, t)) > -1e-8).all()
        assert abs(q.cdf(x, t) + q.sf(x, t) - 1).max() < 1e-12


@settings(max_examples=5)
@given(smooth_problems())
def test_units_do_not_matter(problem: tuple[Callable, Callable, fps.GaussianMixture]) -> None:
    drift, noise, law = problem
    mapped = fps.SDE(lambda x: 2 * drift(0.5 * (x - 1)), lambda x: 2 * noise(0.5 * (x - 1)))
    q = fps.solve_fokker_planck(fps.SDE(drift, noise), law, (0, 1), t_eval=[1.0])
    other = fps.solve_fokker_planck(
        mapped, fps.GaussianMixture(law.weights, 2 * law.means + 1, 2 * law.stds), (0, 1), t_eval=[1.0]
    )
    for t in (0.3, 1.0):
        x = points(q, t)
        size = q.pdf(x, t).max()
        assert abs(q.pdf(x, t) - 2 * other.pdf(2 * x + 1, t)).max() < 2e-6 * size
        assert abs(q.cdf(x, t) - other.cdf(2 * x + 1, t)).max() < 2e-6


@settings(max_examples=4)
@given(smooth_problems(), st.floats(0.1, 0.8))
def test_going_on_from_the_middle(problem: tuple[Callable, Callable, fps.GaussianMixture], middle: float) -> None:
    """Chapman & Kolmogorov: to t and on from there is through."""
    drift, noise, law = problem
    process = fps.SDE(drift, noise)
    q = fps.solve_fokker_planck(process, law, (0, 1), t_eval=[middle, 1.0], rtol=1e-7)
    on = fps.solve_fokker_planck(process, q.at(middle), (middle, 1), t_eval=[1.0], rtol=1e-7)
    x = points(q, 1.0)
    assert abs(q.pdf(x, 1.0) - on.pdf(x, 1.0)).max() < 2e-7 * q.pdf(x, 1.0).max()


# ---- what cannot be done


@pytest.mark.parametrize(
    ("drift", "side", "t1"),
    [(lambda x: x**3, "", 2.0), (lambda x: x**2, "right", 1.0), (lambda x: -(x**2), "left", 1.0)],
)
def test_mass_at_infinity_in_finite_time(drift: Callable, side: str, t1: float) -> None:
    with pytest.raises(fps.MassEscape, match="it leaves every domain in finite time") as caught:
        fps.solve_fokker_planck(fps.SDE(drift, 1.0), fps.Normal(0, 1), (0, t1))
    assert caught.value.side in ((side,) if side else ("left", "right"))
    # a path of x' = x² from 3 is gone after 1/3: by then a thousandth of the mass is, and 1e-7 of it long before
    assert 0 < caught.value.time < 1 / 3
    assert f"on the {caught.value.side} at t=" in str(caught.value)


def test_mass_that_would_leave_later_does_not() -> None:
    q = fps.solve_fokker_planck(fps.SDE(lambda x: x**2, 1.0), fps.Normal(-3, 0.3), (0, 0.05), t_eval=[0.05])
    assert abs(q.mass(0.05) - 1) < 1e-12


def test_an_accuracy_below_that_of_doubles_is_said_to_be_missed() -> None:
    law, times = fps.Normal(1, 0.5), (0.1, 1.0)
    q = fps.solve_fokker_planck(OU, law, (0, 1), t_eval=times, rtol=1e-15, scheme="order-8")
    assert "misses rtol=1e-15" in q.message
    for k, t in enumerate(times):
        a = np.exp(-t)
        x = np.linspace(-6, 6, 501)
        true = normal(x, a, np.sqrt(1 - 0.75 * a**2))
        error = abs(q.pdf(x, t) - true).max() / true.max()
        assert error < q.error["pdf"].total[k]
        assert error < 1e-9
        assert q.error["pdf"].total[k] > 1e-15


def test_noise_that_vanishes_inside_is_named() -> None:
    """dX = -X dt + X dW: no mass crosses 0, where q has a spike that no grid resolves; the estimate knows."""
    process, law = fps.SDE(lambda x: -x, lambda x: x), fps.Normal(1, 0.5)
    q = fps.solve_fokker_planck(process, law, (0, 1), t_eval=[1.0], rtol=3e-3)
    assert "g vanishes at x" in q.message or "robust scheme (order 8 reached" in q.message
    z = np.linspace(-9, 9, 4001)
    growth, weight = np.exp(z - 1.5), normal(z, 0, 1) * (z[1] - z[0])
    x = np.concatenate([np.linspace(-1.2, -0.01, 60), np.linspace(0.01, 3, 140)])
    true = (weight / growth * law.pdf(x[:, None] / growth)).sum(axis=1)
    assert abs(q.pdf(x, 1.0) - true).max() < q.error["pdf"].worst * q.pdf(np.linspace(-0.1, 0.1, 201), 1.0).max()
    assert q.cdf(0.0, 1.0) == pytest.approx(law.cdf(0.0), abs=1e-3)


@pytest.mark.parametrize("cells", [64, 120])
def test_a_grid_too_coarse_says_what_is_missing(cells: int) -> None:
    q = fps.solve_fokker_planck(OU, LAW, (0, 1), t_eval=[0.5], grid=fps.Grid(-7, 7, cells), rtol=1e-9, scheme="order-8")
    error = relative_error(q, ou, 0.5)
    assert 1e-9 < error < q.error["pdf"].worst
    assert q.error["pdf"].main_cause == "space"
    assert "misses rtol=1e-09" in q.message
    assert (q.grid.left, q.grid.right, q.grid.cells) == (-7, 7, cells)


def test_a_ring_refuses_graded_cells() -> None:
    ring = fps.SDE(0.3, 1.0, support=(0, 2), boundary="periodic")
    with pytest.raises(fps.InputError, match="equal"):
        fps.solve_fokker_planck(ring, fps.PointMass(1.0), (0, 1), grid=fps.Grid(0, 2, 64, stretch=0.3))


# ---- coefficients that jump in x


def towards_a_point(x: np.ndarray, t: float, start: float) -> np.ndarray:
    """Density of dX = -sign(X) dt + dW from start > 0 (Karatzas and Shreve 1984)."""
    tail = [np.sqrt(2 * np.pi * t) * scipy.stats.norm.sf((a - t) / np.sqrt(t)) for a in (start + x, start - x)]
    right = np.exp(-((start - x - t) ** 2) / (2 * t)) + np.exp(-2 * x) * tail[0]
    left = np.exp(2 * start - (start - x + t) ** 2 / (2 * t)) + np.exp(2 * x) * tail[1]
    return np.where(x > 0, right, left) / np.sqrt(2 * np.pi * t)


@pytest.mark.parametrize("place", [0.0, 0.3217])
def test_cells_crowd_where_the_drift_jumps(place: float) -> None:
    process = fps.SDE(lambda x: -np.sign(x - place), 1.0)
    q = fps.solve_fokker_planck(process, fps.PointMass(place + 0.5), (0, 1), t_eval=[0.25, 1.0], rtol=1e-4)
    assert "crowd" in q.message
    x = np.linspace(-4, 4, 801) + 1e-3
    for k, t in enumerate((0.25, 1.0)):
        true = towards_a_point(x, t, 0.5)
        error = abs(q.pdf(place + x, t) - true).max() / true.max()
        assert error < min(1e-4, q.error["pdf"].total[k])


def test_density_jumps_with_the_noise() -> None:
    """Oscillating Brownian motion, g = 1 left and 2 right of zero: g² q is continuous (Keilson and Wellner 1978)."""
    process = fps.SDE(0.0, lambda x: np.where(x < 0, 1.0, 2.0))
    q = fps.solve_fokker_planck(process, fps.PointMass(0.5), (0, 1), t_eval=[1.0], rtol=1e-4)
    assert "g jumps" in q.message
    x = np.linspace(-4, 6, 500)
    normal = scipy.stats.norm.pdf
    right = 0.5 * (normal(0.5 * (x - 0.5)) - normal(0.5 * (x + 0.5)) / 3)
    true = np.where(x > 0, right, 4 / 3 * normal(x - 0.25))
    away = abs(x) > 0.05
    assert abs(q.pdf(x, 1.0) - true)[away].max() < 2e-3 * true.max()
    values, errors = q.with_error("pdf", x, 1.0)
    assert (abs(values - true) <= errors + 1e-12).mean() > 0.98
