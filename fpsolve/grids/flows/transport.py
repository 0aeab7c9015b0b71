"""Levels of the conservative transport scheme: where to compute, how to step, and a state at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp

from fpsolve.errors import CoefficientError, MassEscape
from fpsolve.grids.flows.trajectories import LOST
from fpsolve.grids.flows.velocity import Velocity
from fpsolve.kernels.coefficients import OK, RAISED
from fpsolve.kernels.transport import CLOSED, OPEN, PERIODIC, fluxes_of, reconstruct, transport
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law
from fpsolve.problem.process import Process

COURANT = 0.9  # cells that the fastest face crosses in one step
_TAILS = np.array([1e-15, 1e-13, 1e-11, 1e-9, 1e-7, 1e-5, 1e-3, 1e-2, 0.1, 0.3])
_CLOCK = 65
_CELL_STEPS_PER_CALL = 50_000  # about 20 ms: afterwards Python sees Ctrl-C
_FAST = 1e9


@dataclass(frozen=True)
class Reach:
    """Where the mass is: ends over all times, and the ends of its middle 80 % at each of some times (K, 2)."""

    left: float
    right: float
    cores: np.ndarray


def find_reach(velocity: Velocity, law: Law, t_span: tuple[float, float]) -> Reach:
    """Follow a few quantiles roughly (Bogacki & Shampine 2(3)), to choose a domain only.

    Raises
    ------
    MassEscape
        If a quantile that more than 1e-9 of the mass lies beyond runs to infinity.
    """
    points = np.concatenate([law.ppf(_TAILS), [float(law.ppf(0.5))], law.isf(_TAILS[::-1])])
    tails = np.concatenate([_TAILS, [0.5], _TAILS[::-1]])
    core = float(law.isf(0.1) - law.ppf(0.1))
    clock = np.linspace(*t_span, _CLOCK)

    def overflow(_: float, x: np.ndarray) -> float:
        return _FAST * (np.abs(points).max() + core) - np.abs(x).max()

    overflow.terminal = True  # type: ignore[attr-defined]
    while True:
        with np.errstate(all="ignore"):
            found = solve_ivp(
                lambda t, x: velocity(x, t), t_span, points, "RK23", clock, rtol=1e-3, atol=1e-3 * core, events=overflow
            )
        if found.status == 0:
            break
        last = found.y[:, -1] if found.y.size else points
        if not found.t_events[0].size:
            _check_finite_beyond(velocity, last, float(found.t[-1]), t_span)
        worst = int(np.argmax(np.abs(last - points)))
        side = "left" if worst < points.size // 2 else "right"
        if tails[worst] > LOST:
            time = float(found.t_events[0][0]) if found.t_events[0].size else float(found.t[-1])
            raise MassEscape(
                f"the trajectory from x={points[worst]:.6g} runs to infinity on the {side} near t={time:.6g}, and with "
                f"it more than {tails[worst]:.0e} of the mass. Fix: end t_span earlier, or declare an absorbing end.",
                side=side,
                time=time,
            )
        inner = slice(worst + 1, None) if side == "left" else slice(0, worst)
        points, tails = points[inner], tails[inner]
    low, high = np.flatnonzero(tails == 0.1)[[0, -1]]
    return Reach(float(found.y.min()), float(found.y.max()), found.y[[low, high]].T)


def _check_finite_beyond(velocity: Velocity, x: np.ndarray, t: float, t_span: tuple[float, float]) -> None:
    """Steps also become too small in front of a time from which v is not finite: say that instead."""
    for u in np.linspace(t, min(t_span[1], t + 2.0 * (t_span[1] - t_span[0]) / _CLOCK), 33):
        with np.errstate(all="ignore"):
            bad = ~np.isfinite(velocity(x, float(u)))
        if bad.any():
            raise CoefficientError(
                "the velocity must be finite along the flow",
                f"a value that is not, at x={x[bad][0]:.6g}, t={u:.6g}",
                "correct it there, or end t_span before",
            )


def choose_grid(reach: Reach, process: Process, cells: int) -> Grid:
    """Grid over the reach, graded so that the fewest cells resolve its core at every time."""
    margin = 0.05 * (reach.right - reach.left)
    left, right = process.support
    finite = math.isfinite(left), math.isfinite(right)
    kinds = process.boundary
    near = reach.left - left < reach.right - reach.left, right - reach.right < reach.right - reach.left
    if not (finite[0] and (near[0] or kinds[0] in ("absorbing", "periodic"))):
        left = max(reach.left - margin, left)
    if not (finite[1] and (near[1] or kinds[1] in ("absorbing", "periodic"))):
        right = min(reach.right + margin, right)
    if "periodic" in kinds:
        return Grid(left, right, cells)
    inside = (reach.cores[:, 0] > left) & (reach.cores[:, 1] < right)  # until an absorbing end is reached
    if not inside.any():
        return Grid(left, right, cells)
    low, high = reach.cores[inside].T
    half = np.maximum(0.5 * (high - low), 1e-6 * (right - left))
    best, choice = 1.15 * float(((right - left) / half).max()), (math.inf, 0.5 * (left + right))
    for centre in {0.5 * (low.min() + high.max()), *(0.5 * (low + high))[[0, int(half.argmin()), -1]]}:
        far = np.maximum(np.abs(low - centre), np.abs(high - centre))
        for length in np.geomspace(half.min(), 4.0 * half.max(), 12):
            depth = math.asinh((right - centre) / length) + math.asinh((centre - left) / length)
            needed = depth * float((np.hypot(length, far) / half).max())
            if needed < best:
                best, choice = needed, (float(length), float(centre))
    return Grid(left, right, cells) if math.isinf(choice[0]) else Grid(left, right, cells, *choice)


class Coordinates:
    """The coordinate y of a grid, in cells from its left end, with dy/dx and its logarithmic derivative."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.place = grid.place

    def slope(self, x: np.ndarray) -> np.ndarray:
        """dy/dx in cells per length."""
        return self.grid.slopes(x)[0] / self.grid.step

    def log_slope_dx(self, x: np.ndarray) -> np.ndarray:
        """∂x log dy/dx."""
        first, second = self.grid.slopes(x)
        return second / first


