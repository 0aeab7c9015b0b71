"""Ends of the support: Feller's classification against textbook cases and exact power laws; moving walls.

The robust scheme at absorbing, periodic and moving ends: against closed forms and the scheme of high order.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.linalg import eigh_tridiagonal
from scipy.special import ive, ndtr

import fpsolve as fps
from fpsolve.errors import InputError, NoClosedForm, UnknownName
from fpsolve.grids.scheme import Schedule, Stepper

INF = np.inf
HALF, UNIT, LINE = (0, INF), (0, 1), (-INF, INF)


def declared(drift: Any, noise: Any, support: Any, **options: Any) -> fps.SDE:
    """A process whose finite ends are left open to any classification."""
    boundary = tuple("reflecting" if math.isfinite(end) else "natural" for end in support)
    return fps.SDE(drift, noise, support=support, boundary=boundary, **options)


def kinds_of(p: Any, t: float | None = None) -> tuple[str, str]:
    left, right = p.ends(t)
    return left.kind, right.kind


def root(x: Any) -> Any:
    return np.sqrt(x)


def root_of_unit(x: Any) -> Any:
    return np.sqrt(x * (1 - x))


CASES: dict[str, tuple[Any, Any, Any, tuple[str, str]]] = {
    # finite ends
    "brownian at a wall": (0.0, 1.0, HALF, ("regular", "natural")),
    "brownian between walls": (0.0, 1.0, (5, 7), ("regular", "regular")),
    "brownian far from zero": (0.0, 1.0, (1e5, 1e5 + 1), ("regular", "regular")),
    "square root, no drift": (0.0, root, HALF, ("exit", "natural")),
    "square root, negative level": (lambda x: -0.5 - x, root, HALF, ("exit", "natural")),
    "square root below Feller": (lambda x: 0.4 - x, root, HALF, ("regular", "natural")),
    "square root just below Feller": (lambda x: 0.49995 - x, root, HALF, ("regular", "natural")),
    "square root at Feller": (lambda x: 0.5 - x, root, HALF, ("entrance", "natural")),
    "square root just above Feller": (lambda x: 0.50005 - x, root, HALF, ("entrance", "natural")),
    "geometric brownian": (lambda x: 0.05 * x, lambda x: 0.2 * x, HALF, ("natural", "natural")),
    "geometric brownian at log drift 0": (lambda x: 0.02 * x, lambda x: 0.2 * x, HALF, ("natural", "natural")),
    "geometric noise pushed out": (lambda x: -1 + 0 * x, lambda x: 0.2 * x, HALF, ("exit", "natural")),
    "geometric noise pushed in": (lambda x: 1 + 0 * x, lambda x: 0.2 * x, HALF, ("entrance", "natural")),
    "geometric noise in a flood": (lambda x: 600.0 + 0 * x, lambda x: 0.2 * x, HALF, ("entrance", "natural")),
    "x(1-x) under the root": (0.0, root_of_unit, UNIT, ("exit", "exit")),
    "x(1-x) as noise": (0.0, lambda x: x * (1 - x), UNIT, ("natural", "natural")),
    "jacobi at Feller": (lambda x: 0.5 - x, root_of_unit, UNIT, ("entrance", "entrance")),
    "jacobi below Feller": (lambda x: 0.4 * (1 - 2 * x), root_of_unit, UNIT, ("regular", "regular")),
    "single numbers only": (lambda x: 0.6 - max(x, 0.0), lambda x: max(x, 0.0) ** 0.5, HALF, ("entrance", "natural")),
    # infinite ends
    "brownian": (0.0, 1.0, LINE, ("natural", "natural")),
    "ornstein-uhlenbeck": (lambda x: -x, 1.0, LINE, ("natural", "natural")),
    "double well": (lambda x: x - x**3, 1.0, LINE, ("entrance", "entrance")),
    "double well, wavy noise": (lambda x: x - x**3, lambda x: np.sqrt(0.5 + 0.25 * np.sin(x)), LINE, ("entrance",) * 2),
    "cubic explosion": (lambda x: x**3, 1.0, LINE, ("exit", "exit")),
    "quadratic explosion to one side": (lambda x: x**2, 1.0, LINE, ("entrance", "exit")),
    "exponential drift": (lambda x: np.exp(x), 1.0, LINE, ("natural", "exit")),
    "exponential drift that raises": (lambda x: math.exp(x), 1.0, LINE, ("natural", "exit")),
    "-sinh": (lambda x: -np.sinh(x), 1.0, LINE, ("entrance", "entrance")),
    "-x log x": (lambda x: -x * np.log(1 + x**2), 1.0, LINE, ("natural", "natural")),
    "-x log² x": (lambda x: -x * np.log(1 + x**2) ** 2, 1.0, LINE, ("entrance", "entrance")),
    "x log² x": (lambda x: x * np.log(1 + x**2) ** 2, 1.0, LINE, ("exit", "exit")),
    "oscillating drift": (lambda x: np.sin(x), 1.0, LINE, ("natural", "natural")),
    "oscillating noise": (lambda x: -x, lambda x: 1 + 0.5 * np.sin(x), LINE, ("natural", "natural")),
    "noise x²": (0.0, lambda x: x**2, HALF, ("natural", "entrance")),
    # without noise
    "cubic explosion of a flow": (lambda x: x**3, 0.0, LINE, ("exit", "exit")),
    "flow from infinity": (lambda x: -(x**3), 0.0, LINE, ("entrance", "entrance")),
    "linear flow": (lambda x: -x, 0.0, HALF, ("natural", "natural")),
    "flow into the end": (lambda x: -np.sqrt(x), 0.0, HALF, ("exit", "natural")),
    "flow out of the end": (1.0, 0.0, HALF, ("entrance", "natural")),
    "nothing moves": (0.0, 0.0, UNIT, ("natural", "natural")),
    # what cannot be said
    "drift that swings harder and harder": (lambda x: x**3 * np.sin(x), 1.0, LINE, ("undecided", "undecided")),
    "flow that keeps turning": (lambda x: np.sin(1 / x), 0.0, UNIT, ("undecided", "exit")),
    "third logarithm": (
        lambda x: -x * np.log(2 + x**2) * np.log(np.log(9 + x**2)),
        1.0,
        LINE,
        ("undecided", "undecided"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_textbook_ends(name: str) -> None:
    drift, noise, support, expected = CASES[name]
    assert kinds_of(declared(drift, noise, support)) == expected


# --- exact power laws -------------------------------------------------------------------------------------------------


def convergent(*rates: float) -> bool:
    """Whether d^rate per logarithm of d, for the smallest of these rates, is integrable at d = 0."""
    return min(rates) > 0


def exact_kind(a: float, p: float, q: float) -> str:
    """Kind of the end 0 of dX = a X^p dt + X^q dW, by hand from s' and m."""
    order = p - 2 * q + 1  # 2f/g² = 2a x^(order - 1)
    if a != 0 and order < 0:  # the drift alone decides
        return "natural" if p >= 1 else ("entrance" if a > 0 else "exit")
    pull = 2 * a if order == 0 else 0.0  # s' = x^-pull
    reached = convergent(2 - 2 * q, 1 - pull)
    started = convergent(2 - 2 * q, 1 + pull - 2 * q)
    return {(True, True): "regular", (True, False): "exit", (False, True): "entrance", (False, False): "natural"}[
        reached, started
    ]


