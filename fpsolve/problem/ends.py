"""Feller's classification of the ends of a support, by scale and speed, decided from values near the end.

With scale density s' = exp(-∫ 2f/g²) and speed density m = 2/(g² s'), an end is reached in finite time iff
Σ = ∫ M[x, c] dS(x) is finite, and a process can start from it iff N = ∫ S[x, c] dM(x) is finite (Karlin and Taylor
1981, section 15.6). Both are integrals over u = log of the distance, so that whether they converge is the slope of the
logarithm of their integrand; nothing is ever exponentiated, however steep the drift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from fpsolve.problem.coefficient import Coefficient

KINDS = {(True, True): "regular", (True, False): "exit", (False, True): "entrance", (False, False): "natural"}
STEP = 0.25  # in the logarithm of the distance
NEAR, DEEP = 12.0, 100.0  # decades of distance that are looked at; the second number where the first leaves doubts
HUGE = 1e200  # logarithms of integrands beyond this are not looked at
SHORTEST = 4.0  # range of log distance from which a slope is read
# exponents closer to zero than this count as zero, where an integral diverges; at ends away from zero, where distances
# shrink to 1e-8 only, exponents below about 1e-3 stay undecided
CRITICAL = 1e-6
# an integrand u^-k converges iff k > 1; between these two values of 1/k logarithms could decide otherwise
SURELY_FINITE, SURELY_INFINITE = 0.6, 0.97


@dataclass(frozen=True)
class End:
    """An end of the support as the process sees it.

    Attributes
    ----------
    kind : {"regular", "exit", "entrance", "natural", "undecided"}
        Reached and left again; reached for good; left at the start but never reached; neither; not decidable in
        float64 from values of the coefficients.
    accessible : bool or None
        Whether Σ = ∫ M dS is finite: the end is reached in finite time with positive probability. None: undecided.
    enterable : bool or None
        Whether N = ∫ S dM is finite: a process can start from the end. None: undecided.
    exponents : (float, float)
        a such that the integrands of Σ and N per logarithm of the distance d go like d^a; like |x|^-a at infinity.
        Positive means finite. At a = 0 powers of the logarithm decide. NaN where it could not be read.
    reason : str
        The numbers that decided, in one line.
    """

    kind: str
    accessible: bool | None
    enterable: bool | None
    exponents: tuple[float, float]
    reason: str


@dataclass(frozen=True)
class _Tail:
    """Coefficients on the way to an end: distance r = e^(∓u), drift towards the inside, noise."""

    u: np.ndarray
    r: np.ndarray
    inward: np.ndarray
    noise: np.ndarray
    finite: bool
    calculus: str


def classify_end(process: Any, side: int, t: float) -> End:
    """Classify one end of the support at time `t` by scale and speed.

    Parameters
    ----------
    process : SDE or ODE
        Its coefficients are frozen at `t`; a moving end is seen from the end, with drift f - dr/dt.
    side : {0, 1}
        Left or right end, finite or not.
    t : float
        Time.

    Returns
    -------
    End

    Notes
    -----
    Feller (1952); Karlin and Taylor (1981), section 15.6. Without noise near the end: Σ = ∫ dx/|f| where f points
    outwards, N = ∫ dx/|f| where it points inwards, and the other one is infinite.
    """
    tail = _tail(process, side, t, NEAR)
    if tail.u.size < 12:
        return _undecided("the support is too narrow for its distance from zero")
    end = _judged(tail)
    if end.kind == "undecided" and (not tail.finite or process.support_at(t)[side] == 0.0):
        deeper = _judged(_tail(process, side, t, DEEP))
        end = end if deeper.kind == "undecided" else deeper
    return _by_growth(tail) or end if end.kind == "undecided" else end


def is_reached(process: Any, side: int, t: float) -> bool:
    """Whether an end is surely regular or an exit: Σ alone, for half the price of a classification."""
    tail = _noisy_part(_tail(process, side, t, NEAR))
    known = None if tail is None else _verdict(tail.u, _log_accessibility(tail))[0]
    return bool(classify_end(process, side, t).accessible if known is None else known)


def _by_growth(tail: _Tail) -> End | None:
    """Natural, if f/r and g²/r² stay bounded: |L log r| is bounded then, so that log r takes forever either way.

    This decides where coefficients oscillate and slopes cannot be read.
    """
    with np.errstate(all="ignore"):
        rates = np.array([np.abs(tail.inward) / tail.r, (tail.noise / tail.r) ** 2])
    first, second = rates[:, : tail.u.size // 2], rates[:, tail.u.size // 2 :]
    # what grows like u^0.6 or slower, u = log r, still takes forever: the integral of its inverse diverges
    if not np.isfinite(rates).all() or (second.max(axis=1) > 1.5 * first.max(axis=1)).any():
        return None
    return End("natural", False, False, (math.nan, math.nan), "Σ and N infinite: f/r and g²/r² bounded near the end")


def _tail(process: Any, side: int, t: float, decades: float) -> _Tail:
    """Sample the coefficients at geometrically shrinking distances of a finite end, or growing ones of an infinite."""
    support = process.support_at(t)
    end, other = support[side], support[1 - side]
    finite, inward = math.isfinite(end), 1.0 if side == 0 else -1.0
    if finite:
        length = min(max(1.0, abs(end)), support[1] - support[0])
        # closer to an end away from zero, x - end loses its digits inside the coefficients
        floor = max(min(1e-8 * abs(end), 1e-7 * length), 1.5e-14 * abs(end), 10.0**-decades * length)
        x = end + inward * np.exp(-np.arange(-math.log(1e-2 * length), -math.log(floor), STEP))
        r = np.abs(x - end)
        u = -np.log(r)
    else:
        start = max(1.0, 2.0 * abs(other)) if math.isfinite(other) else 1.0
        r = start * np.exp(np.arange(0.0, math.log(10.0**decades), STEP))
        x, u = -inward * r, np.log(r)
    drift = _values(process.drift_coefficient, x, t)
    if finite and process.moving[side]:
        speed = process.wall_speed(side, t)
        # the speed is known to about ten digits: a flow along its wall does not cross it by rounding
        drift = np.where(np.abs(drift - speed) > 1e-9 * abs(speed), drift - speed, 0.0)
    noise = np.abs(_values(process.diffusion_coefficient, x, t))
    return _Tail(u, r, inward * drift, noise, finite, process.calculus)


def _values(coefficient: Coefficient, x: np.ndarray, t: float) -> np.ndarray:
    """Values where there are any, NaN where the function overflows or refuses: far out few functions were tried."""
    try:
        return np.array(coefficient.raw(x, t))
    except (ArithmeticError, ValueError):
        return np.array([_value(coefficient, one, t) for one in x])


def _value(coefficient: Coefficient, x: float, t: float) -> float:
    try:
        return float(coefficient.raw(np.array([x]), t)[0])
    except (ArithmeticError, ValueError):
        return math.nan


def _judged(tail: _Tail) -> End:
    """Decide both integrals of a tail and say why."""
    noisy = _noisy_part(tail)
    if noisy is not None:
        accessibility = _verdict(noisy.u, _log_accessibility(noisy))
        return _end(noisy, accessibility, _verdict(noisy.u, _log_entrance(noisy)), "")
    tail = _part(tail, _longest_run(np.isfinite(tail.inward) & np.isfinite(tail.noise)))
    if tail.u.size == 0:
        return _undecided("the coefficients are not finite near the end")
    return _judged_flow(_part(tail, _last_run(tail.noise <= 0.0)))


def _noisy_part(tail: _Tail) -> _Tail | None:
    """The stretch next to the end where there is noise, without its interior; None where there is no noise."""
    tail = _part(tail, _longest_run(np.isfinite(tail.inward) & np.isfinite(tail.noise)))
    silent = tail.noise <= 0.0
    if tail.u.size == 0 or silent[-1]:
        return None
    tail = _part(tail, _last_run(~silent))
    return _part(tail, slice(tail.u.size // 4, None))  # both integrals may begin anywhere


def _judged_flow(tail: _Tail) -> End:
    """Decide for an ODE: only the way along the drift can be finite."""
    with np.errstate(divide="ignore"):
        log_h = np.log(tail.r) - np.log(np.abs(tail.inward))
    never = (False, -math.inf)
    if (tail.inward == 0.0).all():
        return _end(tail, never, never, "no noise, no drift: ")
    if (tail.inward <= 0.0).all():
        return _end(tail, _verdict(tail.u, log_h), never, "no noise, drift outwards: ")
    if (tail.inward >= 0.0).all():
        return _end(tail, never, _verdict(tail.u, log_h), "no noise, drift inwards: ")
    return _undecided("without noise, the drift keeps changing its sign towards the end")


def _end(tail: _Tail, accessibility: tuple[bool | None, float], entrance: tuple[bool | None, float], flow: str) -> End:
    (accessible, a), (enterable, b) = accessibility, entrance
    if tail.u.size < 2 or tail.u[-1] - tail.u[0] < SHORTEST:
        return _undecided("too short a stretch of usable coefficients before the end")
    kind = "undecided" if accessible is None or enterable is None else KINDS[accessible, enterable]
    what, sign = ("d", 1.0) if tail.finite else ("|x|", -1.0)
    parts = []
    for name, known, power in (("Σ", accessible, a), ("N", enterable, b)):
        found = "undecided" if known is None else ("infinite", "finite")[known]
        parts.append(found if math.isinf(power) else f"{found} ({what}^{sign * power + 0.0:.4g})")
        parts[-1] = f"{name} {parts[-1]}"
    closest = f"{what} from {tail.r[0]:.1g} to {tail.r[-1]:.1g}"
    return End(kind, accessible, enterable, (a, b), f"{flow}{', '.join(parts)}; {closest}")


def _undecided(why: str) -> End:
    return End("undecided", None, None, (math.nan, math.nan), why)


def _log_accessibility(tail: _Tail) -> np.ndarray:
    """Return log dΣ/du: with σ, μ the logs of scale and speed density in u, σ + μ = A = log(2 r²/g²).

    dΣ/du = e^A R_μ and dN/du = e^A R_σ, where R_σ = e^-σ ∫ e^σ du and σ' = 2 f r/g² ∓ 1 (f inward); R_μ likewise.
    """
    with np.errstate(all="ignore"):
        log_ratio = 2.0 * (np.log(tail.r) - np.log(tail.noise))
        return log_ratio + _log_mass_behind(np.diff(log_ratio) - _rises_of_scale(tail), np.diff(tail.u))


def _log_entrance(tail: _Tail) -> np.ndarray:
    """Return log dN/du."""
    with np.errstate(all="ignore"):
        log_ratio = 2.0 * (np.log(tail.r) - np.log(tail.noise))
        return log_ratio + _log_mass_behind(_rises_of_scale(tail), np.diff(tail.u))


def _rises_of_scale(tail: _Tail) -> np.ndarray:
    """Rises of σ from node to node."""
    pull = 2.0 * (tail.inward / tail.noise) * (tail.r / tail.noise)
    rises = np.diff(tail.u) * (_mean_of_power(pull) + (-1.0 if tail.finite else 1.0))
    # the Itô drift of a Stratonovich process has ¼ ∂x g² more, which is ∓½ d log g / du here
    return rises - np.diff(np.log(tail.noise)) if tail.calculus == "stratonovich" else rises


def _mean_of_power(values: np.ndarray) -> np.ndarray:
    """Mean over each step of a function through the values: exact for powers of the distance."""
    a, b = values[:-1], values[1:]
    ratio = b / a
    log_ratio = np.log(ratio)
    bent = np.isfinite(log_ratio) & (np.abs(log_ratio) > 1e-4)
    return np.where(bent, (b - a) / np.where(bent, log_ratio, 1.0), 0.5 * (a + b))


def _log_mass_behind(rise: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Return log R at the nodes, R = e^-σ ∫ e^σ du, from the rises of σ over the steps h (σ straight in between).

    NaN if the beginning still shows where it should be forgotten: then the end of the stretch is not the asymptote.
    """
    size = np.maximum(np.abs(rise), 1e-12)
    gained = np.log(h) + np.log(-np.expm1(-size) / size) + np.maximum(-rise, 0.0)
    first = float(rise[0] / h[0])
    # a constant added to the integral changes no convergence: chosen so that pure powers are exact from the start
    now = kept = -math.log(max(first, 0.02)) if first > -0.01 else math.log(-100.0 / first)
    found = [now]
    for drop, gain in zip(rise.tolist(), gained.tolist(), strict=True):
        kept = now - drop
        now = max(kept, gain) + math.log1p(math.exp(-abs(kept - gain))) if math.isfinite(kept - gain) else math.nan
        found.append(now)
    ahead = kept - float(gained[-1])  # settles at -log(e^rise - 1)
    if rise[-1] > 0.02 and ahead > -30.0 and ahead > 0.5 - math.log(math.expm1(min(float(rise[-1]), 700.0))):
        return np.full(len(found), math.nan)
    return np.array(found)


