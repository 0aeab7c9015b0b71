"""What a backward solve is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from fpsolve.problem.coefficient import Coefficient
from fpsolve.problem.process import Process


@dataclass(frozen=True)
class BackwardSetting:
    """-∂t v = f v' + ½ g² v'' - potential v + source - κ ½ g² v'², v(x, t1) = terminal(x); κ = 1 with `bends`.

    `breaks` are places where terminal, potential or source is not smooth, `landings` times (descending) between which
    all coefficients are smooth, `exit_values` those of v at absorbing ends. The region of interest is about `about`, if
    that is not empty.
    """

    process: Process
    terminal: Coefficient
    potential: Coefficient
    source: Coefficient
    t_span: tuple[float, float]
    breaks: tuple[float, ...] = ()
    landings: tuple[float, ...] = ()
    bends: bool = False
    exit_values: tuple[float, float] = (0.0, 0.0)
    about: tuple[float, ...] = ()

    @property
    def moves(self) -> bool:
        """Whether a coefficient depends on t."""
        p = self.process
        return any(c.uses_t for c in (p.drift_coefficient, p.diffusion_coefficient, self.potential, self.source))
