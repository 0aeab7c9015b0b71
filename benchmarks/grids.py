"""Error against work of the grid solver, beside what a user would write: second-order lines through LSODA (banded).

    python benchmarks/grids.py

One process, both solvers in the same run, best of five, warm. Problem: OU dX = -X dt + sqrt(2) dW from
0.3 N(-2, 0.5^2) + 0.7 N(1, 0.3^2), up to t = 1; the error is max|dq|/max q. Also the kernel's time per cell and step.
"""

import time
from collections.abc import Callable

import numpy as np
from machine import machine_line
from scipy.integrate import solve_ivp

import fpsolve as fps
from fpsolve.grids.domain import initial_masses
from fpsolve.grids.scheme import Stepper

LAW = fps.GaussianMixture([0.3, 0.7], [-2.0, 1.0], [0.5, 0.3])
OU = fps.SDE(lambda x: -x, 2**0.5)
HALF_WIDTH = 8.0


def exact(x: np.ndarray) -> np.ndarray:
    """Density at t = 1."""
    a = np.exp(-1.0)
    return fps.GaussianMixture(LAW.weights, LAW.means * a, np.sqrt(LAW.stds**2 * a**2 + 1 - a**2)).pdf(x)


def best_of(run: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest of several runs."""
    best = np.inf
    for _ in range(times):
        tick = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - tick)
    return best


def lines(cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Second-order method of lines on equal cells."""
    h = 2 * HALF_WIDTH / cells
    x = -HALF_WIDTH + h * (np.arange(cells) + 0.5)
    face = -HALF_WIDTH + h * np.arange(1, cells)

    def rates(_: float, q: np.ndarray) -> np.ndarray:
        flux = -face * 0.5 * (q[1:] + q[:-1]) - (q[1:] - q[:-1]) / h
        return -np.diff(flux, prepend=0.0, append=0.0) / h

    found = solve_ivp(rates, (0, 1), LAW.pdf(x), "LSODA", t_eval=[1.0], rtol=1e-9, atol=1e-11, lband=1, uband=1)
    return x, found.y[:, -1]


def kernel_seconds(process: fps.SDE, cells: int = 1000, steps: int = 1000) -> float:
    """Seconds per cell and step of the kernel alone."""
    grid, stepper = fps.Grid(-HALF_WIDTH, HALF_WIDTH, cells), Stepper(process, (0.0, 1.0))
    stepper.prepare(10**6, 10**6)
    points, mass, times = stepper.points(grid), initial_masses(LAW, grid), np.linspace(0, 1, steps + 1)
    return best_of(lambda: stepper.run(mass.copy(), times, points, np.zeros_like(mass))) / (cells * steps)


def main() -> None:
    """Print the machine, work against error, and the kernel's speed."""
    print(machine_line())
    print(f"{'solver':32s} {'cells':>7s} {'cell-steps':>11s} {'ms':>8s} {'error':>9s} {'estimate':>9s}")
    for rtol in (1e-3, 1e-4, 1e-5, 1e-6, 1e-7):

        def run(rtol: float = rtol) -> fps.Evolution:
            return fps.solve_fokker_planck(OU, LAW, (0, 1), t_eval=[1.0], rtol=rtol)

        q, seconds = run(), best_of(run)
        x = np.linspace(-6, 6, 2001)
        error = abs(q.pdf(x, 1.0) - exact(x)).max() / exact(x).max()
        name, work, estimate = f"fpsolve rtol={rtol:.0e}", q.stats["cell_steps"], q.error["pdf"].worst
        print(f"{name:32s} {q.grid.cells:7d} {work:11d} {1e3 * seconds:8.1f} {error:9.1e} {estimate:9.1e}")
    for cells in (100, 400, 1600, 6400):
        x, q_lines = lines(cells)
        error = abs(q_lines - exact(x)).max() / exact(x).max()
        seconds = best_of(lambda cells=cells: lines(cells), 3)
        print(f"{'solve_ivp(LSODA, banded)':32s} {cells:7d} {'':11s} {1e3 * seconds:8.1f} {error:9.1e} {'none':>9s}")
    moving = fps.SDE(lambda x, t: -x * (1 + t), lambda t: 1 + t)
    print(f"kernel, coefficients without t: {1e9 * kernel_seconds(OU):.1f} ns per cell and step")
    print(f"kernel, coefficients with t (compiled): {1e9 * kernel_seconds(moving):.1f} ns per cell and step")


if __name__ == "__main__":
    main()
