"""What happens to a path at the ends of the support during a step, by the Brownian bridge between its two ends.

Between x and y the path is taken as a bridge with the noise g of the left end: it has touched a wall a with probability
exp(-2 (x-a)(y-a)/(g² h)) if both lie inside. Its least value, its greatest, and the time at which it first touches are
drawn from their laws. Without the bridge only the two ends are seen: a path is absorbed if it ends outside, and put
back onto a reflecting wall, both with a bias of order √h.
Sources: Asmussen, Glynn, Pitman (1995); Gobet (2000); Lépingle (1995) for reflection; Michael, Schucany, Haas (1976).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from fpsolve.kernels.brownian import BRIDGE, uniforms
from fpsolve.kernels.compile import inner_kernel

NATURAL, REFLECTING, ABSORBING, PERIODIC = 0, 1, 2, 3
_REACH = 20.0  # in (x-a)(y-a)/(g² h): beyond, a bridge touches with probability exp(-40)


class Limits(NamedTuple):
    """Where paths may be: ends within ±HUGE, what they do, and from what |x| on a coefficient may overflow."""

    left: float
    right: float
    at_left: int
    at_right: int
    bridge: bool
    far: float


@inner_kernel
def bridge_top(x, y, variance, uniform):  # type: ignore[no-untyped-def]
    """Greatest value of a bridge from x to y whose free end has `variance`; -bridge_top(-x, -y) is the least."""
    return 0.5 * (x + y + math.sqrt((y - x) ** 2 - 2.0 * variance * math.log(uniform)))


@inner_kernel
def count_near(x, new, g, ended, h, limits):  # type: ignore[no-untyped-def]
    """How many living paths come so near a wall that a bridge from x to new may have touched it."""
    near = 0
    if not limits.bridge:
        return near
    if limits.at_left == REFLECTING or limits.at_left == ABSORBING:
        for j in range(x.size):
            close = (x[j] - limits.left) * (new[j] - limits.left) < _REACH * g[j] * g[j] * h
            near += close and ended[j] == math.inf
    if limits.at_right == REFLECTING or limits.at_right == ABSORBING:
        for j in range(x.size):
            close = (limits.right - x[j]) * (limits.right - new[j]) < _REACH * g[j] * g[j] * h
            near += close and ended[j] == math.inf
    return near


@inner_kernel
def _fold(y, limits):  # type: ignore[no-untyped-def]
    """Reflect until inside."""
    if limits.at_left == REFLECTING and limits.at_right == REFLECTING:
        if limits.left <= y <= limits.right:
            return y
        width = limits.right - limits.left
        y = (y - limits.left) % (2.0 * width)
        return limits.left + (y if y <= width else 2.0 * width - y)
    if limits.at_left == REFLECTING and y < limits.left:
        return 2.0 * limits.left - y
    if limits.at_right == REFLECTING and y > limits.right:
        return 2.0 * limits.right - y
    return y


@inner_kernel
def _pushed(x, y, variance, limits, path, k, key, draw):  # type: ignore[no-untyped-def]
    """Skorokhod's reflection: y moved inwards by as much as the bridge went beyond the nearer reflecting wall."""
    from_left = min(x, y) - limits.left if limits.at_left == REFLECTING else math.inf
    from_right = limits.right - max(x, y) if limits.at_right == REFLECTING else math.inf
    nearer = min(from_left, from_right)
    if nearer > 0.0 and nearer * nearer > 2.0 * _REACH * variance:
        return y
    first, second, _ = uniforms(path, k, BRIDGE, draw, key)
    if from_left <= from_right:
        return y + max(0.0, limits.left + bridge_top(-x, -y, variance, first))
    return y - max(0.0, bridge_top(x, y, variance, second) - limits.right)


@inner_kernel
def _touch_time(x, y, wall, variance, h, uniform, normal):  # type: ignore[no-untyped-def]
    """Time within a step at which a bridge that touches `wall` does so first: t/(h-t) is inverse Gaussian."""
    before, after = abs(x - wall), abs(y - wall)
    if after == 0.0:
        return h
    mean = before / after
    if variance > 0.0 and before > 0.0:
        spread = variance * normal * normal / (before * after)  # mean/shape ν
        part = 1.0 / (1.0 + 0.5 * spread + math.sqrt(spread + 0.25 * spread * spread))
        mean = mean * part if uniform * (1.0 + part) <= 1.0 else mean / part
    return h * mean / (1.0 + mean)


@inner_kernel
def _touches(x, y, wall, inwards, variance, bridge, uniform):  # type: ignore[no-untyped-def]
    """Whether the path from x to y touched an absorbing wall; `inwards` is +1 at the left end, -1 at the right."""
    if inwards * (y - wall) <= 0.0:
        return True
    return bridge and variance > 0.0 and uniform < math.exp(-2.0 * (x - wall) * (y - wall) / variance)


@inner_kernel
def meet_ends(x, y, g, h, limits, path, k, key, coarse):  # type: ignore[no-untyped-def]
    """Return (position, time within the step at which it was absorbed or inf, whether at the left) after x → y."""
    width = limits.right - limits.left
    if limits.at_left == PERIODIC:
        inside = limits.left <= y <= limits.right
        return (y if inside else limits.left + (y - limits.left) % width), math.inf, False
    variance, draw = g * g * h, 4 if coarse else 0
    hit_left = hit_right = math.inf
    if limits.at_left == ABSORBING:
        touch, choice, normal = uniforms(path, k, BRIDGE, draw + 1, key)
        if _touches(x, y, limits.left, 1.0, variance, limits.bridge, touch):
            hit_left = _touch_time(x, y, limits.left, variance, h, choice, normal) if limits.bridge else h
    if limits.at_right == ABSORBING:
        touch, choice, normal = uniforms(path, k, BRIDGE, draw + 2, key)
        if _touches(x, y, limits.right, -1.0, variance, limits.bridge, touch):
            hit_right = _touch_time(x, y, limits.right, variance, h, choice, normal) if limits.bridge else h
    if min(hit_left, hit_right) < math.inf:
        return (limits.left, hit_left, True) if hit_left <= hit_right else (limits.right, hit_right, False)
    if limits.bridge:
        # where one bridge may reach both walls it is folded, which is exact in law for constant g
        if width * width > 2.0 * _REACH * variance:
            y = _pushed(x, y, variance, limits, path, k, key, draw)
        return _fold(y, limits), math.inf, False
    if limits.at_left == REFLECTING:
        y = max(y, limits.left)
    if limits.at_right == REFLECTING:
        y = min(y, limits.right)
    return y, math.inf, False
