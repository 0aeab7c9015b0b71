"""Support and boundary of a process: the choices, and Feller's test for the natural one."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_choice

BOUNDARIES = ("natural", "reflecting", "absorbing", "periodic")


def check_natural_ends(process: Any) -> None:
    """Refuse a natural boundary at a finite end that the process reaches."""
    for side, (end, kind) in enumerate(zip(process.support, process.boundary, strict=True)):
        if np.isfinite(end) and kind == "natural" and _is_reached(process, side):
            raise InputError(
                "a natural boundary needs an end that the process cannot reach",
                f"the {('left', 'right')[side]} end {end:g}, which it reaches",
                f"declare boundary= as one of {', '.join(BOUNDARIES[1:])} there (a pair sets each side)",
            )


def _is_reached(process: Any, side: int) -> bool:
    """Feller's test near a finite end: g² ~ c d^p at distance d; reached if p < 1, or p = 1 and 2 f d / g² < 1.

    Where the noise fades faster, the drift decides: it reaches the end if it points outwards and fades slower than d.
    """
    inward = 1.0 if side == 0 else -1.0
    scale = min(1.0, process.support[1] - process.support[0])
    distance = scale * np.array([1e-5, 1e-6])
    x = process.support[side] + inward * distance
    t = process.probe_time
    g2 = process.diffusion_squared(x, t)
    from_noise = 0.25 * process.diffusion_squared_dx(x, t) if process.calculus == "stratonovich" else 0.0
    push = inward * (process.drift(x, t) + from_noise)
    if (g2 <= 0).any() or _power(g2, distance) > 1.5:
        return bool(push.max() < -1e-9 and _power(push, distance) < 0.9)
    return bool(2.0 * push[1] * distance[1] / g2[1] < 1.0 - 1e-4)


def _power(values: np.ndarray, distance: np.ndarray) -> float:
    """Exponent p of values ~ distance^p from two points."""
    return float(np.log(values[0] / values[1]) / np.log(distance[0] / distance[1]))


def checked_support(support: Any) -> tuple[float, float]:
    """Return support as ordered floats."""
    rule = "support must be a pair (left, right) with left < right"
    try:
        left, right = (float(end) for end in support)
    except (TypeError, ValueError):
        raise InputError(rule, support, "write for instance support=(0, np.inf)") from None
    if not left < right:
        raise InputError(rule, support, "swap the ends")
    return left, right


def checked_boundary(boundary: Any, support: tuple[float, float]) -> tuple[str, str]:
    """Return the boundary of each side; one name stands for every finite end."""
    if not isinstance(boundary, (str, tuple, list)) or (not isinstance(boundary, str) and len(boundary) != 2):
        raise InputError("boundary must be one name or a pair (left, right)", boundary, "name each side")
    finite = np.isfinite(support)
    if isinstance(boundary, str):
        kind = check_choice("boundary", boundary, BOUNDARIES)
        pair = [kind if end or not finite.any() else "natural" for end in finite]
    else:
        pair = [check_choice("boundary", kind, BOUNDARIES) for kind in boundary]
    if "periodic" in pair and not (pair == ["periodic", "periodic"] and finite.all()):
        raise InputError(
            "a periodic boundary joins two finite ends",
            f"boundary {boundary!r} with support {support}",
            'write boundary="periodic" and a finite support=(left, right)',
        )
    for side, end, kind in zip(("left", "right"), finite, pair, strict=True):
        if kind != "natural" and not end:
            raise InputError(
                f"a boundary that is {kind} needs a finite end",
                f"support {support}",
                f"give support= a finite {side} end, or leave that side natural",
            )
    return pair[0], pair[1]
