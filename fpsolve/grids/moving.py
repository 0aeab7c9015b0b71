"""Moving walls: the problem in a frame in which they stand still, x = shift(t) + scale(t) ξ.

dΞ = (f - shift' - scale' Ξ)/scale dt + g/scale dW,    q(x, t) = q_Ξ(ξ, t)/scale
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from fpsolve.errors import check_points
from fpsolve.grids.budgets import Budgets, ErrorBudget
from fpsolve.grids.solution import GridEvolution
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.law import Law
from fpsolve.problem.maps import Affine, Pushforward
from fpsolve.problem.mixtures import Empirical
from fpsolve.problem.process import SDE, Process

_KEPT = 4096  # times


class Frame:
    """The frame of a process with a moving wall: ξ lies in (0, ∞), (-∞, 0) or, between two walls, in (0, 1)."""

    def __init__(self, process: Process) -> None:
        self.process = process
        # both coefficients ask for the same time, and differences of a wall are dear
        self.at = lru_cache(maxsize=_KEPT)(self._at)
        self.speeds = lru_cache(maxsize=_KEPT)(self._speeds)

    def _at(self, t: float) -> Affine:
        """Map from ξ to x."""
        left, right = self.process.support_at(t)
        if np.isfinite(left) and np.isfinite(right):
            return Affine(left, right - left)
        return Affine(left if np.isfinite(left) else right, 1.0)

    def _speeds(self, t: float) -> tuple[float, float]:
        """d shift/dt and d scale/dt."""
        ends, (left, right) = self.process.support_at(t), (self.process.wall_speed(side, t) for side in (0, 1))
        if np.isfinite(ends).all():
            return left, right - left
        return (left if np.isfinite(ends[0]) else right), 0.0

    def seen(self, law: Law, t: float) -> Law:
        """Law of ξ at time t."""
        inverse = self.at(t).inverted()
        return Empirical(inverse.forward(law.samples)) if isinstance(law, Empirical) else Pushforward(law, inverse)

    def resting(self) -> SDE:
        """The process of ξ."""
        p = self.process

        def drift(x: np.ndarray, t: float) -> np.ndarray:
            frame, (shift, scale) = self.at(t), self.speeds(t)
            return (p.drift_coefficient.raw(frame.forward(x), t) - shift - scale * x) / frame.scale

        def diffusion(x: np.ndarray, t: float) -> np.ndarray:
            frame = self.at(t)
            return p.diffusion_coefficient.raw(frame.forward(x), t) / frame.scale

        for coefficient in (drift, diffusion):
            coefficient.probe_times = (p.probe_time,)  # type: ignore[attr-defined]
        frame = self.at(p.probe_time)
        ends = tuple(float(frame.inverse(end)) for end in p.support_at(p.probe_time))
        return SDE(drift, diffusion, support=(ends[0], ends[1]), boundary=p.boundary)


class MovingEvolution(Evolution):
    """A grid solution in the frame of its moving walls, seen from outside."""

    initial: Law

    def __init__(self, process: Process, frame: Frame, initial: Law, inner: GridEvolution) -> None:
        self.process, self.initial, self.t_span = process, initial, inner.t_span
        self.frame, self.inner = frame, inner
        self.message = f"in the frame of the moving walls: {inner.message}"
        self.error: Mapping[str, ErrorBudget] = _SeenFromOutside(inner.error, frame)

    @property
    def stats(self) -> dict[str, Any]:
        """Counters of the work."""
        return self.inner.stats

    def at(self, t: float) -> Law:
        """Return the law at time `t`."""
        time = self.check_t(t)
        return self.initial if time == self.t_span[0] else Pushforward(self.inner.at(time), self.frame.at(time))

    def with_error(self, name: str, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (values, estimated errors) of "pdf", "logpdf", "score", "cdf" or "velocity" at points `x`."""
        time = self.check_t(t)
        frame = self.frame.at(time)
        xi = frame.inverse(check_points("x", x))
        value, error = self.inner.with_error(name, xi, time)
        if name in ("pdf", "score"):
            return value / frame.scale, error / frame.scale
        if name == "logpdf":
            return value - np.log(frame.scale), error
        if name == "velocity":
            shift, scale = self.frame.speeds(time)
            return frame.scale * value + shift + scale * xi, frame.scale * error
        return value, error

    def flux_with_error(self, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the flux q v and its estimated error."""
        (v, v_error), (q, q_error) = (self.with_error(name, x, t) for name in ("velocity", "pdf"))
        return q * v, q * v_error + np.abs(v) * q_error

    def velocity(self, x: Any, t: float) -> np.ndarray:
        """Velocity -∂t F/q."""
        return self.with_error("velocity", x, t)[0]

    def expect(self, fn: Callable[[np.ndarray], np.ndarray], t: float) -> float:
        """E φ(X_t); what was absorbed counts at the present place of its wall."""
        return self.inner.expect(lambda xi: fn(self.frame.at(t).forward(xi)), t)

    def mean(self, t: float) -> float:
        """E X_t."""
        return self.expect(lambda x: x, t)

    def var(self, t: float) -> float:
        """Variance of X_t."""
        centre = self.mean(t)
        return self.expect(lambda x: (x - centre) ** 2, t)

    def entropy(self, t: float) -> float:
        """Differential entropy in nats."""
        return self.inner.entropy(t) + self.inner.mass(t) * float(np.log(self.frame.at(t).scale))

    def fisher(self, t: float) -> float:
        """Fisher information E s²."""
        return self.inner.fisher(t) / self.frame.at(t).scale ** 2

    def mass(self, t: float) -> float:
        """Mass inside."""
        return self.inner.mass(t)

    def absorbed(self, t: float) -> tuple[float, float]:
        """Mass that has left through the left and the right end: what is missing inside.

        `stats["mass"]` has the integrals of the fluxes, found apart from it, at the end of the span.
        """
        return self.inner.absorbed(t)


class _SeenFromOutside(Mapping[str, ErrorBudget]):
    """Error budgets in units of x."""

    _POWERS = {"score": -1, "score_sup": -1, "velocity": 1, "velocity_sup": 1}  # noqa: RUF012

    def __init__(self, budgets: Mapping[str, ErrorBudget], frame: Frame) -> None:
        self._budgets, self._frame = budgets, frame

    def __getitem__(self, name: str) -> ErrorBudget:
        found = self._budgets[name]
        scale = np.array([self._frame.at(float(t)).scale for t in found.times]) ** self._POWERS.get(name, 0)
        return found.scaled(scale)

    def __iter__(self) -> Any:
        return iter(Budgets.NORMS)

    def __len__(self) -> int:
        return len(Budgets.NORMS)
