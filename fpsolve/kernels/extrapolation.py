"""Extrapolation of runs with few to many substeps to substep zero (Deuflhard 1985): when substeps end, and weights."""

from __future__ import annotations

import numpy as np


def substep_ends(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times in (0, 1] at which substeps end, each once, and the index there of the end of (run, substep).

    Runs with `counts` substeps meet at many of the times; after its last substep a run stays at 1.
    """
    ends = np.round(np.minimum(np.arange(1.0, counts[-1] + 1.0) / counts[:, None], 1.0), 12)
    fractions, index = np.unique(ends, return_inverse=True)
    return fractions, index.reshape(ends.shape)


def weights_at_zero(counts: np.ndarray, first: int = 0) -> np.ndarray:
    """Weights of the runs first ... in the polynomial in the substep through their results, taken at zero."""
    steps = 1.0 / counts[first:]
    weights = np.zeros(counts.size)
    for k, s in enumerate(steps):
        others = np.delete(steps, k)
        weights[first + k] = np.prod(others / (others - s))
    return weights
