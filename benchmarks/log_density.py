"""Log-density solve on 800 cells beside solve_ivp (Radau, sparse Jacobian) on the same equations. One process, one run.

    python benchmarks/log_density.py [--picture FILE.png] [--repetitions 5]

Problem: two equal components under an Ornstein-Uhlenbeck process, on one graded grid of 800 cells for both. The time of
fpsolve includes all levels of its error estimate. solve_ivp solves φ_t = -f' - f φ' + a (φ'' + φ'²) with the same
differences of order 8 and the same closures, at the tolerance that gives it an error of 1e-6.

The error is that of the score on twelve standard deviations, in units of its root mean square, against the closed form.
The picture shows the score of the density route (log of the solution of the Fokker-Planck equation) beside it, for two
unequal parts of which one takes over from the other where q is 1e-80.
"""

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
from machine import machine_line
from matplotlib.figure import Figure
from scipy.integrate import solve_ivp
from scipy.sparse import csc_array, diags_array

import fpsolve as fps
from fpsolve.grids.log_density.nodes import Closure, Nodes

PROCESS = fps.processes.ou(1.0, 2**0.5)
LAW = fps.GaussianMixture([0.5, 0.5], [-1.0, 1.0], [0.25, 0.25])
SPAN = (0.0, 1.0)
GRID = fps.Grid(-16.0, 16.0, 800, stretch=0.6, centre=0.0)
EXACT = fps.exact_evolution(PROCESS, LAW, SPAN)
FAR = fps.GaussianMixture([0.3, 0.7], [-2.0, 1.0], [0.5, 0.3])  # its parts change places far out


def error_of(score: Callable[[np.ndarray], np.ndarray], t: float) -> float:
    """Largest error on twelve standard deviations."""
    law = EXACT.at(t)
    x = law.mean() + np.linspace(-12.0, 12.0, 1001) * law.std()
    rms = np.sqrt(law.expect(lambda y: law.score(y) ** 2))
    return float(np.abs(score(x) - law.score(x)).max() / rms)


def by_radau(rtol: float) -> Callable[[np.ndarray], np.ndarray]:
    """The score at the end of the span by solve_ivp."""
    nodes = Nodes(GRID.faces, (Closure(2), Closure(2)))
    columns = [nodes.derivatives(row) for row in np.eye(GRID.cells + 1)]
    first, second = (csc_array(np.array([column[k] for column in columns]).T) for k in (0, 1))
    x = nodes.x

    def rates(t: float, phi: np.ndarray) -> np.ndarray:
        s = first @ phi
        return 1.0 + x * s + second @ phi + s * s

    def jacobian(t: float, phi: np.ndarray) -> csc_array:
        return csc_array(diags_array(x + 2.0 * (first @ phi)) @ first + second)

    found = solve_ivp(rates, SPAN, LAW.logpdf(x), "Radau", [SPAN[1]], jac=jacobian, rtol=rtol, atol=1e2 * rtol)
    score = first @ found.y[:, -1]
    return lambda places: nodes.interpolate(score, places)


def by_fpsolve(rtol: float) -> Callable[[np.ndarray], np.ndarray]:
    """The score at the end of the span by the public function."""
    q = fps.solve_log_density(PROCESS, LAW, SPAN, grid=GRID, t_eval=[SPAN[1]], rtol=rtol)
    return lambda places: q.score(places, SPAN[1])


def clocked(run: Callable[[], object], repetitions: int) -> float:
    """Best wall time in milliseconds."""
    best = np.inf
    for _ in range(repetitions):
        begun = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begun)
    return 1e3 * best


def draw(path: str) -> None:
    """Score of both routes and of the closed form, and the errors."""
    t = 0.05
    log_route = fps.solve_log_density(PROCESS, FAR, SPAN, t_eval=[t])
    density_route = fps.solve_fokker_planck(PROCESS, FAR, SPAN, t_eval=[t], rtol=1e-10)
    law = fps.exact_evolution(PROCESS, FAR, SPAN).at(t)
    x = law.mean() + np.linspace(-12.0, 12.0, 1201) * law.std()
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(x, law.score(x), "k", lw=3, alpha=0.3, label="closed form")
    for name, q in (("Fokker-Planck, then log", density_route), ("log-density", log_route)):
        left.plot(x, q.score(x, t), lw=1, label=name)
        right.semilogy(x, np.maximum(np.abs(q.score(x, t) - law.score(x)), 1e-16), lw=1, label=name)
    right.semilogy(x, log_route.with_error("score", x, t)[1], "k:", lw=1, label="log-density, estimate")
    left.set(xlabel="x", ylabel="score", title=f"score at t = {t:g}, twelve standard deviations")
    right.set(xlabel="x", ylabel="error of the score")
    left.legend()
    right.legend()
    figure.savefig(path, dpi=130)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table, draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", metavar="FILE.png")
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args(argv)
    print(machine_line())
    print(f"{'':34}{'ms':>8}{'error of the score':>22}")
    for name, run in (("fpsolve, with error estimate", by_fpsolve), ("solve_ivp (Radau, sparse)", by_radau)):
        for rtol in (1e-4, 1e-6, 1e-8):
            error = error_of(run(rtol), SPAN[1])
            milliseconds = clocked(lambda run=run, rtol=rtol: run(rtol), options.repetitions)
            print(f"{name:26} rtol={rtol:.0e}{milliseconds:8.0f}{error:22.1e}")
    if options.picture:
        draw(options.picture)
        print(f"picture: {options.picture}")


if __name__ == "__main__":
    main()
