"""Where a process lives: two ends, each a number or a function of time (a moving wall)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from fpsolve.errors import InputError
from fpsolve.problem.coefficient import Binding, Coefficient
from fpsolve.problem.differences import differentiate

SIDES = ("left", "right")
_RULE = "support must be a pair (left, right) with left < right"
_TRIED = (0.37, 0.0, 1.0, 0.73, 1.9, 3.3, 7.1, 20.3, -0.37)
# fourth-order differences that look to one side, for walls that begin or stop existing at t
_ONE_SIDED = np.array([-25.0, 48.0, -36.0, 16.0, -3.0]) / 12.0


class Support:
    """The pair of ends; a function of t is bound by name and may read parameters."""

    def __init__(self, given: Any, params: Mapping[str, float]) -> None:
        try:
            left, right = given
            ends = [end if callable(end) else float(end) for end in (left, right)]
        except (TypeError, ValueError):
            raise InputError(_RULE, given, "write for instance support=(0, np.inf)") from None
        self.source: tuple[Any, Any] = (ends[0], ends[1])
        self.moving = (callable(ends[0]), callable(ends[1]))
        self._params = params
        self._walls = [
            Binding(f"{side} end of the support", end, ("t",), params) if callable(end) else None
            for side, end in zip(SIDES, ends, strict=True)
        ]
        if not any(self.moving) and not ends[0] < ends[1]:
            raise InputError(_RULE, given, "swap the ends")

    def param_names(self) -> set[str]:
        """Names of the parameters that the ends read."""
        return set().union(*(set(wall.constants) & set(self._params) for wall in self._walls if wall is not None))

    def end(self, side: int, t: float) -> float:
        """Return one end at time t, checked to be a finite number where it moves."""
        wall = self._walls[side]
        if wall is None:
            return self.source[side]
        rule, fix = f"the {wall.what} must be one finite number", "correct the function, or use times where it is known"
        try:
            with np.errstate(all="ignore"):
                found = np.asarray(wall(t=t))
        except (ArithmeticError, ValueError) as problem:
            raise InputError(rule, f"{type(problem).__name__}: {problem}, at t={t:g}", fix) from problem
        if found.shape != () or found.dtype.kind not in "iuf":
            raise InputError(rule, f"shape {found.shape} and dtype {found.dtype} at t={t:g}", "return one float")
        if not math.isfinite(found):
            raise InputError(rule, f"{found} at t={t:g}", fix)
        return float(found)

    def at(self, t: float) -> tuple[float, float]:
        """Return both ends at time t."""
        left, right = self.end(0, t), self.end(1, t)
        if not left < right:
            raise InputError(
                "the ends of a moving support must keep left < right",
                f"({left:.6g}, {right:.6g}) at t={t:g}",
                "swap them, or keep to times before they meet",
            )
        return left, right

    def first_time(self, preferred: Iterable[float]) -> float:
        """Return the first of some times at which both ends are usable."""
        refusals = []
        for t in (*preferred, *_TRIED):
            try:
                self.at(t)
                return t
            except InputError as refusal:
                refusals.append(refusal)
        raise refusals[0]

    def speed(self, side: int, t: float) -> float:
        """Return d end/dt by differences, from one side of t where the end is not known on the other."""
        if not self.moving[side]:
            return 0.0
        self.end(side, t)
        try:
            speed, error = (float(part) for part in differentiate(partial(self._places, side), t))
        except InputError:
            speed, error = self._one_sided_speed(side, t)
        if error > 1e-6 * (1.0 + abs(speed)):
            raise InputError(
                f"a moving {SIDES[side]} end must be smooth in t where its speed is needed",
                f"{speed:.4g} ± {error:.2g} at t={t:g}",
                "smooth the wall, or begin where it is smooth",
            )
        return speed

    def _places(self, side: int, times: np.ndarray) -> np.ndarray:
        return np.array([self.end(side, float(s)) for s in times])

    def _one_sided_speed(self, side: int, t: float) -> tuple[float, float]:
        """Speed and error from later times, or from earlier ones where the later ones are not known."""
        coarse, fine = (step * np.arange(5.0) for step in (2e-3, 1e-3))
        try:
            speeds = [float(_ONE_SIDED @ self._places(side, t + steps)) / steps[1] for steps in (coarse, fine)]
        except InputError:
            speeds = [-float(_ONE_SIDED @ self._places(side, t - steps)) / steps[1] for steps in (coarse, fine)]
        return speeds[1], abs(speeds[1] - speeds[0])

    def resolved(self) -> tuple[Any, Any]:
        """Return the pair with its parameters bound, fit to declare another process."""
        left, right = (self._resolved(side) for side in (0, 1))
        return left, right

    def _resolved(self, side: int) -> Any:
        wall = self._walls[side]
        if wall is None:
            return self.source[side]
        bound = {name: value for name, value in wall.constants.items() if name in self._params}
        return partial(wall.fn, **bound) if bound else wall.fn

    def reversed(self, t1: float) -> tuple[Any, Any]:
        """Return the pair in the clock t1 - t."""
        left, right = (self._reversed(side, t1) if self.moving[side] else self.source[side] for side in (0, 1))
        return left, right

    def _reversed(self, side: int, t1: float) -> Callable[[float], float]:
        return lambda t: self.end(side, t1 - t)

    def __str__(self) -> str:
        names = [
            f"{getattr(end, '__name__', 'wall')}(t)" if callable(end) else str(end)
            for end in map(_unwrapped, self.source)
        ]
        return f"({', '.join(names)})"


def _unwrapped(end: Any) -> Any:
    return end.func if isinstance(end, partial) else end


def side_index(side: Any) -> int:
    """Return 0 or 1 for an end, given so or as "left" or "right"."""
    for index, name in enumerate(SIDES):
        if isinstance(side, (str, int, np.integer)) and not isinstance(side, bool) and side in (index, name):
            return index
    raise InputError("side must be 0 (left) or 1 (right)", side, "name one end")


class CoefficientBetweenWalls(Coefficient):
    """A coefficient on a moving support: examined between the ends of one time, differenced between those of each."""

    def __init__(
        self, what: str, source: Any, params: Mapping[str, float], ends: Support, support: tuple[float, float]
    ) -> None:
        self._ends = ends
        super().__init__(what, source, params, support)

    def dx(self, x: Any, t: float, order: int = 1) -> np.ndarray:
        """Derivative in x by sixth-order differences that do not reach beyond the ends at time t."""
        return self._between_ends(lambda y: self(y, t), x, t, order)

    def square_dx(self, x: Any, t: float, order: int = 1) -> np.ndarray:
        """Derivative in x of the square, by the same differences."""
        return self._between_ends(lambda y: self(y, t) ** 2, x, t, order)

    def _between_ends(self, fn: Callable[[np.ndarray], np.ndarray], x: Any, t: float, order: int) -> np.ndarray:
        if not self.uses_x:
            return np.zeros(np.shape(x))
        return differentiate(fn, x, order=order, support=self._ends.at(t))[0]
