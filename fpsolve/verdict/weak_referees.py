"""Particle referees of fields: a finite family of bounded test functions, which can refute but not certify alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fpsolve.problem.estimate import Estimate, normal_quantile
from fpsolve.problem.process import Process
from fpsolve.problem.streams import Stream
from fpsolve.verdict.candidate import Candidate, Ingredients
from fpsolve.verdict.decision import Measurement, Referee
from fpsolve.verdict.field_referees import FieldClaim
from fpsolve.verdict.marginal_referees import simulated, truth_scale, weighted_work
from fpsolve.verdict.sources import PARTICLES

PATHS_FIRST, STEPS, CHUNK = 2**16, 400, 2**16
_FREQUENCIES = np.array([0.7, 1.5, 2.5])
_TESTS = 2 * _FREQUENCIES.size
# part of the span over which increments are taken: what the martingales leave of the noise shrinks with it
_WINDOW = {"velocity": 2e-4, "reverse drift": 1e-3}
_KNOWN = {"x", "t", "tau", "f", "f_dx", "g2", "g2_dx", "g2_dxx", "s"}
_HEAVY = 0.01


class Waves:
    """Test functions ψ = sin, cos of ω (x - centre)/width at sample points, with derivatives and antiderivative."""

    def __init__(self, x: np.ndarray, centre: float, width: float) -> None:
        rates = (_FREQUENCIES / width)[:, None]
        phase = rates * (x - centre)
        sine, cosine = np.sin(phase), np.cos(phase)
        self.value = np.concatenate([sine, cosine])
        self.slope = np.concatenate([rates * cosine, -rates * sine])
        self.curve = np.concatenate([-(rates**2) * sine, -(rates**2) * cosine])
        self.area = np.concatenate([-cosine / rates, sine / rates])


class Table:
    """A function of x by linear interpolation between 6001 equal knots: 2e-7 of its curvature, at memory speed."""

    knots = 6001

    def __init__(self, x: np.ndarray, values: np.ndarray) -> None:
        self._left, self._step, self._values = float(x[0]), float(x[1] - x[0]), values

    @classmethod
    def points(cls, x: np.ndarray) -> np.ndarray:
        """Knots over the range of `x`."""
        return np.linspace(x.min(), x.max(), cls.knots)

    def derivative(self) -> Table:
        """Table of the derivative, by second-order differences."""
        slope = np.gradient(self._values, self._step, edge_order=2)
        return Table(self._left + self._step * np.arange(2.0), slope)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        place = (x - self._left) / self._step
        below = np.clip(place.astype(np.intp), 0, self.knots - 2)
        low = self._values[below]
        return low + (place - below) * (self._values[below + 1] - low)


@dataclass(frozen=True)
class ByParts:
    """Candidate as A + B s, so that E[ψ B s] is taken as -E[(ψ B)'] and no score is needed."""

    value: Callable[[np.ndarray], np.ndarray]
    factor: Callable[[np.ndarray], np.ndarray]
    factor_dx: Callable[[np.ndarray], np.ndarray]

    def weak(self, waves: Waves, x: np.ndarray) -> np.ndarray:
        """Integrands, shape (tests, paths), whose means are E[ψ ŝ]."""
        return waves.value * (self.value(x) - self.factor_dx(x)) - waves.slope * self.factor(x)


def split_by_parts(candidate: Candidate, ingredients: Ingredients, x: np.ndarray, t: float) -> ByParts | None:
    """Return A and B of a candidate A + B s over the range of `x`, or None if it is not affine in s."""
    knots = Table.points(x)

    def at(s: float) -> np.ndarray:
        known = {n: ingredients.get(n, knots, t)[0] for n in candidate.names if n != "s"}
        return candidate.evaluate(known | ({"s": np.full_like(knots, s)} if "s" in candidate.names else {}), knots, t)

    base, up, down = at(0.0), at(1.0), at(-1.0)
    if not np.isfinite(base + up + down).all():
        return None
    if np.abs(up + down - 2 * base).max() > 1e-9 * (np.abs(up).max() + np.abs(base).max()):
        return None
    factor = Table(knots, up - base)
    return ByParts(Table(knots, base), factor, factor.derivative())


class WeakFormReferee(Referee):
    """Tests a score, velocity or reverse drift against increments of simulated paths."""

    engine, complete, looks = PARTICLES, False, 4

    def __init__(self, claim: FieldClaim, kind: str, sign: float, tolerance: float) -> None:
        self.claim, self.kind, self.sign, self.tolerance = claim, kind, sign, tolerance
        self.quantity = claim.quantity
        self.route = f"particles, {_TESTS} test functions"

    def cost(self) -> float:
        """Sampling comes last."""
        return 1e8

    def measure(self, look: int, stream: Stream, alpha: float) -> Measurement:
        """Largest |E[ψ (candidate - truth)]| over tests and times, relative to the rms of the field and of ψ."""
        problem = self.claim.problem
        assert problem.process is not None
        assert problem.law is not None
        if not set(self.claim.candidate.names) <= _KNOWN:
            return _no_opinion(self.route, "the candidate names fields that particles do not know")
        windows = [self._window(float(t)) for t in problem.times]
        save_at = np.unique(np.concatenate(windows))
        totals, work = [_Totals() for _ in windows], 0.0
        for chunk in range(PATHS_FIRST // CHUNK * 4 ** (look - 1)):
            ens = simulated(problem.process, problem.law, problem, save_at, CHUNK, STEPS, stream.child(chunk))
            work += weighted_work(ens)
            for window, total in zip(windows, totals, strict=True):
                rows = np.searchsorted(save_at, window)
                terms = [self._terms(window, level[rows]) for level in (ens.x, ens.coarse)]
                if terms[0] is None or terms[1] is None:
                    return _no_opinion(self.route, "the candidate is not finite, or not affine in s", work)
                total.add(terms[0], terms[1])
        share = alpha / (_TESTS * len(windows))
        stretch = normal_quantile(share) / normal_quantile(alpha)
        scales = [truth_scale(self.claim, 1, float(t)) for t in problem.times]
        found = [total.estimate(scale, stretch, self.route) for total, scale in zip(totals, scales, strict=True)]
        return Measurement(max(found, key=lambda e: float(e.value) + float(e.joint_error(alpha))), work)

    def _window(self, t: float) -> np.ndarray:
        """Times at which paths are needed: around t for a velocity, up to t for a reverse drift."""
        t0, t1 = self.claim.problem.t_span
        if self.kind == "score":
            return np.array([t])
        width = _WINDOW[self.kind] * (t1 - t0)
        if self.kind == "velocity":
            width = min(width, 0.9 * (t - t0), 0.9 * (t1 - t))
            return t + width * np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
        width = min(width, 0.9 * (t - t0))
        return t - width * np.array([1.0, 0.5, 0.25, 0.0])

    def _terms(self, window: np.ndarray, x: np.ndarray) -> np.ndarray | None:
        """Per-path integrands (2, tests, paths): extrapolated in the window, and the correction that this made."""
        middle = len(window) // 2 if self.kind == "velocity" else len(window) - 1
        t, now = float(window[middle]), x[middle]
        ingredients = Ingredients(self.claim.problem.process, None, self.claim.problem.t_span[1])
        parts = split_by_parts(self.claim.candidate, ingredients, now, t)
        if parts is None:
            return None
        centre, width = float(np.mean(now)), float(np.std(now))
        waves = Waves(now, centre, width)
        claimed = parts.weak(waves, now)
        if self.kind == "score":
            return np.array([claimed + waves.slope, np.zeros_like(claimed)]) / np.sqrt(0.5)
        process = self.claim.problem.process.to_ito()  # type: ignore[union-attr]
        paths = Window(process, window, x, centre, width)
        if self.kind == "velocity":
            wide, narrow = paths.forward_rate(0), paths.forward_rate(1)
            terms = np.array([claimed - (4 * narrow - wide) / 3, (narrow - wide) / 3])
        else:
            rates = [paths.backward_rate(waves, j) for j in (0, 1, 2)]
            best, other = 2 * rates[2] - rates[1], 2 * rates[1] - rates[0]
            terms = np.array([self.sign * claimed - best, best - other])
        return terms / np.sqrt(0.5)


class Window:
    """Paths at the times of a window, and rates of change from which martingales take most of the noise.

    With M = ∫ g dW and G = ∫ g² dt over a part of the window, M, M² - G and M³ - 3MG times functions of the earlier
    point have mean zero; subtracted with their Taylor coefficients they change no mean.
    """

    def __init__(self, process: Process, times: np.ndarray, x: np.ndarray, centre: float, width: float) -> None:
        self.times, self.x, self._centre, self._width = times, x, centre, width
        knots = Table.points(x)
        self._drift = [Table(knots, process.drift(knots, float(t))) for t in times]
        self._noise = [Table(knots, process.diffusion_squared(knots, float(t))) for t in times]
        self._f = [f(row) for f, row in zip(self._drift, x, strict=True)]
        self._g2 = [g2(row) for g2, row in zip(self._noise, x, strict=True)]

    def _waves(self, j: int) -> Waves:
        return Waves(self.x[j], self._centre, self._width)

    def _martingales(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """M, M² - G, M³ - 3MG from time i to time j."""
        half = 0.5 * float(self.times[j] - self.times[i])
        m = self.x[j] - self.x[i] - half * (self._f[i] + self._f[j])
        bracket = half * (self._g2[i] + self._g2[j])
        return m, m**2 - bracket, m**3 - 3 * m * bracket

    def forward_rate(self, j: int) -> np.ndarray:
        """[φ(X₊) - φ(X₋)]/2δ with φ' = ψ."""
        k, middle = len(self.times) - 1 - j, len(self.times) // 2
        h = float(self.times[k] - self.times[j])
        early, late = self._waves(j), self._waves(k)
        m, square, cube = self._martingales(j, k)
        m_middle = self._martingales(j, middle)[0]
        f, g2 = self._f[j], self._g2[j]
        f_dx, g2_dx = self._drift[j].derivative()(self.x[j]), self._noise[j].derivative()(self.x[j])
        moved = early.slope * f + 0.5 * early.curve * g2
        linear = m * (moved + 0.5 * early.value * f_dx + 0.25 * early.slope * g2_dx)
        linear -= m_middle * (moved + early.value * f_dx + 0.5 * early.slope * g2_dx)
        rise = late.area - early.area - early.value * m - 0.5 * early.slope * square - early.curve * cube / 6
        return rise / h - linear

    def backward_rate(self, now: Waves, j: int) -> np.ndarray:
        """ψ(X_t)(X_{t-h} - X_t)/h."""
        last = len(self.times) - 1
        h = float(self.times[last] - self.times[j])
        early = self._waves(j)
        m, square, cube = self._martingales(j, last)
        f_dx, g2_dx = self._drift[j].derivative()(self.x[j]), self._noise[j].derivative()(self.x[j])
        linear = 0.5 * (early.slope * g2_dx - early.curve * self._g2[j] + early.value * f_dx) - early.slope * self._f[j]
        back = now.value * (self.x[j] - self.x[last])
        back += early.value * m + early.slope * square + 0.5 * early.curve * cube
        return back / h - linear * m


class _Totals:
    """Sums over chunks of paths: means, squares, step bias, window correction, largest term."""

    def __init__(self) -> None:
        self.n, self.largest, self.absolute = 0, 0.0, 0.0
        self.first = self.second = self.bias = self.correction = np.zeros(_TESTS)

    def add(self, fine: np.ndarray, coarse: np.ndarray) -> None:
        self.n += fine.shape[-1]
        self.first = self.first + fine[0].sum(axis=-1)
        self.second = self.second + (fine[0] ** 2).sum(axis=-1)
        self.bias = self.bias + (coarse[0] - fine[0]).sum(axis=-1)
        self.correction = self.correction + fine[1].sum(axis=-1)
        self.largest = max(self.largest, float(np.abs(fine[0]).max()))
        self.absolute += float(np.abs(fine[0]).sum() / _TESTS)

    def estimate(self, scale: float, stretch: float, route: str) -> Estimate:
        mean = self.first / self.n
        spread = np.sqrt(np.maximum(self.second / self.n - mean**2, 0.0) / self.n) * stretch
        error = np.abs(self.bias / self.n) + np.abs(self.correction / self.n) / 3
        worst = int(np.argmax(np.abs(mean) - error - 4 * spread))
        # an unbounded integrand counts only while no single path dominates it
        heavy = self.largest > max(_HEAVY * self.absolute, 1e-6 * scale * self.n)
        dominated = 1e3 if heavy else 0.0
        return Estimate(
            abs(float(mean[worst])) / scale,
            error=float(error.max()) / scale + dominated,
            std_error=float(spread.max()) / scale,
            route=route,
        )


def _no_opinion(route: str, reason: str, work: float = 0.0) -> Measurement:
    return Measurement(Estimate(0.0, error=1e3, route=route), work, reason=reason)
