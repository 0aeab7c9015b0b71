"""Work against error: schemes on the same Brownian paths, with the floor that sampling sets."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_choice, check_count, check_t_span
from fpsolve.particles.schemes import Scheme, as_scheme
from fpsolve.particles.simulate import simulate
from fpsolve.plotting import new_axes
from fpsolve.problem.density import as_law
from fpsolve.problem.law import Law
from fpsolve.problem.mixtures import PointMass
from fpsolve.problem.process import Process
from fpsolve.problem.streams import Stream
from fpsolve.verdict.coupled import CommonNoise, reference_for
from fpsolve.verdict.framing import as_process

STEPS = (4, 8, 16, 32, 64)
COLUMNS = ("scheme", "steps", "evaluations", "ns/path", "weak error", "±", "strong error", "± ", "order w", "order s")
_MARKS = "os^vD<>Pp*Xh"
_IN_SIGHT = 1e-3  # a floor below this share of every error would squeeze the picture
_WORK = {"evaluations": "values of f and g per path", "seconds": "seconds per path"}


@dataclass(frozen=True)
class WorkPrecision:
    """What every scheme costs and how far it is off.

    Attributes
    ----------
    rows : tuple of dict
        One per scheme and number of steps: scheme, steps, h, evaluations (values of f and g per path), seconds (per
        path), weak_error and strong_error with weak_std_error and strong_std_error, resolved (whether the weak error
        exceeds two standard errors), lost (paths; the errors then are None).
    floors : dict
        "weak": standard error of a mean of φ over that many independent paths, below which plain sampling sees no
        bias; "strong": error of the reference.
    title : str
        The process, the paths and the reference.

    Examples
    --------
    >>> table = fps.work_precision(["milstein"], fps.processes.gbm(0.5, 0.5), steps=(4, 8), n_paths=1000)
    >>> len(table.rows), table.rows[0]["strong_error"] > table.rows[1]["strong_error"]
    (2, True)
    """

    rows: tuple[dict[str, Any], ...]
    floors: dict[str, float]
    title: str

    @property
    def schemes(self) -> tuple[str, ...]:
        """Names, in the order that was given."""
        return tuple(dict.fromkeys(row["scheme"] for row in self.rows))

    def of(self, scheme: str) -> list[dict[str, Any]]:
        """Rows of one scheme."""
        return [row for row in self.rows if row["scheme"] == scheme]

    def cells(self) -> list[tuple[str, ...]]:
        """Text of the table, in the order of COLUMNS."""
        found = []
        for name in self.schemes:
            before = None
            for row in self.of(name):
                found.append(_cells(row, before))
                before = row
        return found

    def __str__(self) -> str:
        rows = [COLUMNS, *self.cells()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([self.title, *lines, self.floor_line()])

    def floor_line(self) -> str:
        """The two floors in words."""
        return (
            f"floors: {self.floors['weak']:.1e} is the standard error of plain sampling with as many paths, "
            f"{self.floors['strong']:.1e} the error of the reference"
        )

    def plot(self, ax: Any = None, *, error: str = "weak", work: str = "evaluations") -> Any:
        """Draw work against error, with the floor; hollow marks are within two standard errors of zero.

        Parameters
        ----------
        ax : matplotlib axes, optional
            New ones unless given.
        error : {"weak", "strong"}
            Which.
        work : {"evaluations", "seconds"}
            Values of f and g, or time per path.

        Returns
        -------
        matplotlib axes
        """
        check_choice("error", error, ("weak", "strong"))
        check_choice("work", work, tuple(_WORK))
        axes, least = new_axes(ax), np.inf
        for k, name in enumerate(self.schemes):
            rows = [row for row in self.of(name) if row[f"{error}_error"]]
            if not rows:
                continue
            x, y, bar = (np.array([row[key] for row in rows]) for key in (f"{error}_error", work, f"{error}_std_error"))
            mark, unsure = _MARKS[k % len(_MARKS)], x <= 2.0 * bar
            (line,) = axes.plot(x, y, f"{mark}-", label=name, markersize=5)
            axes.errorbar(x, y, xerr=np.minimum(bar, 0.9 * x), fmt="none", color=line.get_color(), alpha=0.5)
            axes.plot(x[unsure], y[unsure], mark, color=line.get_color(), markerfacecolor="white", markersize=5)
            least = min(least, float(x.min()))
        if self.floors[error] > _IN_SIGHT * least:
            what = "sampling error" if error == "weak" else "reference"
            axes.axvline(self.floors[error], color="black", linestyle="--", linewidth=0.8, label=f"floor: {what}")
        axes.set(xscale="log", yscale="log", xlabel=f"{error} error", ylabel=_WORK[work])
        axes.invert_xaxis()
        axes.grid(alpha=0.3)
        return axes


def _cells(row: dict[str, Any], before: dict[str, Any] | None) -> tuple[str, ...]:
    def figure(name: str) -> str:
        return "-" if row[name] is None else f"{row[name]:.1e}"

    def order(kind: str) -> str:
        coarse = before[f"{kind}_error"] if before else None
        # where a coarser level is missing or either is noise there is no rate
        known = coarse and row[f"{kind}_error"] and row[f"{kind}_error"] > 4.0 * row[f"{kind}_std_error"]
        rate = np.log2(row["steps"] / before["steps"]) if before else 1.0
        return f"{np.log2(coarse / row[f'{kind}_error']) / rate:.2f}" if known else "-"

    shown = [figure(f"{kind}{part}") for kind in ("weak", "strong") for part in ("_error", "_std_error")]
    if row["lost"]:
        shown[0] = f"{row['lost']} lost"
    return (
        row["scheme"], str(row["steps"]), f"{row['evaluations']:g}", f"{1e9 * row['seconds']:.0f}", *shown,
        order("weak"), order("strong"),
    )  # fmt: skip


def work_precision(
    schemes: Sequence[Any],
    process: Process,
    *,
    start: Any = None,
    t_span: Any = (0.0, 1.0),
    test: Callable[[np.ndarray], np.ndarray] = np.square,
    steps: Sequence[int] = STEPS,
    n_paths: int = 2**14,
    repeat: int = 3,
    seed: int = 0,
) -> WorkPrecision:
    """Measure work against weak and strong error of schemes on one process.

    Parameters
    ----------
    schemes : sequence of str or Scheme
        Names in `SCHEMES`, or schemes declared with `@fps.scheme`.
    process : SDE
        For a scheme that reads the other calculus it is converted.
    start : density, optional
        Law at t_span[0]; PointMass(1.0) unless given.
    t_span : (float, float)
        Span; errors are those at its end.
    test : callable
        φ(x) of the weak error |E φ(X_h) - E φ(X)|; x² unless given.
    steps : sequence of int
        Powers of two.
    n_paths : int
        Paths, the same ones for every scheme and number of steps.
    repeat : int
        Each time is the best of so many runs, with independent increments and all cores.
    seed : int
        Of the paths.

    Returns
    -------
    WorkPrecision
        Rows, floors and `.plot()`; printed it is a table.

    Raises
    ------
    InputError, UnknownName
        If a scheme is not known or does not support the noise, or an argument breaks a rule.

    Notes
    -----
    Errors are differences from a much finer reference on the same Brownian paths (the exact solution where the process
    is the image of a linear one), so that weak errors far below the sampling error of plain Monte Carlo are seen.
    SciMLBenchmarks: work against error, never time alone.

    Examples
    --------
    >>> table = fps.work_precision(["euler-maruyama", "milstein"], fps.processes.gbm(0.5, 0.5), n_paths=1000)
    >>> len(table.rows), table.floors["strong"] < 1e-9
    (10, True)
    """
    if as_process(process).is_ode:
        raise InputError("work_precision needs an SDE", process, "use fps.check_order for the order without noise")
    given = [as_scheme(scheme) for scheme in schemes]
    law, span = as_law(PointMass(1.0) if start is None else start, "start"), check_t_span(t_span)

    def form(scheme: Scheme) -> Process:
        return in_calculus_of(scheme, process)

    return compared(given, form, law, span, test, steps, check_count("n_paths", n_paths, at_least=2), repeat, seed)


def in_calculus_of(scheme: Scheme, process: Process) -> Process:
    """The process as the scheme reads it."""
    if scheme.calculus == process.calculus or not process.diffusion_coefficient.uses_x:
        return process
    return process.to_ito() if scheme.calculus == "ito" else process.to_stratonovich()


def compared(
    schemes: Sequence[Scheme], form: Callable[[Scheme], Process], law: Law, span: tuple[float, float],
    test: Callable[[np.ndarray], np.ndarray], steps: Sequence[int], n_paths: int, repeat: int, seed: int,
) -> WorkPrecision:  # fmt: skip
    """`work_precision` with a process for each scheme, all of them the same law."""
    levels = sorted(check_count("steps", n) for n in steps)
    if not schemes or not levels:
        raise InputError("there must be schemes and numbers of steps", (schemes, steps), "give at least one of each")
    for scheme in schemes:
        scheme.check_supports(form(scheme))
    noise = CommonNoise(span, n_paths, Stream(seed).child("work-precision"))
    reference = reference_for(None, form(schemes[0]), law)
    truth, rough = noise.truth(reference, max(levels[-1], 64))
    expected = test(truth)
    rows = []
    for scheme in schemes:
        process = form(scheme)
        for n in levels:
            x = noise.ends(scheme, process, law, n)
            seconds = _seconds(scheme, process, law, span, n, n_paths, repeat) / n_paths
            row = {"scheme": scheme.name, "steps": n, "h": (span[1] - span[0]) / n}
            row |= {"evaluations": n * _evaluations(scheme, process, span), "seconds": seconds}
            rows.append(row | _errors(x, truth, test(x) - expected, scheme))
    floors = {"weak": float(expected.std() / np.sqrt(n_paths)), "strong": float(np.abs(truth - rough).mean())}
    return WorkPrecision(tuple(rows), floors, f"{n_paths} paths over {span}, reference: {reference.route}")


def _errors(x: np.ndarray, truth: np.ndarray, gaps: np.ndarray, scheme: Scheme) -> dict[str, Any]:
    lost = int(np.isnan(x).sum())
    found: dict[str, Any] = {"lost": lost}
    for kind, values in (("weak", gaps), ("strong", np.abs(x - truth))):
        known = not lost and (kind == "weak" or scheme.strong_order is not None)
        found[f"{kind}_error"] = abs(float(values.mean())) if known else None
        found[f"{kind}_std_error"] = float(values.std() / np.sqrt(values.size)) if known else None
    found["resolved"] = bool(not lost and found["weak_error"] > 2.0 * found["weak_std_error"])
    return found


def _seconds(
    scheme: Scheme, process: Process, law: Law, span: tuple[float, float], n_steps: int, n_paths: int, repeat: int
) -> float:
    best = np.inf
    for _ in range(check_count("repeat", repeat)):
        begun = time.perf_counter()
        simulate(process, law, span, n_paths=n_paths, n_steps=n_steps, scheme=scheme)
        best = min(best, time.perf_counter() - begun)
    return float(best)


class _Counting:
    """A process that counts how often its coefficients are asked for."""

    def __init__(self, process: Process) -> None:
        self._process, self.calls = process, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._process, name)
        if name in ("drift", "diffusion", "diffusion_squared", "diffusion_squared_dx", "drift_dx"):
            self.calls += 1
        return found


def _evaluations(scheme: Scheme, process: Process, span: tuple[float, float]) -> int:
    """Values of f and g per step: as declared, or counted where a user's scheme declares none."""
    if any(scheme.cost):
        return sum(scheme.cost)
    counting, x = _Counting(process), np.full(1, 0.5 * sum(np.clip(process.support, -1.0, 1.0)) or 0.5)
    scheme.step(x, span[0], span[1] - span[0], np.zeros(1), counting, np.zeros(1))
    return counting.calls
