"""Where to compute and how fast time runs: a scouting solve on a very wide, strongly graded, coarse grid.

The robust scheme cannot fail, so scouting needs no tuning: it finds where the mass goes (domain and grading), how fast
the density changes (clock), and whether mass runs away to infinity in finite time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fpsolve.errors import DensityError, MassEscape
from fpsolve.grids.scheme import Schedule, Stepper
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law

# mass that may lie outside the artificial domain on each side, at any time
TAIL = 1e-13
_SPACING = 0.06  # of the scouting grid, in units of y where x = centre + L sinh(y)
_CHANGE = 0.04  # total variation per scouting step
_REACHES = (4.0, 1e2, 1e4, 1e7, 1e11)  # in units of the reach of the initial law
_REACHED = 1e-12  # mass in the last cells that asks for a wider domain
_ESCAPED = 1e-7  # mass at the end of the widest domain that counts as gone
_WIDEN = 0.25  # part of the range of y that the wider domain adds on each open side
_MISSED = 1e-2  # initial mass outside a given grid that is refused


@dataclass(frozen=True)
class Scouting:
    """History of a scouting solve: `times` (K,), `speed` (K,) of change, extent of the mass over all times.

    `cores` (K+1, 2) are the ends of the middle 80 % of the mass, from the initial law on.
    """

    times: np.ndarray
    speed: np.ndarray
    left: float
    right: float
    cores: np.ndarray


def scout(stepper: Stepper, law: Law, t_span: tuple[float, float]) -> Scouting:
    """Follow the mass on domains that widen until nothing reaches their ends.

    Raises
    ------
    MassEscape
        If mass reaches the ends of every domain.
    """
    support = stepper.process.support
    low, mid, high = (float(law.ppf(p)) for p in (0.1, 0.5, 0.9))
    span = law.quantile_span(1e-14)
    scale = max(0.5 * (high - low), 1e-12 * max(abs(mid), 1.0))
    start = max(mid - span[0], span[1] - mid, scale)
    for factor in _REACHES:
        reach = factor * start
        left = support[0] if math.isfinite(support[0]) else min(mid, support[1]) - reach
        right = support[1] if math.isfinite(support[1]) else max(mid, support[0]) + reach
        depth = (math.asinh((right - mid) / scale) + math.asinh((mid - left) / scale)) / _SPACING
        found = _follow(stepper, law, Grid(left, right, int(np.clip(depth, 150, 1200)), scale, mid), t_span, 1.0)
        if _first_arrival(support, found, _REACHED) is None:
            return _sharpened(stepper, law, t_span, found)
    gone = _first_arrival(support, found, _ESCAPED)
    if gone is None:
        return found.scouting()
    raise MassEscape(
        f"mass beyond {reach:.3g} on the {gone[0]} at t={gone[1]:.6g}: it leaves every domain in finite time",
        side=gone[0],
        time=gone[1],
    )


def _sharpened(stepper: Stepper, law: Law, t_span: tuple[float, float], found: _History) -> Scouting:
    """Scouting of `found`; where tails look heavy, that of finer cells and steps, which smear them less."""
    rough = found.scouting()
    half = np.diff(rough.cores, axis=1).max()
    if rough.right - rough.left < 15.0 * half:
        return rough
    wide = found.grid
    cells = min(2400, 2 * wide.cells)
    return _follow(stepper, law, replace(wide, cells=cells), t_span, 0.3).scouting()


class _History:
    """What is recorded while the mass is followed."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.times: list[float] = []
        self.rates: list[np.ndarray] = []
        self.ends: list[tuple[float, float]] = []
        self.cores: list[list[int]] = []
        self.tails = np.array([grid.cells, 0])

    def record(self, t: float, tau: float, mass: np.ndarray, change: np.ndarray) -> None:
        self.times.append(t)
        self.rates.append(change / tau)
        self.ends.append((float(mass[:3].sum()), float(mass[-3:].sum())))
        self.measure(mass)

    def measure(self, mass: np.ndarray) -> None:
        lower, upper = np.cumsum(mass), np.cumsum(mass[::-1])
        n = mass.size
        self.tails[0] = min(self.tails[0], int(np.searchsorted(lower, TAIL)))
        self.tails[1] = max(self.tails[1], n - int(np.searchsorted(upper, TAIL)))
        self.cores.append([int(np.searchsorted(lower, 0.1)), n - int(np.searchsorted(upper, 0.1))])

    def scouting(self) -> Scouting:
        times, faces = np.array(self.times), self.grid.faces
        rates = np.array(self.rates)
        gap = np.maximum(np.diff(times), 1e-300)
        second = np.abs(np.diff(rates, axis=0)).sum(axis=1) / gap
        speed = np.sqrt(np.append(second[:1], second)) + 2.0 / (times[-1] - times[0])
        ends = np.clip(self.tails, 0, self.grid.cells)
        cores = faces[np.clip(self.cores, 0, self.grid.cells)]
        return Scouting(times, speed, float(faces[ends[0]]), float(faces[ends[1]]), cores)


def _follow(stepper: Stepper, law: Law, grid: Grid, t_span: tuple[float, float], finer: float) -> _History:
    """Follow the mass with steps that each move `finer` times the usual part of it."""
    points, mass = stepper.points(grid), initial_masses(law, grid)
    history, change = _History(grid), np.zeros_like(mass)
    history.measure(mass)
    t, length = t_span[0], t_span[1] - t_span[0]
    tau, target = 1e-6 * length, finer * _CHANGE
    while t < t_span[1]:
        before = mass.copy()
        end = t_span[1] if t + 1.01 * tau >= t_span[1] else t + tau
        stepper.run(mass, np.array([t, end]), points, change)
        moved = 0.5 * float(np.abs(change).sum())
        if moved > 3.0 * target and tau > 1e-9 * length:
            mass[:] = before
            tau *= 0.3
            continue
        history.record(end, end - t, mass, change)
        t = end
        tau = min(tau * min(1.6, max(0.4, target / max(moved, 1e-300))), finer * length / 40.0)
    return history


