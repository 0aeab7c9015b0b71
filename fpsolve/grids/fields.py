"""Fields of one level at its faces, and of the whole tableau with errors by cause.

Next to an absorbing end q vanishes; log q, its score and its velocity have poles, of which polynomials know nothing.
With r the product of the distances to the ends where q = 0 (one, if there are none) q/r is smooth and positive up to
these ends: levels are extrapolated in log(q/r), ∂x log(q/r) and r J/q, and the poles are put back exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fpsolve.grids.extrapolation import Extrapolated, extrapolate, positive_masses, spread
from fpsolve.grids.scheme import Level
from fpsolve.grids.slices import Field
from fpsolve.problem.grid import Grid

FieldOfLevel = Callable[[Level], np.ndarray]

_EPS = 2.3e-16
_EMPTY = 1e-300  # densities below are written as this: a logarithm must exist
_LOWEST = -650.0  # log q where q vanishes, relative to its maximum
_AMPLIFY = 6.0  # sum of the absolute weights of the extrapolation
# beyond the zero of a Lagrange weight: continuation of six values by one
_CONTINUE = np.array([6.0, -15.0, 20.0, -15.0, 6.0, -1.0])


def _with_ends(inner: np.ndarray) -> np.ndarray:
    """Values at inner faces, continued to both end faces by polynomials of degree five."""
    out = np.empty((inner.shape[0], inner.shape[1] + 2))
    out[:, 1:-1] = inner
    out[:, 0], out[:, -1] = inner[:, :6] @ _CONTINUE, inner[:, : -7 if inner.shape[1] > 6 else None : -1] @ _CONTINUE
    return out


def shifted_cdf(level: Level, split: int) -> np.ndarray:
    """F up to face `split` and F - 1 from there on (T, n+1): neither tail loses digits."""
    mass, (left, right) = level.mass, level.absorbed.T[..., None]
    out = np.empty((mass.shape[0], mass.shape[1] + 1))
    out[:, : split + 1], out[:, split + 1 :] = left, -right
    out[:, 1 : split + 1] += np.cumsum(mass[:, :split], axis=1)
    out[:, split + 1 : -1] -= np.cumsum(mass[:, :split:-1], axis=1)[:, ::-1]
    return out


def cdf(level: Level) -> np.ndarray:
    """F at all faces, summed from the left."""
    return np.cumsum(np.concatenate([level.absorbed[:, :1], level.mass], axis=1), axis=1)


def distance(level: Level, x: np.ndarray) -> np.ndarray:
    """r, the product of the distances to the ends where q = 0."""
    left, right = level.vanishing
    return (x - level.grid.left if left else 1.0) * (level.grid.right - x if right else np.ones_like(x))


def _at_centres(level: Level) -> tuple[np.ndarray, np.ndarray]:
    """log(q/r) at the centres, and the centres, with one more of each beyond both ends of a ring."""
    x = level.grid.x
    logs = np.log(np.maximum(level.mass / level.grid.widths, _EMPTY)) - np.log(distance(level, x))
    if level.ring:
        width = level.grid.right - level.grid.left
        x = np.concatenate([x[-1:] - width, x, x[:1] + width])
        logs = np.concatenate([logs[:, -1:], logs, logs[:, :1]], axis=1)
    return logs, x


def log_density(level: Level) -> np.ndarray:
    """log(q/r) at all faces: mean of the logarithms of the two neighbours."""
    logs, _ = _at_centres(level)
    between = 0.5 * (logs[:, 1:] + logs[:, :-1])
    return between if level.ring else _with_ends(between)


def score(level: Level) -> np.ndarray:
    """∂x log(q/r) at all faces: difference of the logarithms of the two neighbours."""
    logs, x = _at_centres(level)
    between = np.diff(logs, axis=1) / np.diff(x)
    return between if level.ring else _with_ends(between)


def velocity(level: Level) -> np.ndarray:
    """r J/q at all faces, both from this level."""
    found = flux(level) / np.exp(log_density(level))
    return found if level.ring else _with_ends(found[:, 1:-1])


def flux(level: Level) -> np.ndarray:
    """J at all faces, from changes of masses in one step."""
    return level.flux


def off_walls(level: Level) -> np.ndarray:
    """Faces, but instead of ends where q = 0 the centres next to them."""
    x, ends = level.grid.faces.copy(), [0, -1]
    x[ends] = np.where(level.vanishing, level.grid.x[ends], x[ends])
    return x


def with_poles(function: FieldOfLevel, values: np.ndarray, level: Level) -> np.ndarray:
    """The field at the faces of `level` (at ends where q = 0, next to them) from what `function` gives of it."""
    if function is flux or not any(level.vanishing):
        return values
    x, (left, right) = off_walls(level), level.vanishing
    if function is velocity:
        return values / distance(level, x)
    if function is score:
        ahead = 1.0 / (x - level.grid.left) if left else 0.0
        return values + ahead - (1.0 / (level.grid.right - x) if right else 0.0)
    shown = values + np.log(distance(level, x))
    shown[:, [0, -1]] = np.where(level.vanishing, shown.max(axis=1, keepdims=True) + _LOWEST, shown[:, [0, -1]])
    return shown


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
        """Extrapolate one of NAMES, or "flux"."""
        if name == "cdf":
            return self._cdf()[0]
        function = {"logpdf": log_density, "score": score, "velocity": velocity, "flux": flux}[name]
        return self._extrapolated(function, self._weight(1.0 if name == "logpdf" else 0.0 if name == "flux" else 0.5))

    def _weight(self, power: float) -> np.ndarray:
        base = self.levels[0, 0]
        logs = with_poles(log_density, log_density(base), base)
        return np.exp(power * (logs - logs.max(axis=1, keepdims=True)))

    def _extrapolated(self, function: FieldOfLevel, weight: np.ndarray) -> Field:
        values = {pair: function(level) for pair, level in self.levels.items()}
        found = extrapolate(values, weight, 1e-11)
        if function is log_density:
            found = _not_far_above(found, values[2, 0])
        base = with_poles(function, values[0, 0], self.levels[0, 0])
        domain = self._domain(lambda wide: with_poles(function, function(wide), wide), base)
        if function is log_density:  # twice the difference of q, which may be large where q is small
            domain = np.log1p(2.0 * np.expm1(np.minimum(0.5 * domain, 600.0)))
        return self._field(function, found, domain)

    def _domain(self, function: FieldOfLevel, base: np.ndarray) -> np.ndarray:
        """Error by the domain at the faces of the finest grid."""
        if self.wide is None:
            return spread(np.zeros_like(base))
        left, right = self.cut
        away = function(self.wide)
        return spread(2.0 * np.abs(away[:, left : away.shape[1] - right] - base))

    def _field(self, function: FieldOfLevel, found: Extrapolated, domain: np.ndarray) -> Field:
        fine, widths = self.levels[2, 0], np.gradient(self.grid.faces)
        if function in (velocity, flux):
            lower = np.abs(shifted_cdf(fine, fine.mass.shape[1] // 2))
            noise = np.minimum(lower, np.abs(1.0 - lower)) / self.levels[0, 2].tau[:, None]
            noise = noise / np.maximum(np.exp(log_density(fine)), _EMPTY) if function is velocity else noise
        else:
            domain = domain + self.outside / (widths if function is score else 1.0)
            noise = 30.0 + np.abs(log_density(fine))
            noise = noise / widths if function is score else noise
        initial = self.initial * (1.0 + np.abs(found.value)) / (widths if function is score else 1.0)
        errors = {
            "space": found.space * self.distrust[:, None],
            "time": found.time * self.distrust[:, None],
            "initial": np.broadcast_to(initial, found.value.shape),
            "rounding": _AMPLIFY * _EPS * noise,
        }
        value = with_poles(function, found.value, fine)
        if function is velocity:
            errors = {cause: error / distance(fine, off_walls(fine)) for cause, error in errors.items()}
        if function in (score, velocity):  # a pole has no value
            errors["space"][:, [0, -1]] += np.abs(value[:, [0, -1]]) * fine.vanishing
        return Field(value, errors | {"domain": domain})

    def _cdf(self) -> tuple[Field, np.ndarray, np.ndarray, np.ndarray]:
        """Extrapolated F as sums of non-negative masses, those absorbed at both ends among them; also these masses (T,
        cells + 2) and how much the limiter held back."""
        base, fine = self.levels[0, 0], self.levels[2, 0]
        split = int(np.searchsorted(cdf(base)[-1, 1:], 0.5))
        split = min(max(split, 1), base.grid.cells - 1)
        values = {(i, j): shifted_cdf(level, split * 2**i) for (i, j), level in self.levels.items()}
        found = extrapolate(values, np.ones_like(values[0, 0]), 1e-12)
        shift = np.pad(found.value - values[2, 0], ((0, 0), (1, 1)))
        low = np.concatenate([fine.absorbed[:, :1], fine.mass, fine.absorbed[:, 1:]], axis=1)
        mass, held, limited = positive_masses(low, shift)
        value = np.cumsum(mass[:, :-1], axis=1)
        errors = {
            "space": found.space * self.distrust[:, None] + held[:, None],
            "time": found.time * self.distrust[:, None],
            "domain": self._domain(cdf, cdf(base)) + self.outside,
            "initial": np.full_like(value, self.initial),
            "rounding": np.full_like(value, 100.0 * _EPS),
        }
        return Field(value, errors), mass, held, limited

    def masses(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Non-negative masses of the finest cells (T, cells) and those absorbed at both ends (T, 2); by time, largest
        transfer held back, faces limited."""
        _, mass, held, limited = self._cdf()
        return mass[:, 1:-1], mass[:, [0, -1]], held, limited
