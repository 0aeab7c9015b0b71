"""Bridges to a point: log of the transition density to it, what is singular at the end split off in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from fpsolve.errors import CoefficientError, InputError, check_choice, check_number, check_points, check_time
from fpsolve.grids.backward.backward import FIRST_CELLS, declared, solved
from fpsolve.grids.backward.domain import Domain, choose_domain
from fpsolve.grids.backward.nodes import OPEN
from fpsolve.problem.coefficient import Coefficient
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.grid import Grid
from fpsolve.problem.process import SDE, Process
from fpsolve.theory.control import NAMES, ControlSolution

_BEFORE = 1e-5  # of the span: from here to the end what is not singular is straight in time
_INSIDE = 1e-3  # distance from a finite end that is kept, in units of the distance of the point from it
_WIDER = 1.0  # part of the domain by which integrals are known further out
_CELLS, _MOST_CELLS, _DEGREE = 32, 2048, 16
_SETTLED = 1e-13  # last coefficients of a polynomial, in units of the largest values
_GAUSS, _GAUSS_WEIGHTS = np.polynomial.legendre.leggauss(_DEGREE)
_SEPARABLE = 1e-10
_LAST_DIGITS = 1e-15
_REMEMBERED = 8
_LOOKS = 65


class Running:
    """Integrals from `origin` of functions of one variable, by polynomials on cells; straight beyond the grid."""

    def __init__(self, grid: Grid, fn: Callable[[np.ndarray], np.ndarray], origin: float) -> None:
        legendre, cells = np.polynomial.legendre, _CELLS
        to_coefficients = np.linalg.inv(legendre.legvander(_GAUSS, _DEGREE - 1))
        raised = np.array([np.pad(row, (0, _DEGREE + 1 - row.size)) for row in map(_integral, np.eye(_DEGREE))])
        while True:
            self.grid = replace(grid, cells=cells)
            places = np.arange(cells)[:, None] + 0.5 * (1.0 + _GAUSS)
            x = self.grid.nodes(places.ravel())
            values = fn(x) * (0.5 * self.grid.step / self.grid.slopes(x)[0])
            found = values.reshape(-1, cells, _DEGREE) @ to_coefficients.T
            left = np.abs(found[:, :, -2:]).max(axis=(1, 2)) / np.abs(found).max(axis=(1, 2)).clip(1e-300)
            if left.max() < _SETTLED:
                break
            if cells == _MOST_CELLS:
                rule = "drift and noise must be smooth for a bridge to a point"
                raise CoefficientError(rule, "a jump, a kink or a pole", "weight by a narrow law: fps.Normal(x, std)")
            cells *= 4
        self._parts = found @ raised
        whole = self._parts.sum(axis=2)
        self._parts[:, 1:, 0] += np.cumsum(whole, axis=1)[:, :-1]
        self._slopes = fn(np.array([self.grid.left, self.grid.right]))
        self._parts[:, :, 0] -= self(np.array([origin]))[:, 0][:, None]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Integrals (functions, n) at points (n,)."""
        inside = np.clip(x, self.grid.left, self.grid.right)
        place = self.grid.place(inside)
        cell = np.clip(place.astype(int), 0, self.grid.cells - 1)
        powers = np.polynomial.legendre.legvander(2.0 * (place - cell) - 1.0, _DEGREE)
        found = (self._parts[:, cell] * powers).sum(axis=2)
        out = x - inside
        return found + np.where(out < 0.0, self._slopes[:, :1], self._slopes[:, 1:]) * out


def _integral(row: np.ndarray) -> np.ndarray:
    return np.polynomial.legendre.legint(row, lbnd=-1)


@dataclass(frozen=True)
class _Still:
    """d, B, and at t1 f, γ, γ', β and β', at some points."""

    d: np.ndarray
    b: np.ndarray
    f: np.ndarray
    g: np.ndarray
    dg: np.ndarray
    beta: np.ndarray
    dbeta: np.ndarray


