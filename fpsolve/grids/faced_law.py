"""Laws of which F and 1 - F are known at the faces of a grid."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np

from fpsolve.problem.law import Law, check_faces


class FacedLaw(Law):
    """A law with masses in cells: quantiles are looked for between the faces, masses are differences of the tails."""

    @abstractmethod
    def _at_faces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Faces, F and 1 - F there."""

    def _bracket(self, p: np.ndarray, upper: bool) -> tuple[np.ndarray, np.ndarray]:
        faces, below, above = self._at_faces()
        at = faces.size - np.searchsorted(above[::-1], p) if upper else np.searchsorted(below, p)
        return faces[np.clip(at - 2, 0, faces.size - 1)], faces[np.clip(at + 1, 0, faces.size - 1)]

    def cell_masses(self, faces: Any) -> np.ndarray:
        """Masses between increasing faces, relatively accurate in both tails."""
        cuts = check_faces(faces)
        low, high = self.cdf(cuts), self.sf(cuts)
        return np.where(low[1:] <= 0.5, np.diff(low), -np.diff(high))
