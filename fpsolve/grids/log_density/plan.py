"""Where log q must be resolved, and for how long: domain, layers and slabs of time from a coarse solve.

Layers are where the score rises by Δ over a length of about 1/Δ: between two parts of a mixture, each of which is
largest on one side. They persist and they move, often faster than anything else. The coarse solve gives its points to
them, stops when they have left these points, and starts anew there; what it saw decides the slabs of the solve proper.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from fpsolve.errors import BlowUp
from fpsolve.grids.log_density.march import Equation, Slab
from fpsolve.grids.log_density.nodes import BETA, Closure, Nodes, Spacing, dilated, length_scale
from fpsolve.problem.law import Law

REACH_STDS = 16.5  # half-width of the domain in standard deviations
_CUT_STDS = 2.5  # as much less where a layer has been cut off
TAIL = 1e-14  # mass outside each end of the domain
_SCOUT = 2.5  # cells per length in the coarse solve
_SCOUT_TOL = 1e-4
_DILATE = 4.0  # lengths by which points reach beyond a layer
_LEFT_BEHIND = 1.7  # times the length that a cell was meant for: then the layers have moved away
_LAG = 0.88  # of the reach that the points should have: then the ends have been left behind
_MOST_ROUNDS = 6
_MOST_LENGTHS, _MOST_KNOTS = 1e4, 2000  # more of them are given up
_CLEAR = 6.0  # lengths between the new end and a layer that was cut off
_AT_KINK = 1e-3  # times 1/Δ: length at a kink of the initial law
_NEAR_KINK = 12.0  # lengths within which it hides what is measured
_APART = 1e-7  # quartile distances
_THIN = 0.2  # standard deviations: longer layers may go out through the end
_WIDEST = 1.5  # length scale where nothing happens, in standard deviations of the narrowest law
_PLANNED = 2.0  # the same for the solve proper
_LADDER = 1.15


@dataclass
class Seen:
    """One look of the coarse solve: time, points, score, lengths there, where the mass is, and the reach of the domain.

    `kinks` are places of kinks that are being smoothed, and lengths there.
    `reach` is the half-width of the domain to the left and the right in standard deviations, on arrival and, where
    points are made anew, on departure.
    """

    time: float
    x: np.ndarray
    score: np.ndarray
    scale: np.ndarray
    kinks: tuple[np.ndarray, np.ndarray]
    mass: tuple[float, float]
    middle: float
    half: float
    reach: tuple[float, float]
    after: tuple[float, float]

    def ends(self, reach: tuple[float, float]) -> tuple[float, float]:
        """Ends of the domain."""
        return (
            min(self.mass[0], self.middle - reach[0] * self.half),
            max(self.mass[1], self.middle + reach[1] * self.half),
        )


def middle_and_half(nodes: Nodes, logs: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation; of tails like a power those of the middle 80 %, as if normal, if these are less."""
    mass = nodes.cell_integrals(logs)
    below = np.cumsum(mass) / mass.sum()
    centres = 0.5 * (nodes.x[1:] + nodes.x[:-1])
    low, high = np.interp([0.1, 0.9], below, nodes.x[1:])
    core = (high - low) / 2.563
    mean = float((mass * centres).sum() / mass.sum())
    std = math.sqrt(float((mass * (centres - mean) ** 2).sum() / mass.sum()))
    if not any(closure.log for closure in nodes.closures):
        return mean, std
    return (mean, std) if std < 3.0 * core + abs(mean - 0.5 * (low + high)) else (0.5 * (low + high), core)


def _where_mass_is(nodes: Nodes, logs: np.ndarray) -> tuple[float, float]:
    """Points with a mass of TAIL beyond."""
    mass = nodes.cell_integrals(logs)
    below, above = np.cumsum(mass), np.cumsum(mass[::-1])
    left, right = (int(np.searchsorted(part, TAIL * part[-1])) for part in (below, above))
    return float(nodes.x[left]), float(nodes.x[-1 - right])


