"""Many paths of a process by Euler-Maruyama, with means, functionals and their errors taken in the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
from rich.progress import Progress

from fpsolve.errors import InputError, check_choice, check_count, check_t_span
from fpsolve.particles import workers
from fpsolve.particles.ensemble import Ensemble, estimate_of
from fpsolve.particles.moments import Moments
from fpsolve.particles.run import Report, Run
from fpsolve.particles.setup import ROWS, prepared
from fpsolve.problem.coefficient import COMPILE_FROM, Coefficient
from fpsolve.problem.density import as_law
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.process import Process
from fpsolve.problem.streams import Stream, as_stream

SCHEMES = ("euler-maruyama",)
START_CHUNK = 2**16  # paths whose starts come from one generator


def simulate(
    process: Process,
    start: Any,
    t_span: tuple[float, float],
    *,
    n_paths: int,
    n_steps: int,
    scheme: str = "euler-maruyama",
    save_at: Any = None,
    keep: str = "final",
    observables: Mapping[str, Callable[..., Any]] | None = None,
    functionals: Mapping[str, tuple[Any, Any]] | None = None,
    rng: Any = 0,
    bias: str | None = None,
    progress: bool = False,
) -> Ensemble:
    """Simulate paths of dX = f dt + g dW: X_{k+1} = X_k + f(X_k, t_k) h + g(X_k, t_k) ΔW_k.

    Parameters
    ----------
    process : SDE or ODE
        Converted to Itô form. Reflecting ends fold a path back; a path that leaves the support through a natural
        end, or passes 1e100, is lost: NaN from then on, counted in `stats["lost"]`, and means are refused.
    start : density
        Law at t_span[0], any fpsolve or SciPy density; PointMass(x) for a single point.
    t_span : (float, float)
        t0 < t1.
    n_paths, n_steps : int
        Number of paths, and of steps h over the span. A segment between two save times gets
        ceil(n_steps * its share of the span) equal steps, so that every save time is landed on; `stats` has the sum.
    scheme : {"euler-maruyama"}
        Strong order 1/2, weak order 1 (also with reflection by folding).
    save_at : array_like, optional
        Increasing times within the span, which need not be on any grid; (t1,) unless given.
    keep : {"final", "saved", "none"}
        Positions to keep. With "none" memory does not grow with n_paths.
    observables : dict of callable, optional
        Functions of (x, t), bound by name, whose means are taken at every save time.
    functionals : dict of (a, b), optional
        Numbers or functions of (x, t): ∫ a dt + ∫ b dW over the span, left point (Itô), by path.
    rng : int, numpy.random.Generator or Stream
        Same number, same bits, for every block size and thread count.
    bias : {"halving"}, optional
        Measure the step bias: every path runs with h and with h/2 on the same noise (three times the work); what is
        reported is the run with h/2, see `Ensemble.expect`.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Ensemble

    Raises
    ------
    InputError, UnknownName
        If an argument breaks a rule; absorbing and periodic boundaries are not supported yet.
    CoefficientError
        If a coefficient, functional or observable is not finite at an ordinary point of the support (beyond 100
        times the extent of the start, an overflow counts as a lost path).
    BaseException
        What a coefficient or observable raises comes back as itself, with a note; Ctrl-C as KeyboardInterrupt.

    Notes
    -----
    Maruyama (1955); Kloeden and Platen (1992), sections 10.2 and 14.1. The noise of a step depends on (rng, path,
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
    span = check_t_span(t_span)
    check_choice("scheme", scheme, SCHEMES)
    if bias is not None:
        check_choice("bias", bias, ("halving",))
    law, stream, ito = as_law(start, "start"), as_stream(rng), process.to_ito()
    run = prepared(
        ito, span, save_at, check_count("n_paths", n_paths), check_count("n_steps", n_steps),
        keep=check_choice("keep", keep, ROWS), observables=observables, functionals=functionals,
        key=stream.key, extent=max(1.0, *map(abs, law.quantile_span(1e-6))), coupled=bias is not None,
    )  # fmt: skip
    report = _executed(run, law, stream, ito.support, progress)
    return _ensemble(run, report, list(functionals or {}), span, time.perf_counter() - begun)


def _starts(law: Any, stream: Stream, support: tuple[float, float], n_paths: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first path, positions) in fixed chunks, so that bits do not depend on how the work is cut."""
    for chunk, first in enumerate(range(0, n_paths, START_CHUNK)):
        x = np.asarray(law.sample(min(START_CHUNK, n_paths - first), stream.generator("start", chunk)), dtype=float)
        outside = ~((x >= support[0]) & (x <= support[1]))
        if outside.any():
            raise InputError(
                f"start must lie within the support {support} of the process",
                float(x[outside][0]),
                "choose a law inside, or declare the support that the process has",
            )
        yield first, x


def _tasks(run: Run, starts: Iterator[tuple[int, np.ndarray]]) -> Iterator[Callable[[], Report]]:
    size = run.task_size
    for first, x in starts:
        for a in range(0, x.size, size):
            yield partial(run.task, first + a, x[a : a + size])


def _executed(run: Run, law: Any, stream: Stream, support: tuple[float, float], progress: bool) -> Report:
    run.warm()
    tasks = _tasks(run, _starts(law, stream, support, run.n_paths))
    total: Report | None = None
    with (
        closing(workers.in_order(tasks, run.stop, workers.default_threads())) as reports,
        Progress(disable=not progress, transient=True) as bar,
    ):
        shown = bar.add_task("paths", total=run.n_paths)
        for report in reports:
            total = report if total is None else total.merged(report)
            bar.advance(shown, report.n_paths)
    return total  # type: ignore[return-value]  # there is at least one path


def _how(coefficient: Coefficient, how: str, work: float) -> str:
    """Which way a coefficient ran, and why."""
    if how != "python":
        return how
    few = f"{work:.3g} values do not pay for compiling" if work < COMPILE_FROM else "machine code and Python differ"
    return f"python: {coefficient.refusal() or few}"


def _ensemble(run: Run, report: Report, names: list[str], span: tuple[float, float], seconds: float) -> Ensemble:
    lost, split = report.lost, 2 if run.coupled else 1
    sizes = [segment.step / split for segment in run.segments]
    steps = split * sum(segment.steps for segment in run.segments)
    measured = "step bias by coupled halving" if run.coupled else "step bias not measured"
    route = f"particles: Euler-Maruyama, {run.n_paths} paths, {steps} steps, {measured}"
    stats = {
        "n_paths": run.n_paths,
        "t_span": span,
        "steps": steps,
        "step_sizes": (min(sizes), max(sizes)),
        "path_steps": int(run.path_steps),
        "coefficients": {
            c.what: _how(c, block.how, run.path_steps) for c, block in zip(run.coefficients, run.blocks, strict=True)
        },
        "functionals": {name: _functional_mean(report, m, route) for m, name in enumerate(names)},
        "lost": lost.stats,
        "threads": workers.default_threads(),
        "seconds": seconds,
    }
    times = {"none": run.save_at[:0], "final": np.array(span[1:]), "saved": run.save_at}[run.keep]
    functionals = {name: run.store.sums[0, m] for m, name in enumerate(names)} if run.keep != "none" else {}
    message = f"{route}; {lost if lost.count else 'no path lost'}"
    watched = _by_observable(report.observables, list(run.observables))
    return Ensemble(times, run.store.x[0], functionals, run.save_at, stats, message, watched, run.store, lost, route)


def _functional_mean(report: Report, m: int, route: str) -> Estimate | None:
    moments = report.functionals
    if report.lost.count or moments.count < 2:
        return None
    return estimate_of(Moments(moments.count, moments.mean[m], moments.squares[m]), route)


def _by_observable(moments: list[Moments], names: list[str]) -> dict[str, Moments]:
    """From one Moments per time to one per observable, times first."""
    return {
        name: Moments(
            moments[0].count, np.array([m.mean[k] for m in moments]), np.array([m.squares[k] for m in moments])
        )
        for k, name in enumerate(names)
    }
