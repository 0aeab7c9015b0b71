"""Random hard problems with closed forms: point-mass starts, ends at which the noise vanishes, walls, a ring."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from random_problems import Problem, numbers
from scipy.special import log_ndtr, ndtr

import fpsolve as fps

TURNS = np.arange(-12, 13)  # images on each side: what comes from farther away is below 1e-16
TABLE = 4001


# ---- Brownian motion between walls, or on a ring


@dataclass(frozen=True)
class Images:
    """dX = c dt + σ dW on (0, width) from Gaussian parts (std 0: a point mass), as a sum over images of the parts.

    `kind`, of both ends: "reflecting", "absorbing" or "periodic"; c is zero unless periodic. F counts what was absorbed
    on the left.
    """

    kind: str
    width: float
    drift: float
    sigma: float
    weights: np.ndarray
    means: np.ndarray
    stds: np.ndarray

    def _images(self, t: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Weights, centres and stds of all images."""
        std = np.sqrt(self.stds**2 + self.sigma**2 * t)
        period = self.width if self.kind == "periodic" else 2 * self.width
        signs, mirrored = {"reflecting": ((1.0, 1.0), 2), "absorbing": ((1.0, -1.0), 2), "periodic": ((1.0,), 1)}[
            self.kind
        ]
        middle = np.mod(self.means + self.drift * t, self.width)  # only a ring has a drift
        centres = [(-1.0) ** m * middle + period * TURNS[:, None] for m in range(mirrored)]
        weights = [sign * self.weights + 0 * TURNS[:, None] for sign in signs]
        stds = [std + 0 * TURNS[:, None]] * mirrored
        return np.concatenate(weights).ravel(), np.concatenate(centres).ravel(), np.concatenate(stds).ravel()

    def _sum(self, x: np.ndarray, t: float, part: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        weights, centres, stds = self._images(t)
        z = (np.asarray(x)[..., None] - centres) / stds
        return part(z) @ (weights / stds)

    def pdf(self, x: np.ndarray, t: float) -> np.ndarray:
        """Density."""
        return self._sum(x, t, lambda z: np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))

    def score(self, x: np.ndarray, t: float) -> np.ndarray:
        """∂x log q."""
        weights, centres, stds = self._images(t)
        z = (np.asarray(x)[..., None] - centres) / stds
        slope = (-z * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)) @ (weights / stds**2)
        return slope / self.pdf(x, t)

    def velocity(self, x: np.ndarray, t: float) -> np.ndarray:
        """J/q = c - ½ σ² ∂x log q."""
        return self.drift - 0.5 * self.sigma**2 * self.score(x, t)

    def absorbed_left(self, t: float) -> float:
        """Mass that has left at 0: Σ_k over passages of 0 before, less those after, the other end was passed."""
        if self.kind != "absorbing":
            return 0.0
        std, far = np.sqrt(self.stds**2 + self.sigma**2 * t), 2 * self.width * np.arange(TURNS.size)[:, None]
        first, later = np.exp(log_ndtr(-(self.means + far) / std)), ndtr(-(far + 2 * self.width - self.means) / std)
        return float((2.0 * (first - later) @ self.weights).sum())

    def cdf(self, x: np.ndarray, t: float) -> np.ndarray:
        """F, from what was absorbed on the left."""
        weights, centres, stds = self._images(t)
        x = np.asarray(x)[..., None]
        inside = (ndtr((x - centres) / stds) - ndtr(-centres / stds)) @ weights
        return self.absorbed_left(t) + inside

    def at(self, t: float) -> "ImagesAt":
        """What `nodes_of` asks of a law."""
        return ImagesAt(self, t)


@dataclass(frozen=True)
class ImagesAt:
    """Masses at one time, exact, and quantiles by a table, which only place nodes."""

    images: Images
    t: float

    def ppf(self, p: np.ndarray) -> np.ndarray:
        """Points that leave the part p of the mass inside on their left."""
        x = np.linspace(0.0, self.images.width, TABLE)
        inside = self.images.cdf(x, self.t) - self.images.absorbed_left(self.t)
        return np.interp(p * inside[-1], inside, x)

    def cell_masses(self, faces: np.ndarray) -> np.ndarray:
        """Masses between faces."""
        return np.diff(self.images.cdf(faces, self.t))


