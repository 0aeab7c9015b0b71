"""Support and boundary of a process: the choices, and Feller's test for the natural one."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_choice

BOUNDARIES = ("natural", "reflecting", "absorbing", "periodic")
_PROBE_TIME = 0.37


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
    """Feller's test near a finite end: g² ~ c d^p at distance d; reached if p < 1, or p = 1 and 2 f d / g² < 1."""
    inward = 1.0 if side == 0 else -1.0
    scale = min(1.0, process.support[1] - process.support[0])
    distance = scale * np.array([1e-5, 1e-6])
    x = process.support[side] + inward * distance
    g2 = process.diffusion_squared(x, _PROBE_TIME)
    push = inward * process.drift(x, _PROBE_TIME)
    # a push outwards that does not fade at the end itself
    pushed_out = bool(push[1] < -1e-3 and push[1] < 0.5 * push[0])
    if (g2 <= 0).any():
        return pushed_out
    power = np.log(g2[0] / g2[1]) / np.log(distance[0] / distance[1])
    if power > 1.5:
        return pushed_out
    return bool(2.0 * push[1] * distance[1] / g2[1] < 1.0 - 1e-4)


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


def checked_boundary(boundary: Any) -> tuple[str, str]:
    """Return the boundary of each side."""
    pair = (boundary, boundary) if isinstance(boundary, str) else tuple(boundary)
    if len(pair) != 2:
        raise InputError("boundary must be one name or a pair (left, right)", boundary, "name each side")
    left, right = (check_choice("boundary", kind, BOUNDARIES) for kind in pair)
    if (left == "periodic") != (right == "periodic"):
        raise InputError("a periodic boundary joins both ends", boundary, 'write boundary="periodic"')
    return left, right
