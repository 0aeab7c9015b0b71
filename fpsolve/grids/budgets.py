"""Error budgets of a grid solution: norms of pointwise errors, by cause."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
from scipy.special import bernoulli

from fpsolve.errors import check_choice
from fpsolve.grids.slices import CAUSES, Field, Slice
from fpsolve.problem.grid import Grid

_REGION = 3e-7  # F and 1 - F exceed this at the faces from which norms over F > 1e-6 are taken
_END_POINTS = 8  # of the trapezoidal rule that have weights of their own


@dataclass(frozen=True)
class ErrorBudget:
    """Estimated error of one quantity at each of `times`, by cause; `norm` says in which norm."""

    norm: str
    times: np.ndarray
    space: np.ndarray
    time: np.ndarray
    domain: np.ndarray
    initial: np.ndarray
    rounding: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """Sum over the causes, at each time."""
        return sum(getattr(self, cause) for cause in CAUSES)

    @property
    def worst(self) -> float:
        """Largest total over all times."""
        return float(self.total.max())

    def scaled(self, factor: np.ndarray) -> ErrorBudget:
        """Budget in other units, which may depend on time."""
        return replace(self, **{cause: getattr(self, cause) * factor for cause in CAUSES})

    @property
    def main_cause(self) -> str:
        """Cause that contributes most at the time of the largest total."""
        k = int(self.total.argmax())
        return max(CAUSES, key=lambda cause: float(getattr(self, cause)[k]))


class Budgets(Mapping[str, ErrorBudget]):
    """Error budgets by name, each computed when it is first asked for."""

    NORMS: ClassVar[dict[str, str]] = {
        "pdf": "sup, relative to max q",
        "cdf": "sup",
        "score": "L²(q) where F and 1 - F exceed 1e-6",
        "velocity": "L²(q) where F and 1 - F exceed 1e-6",
        "score_sup": "sup where F and 1 - F exceed 1e-6",
        "velocity_sup": "sup where F and 1 - F exceed 1e-6",
    }

    def __init__(self, slices: Callable[[float], Slice], times: np.ndarray) -> None:
        self._slices, self._times = slices, times
        self._known: dict[str, ErrorBudget] = {}

    def __getitem__(self, name: str) -> ErrorBudget:
        check_choice("an error budget", name, self.NORMS)
        if name not in self._known:
            rows = [norms_of(self._slices(float(t)), name) for t in self._times]
            parts = {cause: np.array([row[cause] for row in rows]) for cause in CAUSES}
            self._known[name] = ErrorBudget(self.NORMS[name], self._times, **parts)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.NORMS)

    def __len__(self) -> int:
        return len(self.NORMS)


def norms_of(found: Slice, name: str) -> dict[str, float]:
    """Norm of the errors of one quantity at one time, by cause."""
    kind = name.removesuffix("_sup")
    if kind == "pdf":
        return relative_errors(found.field("logpdf"))
    errors = found.field(kind).errors
    if kind == "cdf":
        return {cause: float(errors[cause].max()) for cause in CAUSES}
    inside = np.concatenate([[0.0], np.cumsum(found.masses)])
    region = (inside > _REGION) & (inside[-1] - inside > _REGION)
    if name.endswith("_sup"):
        return {cause: float(errors[cause][region].max(initial=0.0)) for cause in CAUSES}
    mass = (found.density * trapezoid(found.grid))[region]
    with np.errstate(over="ignore"):
        return {cause: float(np.sqrt((mass * errors[cause][region] ** 2).sum())) for cause in CAUSES}


def relative_errors(logs: Field) -> dict[str, float]:
    """Errors of q from those of log q, relative to its maximum, by cause."""
    relative = np.exp(logs.value - logs.value.max())
    return {c: float((relative * np.expm1(np.minimum(logs.errors[c], 600.0))).max()) for c in CAUSES}


@lru_cache(maxsize=1)
def _gregory() -> np.ndarray:
    """Weights of the first points of the trapezoidal rule with end corrections of order 8 (Gregory)."""
    powers = np.vander(np.arange(float(_END_POINTS)), increasing=True).T
    m = np.arange(_END_POINTS)
    minus_zeta = np.where(m == 0, -0.5, bernoulli(_END_POINTS)[1:] / (m + 1))
    return 1.0 + np.linalg.solve(powers, minus_zeta)


def trapezoid(grid: Grid) -> np.ndarray:
    """Quadrature weights of the faces: the trapezoidal rule in the coordinate in which they are equally spaced."""
    weights = grid.step / grid.slopes(grid.faces)[0]
    if grid.cells >= 2 * _END_POINTS:
        weights[:_END_POINTS] *= _gregory()
        weights[-_END_POINTS:] *= _gregory()[::-1]
    return weights
