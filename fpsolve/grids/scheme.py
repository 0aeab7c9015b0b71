"""One level of the tableau: backward Euler on one grid along one schedule of steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsolve.errors import CoefficientError
from fpsolve.kernels.coefficients import OK, RAISED
from fpsolve.kernels.finite_volume import advance, follow
from fpsolve.problem.grid import Grid
from fpsolve.problem.process import Process

# one kernel call lasts about 20 ms: afterwards Python sees Ctrl-C
_CELL_STEPS_PER_CALL = 2_000_000


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

    `absorbed` (T, 2) are the sums of the fluxes through the ends over all steps; `vanishing` says at which ends q = 0,
    `ring` whether the ends are joined. The row of the very first time holds the state after one step, which tends to
    the initial one with the step.
    """

    grid: Grid
    mass: np.ndarray
    flux: np.ndarray
    tau: np.ndarray
    absorbed: np.ndarray
    vanishing: tuple[bool, bool]
    ring: bool


class Stepper:
    """Steps masses of one process; counts its work."""

    def __init__(self, process: Process, t_span: tuple[float, float]) -> None:
        self.process, self.t_span = process, t_span
        self._coefficients = (process.drift_coefficient, process.diffusion_coefficient)
        self.ring = process.boundary[0] == "periodic"
        self.moves = tuple(coefficient.uses_t for coefficient in self._coefficients)
        self.cell_steps = 0
        self.evaluations = 0
        self.prepare(0, 0)

    def __getstate__(self) -> dict[str, Any]:
        """Travel without addresses of this process."""
        return {name: value for name, value in self.__dict__.items() if name != "blocks"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.prepare(0, 0)

    def prepare(self, cells: int, steps: int) -> None:
        """Choose how the coefficients are called, for work to come: machine code is worth its making only for much."""
        self.blocks = [
            coefficient.block(steps * cells, self.t_span, steps) if moves else coefficient.block(cells, self.t_span)
            for coefficient, moves in zip(self._coefficients, self.moves, strict=True)
        ]

    def absorbing(self, grid: Grid) -> tuple[bool, bool]:
        """Which ends of the grid absorb: those of the support, and those next to an end to which cells shrink."""
        ends = ((grid.left, grid.left_wall), (grid.right, grid.right_wall))
        declared = zip(ends, self.process.support, self.process.boundary, strict=True)
        left, right = (kind == "absorbing" and wall in end for end, wall, kind in declared)
        return left, right

    def vanishing(self, grid: Grid) -> tuple[bool, bool]:
        """At which ends of the grid q = 0: absorbing ones with noise; where g vanishes, mass runs out as it comes."""
        process, middle = self.process, 0.5 * sum(self.t_span)
        declared = zip((grid.left, grid.right), process.support, process.boundary, strict=True)
        left, right = (
            kind == "absorbing" and end == wall and float(process.diffusion_squared(end, middle)) > 0.0
            for end, wall, kind in declared
        )
        return left, right

    def points(self, grid: Grid, absorbing: tuple[bool, bool] = (False, False)) -> tuple[Any, ...]:
        """Places, distances and kinds of the ends, as `kernels.finite_volume.rates_at` takes them."""
        faces = grid.faces[0 if absorbing[0] or self.ring else 1 : None if absorbing[1] or self.ring else -1]
        spots = np.concatenate([grid.x, grid.faces[[0, -1]][list(absorbing)]])
        reaches = np.array([grid.x[0] - grid.left, grid.right - grid.x[-1]])
        around = grid.nodes(np.array([-0.5, grid.cells + 0.5])) if any(absorbing) else grid.faces[[0, -1]]
        gaps = np.diff(np.concatenate([around[:1], grid.x, around[1:]]))
        gaps[[0, -1]] = reaches.sum() if self.ring else gaps[[0, -1]]
        reaches[~np.array(self.vanishing(grid))] = np.inf  # nothing spreads through a wall without noise
        return faces.copy(), spots, grid.widths.copy(), gaps, reaches, (*absorbing, self.ring)

    def run(self, mass: np.ndarray, times: np.ndarray, points: tuple[Any, ...], change: np.ndarray) -> np.ndarray:
        """Step `mass` in place through `times`; `change` becomes what the last step added.

        Returns (2, 2): masses that left through the left and the right end, and fluxes J there in the last step.
        """
        drift, noise = ((block.address, block.params) for block in self.blocks)
        ends = np.zeros((2, 2))
        stride = max(1, _CELL_STEPS_PER_CALL // mass.size)
        for first in range(0, times.size - 1, stride):
            part = np.ascontiguousarray(times[first : first + stride + 1])
            status, done = advance(mass, part, points, drift, noise, change, ends, self.moves)
            if status != OK:
                self._explain(status, float(part[done + 1]), points)
            self.cell_steps += mass.size * (part.size - 1)
            self.evaluations += sum(mass.size * (part.size - 1 if moves else 1) for moves in self.moves)
        return ends

    def follow(
        self, mass: np.ndarray, state: np.ndarray, limits: tuple[float, ...], points: tuple[Any, ...]
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

    def _explain(self, status: int, t: float, points: tuple[Any, ...]) -> None:
        if status == RAISED:
            for block in self.blocks:
                block.raise_stored()
        self.process.drift(points[0], t)  # the checked call names the coefficient, the point and the value
        self.process.diffusion(points[1], t)
        raise CoefficientError("g² must be finite on the grid", f"an overflow at t={t:g}", "bound the diffusion")

    def solve(self, grid: Grid, mass: np.ndarray, schedule: Schedule, factor: int) -> Level:
        """Solve on `grid` from cell masses with `factor` times the coarsest steps."""
        absorbing = self.absorbing(grid)
        points, state, change, gone = self.points(grid, absorbing), mass.copy(), np.zeros_like(mass), np.zeros(2)
        rows = {int(k): row for row, k in enumerate(schedule.saved)}
        saved = np.empty((len(rows), mass.size))
        flux = np.zeros((len(rows), mass.size + 1))
        tau, absorbed, through = np.empty(len(rows)), np.empty((len(rows), 2)), np.zeros(2)

        def run(times: np.ndarray) -> None:
            leaving, through[:] = self.run(state, times, points, change)
            gone[:] += leaving

        def save(row: int, step: float) -> None:
            saved[row], tau[row], absorbed[row] = state, step, gone
            flux[row] = fluxes(change / step, through, gone[0] + np.cumsum(state))

        for k in range(len(schedule.counts)):
            times = schedule.segment(k, factor)
            if k == 0 and 0 in rows:
                run(times[:2])
                save(rows[0], times[1] - times[0])
                times = times[1:]
            if times.size > 1:
                run(times)
            if k + 1 in rows:
                save(rows[k + 1], schedule.landings[k + 1] - schedule.segment(k, factor)[-2])
        return Level(grid, saved, flux, tau, absorbed, self.vanishing(grid), self.ring)


def fluxes(rates: np.ndarray, through: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """J at all faces from rates of change of masses, summed from the nearer end so that small tails stay exact.

    `through` are the fluxes through both ends, `lower` is F at the right faces of the cells.
    """
    from_left = through[0] - np.concatenate([[0.0], np.cumsum(rates)])
    from_right = through[1] + np.concatenate([np.cumsum(rates[::-1])[::-1], [0.0]])
    result = np.where(np.append(0.0, lower) < 0.5, from_left, from_right)
    result[0], result[-1] = through
    return result