quarters = st.integers(-6, 8).map(lambda k: k / 4)
sizes = st.sampled_from([-1.5, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0])


@given(sizes, quarters, st.integers(0, 6).map(lambda k: k / 4))
def test_power_laws_at_zero(a: float, p: float, q: float) -> None:
    found = declared(lambda x: a * x**p, lambda x: x**q, HALF).ends()[0]
    assert found.kind == exact_kind(a, p, q), found.reason


@given(sizes, quarters, st.integers(0, 6).map(lambda k: k / 4))
def test_power_laws_at_infinity_through_the_inverse(a: float, p: float, q: float) -> None:
    # Y = 1/X of the process above: drift -a y^(2 - p) + y^(3 - 2q), noise y^(2 - q)
    found = declared(lambda x: x ** (3 - 2 * q) - a * x ** (2 - p), lambda x: x ** (2 - q), (1, INF)).ends()[1]
    assert found.kind == exact_kind(a, p, q), found.reason


@given(st.floats(-3, 6).filter(lambda d: min(abs(d), abs(d - 2)) > 1e-4), st.floats(0.01, 100))
def test_bessel_dimensions(dimension: float, scale: float) -> None:
    # exponents are those of the integrands by hand: Σ ~ d^(2 - max(d, 0)), N ~ d^(min(d, 2))
    p = declared(lambda x: scale**2 * (dimension - 1) / (2 * x), scale, HALF)
    end = p.ends()[0]
    assert end.kind == ("exit" if dimension < 0 else "regular" if dimension < 2 else "entrance")
    assert np.allclose(end.exponents, (2 - max(dimension, 0), min(dimension, 2)), atol=0.02)


@given(st.floats(0.05, 20), st.floats(0.05, 0.95), st.floats(1.0, 1000.0))
def test_feller_condition_is_decided_sharply(kappa: float, level: float, far: float) -> None:
    # at exactly 2κθ = ξ², in rounded numbers, the end is not reached; slightly below it is
    def kinds(excess: float) -> list[str]:
        xi, eta = (math.sqrt(2 * kappa * part / (1 + excess)) for part in (level, 1 - level))
        found = [
            declared(lambda x: kappa * (level - x), lambda x: xi * np.sqrt(x), HALF).ends()[0],
            declared(lambda x: kappa * (level - x), lambda x: xi * root_of_unit(x), UNIT).ends()[0],
        ]
        if abs(excess) > 1e-3 or excess == 0:  # less is decided at ends at zero only
            found.append(declared(lambda x: kappa * (level - x), lambda x: eta * root_of_unit(x), UNIT).ends()[1])
        return [end.kind for end in found]

    for size in (1e-4 * far, 5e-3 * far):
        assert set(kinds(min(size, 0.9))) == {"entrance"}
        assert set(kinds(-min(size, 0.9))) == {"regular"}
    assert kinds(0.0) == ["entrance"] * 3