@dataclass(frozen=True)
class State:
    """Cell masses of one level at one time, what has left through both ends, and the polynomials of the cells."""

    grid: Grid
    mass: np.ndarray
    lost: np.ndarray
    quartics: np.ndarray


class Level:
    """One grid, stepped through checkpoints; any time between them is stepped to from the one before."""

    def __init__(self, process: Process, law: Law, t_span: tuple[float, float], grid: Grid, clock: np.ndarray) -> None:
        self.process, self.t_span, self.grid, self.clock = process, t_span, grid, clock
        self.coordinates = Coordinates(grid)
        self.faces = grid.faces.copy()
        self.slope = self.coordinates.slope(self.faces)
        self._coefficient = process.drift_coefficient
        self.ends = np.array([_end(process, grid, side) for side in (0, 1)])
        self.counts = self._counts()
        self.cost = int(self.counts.sum()) * grid.cells
        self.cell_steps = 0
        self._block = self._coefficient.block(10.0 * self.cost, t_span)
        first = np.array(law.cell_masses(grid.faces), dtype=float)
        first[0] += float(law.cdf(grid.left))
        first[-1] += float(law.sf(grid.right))
        self.masses, self.lost = [first], [np.zeros(2)]

    def run(self) -> Level:
        """Step through all checkpoints."""
        for k in range(self.clock.size - 1):
            mass, lost = self._stepped(k, float(self.clock[k + 1]))
            self.masses.append(mass)
            self.lost.append(lost)
        return self

    def _counts(self) -> np.ndarray:
        """Steps between the checkpoints, from the fastest face at nine times in each interval."""
        counts = []
        for start, end in zip(self.clock[:-1], self.clock[1:], strict=True):
            times = np.linspace(start, end, 9) if self._coefficient.uses_t else [start]
            speed = max(float(np.abs(self.process.drift(self.faces, float(t)) * self.slope).max()) for t in times)
            counts.append(max(1, math.ceil((end - start) * speed / COURANT)))
        return np.array(counts)

    def _stepped(self, k: int, t: float) -> tuple[np.ndarray, np.ndarray]:
        """State at time `t` in steps from checkpoint `k`, as long as those of its interval or shorter."""
        start, end = float(self.clock[k]), float(self.clock[k + 1])
        steps = max(1, math.ceil(self.counts[k] * (t - start) / (end - start) * (1.0 - 1e-12)))
        times = np.linspace(start, t, steps + 1)
        mass, lost = self.masses[k].copy(), self.lost[k].copy()
        flux = np.empty(mass.size + 1)
        stride = max(1, _CELL_STEPS_PER_CALL // mass.size)
        for first in range(0, steps, stride):
            part = np.ascontiguousarray(times[first : first + stride + 1])
            status, done = transport(
                mass, part, self.faces, self.slope, self._velocity(), self._coefficient.uses_t, self.ends, lost, flux
            )
            self.cell_steps += mass.size * (part.size - 1)
            if status != OK:
                self._explain(status, float(part[done]), float(part[done + 1]))
        return mass, lost

    def _velocity(self) -> tuple[int, np.ndarray]:
        return self._block.address, self._block.params

    def _explain(self, status: int, t: float, after: float) -> None:
        if status == RAISED:
            self._block.raise_stored()
        for time in np.linspace(t, after, 31):  # the checked call names the point and the value
            self.process.drift(self.faces, float(time))
        raise CoefficientError("the velocity must be finite on the grid", f"an overflow at t={t:g}", "bound it")

    def at(self, t: float) -> State:
        """State at time `t`."""
        k = min(max(int(np.searchsorted(self.clock, t, side="right")) - 1, 0), self.clock.size - 1)
        if t == self.clock[k]:
            mass, lost = self.masses[k], self.lost[k]
        else:
            mass, lost = self._stepped(k, t)
        quartics = np.empty((mass.size, 5))
        reconstruct(mass, self.ends, quartics)
        return State(self.grid, mass, lost, quartics)

    def flux(self, state: State, t: float) -> np.ndarray:
        """Fluxes through all faces of the scheme."""
        flux = np.empty(state.mass.size + 1)
        status = fluxes_of(state.mass, t, self.faces, self.slope, self._velocity(), self.ends, flux)
        if status != OK:
            self._explain(status, t, t)
        return flux


def _end(process: Process, grid: Grid, side: int) -> int:
    end = (grid.left, grid.right)[side]
    if end != process.support[side]:
        return CLOSED
    return {"periodic": PERIODIC, "absorbing": OPEN}.get(process.boundary[side], CLOSED)
