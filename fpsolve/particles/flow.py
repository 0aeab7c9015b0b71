"""The flow of an ODE through given points, with the logarithm of its Jacobian."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.integrate import solve_ivp

from fpsolve.errors import BlowUp, CoefficientError, InputError, check_number, check_points
from fpsolve.problem.process import Process

CHUNK = 64  # points solved together: one step size for all, chosen for the hardest of them
LOOSER = 30.0  # the second solve, whose difference is the error


@dataclass(frozen=True, eq=False)
class FlowMap:
    """Points at the end of a flow.

    Attributes
    ----------
    x : ndarray, shape of x0
        Positions at t_span[1].
    log_det : ndarray or None, shape of x0
        log |dx/dx0| = ∫ v'(x_t, t) dt, if asked for.
    error : ndarray, shape of x0
        |x - x at a 30 times looser tolerance|: what the looser solve is wrong by, so an overestimate for `x`.
    log_det_error : ndarray or None, shape of x0
        The same for `log_det`.
    """

    x: np.ndarray
    log_det: np.ndarray | None
    error: np.ndarray
    log_det_error: np.ndarray | None


def flow_map(
    ode: Process, x0: Any, t_span: tuple[float, float], *, rtol: float = 1e-10, log_det: bool = False
) -> FlowMap:
    """Carry points along x' = v(x, t) from t_span[0] to t_span[1], which may lie before it.

    Parameters
    ----------
    ode : ODE
        The flow.
    x0 : float or array_like
        Starting points, any shape, inside the support.
    t_span : (float, float)
        Two different times in either order: flows are invertible.
    rtol : float
        Error per step relative to |x|, at every point; between 1e-12 and 1e-2.
    log_det : bool
        Also integrate v' along each trajectory.

    Returns
    -------
    FlowMap

    Raises
    ------
    InputError
        If the process has noise, or an argument breaks a rule.
    BlowUp
        If a trajectory becomes infinite, leaves the support, or needs steps below the resolution of t.
    CoefficientError
        If the velocity is not finite at an ordinary point.

    Notes
    -----
    Dormand and Prince 8(5,3) (SciPy DOP853). The log-determinant is the instantaneous change of variables
    (Chen et al. 2018, theorem 1), d log q(x_t)/dt = -v'.

    Examples
    --------
    >>> flow = fps.flow_map(fps.ODE(lambda x, t: -x), [1.0, 2.0], (0, 1), log_det=True)
    >>> np.round(flow.x * np.e, 8), np.round(flow.log_det, 8)
    (array([1., 2.]), array([-1., -1.]))
    """
    times = _checked_span(t_span)
    check_number("rtol", rtol, at_least=1e-12, below=1e-2)
    ito = _checked_flow(ode)
    points = check_points("x0", x0)
    start = points.ravel()
    _check_starts(start, ito.support)
    found = np.zeros((4, start.size))
    for a in range(0, start.size, CHUNK):
        part = start[a : a + CHUNK]
        fine = _solved(ito, part, times, rtol, log_det)
        loose = _solved(ito, part, times, LOOSER * rtol, log_det)
        found[:, a : a + CHUNK] = *fine, *abs(fine - loose)
    x, jacobian, error, jacobian_error = (row.reshape(points.shape) for row in found)
    return FlowMap(x, jacobian, error, jacobian_error) if log_det else FlowMap(x, None, error, None)


def _checked_flow(ode: Any) -> Process:
    if not getattr(ode, "is_ode", False):
        raise InputError("flow_map needs an ODE", ode, "take the ODE of a diffusion: process.probability_flow(q)")
    if {"absorbing", "periodic"} & set(ode.boundary):
        raise InputError("flow_map supports natural and reflecting boundaries", ode.boundary, "declare one of them")
    if any(ode.moving):
        raise InputError("flow_map needs ends that stay", ode, "use the grid engine for a moving support")
    return ode.to_ito()


def _check_starts(start: np.ndarray, support: tuple[float, float]) -> None:
    inside = np.isfinite(start) & (start >= support[0]) & (start <= support[1])
    if not inside.all():
        raise InputError(f"x0 must be finite and inside the support {support}", float(start[~inside][0]), "move it")


def _checked_span(t_span: Any) -> tuple[float, float]:
    rule = "t_span must be a pair of different finite times (t0, t1), in either order"
    try:
        t0, t1 = (float(t) for t in t_span)
    except (TypeError, ValueError):
        raise InputError(rule, t_span, "write for instance t_span=(0, 1), or (1, 0) for the inverse") from None
    if not (math.isfinite(t0) and math.isfinite(t1)) or t0 == t1:
        raise InputError(rule, t_span, "give the span some finite length")
    return t0, t1


def _solved(ito: Process, start: np.ndarray, times: tuple[float, float], rtol: float, log_det: bool) -> np.ndarray:
    """Positions and log-determinants (2, n) at the end."""
    n = start.size

    def velocity(t: float, y: np.ndarray) -> np.ndarray:
        v = ito.drift_coefficient.raw(y[:n], t)  # trial stages near a blow-up may overflow: the step is then refused
        return np.concatenate([v, _slope(ito, y[:n], t)]) if log_det else v

    largest = float(np.abs(start).max())
    scale = largest if largest > 0.0 else 1.0
    y0 = np.concatenate([start, np.zeros(n)]) if log_det else start
    # SciPy bounds the root mean square over the entries; divided by sqrt(entries) it bounds every one
    tight = max(rtol / math.sqrt(y0.size), 3e-14)
    with np.errstate(all="ignore"):
        found = solve_ivp(velocity, times, y0, method="DOP853", rtol=tight, atol=tight * scale)
    _check_inside(ito, start, found.t, found.y[:n])
    if found.status != 0:
        raise _unfinished(ito, start, float(found.t[-1]), found.y[:n, -1], times)
    end = found.y[:, -1]
    return np.array([end[:n], end[n:] if log_det else np.zeros(n)])


def _slope(ito: Process, x: np.ndarray, t: float) -> np.ndarray:
    """v'(x, t), or NaN where a trial stage went astray, so that the step is refused."""
    try:
        return ito.drift_dx(x, t)
    except CoefficientError:
        return np.full(x.size, np.nan)


