"""Boundaries of a process: the choices, and which ends may be left natural or may move."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_choice
from fpsolve.problem.ends import classify_end, is_reached
from fpsolve.problem.support import SIDES

BOUNDARIES = ("natural", "reflecting", "absorbing", "periodic")


def check_natural_ends(process: Any) -> None:
    """Refuse a natural boundary at a finite end that the process reaches, which is regular or an exit."""
    for side, (end, kind) in enumerate(zip(process.support, process.boundary, strict=True)):
        if np.isfinite(end) and kind == "natural" and is_reached(process, side, process.probe_time):
            found = classify_end(process, side, process.probe_time)
            raise InputError(
                "a natural boundary needs an end that the process cannot reach",
                f"the {SIDES[side]} end {end:g}, which it reaches: {found.kind}, {found.reason}",
                f"declare boundary= as one of {', '.join(BOUNDARIES[1:])} there (a pair sets each side)",
            )


def checked_boundary(
    boundary: Any, support: tuple[float, float], moving: tuple[bool, bool] = (False, False)
) -> tuple[str, str]:
    """Return the boundary of each side; one name stands for every finite end."""
    if not isinstance(boundary, (str, tuple, list)) or (not isinstance(boundary, str) and len(boundary) != 2):
        raise InputError("boundary must be one name or a pair (left, right)", boundary, "name each side")
    finite = np.isfinite(support)
    if isinstance(boundary, str):
        kind = check_choice("boundary", boundary, BOUNDARIES)
        pair = [kind if end or not finite.any() else "natural" for end in finite]
    else:
        pair = [check_choice("boundary", kind, BOUNDARIES) for kind in boundary]
    for side, moves, kind in zip(SIDES, moving, pair, strict=True):
        if moves and kind not in ("absorbing", "reflecting"):
            raise InputError(
                "a moving end needs a boundary that acts there",
                f"boundary {kind} at the moving {side} end",
                "declare boundary= as absorbing or reflecting there (a pair sets each side)",
            )
    if "periodic" in pair and not (pair == ["periodic", "periodic"] and finite.all()):
        raise InputError(
            "a periodic boundary joins two finite ends",
            f"boundary {boundary!r} with support {support}",
            'write boundary="periodic" and a finite support=(left, right)',
        )
    for side, end, kind in zip(SIDES, finite, pair, strict=True):
        if kind != "natural" and not end:
            raise InputError(
                f"a boundary that is {kind} needs a finite end",
                f"support {support}",
                f"give support= a finite {side} end, or leave that side natural",
            )
    return pair[0], pair[1]