def test_a_support_too_narrow_for_its_place_is_undecided() -> None:
    end = declared(0.0, 1.0, (1e6, 1e6 + 1e-7)).ends()[0]
    assert (end.kind, "too narrow" in end.reason) == ("undecided", True)


@pytest.mark.parametrize(("dimension", "kind"), [(0, "exit"), (2, "entrance")])
def test_bessel_at_its_critical_dimensions(dimension: int, kind: str) -> None:
    assert kinds_of(declared(lambda x: (dimension - 1) / (2 * x), 1.0, HALF))[0] == kind


def test_exact_kinds_know_the_textbook() -> None:
    assert [exact_kind(a, -1, 0) for a in (-1.0, -0.5, 0.25, 0.5, 1.0)] == [
        "exit",
        "exit",
        "regular",
        "entrance",
        "entrance",
    ]
    assert [exact_kind(0.0, 0, q) for q in (0.0, 0.5, 1.0)] == ["regular", "exit", "natural"]


# --- what a classification must not depend on -------------------------------------------------------------------------

PAIRS = [CASES[name][:2] for name in ("square root at Feller", "geometric noise pushed out", "square root, no drift")]
PAIRS += [CASES[name][:2] for name in ("square root below Feller", "geometric brownian", "noise x²")]


@pytest.mark.parametrize("pair", PAIRS)
@given(place=st.floats(-50, 50), size=st.floats(0.1, 10))
def test_moving_turning_and_stretching_the_line(pair: tuple[Any, Any], place: float, size: float) -> None:
    f, g = (c if callable(c) else (lambda x, c=c: c + 0 * x) for c in pair)
    here = kinds_of(declared(*pair, HALF))
    moved = declared(lambda x: size * f((x - place) / size), lambda x: size * g((x - place) / size), (place, INF))
    turned = declared(lambda x: -f(-x), lambda x: g(-x), (-INF, 0))
    assert kinds_of(moved) == here
    assert kinds_of(turned) == here[::-1]


@given(st.floats(0.05, 1.5).filter(lambda level: abs(level - 0.25) > 1e-3))
def test_stratonovich_is_read_as_its_ito_form(level: float) -> None:
    p = declared(level, root, HALF, calculus="stratonovich")
    assert kinds_of(p) == kinds_of(declared(lambda x: level + 0.25 + 0 * x, root, HALF))
    assert kinds_of(p)[0] == ("regular" if level < 0.25 else "entrance")


def test_ends_depend_on_time() -> None:
    p = declared(lambda x, t: t - x, root, HALF)
    assert [kinds_of(p, t)[0] for t in (0.0, 0.3, 0.5, 0.8)] == ["exit", "regular", "entrance", "entrance"]
    assert kinds_of(p) == kinds_of(p, p.probe_time)
    with pytest.raises(InputError, match="t must be a finite number"):
        p.ends(t=INF)


def test_an_end_gives_its_reasons() -> None:
    end, far = declared(lambda x: 0.4 - x, root, HALF).ends()
    assert (end.accessible, end.enterable) == (True, True)
    assert np.allclose(end.exponents, (0.2, 0.8), atol=1e-3)
    assert "Σ finite (d^0.2)" in end.reason
    assert "N finite (d^0.7999)" in end.reason
    assert (far.kind, far.accessible, far.enterable) == ("natural", False, False)
    unknown = declared(lambda x: x**3 * np.sin(x), 1.0, LINE).ends()[0]
    assert (unknown.kind, unknown.accessible) == ("undecided", None)
    assert "undecided" in unknown.reason
    with pytest.raises(AttributeError):
        end.kind = "natural"  # type: ignore[misc]


# --- natural boundaries -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if math.isfinite(case[2][0])])
def test_natural_is_refused_at_regular_and_exit_ends_alone(name: str) -> None:
    drift, noise, support, kinds = CASES[name]
    reached = [
        side
        for side, end, kind in zip(("left", "right"), support, kinds, strict=True)
        if math.isfinite(end) and kind in ("regular", "exit")
    ]
    if not reached:
        assert fps.SDE(drift, noise, support=support).boundary == ("natural", "natural")
        return
    with pytest.raises(InputError, match=f"the {reached[0]} end .* which it reaches: .*Σ finite"):
        fps.SDE(drift, noise, support=support)
    for kind in ("absorbing", "reflecting"):
        assert kind in fps.SDE(drift, noise, support=support, boundary=kind).boundary


def test_declaring_looks_at_few_points_and_at_finite_ends_only() -> None:
    seen: list[np.ndarray] = []

    def drift(x: Any) -> Any:
        seen.append(np.array(x))
        return 0.6 - x

    fps.SDE(drift, root, support=HALF)
    points = np.concatenate([np.atleast_1d(x) for x in seen])
    assert points.size < 150
    assert points.max() < 3.0
    assert len(seen) < 10
    assert points.min() < 1e-11


# --- moving ends ------------------------------------------------------------------------------------------------------


def wall(t: Any) -> Any:
    return 0.3 * t**2 - 1.0


def moving(**options: Any) -> fps.SDE:
    return fps.SDE(lambda x: -x, 1.0, **{"support": (wall, INF), "boundary": "absorbing"} | options)


