"""The Fokker-Planck equation on a grid: levels, refinement until the estimate meets the goal, an account of it."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fpsolve.errors import DensityError, InputError, check_choice, check_number, check_t_span, check_times
from fpsolve.grids.domain import (
    Scouting,
    check_grid_holds,
    choose_grid,
    initial_masses,
    mass_outside,
    schedule,
    scout,
    wider,
)
from fpsolve.grids.extrapolation import COST, PAIRS, STEPS, interpolate
from fpsolve.grids.fields import CAUSES, Field, Tableau
from fpsolve.grids.scheme import Stepper
from fpsolve.grids.solution import GridEvolution
from fpsolve.problem.density import as_law
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law
from fpsolve.problem.mixtures import Empirical
from fpsolve.problem.process import Process

SCHEMES = ("auto", "robust")
BUDGET = 2e8  # cell-steps of one call, about 3 seconds
_FIRST_CELLS, _FIRST_STEPS = 96, 32  # at the coarsest level of the first round
_AIM = 0.35  # part of rtol that each of space and time may use
_SAVED = 33
_ROUNDS = 12


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


def solve_fokker_planck(
    process: Process,
    q0: Any,
    t_span: tuple[float, float],
    *,
    grid: Grid | None = None,
    t_eval: Any = None,
    scheme: str = "auto",
    rtol: float = 1e-6,
    progress: bool = False,
) -> GridEvolution:
    """Solve ∂t q = -∂x(f q) + ½ ∂xx(g² q) from the law `q0` at t_span[0], refining until the estimate meets `rtol`.

    Backward Euler on exponentially fitted fluxes (Chang & Cooper 1970): positive for any step, mass kept to rounding.
    Six levels of cells and steps are extrapolated to third degree in (h², τ).

    Parameters
    ----------
    process : SDE or ODE
        Ends of its support that are "natural" or "reflecting" carry no flux.
    q0 : density
        Any law with a density.
    t_span : (float, float)
        Span, t0 < t1.
    grid : Grid, optional
        Finest grid: ends and grading are kept, cells rounded up to a multiple of four, the coarser levels have a half
        and a quarter of them. Without it domain, grading and cells are chosen.
    t_eval : array_like, optional
        Times at which the solution is known, met exactly; 33 equally spaced ones unless given.
    scheme : {"auto", "robust"}
        Both are the robust scheme at present.
    rtol : float
        Goal for max|Δq|/max q at every saved time; `error` and `message` of the result say what was reached.
    progress : bool
        Write one line per round to stderr.

    Raises
    ------
    InputError, DensityError
        For a bad argument, or mass of `q0` outside the grid or the support.
    MassEscape
        If mass runs to infinity in finite time.
    CoefficientError
        If a coefficient is not finite where it is needed; what it raises comes back as itself.

    Examples
    --------
    >>> q = fps.solve_fokker_planck(fps.SDE(lambda x: -x, 2**0.5), fps.Normal(1, 0.5), (0, 1), t_eval=[1.0])
    >>> exact = fps.Normal(np.exp(-1), (1 - 0.75 * np.exp(-2))**0.5)
    >>> bool(abs(q.pdf(0.3, 1.0) - exact.pdf(0.3)) < 1e-6), q.error["pdf"].worst < 1e-6
    (True, True)
    """
    check_choice("scheme", scheme, SCHEMES)
    span = check_t_span(t_span)
    times = np.linspace(*span, _SAVED) if t_eval is None else check_times("t_eval", t_eval, span)
    goal = check_number("rtol", rtol, above=0.0, below=1.0)
    ito, law = _checked_problem(process, q0, grid)
    return _solve(process, ito, law, span, times, goal, grid, progress)


def _solve(
    process: Process,
    ito: Process,
    law: Law,
    span: tuple[float, float],
    times: np.ndarray,
    goal: float,
    grid: Grid | None,
    progress: bool,
) -> GridEvolution:
    started = time.perf_counter()
    stepper = Stepper(ito, span)
    scouting = scout(stepper, law, span)
    solver = _Rounds(stepper, law, span, times, goal, scouting, grid)
    scouted = time.perf_counter()
    tableau = solver.refine(progress)
    solved = time.perf_counter()
    stats = solver.stats | {
        "seconds": {"scouting": scouted - started, "levels": solved - scouted},
        "coefficients": {"drift": stepper.blocks[0].how, "diffusion": stepper.blocks[1].how},
    }
    return GridEvolution(process, law, span, times, tableau, solver.message, stats)


def _checked_problem(process: Any, q0: Any, grid: Grid | None) -> tuple[Process, Law]:
    if not isinstance(process, Process):
        raise InputError("process must be an SDE or an ODE", process, "write for instance fps.SDE(lambda x: -x, 1.0)")
    for kind in process.boundary:
        if kind not in ("natural", "reflecting"):
            rule = "solve_fokker_planck takes natural and reflecting ends"
            raise InputError(rule, kind, "use one of these two for now")
    law = as_law(q0, "q0")
    if isinstance(law, Empirical):
        raise InputError(
            "solve_fokker_planck starts from a law with a density",
            law,
            "start from a narrow fps.Normal or a fps.KDE, or use exact_evolution for a linear process",
        )
    left, right = process.support
    outside = float(law.cdf(left)) + float(law.sf(right))
    if outside > 1e-9:
        rule = "q0 must lie within the support of the process"
        raise DensityError(rule, f"mass {outside:.3g} outside [{left:g}, {right:g}]", "truncate or move q0")
    if grid is not None:
        if not isinstance(grid, Grid):
            raise InputError("grid must be a Grid", grid, "write for instance fps.Grid(-8, 8, 400)")
        if grid.left < left or grid.right > right:
            rule = f"a grid must lie within the support [{left:g}, {right:g}]"
            raise InputError(rule, (grid.left, grid.right), "cut the grid")
        check_grid_holds(law, grid)
    return process.to_ito(), law


class _Rounds:
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
    ) -> None:
        self.stepper, self.law, self.t_span, self.times = stepper, law, t_span, times
        self.goal, self.scouting, self.given = goal, scouting, given
        self.support = stepper.process.support
        # the law itself stands at the first time: nothing is to be refined for it
        self._rows = slice(1, None) if times[0] == t_span[0] and times.size > 1 else slice(None)
        self.message = ""
        self.stats: dict[str, Any] = {}

    def refine(self, progress: bool) -> Tableau:
        """Return the tableau of the last round; at least two are made, each a test of the one before."""
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
        self._report(last, made, reason)
        return last.tableau

    def _first_plan(self) -> _Plan:
        if self.given is None:
            return _Plan(choose_grid(self.scouting, self.support, _FIRST_CELLS), _FIRST_STEPS)
        return _Plan(replace(self.given, cells=max(8, -(-self.given.cells // 4))), _FIRST_STEPS)

    def _solve(self, plan: _Plan, before: _Round | None) -> _Round:
        steps = schedule(self.scouting, self.t_span, self.times, plan.steps)
        self.stepper.prepare(2 * plan.grid.cells, 2 * STEPS * steps.steps)  # about as much again will follow
        finest = initial_masses(self.law, plan.grid.refine(4))
        masses = {0: finest.reshape(-1, 4).sum(axis=1), 1: finest.reshape(-1, 2).sum(axis=1), 2: finest}
        grids = {i: plan.grid.refine(2**i) for i in range(3)}
        levels = {(i, j): self.stepper.solve(grids[i], masses[i], steps, 2**j) for i, j in PAIRS}
        wide_grid, *cut = wider(plan.grid, self.support)
        wide = self.stepper.solve(wide_grid, initial_masses(self.law, wide_grid), steps, 1) if any(cut) else None
        halves = initial_masses(self.law, plan.grid.refine(8)).reshape(-1, 2).sum(axis=1)
        density = np.abs(halves - finest) / grids[2].widths
        initial = float(density.max() / (finest / grids[2].widths).max())
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
            was, now = np.exp(before.field.value[k][inside]), np.exp(interpolate(grid, field.value[k], x))
            change = float(np.abs(was - now).max() / now.max())
            row = slice(k, k + 1)
            if change > sum(relative_errors(before.field, row).values()):
                factors[k] = max(1.0, change / sum(relative_errors(field, row).values()))
        return factors

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
        if errors["domain"] > 0.2 * self.goal and self.given is None:
            grid = wider(grid, self.support)[0]
            cells = math.ceil(cells * grid.cells / plan.grid.cells)
        if (cells, steps) == (plan.grid.cells, plan.steps):
            if max(errors["space"], errors["time"]) < sum(errors.values()) - self.goal:
                return None  # neither cells nor steps would help
            cells, steps = (cells if self.given else math.ceil(1.25 * cells)), math.ceil(1.5 * steps)
        return _Plan(replace(grid, cells=cells), steps)

    def _report(self, last: _Round, rounds: int, reason: str) -> None:
        grid, steps, errors, total = last.tableau.grid, last.plan.steps, last.errors, last.total
        chosen = "given" if self.given is not None else "chosen so that less than 1e-13 stays outside"
        graded = "" if grid.stretch is None else f", graded beyond {grid.stretch:.3g} of {grid.centre:.3g}"
        self.message = (
            f"robust scheme (the only one so far), extrapolated from {grid.cells // 4} to {grid.cells} cells on "
            f"[{grid.left:.4g}, {grid.right:.4g}] ({chosen}{graded}) and {steps} to {4 * steps} steps: estimated error "
            f"of q {total:.1e} of its maximum, mostly {max(errors, key=lambda cause: errors[cause])}, "
            f"{'meets' if total <= self.goal else 'misses'} rtol={self.goal:.0e}" + (f"; {reason}" if reason else "")
        )
        self.stats = {
            "scheme": "robust",
            "levels": len(PAIRS),
            "cells": [grid.cells // 4, grid.cells // 2, grid.cells],
            "steps": [steps, 2 * steps, 4 * steps],
            "rounds": rounds,
            "cell_steps": self.stepper.cell_steps,
            "evaluations": self.stepper.evaluations,
            "domain": (grid.left, grid.right),
        }
