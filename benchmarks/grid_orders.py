"""Observed orders of the Fokker-Planck schemes in x and t, and their cost per cell and step from 10² to 10⁶ cells.

    python benchmarks/grid_orders.py [--most-cells 1000000]

Errors are true ones, against closed forms: sums of normal densities for dX = -X dt + √2 dW from a mixture; "sinh" is
X = 2 sinh(Y/2) of that, with g = √2 √(1 + x²/4); eigenfunctions of a Brownian motion with drift between walls; and a
wave that runs 16 times around a ring. The order shown is the slope between two lines, "declared" what it should be to
±0.1.

Orders in x are those of the public function on given grids, with steps so short that they do not matter. Those at
walls are orders of the largest error at all faces, the walls among them: 5 at most next to absorbing walls, 4 at
reflecting ones (grids/stencils.py says why).

Orders in t are those of the stepping alone, on a grid that does not matter. Steps of order 8 multiply a mode of rate
λ by R(λH), so that what is seen depends on z = λH, of which the error is C z⁹ (1 + a z + b z² + ...) in each step. For
a decaying mode (z real) a z is large until the error is below the rounding of doubles: the slope is 7.2 to 7.8 there,
and comes within 0.1 of 8 only in 60 digits (last line). For a running wave (z nearly imaginary) a z turns the error
without changing its size, and the slope is 7.9 to 8.1 at errors of 1e-8 to 1e-10 (steps of |z| = 0.4 to 0.25; longer
ones show less, shorter ones rounding). Hence the ring: with coefficients of x, and of x and t.

The robust scheme is shown as what it is made of (one level: backward Euler on second-order fluxes) and extrapolated
from levels, as it is used: to third degree in (h², τ), so that the order is 6 in cells or 3 in steps. Its one level in
x takes so many steps that they do not matter.

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
from fpsolve.grids.extrapolation import PAIRS, extrapolate
from fpsolve.grids.march import March, Setting
from fpsolve.grids.scheme import Stepper
from fpsolve.kernels.implicit import COUNTS
from fpsolve.problem.law import Law
from fpsolve.problem.process import Process

LAW = fps.GaussianMixture([0.4, 0.6], [-1.0, 1.2], [0.6, 0.5])
OU = fps.processes.ou(1.0, 2**0.5)
SLOW = fps.SDE(lambda x, t: -(1 + 0.5 * np.sin(3 * t)) * x, lambda t: 1 + 0.5 * np.cos(2 * t))
SINH = fps.processes.sinh_ou(1.0, 2**0.5, 2.0)
SINH_LAW = fps.Pushforward(LAW, fps.maps.Sinh(2.0))
WIDE = fps.Grid(-9.0, 9.0, 400)
WIDE_SINH = fps.Grid(-90.0, 90.0, 400, stretch=2.0)
CELLS = {2: (120, 180, 270, 400), 4: (90, 130, 190, 280), 6: (90, 120, 160, 220), 8: (110, 140, 180, 230)}
DRIFT_IN_BOX, UNTIL = 1.0, 0.05
CELLS_IN_BOX = {2: (90, 150, 250), 4: (90, 150, 250), 6: (75, 100, 135), 8: (75, 100, 135)}
AT_WALLS = {"reflecting": 4, "absorbing": 5}  # order at most
# around a ring: Y = X + 0.2 sin X has the drift 1 and the noise 0.05, or those times functions of t
AROUND = fps.SDE(
    lambda x: 1 / (1 + 0.2 * np.cos(x)) + 0.00025 * np.sin(x) / (1 + 0.2 * np.cos(x)) ** 3,
    lambda x: 0.05 / (1 + 0.2 * np.cos(x)),
    support=(0, 2 * np.pi),
    boundary="periodic",
)
AROUND_MOVING = fps.SDE(
    lambda x, t: (
        (1 + 0.1 * np.sin(t)) / (1 + 0.2 * np.cos(x))
        + 0.00025 * (1 + 0.5 * np.cos(t)) * np.sin(x) / (1 + 0.2 * np.cos(x)) ** 3
    ),
    lambda x, t: 0.05 * np.sqrt(1 + 0.5 * np.cos(t)) / (1 + 0.2 * np.cos(x)),
    support=(0, 2 * np.pi),
    boundary="periodic",
)
AROUND_UNTIL, AROUND_GRID = 100.0, fps.Grid(0.0, 2 * np.pi, 256)
STEPS = (250, 312, 400)
EXACT_STEPS = (64, 256, 1024)
ROBUST_CELLS = (144, 192, 256)
LEVEL_CELLS, MANY_STEPS = (140, 200, 280), 200_000
LEVEL_STEPS = (200, 400, 800)
TABLEAU_CELLS, TABLEAU_STEPS = 4000, (64, 96, 144)
BOTH_CELLS = (64, 96, 144)
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


def in_box(kind: str, x: np.ndarray, t: float) -> np.ndarray:
    """Density between walls at 0 and 1 of dX = a dt + dW: sums of e^(ax) times cosines or sines that decay."""
    a = DRIFT_IN_BOX

    def mode(k: int) -> np.ndarray:
        decay = np.exp(a * x - 0.5 * (a**2 + (k * np.pi) ** 2) * t)
        if kind == "absorbing":
            return decay * np.sin(k * np.pi * x)
        return decay * (np.cos(k * np.pi * x) + a / (k * np.pi) * np.sin(k * np.pi * x))

    if kind == "absorbing":
        masses = [k * np.pi * (1 - (-1) ** k * np.exp(a)) / (a**2 + (k * np.pi) ** 2) for k in (1, 2, 3)]
        return (mode(1) + 0.3 * mode(2) + 0.1 * mode(3)) / (masses[0] + 0.3 * masses[1] + 0.1 * masses[2])
    return 2 * a * np.exp(2 * a * x) / np.expm1(2 * a) + 0.3 * mode(1) + 0.1 * mode(2)


def error_at_walls(kind: str, scheme: str, cells: int) -> float:
    """Largest error of the public function at the faces between two walls, relative to the maximum."""
    box, grid = fps.SDE(DRIFT_IN_BOX, 1.0, support=(0, 1), boundary=kind), fps.Grid(0.0, 1.0, cells)
    law = fps.Density(lambda x: np.log(np.maximum(in_box(kind, x, 0.0), 1e-300)), (0, 1))
    q = fps.solve_fokker_planck(box, law, (0, UNTIL), t_eval=[UNTIL], scheme=scheme, rtol=FINEST, grid=grid)
    truth = in_box(kind, grid.faces, UNTIL)
    return float(np.abs(q.pdf(grid.faces, UNTIL) - truth).max() / truth.max())


def march(process: Process, masses: np.ndarray, grid: fps.Grid, until: float, steps: int) -> March:
    """Equal steps of order 8 on cells of order 8."""
    span = (0.0, until)
    setting = Setting(process, span, 8, ring=process.boundary[0] == "periodic")
    return March(setting, grid, masses, 1e-6, np.linspace(*span, steps + 1))


def wave_masses(angle: float, decay: float) -> np.ndarray:
    """Cell masses where Y = X + 0.2 sin X has the density (1 + 0.9 decay cos(y - angle)) / 2π."""
    y = AROUND_GRID.faces + 0.2 * np.sin(AROUND_GRID.faces)
    return np.diff(y + 0.9 * decay * np.sin(y - angle)) / (2 * np.pi)


def error_in_t(process: Process, steps: int) -> float:
    """Largest error of the cell masses after equal steps around the ring, relative to the largest of them."""
    t = AROUND_UNTIL
    angle, variance = (t, t) if process is AROUND else (t + 0.1 * (1 - np.cos(t)), t + 0.5 * np.sin(t))
    truth = wave_masses(angle, np.exp(-0.5 * 0.05**2 * variance))
    found = march(process, wave_masses(0.0, 1.0), AROUND_GRID, t, steps).masses(t)
    return float(np.abs(found - truth).max() / truth.max())


def backward_euler(process: Process, law: Law, cells: int, steps: int) -> np.ndarray:
    """Masses of the robust scheme after equal steps, without any extrapolation."""
    grid, stepper = fps.Grid(-9.0, 9.0, cells), Stepper(process, (0.0, 1.0))
    stepper.prepare(10**6, 10**6)
    mass = np.array(law.cell_masses(grid.faces))
    stepper.run(mass, np.linspace(0.0, 1.0, steps + 1), stepper.points(grid), np.zeros_like(mass))
    return mass


def error_of_level(process: Process, law: Law, cells: int, steps: int) -> float:
    """Largest error of the masses of one level, relative to the largest of them."""
    truth = fps.exact_evolution(process, law, (0, 1)).at(1.0).cell_masses(fps.Grid(-9.0, 9.0, cells).faces)
    return float(np.abs(backward_euler(process, law, cells, steps) - truth).max() / truth.max())


def error_of_tableau(process: Process, law: Law, cells: int, steps: int) -> float:
    """Largest error of F extrapolated from the six levels of which the coarsest has so many cells and steps."""
    levels = {
        (i, j): np.append(0.0, np.cumsum(backward_euler(process, law, cells * 2**i, steps * 2**j)))[None]
        for i, j in PAIRS
    }
    found = extrapolate(levels, np.ones((1, cells + 1)), 1e-13).value[0]
    truth = fps.exact_evolution(process, law, (0, 1)).cdf(fps.Grid(-9.0, 9.0, 4 * cells).faces, 1.0)
    return float(np.abs(found - truth).max())


def print_orders(title: str, declared: float, sizes: Sequence[int], errors: Sequence[float]) -> None:
    """One line: sizes with their errors, and the slopes between them."""
    pairs = zip(sizes[1:], sizes[:-1], errors[1:], errors[:-1], strict=True)
    slopes = [np.log(before / error) / np.log(n / fewer) for n, fewer, error, before in pairs]
    shown = "  ".join(f"{n}: {error:.1e}" for n, error in zip(sizes, errors, strict=True))
    orders = " ".join(f"{slope:5.2f}" for slope in slopes)
    verdict = "" if abs(slopes[-1] - declared) <= 0.1 else "  NOT WITHIN 0.1"
    print(f"  {title:40s} {declared:4g}   {orders}{verdict}   ({shown})", flush=True)


def print_orders_in_x() -> None:
    """Each scheme on finer grids."""
    print(f"\norders in x\n  {'':40s} {'declared, observed, (cells: error)'}")
    for order, sizes in CELLS.items():
        for name, process, law, wide in (("OU", OU, LAW, WIDE), ("sinh", SINH, SINH_LAW, WIDE_SINH)):
            grids = [fps.Grid(wide.left, wide.right, n, stretch=wide.stretch) for n in sizes]
            errors = [error_in_x(process, law, grid, f"order-{order}", FINEST) for grid in grids]
            print_orders(f"order-{order}, {name}", order, sizes, errors)
    for kind, most in AT_WALLS.items():
        for order, cells in CELLS_IN_BOX.items():
            errors = [error_at_walls(kind, f"order-{order}", n) for n in cells]
            print_orders(f"order-{order}, {kind} walls", min(order, most), cells, errors)
    errors = [error_of_level(OU, LAW, n, MANY_STEPS) for n in LEVEL_CELLS]
    print_orders("robust, one level, OU", 2, LEVEL_CELLS, errors)
    errors = [error_in_x(OU, LAW, fps.Grid(-9.0, 9.0, n), "robust", 1e-9) for n in ROBUST_CELLS]
    print_orders("robust, extrapolated, OU", 6, ROBUST_CELLS, errors)


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
    """The stepping alone; of the robust scheme also with h² and τ together."""
    print(f"\norders in t\n  {'':40s} {'declared, observed, (steps: error)'}")
    for name, process in (("coefficients of x", AROUND), ("coefficients of x and t", AROUND_MOVING)):
        print_orders(f"order-8 steps, {name}", 8, STEPS, [error_in_t(process, n) for n in STEPS])
    print_orders("order-8 steps, R(-1/n) in 60 digits", 8, EXACT_STEPS, exact_errors())
    for name, process in (("OU", OU), ("coefficients of t", SLOW)):
        finest = backward_euler(process, LAW, 100, 400 * LEVEL_STEPS[-1])
        errors = [float(np.abs(backward_euler(process, LAW, 100, n) - finest).max()) for n in LEVEL_STEPS]
        print_orders(f"robust, one level, {name}", 1, LEVEL_STEPS, errors)
        errors = [error_of_tableau(process, LAW, TABLEAU_CELLS, n) for n in TABLEAU_STEPS]
        print_orders(f"robust, extrapolated, {name}", 3, TABLEAU_STEPS, errors)
    errors = [error_of_tableau(OU, LAW, n, n**2 // 64) for n in BOTH_CELLS]
    print_orders("robust, extrapolated, steps ~ cells²", 6, BOTH_CELLS, errors)


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
    start = LAW.cell_masses(grid.faces)
    few, more = (least_cpu(lambda n=n: march(process, start, grid, 1.0, n), times) for n in (FEW, FEW + extra))
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
