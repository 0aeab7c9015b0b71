"""Any path of densities on a grid: chosen ends, grading and cells, so that fields between the faces come back."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fpsolve.errors import InputError, NoClosedForm
from fpsolve.grids.domain import Scouting, choose_grid
from fpsolve.grids.extrapolation import interpolate
from fpsolve.grids.slices import CAUSES, NAMES, Field, Slice
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law
from fpsolve.problem.mixtures import Empirical

ACCURACY = 1e-9  # relative, of what stands between the faces
_TAIL = 1e-18  # mass that may lie beyond each end
_LOST = 1e-8  # mass that may be missing altogether
_PROBES = 7  # times at which ends and cells are chosen
_FIRST_CELLS, _MOST_CELLS, _FACTOR = 96, 6000, 1.4
_BARELY = 1e-13  # F and 1 - F below which fields are not compared
_FAINT = 1e-15  # difference of F or 1 - F that does not count
_SETTLED = 1e-8  # relative error of q from which on a path from atoms counts as known
_UNKNOWN = 1e30  # error of what is continued beyond all mass
OPENINGS = 10.0 ** np.arange(-6.0, 0.0)  # parts of the span after which a path from atoms may be known
_EPS = 2.3e-16


class OnGrid:
    """Slices of a path on a grid of its own.

    Attributes
    ----------
    first : float
        Time from which the path has a density that is known; t_span[0] unless it starts from atoms.
    grid : Grid
        Ends beyond which at most 1e-18 of the mass lies at any time, cells between which interpolation is below 1e-9.

    Raises
    ------
    InputError
        If mass is missing, the density has gaps, or no grid of 6000 cells reaches that.
    """

    def __init__(self, q: Evolution) -> None:
        self.q = q
        self.first = self._opening()
        clock = 0.5 - 0.5 * np.cos(np.pi * np.arange(_PROBES) / (_PROBES - 1))
        length = q.t_span[1] - self.first
        self.times = [float(t) for t in self.first + length * clock**2]
        self.times[-1] = q.t_span[1]
        self.grid = self._refined(self._coarse())

    def _opening(self) -> float:
        t0, t1 = self.q.t_span
        if not isinstance(self.q.at(t0), Empirical):
            return t0
        for part in OPENINGS:
            t = t0 + float(part) * (t1 - t0)
            try:
                law = self.q.at(t)
            except NoClosedForm:
                continue
            if not isinstance(law, Empirical):
                value, error = self.q.with_error("pdf", law.ppf(np.array([0.1, 0.5, 0.9])), t)
                if (error <= _SETTLED * value).all():
                    return t
        raise InputError("a path on a grid needs a density", self.q, "save it where it has one")

    def _coarse(self) -> Grid:
        laws = [self.q.at(t) for t in self.times]
        spans = np.array([law.quantile_span(_TAIL) for law in laws])
        left, right = float(spans[:, 0].min()), float(spans[:, 1].max())
        missing = max(abs(float(law.cdf(left) + law.sf(left)) - 1.0) for law in laws)
        missing = max(missing, *(abs(self.q.mass(t) - 1.0) for t in self.times))
        if missing > _LOST:
            raise InputError("save keeps paths that keep their mass", f"{missing:.3g} missing", "save a shorter span")
        ends = [end for law in laws for end in law.support if math.isfinite(end)]
        walls = (
            max((end for end in ends if end <= left), default=None),
            min((end for end in ends if end >= right), default=None),
        )
        # points next to a wall other than zero are told apart only so far
        left = left if walls[0] is None else max(left, walls[0] + 1e3 * _EPS * abs(walls[0]))
        right = right if walls[1] is None else min(right, walls[1] - 1e3 * _EPS * abs(walls[1]))
        cores = np.array([[float(law.ppf(0.1)), float(law.isf(0.1))] for law in laws])
        times = np.array(self.times[1:])
        scouting = Scouting(times, np.ones(times.size), left, right, cores)
        return choose_grid(scouting, (-np.inf, np.inf), _FIRST_CELLS, walls)

    def _refined(self, grid: Grid) -> Grid:
        """More cells until fields in the middle of cells are found by interpolation."""
        cells = grid.cells
        while cells <= _MOST_CELLS:
            grid = replace(grid, cells=cells)
            worst = 0.0
            for name in ("logpdf", "cdf", "score", "velocity"):
                worst = max(self._missed(grid, name, t) for t in self.times)
                if worst > 1.0:
                    break
            else:
                return grid
            cells = math.ceil(_FACTOR * cells)
        raise InputError(
            f"a table in x must reach {ACCURACY:.0e} of every field",
            f"{worst * ACCURACY:.1e} of the {name} with {grid.cells} cells",
            "save a part of the span in which the path is smoother",
        )

    def _missed(self, grid: Grid, name: str, t: float) -> float:
        """Largest interpolation error of a field in the middle of the cells, in units of what is allowed."""
        law, middle = self.q.at(t), grid.x
        below, above = law.cdf(middle), law.sf(middle)
        judged = np.minimum(below, above) > _BARELY
        truth, own = self.q.with_error("logpdf" if name == "cdf" else name, middle, t)
        if name == "cdf":
            masses = self._masses(grid, t)
            low = interpolate(grid, np.append(0.0, np.cumsum(masses)), middle)
            high = interpolate(grid, np.append(np.cumsum(masses[::-1])[::-1], 0.0), middle)
            nearer = np.where(below < above, np.abs(low - below), np.abs(high - above))
            # where the density is known to a part only, so is F; and quadrature has its own digits
            part = np.maximum(ACCURACY, np.minimum(own, 1.0))
            faint = _FAINT + (self.q.with_error("cdf", middle, t)[1] if type(law).cdf is Law.cdf else 0.0)
            return float((nearer / (part * np.minimum(below, above) + faint))[judged].max())
        with np.errstate(invalid="ignore"):
            gap = np.abs(interpolate(grid, self._field(grid, name, t).value, middle) - truth)
            truth = np.nan_to_num(truth, posinf=0.0, neginf=0.0)
        mass = law.pdf(middle) * grid.widths * judged
        size = 1.0 if name == "logpdf" else float(np.sqrt((mass * truth**2).sum()))
        # the last digit of x is one of the field too
        wobble = 8.0 * _EPS * np.abs(middle * np.gradient(truth, middle))
        limit = np.maximum(ACCURACY * (size + np.abs(truth)) + 1e-300, own + wobble)
        return float(np.nan_to_num(gap[judged] / limit[judged], nan=np.inf).max(initial=0.0))

    def _masses(self, grid: Grid, t: float) -> np.ndarray:
        below, above = self.q.cdf(grid.faces, t), self.q.sf(grid.faces, t)
        masses = np.where(below[1:] <= 0.5, np.diff(below), -np.diff(above))
        masses[0] += below[0]
        masses[-1] += above[-1]
        return masses

    def _field(self, grid: Grid, name: str, t: float) -> Field:
        """A field at the faces; beyond all mass, where a path may not be known, it is continued with unknown error."""
        faces, law = grid.faces, self.q.at(t)
        value, error = self.q.with_error(name, faces, t)
        known = np.isfinite(value)
        error = np.where(known, np.minimum(np.nan_to_num(error, nan=_UNKNOWN), _UNKNOWN), _UNKNOWN)
        if not known.all():
            lost = ~known & (np.minimum(law.cdf(faces), law.sf(faces)) > _BARELY)
            inner = np.flatnonzero(known)
            if lost.any() or inner.size < 2:
                at = f"no {name} at x={faces[np.flatnonzero(~known)[0]]:.6g}, t={t:.6g}"
                raise InputError("a path on a grid has a positive density between its ends", at, "save a shorter span")
            value = _continued(faces, value, inner, straight=name == "logpdf")
        errors = {cause: np.zeros(faces.size) for cause in CAUSES}
        return Field(value, errors | {"rounding": error, "domain": np.full(faces.size, _TAIL * (name == "cdf"))})

    def slice(self, t: float) -> Slice:
        """The path at one time; its own errors stand under "rounding", what lies outside under "domain"."""
        fields = {name: self._field(self.grid, name, t) for name in NAMES}
        return Slice(self.grid, t, self._masses(self.grid, t), fields.__getitem__)


def _continued(faces: np.ndarray, value: np.ndarray, known: np.ndarray, *, straight: bool) -> np.ndarray:
    """Values continued beyond the first and the last known one, as they are or along a straight line."""
    result = np.interp(faces, faces[known], value[known])
    if straight:
        for (j, k), beyond in ((known[:2], faces < faces[known[0]]), (known[:-3:-1], faces > faces[known[-1]])):
            slope = (value[k] - value[j]) / (faces[k] - faces[j])
            result[beyond] = value[j] + slope * (faces[beyond] - faces[j])
    return result
