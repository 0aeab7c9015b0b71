"""The Liouville equation ∂t q = -∂x(v q): along characteristics, or by conservative transport on a grid."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

from fpsolve.errors import (
    BlowUp,
    DensityError,
    InputError,
    check_choice,
    check_number,
    check_t_span,
    check_times,
)
from fpsolve.grids.domain import check_grid_holds
from fpsolve.grids.flows.atoms import AtomEvolution
from fpsolve.grids.flows.characteristics import CharacteristicEvolution
from fpsolve.grids.flows.trajectories import Flow
from fpsolve.grids.flows.transport import Level, choose_grid, find_reach
from fpsolve.grids.flows.transport_solution import TransportEvolution, judge
from fpsolve.grids.flows.velocity import Velocity
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.density import as_law
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law
from fpsolve.problem.mixtures import Empirical
from fpsolve.problem.process import Process

SCHEMES = ("auto", "characteristics", "finite-volume")
BUDGET = 3e7  # cell-steps of one finite-volume solve, about 3 seconds
_SAVED = 33
_FIRST_CELLS = 200
_MOST_CELLS = 25600
_FIRST_TOL, _LEAST_TOL = 1e-4, 1e-12  # of single steps along characteristics
_OUTSIDE = 1e-9
_STILL = 1e-12  # speed through a closed end, relative to the largest, that counts as rounding
_ROUGH = 1e-3  # error of ∂x v summed along a trajectory from which v counts as discontinuous


def solve_liouville(
    process: Process,
    q0: Any,
    t_span: tuple[float, float],
    *,
    grid: Grid | None = None,
    t_eval: Any = None,
    scheme: str = "auto",
    rtol: float = 1e-6,
    progress: bool = False,
) -> Evolution:
    """Solve ∂t q = -∂x(v q) from the law `q0` at t_span[0]; the result is known at every time of the span.

    Parameters
    ----------
    process : ODE or SDE
        The flow; of an SDE the diffusion must be the number 0. Nothing passes "natural" and "reflecting" ends, so v
        must not point out of them; at "absorbing" ends mass leaves (`result.absorbed(t)`), "periodic" ends are joined.
    q0 : density
        Any law; atoms (PointMass, Empirical) move along the flow, which the finite-volume scheme refuses.
    t_span : (float, float)
        Span, t0 < t1.
    grid : Grid, optional
        Finest grid of the finite-volume scheme, which it selects; cells are rounded up to a multiple of four.
    t_eval : array_like, optional
        Times at which `error` is given and `rtol` judged; 33 equally spaced ones unless given.
    scheme : {"auto", "characteristics", "finite-volume"}
        "characteristics": x' = v by an eighth-order method with ∂x v along it, each point traced back to its origin.
        "finite-volume": cell means, MP5 fluxes (Suresh & Huynh 1997) and SSPRK(10,4): fifth order in space, fourth in
        time, no new oscillations, mass kept to rounding. They share no step: only v itself.
        "auto" takes characteristics unless v is not smooth along them; `message` says why.
    rtol : float
        Goal for max|Δq|/max q at the times `t_eval`; `error` and `message` say what was reached.
    progress : bool
        Write one line per round to stderr.

    Raises
    ------
    InputError, DensityError
        For a bad argument, noise, v pointing out of a closed end, or mass of `q0` outside the support or the grid.
    MassEscape
        If more than 1e-9 of the mass runs to infinity in finite time: says to which side and when.
    BlowUp
        If a trajectory cannot be followed.
    CoefficientError
        If the velocity is not finite where it is needed; what it raises comes back as itself.

    Examples
    --------
    >>> q = fps.solve_liouville(fps.ODE(lambda x: -x**3), fps.Normal(0, 1), (0, 1))
    >>> x0 = 0.5 / np.sqrt(1 - 2 * 0.5**2)
    >>> bool(abs(q.cdf(0.5, 1.0) - fps.Normal(0, 1).cdf(x0)) < 1e-9), q.error["pdf"].worst < 1e-6
    (True, True)
    """
    check_choice("scheme", scheme, SCHEMES)
    span = check_t_span(t_span)
    times = np.linspace(*span, _SAVED) if t_eval is None else check_times("t_eval", t_eval, span)
    goal = check_number("rtol", rtol, above=0.0, below=1.0)
    law = _checked_problem(process, q0, grid, scheme, span)
    if isinstance(law, Empirical):
        return AtomEvolution(process, law, span, goal)
    if scheme == "finite-volume" or grid is not None:
        reason = "asked for" if scheme == "finite-volume" else "a grid was given"
        return _on_grid(process, law, span, times, goal, grid, progress, reason)
    if scheme == "characteristics":
        return _along_characteristics(process, law, span, times, goal, progress, "asked for")
    try:
        found = _along_characteristics(process, law, span, times, goal, progress, "chosen: v is smooth along them")
    except BlowUp as refusal:
        reason = f"chosen: no characteristic can be followed from x={refusal.x:.4g} past t={refusal.time:.4g}"
        return _on_grid(process, law, span, times, goal, grid, progress, reason)
    rough = found.roughness()
    if rough < _ROUGH:
        return found
    reason = f"chosen: v is not smooth along characteristics (∂x v is wrong by up to {rough:.1g} in sum)"
    return _on_grid(process, law, span, times, goal, grid, progress, reason)


def _checked_problem(process: Any, q0: Any, grid: Any, scheme: str, span: tuple[float, float]) -> Law:
    if not isinstance(process, Process):
        raise InputError("process must be an ODE", process, "write for instance fps.ODE(lambda x: -x)")
    if not process.is_ode:
        raise InputError(
            "solve_liouville needs a flow without noise (diffusion the number 0)",
            process,
            "use solve_fokker_planck, or the flow process.probability_flow(q)",
        )
    law = as_law(q0, "q0")
    if any(process.moving):
        raise InputError("solve_liouville needs ends that do not move", process, "declare support= as two numbers")
    left, right = process.support
    if isinstance(law, Empirical):
        inside = (law.samples >= left) & (law.samples <= right)
        if not inside.all():
            raise DensityError("q0 must lie within the support of the process", law.samples[~inside][0], "move it")
        if scheme == "finite-volume" or grid is not None:
            fix = 'use scheme="characteristics" without a grid, or a narrow fps.Normal or fps.KDE'
            raise InputError("the finite-volume scheme starts from a law with a density", law, fix)
        if "absorbing" in process.boundary:
            raise InputError("atoms need ends that keep them", process.boundary, "use a narrow fps.Normal")
    else:
        outside = float(law.cdf(left)) + float(law.sf(right))
        if outside > _OUTSIDE:
            rule = "q0 must lie within the support of the process"
            raise DensityError(rule, f"mass {outside:.3g} outside [{left:g}, {right:g}]", "truncate or move q0")
    _check_closed_ends(process, span)
    if grid is not None:
        _check_grid(grid, scheme, law, process)
    return law


def _check_closed_ends(process: Process, span: tuple[float, float]) -> None:
    """Refuse a flow out of a natural or reflecting end: mass would pile up there as an atom."""
    velocity = Velocity(process)
    clock = np.linspace(*span, 65) if process.drift_coefficient.uses_t else [span[0]]
    for side, (end, kind) in enumerate(zip(process.support, process.boundary, strict=True)):
        if not math.isfinite(end) or kind not in ("natural", "reflecting"):
            continue
        inner = end + (1.0, -1.0)[side] * min(1.0, process.support[1] - process.support[0]) * np.array([0.0, 0.1])
        for t in clock:
            v = (-1.0, 1.0)[side] * velocity(inner, float(t))
            if v[0] > _STILL * (1.0 + abs(v[1])):
                raise InputError(
                    f"v must not point out of an end that is {kind}, where mass would pile up in one point",
                    f"v = {(-1.0, 1.0)[side] * v[0]:.6g} at x={end:g}, t={t:g}",
                    'declare the end "absorbing", or a support that the flow does not leave',
                )


def _check_grid(grid: Any, scheme: str, law: Law, process: Process) -> None:
    if not isinstance(grid, Grid):
        raise InputError("grid must be a Grid", grid, "write for instance fps.Grid(-8, 8, 400)")
    if scheme == "characteristics":
        raise InputError("characteristics need no grid", grid, 'leave it out, or use scheme="finite-volume"')
    left, right = process.support
    if grid.left < left or grid.right > right:
        raise InputError(f"a grid must lie within the support [{left:g}, {right:g}]", (grid.left, grid.right), "cut it")
    if "periodic" in process.boundary and ((grid.left, grid.right) != (left, right) or not grid.is_uniform):
        raise InputError(
            "a periodic grid has equal cells over the whole support", grid, f"fps.Grid({left}, {right}, n)"
        )
    check_grid_holds(law, grid)


def _along_characteristics(
    process: Process,
    law: Law,
    span: tuple[float, float],
    times: np.ndarray,
    goal: float,
    progress: bool,
    reason: str,
) -> CharacteristicEvolution:
    """Halve the digits of the steps until the estimate meets the goal, or no longer falls."""
    started = time.perf_counter()
    tol, best = min(_FIRST_TOL, 100.0 * goal), math.inf
    while True:
        flow = Flow(Velocity(process), law, span, tol)
        found = CharacteristicEvolution(process, law, flow, times, "", {})
        worst = found.error["pdf"].worst
        if progress:
            print(f"{flow.x0.size} nodes, {flow.times.size - 1} steps: estimated error {worst:.1e}", file=sys.stderr)
        if worst <= goal or worst > 0.5 * best or tol <= _LEAST_TOL:
            break
        tol, best = max(tol * min(0.1, 0.1 * goal / worst), _LEAST_TOL), worst
    stats = {
        "scheme": "characteristics",
        "nodes": flow.x0.size,
        "steps": flow.times.size - 1,
        "seconds": time.perf_counter() - started,
        "mass left out": (flow.loss.left, flow.loss.right),
    }
    message = (
        f"characteristics ({reason}): {flow.x0.size} nodes, {flow.times.size - 1} steps and their halves: estimated "
        f"error of q {worst:.1e} of its maximum, {'meets' if worst <= goal else 'misses'} rtol={goal:.0e}"
    )
    return found.described(message, stats)


def _on_grid(
    process: Process,
    law: Law,
    span: tuple[float, float],
    times: np.ndarray,
    goal: float,
    given: Grid | None,
    progress: bool,
    reason: str,
) -> TransportEvolution:
    """Double the cells until the estimate meets the goal or the budget is spent; a given grid is used as it is."""
    started = time.perf_counter()
    if given is None:
        first = choose_grid(find_reach(Velocity(process), law, span), process, _FIRST_CELLS // 4)
    else:
        first = replace(given, cells=max(8, -(-given.cells // 4)))
    clock = np.linspace(*span, _SAVED)
    levels = [Level(process, law, span, first.refine(2**k), clock) for k in range(3)]
    if levels[2].cost > 10.0 * BUDGET:
        raise InputError(
            f"a finite-volume solve may take {10 * BUDGET:.0e} cell-steps",
            f"{levels[2].cost:.1e} with {levels[2].grid.cells} cells on [{first.left:.4g}, {first.right:.4g}]",
            'give a coarser or shorter grid=, or use scheme="characteristics"',
        )
    levels = [level.run() for level in levels]
    judged_at = times[times > span[0]]
    spent = ""
    while True:
        three = (levels[-3], levels[-2], levels[-1])
        outside = _outside(three[2], law)
        worst = outside + max(_worst(three, float(t), outside) for t in judged_at) if judged_at.size else outside
        fine = three[2]
        if progress:
            print(f"{fine.grid.cells} cells: estimated error {worst:.1e}", file=sys.stderr)
        if worst <= goal or given is not None:
            break
        if 4 * fine.cost > BUDGET or 2 * fine.grid.cells > _MOST_CELLS:
            spent = f"; the budget of {BUDGET:.0e} cell-steps is spent"
            break
        levels.append(Level(process, law, span, first.refine(2 ** len(levels)), clock).run())
    grid, order = fine.grid, judge(three, span[1], outside).order
    graded = f", {grid.grading()}" if grid.grading() else ""
    message = (
        f"finite-volume ({reason}): {grid.cells // 4}, {grid.cells // 2} and {grid.cells} cells on [{grid.left:.4g}, "
        f"{grid.right:.4g}]{graded}, {int(fine.counts.sum())} steps, observed order {order:.1f}: estimated error of q "
        f"{worst:.1e} of its maximum, {'meets' if worst <= goal else 'misses'} rtol={goal:.0e}{spent}"
    )
    stats = {
        "scheme": "finite-volume",
        "cells": [level.grid.cells for level in three],
        "steps": [int(level.counts.sum()) for level in three],
        "seconds": time.perf_counter() - started,
        "observed order": order,
        "min mass": float(min(mass.min() for mass in fine.masses)),
        "mass defect": float(
            max(abs(m.sum() + lost.sum() - 1.0) for m, lost in zip(fine.masses, fine.lost, strict=True))
        ),
        "mass outside": outside,
    }
    return TransportEvolution(process, law, three, times, outside, message, stats)


def _worst(levels: tuple[Level, Level, Level], t: float, outside: float) -> float:
    judged = judge(levels, t, outside)
    return float(judged.errors["pdf"].max() / judged.snapshots[2].pdf(judged.x).max())


def _outside(level: Level, law: Law) -> float:
    """Mass that the artificial ends may have held back: what stood next to them, and what began beyond them."""
    grid, support = level.grid, level.process.support
    beyond = float(law.cdf(grid.left)) + float(law.sf(grid.right))
    at_ends = [
        max(float(mass[cells].sum()) for mass in level.masses)
        for cells, end, wall in ((slice(0, 2), grid.left, support[0]), (slice(-2, None), grid.right, support[1]))
        if end != wall
    ]
    return beyond + sum(at_ends)