@st.composite
def walled_problems(draw: Callable) -> Problem:
    """Brownian motion from a Gaussian or a point between walls, or with a drift on a ring."""
    kind = draw(st.sampled_from(["reflecting", "absorbing", "periodic"]))
    width, sigma = draw(numbers(0.5, 4.0)), draw(numbers(0.3, 1.5))
    drift = draw(numbers(-2.0, 2.0)) if kind == "periodic" else 0.0
    place, narrow = draw(numbers(0.3, 0.7)), draw(st.sampled_from([0.0, 0.01, 0.02, 0.03]))
    mean, std = place * width, narrow * width
    length = draw(numbers(0.02, 0.6)) * (width / sigma) ** 2
    law = fps.PointMass(mean) if std == 0.0 else fps.Normal(mean, std)
    process = fps.SDE(lambda x: drift + 0 * x, sigma, support=(0.0, width), boundary=kind)
    text = f"SDE({drift}, {sigma}, support=(0, {width}), boundary='{kind}'), {law!r}"
    times = (0.3 * length, length)
    one = np.ones(1)
    images = Images(kind, width, drift, sigma, one, mean * one, std * one)
    return Problem(kind, process, law, (0.0, length), times, text, lambda: images)


# ---- starts from a point, and ends at which the noise vanishes


@st.composite
def point_problems(draw: Callable) -> Problem:
    """Ornstein-Uhlenbeck and geometric Brownian motion from a point."""
    times = (draw(numbers(0.1, 0.5)), draw(numbers(0.6, 2.0)))
    if draw(st.booleans()):
        theta, sigma, start = draw(numbers(0.2, 3.0)), draw(numbers(0.3, 2.0)), draw(numbers(-2.0, 2.0))
        process, text = fps.processes.ou(theta, sigma), f"ou({theta}, {sigma})"
    else:
        mu, sigma, start = draw(numbers(-0.3, 0.3)), draw(numbers(0.1, 0.6)), draw(numbers(0.5, 2.0))
        process, text = fps.processes.gbm(mu, sigma), f"gbm({mu}, {sigma})"
    return Problem("point", process, fps.PointMass(start), (0.0, times[-1]), times, f"{text}, PointMass({start})")


@st.composite
def square_root_problems(draw: Callable) -> Problem:
    """Square-root process from a point, or from Gamma laws that it keeps, above Feller's bound by 5 % to sixfold."""
    kappa, theta, ratio = draw(numbers(0.4, 2.5)), draw(numbers(0.4, 2.0)), draw(numbers(1.05, 6.0))
    xi = float(f"{np.sqrt(2 * kappa * theta / ratio):.6g}")
    shape = 2 * kappa * theta / xi**2
    times: tuple[float, ...] = (draw(numbers(0.2, 0.5)), draw(numbers(0.6, 2.0)))
    law: Any
    if draw(st.booleans()):
        law = fps.PointMass(draw(numbers(0.4, 2.0)))
    else:
        scales = [draw(numbers(0.05, 0.6)), draw(numbers(0.05, 0.6))]
        law = fps.GammaMixture([0.4, 0.6], [shape, shape], scales)
    text = f"cir({kappa}, {theta}, {xi}), {law!r}"
    return Problem("square root", fps.processes.cir(kappa, theta, xi), law, (0.0, times[-1]), times, text)


@st.composite
def jacobi_problems(draw: Callable) -> Problem:
    """Jacobi process from a point, both ends out of reach."""
    kappa, mean, ratio = draw(numbers(0.5, 2.0)), draw(numbers(0.3, 0.7)), draw(numbers(1.05, 5.0))
    xi = float(f"{np.sqrt(2 * kappa * min(mean, 1 - mean) / ratio):.6g}")
    start, times = draw(numbers(0.2, 0.8)), (draw(numbers(0.4, 0.8)), draw(numbers(1.0, 2.0)))
    text = f"jacobi({kappa}, {mean}, {xi}), PointMass({start})"
    process = fps.processes.jacobi(kappa, mean, xi)
    return Problem("Jacobi", process, fps.PointMass(start), (0.0, times[-1]), times, text)


HARD = st.one_of(walled_problems(), point_problems(), square_root_problems(), jacobi_problems())
