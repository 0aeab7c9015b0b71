"""Fields of one level at its faces, and of the whole tableau with errors by cause."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fpsolve.grids.extrapolation import Extrapolated, extrapolate, positive_masses, spread
from fpsolve.grids.scheme import Level
from fpsolve.grids.slices import Field
from fpsolve.problem.grid import Grid

_EPS = 2.3e-16
_EMPTY = 1e-300  # densities below are written as this: a logarithm must exist
_AMPLIFY = 6.0  # sum of the absolute weights of the extrapolation
# beyond the zero of a Lagrange weight: continuation of six values by one
_CONTINUE = np.array([6.0, -15.0, 20.0, -15.0, 6.0, -1.0])


def _with_ends(inner: np.ndarray) -> np.ndarray:
    """Values at inner faces, continued to both end faces by polynomials of degree five."""
    out = np.empty((inner.shape[0], inner.shape[1] + 2))
    out[:, 1:-1] = inner
    out[:, 0], out[:, -1] = inner[:, :6] @ _CONTINUE, inner[:, : -7 if inner.shape[1] > 6 else None : -1] @ _CONTINUE
    return out


def shifted_cdf(mass: np.ndarray, split: int) -> np.ndarray:
    """F up to face `split` and F - 1 from there on (T, n+1): neither tail loses digits."""
    out = np.zeros((mass.shape[0], mass.shape[1] + 1))
    out[:, 1 : split + 1] = np.cumsum(mass[:, :split], axis=1)
    out[:, split + 1 : -1] = -np.cumsum(mass[:, :split:-1], axis=1)[:, ::-1]
    return out


def log_density(level: Level) -> np.ndarray:
    """log q at all faces: mean of the logarithms of the two neighbours."""
    logs = np.log(np.maximum(level.mass / level.grid.widths, _EMPTY))
    return _with_ends(0.5 * (logs[:, 1:] + logs[:, :-1]))


def score(level: Level) -> np.ndarray:
    """∂x log q at all faces: difference of the logarithms of the two neighbours."""
    logs = np.log(np.maximum(level.mass / level.grid.widths, _EMPTY))
    return _with_ends(np.diff(logs, axis=1) / np.diff(level.grid.x))


def velocity(level: Level) -> np.ndarray:
    """-∂t F/q at all faces, both from this level."""
    return _with_ends(level.flux[:, 1:-1] / np.exp(log_density(level)[:, 1:-1]))


def _not_far_above(found: Extrapolated, fine: np.ndarray) -> Extrapolated:
    """Extrapolated log q, held to the finest level plus one: far tails that no level resolves must not take off."""
    held = np.maximum(found.value - fine - 1.0, 0.0)
    return replace(found, value=found.value - held, space=found.space + held)


@dataclass(frozen=True)
class Tableau:
    """The six levels, and a coarse solve on the wider domain, of which `cut` cells on each side are not common.

    `distrust` (T,) multiplies the errors of space and time; above one where a coarser tableau was further off than it
    had said. `initial` is the relative error of the initial cell masses, `outside` the mass moved into the grid.
    """

    levels: dict[tuple[int, int], Level]
    wide: Level | None
    cut: tuple[int, int]
    initial: float
    outside: float
    distrust: np.ndarray

    @property
    def grid(self) -> Grid:
        """Finest grid."""
        return self.levels[2, 0].grid

    def field(self, name: str) -> Field:
        """Extrapolate one of NAMES."""
        if name == "cdf":
            return self._cdf()[0]
        function = {"logpdf": log_density, "score": score, "velocity": velocity}[name]
        return self._extrapolated(function, self._weight(1.0 if name == "logpdf" else 0.5))

    def _weight(self, power: float) -> np.ndarray:
        logs = log_density(self.levels[0, 0])
        return np.exp(power * (logs - logs.max(axis=1, keepdims=True)))

    def _extrapolated(self, function, weight: np.ndarray) -> Field:  # type: ignore[no-untyped-def]
        values = {pair: function(level) for pair, level in self.levels.items()}
        found = extrapolate(values, weight, 1e-11)
        if function is log_density:
            found = _not_far_above(found, values[2, 0])
        if self.wide is None:
            domain = np.zeros_like(values[0, 0])
        else:
            left, right = self.cut
            away = function(self.wide)
            domain = 2.0 * np.abs(away[:, left : away.shape[1] - right] - values[0, 0])
        return self._field(function, found, spread(domain))

    def _field(self, function, found: Extrapolated, domain: np.ndarray) -> Field:  # type: ignore[no-untyped-def]
        widths = np.gradient(self.grid.faces)
        if function is not velocity:
            domain = domain + self.outside / (widths if function is score else 1.0)
        if function is velocity:
            fine, late = self.levels[2, 0], self.levels[0, 2]
            lower = np.abs(shifted_cdf(fine.mass, fine.mass.shape[1] // 2))
            noise = np.minimum(lower, 1.0 - lower) / np.maximum(np.exp(log_density(fine)), _EMPTY) / late.tau[:, None]
        else:
            noise = 30.0 + np.abs(log_density(self.levels[2, 0]))
            noise = noise / widths if function is score else noise
        initial = self.initial * (1.0 + np.abs(found.value)) / (widths if function is score else 1.0)
        errors = {
            "space": found.space * self.distrust[:, None],
            "time": found.time * self.distrust[:, None],
            "domain": domain,
            "initial": np.broadcast_to(initial, found.value.shape),
            "rounding": _AMPLIFY * _EPS * noise,
        }
        return Field(found.value, errors)

    def _cdf(self) -> tuple[Field, np.ndarray, np.ndarray, np.ndarray]:
        """Extrapolated F as sums of non-negative masses; also the masses and how much the limiter held back."""
        n = self.levels[0, 0].grid.cells
        split = int(np.searchsorted(np.cumsum(self.levels[0, 0].mass[-1]), 0.5))
        split = min(max(split, 1), n - 1)
        values = {(i, j): shifted_cdf(level.mass, split * 2**i) for (i, j), level in self.levels.items()}
        found = extrapolate(values, np.ones_like(values[0, 0]), 1e-12)
        low = self.levels[2, 0].mass
        shift = found.value - values[2, 0]
        shift[:, 0] = shift[:, -1] = 0.0
        mass, held, limited = positive_masses(low, shift)
        value = np.concatenate([np.zeros((len(mass), 1)), np.cumsum(mass, axis=1)], axis=1)
        if self.wide is None:
            domain = np.zeros_like(values[0, 0])
        else:
            left, right = self.cut
            total = np.concatenate([np.zeros((len(mass), 1)), np.cumsum(self.wide.mass, axis=1)], axis=1)
            base = np.concatenate([np.zeros((len(mass), 1)), np.cumsum(self.levels[0, 0].mass, axis=1)], axis=1)
            domain = 2.0 * np.abs(total[:, left : total.shape[1] - right] - base)
        errors = {
            "space": found.space * self.distrust[:, None] + held[:, None],
            "time": found.time * self.distrust[:, None],
            "domain": spread(domain) + self.outside,
            "initial": np.full_like(value, self.initial),
            "rounding": np.full_like(value, 100.0 * _EPS),
        }
        return Field(value, errors), mass, held, limited

    def masses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Non-negative masses of the finest cells (T, cells); by time, largest transfer held back, faces limited."""
        return self._cdf()[1:]
