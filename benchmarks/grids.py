"""Work against error of the Fokker-Planck solver, beside what one would write without it. One process, one run.

    python benchmarks/grids.py [--picture FILE.png] [--repetitions 5] [--only "OU mixture"]

Problems (grid_problems.py) with references by other methods: a Gaussian mixture under an Ornstein-Uhlenbeck process;
the same in a double well; a Laplace mixture under the variance-preserving schedule β 0.1..20; the square-root
process. The error is max|Δq|/max q, the worst over the times of a problem. Contenders:

- fpsolve at rtol 1e-3 .. 1e-10, domain and cells chosen by itself; its time includes the estimate and the density at
  401 points;
- SciPy's solve_ivp, LSODA with a banded Jacobian on second-order finite volumes, at several tolerances for each
  number of cells;
- py-pde (pip install "fpsolve[bench]"), numba backend, stepped by the same banded LSODA, the fastest of its solvers
  here.

A time is the best of several warm calls, contenders taken in turn: wall clock, and processor time beside it. Ratios
are of processor times, since a busy machine stretches the clock, each contender taken at the error in question on
its own curve of best times (log-log interpolation, never beyond its ends). For solve_ivp there are two curves: with
the tolerance that turned out best for each number of cells, and with one careful tolerance for all, as without
knowing the answer. Neither pays for finding out its error, which fpsolve does.

What a step of order 8 needs (kernels/implicit.py, kernels/lanes.py), per cell: eight lanes, in two vectors of four,
are eliminated once, about 90 vector operations and a division each, and substituted in 4 and 16 times, 9 vector
operations each: 370 in all, or 190 cycles at two a cycle. Of the 80 substitutions of single lanes 52 are of use, the
sum of the numbers of substeps; the other lanes have arrived and are carried along. Traffic: 290 bytes of factors of a
vector written once and read in every substitution, 130 bytes of unknowns: 8 kB, mostly from the L2 cache (34 kB of
factors for 118 cells), 260 cycles at 32 bytes a cycle. That is 0.07 to 0.1 µs at 2.6 GHz. Measured (grid_orders.py,
EPYC, 2.6 GHz): 0.08 to 0.11 µs. For a solve of the OU mixture at rtol 1e-6, with its 3000 cell-steps, that is 0.3 ms
of 4, and the kernels with what calls them 0.6; the rest is some 3700 calls of functions, half of them NumPy's, on
arrays of a hundred numbers: domain and grading, masses and stencils, errors by cause. solve_ivp takes 32 ms: a factor
of 100 would leave 0.32 ms for everything, as much as the cell-steps alone.
"""

import argparse
import importlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from grid_problems import DOUBLE_WELL, OU, PROBLEMS, Problem
from machine import machine_line
from matplotlib.figure import Figure
from scipy.integrate import solve_ivp

import fpsolve as fps

RTOLS = tuple(10.0**-k for k in range(3, 11))
CELLS = (100, 200, 400, 800, 1600, 3200, 6400, 12800)
PDE_CELLS = (400, 1600, 6400, 12800)  # each costs seconds of compilation
CAREFUL = 1e-8
TOLERANCES = (1e-4, 1e-6, CAREFUL)
OURS, LINES, PDE = "fpsolve", "solve_ivp (LSODA, banded)", "py-pde"
GOAL, GOAL_RATIO = 1e-6, 100.0
HIGH_GOAL, HIGH_GOAL_SECONDS = 1e-10, 0.020

Densities = Callable[[], tuple[np.ndarray, list[np.ndarray], float]]  # points, densities at the times, own estimate


