"""The solution of a backward equation, with errors by place and cause, from a fine solve and its witnesses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter1d

from fpsolve.errors import InputError, check_choice, check_points, check_time
from fpsolve.grids.backward.domain import Domain, wider_grid
from fpsolve.grids.backward.march import BackwardMarch, Nodes
from fpsolve.grids.backward.nodes import RING
from fpsolve.grids.backward.setting import BackwardSetting
from fpsolve.grids.backward.value_march import ValueMarch
from fpsolve.grids.backward.value_nodes import ValueNodes
from fpsolve.grids.budgets import ErrorBudget
from fpsolve.grids.extrapolation import interpolate
from fpsolve.grids.slices import SOLVING
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.grid import Grid
from fpsolve.problem.process import Process

March = BackwardMarch | ValueMarch
NAMES = ("value", "gradient")
CAUSES = ("space", "time", "domain", "rounding")
SPACE_SAFETY, _TIME_SAFETY, _DOMAIN_SAFETY = 3.0, 3.0, 2.0
_WINDOW, _PARTS = 5, 60  # nodes, and parts of the region, over which the largest difference counts
_ROUNDED = 3e-14  # relative rounding of values: eps times the weights of the extrapolation in time
_LASTING = 0.03  # part of the rounding of the terminal values that does not decay with v
_KEPT = 64
_FEWER, _BETWEEN_SAFETY = 8, 2.0  # points of a lower polynomial between nodes
_SHIFT = 0.3  # part of a cell by which a jump inside it is misplaced


class BackwardSolution:
    """v(x, t) with -∂t v = f v' + ½ g² v'' - potential v + source; made by `solve_backward`.

    Attributes
    ----------
    t_span : (float, float)
        Span.
    grid : Grid
        Its faces are the nodes of the finest solve.
    region : (float, float)
        Where errors are measured: nodes beyond serve as a margin, with larger errors.
    error : mapping
        Error budgets of "value" and "gradient" by time and cause: sup over the region, in units of the
        largest |v| there, at that time or at the end. `with_error` gives them by place.
    message : str
        What was reached.
    stats : dict
        Nodes, steps, work.
    """

    def __init__(
        self, process: Process, solves: Solves, times: np.ndarray, message: str, stats: dict[str, Any]
    ) -> None:
        self.process, self._solves, self._times = process, solves, times
        self.message, self.stats = message, stats
        self.t_span, self.grid, self.region = solves.setting.t_span, solves.fine.nodes.grid, solves.domain.region

    def __call__(self, x: Any, t: float) -> np.ndarray:
        """Value v(x, t), shape of x; NaN beyond the grid."""
        return self._at("value", x, t)

    def gradient(self, x: Any, t: float) -> np.ndarray:
        """Gradient ∂x v(x, t), shape of x; NaN beyond the grid."""
        return self._at("gradient", x, t)

    def with_error(self, name: str, x: Any, t: float) -> Estimate:
        """Return "value" or "gradient" at points with an estimated error.

        Raises
        ------
        InputError
            For a point beyond the grid, or a time beyond the span.
        """
        value = self._at(check_choice("a field", name, NAMES), x, t)
        if np.isnan(value).any():
            raise InputError(
                "points must lie on the grid", f"points beyond [{self.grid.left:g}, {self.grid.right:g}]", "give grid="
            )
        with SOLVING:
            error = self._solves.error_at(name, check_points("x", x).ravel(), check_time(t, self.t_span))
        return Estimate(value, error=error.reshape(value.shape), route="backward")

    @property
    def error(self) -> Mapping[str, ErrorBudget]:
        """Error budgets by name."""
        return {name: self._solves.budget(name, self._times) for name in NAMES}

    def _at(self, name: str, x: Any, t: float) -> np.ndarray:
        points, t = check_points("x", x), check_time(t, self.t_span)
        with SOLVING:
            return self._solves.at(name, points.ravel(), t).reshape(points.shape)

    def smooth_nodes(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Value and gradient at the nodes at time t, from polynomials in t through each step: quick for many times."""
        with SOLVING:
            v = self._solves.fine.smooth_values(check_time(t, self.t_span))
        return v, self._solves.fine.nodes.gradient(v)

    def __repr__(self) -> str:
        return f"BackwardSolution(t_span={self.t_span}, {self.message!r})"