def _check_inside(ito: Process, start: np.ndarray, t: np.ndarray, x: np.ndarray) -> None:
    left, right = ito.support
    outside = ~((x >= left) & (x <= right) & np.isfinite(x))
    if outside.any():
        step = int(np.argmax(outside.any(axis=0)))
        path, when = int(np.argmax(outside[:, step])), float(t[step])
        raise BlowUp(
            f"the trajectory from x={start[path]:.6g} left the support ({left:g}, {right:g}) before t={when:.6g}. "
            f"Fix: end t_span earlier, or declare the support that the flow has.",
            x=float(start[path]),
            time=when,
        )


def _unfinished(ito: Process, start: np.ndarray, now: float, last: np.ndarray, ends: tuple[float, float]) -> BlowUp:
    """What to raise after the steps became too small: a blow-up, unless the velocity fails just beyond."""
    path = int(np.argmax(np.abs(last)))
    if abs(last[path]) < 1e6 * max(1.0, float(np.abs(start).max())):
        _check_velocity_beyond(ito, last, now, ends)
    return BlowUp(
        f"the trajectory from x={start[path]:.6g} reached {last[path]:.3g} at t={now:.6g}, where steps below the "
        f"resolution of t would be needed. Fix: end t_span earlier.",
        x=float(start[path]),
        time=now,
    )


def _check_velocity_beyond(ito: Process, x: np.ndarray, now: float, ends: tuple[float, float]) -> None:
    """A step also underflows in front of a time from which the velocity is not finite: say that instead."""
    beyond = now + math.copysign(1e-6 * max(1.0, abs(now)), 1.0 if ends[1] > ends[0] else -1.0)
    bad = ~np.isfinite(ito.drift_coefficient.raw(x, beyond))
    if bad.any():
        raise CoefficientError(
            "the velocity must be finite along the flow",
            f"a value that is not, at x={x[bad][0]:.6g}, just after t={now:.6g}",
            "correct it there, or end t_span before",
        )