@dataclass
class Point:
    """One contender with one choice of parameters: largest error, own estimate, seconds by clock and processor."""

    contender: str
    label: str
    tolerance: float
    run: Densities
    error: float = np.nan
    estimate: float = np.nan
    wall: float = np.inf
    cpu: float = np.inf

    def clock(self) -> None:
        """Time one call."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.run()
        self.cpu = min(self.cpu, time.process_time() - cpu)
        self.wall = min(self.wall, time.perf_counter() - wall)

    def compare(self, problem: Problem) -> None:
        """Measure the error, on at most 400 of the points; this call also compiles what is to be compiled."""
        x, found, self.estimate = self.run()
        few = slice(None, None, max(1, x.size // 400))
        self.error = 0.0
        for t, density in zip(problem.times, found, strict=True):
            truth = problem.reference(x[few], t, 1)
            self.error = max(self.error, float(np.abs(density[few] - truth).max() / truth.max()))


# ---- contenders


def ours(problem: Problem) -> Iterable[Point]:
    """The public function, as it is called."""
    points = problem.points
    for rtol in RTOLS:

        def run(rtol: float = rtol) -> tuple[np.ndarray, list[np.ndarray], float]:
            q = fps.solve_fokker_planck(problem.process, problem.law, problem.t_span, t_eval=problem.times, rtol=rtol)
            return points, [q.pdf(points, t) for t in problem.times], q.error["pdf"].worst

        yield Point(OURS, f"rtol={rtol:.0e}", rtol, run)


def lines(problem: Problem, cells: int, tolerance: float) -> tuple[np.ndarray, list[np.ndarray], float]:
    """Second-order finite volumes on equal cells, J = f q - ½ ∂x(g² q) by central differences."""
    left, right = problem.ends
    h = (right - left) / cells
    x, face = left + h * (np.arange(cells) + 0.5), left + h * np.arange(1, cells)
    half_drift, spread = 0.5 * problem.drift(face), 0.5 * problem.noise_squared(x) / h
    flux, speed = np.zeros(cells + 1), problem.speed

    def rates(t: float, q: np.ndarray) -> np.ndarray:
        flux[1:-1] = half_drift * (q[1:] + q[:-1]) - np.diff(spread * q)
        return (flux[:-1] - flux[1:]) * (speed(t) / h)

    found = solve_ivp(
        rates,
        problem.t_span,
        problem.law.pdf(x),
        "LSODA",
        t_eval=problem.times,
        rtol=tolerance,
        atol=0.01 * tolerance,
        lband=1,
        uband=1,
    )
    return x, list(found.y.T), np.nan


def method_of_lines(problem: Problem) -> Iterable[Point]:
    """Every number of cells with every tolerance: the curve takes the best."""
    for cells in CELLS:
        for tolerance in TOLERANCES:
            yield Point(
                LINES,
                f"{cells} cells, rtol={tolerance:.0e}",
                tolerance,
                lambda cells=cells, tolerance=tolerance: lines(problem, cells, tolerance),
            )


def py_pde(problem: Problem, pde: ModuleType) -> Iterable[Point]:
    """The equation as a string, stepped by banded LSODA through the package's own interface."""
    for cells in PDE_CELLS:
        equation = pde.PDE({"q": problem.text}, bc={"value": 0})  # remembers what it compiled for one grid
        grid = pde.CartesianGrid([list(problem.ends)], cells)
        x = grid.axes_coords[0]
        start = pde.ScalarField(grid, problem.law.pdf(x))
        for tolerance in TOLERANCES[1:]:

            def run(
                equation: Any = equation, start: Any = start, x: np.ndarray = x, tolerance: float = tolerance
            ) -> tuple[np.ndarray, list[np.ndarray], float]:
                kept = pde.MemoryStorage()
                equation.solve(
                    start,
                    t_range=problem.times[-1],
                    tracker=kept.tracker(list(problem.times)),
                    solver="scipy",
                    backend="numba",
                    method="LSODA",
                    rtol=tolerance,
                    atol=0.01 * tolerance,
                    lband=1,
                    uband=1,
                )
                return x, list(kept.data), np.nan

            yield Point(PDE, f"{cells} cells, rtol={tolerance:.0e}", tolerance, run)


# ---- curves


