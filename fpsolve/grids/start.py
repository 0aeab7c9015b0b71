"""Cell masses of the initial law, so that a scheme of order 8 keeps its order from laws that are not smooth.

A smooth density enters by its exact masses. Where it has jumps or kinks, and for atoms, exact masses would lose where
in its cell a mass stands. There each mass is shared among eight cells so that their centres have the moments
Σ w_i y_i^k = ∫ y^k over the unit interval around its place, k = 0..7: what a smooth functional of the solution sees of
it is then right to order 8 (a cell mass m_i stands for the mean of the density over a cell, hence the interval).
"""

from __future__ import annotations

import numpy as np

from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law
from fpsolve.problem.mixtures import Empirical

_SHARED = 8  # cells
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_TO_WEIGHTS = np.linalg.inv(np.vander(np.arange(_SHARED) + 0.5, increasing=True).T)


def positive_masses(law: Law, grid: Grid, ring: bool = False) -> np.ndarray:
    """Masses of all cells for a scheme of order 2 that is to stay positive.

    Atoms are shared among three cells like a quadratic B-spline: their mean stays, and their variance grows by a
    quarter of a cell squared wherever they stand, which extrapolation in the cell width removes.
    """
    if not isinstance(law, Empirical):
        mass = np.array(law.cell_masses(grid.faces), dtype=float)
        mass[0] += float(law.cdf(grid.left))
        mass[-1] += float(law.sf(grid.right))
        return mass
    places = grid.place(np.clip(law.samples, grid.left, grid.right))
    cell = np.floor(places).astype(int)
    cell = cell if ring else np.clip(cell, 1, grid.cells - 2)
    d = (places - cell - 0.5)[:, None]
    weights = np.hstack([0.5 * (0.5 - d) ** 2, 0.75 - d**2, 0.5 * (0.5 + d) ** 2])
    # next to an end the parabolas leave their range
    weights = np.maximum(weights, 0.0) / np.maximum(weights, 0.0).sum(axis=1, keepdims=True) / places.size
    columns = (cell[:, None] + np.arange(-1, 2)) % grid.cells
    return np.bincount(columns.ravel(), weights=weights.ravel(), minlength=grid.cells)


def masses_outside(law: Law, grid: Grid) -> tuple[float, float]:
    """Masses of the law on the left and on the right of the grid."""
    return float(law.cdf(grid.left)), float(law.sf(grid.right))


def start_masses(
    law: Law,
    grid: Grid,
    support: tuple[float, float],
    ring: bool = False,
    outside: tuple[float, float] | None = None,
) -> np.ndarray:
    """Masses of all cells; what lies `outside` the grid is put into its end cells, so that the sum is the whole."""
    if isinstance(law, Empirical):
        atoms = np.clip(law.samples, grid.left, grid.right)
        return shared(grid.place(atoms), np.full(atoms.size, 1.0 / atoms.size), grid.cells, ring)
    breaks = inner_breaks(law, support)
    if breaks.size == 0:
        mass = np.array(law.cell_masses(grid.faces), dtype=float)
    else:
        cuts = np.unique(np.concatenate([grid.faces, breaks[(breaks > grid.left) & (breaks < grid.right)]]))
        half = 0.5 * np.diff(cuts)
        points = (cuts[:-1] + half)[:, None] + half[:, None] * _NODES
        parts = law.pdf(points) * half[:, None] * _WEIGHTS
        parts *= (law.cell_masses(cuts) / np.maximum(parts.sum(axis=1), 1e-300))[:, None]
        mass = shared(grid.place(points.ravel()), parts.ravel(), grid.cells, ring)
    left, right = outside or masses_outside(law, grid)
    mass[0] += left
    mass[-1] += right
    return mass


def inner_breaks(law: Law, support: tuple[float, float]) -> np.ndarray:
    """Jumps and kinks of a density, apart from the ends of the support of the process."""
    return np.array(sorted({x for x in law.breaks if x not in support}))


def shared(places: np.ndarray, masses: np.ndarray, cells: int, ring: bool) -> np.ndarray:
    """Masses at positions in units of cells, each shared among eight cells."""
    first = np.floor(places).astype(int) - _SHARED // 2
    first = np.where(places - np.floor(places) >= 0.5, first + 1, first)
    if not ring:
        first = np.clip(first, 0, cells - _SHARED)
    offset = (places - first)[:, None]
    powers = np.arange(1.0, _SHARED + 1.0)
    moments = ((offset + 0.5) ** powers - (offset - 0.5) ** powers) / powers
    weights = moments @ _TO_WEIGHTS.T * masses[:, None]
    columns = (first[:, None] + np.arange(_SHARED)) % cells
    return np.bincount(columns.ravel(), weights=weights.ravel(), minlength=cells)
