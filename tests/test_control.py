"""Control: three routes to one value function, the verification gap, closed forms, conditioned processes."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.stats import norm

import fpsolve as fps
from fpsolve.theory.control import ControlProblem

X = np.linspace(-3, 3, 25)
PROBLEMS = {
    "regulator": lambda: ControlProblem(fps.SDE(0.0, 1.0), lambda x: 0.5 * x**2, 0.0, (0, 1)),
    "double well": lambda: ControlProblem(
        fps.SDE(lambda x: x - x**3, lambda x: 1 + 0.2 * np.sin(x)),
        lambda x, t: np.cos(x + t),
        lambda x: 0.5 * (x - 1) ** 2,
        (0, 1),
    ),
    "hyperbolic": lambda: ControlProblem(
        fps.processes.ou(), lambda x: np.cos(x) ** 2, lambda x: np.log(np.cosh(x)), (0, 1)
    ),
    "ring": lambda: ControlProblem(
        fps.SDE(lambda x: np.sin(x), 1.0, support=(0, 2 * np.pi), boundary="periodic"),
        lambda x: np.cos(2 * x),
        lambda x: np.sin(x),
        (0, 1),
    ),
    "reflected": lambda: ControlProblem(
        fps.SDE(0.3, 0.8, support=(-3, 3), boundary="reflecting"), lambda x: np.cos(x), 0.0, (0, 1)
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_three_routes_to_one_value(name: str) -> None:
    problem = PROBLEMS[name]()
    direct, linear = problem.solve_hjb(), problem.solve_hopf_cole()
    x = X % (2 * np.pi) if name == "ring" else X
    for t in (0.0, 0.5, 0.9):
        a, b = direct.with_error("value", x, t), linear.with_error("value", x, t)
        assert np.abs(a.value - b.value).max() < 1e-6
        assert np.all(np.abs(a.value - b.value) <= a.error + b.error + 1e-13)
        assert np.abs(direct.control(x, t) - linear.control(x, t)).max() < 3e-6
    cost = problem.cost(linear.control)
    assert np.abs(cost(x, 0.0) - direct(x, 0.0)).max() < 1e-6


@pytest.mark.parametrize("name", ["regulator", "hyperbolic"])
def test_verification_gap(name: str) -> None:
    problem = PROBLEMS[name]()
    value = problem.solve_hjb()

    def control(x: np.ndarray, t: float) -> np.ndarray:
        return -0.3 * np.tanh(x) + 0.5 * np.sin(x + t)

    cost, gap = problem.cost(control), problem.verification_gap(control)
    assert np.abs(cost(X, 0.0) - value(X, 0.0) - gap(X, 0.0)).max() < 2e-6
    assert gap(X, 0.0).min() > 1e-2


def test_regulator_in_closed_form() -> None:
    # V = ½ P x² + b x + c with the Riccati equation -P' = 2 a P - s² P² + k, P(T) = m
    a, s, k, m = 0.6, 0.7, 1.3, 0.4
    problem = ControlProblem(fps.SDE(lambda x: 0.6 * x + 0.2, 0.7), lambda x: 0.65 * x**2, lambda x: 0.2 * x**2, (0, 1))

    def riccati(_: float, y: np.ndarray) -> list[float]:
        p, b, _c = y
        return [2 * a * p - s**2 * p**2 + k, (a - s**2 * p) * b + 0.2 * p, 0.2 * b + 0.5 * s**2 * (p - b**2)]

    p, b, c = solve_ivp(riccati, (0, 1), [m, 0, 0], rtol=1e-12, atol=1e-13).y[:, -1]
    for solution in (problem.solve_hjb(), problem.solve_hopf_cole()):
        found = solution.with_error("value", X, 0.0)
        exact = 0.5 * p * X**2 + b * X + c
        assert np.all(np.abs(found.value - exact) <= found.error)
        assert np.abs(found.value - exact).max() < 1e-6
        control = solution.with_error("control", X, 0.0)
        assert np.all(np.abs(control.value + s * (p * X + b)) <= control.error)


def test_simulated_cost() -> None:
    problem = PROBLEMS["hyperbolic"]()
    exact = float(problem.cost(lambda x: 0.5 * np.cos(x))(0.4, 0.0))
    found = problem.simulated_cost(lambda x: 0.5 * np.cos(x), fps.PointMass(0.4), n_paths=4000, n_steps=64)
    assert abs(found.value - exact) < 4 * found.std_error + 0.02


def test_value_with_absorption() -> None:
    # no direct equation there: v = 0 at the ends; without costs V is minus the log of the probability to survive
    problem = ControlProblem(fps.SDE(0.0, 1.0, support=(0, 1), boundary="absorbing"), 0.0, 0.0, (0, 2))
    x = np.array([0.1, 0.5, 0.8])
    slow = -np.log(4 / np.pi * np.sin(np.pi * x)) + np.pi**2
    assert np.abs(problem.solve_hopf_cole()(x, 0.0) - slow).max() < 1e-4
    with pytest.raises(fps.InputError, match="solve_hopf_cole"):
        problem.solve_hjb()


def test_bridge_to_a_narrow_law() -> None:
    # dX = -X dt + √2 dW weighted by N(x; 1, 0.1²): h(x, t) = N(x e^-s; 1, 0.01 + 1 - e^-2s), s = T - t
    bridge = fps.conditioned(fps.processes.ou(theta=1.0, sigma=2**0.5), fps.Normal(1, 0.1), (0, 1))
    for t in (0.0, 0.5, 0.95):
        decay = np.exp(t - 1)
        law = fps.Normal(1, np.sqrt(0.01 + 1 - decay**2))
        assert np.abs(bridge.log_h(X, t) - law.logpdf(decay * X)).max() < 1e-6 * np.abs(law.logpdf(decay * X)).max()
        exact = -X + 2 * decay * law.score(decay * X)
        assert np.abs(bridge.process.drift(X, t) - exact).max() < 1e-5 * np.abs(exact).max()


def test_conditioned_on_a_half_line() -> None:
    upper = fps.conditioned(fps.processes.ou(theta=1.0, sigma=2**0.5), lambda x: np.where(x > 0.5, 1.0, 0.0), (0, 1))
    x, decay = np.linspace(-1, 3, 17), np.exp(-0.6)
    spread = np.sqrt(1 - decay**2)
    z = (decay * x - 0.5) / spread
    exact = -x + 2 * decay / spread * np.exp(norm.logpdf(z) - norm.logcdf(z))
    assert np.abs(upper.process.drift(x, 0.4) - exact).max() < 1e-5


def test_conditioned_to_survive() -> None:
    # for long the drift is π cot πx
    inside = fps.SDE(0.0, 1.0, support=(0, 1), boundary="absorbing")
    survivor = fps.conditioned(inside, 1.0, (0, 3))
    x = np.array([0.05, 0.1, 0.5, 0.7, 0.99])
    assert np.abs(survivor.process.drift(x, 0.4) - np.pi / np.tan(np.pi * x)).max() < 1e-5


def test_marginals_of_a_conditioned_process() -> None:
    # q_t h_t / Z for the start q_0 h_0 / Z
    process = fps.processes.ou(theta=1.0, sigma=2**0.5)
    tilted = fps.conditioned(process, lambda x: np.exp(0.8 * np.sin(x)), (0, 1))
    q0 = fps.Normal(0.5, 0.4)
    start = fps.Unnormalized(tilted.log_weight(q0), support=(-4, 5))
    q = fps.solve_fokker_planck(tilted.process, start.normalized(), (0, 1), t_eval=[0.5, 1.0])
    original = fps.exact_evolution(process, q0, (0, 1))
    x = np.linspace(-3, 3, 61)
    for t in (0.5, 1.0):
        logs = original.logpdf(x, t) + tilted.log_h(x, t) - float(start.log_normalizer.value)
        assert np.abs(q.pdf(x, t) - np.exp(logs)).max() < 1e-6


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (lambda: ControlProblem(fps.ODE(1.0), 0.0, 0.0, (0, 1)), "with noise"),
        (lambda: ControlProblem(fps.SDE(0.0, 1.0), lambda y: y, 0.0, (0, 1)), "y"),
        (lambda: ControlProblem(fps.SDE(0.0, 1.0), 0.0, 0.0, (0, 1)).solve_hjb(rtol=3), "rtol"),
        (lambda: fps.conditioned(fps.SDE(0.0, 1.0), lambda x: x, (0, 1)), "nowhere negative"),
        (lambda: fps.conditioned(fps.SDE(0.0, 1.0), 0.0, (0, 1)), "somewhere positive"),
    ],
)
def test_bad_input(wrong: Callable[[], object], complaint: str) -> None:
    with pytest.raises(fps.InputError, match=complaint):
        wrong()
