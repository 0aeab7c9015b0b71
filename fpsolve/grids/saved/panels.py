"""Slices at nodes in time, and polynomials between them: what is left of a solve when its solver is gone.

Time is divided into panels with NODES Chebyshev points each, ends included, in the clock u = sqrt(t - origin): what a
law with a kink or a jump does first, and what comes of a point mass, is as smooth in u as other things are in t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import maximum_filter1d

from fpsolve.errors import InputError
from fpsolve.grids.budgets import relative_errors, trapezoid
from fpsolve.grids.slices import CAUSES, NAMES, Field, Slice
from fpsolve.problem.grid import Grid

NODES = 12  # of a panel
_SPREAD = 3  # faces over which the largest misfit counts
_SAFETY = 3.0  # a few times between the nodes stand for all
_TRUSTED = 1e-2  # error of log q up to which the fit is judged
_FAINT = 40.0  # so far below its maximum log q is not judged
_SMALL = 0.1  # part to which the mass of a cell may fall before polynomials through it lose the digits of tails
_NOISE = 30.0  # a misfit below this that halving hardly lessens is noise of the solve
_LARGEST = 3e38  # error that is kept; float32 ends there
_MOST_NUMBERS = 3e7  # in the values of one table, a quarter of a gigabyte
LEAST = 1e-300  # density that stands for none
BARYCENTRIC = np.where(np.isin(np.arange(NODES), (0, NODES - 1)), 0.5, 1.0) * (-1.0) ** np.arange(NODES)
# where the polynomial of the nodes is largest: near both ends, and in the middle
TESTED = -np.cos(np.pi * (np.array([0.5, NODES // 2 - 0.5, NODES - 1.5]) / (NODES - 1)))


@dataclass(frozen=True)
class Table:
    """Solution at `times` (T,).

    `alone` of them (0 or 1) stand by themselves: the start, where a solve may jump from the initial law to what it
    makes of it. Then come NODES of each panel in a row, neighbours sharing one. `masses` (T, cells), `absorbed` (T, 2);
    `values[name]` (T, faces) of "logpdf", "score" and "velocity", and "flux" where the solve has one beside them;
    `errors[name]` by cause (T, faces), of "cdf" too. Unless `counted`, the path leaves out what was absorbed, may have
    fronts, and there is "pdf" too.
    """

    grid: Grid
    origin: float
    alone: int
    times: np.ndarray
    masses: np.ndarray
    absorbed: np.ndarray
    values: dict[str, np.ndarray]
    errors: dict[str, dict[str, np.ndarray]]
    counted: bool = True

    @property
    def has_flux(self) -> bool:
        """Whether the flux is kept by itself: next to absorbing ends the velocity has poles."""
        return "flux" in self.values

    def absorbed_at(self, t: float) -> tuple[float, float]:
        """Mass that left through each end until `t`."""
        rows, weights, _ = self._around(t)
        left, right = weights @ self.absorbed[rows]
        return float(left), float(right)

    def _around(self, t: float) -> tuple[slice, np.ndarray, slice]:
        """Rows whose polynomial is taken at `t`, their weights, and the rows next to it."""
        k = int(np.searchsorted(self.times, t))
        if self.times[k] == t:
            return slice(k, k + 1), np.ones(1), slice(k, k + 1)
        k = max(k, self.alone + 1)
        start = self.alone + (k - 1 - self.alone) // (NODES - 1) * (NODES - 1)
        rows = slice(start, start + NODES)
        weights = BARYCENTRIC / (np.sqrt(t - self.origin) - np.sqrt(self.times[rows] - self.origin))
        return rows, weights / weights.sum(), slice(k - 1, k + 1)

    def slice(self, t: float) -> Slice:
        """Solution at a time between the first node and the last, with the errors of the worse of its neighbours."""
        rows, weights, near = self._around(t)
        # relative accuracy in tails is no aim of what leaves out the absorbed: sums are kept instead
        masses = between(self.masses[rows], weights) if self.counted else np.maximum(weights @ self.masses[rows], 0.0)

        def compute(name: str) -> Field:
            errors = {cause: self.errors[name][cause][near].max(axis=0).astype(float) for cause in CAUSES}
            if name == "cdf":
                return Field(folded(found), errors)
            known = self.values[name][rows]
            if name == "logpdf" and "pdf" in self.values:  # polynomials through logarithms do not hold fronts
                return Field(np.log(np.maximum(weights @ self.values["pdf"][rows], LEAST)), errors)
            return Field(weights @ known, errors)

        # the start by itself is the initial law, which has no flux of its own
        by_itself = self.counted and self.alone == 1 and t == self.times[0]
        found = Slice(self.grid, t, masses, compute, self.absorbed_at(t), self.has_flux and not by_itself)
        return found


def folded(found: Slice) -> np.ndarray:
    """F at the faces, from the nearer end."""
    below, above = found.below, found.above
    return np.where(below < above, below, 1.0 - above)


def between(masses: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Interpolated masses of the cells, with their sum; the logarithms of those that fill or empty within the panel."""
    if weights.size == 1:
        return masses[0]
    least, most = masses.min(axis=0), masses.max(axis=0)
    by_logs = (least > 0.0) & ((least < _SMALL * most) | (most < _SMALL**2 * most.max()))
    result = weights @ masses
    # noise has logarithms too, and polynomials through them must not take off
    result[by_logs] = np.minimum(np.exp(weights @ np.log(masses[:, by_logs])), 2.0 * most[by_logs])
    return result


