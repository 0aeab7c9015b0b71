"""Work against weak and against strong error: eight schemes on four problems. One process, one run.

    python benchmarks/work_precision.py [--picture FILE.png] [--paths 65536] [--repetitions 3] [--only "double well"]

Problems (fpsolve/report/bench.py): additive (Ornstein-Uhlenbeck), multiplicative (geometric Brownian motion), a double
well, and the time reversal of an Ornstein-Uhlenbeck process from two narrow components, which starts at its noisy end.
The schemes are the eight that `fpsolve bench` sets beside a user's own; on multiplicative noise Heun reads the
Stratonovich form of the same process.

Errors are those at the end of the span, of E X² and of the path itself, against a reference on the same Brownian paths:
the exact solution of geometric Brownian motion, else the strong 1.5 scheme with eight times as many steps. Work is the
number of values of f and g per path; the time beside it is the best of several warm runs on all cores. Dashed lines are
floors: the standard error of plain sampling with as many paths for weak errors, the error of the reference for strong
ones. Hollow marks are within two standard errors of zero.

After each table: the scheme that needs the least work for an error, by interpolation on its own curve.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from machine import machine_line

from fpsolve.report.bench import PROBLEMS, draw, run_problem
from fpsolve.report.work_precision import WorkPrecision

STEPS = (2, 4, 8, 16, 32, 64, 128, 256)
GOALS = {"weak": (1e-2, 1e-3), "strong": (1e-1, 1e-2)}


def work_at(table: WorkPrecision, scheme: str, kind: str, goal: float) -> float:
    """Values of f and g at which the errors of a scheme stay below a goal; inf where they do not, NaN if unresolved."""
    rows = [row for row in table.of(scheme) if row[f"{kind}_error"] is not None]
    # the smaller of both ends is the error plus what sampling leaves open
    bounds = np.array([row[f"{kind}_error"] + 2.0 * row[f"{kind}_std_error"] for row in rows])
    work = np.array([row["evaluations"] for row in rows], dtype=float)
    above = np.flatnonzero(bounds > goal)
    if above.size == 0:
        return float(work[0]) if work.size else np.inf
    k = int(above[-1])
    if k + 1 == work.size:
        return np.inf
    x, y = np.log(bounds[[k + 1, k]]), np.log(work[[k + 1, k]])
    return float(np.exp(np.interp(np.log(goal), x, y)))


def print_winners(table: WorkPrecision) -> None:
    """Least work for each goal."""
    for kind, goals in GOALS.items():
        for goal in goals:
            costs = {scheme: work_at(table, scheme, kind, goal) for scheme in table.schemes}
            ranked = sorted((cost, scheme) for scheme, cost in costs.items() if np.isfinite(cost))
            said = ", ".join(f"{scheme} {cost:.0f}" for cost, scheme in ranked[:3]) or "none of them"
            print(f"  {kind} error {goal:g}, values per path: {said}")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", metavar="FILE.png")
    parser.add_argument("--paths", type=int, default=2**16)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", metavar="PROBLEM", choices=[problem.name for problem in PROBLEMS])
    options = parser.parse_args(argv)
    print(machine_line())
    results = {}
    for problem in PROBLEMS:
        if options.only in (None, problem.name):
            table = run_problem(problem, (), steps=STEPS, n_paths=options.paths, repeat=options.repetitions)
            results[problem.name] = table
            print(f"\n{problem.name}: {table}")
            print_winners(table)
    if options.picture:
        draw(results, options.picture)
        print(f"\npicture: {options.picture}")


if __name__ == "__main__":
    main()
