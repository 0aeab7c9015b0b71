"""Cell-centred grids, uniform or graded by x = centre + stretch sinh(y)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fpsolve.errors import InputError, check_count, check_number


@dataclass(frozen=True)
class Grid:
    """Cells between two ends; the unknowns are cell averages at `x`, fluxes live on `faces`.

    Parameters
    ----------
    left, right : float
        Ends, left < right.
    cells : int
        Number of cells, at least 8.
    stretch : float, optional
        Length L of the grading x = centre + L sinh(y) with y uniform: cells grow in proportion to
        the distance from `centre` beyond L. Without it the cells are equal.
    centre : float, optional
        Where the graded cells are smallest; the middle of the grid unless given.

    Raises
    ------
    InputError
        If the ends are not finite or not ordered, or there are too few cells.

    Examples
    --------
    >>> grid = fps.Grid(-4, 4, 16)
    >>> grid.x[0], grid.faces[-1], len(grid.widths)
    (np.float64(-3.75), np.float64(4.0), 16)
    """

    left: float
    right: float
    cells: int
    stretch: float | None = None
    centre: float | None = None

    def __post_init__(self) -> None:
        left, right = check_number("left", self.left), check_number("right", self.right)
        if left >= right:
            raise InputError("a grid needs left < right", (left, right), "swap the ends")
        object.__setattr__(self, "left", left)
        object.__setattr__(self, "right", right)
        object.__setattr__(self, "cells", check_count("cells", self.cells, at_least=8))
        if self.stretch is not None:
            object.__setattr__(self, "stretch", check_number("stretch", self.stretch, above=0.0))
        centre = 0.5 * (left + right) if self.centre is None else check_number("centre", self.centre)
        object.__setattr__(self, "centre", centre)

    def _to_uniform(self, x: float) -> float:
        return x if self.stretch is None else float(np.arcsinh((x - self.centre) / self.stretch))  # type: ignore[operator]

    def _nodes(self, parts: np.ndarray) -> np.ndarray:
        a, b = self._to_uniform(self.left), self._to_uniform(self.right)
        y = a + (b - a) * parts
        return y if self.stretch is None else self.centre + self.stretch * np.sinh(y)  # type: ignore[operator]

    @cached_property
    def faces(self) -> np.ndarray:
        """Cell ends, shape (cells + 1,)."""
        faces = self._nodes(np.arange(self.cells + 1) / self.cells)
        faces[0], faces[-1] = self.left, self.right
        faces.setflags(write=False)
        return faces

    @cached_property
    def x(self) -> np.ndarray:
        """Cell centres (the images of the uniform midpoints), shape (cells,)."""
        x = self._nodes((np.arange(self.cells) + 0.5) / self.cells)
        x.setflags(write=False)
        return x

    @cached_property
    def widths(self) -> np.ndarray:
        """Cell widths, shape (cells,)."""
        widths = np.diff(self.faces)
        widths.setflags(write=False)
        return widths

    def refine(self, factor: int) -> Grid:
        """Return the grid that splits every cell into `factor` cells; the old faces remain faces."""
        return Grid(self.left, self.right, self.cells * check_count("factor", factor), self.stretch, self.centre)
