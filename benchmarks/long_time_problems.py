"""Random problems of long times with closed forms: stationary laws, decay rates, transitions, first passages."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import special, stats
from scipy.integrate import quad

import fpsolve as fps

TURNS = np.arange(-40, 41)
WAVES = np.arange(1, 400)


# ---- stationary laws


@dataclass(frozen=True)
class Known:
    """A process with its stationary law (anything with pdf, cdf, sf, ppf), and its decay rates below a continuum."""

    text: str
    process: fps.SDE
    law: Any
    rates: np.ndarray | None = None


def ou(rng: np.random.Generator) -> Known:
    """Ornstein-Uhlenbeck."""
    theta, sigma, mean = rng.uniform(0.2, 3.0), rng.uniform(0.2, 2.0), rng.choice([0.0, rng.uniform(-300, 300)])
    law = stats.norm(mean, sigma / np.sqrt(2 * theta))
    return Known(f"ou({theta}, {sigma}, {mean})", fps.processes.ou(theta, sigma, mean), law, theta * np.arange(9.0))


def square_root(rng: np.random.Generator) -> Known:
    """Square root, on both sides of Feller's bound."""
    kappa, theta, shape = rng.uniform(0.3, 3.0), rng.uniform(0.2, 3.0), np.exp(rng.uniform(np.log(0.3), np.log(12.0)))
    xi = float(np.sqrt(2 * kappa * theta / shape))
    process = fps.processes.cir(kappa, theta, xi, boundary="natural" if shape >= 1.0 else "reflecting")
    law = stats.gamma(shape, scale=theta / shape)
    return Known(f"cir({kappa}, {theta}, {xi})", process, law, kappa * np.arange(9.0))


def jacobi(rng: np.random.Generator) -> Known:
    """Jacobi, with ends that are reached or not."""
    kappa, mean, xi = rng.uniform(0.3, 3.0), rng.uniform(0.15, 0.85), rng.uniform(0.3, 1.5)
    a, b = 2 * kappa * mean / xi**2, 2 * kappa * (1 - mean) / xi**2
    kinds = tuple("natural" if shape >= 1.0 else "reflecting" for shape in (a, b))
    n = np.arange(9.0)
    process = fps.processes.jacobi(kappa, mean, xi, boundary=kinds)
    rates = n * (kappa + 0.5 * xi**2 * (n - 1))
    return Known(f"jacobi({kappa}, {mean}, {xi}, boundary={kinds})", process, stats.beta(a, b), rates)


def student(rng: np.random.Generator) -> Known:
    """Student's t: as many rates as the continuous spectrum leaves, away from its edge."""
    nu = rng.uniform(1.5, 20.0)
    n = np.arange(max(1, int(0.4 * nu)) + 1.0)
    rates = n * (nu - n) / (nu - 1) if nu > 5.0 else None
    return Known(f"pearson({nu})", fps.processes.pearson(nu), stats.t(nu), rates)


def inverse_gamma(rng: np.random.Generator) -> Known:
    """dX = (a - b X) dt + s X dW."""
    a, b, s = rng.uniform(0.3, 2.0), rng.uniform(0.5, 2.0), rng.uniform(0.2, 0.8)
    process = fps.SDE(lambda x: a - b * x, lambda x: s * x, support=(0.0, np.inf))
    n = np.arange(min(6, int(0.4 * (1 + 2 * b / s**2))) + 1.0)
    law = stats.invgamma(1 + 2 * b / s**2, scale=2 * a / s**2)
    return Known(f"inverse gamma ({a}, {b}, {s})", process, law, n * (b - 0.5 * s**2 * (n - 1)))


def mixture(rng: np.random.Generator) -> Known:
    """Langevin process of a Gaussian mixture, barriers among it."""
    n = int(rng.integers(1, 4))
    weights = rng.dirichlet(np.full(n, 4.0))
    law = fps.GaussianMixture(weights / weights.sum(), np.sort(rng.uniform(-3, 3, n)), rng.uniform(0.3, 1.0, n))
    return Known(f"langevin({law!r})", fps.processes.langevin(law), law)


