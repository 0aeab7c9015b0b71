"""Many paths of a process by Euler-Maruyama, with means, functionals and their errors taken in the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from rich.progress import Progress

from fpsolve.errors import InputError, check_choice, check_count, check_executor, check_t_span
from fpsolve.particles import workers
from fpsolve.particles.brownian import BrownianPath
from fpsolve.particles.ensemble import Ensemble, estimate_of
from fpsolve.particles.moments import Moments
from fpsolve.particles.remote import packed, remote_task
from fpsolve.particles.run import Kept, Piece, Report, Run
from fpsolve.particles.schemes import Scheme, as_scheme
from fpsolve.particles.setup import KEPT, NOTHING, prepared
from fpsolve.problem.coefficient import Coefficient
from fpsolve.problem.density import as_law
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.process import Process
from fpsolve.problem.streams import Stream, as_stream

START_CHUNK = 2**16  # paths whose starts come from one generator


def simulate(
    process: Process,
    start: Any,
    t_span: tuple[float, float],
    *,
    n_paths: int,
    n_steps: int,
    scheme: str | Scheme = "euler-maruyama",
    save_at: Any = None,
    keep: str = "final",
    observables: Mapping[str, Callable[..., Any]] | None = None,
    functionals: Mapping[str, Any] | None = None,
    rng: Any = 0,
    brownian: BrownianPath | None = None,
    executor: Executor | None = None,
    bias: str | None = None,
    bridge: bool = True,
    progress: bool = False,
) -> Ensemble:
    """Simulate paths of dX = f dt + g dW by any scheme; Euler-Maruyama is X_{k+1} = X_k + f h + g ΔW_k.

    Parameters
    ----------
    process : SDE or ODE
        Ends that reflect put a path back, ends that absorb stop it there (`Ensemble.absorbed_at`), periodic ones
        wrap it. A path that leaves the support through a natural end, or passes 1e100, is lost: NaN from then on,
        counted in `stats["lost"]`, and means are refused.
    start : density
        Law at t_span[0], any fpsolve or SciPy density; PointMass(x) for a single point.
    t_span : (float, float)
        t0 < t1.
    n_paths, n_steps : int
        Number of paths, and of steps h over the span. A segment between two save times gets
        ceil(n_steps * its share of the span) equal steps, so that every save time is landed on; `stats` has the sum.
    scheme : str or Scheme
        A name in `SCHEMES`, or one declared with `@fps.scheme`. It must support the noise of the process and read its
        calculus.
    save_at : array_like, optional
        Increasing times within the span, which need not be on any grid; (t1,) unless given.
    keep : {"final", "saved", "none"}
        Positions to keep. With "none" memory does not grow with n_paths.
    observables : dict of callable, optional
        Functions of (x, t), bound by name, whose means are taken at every save time; `alive` tells which paths are not
        absorbed. A `Histogram` gives the probabilities of its bins.
    functionals : dict, optional
        By path over the span: a pair (a, b) of numbers or functions of (x, t) for ∫ a dt + ∫ b dW, left point (Itô);
        "maximum" or "minimum" for the running extreme.
    rng : int, numpy.random.Generator or Stream
        Same number, same bits, for every block size, thread count and executor.
    brownian : BrownianPath, optional
        Takes the place of `rng` for the increments: the same path at every step size, antithetic pairs. The number of
        steps must be a power of two and save times ends of steps.
    executor : concurrent.futures.Executor, optional
        Where blocks of paths run (a process pool, `dask.distributed.Client.get_executor()`); threads unless given.
    bias : {"halving"}, optional
        Measure the step bias: every path runs with h and with h/2 on the same noise (three times the work); what is
        reported is the run with h/2, see `Ensemble.expect`.
    bridge : bool
        Absorption, reflection and running extremes by the Brownian bridge within each step; without it they are seen
        at the ends of steps alone, with a bias of order √h.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Ensemble

    Raises
    ------
    InputError, UnknownName
        If an argument breaks a rule, or the scheme does not support the noise or the calculus of the process.
    CoefficientError
        If a coefficient, functional or observable is not finite at an ordinary point of the support (beyond 100
        times the extent of the start, an overflow counts as a lost path).
    BaseException
        What a coefficient or observable raises comes back as itself, with a note. After Ctrl-C the paths that are
        finished are returned (`stats["interrupted"]`); KeyboardInterrupt comes through if there are none.

    Notes
    -----
    Sources of the schemes: `fpsolve.particles.tableaux`; of the bridges: Asmussen, Glynn, Pitman (1995), Gobet (2000),
    Lépingle (1995). The noise of a step depends on (rng, path,
    step) alone: Philox counters.

    Examples
    --------
    >>> p = fps.SDE(lambda x: -x, 2**0.5)
    >>> ens = fps.simulate(p, fps.PointMass(0.0), (0, 1), n_paths=2000, n_steps=64, functionals={"work": (0.0, 1.0)})
    >>> ens.x.shape, bool(abs(ens.functionals["work"].var() - 1.0) < 0.2)
    ((1, 2000), True)
    """
    begun = time.perf_counter()
    if not isinstance(process, Process):
        raise InputError("process must be an SDE or an ODE", process, "declare one: fps.SDE(drift, diffusion)")
    span, integrator = check_t_span(t_span), as_scheme(scheme)
    if bias is not None:
        check_choice("bias", bias, ("halving",))
    law, stream = as_law(start, "start"), as_stream(rng)
    prepare = partial(
        prepared, process, span, save_at, check_count("n_paths", n_paths), check_count("n_steps", n_steps), integrator,
        keep=check_choice("keep", keep, KEPT), observables=observables, functionals=functionals, key=stream.key,
        extent=max(1.0, *map(abs, law.quantile_span(1e-6))), coupled=bias is not None, bridge=bridge, brownian=brownian,
    )  # fmt: skip
    check_executor(executor)
    run = prepare()
    parts = None if executor is None else packed(prepare)
    tasks = _tasks(run, _starts(law, stream, process.support, run), parts)
    report, kept, interrupted = _collected(run, tasks, executor, progress)
    return _ensemble(
        run, report, kept, integrator, list(functionals or {}), span, interrupted, time.perf_counter() - begun
    )


def _starts(law: Any, stream: Stream, support: tuple[float, float], run: Run) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first path, positions) in fixed chunks, so that bits do not depend on how the work is cut."""
    for chunk, first in enumerate(range(0, run.n_paths, START_CHUNK)):
        each = 2 if run.noise.antithetic else 1  # a pair starts at one place
        n = min(START_CHUNK, run.n_paths - first) // each
        x = np.asarray(law.sample(n, stream.generator("start", chunk)), dtype=float)
        x = np.repeat(x, each) if each > 1 else x
        outside = ~((x >= support[0]) & (x <= support[1]))
        if outside.any():
            raise InputError(
                f"start must lie within the support {support} of the process",
                float(x[outside][0]),
                "choose a law inside, or declare the support that the process has",
            )
        yield first, x


