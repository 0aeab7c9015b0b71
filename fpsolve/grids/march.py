"""One high-order solve: cell masses at the ends of adaptive steps, and at any time in between by one more step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev

from fpsolve.errors import BlowUp, CoefficientError
from fpsolve.grids.stencils import Stencils, derivative_weights, stencils
from fpsolve.kernels.coefficients import OK, RAISED, Block
from fpsolve.kernels.implicit import (
    FRACTIONS,
    LANES,
    REACH,
    STEP_VANISHED,
    TOO_MANY,
    fill_fluxes,
    follow_steps,
    march,
    workspace,
)
from fpsolve.problem.grid import Grid
from fpsolve.problem.process import Process

SUBSTEPS = 16  # of one step
_CELL_STEPS_PER_CALL = 40_000  # 4 ms, 20 where coefficients move: afterwards Python sees Ctrl-C
_KEPT = 64  # states between steps that are remembered
_NODES = 12  # of the polynomial in time through one step
_FIRST_STEP = 0.02  # part of the span, at a tolerance of one
_FLUX_MATCH, _DEPTH = 1e-11, 16  # of integrals of fluxes over a part of a step, and how often it is bisected
_EVALUATIONS = 2e5  # of a coefficient that depends on t, in one call
_TARGET = 0.5  # part of the tolerance at which steps aim

_derivative_weights = lru_cache(maxsize=64)(derivative_weights)


@dataclass(frozen=True)
class Setting:
    """What all solves of one problem share: process (Itô), span, order in x, ends that absorb, or that are joined to a
    ring, times inside the span at which a step must end."""

    process: Process
    t_span: tuple[float, float]
    order: int
    absorbing: tuple[bool, bool] = (False, False)
    ring: bool = False
    landings: tuple[float, ...] = ()

    @property
    def moves(self) -> bool:
        """Whether a coefficient depends on t."""
        return self.process.drift_coefficient.uses_t or self.process.diffusion_coefficient.uses_t

    @cached_property
    def blocks(self) -> tuple[Block, Block]:
        """f and g for kernels."""
        drift, noise = (
            c.block(_EVALUATIONS if c.uses_t else 0, self.t_span)
            for c in (self.process.drift_coefficient, self.process.diffusion_coefficient)
        )
        return drift, noise

    def __getstate__(self) -> dict[str, Any]:
        """Travel without addresses of this process."""
        return {name: value for name, value in self.__dict__.items() if name != "blocks"}


class March:
    """Masses of the cells of `grid` from `masses` on; `tol` bounds the local error of q relative to its maximum.

    With `ends` the steps are those between these times instead.

    Attributes
    ----------
    times : ndarray (S + 1,)
        Ends of the steps, t0 first.
    states : ndarray (S + 1, cells)
        Masses there.
    local_errors : ndarray (S,)
        Estimated local errors.
    refused : int
        Steps that were repeated.
    profiles : dict
        Fields that were made of the masses, by time.
    """

    def __init__(
        self, setting: Setting, grid: Grid, masses: np.ndarray, tol: float, ends: np.ndarray | None = None
    ) -> None:
        self.setting, self.grid, self.tol = setting, grid, tol
        unit = stencils(grid.cells, setting.order, setting.absorbing, setting.ring)
        h = grid.step
        self.stencils = Stencils(unit.value / h, unit.slope / h**2, unit.ring)
        self.dx, self.dxx = grid.slopes(grid.faces)
        self._density = grid.slopes(grid.x)[0] / h
        self._problem = self._assembled()
        self._work = workspace(grid.cells, setting.ring)
        self._fresh = True  # no coefficients in the workspace
        self._take(masses, ends)

    def _take(self, masses: np.ndarray, ends: np.ndarray | None) -> None:
        """Take the steps; nothing is known of what lies between them."""
        self.refused = 0
        self._between: OrderedDict[float, np.ndarray] = OrderedDict()
        self._panels: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._end_fluxes: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self._gone = [np.zeros(2)]
        self.profiles: dict[float, Any] = {}
        if ends is None:
            self._run(masses)
        else:
            self._follow(masses, ends)

    def __getstate__(self) -> dict[str, Any]:
        """Travel without addresses of this process, and without what can be made again."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_problem", "_work", "_fresh")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._problem, self._work, self._fresh = self._assembled(), workspace(self.grid.cells, self.setting.ring), True

    def halved(self) -> March:
        """The same from the same masses, every step in two halves."""
        other = copy(self)  # coefficients, weights and room to work are shared
        other._take(self.states[0], np.sort(np.concatenate([self.times, 0.5 * (self.times[1:] + self.times[:-1])])))
        return other

    @property
    def steps(self) -> int:
        """Number of steps."""
        return self.times.size - 1

    @property
    def evaluations(self) -> int:
        """Values of each coefficient that were asked for."""
        times = FRACTIONS.size * (self.steps + self.refused) if self.setting.moves else 1
        return times * self._problem[0][0].size

    @property
    def cell_steps(self) -> int:
        """Cells times steps, those included that were repeated."""
        return self.grid.cells * (self.steps + self.refused)

    def _assembled(self) -> tuple:
        grid, n, support = self.grid, self.grid.cells, self.setting.process.support
        # g² is differentiated on the faces and, inside the support, on REACH points beyond each end
        around = grid.nodes(np.arange(-REACH, n + REACH + 1.0))
        around[REACH : n + REACH + 1] = grid.faces
        inside = (around > support[0]) & (around < support[1])
        inside[REACH : n + REACH + 1] = True
        if self.setting.ring:
            width = support[1] - support[0]
            around[:REACH] += width
            around[n + REACH + 1 :] -= width
            inside[:] = True
        x = np.ascontiguousarray(around[inside])
        start = int(inside[:REACH].sum())
        first, weights = _derivative_weights(x.size, start, n + 1)
        lattice = (x, np.append(first, start), weights / grid.step)
        drift, noise = ((block.address, block.params) for block in self.setting.blocks)
        ends = tuple(not (absorbs or self.setting.ring) for absorbs in self.setting.absorbing)
        return lattice, (self.dx, self.dxx), ends, drift, noise, self.stencils.value, self.stencils.slope

    def _run(self, masses: np.ndarray) -> None:
        t0, t1 = self.setting.t_span
        rows = min(max(4, _CELL_STEPS_PER_CALL // masses.size), 400)
        state, t, step = masses.copy(), t0, _FIRST_STEP * self.tol ** (1.0 / LANES) * (t1 - t0)
        times, states, errors = [np.array([t0])], [masses[None].copy()], []
        for landing in (*self.setting.landings, t1):
            while t < landing:
                room, at, local = np.empty((rows, masses.size)), np.empty(rows), np.empty(rows)
                status, taken, step, refused = march(
                    state,
                    (t, landing),
                    _TARGET * self.tol,
                    self.tol,
                    step,
                    self._density,
                    self._problem,
                    self.setting.moves,
                    self._work,
                    room,
                    at,
                    local,
                )
                times.append(at[:taken])
                states.append(room[:taken].copy())
                errors.append(local[:taken])
                self.refused += refused
                t = float(at[taken - 1]) if taken else t
                if status not in (OK, TOO_MANY):
                    self._explain(status, t, state)
        self._fresh = False
        self.times, self.states = np.concatenate(times), np.concatenate(states)
        self.local_errors = np.concatenate(errors)

    def _follow(self, masses: np.ndarray, ends: np.ndarray) -> None:
        """Take the steps between the given times."""
        self.times, self.states = ends, np.empty((ends.size, masses.size))
        self.states[0], self.local_errors = masses, np.zeros(ends.size - 1)
        stride = max(1, _CELL_STEPS_PER_CALL // masses.size)
        for k in range(0, self.steps, stride):
            times, states = ends[k : k + stride + 1], self.states[k : k + stride + 1]
            self._step_through(times, states)

    def _step_through(self, times: np.ndarray, states: np.ndarray) -> None:
        """Steps from states[0] between the times into states[1:]."""
        status, taken = follow_steps(times, self._problem, self.setting.moves, self._work, self._fresh, states)
        if status != OK:
            self._explain(status, float(times[taken + 1]), states[taken])
        self._fresh = False

    def _explain(self, status: int, t: float, state: np.ndarray) -> None:
        if status == RAISED:
            for block in self.setting.blocks:
                block.raise_stored()
        x, process = self._problem[0][0], self.setting.process
        process.drift(x, t)  # the checked call names the coefficient, the point and the value
        process.diffusion(x, t)
        if status == STEP_VANISHED:
            message = f"no step after t={t:g} is short enough for a local error of {self.tol:.0e}"
            raise BlowUp(message, x=float(self.grid.x[int(np.abs(state).argmax())]), time=t)
        raise CoefficientError("g² must be finite on the grid", f"an overflow near t={t:g}", "bound the diffusion")

    def masses(self, t: float) -> np.ndarray:
        """Cell masses (n,) at time `t`: at the end of a step as they are, else by one step from the last end before."""
        k = int(np.searchsorted(self.times, t))
        if k < self.times.size and self.times[k] == t:
            return self.states[k]
        if t not in self._between:
            if len(self._between) >= _KEPT:
                self._between.popitem(last=False)
            self._between[t] = self._advanced(k - 1, t)
        return self._between[t]

    def _advanced(self, k: int, t: float) -> np.ndarray:
        states = np.empty((2, self.grid.cells))
        states[0] = self.states[k]
        self._step_through(np.array([self.times[k], t]), states)
        return states[1]

    def _step_of(self, t: float) -> int:
        return min(max(int(np.searchsorted(self.times, t)), 1), self.steps) - 1

    def step_around(self, t: float) -> float:
        """Length of the step that holds `t`."""
        k = self._step_of(t)
        return float(self.times[k + 1] - self.times[k])

    def _panel(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Nodes in time of step k, and the masses there."""
        if k not in self._panels:
            a, b = self.times[k], self.times[k + 1]
            nodes = 0.5 * (a + b) - 0.5 * (b - a) * np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))
            inner = [self._advanced(k, float(node)) for node in nodes[1:-1]]
            if len(self._panels) >= _KEPT:
                self._panels.clear()
            self._panels[k] = nodes, np.array([self.states[k], *inner, self.states[k + 1]])
        return self._panels[k]

    def rates(self, t: float) -> np.ndarray:
        """∂t of the cell masses (n,): the derivative of the polynomial in t through the masses at nodes of one step."""
        nodes, values = self._panel(self._step_of(t))
        return slope_weights(nodes, t) @ values

    def end_fluxes(self, masses: np.ndarray, t: float) -> tuple[float, float]:
        """Flux J through the left and the right end, from the coefficients there; zero at a closed end."""
        if not (self.setting.ring or any(self.setting.absorbing)):
            return 0.0, 0.0
        n = self.grid.cells
        velocity, spread = np.empty(n + 1), np.empty(n + 1)
        lattice, geometry, ends, drift, noise, value, slope = self._problem
        status = fill_fluxes(lattice, geometry, ends, t, drift, noise, velocity, spread)
        if status != OK:
            self._explain(status, t, masses)
        window = np.pad(masses, REACH, mode="wrap" if self.setting.ring else "constant")
        left = velocity[0] * value[0] @ window[: 2 * REACH] - spread[0] * slope[0] @ window[: 2 * REACH]
        right = velocity[n] * value[n] @ window[n:] - spread[n] * slope[n] @ window[n:]
        return float(left), float(right)

    def absorbed(self, t: float) -> tuple[float, float]:
        """Mass that has left through each absorbing end: its flux, integrated over time by polynomials in each step."""
        if not any(self.setting.absorbing) or t <= self.times[0]:
            return 0.0, 0.0
        last = self._step_of(t)
        while len(self._gone) <= last:
            k = len(self._gone) - 1
            self._gone.append(self._gone[-1] + self._flown(k, float(self.times[k + 1])))
        gone = np.array([-1.0, 1.0]) * self.setting.absorbing * (self._gone[last] + self._flown(last, t))
        return float(gone[0]), float(gone[1])

    def _flown(self, k: int, t: float) -> np.ndarray:
        """Integral of the fluxes through both ends from the start of step k until t."""
        if k not in self._end_fluxes:
            self._end_fluxes[k] = self._resolved_fluxes(k, float(self.times[k]), float(self.times[k + 1]), 0)
        total = np.zeros(2)
        for nodes, fluxes in self._end_fluxes[k]:
            if nodes[0] < t:
                total += integral_weights(nodes, min(t, float(nodes[-1]))) @ fluxes
        return total

    def _resolved_fluxes(self, k: int, a: float, b: float, depth: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Nodes in time between a and b, and fluxes there, bisected until two halves integrate to the same."""
        whole, left, right = (self._fluxes_at(k, *ends) for ends in ((a, b), (a, 0.5 * (a + b)), (0.5 * (a + b), b)))
        once, twice = (
            sum(integral_weights(nodes, float(nodes[-1])) @ fluxes for nodes, fluxes in parts)
            for parts in ([whole], [left, right])
        )
        if np.abs(once - twice).max() <= _FLUX_MATCH:
            return [left, right]
        if depth == _DEPTH:
            return [left, right]
        middle = 0.5 * (a + b)
        return self._resolved_fluxes(k, a, middle, depth + 1) + self._resolved_fluxes(k, middle, b, depth + 1)

    def _fluxes_at(self, k: int, a: float, b: float) -> tuple[np.ndarray, np.ndarray]:
        nodes = 0.5 * (a + b) - 0.5 * (b - a) * np.cos(np.pi * np.arange(_NODES) / (_NODES - 1))
        start = float(self.times[k])
        masses = [self.states[k] if u == start else self._advanced(k, float(u)) for u in nodes]
        return nodes, np.array([self.end_fluxes(m, float(u)) for m, u in zip(masses, nodes, strict=True)])


def slope_weights(nodes: np.ndarray, t: float) -> np.ndarray:
    """Weights of values at `nodes` in the derivative at `t` of the polynomial through them."""
    return _weights(nodes, chebyshev.chebder, t) / (0.5 * (nodes[-1] - nodes[0]))


def integral_weights(nodes: np.ndarray, t: float) -> np.ndarray:
    """Weights of values at `nodes` in the integral from the first node to `t` of the polynomial through them."""
    return _weights(nodes, lambda c: chebyshev.chebint(c, lbnd=-1.0), t) * (0.5 * (nodes[-1] - nodes[0]))


def _weights(nodes: np.ndarray, operation: Callable[[np.ndarray], np.ndarray], t: float) -> np.ndarray:
    middle, half = 0.5 * (nodes[0] + nodes[-1]), 0.5 * (nodes[-1] - nodes[0])
    system = chebyshev.chebvander((nodes - middle) / half, nodes.size - 1)
    applied = [chebyshev.chebval((t - middle) / half, operation(row)) for row in np.eye(nodes.size)]
    return np.linalg.solve(system.T, np.array(applied))
