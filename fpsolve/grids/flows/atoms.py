"""Atoms carried by a flow."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpsolve.errors import BlowUp
from fpsolve.grids.flows.trajectories import Bundle, Stepper
from fpsolve.grids.flows.velocity import Velocity
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.mixtures import Empirical, PointMass
from fpsolve.problem.process import Process

_STEPS = 5000
_SHARE = 0.125


class AtomEvolution(Evolution):
    """Path of a law made of atoms: `at(t)` is a PointMass or an Empirical, and there is no density.

    Attributes
    ----------
    error : dict of float
        "x": estimated error of the positions at the end of the span.
    """

    def __init__(self, process: Process, initial: Empirical, t_span: tuple[float, float], rtol: float) -> None:
        self.process, self.initial, self.t_span = process, initial, t_span
        self._velocity = Velocity(process)
        self._x0, self._which = np.unique(initial.samples, return_inverse=True)
        spread = float(np.ptp(self._x0))
        self._scale = spread if spread > 0.0 else max(1.0, float(np.abs(self._x0).max()))
        self._stepper = Stepper(self._velocity, self._scale, float(np.median(self._x0)))
        self._whole, self._halved = self._carried(0.01 * rtol)
        self.error = {"x": float(np.abs(self._whole[-1].x - self._halved[-1].x).max()) * _SHARE}
        self.message = (
            f"characteristics (atoms move along the flow): {self._x0.size} atoms, {len(self._whole) - 1} steps and "
            f"their halves: estimated error of positions {self.error['x']:.1e}"
        )

    @property
    def stats(self) -> dict[str, Any]:
        """Counters of the work."""
        steps = len(self._whole) - 1
        return {"scheme": "characteristics", "steps": steps, "point_steps": self._stepper.point_steps}

    def _carried(self, tol: float) -> tuple[list[Bundle], list[Bundle]]:
        t0, t1 = self.t_span
        whole = [self._stepper.start(self._x0, t0)]
        halved = whole[:]
        tau = 1e-3 * (t1 - t0)
        while whole[-1].t < t1:
            old = whole[-1]
            end = t1 if old.t + 1.01 * tau >= t1 else old.t + tau
            new, error = self._stepper.step(old, end)
            with np.errstate(all="ignore"):
                size = float((np.abs(error[0]) / (tol * (self._scale + np.abs(new.x)))).max())
            if not (np.isfinite(size) and np.isfinite(new.x).all()):
                size = 1e300
            if size <= 1.0:
                whole.append(new)
                halved.append(self._halves(halved[-1], end))
            elif end - old.t < 1e-13 * max(abs(old.t), t1 - t0) or len(whole) == _STEPS:
                at = int(np.argmax(np.abs(old.x)))
                raise BlowUp(
                    f"the atom from x={self._x0[at]:.6g} reached {old.x[at]:.3g} at t={old.t:.6g}, where steps below "
                    f"the resolution of t would be needed. Fix: end t_span earlier.",
                    x=float(self._x0[at]),
                    time=old.t,
                )
            tau = (end - old.t) * min(4.0, max(0.2, 0.9 * max(size, 1e-12) ** -0.125))
        return whole, halved

    def _halves(self, bundle: Bundle, t: float) -> Bundle:
        return self._stepper.step(self._stepper.step(bundle, 0.5 * (bundle.t + t))[0], t)[0]

    def at(self, t: float) -> Empirical:
        """Return the atoms at time `t`."""
        x = self._velocity.inside(self.places(t))
        return PointMass(float(x[0])) if isinstance(self.initial, PointMass) else Empirical(x)

    def places(self, t: float) -> np.ndarray:
        """Where the atoms are at time `t`; on a ring, followed over its seam."""
        time = self.check_t(t)
        k = max(k for k, bundle in enumerate(self._halved) if bundle.t <= time)
        bundle = self._halved[k]
        return (bundle.x if time == bundle.t else self._halves(bundle, time).x)[self._which]

    def velocity(self, x: Any, t: float) -> np.ndarray:
        """The velocity of the flow, as declared."""
        return self.process.drift(x, self.check_t(t))

    def expect(self, fn: Any, t: float) -> float:
        """Mean of fn over the atoms."""
        return self.at(t).expect(fn)
