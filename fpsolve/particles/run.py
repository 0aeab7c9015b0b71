"""One run of the stepping kernel: a task moves some paths through all segments and reduces what it saw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from fpsolve.errors import CoefficientError
from fpsolve.kernels.coefficients import Block
from fpsolve.kernels.stepping import (
    COEFFICIENT_OVERFLOW,
    DONE,
    FUNCTIONAL_OVERFLOW,
    LEFT_SUPPORT,
    NOT_FINITE,
    OVERFLOW,
    RAISED,
    Limits,
    Paths,
    Table,
    advance,
)
from fpsolve.particles.moments import Moments
from fpsolve.particles.plan import Segment
from fpsolve.particles.workers import Stopped
from fpsolve.problem.coefficient import Binding, Coefficient, check_finite, checked_array

CAUSES = {
    LEFT_SUPPORT: "it left the support through a natural end",
    OVERFLOW: "its position overflowed",
    COEFFICIENT_OVERFLOW: "a coefficient overflowed far out",
    FUNCTIONAL_OVERFLOW: "a functional of it overflowed",
}
BLOCK = 512  # paths that the kernel handles at a time: their arrays fit the first-level cache
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
    """What a task hands back; rows of Moments are the fine value and, if coupled, coarse minus fine."""

    n_paths: int
    observables: list[Moments]  # one per save time, rows (observables, 1 or 2)
    functionals: Moments  # rows (functionals, 1 or 2)
    lost: Lost

    def merged(self, other: Report) -> Report:
        """Reports of all paths of both."""
        return Report(
            self.n_paths + other.n_paths,
            [a.merged(b) for a, b in zip(self.observables, other.observables, strict=True)],
            self.functionals.merged(other.functionals),
            self.lost.merged(other.lost),
        )


class Store(NamedTuple):
    """Arrays over all paths that tasks fill: level 0 the fine paths, level 1 the coarse ones if coupled."""

    x: np.ndarray  # (levels, rows, n_paths)
    sums: np.ndarray  # (levels, functionals, n_paths)


@dataclass(frozen=True)
class Run:
    """Everything that the tasks of one `simulate` share."""

    n_paths: int
    path_steps: float
    segments: Sequence[Segment]
    save_at: np.ndarray
    keep: str
    key: int
    coefficients: Sequence[Coefficient]
    blocks: Sequence[Block]
    limits: Limits
    observables: Mapping[str, Binding]
    coupled: bool
    store: Store
    stop: np.ndarray = field(default_factory=lambda: np.zeros(1, np.uint8))

    @property
    def task_size(self) -> int:
        """Paths per task: a function of the problem alone, for the means are summed task by task."""
        if self.calls_python:
            return MAX_TASK
        return min(MAX_TASK, max(1, -(-self.n_paths // 8192)) * 512)

    @property
    def calls_python(self) -> bool:
        """Whether some coefficient calls back into Python."""
        return any(block.how == "python" for block in self.blocks)

    def table(self) -> Table:
        """Coefficients as the kernel sees them."""
        sizes = [block.params.size for block in self.blocks]
        return Table(
            np.array([block.address for block in self.blocks], np.int64),
            np.cumsum([0, *sizes[:-1]]),
            np.concatenate([block.params for block in self.blocks]),
            np.array([coefficient.constant is not None for coefficient in self.coefficients], np.uint8),
        )

    def task(self, first: int, start: np.ndarray) -> Report:
        """Move the paths first ... from `start` (n,) to the end; fill the store; return the reductions."""
        try:
            return self._moved(first, start)
        except BaseException:
            self.stop[0] = 1
            raise

    def _moved(self, first: int, start: np.ndarray) -> Report:
        levels = [self._paths(start), self._paths(start if self.coupled else start[:0])]
        used = levels[: 1 + self.coupled]
        rows = {float(t): row for row, t in enumerate(self.save_at)}
        moments: list[Moments] = []
        if self.segments[0].t0 in rows:
            moments.append(self._saved(first, used, 0, self.segments[0].t0))
        table = self.table()
        for segment in self.segments:
            self._advance(first, levels, segment, table)
            if segment.t1 in rows:
                moments.append(self._saved(first, used, rows[segment.t1], segment.t1))
        window = slice(first, first + start.size)
        if self.keep == "final":
            self._write_positions(used, 0, window)
        living = _living(used)
        if self.keep != "none":
            for level, paths in enumerate(used):
                self.store.sums[level, :, window] = np.where(living, paths.sums, np.nan)
        sums = _with_difference(np.array([paths.sums[:, living] for paths in used]))
        return Report(start.size, moments, Moments.of(sums), _lost(used, first, start))

    def warm(self) -> None:
        """Compile or load the kernel in the calling thread, where Ctrl-C can interrupt it."""
        nobody = self._paths(np.zeros(0))
        self._call(0, [nobody, nobody], self.segments[0], self.table(), np.zeros(4))

    def _paths(self, start: np.ndarray) -> Paths:
        n = start.size
        sums = np.zeros((len(self.coefficients) // 2 - 1, n))
        return Paths(np.array(start, dtype=float), sums, np.full(n, np.inf), np.zeros(n, np.uint8))

    def _call(self, first: int, levels: list[Paths], segment: Segment, table: Table, report: np.ndarray) -> int:
        split = 2 if self.coupled else 1
        k0 = segment.first_step * split
        noisy = any(not coefficient.is_zero for coefficient in self.coefficients[1::2])
        block = MAX_TASK if self.calls_python else BLOCK
        return advance(
            *levels, first, np.uint64(self.key), noisy, block, k0, k0 + segment.steps * split, segment.t0,
            segment.step / split, table, self.limits, self.stop, report,
        )  # fmt: skip

    def _advance(self, first: int, levels: list[Paths], segment: Segment, table: Table) -> None:
        report = np.zeros(4)
        status = self._call(first, levels, segment, table, report)
        if status == DONE:
            return
        if status not in (RAISED, NOT_FINITE):
            raise Stopped
        row, t = int(report[0]), float(report[1])
        coefficient = self.coefficients[row]
        if status == NOT_FINITE:
            raise CoefficientError(
                f"the {coefficient.what} must be finite on the support",
                f"a value that is not, at x={report[2]:.6g}, t={t:.6g}, on path {first + int(report[3])}",
                "correct it there, or declare support= without that point",
            )
        try:
            self.blocks[row].raise_stored()
        except BaseException as exception:
            exception.add_note(f"raised by the {coefficient.what} in simulate at t={t:.6g}, paths {first} and on")
            raise
        raise Stopped  # another thread has taken the exception of this coefficient

    def _saved(self, first: int, used: list[Paths], row: int, t: float) -> Moments:
        if self.keep == "saved":
            self._write_positions(used, row, slice(first, first + used[0].x.size))
        living = _living(used)
        values = [[_observed(name, fn, paths.x[living], t) for name, fn in self.observables.items()] for paths in used]
        return Moments.of(_with_difference(np.array(values).reshape(len(used), len(self.observables), living.sum())))

    def _write_positions(self, used: list[Paths], row: int, window: slice) -> None:
        living = _living(used)
        for level, paths in enumerate(used):
            self.store.x[level, row, window] = np.where(living, paths.x, np.nan)


def _living(used: list[Paths]) -> np.ndarray:
    """Paths that no level has lost: what a coupled pair lost on one level is lost on both."""
    return np.logical_and.reduce([np.isinf(paths.lost) for paths in used])


def _with_difference(levels: np.ndarray) -> np.ndarray:
    """From (levels, rows, n) to (rows, levels, n): the fine value and, if there is a coarse one, coarse minus fine."""
    parts = [levels[0], levels[1] - levels[0]] if len(levels) == 2 else [levels[0]]
    return np.stack(parts, axis=1)


def _observed(name: str, fn: Binding, x: np.ndarray, t: float) -> np.ndarray:
    if x.size == 0:
        return x
    try:
        with np.errstate(all="ignore"):  # what is not finite is refused below
            result = fn(x=x.copy(), t=t)
    except BaseException as exception:
        exception.add_note(f"raised by observable {name!r} in simulate at t={t:.6g}")
        raise
    return check_finite(fn.what, checked_array(fn.what, result, x, t), x, t)


def _lost(used: list[Paths], first: int, start: np.ndarray) -> Lost:
    times = np.min([paths.lost for paths in used], axis=0)
    count = int(np.isfinite(times).sum())
    if not count:
        return Lost()
    j = int(np.argmin(times))
    cause = next(int(paths.cause[j]) for paths in used if paths.lost[j] == times[j])
    return Lost(count, float(times[j]), first + j, float(start[j]), cause)
