"""Estimates keep two kinds of error apart, and streams named differently share no noise."""

import hashlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fpsolve as fps
from fpsolve.errors import InputError
from fpsolve.problem.estimate import as_estimate, normal_quantile
from fpsolve.problem.streams import Stream, as_stream

values = st.floats(-10, 10)
sizes = st.floats(0, 2)


@st.composite
def estimates(draw: st.DrawFn) -> fps.Estimate:
    return fps.Estimate(draw(values), error=draw(sizes), std_error=draw(sizes), route=draw(st.sampled_from("ab")))


# --- arithmetic -------------------------------------------------------------------------------------------------------


@given(estimates(), estimates(), st.floats(-1, 1), st.floats(-1, 1))
def test_result_covers_every_value_that_the_deterministic_errors_allow(a: Any, b: Any, u: float, v: float) -> None:
    x, y = a.value + u * a.error, b.value + v * b.error
    for result, true in ((a + b, x + y), (a - b, x - y), (a * b, x * y), (-a, -x)):
        assert abs(result.value - true) <= result.error + 1e-12 * (1 + abs(true))


@given(estimates(), estimates())
def test_standard_errors_add_in_quadrature(a: Any, b: Any) -> None:
    for result in (a + b, a - b):
        assert math.isclose(result.std_error, math.hypot(a.std_error, b.std_error))
    exact_variance = (a.value * b.std_error) ** 2 + (b.value * a.std_error) ** 2 + (a.std_error * b.std_error) ** 2
    assert (a * b).std_error >= math.sqrt(exact_variance) * (1 - 1e-12)
    assert (-a).std_error == a.std_error


def test_product_of_two_sampled_zeros_is_still_uncertain() -> None:
    zero = fps.Estimate(0.0, std_error=0.1, route="particles")
    assert math.isclose((zero * zero).std_error, 0.01)


@given(estimates(), values)
def test_plain_numbers_are_exact_on_both_sides(a: Any, c: float) -> None:
    for left, right in ((a + c, c + a), (a * c, c * a), (a - c, -(c - a))):
        assert (left.value, left.error, left.std_error) == (right.value, right.error, right.std_error)
    assert (a + c).error == a.error
    assert math.isclose((a * c).error, abs(c) * a.error)


def test_arrays_add_as_arrays_from_both_sides() -> None:
    a = fps.Estimate(np.array([1.0, 2.0]), error=0.1, std_error=np.array([0.0, 0.3]), route="grid")
    for total in (a + np.array([1.0, 1.0]), np.array([1.0, 1.0]) + a, np.float64(1) + a):
        assert isinstance(total, fps.Estimate)
        assert np.array_equal(total.value, [2.0, 3.0])
        assert np.array_equal(total.std_error, [0.0, 0.3])
    product = np.array([2.0, 0.0]) * a
    assert np.allclose(product.error, [0.2, 0.0])


def test_routes_tell_how_it_was_computed() -> None:
    a, b = fps.Estimate(1.0, at=(0.5, 0.2), route="grid"), fps.Estimate(2.0, route="particles")
    assert [(a + b).route, (a - b).route, (a * b).route] == ["grid + particles", "grid - particles", "grid * particles"]
    assert (a - b).at == (0.5, 0.2)
    assert fps.exact(1.0).route == "exact"
    assert as_estimate(a) is a


@pytest.mark.parametrize(("alpha", "quantile"), [(0.31731050786, 1.0), (0.0455002638964, 2.0), (1e-4, 3.89059188641)])
def test_joint_error_versus_normal_tables(alpha: float, quantile: float) -> None:
    assert math.isclose(normal_quantile(alpha), quantile, rel_tol=1e-9)
    assert math.isclose(fps.Estimate(0.0, error=0.5, std_error=2.0, route="r").joint_error(alpha), 0.5 + 2 * quantile)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"value": math.nan}, "Estimate value must be finite"),
        ({"value": [1.0, math.inf]}, "Estimate value must be finite"),
        ({"value": "two"}, "Estimate value must be a real number"),
        ({"value": 1.0, "error": -1e-9}, "Estimate error must not be negative"),
        ({"value": 1.0, "error": math.inf}, "Estimate error must be finite"),
        ({"value": 1.0, "std_error": -1.0}, "Estimate std_error must not be negative"),
        ({"value": 1.0, "std_error": np.array([0.0, math.nan])}, "Estimate std_error must be finite"),
    ],
)
def test_broken_estimates_are_refused(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule) as caught:
        fps.Estimate(**arguments, route="mine")
    assert caught.value.fix


def test_an_estimate_is_frozen_and_needs_a_route() -> None:
    with pytest.raises(AttributeError):
        fps.exact(1.0).value = 2.0  # type: ignore[misc]
    with pytest.raises(TypeError, match="route"):
        fps.Estimate(1.0)  # type: ignore[call-arg]


# --- streams ----------------------------------------------------------------------------------------------------------

LABELS = ["", "a", "b", "ab", "a b", "1", 1, 11, "velocity", "grid"]


def test_distinct_labels_give_distinct_keys() -> None:
    paths = [path for k in range(4) for path in itertools.product(map(str, LABELS[:6] + LABELS[7:]), repeat=k)]
    keys = {Stream(seed, path).key for seed in range(3) for path in paths}
    assert len(keys) == 3 * len(paths)


@given(st.lists(st.sampled_from(LABELS), max_size=4), st.lists(st.sampled_from(LABELS), max_size=4))
def test_children_are_named_by_their_path(first: list[Any], second: list[Any]) -> None:
    assert Stream(5).child(*first).child(*second) == Stream(5).child(*first, *second)
    same = [*map(str, first)] == [*map(str, second)]
    assert (Stream(5).child(*first).key == Stream(5).child(*second).key) is same


def test_keys_are_the_same_on_every_machine() -> None:
    digest = hashlib.blake2b(b"7\x1fclaim\x1froute\x1f1", digest_size=8).digest()
    assert Stream(7, ("claim", "route", "1")).key == int.from_bytes(digest, "little")


def test_streams_of_two_routes_are_uncorrelated() -> None:
    # false-alarm rate: |r| √n > 6 happens with probability 2e-9
    n = 40_000
    a, b = (Stream(0).child("claim", route).generator().standard_normal(n) for route in ("grid", "particles"))
    assert abs(np.corrcoef(a, b)[0, 1]) * math.sqrt(n) < 6
    assert np.array_equal(a, Stream(0).child("claim", "grid").generator().standard_normal(n))


def test_what_counts_as_a_stream() -> None:
    stream = Stream(3, ("x",))
    assert as_stream(stream) is stream
    assert as_stream(np.int64(4)) == Stream(4)
    generator = np.random.default_rng(0)
    assert as_stream(generator) != as_stream(generator)
    for wrong in (-1, 1.5, True, "seed", None):
        with pytest.raises(InputError, match=r"rng must be a non-negative int or a numpy.random.Generator"):
            as_stream(wrong)