def _first_arrival(support: tuple[float, float], history: _History, limit: float) -> tuple[str, float] | None:
    """Side and time at which the mass in the last cells of an open side first exceeded `limit`."""
    for time, ends in zip(history.times, history.ends, strict=True):
        for side, end, at in zip(("left", "right"), support, ends, strict=True):
            if not math.isfinite(end) and at > limit:
                return side, time
    return None


def initial_masses(law: Law, grid: Grid) -> np.ndarray:
    """Masses of all cells; what lies outside the grid is put into its end cells, so that the sum is one."""
    mass = np.array(law.cell_masses(grid.faces), dtype=float)
    mass[0] += float(law.cdf(grid.left))
    mass[-1] += float(law.sf(grid.right))
    return mass


def mass_outside(law: Law, grid: Grid) -> float:
    """Mass of the law outside the grid."""
    return float(law.cdf(grid.left)) + float(law.sf(grid.right))


def check_grid_holds(law: Law, grid: Grid) -> None:
    """Refuse a grid that misses the mass of the initial law."""
    outside = mass_outside(law, grid)
    if outside > _MISSED:
        left, right = law.quantile_span(1e-12)
        raise DensityError(
            f"a grid must hold the initial law (all but {_MISSED:g} of its mass)",
            f"mass {outside:.3g} outside [{grid.left:g}, {grid.right:g}]",
            f"use a grid that covers [{left:.4g}, {right:.4g}], or leave grid= out",
        )


def choose_grid(scouting: Scouting, support: tuple[float, float], cells: int) -> Grid:
    """Grid over the extent of the mass, graded so that the fewest cells resolve its core at every time.

    A cell at x is as wide as dy √(L² + (x - c)²); the cells needed are (range of y) max √(L² + d²)/w over all times,
    where w is the half-width of the core and d the distance of its far end from c. The best of some L and c is taken.
    """
    left = support[0] if math.isfinite(support[0]) and scouting.left <= support[0] else scouting.left
    right = support[1] if math.isfinite(support[1]) and scouting.right >= support[1] else scouting.right
    if math.isfinite(support[0]) and math.isfinite(support[1]):
        return Grid(left, right, cells)
    low, high = scouting.cores.T
    half = np.maximum(0.5 * (high - low), 1e-12 * (right - left))
    middle = 0.5 * (low + high)
    centres = [0.5 * (low.min() + high.max()), *middle[[0, int(half.argmin()), -1]]]
    best, choice = math.inf, (0.0, 0.0)
    for centre in centres:
        far = np.maximum(np.abs(low - centre), np.abs(high - centre))
        for length in np.geomspace(0.5 * half.min(), 4.0 * half.max(), 12):
            depth = math.asinh((right - centre) / length) + math.asinh((centre - left) / length)
            needed = depth * float((np.hypot(length, far) / half).max())
            if needed < best:
                best, choice = needed, (float(length), float(centre))
    return Grid(left, right, cells, *choice)


def wider(grid: Grid, support: tuple[float, float]) -> tuple[Grid, int, int]:
    """Grid with the same cells that goes on beyond each open end; also the number of cells added left and right."""
    stretch, centre = grid.stretch, grid.centre

    def to_y(x: np.ndarray) -> np.ndarray:
        return x if stretch is None else np.arcsinh((x - centre) / stretch)

    y = to_y(np.array([grid.left, grid.right]))
    step = (y[1] - y[0]) / grid.cells
    room = np.abs(to_y(np.array(support)) - y) / step
    left, right = (int(n) for n in np.minimum(room + 1e-6, max(8, int(_WIDEN * grid.cells))))
    y = y + step * np.array([-left, right])
    out = y if stretch is None else centre + stretch * np.sinh(y)
    clipped = Grid(float(out[0]), float(out[1]), grid.cells + left + right, stretch, centre)
    return clipped, left, right


def schedule(scouting: Scouting, t_span: tuple[float, float], saved: np.ndarray, steps: int) -> Schedule:
    """Landing times with about `steps` steps, spread by the speed of change; all `saved` times are landings."""
    times, speed = np.append(t_span[0], scouting.times), np.append(scouting.speed[:1], scouting.speed)
    breaks = [t_span[0]]
    last = speed[0]
    for t, v in zip(times, speed, strict=True):
        if max(v / last, last / v) > 2.5:
            breaks.append(float(t))
            last = v
    landings = np.unique(np.concatenate([breaks, saved, [t_span[1]]]))
    # a break closer to a requested time than a hundredth of its segment would only cost steps
    keep = np.ones(landings.size, dtype=bool)
    wanted = np.isin(landings, np.append(saved, t_span))
    for k in range(1, landings.size - 1):
        near = min(landings[k] - landings[k - 1], landings[k + 1] - landings[k])
        keep[k] = wanted[k] or near > 0.02 * (landings[k + 1] - landings[k - 1])
    landings = landings[keep]
    clock = np.concatenate([[0.0], np.cumsum(0.5 * (speed[1:] + speed[:-1]) * np.diff(times))])
    at, ends = np.interp(landings, times, clock), np.interp(landings, times, np.log(speed))
    bends = np.clip(ends[:-1] - ends[1:], -2.0, 2.0)
    counts = np.maximum(1, np.rint(steps * np.diff(at) / clock[-1])).astype(int)
    return Schedule(landings, bends, counts, np.searchsorted(landings, saved))
