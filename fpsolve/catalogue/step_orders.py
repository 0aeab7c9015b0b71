"""Identities of the strong and the weak order of schemes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fpsolve.catalogue.fixtures import tolerance
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.catalogue.steps import (
    Coefficients,
    Model,
    Step,
    benes,
    carried_mean,
    gbm,
    normal_nodes,
    observed_order,
    one_step_mean,
    sinh_ou,
)
from fpsolve.particles.simulate import simulate
from fpsolve.paths import processes
from fpsolve.problem.density import PointMass
from fpsolve.problem.estimate import Estimate, exact
from fpsolve.problem.process import SDE
from fpsolve.problem.streams import Stream
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
# an order is a slope; the neighbouring one is 25 tolerances away, five where it is sampled
ORDER_TOL, SAMPLED_ORDER_TOL = 0.02, 0.1
MU, SIGMA = 0.6, 0.5
_GBM, _NOISE_ONLY = gbm(MU, SIGMA), sinh_ou(0.0, SIGMA, 1.0)
_STARTS = np.array([-0.9, 0.2, 0.6, 1.3])
_LOCAL_STEPS = tuple(2.0**-k for k in range(4, 9))
_BLOCKS = 32


def _phi(x: Array) -> Array:
    return np.tanh(1.5 * x - 0.4)


def euler(model: Model, x: Array, dw: Array, h: float) -> Array:
    """One Euler-Maruyama step."""
    c = model.coefficients(x)
    return np.asarray(x + c.f * h + c.g * dw)


def _of_order(order: float, routes: tuple[Any, ...], tol: float, seed: int, title: str) -> Verdict:
    return check_equal(exact(order), *routes, tol=tol, scale=1.0, seed=seed, title=title)


# (c, ΔW, h) -> what is added to the Euler-Maruyama step
Correction = Callable[[Coefficients, Array, float], Array]


@dataclass(frozen=True)
class StrongOrders:
    """What makes Milstein's scheme of Euler's, and the claimed orders: Milstein's, Euler's, and Euler's if g' = 0."""

    correction: Correction
    euler: float = 0.5
    additive: float = 1.0
    milstein: float = 1.0

    def step(self, model: Model, x: Array, dw: Array, h: float) -> Array:
        """One step of Milstein's scheme."""
        return np.asarray(euler(model, x, dw, h) + self.correction(model.coefficients(x), dw, h))


def _mean_square_route(step: Step) -> Estimate:
    """Order at the end of [0, 1] from x = 1: X and its approximation are products of factors, so moments are powers."""
    z, weights = normal_nodes(40)
    one, errors = np.ones(1), []
    for n in (64, 128, 256, 512):
        dw = np.sqrt(1.0 / n) * z
        truth, factor = _GBM.path(one, 1.0 / n, dw), step(_GBM, one, dw, 1.0 / n)  # type: ignore[misc]
        parts = (weights @ pair for pair in (truth * truth, truth * factor, factor * factor))
        square, mixed, own = (part**n for part in parts)
        errors.append(np.sqrt(square - 2 * mixed + own))
    return observed_order(errors, "moments of X and its approximation")


def _from_local(means: list[Array], sizes: list[Array], route: str) -> Estimate:
    """Milstein's theorem: local errors of mean order p and mean-square order p' give the order min(p - 1, p' - ½)."""
    orders = observed_order(means, route) - exact(1.0), observed_order(sizes, route) - exact(0.5)
    slower = min(orders, key=lambda order: float(order.value))
    return Estimate(slower.value, error=slower.error, route=route)


def _local_route(model: Model, step: Step, starts: Array) -> Estimate:
    z, weights = normal_nodes(40)
    means, sizes = [], []
    for h in _LOCAL_STEPS:
        dw, x = np.sqrt(h) * z, starts[:, None]
        gap = model.path(x, h, dw) - step(model, x, dw, h)  # type: ignore[misc]
        means.append(gap @ weights)
        sizes.append(np.sqrt(gap**2 @ weights))
    return _from_local(means, sizes, "local errors, solution as a function of W")


