"""Observed orders of the Fokker-Planck schemes in x and t, and their cost per cell and step from 10² to 10⁶ cells.

    python benchmarks/grid_orders.py [--most-cells 1000000]

Errors are true ones, against sums of normal densities: dX = -X dt + √2 dW from a mixture; "sinh" is X = 2 sinh(Y/2)
of that, with g = √2 √(1 + x²/4). Orders in x are those of the public function on given grids, with steps so short
that they do not matter; orders in t those of the stepping alone, with equal steps on a grid that does not matter.
The order shown is the slope between two lines, "declared" what it should be to ±0.1. The robust scheme is shown as
what it is made of (backward Euler on second-order fluxes) in t, and extrapolated, as it is used, in x.

Steps of order 8 come near their order only where their error nears the rounding of doubles. Therefore three things
are shown: slopes of the solver, for dX = 12 dt + dW and for coefficients that depend on t; the ratio of its error to
what its stability function R predicts by a Fourier integral of R(zH)^n - exp(zT), which should be one; and the order
of R itself in 60 digits.

Cost is processor time. The setting up of a solve is taken off by the difference of two runs with more and fewer
steps. Of the high-order scheme a "step" is one of order 8, with its 16 substeps in eight lanes.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from math import prod

import numpy as np
from machine import machine_line

import fpsolve as fps
from fpsolve.grids.march import March, Setting
from fpsolve.grids.scheme import Stepper
from fpsolve.grids.start import start_masses
from fpsolve.kernels.implicit import BEST, COUNTS
from fpsolve.problem.law import Law
from fpsolve.problem.process import Process

LAW = fps.GaussianMixture([0.4, 0.6], [-1.0, 1.2], [0.6, 0.5])
OU = fps.processes.ou(1.0, 2**0.5)
MOVING = fps.SDE(lambda x, t: 10 * (1 + 0.3 * np.sin(3 * t)) + 0 * x, lambda t: 0.5 + 0.2 * np.cos(2 * t))
VELOCITY, SIGMA = 12.0, 1.0
TRANSLATION = fps.SDE(lambda x: VELOCITY + 0 * x, SIGMA)
STANDARD = fps.Normal(0.0, 1.0)
LONG = fps.Grid(-8.0, 23.0, 700)
SLOW = fps.SDE(lambda x, t: -(1 + 0.5 * np.sin(3 * t)) * x, lambda t: 1 + 0.5 * np.cos(2 * t))
SINH = fps.processes.sinh_ou(1.0, 2**0.5, 2.0)
SINH_LAW = fps.Pushforward(LAW, fps.maps.Sinh(2.0))
WIDE = fps.Grid(-9.0, 9.0, 400)
WIDE_SINH = fps.Grid(-90.0, 90.0, 400, stretch=2.0)
CELLS = {2: (120, 180, 270, 400), 4: (90, 130, 190, 280), 6: (90, 120, 160, 220), 8: (110, 140, 180, 230)}
ROBUST_CELLS = (144, 192, 256)
STEPS = (24, 40, 56, 80)
EXACT_STEPS = (64, 256, 1024)
ROBUST_STEPS = (200, 400, 800)
FINEST = 1e-11  # rtol that keeps steps short
FEW, ROBUST_FEW = 2, 20  # steps of the shorter run when cost is measured
MORE, ROBUST_MORE = 3000, 400_000  # cell-steps that the longer run has more, and at least so many steps:
LEAST, ROBUST_LEAST = 3, 20


# ---- orders


def error_in_x(process: Process, law: Law, grid: fps.Grid, scheme: str, rtol: float) -> float:
    """Root mean square error of the public function at the faces of a given grid, relative to the maximum."""
    q = fps.solve_fokker_planck(process, law, (0, 1), t_eval=[1.0], scheme=scheme, rtol=rtol, grid=grid)
    truth = fps.exact_evolution(process, law, (0, 1)).pdf(grid.faces, 1.0)
    return float(np.sqrt(np.mean((q.pdf(grid.faces, 1.0) - truth) ** 2)) / truth.max())


def march(process: Process, law: Law, grid: fps.Grid, steps: int) -> March:
    """Equal steps of order 8 on cells of order 8."""
    blocks = (process.drift_coefficient.block(10**8, (0, 1)), process.diffusion_coefficient.block(10**8, (0, 1)))
    setting = Setting(process, (0.0, 1.0), 8, blocks)
    return March(setting, grid, start_masses(law, grid, process.support), 1e-6, np.linspace(0.0, 1.0, steps + 1))


def error_in_t(process: Process, law: Law, grid: fps.Grid, steps: int) -> float:
    """Error of the cell masses after equal steps, relative to the largest."""
    truth = fps.exact_evolution(process, law, (0, 1)).at(1.0).cell_masses(grid.faces)
    found = march(process, law, grid, steps).masses(1.0)
    return float(np.abs((found - truth) / grid.widths).max() / (truth / grid.widths).max())


def backward_euler(process: Process, law: Law, cells: int, steps: int) -> np.ndarray:
    """Masses of the robust scheme after equal steps, without any extrapolation."""
    grid, stepper = fps.Grid(-9.0, 9.0, cells), Stepper(process, (0.0, 1.0))
    stepper.prepare(10**6, 10**6)
    mass = np.array(law.cell_masses(grid.faces))
    stepper.run(mass, np.linspace(0.0, 1.0, steps + 1), stepper.points(grid), np.zeros_like(mass))
    return mass


def print_orders(title: str, declared: float, sizes: Sequence[int], errors: Sequence[float]) -> None:
    """One line: sizes with their errors, and the slopes between them."""
    pairs = zip(sizes[1:], sizes[:-1], errors[1:], errors[:-1], strict=True)
    slopes = [np.log(before / error) / np.log(n / fewer) for n, fewer, error, before in pairs]
    shown = "  ".join(f"{n}: {error:.1e}" for n, error in zip(sizes, errors, strict=True))
    orders = " ".join(f"{slope:5.2f}" for slope in slopes)
    verdict = "" if abs(slopes[-1] - declared) <= 0.1 else "  NOT WITHIN 0.1"
    print(f"  {title:34s} {declared:4g}   {orders}{verdict}   ({shown})")


def print_orders_in_x() -> None:
    """Each scheme on finer grids."""
    print(f"\norders in x\n  {'':34s} {'declared, observed, (cells: error)'}")
    for order, sizes in CELLS.items():
        for name, process, law, wide in (("OU", OU, LAW, WIDE), ("sinh", SINH, SINH_LAW, WIDE_SINH)):
            grids = [fps.Grid(wide.left, wide.right, n, stretch=wide.stretch) for n in sizes]
            errors = [error_in_x(process, law, grid, f"order-{order}", FINEST) for grid in grids]
            print_orders(f"order-{order}, {name}", order, sizes, errors)
    errors = [error_in_x(OU, LAW, fps.Grid(-9.0, 9.0, n), "robust", 1e-9) for n in ROBUST_CELLS]
    print_orders("robust, three levels, OU", 6, ROBUST_CELLS, errors)


def stability(z: np.ndarray) -> np.ndarray:
    """R(z) of one step of order 8."""
    return sum(weight / (1 - z / count) ** count for weight, count in zip(BEST, COUNTS, strict=True))


def predicted_error(steps: int) -> float:
    """Error of equal steps from N(0, 1) under constant coefficients, by Fourier's integral (trapezoidal rule)."""
    k = np.linspace(0.0, 9.0, 1801)[1:]
    rate = -1j * k * VELOCITY - 0.5 * SIGMA**2 * k**2
    gap = (stability(rate / steps) ** steps - np.exp(rate)) * np.exp(-0.5 * k**2)
    x = np.linspace(LONG.left, LONG.right, 2001)
    error = (np.exp(1j * x[:, None] * k) @ gap).real * (k[1] - k[0]) / np.pi
    return float(np.abs(error).max() * np.sqrt(2 * np.pi * (1 + SIGMA**2)))


