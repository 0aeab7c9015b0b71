"""Euler-Maruyama ensembles: ns per path and step beside NumPy, jax.lax.scan and diffrax, all in float64, in one run.

    python benchmarks/particles.py [--paths 524288] [--steps 100] [--repetitions 5] [--only TABLE]

Tables: "first" (import, first call, a new drift and a warm call, in processes of their own), "ensembles" (an
Ornstein-Uhlenbeck process, drift -x and noise √2, and a double well, x - x³ and 0.7, from 0 over (0, 1)), "scaling"
(with threads, paths and steps), "reverse" (the reversed process with its score from a grid). jax and diffrax come
with pip install "fpsolve[bench]"; a package that is missing is named and left out.

Contenders are called as their users would call them and use every core, if not said otherwise: NumPy by blocks that
fit the cache, a thread and a generator for each core; JAX with one device per core, since XLA runs these programs on
one core per device; diffrax mapped over keys, on UnsafeBrownianPath, its fastest. Times are the best of several warm
calls, contenders taken in turn, by the clock and of the processor (all threads): a busy machine stretches the clock,
so two of its ratios stand side by side. The variance of every ensemble stands beside its time: all sample one law.

What a step needs, per path. Half a Philox4x32-10 call of 10 rounds, each 2 multiplications, 2 shifts and 2 exclusive
ors of three: 30 vector operations. Half a Box-Muller transform: 26, of which 12 are multiplications or fused ones, and
half a division and half a root, which run beside the rest. The step: 2 fused multiplications and the drift (1 or 3),
an upper bound of 32 bytes read and written in the first-level cache. With 8 lanes and 2 such operations a cycle
(AVX-512 on Zen 4) 60 operations are 3.8 cycles, at 3.65 GHz 1.0 ns; the bare generator alone would be 0.96 ns.
Measured there, one thread: the generator 1.23 ns (kernels/normals.py says what bounds it), an OU step of `simulate`
2.5 to 3 ns: the drift, and the step with the masks of ended paths and the look for the ends, are loops over arrays in
the cache, and a block of paths is set up in every step.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numba
import numpy as np
from machine import machine_line

import fpsolve as fps
from fpsolve.kernels.normals import fill_normal_pairs
from fpsolve.particles import workers

ROOT = Path(__file__).parents[1]
CORES = os.cpu_count() or 1
DEVICES = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={CORES}"}
BLOCK = 8192  # paths that NumPy handles at a time
AIMS = {"NumPy": 5.0, "diffrax": 20.0}
AIM_NEW_DRIFT, AIM_REVERSE = 0.5, 15.0
OURS, OURS_ALONE = f"fpsolve, {CORES} threads", "fpsolve, 1 thread"
Run = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Case:
    """A process from 0 over (0, 1): x' = drift(x) + noise dW, written so that everyone can call it."""

    name: str
    drift: Callable
    noise: float


OU = Case("Ornstein-Uhlenbeck", lambda x: -x, 2**0.5)
DOUBLE_WELL = Case("double well", lambda x: x - x * x * x, 0.7)

FIRST_CALLS = {  # what to import, and how to prepare a call for a drift
    "fpsolve": (
        "import fpsolve as fps",
        "process = fps.SDE(drift, 2**0.5)\n"
        "    return lambda: fps.simulate(process, fps.PointMass(0.0), (0, 1), n_paths=2**18, n_steps=100)",
    ),
    "jax.lax.scan": ("import jax", "return importlib.import_module('particles_jax').scan(drift, 2**0.5, 2**18, 100)"),
    "diffrax": ("import diffrax", "return importlib.import_module('particles_jax').solved(drift, 2**0.5, 2**18, 100)"),
}
FIRST_CALL = """
import importlib, json, time
begun = time.perf_counter()
{imports}
seconds = {{"import": time.perf_counter() - begun}}
if {jax}:
    importlib.import_module("particles_jax")
def prepared(drift):
    {prepare}
for name, drift in (("first call", lambda x: -x), ("new drift", lambda x: x - x * x * x)):
    begun = time.perf_counter()
    call = prepared(drift)
    call()
    seconds[name] = time.perf_counter() - begun
begun = time.perf_counter()
call()
seconds["warm"] = time.perf_counter() - begun
print(json.dumps(seconds))
"""


