"""Functions of one variable at Chebyshev points of panels in a row: what is kept of curves when their maker is gone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from fpsolve.grids.saved.panels import BARYCENTRIC, NODES, TESTED

SAFETY = 3.0  # a few places between the nodes stand for all
_MOST_PANELS = 600
_GAIN = 0.7  # halving a panel must lessen its misfit at least to this part


@dataclass(frozen=True)
class Pieces:
    """Panels between increasing `edges`, each with NODES Chebyshev points, neighbours sharing one."""

    edges: np.ndarray

    @cached_property
    def _edges(self) -> list[float]:
        return self.edges.tolist()

    @cached_property
    def nodes(self) -> np.ndarray:
        """Points of all panels in a row."""
        return np.append(points_of(self.edges, -np.cos(np.pi * np.arange(NODES - 1) / (NODES - 1))), self.edges[-1])

    def panel(self, x: np.ndarray) -> np.ndarray:
        """Panel of each point; the outermost ones reach further."""
        return np.clip(np.searchsorted(self.edges, x, side="right") - 1, 0, self.edges.size - 2)

    def weights(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nodes (n, NODES) that determine the polynomial at each point, and their weights."""
        rows = self.panel(x)[:, None] * (NODES - 1) + np.arange(NODES)
        apart = x[:, None] - self.nodes[rows]
        on_node = apart == 0.0
        weights = BARYCENTRIC / np.where(on_node, 1.0, apart)
        weights = np.where(on_node.any(axis=1, keepdims=True), on_node, weights)
        return rows, weights / weights.sum(axis=1, keepdims=True)

    def __call__(self, values: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Polynomials through `values` (..., nodes) at points `x` (n,): shape (..., n)."""
        rows, weights = self.weights(x)
        return np.einsum("...nk,nk->...n", values[..., rows], weights)

    def at_one(self, values: np.ndarray, x: float) -> np.ndarray:
        """Polynomials through `values` (..., nodes) at one point: what a call does, without its overhead."""
        k = min(max(bisect_right(self._edges, x) - 1, 0), len(self._edges) - 2) * (NODES - 1)
        apart = x - self.nodes[k : k + NODES]
        part = values[..., k : k + NODES]
        if not apart.all():
            return part[..., int(np.flatnonzero(apart == 0.0)[0])]
        weights = BARYCENTRIC / apart
        return part @ weights / weights.sum()

    def around(self, errors: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The larger of the errors (..., nodes) at the nodes left and right of each point."""
        k = np.clip(np.searchsorted(self.nodes, x), 1, self.nodes.size - 1)
        return np.maximum(errors[..., k - 1], errors[..., k])

    def spread(self, missed: np.ndarray) -> np.ndarray:
        """What is known of panels (..., panels) at the nodes (..., nodes): the larger where two panels meet."""
        at = np.repeat(missed, NODES - 1, axis=-1)
        result = np.concatenate([at, missed[..., -1:]], axis=-1)
        result[..., NODES - 1 : -1 : NODES - 1] = np.maximum(missed[..., 1:], missed[..., :-1])
        return result


def points_of(edges: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Points at `places` in [-1, 1] of every panel, in a row."""
    middle, half = 0.5 * (edges[1:] + edges[:-1]), 0.5 * np.diff(edges)
    return (middle[:, None] + half[:, None] * places).ravel()


def fitted(
    fn: Callable[[np.ndarray], np.ndarray],
    edges: np.ndarray,
    limit: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
    depth: int,
) -> tuple[Pieces, np.ndarray, np.ndarray]:
    """Halve panels until polynomials fit `fn`, or halving no longer helps.

    Parameters
    ----------
    fn : callable
        Points (n,) to values (..., n).
    edges : array
        Ends of the first panels.
    limit : callable
        (points, values) to what each value may be off by, and whether a panel is halved for its sake.
    depth : int
        Times that a panel may be halved; and there are at most 600 panels or so.

    Returns
    -------
    (Pieces, values, missed)
        Values (..., nodes), and the largest misfit of each panel (..., panels) in units of `limit`, with a safety.
    """
    waiting = [(float(a), float(b), 0, np.inf) for a, b in pairwise(edges)]
    done: list[tuple[float, float, np.ndarray]] = []
    while waiting:
        tried = Pieces(np.array([0.0, 1.0]))
        tests = np.concatenate([points_of(np.array(panel[:2]), TESTED) for panel in waiting])
        nodes = np.concatenate([Pieces(np.array(panel[:2])).nodes for panel in waiting])
        found = fn(np.concatenate([nodes, tests]))
        values, truth = found[..., : nodes.size], found[..., nodes.size :]
        weights = tried.weights(0.5 + 0.5 * TESTED)[1]
        fit = values.reshape(*values.shape[:-1], len(waiting), NODES) @ weights.T
        allowed, judged = limit(tests, truth)
        with np.errstate(invalid="ignore", over="ignore"):
            ratio = np.nan_to_num(np.abs(fit.reshape(truth.shape) - truth) / allowed, nan=np.inf)
        ratios = ratio.reshape(*truth.shape[:-1], len(waiting), TESTED.size).max(axis=-1)
        worst = np.where(judged, ratio, 0.0).reshape(-1, len(waiting), TESTED.size).max(axis=(0, 2))
        halves, full = [], len(done) + 2 * len(waiting) > _MOST_PANELS
        for k, (low, high, level, before) in enumerate(waiting):
            if worst[k] <= 1.0 or level == depth or (level > 1 and worst[k] > _GAIN * before) or full:
                done.append((low, high, ratios[..., k]))
            else:
                middle = 0.5 * (low + high)
                halves += [(low, middle, level + 1, worst[k]), (middle, high, level + 1, worst[k])]
        waiting = halves
    done.sort(key=lambda panel: panel[0])
    pieces = Pieces(np.array([*(panel[0] for panel in done), done[-1][1]]))
    missed = SAFETY * np.stack([panel[2] for panel in done], axis=-1)
    return pieces, fn(pieces.nodes), missed
