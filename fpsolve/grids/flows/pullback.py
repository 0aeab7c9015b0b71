"""From a point (x, t) back to where its trajectory began, and the fields of the law there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import maximum_filter1d

from fpsolve.grids.flows.trajectories import TAIL, Bundle, Flow
from fpsolve.problem.law import Law

_EPS = 2.3e-16
_ROUNDS = 60
_AROUND = 41  # nodes
_SETTLED = 1e-8  # change of ell over the last correction, whose square is neglected
_GENERIC = 1e-9  # relative error of a score that is itself made by differences


@dataclass(frozen=True)
class Trace:
    """Origins `x0` of points, ell = log ∂x/∂x0 and bend = ∂ ell/∂x0 of their trajectories, and the errors of these.

    `side` is -1 or 1 for points beyond all nodes, on which no mass has ever been, else 0.
    """

    x0: np.ndarray
    ell: np.ndarray
    bend: np.ndarray
    x0_error: np.ndarray
    ell_error: np.ndarray
    bend_error: np.ndarray
    side: np.ndarray


def trace_of(flow: Flow, whole: Bundle, halved: Bundle, x0: np.ndarray) -> Trace:
    """Trace of trajectories whose origins are known: an error of x is one of the origin that belongs to it."""
    errors = flow.errors(whole, halved)
    with np.errstate(all="ignore"):
        away = errors[0] * np.exp(-halved.ell) + _EPS * np.abs(x0)
        ell_error = errors[1] + np.abs(halved.bend) * away
    return Trace(x0, halved.ell, halved.bend, away, ell_error, errors[2], np.zeros(x0.size, dtype=int))


def _guess(nodes: Bundle, x0: np.ndarray, x: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Quintic Hermite interpolation of x0 as a function of x between nodes j and j + 1."""
    with np.errstate(all="ignore"):
        slope = np.exp(-nodes.ell)
        curve = -nodes.bend * slope**2
        width = nodes.x[j + 1] - nodes.x[j]
        u = (x - nodes.x[j]) / width
        rise = x0[j + 1] - x0[j]
        d0, d1 = slope[j] * width, slope[j + 1] * width
        c0, c1 = curve[j] * width**2, curve[j + 1] * width**2
        third = 10.0 * rise - 6.0 * d0 - 4.0 * d1 - 1.5 * c0 + 0.5 * c1
        fourth = -15.0 * rise + 8.0 * d0 + 7.0 * d1 + 1.5 * c0 - c1
        fifth = 6.0 * rise - 3.0 * (d0 + d1) - 0.5 * (c0 - c1)
        guess = x0[j] + u * (d0 + u * (0.5 * c0 + u * (third + u * (fourth + u * fifth))))
    middle = 0.5 * (x0[j] + x0[j + 1])
    return np.where((guess >= x0[j]) & (guess <= x0[j + 1]), guess, middle)


def pull_back(flow: Flow, x: np.ndarray, t: float) -> Trace:
    """Origins of the points `x` at time `t`: interpolated between the nodes, then shot at until x is hit."""
    origins, nodes = flow.x0, flow.nodes(t)[1]
    order = np.maximum.accumulate(nodes.x)  # nodes may meet to rounding
    errors = flow.errors(*flow.nodes(t))
    reach = errors[0]
    side = np.where(x < order[0] - reach[0], -1, np.where(x > order[-1] + reach[-1], 1, 0))
    j = np.clip(np.searchsorted(order, x, side="right") - 1, 0, order.size - 2)
    low, high = origins[np.maximum(j - 1, 0)], origins[np.minimum(j + 2, origins.size - 1)]
    gap = origins[j + 1] - origins[j]
    guess = _guess(nodes, origins, np.clip(x, order[0], order[-1]), j)
    halved = flow.carry(guess, t)
    active = np.arange(x.size)
    shift = np.zeros(x.size)
    for _ in range(_ROUNDS):
        with np.errstate(all="ignore"):
            residual = halved.x[active] - x[active]
            delta = np.nan_to_num(residual * np.exp(-halved.ell[active]), nan=np.inf)
            here = guess[active]
            high[active] = np.where(residual > 0.0, np.minimum(high[active], here), high[active])
            low[active] = np.where(residual < 0.0, np.maximum(low[active], here), low[active])
            near = (np.abs(halved.bend[active] * delta) < _SETTLED) & (np.abs(delta) < 1e-3 * gap[active])
            hit = np.abs(residual) <= 8.0 * _EPS * np.abs(x[active])
            closed = high[active] - low[active] <= 4.0 * _EPS * np.abs(here)
        done = near | hit | closed | (side[active] != 0)
        shift[active] = np.where(near, delta, 0.0)
        trial = here - delta
        inside = (trial > low[active]) & (trial < high[active])
        active, trial = active[~done], np.where(inside, trial, 0.5 * (low[active] + high[active]))[~done]
        if active.size == 0:
            break
        guess[active] = trial
        halved = halved.replaced(active, flow.carry(trial, t))
    found = _at_least(trace_of(flow, flow.carry(guess, t, halved=False), halved, guess), errors, nodes, j)
    with np.errstate(all="ignore"):
        turn = (nodes.bend[j + 1] - nodes.bend[j]) / gap  # ∂ bend/∂x0
        # at a kink of v differences can agree on a wrong slope; the nodes on both sides know better
        slopes = maximum_filter1d(np.nan_to_num(np.diff(origins) / np.diff(nodes.x), posinf=1e300), 3)
        secant = np.expm1(np.abs(np.log(slopes[j]) + halved.ell))
    return _corrected(found, shift, turn, secant, side, active)


