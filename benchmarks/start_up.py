"""What a new process pays: import, then first and warm call of a solve, a simulation and a check.

    python benchmarks/start_up.py [--repetitions 3]

Every line is a fresh process. "empty" starts with no compiled kernel at all, "filled" with those that an earlier
process left in the cache directory. The median over the repetitions is shown.
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
import fpsolve as fps
seconds = {"import": time.perf_counter() - begun}
process, law = fps.SDE(lambda x: x - x**3, lambda x: 0.7 + 0.2 * x / (1 + x * x)), fps.Normal(0.3, 0.5)
"""
JOBS = {
    "solve_fokker_planck": "fps.solve_fokker_planck(process, law, (0, 1), t_eval=[1.0])",
    "simulate": "fps.simulate(process, law, (0, 1), n_paths=100_000, n_steps=100)",
    "check_reverse": "fps.check_reverse((process, law), lambda f, g2, g2_dx, s: -f + g2_dx + g2 * s, t_span=(0, 1))",
}
MEASURE = """
for name in ("first", "warm"):
    begun = time.perf_counter()
    {job}
    seconds[name] = time.perf_counter() - begun
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
    repetitions = parser.parse_args(argv).repetitions
    print(machine_line())
    if hasattr(os, "getloadavg"):
        print(f"load {os.getloadavg()[0]:.1f} before the first measurement, median of {repetitions}, seconds")
    print(f"{'call':22s} {'cache':8s} {'import':>8s} {'first':>8s} {'warm':>8s}")
    for job in JOBS:
        runs = [measured_both(job) for _ in range(repetitions)]
        for state in ("empty", "filled"):
            cells = (median(run[state][name] for run in runs) for name in ("import", "first", "warm"))
            print(f"{job:22s} {state:8s} " + " ".join(f"{seconds:8.3f}" for seconds in cells))


if __name__ == "__main__":
    main()