def _tasks(run: Run, starts: Iterator[tuple[int, np.ndarray]], parts: bytes | None) -> Iterator[Callable[[], Piece]]:
    size = run.task_size
    for first, x in starts:
        for a in range(0, x.size, size):
            part = x[a : a + size]
            yield partial(run.task, first + a, part) if parts is None else remote_task(parts, first + a, part)


def _collected(
    run: Run, tasks: Iterator[Callable[[], Piece]], executor: Executor | None, progress: bool
) -> tuple[Report, Kept, bool]:
    """Reductions and arrays of all paths; after Ctrl-C of those that were finished, from the first on."""
    if executor is None:
        run.warm()
    total: Report | None = None
    kept, interrupted = run.room(run.n_paths), False
    with (
        closing(workers.in_order(tasks, run.stop, executor)) as pieces,
        Progress(disable=not progress, transient=True) as bar,
    ):
        shown = bar.add_task("paths", total=run.n_paths)
        try:
            for piece in pieces:
                window = slice(piece.first, piece.first + piece.report.n_paths)
                for mine, theirs in zip(kept, piece.kept, strict=True):
                    if mine.size:
                        mine[..., window] = theirs
                total = piece.report if total is None else total.merged(piece.report)
                bar.advance(shown, piece.report.n_paths)
        except KeyboardInterrupt as interrupt:
            if total is None or getattr(
                interrupt, "__notes__", None
            ):  # nothing is finished, or a coefficient raised it
                raise
            interrupted = True
            workers.interrupted.set()
    if total is None:
        raise InputError("there must be at least one path", run.n_paths, "raise n_paths")
    return total, Kept(*(array[..., : total.n_paths] for array in kept)), interrupted


