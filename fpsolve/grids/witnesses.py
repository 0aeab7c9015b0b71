"""A high-order solution and its witnesses: the same problem with fewer cells, with half the steps, on a wider domain.

Errors are read off differences of fields. With coarser cells by RATIO and order p, the error that is left is
1/(RATIO^p - 1) of the difference; where differences have been seen to shrink more slowly, that is believed instead. The
witness of time takes every step in two halves: what changes is the error of whole steps, whatever its order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.ndimage import maximum_filter1d

from fpsolve.grids.extrapolation import POINTS, interpolate, interpolate_log, refine_once
from fpsolve.grids.march import March
from fpsolve.grids.slices import CAUSES, Field, Slice
from fpsolve.problem.grid import Grid

RATIO = 1.5  # of cells, between a solve and its coarse witness
TIME_SAFETY = 3.0  # halves leave some of the error of whole steps
SPACE_SAFETY = 3.0
_WINDOW = 3  # faces over which the largest difference counts: differences change sign
FIRM = 1e-13  # of the largest density in y: below is rounding, of either sign, and has no logarithm
_EMPTY = 1e-300
_POLE = 4  # cells next to an end at which q vanishes, where the score has a pole
_KEPT = 64  # slices that are remembered
_THIN = 1e-8  # of the largest density
_LOWEST = -650.0  # logarithm of the smallest density that is shown, relative to the largest
_EPS = 2.3e-16
EXACT_CELLS = 1e-14  # relative accuracy of the masses of cells
_NODES_IN_TIME = 12.0  # amplification of rounding by the derivative in time, times the step
_AMPLIFIED = 135.0  # rounding, by the weights of the extrapolation in time


class Profile:
    """Fields of one march at its faces at time `t`, from the cell masses alone, each computed when it is asked for."""

    def __init__(self, march: March, t: float) -> None:
        self.march, self.time, self.masses = march, t, march.masses(t)
        self._on_grids: dict[Grid, np.ndarray] = {}

    @cached_property
    def _value(self) -> np.ndarray:
        """Density in the coordinate of the grid."""
        return self.march.stencils.at_faces(self.masses, self.march.stencils.value)

    @cached_property
    def _firm(self) -> np.ndarray:
        return self._value > FIRM * self._value.max()

    @cached_property
    def _logs(self) -> np.ndarray:
        logs = _continued(np.log(np.maximum(self._value, _EMPTY)), self._firm)
        for absorbs, end in zip(self.march.setting.absorbing, (0, -1), strict=True):
            if absorbs:
                logs[end] = logs.max() + _LOWEST  # q vanishes there
        return logs

    @cached_property
    def density(self) -> np.ndarray:
        """Density q."""
        return self.march.dx * self._value

    @cached_property
    def logpdf(self) -> np.ndarray:
        """Log q, continued where it is lost in rounding."""
        return self._logs + np.log(self.march.dx)

    @cached_property
    def score(self) -> np.ndarray:
        """∂x log q."""
        march, slope = self.march, self.march.stencils.at_faces(self.masses, self.march.stencils.slope)
        with np.errstate(divide="ignore", invalid="ignore"):
            score = np.where(self._firm, slope / self._value, np.gradient(self._logs) / march.grid.step)
        return march.dx * score + march.dxx / march.dx

    @cached_property
    def absorbed(self) -> tuple[float, float]:
        """Mass that left through each end."""
        absorbing = any(self.march.setting.absorbing)
        return _lost(self.march, self.time, self.masses) if absorbing else (0.0, 0.0)

    @cached_property
    def below(self) -> np.ndarray:
        """F, summed from the left."""
        return self.absorbed[0] + np.concatenate([[0.0], np.cumsum(self.masses)])

    @cached_property
    def above(self) -> np.ndarray:
        """1 - F, summed from the right."""
        return self.absorbed[1] + np.concatenate([np.cumsum(self.masses[::-1])[::-1], [0.0]])

    def density_on(self, grid: Grid) -> np.ndarray:
        """Density at the faces of another grid, by way of its logarithm except next to an end where it vanishes."""
        if grid not in self._on_grids:
            self._on_grids[grid] = self._density_at(grid.faces)
        return self._on_grids[grid]

    def _density_at(self, x: np.ndarray) -> np.ndarray:
        grid, absorbing = self.march.grid, self.march.setting.absorbing
        values = np.exp(interpolate_log(grid, self.logpdf, x))
        if any(absorbing):
            places = grid.place(x)
            for absorbs, end in zip(absorbing, (0.0, float(grid.cells)), strict=True):
                near = np.abs(places - end) < POINTS
                if absorbs and near.any():
                    values[near] = interpolate(grid, self.density, x[near])
        return values


def profile(march: March, t: float) -> Profile:
    """Fields of a march at time `t`, which it remembers."""
    if t not in march.profiles:
        if len(march.profiles) >= _KEPT:
            march.profiles.clear()
        march.profiles[t] = Profile(march, t)
    return march.profiles[t]


def _lost(march: March, t: float, masses: np.ndarray) -> tuple[float, float]:
    """Mass lost to each end: what is missing inside, between two absorbing ends as their integrated fluxes have it."""
    lost = max(0.0, float(march.states[0].sum() - masses.sum()))  # less than nothing is rounding
    absorbing = march.setting.absorbing
    if not all(absorbing):
        return lost * absorbing[0], lost * absorbing[1]
    flown = march.absorbed(t)
    total = sum(flown)
    share = flown[0] / total if total > 0.0 else 0.5
    return lost * share, lost * (1.0 - share)


def _continued(logs: np.ndarray, firm: np.ndarray) -> np.ndarray:
    """Logarithms with those that are not firm replaced: by parabolas in the tails, by straight lines between."""
    at = np.flatnonzero(firm)
    if at.size < 3:
        return np.maximum(logs, logs.max() + np.log(FIRM))
    filled = np.interp(np.arange(logs.size), at, logs[at])
    for end, nodes in ((np.arange(at[0])[::-1], at[:3]), (np.arange(at[-1] + 1, logs.size), at[:-4:-1])):
        first, second = logs[nodes[0]] - logs[nodes[1]], logs[nodes[1]] - logs[nodes[2]]
        steps = np.arange(1.0, end.size + 1.0)
        bend = min(first - second, 0.0)
        filled[end] = logs[nodes[0]] + first * steps + bend * steps * (steps + 1.0) / 2.0
    return np.maximum(filled, logs.max() + _LOWEST)


def flux(march: March, t: float, found: Profile) -> np.ndarray:
    """J = -∂t F at the faces, summed from the nearer end, and the flux through that end."""
    rates, ends = march.rates(t), march.end_fluxes(found.masses, t)
    from_left = ends[0] - np.concatenate([[0.0], np.cumsum(rates)])
    from_right = ends[1] + np.concatenate([np.cumsum(rates[::-1])[::-1], [0.0]])
    return np.where(found.below < found.above, from_left, from_right)


def velocity(march: March, t: float, found: Profile) -> np.ndarray:
    """J/q at the faces."""
    with np.errstate(divide="ignore", invalid="ignore"):
        result = flux(march, t, found) / found.density
    return np.where(np.isfinite(result), result, 0.0)


@dataclass(frozen=True)
class Witnesses:
    """`fine`, and what it is compared with; `cut` cells of `wide` on each side are not common with `coarse`.

    `space_share` is the part of the difference to `coarse` that is left as the error of `fine`; `initial` the relative
    error of the initial cell masses, `outside` the initial mass beyond the ends.
    """

    fine: March
    coarse: March
    halved: March
    wide: March | None
    cut: tuple[int, int]
    space_share: float
    outside: float
    _slices: dict[float, Slice] = field(default_factory=dict, repr=False)

    def slice(self, t: float) -> Slice:
        """Solution at one time."""
        if t not in self._slices:
            if len(self._slices) >= _KEPT:
                self._slices.clear()
            self._slices[t] = self._sliced(t)
        return self._slices[t]

    def _sliced(self, t: float) -> Slice:
        profiles = {name: profile(march, t) for name, march in self._marches().items()}
        fine = self.fine

        def compute(name: str) -> Field:
            return self._field(name, t, profiles)

        return Slice(fine.grid, t, profiles["fine"].masses, compute, profiles["fine"].absorbed, True)

    def _marches(self) -> dict[str, March]:
        marches = {"fine": self.fine, "coarse": self.coarse, "halved": self.halved}
        return marches | ({} if self.wide is None else {"wide": self.wide})

    def _values(self, name: str, t: float, profiles: dict[str, Profile]) -> dict[str, np.ndarray]:
        if name in ("velocity", "flux"):
            field = velocity if name == "velocity" else flux
            return {key: field(march, t, profiles[key]) for key, march in self._marches().items()}
        if name == "cdf":
            return {key: np.where(p.below < p.above, p.below, 1.0 - p.above) for key, p in profiles.items()}
        return {key: getattr(p, "density" if name == "logpdf" else name) for key, p in profiles.items()}

    def _field(self, name: str, t: float, profiles: dict[str, Profile]) -> Field:
        values = self._values(name, t, profiles)
        grid, fine = self.coarse.grid, profiles["fine"]
        places, value = self._places, values["fine"]
        if name == "logpdf":  # on the logarithm where it is smooth, so that tails are compared with tails
            on_coarse, between = fine.density_on(grid), self._between_faces(fine.logpdf) * fine.density
            if any(self.fine.setting.absorbing):
                between = np.where(self._vanishes_near(), self._between_faces(value), between)
        else:
            on_coarse, between = interpolate(self.fine.grid, value, grid.faces), self._between_faces(value)

        def spread(difference: np.ndarray) -> np.ndarray:
            widest = maximum_filter1d(np.abs(difference), _WINDOW, mode="nearest")
            return np.interp(places, np.arange(widest.size), widest)

        space = self.space_share * spread(on_coarse - values["coarse"]) + np.abs(between)
        time = TIME_SAFETY * spread(values["halved"] - values["coarse"])
        domain = np.zeros_like(value)
        if self.wide is not None:
            left, right = self.cut
            common = values["wide"][left : values["wide"].size - right]
            domain = 2.0 * spread(common - values["coarse"])
        errors = {
            "space": space,
            "time": time,
            "domain": domain + self._missing(name, fine),
            "initial": np.full_like(value, EXACT_CELLS * np.abs(value).max()),
            "rounding": self._rounding(name, t, fine),
        }
        if name == "score":
            pole = np.where(self._vanishes_near(_POLE), np.abs(value), 0.0)
            errors["space"] = space + self._of_quotients(t, profiles) + pole
        return self._as_log(fine, errors) if name == "logpdf" else Field(value, errors)

    def _of_quotients(self, t: float, profiles: dict[str, Profile]) -> np.ndarray:
        """Error of a score where q is so small that differences of quotients say nothing: that of q over a cell."""
        fine = profiles["fine"]
        relative = np.expm1(np.minimum(self._field("logpdf", t, profiles).total, 300.0))
        thin = fine.density < _THIN * fine.density.max()
        return np.where(thin, 0.5 * relative * self.fine.dx / self.fine.grid.step, 0.0)

    @cached_property
    def _places(self) -> np.ndarray:
        """Faces of the fine solve in units of cells of the coarse one."""
        return self.coarse.grid.place(self.fine.grid.faces)

    def _vanishes_near(self, cells: int = POINTS) -> np.ndarray:
        """Which faces are next to an end at which q vanishes, and with it the use of logarithms."""
        faces, (left, right) = np.arange(self.fine.grid.cells + 1), self.fine.setting.absorbing
        return (left & (faces < cells)) | (right & (faces > faces[-1] - cells))

    @staticmethod
    def _between_faces(value: np.ndarray) -> np.ndarray:
        """How far polynomials of degree seven and nine disagree in the middle of the cells next to each face."""
        apart = np.abs(refine_once(value[None], 10) - refine_once(value[None], 8))[0, 1::2]
        return np.maximum(np.append(apart[:1], apart), np.append(apart, apart[-1:]))

    def _missing(self, name: str, fine: Profile) -> np.ndarray:
        """What the initial mass beyond the ends could have changed."""
        if name == "logpdf":
            return self.outside * fine.density.max() * np.ones_like(fine.density)
        return np.full_like(fine.density, self.outside if name == "cdf" else 0.0)

    def _rounding(self, name: str, t: float, fine: Profile) -> np.ndarray:
        """Rounding of the steps, of quotients by q, and of differences in time."""
        relative = _EPS * _AMPLIFIED * (1.0 + 0.1 * self.fine.steps)
        if name == "cdf":
            return np.full_like(fine.density, relative)
        noise = relative * fine.density.max()
        if name == "logpdf":
            return np.full_like(fine.density, noise)
        density = np.exp(fine.logpdf)
        if name == "score":
            return noise / density * self.fine.dx / self.fine.grid.step
        moved = relative * _NODES_IN_TIME / self.fine.step_around(t)
        return moved / density if name == "velocity" else np.full_like(density, moved)

    def _as_log(self, fine: Profile, errors: dict[str, np.ndarray]) -> Field:
        """Errors of log q: log(1 + total/q), shared among the causes."""
        density, total = np.exp(fine.logpdf), sum(errors.values())
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            relative = np.log1p(np.minimum(total / density, 1e260)) / total
        return Field(fine.logpdf, {c: np.where(total > 0.0, errors[c] * relative, 0.0) for c in CAUSES})
