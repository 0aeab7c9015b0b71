"""Eigenvalues in high relative accuracy from the inverse of the generator, factored as A Aᵀ.

The generator is L φ = (1/m) (φ'/s)' with speed m and scale s. From the flux y = φ'/s the eigenfunction is an integral,
φ(x) = ∫ K(x, u) s(u) y(u) du with K = 1{u < x} - c, and the other way round; with √m φ and √s y as unknowns this is one
matrix A whose singular values are 1/√λ. Rounding is relative to the largest of them, so that a decay rate of 1e-6
beside others of order one has all its digits, and the others lose only as many as √(λ/1e-6) has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fpsolve.errors import InputError
from fpsolve.grids.long_time.scale_speed import ScaleSpeed, gauss

Array = np.ndarray
_LARGEST = 1e150  # entry whose square float64 still holds
_NARROWEST, _WIDEST = 4, 8  # vectors that are iterated at once


@dataclass(frozen=True)
class Modes:
    """Decaying modes: rates ascending (k,), values φ and fluxes y = φ'/s at the nodes, (k, panels, nodes).

    They are orthonormal in the speed density divided by exp(log_mass), fluxes belong to that too. `slack` is the
    share of each mode (of φ² m) in the outermost panel on the left and on the right, (k, 2); `rounding` and `beyond`
    are relative errors of the rates from rounding and from what lies beyond the outermost edges.
    """

    mesh: ScaleSpeed
    rates: Array
    values: Array
    fluxes: Array
    log_mass: float
    slack: Array
    rounding: Array
    beyond: Array


def modes(mesh: ScaleSpeed, kinds: tuple[str, str], count: int, *, ring: bool = False) -> Modes:
    """Return the first decaying modes of a stretch whose ends are "closed" or "open"."""
    log_mass = _log_total(mesh, mesh.log_speed, kinds, "closed", ring) if "open" not in kinds else 0.0
    factor = Factor(mesh, kinds, log_mass, ring)
    left, sizes, right, left_over = _largest_singular(factor, count)
    u, v = factor.inner(left.T), factor.inner(right)
    shape = (count, *mesh.v.shape)
    sign = np.sign(u[np.arange(count), _last_large(u)])[:, None]
    with np.errstate(over="ignore"):
        values = (sign * u * np.exp(-factor.log_rows)).reshape(shape)
        fluxes = (sign * v * np.exp(-factor.log_columns) / sizes[:count, None]).reshape(shape)
    # columns are weighted with √(s ω), so that this is √(s ω) y, and y = that / √(s ω)
    shares = (u.reshape(shape) ** 2).sum(axis=2)
    rounding = (4e-16 * math.sqrt(factor.panels) + (left_over if left_over > 1e-11 else 0.0)) * sizes[0] / sizes
    found = Modes(mesh, sizes**-2.0, values, fluxes, log_mass, shares[:, [0, -1]], rounding, np.zeros(count))
    if not ring:
        ends = [(part[:, 0], part[:, -1]) for part in (left.T, right)]
        found.beyond[:] = sum(_beyond(found, kinds, side, ends[kinds[side] == "open"][side]) for side in (0, 1))
    return found


def _beyond(found: Modes, kinds: tuple[str, str], side: int, amplitude: Array) -> Array:
    """Relative error from the one node beyond an outermost edge: how φ (or y) varies there, and what its weight is."""
    mesh, at = found.mesh, (0, 0) if side == 0 else (-1, -1)
    phi, y = found.values[:, *at], found.fluxes[:, *at]
    slope = mesh.log_slope[at]
    with np.errstate(all="ignore"):
        if kinds[side] == "closed":
            density = mesh.log_speed
            change = np.abs(y / phi) * np.exp(mesh.log_scale[at] + found.log_mass + slope)
        else:
            density = mesh.log_scale
            change = found.rates * np.abs(phi / y) * np.exp(mesh.log_speed[at] - found.log_mass + slope)
        change = change + _bend(mesh, density, side)
    return 2.0 * amplitude**2 * np.nan_to_num(change, nan=0.0, posinf=1.0)


def _bend(mesh: ScaleSpeed, log_density: Array, side: int) -> float:
    """Relative change of the slope of a logarithm from the second panel to the first, beyond which it is straight."""
    panels = [0, 1] if side == 0 else [-1, -2]
    logs, v = (log_density + mesh.log_slope)[panels], mesh.v[panels]
    first, second = (logs[:, -1] - logs[:, 0]) / (v[:, -1] - v[:, 0])
    return abs(float(second / first) - 1.0)


def _largest_singular(matrix: Factor, count: int) -> tuple[Array, Array, Array, float]:
    """Largest singular triples, and what they leave over relative to the largest.

    They come from a block Krylov space, orthonormal at each step, so that pairs of equal ones are found.
    """
    width = min(max(count, _NARROWEST), _WIDEST)
    with np.errstate(all="ignore"):
        block = matrix.transposed(np.random.default_rng(0).standard_normal((matrix.size, width)))
    if not np.abs(block).max() < _LARGEST:
        raise InputError(
            "the slowest rate must be above 1e-300, or float64 does not hold the others beside it",
            "a barrier that takes longer to cross",
            "declare an absorbing or reflecting end on the barrier and ask for each well",
        )
    basis = frame = images = np.empty((matrix.size, 0))
    look, before = 2 * count + 8, math.inf
    while True:
        block = _orthonormal(block, basis)
        image = matrix @ block
        basis, images = np.hstack([basis, block]), np.hstack([images, image])
        image = _orthonormal(image, frame)
        frame = np.hstack([frame, image])
        if basis.shape[1] >= look:
            look = basis.shape[1] + max(12, basis.shape[1] // 5)
            u, sizes, v = np.linalg.svd(frame.T @ images)
            u, sizes, v = frame @ u[:, :count], sizes[:count], v[:count] @ basis.T
            left_over = float(np.linalg.norm(matrix.transposed(u) - v.T * sizes, axis=0).max() / sizes[0])
            # once it has come down to rounding, more of them add nothing but lose their right angles
            settled = left_over <= 1e-14 or 0.5 * before < left_over < 1e-11
            if settled or basis.shape[1] > matrix.panels * matrix.nodes // 2:
                return u, sizes, v, left_over
            before = left_over
        block = matrix.transposed(image)


def _orthonormal(block: Array, basis: Array) -> Array:
    """An orthonormal basis of what a block adds to a basis; library routines for that wait for many threads."""
    for _ in range(3):
        block = block - basis @ (basis.T @ block)
        block = block / np.linalg.norm(block, axis=0)
        squares, turns = np.linalg.eigh(block.T @ block)
        block = block @ (turns / np.sqrt(np.maximum(squares, 1e-16 * squares[-1])))
    return block


def _last_large(u: Array) -> Array:
    """Index of the last entry of each row that is well above rounding."""
    large = np.abs(u) > 1e-3 * np.abs(u).max(axis=1, keepdims=True)
    return u.shape[1] - 1 - np.argmax(large[:, ::-1], axis=1)


def _log_total(mesh: ScaleSpeed, logs: Array, kinds: tuple[str, str], wanted: str, ring: bool) -> float:
    tails = [mesh.tail(logs, side) if kinds[side] == wanted and not ring else -math.inf for side in (0, 1)]
    return float(np.logaddexp(mesh.running(logs, tails[0])[1][-1], tails[1]))


def _split(mesh: ScaleSpeed, logs: Array, kinds: tuple[str, str], wanted: str, ring: bool) -> tuple[Array, Array]:
    """Logs of the shares of an integral before and behind every node, each accurate where it is small."""
    tails = [mesh.tail(logs, side) if kinds[side] == wanted and not ring else -math.inf for side in (0, 1)]
    total = np.logaddexp(mesh.running(logs, tails[0])[1][-1], tails[1])
    before = mesh.running(logs, tails[0])[0] - total
    behind = mesh.running(logs, tails[1], backwards=True)[0] - total
    return np.minimum(before, 0.0), np.minimum(behind, 0.0)


class Factor:
    """The matrix A with one row for √m φ and one column for √s y at every node, kept as sums and blocks.

    The rests beyond the outermost edges stand for one more node each: a row at a closed end, a column at an open one.
    """

    def __init__(self, mesh: ScaleSpeed, kinds: tuple[str, str], log_mass: float, ring: bool) -> None:
        self.panels, self.nodes = mesh.v.shape
        log_speed, log_scale = mesh.log_speed - log_mass, mesh.log_scale + log_mass
        rows = 0.5 * (log_speed + mesh.log_weights)
        columns = 0.5 * (log_scale + mesh.log_weights)
        self.log_rows, self.log_columns = rows.ravel(), columns.ravel()
        zero = np.zeros(rows.shape)
        # K is 1 - c for u < x and -c for u > x: logs of 1 - c and c, of which only rows or columns know
        before = behind = (zero, zero)
        if kinds == ("closed", "closed"):
            before, behind = ((zero, part) for part in _split(mesh, log_speed, kinds, "closed", ring))
        elif kinds == ("open", "open"):
            behind, before = ((part, zero) for part in _split(mesh, log_scale, kinds, "open", ring))
        elif kinds == ("open", "closed"):
            behind = (zero - math.inf, zero)
        else:
            before = (zero - math.inf, zero)
        rests = [-math.inf if ring else 0.5 * mesh.tail(log_speed if k == "closed" else log_scale, side)
                 for side, k in enumerate(kinds)]  # fmt: skip
        row_rests, column_rests = (
            [rest if kind == wanted else -math.inf for rest, kind in zip(rests, kinds, strict=True)]
            for wanted in ("closed", "open")
        )
        self._before = _padded(rows + before[0], row_rests), _padded(columns + before[1], column_rests)
        self._behind = _padded(rows + behind[0], row_rests), _padded(columns + behind[1], column_rests)
        if kinds == ("closed", "open"):
            self._before[0][:] = 0.0
        if kinds == ("open", "closed"):
            self._behind[0][:] = 0.0
        _, weights, integrals, _ = gauss(self.nodes)
        c = np.exp(behind[0][:, :, None] + behind[1][:, None, :])
        with np.errstate(all="ignore"):
            self._blocks = np.exp(rows[:, :, None] + columns[:, None, :]) * (integrals / weights - c)
        self._unit = _padded(columns - columns.max(), column_rests).ravel() if ring else None
        if self._unit is not None:
            self._unit /= np.linalg.norm(self._unit)

    @property
    def size(self) -> int:
        """Length of the vectors: nodes of all panels, and one panel more on each side for the rests."""
        return (self.panels + 2) * self.nodes

    def inner(self, vectors: Array) -> Array:
        """The part of vectors (..., size) that belongs to nodes."""
        return vectors[..., self.nodes : -self.nodes]

    def __matmul__(self, h: Array) -> Array:
        if self._unit is not None:
            h = h - np.outer(self._unit, self._unit @ h)
        (low, low_columns), (high, high_columns) = self._before, self._behind
        found = low * _sums_before(low_columns, self._shaped(h)) - high * _sums_after(high_columns, self._shaped(h))
        found[1:-1] += self._blocks @ self._shaped(h)[1:-1]
        return found.reshape(self.size, -1)

    def transposed(self, g: Array) -> Array:
        """Aᵀ g."""
        (low, low_columns), (high, high_columns) = self._before, self._behind
        found = low_columns * _sums_after(low, self._shaped(g)) - high_columns * _sums_before(high, self._shaped(g))
        found[1:-1] += self._blocks.transpose(0, 2, 1) @ self._shaped(g)[1:-1]
        out = found.reshape(self.size, -1)
        return out if self._unit is None else out - np.outer(self._unit, self._unit @ out)

    def _shaped(self, vectors: Array) -> Array:
        return vectors.reshape(self.panels + 2, self.nodes, -1)


def _padded(logs: Array, rests: list[float]) -> Array:
    """Exponentials (panels + 2, nodes, 1), with one node each for the rests beyond the outermost edges."""
    panels, nodes = logs.shape
    out = np.full((panels + 2, nodes, 1), -math.inf)
    out[1:-1, :, 0] = logs
    out[0, 0, 0], out[-1, -1, 0] = rests
    with np.errstate(over="ignore"):
        return np.exp(out)


def _sums_before(weights: Array, vectors: Array) -> Array:
    """Weighted sums over all panels left of each panel, (panels, 1, vectors)."""
    sums = np.cumsum((weights * vectors).sum(axis=1), axis=0)
    return np.concatenate([np.zeros((1, sums.shape[1])), sums[:-1]])[:, None, :]


def _sums_after(weights: Array, vectors: Array) -> Array:
    """Weighted sums over all panels right of each panel."""
    return _sums_before(weights[::-1], vectors[::-1])[::-1]
