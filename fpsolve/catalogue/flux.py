"""The identity of mass that crosses a point or is taken by a wall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fpsolve.catalogue.fixtures import (
    FIELD_TIMES,
    GRID_RTOL,
    SINH_1,
    SINH_25,
    SINH_T,
    Fixture,
    joined,
    refined,
    time_derivative,
    tolerance,
    widened,
)
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.estimate import Estimate
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


@dataclass(frozen=True)
class FluxRule:
    """J from (f, g², (g²)', q, q') in ∂t F = -J; from (μ, σ, x₀) the weight of the image, which is subtracted."""

    flux: Callable[[Array, Array, Array, Array, Array], Array]
    image: Callable[[float, float, float], float]


def _flux_route(fixture: Fixture, q: Evolution, rule: FluxRule, route: str) -> Estimate:
    parts = []
    for t in FIELD_TIMES:
        x, p = fixture.quantiles(t, 25), fixture.process
        (density, density_error), (s, s_error) = q.with_error("pdf", x, t), q.with_error("score", x, t)
        f, g2, g2_dx = p.drift(x, t), p.diffusion_squared(x, t), p.diffusion_squared_dx(x, t)
        weight = np.abs(f) + np.abs(g2_dx) + g2 * np.abs(s)
        flux = rule.flux(f, g2, g2_dx, density, density * s)
        parts.append((flux, weight * density_error + g2 * density * s_error))
    return joined(parts, route)


def _through_a_point(fixture: Fixture) -> Check:
    def outflow(t: float) -> tuple[Array, Array]:
        x = fixture.quantiles(t, 25)
        rate, error = time_derivative(lambda u: np.asarray(fixture.law_at(u).cdf(x)), t)
        return -rate, error

    def check(rule: FluxRule, *, tol: float | None = None, seed: int = 0) -> Verdict:
        return check_equal(
            joined([outflow(t) for t in FIELD_TIMES], "differences of F in time"),
            _flux_route(fixture, fixture.exact, rule, "flux, closed form"),
            _flux_route(fixture, fixture.on_grid(FIELD_TIMES, GRID_RTOL), rule, "flux, grid"),
            tol=tolerance(tol),
            seed=seed,
            title="mass that crosses a point",
        )

    return check


@dataclass(frozen=True)
class Wall:
    """Brownian motion with drift μ and noise σ from x₀ > 0, absorbed at 0."""

    drift: float
    noise: float
    start: float
    times: tuple[float, ...] = (0.3, 0.6, 1.0, 1.7)

    def density(self, x: Array, t: float, weight: float) -> tuple[Array, Array]:
        """q and q' at time t, with an image of this weight at -x₀."""
        variance, q, q_dx = self.noise**2 * t, np.zeros_like(x), np.zeros_like(x)
        for centre, share in ((self.start, 1.0), (-self.start, -weight)):
            apart = x - centre - self.drift * t
            part = share * np.exp(-0.5 * apart**2 / variance) / np.sqrt(2 * np.pi * variance)
            q, q_dx = q + part, q_dx - apart / variance * part
        return q, q_dx

    def hitting_density(self, t: Array) -> Array:
        """Density of the time at which 0 is reached, x₀/√(2πσ²t³) exp(-(x₀ + μt)²/2σ²t)."""
        size = self.start / np.sqrt(2 * np.pi * self.noise**2 * t**3)
        return size * np.exp(-0.5 * (self.start + self.drift * t) ** 2 / (self.noise**2 * t))

    def hitting_transform(self, p: Array) -> Array:
        """E exp(-p T): the decaying solution of ½ σ² u'' + μ u' = p u with u = 1 at the wall."""
        return np.exp(-self.start * (self.drift + np.sqrt(self.drift**2 + 2 * p * self.noise**2)) / self.noise**2)

    def survival(self, t: float, weight: float, panels: int) -> float:
        """Mass on x > 0, by quadrature."""
        end = self.start + abs(self.drift) * t + 9.0 * self.noise * np.sqrt(t)
        half = 0.5 * end / panels
        x = half * (2 * np.arange(panels)[:, None] + 1 + _NODES)
        return float((half * _WEIGHTS * self.density(x, t, weight)[0]).sum())


def _talbot(transform: Callable[[Array], Array], t: float, n: int) -> float:
    """Inverse Laplace transform by the trapezoidal rule on Talbot's contour (Abate & Valkó 2004)."""
    theta = np.arange(1, n) * np.pi / n
    cot = 1.0 / np.tan(theta)
    p = 0.4 * n / t * theta * (cot + 1j)
    slope = 1.0 + 1j * (theta + (theta * cot - 1.0) * cot)
    head = 0.5 * np.exp(0.4 * n) * np.real(transform(np.array(0.4 * n / t, dtype=complex)))
    return float(0.4 / t * (head + np.real(np.exp(t * p) * transform(p) * slope).sum()))


