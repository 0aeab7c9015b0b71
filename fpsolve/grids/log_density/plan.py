"""Where log q must be resolved, and for how long: domain, layers and slabs of time from a coarse solve.

Layers are where the score rises by Δ over a length of about 1/Δ: between two parts of a mixture, each of which is
largest on one side. They persist and they move, often faster than anything else. The coarse solve gives its points to
them, stops when they have left these points, and starts anew there; what it saw decides the slabs of the solve proper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fpsolve.grids.log_density.march import Equation, Slab
from fpsolve.grids.log_density.nodes import Closure, Nodes, Spacing, dilated, length_scale
from fpsolve.problem.law import Law

REACH_STDS = 15.0  # half-width of the domain in standard deviations
TAIL = 1e-14  # mass outside each end of the domain of a law with heavy tails
_SCOUT = 2.5  # cells per length in the coarse solve
_SCOUT_TOL = 1e-4
_DILATE = 4.0  # lengths by which points reach beyond a layer
_LEFT_BEHIND = 1.7  # times the length that a cell was meant for: then the layers have moved away
_MOST_ROUNDS = 6
_WIDEST = 1.5  # length scale where nothing happens, in standard deviations of the narrowest law
_PLANNED = 2.0  # the same for the solve proper
_LADDER = 1.15


@dataclass
class Seen:
    """One look of the coarse solve: time, points, lengths there, mean and standard deviation."""

    time: float
    x: np.ndarray
    scale: np.ndarray
    middle: float
    half: float


def middle_and_half(nodes: Nodes, logs: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation; of heavy tails those of the middle 80 %, as if normal."""
    mass = nodes.cell_integrals(logs)
    below = np.cumsum(mass) / mass.sum()
    centres = 0.5 * (nodes.x[1:] + nodes.x[:-1])
    low, high = np.interp([0.1, 0.9], below, nodes.x[1:])
    core = (high - low) / 2.563
    mean = float((mass * centres).sum() / mass.sum())
    std = math.sqrt(float((mass * (centres - mean) ** 2).sum() / mass.sum()))
    return (mean, std) if std < 3.0 * core + abs(mean - 0.5 * (low + high)) else (0.5 * (low + high), core)


class Scout:
    """The coarse solve on one domain."""

    def __init__(self, equation: Equation, law: Law, closures: tuple[Closure, Closure]) -> None:
        self.equation, self.law, self.closures = equation, law, closures
        self.seen: list[Seen] = []
        self.knots: list[int] = []  # looks at which points were made anew

    def run(self, left: float, right: float, middle: float, half: float) -> None:
        """Follow log q over the span on [left, right] from a law with mean `middle` and standard deviation `half`."""
        t, end = self.equation.span
        nodes, logs = self._start(left, right, middle, half)
        self.seen, self.knots = [self._look(t, nodes, logs)], [0]
        slab, step = 1e-4 * (end - t), 1e-6 * (end - t)
        while t < end:
            slab = min(slab, 0.3 * nodes.until_they_meet())
            until = end if t + 1.5 * slab > end else t + slab
            times, states, next_step = self.equation.follow(nodes, logs, t, until, _SCOUT_TOL, step)
            kept = 0
            while kept + 1 < times.size:
                here = nodes.at(float(times[kept + 1]))
                look = self._look(float(times[kept + 1]), here, states[kept + 1])
                # where layers have left in the first step there is nothing to go back to
                if kept and self._left_behind(here, look):
                    break
                self.seen.append(look)
                kept += 1
            whole = kept == times.size - 1
            slab = (2.0 if whole else 0.7) * (times[kept] - t)
            t = end if whole and until == end else float(times[kept])
            step = next_step if whole else float(times[kept] - times[kept - 1])
            old = nodes.at(t)
            nodes = self._moving(left, right)
            self.knots.append(len(self.seen) - 1)
            logs = old.interpolate(states[kept], nodes.x)

    def _moving(self, left: float, right: float) -> Nodes:
        """Points for what was seen last, that go on as they went since the last knot."""
        last, before = self.seen[-1], self.seen[self.knots[-1]]
        spacing = self.spacing(last, left, right, _DILATE)
        cells = int(_SCOUT * spacing.count[-1]) + 24
        x, was = spacing.points(cells), self.spacing(before, left, right, _DILATE).points(cells)
        velocity = (x - was) / (last.time - before.time)
        return Nodes(x, self.closures, velocity, last.time)

    def _start(self, left: float, right: float, middle: float, half: float) -> tuple[Nodes, np.ndarray]:
        """Points for the initial law, made anew until its layers are resolved."""
        x = np.concatenate([np.linspace(left, right, 129), middle + np.linspace(-8.0 * half, 8.0 * half, 128)])
        x = np.unique(x[(x >= left) & (x <= right)])
        for _ in range(_MOST_ROUNDS):
            nodes, logs = Nodes(x, self.closures), self.law.logpdf(x)
            look = self._look(self.equation.span[0], nodes, logs)
            look.scale = np.minimum(look.scale, _unresolved(x, logs))
            spacing = self.spacing(look, left, right, _DILATE)
            x = spacing.points(int(_SCOUT * spacing.count[-1]) + 24)
        return Nodes(x, self.closures), self.law.logpdf(x)

    def _look(self, t: float, nodes: Nodes, logs: np.ndarray) -> Seen:
        scale = length_scale(nodes, logs)
        return Seen(t, nodes.x, scale, *middle_and_half(nodes, logs))

    def spacing(self, look: Seen, left: float, right: float, dilate: float) -> Spacing:
        """Length scale for one look."""
        return Spacing(*dilated(look.x, look.scale, dilate), left, right, _WIDEST * look.half)

    def _left_behind(self, nodes: Nodes, look: Seen) -> bool:
        """Whether cells are longer than they should be by now."""
        return bool((np.gradient(nodes.x) > _LEFT_BEHIND / _SCOUT * look.scale)[2:-2].any())


def _unresolved(x: np.ndarray, logs: np.ndarray) -> np.ndarray:
    """Length 2/Δ where the score rises by Δ from one point to the next, and not between the next two."""
    widths = np.diff(x)
    lengths = 0.5 * (widths[1:] + widths[:-1])
    curves = np.diff(np.diff(logs) / widths) / lengths
    apart = np.abs(np.diff(curves))
    rises = np.zeros(x.size)
    rises[2:-1], rises[1:-2] = apart * lengths[1:], np.maximum(rises[1:-2], apart * lengths[:-1])
    with np.errstate(divide="ignore"):
        return 2.0 / rises


def plan(scout: Scout, left: float, right: float, cells: float) -> list[Slab]:
    """Slabs between the knots of the coarse solve, with points that move from those of one knot to those of the next.

    Numbers of points are on a ladder, so that neighbouring slabs mostly have the same points where they meet.
    """
    looks = [scout.seen[k] for k in scout.knots]
    spacings = [scout.spacing(look, left, right, _PLANNED) for look in looks]
    slabs = []
    for k in range(len(looks) - 1):
        needed = cells * max(spacings[k].count[-1], spacings[k + 1].count[-1]) + 24.0
        count = 4 * math.ceil(0.25 * _LADDER ** math.ceil(math.log(needed) / math.log(_LADDER)))
        x, after = spacings[k].points(count), spacings[k + 1].points(count)
        start, end = looks[k].time, looks[k + 1].time
        nodes = Nodes(x, scout.closures, (after - x) / (end - start), start)
        slabs.append(Slab(start, end, nodes, Nodes(after, scout.closures)))
    return slabs