def _of_milstein(*routes_of: Callable[[Step], Any], tol: float = ORDER_TOL) -> Check:
    default = tol

    def check(claimed: StrongOrders, *, tol: float | None = None, seed: int = 0) -> Verdict:
        routes = tuple(route(claimed.step) for route in routes_of)
        return _of_order(claimed.milstein, routes, tolerance(tol, default), seed, "strong order of Milstein's scheme")

    return check


def _of_euler(*routes_of: Callable[[], Any], tol: float = ORDER_TOL, additive: bool = False) -> Check:
    default = tol

    def check(claimed: StrongOrders, *, tol: float | None = None, seed: int = 0) -> Verdict:
        order = claimed.additive if additive else claimed.euler
        routes = tuple(route() for route in routes_of)
        return _of_order(order, routes, tolerance(tol, default), seed, "strong order of Euler-Maruyama")

    return check


def _additive_pair(theta: float = 0.8, sigma: float = 0.7, start: float = 1.0) -> Estimate:
    """Root mean square at t = 1 of (Ornstein-Uhlenbeck - its Euler-Maruyama steps), by their joint covariance."""
    errors = []
    for n in (64, 128, 256, 512):
        h = 1.0 / n
        decay = np.array([np.exp(-theta * h), 1.0 - theta * h])
        mixed = -np.expm1(-theta * h) / theta
        noise = sigma**2 * np.array([[-np.expm1(-2 * theta * h) / (2 * theta), mixed], [mixed, h]])
        covariance = np.zeros((2, 2))
        for _ in range(n):
            covariance = np.outer(decay, decay) * covariance + noise
        gap, apart = start * np.subtract(*decay**n), np.array([1.0, -1.0])
        errors.append(np.sqrt(gap**2 + apart @ covariance @ apart))
    return observed_order(errors, "joint covariance with the solution")


def _additive_local(theta: float = 0.8, sigma: float = 0.7) -> Estimate:
    """Local errors of the same: (e^{-θh} - 1 + θh) x in the mean, σ ∫(e^{-θu} - 1) dW around it."""
    u, weights = np.polynomial.legendre.leggauss(12)
    means, sizes = [], []
    for h in _LOCAL_STEPS:
        means.append((np.exp(-theta * h) - 1.0 + theta * h) * _STARTS)
        spread = sigma**2 * 0.5 * h * weights @ np.expm1(-theta * 0.5 * h * (1.0 + u)) ** 2
        sizes.append(np.sqrt(means[-1] ** 2 + spread))
    return _from_local(means, sizes, "local errors")


def _slope_by_blocks(squares: Array, route: str) -> Estimate:
    """Order from squared errors, shape (levels, paths), at halved steps; the error is what the last halving changed."""
    blocks = squares.reshape(len(squares), _BLOCKS, -1).mean(axis=2)
    total = 0.5 * np.log2(squares.mean(axis=1)[:-1] / squares.mean(axis=1)[1:])
    spread = 0.5 * np.log2(blocks[-2] / blocks[-1])
    change = abs(total[-1] - total[-2])
    return Estimate(total[-1], error=change, std_error=spread.std(ddof=1) / np.sqrt(_BLOCKS), route=route)


def _common_noise(step: Step) -> Callable[[int, Stream], Estimate]:
    """Errors at t = 1 of paths from x = .5 at halved steps, all on the same noise."""

    def paths_on_common_noise(effort: int, stream: Stream) -> Estimate:
        steps, paths, start = (64, 128, 256), 2 ** (12 + effort), 0.5
        finest = stream.generator("noise").standard_normal((steps[-1], paths)) / 16.0
        truth = _NOISE_ONLY.path(np.array(start), 1.0, finest.sum(axis=0))  # type: ignore[misc]
        squares = []
        for n in steps:
            x = np.full(paths, start)
            for dw in finest.reshape(n, -1, paths).sum(axis=1):
                x = step(_NOISE_ONLY, x, dw, 1.0 / n)
            squares.append((x - truth) ** 2)
        return _slope_by_blocks(np.array(squares), "paths on common noise")

    return paths_on_common_noise


