"""Laws of which F and 1 - F are known at the faces of a grid."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from fpsolve.errors import check_count
from fpsolve.problem.law import Law, check_faces, generator_of

_MANY, _FINER = 2, 16  # a table of so many points per cell is made for so many draws per point
_FAR = 1e-4  # mass beyond which a quantile bends too much for the table
_NEWTON = 3  # from linear interpolation in a cell, whose error is squared by each


class FacedLaw(Law):
    """A law with masses in cells: quantiles are looked for between the faces, masses are differences of the tails."""

    @abstractmethod
    def _at_faces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Faces, F and 1 - F there."""

    def _bracket(self, p: np.ndarray, upper: bool) -> tuple[np.ndarray, np.ndarray]:
        faces, below, above = self._at_faces()
        at = faces.size - np.searchsorted(above[::-1], p) if upper else np.searchsorted(below, p)
        return faces[np.clip(at - 2, 0, faces.size - 1)], faces[np.clip(at + 1, 0, faces.size - 1)]

    def sample(self, n: int, rng: Any) -> np.ndarray:
        """Draw `n` independent values: many through a table of quantiles, few and those far out one by one."""
        draws = np.maximum(generator_of(rng).random(check_count("n", n, at_least=0)), 2.0**-54)
        faces, below, _ = self._at_faces()
        if n < _MANY * _FINER * faces.size:
            return self._located(draws, faces, below)
        nodes = np.interp(np.arange((faces.size - 1) * _FINER + 1) / _FINER, np.arange(faces.size), faces)
        u, q = self.cdf(nodes), self.pdf(nodes)
        k = np.clip(np.searchsorted(u, draws) - 1, 0, nodes.size - 2)
        width, gap = np.diff(nodes)[k], np.diff(u)[k]
        with np.errstate(divide="ignore", invalid="ignore"):
            part, slopes = (draws - u[k]) / gap, (gap / (width * q[k]), gap / (width * q[k + 1]))
            # the cubic through both ends with the slopes dx/dF = 1/q there
            inner = part + part * (1 - part) * ((slopes[0] - 1) * (1 - part) - (slopes[1] - 1) * part)
        x = nodes[k] + width * np.clip(inner, 0.0, 1.0)
        far = (draws < _FAR) | (draws > 1.0 - _FAR) | ~np.isfinite(x)
        x[far] = self._located(draws[far], faces, below)
        return x

    def _located(self, draws: np.ndarray, faces: np.ndarray, below: np.ndarray) -> np.ndarray:
        """Quantiles: the cell by its mass, the place in it by Newton steps."""
        cell = np.clip(np.searchsorted(below, draws) - 1, 0, faces.size - 2)
        low, high = faces[cell], faces[cell + 1]
        x = np.interp(draws, below, faces)
        for _ in range(_NEWTON):
            q = self.pdf(x)
            change = np.divide(self.cdf(x) - draws, q, out=np.zeros_like(x), where=q > 0.0)
            x = np.clip(x - change, low, high)
        return x

    def cell_masses(self, faces: Any) -> np.ndarray:
        """Masses between increasing faces, relatively accurate in both tails."""
        cuts = check_faces(faces)
        low, high = self.cdf(cuts), self.sf(cuts)
        return np.where(low[1:] <= 0.5, np.diff(low), -np.diff(high))