# ---- contenders


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Let `simulate` use this many threads."""
    usual = workers.default_threads
    workers.default_threads = lambda: threads
    try:
        yield
    finally:
        workers.default_threads = usual


def ours(case: Case, n_paths: int, n_steps: int, threads: int = CORES) -> Run:
    """The public function; everything it keeps and checks is paid for."""
    process, start = fps.SDE(case.drift, case.noise), fps.PointMass(0.0)

    def run() -> np.ndarray:
        with limited(threads):
            return fps.simulate(process, start, (0, 1), n_paths=n_paths, n_steps=n_steps).x[0]

    return run


def plain_numpy(case: Case, n_paths: int, n_steps: int, threads: int = CORES) -> Run:
    """What one would write: blocks that fit the cache, a generator and a thread for each core."""
    h = 1.0 / n_steps

    def advance(blocks: Sequence[np.ndarray], rng: np.random.Generator) -> None:
        for x in blocks:
            for _ in range(n_steps):
                x += case.drift(x) * h + case.noise * h**0.5 * rng.standard_normal(x.size)

    def run() -> np.ndarray:
        x = np.zeros(n_paths)
        blocks = np.array_split(x, max(threads, n_paths // BLOCK))
        with ThreadPoolExecutor(threads) as pool:
            list(
                pool.map(advance, (blocks[k::threads] for k in range(threads)), np.random.default_rng(0).spawn(threads))
            )
        return x

    return run


def contenders(case: Case, n_paths: int, n_steps: int, rivals: ModuleType | None) -> dict[str, Run]:
    """Everyone on every core."""
    found = {OURS: ours(case, n_paths, n_steps), "NumPy": plain_numpy(case, n_paths, n_steps)}
    if rivals:
        found["jax.lax.scan"] = rivals.scan(case.drift, case.noise, n_paths, n_steps)
        found["diffrax"] = rivals.solved(case.drift, case.noise, n_paths, n_steps)
    return found


def our_normals(n: int) -> Run:
    """Our generator in blocks of 512, as `simulate` calls it, one thread."""
    u, v, z = np.empty(512, np.uint64), np.empty(512, np.uint64), np.empty((2, 512))

    def run() -> np.ndarray:
        repeat_pairs(n // 1024, u, v, z)
        return z

    return run


@numba.njit(error_model="numpy")
def repeat_pairs(times, u, v, z):
    """Call the kernel without Python in between."""
    for k in range(times):
        fill_normal_pairs(np.uint64(0), np.uint64(k), np.uint64(0), np.uint64(0), np.uint64(7), u, v, z[0], z[1])


def numpy_normals(n: int) -> Run:
    """NumPy's generator into a block that stays in the cache, one thread."""
    rng, block = np.random.default_rng(0), np.empty(BLOCK)

    def run() -> np.ndarray:
        for _ in range(n // BLOCK):
            rng.standard_normal(out=block)
        return block

    return run


# ---- clocks


@dataclass
class Timed:
    """Best times of one contender in seconds, and the variance of what it returned."""

    variance: float
    wall: float = np.inf
    cpu: float = np.inf

    def clock(self, run: Run) -> None:
        """Time one call."""
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        self.cpu = min(self.cpu, time.process_time() - cpu)
        self.wall = min(self.wall, time.perf_counter() - wall)


def timed(jobs: dict[str, Run], repetitions: int) -> dict[str, Timed]:
    """Every job, taken in turn after one call that compiles."""
    found = {name: Timed(float(run().var())) for name, run in jobs.items()}
    for _ in range(repetitions):
        for name, run in jobs.items():
            found[name].clock(run)
    return found


# ---- tables


def first_calls(rivals: ModuleType | None) -> None:
    """Seconds of a new process; ours with an empty and with a filled cache of compiled kernels."""
    columns = ("import", "first call", "new drift", "warm")
    print(f"\nfirst calls, 262144 paths, 100 steps, seconds\n  {'':34s}" + "".join(f"{name:>12s}" for name in columns))
    with tempfile.TemporaryDirectory() as cache:
        for name, state in (("fpsolve", ", no compiled kernels"), *((name, "") for name in FIRST_CALLS)):
            if name != "fpsolve" and rivals is None:
                continue
            imports, prepare = FIRST_CALLS[name]
            code = FIRST_CALL.format(imports=imports, prepare=prepare, jax=name != "fpsolve")
            paths = f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}"
            environment = {**os.environ, **DEVICES, "FPSOLVE_CACHE_DIR": cache, "PYTHONPATH": paths}
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
            )
            seconds = json.loads(done.stdout)
            print(f"  {name + state:34s}" + "".join(f"{seconds[column]:12.2f}" for column in columns), flush=True)
    print(f"  aim: a new drift in fpsolve {AIM_NEW_DRIFT} s at most")


