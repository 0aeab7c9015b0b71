"""Four problems with densities that are known otherwise: by a closed form, by quadrature, or by a Fourier method.

Each reference is computed twice, with coarser and finer parameters; what the two differ by is printed as its error.
None of them uses a grid solver or a closed form of fpsolve.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats
from scipy.linalg import expm, toeplitz

import fpsolve as fps
from fpsolve.problem.law import Law
from fpsolve.problem.process import Process

Reference = Callable[[np.ndarray, float, int], np.ndarray]  # (x, t, effort 0 or 1) -> density
WEIGHTS, MEANS, STDS = np.array([0.3, 0.7]), np.array([-2.0, 1.0]), np.array([0.5, 0.3])
LOCATIONS, SCALES = np.array([-1.5, 1.0]), np.array([0.3, 0.6])
SHAPES, GAMMA_SCALES = np.array([4.0, 12.0]), np.array([0.1, 0.15])
KAPPA, THETA, XI = 1.1, 0.9, 0.6
BETA = (0.1, 20.0)


@dataclass(frozen=True)
class Problem:
    """A process, its law at time 0, and what one needs to write its equation down: f and g² without their speed(t).

    `ends` is where a user would cut it, `times` where the error is measured, `text` the right side for py-pde.
    """

    name: str
    process: Process
    law: Law
    times: tuple[float, ...]
    ends: tuple[float, float]
    drift: Callable[[np.ndarray], np.ndarray]
    noise_squared: Callable[[np.ndarray], np.ndarray]
    speed: Callable[[float], float]
    text: str
    reference: Reference

    @property
    def t_span(self) -> tuple[float, float]:
        """From 0 to the last time."""
        return 0.0, self.times[-1]

    @property
    def points(self) -> np.ndarray:
        """Where errors are measured: 401 points over the middle of the domain."""
        left, right = self.ends
        margin = 0.0 if np.isfinite(self.process.support[0]) else 0.25 * (right - left)
        return np.linspace(left + max(margin, 1e-3), right - margin, 401)

    def reference_error(self) -> float:
        """Difference of the two references relative to the maximum, the worst over the times."""
        pairs = [[self.reference(self.points, t, effort) for effort in (0, 1)] for t in self.times]
        return max(float(np.abs(rough - fine).max() / fine.max()) for rough, fine in pairs)


def bells(x: np.ndarray, centre: np.ndarray, std: np.ndarray | float) -> np.ndarray:
    """Normal densities, for arrays that broadcast."""
    return np.exp(-0.5 * ((x - centre) / std) ** 2) / (np.sqrt(2 * np.pi) * std)


def ou_density(x: np.ndarray, t: float, effort: int) -> np.ndarray:
    """A sum of normal densities; the second way is the kernel of the process integrated over its start."""
    a = np.exp(-t)
    if effort:
        return bells(x[:, None], a * MEANS, np.sqrt(STDS**2 * a**2 + 1 - a**2)) @ WEIGHTS
    nodes, weights = gauss(np.linspace(-7.0, 5.0, 41), 20)
    start = bells(nodes[:, None], MEANS, STDS) @ WEIGHTS
    return bells(x[:, None], a * nodes, np.sqrt(1 - a**2)) @ (weights * start)


def gauss(edges: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on panels."""
    nodes, weights = np.polynomial.legendre.leggauss(points)
    half = 0.5 * np.diff(edges)[:, None]
    return (edges[:-1, None] + half * (1 + nodes)).ravel(), (half * weights).ravel()


def vp_density(x: np.ndarray, t: float, effort: int) -> np.ndarray:
    """The kernel N(a y, 1 - a²), a = exp(-½∫β), integrated over the Laplace laws, panels ending at their kinks."""
    a = np.exp(-0.5 * (BETA[0] * t + 0.5 * (BETA[1] - BETA[0]) * t**2))
    away = np.arange(0.0, 46.0, 0.5 if effort else 1.0)
    density = np.zeros(x.size)
    for weight, location, scale in zip(WEIGHTS, LOCATIONS, SCALES, strict=True):
        for side in (-1.0, 1.0):
            nodes, weights = gauss(away, 20)
            start = weights * 0.5 * weight * np.exp(-nodes)
            density += bells(x[:, None], a * (location + side * scale * nodes), np.sqrt(1 - a**2)) @ start
    return density


