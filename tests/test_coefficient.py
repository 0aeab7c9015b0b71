"""Coefficients: bound by name, examined at declaration, and the same function from Python and from machine code."""

import functools
import math
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

import fpsolve as fps
from fpsolve.errors import CoefficientError, InputError, UnknownName
from fpsolve.kernels.coefficients import OK, RAISED, Block, evaluate, python_block
from fpsolve.problem.coefficient import COMPILE_ELEMENTWISE_FROM, COMPILE_FROM, Coefficient

X = np.linspace(-1.5, 1.5, 7)
SPAN = (0.0, 1.0)
MANY = 1e12  # evaluations that make compiling worth its while
SINE = CubicSpline(np.linspace(-6, 6, 200), np.sin(np.linspace(-6, 6, 200)))
scale_of_all = 2.0  # a global that tests change


def run(block: Block, x: np.ndarray = X, t: float = 0.4) -> np.ndarray:
    """Values as a kernel sees them; what the function raised is raised again."""
    out = np.full_like(x, np.nan)
    status = evaluate(block.address, x, t, block.params, out)
    block.raise_stored()
    assert status == OK
    return out


def within_ulps(a: np.ndarray, b: np.ndarray, ulps: float = 8) -> bool:
    scale = np.maximum(np.abs(b), 1e-3 * np.abs(b).max())
    return bool((np.abs(a - b) <= ulps * np.spacing(scale)).all())


# --- binding by name --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (lambda x, t: x + 10 * t, X + 4.0),
        (lambda t, x: x + 10 * t, X + 4.0),
        (lambda x: 2 * x, 2 * X),
        (lambda t: 10 * t, np.full(7, 4.0)),
        (lambda x, k=3.0: k * x, 3 * X),
        (lambda k, x: k * x, 5 * X),
        (2.5, np.full(7, 2.5)),
        (np.float32(0.5), np.full(7, 0.5)),
        (np.array(3), np.full(7, 3.0)),
    ],
    ids=["x t", "t x", "x", "t", "default", "parameter", "number", "numpy number", "array of no dimension"],
)
@pytest.mark.parametrize("evaluations", [1, MANY], ids=["python", "compiled"])
def test_arguments_are_found_by_name_both_ways(source: Any, expected: np.ndarray, evaluations: float) -> None:
    c = Coefficient("drift", source, {"k": 5.0} if _names(source, "k") and not _has_default(source) else {})
    assert np.array_equal(c(X, 0.4), expected)
    block = c.block(evaluations, SPAN)
    assert within_ulps(run(block), expected)
    wanted = "constant" if c.binding is None else "python" if evaluations == 1 else "compiled"
    assert block.how == wanted, c.refusal()


def _names(source: Any, name: str) -> bool:
    return callable(source) and name in source.__code__.co_varnames


def _has_default(source: Any) -> bool:
    return bool(source.__defaults__)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 2), (2, 1, 2)])
def test_values_have_the_shape_of_x(shape: tuple[int, ...]) -> None:
    for source in (lambda x: x**2, lambda t: t, 2.0, lambda x: max(x, 0.0)):
        values = Coefficient("drift", source)(np.ones(shape), 0.5)
        assert values.shape == shape
        assert values.dtype == np.float64


def test_what_a_coefficient_uses() -> None:
    assert [Coefficient("f", c).uses_x for c in (1.0, lambda t: t, lambda x: x)] == [False, False, True]
    assert [Coefficient("f", c).uses_t for c in (1.0, lambda t: t, lambda x: x)] == [False, True, False]
    assert [Coefficient("f", c).is_zero for c in (0, 0.0, 1.0, lambda x: 0 * x)] == [True, True, False, False]


@pytest.mark.parametrize("rate", [0.25, -3.0])
def test_with_params_shares_what_was_compiled(rate: float) -> None:
    p = fps.SDE(lambda x, rate, level=1.0: rate * (level - x), 1.0, params={"rate": 2.0})
    first = p.drift_coefficient.block(MANY, SPAN)
    q = p.with_params(rate=rate)
    second = q.drift_coefficient.block(MANY, SPAN)
    assert (first.how, second.how) == ("compiled", "compiled")
    assert first.address == second.address
    assert within_ulps(run(first), 2.0 * (1 - X))
    assert within_ulps(run(second), rate * (1 - X))
    assert (p.params, q.params) == ({"rate": 2.0}, {"rate": rate})


