"""Equations in x and t by the method of lines in Y, apart from the grid engines; and coefficients with derivatives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.integrate import solve_ivp

from fpsolve.catalogue.fixtures import Fixture
from fpsolve.problem.estimate import Estimate

Array = np.ndarray
_REACH = 6.0  # of Y, where means and logarithms of them are parabolas
_CELLS = (240, 480)
POINTS = np.linspace(-2.0, 2.0, 11)  # of Y, nodes at all these cells
_FIRST = np.array([1.0, -8.0, 0.0, 8.0, -1.0]) / 12.0
_SECOND = np.array([-1.0, 16.0, -30.0, 16.0, -1.0]) / 12.0

# (t, u, u', u'') -> ∂t u
Rate = Callable[[float, Array, Array, Array], Array]


@dataclass(frozen=True)
class Coefficients:
    """f and g² of a fixture with derivatives in x, at some points; the third derivative of g² vanishes."""

    f: Array
    f_dx: Array
    f_dxx: Array
    g2: Array
    g2_dx: Array
    g2_dxx: Array

    @staticmethod
    def of(fixture: Fixture, x: Array, t: float) -> Coefficients:
        """Itô's formula for X = L sinh(Y/L), dY = a Y dt + b dW, written down."""
        (a, b2), bend = fixture.rates(t), 0.0 if fixture.length is None else fixture.length**-2
        r, y = np.sqrt(1.0 + bend * x**2), fixture.inverse(x)
        return Coefficients(
            a * y * r + 0.5 * bend * b2 * x,
            a * (1.0 + bend * x * y / r) + 0.5 * bend * b2,
            a * bend * (x / r**2 + y / r**3),
            b2 * r**2,
            2.0 * b2 * bend * x,
            2.0 * b2 * bend + 0.0 * x,
        )


def _differences(u: Array, d: float) -> tuple[Array, Array]:
    """First and second differences of order four; beyond the ends u goes on as a parabola."""
    parabola = np.array([[6.0, -8.0, 3.0], [3.0, -3.0, 1.0]])
    padded = np.concatenate([parabola @ u[:3], u, (parabola @ u[:-4:-1])[::-1]])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 5)
    return windows @ _FIRST / d, windows @ _SECOND / d**2


def _on_lines(
    fixture: Fixture, equation: Callable[[Array], Rate], start: Callable[[Array], Array], t: float, cells: int
) -> Array:
    """u at the points at time t."""
    y = np.linspace(-_REACH, _REACH, cells + 1)
    x, (scale, bend) = fixture.forward(y), fixture.stretch(y)
    rate, d = equation(x), y[1] - y[0]

    def moved(time: float, u: Array) -> Array:
        first, second = _differences(u, d)
        return rate(time, u, first / scale, (second - bend * first) / scale**2)

    found = solve_ivp(moved, (0.0, t), start(x), method="LSODA", rtol=1e-8, atol=1e-9, lband=2, uband=2, t_eval=[t])
    return np.asarray(found.y[np.searchsorted(y, POINTS - 1e-9), -1])


def on_lines(
    fixture: Fixture, equation: Callable[[Array], Rate], start: Callable[[Array], Array], t: float, route: str
) -> Estimate:
    """u(x, t) at the points, from u(x, 0) = start(x) and ∂t u = equation(x)(t, u, u', u''); cells halved once."""
    coarse, fine = (_on_lines(fixture, equation, start, t, cells) for cells in _CELLS)
    best = (16.0 * fine - coarse) / 15.0
    return Estimate(best, error=np.abs(best - fine) + 1e-7 * (1.0 + np.abs(best)), route=route)
