"""The backward equation: closed forms, ends, what is not smooth, growth, errors by cause, duality."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import ive
from scipy.stats import norm

import fpsolve as fps
from fpsolve.grids.backward.nodes import node_weights

OU = fps.processes.ou(theta=1.0, sigma=2**0.5)
DECAY, VARIANCE = np.exp(-1), 1 - np.exp(-2)
BROWNIAN = fps.SDE(0.0, 1.0)
X = np.linspace(-3, 3, 41)
RATE, VOLATILITY, STRIKE = 0.05, 0.2, 100.0
STOCK = fps.SDE(lambda x: 0.05 * x, lambda x: 0.2 * x, support=(0, np.inf))


def agrees(v: Any, x: np.ndarray, t: float, value: np.ndarray, gradient: np.ndarray | None = None) -> None:
    """Values (and gradients) agree within the estimate, which is small."""
    top = np.abs(value).max()
    for name, exact in (("value", value), ("gradient", gradient)):
        if exact is not None:
            found = v.with_error(name, x, t)
            assert np.all(np.abs(found.value - exact) <= found.error), name
            assert found.error.max() < 1e-5 * max(top, np.abs(exact).max())


def survival(x: np.ndarray, t: float) -> np.ndarray:
    """Probability that Brownian motion from x stays between 0 and 1 for a time t."""
    odd = 2 * np.arange(60)[:, None] + 1.0
    return (4 / np.pi / odd * np.sin(odd * np.pi * x) * np.exp(-0.5 * (odd * np.pi) ** 2 * t)).sum(axis=0)


def test_moments_of_ornstein_uhlenbeck() -> None:
    square = fps.solve_backward(OU, lambda x: x**2, (0, 1))
    agrees(square, X, 0.0, DECAY**2 * X**2 + VARIANCE, 2 * DECAY**2 * X)
    exponential = fps.solve_backward(OU, lambda x: np.exp(x), (0, 1))
    exact = np.exp(DECAY * X + 0.5 * VARIANCE)
    agrees(exponential, X, 0.0, exact, DECAY * exact)


@pytest.mark.parametrize(
    ("terminal", "exact"),
    [
        (lambda x: x**2, lambda x: x**2 + 1),
        (lambda x: np.exp(x), lambda x: np.exp(x + 0.5)),
        (lambda x: np.where(x > 0.3, 1.0, 0.0), lambda x: norm.cdf(x - 0.3)),
        (lambda x: np.abs(x - 0.2), lambda x: (x - 0.2) * (2 * norm.cdf(x - 0.2) - 1) + 2 * norm.pdf(x - 0.2)),
    ],
    ids=["square", "exponential", "step", "kink"],
)
def test_brownian_motion(terminal: Callable[..., Any], exact: Callable[..., Any]) -> None:
    agrees(fps.solve_backward(BROWNIAN, terminal, (0, 1)), X, 0.0, exact(X))


def test_black_and_scholes() -> None:
    x = np.linspace(60, 170, 41)
    d1 = (np.log(x / STRIKE) + RATE + 0.5 * VOLATILITY**2) / VOLATILITY
    d2 = d1 - VOLATILITY
    call = fps.solve_backward(STOCK, lambda x: np.maximum(x - STRIKE, 0.0 * x), (0, 1), potential=RATE)
    exact = x * norm.cdf(d1) - STRIKE * np.exp(-RATE) * norm.cdf(d2)
    found = call.with_error("value", x, 0.0)
    assert np.abs(found.value - exact).max() < 1e-7 * STRIKE
    assert np.all(np.abs(found.value - exact) <= found.error + 1e-12 * STRIKE)
    assert np.abs(call.gradient(x, 0.0) - norm.cdf(d1)).max() < 1e-6
    digital = fps.solve_backward(STOCK, lambda x: np.where(x > STRIKE, 1.0, 0.0), (0, 1), potential=RATE)
    agrees(digital, x, 0.0, np.exp(-RATE) * norm.cdf(d2))


def test_bond_of_a_square_root_process() -> None:
    kappa, theta, xi = 1.1, 0.9, 0.6
    root = np.sqrt(kappa**2 + 2 * xi**2)
    grown = np.exp(root) - 1
    below = (root + kappa) * grown + 2 * root
    x = np.linspace(0.0, 3.0, 41)
    b = 2 * grown / below
    exact = (2 * root * np.exp(0.5 * (kappa + root)) / below) ** (2 * kappa * theta / xi**2) * np.exp(-b * x)
    v = fps.solve_backward(fps.processes.cir(kappa, theta, xi), 1.0, (0, 1), potential=lambda x: x)
    agrees(v, x, 0.0, exact, -b * exact)


def test_vasicek_bond_with_a_source() -> None:
    # the bond, and an annuity that pays until then
    rates = fps.SDE(lambda x: 0.8 * (0.4 - x), 0.3)
    x = np.linspace(-1.0, 2.0, 21)

    def bond(length: np.ndarray | float) -> np.ndarray:
        b = -np.expm1(-0.8 * np.asarray(length)) / 0.8
        a = (0.4 - 0.3**2 / (2 * 0.8**2)) * (b - length) - 0.3**2 * b**2 / (4 * 0.8)
        return np.exp(a - b * x)

    v = fps.solve_backward(rates, 1.0, (0, 1), potential=lambda x: x, source=1.0)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    annuity = sum(0.5 * w * bond(0.5 * (1 + z)) for z, w in zip(nodes, weights, strict=True))
    agrees(v, x, 0.0, bond(1.0) + annuity)


def test_absorbing_ends() -> None:
    x = np.linspace(0, 1, 41)
    v = fps.solve_backward(fps.SDE(0.0, 1.0, support=(0, 1), boundary="absorbing"), 1.0, (0, 1))
    for t in (0.0, 0.9):
        agrees(v, x, t, survival(x, 1 - t))
    assert v.stats["ends"] == ("absorbing", "absorbing")
    half = fps.SDE(0.0, 1.0, support=(0, np.inf), boundary=("absorbing", "natural"))
    agrees(fps.solve_backward(half, 1.0, (0, 1)), X[X >= 0], 0.0, 2 * norm.cdf(X[X >= 0]) - 1)


def test_values_on_leaving() -> None:
    p, x = fps.SDE(0.0, 1.0, support=(0, 1), boundary="absorbing"), np.linspace(0, 1, 41)
    # what has left has been paid; through the right end alone, after long, with probability x
    agrees(fps.solve_backward(p, 0.0, (0, 1), exit_value=2.0), x, 0.0, 2 * (1 - survival(x, 1.0)))
    right = fps.solve_backward(p, 0.0, (0, 6), exit_value=(0.0, 1.0))
    assert np.abs(right(x, 0.0) - x).max() < 1e-6
    # discounted at rate ½ μ²: sinh μx / sinh μ
    paid = fps.solve_backward(p, 0.0, (0, 6), potential=0.5 * 1.7**2, exit_value=(0.0, 1.0))
    assert np.abs(paid(x, 0.0) - np.sinh(1.7 * x) / np.sinh(1.7)).max() < 1e-6
    with pytest.raises(fps.InputError, match="absorbing ends"):
        fps.solve_backward(OU, 0.0, (0, 1), exit_value=1.0)


def test_mean_passage_time_is_the_limit_of_a_source() -> None:
    # E min(time to leave, 1) from x; after a time of 4 nearly everything has left
    x = np.linspace(0, 1, 11)
    v = fps.solve_backward(fps.SDE(0.0, 1.0, support=(0, 1), boundary="absorbing"), 0.0, (0, 6), source=1.0)
    assert np.abs(v(x, 0.0) - x * (1 - x)).max() < 1e-6


def test_reflecting_ends() -> None:
    x = np.linspace(0, np.pi, 21)
    p = fps.SDE(0.0, 1.0, support=(0, np.pi), boundary="reflecting")
    agrees(fps.solve_backward(p, lambda x: np.cos(2 * x), (0, 1)), x, 0.0, np.exp(-2.0) * np.cos(2 * x))
    # a terminal slope at the wall: x = π/2 - (4/π) Σ cos(n x)/n² over odd n
    odd = 2 * np.arange(200)[:, None] + 1.0
    exact = np.pi / 2 - 4 / np.pi * (np.cos(odd * x) / odd**2 * np.exp(-0.5 * odd**2)).sum(axis=0)
    agrees(fps.solve_backward(p, lambda x: x, (0, 1)), x, 0.0, exact)


def test_heat_on_a_ring() -> None:
    p = fps.SDE(0.7, 1.0, support=(0, 2 * np.pi), boundary="periodic")
    v = fps.solve_backward(p, lambda x: np.exp(np.cos(x)), (0, 1))
    x, n = np.linspace(0, 6, 13), np.arange(1, 25)[:, None]
    series = 2 * ive(n, 1.0) * np.exp(1.0 - 0.5 * n**2) * np.cos(n * (x + 0.7))
    agrees(v, x, 0.0, ive(0, 1.0) * np.e + series.sum(axis=0))
    assert np.abs(v(x + 2 * np.pi, 0.0) - v(x, 0.0)).max() < 1e-12


def test_coefficients_that_move() -> None:
    p = fps.SDE(lambda x, t: -x + np.sin(5 * t), lambda t: 1 + 0.5 * t)
    pushed = np.exp(-1) * (np.e * (np.sin(5) - 5 * np.cos(5)) + 5) / 26
    agrees(fps.solve_backward(p, lambda x: x, (0, 1)), X, 0.0, DECAY * X + pushed)
    # a potential that is switched on in the middle
    switched = fps.solve_backward(OU, 1.0, (0, 1), potential=lambda x, t: np.where(t > 0.6, 2.0, 0.0) + 0 * x)
    assert np.abs(switched(X, 0.0) - np.exp(-0.8)).max() < 1e-7


def test_potential_that_jumps() -> None:
    # the time that Brownian motion spends above zero has the arcsine law
    v = fps.solve_backward(BROWNIAN, 1.0, (0, 1), potential=lambda x: np.where(x > 0, 2.0, 0.0))
    agrees(v, np.zeros(1), 0.0, np.array([ive(0, 1.0)]))
    x = np.linspace(-2, 2, 401)
    assert np.all(np.diff(v(x, 0.0)) < 0.0)  # nothing rings


@pytest.mark.parametrize("ahead", [1e-3, 1e-2, 0.3])
def test_steps_do_not_ring(ahead: float) -> None:
    v = fps.solve_backward(BROWNIAN, lambda x: np.where(x > 0.3, 1.0, 0.0), (0, 1))
    x = np.linspace(-3, 3, 3001)
    found = v(x, 1 - ahead)
    assert found.min() > -1e-6
    assert found.max() < 1 + 1e-6
    assert np.abs(found - norm.cdf((x - 0.3) / np.sqrt(ahead))).max() < 1e-5


def test_coefficients_that_jump_in_x() -> None:
    # skewed noise: E φ(X) of dX = g dW, g = 1 left and 2 right of zero, from its transition density
    p = fps.SDE(0.0, lambda x: np.where(x > 0, 2.0, 1.0))
    v = fps.solve_backward(p, lambda x: np.where(x > 0, 1.0, 0.0), (0, 1))
    # X_t > 0 from zero with probability 1/3: time runs in inverse proportion to g
    found = v.with_error("value", 0.0, 0.0)
    assert abs(found.value - 1 / 3) <= found.error + 1e-7
    assert found.error < 1e-4


def test_terminal_time_is_exact() -> None:
    v = fps.solve_backward(OU, lambda x: np.sin(x), (0, 1))
    assert np.array_equal(v(X, 1.0), np.sin(X))
    assert np.abs(v.gradient(X, 1.0) - np.cos(X)).max() < 1e-8


def test_duality_with_the_forward_equation() -> None:
    p = fps.SDE(lambda x, t: np.sin(2 * x) - x + t, lambda x: 1 + 0.3 * np.cos(x))
    q = fps.solve_fokker_planck(p, fps.Normal(0.5, 0.6), (0, 1), rtol=1e-8)
    v = fps.solve_backward(p, lambda x: np.cos(x), (0, 1), rtol=1e-8)
    means = []
    assert q.grid is not None
    for t in (0.0, 0.35, 1.0):
        x = np.linspace(max(q.grid.left, v.grid.left), min(q.grid.right, v.grid.right), 4001)[1:-1]
        means.append(np.trapezoid(q.pdf(x, t) * v(x, t), x))
    assert np.ptp(means) < 3e-8


def test_errors_by_cause() -> None:
    v = fps.solve_backward(OU, lambda x: np.exp(x), (0, 1), rtol=1e-5)
    budget = v.error["value"]
    assert budget.worst < 1e-5
    assert budget.main_cause in ("space", "time", "domain", "rounding")
    assert np.all(budget.initial == 0.0)
    narrow = fps.solve_backward(BROWNIAN, lambda x: np.exp(x), (0, 1), grid=fps.Grid(-3, 3, 120))
    assert narrow.error["value"].main_cause == "domain"
    found = narrow.with_error("value", np.linspace(-3, 3, 13), 0.0)
    assert np.all(np.abs(found.value - np.exp(np.linspace(-3, 3, 13) + 0.5)) <= found.error)


def test_a_grid_is_the_region() -> None:
    v = fps.solve_backward(OU, lambda x: x**2, (0, 1), grid=fps.Grid(-6, 6, 80))
    assert (v.grid, v.region) == (fps.Grid(-6, 6, 80), (-6, 6))
    assert np.isnan(v(7.0, 0.0))
    with pytest.raises(fps.InputError, match="on the grid"):
        v.with_error("value", 7.0, 0.0)


def test_estimates_cover_random_problems() -> None:
    rng = np.random.default_rng(3)
    covered = total = 0
    for _ in range(12):
        theta, sigma, mean, k = rng.uniform([0.2, 0.4, -1, 0.5], [2, 1.5, 1, 3])
        length, rate, phase = rng.uniform([0.3, 0, 0], [2, 1, 6])
        p = fps.SDE(lambda x, a=theta, b=mean: a * (b - x), sigma)
        v = fps.solve_backward(p, lambda x, k=k, c=phase: np.sin(k * x + c), (0, length), potential=rate)
        decay = np.exp(-theta * length)
        damped = np.exp(-0.5 * k**2 * sigma**2 * (1 - decay**2) / (2 * theta) - rate * length)
        x = np.linspace(*v.region, 101)
        exact = np.sin(k * (mean + (x - mean) * decay) + phase) * damped
        found = v.with_error("value", x, 0.0)
        covered += int((np.abs(found.value - exact) <= found.error + 1e-14).sum())
        total += x.size
    assert covered >= 0.99 * total


def test_weights_are_exact_for_polynomials() -> None:
    y = np.arange(24.0)
    for kind in ("slope", "degenerate", "absorbing"):
        w = node_weights(24, (kind, kind))
        v, dv, ddv = (y / 10) ** 4, 0.4 * (y / 10) ** 3, 0.12 * (y / 10) ** 2
        padded = np.pad(v, 4)
        slopes = np.array([dv[0], dv[-1]])
        first = sum(w.first[:, m] * padded[m : m + 24] for m in range(9)) + slopes @ w.lift1
        second = sum(w.second[:, m] * padded[m : m + 24] for m in range(9)) + slopes @ w.lift2
        inner = slice(1, -1) if kind == "absorbing" else slice(None)
        assert np.abs(first - dv)[inner].max() < 1e-11
        assert np.abs(second - ddv)[inner].max() < 1e-10


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (lambda: fps.solve_backward(fps.ODE(1.0), lambda x: x, (0, 1)), "with noise"),
        (lambda: fps.solve_backward(OU, lambda x: x, (1, 0)), "t_span"),
        (lambda: fps.solve_backward(OU, lambda x: x, (0, 1), rtol=2.0), "rtol"),
        (lambda: fps.solve_backward(OU, lambda x: x, (0, 1), t_eval=[2.0]), "t_eval"),
        (lambda: fps.solve_backward(OU, lambda y: y, (0, 1)), "y"),
        (lambda: fps.solve_backward(fps.SDE(lambda x: x**3, 1.0), lambda x: x, (0, 1)), "paths must stay"),
        (
            lambda: fps.solve_backward(
                fps.SDE(0.0, 1.0, support=(lambda t: t, np.inf), boundary="absorbing"), lambda x: x, (0, 1)
            ),
            "fixed ends",
        ),
    ],
)
def test_bad_input(wrong: Callable[[], object], complaint: str) -> None:
    with pytest.raises(fps.InputError, match=complaint):
        wrong()
