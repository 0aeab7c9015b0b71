"""What the identities of schemes share: models with written-down coefficients, means of a chain, orders and limits.

A chain is carried by quadrature over its noise, so that orders are seen without sampling error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.interpolate import BSpline, make_interp_spline
from scipy.sparse import csr_array

from fpsolve.problem.estimate import Estimate

Array = np.ndarray
Test = Callable[[Array], Array]
_REACH, _NODES, _DEGREE, _NOISES = 8.0, 1001, 5, 20


@dataclass(frozen=True)
class Coefficients:
    """f and g with two derivatives in x, at x."""

    f: Array
    f_dx: Array
    f_dxx: Array
    g: Array
    g_dx: Array
    g_dxx: Array


@dataclass(frozen=True)
class Model:
    """A process without t in its coefficients; x = forward(y) stretches the line.

    `kernel(x, t)` is the law of X_t given X_0 = x as (weights, places), by quadrature. `path(x, t, w)` is X_t as a
    function of W_t, where the solution is one.
    """

    coefficients: Callable[[Array], Coefficients]
    kernel: Callable[[Array, float], tuple[Array, Array]]
    path: Callable[[Array, float, Array], Array] | None = None
    forward: Callable[[Array], Array] = np.asarray
    inverse: Callable[[Array], Array] = np.asarray

    def mean(self, phi: Test, x: Array, t: float) -> Array:
        """E[φ(X_t) | X_0 = x]."""
        weights, places = self.kernel(x, t)
        return np.asarray((weights * phi(places)).sum(axis=-1))


# (model, x, ΔW, h) -> x after the step
Step = Callable[[Model, Array, Array, float], Array]
# (x, ΔW, h) -> logarithm of a weight of the step
LogWeight = Callable[[Array, Array, float], Array]


@lru_cache
def normal_nodes(n: int) -> tuple[Array, Array]:
    """Gauss-Hermite nodes and weights of a standard normal variable."""
    z, weights = np.polynomial.hermite_e.hermegauss(n)
    return z, weights / weights.sum()


def gbm(mu: float, sigma: float) -> Model:
    """dX = μ X dt + σ X dW."""
    z, weights = normal_nodes(40)

    def path(x: Array, t: float, w: Array) -> Array:
        return np.asarray(x * np.exp((mu - 0.5 * sigma**2) * t + sigma * w))

    return Model(
        lambda x: Coefficients(mu * x, mu + 0 * x, 0 * x, sigma * x, sigma + 0 * x, 0 * x),
        lambda x, t: (weights, path(np.asarray(x)[..., None], t, np.sqrt(t) * z)),
        path,
    )


def sinh_ou(theta: float, sigma: float, length: float) -> Model:
    """X = L sinh(Y/L) of dY = -θ Y dt + σ dW; without θ it is a function of W."""
    z, weights = normal_nodes(160)

    def coefficients(x: Array) -> Coefficients:
        r, y, bend = np.sqrt(1.0 + (x / length) ** 2), length * np.arcsinh(x / length), length**-2
        return Coefficients(
            -theta * y * r + 0.5 * bend * sigma**2 * x,
            -theta * (1.0 + bend * x * y / r) + 0.5 * bend * sigma**2,
            -theta * bend * (x / r**2 + y / r**3),
            sigma * r,
            sigma * bend * x / r,
            sigma * bend / r**3,
        )

    def kernel(x: Array, t: float) -> tuple[Array, Array]:
        noise = sigma**2 * (t if theta == 0 else -np.expm1(-2 * theta * t) / (2 * theta))
        y = np.exp(-theta * t) * length * np.arcsinh(np.asarray(x)[..., None] / length)
        return weights, length * np.sinh((y + np.sqrt(noise) * z) / length)

    return Model(
        coefficients,
        kernel,
        None if theta else lambda x, t, w: length * np.sinh(np.arcsinh(x / length) + sigma * w / length),
        lambda y: length * np.sinh(y / length),
        lambda x: length * np.arcsinh(x / length),
    )


def benes() -> Model:
    """dX = tanh(X) dt + dW: from x the weights of N(x ± t, t) are ½ (1 ± tanh x) (Beneš 1981)."""
    z, weights = normal_nodes(160)

    def coefficients(x: Array) -> Coefficients:
        f, zero = np.tanh(x), 0 * x
        f_dx = 1.0 - f**2
        return Coefficients(f, f_dx, -2.0 * f * f_dx, 1.0 + zero, zero, zero)

    def kernel(x: Array, t: float) -> tuple[Array, Array]:
        x, tilt = np.asarray(x)[..., None], np.tanh(np.asarray(x))[..., None]
        ends = [x + sign * t + np.sqrt(t) * z for sign in (1.0, -1.0)]
        shares = [0.5 * (1.0 + sign * tilt) * weights for sign in (1.0, -1.0)]
        return np.concatenate(shares, axis=-1), np.concatenate(ends, axis=-1)

    return Model(coefficients, kernel)


def one_step_mean(model: Model, step: Step, phi: Test, x: Array, h: float) -> Array:
    """E φ after one step from x."""
    z, weights = normal_nodes(160)
    return np.asarray(phi(step(model, x[:, None], np.sqrt(h) * z, h)) @ weights)


def carried_mean(
    model: Model, step: Step, phi: Test, x: Array, t: float, n_steps: int, log_weight: LogWeight | None = None
) -> Array:
    """E[w φ(X_n) | X_0 = x] of the chain over time t, by quintic splines in y and quadrature over each ΔW."""
    z, weights = normal_nodes(_NOISES)
    h, y = t / n_steps, np.linspace(-_REACH, _REACH, _NODES)
    start, dw = model.forward(y)[:, None], np.sqrt(h) * z
    mass = np.broadcast_to(weights, (_NODES, _NOISES))
    if log_weight is not None:
        mass = weights * np.exp(log_weight(start, dw, h))
    ends = np.clip(model.inverse(step(model, start, dw, h)), -_REACH, _REACH)
    knots = make_interp_spline(y, y, k=_DEGREE).t
    # rows of nodes, columns of spline coefficients
    rows = np.repeat(np.arange(_NODES), _NOISES)
    summed = csr_array((mass.ravel(), (rows, np.arange(rows.size))), shape=(_NODES, rows.size))
    transfer = summed @ BSpline.design_matrix(ends.ravel(), knots, _DEGREE)
    values = phi(start[:, 0])
    for _ in range(n_steps):
        values = transfer @ make_interp_spline(y, values, k=_DEGREE).c
    return np.asarray(make_interp_spline(y, values, k=_DEGREE)(model.inverse(x)))


def limit(values: Sequence[Any], route: str, rounding: float = 0.0) -> Estimate:
    """Value at h → 0 of values at h, h/2, h/4, ...: powers of h are taken out one after another.

    The error is what the last power changed, and `rounding`.
    """
    row, factor = [np.asarray(value, dtype=float) for value in values], 1.0
    while len(row) > 1:
        before, factor = row[-1], 2.0 * factor
        row = [(factor * fine - coarse) / (factor - 1.0) for coarse, fine in pairwise(row)]
    return Estimate(row[0], error=np.abs(row[0] - before) + rounding, route=route)


def observed_order(errors: Sequence[Any], route: str) -> Estimate:
    """Slope for h → 0 of the norms of errors at h, h/2, h/4, ...."""
    norms = np.array([np.linalg.norm(error) for error in errors])
    return limit(np.log2(norms[:-1] / norms[1:]), route)
