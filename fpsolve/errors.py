"""Exceptions of fpsolve and the checks that raise them.

Every message has three parts: the rule that was broken, the value that broke it, and the fix.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any

import numpy as np


class FpsolveError(Exception):
    """Base of every exception that fpsolve raises on purpose."""


class InputError(FpsolveError, ValueError):
    """An input breaks a rule; the message has the rule, the value and the fix."""

    def __init__(self, rule: str, value: object, fix: str) -> None:
        self.rule, self.value, self.fix = rule, value, fix
        super().__init__(f"{rule}; got {describe(value)}. Fix: {fix}.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.rule, self.value, self.fix)


class CoefficientError(InputError):
    """A drift, diffusion, velocity, potential or candidate does not behave as a function of (x, t)."""


class DensityError(InputError):
    """A function that was declared as a density is not one, or its mass is not where it was said to be."""


class UnknownName(InputError):
    """A name (scheme, boundary, parameter, identity) is not known; the fix lists close matches."""


class NoClosedForm(InputError):
    """No closed form is known for this process and this initial law."""


class MassEscape(FpsolveError):
    """Probability mass left every domain that could be tried; says to which side and when."""

    def __init__(self, message: str, *, side: str, time: float) -> None:
        self.side, self.time = side, time
        super().__init__(message)


class BlowUp(FpsolveError):
    """A flow or a path became infinite in finite time; says where it started and when."""

    def __init__(self, message: str, *, x: float, time: float) -> None:
        self.x, self.time = x, time
        super().__init__(message)


class Undecided(FpsolveError):
    """A verdict was used as a truth value although it is inconclusive."""


class ClaimError(FpsolveError):
    """A claim itself is broken: it raised, returned no verdict, or its file cannot be used."""


def describe(value: object, limit: int = 120) -> str:
    """Short text for a value in a message: arrays by shape, everything else by repr."""
    if isinstance(value, np.ndarray) and value.size > 6:
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    if isinstance(value, (float, np.floating)):
        return format(float(value), ".6g")
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def check_executor(executor: object) -> Executor | None:
    """Return `executor` if it is one of concurrent.futures, or None."""
    if executor is None or isinstance(executor, Executor):
        return executor
    raise InputError(
        "executor must be a concurrent.futures.Executor", executor,
        "pass for instance a ProcessPoolExecutor, or client.get_executor() of a Dask client",
    )  # fmt: skip


def check_choice(what: str, value: object, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`, else raise UnknownName with close matches."""
    known = sorted(choices)
    if isinstance(value, str) and value in known:
        return value
    close = difflib.get_close_matches(str(value), known, n=3, cutoff=0.5)
    fix = f"did you mean {' or '.join(map(repr, close))}?" if close else "use one of the known names"
    raise UnknownName(f"{what} must be one of {', '.join(known)}", value, fix.rstrip("?"))


def check_number(
    what: str, value: object, *, above: float = -math.inf, at_least: float = -math.inf, below: float = math.inf
) -> float:
    """Return `value` as a finite float within the stated limits."""
    rule = f"{what} must be a finite number"
    if above > -math.inf:
        rule += f" above {above:g}"
    if at_least > -math.inf:
        rule += f" of at least {at_least:g}"
    if below < math.inf:
        rule += f" below {below:g}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise InputError(rule, value, f"give {what} as one number")
    number = float(value)
    if not math.isfinite(number) or not above < number < below or number < at_least:
        raise InputError(rule, value, f"give {what} within these limits")
    return number


def check_count(what: str, value: object, *, at_least: int = 1) -> int:
    """Return `value` as an int of at least `at_least`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < at_least:
        raise InputError(f"{what} must be a whole number of at least {at_least}", value, f"give {what} as an int")
    return int(value)


def check_t_span(t_span: object) -> tuple[float, float]:
    """Return (t0, t1) with finite t0 < t1."""
    rule = "t_span must be a pair (t0, t1) of finite numbers with t0 < t1"
    try:
        t0, t1 = (float(t) for t in t_span)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise InputError(rule, t_span, "write for instance t_span=(0, 1)") from None
    if not (math.isfinite(t0) and math.isfinite(t1)):
        raise InputError(rule, t_span, "use finite times")
    if t0 == t1:
        raise InputError(rule, t_span, "the span is empty: give it some length")
    if t0 > t1:
        raise InputError(
            rule, t_span, "fpsolve integrates forward; reverse the process with p.reverse(q) and swap the ends"
        )
    return t0, t1


def check_times(what: str, times: object, t_span: tuple[float, float]) -> np.ndarray:
    """Return `times` as a sorted float array inside the closed interval `t_span`."""
    array = np.atleast_1d(np.asarray(times, dtype=float))
    rule = f"{what} must be increasing finite times within [{t_span[0]:g}, {t_span[1]:g}]"
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise InputError(rule, times, "give a number or a one-dimensional array of times")
    if (np.diff(array) <= 0).any():
        raise InputError(rule, times, "sort the times and drop repeated ones")
    outside = array[(array < t_span[0]) | (array > t_span[1])]
    if outside.size:
        raise InputError(rule, float(outside[0]), "ask inside the span, or solve over a longer one")
    return array


def check_time(t: object, t_span: tuple[float, float]) -> float:
    """Return `t` as a float inside the closed interval `t_span`."""
    number = check_number("t", t)
    if not t_span[0] <= number <= t_span[1]:
        raise InputError(
            f"t must lie within [{t_span[0]:g}, {t_span[1]:g}]",
            number,
            "ask inside the span, or solve over a longer one",
        )
    return number


def check_points(what: str, x: object) -> np.ndarray:
    """Return `x` as a float array without NaN (infinities are allowed: they are ends of the line)."""
    try:
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            raise TypeError
    except (TypeError, ValueError):
        raise InputError(f"{what} must be real numbers", x, "give a number or an array of floats") from None
    array = array.astype(float, copy=False)
    if np.isnan(array).any():
        raise InputError(f"{what} must not contain NaN", x, "drop the NaN entries first")
    return array
