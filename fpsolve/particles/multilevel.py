"""Multilevel Monte Carlo: an expectation to a wanted standard error, most of it from coarse steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_count, check_number
from fpsolve.particles.moments import Moments
from fpsolve.particles.schemes import Scheme, as_scheme
from fpsolve.particles.simulate import simulate
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.process import Process
from fpsolve.problem.streams import Stream, as_stream

_PILOT = 2000  # paths of a level before its variance is known
_MOST_LEVELS = 14
_LEAST_LEVELS = 3
_MOST_PATH_STEPS = 2e10


@dataclass
class _Level:
    """Mean of the fine minus the coarse value (level 0: of the value) and how many looks it has had."""

    steps: int
    cost: float  # steps per path, those of the coarse partner included
    moments: Moments
    looks: int = 0

    @property
    def variance(self) -> float:
        """Of one path."""
        return float(self.moments.squares / max(1, self.moments.count - 1))


def multilevel(
    process: Process,
    start: Any,
    t_span: tuple[float, float],
    fn: Callable[..., Any],
    *,
    std_error: float,
    scheme: str | Scheme = "euler-maruyama",
    n_steps: int = 2,
    bridge: bool = True,
    executor: Executor | None = None,
    rng: Any = 0,
) -> Estimate:
    """E φ(X) at the end of the span to a wanted standard error, over levels with n_steps, 2 n_steps, ... steps.

    Parameters
    ----------
    process, start, t_span, scheme, bridge, executor, rng
        As in `simulate`.
    fn : callable
        φ(x), or bound by name: x, t, alive.
    std_error : float
        Wanted standard error; levels are added until the estimated bias is below it as well.
    n_steps : int
        Steps of the coarsest level.

    Returns
    -------
    Estimate
        `std_error` what was reached, `error` the estimated bias of the finest level; the route lists the paths taken
        on each level.

    Raises
    ------
    InputError
        If the wanted standard error would take more than 2e10 steps, or 14 levels.
    BlowUp
        If paths are lost.

    Notes
    -----
    Giles (2008): N_l ∝ √(V_l / C_l), and E[P - P_L] from the mean of the last differences with the scheme's weak order.

    Examples
    --------
    >>> m = fps.multilevel(fps.processes.ou(), fps.PointMass(1.0), (0, 1), lambda x: x**2, std_error=0.02)
    >>> bool(abs(m.value - 1.0) < m.error + 4 * m.std_error), m.std_error <= 0.02
    (True, True)
    """
    wanted = check_number("std_error", std_error, above=0.0)
    integrator, stream = as_scheme(scheme), as_stream(rng)
    first = check_count("n_steps", n_steps)
    options = {"scheme": integrator, "bridge": bridge, "executor": executor}
    levels: list[_Level] = []
    while True:
        steps = first * 2 ** len(levels)
        levels.append(_Level(steps, 1.5 * steps if levels else steps, Moments(0, np.zeros(()), np.zeros(()))))
        _grow(levels, wanted, (process, start, t_span, fn), options, stream)
        bias = _bias(levels, integrator.weak_order)
        if len(levels) >= _LEAST_LEVELS and bias <= wanted:
            return _estimate(levels, bias, integrator)
        if len(levels) == _MOST_LEVELS:
            raise InputError(
                f"the step bias must fall below std_error within {_MOST_LEVELS} levels",
                f"an estimated bias of {bias:.2g} with {levels[-1].steps} steps",
                "raise std_error or n_steps, or take a scheme of higher weak order",
            )


def _grow(levels: list[_Level], wanted: float, problem: tuple, options: dict[str, Any], stream: Stream) -> None:
    """Run paths until every level has what the wanted variance asks of it."""
    _run(levels, len(levels) - 1, _PILOT, problem, options, stream)
    while True:
        total = sum(math.sqrt(level.variance * level.cost) for level in levels)
        asked = [math.ceil(total * math.sqrt(level.variance / level.cost) / wanted**2) for level in levels]
        work = sum(n * level.cost for n, level in zip(asked, levels, strict=True))
        if work > _MOST_PATH_STEPS:
            raise InputError(
                f"std_error must be reachable with {_MOST_PATH_STEPS:.0e} steps of paths",
                f"{wanted:g}, which takes {work:.1e}",
                "raise std_error",
            )
        missing = [max(0, n - level.moments.count) for n, level in zip(asked, levels, strict=True)]
        if not any(missing):
            return
        for k, n in enumerate(missing):
            if n:
                _run(levels, k, max(2, n), problem, options, stream)


def _run(levels: list[_Level], k: int, n: int, problem: tuple, options: dict[str, Any], stream: Stream) -> None:
    process, start, t_span, fn = problem
    level = levels[k]
    coupled = k > 0
    ens = simulate(
        process, start, t_span, n_paths=n, n_steps=level.steps // 2 if coupled else level.steps,
        bias="halving" if coupled else None, rng=stream.child("level", k, "look", level.looks), **options,
    )  # fmt: skip
    ens.check_complete()
    found = ens.moments(fn)  # of a coupled run the second row is coarse minus fine
    sign, row = (-1.0, 1) if coupled else (1.0, 0)
    difference = Moments(found.count, sign * found.mean[row], found.squares[row])
    level.moments, level.looks = level.moments.merged(difference), level.looks + 1


def _bias(levels: list[_Level], weak_order: float) -> float:
    """|E[P - P_L]| from the last two differences, each with its own noise."""
    gain = 2.0 ** min(weak_order, 2.0)
    found = [
        (abs(float(level.moments.mean)) + float(level.moments.std_error)) / gain ** (len(levels) - 1 - k)
        for k, level in enumerate(levels[1:], start=1)
    ]
    return max(found[-2:], default=math.inf) / (gain - 1.0)


def _estimate(levels: list[_Level], bias: float, scheme: Scheme) -> Estimate:
    value = sum(float(level.moments.mean) for level in levels)
    spread = math.sqrt(sum(float(level.moments.std_error) ** 2 for level in levels))
    paths = ", ".join(f"{level.moments.count} of {level.steps} steps" for level in levels)
    return Estimate(value, error=bias, std_error=spread, route=f"particles: multilevel {scheme.name}, {paths}")