def ensembles(n_paths: int, n_steps: int, repetitions: int, rivals: ModuleType | None) -> None:
    """Both processes, everyone, with the bare generators."""
    for case in (OU, DOUBLE_WELL):
        jobs = {OURS_ALONE: ours(case, n_paths, n_steps, 1), **contenders(case, n_paths, n_steps, rivals)}
        jobs["NumPy, 1 thread"] = plain_numpy(case, n_paths, n_steps, 1)
        print(f"\n{case.name}, {n_paths} paths, {n_steps} steps, ns per path and step; ratios to {OURS}", end="")
        if case is OU:
            r = (1 - 1 / n_steps) ** 2
            print(f"; variance of the scheme {2 / n_steps * (1 - r**n_steps) / (1 - r):.4f}", end="")
        print(f"\n  {'':22s}{'clock':>9s}{'ratio':>8s}{'CPU':>9s}{'ratio':>8s}{'variance':>10s}")
        found, scale = timed(jobs, repetitions), 1e9 / n_paths / n_steps
        best = found[OURS]
        for name, point in found.items():
            wall, cpu = point.wall / best.wall, point.cpu / best.cpu
            cells = f"{scale * point.wall:9.2f}{wall:8.2f}{scale * point.cpu:9.2f}{cpu:8.2f}{point.variance:10.4f}"
            aim = f"   aim {AIMS[name]:g}" if name in AIMS else ""
            print(f"  {name:22s}{cells}{aim}", flush=True)
    n = 2**22
    generators = {"our normals": our_normals(n), "Generator.standard_normal": numpy_normals(n)}
    if rivals:
        generators["jax.random.normal"] = rivals.normals(n // 2**16, 2**16)
    print("\nbare generators, one thread, ns per normal, CPU")
    for name, point in timed(generators, repetitions).items():
        print(f"  {name:34s}{1e9 * point.cpu / n:8.2f}")


def scaling(repetitions: int, rivals: ModuleType | None) -> None:
    """Threads, paths and steps, OU; few values run coefficients as Python, since compiling would not pay."""
    n = 2**19
    threads = {str(k): ours(OU, n, 100, k) for k in range(1, CORES + 1)}
    print(f"\nfpsolve on OU by threads, {n} paths, 100 steps, ns per path and step: clock, CPU")
    for name, point in timed(threads, repetitions).items():
        print(f"  {name + ' threads':34s}{1e9 * point.wall / n / 100:9.2f}{1e9 * point.cpu / n / 100:9.2f}")
    print("\nOU by paths and steps, every core, ns per path and step: clock")
    sizes = [(2**k, 100) for k in (8, 11, 14, 17, 20)] + [(2**16, steps) for steps in (10, 1000)]
    for row, (n_paths, n_steps) in enumerate(sizes):
        jobs = contenders(OU, n_paths, n_steps, rivals)
        if row == 0:
            print(f"  {'paths':>8s}{'steps':>7s}" + "".join(f"{name:>20s}" for name in jobs))
        found = timed(jobs, repetitions if n_paths * n_steps < 2**25 else 2)
        cells = "".join(f"{1e9 * point.wall / n_paths / n_steps:20.2f}" for point in found.values())
        print(f"  {n_paths:8d}{n_steps:7d}{cells}", flush=True)


def reverse(repetitions: int) -> None:
    """Sample a Gaussian mixture by the reversed OU process, the score read from the grid solution."""
    end, n_paths, n_steps = 3.0, 2**15, 100
    law = fps.GaussianMixture([0.3, 0.7], [-2.0, 1.0], [0.5, 0.3])
    forward = fps.SDE(OU.drift, OU.noise)
    q = fps.solve_fokker_planck(forward, law, (0, end))
    process, start = forward.reverse(q), q.at(end)
    found: list[fps.Ensemble] = []

    def run() -> np.ndarray:
        with limited(1):
            found[:] = [fps.simulate(process, start, (0, end), n_paths=n_paths, n_steps=n_steps)]
        return found[0].x[0]

    point = timed({"reverse": run}, repetitions)["reverse"]
    scale = 1e9 / n_paths / n_steps
    print(f"\nreverse OU to a mixture, score from a grid, {n_paths} paths, {n_steps} steps, one thread")
    print(
        f"  ns per path and step: clock {scale * point.wall:.1f}, CPU {scale * point.cpu:.1f}; aim {AIM_REVERSE:g}\n"
        f"  drift ran as {found[0].stats['coefficients']['drift']}\n"
        f"  variance {point.variance:.3f}, of the mixture {law.var():.3f}, apart by the error of the scheme"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=2**19)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--only", choices=("first", "ensembles", "scaling", "reverse"))
    options = parser.parse_args(argv)
    absent = [name for name in ("jax", "diffrax") if find_spec(name) is None]
    if not absent:
        os.environ.update(DEVICES)  # before jax is imported
    rivals = None if absent else importlib.import_module("particles_jax")
    versions = f", jax {rivals.jax.__version__}, diffrax {rivals.diffrax.__version__}" if rivals else ""
    print(machine_line() + versions)
    if absent:
        print(f"not compared: jax.lax.scan and diffrax ({' and '.join(absent)} not installed)")
    if hasattr(os, "getloadavg"):
        print(f"load {os.getloadavg()[0]:.1f} before the first measurement, best of {options.repetitions}")
    tables = {
        "first": lambda: first_calls(rivals),
        "ensembles": lambda: ensembles(options.paths, options.steps, options.repetitions, rivals),
        "scaling": lambda: scaling(options.repetitions, rivals),
        "reverse": lambda: reverse(options.repetitions),
    }
    for table in tables.values() if options.only is None else [tables[options.only]]:
        table()


if __name__ == "__main__":
    main()
