"""Refinement of the high-order scheme: more cells until differences to fewer cells meet the goal."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from fpsolve.grids.budgets import relative_errors
from fpsolve.grids.domain import choose_grid, crowded, wider
from fpsolve.grids.march import SUBSTEPS, March, Setting
from fpsolve.grids.scouting import Scouting, singular_walls
from fpsolve.grids.slices import CAUSES, Solved
from fpsolve.grids.start import inner_breaks, masses_outside, start_masses
from fpsolve.grids.stencils import stencils
from fpsolve.grids.witnesses import RATIO, SPACE_SAFETY, Witnesses, profile
from fpsolve.kernels.implicit import REACH
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law
from fpsolve.problem.mixtures import Empirical

_AIM = 0.4  # part of the goal that space may use
_TOLERANCE = 30.0  # local errors of the steps, in units of the goal: what is kept is of one order more
_LEAST, _MOST = 1e-11, 1e-3  # tolerances of steps
_FIRST_CELLS = 48
_INITIAL_AIM = 3.0  # part of the goal that the reconstruction of the initial density may miss it by
_ROUNDS, _AGAIN = 14, 4
_ORDER_AT_WALL = 4  # at most
_ORDER_ROUGH = 1  # at a jump of a coefficient, in the width of its cells
_STALLED = 0.7  # of the difference before: more cells do not help
BUDGET = 1.5e7  # cell-steps of one call, one to seven seconds


class Refinement:
    """Solves with more and more cells."""

    def __init__(
        self,
        setting: Setting,
        law: Law,
        times: np.ndarray,
        goal: float,
        scouting: Scouting,
        given: Grid | None,
        rough: np.ndarray,
    ) -> None:
        self.setting, self.law, self.goal, self.given = setting, law, goal, given
        self.times = times[times > setting.t_span[0]]
        if self.times.size == 0:
            self.times = np.array(setting.t_span[1:])
        self.support = setting.process.support
        walls = singular_walls(setting.process, setting.t_span)
        if given is not None:
            self.grid = given
        elif setting.ring:
            self.grid = Grid(*self.support, _FIRST_CELLS)
        else:
            self.grid = crowded(choose_grid(scouting, self.support, _FIRST_CELLS, walls), rough, scouting)
        self.order = _ORDER_ROUGH if rough.size else self._order_kept()
        self.tol = float(np.clip(_TOLERANCE * goal * min(1.0, goal / 1e-8) ** 0.25, _LEAST, _MOST))
        self.work = self.evaluations = 0
        self._started: dict[Grid, np.ndarray] = {}
        self._beyond: dict[tuple[float, float], tuple[float, float]] = {}

    def _masses(self, grid: Grid) -> np.ndarray:
        if grid not in self._started:
            outside = self._outside(grid)
            self._started[grid] = start_masses(self.law, grid, self.support, self.setting.ring, outside)
        return self._started[grid]

    def _outside(self, grid: Grid) -> tuple[float, float]:
        """Initial masses beyond the ends of a grid, which many grids share."""
        ends = grid.left, grid.right
        if ends not in self._beyond:
            self._beyond[ends] = masses_outside(self.law, grid)
        return self._beyond[ends]

    def _order_kept(self) -> int:
        """Order of the scheme, lower where polynomials next to a wall have fewer points."""
        order = self.setting.order
        if self.setting.ring:
            return order
        at_wall = [end == wall for end, wall in zip((self.grid.left, self.grid.right), self.support, strict=True)]
        return min(order, _ORDER_AT_WALL) if any(at_wall) else order

    def solve(self, grid: Grid, tol: float) -> March:
        """One march on `grid`."""
        march = March(self.setting, grid, self._masses(grid), tol)
        self.work += march.cell_steps
        self.evaluations += march.evaluations
        return march

    def refine(self, progress: bool) -> Solved:
        """Return the finest solution with its witnesses."""
        cells, again = self.grid.cells if self.given is not None else self._first_cells(), 0
        while True:
            witnesses, rounds, reason = self._refine_space(cells, progress)
            errors = self._worst(witnesses)
            total, cells = sum(errors.values()), witnesses.fine.grid.cells
            if progress:
                print(f"{cells} cells: estimated error {total:.1e}", file=sys.stderr)
            if total <= self.goal or reason or again == _AGAIN:
                return self._solved(witnesses, errors, rounds, reason)
            again += 1
            if errors["time"] > 0.3 * total and self.tol > _LEAST:
                self.tol = max(_LEAST, self.tol * min(0.1, (0.2 * self.goal / errors["time"]) ** 0.9))
            elif self.given is not None or self.work * (1 + RATIO) > BUDGET:
                again = _AGAIN
            elif errors["domain"] > 0.3 * total and again > 1:
                self.grid = wider(self.grid, self.support)[0]  # more cells did not help
                cells = int(np.ceil(1.3 * cells))
            else:
                cells = int(np.ceil(1.3 * cells))

    def _solved(self, witnesses: Witnesses, errors: dict[str, float], rounds: int, reason: str) -> Solved:
        fine, budget = witnesses.fine, self._mass_budget(witnesses)
        account = f"{witnesses.coarse.grid.cells} and {fine.grid.cells} cells, {fine.steps} steps of order 8"
        lowest = float((fine.states[1:] / fine.states[1:].max(axis=1, keepdims=True)).min())
        stats = {
            "scheme": f"order-{self.setting.order}",
            "cells": fine.grid.cells,
            "steps": fine.steps,
            "steps refused": fine.refused,
            "rounds": rounds,
            "cell_steps": self.work * SUBSTEPS,
            "evaluations": self.evaluations,
            "domain": (fine.grid.left, fine.grid.right),
            "mass near the ends": self._mass_near_ends(fine),
            "mass": budget,
            "mass defect": abs(sum(budget.values()) - 1.0),
            "min q": lowest,
        }
        return Solved(fine.grid, witnesses.slice, errors, account, reason, stats)

    def _mass_near_ends(self, fine: March) -> tuple[float, float]:
        """Largest mass that a step ends with in the outermost cells of an artificial end."""
        masses = np.abs(fine.states[1:])
        near = masses[:, :REACH].sum(axis=1).max(), masses[:, -REACH:].sum(axis=1).max()
        ends = (fine.grid.left, fine.grid.right)
        real = [end == wall for end, wall in zip(ends, self.support, strict=True)]
        return 0.0 if real[0] else float(near[0]), 0.0 if real[1] else float(near[1])

    def _mass_budget(self, witnesses: Witnesses) -> dict[str, float]:
        """Mass at the end: inside, and gone through each end by integrated fluxes."""
        t1 = self.setting.t_span[1]
        left, right = witnesses.fine.absorbed(t1)
        return {"inside": float(witnesses.fine.masses(t1).sum()), "absorbed left": left, "absorbed right": right}

    def _worst(self, witnesses: Witnesses) -> dict[str, float]:
        rows = [relative_errors(witnesses.slice(float(t)).field("logpdf")) for t in self.times]
        return {c: max(row[c] for row in rows) for c in CAUSES}

    def _refine_space(self, cells: int, progress: bool) -> tuple[Witnesses, int, str]:
        """More cells until differences meet the goal; also the number of rounds, and why they ended before."""
        coarse = self.solve(replace(self.grid, cells=max(8, round(cells / RATIO))), self.tol)
        differences: list[float] = []
        reason = ""
        if self.given is not None:  # one difference alone could lie before the asymptote
            coarsest = self.solve(replace(self.grid, cells=max(8, round(cells / RATIO**2))), self.tol)
            differences.append(max(self._difference(coarse, coarsest, float(t)) for t in self.times))
        while True:
            fine = self.solve(replace(self.grid, cells=cells), self.tol)
            differences.append(max(self._difference(fine, coarse, float(t)) for t in self.times))
            share = self._share(differences)
            if progress:
                print(f"{cells} cells: difference to {coarse.grid.cells} cells {differences[-1]:.1e}", file=sys.stderr)
            if share * differences[-1] <= _AIM * self.goal or self.given is not None:
                break
            if len(differences) > 2 and differences[-1] > _STALLED * differences[-2] > 0.0:
                reason = "more cells do not help"
                break
            if len(differences) == _ROUNDS or self.work * (1 + RATIO) > BUDGET:
                reason = "the budget of cells is spent"
                break
            factor = (share * differences[-1] / (_AIM * self.goal)) ** (1.0 / self.order)
            coarse, cells = self._next(fine, cells, factor)
        return self._with_witnesses(fine, coarse, share), len(differences), reason

    def _next(self, fine: March, cells: int, factor: float) -> tuple[March, int]:
        """The next coarse witness (the solve before, if it lies right) and number of cells."""
        wanted = int(np.ceil(min(1.1 * factor, RATIO**3) * cells))
        if wanted <= RATIO * cells * 1.05:
            return fine, int(np.ceil(RATIO * cells))
        return self.solve(replace(self.grid, cells=round(wanted / RATIO)), self.tol), wanted

    def _first_cells(self) -> int:
        """Cells with which the reconstruction of the initial density meets a part of the goal, if it is smooth."""
        cells = _FIRST_CELLS
        if isinstance(self.law, Empirical) or inner_breaks(self.law, self.support).size:
            return 2 * cells
        for _ in range(12):
            grid = replace(self.grid, cells=cells)
            density = self.law.pdf(grid.faces)
            if not np.isfinite(density).all():
                break
            missed = np.abs(self._reconstructed(grid) - density)[4:-4].max() / density.max()
            aim = max(_INITIAL_AIM * self.goal, 1e-12)
            if missed <= aim:
                break
            if cells > 1000:
                return 200  # not smooth: nothing can be told from the start
            cells = int(np.ceil(np.clip(1.05 * (missed / aim) ** (1.0 / self.setting.order), 1.1, 2.0) * cells))
        return cells

    def _reconstructed(self, grid: Grid) -> np.ndarray:
        unit = stencils(grid.cells, self.setting.order, self.setting.absorbing, self.setting.ring)
        slope = grid.slopes(grid.faces)[0]
        return slope * unit.at_faces(self._masses(grid), unit.value) / grid.step

    def _difference(self, fine: March, coarse: March, t: float) -> float:
        """Largest difference of q at the faces of the coarse solve, relative to the maximum."""
        ours, theirs = profile(fine, t), profile(coarse, t)
        return float(np.abs(ours.density_on(coarse.grid) - theirs.density).max() / ours.density.max())

    def _share(self, differences: list[float]) -> float:
        """Part of the last difference that is left as an error of the finer solve."""
        expected = SPACE_SAFETY / (RATIO**self.order - 1.0)
        if len(differences) < 2 or differences[-2] <= 0.0:
            return max(expected, 0.15)
        seen = min(differences[-1] / differences[-2], 0.9)
        return max(expected, seen / (1.0 - seen))

    def _with_witnesses(self, fine: March, coarse: March, share: float) -> Witnesses:
        halved = coarse.halved()
        self.work += halved.cell_steps
        self.evaluations += halved.evaluations
        beyond, *cut = wider(coarse.grid, self.support)
        wide = self.solve(beyond, self.tol) if any(cut) else None
        return Witnesses(fine, coarse, halved, wide, (cut[0], cut[1]), share, sum(self._outside(fine.grid)))
