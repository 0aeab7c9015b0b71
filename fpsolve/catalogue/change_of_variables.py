"""The identity of changed variables: a new coordinate, unit noise, a new clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from fpsolve.catalogue.fixtures import (
    FIELD_TIMES,
    GRID_RTOL,
    SIGMA,
    SINH_1,
    SINH_25,
    SINH_T,
    T_SPAN,
    THETA,
    Fixture,
    joined,
    rising_noise,
    time_derivative,
    tolerance,
)
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.grids.fokker_planck import solve_fokker_planck
from fpsolve.problem.differences import differentiate
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.process import SDE
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
_HERMITE, _HERMITE_WEIGHTS = np.polynomial.hermite_e.hermegauss(40)


@dataclass(frozen=True)
class Rules:
    """What becomes of a process and of its law.

    `ito(f, g², ψ̇, ψ', ψ'')` is the drift of ψ(X, t); `unit_noise(f, g, g', ψ̇)` the same where ψ' = 1/g; `factor(ψ')`
    takes the density of ψ(X) to that of X; `clock(ṙ)` is what f and g are multiplied by in X_{r(t)}.
    """

    ito: Callable[[Array, Array, Array, Array, Array], Array]
    unit_noise: Callable[[Array, Array, Array, Array], Array]
    factor: Callable[[Array], Array]
    clock: Callable[[float], tuple[float, float]]


@dataclass(frozen=True)
class Coordinate:
    """Z = ψ(X, t) = L asinh(X/L)/c(t) for a fixture X = L sinh(Y/L): dZ = -(θ + ċ/c) Z dt + σ/c dW."""

    fixture: Fixture
    length: float
    unit: Callable[[float], float]
    unit_rate: float

    def value(self, x: Array, t: float) -> Array:
        """ψ."""
        return self.length * np.arcsinh(x / self.length) / self.unit(t)

    def derivatives(self, x: Array, t: float) -> tuple[Array, Array, Array]:
        """ψ̇, ψ' and ψ''."""
        root = np.sqrt(1.0 + (x / self.length) ** 2)
        slope = 1.0 / (root * self.unit(t))
        fall = self.unit_rate / self.unit(t)
        return -fall * self.value(x, t), slope, -slope * x / (self.length * root) ** 2

    def drift(self, x: Array, t: float) -> Array:
        """Drift of Z where X = x, from the equation of Y."""
        return -(THETA + self.unit_rate / self.unit(t)) * self.value(x, t)


def _drift_by_ito(of: Coordinate, rules: Rules, x: Array, t: float) -> Array:
    p = of.fixture.process
    return rules.ito(p.drift(x, t), p.diffusion_squared(x, t), *of.derivatives(x, t))


def _drift_by_unit_noise(of: Coordinate, rules: Rules, x: Array, t: float) -> Array:
    p = of.fixture.process
    g = p.diffusion(x, t)
    return rules.unit_noise(p.drift(x, t), g, p.diffusion_squared_dx(x, t) / (2 * g), of.derivatives(x, t)[0])


def _short_steps(of: Coordinate, t: float) -> tuple[Array, Array]:
    """d/dh E[ψ(X_{t+h}, t+h) | X_t = x] at h = 0+, by differences of quadratures of the textbook kernel."""
    fixture, x = of.fixture, of.fixture.quantiles(t, 25)

    def mean(h: float) -> Array:
        factor, noise = fixture.kernel(t, t + h)
        ends = fixture.forward(factor * fixture.inverse(x)[:, None] + np.sqrt(noise) * _HERMITE)
        return of.value(ends, t + h) @ _HERMITE_WEIGHTS / _HERMITE_WEIGHTS.sum()

    rows = []
    for step in (0.01, 0.005):
        h = step * np.arange(6.0)
        weights = np.linalg.solve(np.vander(h, increasing=True).T, np.eye(6)[1])
        rows.append(weights @ np.array([mean(u) for u in h]))
    return rows[1], np.abs(rows[1] - rows[0]) + 1e-10


def _drift(of: Coordinate) -> Check:
    """Drift of Z at the quantiles of X, where the noise of Z is one."""

    def check(rules: Rules, *, tol: float | None = None, seed: int = 0) -> Verdict:
        def at_quantiles(drift: Callable[[Array, float], Array], route: str) -> Estimate:
            values = np.concatenate([drift(of.fixture.quantiles(t, 25), t) for t in FIELD_TIMES])
            return Estimate(values, error=1e-11, route=route)

        return check_equal(
            at_quantiles(of.drift, "equation of Y"),
            joined([_short_steps(of, t) for t in FIELD_TIMES], "mean over short steps"),
            at_quantiles(lambda x, t: _drift_by_ito(of, rules, x, t), "Itô's formula"),
            at_quantiles(lambda x, t: _drift_by_unit_noise(of, rules, x, t), "formula for unit noise"),
            tol=tolerance(tol),
            seed=seed,
            title="drift in a new coordinate",
        )

    return check


def _density(of: Coordinate) -> Check:
    """Density of X, from that of Z."""
    fixture = of.fixture

    def carried(rules: Rules, t: float) -> tuple[Array, Array]:
        """Mixture of Gaussians at ψ, with the means and variances of Z, times the factor."""
        x = fixture.quantiles(t, 25)
        factor, noise = fixture.kernel(0.0, t)
        data, level = fixture.data, of.unit(t)
        stds = np.sqrt(factor**2 * data.stds**2 + noise) / level
        z = (of.value(x, t)[:, None] - factor * data.means / level) / stds
        bells = np.exp(-0.5 * z**2) / (np.sqrt(2 * np.pi) * stds)
        density = bells @ data.weights * rules.factor(of.derivatives(x, t)[1])
        return density, 1e-12 * density

    def slope(t: float) -> tuple[Array, Array]:
        return differentiate(lambda x: np.asarray(fixture.law_at(t).cdf(x)), fixture.quantiles(t, 25), length=0.5)

    def check(rules: Rules, *, tol: float | None = None, seed: int = 0) -> Verdict:
        grid = fixture.on_grid(FIELD_TIMES, GRID_RTOL)
        return check_equal(
            joined([slope(t) for t in FIELD_TIMES], "derivative of the distribution function"),
            joined([carried(rules, t) for t in FIELD_TIMES], "density of Z, carried"),
            joined([grid.with_error("pdf", fixture.quantiles(t, 25), t) for t in FIELD_TIMES], "grid solution for X"),
            tol=tolerance(tol),
            seed=seed,
            title="density in a new coordinate",
        )

    return check


def _clock(t: float) -> float:
    """r(t), from 0 to 0.9 over the span, slow at first."""
    return 0.4 * t + 0.5 * t**2


def _clock_rate(t: float) -> float:
    return 0.4 + t


def _new_clock(fixture: Fixture) -> Check:
    """-∂t F of X_{r(t)}, against the flux with the coefficients of the new clock."""

    def outflow(t: float) -> tuple[Array, Array]:
        x = fixture.quantiles(_clock(t), 25)
        rate, error = time_derivative(lambda u: np.asarray(fixture.law_at(_clock(u)).cdf(x)), t)
        return -rate, error

    def flux(rules: Rules, t: float) -> tuple[Array, Array]:
        r, p, q = _clock(t), fixture.process, fixture.exact
        x, (speed, level) = fixture.quantiles(r, 25), rules.clock(_clock_rate(t))
        curl = p.diffusion_squared_dx(x, r) + p.diffusion_squared(x, r) * q.score(x, r)
        values = q.pdf(x, r) * (speed * p.drift(x, r) - 0.5 * level**2 * curl)
        return values, 1e-10 * (1.0 + np.abs(values))

    def check(rules: Rules, *, tol: float | None = None, seed: int = 0) -> Verdict:
        return check_equal(
            joined([outflow(t) for t in FIELD_TIMES], "differences of F in the new clock"),
            joined([flux(rules, t) for t in FIELD_TIMES], "flux in the new clock, closed form"),
            tol=tolerance(tol),
            seed=seed,
            title="new clock",
        )

    return check


def _new_clock_on_grid(fixture: Fixture) -> Check:
    """The process with the coefficients of the new clock, solved to the end."""
    levels = np.linspace(0.02, 0.98, 25)

    def check(rules: Rules, *, tol: float | None = None, seed: int = 0) -> Verdict:
        p, end = fixture.process, T_SPAN[1]
        candidate = SDE(
            lambda x, t: rules.clock(_clock_rate(t))[0] * p.drift(x, _clock(t)),
            lambda x, t: rules.clock(_clock_rate(t))[1] * p.diffusion(x, _clock(t)),
        )
        q = solve_fokker_planck(candidate, fixture.law_at(0.0), T_SPAN, t_eval=[end], rtol=1e-5)
        x = np.asarray(fixture.law_at(_clock(end)).ppf(levels))
        values, errors = q.with_error("cdf", x, end)
        return check_equal(
            Estimate(levels, error=1e-12, route="F of the textbook law at r(t)"),
            Estimate(values, error=errors, route="grid solution in the new clock"),
            tol=tolerance(tol),
            seed=seed,
            title="new clock, solved",
        )

    return check


_RULES = Rules(
    ito=lambda f, g2, psi_dt, psi_dx, psi_dxx: psi_dt + f * psi_dx + 0.5 * g2 * psi_dxx,
    unit_noise=lambda f, g, g_dx, psi_dt: psi_dt + f / g - 0.5 * g_dx,
    factor=np.abs,
    clock=lambda rate: (rate, float(np.sqrt(rate))),
)
_BLATANT = Coordinate(SINH_1, 1.0, lambda t: SIGMA, 0.0)
_SUBTLE = Coordinate(SINH_25, 25.0, lambda t: SIGMA, 0.0)
_SUBTLE_Y = Coordinate(SINH_25, 25.0, lambda t: 1.0, 0.0)
_MOVING = Coordinate(SINH_T, 1.0, rising_noise, 0.5 * SIGMA)
_OF_DRIFT = ("drift, L = 1", "drift, L = 25", "drift, g(x, t)")
_OF_DENSITY = ("density, L = 1", "density, L = 25", "density, g(x, t)")
_OF_CLOCK = ("clock, L = 1", "clock, L = 25", "clock, g(x, t)", "clock, solved, L = 1")

CHANGE_OF_VARIABLES = Identity(
    id="fp-change-of-variables",
    statement=(
        "y = ψ(x, t): dY = (ψ̇ + f ψ' + ½ g² ψ'') dt + g ψ' dW and q_X = q_Y(ψ) |ψ'|\n"
        "with ψ' = 1/g (Lamperti) the noise is one and the drift ψ̇ + f/g - ½ g'\n"
        "new clock: X_{r(t)} has drift ṙ f and noise √ṙ g (g² is multiplied by ṙ)"
    ),
    conditions="Itô; ψ twice differentiable and monotone; g > 0 for unit noise; ṙ > 0.",
    source="Itô (1951); Lamperti (1964); Øksendal (2003) ch. 4 and 8",
    routes=(
        "drift: Itô's formula and that for unit noise, the linear equation of Y, the mean of ψ over short steps",
        "density: derivative of F, density of Z carried back, grid solution for X",
        "clock: differences of F against the flux on the closed form; the process of the new clock on a grid",
    ),
    truth=_RULES,
    settings={
        "drift, L = 1": _drift(_BLATANT),
        "drift, L = 25": _drift(_SUBTLE),
        "drift, g(x, t)": _drift(_MOVING),
        "density, L = 1": _density(_BLATANT),
        "density, L = 25": _density(_SUBTLE_Y),
        "density, g(x, t)": _density(_MOVING),
        "clock, L = 1": _new_clock(SINH_1),
        "clock, L = 25": _new_clock(SINH_25),
        "clock, g(x, t)": _new_clock(SINH_T),
        "clock, solved, L = 1": _new_clock_on_grid(SINH_1),
    },
    siblings=(
        Sibling(
            "unit noise with - g'",
            replace(_RULES, unit_noise=lambda f, g, g_dx, psi_dt: psi_dt + f / g - g_dx),
            only=_OF_DRIFT,
        ),
        Sibling(
            "unit noise with + ½ g'",
            replace(_RULES, unit_noise=lambda f, g, g_dx, psi_dt: psi_dt + f / g + 0.5 * g_dx),
            only=_OF_DRIFT,
        ),
        Sibling(
            "no Itô term",
            replace(_RULES, ito=lambda f, g2, psi_dt, psi_dx, psi_dxx: psi_dt + f * psi_dx),
            only=_OF_DRIFT,
        ),
        Sibling(
            "ψ̇ dropped",
            replace(
                _RULES,
                ito=lambda f, g2, psi_dt, psi_dx, psi_dxx: f * psi_dx + 0.5 * g2 * psi_dxx,
                unit_noise=lambda f, g, g_dx, psi_dt: f / g - 0.5 * g_dx,
            ),
            below_tolerance={"drift, L = 1": 0.0, "drift, L = 25": 0.0},
            only=_OF_DRIFT,
        ),
        Sibling("no Jacobian", replace(_RULES, factor=np.ones_like), only=_OF_DENSITY),
        Sibling("Jacobian inverted", replace(_RULES, factor=lambda slope: 1.0 / np.abs(slope)), only=_OF_DENSITY),
        Sibling("noise ṙ g in the new clock", replace(_RULES, clock=lambda rate: (rate, rate)), only=_OF_CLOCK),
        Sibling("noise g in the new clock", replace(_RULES, clock=lambda rate: (rate, 1.0)), only=_OF_CLOCK),
    ),
)
