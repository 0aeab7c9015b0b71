"""Transition densities of autonomous diffusions by their spectral expansion."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_choice, check_number, check_points, check_t_span
from fpsolve.grids.long_time.spectrum import Spectrum, spectrum
from fpsolve.grids.long_time.stationary import StationaryLaw, stationary
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.law import Law, pointwise
from fpsolve.problem.mixtures import PointMass
from fpsolve.problem.quadrature import PanelTable

Array = np.ndarray
_TERMS = (4, 24, 48)
_PAIR = 1e-5  # relative distance of two rates that count as one
_EARLY = 0.02  # share of the span from which on the expansion should hold
TRUNCATED = 1e-11  # size of the first term left out, relative to the stationary density
LAST = 5  # terms from which those left out are estimated


def first_usable(rates: Array, sizes: Array) -> float:
    """Elapsed time from which on what a sum of sizes * exp(-rates * t) leaves out is negligible."""
    size = max(float(np.abs(sizes[-LAST:]).max()), 1e-300)
    return max(math.log(size / TRUNCATED), 0.0) / float(rates[-1])


class ModePair:
    """The modes of a spectrum from a start at both resolutions, the rough ones at the nodes of the fine ones.

    Modes of equal rate, as on a ring, mean something only together: `groups` begin where the rate grows.
    """

    def __init__(self, found: Spectrum, x0: float) -> None:
        self.found, modes, rough = found, found.modes, found.rough
        at = np.array([x0])
        self.start = modes.mesh.interpolate(modes.values, at)[:, 0]
        self._rough_start = rough.mesh.interpolate(rough.values, at)[:, 0]
        # beyond the outermost edges modes are taken as they are there
        places = modes.mesh.coordinate.x(modes.mesh.edges[[0, -1]])
        slopes = modes.mesh.interpolate(modes.fluxes * np.exp(modes.mesh.log_scale + modes.log_mass), at)[:, 0]
        self._start_error = np.abs(slopes * (x0 - np.clip(x0, *places)))
        shape = modes.values.shape
        self._rough_values = rough.mesh.interpolate(rough.values, modes.mesh.x.ravel()).reshape(shape)
        self._groups = np.flatnonzero(np.append(True, np.diff(modes.rates) > _PAIR * modes.rates[1:]))

    def apart(self, elapsed: float) -> Array:
        """What the series of both differ by, group by group, at the nodes, and what the place of the start adds."""
        fine, rough = self.found.modes, self.found.rough
        terms = (self.start * np.exp(-fine.rates * elapsed))[:, None, None] * fine.values
        terms = terms - (self._rough_start * np.exp(-rough.rates * elapsed))[:, None, None] * self._rough_values
        missed = np.tensordot(self._start_error * np.exp(-fine.rates * elapsed), np.abs(fine.values), axes=1)
        return missed + np.abs(np.add.reduceat(terms, self._groups, axis=0)).sum(axis=0)


class SpectralLaw(Law):
    """Law of the process some time after it started at a point: q∞(x) Σ e^{-λ t} φ_n(x0) φ_n(x)."""

    def __init__(self, series: ModePair, limit: StationaryLaw, elapsed: float) -> None:
        self._found, self._limit = series.found, limit
        modes = series.found.modes
        weights = series.start * np.exp(-modes.rates * elapsed)
        mesh = modes.mesh
        self._series = 1.0 + np.tensordot(weights, modes.values, axes=1)
        self._flux = -np.tensordot(weights, modes.fluxes, axes=1)
        # F = F∞ - Σ e^{-λ t} φ_n(x0) y_n / λ_n
        self._shift = -np.tensordot(weights / modes.rates, modes.fluxes, axes=1)
        self._slope = -self._flux * np.exp(mesh.log_scale + modes.log_mass)
        last = np.abs(weights[-LAST:, None, None] * modes.values[-LAST:]).max(axis=0)
        digits = 1e-15 * (1.0 + np.abs(weights[:, None, None] * modes.values).sum(axis=0))
        noise = 1e-16 * np.exp(-0.5 * (mesh.log_speed - modes.log_mass + mesh.log_weights)) * np.abs(weights).sum()
        self._series_error = last / (1.0 - math.exp(-float(modes.rates[-1] - modes.rates[-2]) * elapsed)) + digits
        self._series_error += noise + series.apart(elapsed)

    @property
    def support(self) -> tuple[float, float]:
        """Ends of the support of the process."""
        return self._limit.support

    def _at(self, field: Array, x: Array) -> Array:
        return self._found.modes.mesh.interpolate(field, x)

    def _flux_at(self, field: Array, x: Array) -> Array:
        """A flux: beyond the panels, next to an end without flux, as the stationary mass between there and the end."""
        values, mesh = self._at(field, x), self._found.modes.mesh
        if self._found.coefficients.ring:
            return values
        v = mesh.coordinate.v(np.clip(x, *self.support))
        for side, far in ((0, v < mesh.edges[0]), (1, v > mesh.edges[-1])):
            if far.any():
                edge = mesh.coordinate.x(mesh.edges[[-side]])
                values[far] *= self._limit._tails(x[far])[side] / self._limit._tails(edge)[side]
        return values

    def series(self, x: Array) -> tuple[Array, Array]:
        """q/q∞ and its error; the size of the error stands for it where no digit is left."""
        # beyond the panels the series stays what it is at the outermost edge
        edges = self._found.modes.mesh.coordinate.x(self._found.modes.mesh.edges[[0, -1]])
        error = np.abs(self._at(self._series_error, x)) + np.abs(self._at(self._slope, x) * (x - np.clip(x, *edges)))
        return np.maximum(self._at(self._series, x), error), error

    @pointwise
    def logpdf(self, x: Array) -> Array:
        """Logarithm of the density."""
        return self._limit.logpdf(x) + np.log(self.series(x)[0])

    @pointwise
    def score(self, x: Array) -> Array:
        """Score: that of the stationary law and that of the series."""
        return self._limit.score(x) + self._at(self._slope, x) / self.series(x)[0]

    @pointwise
    def flux(self, x: Array) -> Array:
        """Probability flux."""
        return self._flux_at(self._flux, x)

    def _tails(self, x: Array) -> tuple[Array, Array]:
        moved = self._flux_at(self._shift, x)
        left, right = self.support
        moved = np.where((x <= left) | (x >= right), 0.0, moved)
        if self._found.coefficients.ring:
            moved -= np.where((x <= left) | (x >= right), 0.0, self._at(self._shift, np.array([left])))
        below, above = self._limit._tails(x)
        return np.clip(below + moved, 0.0, 1.0), np.clip(above - moved, 0.0, 1.0)

    @property
    def _table(self) -> PanelTable:
        table = self._limit._table
        below, above = self._tails(table.edges)
        masses = np.where(below[1:] < above[:-1], np.diff(below), -np.diff(above))
        return PanelTable(self.support, table.edges, np.maximum(masses, 0.0), table.rests, 0.0, 1e-13)


class SpectralEvolution(Evolution):
    """Path of densities from a point, by its spectral expansion; `first` is the first usable time."""

    def __init__(self, found: Spectrum, limit: StationaryLaw, x0: float, t_span: tuple[float, float]) -> None:
        self._found, self._limit = found, limit
        self.process, self.initial, self.t_span = found.coefficients.process, PointMass(x0), t_span
        self._series = ModePair(found, x0)
        self.first = t_span[0] + first_usable(found.modes.rates, self._series.start)
        self.message = f"spectral expansion of {found.eigenvalues.size} terms, usable from t = {self.first:.4g} on"
        if self.first > t_span[1]:
            raise self._too_early(t_span[1])
        self._laws: dict[float, SpectralLaw] = {}

    @property
    def stats(self) -> dict[str, Any]:
        """Number of terms, panels, and the first usable time."""
        panels, nodes = self._found.modes.mesh.v.shape
        return {"terms": self._found.eigenvalues.size, "panels": panels, "nodes": nodes, "first": self.first}

    @property
    def error(self) -> dict[str, float]:
        """Relative error of the density, where the mass is, at the first usable time."""
        rates = self._found.modes.rates
        of_rates = float((self._found.error[1:] * np.exp(-rates * (self.first - self.t_span[0])) / rates).max())
        return {"truncation": TRUNCATED, "eigenvalues": of_rates, "stationary": self._limit.relative_error}

    def _too_early(self, t: float) -> InputError:
        return InputError(
            f"a spectral expansion of {self._found.eigenvalues.size} terms is usable from t = {self.first:.6g} on",
            t,
            "ask later, or use fps.solve_fokker_planck(process, fps.PointMass(x0), t_span)",
        )

    def at(self, t: float) -> Law:
        """Return the law at time `t`; the point mass at the start, refused between it and the first usable time."""
        time = self.check_t(t)
        if time == self.t_span[0]:
            return self.initial  # type: ignore[return-value]
        return self._moving(time)

    def _moving(self, t: float) -> SpectralLaw:
        time = self.check_t(t)
        if time < self.first:
            raise self._too_early(time)
        if time not in self._laws:
            if len(self._laws) > 64:
                self._laws.clear()
            self._laws[time] = SpectralLaw(self._series, self._limit, time - self.t_span[0])
        return self._laws[time]

    def flux(self, x: Any, t: float) -> Array:
        """Probability flux J = -½ g² q∞ ∂x (q/q∞), by the fluxes of the modes."""
        return self._moving(t).flux(x)

    def flux_with_error(self, x: Any, t: float) -> tuple[Array, Array]:
        """Return the flux and its estimated error."""
        flux = self.flux(x, t)
        return flux, 1e-10 * np.abs(flux) + 1e-13

    def with_error(self, name: str, x: Any, t: float) -> tuple[Array, Array]:
        """Return (values, estimated errors) of "pdf", "logpdf", "score", "cdf", "sf" or "velocity" at points `x`."""
        check_choice("name", name, ("pdf", "logpdf", "score", "cdf", "sf", "velocity"))
        points = check_points("x", x)
        values, law = getattr(self, name)(points, t), self._moving(t)
        total, error = law.series(points.ravel())
        relative = (error / total).reshape(points.shape) + self._limit.relative_error + sum(self.error.values())
        if name in ("cdf", "sf"):
            return values, np.full(points.shape, sum(self.error.values()) + 1e-14)
        if name in ("pdf", "logpdf"):
            return values, relative * (np.abs(values) if name == "pdf" else 1.0)
        # slopes of the series lose a factor of its number of terms
        return values, self._series.start.size * relative * (1.0 + np.abs(values))


def transition_density(process: Any, x0: float, t_span: Any) -> SpectralEvolution:
    """Return the path of densities from the point x0 by the spectral expansion of an autonomous diffusion.

    Parameters
    ----------
    process : SDE
        Autonomous, with a stationary law and a discrete spectrum; ends natural or reflecting, or a ring without flux.
    x0 : float
        Where it starts at t_span[0], inside the support.
    t_span : (float, float)
        Span of time.

    Returns
    -------
    Evolution
        Known at t_span[0], where it is the point mass, and from `.first` on; between them it is refused.

    Raises
    ------
    InputError
        If x0 is outside, mass is lost at an end, a coefficient depends on time, there is no stationary law, the
        spectrum is not discrete, or the whole span is too short for the expansion.

    Notes
    -----
    q(x, t) = q∞(x) Σ e^{-λ_n t} φ_n(x0) φ_n(x) (Karlin and Taylor 1981, section 15.13). Up to 48 terms are used.

    Examples
    --------
    >>> p = fps.processes.ou(theta=1.0, sigma=2**0.5)
    >>> q = fps.transition_density(p, 0.5, (0, 2))
    >>> exact = fps.exact_evolution(p, fps.PointMass(0.5), (0, 2))
    >>> bool(abs(q.pdf(0.3, 1.0) - exact.pdf(0.3, 1.0)) < 1e-10)
    True
    """
    span, start = check_t_span(t_span), check_number("x0", x0)
    limit = stationary(process)
    left, right = limit.support
    if not left < start < right:
        raise InputError("x0 must lie inside the support of the process", start, f"start between {left} and {right}")
    if limit.flux:
        raise InputError("a spectral expansion needs a law without stationary flux", limit.flux, "use a grid")
    return SpectralEvolution(_enough(process, start, span), limit, start, span)


def _enough(process: Any, start: float, span: tuple[float, float]) -> Spectrum:
    """As many modes as an early time asks for; beside a very small rate only a few have digits."""
    few, some, many = _TERMS
    try:
        found = spectrum(process, some)
    except InputError:
        found = spectrum(process, few)
        if found.edge < 2.0 * found.eigenvalues[-1]:
            raise
        return found
    if first_usable(found.modes.rates, found.eigenfunctions(start)[1:]) > _EARLY * (span[1] - span[0]):
        return spectrum(process, many)
    return found