def _graded(left: float, right: float, middle: float, half: float, count: int) -> np.ndarray:
    """Points from end to end whose distances grow beyond `half` of the middle."""
    y = np.linspace(math.asinh((left - middle) / half), math.asinh((right - middle) / half), count)
    x = middle + half * np.sinh(y)
    x[0], x[-1] = left, right
    return x


class Kinks:
    """Kinks of the initial law: noise widens them like √t, until they are layers, or have gone.

    They go as fast as layers do, by f - g² s with the mean of the score on both sides.
    """

    def __init__(self, equation: Equation, law: Law) -> None:
        self.begun, process = equation.span[0], equation.process
        self.x = np.array([place for place in law.breaks if math.isfinite(place)])
        low, high = law.quantile_span(0.25)
        left, right = (np.asarray(law.score(self.x + part * (high - low))) for part in (-_APART, _APART))
        with np.errstate(divide="ignore"):
            self.widest = 1.0 / np.abs(right - left)
        self.g2 = process.diffusion_squared(self.x, self.begun)
        self.velocity = process.drift(self.x, self.begun) - 0.5 * self.g2 * (left + right)

    def at(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Places and lengths of the kinks that are left at time t."""
        age = t - self.begun
        lengths = _AT_KINK * self.widest + np.sqrt(self.g2 * age)
        left = lengths < self.widest
        return (self.x + age * self.velocity)[left], lengths[left]

    @staticmethod
    def without(kinks: tuple[np.ndarray, np.ndarray], x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Lengths `scale` that were measured at points, but near kinks no shorter than theirs."""
        for place, length in zip(*kinks, strict=True):
            scale = np.where(np.abs(x - place) < _NEAR_KINK * length, np.maximum(scale, length), scale)
        return scale


class Scout:
    """The coarse solve on a domain that reaches `stds` standard deviations to both sides, or as far as the mass."""

    def __init__(self, equation: Equation, law: Law, closures: tuple[Closure, Closure], stds: float) -> None:
        self.equation, self.law, self.closures, self.stds = equation, law, closures, stds
        self.seen: list[Seen] = []
        self.knots: list[int] = []  # looks at which points were made anew
        self.reach = (stds, stds)
        self.kinks = Kinks(equation, law)

    def run(self, left: float, right: float, middle: float, half: float) -> None:
        """Follow log q over the span from a law with mean `middle` and standard deviation `half` on [left, right]."""
        t, end = self.equation.span
        self.reach = max(self.stds, (middle - left) / half), max(self.stds, (right - middle) / half)
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
            self._cut_layers(self.seen[-1], self.seen[self.knots[-1]])
            old = nodes.at(t)
            nodes = self._moving()
            self.knots.append(len(self.seen) - 1)
            logs = old.interpolate(states[kept], nodes.x)

    def _moving(self) -> Nodes:
        """Points for what was seen last, that go on as they went since the last knot."""
        last, before = self.seen[-1], self.seen[self.knots[-1]]
        spacing = self.spacing(last, self.reach, _DILATE)
        cells = int(_SCOUT * spacing.count[-1]) + 24
        x, was = spacing.points(cells), self.spacing(before, self.reach, _DILATE).points(cells)
        velocity = (x - was) / (last.time - before.time)
        return Nodes(x, self.closures, velocity, last.time)

    def _start(self, left: float, right: float, middle: float, half: float) -> tuple[Nodes, np.ndarray]:
        """Points for the initial law, made anew until its layers are resolved."""
        x = _graded(left, right, middle, half, 257)
        for _ in range(_MOST_ROUNDS):
            nodes, logs = Nodes(x, self.closures), self.law.logpdf(x)
            look = self._look(self.equation.span[0], nodes, logs)
            look.scale = np.minimum(look.scale, self.kinks.without(look.kinks, x, _unresolved(x, logs)))
            spacing = self.spacing(look, self.reach, _DILATE)
            x = spacing.points(int(_SCOUT * spacing.count[-1]) + 24)
        return Nodes(x, self.closures), self.law.logpdf(x)

    def _look(self, t: float, nodes: Nodes, logs: np.ndarray) -> Seen:
        score = nodes.derivatives(logs)[0]
        kinks = self.kinks.at(t)
        scale = self.kinks.without(kinks, nodes.x, length_scale(nodes, logs))
        low, high = _where_mass_is(nodes, logs)
        middle, half = middle_and_half(nodes, logs)
        # of a tail like a power the domain holds too little to see where it ends: its reach stays
        mass = (middle if self.closures[0].log else low, middle if self.closures[1].log else high)
        return Seen(t, nodes.x, score, scale, kinks, mass, middle, half, self.reach, self.reach)

    def _cut_layers(self, last: Seen, before: Seen) -> None:
        """Pull in an end through which a layer is about to leave for good."""
        least = self.stds - _CUT_STDS
        outward = (last.middle - last.x) / last.half, (last.x - last.middle) / last.half
        reach = list(self.reach)
        for side in (0, 1):
            thin = (outward[side] > least) & (outward[side] < reach[side]) & (last.scale < _THIN * last.half)
            inner = outward[side] - _CLEAR * last.scale / last.half
            if not thin.any():
                continue
            cut = float(inner[thin].min())
            if cut > least and self._nothing_returns(last, before, side, cut):
                reach[side] = cut
        last.after = self.reach = (reach[0], reach[1])

    def _nothing_returns(self, last: Seen, before: Seen, side: int, cut: float) -> bool:
        """Whether a layer at this end goes out faster than the end: by f - g² s, s its mean over both sides.

        Outside the score is of the sign of a tail, so that half of that inside bounds the mean from below.
        """
        sign = -1.0 if side == 0 else 1.0
        place = last.middle + sign * cut * last.half
        if not last.x[0] < place < last.x[-1]:
            return False
        process, t = self.equation.process, last.time
        score = float(np.interp(place, last.x, last.score))
        pace = float(process.drift(place, t)) - 0.5 * float(process.diffusion_squared(place, t)) * score
        was = before.middle + sign * cut * before.half
        return sign * pace > sign * (place - was) / (last.time - before.time)

    def spacing(self, look: Seen, reach: tuple[float, float], dilate: float) -> Spacing:
        """Length scale for one look."""
        x, scale = np.append(look.x, look.kinks[0]), np.append(look.scale, look.kinks[1])
        left, right = look.ends(reach)
        places = _graded(left, right, look.middle, look.half, 129)
        away = places - look.middle
        power = [self.closures[int(part > 0.0)].log for part in away]
        widest = _WIDEST * look.half + BETA * np.where(power, np.abs(away), 0.0)
        spacing = Spacing(*dilated(x, scale, dilate), (places, widest), left, right)
        if not spacing.count[-1] < _MOST_LENGTHS or len(self.knots) > _MOST_KNOTS:
            rule = f"layers of log q are thinner, or move faster, than points can follow at t={look.time:.6g}"
            raise BlowUp(rule, x=float(look.x[np.nanargmin(look.scale)]), time=look.time)
        return spacing

    def _left_behind(self, nodes: Nodes, look: Seen) -> bool:
        """Whether the points reach less far than they should by now, or cells are longer."""
        reach = (look.middle - look.x[0]) / look.half, (look.x[-1] - look.middle) / look.half
        if min(reach[side] - _LAG * self.reach[side] for side in (0, 1)) < 0.0:
            return True
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


def plan(scout: Scout, cells: float) -> list[Slab]:
    """Slabs between the knots of the coarse solve, with points that move from those of one knot to those of the next.

    Numbers of points are on a ladder, so that neighbouring slabs mostly have the same points where they meet.
    """
    looks = [scout.seen[k] for k in scout.knots]
    slabs = []
    for look, then in itertools.pairwise(looks):
        first, last = scout.spacing(look, look.after, _PLANNED), scout.spacing(then, then.reach, _PLANNED)
        needed = cells * max(first.count[-1], last.count[-1]) + 24.0
        count = 4 * math.ceil(0.25 * _LADDER ** math.ceil(math.log(needed) / math.log(_LADDER)))
        x, after = first.points(count), last.points(count)
        nodes = Nodes(x, scout.closures, (after - x) / (then.time - look.time), look.time)
        slabs.append(Slab(look.time, then.time, nodes, Nodes(after, scout.closures)))
    return slabs