def test_with_params_shares_what_is_compiled_later() -> None:
    p = fps.SDE(lambda x, rate: rate * x, 1.0, params={"rate": 2.0})
    q = p.with_params(rate=3.0)
    assert p.drift_coefficient.block(MANY, SPAN).address == q.drift_coefficient.block(MANY, SPAN).address


def test_resolved_source_declares_another_coefficient() -> None:
    c = Coefficient("drift", lambda x, t, k: k * x + t, {"k": 4.0})
    again = Coefficient("drift", c.resolved())
    assert np.array_equal(again(X, 0.3), c(X, 0.3))


# --- which way it runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [lambda x, t: np.sin(x) * np.exp(-t), lambda x: x - x**3, lambda x: x * 3**45])
def test_few_evaluations_do_not_compile(source: Any) -> None:
    c = Coefficient("drift", source)
    assert c.block(0.9 * COMPILE_FROM, SPAN).how == "python"
    assert c._machine.compiled is None


def test_function_that_builds_arrays_stays_in_python() -> None:
    c = Coefficient("drift", lambda x: np.where(x > 0, 0.5, 0.8))
    assert c.block(MANY, SPAN).how == "python"
    assert "where builds an array" in c.refusal()


def test_single_number_function_compiles_earlier() -> None:
    c = Coefficient("drift", lambda x: max(x, 0.0))
    assert c.block(0.9 * COMPILE_ELEMENTWISE_FROM, SPAN).how == "python"
    assert c.block(1.1 * COMPILE_ELEMENTWISE_FROM, SPAN).how == "compiled"


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=9), st.floats(0, 1))
def test_compiled_versus_python_versus_elementwise(points: list[float], t: float) -> None:
    x = np.array(points)
    for c in THREE_WAYS:
        expected = np.array([c.binding(x=float(one), t=t) for one in x])  # type: ignore[misc]
        assert within_ulps(c(x, t), expected)
        assert within_ulps(run(c.block(1, SPAN), x, t), expected)
        compiled = c.block(MANY, SPAN)
        assert compiled.how == "compiled", c.refusal()
        assert within_ulps(run(compiled, x, t), expected)


THREE_WAYS = [
    Coefficient("drift", lambda x, t: x - 0.3 * x**3 + t),
    Coefficient("drift", lambda x, t: math.tanh(x) * (1 + t)),
    Coefficient("drift", lambda x: max(x, 0.0)),
    Coefficient("drift", lambda t, x: np.maximum(x, -t)),
]


def test_large_integer_powers_do_not_wrap() -> None:
    c = Coefficient("drift", lambda x: x + 3**45)
    block = c.block(MANY, SPAN)
    assert within_ulps(run(block), X + 3.0**45)
    power = 45
    wrapped = Coefficient("drift", lambda x: x * 3**power)
    assert within_ulps(run(wrapped.block(MANY, SPAN)), X * 3.0**45)


def test_global_that_changes_after_compiling_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    c = Coefficient("drift", lambda x: scale_of_all * x)
    assert c.block(MANY, SPAN).how == "compiled"
    monkeypatch.setitem(globals(), "scale_of_all", 7.0)
    block = c.block(MANY, SPAN)
    assert block.how == "python"
    assert np.array_equal(run(block), 7.0 * X)


def test_closure_that_changes_after_compiling_is_noticed() -> None:
    factor = 2.0
    c = Coefficient("drift", lambda x: factor * x)
    assert c.block(MANY, SPAN).how == "compiled"
    factor = -1.0
    block = c.block(MANY, SPAN)
    assert block.how == "python"
    assert np.array_equal(run(block), -X)


