"""Coefficients that are built on paths of densities: where those are known, and how well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

BEYOND = 1e-9  # mass on each side of the region in which it is worth while to tabulate
_KNOWN = 1e-2  # relative error of q below which its score is above noise
_DEEPEST = 3  # functions that call functions that use an evolution


@dataclass(frozen=True)
class BuiltOn:
    """That a coefficient holds the score of an Evolution at the time clock(t), times weight(x, clock(t)).

    In a function that somebody wrote neither is known: then the clock may be t or run backward, and the weight is one.
    """

    evolution: Any
    clock: Callable[[float], float] | None = None
    weight: Callable[[np.ndarray, float], np.ndarray] | None = None

    def seen_through(self, clock: Callable[[float], float]) -> BuiltOn:
        """The same in a coefficient whose time t is the time clock(t) of this one."""
        inner = self.clock
        return self if inner is None else replace(self, clock=lambda t: inner(clock(t)))

    def times(self, t: float) -> tuple[float, ...]:
        """Times of the evolution that may be meant by `t`."""
        if self.clock is not None:
            return (self.clock(t),)
        t0, t1 = self.evolution.t_span
        return tuple(u for u in {t, t0 + t1 - t} if t0 <= u <= t1)

    def region(self, t: float) -> tuple[float, float]:
        """Where nearly all mass is, and the score is known."""
        spans = np.array([_region(self.evolution, u) for u in self.times(t)])
        return (float(spans[:, 0].max()), float(spans[:, 1].min())) if spans.size else (np.nan, np.nan)

    def error(self, x: np.ndarray, t: float) -> np.ndarray:
        """Error of the coefficient that comes from that of the score."""
        found = np.zeros(x.shape)
        for u in self.times(t):
            size = 1.0 if self.weight is None else np.abs(self.weight(x, u))
            found = np.maximum(found, size * self.evolution.with_error("score", x, u)[1])
        return found

    def is_unknown(self, x: np.ndarray, t: float) -> np.ndarray:
        """Whether x lies beyond a grid, where nothing bounds the error of the score."""
        grid = self.evolution.grid
        far = np.zeros(x.shape, dtype=bool) if grid is None else ~((x >= grid.left) & (x <= grid.right))
        if far.any():
            far[far] = np.isinf(self.error(x[far], t))
        return far


def _region(q: Any, t: float) -> tuple[float, float]:
    if q.grid is None:
        left, right = q.span(t, BEYOND)
        return float(left), float(right)
    faces = q.grid.faces
    below, above = q.cdf(faces, t), q.sf(faces, t)
    good = (below > BEYOND) & (above > BEYOND) & (q.with_error("logpdf", faces, t)[1] < _KNOWN)
    middle = int(np.searchsorted(below, 0.5 * (below[-1] + below[0])))
    bad = np.flatnonzero(~good)
    first, last = bad[bad < middle].max(initial=-1) + 1, bad[bad >= middle].min(initial=faces.size) - 1
    return (float(faces[first]), float(faces[last])) if first < last else (np.nan, np.nan)


def is_evolution(thing: Any) -> bool:
    """Whether a thing looks like a path of densities."""
    return not isinstance(thing, type) and all(hasattr(thing, name) for name in ("score", "with_error", "t_span"))


def built_on(fn: Any) -> tuple[BuiltOn, ...]:
    """What a function says that it is built on, or else the evolutions that are found in it."""
    declared = getattr(fn, "built_on", None)
    if declared is not None:
        return tuple(declared)
    return tuple(BuiltOn(q) for q in {id(q): q for q in _evolutions_in(fn, _DEEPEST)}.values())


def _evolutions_in(fn: Any, depth: int) -> list[Any]:
    """Evolutions among the owner, the defaults, the closure and the named globals of a function."""
    if isinstance(fn, partial):
        fn, held = fn.func, list(fn.keywords.values())
    else:
        held = []
    held.append(getattr(fn, "__self__", None))
    code = getattr(fn, "__code__", None)
    if code is not None:
        held += [*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()]
        held += [cell.cell_contents for cell in fn.__closure__ or () if _is_filled(cell)]
        held += [fn.__globals__.get(name) for name in code.co_names]
    found = [thing for thing in held if is_evolution(thing)]
    if depth:
        for thing in held:
            if hasattr(thing, "__code__"):
                found += _evolutions_in(thing, depth - 1)
    return found


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # an empty cell raises
    except ValueError:
        return False
    return True


def common_region(parts: Sequence[BuiltOn], support: tuple[float, float], t: float) -> tuple[float, float]:
    """Region in which all parts are known, within the support."""
    spans = [support, *(part.region(t) for part in parts)]
    return float(np.max([left for left, _ in spans])), float(np.min([right for _, right in spans]))


def total_error(parts: Sequence[BuiltOn], x: np.ndarray, t: float) -> np.ndarray:
    """Sum of the errors that the parts bring in."""
    return np.sum([part.error(x, t) for part in parts], axis=0)


def common_density(parts: Sequence[BuiltOn]) -> Callable[[np.ndarray, float], np.ndarray] | None:
    """The density of the first part whose clock is known, in the time of the coefficient."""
    for part in parts:
        if part.clock is not None:
            evolution, clock = part.evolution, part.clock
            return lambda x, t: evolution.pdf(x, clock(t))
    return None