def _verdict(u: np.ndarray, log_h: np.ndarray) -> tuple[bool | None, float]:
    """Whether ∫ h du converges (None: cannot say), and the exponent -d log h/du at the end.

    A slope below zero converges, at zero or above it diverges. In between, h ~ u^-k: there -1/slope grows like u/k.
    """
    run = _longest_run(np.abs(log_h) < HUGE)
    u, log_h = u[run], log_h[run]
    if u.size < 12 or u[-1] - u[0] < SHORTEST:
        return None, math.nan
    cuts = np.linspace(u.size // 3, u.size, 5).astype(int).tolist()
    pieces = [slice(a, b) for a, b in pairwise(cuts)]
    centres, slopes, errors = np.array([_slope(u[piece], log_h[piece]) for piece in pieces]).T
    exponent = -float(slopes[-1])
    steps = np.diff(log_h[cuts[2] :])
    if (steps >= 0.0).all():
        return False, exponent
    if np.abs(slopes[2:]).max() <= CRITICAL + 3.0 * errors[2:].max() <= 1e-4:
        return False, exponent
    if (slopes >= 0.0).any() or not ((steps < 0.0).all() or (errors < -0.3 * slopes).all()):
        settled = (slopes > 3.0 * errors).all()
        return (False if settled else None), exponent
    turns = np.diff(-1.0 / slopes) / np.diff(centres)
    if max(turns[0], turns[2]) < SURELY_FINITE:
        return True, exponent
    return (False if min(turns[0], turns[2]) > SURELY_INFINITE else None), exponent


def _slope(u: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Centre of a stretch, slope there by least squares, and its error from the scatter about a parabola."""
    centre = float(u.sum()) / u.size
    x = u - centre
    spread = float(x @ x)
    slope = float(x @ y) / spread
    square = x * x - spread / x.size
    rest = y - y.sum() / y.size - slope * x
    rest = rest - square * (float(square @ rest) / max(float(square @ square), 1e-300))
    return centre, slope, float(np.abs(rest).max()) / math.sqrt(spread)


def _longest_run(good: np.ndarray) -> slice:
    """The longest stretch of neighbours that are all good."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(int)))
    if edges.size == 0:
        return slice(0, 0)
    starts, stops = edges[::2], edges[1::2]
    best = int(np.argmax(stops - starts))
    return slice(int(starts[best]), int(stops[best]))


def _last_run(good: np.ndarray) -> slice:
    """The stretch of good neighbours that ends last."""
    bad = np.flatnonzero(~good)
    return slice(int(bad[-1]) + 1 if bad.size else 0, good.size)


def _part(tail: _Tail, part: slice) -> _Tail:
    return _Tail(tail.u[part], tail.r[part], tail.inward[part], tail.noise[part], tail.finite, tail.calculus)