def test_a_moving_end_is_kept_as_a_function_and_shown_as_a_number() -> None:
    p = moving()
    assert p.moving == (True, False)
    assert p.boundary == ("absorbing", "natural")
    assert p.support == (wall(p.probe_time), INF) == p.support_at(p.probe_time)
    assert p.support_at(2.0) == (wall(2.0), INF)
    assert "support=(wall(t), inf)" in repr(p)
    flow = fps.ODE(1.0, support=(-INF, lambda t: t), boundary=("natural", "reflecting"))
    assert flow.moving == (False, True)
    assert flow.support_at(5.0) == (-INF, 5.0)
    assert "(-inf, <lambda>(t))" in repr(flow)
    still = fps.SDE(0.0, 1.0, support=UNIT, boundary="reflecting")
    assert (still.moving, still.support_at(3.0), still.wall_speed(0, 3.0)) == ((False, False), (0.0, 1.0), 0.0)


@given(st.floats(-3, 3), st.floats(-2, 2), st.floats(0.1, 3), st.floats(-5, 5))
def test_wall_speed_is_the_derivative(a: float, b: float, c: float, t: float) -> None:
    p = moving(support=(lambda t: a * t + b * np.sin(c * t) - 100.0, 100.0))
    expected = a + b * c * math.cos(c * t)
    assert abs(p.wall_speed("left", t) - expected) < 1e-8
    assert p.wall_speed(0, t) == p.wall_speed("left", t)
    assert p.wall_speed(1, t) == 0.0
    if abs(b * c * math.sin(c * t)) > 0.01:
        assert abs(p.wall_speed("left", t + 1e-3) - expected) > 1e-8


def test_wall_speed_where_the_wall_begins_or_ends() -> None:
    def known(t: float) -> float:
        if not 0 <= t <= 2:
            raise ValueError("unknown time")
        return math.sin(t)

    p = moving(support=(known, INF))
    for t in (0.0, 0.01, 1.0, 1.99, 2.0):
        assert abs(p.wall_speed(0, t) - math.cos(t)) < 1e-9
    with pytest.raises(InputError, match="ValueError: unknown time, at t=3"):
        p.support_at(3.0)
    with pytest.raises(InputError, match="must be smooth in t"):
        moving(support=(lambda t: np.sqrt(t), INF)).wall_speed(0, 0.0)
    with pytest.raises(InputError, match="side must be 0"):
        p.wall_speed("top", 1.0)
    with pytest.raises(InputError, match="side must be 0"):
        p.wall_speed(2, 1.0)


def test_walls_read_parameters() -> None:
    p = fps.SDE(
        lambda x, k: -k * x, 1.0, support=(lambda t, a: a * t, INF), boundary="reflecting", params={"k": 1.0, "a": 2.0}
    )
    q = p.with_params(a=-1.0)
    assert (p.support_at(3.0), q.support_at(3.0)) == ((6.0, INF), (-3.0, INF))
    assert q.params == {"k": 1.0, "a": -1.0}
    assert (q.boundary, q.moving) == (p.boundary, p.moving)
    for other in (p.to_stratonovich(), p.controlled(1.0), p.probability_flow(lambda x, t: -x)):
        assert other.support_at(3.0) == (6.0, INF)
    flow = fps.ODE(0.0, support=(lambda t, a: a * t, INF), boundary="absorbing", params={"a": 2.0})
    assert flow.with_params(a=3.0).support_at(1.0) == (3.0, INF)
    assert "<lambda>(t)" in repr(p.controlled(1.0))
    with pytest.raises(UnknownName, match="a parameter must be one of a"):
        fps.SDE(0.0, 1.0, support=(lambda t, a: a * t, INF), boundary="absorbing", params={"a": 2.0, "b": 1.0})


@given(st.floats(-4, 4), st.floats(0.0, 1.0))
def test_algebra_carries_walls(speed: float, t: float) -> None:
    p = fps.SDE(
        lambda x, t: -x * t,
        lambda x: 1 + 0.1 * x**2,
        support=(lambda t: speed * t, 9.0),
        boundary=("absorbing", "reflecting"),
    )

    def score(x: Any, t: float) -> Any:
        return -x

    for other in (p.to_stratonovich(), p.with_noise(0.5, score), p.probability_flow(score), p.controlled(1.0)):
        assert (other.support_at(t), other.boundary) == (p.support_at(t), p.boundary)
        assert abs(other.wall_speed(0, t) - speed) < 1e-9
    back = p.reverse(score, t_span=(0.5, 1.5))
    assert back.support_at(t) == p.support_at(1.5 - t)
    assert back.boundary == p.boundary
    assert abs(back.wall_speed(0, t) + speed) < 1e-9
    again = back.reverse(lambda x, t: -x, t_span=(0.0, 1.0))
    assert math.isclose(again.support_at(t)[0], p.support_at(t + 0.5)[0], abs_tol=1e-12)


