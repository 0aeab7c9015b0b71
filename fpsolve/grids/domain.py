"""Domains, gradings and schedules of steps, from what scouting has seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fpsolve.errors import DensityError
from fpsolve.grids.scheme import Schedule
from fpsolve.grids.scouting import APART, Scouting
from fpsolve.grids.start import masses_outside
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law

_WIDEN = 0.25  # part of the range of y that the wider domain adds on each open side
_CROWDED = 1e-4  # width about a place at which cells crowd, in units of the half-width of the core
_MISSED = 1e-2  # initial mass outside a given grid that is refused


def mass_outside(law: Law, grid: Grid) -> float:
    """Mass of the law outside the grid."""
    return sum(masses_outside(law, grid))


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


def choose_grid(
    scouting: Scouting, support: tuple[float, float], cells: int, walls: tuple[float | None, float | None]
) -> Grid:
    """Grid over the extent of the mass, graded so that the fewest cells resolve its core at every time.

    A cell at x is as wide as dy/∂x y; the cells needed are the range of y times the largest 1/(∂x y w) over all times,
    at the ends of the core, where w is its half-width. The best of some lengths L and centres c is taken.
    """
    left = support[0] if math.isfinite(support[0]) and scouting.left <= support[0] else scouting.left
    right = support[1] if math.isfinite(support[1]) and scouting.right >= support[1] else scouting.right
    low, high = scouting.cores.T
    half = np.maximum(0.5 * (high - low), 1e-12 * (right - left))
    middle = 0.5 * (low + high)
    ends = np.concatenate([low, high])
    near = [wall for wall in walls if wall is not None]
    depth = sum(abs(math.log(abs((right - wall) / (left - wall)))) for wall in near)
    longest = max(4.0 * half.max(), 4.0 * (right - left) * (left == support[0] and right == support[1]))
    lengths = np.geomspace(0.5 * half.min(), longest, 12)[:, None]
    centres = np.array([0.5 * (low.min() + high.max()), *middle[[0, int(half.argmin()), -1]]])
    bent = np.arcsinh((right - centres) / lengths) + np.arcsinh((centres - left) / lengths)
    widths = np.sqrt(lengths[..., None] ** 2 + (ends - centres[:, None]) ** 2)
    if near:
        widths = 1.0 / (1.0 / widths + sum(1.0 / np.maximum(np.abs(ends - wall), 1e-300) for wall in near))
    needed = (depth + bent) * (widths / np.tile(half, 2)).max(axis=-1)
    best = np.unravel_index(int(needed.argmin()), needed.shape)
    choice = float(lengths[best[0], 0]), float(centres[best[1]])
    return Grid(left, right, cells, *choice, *walls)


def crowded(grid: Grid, places: np.ndarray, scouting: Scouting) -> Grid:
    """The grid with more cells about the places, as thin there as a small part of the core."""
    inner = places[(places > grid.left) & (places < grid.right)]
    if inner.size == 0:
        return grid
    length = _CROWDED * 0.5 * float(np.diff(scouting.cores, axis=1).min())
    return replace(
        grid,
        stretch=(*(bend[0] for bend in grid.bends), *(length for _ in inner)),
        centre=(*(bend[1] for bend in grid.bends), *(float(x) for x in inner)),
    )


def wider(grid: Grid, support: tuple[float, float]) -> tuple[Grid, int, int]:
    """Grid with the same cells that goes on beyond each open end; also the number of cells added left and right."""
    step, (low, high) = grid.step, grid.span_y
    furthest = np.array(support)
    for side, (wall, inward) in enumerate(((grid.left_wall, 1.0), (grid.right_wall, -1.0))):
        if wall is not None:
            furthest[side] = wall + inward * APART * float(np.spacing(abs(wall)))
    bounds = grid.to_uniform(furthest)
    room = np.array([low - bounds[0], bounds[1] - high]) / step
    left, right = (int(n) for n in np.minimum(room + 1e-6, max(8, int(_WIDEN * grid.cells))))
    out = grid.nodes(np.array([-float(left), grid.cells + float(right)]))
    ends = [out[0] if left else grid.left, out[1] if right else grid.right]
    return replace(grid, left=float(ends[0]), right=float(ends[1]), cells=grid.cells + left + right), left, right


def schedule(
    scouting: Scouting, t_span: tuple[float, float], saved: np.ndarray, steps: int, forced: np.ndarray
) -> Schedule:
    """Landing times, all `saved` and `forced` ones among them, with about `steps` steps spread by speed of change."""
    times, speed = np.append(t_span[0], scouting.times), np.append(scouting.speed[:1], scouting.speed)
    breaks = [t_span[0]]
    last = speed[0]
    for t, v in zip(times, speed, strict=True):
        if max(v / last, last / v) > 2.5:
            breaks.append(float(t))
            last = v
    landings = np.unique(np.concatenate([breaks, saved, forced, [t_span[1]]]))
    # a break closer to a requested time than a hundredth of its segment would only cost steps
    keep = np.ones(landings.size, dtype=bool)
    wanted = np.isin(landings, np.concatenate([saved, forced, t_span]))
    for k in range(1, landings.size - 1):
        near = min(landings[k] - landings[k - 1], landings[k + 1] - landings[k])
        keep[k] = wanted[k] or near > 0.02 * (landings[k + 1] - landings[k - 1])
    landings = landings[keep]
    clock = np.concatenate([[0.0], np.cumsum(0.5 * (speed[1:] + speed[:-1]) * np.diff(times))])
    at, ends = np.interp(landings, times, clock), np.interp(landings, times, np.log(speed))
    bends = np.clip(ends[:-1] - ends[1:], -2.0, 2.0)
    counts = np.maximum(1, np.rint(steps * np.diff(at) / clock[-1])).astype(int)
    return Schedule(landings, bends, counts, np.searchsorted(landings, saved))