def _at_a_wall(wall: Wall) -> Check:
    times, zero = np.array(wall.times), np.zeros(1)

    def lost(weight: float, panels: int) -> tuple[Array, Array]:
        rates = [time_derivative(lambda u: np.asarray(wall.survival(u, weight, panels)), t) for t in wall.times]
        return -np.array([rate for rate, _ in rates]), np.array([error for _, error in rates])

    def into_wall(rule: FluxRule, weight: float) -> Array:
        f, g2 = np.full(1, wall.drift), np.full(1, wall.noise**2)
        edges = [wall.density(zero, t, weight) for t in wall.times]
        return -np.concatenate([rule.flux(f, g2, zero, q, q_dx) for q, q_dx in edges])

    def inverted(n: int) -> Array:
        return np.array([_talbot(wall.hitting_transform, t, n) for t in wall.times])

    def check(rule: FluxRule, *, tol: float | None = None, seed: int = 0) -> Verdict:
        weight = rule.image(wall.drift, wall.noise, wall.start)
        survivors = refined(lambda panels: lost(weight, panels)[0], 8, "differences of the surviving mass in time")
        return check_equal(
            widened(survivors, lost(weight, 8)[1]),
            Estimate(into_wall(rule, weight), error=1e-13, route="flux into the wall"),
            Estimate(wall.hitting_density(times), error=1e-13, route="law of the hitting time"),
            refined(inverted, 12, "hitting time from its Laplace transform"),
            tol=tolerance(tol),
            seed=seed,
            title="mass that a wall absorbs",
        )

    return check


def _image_weight(drift: float, noise: float, start: float) -> float:
    return float(np.exp(-2 * drift * start / noise**2))


def _flux(f: Array, g2: Array, g2_dx: Array, q: Array, q_dx: Array) -> Array:
    return f * q - 0.5 * (g2_dx * q + g2 * q_dx)


_POINTS, _WALLS = ("L = 1", "L = 25", "g(x, t)"), ("wall", "wall, weak drift")

FLUX_BOUNDARY = Identity(
    id="fp-flux-boundary",
    statement=(
        "∂t F(b) = -J(b) with J = f q - ½ ∂x(g² q)\n"
        "an absorbing wall at 0 takes -Ṡ = -J(0) = ½ g² q'(0); from x₀ with drift μ and noise σ\n"
        "q = N(x; x₀ + μt, σ²t) - exp(-2μx₀/σ²) N(x; -x₀ + μt, σ²t)\n"
        "and the wall is reached with density x₀/√(2πσ²t³) exp(-(x₀ + μt)²/2σ²t)"
    ),
    conditions="g² q → 0 at -∞ (for F); g > 0 at the wall, where q = 0. Where g is constant (g²)' is not examined.",
    source="Winther et al. (arXiv 2606.31576) eqs. 5-7, integrated once in x; Cox & Miller (1965) ch. 5",
    routes=(
        "differences in time of the textbook F",
        "flux of the formula on the closed form, and on a grid solution",
        "wall: differences in time of the surviving mass; flux into the wall; the law of the hitting time, written "
        "down and from its Laplace transform",
    ),
    truth=FluxRule(_flux, _image_weight),
    settings={
        "L = 1": _through_a_point(SINH_1),
        "L = 25": _through_a_point(SINH_25),
        "g(x, t)": _through_a_point(SINH_T),
        "wall": _at_a_wall(Wall(-0.6, 0.9, 0.8)),
        "wall, weak drift": _at_a_wall(Wall(2e-3, 0.9, 0.8)),
    },
    siblings=(
        Sibling("sign: ∂t F = +J", FluxRule(lambda *arguments: -_flux(*arguments), _image_weight)),
        Sibling(
            "g² ∂x q for ∂x(g² q)",
            FluxRule(lambda f, g2, g2_dx, q, q_dx: f * q - 0.5 * g2 * q_dx, _image_weight),
            only=_POINTS,
        ),
        Sibling("image without the factor of the drift", FluxRule(_flux, lambda mu, sigma, x0: 1.0), only=_WALLS),
        Sibling(
            "image with the sign of a reflecting wall",
            FluxRule(_flux, lambda mu, sigma, x0: -_image_weight(mu, sigma, x0)),
            only=_WALLS,
        ),
    ),
)
