"""What part of an interval a spectral problem needs: how each end closes it, and where the computation is cut."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fpsolve.errors import InputError
from fpsolve.grids.long_time.scale_speed import Autonomous, ScaleSpeed
from fpsolve.problem.support import SIDES

Array = np.ndarray
POWER_LAW = 1e-9  # change of exponents below which the rest up to a finite end counts as a power law
_LOST = 2e-15  # rounding of x, which near a finite end is many times x - end
_INWARDS = 6  # panels over which an end is judged


def end_kinds(coefficients: Autonomous, look: ScaleSpeed) -> tuple[str, str]:
    """Return "closed" (no flux) or "open" (eigenfunctions vanish) for each end.

    An end with infinite mass cannot be closed; natural ends are closed where their mass is finite, else open.
    """
    kinds = []
    for side, declared in enumerate(coefficients.boundary):
        mass = look.tail(look.log_speed, side) < math.inf
        scale = look.tail(look.log_scale, side) < math.inf
        if declared == "absorbing" and scale:
            kinds.append("open")
        elif mass and not (declared == "natural" and scale and not math.isfinite(coefficients.support[side])):
            kinds.append("closed")
        elif scale and declared != "reflecting":
            kinds.append("open")
        else:
            raise InputError(
                "an end must have finite mass or be reached for good, or the spectrum is continuous down to zero",
                f"the {SIDES[side]} end, towards which neither scale nor speed density has a finite integral",
                "declare a reflecting or absorbing wall there, or add a drift that confines",
            )
    return kinds[0], kinds[1]


@dataclass(frozen=True)
class Cut:
    """One end of the computation: its v, whether the rest is taken as a power law, and where spectra may be continuous.

    `edge` is f²/(2g²) or its like: 1/(4 B) with B = (mass beyond) x (scale before); the continuous spectrum, if there
    is one, begins at its limit.
    """

    v: float
    power_law: bool
    edge: float
    farthest: bool


def cuts(look: ScaleSpeed, kinds: tuple[str, str], depth: float) -> tuple[Cut, Cut]:
    """Return where to cut on both sides if densities that are e^-depth of their top do not matter."""
    left, right = (_cut(look, kinds, side, depth) for side in (0, 1))
    return left, right


def top_seen_from(look: ScaleSpeed, kinds: tuple[str, str], side: int) -> tuple[float, Array]:
    """Logarithm of the top of the density that falls towards an end, and the logarithms at all nodes, per dv."""
    density = look.log_speed if kinds[side] == "closed" else look.log_scale
    logs = (density + look.log_slope).ravel()
    if look.tail(density, 1 - side) < math.inf:
        return float(logs.max()), logs
    # it grows without bound on the other side: the base is what there is to compare with
    base = int(np.argmin(np.abs(look.rise_at_edges)))
    return float(logs[min(base * look.v.shape[1], logs.size - 1)]), logs


def _cut(look: ScaleSpeed, kinds: tuple[str, str], side: int, depth: float) -> Cut:
    outward = slice(None) if side == 0 else slice(None, None, -1)  # from the end to the inside
    density, other = look.log_speed, look.log_scale
    if kinds[side] == "open":
        density, other = other, density
    logs, v = (density + look.log_slope).ravel()[outward], look.v.ravel()[outward]
    top = top_seen_from(look, kinds, side)[0]
    deep = max(min(int(np.argmax(logs > top - depth)), logs.size - 2) - 1, 0)
    edges = _edges(look, density, other)[outward]
    if not math.isfinite((look.coordinate.left, look.coordinate.right)[side]):
        return Cut(float(v[deep]), False, float(edges[deep]), deep == 0)
    nodes = look.v.shape[1]
    strict, loose = (panels * nodes for panels in _power_law(look, side))
    at = max(deep, strict)
    steep = edges[loose] == math.inf or edges[max(loose - 4 * nodes, 0)] > 2.0 * edges[loose]
    # a density may be negligible before the power law begins, and its modes are not
    if steep and deep <= loose:
        return Cut(float(v[at]), True, float(edges[at]), at == 0)
    return Cut(float(v[deep]), False, float(edges[deep]), deep == 0)


def _power_law(look: ScaleSpeed, side: int) -> tuple[int, int]:
    """Number of outermost panels in which scale and speed are powers of the distance, and that but for rounding."""
    outward = slice(None) if side == 0 else slice(None, None, -1)
    width = np.diff(look.edges)
    force = (np.diff(look.rise_at_edges) / width)[outward]
    noise = ((look.log_noise[:, -1] - look.log_noise[:, 0]) / (look.v[:, -1] - look.v[:, 0]))[outward]
    # the noise itself is lost in rounding when x - end is; the innermost of the outer panels know the power best
    reference = [float(np.median(a[:_INWARDS])) for a in (force, noise)]
    change = np.abs(force - reference[0]) + np.abs(noise - reference[1])
    lost = _LOST * ((np.abs(look.x) * np.exp(-look.log_slope)).max(axis=1)[outward] * (1.0 + np.abs(force)))
    strict, loose = (
        max(int(np.argmax(differs)) - 1, 0) if differs.any() else 0
        for differs in (change > POWER_LAW, change > POWER_LAW + lost)
    )
    return strict, loose


def _edges(look: ScaleSpeed, density: Array, other: Array) -> Array:
    """1/(4 B) at all nodes in a row; inf where B has no meaning."""
    v = look.v.ravel()
    log_ratio = (2.0 * look.log_slope + math.log(2.0) - look.log_noise).ravel()
    with np.errstate(all="ignore"):
        falls, grows = (np.gradient((logs + look.log_slope).ravel(), v) for logs in (density, other))
        return np.where(falls * grows < -1e-6, -0.25 * falls * grows * np.exp(-log_ratio), math.inf)