def exact_errors() -> list[float]:
    """|R(-1/n)^n - exp(-1)| in 60 digits for each number of steps."""
    inverse = [Fraction(1, int(count)) for count in COUNTS]
    weights = [prod((o / (o - s) for o in inverse if o != s), start=Fraction(1)) for s in inverse]
    errors = []
    with localcontext(prec=60):
        for n in EXACT_STEPS:
            terms = (w / (1 + s / n) ** int(count) for w, s, count in zip(weights, inverse, COUNTS, strict=True))
            step = sum(Decimal(term.numerator) / Decimal(term.denominator) for term in terms)
            errors.append(float(abs(step**n - Decimal(-1).exp())))
    return errors


def print_orders_in_t() -> None:
    """The stepping alone."""
    print(f"\norders in t\n  {'':34s} {'declared, observed, (steps: error)'}")
    for name, process in (("constant coefficients", TRANSLATION), ("coefficients of t", MOVING)):
        errors = [error_in_t(process, STANDARD, LONG, steps) for steps in STEPS]
        print_orders(f"order-8 steps, {name}", 8, STEPS, errors)
        if process is TRANSLATION:
            ratios = " ".join(f"{e / predicted_error(n):.3f}" for n, e in zip(STEPS, errors, strict=True))
            print(f"  {'  error / prediction by R':34s}    1   {ratios}")
    print_orders("order-8 steps, R in 60 digits", 8, EXACT_STEPS, exact_errors())
    for name, process, law in (("OU", OU, LAW), ("coefficients of t", SLOW, LAW)):
        finest = backward_euler(process, law, 100, 400 * ROBUST_STEPS[-1])
        errors = [float(np.abs(backward_euler(process, law, 100, n) - finest).max()) for n in ROBUST_STEPS]
        print_orders(f"robust, one level, {name}", 1, ROBUST_STEPS, errors)


