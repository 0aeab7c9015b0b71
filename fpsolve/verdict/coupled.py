"""The same Brownian paths at several step sizes, and where they really end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from fpsolve.errors import InputError
from fpsolve.particles.brownian import BrownianPath
from fpsolve.particles.schemes import Scheme
from fpsolve.particles.simulate import simulate
from fpsolve.particles.tableaux import SCHEMES
from fpsolve.paths.closed_forms import Mapped
from fpsolve.problem.law import Law
from fpsolve.problem.maps import Pushforward
from fpsolve.problem.mixtures import PointMass
from fpsolve.problem.process import Process
from fpsolve.problem.streams import Stream
from fpsolve.verdict.marginal_referees import weighted_work

Map = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Reference:
    """How the paths themselves are found: another process and scheme, a map of its positions, and how fine."""

    process: Process
    scheme: Scheme
    law: Law
    map: Map
    finer: int  # steps per step of the finest level
    route: str


def reference_for(scheme: Scheme | None, process: Process, law: Law) -> Reference:
    """The best route to the paths that is not the scheme itself, if one is under examination."""
    known = process.closed_form
    hidden = _hidden_start(known, law) if isinstance(known, Mapped) else None
    if hidden is not None and isinstance(known, Mapped):
        by = SCHEMES["rossler-1.5-additive"]
        flat = known.hidden.drift_coefficient.constant is not None
        what = "exact solution" if flat else f"image of a linear process by {by.name}"
        return Reference(known.hidden, by, hidden, known.map.forward, 1 if flat else 8, what)
    ito = process.to_ito()
    additive = not process.diffusion_coefficient.uses_x
    first, second, finer = ("rossler-1.5-additive", "rossler-1.5", 16) if additive else ("rossler-1.5", "milstein", 64)
    if scheme is SCHEMES[first]:
        return Reference(ito, SCHEMES[second], law, np.asarray, finer, second)
    return Reference(ito, SCHEMES[first], law, np.asarray, 8, first)


def _hidden_start(known: Mapped, law: Law) -> Law | None:
    """The law that the map takes to `law`, if it is known."""
    if isinstance(law, PointMass):
        return PointMass(float(known.map.inverse(np.array(law.mean()))))
    return law.base if isinstance(law, Pushforward) and law.map == known.map else None


class CommonNoise:
    """Ends of the same paths by any scheme, process and number of steps; `work` counts steps of paths."""

    def __init__(
        self, span: tuple[float, float], n_paths: int, stream: Stream, executor: Executor | None = None
    ) -> None:
        self.span, self.n_paths, self.work = span, n_paths, 0.0
        self._executor = executor
        self._stream, self._path = stream, BrownianPath(span, rng=stream.child("path"))

    def ends(self, scheme: Scheme, process: Process, law: Law, n_steps: int) -> np.ndarray:
        """X at the end of the span, (paths,); NaN where a path was lost."""
        ens = simulate(
            process, law, self.span, n_paths=self.n_paths, n_steps=n_steps, scheme=scheme,
            rng=self._stream.child("start"), brownian=self._path, executor=self._executor,
        )  # fmt: skip
        if ens.stats["interrupted"]:  # a part of the paths would be compared with all of them
            raise KeyboardInterrupt(ens.message)
        self.work += weighted_work(ens)
        return np.asarray(ens.x[0])

    def truth(self, reference: Reference, finest: int) -> tuple[np.ndarray, np.ndarray]:
        """Ends by the reference, and by the reference with half as many steps; `finest` is for what is compared."""
        steps = finest * reference.finer
        fine, rough = (
            reference.map(self.ends(reference.scheme, reference.process, reference.law, n)) for n in (steps, steps // 2)
        )
        if not np.isfinite(fine + rough).all():
            raise InputError(
                f"the reference ({reference.route}) must keep all paths", "a path that it lost", "shorten t_span"
            )
        return fine, rough