def particles_and_their_w(effort: int, stream: Stream) -> Estimate:
    """Order of paths of the particle engine, from the solution at their own W."""
    process, squares = SDE(lambda x: 0.125 * x, lambda x: 0.5 * np.sqrt(1.0 + x * x)), []
    for n in (64, 256):
        run = simulate(
            process, PointMass(0.5), (0.0, 1.0), n_paths=2 ** (13 + effort), n_steps=n, bias="halving",
            functionals={"W": (0.0, 1.0)}, rng=stream,
        )  # fmt: skip
        truth = _NOISE_ONLY.path(np.array(0.5), 1.0, run.functionals["W"])  # type: ignore[misc]
        squares += [(run.coarse[0] - truth) ** 2, (run.x[0] - truth) ** 2]
    return _slope_by_blocks(np.array(squares), "particles")


def _milstein(half: float = 0.5, step: float = 1.0) -> Correction:
    return lambda c, dw, h: half * c.g * c.g_dx * (dw**2 - step * h)


_MILSTEIN = ("Milstein, GBM", "Milstein, X = sinh W", "Milstein, X = sinh W, sampled")
_EULER = ("Euler-Maruyama, GBM", "Euler-Maruyama, X = sinh W, sampled")
_STRONG = StrongOrders(_milstein())

STRONG_ORDER = Identity(
    id="int-strong-order",
    statement=(
        "(E|X̂_T - X_T|²)^½ ~ h^γ on the same noise: γ = ½ for Euler-Maruyama, one if g' = 0\n"
        "and γ = 1 with Milstein's + ½ g g' (ΔW² - h)"
    ),
    conditions="Itô; f, g smooth with bounded derivatives; E|X̂ - X|² finite.",
    source="Kloeden & Platen (1992) sections 10.2 and 10.3; Milstein & Tretyakov (2004) section 1.1 for local errors",
    routes=(
        "moments of the pair (X, X̂) carried from step to step (GBM; covariances for additive noise)",
        "local errors in the mean and in the mean square, by quadrature over ΔW",
        "paths on common noise, and paths of the particle engine, against the solution at their own W (sampled)",
    ),
    truth=_STRONG,
    settings={
        "Milstein, GBM": _of_milstein(_mean_square_route, lambda step: _local_route(_GBM, step, np.ones(1))),
        "Milstein, X = sinh W": _of_milstein(lambda step: _local_route(_NOISE_ONLY, step, _STARTS)),
        "Milstein, X = sinh W, sampled": _of_milstein(_common_noise, tol=SAMPLED_ORDER_TOL),
        "Euler-Maruyama, GBM": _of_euler(
            lambda: _mean_square_route(euler), lambda: _local_route(_GBM, euler, np.ones(1))
        ),
        "Euler-Maruyama, X = sinh W, sampled": _of_euler(lambda: particles_and_their_w, tol=SAMPLED_ORDER_TOL),
        "Euler-Maruyama, additive noise": _of_euler(_additive_pair, _additive_local, additive=True),
    },
    siblings=(
        Sibling("-h dropped: ½ g g' ΔW²", replace(_STRONG, correction=_milstein(step=0.0)), only=_MILSTEIN),
        Sibling("½ dropped: g g' (ΔW² - h)", replace(_STRONG, correction=_milstein(half=1.0)), only=_MILSTEIN),
        Sibling("sign: - ½ g g' (ΔW² - h)", replace(_STRONG, correction=_milstein(half=-0.5)), only=_MILSTEIN),
        Sibling("Euler-Maruyama of order one", replace(_STRONG, euler=1.0), only=_EULER),
        Sibling(
            "order ½ for additive noise too",
            replace(_STRONG, additive=0.5),
            only=("Euler-Maruyama, additive noise",),
        ),
    ),
)


# (c, ΔW, h) -> increment of the simplified Taylor scheme
Increment = Callable[[Coefficients, Array, float], Array]


