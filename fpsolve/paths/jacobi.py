"""Closed form of the Jacobi process dX = κ (m - X) dt + ξ √(X (1 - X)) dW from a point: its spectral series."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import betainc, betaincc, betaln

from fpsolve.errors import InputError, NoClosedForm, check_points
from fpsolve.paths.closed_forms import ExactEvolution
from fpsolve.paths.square_root import refuse_absorbing_ends, start_within
from fpsolve.problem.law import Law, pointwise
from fpsolve.problem.mixtures import PointMass
from fpsolve.problem.process import Process
from fpsolve.problem.quadrature import PanelTable

_MOST_TERMS = 512
_NEGLIGIBLE = 1e-17  # terms below this part of the largest density end the series
_LOST = 1e-8  # error relative to the largest density at which a time counts as too short
_EPS = float(np.finfo(float).eps)
_CHECK_POINTS = 0.5 - 0.5 * np.cos(np.pi * (np.arange(200) + 0.5) / 200)


def orthonormal(count: int, a: float, b: float, x: np.ndarray) -> np.ndarray:
    """The first `count` polynomials orthonormal under Beta(a, b), at points `x` of (0, 1): shape (count, n).

    Three-term recurrence of the Jacobi polynomials P^(b-1, a-1)(2x - 1), which is stable on the interval.
    """
    s, z, n = a + b - 2.0, 2.0 * x - 1.0, np.arange(1.0, count)
    centre = np.concatenate([[(a - b) / (s + 2)], (a - b) * s / ((2 * n + s) * (2 * n + s + 2))])
    share = np.ones(n.size)
    share[1:] = (n[1:] + s) / (2 * n[1:] + s - 1)
    root = np.sqrt(4 * n * (n + b - 1) * (n + a - 1) * share / ((2 * n + s) ** 2 * (2 * n + s + 1)))
    rows = np.ones((count, x.size))
    for k in range(1, count):
        before = root[k - 2] * rows[k - 2] if k > 1 else 0.0
        rows[k] = ((z - centre[k - 1]) * rows[k - 1] - before) / root[k - 1]
    return rows


@dataclass(frozen=True)
class Jacobi:
    """The published process with these parameters; called with (process, law, t_span) it solves it.

    Its stationary law is Beta(a, b) with a = 2κm/ξ², b = 2κ(1 - m)/ξ²; polynomials p_n orthonormal under it decay at
    rates λ_n = n (κ + ½ξ² (n - 1)), so p(x, t | x0) = Beta(x; a, b) Σ e^{-λ_n t} p_n(x0) p_n(x).
    """

    kappa: float
    mean: float
    xi: float

    @property
    def a(self) -> float:
        """First parameter of the stationary Beta law."""
        return 2.0 * self.kappa * self.mean / self.xi**2

    @property
    def b(self) -> float:
        """Second parameter of the stationary Beta law."""
        return 2.0 * self.kappa * (1.0 - self.mean) / self.xi**2

    def rates(self, count: int) -> np.ndarray:
        """The first `count` decay rates λ_n."""
        n = np.arange(float(count))
        return n * (self.kappa + 0.5 * self.xi**2 * (n - 1))

    def log_stationary(self, x: np.ndarray) -> np.ndarray:
        """Log-density of the stationary law inside (0, 1)."""
        return (self.a - 1) * np.log(x) + (self.b - 1) * np.log1p(-x) - betaln(self.a, self.b)

    def slopes(self, count: int, x: np.ndarray) -> np.ndarray:
        """Derivatives of p_n, 1 ≤ n < count, but for √(λ_n/C): the polynomials orthonormal under Beta(a + 1, b + 1)."""
        return orthonormal(count - 1, self.a + 1, self.b + 1, x)

    @property
    def slope_size(self) -> float:
        """√C for C = E ½g² = ½ξ² ab/((a + b)(a + b + 1)), the mean over the stationary law."""
        a, b = self.a, self.b
        return math.sqrt(0.5 * self.xi**2 * a * b / ((a + b) * (a + b + 1)))

    def __call__(self, process: Process, law: Law, span: tuple[float, float]) -> JacobiEvolution:
        """Return the evolution from a point mass."""
        refuse_absorbing_ends(process)
        if not isinstance(law, PointMass):
            rule = "the closed form of a Jacobi process needs a point mass at the start"
            raise NoClosedForm(rule, law, "use fps.solve_fokker_planck")
        return JacobiEvolution(self, process, law, start_within(process, law), span)


class JacobiLaw(Law):
    """Law of the Jacobi process some time after it left the point `start`.

    Raises
    ------
    NoClosedForm
        If the time is too short: 512 terms do not do, or they cancel until fewer than eight digits of the largest
        density are left.
    """

    def __init__(self, family: Jacobi, start: float, elapsed: float) -> None:
        self.family, self.start, self.elapsed = family, start, elapsed
        n = np.arange(_MOST_TERMS)
        rates = family.rates(_MOST_TERMS)[: 1 + int(n[family.rates(_MOST_TERMS) * elapsed < 700.0][-1])]
        with np.errstate(all="ignore"):  # what is not finite refuses the time
            at_start = orthonormal(rates.size, family.a, family.b, np.array([start]))[:, 0]
            coefficients = np.exp(-rates * elapsed) * at_start
            peak = float(coefficients @ at_start) * math.exp(float(family.log_stationary(np.array([start]))[0]))
            self._coefficients = coefficients[: self._length(coefficients, peak)]

    def _length(self, coefficients: np.ndarray, peak: float) -> int:
        """How many terms matter beside the density at the start; refuse the time if too many do, or if they cancel."""
        terms = np.abs(coefficients[:, None] * self._polynomials(coefficients.size, _CHECK_POINTS))
        weighted = terms * np.exp(self.family.log_stationary(_CHECK_POINTS))
        rounding = float(_rounding(weighted).max())
        needed = np.flatnonzero(~(weighted.max(axis=1) <= _NEGLIGIBLE * peak))
        enough = needed.size == 0 or needed[-1] + 8 < _MOST_TERMS
        if not (enough and math.isfinite(peak) and rounding <= _LOST * peak):
            raise NoClosedForm(
                "the series of Jacobi polynomials needs a longer time since the start",
                f"{self.elapsed:g} (in the units of 1/κ = {1 / self.family.kappa:g})",
                "ask at a later time, or use fps.solve_fokker_planck",
            )
        return int(needed[-1]) + 2 if needed.size else 2

    def _polynomials(self, count: int, x: np.ndarray) -> np.ndarray:
        return orthonormal(count, self.family.a, self.family.b, x)

    @property
    def support(self) -> tuple[float, float]:
        """The unit interval."""
        return 0.0, 1.0

    @property
    def count(self) -> int:
        """Number of terms."""
        return self._coefficients.size

    def series(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """S = q/Beta at points of (0, 1), and its error of rounding and truncation.

        Where no correct digit is left, far from all mass, the size of the error stands for S.
        """
        terms = self._coefficients[:, None] * self._polynomials(self.count, x)
        error = _rounding(np.abs(terms)) + np.abs(terms[-1])
        return np.maximum(terms.sum(axis=0), error), error

    def slope(self, x: np.ndarray) -> np.ndarray:
        """S' at points of (0, 1)."""
        sizes = np.sqrt(self.family.rates(self.count)[1:]) / self.family.slope_size
        return (self._coefficients[1:] * sizes) @ self.family.slopes(self.count, x)

    def _moved(self, x: np.ndarray) -> np.ndarray:
        """Stationary distribution function less the true one: ∫ Beta p_n = -½g² Beta p_n'/λ_n from the left end."""
        a, b = self.family.a + 1, self.family.b + 1
        weight = np.exp((a - 1) * np.log(x) + (b - 1) * np.log1p(-x) - betaln(a, b))
        sizes = self.family.slope_size / np.sqrt(self.family.rates(self.count)[1:])
        return weight * ((self._coefficients[1:] * sizes) @ self.family.slopes(self.count, x))

    @pointwise
    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Distribution function, absolutely accurate to rounding."""
        inside = _inside(x)
        values = betainc(self.family.a, self.family.b, inside) - self._moved(inside)
        return np.where(inside == x, np.clip(values, 0.0, 1.0), x >= 1.0)

    @pointwise
    def sf(self, x: np.ndarray) -> np.ndarray:
        """Survival function, absolutely accurate to rounding."""
        inside = _inside(x)
        values = betaincc(self.family.a, self.family.b, inside) + self._moved(inside)
        return np.where(inside == x, np.clip(values, 0.0, 1.0), x <= 0.0)

    def _bracket(self, p: np.ndarray, upper: bool) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(p.shape), np.ones(p.shape)

    @cached_property
    def _table(self) -> PanelTable:
        # equal panels where the mass is, and ever thinner ones at the ends, where the density may be singular
        left, right = (max(end, 1e-300) for end in self.quantile_span(1e-12))
        to_left = np.geomspace(left, max(left, 0.5), 2 + int(max(0.0, np.log(0.5 / left) / np.log(4.0))))
        to_right = 1.0 - 0.25 ** np.arange(1.0, 26.0)
        edges = np.unique(np.concatenate([np.linspace(left, right, 65), to_left, to_right[to_right < right]]))
        below, above = self.cdf(edges), self.sf(edges)
        masses = np.where(below[1:] < above[:-1], np.diff(below), -np.diff(above))
        return PanelTable(self.support, edges, masses, (float(below[0]), float(above[-1])), 0.0, 1e-14)

    def mean(self) -> float:
        """Mean m + (x0 - m) e^{-κt}."""
        family = self.family
        return family.mean + (self.start - family.mean) * math.exp(-family.kappa * self.elapsed)

    def var(self) -> float:
        """Variance: V' = -(2κ + ξ²) V + ξ² M (1 - M) with M the mean."""
        m, kappa, xi2, t = self.family.mean, self.family.kappa, self.family.xi**2, self.elapsed
        apart = self.start - m

        def driven(rate: float) -> float:
            """∫ e^{-(2κ + ξ²)(t - u)} e^{-rate u} du."""
            gap = 2 * kappa + xi2 - rate
            return -math.exp(-rate * t) * math.expm1(-gap * t) / gap

        parts = m * (1 - m) * driven(0.0) + (1 - 2 * m) * apart * driven(kappa) - apart**2 * driven(2 * kappa)
        return xi2 * parts

    @pointwise
    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the density, -inf outside (0, 1)."""
        inside = _inside(x)
        values = self.family.log_stationary(inside) + np.log(self.series(inside)[0])
        return np.where(inside == x, values, -np.inf)

    @pointwise
    def score(self, x: np.ndarray) -> np.ndarray:
        """Score ∂x log q(x), NaN outside (0, 1)."""
        inside = _inside(x)
        stationary = (self.family.a - 1) / inside - (self.family.b - 1) / (1 - inside)
        return np.where(inside == x, stationary + self.slope(inside) / self.series(inside)[0], np.nan)


def _rounding(sizes: np.ndarray) -> np.ndarray:
    """Error of a sum of terms of these sizes along the first axis; the recurrence adds some rounding to each."""
    return _EPS * (sizes * (8.0 + np.arange(sizes.shape[0]))[:, None]).sum(axis=0)


def _inside(x: np.ndarray) -> np.ndarray:
    """The points where the law lives, with a stand-in elsewhere."""
    return np.where((x > 0.0) & (x < 1.0), x, 0.5)


class JacobiEvolution(ExactEvolution):
    """Point mass under the Jacobi process."""

    def __init__(
        self, family: Jacobi, process: Process, initial: PointMass, start: float, t_span: tuple[float, float]
    ) -> None:
        self.family, self.process, self.initial, self.t_span = family, process, initial, t_span
        self._start = start
        self.message = "closed form: series of Jacobi polynomials"
        self._laws: dict[float, Law] = {t_span[0]: initial}
        self.at(t_span[1])  # refuses a span that is too short altogether

    def at(self, t: float) -> Law:
        """Return the law at time `t`; NoClosedForm if that is too close to the start."""
        time = self.check_t(t)
        if time not in self._laws:
            if len(self._laws) > 256:
                self._laws = {self.t_span[0]: self._laws[self.t_span[0]]}
            self._laws[time] = JacobiLaw(self.family, self._start, time - self.t_span[0])
        return self._laws[time]

    def _moving(self, t: float) -> JacobiLaw:
        law = self.at(t)
        if not isinstance(law, JacobiLaw):
            raise InputError("a point mass has no velocity field", t, "ask at a later time")
        return law

    def velocity(self, x: Any, t: float) -> np.ndarray:
        """v = -∂t F/q = -½ g² S'/S, as the stationary law has no flux (0 < x < 1)."""
        points, law = check_points("x", x), self._moving(t)
        flat = points.ravel()
        noise = 0.5 * self.family.xi**2 * flat * (1 - flat)
        return (-noise * law.slope(flat) / law.series(flat)[0]).reshape(points.shape)

    def with_error(self, name: str, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return values with the error of rounding and truncation of the series."""
        points, values = check_points("x", x), getattr(self, name)(x, t)
        flat, law = points.ravel(), self._moving(t)
        total, error = law.series(flat)
        relative = (error / total).reshape(points.shape) + 1e-12
        if name in ("pdf", "logpdf"):
            return values, relative * (np.abs(values) if name == "pdf" else 1.0)
        if name in ("cdf", "sf"):
            return values, np.full(points.shape, 1e-11)
        # slopes of the series lose a factor of its number of terms
        return values, law.count * relative * (1.0 + np.abs(values))

    def transition_logpdf(self, x: Any, t: float, y: Any, s: float) -> np.ndarray:
        """log p(X_t = x | X_s = y) for s < t and x, y inside (0, 1), which broadcast."""
        x, y = np.broadcast_arrays(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
        if np.unique(x).size < np.unique(y).size:  # one series for each starting point: reversibility swaps the two
            balance = self.family.log_stationary(x) - self.family.log_stationary(y)
            return self.transition_logpdf(y, t, x, s) + balance
        values = np.empty(x.shape)
        elapsed = self.check_t(t) - self.check_t(s)
        for place in np.unique(y):
            here = y == place
            values[here] = JacobiLaw(self.family, float(place), elapsed).logpdf(x[here])
        return values
