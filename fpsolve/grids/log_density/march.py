"""The log-density marched through slabs of time, each with points of its own."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsolve.errors import BlowUp, CoefficientError
from fpsolve.grids.log_density.nodes import Nodes
from fpsolve.kernels.coefficients import OK
from fpsolve.kernels.log_density import NOT_FINITE, STEP_VANISHED, TOO_MANY, march, single_step
from fpsolve.problem.law import Law
from fpsolve.problem.process import Process

_ROOM = 256  # steps that are kept before more room is made
_MOST_STEPS = 5_000  # in one slab
_EVALUATIONS = 3e7  # of each coefficient in a usual solve
_NOISE = 3e-13  # rounding of log q in one step, relative, after extrapolation has amplified it


class Equation:
    """The equation of ± log q as the kernel takes it: coefficients, and the sign of the unknown.

    With `reversed_clock` the unknown is V = -log q at t1 - τ, the value function of the control problem.
    """

    def __init__(self, process: Process, span: tuple[float, float], reversed_clock: bool) -> None:
        self.process, self.span = process, span
        self.sign = -1.0 if reversed_clock else 1.0
        parts = (process.drift_coefficient, process.diffusion_coefficient)
        self._changes = any(part.uses_t for part in parts)
        self.blocks = [part.block(_EVALUATIONS, span) for part in parts]
        self.point_steps = 0

    @property
    def _problem(self) -> tuple[Any, ...]:
        return (*((block.address, block.params) for block in self.blocks), self.sign)

    def _moves(self, nodes: Nodes) -> bool:
        return self._changes or nodes.velocity is not None

    def _check(self, status: int, t: float) -> None:
        if status in (OK, TOO_MANY):
            return
        for block in self.blocks:
            block.raise_stored()
        if status == NOT_FINITE:
            rule = "coefficients must be finite with their derivatives where log q is solved for"
            fix = "correct them there, or give a grid= without that point"
            raise CoefficientError(rule, f"NaN or infinity near t={t:.6g}", fix)
        if status == STEP_VANISHED:
            raise BlowUp(f"log q changes without limit at t={t:.6g}: no step is short enough", x=np.nan, time=t)

    def follow(
        self, nodes: Nodes, logs: np.ndarray, t: float, end: float, tol: float, step: float
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """March log q from t to `end`; returns (times, log q at them, next step), the start among them."""
        times, states, u = [np.array([t])], [logs[None, :]], self.sign * logs
        while t < end:
            room, at = np.empty((_ROOM, u.size)), np.empty(_ROOM)
            status, taken, step, refused = march(
                u, t, end, (tol, _NOISE), step, nodes.points, self._problem, self._moves(nodes), room, at
            )
            self.point_steps += (taken + refused) * u.size
            self._check(status, at[taken - 1] if taken else t)
            if taken:
                t, u = float(at[taken - 1]), room[taken - 1]
                times.append(at[:taken])
                states.append(self.sign * room[:taken])
            if sum(part.size for part in times) > _MOST_STEPS:
                raise BlowUp(f"more than {_MOST_STEPS} steps are needed near t={t:.6g}", x=np.nan, time=t)
        return np.concatenate(times), np.concatenate(states), step

    def single(self, nodes: Nodes, logs: np.ndarray, t: float, length: float) -> np.ndarray:
        """One step of that length."""
        self.point_steps += logs.size
        status, u = single_step(self.sign * logs, t, length, nodes.points, self._problem, self._moves(nodes))
        self._check(status, t)
        return self.sign * u

    def steps(self, nodes: Nodes, logs: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Log q at `times`, from `logs` at the first of them, by one step from each to the next."""
        states = np.empty((times.size, logs.size))
        states[0] = logs
        for k in range(times.size - 1):
            states[k + 1] = self.single(nodes, states[k], float(times[k]), float(times[k + 1] - times[k]))
        return states


@dataclass
class Slab:
    """Points for one slab of time, and at its end; what was found there: times (k,), log q (k, n)."""

    start: float
    end: float
    nodes: Nodes
    after: Nodes
    times: np.ndarray | None = None
    logs: np.ndarray | None = None


class Track:
    """The solution at one resolution and tolerance, known at every time.

    With `like` it takes the steps of that other track instead, each in `parts` parts.
    """

    def __init__(
        self,
        equation: Equation,
        law: Law,
        slabs: list[Slab],
        tol: float,
        like: Track | None = None,
        parts: int = 1,
    ) -> None:
        self.equation, self.slabs, self.tol = equation, slabs, tol
        logs, before, step = np.empty(0), None, 1e-3 * (slabs[0].end - slabs[0].start)
        for k, slab in enumerate(slabs):
            x = slab.nodes.x
            if before is None:
                logs = law.logpdf(x)
            elif before.x.size != x.size or (before.x != x).any():
                logs = before.interpolate(logs, x)
            if like is None:
                slab.times, slab.logs, step = equation.follow(slab.nodes, logs, slab.start, slab.end, tol, step)
            else:
                known: Any = like.slabs[k].times
                slab.times = np.interp(np.arange(parts * (known.size - 1) + 1) / parts, np.arange(known.size), known)
                slab.logs = equation.steps(slab.nodes, logs, slab.times)
            logs, before = slab.logs[-1], slab.after
        self._ends = [slab.end for slab in slabs]

    @property
    def steps(self) -> int:
        """Steps that were taken."""
        return sum(slab.times.size - 1 for slab in self.slabs)  # type: ignore[union-attr, misc]

    def at(self, t: float) -> tuple[Nodes, np.ndarray]:
        """Points and log q at time t."""
        slab = self.slabs[min(bisect.bisect_left(self._ends, t), len(self.slabs) - 1)]
        k = int(np.searchsorted(slab.times, t, side="right")) - 1  # type: ignore[call-overload]
        logs, start = slab.logs[k], float(slab.times[k])  # type: ignore[index]
        if start != t:
            logs = self.equation.single(slab.nodes, logs, start, t - start)
        return slab.nodes.at(t) if t < slab.end else slab.after, logs
