"""From the arguments of `simulate` to a Run: validated, with coefficients, segments and noise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_times
from fpsolve.kernels import schemes as kinds
from fpsolve.kernels.brownian import Noise
from fpsolve.kernels.schemes import OWN_ROWS, Method, step_block
from fpsolve.kernels.stepping import HUGE, INTEGRAL, MAXIMUM, MINIMUM
from fpsolve.kernels.walls import ABSORBING, NATURAL, PERIODIC, REFLECTING, Limits
from fpsolve.particles.brownian import BrownianPath
from fpsolve.particles.plan import check_all_equal, segments
from fpsolve.particles.run import MAX_TASK, Run
from fpsolve.particles.schemes import Scheme, method_of
from fpsolve.particles.tableaux import linear_rate
from fpsolve.problem.coefficient import Binding, Coefficient
from fpsolve.problem.process import Process

KEPT = ("none", "final", "saved")
NOTHING = "nothing"  # name of the row that a scheme does not need
_EXTREMES = {"maximum": MAXIMUM, "minimum": MINIMUM}
_ENDS = {"natural": NATURAL, "reflecting": REFLECTING, "absorbing": ABSORBING, "periodic": PERIODIC}


def prepared(
    process: Process, span: tuple[float, float], save_at: Any, n_paths: int, n_steps: int, scheme: Scheme, *,
    keep: str, observables: Any, functionals: Any, key: int, extent: float, coupled: bool, bridge: bool,
    brownian: BrownianPath | None,
) -> Run:  # fmt: skip
    """Return the Run; `extent` is the size of the start, beyond 100 times of which a coefficient may overflow."""
    scheme.check_supports(process)
    times = np.array(span[1:]) if save_at is None else check_times("save_at", save_at, span)
    _check_functionals(functionals)
    plan = segments(span, times, n_steps)
    taken = sum(segment.steps for segment in plan)
    taken *= 3 if coupled else 1
    stages = max(1, *scheme.cost)
    values, calls = float(n_paths) * taken * stages, float(-(-n_paths // MAX_TASK)) * taken * stages
    coefficients = _coefficients(process, scheme, functionals or {})
    if brownian is not None:
        _check_brownian(brownian, span, n_paths)
        check_all_equal(plan, n_steps)
    noisy = any(not coefficient.is_zero for coefficient in (coefficients[1], *coefficients[OWN_ROWS + 1 :: 2]))
    if brownian is None:
        noise = Noise(np.uint64(key), -1, span[1] - span[0], False, scheme.integral, noisy)
    else:
        noise = brownian.noise(n_steps * (2 if coupled else 1), scheme.integral)._replace(active=noisy)
    method, keeper = _method(process, scheme)
    return Run(
        n_paths=n_paths,
        path_steps=float(n_paths) * taken,
        values=values,
        calls=calls,
        segments=plan,
        save_at=times,
        keep=keep,
        noise=noise,
        method=method,
        step=keeper,
        coefficients=coefficients,
        blocks=[coefficient.path_block(values, span, calls) for coefficient in coefficients],
        kinds=np.array([_kind_of(value) for value in (functionals or {}).values()], np.uint8),
        limits=_limits(process, 100.0 * extent, bridge),
        observables=_bound_observables(observables, n_paths),
        coupled=coupled,
    )


def _check_brownian(brownian: Any, span: tuple[float, float], n_paths: int) -> None:
    if not isinstance(brownian, BrownianPath):
        raise InputError(
            "brownian must be a BrownianPath", brownian, "write for instance fps.BrownianPath(t_span, rng=1)"
        )
    if brownian.t_span != span:
        raise InputError(f"brownian must cover t_span {span} exactly", brownian.t_span, "make it for this span")
    if brownian.antithetic and n_paths % 2:
        raise InputError("antithetic paths come in pairs", n_paths, "take an even n_paths")


def _method(process: Process, scheme: Scheme) -> tuple[Method, Any]:
    """The scheme for the kernel, and what must live as long as its address."""
    if scheme.method is None:
        block = step_block(lambda x, t, h, dw, dz: scheme.step(x, t, h, dw, process, dz))
        return method_of(scheme, callback=block.address), block
    rate = linear_rate(process) if scheme.method.kind == kinds.LINEAR else None
    return method_of(scheme, number=rate), None


def _kind_of(value: Any) -> int:
    return _EXTREMES[value] if isinstance(value, str) else INTEGRAL


def _check_functionals(functionals: Any) -> None:
    rule = 'functionals must be a dict from names to pairs (a, b), "maximum" or "minimum"'
    if functionals is not None and not isinstance(functionals, Mapping):
        raise InputError(rule, functionals, 'write for instance {"work": (a, b)}, for ∫ a dt + ∫ b dW')
    for name, value in (functionals or {}).items():
        if not isinstance(name, str) or not name.isidentifier() or name in ("x", "t", "alive"):
            raise InputError("the name of a functional must be an identifier other than x, t, alive", name, "rename it")
        if isinstance(value, str) and value in _EXTREMES:
            continue
        if not isinstance(value, tuple) or len(value) != 2:
            raise InputError(rule, {name: value}, f"write {{{name!r}: (a, b)}}, with 0.0 for a missing part")


def _bound_observables(observables: Any, n_paths: int) -> dict[str, Binding]:
    if observables is not None and not isinstance(observables, Mapping):
        raise InputError(
            "observables must be a dict from names to functions of (x, t)",
            observables,
            'write for instance {"mean": lambda x: x}',
        )
    if observables and n_paths < 2:
        raise InputError("observables need at least two paths, for their standard errors", n_paths, "raise n_paths")
    return {
        name: Binding(f"observable {name!r}", fn, ("x", "t", "alive"), {}) for name, fn in (observables or {}).items()
    }


def _coefficients(process: Process, scheme: Scheme, functionals: Mapping[str, Any]) -> list[Coefficient]:
    """One for each row of the kernel's table."""
    found = [process.drift_coefficient, process.diffusion_coefficient, _extra(process, scheme)]
    for name, value in functionals.items():
        for part, kind in zip((0.0, 0.0) if isinstance(value, str) else value, ("dt", "dW"), strict=True):
            found.append(Coefficient(f"{kind} part of functional {name!r}", part, {}, process.support))
    return found


def _extra(process: Process, scheme: Scheme) -> Coefficient:
    """What a scheme needs beside drift and diffusion."""
    kind = scheme.method.kind if scheme.method else None
    if kind == kinds.MILSTEIN and process.diffusion_coefficient.uses_x:
        return Coefficient("¼ ∂x g²", lambda x, t: 0.25 * process.diffusion_squared_dx(x, t), {}, process.support)
    if scheme.name in ("ula", "mala") and process.target is None:
        raise InputError(
            f"scheme {scheme.name!r} is for Langevin processes", process, "make one: fps.processes.langevin(target)"
        )
    if kind == kinds.MALA:
        return Coefficient("log-density of the target", lambda x: process.target.logpdf(x), {}, process.support)
    return Coefficient(NOTHING, 0.0)


def _limits(process: Process, far: float, bridge: bool) -> Limits:
    if any(process.moving):
        raise InputError("simulate needs ends that stay", process, "use the grid engine for a moving support")
    left, right = process.support
    at_left, at_right = (
        _ENDS[kind] if math.isfinite(end) else NATURAL
        for end, kind in zip(process.support, process.boundary, strict=True)
    )
    return Limits(max(left, -HUGE), min(right, HUGE), at_left, at_right, bool(bridge), far)
