"""Derivatives and coefficients of V's own equation at nodes: polynomials through neighbours, closures at ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtr

from fpsolve.grids.backward.nodes import ABSORBING, OPEN, RING, SLOPE
from fpsolve.grids.backward.setting import BackwardSetting
from fpsolve.problem.grid import Grid

REACH = 4  # neighbours on each side that a derivative sees
_BAND = 2 * REACH + 1
_TAIL = 3  # nodes through whose parabola V goes on beyond an artificial end
_SPREAD, _TAILS = 1.0, 7.0  # standard deviation of that noise, in cells; where it ends, in units of itself
_SAMPLES = 16  # of a function on each side of a place where it is not smooth


def _cardinal(known: np.ndarray, at: int) -> np.ndarray:
    """Weights (2, k) of values at points (k,) in both derivatives, at point number `at`, of their polynomial."""
    apart = known[:, None] - known + np.eye(known.size)
    shape, others = apart.prod(axis=1), np.arange(known.size) != at
    gaps = known[at] - known[others]
    first, second = np.zeros(known.size), np.zeros(known.size)
    first[others] = shape[at] / (shape[others] * gaps)
    first[at] = -first.sum()
    second[others] = 2.0 * first[others] * (first[at] - 1.0 / gaps)
    second[at] = -second.sum()
    return np.array([first, second])


def _parabola(known: np.ndarray, x: float) -> np.ndarray:
    """Weights of values at three points in their parabola at x."""
    weights = np.ones(_TAIL)
    for k in range(_TAIL):
        for j in range(_TAIL):
            if j != k:
                weights[k] *= (x - known[j]) / (known[k] - known[j])
    return weights


def _near_end(grid: Grid, side: int, i: int, kind: str) -> np.ndarray:
    """Weights (2, i + 5 or less) in derivatives by the number of the node at node i from one end, outermost first.

    A given slope of zero: the value one node beyond the end that makes the polynomial flat there. An artificial end:
    values beyond it on the parabola (in x) of the next three.
    """
    inner = np.arange(i + REACH + 1.0)
    if kind == OPEN:
        out = np.arange(i - REACH, 0.0)
        weights = _cardinal(np.append(out, inner), REACH)
        kept = weights[:, out.size :].copy()
        places = np.append(out, inner[:_TAIL])
        x = grid.nodes(places if side == 0 else grid.cells - places)
        for g in range(out.size):
            kept[:, :_TAIL] += weights[:, g, None] * _parabola(x[out.size :], x[g])
        return kept
    if kind == SLOPE:
        known = np.append(-1.0, inner)
        weights, flat = _cardinal(known, i + 1), _cardinal(known, 1)[0]
        return weights[:, 1:] - weights[:, :1] * flat[1:] / flat[0]
    return _cardinal(inner, i)


@dataclass
class ValueNodes:
    """Nodes of a solve for V: the faces of `grid`, on a ring without the last; what the equation needs there."""

    setting: BackwardSetting
    grid: Grid
    kinds: tuple[str, str]

    def __post_init__(self) -> None:
        self.ring = self.kinds[0] == RING
        self.x = self.grid.faces[:-1] if self.ring else self.grid.faces
        self.dx = self.grid.slopes(self.x)[0]
        self.columns, self.weights = self._derivatives()
        rows, n = np.repeat(np.arange(self.x.size), _BAND), self.x.size
        shape = n, n
        self.first, self.second = (
            csr_array((part.ravel(), (rows, self.columns.ravel())), shape=shape) for part in self.weights
        )
        self._near_breaks = self._halves()

    def _derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Columns (n, 9) and weights (2, n, 9); where a window is shorter, columns repeat with weights of zero."""
        n = self.x.size
        columns = np.arange(n)[:, None] + np.arange(-REACH, REACH + 1)
        weights = np.tile(_cardinal(np.arange(float(_BAND)), REACH)[:, None], (1, n, 1))
        if self.ring:
            columns %= n
        else:
            weights[:, :REACH] = weights[:, n - REACH :] = 0.0
            for i in range(REACH):
                left, right = (_near_end(self.grid, side, i, self.kinds[side]) for side in (0, 1))
                weights[:, i, REACH - i :][:, : left.shape[1]] = left
                mirrored = right[:, ::-1] * np.array([[-1.0], [1.0]])
                weights[:, n - 1 - i, REACH + 1 + i - mirrored.shape[1] :][:, : mirrored.shape[1]] = mirrored
        along, turned = (part / self.grid.step for part in self.grid.slopes(self.x))
        first = along[:, None] * weights[0]
        return np.clip(columns, 0, n - 1), np.array(
            [first, along[:, None] ** 2 * weights[1] + turned[:, None] * weights[0]]
        )

    def _halves(self) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """Nodes whose cell has a break in it or next to it, with places in the cell and their weights in a mean."""
        found = []
        edges = 0.5 * (self.x[1:] + self.x[:-1])
        for place in self.setting.breaks:
            k = int(np.searchsorted(edges, place))
            for i in (k - 1, k, k + 1):
                if 1 <= i <= self.x.size - 2:
                    cuts = np.array([edges[i - 1], min(max(place, edges[i - 1]), edges[i]), edges[i]])
                    widths = np.repeat(np.diff(cuts) / _SAMPLES, _SAMPLES)
                    found.append((i, cuts[0] + np.cumsum(widths) - 0.5 * widths, widths / widths.sum()))
        return found

    def start(self) -> np.ndarray:
        """Terminal cost, the exit cost at absorbing ends; next to breaks what it is when noise has gone one cell.

        At a jump V'' - V'² outweighs all else, and e^-V spreads like heat.
        """
        terminal, t1 = self.setting.terminal, self.setting.t_span[1]
        v = np.array(terminal(self.x, t1))
        for place in self.setting.breaks:
            k = int(np.abs(self.x - place).argmin())
            width = _SPREAD * (self.x[min(k + 1, self.x.size - 1)] - self.x[max(k - 1, 0)]) / 2.0
            for i in np.flatnonzero(np.abs(self.x - place) < _TAILS * width):
                cuts = np.sort(np.append(self.x[i] + width * np.linspace(-_TAILS, _TAILS, 16 * _SAMPLES), place))
                middles = np.clip(0.5 * (cuts[1:] + cuts[:-1]), self.grid.left, self.grid.right)
                values = terminal(middles, t1)
                shares = np.diff(ndtr((cuts - self.x[i]) / width))
                v[i] = values.min() - np.log(shares @ np.exp(values.min() - values) / shares.sum())
        for side in (0, 1):
            if self.kinds[side] == ABSORBING:
                v[-side] = self.setting.exit_values[side]
        return v

    def coefficients(self, t: float) -> np.ndarray:
        """f, ½ g² and the running cost (3, n) at time t; at an absorbing end nothing changes.

        Where they jump, what is continuous is V'' - V'² = (-∂t V - f V' - running)/½g²: means with that weight.
        """
        p, running = self.setting.process, self.setting.source
        found = np.array([p.drift(self.x, t), 0.5 * p.diffusion(self.x, t) ** 2, running(self.x, t)])
        for i, places, shares in self._near_breaks:
            spread = 0.5 * p.diffusion(places, t) ** 2
            if spread.min() > 0.0:
                shares = shares / spread
                found[:, i] = shares @ p.drift(places, t), 1.0, shares @ running(places, t)
                found[:, i] /= shares.sum()
        for side in (0, 1):
            if self.kinds[side] == ABSORBING:
                found[:, -side] = 0.0
        return found

    def gradient(self, v: np.ndarray) -> np.ndarray:
        """∂x V at the nodes."""
        return self.first @ v
