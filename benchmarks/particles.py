"""Ensembles of an Ornstein-Uhlenbeck process: ns per path and step, ours against plain NumPy, in one run.

    python benchmarks/particles.py [paths [steps]]

Times are the best of several repetitions, taken in turn, so that a busy machine hurts all alike; read the ratios. The
variance of every ensemble stands beside its time, with the exact value of the scheme.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec

import numba
import numpy as np
from machine import machine_line

from fpsolve.kernels.normals import fill_normal_pairs
from fpsolve.particles import simulate, workers
from fpsolve.problem.density import PointMass
from fpsolve.problem.process import SDE

OU = SDE(lambda x: -x, 2**0.5)

FIRST_CALL = """
import time
begun = time.perf_counter()
from fpsolve.particles import simulate, workers
from fpsolve.problem.density import PointMass
from fpsolve.problem.process import SDE
imported = time.perf_counter()
run = lambda: simulate(SDE(lambda x: -x, 2**0.5), PointMass(0.0), (0, 1), n_paths=200_000, n_steps=100)
run()
first = time.perf_counter()
run()
print(f"{imported - begun:.2f} s import, {first - imported:.2f} s first call, {time.perf_counter() - first:.2f} s warm")
"""


def plain_numpy(n_paths: int, n_steps: int) -> np.ndarray:
    """What one would write: blocks that fit the cache, one generator."""
    rng, h = np.random.default_rng(0), 1.0 / n_steps
    x = np.zeros((n_paths // 8192 + 1, 8192))
    for block in x:
        for _ in range(n_steps):
            block += -block * h + (2 * h) ** 0.5 * rng.standard_normal(8192)
    return x.ravel()[:n_paths]


def ours(n_paths: int, n_steps: int, threads: int, **options: str) -> np.ndarray:
    """The public function, with a given number of threads."""
    usual = workers.default_threads
    workers.default_threads = lambda: threads
    try:
        return simulate(OU, PointMass(0.0), (0, 1), n_paths=n_paths, n_steps=n_steps, **options).x[0]
    finally:
        workers.default_threads = usual


def bare_normals(n: int) -> np.ndarray:
    """Our generator alone, pair by pair in blocks of 512."""
    u, v = np.empty(512, np.uint64), np.empty(512, np.uint64)
    z = np.empty((2, 512))
    repeat_pairs(n // 1024, u, v, z)
    return z


@numba.njit
def repeat_pairs(times, u, v, z):
    """Call the kernel without Python in between."""
    for k in range(times):
        fill_normal_pairs(np.uint64(0), np.uint64(k), np.uint64(0), np.uint64(0), np.uint64(7), u, v, z[0], z[1])


def best_times(jobs: dict[str, Callable[[], np.ndarray]], repetitions: int = 5) -> dict[str, tuple[float, float]]:
    """Best seconds and the variance of the result, jobs taken in turn, after one call that does not count."""
    variances = {name: float(job().var()) for name, job in jobs.items()}
    best = dict.fromkeys(jobs, np.inf)
    for _ in range(repetitions):
        for name, job in jobs.items():
            begun = time.perf_counter()
            job()
            best[name] = min(best[name], time.perf_counter() - begun)
    return {name: (best[name], variances[name]) for name in jobs}


def main(n_paths: int = 2**19, n_steps: int = 100) -> None:
    """Print the tables."""
    print(machine_line())
    print(
        "a new process:",
        subprocess.run([sys.executable, "-c", FIRST_CALL], capture_output=True, text=True).stdout.strip(),
    )
    every = workers.default_threads()
    draws = np.empty(8192)
    jobs = {
        "plain NumPy": lambda: plain_numpy(n_paths, n_steps),
        "simulate, 1 thread": lambda: ours(n_paths, n_steps, 1),
        f"simulate, {every} threads": lambda: ours(n_paths, n_steps, every),
        f"simulate, {every} threads, bias='halving'": lambda: ours(n_paths, n_steps, every, bias="halving"),
    }
    r = (1 - 1 / n_steps) ** 2
    print(
        f"OU, {n_paths} paths, {n_steps} steps; variance of the scheme {2 / n_steps * (1 - r**n_steps) / (1 - r):.4f}"
    )
    times = best_times(jobs)
    scale = 1e9 / n_paths / n_steps
    reference = times["plain NumPy"][0]
    for name, (seconds, variance) in times.items():
        print(
            f"  {name:40s} {scale * seconds:7.2f} ns per path and step   {reference / seconds:5.1f} x   {variance:.4f}"
        )
    generators = {
        "Generator.standard_normal": lambda: [np.random.default_rng(k).standard_normal(out=draws) for k in range(256)][
            -1
        ],
        "our normals": lambda: bare_normals(2**21),
    }
    for name, (seconds, _) in best_times(generators).items():
        print(f"  {name:40s} {1e9 * seconds / 2**21:7.2f} ns per normal, one thread")
    absent = [name for name in ("jax", "diffrax") if find_spec(name) is None]
    print(f"not compared: {', '.join(absent)} (not installed)" if absent else "jax and diffrax are not compared here")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