def test_functions_with_equal_code_and_other_closures_differ() -> None:
    def scaled(k: float) -> Callable[[Any], Any]:
        return lambda x: k * x

    one, two = scaled(1.0), scaled(2.0)
    assert one.__code__ is two.__code__  # type: ignore[attr-defined]
    blocks = [Coefficient("drift", fn).block(MANY, SPAN) for fn in (one, two)]
    assert [b.how for b in blocks] == ["compiled", "compiled"]
    assert np.array_equal(run(blocks[0]), X)
    assert np.array_equal(run(blocks[1]), 2 * X)


def _checked(x: Any) -> Any:
    if np.any(x > 1e6):
        raise ValueError("too far")
    return -x


TABLE = np.linspace(0.0, 1.0, 5)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (_checked, "can raise"),
        (lambda x: _checked(x), "_checked: it can raise"),
        (lambda x: TABLE[np.clip(np.floor(x), 0, 4).astype(int)], "indexes"),
        (lambda x: np.interp(x, TABLE, TABLE), "TABLE is an array"),
        (SINE, "CubicSpline is not a plain function"),
        (functools.partial(lambda x, k: k * x, k=2.0), "partial is not a plain function"),
        (lambda x: SINE(x), "numba"),
        (lambda *, x: 2 * x, "keyword-only"),
    ],
    ids=["raises", "calls what raises", "indexes", "array", "spline", "partial", "object inside", "keywords"],
)
def test_function_that_machine_code_could_misread_stays_in_python(source: Any, reason: str) -> None:
    c = Coefficient("drift", source)
    block = c.block(MANY, SPAN)
    assert block.how == "python"
    assert reason in c.refusal()
    assert np.array_equal(run(block), c(X, 0.4))


def test_division_follows_numpy_both_ways() -> None:
    c = Coefficient("drift", lambda x: 1.0 / (x - 0.01))
    for evaluations in (1, MANY):
        values = run(c.block(evaluations, SPAN), np.array([0.01, -1.99]))
        assert np.array_equal(values, [np.inf, -0.5])


# --- callables of every kind ------------------------------------------------------------------------------------------


class Network:
    """Stands for a trained network: an object that is called with arrays and works in single precision."""

    def __call__(self, x: np.ndarray, t: float) -> np.ndarray:
        return np.tanh(x.astype(np.float32) * np.float32(1 + t))


def test_callable_objects() -> None:
    network = Coefficient("drift", Network())
    assert network(X, 0.5).dtype == np.float64
    assert np.allclose(network(X, 0.5), np.tanh(1.5 * X), atol=1e-6)
    assert np.array_equal(Coefficient("drift", SINE)(X, 0.0), SINE(X))
    method = types.MethodType(lambda self, x, t: x + t, object())
    assert np.array_equal(Coefficient("drift", method)(X, 0.5), X + 0.5)


def test_function_that_warns_where_it_is_not_used_is_quiet() -> None:
    c = Coefficient("diffusion", lambda x: np.where(x > 0, np.log(np.where(x > -9, x, 1.0)), 0.0))
    assert np.array_equal(c(X, 0.0), np.where(X > 0, np.log(np.abs(X) + (X == 0)), 0.0))


def test_examination_uses_a_time_at_which_the_function_lives() -> None:
    c = Coefficient("drift", lambda x, t: x * np.sqrt(t - 3.0))
    assert c.probe_time > 3.0
    assert np.array_equal(c(X, 4.0), X)
    with pytest.raises(CoefficientError, match=r"must be finite on the support; got 'nan at x=-1.5, t=0'") as caught:
        c(X, 0.0)
    assert caught.value.fix.startswith("correct it there")


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        lambda x: x - x.mean(),
        lambda x: np.cumsum(x),
        lambda x: np.sort(x),
        lambda x: np.gradient(x),
        lambda x: x / np.abs(x).max(),
        lambda x: x * np.arange(x.size),
        lambda x: x[::-1],
    ],
    ids=["mean", "cumsum", "sort", "gradient", "max", "index", "flip"],
)
def test_function_of_neighbouring_entries_is_refused(source: Any) -> None:
    with pytest.raises(CoefficientError, match=r"every point by itself.*Fix: do not use means"):
        Coefficient("drift", source)


