"""Processes with textbook marginals, on which the identities are examined, and the quadrature for them.

The laws here are written down from the textbook, apart from `fpsolve.paths.closed_forms`: two routes, not one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from fpsolve.grids.fokker_planck import solve_fokker_planck
from fpsolve.grids.log_density.log_density import solve_log_density
from fpsolve.paths import processes
from fpsolve.paths.closed_forms import exact_evolution
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law
from fpsolve.problem.maps import Pushforward, Sinh
from fpsolve.problem.mixtures import GaussianMixture
from fpsolve.problem.process import SDE
from fpsolve.verdict.decision import DETERMINISTIC_TOL

# asymmetric on purpose, so that errors of sign and reflection show
DATA = GaussianMixture([0.35, 0.65], [-1.6, 1.1], [0.35, 0.5])
DATA_2 = GaussianMixture([0.6, 0.4], [-0.8, 1.4], [0.6, 0.45])
T_SPAN = (0.0, 1.0)
FIELD_TIMES = (0.1, 0.35, 0.65, 0.9)
GRID_RTOL, SHARED_TOL = 1e-8, 5e-5
THETA, SIGMA, BETA_MIN = 0.8, 0.7, 0.1
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


@dataclass(frozen=True, eq=False)
class Fixture:
    """A process X = L sinh(Y/L), or X = Y without a length, of a linear Y that starts from `data`.

    `kernel(s, t)` is (Φ, N): Y_t given Y_s = y is Gaussian with mean Φ y and variance N. `rates(t)` is (a, b²) of
    dY = a Y dt + b dW.
    """

    process: SDE
    kernel: Callable[[float, float], tuple[float, float]]
    rates: Callable[[float], tuple[float, float]]
    length: float | None = None
    data: GaussianMixture = field(default_factory=lambda: DATA)

    @cached_property
    def _laws(self) -> dict[float, Law]:
        return {}

    def law_at(self, t: float) -> Law:
        """Law of X_t, written down."""
        t = float(t)
        if t not in self._laws:
            if len(self._laws) > 4096:
                self._laws.clear()
            factor, noise = self.kernel(0.0, t)
            data = self.data
            base = GaussianMixture(data.weights, factor * data.means, np.sqrt(factor**2 * data.stds**2 + noise))
            self._laws[t] = base if self.length is None else Pushforward(base, Sinh(self.length))
        return self._laws[t]

    def what(self, tol: float | None) -> Evolution | tuple[SDE, Law]:
        """What a check takes: the grid solution that many checks share, or the pair (process, q0) if tol is finer."""
        if tolerance(tol) >= SHARED_TOL:
            return self.on_grid(FIELD_TIMES, GRID_RTOL)
        return self.process, self.law_at(0.0)

    @cached_property
    def exact(self) -> Evolution:
        """The evolution that the closed-form engine finds."""
        return exact_evolution(self.process, self.law_at(0.0), T_SPAN)

    @lru_cache(maxsize=8)  # noqa: B019 (fixtures live as long as the catalogue)
    def on_grid(self, times: tuple[float, ...], rtol: float) -> Evolution:
        """The evolution that the grid engine finds, solved once."""
        return solve_fokker_planck(self.process, self.law_at(0.0), T_SPAN, t_eval=times, rtol=rtol)

    def even_grid(self, reach: float, cells: int) -> Grid:
        """A grid that is even in Y, about 0."""
        return Grid(float(self.forward(-reach)), float(self.forward(reach)), cells, stretch=self.length, centre=0.0)

    @lru_cache(maxsize=8)  # noqa: B019 (fixtures live as long as the catalogue)
    def of_log_density(self, end: float, rtol: float) -> Evolution:
        """The evolution that the engine of log q finds, in the clock of the reversed process, solved once."""
        return solve_log_density(
            self.process, self.law_at(0.0), (0.0, end), grid=self.even_grid(5.0, 400), t_eval=[0.0], rtol=rtol,
            clock="reversed",
        )  # fmt: skip

    def forward(self, y: Any) -> np.ndarray:
        """X for Y."""
        return np.asarray(y) if self.length is None else self.length * np.sinh(np.asarray(y) / self.length)

    def inverse(self, x: Any) -> np.ndarray:
        """Y for X."""
        return np.asarray(x) if self.length is None else self.length * np.arcsinh(np.asarray(x) / self.length)

    def stretch(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """dx/dy and the derivative of its logarithm."""
        if self.length is None:
            return np.ones_like(y), np.zeros_like(y)
        return np.cosh(y / self.length), np.tanh(y / self.length) / self.length

    def velocity(self, x: np.ndarray, t: float) -> np.ndarray:
        """Velocity of X: components of Y move with m' and stretch with σ'/σ, weighted by their share at Y."""
        (factor, noise), (a, b2) = self.kernel(0.0, t), self.rates(t)
        variances, y = factor**2 * self.data.stds**2 + noise, self.inverse(x)[..., None]
        apart = y - factor * self.data.means
        logs = np.log(self.data.weights / np.sqrt(variances)) - 0.5 * apart**2 / variances
        shares = np.exp(logs - logs.max(axis=-1, keepdims=True))
        v = (shares * (a * y + 0.5 * b2 * apart / variances)).sum(axis=-1) / shares.sum(axis=-1)
        return v if self.length is None else v * np.sqrt(1.0 + (x / self.length) ** 2)

    def noise(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """g² and (g²)' of X = L sinh(Y/L) with constant noise of Y, written down."""
        bend = 0.0 if self.length is None else self.length**-2
        return SIGMA**2 * (1.0 + bend * x**2), 2.0 * SIGMA**2 * bend * x

    def nodes(self, t: float, panels: int, tail: float = 1e-15) -> tuple[np.ndarray, np.ndarray]:
        """Gauss nodes and weights over all but a mass `tail` on either side at time t, panels equal in Y."""
        left, right = self.inverse(self.law_at(t).quantile_span(tail))
        edges = self.forward(np.linspace(float(left), float(right), panels + 1))
        half = 0.5 * np.diff(edges)[:, None]
        return (0.5 * (edges[1:] + edges[:-1])[:, None] + half * _NODES).ravel(), (half * _WEIGHTS).ravel()

    def quantiles(self, t: float, n: int, tail: float = 0.02) -> np.ndarray:
        """`n` places where the mass is at time t."""
        return np.asarray(self.law_at(t).ppf(np.linspace(tail, 1.0 - tail, n)))


