"""One backward solve on given nodes: values at the ends of adaptive steps, from t1 down, and in between by one step."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from fpsolve.errors import BlowUp, CoefficientError
from fpsolve.grids.backward.nodes import ABSORBING, RING, SLOPE, node_weights
from fpsolve.grids.backward.setting import BackwardSetting
from fpsolve.kernels.backward import backward_step, backward_workspace
from fpsolve.kernels.implicit import FRACTIONS, LANES
from fpsolve.problem.grid import Grid

_FIRST_STEP = 0.02  # part of the span, at a tolerance of one
_TARGET = 0.5  # part of the tolerance at which steps aim
_KEPT = 64  # states between steps that are remembered
_PANEL = 12  # times of the polynomial through one step
_SHORTEST = 1e-14  # step, in units of the span
_NOISE = 1e-15  # rounding of v'' at close nodes, in units of v over the distance squared, as it comes through one step
_BARYCENTRIC = np.where(np.arange(_PANEL) % 2, -1.0, 1.0) * np.where(np.arange(_PANEL) % (_PANEL - 1), 1.0, 0.5)
_AVERAGED = np.polynomial.legendre.leggauss(8)


@dataclass
class Nodes:
    """Nodes of a solve: the faces of `grid`, on a ring without the last; coefficients of the equation there in y."""

    setting: BackwardSetting
    grid: Grid
    kinds: tuple[str, str]
    _fixed: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        ring = self.kinds[0] == RING
        self.x = self.grid.faces[:-1] if ring else self.grid.faces
        dx, dxx = self.grid.slopes(self.x)
        self.dx, self._dxx = dx, dxx
        h = self.grid.step
        unit = node_weights(self.x.size, self.kinds)
        self.weights = unit.first / h, unit.second / h**2
        slopes = self._end_slopes() / dx[[0, -1]]
        self.lift1, self.lift2 = slopes @ unit.lift1, slopes @ unit.lift2 / h
        self._averaging = self._cells_at_breaks()

    def _end_slopes(self) -> np.ndarray:
        """Slope of the terminal function at artificial ends, zero at reflecting ones."""
        ends, p, t1 = self.x[[0, -1]], self.setting.process, self.setting.t_span[1]
        slopes = np.zeros(2)
        for side in (0, 1):
            reflecting = p.boundary[side] == "reflecting" and ends[side] == p.support[side]
            if self.kinds[side] == SLOPE and not reflecting:
                slopes[side] = float(self.setting.terminal.dx(ends[side], t1))
        return slopes

    def _cells_at_breaks(self) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """Nodes next to a break, with points and weights of the mean over the half cells around them."""
        found = []
        low, high = self.grid.left, self.grid.right
        for place in self.setting.breaks:
            k = int(np.rint(float(self.grid.place(np.array(place))))) if low < place < high else -1
            for i in (k - 1, k, k + 1):
                if not 1 <= i <= self.x.size - 2:
                    continue
                a, b = (float(z) for z in self.grid.nodes(np.array([i - 0.5, i + 0.5])))
                cuts = np.array([a, *([place] if a < place < b else []), b])
                half = 0.5 * np.diff(cuts)[:, None]
                points = (0.5 * (cuts[1:] + cuts[:-1]))[:, None] + half * _AVERAGED[0]
                weights = half * _AVERAGED[1] / (b - a)
                found.append((i, points.ravel(), weights.ravel()))
        return found

    def averaged(self, fn: Callable[[np.ndarray, float], np.ndarray], t: float) -> np.ndarray:
        """Values at the nodes; next to breaks, means over cells."""
        values = np.array(fn(self.x, t))
        for i, points, weights in self._averaging:
            values[i] = weights @ fn(points, t)
        return values

    def _noise(self, t: float) -> tuple[np.ndarray, np.ndarray]:
        """f and g² at the nodes: where g jumps it is g² (v'' + 2 f/g² v') that does not, v'' and v' aside."""
        p = self.setting.process
        g2 = np.array(p.diffusion_squared(self.x, t))
        f = np.array(p.drift(self.x, t))
        for i, points, weights in self._averaging:
            parts = p.diffusion_squared(points, t)
            if parts.min() > 0.0:
                g2[i] = 1.0 / (weights @ (1.0 / parts))
                f[i] = g2[i] * (weights @ (p.drift(points, t) / parts))
        return f, g2

    def start(self) -> np.ndarray:
        """Terminal values."""
        v = self.averaged(self.setting.terminal, self.setting.t_span[1])
        for side in (0, 1):
            if self.kinds[side] == ABSORBING:
                v[-side] = self.setting.exit_values[side]
        return v

    def rates(self, t: float) -> np.ndarray:
        """a, b, k, s (4, n) at time t."""
        if self._fixed is not None:
            return self._fixed
        s = self.setting
        f, g2 = self._noise(t)
        b = 0.5 * g2 * self.dx**2
        a = f * self.dx + 0.5 * g2 * self._dxx
        source = self.averaged(s.source, t) + a * self.lift1 + b * self.lift2
        found = np.array([a, b, self.averaged(s.potential, t), source])
        for side in (0, 1):
            if self.kinds[side] == ABSORBING:
                found[:, -side] = 0.0
        if not s.moves:
            self._fixed = found
        return found

    def rates_along(self, t: float, length: float) -> np.ndarray:
        """Rates at the ends of all substeps of a step from t down (FRACTIONS, 4, n), or once if they do not move."""
        times = t - length * FRACTIONS if self.setting.moves else np.array([t])
        times[-1] = t - length if self.setting.moves else t
        t0, t1 = self.setting.t_span
        return np.array([self.rates(float(np.clip(u, t0, t1))) for u in times])

    def gradient(self, v: np.ndarray) -> np.ndarray:
        """∂x v at the nodes."""
        reach = self.weights[0].shape[1] // 2
        padded = np.pad(v, reach, mode="wrap" if self.kinds[0] == RING else "constant")
        along = sum(self.weights[0][:, m] * padded[m : m + v.size] for m in range(2 * reach + 1))
        if ABSORBING in self.kinds:
            along = self._slopes_at_exits(v, along)
        return (along + self.lift1) * self.dx

    def _slopes_at_exits(self, v: np.ndarray, along: np.ndarray) -> np.ndarray:
        """Slopes at absorbing ends, where the equation has none."""
        one_sided = node_weights(self.x.size, ("degenerate", "degenerate")).first[[0, -1]] / self.grid.step
        reach = one_sided.shape[1] // 2
        for side, window in ((0, slice(reach, None)), (1, slice(None, reach + 1))):
            if self.kinds[side] == ABSORBING:
                values = v[: reach + 1] if side == 0 else v[-reach - 1 :]
                along[-side] = one_sided[side][window] @ values
        return along


class BackwardMarch:
    """Values at nodes from t1 down to t0, with adaptive steps or, with `ends`, steps between these times (descending).

    Attributes
    ----------
    times : ndarray (S + 1,)
        Ends of the steps, t1 first.
    states : ndarray (S + 1, n)
        Values there.
    refused : int
        Steps that were repeated.
    """

    ORDER, EVALUATIONS = LANES, FRACTIONS.size

    def __init__(self, nodes: Nodes, tol: float, scale: float, ends: np.ndarray | None = None) -> None:
        self.nodes, self.tol, self.scale = nodes, tol, scale
        ring = nodes.kinds[0] == RING
        self._work = backward_workspace(nodes.x.size, ring)
        self._last: tuple[float, bool] = (0.0, False)
        self._between: OrderedDict[float, np.ndarray] = OrderedDict()
        self._panels: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.refused = 0
        self.times = np.array([nodes.setting.t_span[1]])
        self.states = nodes.start()[None]
        if ends is None:
            self._run()
        else:
            steps = [self.states[0]]
            for begin, end in pairwise(ends.tolist()):
                steps.append(self._step(steps[-1], begin, begin - end)[0])
            self.times, self.states = ends, np.array(steps)

    @property
    def node_steps(self) -> int:
        """Nodes times steps, those included that were repeated."""
        return self.nodes.x.size * (self.times.size - 1 + self.refused)

    def _step(self, v: np.ndarray, t: float, length: float) -> tuple[np.ndarray, float]:
        """Values one step further down, and the local error without rounding, in units of `scale` + |v|."""
        nodes = self.nodes
        rates = nodes.rates_along(t, length)
        if not np.isfinite(rates).all():
            raise CoefficientError("coefficients must be finite on the grid", f"an overflow near t={t:g}", "bound them")
        result, gap = np.empty_like(v), np.empty_like(v)
        again = self._last == (length, True)
        backward_step(v, length, rates, nodes.weights, again, self._work, result, gap)
        self._last = (length, True)
        error = float((np.abs(gap) / (self.scale + np.abs(result))).max()) if np.isfinite(result).all() else np.inf
        # what differences of close values lose comes back from a distance that noise goes in a step: no step is better
        noise = _NOISE * float(np.sqrt(length * rates[:, 1].max())) / nodes.grid.step
        return result, max(0.0, error - noise)

    def _run(self) -> None:
        t0, t1 = self.nodes.setting.t_span
        times, states, v, t = [t1], [self.states[0]], self.states[0], t1
        step = _FIRST_STEP * self.tol ** (1.0 / LANES) * (t1 - t0)
        for landing in (*self.nodes.setting.landings, t0):
            while t > landing:
                length, last = step, False
                if t - 1.0001 * step <= landing:
                    length, last = t - landing, True
                elif t - 2.0 * step < landing:
                    length = 0.5 * (t - landing)
                result, error = self._step(v, t, length)
                ratio = (_TARGET * self.tol / max(error, 1e-300)) ** (1.0 / LANES)
                if error > self.tol:
                    self.refused += 1
                    step = length * min(0.7, max(0.1, 0.9 * ratio))
                    if step < _SHORTEST * (t1 - t0):
                        x = float(self.nodes.x[int(np.abs(v).argmax())])
                        message = f"no step before t={t:g} is short enough for a local error of {self.tol:.0e}"
                        raise BlowUp(message, x=x, time=t)
                    continue
                t, v = (landing if last else t - length), result
                times.append(t)
                states.append(v)
                step = max(length, step if last else 0.0) * min(8.0, max(0.3, 0.9 * ratio))
        self.times, self.states = np.array(times), np.array(states)

    def values(self, t: float) -> np.ndarray:
        """Values (n,) at time t: at the end of a step as they are, else by one step from the last end above."""
        k = int(np.searchsorted(-self.times, -t))
        if k < self.times.size and self.times[k] == t:
            return self.states[k]
        if t not in self._between:
            if len(self._between) >= _KEPT:
                self._between.popitem(last=False)
            self._between[t] = self._step(self.states[k - 1], float(self.times[k - 1]), float(self.times[k - 1] - t))[0]
        return self._between[t]

    def smooth_values(self, t: float) -> np.ndarray:
        """Values (n,) at time t, from a polynomial in t through one step: for many times."""
        k = min(max(int(np.searchsorted(-self.times, -t)), 1), self.times.size - 1) - 1
        if k not in self._panels:
            a, b = float(self.times[k + 1]), float(self.times[k])
            times = 0.5 * (a + b) + 0.5 * (b - a) * np.cos(np.pi * np.arange(_PANEL) / (_PANEL - 1))
            inner = [self._step(self.states[k], b, b - float(u))[0] for u in times[1:-1]]
            self._panels[k] = times, np.array([self.states[k], *inner, self.states[k + 1]])
        times, states = self._panels[k]
        apart = t - times
        if not apart.all():
            return states[int(np.flatnonzero(apart == 0.0)[0])]
        weights = _BARYCENTRIC / apart
        return weights @ states / weights.sum()