def wall(rng: np.random.Generator) -> Known:
    """Pressed against a reflecting wall."""
    drift, sigma, end = rng.uniform(0.2, 3.0), rng.uniform(0.3, 2.0), rng.uniform(-2.0, 2.0)
    process = fps.SDE(-drift, sigma, support=(end, np.inf), boundary=("reflecting", "natural"))
    return Known(f"SDE(-{drift}, {sigma}) above {end}", process, stats.expon(end, sigma**2 / (2 * drift)))


KNOWN = (ou, square_root, jacobi, student, inverse_gamma, mixture, wall)


class Ring:
    """Law of dX = (c + a sin x) dt + σ dW on a ring: q(x) ∝ ∫ exp(Ψ(x) - Ψ(x + u)) du over one turn."""

    def __init__(self, c: float, a: float, sigma: float) -> None:
        self._c, self._a, self._sigma = c, a, sigma
        self.nodes, self.weights = np.polynomial.legendre.leggauss(300)
        x = np.linspace(0.0, 2 * np.pi, 513)[:-1]
        self._norm = 2 * np.pi * self._shape(x).mean()
        self.flux = -0.5 * sigma**2 * np.expm1(-4 * np.pi * c / sigma**2) / self._norm

    def _shape(self, x: np.ndarray) -> np.ndarray:
        u = np.pi * (1 + self.nodes)
        rise = (2 / self._sigma**2) * (self._c * u - self._a * (np.cos(x[:, None] + u) - np.cos(x)[:, None]))
        return np.pi * np.exp(-rise) @ self.weights

    def pdf(self, x: np.ndarray) -> np.ndarray:
        """Density."""
        return self._shape(x) / self._norm


# ---- spectra


def trigonometric(rng: np.random.Generator) -> Known:
    """dX = -a tan X dt + dW: Gegenbauer polynomials of sin x."""
    a, n = rng.uniform(0.6, 5.0), np.arange(9.0)
    process = fps.SDE(lambda x: -a * np.tan(x), 1.0, support=(-np.pi / 2, np.pi / 2))
    return Known(f"-{a} tan x", process, None, 0.5 * n * (n + 2 * a))


def box(rng: np.random.Generator) -> Known:
    """Brownian motion with drift between two walls of one kind."""
    drift, sigma, length = rng.uniform(-3, 3), rng.uniform(0.3, 2.0), rng.uniform(0.5, 3.0)
    kind = str(rng.choice(["reflecting", "absorbing"]))
    process = fps.SDE(drift, sigma, support=(0.0, length), boundary=kind)
    decaying = 0.5 * (drift / sigma) ** 2 + 0.5 * (sigma * np.pi * np.arange(1, 9) / length) ** 2
    rates = decaying if kind == "absorbing" else np.append(0.0, decaying)
    return Known(f"SDE({drift}, {sigma}) on (0, {length}), {kind}", process, None, rates)