@dataclass(frozen=True)
class WeakSchemes:
    """Increment of the weak Taylor scheme, predictor and weight of the new drift of Heun's, and Euler's order."""

    taylor: Increment
    predictor: Callable[[Array, Array, Array, float], Array] = lambda f, g, dw, h: f * h + g * dw
    new_share: float = 0.5
    euler: float = 1.0

    def taylor_step(self, model: Model, x: Array, dw: Array, h: float) -> Array:
        """One step of the weak Taylor scheme."""
        return np.asarray(x + self.taylor(model.coefficients(x), dw, h))

    def heun_step(self, model: Model, x: Array, dw: Array, h: float) -> Array:
        """One step of Heun's scheme for additive noise."""
        c = model.coefficients(x)
        later = model.coefficients(x + self.predictor(c.f, c.g, dw, h))
        return np.asarray(x + ((1.0 - self.new_share) * c.f + self.new_share * later.f) * h + c.g * dw)


def _powers(model: Model, step: Step, h: float) -> Array:
    """E X and E X² of GBM after one step from x = 1; of n steps they are the n-th powers."""
    return np.array([one_step_mean(model, step, lambda x, k=k: x**k, np.ones(1), h)[0] for k in (1, 2)])  # type: ignore[misc]


def _moment_routes(step: Step) -> tuple[Estimate, Estimate]:
    growth = np.array([MU, 2 * MU + SIGMA**2])
    counts = (16, 32, 64, 128)
    errors = [_powers(_GBM, step, 1.0 / n) ** n - np.exp(growth) for n in counts]
    local = [_powers(_GBM, step, h) - np.exp(growth * h) for h in _LOCAL_STEPS]
    return observed_order(errors, "moments at the end"), _global_from_local(local, "moments after one step")


def _global_from_local(local: list[Array], route: str) -> Estimate:
    order = observed_order(local, route)
    return Estimate(order.value - 1.0, error=order.error, route=route)


def _carried_routes(model: Model, step: Step, end: float = 0.5) -> tuple[Estimate, Estimate]:
    def error(n: int) -> Array:
        return carried_mean(model, step, _phi, _STARTS, end, n) - model.mean(_phi, _STARTS, end)

    def local(h: float) -> Array:
        return one_step_mean(model, step, _phi, _STARTS, h) - model.mean(_phi, _STARTS, h)

    errors, locals_ = [error(n) for n in (8, 16, 32, 64)], [local(h) for h in _LOCAL_STEPS]
    return observed_order(errors, "means at the end"), _global_from_local(locals_, "means after one step")


def coupled_particles(effort: int, stream: Stream) -> Estimate:
    """Halving of the step changes E X in one well by half the bias; its order from the changes at halved steps."""
    changes, relative = [], []
    for n in (16, 32, 64):
        run = simulate(
            processes.double_well(-1.0), PointMass(2.0), (0.0, 0.5), n_paths=2 ** (15 + effort), n_steps=n,
            bias="halving", rng=stream.child(n),
        )  # fmt: skip
        change = run.x[0] - run.coarse[0]
        changes.append(change.mean())
        relative.append(change.std() / (np.sqrt(change.size) * abs(changes[-1])))
    slopes = np.log2(np.array(changes[:-1]) / np.array(changes[1:]))
    std_error = float(np.hypot(*relative[1:]) / np.log(2.0))
    return Estimate(slopes[-1], error=abs(slopes[-1] - slopes[-2]), std_error=std_error, route="coupled particles")


def _weak(
    order: Callable[[WeakSchemes], float], routes: Callable[[WeakSchemes], tuple[Any, ...]], default: float = ORDER_TOL
) -> Check:
    def check(schemes: WeakSchemes, *, tol: float | None = None, seed: int = 0) -> Verdict:
        return _of_order(order(schemes), routes(schemes), tolerance(tol, default), seed, "weak order")

    return check


