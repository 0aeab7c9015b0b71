"""One run of the stepping kernel: a task moves some paths through all segments and reduces what it saw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from fpsolve.errors import CoefficientError
from fpsolve.kernels.brownian import Noise
from fpsolve.kernels.coefficients import Block
from fpsolve.kernels.schemes import DONE, NOT_FINITE, RAISED, Method, Table
from fpsolve.kernels.stepping import (
    ABSORBED_LEFT,
    COEFFICIENT_OVERFLOW,
    FUNCTIONAL_OVERFLOW,
    INTEGRAL,
    LEFT_REGION,
    LEFT_SUPPORT,
    OVERFLOW,
    STAGE_FAILED,
    Paths,
    advance,
)
from fpsolve.kernels.walls import ABSORBING, Limits
from fpsolve.particles.histogram import Histogram
from fpsolve.particles.moments import Moments
from fpsolve.particles.plan import Segment
from fpsolve.particles.workers import Stopped
from fpsolve.problem.coefficient import Binding, Coefficient, check_finite, checked_array

CAUSES = {
    LEFT_SUPPORT: "it left the support through a natural end",
    OVERFLOW: "its position overflowed",
    COEFFICIENT_OVERFLOW: "a coefficient overflowed far out",
    FUNCTIONAL_OVERFLOW: "a functional of it overflowed",
    LEFT_REGION: "it left the region in which the density behind a coefficient is known",
    STAGE_FAILED: "a stage of its step was not a number (outside the support?), or an implicit step was not solved",
}
BLOCK = 512  # paths that the kernel handles at a time: their arrays fit the first-level cache
ALL = slice(None)
MAX_TASK = 8192  # paths per task; a callback into Python gets all of them at once


@dataclass(frozen=True)
class Lost:
    """How many paths were lost, and the earliest of them."""

    count: int = 0
    time: float = math.inf
    path: int = -1
    start: float = math.nan
    cause: int = 0

    def merged(self, other: Lost) -> Lost:
        """Both counts, and the earlier path."""
        first = min(self, other, key=lambda lost: (lost.time, lost.path))
        return replace(first, count=self.count + other.count)

    @property
    def stats(self) -> dict[str, Any]:
        """For `Ensemble.stats`; None where nothing was lost."""
        first = {"first_path": self.path, "first_time": self.time, "start": self.start, "cause": CAUSES.get(self.cause)}
        return {"count": self.count} | (first if self.count else dict.fromkeys(first))

    def __str__(self) -> str:
        return (
            f"{self.count} path(s) lost, first path {self.path} at t={self.time:.6g} "
            f"from x={self.start:.6g}: {CAUSES[self.cause]}"
        )


class Report(NamedTuple):
    """Reductions of a task; rows of Moments are the fine value and, if coupled, coarse minus fine."""

    n_paths: int
    observables: list[list[Moments]]  # by save time and observable, rows (1 or 2), or (bins, 1 or 2)
    functionals: Moments  # rows (functionals, 1 or 2)
    lost: Lost

    def merged(self, other: Report) -> Report:
        """Reports of all paths of both."""
        return Report(
            self.n_paths + other.n_paths,
            [
                [a.merged(b) for a, b in zip(mine, theirs, strict=True)]
                for mine, theirs in zip(self.observables, other.observables, strict=True)
            ],
            self.functionals.merged(other.functionals),
            self.lost.merged(other.lost),
        )


class Kept(NamedTuple):
    """Arrays over paths: level 0 the fine paths, level 1 the coarse ones if coupled."""

    x: np.ndarray  # (levels, rows, paths)
    sums: np.ndarray  # (levels, functionals, paths)
    absorbed_at: np.ndarray  # (levels, paths)


class Piece(NamedTuple):
    """What a task hands back."""

    first: int
    report: Report
    kept: Kept


@dataclass(frozen=True)
class Run:
    """Everything that the tasks of one `simulate` share."""

    n_paths: int
    path_steps: float
    values: float  # of each coefficient
    calls: float  # that would fetch them from Python
    segments: Sequence[Segment]
    save_at: np.ndarray
    keep: str
    noise: Noise
    method: Method
    step: Block | None  # a user's own
    coefficients: Sequence[Coefficient]
    blocks: Sequence[Block]
    kinds: np.ndarray
    limits: Limits
    observables: Mapping[str, Binding]
    coupled: bool
    stop: np.ndarray = field(default_factory=lambda: np.zeros(1, np.uint8))

    @property
    def task_size(self) -> int:
        """Paths per task: a function of the problem alone, for the means are summed task by task."""
        if self.calls_python:
            return MAX_TASK
        return min(MAX_TASK, max(1, -(-self.n_paths // 8192)) * 512)

    @property
    def calls_python(self) -> bool:
        """Whether something calls back into Python."""
        return self.step is not None or any(block.how == "python" for block in self.blocks)

    @property
    def absorbs(self) -> bool:
        """Whether an end absorbs."""
        return ABSORBING in (self.limits.at_left, self.limits.at_right)

    @property
    def kept_rows(self) -> int:
        """Times at which positions are kept."""
        return {"none": 0, "final": 1, "saved": self.save_at.size}[self.keep]

    def room(self, n_paths: int) -> Kept:
        """Arrays to fill for that many paths."""
        levels = 2 if self.coupled else 1
        n_sums = n_paths if self.keep != "none" else 0
        return Kept(
            np.empty((levels, self.kept_rows, n_paths)),
            np.empty((levels, self.kinds.size, n_sums)),
            np.empty((levels, n_sums if self.absorbs else 0)),
        )

    def table(self) -> Table:
        """Coefficients as the kernel sees them."""
        sizes = [block.params.size for block in self.blocks]
        return Table(
            np.array([block.address for block in self.blocks], np.int64),
            np.cumsum([0, *sizes[:-1]]),
            np.concatenate([block.params for block in self.blocks]),
            np.array([coefficient.constant is not None for coefficient in self.coefficients], np.uint8),
            np.array([bool(coefficient.built_on) for coefficient in self.coefficients], np.uint8),
        )

    def task(self, first: int, start: np.ndarray) -> Piece:
        """Move the paths first ... from `start` (n,) to the end."""
        try:
            return self._moved(first, start)
        except BaseException:
            self.stop[0] = 1
            raise

    def _moved(self, first: int, start: np.ndarray) -> Piece:
        levels = [self._paths(start), self._paths(start if self.coupled else start[:0])]
        used, kept = levels[: 1 + self.coupled], self.room(start.size)
        rows = {float(t): row for row, t in enumerate(self.save_at)}
        moments: list[list[Moments]] = []
        if self.segments[0].t0 in rows:
            moments.append(self._saved(kept, used, 0, self.segments[0].t0))
        table = self.table()
        for segment in self.segments:
            self._advance(first, levels, segment, table)
            if segment.t1 in rows:
                moments.append(self._saved(kept, used, rows[segment.t1], segment.t1))
        if self.keep == "final":
            _write_positions(kept, used, 0)
        sound = _sound(used)
        if self.keep != "none":
            for level, paths in enumerate(used):
                kept.sums[level] = paths.sums if sound is ALL else np.where(sound, paths.sums, np.nan)
                if self.absorbs:
                    kept.absorbed_at[level] = np.where(paths.cause >= ABSORBED_LEFT, paths.ended, np.inf)
        sums = _with_difference(np.array([paths.sums[:, sound] for paths in used]))
        report = Report(start.size, moments, Moments.of(self._units(sums)), _lost(used, first, start))
        return Piece(first, report, kept)

    def _units(self, values: np.ndarray) -> np.ndarray:
        """Independent values (..., n): means of pairs if paths are antithetic and none is missing."""
        if not self.noise.antithetic or values.shape[-1] % 2:
            return values
        return 0.5 * (values[..., 0::2] + values[..., 1::2])

    def warm(self) -> None:
        """Compile or load the kernel in the calling thread, where Ctrl-C can interrupt it."""
        nobody = self._paths(np.zeros(0))
        self._call(0, [nobody, nobody], self.segments[0], self.table(), np.zeros(4))

    def _paths(self, start: np.ndarray) -> Paths:
        n = start.size
        sums = np.zeros((self.kinds.size, n))
        sums[self.kinds != INTEGRAL] = start
        return Paths(np.array(start, dtype=float), sums, np.full(n, np.inf), np.zeros(n, np.uint8))

    def _call(self, first: int, levels: list[Paths], segment: Segment, table: Table, report: np.ndarray) -> int:
        split = 2 if self.coupled else 1
        k0 = segment.first_step * split
        block = MAX_TASK if self.calls_python else BLOCK
        return advance(
            *levels, first, self.noise, block, k0, k0 + segment.steps * split, segment.t0, segment.step / split,
            self.method, table, self.kinds, self.limits, self.stop, report,
        )  # fmt: skip

    def _advance(self, first: int, levels: list[Paths], segment: Segment, table: Table) -> None:
        report = np.zeros(4)
        status = self._call(first, levels, segment, table, report)
        if status == DONE:
            return
        if status not in (RAISED, NOT_FINITE):
            raise Stopped
        row, t = int(report[0]), float(report[1])
        if status == NOT_FINITE:
            raise CoefficientError(
                f"the {self.coefficients[row].what} must be finite on the support",
                f"a value that is not, at x={report[2]:.6g}, t={t:.6g}, on path {first + int(report[3])}",
                "correct it there, or declare support= without that point",
            )
        block = self.step if row < 0 else self.blocks[row]
        try:
            block.raise_stored()  # type: ignore[union-attr]
        except BaseException as exception:
            what = "step of the scheme" if row < 0 else self.coefficients[row].what
            exception.add_note(f"raised by the {what} in simulate at t={t:.6g}, paths {first} and on")
            raise
        raise Stopped  # another thread has taken the exception of this coefficient

    def _saved(self, kept: Kept, used: list[Paths], row: int, t: float) -> list[Moments]:
        if self.keep == "saved":
            _write_positions(kept, used, row)
        sound = _sound(used)
        found = []
        for name, fn in self.observables.items():
            values = [_observed(name, fn, paths.x[sound], t, np.isinf(paths.ended[sound])) for paths in used]
            found.append(Moments.of(self._units(_with_difference(np.array(values)))))
        return found


def _write_positions(kept: Kept, used: list[Paths], row: int) -> None:
    sound = _sound(used)
    for level, paths in enumerate(used):
        kept.x[level, row] = paths.x if sound is ALL else np.where(sound, paths.x, np.nan)


def _is_lost(paths: Paths) -> np.ndarray:
    return (paths.cause > 0) & (paths.cause < ABSORBED_LEFT)


def _sound(used: list[Paths]) -> Any:
    """Index of the paths that no level has lost: what a coupled pair lost on one level is lost on both."""
    if not any(paths.cause.any() for paths in used):
        return ALL
    return ~np.logical_or.reduce([_is_lost(paths) for paths in used])


def _with_difference(levels: np.ndarray) -> np.ndarray:
    """From (levels, ..., n) to (..., levels, n): the fine value and, if there is a coarse one, coarse minus fine."""
    parts = [levels[0], levels[1] - levels[0]] if len(levels) == 2 else [levels[0]]
    return np.stack(parts, axis=-2)


def _observed(name: str, fn: Binding, x: np.ndarray, t: float, alive: np.ndarray) -> np.ndarray:
    if x.size == 0:
        return np.empty((fn.fn.edges.size - 1, 0)) if isinstance(fn.fn, Histogram) else x
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused below
            result = fn(x=x.copy(), t=t, alive=alive)
    except BaseException as exception:
        exception.add_note(f"raised by observable {name!r} in simulate at t={t:.6g}")
        raise
    if isinstance(fn.fn, Histogram):
        return result
    return check_finite(fn.what, checked_array(fn.what, result, x, t), x, t)


def _lost(used: list[Paths], first: int, start: np.ndarray) -> Lost:
    if not any(paths.cause.any() for paths in used):
        return Lost()
    times = np.min([np.where(_is_lost(paths), paths.ended, np.inf) for paths in used], axis=0)
    count = int(np.isfinite(times).sum())
    if not count:
        return Lost()
    j = int(np.argmin(times))
    cause = next(int(paths.cause[j]) for paths in used if _is_lost(paths)[j] and paths.ended[j] == times[j])
    return Lost(count, float(times[j]), first + j, float(start[j]), cause)
