"""V marched down from t1 by its own nonlinear equation: collocation at Radau's points in each step, Newton's method.

The values at five points of a step (the last one its end) solve the equation there exactly: order 9 at the end,
L-stable. Newton's matrix stays that of the start of the step; with the eigenvalues of the collocation it falls apart
into one real and two complex banded systems (Hairer and Wanner 1996, section IV.8). Nothing of this is used by the
linear equation, whose values these are to be compared with.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from scipy.linalg.lapack import dgbtrf, dgbtrs, zgbtrf, zgbtrs

from fpsolve.errors import BlowUp, CoefficientError
from fpsolve.grids.backward.value_nodes import REACH, ValueNodes

_STAGES = 5
_FIRST_STEP = 0.02  # part of the span, at a tolerance of one
_LOOSER = 50.0  # the polynomial of a step may miss by so many tolerances: its end is far closer
_NEWTON, _CLOSE = 15, 1e-4  # iterations, and what they may leave of the tolerance
_ROUNDED = 1e-14
_SHORTEST = 1e-14  # step, in units of the span
_KEPT = 64


def _radau() -> tuple[np.ndarray, np.ndarray]:
    """Points of (0, 1] and the inverse of the matrix of integrals from 0 to each."""
    legendre = np.polynomial.legendre
    shape = np.zeros(_STAGES + 1)
    shape[-2:] = -1.0, 1.0
    x = np.sort(legendre.legroots(shape).real)
    x[-1] = 1.0
    integrals = [legendre.legval(x, legendre.legint(row, lbnd=-1)) for row in np.eye(_STAGES)]
    a = 0.5 * np.array(integrals).T @ np.linalg.inv(legendre.legvander(x, _STAGES - 1))
    return 0.5 * (1.0 + x), np.linalg.inv(a)


def _lagrange(known: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Weights (m, k) of values at known points in their polynomial at points (m,)."""
    weights = np.ones((at.size, known.size))
    for k in range(known.size):
        for j in range(known.size):
            if j != k:
                weights[:, k] *= (at - known[j]) / (known[k] - known[j])
    return weights


_POINTS, _INVERSE = _radau()
_WITH_START = np.append(0.0, _POINTS)
_LAMBDA, _VECTORS = np.linalg.eig(_INVERSE)
_UPPER = np.flatnonzero(_LAMBDA.imag > -1e-12)  # one of each pair
_TO_MODES = np.linalg.inv(_VECTORS)[_UPPER]
_FROM_MODES = np.where(_LAMBDA[_UPPER].imag > 1e-12, 2.0, 1.0) * _VECTORS[:, _UPPER]
_LAST_FROM_OTHERS = _lagrange(_WITH_START[:-1], np.ones(1))[0]