def _how(coefficient: Coefficient, how: str, run: Run) -> str:
    """Which way a coefficient ran, and why."""
    if how != "python":
        return how
    pays = coefficient.pays(run.values, run.calls)
    few = "machine code and Python differ" if pays else f"{run.values:.3g} values do not pay for compiling"
    return f"python: {coefficient.refusal() or few}"


def _ensemble(
    run: Run, report: Report, kept: Kept, scheme: Scheme, names: list[str], span: tuple[float, float],
    interrupted: bool, seconds: float,
) -> Ensemble:  # fmt: skip
    lost, split = report.lost, 2 if run.coupled else 1
    sizes = [segment.step / split for segment in run.segments]
    steps = split * sum(segment.steps for segment in run.segments)
    measured = "step bias by coupled halving" if run.coupled else "step bias not measured"
    route = f"particles: {scheme.name}, {report.n_paths} paths, {steps} steps, {measured}"
    stats = {
        "n_paths": report.n_paths,
        "interrupted": interrupted,
        "t_span": span,
        "scheme": scheme.name,
        "steps": steps,
        "step_sizes": (min(sizes), max(sizes)),
        "path_steps": int(run.path_steps * report.n_paths / run.n_paths),
        "coefficients": {
            c.what: _how(c, block.how, run)
            for c, block in zip(run.coefficients, run.blocks, strict=True)
            if c.what != NOTHING
        },
        "functionals": {name: _functional_mean(report, m, route) for m, name in enumerate(names)},
        "lost": lost.stats,
        "threads": workers.default_threads(),
        "seconds": seconds,
    }
    times = {"none": run.save_at[:0], "final": np.array(span[1:]), "saved": run.save_at}[run.keep]
    functionals = {name: kept.sums[0, m] for m, name in enumerate(names)} if run.keep != "none" else {}
    # alive for ever where no end absorbs, without an array over the paths
    alive = np.broadcast_to(np.inf, (0 if run.keep == "none" else report.n_paths,))
    absorbed_at = kept.absorbed_at[0] if run.absorbs else alive
    stopped = f"; interrupted: {report.n_paths} of {run.n_paths} paths were finished" if interrupted else ""
    message = f"{route}; {lost if lost.count else 'no path lost'}{stopped}"
    watched = _by_observable(report.observables, list(run.observables))
    return Ensemble(
        times, kept.x[0], functionals, absorbed_at, run.save_at, stats, message, watched, kept, lost, route,
        run.noise.antithetic,
    )  # fmt: skip


def _functional_mean(report: Report, m: int, route: str) -> Estimate | None:
    moments = report.functionals
    if report.lost.count or moments.count < 2:
        return None
    return estimate_of(Moments(moments.count, moments.mean[m], moments.squares[m]), route)


def _by_observable(moments: list[list[Moments]], names: list[str]) -> dict[str, Moments]:
    """From one Moments per time and observable to one per observable, times first."""
    return {
        name: Moments(
            moments[0][k].count,
            np.array([at_time[k].mean for at_time in moments]),
            np.array([at_time[k].squares for at_time in moments]),
        )
        for k, name in enumerate(names)
    }
