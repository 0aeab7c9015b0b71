"""Decay rates and eigenfunctions of the generator of an autonomous diffusion."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_count, check_points
from fpsolve.grids.long_time.green import Modes, modes
from fpsolve.grids.long_time.scale_speed import DEPTH, NODES, Autonomous, ScaleSpeed
from fpsolve.grids.long_time.stretch import Cut, cuts, end_kinds

Array = np.ndarray
_FINER = 6  # more nodes in each panel, for the estimate of the error
_FIRST_DEPTH, _DEEPER = 66.0, 1.6
_NEGLIGIBLE = 1e-14  # share of a mode in the outermost panel
_MOST_UNKNOWNS = 20_000
_LOST = 2e-3  # relative rounding of the last eigenvalue from which on it is refused
_GOOD = 1e-10  # relative error at which panels are no longer halved


class Spectrum:
    """Decay rates and eigenfunctions: L φ = -λ φ, L = f ∂x + ½ g² ∂xx.

    Attributes
    ----------
    eigenvalues : ndarray (k,)
        λ ascending, 1/time: from 0 where no mass is lost, else from the slowest loss.
    error : ndarray (k,)
        Estimated errors of them: two resolutions, and rounding.
    conserved : bool
        Whether 0 is among them, with the eigenfunction 1.
    edge : float
        Where the continuous spectrum begins, inf where there is none in sight.
    """

    def __init__(
        self, coefficients: Autonomous, kinds: tuple[str, str], fine: Modes, rough: Modes, error: Array, edge: float
    ) -> None:
        self.coefficients, self.kinds, self.modes, self.rough = coefficients, kinds, fine, rough
        self.conserved = coefficients.ring or kinds == ("closed", "closed")
        zero = [0.0] if self.conserved else []
        self.eigenvalues, self.error = np.concatenate([zero, fine.rates]), np.concatenate([zero, error])
        self.edge = edge

    def eigenfunctions(self, x: Any) -> Array:
        """Return φ_n(x), shape (k, *x.shape), the last large lobe positive.

        Where no mass is lost they are orthonormal in the stationary law and φ_0 = 1, else in the speed density
        2 e^Ψ/g², Ψ = ∫ 2f/g². Beyond where the spectrum was computed (less than 1e-28 of the mass, or next to an end)
        the nearest value stands, towards an end where they vanish they fall as the scale; 0 outside the support.
        """
        points = check_points("x", x)
        left, right = self.coefficients.support
        flat = points.ravel()
        inside = (flat > left) & (flat < right)
        values = np.zeros((self.eigenvalues.size, flat.size))
        if self.conserved:
            values[0] = (flat >= left) & (flat <= right)
        values[int(self.conserved) :, inside] = self.modes_at(self.modes, flat[inside])
        if self.kinds[0] == "closed" or self.coefficients.ring:
            values[int(self.conserved) :, flat == left] = self.modes.values[:, :1, 0]
        if self.kinds[1] == "closed" or self.coefficients.ring:
            values[int(self.conserved) :, flat == right] = self.modes.values[:, -1:, -1]
        return values.reshape(-1, *points.shape)

    def modes_at(self, modes: Modes, x: Array) -> Array:
        """Decaying modes of one resolution at points (n,) inside the support: (modes, n)."""
        mesh = modes.mesh
        values, v = mesh.interpolate(modes.values, x), mesh.coordinate.v(x)
        falls = mesh.outer_slopes(mesh.log_scale + mesh.log_slope)
        for side, beyond in ((0, np.minimum(v - mesh.edges[0], 0.0)), (-1, np.maximum(v - mesh.edges[-1], 0.0))):
            if self.kinds[side] == "open":
                values *= np.exp(falls[side] * beyond)
        return values

    def __repr__(self) -> str:
        return f"Spectrum(eigenvalues={np.array2string(self.eigenvalues, precision=6)})"


def spectrum(process: Any, k: int) -> Spectrum:
    """Return the k smallest decay rates of an autonomous diffusion, in high relative accuracy.

    Parameters
    ----------
    process : SDE
        Its coefficients do not depend on time; ends may be natural, reflecting or absorbing, or it lives on a ring
        without a stationary flux.
    k : int
        How many.

    Returns
    -------
    Spectrum
        `.eigenvalues`, `.eigenfunctions(x)` and `.error`.

    Raises
    ------
    InputError
        If a coefficient depends on time, an end moves, the spectrum is continuous from zero on or from below the k-th
        eigenvalue on, or rates are complex (a ring with a stationary flux).

    Notes
    -----
    -(e^Ψ φ')' = λ m φ, m = 2 e^Ψ/g², Ψ = ∫ 2f/g² (Karlin and Taylor 1981, section 15.13). Computed are the singular
    values of a factor of the inverse, the integral operator from fluxes to functions, by Gauss points on panels: a rate
    of 1e-6 beside others of order one is known to as many digits as they are. A natural end of infinite mass, which
    paths leave through, counts as open.

    Examples
    --------
    >>> s = fps.spectrum(fps.processes.ou(theta=2.0, sigma=1.0), 4)
    >>> [round(float(rate), 9) for rate in s.eigenvalues]
    [0.0, 2.0, 4.0, 6.0]
    """
    count = check_count("k", k)
    coefficients = Autonomous(process, "a spectrum")
    look = coefficients.look()
    if coefficients.ring:
        return _on_ring(coefficients, look, count)
    kinds = end_kinds(coefficients, look)
    return _between_ends(coefficients, look, kinds, count)


def _between_ends(coefficients: Autonomous, look: ScaleSpeed, kinds: tuple[str, str], count: int) -> Spectrum:
    wanted = max(count - int(kinds == ("closed", "closed")), 1)
    depth = _FIRST_DEPTH
    while True:
        both = cuts(look, kinds, depth)
        edges = coefficients.resolve(both[0].v, both[1].v)
        _refuse_if_large(edges, wanted, both)
        rough = modes(coefficients.sample(edges), kinds, wanted)
        _refuse_if_lost(rough)
        loose = [not cut.power_law and rough.slack[:, side].max() > _NEGLIGIBLE for side, cut in enumerate(both)]
        beyond = rough.rates[-1] >= 0.98 * min(cut.edge for cut in both)
        if not any(loose) and not beyond:
            break
        if depth >= DEPTH or all(cut.farthest for cut in both):
            raise _continuous(both, rough)
        deeper = cuts(look, kinds, _DEEPER * depth)
        if min(cut.edge for cut in deeper) < 1.02 * min(cut.edge for cut in both) and beyond:
            raise _continuous(deeper, rough)
        depth *= _DEEPER
    fine, rough, error = _refined(coefficients, edges, kinds, wanted, rough)
    found = Spectrum(coefficients, kinds, fine, rough, error, min(cut.edge for cut in both))
    if count == 1 and found.conserved:
        found.eigenvalues, found.error = found.eigenvalues[:1], found.error[:1]
    return found


def _refuse_if_large(edges: Array, wanted: int, both: tuple[Cut, Cut]) -> None:
    unknowns = (edges.size - 1) * NODES
    if unknowns > _MOST_UNKNOWNS or wanted > unknowns // 4:
        limit = min(cut.edge for cut in both)
        raise InputError(
            f"a spectrum must be resolved by {_MOST_UNKNOWNS} unknowns, four to an eigenvalue",
            f"{unknowns} unknowns for {wanted} eigenvalues, the potential at the cuts being {limit:.4g}",
            "ask for fewer eigenvalues: near a continuous spectrum eigenfunctions reach out without bound",
        )


def _refuse_if_lost(rough: Modes) -> None:
    if rough.rounding[-1] > _LOST:
        raise InputError(
            "eigenvalues beside a very small one must stay above its rounding, √(λ/λ_1) times 1e-15",
            f"λ_1 = {rough.rates[0]:.3g} where the last one is to be known",
            "ask for fewer, or declare an absorbing or reflecting end on the barrier and ask for each well",
        )


def _continuous(both: tuple[Cut, Cut], rough: Modes) -> InputError:
    limit = min(cut.edge for cut in both)
    below = int((rough.rates < 0.98 * limit).sum())
    return InputError(
        "the wanted eigenvalues must lie below the continuous spectrum",
        f"one that begins at about {limit:.6g}, with {below} positive eigenvalues resolved below it",
        "ask for fewer eigenvalues, or declare reflecting or absorbing walls",
    )


def _refined(
    coefficients: Autonomous, edges: Array, kinds: tuple[str, str], wanted: int, rough: Modes, *, ring: bool = False
) -> tuple[Modes, Modes, Array]:
    """Modes with more nodes per panel, those without, the estimated error; panels are halved while that is large."""
    while True:
        fine = modes(coefficients.sample(edges, NODES + _FINER), kinds, wanted, ring=ring)
        gap = np.abs(fine.rates - rough.rates) / fine.rates
        halved = np.unique(np.concatenate([edges, 0.5 * (edges[:-1] + edges[1:])]))
        if (gap <= np.maximum(_GOOD, 10.0 * fine.rounding)).all() or (halved.size - 1) * NODES > _MOST_UNKNOWNS:
            digits = fine.rounding + fine.beyond + 1e-15 * (1.0 + np.ptp(fine.mesh.rise_at_edges))
            return fine, rough, (gap + digits) * fine.rates
        edges = halved
        rough = modes(coefficients.sample(edges), kinds, wanted, ring=ring)


def _on_ring(coefficients: Autonomous, look: ScaleSpeed, count: int) -> Spectrum:
    turn = float(look.rise_at_edges[-1] - look.rise_at_edges[0])
    if abs(turn) > 1e-10 * (1.0 + np.ptp(look.rise_at_edges)):
        raise InputError(
            "decay rates are real only without a stationary flux",
            f"∮ 2f/g² = {turn:.6g} around the ring",
            "use fps.solve_fokker_planck, or take the mean force out of the drift",
        )
    edges = coefficients.resolve(0.0, 1.0)
    kinds = ("closed", "closed")
    wanted = max(count - 1, 1)
    _refuse_if_large(edges, wanted, (Cut(0.0, False, math.inf, True),) * 2)
    rough = modes(coefficients.sample(edges), kinds, wanted, ring=True)
    fine, rough, error = _refined(coefficients, edges, kinds, wanted, rough, ring=True)
    found = Spectrum(coefficients, kinds, fine, rough, error, math.inf)
    if count == 1:
        found.eigenvalues, found.error = found.eigenvalues[:1], found.error[:1]
    return found
