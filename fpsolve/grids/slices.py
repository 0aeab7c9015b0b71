"""What a grid solution is at one time: masses of cells, tails, and fields at the faces with errors by cause."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fpsolve.problem.grid import Grid

NAMES = ("logpdf", "score", "cdf", "velocity")
CAUSES = ("space", "time", "domain", "initial", "rounding")
EXACT = 1e-15  # relative accuracy of a law that is known
# solutions are made on demand, with scratch that serves one thread at a time; simulate asks from several
SOLVING = threading.RLock()


@dataclass(frozen=True)
class Field:
    """One field at the faces (..., faces), with pointwise errors by cause."""

    value: np.ndarray
    errors: dict[str, np.ndarray]

    @property
    def total(self) -> np.ndarray:
        """Sum of the errors of all causes."""
        return sum(self.errors[cause] for cause in CAUSES)  # type: ignore[return-value]

    def row(self, k: int) -> Field:
        """Field at one of several times."""
        return Field(self.value[k], {cause: error[k] for cause, error in self.errors.items()})


@dataclass(frozen=True)
class Slice:
    """A solution at `time`: `masses` (n,) of the cells, F and 1 - F at the faces (n + 1,) each summed from its own end.

    `absorbed` is the mass that left through each end; F counts what left on the left, 1 - F what left on the right.
    `compute(name)` makes the fields of NAMES when they are first asked for, and with `has_flux` also "flux".
    """

    grid: Grid
    time: float
    masses: np.ndarray
    compute: Callable[[str], Field]
    absorbed: tuple[float, float] = (0.0, 0.0)
    has_flux: bool = False
    _fields: dict[str, Field] = field(default_factory=dict, repr=False)

    def field(self, name: str) -> Field:
        """One of NAMES."""
        if name not in self._fields:
            with SOLVING:
                self._fields[name] = self.compute(name)
        return self._fields[name]

    @property
    def below(self) -> np.ndarray:
        """F at the faces."""
        return np.concatenate([[self.absorbed[0]], self.absorbed[0] + np.cumsum(self.masses)])

    @property
    def above(self) -> np.ndarray:
        """1 - F at the faces."""
        return np.concatenate([self.absorbed[1] + np.cumsum(self.masses[::-1])[::-1], [self.absorbed[1]]])

    @property
    def density(self) -> np.ndarray:
        """Density at the faces."""
        return np.exp(self.field("logpdf").value)


@dataclass(frozen=True)
class Solved:
    """What a scheme returns: slices at any time, errors of q relative to its maximum by cause, and an account."""

    grid: Grid
    slices: Callable[[float], Slice]
    errors: dict[str, float]
    account: str
    reason: str
    stats: dict[str, Any]

    @property
    def total(self) -> float:
        """Sum over the causes."""
        return sum(self.errors.values())