def _taylor(milstein: float = 1.0, mixed: float = 1.0, square: float = 1.0, curved: float = 1.0) -> Increment:
    def increment(c: Coefficients, dw: Array, h: float) -> Array:
        g2 = c.g**2
        of_noise = c.f_dx * c.g + c.f * c.g_dx + 0.5 * g2 * c.g_dxx
        of_drift = c.f * c.f_dx + 0.5 * curved * g2 * c.f_dxx
        bent = 0.5 * milstein * c.g * c.g_dx * (dw**2 - h)
        return np.asarray(c.f * h + c.g * dw + bent + 0.5 * mixed * of_noise * dw * h + 0.5 * square * of_drift * h**2)

    return increment


_WEAK = WeakSchemes(_taylor())
_TAYLOR, _WEAK_EULER = ("Taylor, GBM", "Taylor, L = 1"), ("Euler-Maruyama, GBM", "Euler-Maruyama, one well, sampled")
_HEUN = ("Heun, additive noise",)

WEAK_ORDER = Identity(
    id="int-weak-order",
    statement=(
        "|E φ(X̂_T) - E φ(X_T)| ~ h^β: β = 1 for Euler-Maruyama, and β = 2 for the simplified Taylor scheme\n"
        "f h + g ΔW + ½ g g' (ΔW² - h) + ½ (f' g + f g' + ½ g² g'') ΔW h + ½ (f f' + ½ g² f'') h²\n"
        "of which x (1 + μh + σΔW + ½σ² (ΔW² - h) + μσ ΔW h + ½μ²h²) is that of dX = μX dt + σX dW\n"
        "additive noise: β = 2 for ½ h (f(X) + f(X + f h + g ΔW)) + g ΔW"
    ),
    conditions="Itô; f, g and φ smooth; f and g without t as written.",
    source="Kloeden & Platen (1992) sections 14.1 and 14.2 (Taylor), 15.1 (predictors); Talay & Tubaro (1990)",
    routes=(
        "moments of GBM, powers of one factor; means on a line, carried backward by quadrature over each ΔW",
        "errors of one step, whose order is higher by one",
        "coupled particles at halved steps (sampled)",
    ),
    truth=_WEAK,
    settings={
        "Taylor, GBM": _weak(lambda schemes: 2.0, lambda schemes: _moment_routes(schemes.taylor_step)),
        "Taylor, L = 1": _weak(
            lambda schemes: 2.0, lambda schemes: _carried_routes(sinh_ou(0.8, SIGMA, 1.0), schemes.taylor_step)
        ),
        "Heun, additive noise": _weak(lambda schemes: 2.0, lambda schemes: _carried_routes(benes(), schemes.heun_step)),
        "Euler-Maruyama, GBM": _weak(lambda schemes: schemes.euler, lambda schemes: _moment_routes(euler)),
        "Euler-Maruyama, one well, sampled": _weak(
            lambda schemes: schemes.euler, lambda schemes: (coupled_particles,), SAMPLED_ORDER_TOL
        ),
    },
    siblings=(
        Sibling("½ g g' (ΔW² - h) dropped", replace(_WEAK, taylor=_taylor(milstein=0.0)), only=_TAYLOR),
        Sibling("term in ΔW h dropped", replace(_WEAK, taylor=_taylor(mixed=0.0)), only=_TAYLOR),
        Sibling("term in h² dropped", replace(_WEAK, taylor=_taylor(square=0.0)), only=_TAYLOR),
        Sibling("Milstein's scheme", replace(_WEAK, taylor=_taylor(mixed=0.0, square=0.0)), only=_TAYLOR),
        Sibling("½ g² f'' dropped", replace(_WEAK, taylor=_taylor(curved=0.0)), only=("Taylor, L = 1",)),
        Sibling("predictor without noise", replace(_WEAK, predictor=lambda f, g, dw, h: f * h), only=_HEUN),
        Sibling("predictor without drift", replace(_WEAK, predictor=lambda f, g, dw, h: g * dw), only=_HEUN),
        Sibling("new drift alone", replace(_WEAK, new_share=1.0), only=_HEUN),
        Sibling("Euler-Maruyama of its strong order ½", replace(_WEAK, euler=0.5), only=_WEAK_EULER),
        Sibling("Euler-Maruyama of order two", replace(_WEAK, euler=2.0), only=_WEAK_EULER),
    ),
)
