"""`fpsolve bench`: a user's schemes beside the built-in ones, on four standard problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fpsolve.errors import InputError
from fpsolve.particles.schemes import Scheme
from fpsolve.particles.tableaux import SCHEMES
from fpsolve.paths.processes import double_well, gbm, ou
from fpsolve.plotting import new_panels
from fpsolve.problem.law import Law
from fpsolve.problem.mixtures import GaussianMixture, PointMass
from fpsolve.problem.process import SDE, Process
from fpsolve.report.work_precision import STEPS, WorkPrecision, compared
from fpsolve.verdict.claims import imported_file

FORMAT = 1
CONTENDERS = (
    "euler-maruyama", "tamed-euler", "theta", "milstein", "milstein-derivative-free", "heun", "platen-weak-2",
    "rossler-1.5",
)  # fmt: skip


@dataclass(frozen=True)
class StandardProblem:
    """A process with its start and span; a second form of it where the noise is multiplicative."""

    name: str
    process: Process
    law: Law
    span: tuple[float, float]
    stratonovich: Process | None = None

    def form(self, scheme: Scheme) -> Process:
        """The process in the calculus of a scheme."""
        other = self.stratonovich if scheme.calculus == "stratonovich" else None
        return self.process if other is None else other

    def takes(self, scheme: Scheme) -> bool:
        """Whether a scheme is for this noise."""
        return scheme.noise == "general" or (scheme.noise == "additive" and self.stratonovich is None)


def _gbm_pair(mu: float, sigma: float) -> tuple[Process, Process]:
    other = SDE(lambda x: (mu - 0.5 * sigma**2) * x, lambda x: sigma * x, calculus="stratonovich", support=(0, np.inf))
    return gbm(mu, sigma), other


def _reversed_ou(end: float) -> tuple[Process, Law]:
    """Time reversal of dX = -X dt + √2 dW from ½ N(-1.5, 0.3²) + ½ N(1.5, 0.3²), and the law that it starts from."""

    def drift(x: Any, t: float) -> Any:
        shrink = np.exp(t - end)
        m, v = 1.5 * shrink, 0.09 * shrink * shrink + 1.0 - shrink * shrink
        return x + 2.0 * (m * np.tanh(m * x / v) - x) / v

    shrink = float(np.exp(-end))
    spread = float(np.sqrt(0.09 * shrink**2 + 1.0 - shrink**2))
    return SDE(drift, 2**0.5), GaussianMixture([0.5, 0.5], [-1.5 * shrink, 1.5 * shrink], [spread, spread])


_ITO, _STRATONOVICH = _gbm_pair(0.7, 0.4)
_REVERSED, _REVERSED_START = _reversed_ou(2.0)
PROBLEMS = (
    StandardProblem("additive", ou(1.0, 0.8), PointMass(1.0), (0.0, 1.0)),
    StandardProblem("multiplicative", _ITO, PointMass(1.0), (0.0, 1.0), _STRATONOVICH),
    StandardProblem("double well", double_well(1.0, 1.0, 0.7), PointMass(0.5), (0.0, 1.0)),
    StandardProblem("reverse diffusion", _REVERSED, _REVERSED_START, (0.0, 2.0)),
)


def schemes_in_file(file: str) -> list[Scheme]:
    """Import a file and return its schemes in the order of definition; InputError if there is none."""
    module = imported_file(file, "a file of schemes")
    built_in = set(map(id, SCHEMES.values()))
    found = [value for value in vars(module).values() if isinstance(value, Scheme) and id(value) not in built_in]
    if not found:
        raise InputError(
            "a file for bench must hold schemes", file,
            "put @fps.scheme(strong_order=..., weak_order=...) above a function step(x, t, h, dw, process)",
        )  # fmt: skip
    return list({id(scheme): scheme for scheme in found}.values())


def run_problem(
    problem: StandardProblem, own: Sequence[Scheme], *, steps: Sequence[int] = STEPS, n_paths: int = 2**14,
    repeat: int = 3, seed: int = 0,
) -> WorkPrecision:  # fmt: skip
    """Work and errors of those of the given schemes that take the problem, and of the contenders."""
    mine = [scheme for scheme in own if problem.takes(scheme)]
    names = {scheme.name for scheme in mine}
    others = [SCHEMES[name] for name in CONTENDERS if name not in names and problem.takes(SCHEMES[name])]
    return compared([*mine, *others], problem.form, problem.law, problem.span, np.square, steps, n_paths, repeat, seed)


def draw(results: dict[str, WorkPrecision], path: str | Path, work: str = "evaluations") -> None:
    """One column for each problem: weak errors above, strong errors below."""
    figure, axes = new_panels(2, len(results))
    for column, (name, table) in enumerate(results.items()):
        for row, error in enumerate(("weak", "strong")):
            table.plot(axes[row][column], error=error, work=work)
        axes[0][column].set_title(name)
    named = [zip(*ax.get_legend_handles_labels(), strict=True) for ax in axes.flat]
    handles = {label: handle for pairs in named for handle, label in pairs}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, fontsize=8)
    figure.savefig(path, dpi=150)


def bench_record(results: dict[str, WorkPrecision]) -> dict[str, Any]:
    """What the tables hold, for another program."""
    return {
        "format": FORMAT,
        "problems": [
            {"name": name, "title": table.title, "floors": table.floors, "rows": list(table.rows)}
            for name, table in results.items()
        ],
    }