def cir_density(x: np.ndarray, t: float, effort: int) -> np.ndarray:
    """SciPy's noncentral chi-square transition density, integrated over the two Gamma laws of the start."""
    c = XI**2 * -np.expm1(-KAPPA * t) / (4 * KAPPA)
    nodes, weights = gauss(np.linspace(0.0, 9.0, 49 if effort else 37) ** 2 / 9.0, 12)
    start = weights * (stats.gamma.pdf(nodes[:, None], SHAPES, scale=GAMMA_SCALES) @ WEIGHTS)
    df, lag = 4 * KAPPA * THETA / XI**2, np.exp(-KAPPA * t) / c
    return stats.ncx2.pdf(x[:, None] / c, df, lag * nodes) @ start / c


def double_well_density(x: np.ndarray, t: float, effort: int) -> np.ndarray:
    """Fourier collocation on a circle at whose seam nothing is, and the exponential of its matrix."""
    n, half = ((256, 6.0), (300, 6.5))[effort]
    density = _propagated(n, half, t)
    apart = np.pi / half * (x[:, None] - _circle(n, half))
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = np.sin(0.5 * n * apart) / (n * np.tan(0.5 * apart))
    return np.where(np.abs(np.sin(0.5 * apart)) < 1e-14, 1.0, weights) @ density


def _circle(n: int, half: float) -> np.ndarray:
    return -half + 2 * half * np.arange(n) / n


@lru_cache
def _propagated(n: int, half: float, t: float) -> np.ndarray:
    """Solution of ∂t q = -∂x((x - x³) q) + ½ ∂xx q by the matrices of trigonometric polynomials (Trefethen 2000)."""
    x, j, gap = _circle(n, half), np.arange(1, n), 2 * np.pi / n
    column = np.append(0.0, 0.5 * (-1.0) ** j / np.tan(0.5 * j * gap))
    first = np.pi / half * toeplitz(column, -column)
    column = np.append(-(np.pi**2) / (3 * gap**2) - 1 / 6, -0.5 * (-1.0) ** j / np.sin(0.5 * j * gap) ** 2)
    second = (np.pi / half) ** 2 * toeplitz(column)
    return expm(t * (0.5 * second - first * (x - x**3))) @ (bells(x[:, None], MEANS, STDS) @ WEIGHTS)


MIXTURE = fps.GaussianMixture(WEIGHTS, MEANS, STDS)
OU = Problem(
    "OU mixture",
    fps.SDE(lambda x: -x, 2**0.5),
    MIXTURE,
    (1.0,),
    (-8.0, 8.0),
    lambda x: -x,
    lambda x: 2.0 + 0 * x,
    lambda t: 1.0,
    "d_dx(x*q) + laplace(q)",
    ou_density,
)
DOUBLE_WELL = Problem(
    "double well",
    fps.SDE(lambda x: x - x**3, 1.0),
    MIXTURE,
    (1.0,),
    (-6.0, 6.0),
    lambda x: x - x**3,
    lambda x: 1.0 + 0 * x,
    lambda t: 1.0,
    "d_dx((x**3 - x)*q) + 0.5*laplace(q)",
    double_well_density,
)
LAPLACE_VP = Problem(
    "VP schedule",
    fps.processes.vp(*BETA),
    fps.LaplaceMixture(WEIGHTS, LOCATIONS, SCALES),
    (0.1, 0.3, 1.0),
    (-12.0, 12.0),
    lambda x: -0.5 * x,
    lambda x: 1.0 + 0 * x,
    lambda t: BETA[0] + (BETA[1] - BETA[0]) * t,
    f"({BETA[0]} + {BETA[1] - BETA[0]}*t)*0.5*(d_dx(x*q) + laplace(q))",
    vp_density,
)
SQUARE_ROOT = Problem(
    "square root",
    fps.processes.cir(KAPPA, THETA, XI),
    fps.GammaMixture(WEIGHTS, SHAPES, GAMMA_SCALES),
    (0.5,),
    (0.0, 8.0),
    lambda x: KAPPA * (THETA - x),
    lambda x: XI**2 * x,
    lambda t: 1.0,
    f"{KAPPA}*d_dx((x - {THETA})*q) + {0.5 * XI**2}*laplace(x*q)",
    cir_density,
)
PROBLEMS = (OU, DOUBLE_WELL, LAPLACE_VP, SQUARE_ROOT)
