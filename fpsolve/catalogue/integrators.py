"""Identities of numerical schemes: the conservative finite-volume scheme of the Fokker-Planck equation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import expm, solve_banded

from fpsolve.catalogue.fixtures import SIGMA, SINH_1, SINH_25, THETA, Fixture, joined, tolerance
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.problem.differences import differentiate
from fpsolve.problem.estimate import Estimate, exact
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
# an order is a slope: the neighbouring one is fifty tolerances away
ORDER_TOL = 0.02
VARIANCE = SIGMA**2 / (2 * THETA)
_START, _END = 0.1, 0.5

# (Δ log q_∞ over a face, B dx/C at the face) -> (the exponent w to use, weight of the left node)
Weights = Callable[[Array, Array], tuple[Array, Array]]
# (D, D', D'', q, q', q'') with D = ½|B| -> added to ∂t q by upwinding, per dx
Upwinding = Callable[[Array, Array, Array, Array, Array, Array], Array]


@dataclass(frozen=True)
class Scheme:
    """Weight of the new time, weights at the faces, and the equation that upwinding solves."""

    time_weight: float
    weights: Weights
    upwinding: Upwinding


def chang_cooper(w: Array) -> Array:
    """Weight of the left node, 1 - 1/w + 1/(e^w - 1): ½ at w = 0, one for w → ∞."""
    small = np.abs(w) < 1e-3
    safe = np.where(small, 1.0, w)
    return np.where(small, 0.5 + w / 12.0, 1.0 - 1.0 / safe + 1.0 / np.expm1(safe))


def _central(of_law: Array, of_drift: Array) -> tuple[Array, Array]:
    return of_drift, np.full_like(of_drift, 0.5)


def _upwind(of_law: Array, of_drift: Array) -> tuple[Array, Array]:
    return of_drift, np.where(of_drift > 0.0, 1.0, 0.0)


def _current(fixture: Fixture, x: Array) -> tuple[Array, Array]:
    """B and C of the flux J = B q - C q': f - ½ (g²)' and ½ g²."""
    p = fixture.process
    return p.drift(x, 0.0) - 0.5 * p.diffusion_squared_dx(x, 0.0), 0.5 * p.diffusion_squared(x, 0.0)


def _log_stationary(fixture: Fixture, x: Array) -> Array:
    """log q_∞ up to a constant: Gaussian in Y, with the Jacobian of the map."""
    return -0.5 * fixture.inverse(x) ** 2 / VARIANCE - 0.5 * np.log(fixture.noise(x)[0])


@dataclass(frozen=True)
class FiniteVolumes:
    """∂t q_i = -(J_{i+½} - J_{i-½})/dx on equal cells without flux at the ends; J = C (w q_face - Δq)/dx."""

    fixture: Fixture
    end: float
    cells: int
    weights: Weights

    @property
    def dx(self) -> float:
        """Width of a cell."""
        return 2 * self.end / self.cells

    @property
    def nodes(self) -> Array:
        """Midpoints of the cells."""
        return (np.arange(self.cells) + 0.5) * self.dx - self.end

    def fluxes(self) -> tuple[Array, Array]:
        """Coefficients of the left and the right node in the flux through each inner face."""
        nodes = self.nodes
        drift, diffusion = _current(self.fixture, 0.5 * (nodes[1:] + nodes[:-1]))
        w, left = self.weights(np.diff(_log_stationary(self.fixture, nodes)), drift * self.dx / diffusion)
        return diffusion / self.dx * (w * left + 1.0), diffusion / self.dx * (w * (1.0 - left) - 1.0)

    def bands(self) -> Array:
        """The operator as diagonals (upper, main, lower), as solve_banded takes them."""
        left, right = self.fluxes()
        bands = np.zeros((3, self.cells))
        bands[0, 1:], bands[2, :-1] = -right, left
        bands[1, :-1] -= left
        bands[1, 1:] += right
        return bands / self.dx

    def run(self, q: Array, duration: float, steps: int, time_weight: float) -> Array:
        """The θ method: time weight ½ is Crank-Nicolson, one is implicit Euler."""
        bands, h = self.bands(), duration / steps
        implicit = -h * time_weight * bands
        implicit[1] += 1.0
        for _ in range(steps):
            change = bands[1] * q
            change[:-1] += bands[0, 1:] * q[1:]
            change[1:] += bands[2, :-1] * q[:-1]
            q = solve_banded((1, 1), implicit, q + h * (1.0 - time_weight) * change)
        return q


def _observed_order(errors: list[float], route: str) -> Estimate:
    """log2 of error ratios under two halvings, extrapolated."""
    first, second = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    return Estimate(second + (second - first) / 3.0, error=abs(second - first), route=route)


def _order_in_time(scheme: Scheme, *, tol: float | None = None, seed: int = 0) -> Verdict:
    volumes = FiniteVolumes(SINH_1, 12.0, 160, _central)
    start, duration = SINH_1.law_at(_START).pdf(volumes.nodes), _END - _START
    above, main, below = volumes.bands()
    truth = expm(duration * (np.diag(main) + np.diag(above[1:], 1) + np.diag(below[:-1], -1))) @ start
    errors = [
        float(np.linalg.norm(volumes.run(start, duration, steps, scheme.time_weight) - truth))
        for steps in (32, 64, 128)
    ]
    routes = exact(2.0), _observed_order(errors, "steps halved, against the matrix exponential")
    return check_equal(*routes, tol=tolerance(tol, ORDER_TOL), scale=1.0, seed=seed, title="order in dt")


def _order_in_space(scheme: Scheme, *, tol: float | None = None, seed: int = 0) -> Verdict:
    def observed(weights: Weights, route: str) -> Estimate:
        errors = []
        for cells in (800, 1600, 3200):
            volumes = FiniteVolumes(SINH_1, 40.0, cells, weights)
            x = volumes.nodes
            coarse, fine = (volumes.run(SINH_1.law_at(_START).pdf(x), _END - _START, steps, 0.5) for steps in (40, 80))
            gap = (4.0 * fine - coarse) / 3.0 - SINH_1.law_at(_END).pdf(x)
            errors.append(float(np.sqrt(volumes.dx) * np.linalg.norm(gap)))
        return _observed_order(errors, route)

    routes = (
        exact(2.0),
        observed(_central, "cells halved, central fluxes against the closed law"),
        observed(scheme.weights, "cells halved, weighted fluxes against the closed law"),
    )
    return check_equal(*routes, tol=tolerance(tol, ORDER_TOL), scale=1.0, seed=seed, title="order in dx")


def _stationary(fixture: Fixture, end: float, cells: int) -> Check:
    """q_∞ on the nodes, normalised as a sum."""

    def normalised(logs: Array) -> Array:
        q = np.exp(logs - logs.max())
        return q / q.sum()

    def check(scheme: Scheme, *, tol: float | None = None, seed: int = 0) -> Verdict:
        volumes = FiniteVolumes(fixture, end, cells, scheme.weights)
        left, right = volumes.fluxes()
        without_flux = np.concatenate([[0.0], np.cumsum(np.log(left / -right))])
        settled = volumes.run(np.full(cells, 1.0 / cells), 1e5, 2, 1.0)
        routes = (
            Estimate(normalised(_log_stationary(fixture, volumes.nodes)), error=1e-14, route="closed law"),
            Estimate(normalised(without_flux), error=1e-13, route="no flux through any face"),
            Estimate(settled, error=1e-9, route="long time"),
        )
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="stationary law of the scheme")

    return check


def _upwind_excess(fixture: Fixture, x: Array, t: float, dx: float) -> Array:
    """What upwinding adds to the central operator on q_t, per dx, with faces at x ± dx/2."""

    def excess_flux(face: Array) -> Array:
        left, right = (fixture.law_at(t).pdf(face + side * dx) for side in (-0.5, 0.5))
        drift = _current(fixture, face)[0]
        return drift * (np.where(drift > 0.0, left, right) - 0.5 * (left + right))

    return (excess_flux(x - 0.5 * dx) - excess_flux(x + 0.5 * dx)) / dx**2


def _excess_at_no_width(fixture: Fixture, x: Array, t: float) -> tuple[Array, Array]:
    """The same for dx → 0: even powers of dx are left, so two extrapolations of the last three widths."""
    wide, middle, narrow = (_upwind_excess(fixture, x, t, dx) for dx in (0.04, 0.02, 0.01))
    first, second = (4.0 * middle - wide) / 3.0, (4.0 * narrow - middle) / 3.0
    return (16.0 * second - first) / 15.0, np.abs(second - first)


def _modified(fixture: Fixture, upwinding: Upwinding, x: Array, t: float) -> tuple[Array, Array]:
    """The claimed term on q_t from closed derivatives."""
    law = fixture.law_at(t)

    def diffusion(y: Array) -> Array:
        return 0.5 * np.abs(_current(fixture, y)[0])

    (s_dx, first), (d_dx, second), (d_dxx, third) = (
        differentiate(law.score, x, length=0.3),
        differentiate(diffusion, x, length=0.3),
        differentiate(diffusion, x, order=2, length=0.3),
    )
    q, s = law.pdf(x), law.score(x)
    value = upwinding(diffusion(x), d_dx, d_dxx, q, q * s, q * (s_dx + s**2))
    return value, q * (first + second + third) * (1.0 + np.abs(s)) * (1.0 + diffusion(x))


def _upwinding(fixture: Fixture) -> Check:
    """Where mass is, but for the zero of B at x = 0, where the weight jumps."""

    def places(t: float) -> Array:
        x = fixture.quantiles(t, 25)
        return x[np.abs(x) > 0.1]

    def check(scheme: Scheme, *, tol: float | None = None, seed: int = 0) -> Verdict:
        times = (0.2, 0.5, 0.8)
        routes = (
            joined([_excess_at_no_width(fixture, places(t), t) for t in times], "upwind minus central, dx → 0"),
            joined([_modified(fixture, scheme.upwinding, places(t), t) for t in times], "modified equation"),
        )
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="modified equation of upwinding")

    return check


def _mass(scheme: Scheme, *, tol: float | None = None, seed: int = 0) -> Verdict:
    """Sums over a domain that is too small, so that the ends matter."""
    masses = []
    for weights in (_central, _upwind, scheme.weights):
        volumes = FiniteVolumes(SINH_1, 3.0, 60, weights)
        start = SINH_1.law_at(_START).pdf(volumes.nodes)
        masses.append(volumes.run(start / start.sum(), 1.0, 50, scheme.time_weight).sum())
    routes = exact(np.ones(3)), Estimate(np.array(masses), error=1e-13, route="sum over the cells")
    return check_equal(*routes, tol=tolerance(tol), seed=seed, title="mass")


def _with(**parts: Any) -> Scheme:
    truth: dict[str, Any] = {
        "time_weight": 0.5,
        "weights": lambda of_law, of_drift: (of_law, chang_cooper(of_law)),
        "upwinding": lambda d, d_dx, d_dxx, q, q_dx, q_dxx: d * q_dxx + d_dx * q_dx,
    }
    return Scheme(**{**truth, **parts})


_STATIONARY, _WITH_UPWINDING = ("stationary, L = 1", "stationary, L = 25"), ("upwinding, L = 1", "upwinding, L = 25")

FP_SCHEME = Identity(
    id="int-fp-scheme",
    statement=(
        "∂t q_i = -(J_{i+½} - J_{i-½})/dx with J = B q_face - C Δq/dx, B = f - ½ (g²)', C = ½ g², keeps the mass\n"
        "with central (or Chang-Cooper) fluxes and Crank-Nicolson steps its order is two in dx and in dt\n"
        "q_face = δ q_i + (1 - δ) q_{i+1}, δ = 1 - 1/w + 1/(eʷ - 1), B dx/C = w = Δ log q_∞ has q_∞ as fixed point\n"
        "upwinding adds ∂x(½ |B| dx ∂x q), Fickian and not Itô diffusion"
    ),
    conditions="equal cells, no flux at the ends; orders for smooth q; the last line to leading order where B ≠ 0.",
    source="Crank & Nicolson (1947); Chang & Cooper (1970); Warming & Hyett (1974) for modified equations",
    routes=(
        "order in dt: halved steps against the matrix exponential of the same operator",
        "order in dx: halved cells against the closed law, central and weighted fluxes",
        "stationary law: closed, by the condition of no flux, and after a long time",
        "upwind minus central fluxes on the closed density for dx → 0, against the modified equation",
        "sums over the cells after many steps",
    ),
    truth=_with(),
    settings={
        "order in dt": _order_in_time,
        "order in dx": _order_in_space,
        "stationary, L = 1": _stationary(SINH_1, 10.0, 50),
        "stationary, L = 25": _stationary(SINH_25, 4.0, 80),
        "upwinding, L = 1": _upwinding(SINH_1),
        "upwinding, L = 25": _upwinding(SINH_25),
        "mass": _mass,
    },
    siblings=(
        Sibling("implicit Euler steps", _with(time_weight=1.0), only=("order in dt",)),
        Sibling(
            "central weight ½", _with(weights=lambda of_law, of_drift: (of_law, 0.5 + 0.0 * of_law)), only=_STATIONARY
        ),
        Sibling(
            "w = B dx/C at the midpoint",
            _with(weights=lambda of_law, of_drift: (of_drift, chang_cooper(of_drift))),
            below_tolerance={"stationary, L = 25": 1.3e-6},
            only=_STATIONARY,
        ),
        Sibling(
            "weights of left and right swapped",
            _with(weights=lambda of_law, of_drift: (of_law, 1.0 - chang_cooper(of_law))),
            only=_STATIONARY,
        ),
        Sibling("upwind weights", _with(weights=_upwind), only=("order in dx", *_STATIONARY)),
        Sibling(
            "Itô diffusion ∂xx(½ |B| dx q)",
            _with(upwinding=lambda d, d_dx, d_dxx, q, q_dx, q_dxx: d_dxx * q + 2 * d_dx * q_dx + d * q_dxx),
            only=_WITH_UPWINDING,
        ),
        Sibling(
            "½ dropped: ∂x(|B| dx ∂x q)",
            _with(upwinding=lambda d, d_dx, d_dxx, q, q_dx, q_dxx: 2 * (d * q_dxx + d_dx * q_dx)),
            only=_WITH_UPWINDING,
        ),
        Sibling(
            "½ |B| dx outside the derivatives",
            _with(upwinding=lambda d, d_dx, d_dxx, q, q_dx, q_dxx: d * q_dxx),
            only=_WITH_UPWINDING,
        ),
    ),
)
