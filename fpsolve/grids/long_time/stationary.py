"""The stationary law of an autonomous diffusion by quadrature, on the line and, with its flux, on a ring."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from fpsolve.errors import InputError
from fpsolve.grids.long_time.scale_speed import DEPTH, MOVED, NODES, ROUNDED, Autonomous, ScaleSpeed, gauss
from fpsolve.problem.law import Law, pointwise
from fpsolve.problem.quadrature import PanelTable
from fpsolve.problem.support import SIDES

Array = np.ndarray
_EPS = 1e-15
_FINER = 6  # more nodes in each panel, for the estimate of the error
_LIGHT, _SEEN = 1e-12, 1e-6  # masses of panels, and beyond all panels, that do not count


class StationaryLaw(Law):
    """Stationary law; `flux` is the probability that passes a point per time, 0 except on a ring.

    Attributes
    ----------
    flux : float
        J = f q - ½ ∂x(g² q), the same everywhere.
    log_normalizer : float
        Logarithm of the integral of the density as it was found, before it was divided by that.
    relative_error : float
        Estimated relative error of pdf where F and 1 - F exceed 1e-6: two resolutions, rounding of places, what lies
        beyond the panels next to an end.
    """

    def __init__(self, coefficients: Autonomous, edges: Array, base: int) -> None:
        self._coefficients, self._ends = coefficients, coefficients.support
        mesh = self._mesh = coefficients.sample(edges, base=base)
        log_shape = _shape(mesh, coefficients.ring)[0]
        below, edges_below = mesh.running(log_shape, -math.inf if coefficients.ring else mesh.tail(log_shape, 0))
        rest = -math.inf if coefficients.ring else mesh.tail(log_shape, 1)
        total = float(np.logaddexp(edges_below[-1], rest))
        above, _ = mesh.running(log_shape, rest, backwards=True)
        self.log_normalizer, self.turn = total, float(mesh.rise_at_edges[-1] - mesh.rise_at_edges[0])
        self._log_below, self._log_above = below - total, above - total
        # what is interpolated is smooth: log q + log g², as g² itself is known at every point
        self._log_smooth = log_shape + mesh.log_noise - total
        self._rates = np.abs(mesh.outer_slopes(log_shape + mesh.log_slope))
        self.flux, self.relative_error = 0.0, _relative_error(coefficients, mesh, base)

    @property
    def support(self) -> tuple[float, float]:
        """Ends of the support of the process."""
        return self._ends

    @cached_property
    def _table(self) -> PanelTable:
        mesh = self._mesh
        density = self._log_smooth - mesh.log_noise
        masses = np.exp(density + mesh.log_weights).sum(axis=1)
        rests = (0.0, 0.0) if self._coefficients.ring else tuple(math.exp(mesh.tail(density, side)) for side in (0, 1))
        edges = mesh.coordinate.x(mesh.edges)
        return PanelTable(self._ends, edges, masses, (rests[0], rests[1]), 0.0, self.relative_error)

    @pointwise
    def logpdf(self, x: Array) -> Array:
        """Logarithm of the density, -inf outside the support."""
        left, right = self._ends
        inside = (x > left) & (x < right)
        values = np.full(x.shape, -math.inf)
        points = x[inside]
        smooth = self._mesh.interpolate(self._log_smooth, points)
        _, g2 = self._coefficients.values(points)
        with np.errstate(divide="ignore"):
            found = smooth - np.log(g2) + self._beyond(points)
        values[inside] = np.where(np.isnan(found), -math.inf, found)
        return values

    def _beyond(self, x: Array) -> Array:
        """Further change of Ψ beyond the outermost panels, where the density is below e^-700 or a power law."""
        mesh, (first, last) = self._mesh, self._coefficients.coordinate.x(self._mesh.edges[[0, -1]])
        change, rates = np.zeros(x.shape), mesh.outer_slopes(mesh.rise)
        for side, far in ((0, x < first), (-1, x > last)):
            if far.any():
                with np.errstate(over="ignore"):
                    change[far] = rates[side] * (mesh.coordinate.v(x[far]) - mesh.edges[side])
        return change

    @pointwise
    def score(self, x: Array) -> Array:
        """Score (2 (f - J/q) - ∂x g²)/g², exact where ∂x g² is; NaN outside the support."""
        left, right = self._ends
        inside = (x > left) & (x < right)
        values = np.full(x.shape, math.nan)
        points = x[inside]
        f, g2 = self._coefficients.values(points)
        slope = self._coefficients.process.diffusion_squared_dx(points, self._coefficients.time)
        lost = self.flux * np.exp(-self.logpdf(points)) if self.flux else 0.0
        with np.errstate(all="ignore"):
            values[inside] = (2.0 * (f - lost) - slope) / g2
        return values

    def _tails(self, x: Array) -> tuple[Array, Array]:
        first, last = self._mesh.edges[[0, -1]]
        v = self._mesh.coordinate.v(np.clip(x, *self._ends))
        with np.errstate(under="ignore", over="ignore"):
            cdf, sf = (np.exp(self._mesh.interpolate(part, x)) for part in (self._log_below, self._log_above))
            # what lies beyond the panels goes on as an exponential of v
            cdf = cdf * np.exp(self._rates[0] * np.minimum(v - first, 0.0))
            sf = sf * np.exp(-self._rates[1] * np.maximum(v - last, 0.0))
        low = cdf <= 0.5
        cdf, sf = np.where(low, cdf, 1.0 - sf), np.where(low, 1.0 - cdf, sf)
        left, right = self._ends
        return np.where(x <= left, 0.0, np.where(x >= right, 1.0, cdf)), np.where(
            x <= left, 1.0, np.where(x >= right, 0.0, sf)
        )

    def expect(self, fn: Callable[[Array], Array]) -> float:
        """E fn(X) by quadrature for a smooth vectorised `fn`; ±inf or NaN where its tail at infinity diverges."""
        if not np.isfinite(self._ends).all():
            far = super().expect(fn)
            if math.isnan(far) or (math.isinf(far) and not np.isfinite(self._ends).any()):
                return far
        mesh, density = self._mesh, self._log_smooth - self._mesh.log_noise
        x, weights = mesh.x, np.exp(density + mesh.log_weights)
        with np.errstate(over="ignore", invalid="ignore"):
            terms = np.where(weights > 0.0, np.asarray(fn(x)) * weights, 0.0)
            rests = np.array(self._table.rests)
            return float(terms.sum() + (rests[rests > 0] * fn(mesh.coordinate.x(mesh.edges[[0, -1]]))[rests > 0]).sum())

    def __repr__(self) -> str:
        return f"StationaryLaw(support={self._ends}, flux={self.flux:.6g})"


def _shape(mesh: ScaleSpeed, ring: bool) -> tuple[Array, Array]:
    """Logarithms of the density at the nodes and of density times g² at the edges, not yet normalised."""
    smooth = mesh.rise_at_edges + math.log(2.0)
    if not ring:
        return mesh.log_speed, smooth
    turn = float(mesh.rise_at_edges[-1])
    ahead, ahead_edges = mesh.running(mesh.log_scale, -math.inf, backwards=True)
    behind, behind_edges = mesh.running(mesh.log_scale, -math.inf)
    return mesh.log_speed + np.logaddexp(ahead, behind - turn), smooth + np.logaddexp(ahead_edges, behind_edges - turn)


def _normalizer(mesh: ScaleSpeed, ring: bool) -> tuple[float, tuple[float, float]]:
    """Logarithm of the integral, and the shares of it beyond the panels on both sides."""
    log_shape = _shape(mesh, ring)[0]
    tails = (-math.inf, -math.inf) if ring else (mesh.tail(log_shape, 0), mesh.tail(log_shape, 1))
    total = float(np.logaddexp(mesh.running(log_shape, tails[0])[1][-1], tails[1]))
    return total, (math.exp(tails[0] - total), math.exp(tails[1] - total))


def _relative_error(coefficients: Autonomous, mesh: ScaleSpeed, base: int) -> float:
    """Largest error of log q at the edges of panels with mass, and beyond them where F or 1 - F is still above 1e-6."""
    ring = coefficients.ring
    total, shares = _normalizer(mesh, ring)
    masses = np.exp(_shape(mesh, ring)[0] + mesh.log_weights - total).sum(axis=1)
    heavy = np.flatnonzero(masses > _LIGHT)
    logs = _shape(mesh, ring)[1] - total

    def apart(other: ScaleSpeed) -> float:
        gap = _shape(other, ring)[1] - _normalizer(other, ring)[0] - logs
        return float(np.abs(gap[heavy[0] : heavy[-1] + 2]).max())

    found = apart(coefficients.sample(mesh.edges, NODES + _FINER, base))
    found += ROUNDED * apart(coefficients.sample(mesh.edges, base=base, moved=MOVED))
    if not ring:
        shorter = mesh.within(1, mesh.edges.size - 2)
        found += abs(_normalizer(shorter, ring)[0] - total)
        falls = np.abs(mesh.outer_slopes(mesh.log_speed + mesh.log_slope))
        further = np.log(np.maximum(np.array(shares) / _SEEN, 1.0)) / falls  # in v
        found += float((further * np.abs(shorter.outer_slopes(shorter.rise) - mesh.outer_slopes(mesh.rise))).max())
    smooth = (_shape(mesh, ring)[0] + mesh.log_noise)[heavy]
    between = float(np.abs(smooth @ gauss(NODES)[3][-2:].T).max())
    return found + between + 10 * _EPS * (1.0 + float(np.ptp(mesh.rise[heavy])))


def stationary(process: Any) -> StationaryLaw:
    """Return the stationary law of an autonomous diffusion, by quadrature of 2f/g² in log space.

    Parameters
    ----------
    process : SDE
        Coefficients that do not depend on time, on the line, between natural or reflecting ends, or on a ring.

    Returns
    -------
    StationaryLaw
        A density, with its `.flux`.

    Raises
    ------
    InputError
        If there is none: a coefficient depends on time, an end absorbs or moves, or g⁻² exp ∫ 2f/g² has no finite
        integral; or if the noise vanishes inside the support.

    Notes
    -----
    q = 2 R/(Z g²), R' = Ψ' R - J, Ψ' = 2f/g². Without flux R = e^Ψ. On a ring
    R(x) = e^Ψ(x) (∫_x^right e^-Ψ + e^-ΔΨ ∫_left^x e^-Ψ), J = (1 - e^-ΔΨ)/Z with ΔΨ = ∮ Ψ': sums of positive terms
    (Risken 1989, section 11.3). Where a law is metastable on both sides of a barrier the weights are as accurate as Ψ.

    Examples
    --------
    >>> q = fps.stationary(fps.processes.cir(kappa=1.0, theta=2.0, xi=1.0))
    >>> round(q.mean(), 9), round(q.var(), 9), q.flux
    (2.0, 1.0, 0.0)
    """
    coefficients = Autonomous(process, "a stationary law")
    look = coefficients.look()
    if coefficients.ring:
        return _on_ring(coefficients)
    for side, kind in enumerate(coefficients.boundary):
        if kind == "absorbing" and look.tail(look.log_scale, side) < math.inf:
            raise InputError(
                "a stationary law needs ends that keep the mass inside",
                f"an absorbing {SIDES[side]} end, through which everything leaves",
                "ask fps.spectrum for the slowest decay, or declare the end reflecting",
            )
        if look.tail(look.log_speed, side) == math.inf:
            raise InputError(
                "a stationary density g⁻² exp ∫ 2f/g² must have a finite integral",
                f"one that diverges at the {SIDES[side]} end {coefficients.support[side]:g}",
                "add a drift that confines, or declare a reflecting wall",
            )
    logs = (look.log_speed + look.log_slope).ravel()
    kept = np.flatnonzero(logs > logs.max() - DEPTH)
    v = look.v.ravel()
    low = look.edges[0] if kept[0] == 0 else v[kept[0] - 1]
    high = look.edges[-1] if kept[-1] == v.size - 1 else v[kept[-1] + 1]
    edges = coefficients.resolve(float(low), float(high))
    centre = float(v[int(np.argmax(logs))])
    return StationaryLaw(coefficients, edges, int(np.clip(np.searchsorted(edges, centre), 0, edges.size - 1)))


def _on_ring(coefficients: Autonomous) -> StationaryLaw:
    law = StationaryLaw(coefficients, coefficients.resolve(0.0, 1.0), 0)
    turn = law.turn
    # 1 - e^-ΔΨ may overflow on its way: taken relative to Z
    size = abs(turn) if turn < 0.0 else 0.0
    law.flux = float(-np.sign(-turn) * abs(math.expm1(-abs(turn))) * math.exp(size - law.log_normalizer))
    return law