def test_single_precision_noise_is_not_taken_for_dependence() -> None:
    rng = np.random.default_rng(0)

    def noisy(x: np.ndarray) -> np.ndarray:
        values = np.sin(x).astype(np.float32)
        return values * (1 + np.finfo(np.float32).eps * rng.uniform(-2, 2, x.shape).astype(np.float32))

    Coefficient("drift", noisy)


@pytest.mark.parametrize("given_params", [{"k": 1.0, "other": 2.0}, {"kk": 1.0}])
def test_unknown_parameters_are_refused(given_params: dict[str, float]) -> None:
    with pytest.raises(UnknownName):
        fps.SDE(lambda x, k=1.0: k * x, 1.0, params=given_params)


# --- exceptions inside kernels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt, SystemExit, KeyError])
def test_exception_in_a_kernel_comes_back_as_itself(kind: type[BaseException]) -> None:
    def fails(x: np.ndarray, t: float) -> np.ndarray:
        raise kind("from inside")

    block = python_block(fails)
    assert evaluate(block.address, X, 0.0, block.params, np.empty_like(X)) == RAISED
    with pytest.raises(kind, match="from inside") as caught:
        block.raise_stored()
    assert any(entry.name == "fails" for entry in caught.traceback)
    block.raise_stored()  # it is raised once


def test_exception_leaves_a_simulation_as_itself() -> None:
    class Mine(Exception):
        pass

    def drift(x: np.ndarray, t: float) -> np.ndarray:
        if t > 0.5 and x.size > 7:
            raise Mine("late")
        return -x

    with pytest.raises(Mine, match="late"):
        fps.simulate(fps.SDE(drift, 1.0), fps.Normal(0, 1), SPAN, n_paths=64, n_steps=8)


def test_wrong_shape_in_a_kernel_is_said() -> None:
    def drift(x: np.ndarray, t: float) -> np.ndarray:
        return -x if t < 0.5 or x.size <= 7 else np.ones(3)

    with pytest.raises(CoefficientError, match=r"one value per point; got 'shape \(3,\) for x of shape"):
        fps.simulate(fps.SDE(drift, 1.0), fps.Normal(0, 1), SPAN, n_paths=64, n_steps=8)


# --- derivatives ------------------------------------------------------------------------------------------------------


@given(st.floats(-2, 2), st.floats(0.1, 1.0), st.floats(-1.0, 1.0))
def test_derivatives_versus_formulas(x: float, a: float, b: float) -> None:
    c = Coefficient("diffusion", lambda x: a * np.sqrt(1 + x**2) + b * x)
    root = math.sqrt(1 + x**2)
    value, slope = a * root + b * x, a * x / root + b
    curve = a / root**3
    assert math.isclose(c.dx(x, 0.0), slope, rel_tol=1e-8, abs_tol=1e-9)
    assert math.isclose(c.square_dx(x, 0.0), 2 * value * slope, rel_tol=1e-8, abs_tol=1e-8)
    assert math.isclose(c.square_dx(x, 0.0, 2), 2 * (slope**2 + value * curve), rel_tol=1e-6, abs_tol=1e-6)


def test_derivative_is_zero_where_x_is_no_argument() -> None:
    assert not Coefficient("diffusion", lambda t: 1 + t).square_dx(X, 0.5).any()


def test_derivative_stays_inside_the_support() -> None:
    c = Coefficient("diffusion", lambda x: np.sqrt(x), support=(0.0, np.inf))
    assert np.allclose(c.square_dx(np.array([1e-8, 1e-3, 1.0]), 0.0), 1.0, rtol=1e-6)


def test_parameters_must_be_numbers() -> None:
    with pytest.raises(InputError, match="parameter k must be a finite number"):
        fps.SDE(lambda x, k: k * x, 1.0, params={"k": "fast"})
    with pytest.raises(InputError, match="params must map names to numbers"):
        fps.SDE(lambda x, k: k * x, 1.0, params=[("k", 1.0)])