def solid(found: Slice, names: tuple[str, ...]) -> Slice:
    """A slice whose fields are known, so that it no longer holds its solver; errors rounded up by at most 6 %."""
    fields = {}
    for name in names:
        known = found.field(name)
        fields[name] = Field(known.value, {cause: _rounded_up(known.errors[cause]) for cause in CAUSES})
    return Slice(found.grid, found.time, found.masses, fields.__getitem__, found.absorbed, found.has_flux)


def _rounded_up(error: np.ndarray) -> np.ndarray:
    """Errors with five binary digits, which take little room in a compressed file."""
    digits, power = np.frexp(np.clip(np.nan_to_num(error, nan=np.inf), 1e-37, 0.5 * _LARGEST))
    return np.where(error == 0.0, 0.0, np.ldexp(np.ceil(32.0 * digits) / 32.0, power)).astype(np.float32)


@dataclass(frozen=True)
class Demand:
    """How well polynomials in time must fit.

    What the solve estimates of its own error is allowed, and `floor` (relative) if that is more. A panel is halved
    at most `depth` times and while that helps; then the misfit joins its errors, or, with `strict`, is refused.
    `counted` is that of the table.
    """

    floor: float
    depth: int
    strict: bool
    counted: bool = True


class Tabulation:
    """Builds a table from slices at any time of a span."""

    def __init__(self, slices: Callable[[float], Slice], grid: Grid, origin: float, demand: Demand) -> None:
        self._make, self.grid, self.origin, self.demand = slices, grid, origin, demand
        self._known: dict[float, Slice] = {}
        self.names: tuple[str, ...] = NAMES if demand.counted else (*NAMES, "flux", "pdf")
        self.worst = 0.0  # misfit in units of what is allowed

    def table(self, first: float, last: float, start: float | None) -> Table:
        """Table from `first` to `last`, panels halved until they fit, and of the time `start` by itself."""
        ends = np.sqrt([first - self.origin, last - self.origin])
        if self.demand.counted and self._make(last).has_flux:
            self.names = (*NAMES, "flux")
        self._fixed = {float(ends[0]): first, float(ends[1]): last}
        waiting, rows = [(float(ends[0]), float(ends[1]), 0, np.inf)], []
        while waiting:
            low, high, depth, before = waiting.pop()
            panel = [self._slice(u) for u in _nodes(low, high)]
            gaps, ratio = self._misfit(panel, low, high)
            noisy = not self.demand.strict and ratio < _NOISE and ratio > 0.3 * before
            if ratio > 1.0 and depth < self.demand.depth and not noisy:
                middle = 0.5 * (low + high)
                waiting += [(middle, high, depth + 1, ratio), (low, middle, depth + 1, ratio)]
                continue
            if ratio > 1.0 and self.demand.strict:
                rule = f"a table in time must reach {self.demand.floor:.0e} of every field"
                at = f"{ratio * self.demand.floor:.1e} near t={panel[NODES // 2].time:.6g}"
                raise InputError(rule, at, "save a part of the span in which the path is smoother")
            self.worst = max(self.worst, ratio)
            rows.append(self._with_gaps(panel, gaps))
            if len(rows) * NODES * self.grid.cells * len(self.names) > _MOST_NUMBERS:
                raise InputError("a table must fit into memory", f"{len(rows)} panels in time", "save a shorter span")
        alone = [] if start is None else [self._at(start)]
        return self._joined(rows, alone)

    def _slice(self, u: float) -> Slice:
        return self._at(self._fixed.get(u, self.origin + u * u))

    def _at(self, t: float) -> Slice:
        if t not in self._known:
            found = self._make(t)
            if found.grid != self.grid:
                raise InputError("a path is kept on one grid for all times", found.grid, "keep its ends at rest")
            self._known[t] = solid(self._with_flux(found), self.names)
        return self._known[t]

    def _with_flux(self, found: Slice) -> Slice:
        """A slice of a law that has no flux of its own, with q v for it."""
        if found.has_flux or "flux" not in self.names:
            return found

        def compute(name: str) -> Field:
            if name != "flux":
                return found.field(name)
            v = found.field("velocity")
            with np.errstate(all="ignore"):
                errors = {c: np.nan_to_num(found.density * v.errors[c], posinf=_LARGEST) for c in CAUSES}
                return Field(np.nan_to_num(found.density * v.value), errors)

        return replace(found, compute=compute, _fields={})

    def _misfit(self, panel: list[Slice], low: float, high: float) -> tuple[dict[str, np.ndarray], float]:
        """Largest misfit of every field at the faces between the nodes, and its size in units of what is allowed."""
        table, ratio = self._joined([panel], []), 0.0
        gaps = {name: np.zeros(self.grid.cells + 1) for name in self.names}
        for place in TESTED:
            truth = self._slice(0.5 * (low + high) + 0.5 * (high - low) * place)
            fit = table.slice(truth.time)
            trusted = truth.field("logpdf").total < _TRUSTED
            trusted &= truth.field("logpdf").value > truth.field("logpdf").value.max() - _FAINT
            for name in self.names:
                gap = np.abs(fit.field(name).value - truth.field(name).value)
                if name == "cdf":
                    gap = np.maximum(np.abs(fit.below - truth.below), np.abs(fit.above - truth.above))
                gap = np.nan_to_num(gap, nan=_LARGEST, posinf=_LARGEST)
                gaps[name] = np.maximum(gaps[name], gap)
                if trusted.any():
                    ratio = max(ratio, float((gap / allowed(truth, name, self.demand.floor))[trusted].max()))
        return gaps, ratio

    def _with_gaps(self, panel: list[Slice], gaps: dict[str, np.ndarray]) -> list[Slice]:
        """The misfit joins the errors in time."""
        fields = [{} for _ in panel]  # type: list[dict[str, Field]]
        for name, gap in gaps.items():
            wide = _SAFETY * maximum_filter1d(np.minimum(gap, 0.1 * _LARGEST), _SPREAD, mode="nearest")
            for k, row in enumerate(panel):
                known = row.field(name)
                fields[k][name] = replace(
                    known, errors=known.errors | {"time": _rounded_up(known.errors["time"] + wide)}
                )
        return [
            Slice(row.grid, row.time, row.masses, found.__getitem__, row.absorbed, row.has_flux)
            for row, found in zip(panel, fields, strict=True)
        ]

    def _joined(self, panels: list[list[Slice]], alone: list[Slice]) -> Table:
        rows = [*alone, *panels[0]]
        for panel in panels[1:]:
            rows[-1] = _worse(rows[-1], panel[0])
            rows += panel[1:]
        return Table(
            self.grid,
            self.origin,
            len(alone),
            np.array([row.time for row in rows]),
            np.array([row.masses for row in rows]),
            np.array([row.absorbed for row in rows]),
            {name: np.array([row.field(name).value for row in rows]) for name in self.names if name != "cdf"},
            {name: {c: np.array([row.field(name).errors[c] for row in rows]) for c in CAUSES} for name in self.names},
            self.demand.counted,
        )


