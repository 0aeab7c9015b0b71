"""Increments of Brownian paths: independent ones step by step, or those of one path at any dyadic step size.

A tree over the whole span holds, for every node, the increment w over its interval of length H and the space-time area
a = (1/H) ∫ (W_s - W_start) ds - w/2, which is independent of w and has variance H/12. A node splits into halves of
length q = H/2 by two normals of its own, keyed by (path, node): with d = w₁ - w₂, e = a₁ - a₂,

    d = 3 a + √(q/2) ξ,   a₁ + a₂ = 2 a - d/2,   e = √(q/6) η

so that every level is the same path, with its iterated integral ∫ (W_s - W_start) ds = H (a + w/2).
Source: Lévy's construction, joint with the area as in Foster, Lyons, Oberhauser (2020), section 4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from fpsolve.kernels.compile import inner_kernel, kernel
from fpsolve.kernels.normals import U, box_muller, fill_normal_pairs, philox

# who draws: the tag of the counter
STEPS, TREE, BRIDGE = 0, 1, 2
MOST_LEVELS = 40  # a node's number has 48 bits
_LOW = U(0xFFFFFFFF)


class Noise(NamedTuple):
    """Where the increments of a run come from."""

    key: np.uint64
    levels: int  # -1: independent increments; else a tree with 2**levels leaves
    span: float  # length of the tree's root
    antithetic: bool  # paths 2j and 2j + 1 have opposite signs
    integral: bool  # whether the iterated integral is wanted
    active: bool  # whether anything is driven by noise


class Tree(NamedTuple):
    """Right children on the way down to the present leaf, by level, and the leaf itself."""

    w: np.ndarray  # (levels + 1, n)
    a: np.ndarray
    leaf_w: np.ndarray  # (n,)
    leaf_a: np.ndarray


class Draws(NamedTuple):
    """Scratch of one block."""

    u: np.ndarray  # (n,) uint64
    v: np.ndarray
    z: np.ndarray  # (4, n): normals of two steps, and of their integrals


@inner_kernel
def draw_normals(first_path, pair, draw, noise, draws, z0, z1):  # type: ignore[no-untyped-def]
    """Fill z0 and z1 (n,) for the paths from `first_path` on.

    Call it with np.int64(0), not 0: numba compiles once more for every literal.
    """
    n, tag = z0.size, STEPS if noise.levels < 0 else TREE
    if not noise.antithetic:
        fill_normal_pairs(U(first_path), U(pair), U(tag), U(draw), U(noise.key), draws.u, draws.v, z0, z1)
        return
    low = first_path // 2
    m = (first_path + n - 1) // 2 - low + 1
    fill_normal_pairs(U(low), U(pair), U(tag), U(draw), U(noise.key), draws.u[:m], draws.v[:m], z0[:m], z1[:m])
    for j in range(n - 1, -1, -1):  # from the end, so that nothing is overwritten before it is read
        k, sign = (first_path + j) // 2 - low, 1.0 - 2.0 * ((first_path + j) % 2)
        z0[j], z1[j] = sign * z0[k], sign * z1[k]


@inner_kernel
def uniforms(path, step, tag, draw, key):  # type: ignore[no-untyped-def]
    """Return two uniforms in (0, 1) and a standard normal that share nothing, for one path and step."""
    tail = (U(tag) & U(0xFFFF)) | ((U(draw) & U(0xFFFF)) << U(16))
    low, high = U(path) & _LOW, (U(path) >> U(32)) & U(0xFFFF)
    step_low, step_high = (U(step) & U(0xFFFF)) << U(16), (U(step) >> U(16)) & _LOW
    k0, k1 = U(key) & _LOW, U(key) >> U(32)
    a, b, c, d = philox(low, high | step_low, step_high, tail, k0, k1)
    e, f, g, h = philox(low, high | step_low, step_high, tail | U(0x8000), k0, k1)
    normal, _ = box_muller((e << U(32)) | f, (g << U(32)) | h)
    first, second = (a << U(32)) | b, (c << U(32)) | d
    return (float(first >> U(12)) + 0.5) / 2.0**52, (float(second >> U(12)) + 0.5) / 2.0**52, normal


@inner_kernel
def _split(noise, first_path, level, index, tree, draws):  # type: ignore[no-untyped-def]
    """Split the leaf, which is node `index` of `level`: it becomes the left half, the right one is kept."""
    z0, z1, w, a = draws.z[0], draws.z[1], tree.leaf_w, tree.leaf_a
    draw_normals(first_path, (1 << level) + index, np.int64(0), noise, draws, z0, z1)
    q = noise.span / 2.0 ** (level + 1)
    for_difference, for_areas = math.sqrt(0.5 * q), math.sqrt(q / 6.0)
    for j in range(w.size):
        d = 3.0 * a[j] + for_difference * z0[j]
        total, e = 2.0 * a[j] - 0.5 * d, for_areas * z1[j]
        tree.w[level + 1, j], tree.a[level + 1, j] = 0.5 * (w[j] - d), 0.5 * (total - e)
        w[j], a[j] = 0.5 * (w[j] + d), 0.5 * (total + e)


@inner_kernel
def _take_right(tree, level):  # type: ignore[no-untyped-def]
    for j in range(tree.leaf_w.size):
        tree.leaf_w[j], tree.leaf_a[j] = tree.w[level, j], tree.a[level, j]


@inner_kernel
def _seek(noise, first_path, k, tree, draws):  # type: ignore[no-untyped-def]
    """Go from the root to leaf k."""
    z0, z1 = draws.z[0], draws.z[1]
    draw_normals(first_path, np.int64(0), np.int64(0), noise, draws, z0, z1)
    of_w, of_a = math.sqrt(noise.span), math.sqrt(noise.span / 12.0)
    for j in range(z0.size):
        tree.leaf_w[j], tree.leaf_a[j] = of_w * z0[j], of_a * z1[j]
    for level in range(noise.levels):
        _split(noise, first_path, level, k >> (noise.levels - level), tree, draws)
        if (k >> (noise.levels - level - 1)) & 1:
            _take_right(tree, level + 1)


@inner_kernel
def _next_leaf(noise, first_path, k, tree, draws):  # type: ignore[no-untyped-def]
    """Go from leaf k - 1 to leaf k."""
    level, index = noise.levels, k
    while index & 1 == 0:
        level, index = level - 1, index >> 1
    _take_right(tree, level)
    while level < noise.levels:
        _split(noise, first_path, level, index, tree, draws)
        level, index = level + 1, index << 1


@inner_kernel
def new_tree(noise, n):  # type: ignore[no-untyped-def]
    """Return room for a tree over n paths."""
    rows = max(0, noise.levels) + 1
    n = n if noise.levels >= 0 else 0
    return Tree(np.empty((rows, n)), np.empty((rows, n)), np.empty(n), np.empty(n))


@inner_kernel
def new_draws(n):  # type: ignore[no-untyped-def]
    """Return scratch for n paths."""
    return Draws(np.empty(n, np.uint64), np.empty(n, np.uint64), np.zeros((4, n)))


@inner_kernel
def draw_step(noise, first_path, k, seek, h, tree, draws, dw, dz):  # type: ignore[no-untyped-def]
    """Fill dw and, if wanted, dz = ∫ (W_s - W_start) ds over step k of length h; `seek` if step k - 1 was not drawn."""
    if not noise.active:
        return
    if noise.levels >= 0:
        if seek:
            _seek(noise, first_path, k, tree, draws)
        else:
            _next_leaf(noise, first_path, k, tree, draws)
        for j in range(dw.size):
            dw[j] = tree.leaf_w[j]
        if noise.integral:
            for j in range(dw.size):
                dz[j] = h * (tree.leaf_a[j] + 0.5 * tree.leaf_w[j])
        return
    root, z = math.sqrt(h), draws.z
    if seek or k % 2 == 0:
        for draw in range(2 if noise.integral else 1):
            draw_normals(first_path, k // 2, draw, noise, draws, z[2 * draw], z[2 * draw + 1])
    mine = z[k % 2]
    for j in range(dw.size):
        dw[j] = root * mine[j]
    if noise.integral:
        of_area, area = root * h / math.sqrt(12.0), z[2 + k % 2]
        for j in range(dw.size):
            dz[j] = 0.5 * h * dw[j] + of_area * area[j]


@kernel
def fill_increments(noise, first_path, h, dw, dz):  # type: ignore[no-untyped-def]
    """Fill dw and dz (steps, n) for all steps of length h from step 0 on."""
    tree, draws = new_tree(noise, dw.shape[1]), new_draws(dw.shape[1])
    for k in range(dw.shape[0]):
        draw_step(noise, first_path, k, k == 0, h, tree, draws, dw[k], dz[k])