def curves(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Curve of each contender, and a second one of solve_ivp with the same tolerance for all cells."""
    found = {
        name: frontier([p for p in points if p.contender == name])
        for name in dict.fromkeys(p.contender for p in points)
    }
    found[f"{LINES}, rtol={CAREFUL:.0e}"] = frontier(
        [p for p in points if p.contender == LINES and p.tolerance == CAREFUL]
    )
    return found


def frontier(points: Sequence[Point]) -> list[Point]:
    """Points that no other beats in both error and time, by falling error."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: p.cpu):
        if not best or point.error < best[-1].error:
            best.append(point)
    return best


def seconds_at(error: float, curve: Sequence[Point], clock: str = "cpu") -> float:
    """Time at which a curve reaches `error`, NaN where it does not; a point that is already better counts as it is."""
    x = np.array([-np.log(p.error) for p in curve])
    y = np.array([np.log(getattr(p, clock)) for p in curve])
    target = -np.log(error)
    return float(np.exp(np.interp(target, x, y))) if target <= x[-1] else float("nan")


# ---- the run


def measured(problem: Problem, repetitions: int, pde: ModuleType | None) -> list[Point]:
    """All points of one problem, timed in turn."""
    points = [*ours(problem), *method_of_lines(problem), *(py_pde(problem, pde) if pde else ())]
    for point in points:
        point.compare(problem)
    for _ in range(repetitions):
        for point in points:
            point.clock()
    return points


def print_table(problem: Problem, points: Sequence[Point]) -> None:
    """Every point of fpsolve, and of the others those on their curves."""
    print(f"\n{problem.name}, t = {', '.join(f'{t:g}' for t in problem.times)}", end="")
    print(f"; the reference is known to {problem.reference_error():.0e}")
    print(f"  {'solver':26s} {'':24s} {'error':>9s} {'estimate':>9s} {'ms':>8s} {'CPU ms':>8s}")
    for contender in dict.fromkeys(p.contender for p in points):
        own = [p for p in points if p.contender == contender]
        for p in own if contender == OURS else frontier(own):
            estimate = "none" if np.isnan(p.estimate) else f"{p.estimate:.1e}"
            times = f"{1e3 * p.wall:8.2f} {1e3 * p.cpu:8.2f}"
            print(f"  {p.contender:26s} {p.label:24s} {p.error:9.1e} {estimate:>9s} {times}")


def print_verdicts(problem: Problem, points: Sequence[Point]) -> None:
    """The aims, and what was reached."""
    found = curves(points)
    own = seconds_at(GOAL, found[OURS])
    for name, curve in found.items():
        other = seconds_at(GOAL, curve)
        if name == OURS:
            continue
        if np.isnan(other):
            print(f"  error {GOAL:.0e}: {1e3 * own:.2f} ms; {name} ends at {curve[-1].error:.1e}")
            continue
        said = f"  error {GOAL:.0e}: {1e3 * own:.2f} ms, {name} {1e3 * other:.1f} ms: {other / own:.1f} times as fast"
        aimed = name.startswith(LINES) and problem in (OU, DOUBLE_WELL)
        print(said + (f" (aim {GOAL_RATIO:g}: {reached(other / own >= GOAL_RATIO)})" if aimed else ""))
    if problem is OU:
        wall, cpu = (seconds_at(HIGH_GOAL, found[OURS], clock) for clock in ("wall", "cpu"))
        said = f"  error {HIGH_GOAL:.0e}: {1e3 * wall:.1f} ms by the clock, {1e3 * cpu:.1f} ms of processor"
        print(f"{said} (aim {1e3 * HIGH_GOAL_SECONDS:g} ms: {reached(wall < HIGH_GOAL_SECONDS)})")
        asked = next(p for p in points if p.contender == OURS and p.tolerance == HIGH_GOAL)
        print(f"  asked for {HIGH_GOAL:.0e}: {1e3 * asked.wall:.1f} ms by the clock, error {asked.error:.1e}")


def reached(aim: bool) -> str:
    """In words."""
    return "reached" if aim else "missed"


def draw(results: dict[str, list[Point]], path: str) -> None:
    """One panel for each problem: processor time against error."""
    figure = Figure(figsize=(4.2 * len(results), 4.0), layout="constrained")
    axes = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for ax, (name, points) in zip(axes, results.items(), strict=True):
        for contender, mark in ((OURS, "o-"), (LINES, "s--"), (PDE, "^:")):
            curve = frontier([p for p in points if p.contender == contender])
            if curve:
                ax.loglog([p.error for p in curve], [1e3 * p.cpu for p in curve], mark, label=contender)
        ax.set(title=name, xlabel="max|Δq|/max q")
        ax.invert_xaxis()
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("processor time, ms (warm, best)")
    axes[0].legend()
    figure.suptitle(machine_line(), fontsize=7)
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", metavar="FILE.png")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--only", metavar="PROBLEM", choices=[p.name for p in PROBLEMS])
    options = parser.parse_args(argv)
    pde = importlib.import_module("pde") if find_spec("pde") else None
    print(machine_line() + (f", py-pde {pde.__version__}" if pde else ""))
    if pde is None:
        print('py-pde is not compared: not installed (pip install "fpsolve[bench]")')
    results = {}
    for problem in PROBLEMS:
        if options.only in (None, problem.name):
            results[problem.name] = points = measured(problem, options.repetitions, pde)
            print_table(problem, points)
            print_verdicts(problem, points)
    if options.picture:
        draw(results, options.picture)
        print(f"\npicture: {options.picture}")


if __name__ == "__main__":
    main()
