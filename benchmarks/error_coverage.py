"""Do the error estimates of the grid solver cover its true errors? Random problems with closed forms.

    python benchmarks/error_coverage.py [--problems 500] [--hard 100] [--flows 20] [--rtol 1e-6]

Three families are reported apart: smooth problems, hard ones (hard_problems.py: point-mass starts, ends at which the
noise vanishes, walls, a ring), and flows without noise. Each problem is asked for an rtol of its own, one of 1e-4,
1e-5 .. 1e-9, drawn with its number as the seed, unless --rtol gives one for all. A problem counts as covered for a
quantity if at every saved time the estimate is at least the true error. "norm" is the estimate in `q.error`,
"pointwise" the L²(q) norm of the errors that `q.with_error` gives. The overestimate of a problem is its largest
estimate over its largest true error. The interval is Clopper and Pearson's at 95 %; the problems are independent
draws by hypothesis from fixed seeds.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hard_problems import HARD
from machine import machine_line
from random_problems import NOISY, Problem, drawn, flow_problems
from scipy.special import expit
from scipy.stats import binomtest

import fpsolve as fps
from fpsolve.problem.law import Law

QUANTITIES = ("pdf", "cdf", "score", "velocity")
KINDS = ("norm", "pointwise")
RTOLS = tuple(10.0**-k for k in range(4, 10))
NODES = 2001
FLOOR = 1e-11  # closed forms are known to a relative 1e-13 in their moments


@dataclass
class Measured:
    """By (quantity, kind), over the times: largest true error and estimate, their ratio, worst true/estimate."""

    problem: Problem
    true: dict[tuple[str, str], float] = field(default_factory=dict)
    estimate: dict[tuple[str, str], float] = field(default_factory=dict)
    shortfall: dict[tuple[str, str], float] = field(default_factory=dict)
    overestimate: dict[tuple[str, str], float] = field(default_factory=dict)
    failure: str = ""
    meets_goal: bool = False
    seconds: float = 0.0
    rtol: float = 1e-6

    def covers(self, key: tuple[str, str]) -> bool:
        """Whether the estimate covered the truth at every time."""
        return not self.failure and self.shortfall[key] <= 1.0


# ---- measuring


def nodes_of(law: Law) -> tuple[np.ndarray, np.ndarray]:
    """Points for the F between 1e-6 and 1 - 1e-6, spread both by mass and by length, and the mass nearest to each.

    Exact masses of cells, or a point in the gap between two modes would weigh as much as its neighbours in F.
    """
    by_mass = law.ppf(expit(np.linspace(-13.8, 13.8, NODES)))
    x = np.unique(np.concatenate([by_mass, np.linspace(by_mass[0], by_mass[-1], NODES)]))
    return x, law.cell_masses(np.concatenate([x[:1], 0.5 * (x[1:] + x[:-1]), x[-1:]]))


def measure(problem: Problem, rtol: float = 1e-6) -> Measured:
    """Solve a problem on the grid and compare the estimates with the closed form."""
    found, begun = Measured(problem, rtol=rtol), time.perf_counter()
    try:
        q = fps.solve_fokker_planck(problem.process, problem.law, problem.t_span, t_eval=problem.times, rtol=rtol)
    except fps.FpsolveError as refusal:
        found.failure = f"{type(refusal).__name__}: {refusal}"
        return found
    finally:
        found.seconds = time.perf_counter() - begun
    found.meets_goal = q.error["pdf"].worst <= rtol
    exact = problem.closed_form()
    for k, t in enumerate(problem.times):
        x, mass = nodes_of(exact.at(t))
        for quantity in QUANTITIES:
            truth, (value, error) = getattr(exact, quantity)(x, t), q.with_error(quantity, x, t)
            gap = np.abs(value - truth)
            l2 = [float(np.sqrt((mass * v**2).sum())) for v in (gap, error)]
            size = {"pdf": gap.max() / truth.max(), "cdf": gap.max()}.get(quantity, l2[0])
            floor = FLOOR * (float(np.sqrt((mass * truth**2).sum())) + 1.0)
            _note(found, (quantity, "norm"), float(size), float(q.error[quantity].total[k]), floor)
            _note(found, (quantity, "pointwise"), l2[0], l2[1], floor)
    return found


def rtol_of(k: int) -> float:
    """What problem number k is asked for."""
    return float(np.random.default_rng(k).choice(RTOLS))


def _note(found: Measured, key: tuple[str, str], true: float, estimate: float, floor: float) -> None:
    shortfall = true / (estimate + floor)
    for store, value in ((found.true, true), (found.estimate, estimate), (found.shortfall, shortfall)):
        store[key] = max(store.get(key, 0.0), value)
    found.overestimate[key] = found.estimate[key] / (found.true[key] + floor)


@dataclass(frozen=True)
class Coverage:
    """How many of `n` were covered, the interval of that fraction, and quantiles of estimate/true."""

    covered: int
    n: int
    interval: tuple[float, float]
    median_overestimate: float
    high_overestimate: float

    @property
    def fraction(self) -> float:
        """Observed fraction."""
        return self.covered / self.n


def coverage(results: Sequence[Measured], key: tuple[str, str]) -> Coverage:
    """Count one quantity; a solver that refused covers nothing."""
    covered = sum(r.covers(key) for r in results)
    ratios = [r.overestimate[key] for r in results if not r.failure]
    bounds = binomtest(covered, len(results)).proportion_ci(0.95, method="exact")
    middle, high = np.quantile(ratios, [0.5, 0.9]) if ratios else (np.nan, np.nan)
    return Coverage(covered, len(results), (float(bounds.low), float(bounds.high)), float(middle), float(high))


# ---- printing


def report(title: str, results: Sequence[Measured]) -> None:
    """Print the table of one family of problems and its worst underestimates."""
    seconds = [r.seconds for r in results]
    meets = sum(r.meets_goal for r in results)
    print(
        f"\n{title}: {len(results)} problems, {meets} meet rtol, {sum(bool(r.failure) for r in results)} refused;",
        end=" ",
    )
    print(f"{sum(seconds):.1f} s in all, median {np.median(seconds):.3f} s, longest {max(seconds):.2f} s")
    head = f"  {'quantity':9s} {'estimate':10s} {'covered':>9s} {'fraction [95 %]':>22s}"
    print(f"{head} {'median over':>12s} {'90 % over':>10s}")
    for quantity in QUANTITIES:
        for kind in KINDS:
            c = coverage(results, (quantity, kind))
            fraction = f"{c.fraction:.3f} [{c.interval[0]:.3f}, {c.interval[1]:.3f}]"
            line = f"  {quantity:9s} {kind:10s} {c.covered:5d}/{c.n:<3d} {fraction:>22s}"
            print(f"{line} {c.median_overestimate:12.3g} {c.high_overestimate:10.3g}")
    for r in results:
        if r.failure:
            print(f"  refused: {r.problem!r}, rtol={r.rtol:.0e}: {r.failure}")
    keys = [(quantity, kind) for quantity in QUANTITIES for kind in KINDS]
    short = [(r.shortfall[key], key, r) for r in results if not r.failure for key in keys if r.shortfall[key] > 1.0]
    for ratio, key, r in sorted(short, key=lambda entry: -entry[0])[:10]:
        said = f"  {key[0]} ({key[1]}) true/estimate {ratio:.2f} (true {r.true[key]:.1e}), rtol={r.rtol:.0e}"
        print(f"{said}: {r.problem!r}")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--hard", type=int, default=100)
    parser.add_argument("--flows", type=int, default=20)
    parser.add_argument("--rtol", type=float, help="one for all problems")
    options = parser.parse_args(argv)
    print(machine_line())
    for title, strategy, n in (
        ("smooth, with noise", NOISY, options.problems),
        ("hard", HARD, options.hard),
        ("flows without noise", flow_problems(), options.flows),
    ):
        if n:
            problems = enumerate(drawn(strategy, n))
            report(title, [measure(problem, options.rtol or rtol_of(k)) for k, problem in problems])


if __name__ == "__main__":
    main()