def test_differences_keep_within_the_wall_of_their_time() -> None:
    # noise that exists right of the wall only, and a time at which the wall is far left of where it was examined
    p = fps.SDE(0.0, lambda x, t: np.sqrt(x - 10 * t), support=(lambda t: 10 * t, INF), boundary="absorbing")
    for t in (0.0, 0.37, 1.0):
        x = 10 * t + np.array([1e-3, 0.1, 1.0, 3.0])
        assert np.allclose(p.diffusion_squared_dx(x, t), 1.0, atol=1e-6)
        assert np.allclose(p.diffusion_coefficient.dx(x, t), 0.5 / np.sqrt(x - 10 * t), rtol=1e-4)


def test_a_time_is_found_at_which_walls_and_coefficients_are_known() -> None:
    p = moving(support=(lambda t: np.log(t - 5.0), INF))
    assert p.probe_time == 7.1
    assert p.support == (math.log(7.1 - 5.0), INF)
    q = fps.SDE(lambda x, t: -x * np.sqrt(t - 2.0), 1.0, support=(wall, INF), boundary="absorbing")
    assert q.probe_time == 3.3
    assert q.support == (wall(3.3), INF)


def test_a_moving_end_is_classified_as_it_is_seen() -> None:
    # the flow follows its wall: in the frame of the wall nothing moves; overtaken by its wall, it is reached
    for speed, kind in ((1.0, "natural"), (2.0, "exit"), (0.5, "entrance")):
        flow = fps.ODE(1.0, support=(lambda t, speed=speed: speed * t, INF), boundary="absorbing")
        assert kinds_of(flow, 2.0)[0] == kind
    assert kinds_of(moving()) == ("regular", "natural")


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "natural moving end": (lambda: moving(boundary="natural"), InputError, "natural at the moving left end"),
    "natural on the moving side": (
        lambda: moving(support=(wall, 3.0), boundary=("natural", "absorbing")),
        InputError,
        "natural at the moving left end",
    ),
    "periodic moving end": (
        lambda: moving(support=(wall, 3.0), boundary="periodic"),
        InputError,
        "a moving end needs a boundary that acts there",
    ),
    "ends the wrong way round": (lambda: moving(support=(wall, -1.0)), InputError, "must keep left < right"),
    "ends that meet": (lambda: moving(support=(wall, 0.5)).support_at(3.0), InputError, "must keep left < right"),
    "nan": (lambda: moving(support=(lambda t: np.nan, INF)), InputError, "must be one finite number"),
    "infinite": (lambda: moving(support=(-1.0, lambda t: INF)), InputError, "the right end of the support must be one"),
    "array": (lambda: moving(support=(lambda t: np.zeros(2), INF)), InputError, "shape (2,)"),
    "text": (lambda: moving(support=(lambda t: "left", INF)), InputError, "dtype <U4"),
    "argument": (lambda: moving(support=(lambda s: s, INF)), UnknownName, "must be among t"),
    "time that is none": (lambda: moving().support_at("now"), InputError, "t must be a finite number"),
    "simulate": (
        lambda: fps.simulate(moving(boundary="reflecting"), fps.PointMass(1.0), (0, 1), n_paths=2, n_steps=2),
        InputError,
        "simulate needs ends that stay",
    ),
    "simulate, absorbing": (
        lambda: fps.simulate(moving(), fps.PointMass(1.0), (0, 1), n_paths=2, n_steps=2),
        InputError,
        "simulate",
    ),
    "flow map": (
        lambda: fps.flow_map(fps.ODE(0.0, support=(wall, INF), boundary="reflecting"), 1.0, (0, 1)),
        InputError,
        "flow_map needs ends that stay",
    ),
    "closed form": (
        lambda: fps.exact_evolution(moving(), fps.PointMass(1.0), (0, 1)),
        NoClosedForm,
        "its support is",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_moving_ends_cannot_do(name: str) -> None:
    call, kind, words = REFUSED[name]
    with pytest.raises(kind) as caught:
        call()
    assert words in str(caught.value)


# --- the robust scheme at ends that absorb, are joined, or move -------------------------------------------------------

MEAN, STD = 1.5, 0.2


def bell(x: Any, mean: float, variance: float) -> Any:
    return np.exp(-0.5 * (x - mean) ** 2 / variance) / math.sqrt(2 * math.pi * variance)


def drifting(x: Any, t: float, drift: float) -> tuple[Any, float]:
    """q(x, t) and absorbed mass of Brownian motion with drift from Normal(MEAN, STD), absorbed at 0, by its image."""
    variance = STD**2 + t
    image, weight = 2 * drift * STD**2 - MEAN + drift * t, math.exp(2 * drift * (drift * STD**2 - MEAN))
    density = bell(x, MEAN + drift * t, variance) - weight * bell(x, image, variance)
    inside = ndtr((MEAN + drift * t) / math.sqrt(variance)) - weight * ndtr(image / math.sqrt(variance))
    return density, 1.0 - inside


def returning(x: Any, t: float) -> tuple[Any, float]:
    """The same of dX = -X dt + √2 dW, whose image is its mirror image."""
    mean, variance = MEAN * math.exp(-t), 1.0 + (STD**2 - 1.0) * math.exp(-2 * t)
    inside = 2.0 * ndtr(mean / math.sqrt(variance)) - 1.0
    return bell(x, mean, variance) - bell(x, -mean, variance), 1.0 - inside


def between_walls(x: Any, t: float, start: float) -> tuple[Any, tuple[float, float]]:
    """q and the masses absorbed on both sides, of Brownian motion on (0, 1) from a point, as a series of sines."""
    k = np.pi * np.arange(1, 120)
    size, fading = 2.0 * np.sin(k * start), np.exp(-0.5 * k**2 * t)
    density = np.sin(np.multiply.outer(x, k)) @ (size * fading)
    right = start + (size / k * np.cos(k) * fading).sum()
    return density, (1.0 - start - (size / k * fading).sum(), float(right))


def round_the_ring(x: Any, t: float, drift: float, noise: float, start: float, std: float) -> Any:
    turns = np.arange(-30, 31)
    return bell(np.subtract.outer(x, turns), start + drift * t - round(drift * t), std**2 + noise**2 * t).sum(axis=-1)


def robust(process: fps.SDE, law: Any, times: tuple[float, ...], **options: Any) -> Any:
    """A solution by the robust scheme, with what must hold of every one."""
    options = {"rtol": 1e-5, "scheme": "robust"} | options
    q = fps.solve_fokker_planck(process, law, (0.0, times[-1]), t_eval=list(times), **options)
    assert q.stats["scheme"] == "robust"
    assert q.stats["mass defect"] < 1e-12
    assert sum(q.stats["mass"].values()) == pytest.approx(1.0, abs=1e-12)
    assert q.stats["min q"] >= 0.0
    return q


def check_against(q: Any, t: float, x: Any, true: Any, rtol: float = 1e-5) -> None:
    """The density is within its estimate, in norm and at every point, the estimate within the goal."""
    k = int(np.flatnonzero(q.error["pdf"].times == t)[0])
    value, error = q.with_error("pdf", x, t)
    away = np.abs(value - true)
    assert away.max() <= q.error["pdf"].total[k] * true.max() <= rtol * true.max()
    assert (away <= error + 1e-14 * true.max()).mean() > 0.98


def check_absorbed(q: Any, t: float, true: tuple[float, float]) -> None:
    k = int(np.flatnonzero(q.error["cdf"].times == t)[0])
    assert np.abs(np.subtract(q.absorbed(t), true)).max() <= q.error["cdf"].total[k] + 1e-13
    assert q.mass(t) + sum(q.absorbed(t)) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("drift", [-0.6, 0.4])
def test_robust_at_a_wall_against_the_image(drift: float) -> None:
    x = np.linspace(0, 5, 301)
    q = robust(fps.SDE(drift, 1.0, support=HALF, boundary="absorbing"), fps.Normal(MEAN, STD), (0.1, 0.5, 2.0))
    for t in (0.1, 0.5, 2.0):
        true, gone = drifting(x, t, drift)
        check_against(q, t, x, true)
        check_absorbed(q, t, (gone, 0.0))
        # F counts what was absorbed; the flux through the wall is the rate at which it grows
        assert q.cdf(0.0, t) == pytest.approx(gone, abs=1e-6)
        rate = (drifting(x, t + 1e-5, drift)[1] - drifting(x, t - 1e-5, drift)[1]) / 2e-5
        assert float(q.flux(0.0, t)) == pytest.approx(-rate, abs=1e-5)
    # log q has a pole at the wall, and so has its slope: both keep their digits next to it
    near = np.array([1e-3, 0.02, 0.1, 0.7])
    truth, (score, error) = drifting(near, 0.5, drift)[0], q.with_error("score", near, 0.5)
    slope = np.log(drifting(near + 1e-6, 0.5, drift)[0] / drifting(near - 1e-6, 0.5, drift)[0]) / 2e-6
    assert np.allclose(q.pdf(near, 0.5), truth, rtol=1e-3, atol=0)
    assert (np.abs(score - slope) <= error + 1e-5 * np.abs(slope)).all()
    # at a time that was not saved
    assert np.allclose(q.pdf(x, 0.31), drifting(x, 0.31, drift)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [0, 1])
def test_robust_ou_absorbed_on_either_side(side: int) -> None:
    sign, support = (1.0, HALF) if side == 0 else (-1.0, (-INF, 0))
    process = fps.SDE(lambda x: -x, math.sqrt(2), support=support, boundary="absorbing")
    q = robust(process, fps.Normal(sign * MEAN, STD), (0.1, 1.0), rtol=1e-4)
    x = np.linspace(0, 5, 301)
    for t in (0.1, 1.0):
        true, gone = returning(x, t)
        check_against(q, t, sign * x, true, 1e-4)
        check_absorbed(q, t, (gone, 0.0) if side == 0 else (0.0, gone))


def test_robust_between_two_walls() -> None:
    x, times = np.linspace(0, 1, 301), (0.02, 0.1, 2.0)
    q = robust(fps.SDE(0.0, 1.0, support=UNIT, boundary="absorbing"), fps.PointMass(0.3), times)
    for t in times:
        true, gone = between_walls(x, t, 0.3)
        check_against(q, t, x, true)
        check_absorbed(q, t, gone)


@pytest.mark.parametrize("kinds", [("reflecting", "absorbing"), ("absorbing", "reflecting")])
def test_robust_with_one_wall_of_each_kind(kinds: tuple[str, str]) -> None:
    # a reflecting wall at 1 is the middle of two absorbing ones at 0 and 2
    x, t = np.linspace(0, 1, 201), 0.3
    twice = [between_walls(place, t / 4, 0.15)[0] / 2 for place in (x / 2, 1 - x / 2)]
    start, points = (0.3, x) if kinds[0] == "absorbing" else (0.7, 1 - x)
    q = robust(fps.SDE(0.0, 1.0, support=UNIT, boundary=kinds), fps.PointMass(start), (t,))
    check_against(q, t, points, twice[0] + twice[1])
    gone = sum(between_walls(x, t / 4, 0.15)[1])
    check_absorbed(q, t, (gone, 0.0) if kinds[0] == "absorbing" else (0.0, gone))


def test_robust_where_noise_and_drift_vary_at_walls_against_high_order() -> None:
    process = fps.SDE(
        lambda x: 1 - x + np.sin(x), lambda x: 1 + 0.5 * np.sin(2 * x + 0.4), support=(0, 3), boundary="absorbing"
    )
    law, x = fps.Normal(1.5, 0.2), np.linspace(0, 3, 301)
    fine = fps.solve_fokker_planck(process, law, (0, 0.5), t_eval=[0.5], scheme="order-8", rtol=1e-8)
    q = robust(process, law, (0.5,))
    check_against(q, 0.5, x, fine.pdf(x, 0.5))
    check_absorbed(q, 0.5, fine.absorbed(0.5))


def test_robust_where_noise_vanishes_at_the_wall() -> None:
    """Feller's diffusion √X dW from 1, absorbed at 0: log-graded cells, and a finite density at the wall."""
    process = fps.SDE(0.0, root, support=HALF, boundary="absorbing")
    q, x = robust(process, fps.PointMass(1.0), (0.3, 1.0), rtol=1e-4), np.geomspace(1e-6, 6, 200)
    for t in (0.3, 1.0):
        true = 2 / t / np.sqrt(x) * np.exp(-2 * (np.sqrt(x) - 1) ** 2 / t) * ive(1, 4 * np.sqrt(x) / t)
        check_against(q, t, x, true, 1e-4)
        check_absorbed(q, t, (math.exp(-2 / t), 0.0))


def test_auto_falls_back_on_the_robust_scheme_at_a_wall() -> None:
    # g jumps from 1 to 2 at 1/2, where g² q is continuous: by plain finite volumes and the exponential of their matrix
    def noise(x: Any) -> Any:
        return np.where(x < 0.5, 1.0, 2.0)

    process = fps.SDE(0.0, noise, support=UNIT, boundary=("absorbing", "reflecting"))
    q = robust(process, fps.Normal(0.3, 0.05), (0.05, 0.2), scheme="auto", rtol=1e-3)
    assert "g jumps at x = 0.5" in q.message
    n = 1000
    x = (np.arange(n) + 0.5) / n
    root_d = noise(x) * n / math.sqrt(2)
    meet = -np.append(3.0, np.append(np.full(n - 2, 2.0), 1.0)) * root_d**2
    values, vectors = eigh_tridiagonal(meet, root_d[1:] * root_d[:-1])
    start = vectors.T @ (root_d * bell(x, 0.3, 0.05**2))
    for t in (0.05, 0.2):
        true = vectors @ (np.exp(values * t) * start) / root_d
        value, error = q.with_error("pdf", x, t)
        away = np.abs(x - 0.5) > 0.03
        assert (np.abs(value - true) < error + 1e-5).all()
        assert np.abs(value - true)[away].max() < 2e-3 * true.max()
        assert q.absorbed(t) == (pytest.approx(1 - true.mean(), abs=1e-3), 0.0)


@pytest.mark.parametrize(("start", "std"), [(0.95, 0.0), (0.4, 0.05)])
def test_robust_on_a_ring_against_the_wrapped_normal(start: float, std: float) -> None:
    law, x = fps.Normal(start, std) if std else fps.PointMass(start), np.linspace(0, 1, 301)
    q = robust(fps.SDE(0.7, 0.5, support=UNIT, boundary="periodic"), law, (0.02, 0.1, 1.0))
    for t in (0.02, 0.1, 1.0):
        true = round_the_ring(x, t, 0.7, 0.5, start, std)
        check_against(q, t, x, true)
        assert q.absorbed(t) == (0.0, 0.0)
        assert abs(q.mass(t) - 1.0) < 1e-12
        slope = (
            round_the_ring(x + 1e-6, t, 0.7, 0.5, start, std) - round_the_ring(x - 1e-6, t, 0.7, 0.5, start, std)
        ) / 2e-6
        assert np.allclose(q.flux(x, t), 0.7 * true - 0.125 * slope, rtol=0, atol=1e-4 * true.max())


def test_robust_on_a_ring_against_high_order() -> None:
    process = fps.SDE(
        lambda x, t: 1 + np.sin(x) * np.cos(t),
        lambda x: 1 + 0.3 * np.cos(x),
        support=(0, 2 * np.pi),
        boundary="periodic",
    )
    law, x = fps.Normal(3.0, 0.3), np.linspace(0, 2 * np.pi, 301)
    fine = fps.solve_fokker_planck(process, law, (0, 1), t_eval=[1.0], scheme="order-8", rtol=1e-8)
    q = robust(process, law, (1.0,))
    check_against(q, 1.0, x, fine.pdf(x, 1.0))
    value, error = q.with_error("velocity", x, 1.0)
    assert (np.abs(value - fine.velocity(x, 1.0)) <= error + 1e-6).mean() > 0.98


def test_turns_round_a_ring_are_not_damped_away() -> None:
    """Ten turns: few steps would agree on a law at rest, and estimate no error."""
    process, x = fps.SDE(10.0, 0.3, support=UNIT, boundary="periodic"), np.linspace(0, 1, 201)
    q = fps.solve_fokker_planck(
        process, fps.Normal(0.4, 0.05), (0, 1.03), t_eval=[1.03], grid=fps.Grid(0, 1, 600), scheme="robust", rtol=3e-2
    )
    true = round_the_ring(x, 1.03, 10.0, 0.3, 0.4, 0.05)
    assert np.abs(q.pdf(x, 1.03) - true).max() <= q.error["pdf"].worst * true.max() <= 3e-2 * true.max()
    with pytest.raises(InputError, match="use a finer grid"):
        fps.solve_fokker_planck(process, fps.Normal(0.4, 0.05), (0, 1), grid=fps.Grid(0, 1, 16), scheme="robust")


def test_robust_with_a_moving_wall() -> None:
    """In the frame of the wall x = 0.6 t a Brownian motion has drift -0.6."""
    process = fps.SDE(0.0, 1.0, support=(lambda t: 0.6 * t, INF), boundary="absorbing")
    q, y = robust(process, fps.Normal(MEAN, STD), (0.3, 1.0), rtol=1e-4), np.linspace(0, 4, 201)
    assert q.message.startswith("in the frame of the moving walls: robust scheme")
    for t in (0.3, 1.0):
        true, gone = drifting(y, t, -0.6)
        check_against(q, t, 0.6 * t + y, true, 1e-4)
        check_absorbed(q, t, (gone, 0.0))


@pytest.mark.parametrize("kind", ["absorbing", "periodic", ("absorbing", "reflecting")])
@given(st.integers(8, 60), st.floats(1e-4, 1e4), st.floats(-200, 200), st.floats(1e-3, 3.0))
def test_any_step_keeps_signs_and_mass(kind: Any, cells: int, step: float, drift: float, noise: float) -> None:
    process = fps.SDE(lambda x: drift * np.cos(2 * np.pi * x), noise, support=UNIT, boundary=kind)
    stepper, grid = Stepper(process, (0.0, 1.0)), fps.Grid(0, 1, cells)
    mass = np.zeros(cells)
    mass[cells // 3] = 1.0
    times = Schedule(np.array([0.0, 3 * step]), np.zeros(1), np.array([3]), np.array([1]))
    level = stepper.solve(grid, mass, times, 1)
    assert level.mass.min() >= 0.0
    assert level.absorbed.min() >= 0.0
    assert level.mass.sum() + level.absorbed.sum() == pytest.approx(1.0, abs=1e-12)
    assert kind != "periodic" or level.absorbed.sum() == 0.0


def test_a_ring_step_solves_its_equations() -> None:
    # against a dense solve of the same rates, read off columns of one short step
    process = fps.SDE(lambda x: 1 + np.sin(2 * np.pi * x), 0.4, support=UNIT, boundary="periodic")
    stepper, grid, n = Stepper(process, (0.0, 1.0)), fps.Grid(0, 1, 12), 12
    points = stepper.points(grid)

    def stepped(tau: float) -> np.ndarray:
        columns = []
        for unit in np.eye(n):
            mass = unit.copy()
            stepper.run(mass, np.array([0.0, tau]), points, np.zeros(n))
            columns.append(mass)
        return np.array(columns).T

    generator = (np.eye(n) - np.linalg.inv(stepped(1e-3))) / 1e-3
    assert generator[0, -1] > 0.0
    assert generator[-1, 0] > 0.0
    assert np.allclose(generator[2:-2, 0], 0.0, atol=1e-8)
    assert np.allclose(stepped(2.0), np.linalg.inv(np.eye(n) - 2.0 * generator), atol=1e-9)


@pytest.mark.parametrize("place", [0.0, 1.0])
@pytest.mark.parametrize("scheme", ["auto", "robust"])
def test_an_atom_on_the_seam_of_a_ring(place: float, scheme: str) -> None:
    ring = fps.SDE(lambda x: 0 * x + 0.3, 0.8, support=(0, 1), boundary="periodic")
    q = fps.solve_fokker_planck(ring, fps.PointMass(place), (0, 0.5), t_eval=[0.05, 0.5], rtol=1e-4, scheme=scheme)
    x, turns = np.linspace(0, 1, 41), np.arange(-6, 7)[:, None]
    truth = stats.norm.pdf(x + turns, place + 0.015, 0.8 * 0.05**0.5).sum(axis=0)
    assert np.abs(q.pdf(x, 0.05) - truth).max() < q.error["pdf"].worst * truth.max() < 1e-3 * truth.max()