class Solves:
    """A fine solve and its witnesses at the same times: fewer nodes; these with half the steps, or a wider domain."""

    def __init__(self, domain: Domain, fine: March, coarse: Grid, share: float) -> None:
        self.setting, self.domain, self.fine, self.share = fine.nodes.setting, domain, fine, share
        middle = 0.5 * (fine.times[1:] + fine.times[:-1])
        twice = np.sort(np.concatenate([fine.times, middle]))[::-1]
        self.coarse, self.halved = (self._witness(coarse, times) for times in (fine.times, twice))
        self.wide: March | None = None
        if any(domain.artificial):
            grid, self._more = wider_grid(domain, coarse)
            self.wide = self._witness(grid, fine.times)
        self._fields: dict[tuple[str, float], tuple[np.ndarray, dict[str, np.ndarray]]] = {}

    def _witness(self, grid: Grid, times: np.ndarray) -> March:
        return march_on(self.setting, grid, self.domain.kinds, self.fine.tol, self.fine.scale, times)

    def fields(self, name: str, t: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Field at the fine nodes, and its errors by cause."""
        if (name, t) not in self._fields:
            if len(self._fields) >= _KEPT:
                self._fields.clear()
            self._fields[name, t] = self._compared(name, t)
        return self._fields[name, t]

    def _compared(self, name: str, t: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        fine, coarse = self.fine.nodes, self.coarse.nodes
        value, rough = field_of(self.fine, name, t), field_of(self.coarse, name, t)
        differences = {
            "space": self.share * self._windowed(value - on_nodes(coarse, rough, fine.x), fine.x),
            "time": self._carried(_TIME_SAFETY * (field_of(self.halved, name, t) - rough)),
            "domain": np.zeros(value.size),
        }
        if self.wide is not None:
            wide = field_of(self.wide, name, t)[self._more : self._more + rough.size]
            differences["domain"] = self._carried(_DOMAIN_SAFETY * (wide - rough))
        differences["space"] += self._from_jumps(t) + self._between_nodes(value)
        size = maximum_filter1d(np.abs(field_of(self.fine, "value", t)), _WINDOW, mode="nearest")
        size = size + _LASTING * self.fine.scale
        rounding = _ROUNDED * (size if name == "value" else np.abs(value) + 0.1 * size * fine.dx / fine.grid.step)
        return value, differences | {"rounding": rounding}

    def _between_nodes(self, value: np.ndarray) -> np.ndarray:
        """Error of the polynomials between nodes, the larger one on either side, from those of lower degree."""
        nodes = self.fine.nodes
        middles = nodes.grid.nodes(np.arange(nodes.grid.cells) + 0.5)
        apart = np.abs(on_nodes(nodes, value, middles) - on_nodes(nodes, value, middles, _FEWER))
        sides = np.pad(_BETWEEN_SAFETY * apart, 1, mode="wrap" if nodes.kinds[0] == RING else "edge")
        return np.maximum(sides[1:], sides[:-1])[: value.size]

    def _from_jumps(self, t: float) -> float:
        """What the place of a jump of f or g in its cell shifts v by: of first order in the width of the cell."""
        fine, slope = self.fine.nodes, np.abs(field_of(self.fine, "gradient", t))
        near = [int(np.abs(fine.x - x).argmin()) for x in self.domain.jumps]
        return sum(_SHIFT * fine.grid.step / float(fine.dx[k]) * float(slope[k]) for k in near)

    def _carried(self, difference: np.ndarray) -> np.ndarray:
        """Sizes at the coarse nodes, at the fine ones."""
        near = self._windowed(difference, self.coarse.nodes.x)
        fine, ratio = self.fine.nodes, self.coarse.nodes.grid.cells / self.fine.nodes.grid.cells
        return np.interp(fine.grid.place(fine.x) * ratio, np.arange(float(difference.size)), near)

    def _windowed(self, difference: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Largest size near each node: differences change sign, and nodes that crowd are all near one such place."""
        size = np.abs(difference)
        near = maximum_filter1d(size, _WINDOW, mode="nearest")
        left, right = self.domain.region
        part = np.clip(np.floor((x - left) / (right - left) * _PARTS) + 1, 0, _PARTS + 1).astype(int)
        largest = np.zeros(_PARTS + 2)
        np.maximum.at(largest, part[1:-1], size[1:-1])
        inside = (x >= left) & (x <= right)
        return np.where(
            inside, np.maximum(near, maximum_filter1d(largest[1:-1], 3)[np.clip(part - 1, 0, _PARTS - 1)]), near
        )

    def at(self, name: str, x: np.ndarray, t: float) -> np.ndarray:
        """Field at points (n,); NaN beyond the grid."""
        nodes, value = self.fine.nodes, np.full(x.size, np.nan)
        x, inside = self._placed(x)
        if t == self.setting.t_span[1]:
            terminal = self.setting.terminal
            value[inside] = terminal(x[inside], t) if name == "value" else terminal.dx(x[inside], t)
        else:
            value[inside] = on_nodes(nodes, field_of(self.fine, name, t), x[inside])
        return value

    def error_at(self, name: str, x: np.ndarray, t: float) -> np.ndarray:
        """Estimated errors at points (n,); infinite beyond the grid."""
        nodes, error = self.fine.nodes, np.full(x.size, np.inf)
        x, inside = self._placed(x)
        points, field = x[inside], field_of(self.fine, name, t)
        if t == self.setting.t_span[1]:
            error[inside] = (1e-15 if name == "value" else 1e-9) * np.abs(self.at(name, points, t))
            return error
        total = sum(self.fields(name, t)[1].values(), np.zeros(field.size))
        places = np.clip(nodes.grid.place(points), 0.0, float(field.size - 1))
        error[inside] = np.maximum(total[np.floor(places).astype(int)], total[np.ceil(places).astype(int)])
        return error

    def _placed(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points, on a ring between its ends, and whether they lie on the grid."""
        grid = self.fine.nodes.grid
        if self.fine.nodes.kinds[0] == RING:
            x = grid.left + (x - grid.left) % (grid.right - grid.left)
        return x, (x >= grid.left) & (x <= grid.right)

    def errors(self, name: str, t: float) -> dict[str, float]:
        """Largest errors in the region by cause, in units of the largest |v| there, now or at the end."""
        if t == self.setting.t_span[1]:
            return dict.fromkeys(CAUSES, 0.0)
        value, causes = self.fields(name, t)
        left, right = self.domain.region
        inside = (self.fine.nodes.x >= left) & (self.fine.nodes.x <= right)
        top = max(float(np.abs(value[inside]).max()), self.fine.scale)
        return {cause: float(error[inside].max()) / top for cause, error in causes.items()}

    def budget(self, name: str, times: np.ndarray) -> ErrorBudget:
        """Errors at all times."""
        rows = [self.errors(name, float(t)) for t in times]
        parts = {cause: np.array([row[cause] for row in rows]) for cause in CAUSES}
        norm = "sup over the region, relative to the largest |v| there, now or at the end"
        return ErrorBudget(norm, times, initial=np.zeros(times.size), **parts)


def march_on(
    setting: BackwardSetting,
    grid: Grid,
    kinds: tuple[str, str],
    tol: float,
    scale: float,
    ends: np.ndarray | None = None,
) -> March:
    """One solve at the faces of a grid."""
    if setting.bends:
        return ValueMarch(ValueNodes(setting, grid, kinds), tol, scale, ends)
    return BackwardMarch(Nodes(setting, grid, kinds), tol, scale, ends)


def field_of(march: March, name: str, t: float) -> np.ndarray:
    """Value or gradient of one solve at its nodes."""
    v = march.values(t)
    return v if name == "value" else march.nodes.gradient(v)


def on_nodes(nodes: Nodes | ValueNodes, field: np.ndarray, x: np.ndarray, points: int = 10) -> np.ndarray:
    """A field of one solve at points on its grid, by local polynomials."""
    closed = np.append(field, field[0]) if nodes.kinds[0] == RING else field
    return interpolate(nodes.grid, closed, x, min(points, closed.size))
