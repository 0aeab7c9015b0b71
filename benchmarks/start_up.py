"""What a new process pays: import, then first and warm call of solves, a simulation and a check.

    python benchmarks/start_up.py [--repetitions 3] [--only NAME]

Every line is a fresh process. "empty" starts with no compiled kernel at all (FPSOLVE_CACHE_DIR is a new directory),
"filled" with those that an earlier process left there. "import" is that of fpsolve with all it needs; "libraries" is
the part of it that NumPy, SciPy and numba take. The median over the repetitions is shown, of warm calls the best of
five.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from machine import machine_line

ROOT = Path(__file__).parents[1]
PREPARE = """
import json, time
begun = time.perf_counter()
import numba, numpy, scipy.integrate, scipy.linalg, scipy.optimize, scipy.special, scipy.stats
seconds = {"libraries": time.perf_counter() - begun}
import fpsolve as fps
seconds["import"] = time.perf_counter() - begun
ou, mixture = fps.SDE(lambda x: -x, 2**0.5), fps.GaussianMixture([0.3, 0.7], [-2, 1], [0.5, 0.3])
process, law = fps.SDE(lambda x: x - x**3, lambda x: 0.7 + 0.2 * x / (1 + x * x)), fps.Normal(0.3, 0.5)
"""
JOBS = {
    "order 8, OU mixture": "fps.solve_fokker_planck(ou, mixture, (0, 1), t_eval=[1.0])",
    "order 8, g(x)": "fps.solve_fokker_planck(process, law, (0, 1), t_eval=[1.0])",
    "order 8, VP schedule": "fps.solve_fokker_planck(fps.processes.vp(), mixture, (0, 1), t_eval=[1.0])",
    "robust, g(x)": "fps.solve_fokker_planck(process, law, (0, 1), t_eval=[1.0], scheme='robust')",
    "simulate": "fps.simulate(process, law, (0, 1), n_paths=100_000, n_steps=100)",
    "check_reverse": "fps.check_reverse((process, law), lambda f, g2, g2_dx, s: -f + g2_dx + g2 * s, t_span=(0, 1))",
}
MEASURE = """
calls = []
for _ in range(6):
    begun = time.perf_counter()
    {job}
    calls.append(time.perf_counter() - begun)
seconds["first"], seconds["warm"] = calls[0], min(calls[1:])
print(json.dumps(seconds))
"""


def measured(job: str, cache: str) -> dict[str, float]:
    """Seconds of import, first and warm call in a process of its own."""
    code = PREPARE + MEASURE.format(job=JOBS[job])
    environment = {**os.environ, "FPSOLVE_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout)


def measured_both(job: str) -> dict[str, dict[str, float]]:
    """The same with an empty cache and with what that run left in it."""
    with tempfile.TemporaryDirectory() as cache:
        empty = measured(job, cache)
        return {"empty": empty, "filled": measured(job, cache)}


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", choices=list(JOBS))
    options = parser.parse_args(argv)
    print(machine_line())
    if hasattr(os, "getloadavg"):
        load = os.getloadavg()[0]
        print(f"load {load:.1f} before the first measurement, median of {options.repetitions}, seconds")
    columns = ("libraries", "import", "first", "warm")
    print(f"{'call':22s} {'cache':8s} " + " ".join(f"{name:>9s}" for name in columns))
    for job in JOBS if options.only is None else [options.only]:
        runs = [measured_both(job) for _ in range(options.repetitions)]
        for state in ("empty", "filled"):
            cells = (median(run[state][name] for run in runs) for name in columns)
            print(f"{job:22s} {state:8s} " + " ".join(f"{seconds:9.4f}" for seconds in cells), flush=True)


if __name__ == "__main__":
    main()