def _ou_kernel(s: float, t: float) -> tuple[float, float]:
    factor = np.exp(-THETA * (t - s))
    return float(factor), float(SIGMA**2 * (1.0 - factor**2) / (2.0 * THETA))


def rising_noise(t: Any) -> Any:
    """Noise of Y in the fixture with g(x, t)."""
    return SIGMA * (1.0 + 0.5 * t)


def _rising_kernel(s: float, t: float) -> tuple[float, float]:
    u = s + 0.5 * (t - s) * (1.0 + _NODES)
    noise = 0.5 * (t - s) * (_WEIGHTS * np.exp(-2.0 * THETA * (t - u)) * rising_noise(u) ** 2).sum()
    return float(np.exp(-THETA * (t - s))), float(noise)


def _vp_rates(beta_max: float) -> Callable[[float], tuple[float, float]]:
    def rates(t: float) -> tuple[float, float]:
        beta = BETA_MIN + (beta_max - BETA_MIN) * t
        return -0.5 * beta, beta

    return rates


def vp_channel(beta_max: float, t: float) -> tuple[float, float]:
    """(α, σ) of the variance-preserving process with β from 0.1 to `beta_max`."""
    total = BETA_MIN * t + 0.5 * (beta_max - BETA_MIN) * t**2
    return float(np.exp(-0.5 * total)), float(np.sqrt(-np.expm1(-total)))


def _vp_kernel(beta_max: float) -> Callable[[float, float], tuple[float, float]]:
    def kernel(s: float, t: float) -> tuple[float, float]:
        factor = vp_channel(beta_max, t)[0] / vp_channel(beta_max, s)[0]
        return factor, 1.0 - factor**2

    return kernel


SINH_1 = Fixture(processes.sinh_ou(THETA, SIGMA, 1.0), _ou_kernel, lambda t: (-THETA, SIGMA**2), 1.0)
SINH_25 = Fixture(processes.sinh_ou(THETA, SIGMA, 25.0), _ou_kernel, lambda t: (-THETA, SIGMA**2), 25.0)
SINH_T = Fixture(
    processes.sinh_ou(THETA, rising_noise, 1.0), _rising_kernel, lambda t: (-THETA, rising_noise(t) ** 2), 1.0
)
OU_T = Fixture(processes.ou(THETA, rising_noise), _rising_kernel, lambda t: (-THETA, rising_noise(t) ** 2))
VP8 = Fixture(processes.vp(BETA_MIN, 8.0), _vp_kernel(8.0), _vp_rates(8.0))
VP20 = Fixture(processes.vp(BETA_MIN, 20.0), _vp_kernel(20.0), _vp_rates(20.0))


def time_derivative(fn: Callable[[float], np.ndarray], t: float, step: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Derivative of an array-valued function of time, by sixth-order differences, and its error from half the step."""
    weights = np.array([-1.0, 9.0, -45.0, 45.0, -9.0, 1.0]) / 60.0
    offsets = (-3, -2, -1, 1, 2, 3)
    rows = []
    for h in (step, 0.5 * step):
        rows.append(sum(w * np.asarray(fn(t + k * h)) for w, k in zip(weights, offsets, strict=True)) / h)
    return rows[1], np.abs(rows[1] - rows[0]) / 16.0 + 1e-13 / step


def refined(compute: Callable[[int], np.ndarray], panels: int, route: str) -> Estimate:
    """Value with twice the panels; the error is the change that they made."""
    coarse, fine = np.asarray(compute(panels)), np.asarray(compute(2 * panels))
    return Estimate(fine, error=np.abs(fine - coarse) + 1e-12 * np.abs(fine), route=route)


def joined(parts: Sequence[tuple[np.ndarray, np.ndarray]], route: str) -> Estimate:
    """Estimate of several (values, errors) after another."""
    values, errors = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Estimate(values, error=errors, route=route)


def widened(estimate: Estimate, error: np.ndarray | float) -> Estimate:
    """The estimate with one more source of error."""
    return Estimate(estimate.value, error=estimate.error + error, route=estimate.route)


def tolerance(tol: float | None, default: float = DETERMINISTIC_TOL) -> float:
    """The tolerance asked for, else the identity's own."""
    return default if tol is None else tol