class _Banded:
    """Systems (λ - J) d = r on nodes in a row, or in a ring, where nodes from both ends alternate."""

    def __init__(self, nodes: ValueNodes) -> None:
        n = nodes.x.size
        self.reach = 2 * REACH if nodes.ring else REACH
        k = np.arange(n)
        self.place = np.where(k < (n + 1) // 2, 2 * k, 2 * (n - 1 - k) + 1) if nodes.ring else k
        rows, columns = np.repeat(self.place, 2 * REACH + 1), self.place[nodes.columns.ravel()]
        self.shape = 3 * self.reach + 1, n
        at = (2 * self.reach + rows - columns) * n + columns
        self.kept = nodes.weights.any(axis=0).ravel()
        self.at, self.diagonal = at[self.kept], 2 * self.reach

    def factorise(self, jacobian: np.ndarray, eigenvalue: complex) -> tuple:
        """Factors of λ - J for J (n, 9) in the windows of the nodes."""
        real = abs(eigenvalue.imag) < 1e-12 * abs(eigenvalue)
        matrix = np.zeros(self.shape, float if real else complex)
        matrix.ravel()[self.at] = -jacobian.ravel()[self.kept]
        matrix[self.diagonal] += eigenvalue.real if real else eigenvalue
        factors, pivots, _ = (dgbtrf if real else zgbtrf)(matrix, self.reach, self.reach)
        return (dgbtrs if real else zgbtrs), factors, pivots

    def solve(self, factors: tuple, right: np.ndarray) -> np.ndarray:
        """One solution."""
        solver, matrix, pivots = factors
        ordered = np.empty_like(right)
        ordered[self.place] = right
        return solver(matrix, self.reach, self.reach, ordered if solver is zgbtrs else ordered.real, pivots)[0][
            self.place
        ]


class ValueMarch:
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

    ORDER, EVALUATIONS = 2 * _STAGES - 1, _STAGES + 1

    def __init__(self, nodes: ValueNodes, tol: float, scale: float, ends: np.ndarray | None = None) -> None:
        self.nodes, self.tol, self.scale = nodes, tol, scale
        self._banded = _Banded(nodes)
        self._fixed = None if nodes.setting.moves else nodes.coefficients(nodes.setting.t_span[1])
        self._between: OrderedDict[float, np.ndarray] = OrderedDict()
        self._stages: dict[float, np.ndarray] = {}
        self.refused = 0
        self._run(ends)

    @property
    def node_steps(self) -> int:
        """Nodes times steps, those included that were repeated."""
        return self.nodes.x.size * (self.times.size - 1 + self.refused)

    def _coefficients(self, t: float) -> np.ndarray:
        if self._fixed is not None:
            return self._fixed
        t0, t1 = self.nodes.setting.t_span
        return self.nodes.coefficients(min(max(t, t0), t1))

    def _step(self, v: np.ndarray, t: float, length: float) -> np.ndarray | None:
        """Values (5, n) at the points of a step down from t; None if Newton's method does not get there."""
        nodes = self.nodes
        at = np.array([self._coefficients(t - length * c) for c in (0.0, *_POINTS)])
        if not np.isfinite(at).all():
            raise CoefficientError("coefficients must be finite on the grid", f"an overflow near t={t:g}", "bound them")
        f, a, running = at[0]
        along = f - 2.0 * a * (nodes.first @ v)
        jacobian = along[:, None] * nodes.weights[0] + a[:, None] * nodes.weights[1]
        factors = [self._banded.factorise(jacobian, complex(_LAMBDA[k]) / length) for k in _UPPER]
        f, a, running = at[1:, 0], at[1:, 1], at[1:, 2]
        change, before = np.zeros((_STAGES, v.size)), np.inf
        for _ in range(_NEWTON):
            values = v + change
            slope, curve = (nodes.first @ values.T).T, (nodes.second @ values.T).T
            with np.errstate(over="ignore", invalid="ignore"):  # such a step is refused
                force = f * slope + a * (curve - slope**2) + running
                modes = _TO_MODES @ (force - _INVERSE @ change / length)
                solved = np.array([self._banded.solve(*pair) for pair in zip(factors, modes, strict=True)])
                more = (_FROM_MODES @ solved).real
                change += more
                left = float(np.abs(more / (self.scale + np.abs(values))).max())
            if not left < 2.0 * before:
                break
            if left < max(_CLOSE * self.tol, _ROUNDED) or (left > 0.5 * before and left < self.tol):
                return v + change
            before = left
        return None

    def _error(self, v: np.ndarray, stages: np.ndarray) -> float:
        """How far the end of a step is from the polynomial through the points before it, in units of the tolerance."""
        expected = _LAST_FROM_OTHERS[0] * v + _LAST_FROM_OTHERS[1:] @ stages[:-1]
        return float(np.abs((stages[-1] - expected) / (self.scale + np.abs(v))).max()) / (_LOOSER * self.tol)

    def _run(self, ends: np.ndarray | None) -> None:
        setting = self.nodes.setting
        t0, t = setting.t_span
        landings = [*setting.landings, t0] if ends is None else ends[1:].tolist()
        times, states, v = [t], [self.nodes.start()], self.nodes.start()
        step = _FIRST_STEP * self.tol ** (1.0 / _STAGES) * (t - t0) if ends is None else np.inf
        for landing in landings:
            while t > landing:
                last = t - 1.0001 * step <= landing
                length = t - landing if last else min(step, 0.5 * (t - landing)) if t - 2 * step < landing else step
                stages = self._step(v, t, length)
                error = np.inf if stages is None else self._error(v, stages)
                if stages is None or (ends is None and not error <= 1.0):
                    self.refused += 1
                    step = length * (0.3 if stages is None else max(0.1, 0.8 * error ** (-1.0 / _STAGES)))
                    self._check_length(step, t, v)
                    continue
                self._stages[t] = stages
                t, v = (landing if last else t - length), stages[-1]
                times.append(t)
                states.append(v)
                if ends is None:
                    grown = min(8.0, max(0.5, 0.8 * max(error, 1e-30) ** (-1.0 / _STAGES)))
                    step = max(length, step if last else 0.0) * grown
                else:
                    step = np.inf
        self.times, self.states = np.array(times), np.array(states)

    def _check_length(self, step: float, t: float, v: np.ndarray) -> None:
        t0, t1 = self.nodes.setting.t_span
        if step < _SHORTEST * (t1 - t0):
            x = float(self.nodes.x[int(np.abs(v).argmax())])
            message = f"no step before t={t:g} is short enough for V itself to a tolerance of {self.tol:.0e}"
            raise BlowUp(f"{message}; where V is as steep as that, use solve_hopf_cole()", x=x, time=t)

    def values(self, t: float) -> np.ndarray:
        """Values (n,) at time t: at the end of a step as they are, else by one step from the last end above."""
        k = int(np.searchsorted(-self.times, -t))
        if k < self.times.size and self.times[k] == t:
            return self.states[k]
        if t not in self._between:
            if len(self._between) >= _KEPT:
                self._between.popitem(last=False)
            above = float(self.times[k - 1])
            stages = self._step(self.states[k - 1], above, above - t)
            self._between[t] = self.smooth_values(t) if stages is None else stages[-1]
        return self._between[t]

    def smooth_values(self, t: float) -> np.ndarray:
        """Values (n,) at time t, from the polynomial in t of one step: for many times."""
        k = min(max(int(np.searchsorted(-self.times, -t)), 1), self.times.size - 1) - 1
        begin, end = float(self.times[k]), float(self.times[k + 1])
        weights = _lagrange(_WITH_START, np.array([(begin - t) / (begin - end)]))[0]
        return weights[0] * self.states[k] + weights[1:] @ self._stages[begin]
