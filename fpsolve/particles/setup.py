"""From the arguments of `simulate` to a Run: validated, with coefficients, segments and arrays to fill."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_times
from fpsolve.kernels.stepping import HUGE, Limits
from fpsolve.particles.plan import segments
from fpsolve.particles.run import Run, Store
from fpsolve.problem.coefficient import Binding, Coefficient
from fpsolve.problem.process import Process

ROWS = {"none": 0, "final": 1, "saved": None}  # rows of positions kept; None: one per save time


def prepared(
    ito: Process, span: tuple[float, float], save_at: Any, n_paths: int, n_steps: int, *, keep: str, observables: Any,
    functionals: Any, key: int, extent: float, coupled: bool,
) -> Run:  # fmt: skip
    """Return the Run; `extent` is the size of the start, beyond 100 times of which a coefficient may overflow."""
    times = np.array(span[1:]) if save_at is None else check_times("save_at", save_at, span)
    _check_functionals(functionals)
    coefficients = _coefficients(ito, functionals or {})
    plan = segments(span, times, n_steps)
    levels = 2 if coupled else 1
    rows = ROWS[keep]
    sums = (levels, len(functionals or {}), n_paths if keep != "none" else 0)
    path_steps = float(n_paths) * sum(segment.steps for segment in plan) * (3 if coupled else 1)
    return Run(
        n_paths=n_paths,
        path_steps=path_steps,
        segments=plan,
        save_at=times,
        keep=keep,
        key=key,
        coefficients=coefficients,
        blocks=[coefficient.block(path_steps, span) for coefficient in coefficients],
        limits=_limits(ito, 100.0 * extent),
        observables=_bound_observables(observables, n_paths),
        coupled=coupled,
        store=Store(np.empty((levels, times.size if rows is None else rows, n_paths)), np.empty(sums)),
    )


def _check_functionals(functionals: Any) -> None:
    rule = "functionals must be a dict from names to pairs (a, b)"
    if functionals is not None and not isinstance(functionals, Mapping):
        raise InputError(rule, functionals, 'write for instance {"work": (a, b)}, for ∫ a dt + ∫ b dW')
    for name, pair in (functionals or {}).items():
        if not isinstance(name, str) or not name.isidentifier() or name in ("x", "t"):
            raise InputError("the name of a functional must be an identifier other than x and t", name, "rename it")
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise InputError(rule, {name: pair}, f"write {{{name!r}: (a, b)}}, with 0.0 for a missing part")


def _bound_observables(observables: Any, n_paths: int) -> dict[str, Binding]:
    if observables is not None and not isinstance(observables, Mapping):
        raise InputError(
            "observables must be a dict from names to functions of (x, t)",
            observables,
            'write for instance {"mean": lambda x: x}',
        )
    if observables and n_paths < 2:
        raise InputError("observables need at least two paths, for their standard errors", n_paths, "raise n_paths")
    return {name: Binding(f"observable {name!r}", fn, ("x", "t"), {}) for name, fn in (observables or {}).items()}


def _coefficients(ito: Process, functionals: Mapping[str, tuple[Any, Any]]) -> list[Coefficient]:
    found = [ito.drift_coefficient, ito.diffusion_coefficient]
    for name, pair in functionals.items():
        for part, kind in zip(pair, ("dt", "dW"), strict=True):
            found.append(Coefficient(f"{kind} part of functional {name!r}", part, {}, ito.support))
    return found


def _limits(ito: Process, far: float) -> Limits:
    if any(ito.moving):
        raise InputError("simulate needs ends that stay", ito, "use the grid engine for a moving support")
    for side, kind in zip(("left", "right"), ito.boundary, strict=True):
        if kind not in ("natural", "reflecting"):
            raise InputError(
                "simulate supports natural and reflecting boundaries",
                f"{kind} on the {side}",
                "use the grid engine for it",
            )
    left, right = ito.support
    folds_left, folds_right = (
        math.isfinite(end) and kind == "reflecting" for end, kind in zip(ito.support, ito.boundary, strict=True)
    )
    return Limits(max(left, -HUGE), min(right, HUGE), folds_left, folds_right, far)
