"""The equation of log q, solved directly: an independent route to the score, also where q underflows."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

from fpsolve.errors import BlowUp, DensityError, InputError, check_choice, check_number, check_t_span, check_times
from fpsolve.grids.log_density.march import Equation, Slab, Track
from fpsolve.grids.log_density.nodes import Closure, Nodes
from fpsolve.grids.log_density.plan import REACH_STDS, TAIL, Scout, plan
from fpsolve.grids.log_density.solution import Levels, LogDensityEvolution
from fpsolve.grids.slices import CAUSES
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.density import as_law
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law
from fpsolve.problem.process import Process

SCHEMES = ("auto", "moving", "fixed")
_SAVED = 9
_CELLS = 18.0  # per length 2.2/Δ of a layer, at rtol 1e-6: eight in 1/Δ
_FINER, _FINER_STEPS, _ROUNDS = 1.4, 1e-2, 3  # more cells, smaller tolerance of the steps in the next round
_TOL = 0.2  # local error of the score by the steps, in units of rtol
_FURTHER = 3.0  # standard deviations
_NARROWER = 0.05  # part of the domain that the narrower one lacks on each side
_LOW = 1e-9  # relative noise that counts as none


def solve_log_density(
    process: Process,
    q0: Any,
    t_span: tuple[float, float],
    *,
    grid: Grid | None = None,
    t_eval: Any = None,
    scheme: str = "auto",
    rtol: float = 1e-6,
    clock: str = "forward",
    progress: bool = False,
) -> Evolution:
    """Solve φ_t = -f' - f φ' + ½ [(g²)'' + 2 (g²)' φ' + g² (φ'' + φ'²)] for φ = log q from the law `q0` at t_span[0].

    Differences of order 8 and extrapolated linearly implicit Euler steps of order 7, at points that move with the
    layers in which the score rises by Δ over a length of 1/Δ. Nothing underflows, so that the score is as accurate
    twelve standard deviations out as in the middle.

    Parameters
    ----------
    process : SDE
        On the whole line, with noise everywhere.
    q0 : density
        A law with a density that is positive on the line.
    t_span : (float, float)
        Span, t0 < t1.
    grid : Grid, optional
        Points at rest, the faces of this grid, cells rounded up to a multiple of four; the levels that estimate the
        error have a half and a quarter of them. Without it domain and points are chosen.
    t_eval : array_like, optional
        Times at which `error` is given and the goal is checked; 9 equally spaced ones unless given. The solution is
        known at every time.
    scheme : {"auto", "moving", "fixed"}
        Points that move, or those of `grid` at rest; "auto" takes the latter if there is a grid.
    rtol : float
        Goal for the largest error of the score within twelve standard deviations of the mean, in units of its root
        mean square, at every saved time; `error` and `message` of the result say what was reached.
    clock : {"forward", "reversed"}
        In the reversed clock τ = t1 - t the unknown is V(x, τ) = -log q(x, t1 - τ), the value function of
        ∂τ V + ½ g² V'' + ((g²)' - f) V' - ½ g² V'² + f' - ½ (g²)'' = 0, V = -log q0 at its end; the result is
        r(x, τ) = q(x, t1 - τ), with `.value(x, τ)`.
    progress : bool
        Write one line per round to stderr.

    Raises
    ------
    InputError, DensityError
        For a bad argument; for ends of the support, no noise, or a law that is not positive on all of the line: there
        log q is not finite.
    CoefficientError
        If a coefficient is not finite where it is needed; what it raises comes back as itself.
    BlowUp
        If no step is short enough, or layers are thinner or faster than points can follow.

    Notes
    -----
    Berner et al., Lemma 2.3, for the reversed clock. The domain goes with mean and standard deviation, 16 of these to
    each side, or to where a mass of 1e-14 is left for tails of a power law; kinks of log q0 are started on cells of
    1e-4/Δ for a jump Δ of the score, which grow with them like √t. Layers that go out through an end for good are cut
    off before; `message` says where the domain ends. Where f - ∂x g² - g² s points inward, what comes in through an
    end is the asymptote of the tail: φ is continued by a parabola in x, or for tails of a power law in log|x|. Where
    that is not enough, the error by the domain says so.

    Examples
    --------
    >>> q = fps.solve_log_density(fps.SDE(lambda x: -x, 2**0.5), fps.Normal(1, 0.5), (0, 1), t_eval=[1.0])
    >>> exact = fps.Normal(np.exp(-1), (1 - 0.75 * np.exp(-2))**0.5)
    >>> bool(abs(q.score(9.0, 1.0) - exact.score(9.0)) < 1e-5), bool(q.pdf(40.0, 1.0) < 1e-300)
    (True, True)
    """
    begun = time.perf_counter()
    check_choice("scheme", scheme, SCHEMES)
    check_choice("clock", clock, ("forward", "reversed"))
    span, goal = check_t_span(t_span), check_number("rtol", rtol, above=0.0, below=1.0)
    times = None if t_eval is None else check_times("t_eval", t_eval, _clock_of(span, clock))
    if times is None:
        times = np.linspace(*_clock_of(span, clock), _SAVED)
    ito, law = _checked_problem(process, q0, grid, span)
    if grid is None and scheme == "fixed":
        raise InputError("a solve with points at rest needs a grid", None, "give grid=, or leave scheme= out")
    if grid is not None and scheme == "moving":
        raise InputError("points that move are chosen, not given", grid, "leave grid= out, or scheme=")
    task = _Task(ito, law, span, goal, clock == "reversed")
    task.choose(grid)
    for rounds in range(_ROUNDS):
        found = LogDensityEvolution(process, law, task.levels(), times, span if task.reversed else None, grid)
        reached = _reached(found, times)
        if progress:
            print(f"{task.slabs[0].nodes.x.size} points: estimated error {reached['all']:.1e}", file=sys.stderr)
        if reached["all"] <= goal or rounds == _ROUNDS - 1 or not task.refine(reached):
            break
    return found.described(task.message(found, reached["all"]), task.stats(found, time.perf_counter() - begun))


def _clock_of(span: tuple[float, float], clock: str) -> tuple[float, float]:
    return span if clock == "forward" else (0.0, span[1] - span[0])


def _reached(found: LogDensityEvolution, times: np.ndarray) -> dict[str, float]:
    """Largest error of the score in units of its root mean square, by cause and of all."""
    moments = [found.moment(float(t)) for t in times if not found.starts_at(float(t))]
    parts = {cause: [at.errors["score"][cause] for at in moments] for cause in CAUSES}
    parts["all"] = [at.total("score") for at in moments]
    return {
        name: max((float(e[at.region].max()) / at.rms for e, at in zip(errors, moments, strict=True)), default=0.0)
        for name, errors in parts.items()
    }


class _Task:
    """One problem: its domain, its points, and levels on them."""

    def __init__(
        self, process: Process, law: Law, span: tuple[float, float], goal: float, reversed_clock: bool
    ) -> None:
        self.law, self.goal, self.reversed = law, goal, reversed_clock
        self.equation = Equation(process, span, reversed_clock)
        self.span, self.tol = span, _TOL * goal
        self.cells = _CELLS * max(1.0, (1e-6 / goal) ** 0.125)
        self.slabs: list[Slab] = []
        self.scout: Scout | None = None
        self.stds = REACH_STDS
        self.grid: Grid | None = None

    def choose(self, grid: Grid | None) -> None:
        """Domain and closures; by coarse solves until the domain holds all that it should at every time."""
        if grid is not None:
            self.grid = replace(grid, cells=4 * math.ceil(grid.cells / 4))
            self.closures = _closures(self.law, grid.left, grid.right)
            return
        low, high = self.law.quantile_span(TAIL)
        self.closures = _closures(self.law, low, high)
        middle, half = _middle_and_half(self.law, any(closure.log for closure in self.closures))
        left, right = min(low, middle - self.stds * half), max(high, middle + self.stds * half)
        self.scout = Scout(self.equation, self.law, self.closures, self.stds)
        self.scout.run(left, right, middle, half)

    def refine(self, reached: dict[str, float]) -> bool:
        """Whether there is more to do about what keeps the error above the goal: prepare it."""
        space, steps, domain = (reached[cause] > 0.4 * self.goal for cause in ("space", "time", "domain"))
        if steps:
            self.tol *= max(_FINER_STEPS, 0.2 * self.goal / reached["time"])
        if self.grid is not None:
            return steps
        if space:
            self.cells *= _FINER
        if domain:
            self.stds += _FURTHER
            self.choose(None)
        return space or steps or domain

    def levels(self) -> Levels:
        """Solve at all levels."""
        if self.grid is not None:
            nodes = Nodes(self.grid.faces, self.closures)
            self.slabs = [Slab(*self.span, nodes, nodes)]
        elif self.scout is not None:
            self.slabs = plan(self.scout, self.cells)
        tol = self.tol
        quarter: Track | None
        try:
            quarter = self._track(4, tol)
        except BlowUp:  # too coarse for its layers: then the difference of the other two counts
            quarter = None
        half = self._track(2, tol)
        split = Track(self.equation, self.law, self._slabs(2), tol, half, 2)
        narrow = Track(self.equation, self.law, [_narrower(slab) for slab in self._slabs(2)], tol, half)
        return Levels(self._track(1, tol), half, quarter, split, narrow)

    def _slabs(self, step: int) -> list[Slab]:
        return [Slab(s.start, s.end, s.nodes.every(step), s.after.every(step)) for s in self.slabs]

    def _track(self, step: int, tol: float) -> Track:
        return Track(self.equation, self.law, self._slabs(step), tol)

    def message(self, found: LogDensityEvolution, reached: float) -> str:
        """What was done, and what is known."""
        at = found.moment(found.t_span[0 if self.reversed else 1])
        known = at.nodes.x[at.total("score") <= max(self.goal, reached) * at.rms]
        most = max(slab.nodes.x.size for slab in self.slabs)
        how = "at rest" if self.grid is not None else f"moving through {len(self.slabs)} slabs of time"
        tails = "/".join("power" if closure.log else "parabola" for closure in self.closures)
        left, right = self.domain(found)
        reach = f"[{known[0]:.4g}, {known[-1]:.4g}]" if known.size else "no interval"
        return (
            f"log-density{' in the reversed clock' if self.reversed else ''} on [{left:.4g}, {right:.4g}] at the end: "
            f"up to {most} points {how}, {found._levels.fine.steps} steps, tails continued by {tails}; estimated error "
            f"of the score within 12 standard deviations {reached:.1e} of its root mean square, "
            f"{'meets' if reached <= self.goal else 'misses'} rtol={self.goal:.0e}; "
            f"so well known at the end on {reach}"
        )

    def domain(self, found: LogDensityEvolution) -> tuple[float, float]:
        """First and last point at the end of the forward span."""
        x = found.moment(found.t_span[0 if self.reversed else 1]).nodes.x
        return float(x[0]), float(x[-1])

    def stats(self, found: LogDensityEvolution, seconds: float) -> dict[str, Any]:
        """Counters."""
        return {
            "scheme": "log-density",
            "points": [slab.nodes.x.size for slab in self.slabs],
            "slabs": len(self.slabs),
            "steps": found._levels.fine.steps,
            "point-steps": self.equation.point_steps,
            "domain": self.domain(found),
            "seconds": seconds,
            "mass defect": abs(found.mass(found.t_span[0 if self.reversed else 1]) - 1.0),
        }


def _narrower(slab: Slab) -> Slab:
    """The same without the points near both ends."""
    cuts = []
    for x in (slab.nodes.x, slab.after.x):
        apart = _NARROWER * (x[-1] - x[0])
        cuts += [int(np.searchsorted(x, x[0] + apart)), x.size - int(np.searchsorted(x, x[-1] - apart))]
    cut = max(2, min(cuts))
    return Slab(slab.start, slab.end, slab.nodes.without(cut), slab.after.without(cut))


def _middle_and_half(law: Law, power: bool) -> tuple[float, float]:
    """Mean and standard deviation; of tails like a power those of the middle 80 %, as if normal, if these are less."""
    low, mid, high = (float(law.ppf(p)) for p in (0.1, 0.5, 0.9))
    core = (high - low) / 2.563
    mean, std = law.mean(), law.std()
    heavy = not (math.isfinite(mean) and math.isfinite(std)) or std > 3.0 * core + abs(mean - mid)
    return (mid, core) if power and heavy else (mean, std)


def _closures(law: Law, left: float, right: float) -> tuple[Closure, Closure]:
    """Parabolas, or of tails in which the score falls like 1/|x| parabolas in log|x - centre|."""
    centre = float(law.ppf(0.5))
    found = []
    for end in (left, right):
        near, far = (abs(float(law.score(centre + part * (end - centre)))) for part in (1.0, 2.0))
        found.append(Closure(2, far < 0.7 * near, centre))
    return found[0], found[1]


def _checked_problem(process: Any, q0: Any, grid: Any, span: tuple[float, float]) -> tuple[Process, Law]:
    if not isinstance(process, Process):
        raise InputError("process must be an SDE", process, "write for instance fps.SDE(lambda x: -x, 1.0)")
    law, instead = as_law(q0, "q0"), "use solve_fokker_planck"
    if np.isfinite(process.support).any() or any(process.moving):
        rule = "log q is solved for on the whole line: it is not finite at absorbing ends, nor smooth at walls"
        raise InputError(rule, process.support, instead)
    if process.is_ode:
        rule = "the equation of log q needs noise: without it layers have no thickness"
        raise InputError(rule, 0.0, "use solve_liouville")
    if grid is not None and not isinstance(grid, Grid):
        raise InputError("grid must be a Grid", grid, "write for instance fps.Grid(-8, 8, 400)")
    ito, (low, high) = process.to_ito(), law.quantile_span(1e-12)
    x = np.linspace(low, high, 201)
    for t in (span[0], 0.5 * sum(span), span[1]):
        g2 = ito.diffusion_squared(x, t)
        if g2.min() <= _LOW * np.median(g2):
            where = f"g = {math.sqrt(g2.min()):.3g} at x={x[g2.argmin()]:.4g}, t={t:.4g}"
            raise InputError("the equation of log q needs noise everywhere", where, instead)
    if np.isfinite(law.support).any():
        rule = "the logarithm of q0 must be finite on the whole line"
        raise DensityError(rule, f"a law on {law.support}", instead)
    logs = law.logpdf(x)
    if not np.isfinite(logs).all():
        bad = x[~np.isfinite(logs)][0]
        raise DensityError("the logarithm of q0 must be finite between its tails", f"-inf at x={bad:.6g}", instead)
    return ito, law