def ball(rng: np.random.Generator) -> Known:
    """Distance from the middle of a ball whose surface absorbs."""
    d, radius = int(rng.choice([2, 3, 4, 6])), rng.uniform(0.5, 3.0)
    zeros = np.pi * np.arange(1, 7) if d == 3 else special.jn_zeros(d // 2 - 1, 6)
    return Known(f"ball of {d} dimensions, {radius}", _radial(d, radius), None, 0.5 * (zeros / radius) ** 2)


def _radial(d: int, radius: float, inner: float = 0.0) -> fps.SDE:
    ends = ("absorbing" if inner else "natural", "absorbing")
    return fps.SDE(lambda x: (d - 1) / (2 * x), 1.0, support=(inner, radius), boundary=ends)


def half(rng: np.random.Generator) -> Known:
    """Ornstein-Uhlenbeck that dies at its mean: the odd rates."""
    theta, sigma = rng.uniform(0.2, 3.0), rng.uniform(0.2, 2.0)
    process = fps.SDE(lambda x: -theta * x, sigma, support=(0.0, np.inf), boundary=("absorbing", "natural"))
    return Known(f"ou({theta}, {sigma}) absorbed at 0", process, None, theta * (2 * np.arange(8.0) + 1))


def circle(rng: np.random.Generator) -> Known:
    """Brownian motion on a ring: pairs."""
    sigma, length = rng.uniform(0.3, 2.0), rng.uniform(0.5, 8.0)
    process = fps.SDE(0.0, sigma, support=(0.0, length), boundary="periodic")
    return Known(
        f"SDE(0, {sigma}) on a ring of {length}",
        process,
        None,
        2 * (np.pi * sigma * np.ceil(np.arange(9) / 2) / length) ** 2,
    )


DISCRETE = (ou, square_root, jacobi, student, inverse_gamma, trigonometric, box, ball, half, circle)


# ---- transition densities


def waves(x0: float, x: np.ndarray, t: float, sigma: float, length: float) -> np.ndarray:
    """Brownian motion between reflecting walls, from its cosines."""
    n = WAVES[:, None] * np.pi / length
    return (1 + 2 * (np.cos(n * x0) * np.cos(n * x) * np.exp(-0.5 * (sigma * n) ** 2 * t)).sum(axis=0)) / length


def conditioned(x0: float, x: np.ndarray, t: float) -> np.ndarray:
    """dX = -tan X dt + dW: Brownian motion that is never to leave (-π/2, π/2), from its sines."""
    n, (u, v) = WAVES[:, None], (x0 + np.pi / 2, x + np.pi / 2)
    killed = 2 / np.pi * (np.sin(n * u) * np.sin(n * v) * np.exp(-0.5 * (n**2 - 1) * t)).sum(axis=0)
    return killed * np.cos(x) / np.cos(x0)


def radial_ou(d: float, theta: float, x0: float, x: np.ndarray, t: float) -> np.ndarray:
    """dX = ((d - 1)/(2X) - θX) dt + dW: its square is a square-root process."""
    scale = (1 - np.exp(-2 * theta * t)) / (2 * theta)
    return 2 * x / scale * stats.ncx2.pdf(x**2 / scale, d, x0**2 * np.exp(-2 * theta * t) / scale)


# ---- first passages


def mean_by_law(law: Any, process: fps.SDE, start: float, end: float) -> float:
    """E T = ∫ 2 P(y)/(g² p(y)) dy with the mass P on the side that the path comes from."""
    side = law.cdf if end > start else law.sf

    def rate(y: float) -> float:
        return float(2 * side(y) / (process.diffusion(y, 0.0) ** 2 * law.pdf(y)))

    ends = np.linspace(min(start, end), max(start, end), 9)
    return float(sum(quad(rate, a, b, epsabs=0.0, epsrel=1e-13, limit=200)[0] for a, b in pairwise(ends)))


Law = Callable[[float], tuple[float, float]]


def _one_sided(drift: float, sigma: float, away: float) -> Law:
    """Brownian motion with a drift, to a level at the distance `away` on its left (inverse Gaussian)."""

    def law(t: float) -> tuple[float, float]:
        s = sigma * np.sqrt(t)
        lost = np.exp(-2 * drift * away / sigma**2 + special.log_ndtr((drift * t - away) / s))
        density = away / (s * t * np.sqrt(2 * np.pi)) * np.exp(-0.5 * ((away + drift * t) / s) ** 2)
        return float(special.ndtr((away + drift * t) / s) - lost), float(density)

    return law


def _two_sided(drift: float, sigma: float, x: float, length: float) -> Law:
    """Brownian motion with a drift between two ends: sines when late, images when early."""

    def late(t: float) -> tuple[float, float]:
        k, c = WAVES * np.pi / length, drift / sigma**2
        rate = 0.5 * (sigma * k) ** 2 + 0.5 * (drift / sigma) ** 2
        # ∫ e^{c y} sin(k y) dy
        part = k * (1 - (-1.0) ** WAVES * np.exp(c * length)) / (c**2 + k**2)
        terms = 2 / length * np.exp(-c * x) * np.sin(k * x) * part * np.exp(-rate * t)
        return float(terms.sum()), float((rate * terms).sum())

    def early(t: float) -> tuple[float, float]:
        s, c = sigma * np.sqrt(t), drift / sigma**2
        survival = density = 0.0
        for sign in (1.0, -1.0):
            places = sign * x + 2 * length * TURNS
            inside = special.ndtr((length - places - drift * t) / s) - special.ndtr((-places - drift * t) / s)
            near = inside > 0.0
            survival += float((sign * np.exp(c * (places[near] - x)) * inside[near]).sum())
        tilt = np.exp(-0.5 * (drift / sigma) ** 2 * t)
        for away, lean in ((x, -c * x), (length - x, c * (length - x))):
            ways = away + 2 * length * TURNS
            density += float(
                tilt * np.exp(lean) * (ways / (s * t * np.sqrt(2 * np.pi)) * np.exp(-0.5 * (ways / s) ** 2)).sum()
            )
        return survival, density

    return lambda t: late(t) if sigma**2 * t > 0.1 * length**2 else early(t)


def _mixed(sigma: float, x: float, length: float) -> Law:
    """Brownian motion from an absorbing end at 0 to a reflecting one: symmetric about the latter."""
    return _two_sided(0.0, sigma, x, 2 * length)


def _at_mean(theta: float, sigma: float, x: float) -> Law:
    """dX = -θ X dt + σ dW from x to 0, by reflection; θ may be negative."""

    def law(t: float) -> tuple[float, float]:
        spread = sigma**2 * np.expm1(2 * theta * t) / (2 * theta)  # of e^{θt} X
        z = x / np.sqrt(spread)
        slope = 0.5 * z / spread * sigma**2 * np.exp(2 * theta * t)
        return float(special.erf(z / np.sqrt(2))), float(np.sqrt(2 / np.pi) * np.exp(-0.5 * z**2) * slope)

    return law


def _from_ball(x: float, radius: float) -> Law:
    """Out of a ball of three dimensions."""

    def law(t: float) -> tuple[float, float]:
        k = WAVES * np.pi / radius
        terms = -2 * (-1.0) ** WAVES * np.sin(k * x) / (k * x) * np.exp(-0.5 * k**2 * t)
        return float(terms.sum()), float((0.5 * k**2 * terms).sum())

    return law


def draw_passage(rng: np.random.Generator) -> tuple[str, Any, Law, float]:
    """Text, first passage, its law in closed form, and a time of its size."""
    kind = int(rng.integers(6))
    drift, sigma = rng.uniform(-2.0, 2.0), rng.uniform(0.4, 2.0)
    if kind == 0:
        away = rng.uniform(0.3, 2.0)
        scale = min(away**2 / sigma**2, away / max(-drift, 1e-9))
        passage = fps.first_passage(fps.SDE(drift, sigma), away, lower=0.0, t_max=4.0 * scale)
        return f"SDE({drift}, {sigma}), {away} to 0", passage, _one_sided(drift, sigma, away), scale
    if kind in (1, 2):
        length = rng.uniform(0.5, 3.0)
        x = rng.uniform(0.1, 0.9) * length
        scale = min(x * (length - x) / sigma**2, length / max(abs(drift), 1e-9))
        if kind == 1:
            passage = fps.first_passage(fps.SDE(drift, sigma), x, lower=0.0, upper=length)
            return f"SDE({drift}, {sigma}), {x} in (0, {length})", passage, _two_sided(drift, sigma, x, length), scale
        process = fps.SDE(0.0, sigma, support=(0.0, length), boundary=("absorbing", "reflecting"))
        return f"mixed box {sigma}, {length}, {x}", fps.first_passage(process, x), _mixed(sigma, x, length), scale
    if kind == 3:
        theta, x = rng.uniform(0.2, 2.0), rng.uniform(0.2, 3.0)
        passage = fps.first_passage(fps.processes.ou(theta, sigma), x, lower=0.0)
        return f"ou({theta}, {sigma}), {x} to 0", passage, _at_mean(theta, sigma, x), 1.0 / theta
    if kind == 4:
        theta, x = rng.uniform(0.2, 1.0), rng.uniform(0.2, 1.5)
        passage = fps.first_passage(fps.SDE(lambda x: theta * x, sigma), x, lower=0.0, t_max=2.0 / theta)
        return f"SDE({theta} x, {sigma}), {x} to 0", passage, _at_mean(-theta, sigma, x), 0.5 / theta
    radius = rng.uniform(0.5, 3.0)
    x = rng.uniform(0.1, 0.8) * radius
    return f"ball {radius}, {x}", fps.first_passage(_radial(3, radius), x), _from_ball(x, radius), 0.1 * radius**2
