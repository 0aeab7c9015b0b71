"""A histogram that is filled while paths run, and the quantiles that it holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpsolve.errors import InputError
from fpsolve.problem.estimate import Estimate


class Histogram:
    """Probabilities of bins, as an observable of `simulate`: nothing but the counts is kept.

    Parameters
    ----------
    edges : array_like, shape (bins + 1,)
        Increasing; bins are half-open, [edge, next edge). What lies outside is in no bin.

    Raises
    ------
    InputError
        If the edges are not increasing finite numbers.

    Examples
    --------
    >>> bins = fps.Histogram(np.linspace(-6, 6, 241))
    >>> ens = fps.simulate(fps.SDE(0.0, 1.0), fps.PointMass(0.0), (0, 1), n_paths=20000, n_steps=1, keep="none",
    ...                    observables={"law": bins})
    >>> median = bins.quantile(ens.observables["law"], 0.5)
    >>> median.value.shape, bool(abs(median.value[0]) < median.error[0] + 5 * median.std_error[0])
    ((1,), True)
    """

    def __init__(self, edges: Any) -> None:
        self.edges = np.asarray(edges, dtype=float)
        steps = np.diff(self.edges) if self.edges.ndim == 1 else np.zeros(1)
        if self.edges.ndim != 1 or self.edges.size < 2 or not (np.isfinite(self.edges).all() and (steps > 0).all()):
            raise InputError(
                "edges must be increasing finite numbers, at least two", edges, "write np.linspace(-5, 5, 101)"
            )

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Indicators (bins, n) of the bins for positions `x` (n,)."""
        place = np.searchsorted(self.edges, x, side="right") - 1
        return (place == np.arange(self.edges.size - 1)[:, None]).astype(float)

    def density(self, probabilities: Estimate) -> Estimate:
        """Mean density in each bin, shape (..., bins); it differs from the density at the middle by q'' width²/24."""
        widths = np.diff(self.edges)
        return Estimate(
            probabilities.value / widths, error=probabilities.error / widths,
            std_error=probabilities.std_error / widths, route=probabilities.route,
        )  # fmt: skip

    def quantile(self, probabilities: Estimate, p: float) -> Estimate:
        """Quantile of order `p`, shape (...): linear inside a bin.

        `error` is the width of that bin, which bounds what linearity costs; `std_error` is √(p(1-p)/n)/q.

        Raises
        ------
        InputError
            If the quantile lies outside the bins.
        """
        chances = np.atleast_2d(probabilities.value)
        spreads = np.atleast_2d(probabilities.std_error)
        below = np.concatenate([np.zeros((chances.shape[0], 1)), chances.cumsum(axis=1)], axis=1)
        value, width, spread = (np.empty(chances.shape[0]) for _ in range(3))
        for row, total in enumerate(below):
            k = int(np.searchsorted(total, p)) - 1
            if not 0.0 < p < 1.0 or not 0 <= k < chances.shape[1] or p - total[0] <= 0.0:
                raise InputError("a quantile must lie inside the bins", p, "widen the edges")
            width[row] = self.edges[k + 1] - self.edges[k]
            density = chances[row, k] / width[row]
            value[row] = self.edges[k] + (p - total[k]) / density
            # of any bin, std_error² = P(1-P)/n gives n
            best = int(chances[row].argmax())
            n = chances[row, best] * (1.0 - chances[row, best]) / spreads[row, best] ** 2
            spread[row] = np.sqrt(p * (1.0 - p) / n) / density
        shape = np.shape(probabilities.value)[:-1]
        return Estimate(
            value.reshape(shape), error=width.reshape(shape), std_error=spread.reshape(shape), route=probabilities.route
        )
