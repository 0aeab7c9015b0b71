"""One level of the tableau: backward Euler on one grid along one schedule of steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpsolve.errors import CoefficientError
from fpsolve.kernels.coefficients import OK, RAISED
from fpsolve.kernels.finite_volume import advance, follow
from fpsolve.problem.grid import Grid
from fpsolve.problem.process import Process

# one kernel call lasts about 20 ms: afterwards Python sees Ctrl-C
_CELL_STEPS_PER_CALL = 2_000_000
# a call back into Python costs as much as so many values
_VALUES_PER_CALL = 6000


@dataclass(frozen=True)
class Schedule:
    """Landing times; between two of them steps grow like e^(bend s), s uniform in [0, 1], so that halving is smooth.

    `landings` (K+1,), `bends` (K,), `counts` (K,) steps at the coarsest level, `saved` indices of requested landings.
    """

    landings: np.ndarray
    bends: np.ndarray
    counts: np.ndarray
    saved: np.ndarray

    def segment(self, k: int, factor: int) -> np.ndarray:
        """Times from landing k to landing k+1 in counts[k] * factor steps, both ends exact."""
        s = np.arange(self.counts[k] * factor + 1) / (self.counts[k] * factor)
        bend, start, end = self.bends[k], self.landings[k], self.landings[k + 1]
        parts = s if abs(bend) < 1e-8 else np.expm1(bend * s) / np.expm1(bend)
        times = start + (end - start) * parts
        times[-1] = end
        return times

    @property
    def steps(self) -> int:
        """Steps at the coarsest level."""
        return int(self.counts.sum())


@dataclass(frozen=True)
class Level:
    """State at the saved times: `mass` (T, cells), `flux` (T, cells + 1) from -∂t F, `tau` (T,) the last step.

    The row of the very first time holds the state after one step, which tends to the initial one with the step.
    """

    grid: Grid
    mass: np.ndarray
    flux: np.ndarray
    tau: np.ndarray


class Stepper:
    """Steps masses of one process; counts its work."""

    def __init__(self, process: Process, t_span: tuple[float, float]) -> None:
        self.process, self.t_span = process, t_span
        self._coefficients = (process.drift_coefficient, process.diffusion_coefficient)
        self.moves = tuple(coefficient.uses_t for coefficient in self._coefficients)
        self.cell_steps = 0
        self.evaluations = 0
        self.prepare(0, 0)

    def prepare(self, cells: int, steps: int) -> None:
        """Choose how the coefficients are called, for work to come: machine code is worth its making only for much."""
        self.blocks = [
            coefficient.block(steps * (cells + _VALUES_PER_CALL) if moves else cells, self.t_span)
            for coefficient, moves in zip(self._coefficients, self.moves, strict=True)
        ]

    def points(self, grid: Grid) -> tuple[np.ndarray, ...]:
        """Inner faces, centres, widths and distances of centres, as the kernel takes them."""
        return grid.faces[1:-1].copy(), grid.x.copy(), grid.widths.copy(), np.diff(grid.x)

    def run(self, mass: np.ndarray, times: np.ndarray, points: tuple[np.ndarray, ...], change: np.ndarray) -> None:
        """Step `mass` in place through `times`; `change` becomes what the last step added."""
        drift, noise = ((block.address, block.params) for block in self.blocks)
        stride = max(1, _CELL_STEPS_PER_CALL // mass.size)
        for first in range(0, times.size - 1, stride):
            part = np.ascontiguousarray(times[first : first + stride + 1])
            status, done = advance(mass, part, points, drift, noise, change, self.moves)
            if status != OK:
                self._explain(status, float(part[done + 1]), points)
            self.cell_steps += mass.size * (part.size - 1)
            self.evaluations += sum(mass.size * (part.size - 1 if moves else 1) for moves in self.moves)

    def follow(
        self, mass: np.ndarray, state: np.ndarray, limits: tuple[float, ...], points: tuple[np.ndarray, ...]
    ) -> tuple[np.ndarray, ...]:
        """Adaptive steps of `mass` in place, from state[0] on; what `kernels.finite_volume.follow` records of them."""
        drift, noise = ((block.address, block.params) for block in self.blocks)
        rows = max(16, _CELL_STEPS_PER_CALL // (4 * mass.size))
        record = (*np.empty((2, rows)), np.empty((rows, 2)), *np.empty((2, rows, 2), int))
        status, done = follow(mass, state, limits, points, drift, noise, self.moves, *record)
        if status != OK:
            self._explain(status, float(state[0]), points)
        self.cell_steps += mass.size * done
        self.evaluations += sum(mass.size * (done if moves else 1) for moves in self.moves)
        return tuple(part[:done] for part in record)

    def _explain(self, status: int, t: float, points: tuple[np.ndarray, ...]) -> None:
        if status == RAISED:
            for block in self.blocks:
                block.raise_stored()
        self.process.drift(points[0], t)  # the checked call names the coefficient, the point and the value
        self.process.diffusion(points[1], t)
        raise CoefficientError("g² must be finite on the grid", f"an overflow at t={t:g}", "bound the diffusion")

    def solve(self, grid: Grid, mass: np.ndarray, schedule: Schedule, factor: int) -> Level:
        """Solve on `grid` from cell masses with `factor` times the coarsest steps."""
        points, state, change = self.points(grid), mass.copy(), np.zeros_like(mass)
        rows = {int(k): row for row, k in enumerate(schedule.saved)}
        saved = np.empty((len(rows), mass.size))
        flux = np.zeros((len(rows), mass.size + 1))
        tau = np.empty(len(rows))

        def save(row: int, step: float) -> None:
            saved[row], tau[row] = state, step
            flux[row] = -increase_of_cdf(change, state) / step

        for k in range(len(schedule.counts)):
            times = schedule.segment(k, factor)
            if k == 0 and 0 in rows:
                self.run(state, times[:2], points, change)
                save(rows[0], times[1] - times[0])
                times = times[1:]
            if times.size > 1:
                self.run(state, times, points, change)
            if k + 1 in rows:
                save(rows[k + 1], schedule.landings[k + 1] - schedule.segment(k, factor)[-2])
        return Level(grid, saved, flux, tau)


def increase_of_cdf(change: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Change of F at all faces from changes of masses, summed from the nearer end so that small tails stay exact."""
    from_left = np.concatenate([[0.0], np.cumsum(change)])
    from_right = np.concatenate([-np.cumsum(change[::-1])[::-1], [0.0]])
    lower = np.concatenate([[0.0], np.cumsum(mass)])
    result = np.where(lower < 0.5, from_left, from_right)
    result[0] = result[-1] = 0.0
    return result
