"""Pairs (a, b) for `simulate(functionals=...)`: ∫ a dt + ∫ b dW along each path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fpsolve.errors import InputError
from fpsolve.problem.process import Process

__all__ = ["girsanov", "log_det", "path_kl"]

Function = Callable[..., np.ndarray]
_SAME = 1e-9


def girsanov(process: Process, other: Process) -> tuple[Function, Function]:
    """log dQ/dP along paths of `process` (law P) for `other` (law Q): -½ ∫ u² dt - ∫ u dW, u = (f_P - f_Q)/g.

    exp of it has mean one, and E_Q φ = E_P[φ exp(...)], also for the Euler-Maruyama chains themselves.

    Parameters
    ----------
    process, other : SDE
        With the same noise g, which is nowhere zero.

    Returns
    -------
    (callable, callable)

    Raises
    ------
    InputError
        If one is not a process with noise, or g differs.

    Notes
    -----
    Girsanov's theorem; Winther et al. on path measures, Berner et al. (2211.01364), section 2. The weights are
    unbounded: look at the largest before a mean is believed.

    Examples
    --------
    >>> p, q = fps.SDE(0.0, 1.0), fps.SDE(0.5, 1.0)
    >>> ens = fps.simulate(p, fps.PointMass(0.0), (0, 1), n_paths=5000, n_steps=8,
    ...                    functionals={"w": fps.functionals.girsanov(p, q)})
    >>> m = ens.expect(lambda x, w: x * np.exp(w))
    >>> bool(abs(m.value - 0.5) < 5 * m.std_error)
    True
    """
    u = _drift_gap(process, other)
    return lambda x, t: -0.5 * u(x, t) ** 2, lambda x, t: -u(x, t)


def path_kl(process: Process, other: Process) -> tuple[Function, float]:
    """KL of path laws as a mean over paths of `process`: E_P ½ ∫ ((f_P - f_Q)/g)² dt, without KL of the starts.

    Parameters and errors are those of `girsanov`.

    Examples
    --------
    >>> p, q = fps.SDE(0.0, 1.0), fps.SDE(0.5, 1.0)
    >>> ens = fps.simulate(p, fps.PointMass(0.0), (0, 2), n_paths=100, n_steps=8,
    ...                    functionals={"kl": fps.functionals.path_kl(p, q)})
    >>> float(ens.stats["functionals"]["kl"].value)
    0.25
    """
    u = _drift_gap(process, other)
    return lambda x, t: 0.5 * u(x, t) ** 2, 0.0


def log_det(process: Process) -> tuple[Function, Any]:
    """log dX/dx₀ of the flow on the given noise: ∫ (f' - ½ g'²) dt + ∫ g' dW; ∫ v' dt for an ODE.

    Parameters
    ----------
    process : SDE or ODE
        SDE in Itô calculus.

    Raises
    ------
    InputError
        If it is declared in Stratonovich calculus with g depending on x.

    Notes
    -----
    Kunita (1990), section 4.6; for flows the instantaneous change of variables, Chen et al. (2018).

    Examples
    --------
    >>> flow = fps.ODE(lambda x: -2 * x)
    >>> ens = fps.simulate(flow, fps.PointMass(1.0), (0, 1), n_paths=2, n_steps=4,
    ...                    functionals={"log_det": fps.functionals.log_det(flow)})
    >>> np.round(ens.functionals["log_det"], 6)
    array([-2., -2.])
    """
    _check_process("process", process)
    if process.calculus != "ito" and process.diffusion_coefficient.uses_x:
        raise InputError("log_det reads an Itô drift", process, "pass process.to_ito()")
    if not process.diffusion_coefficient.uses_x:
        return process.drift_dx, 0.0

    def g_dx(x: np.ndarray, t: float) -> np.ndarray:
        return 0.5 * process.diffusion_squared_dx(x, t) / process.diffusion(x, t)

    return lambda x, t: process.drift_dx(x, t) - 0.5 * g_dx(x, t) ** 2, g_dx


def _check_process(what: str, process: Any) -> None:
    if not isinstance(process, Process):
        raise InputError(f"{what} must be an SDE or an ODE", process, "declare one: fps.SDE(drift, diffusion)")


def _drift_gap(process: Process, other: Process) -> Function:
    for what, one in (("process", process), ("other", other)):
        _check_process(what, one)
        if one.is_ode:
            raise InputError("path laws are compared for processes with noise", one, "give both the same g > 0")
    p, q = process.to_ito(), other.to_ito()
    x, t = p.diffusion_coefficient.probe_points(), p.probe_time
    mine, theirs = p.diffusion_squared(x, t), q.diffusion_squared(x, t)
    if np.abs(mine - theirs).max() > _SAME * mine.max():
        j = int(np.abs(mine - theirs).argmax())
        raise InputError(
            "path laws have a density only if both processes have the same g",
            f"g² = {mine[j]:.6g} and {theirs[j]:.6g} at x={x[j]:.4g}, t={t:g}",
            "give both the same diffusion",
        )
    return lambda x, t: (p.drift(x, t) - q.drift(x, t)) / p.diffusion(x, t)
