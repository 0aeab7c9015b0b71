"""Bundles of trajectories of a flow, with ell = log ∂x/∂x0 and its derivative, on some steps and on their halves.

    x' = v(x, t),    ell' = ∂x v,    bend' = ∂xx v e^ell        (bend = ∂ ell/∂x0)

Eighth order (Dormand & Prince 8(5,3), the tableau of SciPy's DOP853), with steps common to all trajectories, since a
coefficient is called at one time. Every result is that of the halved steps; its difference to that of the whole steps
is 255 times its error where the order holds, and a sixteenth of it is what is reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.integrate import DOP853
from scipy.ndimage import minimum_filter1d

from fpsolve.errors import BlowUp, CoefficientError, MassEscape
from fpsolve.grids.flows.velocity import Velocity
from fpsolve.problem.law import Law

TAIL = 1e-30  # mass outside the nodes on each side
LOST = 1e-9  # mass whose loss in finite time is refused; less is an error of the result
_UNPAID = 1e-13  # mass beyond a node below which it may be dropped instead of taking steps below 1e-9 of the span
_EPS = 2.3e-16
_SHARE = 0.0625  # of the difference of whole and halved steps that is reported
_STAGES = DOP853.n_stages
_NODES = 240
_MOST_NODES = 3000
_WHOLE = 1e-6  # mass beyond a node from which its errors count in full
_TURN = 0.3  # change of ell between neighbouring nodes above which one is put in between
_OVERFLOWS = 1e4  # growth rate times remaining time
_STEPS = 5000
_CHUNK = 1024


@dataclass(frozen=True)
class Bundle:
    """Trajectories at time `t`: state (3, n) of x, ell, bend, and what their integration may have added up."""

    t: float
    state: np.ndarray
    spacing: np.ndarray
    slope_error: np.ndarray  # of ell, from the differences of v
    bend_error: np.ndarray
    rounding: np.ndarray  # of x

    @property
    def x(self) -> np.ndarray:
        """Positions."""
        return self.state[0]

    @property
    def ell(self) -> np.ndarray:
        """log ∂x/∂x0."""
        return self.state[1]

    @property
    def bend(self) -> np.ndarray:
        """∂ ell/∂x0."""
        return self.state[2]

    def part(self, which: slice) -> Bundle:
        """Some of the trajectories."""
        arrays = (self.spacing, self.slope_error, self.bend_error, self.rounding)
        return Bundle(self.t, self.state[:, which], *(array[which] for array in arrays))

    def replaced(self, which: np.ndarray, other: Bundle) -> Bundle:
        """The bundle with the trajectories `which` taken from another of the same time."""
        names = ("state", "spacing", "slope_error", "bend_error", "rounding")
        arrays = {name: getattr(self, name).copy() for name in names}
        for name, array in arrays.items():
            array[..., which] = getattr(other, name)
        return Bundle(self.t, **arrays)


def joined(parts: list[Bundle]) -> Bundle:
    """One bundle of several of the same time."""
    names = ("state", "spacing", "slope_error", "bend_error", "rounding")
    return Bundle(parts[0].t, *(np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in names))


class Stepper:
    """Steps bundles of one velocity; `scale` and `centre` are those of the initial law."""

    def __init__(self, velocity: Velocity, scale: float, centre: float) -> None:
        self.velocity, self.scale, self.centre = velocity, scale, centre
        self.point_steps = 0

    def start(self, x0: np.ndarray, t: float) -> Bundle:
        """Bundle of trajectories that begin at `x0`."""
        state = np.zeros((3, x0.size))
        state[0] = x0
        spacing = self.velocity.first_spacing(x0, t, self.scale, self.centre)
        zero = np.zeros(x0.size)
        return Bundle(t, state, spacing, zero, zero, _EPS * np.abs(x0))

    def step(self, old: Bundle, t: float) -> tuple[Bundle, np.ndarray]:
        """Bundle at time `t` after one step, and the local error (3, n)."""
        tau, n = t - old.t, old.x.size
        self.point_steps += n
        with np.errstate(all="ignore"):
            spacing = self.velocity.follow_spacing(old.x, old.t, old.spacing, self.scale, self.centre)
            rates = np.empty((_STAGES + 1, 3, n))
            first = self.velocity.jet(old.x, old.t, spacing)
            stretch = np.exp(old.ell)
            rates[0] = first.v, first.dx, first.dxx * stretch
            for k in range(1, _STAGES):
                trial = old.state + tau * np.tensordot(DOP853.A[k, :k], rates[:k], axes=1)
                self._rates(trial, old.t + DOP853.C[k] * tau, spacing, rates[k])
            new = old.state + tau * np.tensordot(DOP853.B, rates[:-1], axes=1)
            self._rates(new, t, spacing, rates[-1])
            fifth, third = (tau * np.tensordot(weights, rates, axes=1) for weights in (DOP853.E5, DOP853.E3))
            size = np.hypot(fifth, 0.1 * third)
            error = np.divide(fifth**2, size, out=np.zeros_like(size), where=size != 0.0)
            slope_error = old.slope_error + tau * first.dx_error
            bend_error = old.bend_error + tau * (first.dxx_error + np.abs(first.dxx) * old.slope_error) * stretch
            rounding = old.rounding * np.exp(new[1] - old.ell) + 2.0 * _EPS * np.abs(new[0])
        return Bundle(t, new, spacing, slope_error, bend_error, rounding), error

    def _rates(self, state: np.ndarray, t: float, spacing: np.ndarray, out: np.ndarray) -> None:
        jet = self.velocity.jet(state[0], t, spacing)
        out[0], out[1], out[2] = jet.v, jet.dx, jet.dxx * np.exp(state[1])


@dataclass(frozen=True)
class Loss:
    """Mass that may have run to infinity on each side: it is left out of the nodes."""

    left: float = 0.0
    right: float = 0.0


class Flow:
    """The flow of a law: nodes all over it, steps that carry them accurately, and both carried along these steps.

    Raises
    ------
    MassEscape
        If more than 1e-9 of the mass runs to infinity in finite time.
    BlowUp, CoefficientError
        If steps below the resolution of t would be needed, or v is not finite.
    """

    def __init__(self, velocity: Velocity, law: Law, t_span: tuple[float, float], tol: float) -> None:
        self.velocity, self.law, self.t_span, self.tol = velocity, law, t_span, tol
        low, middle, high = (float(law.ppf(p)) for p in (0.1, 0.5, 0.9))
        self.spread = max(0.5 * (high - low), 1e-12 * max(abs(middle), 1.0))
        self.stepper = Stepper(velocity, self.spread, middle)
        x0 = _first_nodes(law, velocity.support if velocity.periodic else law.support)
        self.loss = Loss()
        for _ in range(5):
            self.x0, self.whole = self._carried(x0)
            self.times = np.array([bundle.t for bundle in self.whole])
            turn = np.max([np.abs(np.diff(bundle.ell)) for bundle in self.whole], axis=0)
            room = np.diff(self.x0) > 1e-9 * self.spread
            coarse = np.flatnonzero((turn > _TURN) & room)
            if coarse.size == 0 or self.x0.size + coarse.size > _MOST_NODES:
                break
            x0 = np.insert(self.x0, coarse + 1, 0.5 * (self.x0[coarse] + self.x0[coarse + 1]))
        self.halved = [self.whole[0]]
        for t in self.times[1:]:
            self.halved.append(self._halves(self.halved[-1], t))
        self._nodes: dict[float, tuple[Bundle, Bundle]] = {}

    def _halves(self, bundle: Bundle, t: float) -> Bundle:
        middle, _ = self.stepper.step(bundle, 0.5 * (bundle.t + t))
        return self.stepper.step(middle, t)[0]

    def _allowed(self, x0: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Length to which errors of x0 compare, weight of each node's errors by the mass beyond it, and density."""
        with np.errstate(all="ignore"):
            slope = np.nan_to_num(np.abs(self.law.score(x0)), nan=0.0, posinf=0.0)
            far = np.maximum(self.spread, 0.25 * np.abs(x0 - self.stepper.centre))
            length = np.minimum(1.0 / np.maximum(slope, 1e-300), far)
            length = np.maximum(minimum_filter1d(length, 7), 1e-3 * self.spread)
            tail = np.minimum(self.law.cdf(x0), self.law.sf(x0))
            density = np.nan_to_num(self.law.pdf(x0), nan=0.0, posinf=1e300)
        return length, np.sqrt(np.clip((tail + TAIL) / _WHOLE, 0.0, 1.0)), density

    def _carried(self, x0: np.ndarray) -> tuple[np.ndarray, list[Bundle]]:
        """Choose the steps and carry the nodes; those that overflow are dropped with all beyond them."""
        t0, t1 = self.t_span
        allowed = self._allowed(x0)
        bundles, firsts = [self.stepper.start(x0, t0)], [0]
        keep = slice(0, x0.size)
        tau = 1e-3 * (t1 - t0)
        while bundles[-1].t < t1:
            part = self._finite(bundles[-1], x0[keep])
            if part != slice(0, bundles[-1].x.size):
                keep = slice(keep.start + part.start, keep.start + part.stop)
                bundles[-1], firsts[-1] = bundles[-1].part(part), keep.start
            old = bundles[-1]
            end = t1 if old.t + 1.01 * tau >= t1 else old.t + tau
            new, error = self.stepper.step(old, end)
            sizes = self._sizes(new, error, *(part[keep] for part in allowed))
            size = float(sizes.max())
            if size <= 1.0:
                bundles.append(new)
                firsts.append(keep.start)
            elif end - old.t < 1e-9 * (t1 - t0) and (inner := self._inner(x0[keep], int(sizes.argmax()))) is not None:
                keep = slice(keep.start + inner.start, keep.start + inner.stop)
                bundles[-1], firsts[-1] = old.part(inner), keep.start
                continue
            if len(bundles) == _STEPS or (size > 1.0 and end - old.t < 1e-13 * max(abs(old.t), t1 - t0)):
                raise self._stuck(old, x0[keep])
            factor = 0.9 * max(size, 1e-12) ** -0.125
            tau = (end - old.t) * min(4.0, max(0.2, factor))
        n = keep.stop - keep.start
        shifts = [keep.start - first for first in firsts]
        return x0[keep], [b.part(slice(shift, shift + n)) for b, shift in zip(bundles, shifts, strict=True)]

    def _finite(self, bundle: Bundle, x0: np.ndarray) -> slice:
        """Nodes that do not run away: growth at the present rate would overflow before the end."""
        with np.errstate(all="ignore"):
            away = bundle.x - self.stepper.centre
            v = self.velocity(bundle.x, bundle.t)
            rate = np.sign(away) * v / (np.abs(away) + self.spread)
        gone = rate * (self.t_span[1] - bundle.t) > _OVERFLOWS
        left, right = np.flatnonzero(gone & (away < 0.0)), np.flatnonzero(gone & (away > 0.0))
        part = slice(int(left.max()) + 1 if left.size else 0, int(right.min()) if right.size else x0.size)
        for side, at, tail in (("left", part.start, self.law.cdf), ("right", part.stop - 1, self.law.sf)):
            if (left.size if side == "left" else right.size) == 0:
                continue
            mass = float(tail(x0[at])) if part.start < part.stop else 1.0
            if mass > LOST:
                edge = float(x0[max(part.start - 1, 0) if side == "left" else min(part.stop, x0.size - 1)])
                raise MassEscape(
                    f"the trajectory from x={edge:.6g} runs to infinity on the {side} at t={bundle.t:.6g}, and with it "
                    f"mass {mass:.2g}. Fix: end t_span earlier, or declare an absorbing end.",
                    side=side,
                    time=bundle.t,
                )
            self.loss = replace(self.loss, **{side: mass})
        return part

    def _inner(self, x0: np.ndarray, worst: int) -> slice | None:
        """Nodes inside `worst`, if beyond it there is so little mass that the steps it asks for do not pay."""
        for side, tail, part in (
            ("left", self.law.cdf, slice(worst + 1, x0.size)),
            ("right", self.law.sf, slice(0, worst)),
        ):
            mass = float(tail(x0[worst]))
            if mass < _UNPAID and part.stop - part.start > 8:
                self.loss = replace(self.loss, **{side: max(mass, getattr(self.loss, side))})
                return part
        return None

    def _sizes(
        self, new: Bundle, error: np.ndarray, length: np.ndarray, weight: np.ndarray, density: np.ndarray
    ) -> np.ndarray:
        """Local error of each node in units of what is allowed: all of it where there is density or mass beyond."""
        with np.errstate(all="ignore"):
            q = np.nan_to_num(density * np.exp(-new.ell), nan=0.0, posinf=0.0)
            weight = np.maximum(weight, q / max(q.max(), 1e-300))
            reach = np.maximum(np.exp(new.ell) * length, 8.0 * _EPS / self.tol * np.abs(new.x))
            parts = error[0] / reach, error[1], error[2] * length / (1.0 + np.abs(new.bend) * length)
            sizes = weight * np.max(parts, axis=0) / self.tol
        return np.where(np.isfinite(sizes) & np.isfinite(new.state).all(axis=0), sizes, np.inf)

    def _stuck(self, old: Bundle, x0: np.ndarray) -> Exception:
        """What to raise where steps became too small: a velocity that is not finite just beyond, else a blow-up."""
        beyond = old.t + 1e-6 * max(1.0, abs(old.t))
        bad = ~np.isfinite(self.velocity(old.x, beyond))
        if bad.any():
            return CoefficientError(
                "the velocity must be finite along the flow",
                f"a value that is not, at x={old.x[bad][0]:.6g}, just after t={old.t:.6g}",
                "correct it there, or end t_span before",
            )
        with np.errstate(all="ignore"):
            at = int(np.argmax(np.abs(self.velocity.jet(old.x, old.t, old.spacing).dx)))
        return BlowUp(
            f"the trajectory from x={x0[at]:.6g} is at {old.x[at]:.6g} at t={old.t:.6g}, where steps below the "
            f'resolution of t would be needed. Fix: try scheme="finite-volume", or end t_span earlier.',
            x=float(x0[at]),
            time=old.t,
        )

    def nodes(self, t: float) -> tuple[Bundle, Bundle]:
        """All nodes at time `t`, by whole and by halved steps."""
        if t not in self._nodes:
            if len(self._nodes) > 64:
                self._nodes.pop(next(iter(self._nodes)))
            k = int(np.searchsorted(self.times, t, side="right")) - 1
            whole, halved = self.whole[k], self.halved[k]
            if t > self.times[k]:
                whole, halved = self.stepper.step(whole, t)[0], self._halves(halved, t)
            self._nodes[t] = whole, halved
        return self._nodes[t]

    def carry(self, x0: np.ndarray, t: float, *, halved: bool = True) -> Bundle:
        """Bundle from `x0` at time `t`, along the steps of the nodes or their halves."""
        stops = self.times[(self.times > self.t_span[0]) & (self.times < t)]
        parts = []
        for first in range(0, max(x0.size, 1), _CHUNK):
            bundle = self.stepper.start(x0[first : first + _CHUNK], self.t_span[0])
            for stop in np.append(stops, t) if t > self.t_span[0] else []:
                bundle = self._halves(bundle, stop) if halved else self.stepper.step(bundle, stop)[0]
            parts.append(bundle)
        return parts[0] if len(parts) == 1 else joined(parts)

    def errors(self, whole: Bundle, halved: Bundle) -> np.ndarray:
        """Estimated errors (3, n) of x, ell and bend of the halved steps."""
        with np.errstate(all="ignore"):
            error = _SHARE * np.abs(whole.state - halved.state)
            error[0] += halved.rounding
            error[1] += halved.slope_error + _EPS * (1.0 + np.abs(halved.ell)) * self.times.size
            error[2] += halved.bend_error + _EPS * np.abs(halved.bend) * self.times.size
        return np.where(np.isfinite(error), error, np.inf)


def _first_nodes(law: Law, ends: tuple[float, float]) -> np.ndarray:
    """Nodes dense in mass (both tails in equal factors) and in length."""
    low, high = law.quantile_span(TAIL)
    left, right = (end if math.isfinite(end) else far for end, far in zip(ends, (low, high), strict=True))
    tails = np.concatenate([np.geomspace(TAIL, 0.01, _NODES // 4), np.linspace(0.01, 0.5, _NODES // 4)[1:]])
    core = law.quantile_span(1e-10)
    x0 = np.concatenate([law.ppf(tails), law.isf(tails), np.linspace(*core, _NODES), law._landmarks(), [left, right]])
    x0 = np.unique(np.clip(x0[np.isfinite(x0)], left, right))
    apart = np.append(True, np.diff(x0) > 1e-12 * (core[1] - core[0]))
    return x0[apart | (x0 == right)]
