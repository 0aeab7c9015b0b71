"""Where the mass goes and how fast time runs: a scouting solve on a very wide, strongly graded, coarse grid.

The robust scheme cannot fail, so scouting needs no tuning: it finds where the mass goes (domain and grading), how fast
the density changes (clock), and whether mass runs away to infinity in finite time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fpsolve.errors import DensityError, MassEscape
from fpsolve.grids.scheme import Stepper
from fpsolve.grids.start import positive_masses
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law
from fpsolve.problem.mixtures import Empirical, GaussianMixture
from fpsolve.problem.process import Process

# mass that may lie outside the artificial domain on each side, at any time
TAIL = 1e-13
_SPACING = 0.06  # of the scouting grid, in units of y where x = centre + L sinh(y)
_CHANGE = 0.04  # total variation per scouting step
_REACHES = (4.0, 1e2, 1e4, 1e7, 1e11)  # in units of the reach of the initial law
_REACHED = 1e-12  # mass in the last cells that asks for a wider domain
_ESCAPED = 1e-7  # mass at the end of the widest domain that counts as gone
_PARTS = np.linspace(0.0, 1.0, 25)[:, None]  # of an interval that is known to hold a quantile
_TABLES, _NEAR = 40, 1e-3  # tables at most, and difference of F between neighbours that is small enough
_ATOMS = 32  # of an empirical law that scouting looks at
_EARLY = 0.1  # part of the time to the first look after which atoms are taken as spread out
APART = 1e4  # the same, in units of the resolution of floating point numbers there
_NEAREST = 1e-14  # distance from a wall at which g vanishes, in units of that of the middle of the mass


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
    support, walls = stepper.process.support, singular_walls(stepper.process, t_span)
    span = law.quantile_span(1e-14)
    low, mid, high = _near_quantiles(law, span, np.array([0.1, 0.5, 0.9]))
    scale = max(0.5 * (high - low), 1e-12 * max(abs(mid), 1.0))
    start = max(mid - span[0], span[1] - mid, scale)
    for factor in _REACHES:
        reach = factor * start
        left = support[0] if math.isfinite(support[0]) else min(mid, support[1]) - reach
        right = support[1] if math.isfinite(support[1]) else max(mid, support[0]) + reach
        grid = _scouting_grid(left, right, scale, mid, walls)
        found = _follow(stepper, law, grid, t_span, 1.0)
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


def _near_quantiles(law: Law, span: tuple[float, float], p: np.ndarray) -> list[float]:
    """Quantiles, near enough to choose a grid by: finer and finer tables of F between two neighbours of each."""
    low, high = np.full((2, p.size), np.array(span)[:, None])
    for _ in range(_TABLES):
        x = low + (high - low) * _PARTS
        below = law.cdf(x)
        at = np.clip((below < p).sum(axis=0), 1, _PARTS.size - 1)
        (low, high), (f, g) = ([table[at - 1 + k, np.arange(p.size)] for k in (0, 1)] for table in (x, below))
        if (g - f <= _NEAR).all():
            break
    found = low + (high - low) * np.clip((p - f) / np.maximum(g - f, 1e-300), 0.0, 1.0)
    return found.tolist()


def spread_out(law: Law, process: Process, t_span: tuple[float, float], times: np.ndarray) -> Law:
    """The law, or for atoms what the noise makes of them in a part of the time until the solution is looked at."""
    if not isinstance(law, Empirical):
        return law
    atoms = np.unique(law.samples)
    if atoms.size > _ATOMS:
        atoms = np.quantile(atoms, np.linspace(0.0, 1.0, _ATOMS))
    first = min((t for t in times if t > t_span[0]), default=t_span[1])
    noise = np.abs(process.diffusion(atoms, 0.5 * (t_span[0] + first)))
    if noise.min() <= 0.0:
        raise DensityError("atoms need noise to become a density", f"g = 0 at one of {atoms}", "start from a density")
    widths = noise * math.sqrt(_EARLY * (first - t_span[0]))
    if process.boundary[0] != "periodic":  # what is spread out must not reach over an end of the support
        widths = np.minimum(widths, np.minimum(atoms - process.support[0], process.support[1] - atoms) / 10.0)
    return GaussianMixture(np.full(atoms.size, 1.0 / atoms.size), atoms, widths)


def singular_walls(process: Process, t_span: tuple[float, float]) -> tuple[float | None, float | None]:
    """Finite ends of the support at which g vanishes, from the power of g² in the distance to them."""
    if process.boundary[0] == "periodic":
        return None, None
    walls: list[float | None] = []
    t = 0.5 * (t_span[0] + t_span[1])
    width = process.support[1] - process.support[0]
    scale = min(1.0, width)
    for end, inward in zip(process.support, (1.0, -1.0), strict=True):
        if not math.isfinite(end):
            walls.append(None)
            continue
        distance = scale * np.array([1e-4, 1e-7])
        g2 = process.diffusion_squared(end + inward * distance, t)
        walls.append(end if g2[1] < 0.1 * g2[0] else None)
    return walls[0], walls[1]


def _scouting_grid(
    left: float, right: float, scale: float, mid: float, walls: tuple[float | None, float | None]
) -> Grid:
    nearest = [
        None if wall is None else max(_NEAREST * abs(mid - wall), APART * float(np.spacing(abs(wall))))
        for wall in walls
    ]
    left = left if nearest[0] is None else left + nearest[0]
    right = right if nearest[1] is None else right - nearest[1]
    depth = math.asinh((right - mid) / scale) + math.asinh((mid - left) / scale)
    for wall, gap in zip(walls, nearest, strict=True):
        depth += 0.0 if wall is None or gap is None else math.log((right - left) / gap)
    return Grid(left, right, int(np.clip(depth / _SPACING, 150, 1200)), scale, mid, *walls)


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
    """What is recorded while the mass is followed: after each step, and `cores` from the initial law on."""

    def __init__(self, grid: Grid, mass: np.ndarray) -> None:
        self.grid = grid
        self.times = np.empty(0)
        self.bends = np.empty(0)
        self.ends = np.empty((0, 2))
        outside = [(int(np.searchsorted(np.cumsum(m), p)) for m in (mass, mass[::-1])) for p in (TAIL, 0.1)]
        self.tails, self.cores = (np.array([[left, mass.size - right]]) for left, right in outside)

    def scouting(self) -> Scouting:
        faces, n = self.grid.faces, self.grid.cells
        # the rate before the first step is not known
        bends = np.append(self.bends[1:2], self.bends[1:]) if self.times.size > 1 else np.zeros(self.times.size)
        speed = np.sqrt(bends) + 2.0 / max(float(np.ptp(self.times)), 1e-300)
        left, right = np.clip([self.tails[:, 0].min(), self.tails[:, 1].max()], 0, n)
        return Scouting(self.times, speed, float(faces[left]), float(faces[right]), faces[np.clip(self.cores, 0, n)])


def _follow(stepper: Stepper, law: Law, grid: Grid, t_span: tuple[float, float], finer: float) -> _History:
    """Follow the mass with steps that each move `finer` times the usual part of it."""
    mass = positive_masses(law, grid)
    history = _History(grid, mass)
    length = t_span[1] - t_span[0]
    limits = (t_span[1], finer * _CHANGE, 1e-9 * length, finer * length / 40.0, TAIL)
    state = np.concatenate([[t_span[0], 1e-6 * length], np.zeros(mass.size)])
    while state[0] < t_span[1]:
        times, bends, *parts = stepper.follow(mass, state, limits, stepper.points(grid))
        history.times, history.bends = np.append(history.times, times), np.append(history.bends, bends)
        for name, part in zip(("ends", "tails", "cores"), parts, strict=True):
            setattr(history, name, np.concatenate([getattr(history, name), part]))
    return history


def _first_arrival(support: tuple[float, float], history: _History, limit: float) -> tuple[str, float] | None:
    """Side and time at which the mass in the last cells of an open side first exceeded `limit`."""
    arrived = (history.ends > limit) & ~np.isfinite(support)
    if not arrived.any():
        return None
    first = int(arrived.any(axis=1).argmax())
    return ("left" if arrived[first, 0] else "right"), float(history.times[first])
