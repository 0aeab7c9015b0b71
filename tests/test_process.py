"""Processes: the algebra that keeps a law or its marginals, boundaries by Feller's test, and what is frozen.

Score functions here are arbitrary fields: the identities between drifts hold for every one of them.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fpsolve as fps
from fpsolve.errors import CoefficientError, InputError, UnknownName

X = np.linspace(-2.0, 2.0, 11)
TIMES = (0.1, 0.5, 0.9)
LINE = (-np.inf, np.inf)
Field = Callable[..., Any]


@st.composite
def noises(draw: st.DrawFn) -> Field:
    """Noise that depends on x and t and keeps away from zero."""
    a, b, c = draw(st.floats(0.3, 2.0)), draw(st.floats(-0.9, 0.9)), draw(st.floats(0.2, 2.0))
    return lambda x, t: a * (1 + t) * (1 + 0.5 * b * np.sin(c * x + t))


@st.composite
def drifts(draw: st.DrawFn) -> Field:
    a, b, c = (draw(st.floats(-2.0, 2.0)) for _ in range(3))
    return lambda x, t: a * x - b * x**3 / (1 + x**2) + c * np.cos(t)


@st.composite
def sdes(draw: st.DrawFn, calculus: str = "ito") -> fps.SDE:
    return fps.SDE(draw(drifts()), draw(noises()), calculus=calculus)


def score(x: Any, t: float) -> Any:
    return -(x - 0.3) * (1 + t) + 0.2 * np.sin(2 * x)


def check_same_field(a: Field, b: Field, tolerance: float = 1e-8) -> None:
    for t in TIMES:
        one, other = np.asarray(a(X, t)), np.asarray(b(X, t))
        assert np.abs(one - other).max() <= tolerance * (1 + np.abs(other).max())


def test_checker_catches_other_fields() -> None:
    with pytest.raises(AssertionError):
        check_same_field(lambda x, t: x, lambda x, t: x + 1e-6 * t)


# --- algebra ----------------------------------------------------------------------------------------------------------


@given(sdes())
def test_ito_to_stratonovich_and_back(p: fps.SDE) -> None:
    other = p.to_stratonovich()
    assert (p.calculus, other.calculus) == ("ito", "stratonovich")
    assert p.to_ito() is p
    assert other.to_stratonovich() is other
    check_same_field(other.to_ito().drift, p.drift)
    check_same_field(other.diffusion, p.diffusion, 0.0)


@given(sdes())
def test_stratonovich_drift_is_lower_by_half_g_times_its_slope(p: fps.SDE) -> None:
    h = 1e-5
    for t in TIMES:
        slope = (p.diffusion(X + h, t) - p.diffusion(X - h, t)) / (2 * h)
        expected = p.drift(X, t) - 0.5 * p.diffusion(X, t) * slope
        assert np.allclose(p.to_stratonovich().drift(X, t), expected, atol=1e-7)


@given(sdes())
def test_noise_g_returns_the_process_itself(p: fps.SDE) -> None:
    check_same_field(p.with_noise(p.diffusion, score).drift, p.drift)


@given(sdes())
def test_noise_zero_is_the_probability_flow(p: fps.SDE) -> None:
    still, flow = p.with_noise(0.0, score), p.probability_flow(score)
    assert still.is_ode
    assert flow.is_ode
    check_same_field(still.drift, flow.velocity, 1e-14)


@given(sdes(), noises(), noises())
def test_noise_changed_twice_is_noise_changed_once(p: fps.SDE, first: Field, second: Field) -> None:
    twice = p.with_noise(first, score).with_noise(second, score)
    check_same_field(twice.drift, p.with_noise(second, score).drift, 1e-7)


@given(sdes(), noises())
def test_every_noise_has_one_probability_flow(p: fps.SDE, gamma: Field) -> None:
    check_same_field(
        p.with_noise(gamma, score).probability_flow(score).velocity, p.probability_flow(score).velocity, 1e-7
    )


@given(sdes())
def test_reverse_of_reverse_is_the_process(p: fps.SDE) -> None:
    back = p.reverse(score, t_span=(0, 1))
    again = back.reverse(lambda x, t: score(x, 1 - t), t_span=(0, 1))
    check_same_field(again.drift, p.drift)
    check_same_field(again.diffusion, p.diffusion, 1e-14)
    check_same_field(lambda x, t: back.diffusion(x, 1 - t), p.diffusion, 1e-14)


@given(sdes())
def test_reverse_in_terms_of_the_probability_flow(p: fps.SDE) -> None:
    # reversing time turns the flow around and leaves the part that the noise needs: b = -v + ½ ∂x g² + ½ g² s
    back, flow = p.reverse(score, t_span=(0, 1)), p.probability_flow(score)

    def expected(x: Any, t: float) -> Any:
        u = 1 - t
        return -flow.velocity(x, u) + 0.5 * p.diffusion_squared_dx(x, u) + 0.5 * p.diffusion_squared(x, u) * score(x, u)

    check_same_field(back.drift, expected)


@given(sdes(calculus="stratonovich"))
def test_algebra_reads_a_stratonovich_process_as_its_ito_form(p: fps.SDE) -> None:
    ito = p.to_ito()
    check_same_field(p.reverse(score, t_span=(0, 1)).drift, ito.reverse(score, t_span=(0, 1)).drift, 0.0)
    check_same_field(p.probability_flow(score).drift, ito.probability_flow(score).drift, 0.0)
    check_same_field(p.with_noise(1.0, score).drift, ito.with_noise(1.0, score).drift, 0.0)
    check_same_field(p.controlled(2.0).drift, ito.controlled(2.0).drift, 0.0)


@given(sdes(), st.floats(-3, 3))
def test_control_enters_through_the_noise(p: fps.SDE, level: float) -> None:
    steered = p.controlled(lambda x, t: level * x * t)
    check_same_field(steered.drift, lambda x, t: p.drift(x, t) + p.diffusion(x, t) * level * x * t, 1e-14)
    check_same_field(steered.diffusion, p.diffusion, 0.0)
    check_same_field(p.controlled(0.0).drift, p.drift, 0.0)


def test_ode_is_zero_noise() -> None:
    flow, still = fps.ODE(lambda x, t: -x * t), fps.SDE(lambda x, t: -x * t, 0.0)
    assert flow.is_ode
    assert still.is_ode
    check_same_field(flow.velocity, still.drift, 0.0)
    check_same_field(flow.probability_flow(score).velocity, flow.velocity, 0.0)
    check_same_field(flow.to_stratonovich().drift, flow.velocity, 0.0)
    check_same_field(flow.reverse(score, t_span=(0, 1)).drift, lambda x, t: -flow.velocity(x, 1 - t), 0.0)
    a, b = (fps.simulate(p, fps.Normal(0, 1), (0, 1), n_paths=50, n_steps=16).x for p in (flow, still))
    assert np.array_equal(a, b)


@pytest.mark.parametrize("span", [(0.0, 1.0), (5.0, 5.5), (-3.0, -2.0)])
def test_evolution_brings_its_own_clock(span: tuple[float, float]) -> None:
    t0, t1 = span
    p = fps.SDE(lambda x, t: -x, lambda x, t: 1.0 + 0.1 * (t - t0) + 0 * x)
    q = fps.path(lambda x, t: -0.5 * (x - (t - t0)) ** 2 - 0.5 * np.log(2 * np.pi), t_span=span)
    middle, later = 0.5 * (t0 + t1), 0.5 * (t1 - t0)
    assert np.allclose(
        p.probability_flow(q).velocity(X, middle), p.drift(X, middle) - 0.5 * _g2(p, middle) * q.score(X, middle)
    )
    assert np.allclose(p.with_noise(2.0, q).diffusion(X, middle), 2.0)
    assert np.allclose(p.reverse(q).drift(X, later), -p.drift(X, middle) + _g2(p, middle) * q.score(X, middle))


def _g2(p: fps.SDE, t: float) -> np.ndarray:
    return p.diffusion_squared(X, t)


def test_reverse_over_a_part_of_the_span() -> None:
    p = fps.SDE(lambda x, t: t * x, 1.0)
    q = fps.path(lambda x, t: -0.5 * (x - t) ** 2 - 0.5 * np.log(2 * np.pi), t_span=(0, 2))
    part = p.reverse(q, t_span=(0, 1))
    assert np.allclose(part.drift(X, 0.25), -0.75 * X + q.score(X, 0.75))
    assert np.allclose(p.reverse(q).drift(X, 0.25), -1.75 * X + q.score(X, 1.75))


def test_score_without_a_span_is_refused() -> None:
    with pytest.raises(InputError, match="a score needs the span of its clock") as caught:
        fps.SDE(0.0, 1.0).reverse(score)
    assert "t_span=(t0, t1)" in caught.value.fix


# --- derivative of g² -------------------------------------------------------------------------------------------------


def test_declared_derivative_is_used_and_checked() -> None:
    p = fps.SDE(0.0, lambda x: np.cosh(x), diffusion_squared_dx=lambda x: np.sinh(2 * x))
    assert np.array_equal(p.diffusion_squared_dx(X, 0.0), np.sinh(2 * X))
    assert np.allclose(p.diffusion_squared_dx(X, 0.0, order=2), 2 * np.cosh(2 * X), rtol=1e-7)
    for wrong in (lambda x: 0.5 * np.sinh(2 * x), lambda x: np.sinh(x), lambda x: -np.sinh(2 * x), 0.0):
        with pytest.raises(CoefficientError, match=r"must be the derivative of g² in x.*differences of g² give"):
            fps.SDE(0.0, lambda x: np.cosh(x), diffusion_squared_dx=wrong)


# --- boundaries -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1.0, 1.001, 4.0])
def test_square_root_process_above_feller_keeps_its_natural_end(ratio: float) -> None:
    level = 0.5 * ratio  # 2 κ θ / σ² = ratio
    assert fps.SDE(lambda x: level - x, lambda x: np.sqrt(x), support=(0, np.inf)).boundary == ("natural", "natural")


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.99])
def test_square_root_process_below_feller_needs_a_boundary(ratio: float) -> None:
    level = 0.5 * ratio
    arguments: tuple[Any, Any] = (lambda x: level - x, lambda x: np.sqrt(x))
    with pytest.raises(InputError, match=r"the left end 0, which it reaches.*Fix: declare boundary= as one of"):
        fps.SDE(*arguments, support=(0, np.inf))
    assert fps.SDE(*arguments, support=(0, np.inf), boundary="reflecting").boundary == ("reflecting", "natural")


@pytest.mark.parametrize(
    ("drift", "noise", "support", "reached"),
    [
        (lambda x: 1.2 * (0.5 - x), lambda x: np.sqrt(x * (1 - x)), (0, 1), ""),
        (lambda x: 0.4 - x, lambda x: np.sqrt(x * (1 - x)), (0, 1), "left"),
        (lambda x: 0.6 - x, lambda x: np.sqrt(x * (1 - x)), (0, 1), "right"),
        (lambda x: 0.05 * x, lambda x: 0.4 * x, (0, np.inf), ""),
        (lambda x: -3.0 * x, lambda x: 0.4 * x, (0, np.inf), ""),
        (lambda x: -1.0 + 0 * x, lambda x: 0.4 * x, (0, np.inf), "left"),
        (0.0, 1.0, (0, np.inf), "left"),
        (0.0, 1.0, (-np.inf, 2), "right"),
        (lambda x: 1 / x, 1.0, (0, np.inf), ""),
        (lambda x: 0.49 / x, 1.0, (0, np.inf), "left"),
        (lambda x: -x, 0.0, (0, np.inf), ""),
        (lambda x: 1 - x, 0.0, (0, 1), ""),
        (lambda x: -1.0 + 0 * x, 0.0, (0, np.inf), "left"),
        (lambda x: -np.sqrt(x), 0.0, (0, np.inf), "left"),
        (lambda x: np.sqrt(3 - x), 0.0, (-np.inf, 3), "right"),
        (1.0, 0.0, (0, np.inf), ""),
    ],
    ids=[
        "jacobi",
        "jacobi left",
        "jacobi right",
        "gbm",
        "gbm falling",
        "gbm pushed out",
        "brownian",
        "brownian right",
        "bessel 3",
        "bessel 1.98",
        "flow to the end",
        "flow to the right end",
        "flow out",
        "flow out like a root",
        "flow out like a root, right",
        "flow in",
    ],
)
def test_natural_boundary_only_where_it_is_not_reached(drift: Any, noise: Any, support: Any, reached: str) -> None:
    if not reached:
        assert fps.SDE(drift, noise, support=support).boundary == ("natural", "natural")
        return
    with pytest.raises(InputError, match=f"the {reached} end .* which it reaches"):
        fps.SDE(drift, noise, support=support)


def test_feller_reads_the_ito_drift() -> None:
    # dX = 0.3 dt + √X ∘ dW has the Itô drift 0.55, above Feller; read as Itô 0.3 would be below
    p = fps.SDE(lambda x: 0.3 + 0 * x, lambda x: np.sqrt(x), support=(0, np.inf), calculus="stratonovich")
    assert np.allclose(p.to_ito().drift(np.array([0.5, 1.0]), 0.0), 0.55)
    with pytest.raises(InputError, match="which it reaches"):
        fps.SDE(lambda x: 0.2 + 0 * x, lambda x: np.sqrt(x), support=(0, np.inf), calculus="stratonovich")


@pytest.mark.parametrize(
    ("support", "boundary", "expected"),
    [
        ((0, 1), "reflecting", ("reflecting", "reflecting")),
        ((0, 1), ("absorbing", "reflecting"), ("absorbing", "reflecting")),
        ((0, 1), "periodic", ("periodic", "periodic")),
        ((0, np.inf), "absorbing", ("absorbing", "natural")),
        (LINE, "natural", ("natural", "natural")),
    ],
)
def test_one_name_stands_for_every_finite_end(support: Any, boundary: Any, expected: tuple[str, str]) -> None:
    assert fps.SDE(0.0, 1.0, support=support, boundary=boundary).boundary == expected


def test_algebra_keeps_support_and_boundary() -> None:
    p = fps.SDE(lambda x: 1 - x, lambda x: 0.5 * np.sqrt(x), support=(0, np.inf), boundary="reflecting")
    for other in (
        p.to_stratonovich(),
        p.controlled(1.0),
        p.with_noise(0.0, lambda x: -x),
        p.reverse(lambda x: -x, t_span=(0, 1)),
    ):
        assert (other.support, other.boundary) == (p.support, p.boundary)


# --- declared once ----------------------------------------------------------------------------------------------------


def test_process_is_frozen() -> None:
    p = fps.SDE(lambda x, k: -k * x, 1.0, params={"k": 2.0})
    with pytest.raises(AttributeError, match="a process is frozen"):
        p.support = (0.0, 1.0)  # type: ignore[misc]
    with pytest.raises(AttributeError, match="a process is frozen"):
        del p.support
    p.params["k"] = 5.0
    assert p.params == {"k": 2.0}
    assert p.with_params().drift(1.0, 0.0) == -2.0


def test_with_params_keeps_the_rest() -> None:
    p = fps.SDE(
        lambda x, a, b: a * x + b,
        lambda x, c: c * x,
        calculus="stratonovich",
        support=(0, np.inf),
        params={"a": -1.0, "b": 0.0, "c": 0.5},
        diffusion_squared_dx=lambda x, c: 2 * c**2 * x,
    )
    q = p.with_params(c=0.25)
    assert q.params == {"a": -1.0, "b": 0.0, "c": 0.25}
    assert (q.calculus, q.support, q.boundary) == (p.calculus, p.support, p.boundary)
    assert math.isclose(q.diffusion_squared_dx(2.0, 0.0), 0.25)
    flow = fps.ODE(lambda x, a: a * x, params={"a": 1.0}).with_params(a=3.0)
    assert isinstance(flow, fps.ODE)
    assert flow.velocity(1.0, 0.0) == 3.0
    with pytest.raises(UnknownName, match=r"got 'aa'. Fix: did you mean 'a'"):
        p.with_params(aa=1.0)


@pytest.mark.parametrize(
    "p", [fps.SDE(lambda x, k: k * x, 1.0, params={"k": 2.0}), fps.ODE(lambda x, k: k * x, params={"k": 2.0})]
)
def test_repr_says_what_it_is(p: Any) -> None:
    assert repr(p).startswith(type(p).__name__ + "(support=(-inf, inf)")
    assert "params={'k': 2.0}" in repr(p)