class PointBridge:
    """V = -log p(z, t1 | x, t) and its gradient; the process is dX = f dt + g dW, g = c(t) γ(x), c(t1) = 1.

    V = d²/2s + ½ log 2πs + log γ(z) + B + U, with s = ∫ c² from t to t1, d = ∫ 1/γ from z to x, B = ∫ β/γ,
    β = f/γ - ½ γ' at t1. Then U, zero at t1, is smooth:

    -∂t U = (f - g² (d/γs + β/γ)) U' + ½ g² U'' - ½ g² U'² + k,  k = f β/γ + ½ c² (γ β' - β γ' - β²) + (b - c² β) d/s,

    b = f/γ - ½ c² γ'. It is the cost of straying from a Brownian bridge in the coordinate d.
    """

    def __init__(self, process: Process, z: float, t_span: tuple[float, float], grid: Grid | None, rtol: float) -> None:
        self.process, self.z, self.t_span = process, z, t_span
        _check(process, z, t_span)
        t0, t1 = t_span
        self._last = t1 - _BEFORE * (t1 - t0)
        about = replace(declared(process, 0.0, None, None, t_span, bends=True), about=(z,))
        domain = choose_domain(about, grid, FIRST_CELLS)
        self._domain, self._limits, integrated = self._placed(domain)
        self._integrals = Running(integrated, self._slopes, z)
        self._recent: list[tuple[np.ndarray, _Still]] = []
        guide = SDE(self._clipped(self._drift), self._clipped(process.diffusion))
        functions = [Coefficient("cost", self._clipped(fn), {}, guide.support) for fn in (self._first, self._straying)]
        setting = replace(
            about, process=guide, terminal=functions[0], source=functions[1], t_span=(t0, self._last), about=()
        )
        goal = check_number("rtol", rtol, above=0.0, below=1.0)
        times = np.linspace(t0, self._last, 9)[:-1]
        self._regular = ControlSolution(guide, solved(setting, self._domain, times, goal, grid, False), False)
        self.region = self._regular.region

    @property
    def message(self) -> str:
        """What was reached."""
        return f"bridge to {self.z:g}, -log h without its singular part: {self._regular.solution.message}"

    def _placed(self, domain: Domain) -> tuple[Domain, tuple[float, float], Grid]:
        """Domain with both ends inside the support and open, the limits, and a wider grid for integrals."""
        low, high = self.process.support
        inner = low + _INSIDE * (self.z - low), high - _INSIDE * (high - self.z)
        inner = inner[0] if math.isfinite(low) else -np.inf, inner[1] if math.isfinite(high) else np.inf
        left, right = max(domain.grid.left, inner[0]), min(domain.grid.right, inner[1])
        region = max(domain.region[0], inner[0]), min(domain.region[1], inner[1])
        away = _WIDER * (right - left)
        limits = max(left - away, inner[0]), min(right + away, inner[1])
        walls = [end if math.isfinite(end) else None for end in (low, high)]
        graded = domain.grid.is_uniform and any(math.isfinite(end) for end in (low, high))
        grid = (
            Grid(left, right, domain.grid.cells, None, None, *walls)
            if graded
            else replace(domain.grid, left=left, right=right)
        )
        return (
            replace(domain, grid=grid, kinds=(OPEN, OPEN), region=region, furthest=limits),
            limits,
            Grid(*limits, _CELLS, None, None, *walls),
        )

    def _clipped(self, fn: Callable[[np.ndarray, float], np.ndarray]) -> Callable[[np.ndarray, float], np.ndarray]:
        """A function where it is known: within the limits, and before the end."""

        def clipped(x: np.ndarray, t: float) -> np.ndarray:
            return fn(np.clip(x, *self._limits), min(max(t, self.t_span[0]), self._last))

        clipped.probe_times = (self._last, self.t_span[0])  # type: ignore[attr-defined]
        return clipped

    @cached_property
    def _clock(self) -> Running | None:
        """∫ c² from t1, if noise moves."""
        if not self.process.diffusion_coefficient.uses_t:
            return None
        return Running(
            Grid(*self.t_span, _CELLS), lambda t: np.array([[self._level(float(u)) ** 2 for u in t]]), self.t_span[1]
        )

    def _level(self, t: float) -> float:
        """c(t)."""
        if not self.process.diffusion_coefficient.uses_t:
            return 1.0
        at = np.array([self.z])
        return float(self.process.diffusion(at, t)[0] / self.process.diffusion(at, self.t_span[1])[0])

    def left(self, t: float) -> float:
        """s: the time to the end in the clock of the noise."""
        if self._clock is None:
            return self.t_span[1] - t
        return -float(self._clock(np.array([t]))[0, 0])

    def _slopes(self, x: np.ndarray) -> np.ndarray:
        """d' and B'."""
        g = self.process.diffusion(x, self.t_span[1])
        dg = 0.5 * self.process.diffusion_squared_dx(x, self.t_span[1]) / g
        return np.array([1.0 / g, (self.process.drift(x, self.t_span[1]) / g - 0.5 * dg) / g])

    def _still(self, x: np.ndarray) -> _Still:
        """What does not move at points; remembered for the nodes of a few solves."""
        for known, found in self._recent:
            if np.array_equal(known, x):
                return found
        p, t1, (d, b) = self.process, self.t_span[1], self._integrals(x)
        f, g = p.drift(x, t1), p.diffusion(x, t1)
        dg = 0.5 * p.diffusion_squared_dx(x, t1) / g
        ddg = (0.5 * p.diffusion_coefficient.square_dx(x, t1, 2) - dg**2) / g
        dbeta = p.drift_dx(x, t1) / g - f * dg / g**2 - 0.5 * ddg
        found = _Still(d, b, f, g, dg, f / g - 0.5 * dg, dbeta)
        self._recent = [(x.copy(), found), *self._recent[: _REMEMBERED - 1]]
        return found

    def _flow(self, x: np.ndarray, t: float) -> np.ndarray:
        """f."""
        return self.process.drift(x, t) if self.process.drift_coefficient.uses_t else self._still(x).f

    def _drift(self, x: np.ndarray, t: float) -> np.ndarray:
        """Drift with which the equation for U carries it."""
        at = self._still(x)
        return self._flow(x, t) - self._level(t) ** 2 * at.g * (at.d / self.left(t) + at.beta)

    def _straying(self, x: np.ndarray, t: float) -> np.ndarray:
        """The source k of U."""
        c2, f, at = self._level(t) ** 2, self._flow(x, t), self._still(x)
        still = f * at.beta / at.g + 0.5 * c2 * (at.g * at.dbeta - at.beta * at.dg - at.beta**2)
        return still + (f / at.g - 0.5 * c2 * at.dg - c2 * at.beta) * at.d / self.left(t)

    def _first(self, x: np.ndarray, t: float) -> np.ndarray:
        """U a little before the end: the mean of k on the way, straight in the coordinate d, times the time left."""
        nodes, weights = np.polynomial.legendre.leggauss(5)
        whole, out = self._integrals(x)[0], np.zeros(x.shape)
        dense = self._integrals.grid.faces
        known = self._integrals(dense)[0]
        for u, w in zip(0.5 * (1.0 + nodes), 0.5 * weights, strict=True):
            at = np.interp(u * whole, known, dense)
            for _ in range(4):
                at = at - (self._integrals(at)[0] - u * whole) * self.process.diffusion(at, self.t_span[1])
                at = np.clip(at, *self._limits)
            out += w * self._straying(at, self._last)
        return out * (self.t_span[1] - self._last)

    def _now(self, t: Any) -> tuple[float, float, float]:
        """t, the time of the solve that stands for it, and the share of U that is left then: it is straight at last."""
        t = check_time(t, self.t_span)
        if t == self.t_span[1]:
            raise InputError("a bridge to a point is known before its end", t, "ask for an earlier time")
        return t, min(t, self._last), min(1.0, self.left(t) / self.left(self._last))

    def _singular(self, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        """V - U and its gradient."""
        at, s = self._still(x), self.left(t)
        log_noise = math.log(float(self._still(np.array([self.z])).g[0]))
        value = at.d**2 / (2.0 * s) + 0.5 * math.log(2.0 * math.pi * s) + log_noise + at.b
        return value, (at.d / s + at.beta) / at.g

    def __call__(self, x: Any, t: float) -> np.ndarray:
        """V(x, t), shape of x; NaN where it is not known."""
        points, (t, solved_at, share) = check_points("x", x), self._now(t)
        value, _ = self._singular(points.ravel(), t)
        return value.reshape(points.shape) + share * self._regular(points, solved_at)

    def gradient(self, x: Any, t: float) -> np.ndarray:
        """∂x V(x, t), shape of x; NaN where it is not known."""
        points, (t, solved_at, share) = check_points("x", x), self._now(t)
        _, slope = self._singular(points.ravel(), t)
        return slope.reshape(points.shape) + share * self._regular.gradient(points, solved_at)

    def control(self, x: Any, t: float) -> np.ndarray:
        """-g ∂x V: where the gradient of U is not known that goes on straight, or next to a finite end ∂x V stays."""
        points, (t, solved_at, share) = check_points("x", x), self._now(t)
        known = [e if math.isfinite(s) else s for e, s in zip(self._regular.known, self.process.support, strict=True)]
        inner = np.clip(points, known[0], known[1])
        slope = self._singular(inner.ravel(), t)[1].reshape(points.shape)
        regular = self._regular.control(inner, solved_at) / self._regular.process.diffusion(inner, solved_at)
        return self.process.diffusion(points, t) * (share * regular - slope)

    def with_error(self, name: str, x: Any, t: float) -> Estimate:
        """Return "value", "gradient" or "control" at points with an estimated error."""
        check_choice("a field", name, NAMES)
        points, (t, solved_at, share) = check_points("x", x), self._now(t)
        regular = self._regular.with_error("value" if name == "value" else "gradient", points, solved_at)
        singular = self._singular(points.ravel(), t)[0 if name == "value" else 1].reshape(points.shape)
        # the start of the solve leaves out what is quadratic in the time left: it is seen one such time further on
        value, error = singular + share * regular.value, share * regular.error + self._missed(name, points)
        error = error + 1e-13 * np.abs(singular) + self._rounding(name, points, t)
        if name == "control":
            g = self.process.diffusion(points, t)
            value, error = -g * value, g * error
        return Estimate(value, error=error, route="bridge")

    def _rounding(self, name: str, x: np.ndarray, t: float) -> np.ndarray:
        """What the last digit of d does."""
        d, reach = self._integrals(x.ravel())[0].reshape(x.shape), self._integrals(np.array(self._limits))[0]
        each = _LAST_DIGITS * float(np.abs(reach).max()) / self.left(t)
        return each * np.abs(d) if name == "value" else each / self.process.diffusion(x, self.t_span[1])

    def _missed(self, name: str, x: np.ndarray) -> np.ndarray:
        """What is not straight in U over twice the time that the solve leaves out, at its largest between z and x."""
        earlier = 2.0 * self._last - self.t_span[1]
        share = self.left(earlier) / self.left(self._last)
        field = self._regular if name == "value" else self._regular.gradient
        out = np.linspace(0.0, 1.0, _LOOKS)
        missed = np.zeros(x.shape)
        for end, side in ((self.region[0], x < self.z), (self.region[1], x >= self.z)):
            places = self.z + (end - self.z) * out
            apart = field(places, earlier) - share * field(places, self._last)
            size = 2.0 * np.maximum.accumulate(np.abs(apart))
            part = np.clip(np.ceil((x - self.z) / (end - self.z) * (_LOOKS - 1)), 0, _LOOKS - 1).astype(int)
            missed = np.where(side, size[part], missed)
        return missed


def _check(process: Process, z: float, t_span: tuple[float, float]) -> None:
    """Refuse what there is no bridge to a point for."""
    narrow = f"weight by a narrow law: fps.Normal({z:g}, std)"
    if process.boundary != ("natural", "natural"):
        raise InputError("a bridge to a point needs ends that are not reached", process.boundary, narrow)
    if not process.support[0] < z < process.support[1]:
        raise InputError(f"a bridge ends inside the support {process.support}", z, "give a point inside")
    if process.is_ode:
        raise InputError("a bridge needs noise", "a process without noise", "give an SDE")
    if process.diffusion_coefficient.uses_t and process.diffusion_coefficient.uses_x:
        places = np.clip(
            z + np.array([-1.0, -0.3, 0.4, 1.1]), 0.5 * (z + process.support[0]), 0.5 * (z + process.support[1])
        )
        at = [process.diffusion(np.append(places, z), float(t)) for t in np.linspace(*t_span, 7)]
        shapes = np.array([g / g[-1] for g in at])
        if np.ptp(shapes, axis=0).max() > _SEPARABLE * np.abs(shapes).max():
            rule = "a bridge to a point needs noise that is a function of t times one of x"
            raise InputError(rule, "noise whose shape changes in time", narrow)
