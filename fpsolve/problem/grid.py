"""Cell-centred grids: uniform, graded by x = centre + stretch sinh(y), or logarithmic towards a wall."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_count, check_number

_NEWTON_STEPS = 200


@dataclass(frozen=True)
class Grid:
    """Cells between two ends, equal in a coordinate y; the unknowns are cell averages at `x`, fluxes live on `faces`.

    y is the sum of asinh((x - centre)/stretch), log(x - left_wall) and -log(right_wall - x), as far as these are given,
    and x itself if none is: cells grow in proportion to the distance from the centre and shrink in proportion to the
    distance to a wall. A left wall alone gives a logarithmic grid. With several centres there is a term for each.

    Parameters
    ----------
    left, right : float
        Ends, left < right.
    cells : int
        Number of cells, at least 8.
    stretch : float or tuple of float, optional
        Distance from the centre beyond which cells grow.
    centre : float or tuple of float, optional
        Where graded cells are smallest; the middle of the grid unless given. As many as there are stretches.
    left_wall, right_wall : float, optional
        Points beyond the ends, left_wall < left and right < right_wall, towards which cells shrink.

    Raises
    ------
    InputError
        If the ends are not finite or not ordered, a wall is not beyond its end, or there are too few cells.

    Examples
    --------
    >>> grid = fps.Grid(-4, 4, 16)
    >>> grid.x[0], grid.faces[-1], len(grid.widths)
    (np.float64(-3.75), np.float64(4.0), 16)
    >>> fps.Grid(1e-6, 1.0, 60, left_wall=0.0).faces[[0, 10, 60]].round(9).tolist()
    [1e-06, 1e-05, 1.0]
    """

    left: float
    right: float
    cells: int
    stretch: float | tuple[float, ...] | None = None
    centre: float | tuple[float, ...] | None = None
    left_wall: float | None = None
    right_wall: float | None = None

    def __post_init__(self) -> None:
        left, right = check_number("left", self.left), check_number("right", self.right)
        if left >= right:
            raise InputError("a grid needs left < right", (left, right), "swap the ends")
        object.__setattr__(self, "left", left)
        object.__setattr__(self, "right", right)
        object.__setattr__(self, "cells", check_count("cells", self.cells, at_least=8))
        self._check_centres()
        for name, beyond in (("left_wall", -1.0), ("right_wall", 1.0)):
            wall = getattr(self, name)
            if wall is None:
                continue
            object.__setattr__(self, name, check_number(name, wall))
            if beyond * (wall - (left if beyond < 0 else right)) <= 0.0:
                rule = f"{name} must lie beyond the {name.split('_')[0]} end of the grid"
                raise InputError(rule, wall, "move the end inwards, or leave the wall out")

    def _check_centres(self) -> None:
        stretch, centre = self.stretch, 0.5 * (self.left + self.right) if self.centre is None else self.centre
        many = isinstance(stretch, tuple) or isinstance(centre, tuple)
        lengths = stretch if isinstance(stretch, tuple) else () if stretch is None else (stretch,)
        places = centre if isinstance(centre, tuple) else (centre,)
        if many and len(lengths) != len(places):
            raise InputError("a grid needs one stretch for each centre", (stretch, centre), "give tuples of one length")
        lengths = tuple(check_number("stretch", length, above=0.0) for length in lengths)
        places = tuple(check_number("centre", place) for place in places)
        object.__setattr__(self, "stretch", lengths if many else lengths[0] if lengths else None)
        object.__setattr__(self, "centre", places if many else places[0])

    @property
    def bends(self) -> tuple[tuple[float, float], ...]:
        """Pairs (stretch, centre)."""
        if self.stretch is None:
            return ()
        if isinstance(self.stretch, tuple):
            return tuple(zip(self.stretch, self.centre, strict=True))  # type: ignore[arg-type]
        return ((self.stretch, self.centre),)  # type: ignore[return-value]

    @property
    def is_uniform(self) -> bool:
        """Whether all cells are equal in x."""
        return self.stretch is None and self.left_wall is None and self.right_wall is None

    def grading(self) -> str:
        """How the cells are graded, in words; empty if they are equal."""
        words = [f"beyond {length:.3g} of {centre:.3g}" for length, centre in self.bends]
        words += [f"towards {wall:.3g}" for wall in (self.left_wall, self.right_wall) if wall is not None]
        return "graded " + ", ".join(words) if words else ""

    def to_uniform(self, x: Any) -> np.ndarray:
        """Coordinate y in which the cells are equal."""
        x = np.asarray(x, dtype=float)
        if self.is_uniform:
            return x
        y = np.zeros(x.shape)
        for length, centre in self.bends:
            y = y + np.arcsinh((x - centre) / length)
        if self.left_wall is not None:
            y = y + np.log(x - self.left_wall)
        if self.right_wall is not None:
            y = y - np.log(self.right_wall - x)
        return y

    def slopes(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """∂x y and ∂xx y at points `x`."""
        if self.is_uniform:
            return np.ones(x.shape), np.zeros(x.shape)
        first, second = np.zeros(x.shape), np.zeros(x.shape)
        for length, centre in self.bends:
            away = x - centre
            size = np.hypot(away, length)
            first, second = first + 1.0 / size, second - away / size**3
        if self.left_wall is not None:
            distance = x - self.left_wall
            first, second = first + 1.0 / distance, second - 1.0 / distance**2
        if self.right_wall is not None:
            distance = self.right_wall - x
            first, second = first + 1.0 / distance, second + 1.0 / distance**2
        return first, second

    def from_uniform(self, y: np.ndarray) -> np.ndarray:
        """Points x with coordinate `y`: closed forms for one kind of grading, else Newton's method, bracketed."""
        if self.is_uniform:
            return y
        walled = self.left_wall is not None or self.right_wall is not None
        return self._simple(y) if len(self.bends) + walled == 1 else self._by_newton(y)

    def _simple(self, z: np.ndarray) -> np.ndarray:
        """Points with log(x - left_wall) - log(right_wall - x) = z, as far as there are walls, else of a bend."""
        left, right = self.left_wall, self.right_wall
        if left is None and right is None:
            length, centre = self.bends[0]
            return np.asarray(centre + length * np.sinh(z))
        with np.errstate(over="ignore"):
            if left is None:
                return np.asarray(right - np.exp(-z))
            if right is None:
                return np.asarray(left + np.exp(z))
            width = right - left
            # each half from its own wall, so that small distances keep their digits
            return np.where(z < 0.0, left + width / (1.0 + np.exp(-z)), right - width / (1.0 + np.exp(z)))

    def _by_newton(self, y: np.ndarray) -> np.ndarray:
        """Newton's method in the coordinate of `_simple`, bracketed: y grows with it."""
        low, high = np.full(y.shape, -690.0), np.full(y.shape, 690.0)
        z, before = np.clip(y, low, high), np.full(y.shape, math.inf)
        for _ in range(_NEWTON_STEPS):
            x = self._simple(z)
            with np.errstate(all="ignore"):
                gap = self.to_uniform(x) - y
                newton = z - gap / (self.slopes(x)[0] * self._stretching(x))
            low, high = np.where(gap < 0, z, low), np.where(gap > 0, z, high)
            gains = (newton > low) & (newton < high) & (np.abs(gap) < 0.5 * before)
            before = np.abs(gap)
            new = np.where(gap == 0.0, z, np.where(gains, newton, 0.5 * (low + high)))
            if (np.abs(new - z) <= 1e-15 * (1.0 + np.abs(z))).all():
                break
            z = new
        return self._simple(z)

    def _stretching(self, x: np.ndarray) -> np.ndarray:
        """dx/dz of `_simple`."""
        if self.left_wall is None and self.right_wall is None:
            return np.hypot(x - self.bends[0][1], self.bends[0][0])
        if self.left_wall is not None and self.right_wall is not None:
            return (x - self.left_wall) * (self.right_wall - x) / (self.right_wall - self.left_wall)
        return x - self.left_wall if self.left_wall is not None else self.right_wall - x

    @cached_property
    def span_y(self) -> tuple[float, float]:
        """Coordinates y of the two ends."""
        low, high = self.to_uniform(np.array([self.left, self.right]))
        return float(low), float(high)

    @property
    def step(self) -> float:
        """Width of a cell in y."""
        return (self.span_y[1] - self.span_y[0]) / self.cells

    def place(self, x: np.ndarray) -> np.ndarray:
        """Position of points in units of cells: face k is at k."""
        return (self.to_uniform(x) - self.span_y[0]) / self.step

    def nodes(self, places: np.ndarray) -> np.ndarray:
        """Points at positions in units of cells; positions beyond the ends continue the grading."""
        return self.from_uniform(self.span_y[0] + self.step * places)

    @cached_property
    def faces(self) -> np.ndarray:
        """Cell ends, shape (cells + 1,)."""
        faces = self.nodes(np.arange(self.cells + 1.0))
        faces[0], faces[-1] = self.left, self.right
        faces.setflags(write=False)
        return faces

    @cached_property
    def x(self) -> np.ndarray:
        """Cell centres (the images of the uniform midpoints), shape (cells,)."""
        x = self.nodes(np.arange(self.cells) + 0.5)
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
        return replace(self, cells=self.cells * check_count("factor", factor))
