"""The robust scheme: extrapolated backward Euler on exponentially fitted fluxes, refined until it meets the goal."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fpsolve.errors import InputError
from fpsolve.grids.domain import choose_grid, mass_outside, schedule, wider
from fpsolve.grids.extrapolation import COST, PAIRS, POINTS, STEPS, interpolate
from fpsolve.grids.fields import Tableau
from fpsolve.grids.scheme import Stepper
from fpsolve.grids.scouting import Scouting, singular_walls
from fpsolve.grids.slices import CAUSES, NAMES, Field, Slice, Solved
from fpsolve.grids.start import positive_masses
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law
from fpsolve.problem.mixtures import Empirical

BUDGET = 2e8  # cell-steps of one call, about 3 seconds
_FIRST_CELLS, _FIRST_STEPS = 96, 32  # at the coarsest level of the first round
_AIM = 0.35  # part of rtol that each of space and time may use
_ROUNDS = 12
_LOOKS = 33  # places and times at which the speed of a ring is looked at
_FADED = 40.0  # logarithm of the factor by which a wave fades until it is nothing
_UNKNOWN = 50.0  # error of log q
_NEAR_JUMP = 5  # cells next to a jump of g, and of q with it, between which polynomials mix both sides


@dataclass(frozen=True)
class _Plan:
    """What one round solves: the coarsest grid and about how many coarsest steps."""

    grid: Grid
    steps: int


@dataclass(frozen=True)
class _Round:
    """What came of a plan; `errors` of q relative to its maximum, by cause, the worst over the saved times."""

    plan: _Plan
    tableau: Tableau
    field: Field
    errors: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.errors.values())


def relative_errors(logs: Field, rows: slice) -> dict[str, float]:
    """Errors of q from those of log q, relative to its maximum, by cause, the worst over `rows`."""
    relative = np.exp(logs.value - logs.value.max(axis=1, keepdims=True))[rows]
    return {c: float((relative * np.expm1(np.minimum(logs.errors[c][rows], 50.0))).max()) for c in CAUSES}


class Rounds:
    """Solves the tableau with more cells and steps until the estimate meets the goal or the budget is spent."""

    def __init__(
        self,
        stepper: Stepper,
        law: Law,
        t_span: tuple[float, float],
        times: np.ndarray,
        goal: float,
        scouting: Scouting,
        given: Grid | None,
        jumps: np.ndarray,
        landings: np.ndarray,
    ) -> None:
        self.jumps, self.landings = jumps, landings
        self.stepper, self.law, self.t_span, self.times = stepper, law, t_span, times
        self.goal, self.scouting, self.given = goal, scouting, given
        self.support = stepper.process.support
        self._first = self._enough_for_turns() if stepper.ring else (_FIRST_CELLS, _FIRST_STEPS)
        self._domain = math.inf  # error by the domain before it was widened last: if that did not help, it stays
        self.walls = singular_walls(stepper.process, t_span)
        # the law itself stands at the first time: nothing is to be refined for it
        self._rows = slice(1, None) if times[0] == t_span[0] and times.size > 1 else slice(None)

    def refine(self, progress: bool) -> Solved:
        """Return the solution of the last round; at least two are made, each a test of the one before."""
        plan = self._first_plan()
        last, made, reason = None, 0, ""
        while True:
            last, made = self._solve(plan, last), made + 1
            errors = last.errors
            if progress:
                print(f"{plan.grid.cells * 4} cells: estimated error {sum(errors.values()):.1e}", file=sys.stderr)
            if made > 1 and last.total <= self.goal:
                break
            following = self._next_plan(plan, errors)
            if following is None or made == _ROUNDS:
                reason = f"limited by {max(errors, key=lambda cause: errors[cause])}"
                break
            if self.stepper.cell_steps + COST * following.grid.cells * following.steps > BUDGET:
                reason = f"the budget of {BUDGET:.0e} cell-steps is spent"
                break
            plan = following
        # never the round with the smallest estimate: a later one may have shown that it was wrong
        slices = TableauSlices(self, last)
        return Solved(
            last.tableau.grid, slices, last.errors, self._account(last), reason, self._stats(last, made, slices)
        )

    def again(self, last: _Round, t: float) -> Tableau:
        """The last round once more, saved at another time."""
        times, rows, self.times, self._rows = self.times, self._rows, np.array([t]), slice(None)
        try:
            tableau = self._solve(last.plan, None).tableau
        finally:
            self.times, self._rows = times, rows
        return replace(tableau, distrust=np.full(1, last.tableau.distrust.max()))

    def _first_plan(self) -> _Plan:
        cells, steps = self._first
        if self.given is not None:
            return _Plan(replace(self.given, cells=max(8, -(-self.given.cells // 4))), steps)
        if self.stepper.ring:
            return _Plan(Grid(*self.support, cells), steps)
        return _Plan(choose_grid(self.scouting, self.support, cells, self.walls), steps)

    def _enough_for_turns(self) -> tuple[int, int]:
        """Coarsest cells and steps with which what turns round a ring is seen; where it turns, clocks do not rest.

        A wave e^(i(kx - ωt)) is damped by steps τ as e^(-ω²τt/2) and by cells h as e^(-k²Et), E = vh/2 or less, about
        v²h²/(12D) where D is large. Levels that damp away what is not yet gone agree on a law at rest, which is wrong.
        """
        process, ((left, right), (t0, t1)) = self.stepper.process, (self.support, self.t_span)
        length, looks = t1 - t0, np.linspace(t0, t1, _LOOKS)
        wave, x = 2.0 * math.pi / (right - left), left + (right - left) * (np.arange(_LOOKS) + 0.5) / _LOOKS
        omega = wave * max(abs(float(process.drift(x, float(t)).mean())) for t in looks)
        spread = max(0.5 * min(float(process.diffusion_squared(x, float(t)).min()) for t in looks), 1e-300)
        seen = min(length, _FADED / (wave**2 * spread))
        cells = math.ceil(0.25 * omega * min(math.pi * seen, (right - left) * math.sqrt(seen / (12.0 * spread))))
        steps = math.ceil(0.25 * omega**2 * length * seen / 2.0)
        few = self.given is not None and self.given.cells < 4 * cells
        if few or 4 * COST * cells * steps > BUDGET:  # one solve alone would be no estimate
            rule = "the robust scheme needs a cell and a step for each small part of a turn round a ring"
            turns = f"{omega * length / (2.0 * math.pi):.3g} turns, {4 * cells} cells by {4 * steps} steps"
            raise InputError(rule, turns, "use a finer grid" if few else "use order-8, or a shorter span")
        self.scouting = replace(self.scouting, speed=np.maximum(self.scouting.speed, omega))
        return max(_FIRST_CELLS, 8 * math.ceil(cells / 8)), max(_FIRST_STEPS, steps)

    def _solve(self, plan: _Plan, before: _Round | None) -> _Round:
        steps = schedule(self.scouting, self.t_span, self.times, plan.steps, self.landings)
        self.stepper.prepare(2 * plan.grid.cells, 2 * STEPS * steps.steps)  # about as much again will follow
        grids = {i: plan.grid.refine(2**i) for i in range(3)}
        masses = [positive_masses(self.law, grid, self.stepper.ring) for grid in grids.values()]
        finest = masses[2]
        levels = {(i, j): self.stepper.solve(grids[i], masses[i], steps, 2**j) for i, j in PAIRS}
        wide_grid, *cut = wider(plan.grid, self.support)
        wide = self.stepper.solve(wide_grid, positive_masses(self.law, wide_grid), steps, 1) if any(cut) else None
        halves = positive_masses(self.law, plan.grid.refine(8), self.stepper.ring).reshape(-1, 2).sum(axis=1)
        density = np.abs(halves - finest) / grids[2].widths
        # where in its cell an atom stands is an error of space
        initial = 0.0 if isinstance(self.law, Empirical) else float(density.max() / (finest / grids[2].widths).max())
        outside = mass_outside(self.law, plan.grid)
        tableau = Tableau(levels, wide, (cut[0], cut[1]), initial, outside, np.ones(self.times.size))
        field = tableau.field("logpdf")
        if before is not None:
            tableau = replace(tableau, distrust=self._distrust(before, field, tableau.grid))
            field = tableau.field("logpdf")
        return _Round(plan, tableau, field, relative_errors(field, self._rows))

    def _distrust(self, before: _Round, field: Field, grid: Grid) -> np.ndarray:
        """Factors that raise the estimate to the change since the round before, where that exceeded its estimate."""
        factors, old = np.ones(self.times.size), before.tableau.grid
        inside = (old.faces > grid.left) & (old.faces < grid.right)
        x = old.faces[inside]
        for k in range(self._rows.start or 0, self.times.size):
            was, now = np.exp(before.field.value[k][inside]), self._density_at(grid, field.value[k], x)
            change = float(np.abs(was - now).max() / now.max())
            row = slice(k, k + 1)
            if change > sum(relative_errors(before.field, row).values()):
                factors[k] = max(1.0, change / sum(relative_errors(field, row).values()))
        return factors

    def _density_at(self, grid: Grid, logs: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Density at points from log q at the faces, but next to an end where q vanishes from q itself."""
        values, places = np.exp(interpolate(grid, logs, x)), grid.place(x)
        for absorbs, end in zip(self.stepper.vanishing(grid), (0.0, float(grid.cells)), strict=True):
            near = np.abs(places - end) < POINTS
            if absorbs and near.any():
                values[near] = interpolate(grid, np.exp(logs), x[near])
        return values

    def _next_plan(self, plan: _Plan, errors: dict[str, float]) -> _Plan | None:
        """More cells by the sixth and more steps by the cube root of what is missing; a wider domain if that is it."""
        aim = _AIM * self.goal
        cells, steps, grid = plan.grid.cells, plan.steps, plan.grid
        if errors["space"] > aim and self.given is None:
            factor = float(np.clip(1.1 * (errors["space"] / aim) ** (1 / 6), 1.15, 2.0))
            cells = 8 * math.ceil(factor * cells / 8)
        if errors["time"] > aim:
            factor = float(np.clip(1.1 * (errors["time"] / aim) ** (1 / 3), 1.15, 3.0))
            steps = math.ceil(factor * steps)
        if 0.2 * self.goal < errors["domain"] < 0.5 * self._domain and self.given is None:
            self._domain = errors["domain"]
            grid = wider(grid, self.support)[0]
            cells = math.ceil(cells * grid.cells / plan.grid.cells)
        if (cells, steps) == (plan.grid.cells, plan.steps):
            if max(errors["space"], errors["time"]) < sum(errors.values()) - self.goal:
                return None  # neither cells nor steps would help
            cells, steps = (cells if self.given else math.ceil(1.25 * cells)), math.ceil(1.5 * steps)
        return _Plan(replace(grid, cells=cells), steps)

    def _account(self, last: _Round) -> str:
        cells, steps = last.tableau.grid.cells, last.plan.steps
        return f"extrapolated from {cells // 4} to {cells} cells and {steps} to {4 * steps} steps"

    def _stats(self, last: _Round, rounds: int, slices: TableauSlices) -> dict[str, Any]:
        grid, steps = last.tableau.grid, last.plan.steps
        held, limited = (part[self._rows] for part in slices.limiter)
        inside, absorbed = slices.masses.sum(axis=1), slices.absorbed
        end = slices(self.t_span[1]) if any(self.stepper.absorbing(grid)) else slices(float(self.times[-1]))
        return {
            "scheme": "robust",
            "levels": len(PAIRS),
            "cells": [grid.cells // 4, grid.cells // 2, grid.cells],
            "steps": [steps, 2 * steps, 4 * steps],
            "rounds": rounds,
            "cell_steps": self.stepper.cell_steps,
            "evaluations": self.stepper.evaluations,
            "domain": (grid.left, grid.right),
            "limiter": {"faces": int(limited.sum()), "largest transfer held back": float(held.max(initial=0.0))},
            "mass": {
                "inside": float(end.masses.sum()),
                "absorbed left": end.absorbed[0],
                "absorbed right": end.absorbed[1],
            },
            "mass defect": float(np.abs(inside + absorbed.sum(axis=1) - 1.0).max()),
            "min q": float((slices.masses / grid.widths).min()),
        }


class TableauSlices:
    """Slices of a tableau at its saved times; at another time the last round is made once more."""

    def __init__(self, rounds: Rounds, last: _Round) -> None:
        self._rounds, self._last, self._times = rounds, last, rounds.times
        self._open = rounds.stepper.ring or any(rounds.stepper.absorbing(last.plan.grid))
        names = (*NAMES, "flux") if self._open else NAMES
        self._tableau, self._fields = last.tableau, {name: last.tableau.field(name) for name in names}
        self.masses, self.absorbed, *limiter = last.tableau.masses()
        self.limiter = (limiter[0], limiter[1])

    def __call__(self, t: float) -> Slice:
        """Slice at one time."""
        found = np.flatnonzero(self._times == t)
        if found.size:
            k = int(found[0])
            masses, absorbed = self.masses[k], self.absorbed[k]
            return self._slice(t, masses, absorbed, lambda name: self._fields[name].row(k))
        tableau = self._rounds.again(self._last, t)
        masses, absorbed, *_ = tableau.masses()
        return self._slice(t, masses[0], absorbed[0], lambda name: tableau.field(name).row(0))

    def _slice(self, t: float, masses: np.ndarray, absorbed: np.ndarray, field: Callable[[str], Field]) -> Slice:
        def compute(name: str) -> Field:
            return self._shown(name, field(name))

        gone = (float(absorbed[0]), float(absorbed[1]))
        return Slice(self._tableau.grid, t, masses, compute, gone, self._open)

    def _half_width(self) -> float:
        """Half the width of the middle 80 % of the mass, where it is narrowest."""
        tops = np.cumsum(self.masses, axis=1)
        faces = self._tableau.grid.faces
        cores = [np.interp([0.1, 0.9], top / top[-1], faces[1:]) for top in tops]
        return 0.5 * min(float(np.ptp(core)) for core in cores)

    def _shown(self, name: str, field: Field) -> Field:
        """The field with the error of a value from the other side where g jumps within a few cells.

        Errors of log q are cut off where nothing is known any more.
        """
        if name == "logpdf":
            part = np.minimum(1.0, _UNKNOWN / np.maximum(field.total, 1e-300))
            field = Field(field.value, {cause: part * error for cause, error in field.errors.items()})
        grid, space = self._tableau.grid, field.errors["space"].copy()
        for place in grid.place(self._rounds.jumps):
            for turn in (-grid.cells, 0, grid.cells) if self._rounds.stepper.ring else (0,):
                first = int(place) + turn - _NEAR_JUMP
                near = slice(max(first, 0), max(first + 2 * _NEAR_JUMP + 2, 0))
                space[near] += np.ptp(field.value[near]) if field.value[near].size else 0.0
            # where in its cell g jumps is an error of first order that differences between levels do not show
            width = float(np.diff(grid.nodes(np.array([place - 0.5, place + 0.5])))[0])
            space += width / self._half_width() * np.abs(field.value if name != "logpdf" else 1.0).max()
        return Field(field.value, field.errors | {"space": space})
