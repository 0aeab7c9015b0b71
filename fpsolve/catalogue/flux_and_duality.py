"""Identities about mass that crosses a point, and about means that are carried backward in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
from scipy.linalg import solve_banded

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
)
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.differences import differentiate
from fpsolve.problem.estimate import Estimate
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)


def _widened(estimate: Estimate, error: Array | float) -> Estimate:
    """The estimate with one more source of error."""
    return Estimate(estimate.value, error=estimate.error + error, route=estimate.route)


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
            _widened(survivors, lost(weight, 8)[1]),
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


# (f, g², (g²)') -> (coefficient of h', coefficient of h'') in -∂t h
BackwardOperator = Callable[[Array, Array, Array], tuple[Array, Array]]
_END, _EARLIER = FIELD_TIMES[2], FIELD_TIMES[:2]
_REACH = 8.0  # of Y, where h is flat and no mass is left


def _phi(x: Array) -> Array:
    return np.tanh(1.5 * x - 0.4)


def _stretch(fixture: Fixture, y: Array) -> tuple[Array, Array]:
    """dx/dy and the derivative of its logarithm."""
    if fixture.length is None:
        return np.ones_like(y), np.zeros_like(y)
    return np.cosh(y / fixture.length), np.tanh(y / fixture.length) / fixture.length


def _solved_backward(fixture: Fixture, operator: BackwardOperator, cells: int) -> tuple[Array, list[Array]]:
    """Nodes in Y, and h at the earlier times, by central differences and Crank-Nicolson steps, flat at the ends."""
    p, y = fixture.process, np.linspace(-_REACH, _REACH, cells + 1)
    x, d, n_steps, (scale, bend) = fixture.forward(y), y[1] - y[0], cells // 4, _stretch(fixture, y)
    h, saved = _phi(x), []
    for end, start in pairwise((_END, *reversed(_EARLIER))):
        dt = (end - start) / n_steps
        for k in range(n_steps):
            t = end - (k + 0.5) * dt
            first, second = operator(p.drift(x, t), p.diffusion_squared(x, t), p.diffusion_squared_dx(x, t))
            diffusion = second / scale**2
            drift = first / scale - bend * diffusion
            up, down = diffusion / d**2 + drift / (2 * d), diffusion / d**2 - drift / (2 * d)
            up[0], down[0], up[-1], down[-1] = up[0] + down[0], 0.0, 0.0, up[-1] + down[-1]
            # row i of the generator holds down[i], -(up + down)[i], up[i]
            bands = np.array([np.roll(up, 1), -(up + down), np.roll(down, -1)])
            applied = bands[1] * h + up * np.append(h[1:], 0.0) + down * np.append(0.0, h[:-1])
            h = solve_banded((1, 1), np.array([[0.0], [1.0], [0.0]]) - 0.5 * dt * bands, h + 0.5 * dt * applied)
        saved.append(h)
    return y, saved[::-1]


def _carried_mean(fixture: Fixture, operator: BackwardOperator) -> Estimate:
    """∫h_t q_t at the earlier times, steps and cells halved twice and extrapolated."""

    def means(cells: int) -> Array:
        y, fields = _solved_backward(fixture, operator, cells)
        dx = (y[1] - y[0]) * _stretch(fixture, y)[0]
        densities = [fixture.law_at(t).pdf(fixture.forward(y)) for t in _EARLIER]
        return np.array([(dx * q * h).sum() for q, h in zip(densities, fields, strict=True)])

    levels = [means(cells) for cells in (160, 320, 640)]
    coarse, fine = ((4 * b - a) / 3 for a, b in pairwise(levels))
    return Estimate(fine, error=np.abs(fine - coarse), route="h solved backward, against q")


def _mean_at_end(fixture: Fixture, pdf: Callable[[Array], Array], error: float, route: str) -> Estimate:
    """E φ at the end by quadrature, repeated for each earlier time."""

    def mean(panels: int) -> Array:
        x, weights = fixture.nodes(_END, panels)
        return np.full(len(_EARLIER), (weights * pdf(x) * _phi(x)).sum())

    return _widened(refined(mean, 40, route), error)


def _mean_on_grid(fixture: Fixture) -> Estimate:
    q, (x, weights) = fixture.on_grid(FIELD_TIMES, GRID_RTOL), fixture.nodes(_END, 40)
    error = float((weights * np.abs(_phi(x)) * q.with_error("pdf", x, _END)[1]).sum())
    return _mean_at_end(fixture, lambda y: q.pdf(y, _END), error, "E φ at the end, grid")


def _duality(fixture: Fixture) -> Check:
    def check(operator: BackwardOperator, *, tol: float | None = None, seed: int = 0) -> Verdict:
        return check_equal(
            _mean_at_end(fixture, fixture.law_at(_END).pdf, 0.0, "E φ at the end, textbook law"),
            _mean_on_grid(fixture),
            _carried_mean(fixture, operator),
            tol=tolerance(tol),
            seed=seed,
            title="∫h q is kept",
        )

    return check


def _from_kernel(fixture: Fixture, x: Array, n: int, t: float) -> Array:
    """h = E[φ(X_T) | X_t = x] by Gauss-Hermite quadrature of the textbook kernel."""
    z, weights = np.polynomial.hermite_e.hermegauss(n)
    factor, noise = fixture.kernel(t, _END)
    ends = fixture.forward(factor * fixture.inverse(x)[..., None] + np.sqrt(noise) * z)
    return _phi(ends) @ weights / weights.sum()


def _from_transition(fixture: Fixture, x: Array, t: float, panels: int) -> Array:
    """h by quadrature over the places at the end, with the transition density of the closed-form engine."""
    q, (y, weights) = fixture.exact, fixture.nodes(_END, panels)
    return np.exp(q.transition_logpdf(y, _END, x[:, None], t)) @ (weights * _phi(y))  # type: ignore[attr-defined]


def _falling(fixture: Fixture, n: int) -> tuple[Array, Array]:
    """-∂t h at the earlier times, and the error of its differences."""
    values, errors = [], []
    for t in _EARLIER:
        rate, error = time_derivative(partial(_from_kernel, fixture, fixture.quantiles(t, 15), n), t)
        values.append(-rate)
        errors.append(error)
    return np.concatenate(values), np.concatenate(errors)


def _generated(fixture: Fixture, operator: BackwardOperator, panels: int) -> tuple[Array, Array]:
    """The operator on h at the earlier times, and the error of its derivatives."""
    p, values, errors = fixture.process, [], []
    for t in _EARLIER:
        x, h = fixture.quantiles(t, 15), partial(_from_transition, fixture, panels=panels, t=t)
        (h_dx, error), (h_dxx, error_2) = (differentiate(h, x, order=k, length=0.5) for k in (1, 2))
        first, second = operator(p.drift(x, t), p.diffusion_squared(x, t), p.diffusion_squared_dx(x, t))
        values.append(first * h_dx + second * h_dxx)
        errors.append(np.abs(first) * error + np.abs(second) * error_2)
    return np.concatenate(values), np.concatenate(errors)


def _backward_equation(fixture: Fixture) -> Check:
    def check(operator: BackwardOperator, *, tol: float | None = None, seed: int = 0) -> Verdict:
        falling = refined(lambda n: _falling(fixture, n)[0], 60, "differences of E[φ | x] in time")
        generated = refined(lambda n: _generated(fixture, operator, n)[0], 30, "operator on E[φ | x]")
        return check_equal(
            _widened(falling, _falling(fixture, 60)[1]),
            _widened(generated, _generated(fixture, operator, 30)[1]),
            tol=tolerance(tol),
            seed=seed,
            title="backward equation",
        )

    return check


BACKWARD_DUALITY = Identity(
    id="fp-backward-duality",
    statement=(
        "h(x, t) = E[φ(X_T) | X_t = x] solves -∂t h = f h' + ½ g² h'' with h = φ at T\n"
        "and ∫h q dx does not change in time: E φ(X_T) = ∫h(x, t) q(x, t) dx"
    ),
    conditions="φ smooth and bounded; no flux through the ends.",
    source="Kolmogorov (1931), the backward equation; Winther et al. (arXiv 2606.31576) eqs. 5-7 are its adjoint",
    routes=(
        "∫h q with h solved backward by finite differences, q from the textbook",
        "E φ at the end, under the textbook law and under a grid solution of the forward equation",
        "pointwise: differences in time of quadratures of the textbook kernel, against the operator on quadratures "
        "of the closed transition density",
    ),
    truth=lambda f, g2, g2_dx: (f, 0.5 * g2),
    settings={
        "L = 1": _duality(SINH_1),
        "L = 25": _duality(SINH_25),
        "g(x, t)": _duality(SINH_T),
        "pointwise, L = 1": _backward_equation(SINH_1),
        "pointwise, L = 25": _backward_equation(SINH_25),
    },
    siblings=(
        Sibling("sign of f", lambda f, g2, g2_dx: (-f, 0.5 * g2)),
        Sibling("½ dropped: g² h''", lambda f, g2, g2_dx: (f, g2)),
        Sibling("drift f + g g', that of the adjoint", lambda f, g2, g2_dx: (f + 0.5 * g2_dx, 0.5 * g2)),
    ),
)
