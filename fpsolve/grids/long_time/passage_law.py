"""The law of a first-passage time, with errors: a sum of decaying modes, or what is left inside on a grid."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fpsolve.grids.long_time.green import Modes
from fpsolve.grids.long_time.spectrum import Spectrum
from fpsolve.grids.long_time.stretch import POWER_LAW
from fpsolve.grids.long_time.transition import LAST, first_usable

Array = np.ndarray
_SAFETY = 3.0  # the difference of two resolutions, whose rounding is as large as the other's
_DIGITS = 1e-15


class ModeSeries:
    """P(T > t) = Σ w_n e^{-λ_n t}, w_n = φ_n(x0) ∫ φ_n m, from `first` on; its derivative at `order` 1.

    Both resolutions of the spectrum give it: their difference, term by term, the first term left out and the rounding
    of the rates are the error.
    """

    def __init__(self, found: Spectrum, x0: float) -> None:
        self._error_of_rates = found.error
        self._fine, self._rough = (_terms(found, modes, x0) for modes in (found.modes, found.rough))
        self.first = first_usable(*self._fine)
        mesh = found.modes.mesh
        v = float(mesh.coordinate.v(np.array([x0]))[0])
        # closer to an end the start is carried there by a power law
        self._carried = POWER_LAW * max(mesh.edges[0] - v, v - mesh.edges[-1], 0.0)

    def at(self, t: Array, order: int) -> tuple[Array, Array]:
        """Values and errors at times (n,)."""
        (rates, weights), terms = self._fine, _decayed(self._fine, t, order)
        sizes = np.abs(terms)
        apart = np.abs(terms - _decayed(self._rough, t, order)).sum(axis=0)
        moved = (sizes * (t + order / rates[:, None]) * self._error_of_rates[:, None]).sum(axis=0)
        next_ = np.abs(weights[-LAST:]).max() * rates[-1] ** order * np.exp(-rates[-1] * t)
        gap = rates[-1] - rates[-2] if rates.size > 1 else rates[-1]
        left_out = next_ / (-np.expm1(-gap * t)) ** (1 + order)
        return terms.sum(axis=0), _SAFETY * apart + moved + left_out + (_DIGITS + self._carried) * sizes.sum(axis=0)


def _terms(found: Spectrum, modes: Modes, x0: float) -> tuple[Array, Array]:
    """Rates and weights of the survival at one resolution."""
    mesh = modes.mesh
    weights = np.exp(mesh.log_speed - modes.log_mass + mesh.log_weights)
    masses = (weights * modes.values).sum(axis=(1, 2))
    for side, at in ((0, (0, 0)), (1, (-1, -1))):
        # beyond the panels modes stay what they are, or fall as the scale
        falls = mesh.log_scale + mesh.log_slope if found.kinds[side] == "open" else np.zeros(mesh.v.shape)
        beyond = mesh.tail(mesh.log_speed + falls, side) - falls[at] - modes.log_mass
        masses += math.exp(beyond) * modes.values[:, *at]
    return modes.rates, found.modes_at(modes, np.array([x0]))[:, 0] * masses


def _decayed(terms: tuple[Array, Array], t: Array, order: int) -> Array:
    rates, weights = terms
    return (weights * rates**order)[:, None] * np.exp(-np.outer(rates, t))


class GridSeries:
    """P(T > t) as the mass left inside by solve_fokker_planck; its derivative by the fluxes through `exits`."""

    def __init__(self, evolution: Any, exits: list[bool]) -> None:
        self._evolution, self._exits = evolution, np.array(exits)

    def at(self, t: Array, order: int) -> tuple[Array, Array]:
        """Values and errors at times (n,)."""
        found = [self._once(float(time), order) for time in t]
        return np.array([value for value, _ in found]), np.array([error for _, error in found])

    def _once(self, t: float, order: int) -> tuple[float, float]:
        if t == self._evolution.t_span[0]:
            return 1.0 - order, 0.0
        slice_ = self._evolution.slice(t)
        if order:
            flux = slice_.field("flux")
            value = np.abs(flux.value[[0, -1]])[self._exits].sum()
            return float(value), float(flux.total[[0, -1]][self._exits].sum())
        # the mass inside is 1 less F and 1 - F at its ends; an estimate at one place is small where it changes sign
        return float(slice_.masses.sum()), float(self._exits.sum() * slice_.field("cdf").total.max())