def _nodes(low: float, high: float) -> list[float]:
    inner = 0.5 * (low + high) - 0.5 * (high - low) * np.cos(np.pi * np.arange(1, NODES - 1) / (NODES - 1))
    return [low, *inner.tolist(), high]


def _worse(left: Slice, right: Slice) -> Slice:
    """The node that two panels share, with the larger of the errors."""

    def compute(name: str) -> Field:
        one, other = left.field(name), right.field(name)
        return Field(one.value, {c: np.maximum(one.errors[c], other.errors[c]) for c in CAUSES})

    return replace(left, compute=compute, _fields={})


def allowed(truth: Slice, name: str, floor: float) -> np.ndarray:
    """What a field may be off by at the faces: its own error, there or in its norm, or the floor."""
    known = truth.field(name)
    known = Field(known.value, {cause: error.astype(float) for cause, error in known.errors.items()})
    value, own = np.abs(known.value), known.total
    if name == "cdf":
        return np.maximum(own.max(), floor) * np.ones(own.size)
    if name in ("flux", "pdf"):
        return np.maximum(own, max(own.max(), floor * value.max())) + 1e-300
    if name == "logpdf":
        norm = sum(relative_errors(known).values())
        return np.maximum(np.maximum(own, norm), floor * (1.0 + value))
    mass = truth.density * trapezoid(truth.grid)
    region = (truth.below > 1e-6) & (truth.above > 1e-6)
    with np.errstate(over="ignore"):
        norm, size = (float(np.sqrt((mass * part**2)[region].sum())) for part in (own, value))
    return np.maximum(np.maximum(own, norm), floor * (size + value) + 1e-300)