def _at_least(found: Trace, errors: np.ndarray, nodes: Bundle, j: np.ndarray) -> Trace:
    """Trace with errors not below half of those of the nodes around: a difference that changes sign hides them."""
    with np.errstate(all="ignore"):
        errors = np.array([errors[0] * np.exp(-nodes.ell), errors[1], errors[2]])
    around = 0.5 * maximum_filter1d(errors, _AROUND, axis=1, mode="nearest")[:, j]
    return replace(
        found,
        x0_error=np.maximum(found.x0_error, around[0]),
        ell_error=np.maximum(found.ell_error, around[1]),
        bend_error=np.maximum(found.bend_error, around[2]),
    )


def _corrected(
    found: Trace, shift: np.ndarray, turn: np.ndarray, secant: np.ndarray, side: np.ndarray, missed: np.ndarray
) -> Trace:
    """Trace at the origins x0 - shift, to first order in the shift; nothing is known of points that were missed."""
    with np.errstate(all="ignore"):
        bend = found.bend - turn * shift
        x0_error = found.x0_error + np.abs(bend) * shift**2 + np.abs(secant * shift)
        ell_error = found.ell_error + (np.abs(turn) + bend**2) * shift**2
        bend_error = found.bend_error + np.abs(turn) * (found.x0_error + np.abs(shift))
    x0_error[missed] = ell_error[missed] = np.inf
    return Trace(found.x0 - shift, found.ell - found.bend * shift, bend, x0_error, ell_error, bend_error, side)


class Fields:
    """Fields of the transported law from traces; each returns (values, estimated errors).

    What the initial law does within the error of an origin is looked up on both sides of it, so that jumps and kinks
    count with their full size there.
    """

    def __init__(self, law: Law, lost: float) -> None:
        self.law, self.lost = law, lost
        self._generic = type(law).score is Law.score

    def _near(self, name: str, trace: Trace) -> tuple[np.ndarray, np.ndarray]:
        function = getattr(self.law, name)
        away = np.minimum(trace.x0_error, 1e150)
        with np.errstate(all="ignore"):
            value = function(trace.x0)
            others = [function(trace.x0 + sign * away) for sign in (-1.0, 1.0)]
            spread = np.max(np.abs(np.array(others) - value), axis=0)
        return value, np.where(np.isnan(spread), np.inf, spread)

    def pdf(self, trace: Trace) -> tuple[np.ndarray, np.ndarray]:
        """q0(x0) e^-ell."""
        q0, near = self._near("pdf", trace)
        with np.errstate(all="ignore"):
            shrink = np.exp(-trace.ell)
            values = np.where(trace.side == 0, q0 * shrink, 0.0)
            relative = np.expm1(np.minimum(trace.ell_error, 700.0)) + 4.0 * _EPS
            error = np.where(values > 0.0, near * shrink + values * relative, near * shrink)
        return values, np.where(trace.side == 0, error, TAIL)

    def logpdf(self, trace: Trace) -> tuple[np.ndarray, np.ndarray]:
        """log q0(x0) - ell."""
        logs, near = self._near("logpdf", trace)
        values = np.where(trace.side == 0, logs - trace.ell, -np.inf)
        error = np.where(np.isneginf(logs) & np.isinf(near), 0.0, near) + trace.ell_error + 4.0 * _EPS * np.abs(logs)
        return values, np.where((trace.side == 0) & np.isfinite(values), error, np.inf)

    def score(self, trace: Trace) -> tuple[np.ndarray, np.ndarray]:
        """(s0(x0) - bend) e^-ell."""
        s0, near = self._near("score", trace)
        with np.errstate(all="ignore"):
            shrink = np.exp(-trace.ell)
            values = (s0 - trace.bend) * shrink
            known = near + trace.bend_error + _EPS * 4.0 * (np.abs(s0) + np.abs(trace.bend))
            known = known + (_GENERIC * (1.0 + np.abs(s0)) if self._generic else 0.0)
            error = known * shrink + np.abs(values) * np.expm1(np.minimum(trace.ell_error, 700.0))
        return values, np.where((trace.side == 0) & np.isfinite(error), error, np.inf)

    def tail(self, trace: Trace, *, upper: bool) -> tuple[np.ndarray, np.ndarray]:
        """F0(x0), or with `upper` 1 - F0(x0)."""
        values, near = self._near("sf" if upper else "cdf", trace)
        beyond = np.where((trace.side > 0) == upper, 0.0, 1.0)
        error = np.minimum(near, 1.0) + 8.0 * _EPS * values + (1e-12 if self._generic else 0.0)
        inside = trace.side == 0
        return np.where(inside, values, beyond), np.where(inside, error, TAIL) + self.lost