# ---- cost


def least_cpu(run: Callable[[], object], times: int) -> float:
    """Processor seconds of the cheapest of several runs."""
    best = np.inf
    for _ in range(times):
        tick = time.process_time()
        run()
        best = min(best, time.process_time() - tick)
    return best


def cost_of_march(process: Process, cells: int, times: int) -> float:
    """Seconds per cell and step of order 8."""
    grid, extra = fps.Grid(-9.0, 9.0, cells), max(LEAST, MORE // cells)
    few, more = (least_cpu(lambda n=n: march(process, LAW, grid, n), times) for n in (FEW, FEW + extra))
    return (more - few) / (cells * extra)


def cost_of_robust(process: Process, cells: int, times: int) -> float:
    """Seconds per cell and step of backward Euler."""
    extra = max(ROBUST_LEAST, ROBUST_MORE // cells)
    counts = (ROBUST_FEW, ROBUST_FEW + extra)
    few, more = (least_cpu(lambda n=n: backward_euler(process, LAW, cells, n), times) for n in counts)
    return (more - few) / (cells * extra)


def print_cost(most_cells: int) -> None:
    """ns per cell and step for more and more cells."""
    print("\ncost in ns per cell and step (linear cost: constant columns)")
    heads = ("order 8", "order 8, moves", "robust", "robust, moves")
    print(f"  {'cells':>9s} " + " ".join(f"{head:>15s}" for head in heads))
    sizes = [10**k for k in range(2, 7) if 10**k <= most_cells]
    for cells in sizes:
        times = max(2, min(30, 300_000 // cells))
        costs = [run(process, cells, times) for run in (cost_of_march, cost_of_robust) for process in (OU, SLOW)]
        print(f"  {cells:9d} " + " ".join(f"{1e9 * cost:15.1f}" for cost in costs), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most-cells", type=int, default=10**6)
    options = parser.parse_args(argv)
    print(machine_line())
    print_orders_in_x()
    print_orders_in_t()
    print_cost(options.most_cells)


if __name__ == "__main__":
    main()
