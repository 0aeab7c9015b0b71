"""Identities of samples: errors of means, of histograms and of kernel estimates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from fpsolve.catalogue.fixtures import DATA, tolerance
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.catalogue.steps import limit, normal_nodes
from fpsolve.particles.simulate import simulate
from fpsolve.problem.estimate import Estimate, exact
from fpsolve.problem.mixtures import GaussianMixture, Normal
from fpsolve.problem.process import SDE
from fpsolve.problem.streams import Stream
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
SAMPLED_VARIANCE_TOL, SAMPLED_COVERAGE_TOL = 0.03, 0.015


@dataclass(frozen=True)
class SamplingErrors:
    """Half-width of an interval from (sd, n), variance of a mean from blocks of draws, bin and kernel averages."""

    half_width: Callable[[Any, int], Any]
    variance_of_mean: Callable[[Array], Array]
    in_bin: Callable[[Array, Array, float], Array]
    under_kernel: Callable[[Array, Array, float], Array]


_LEVEL, _THETA, _STEP = 0.95, 1.0, 0.25


def _coverage(claimed: SamplingErrors, *, tol: float | None = None, seed: int = 0) -> Verdict:
    """Laws of the mean that are known for every n, for n → ∞."""
    counts = [2**k for k in range(7, 13)]
    # the half-width is proportional to sd
    ratios = [(n, float(claimed.half_width(1.0, n))) for n in counts]
    normal = [1.0 - 2.0 * stats.t.sf(np.sqrt(n) * k, n - 1) for n, k in ratios]
    gamma = [stats.gamma.cdf(n * (1 + k), n) - stats.gamma.cdf(n * (1 - k), n) for n, k in ratios]
    return check_equal(
        exact(_LEVEL),
        limit(normal, "normal draws, Student's law", 1e-9),
        limit(gamma, "exponential draws of known sd, gamma law", 1e-9),
        tol=tolerance(tol),
        scale=1.0,
        seed=seed,
        title="coverage of the interval",
    )


def _linear_ends(stream: Stream, n_paths: int, times: tuple[float, ...]) -> Array:
    """X of dX = -θ X dt + dW in the law that its Euler-Maruyama steps keep, shape (times, paths)."""
    stationary = Normal(0.0, float(np.sqrt(_STEP / (1.0 - (1.0 - _THETA * _STEP) ** 2))))
    steps = round(times[-1] / _STEP)
    return simulate(
        SDE(lambda x: -_THETA * x, 1.0), stationary, (0.0, times[-1]), n_paths=n_paths, n_steps=steps, save_at=times,
        keep="saved", rng=stream,
    ).x  # fmt: skip


def _sampled_coverage(claimed: SamplingErrors, *, tol: float | None = None, seed: int = 0) -> Verdict:
    n = 256

    def particles(effort: int, stream: Stream) -> Estimate:
        draws = _linear_ends(stream, n * 2 ** (13 + effort), (2 * _STEP,)).reshape(-1, n)
        hit = np.abs(draws.mean(axis=1)) <= claimed.half_width(draws.std(axis=1, ddof=1), n)
        share, count = hit.mean(), hit.size
        std_error = np.sqrt((share * (1.0 - share) + 1.0 / count) / count)
        # what Student's law at n differs from the normal one
        return Estimate(share, error=0.5 / n, std_error=std_error, route="intervals of particles")

    goal = tolerance(tol, SAMPLED_COVERAGE_TOL)
    return check_equal(exact(_LEVEL), particles, tol=goal, scale=1.0, seed=seed, title="coverage, sampled")


def _dependent(size: int, correlation: float, blocks: int = 12) -> Check:
    """Independent blocks, unit variance: the mean of a quadratic form of L z is its sum over the columns of L."""
    inner = correlation ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    covariance = np.kron(np.eye(blocks), inner)

    def check(claimed: SamplingErrors, *, tol: float | None = None, seed: int = 0) -> Verdict:
        columns = np.linalg.cholesky(covariance).T.reshape(-1, blocks, size)
        expected = claimed.variance_of_mean(columns).sum()
        lags = np.arange(1, size)
        summed = (1.0 + 2.0 * ((1.0 - lags / size) * correlation**lags).sum()) / (blocks * size)
        return check_equal(
            Estimate(covariance.sum() / covariance.shape[0] ** 2, error=1e-14, route="covariance matrix"),
            Estimate(summed, error=1e-14, route="sum of autocorrelations"),
            Estimate(expected, error=1e-13, route="expected estimate"),
            tol=tolerance(tol),
            seed=seed,
            title="variance of a mean of dependent draws",
        )

    return check


def _sampled_dependent(claimed: SamplingErrors, *, tol: float | None = None, seed: int = 0) -> Verdict:
    """Pairs are the two ends of two steps of one path."""
    blocks, keep = 16, (1.0 - _THETA * _STEP) ** 2
    truth = _STEP / (1.0 - keep) * (1.0 + keep) / (2 * blocks)

    def particles(effort: int, stream: Stream) -> Estimate:
        pairs = _linear_ends(stream, blocks * 2 ** (14 + effort), (_STEP, 3 * _STEP))
        values = claimed.variance_of_mean(np.moveaxis(pairs.reshape(2, -1, blocks), 0, -1))
        return Estimate(values.mean(), std_error=values.std() / np.sqrt(values.size), route="pairs of particles")

    goal = tolerance(tol, SAMPLED_VARIANCE_TOL)
    return check_equal(exact(truth), particles, tol=goal, seed=seed, title="variance of a mean, sampled")


def _derivative(law: GaussianMixture, x: Array, order: int) -> Array:
    """Derivative of the density by Hermite polynomials."""
    z = (x[:, None] - law.means) / law.stds
    sizes = law.weights * (-1.0 / law.stds) ** order / (np.sqrt(2 * np.pi) * law.stds)
    hermite = np.polynomial.hermite_e.hermeval(z, [0.0] * order + [1.0])
    return np.asarray((hermite * np.exp(-0.5 * z**2)) @ sizes)


def _places() -> Array:
    return np.asarray(DATA.ppf(np.linspace(0.02, 0.98, 41)))


def _bins(dx: float) -> Check:
    x = _places()

    def check(claimed: SamplingErrors, *, tol: float | None = None, seed: int = 0) -> Verdict:
        formula = claimed.in_bin(DATA.pdf(x), _derivative(DATA, x, 2), dx)
        remainder = np.abs(_derivative(DATA, x, 4)).max() * dx**4 / 1920
        inside = DATA.pdf(x[:, None] + 0.5 * dx * _NODES) @ _WEIGHTS / 2.0
        return check_equal(
            Estimate((DATA.cdf(x + 0.5 * dx) - DATA.cdf(x - 0.5 * dx)) / dx, error=1e-14, route="differences of F"),
            Estimate(inside, error=1e-14, route="quadrature over the bin"),
            Estimate(formula, error=remainder, route="formula"),
            tol=tolerance(tol),
            seed=seed,
            title="mean of a histogram",
        )

    return check


def _kernels(width: float) -> Check:
    x, (z, weights) = _places(), normal_nodes(40)

    def check(claimed: SamplingErrors, *, tol: float | None = None, seed: int = 0) -> Verdict:
        formula = claimed.under_kernel(DATA.pdf(x), _derivative(DATA, x, 2), width)
        remainder = np.abs(_derivative(DATA, x, 4)).max() * width**4 / 8
        widened = GaussianMixture(DATA.weights, DATA.means, np.sqrt(DATA.stds**2 + width**2))
        return check_equal(
            Estimate(widened.pdf(x), error=1e-14, route="mixture with b² added"),
            Estimate(DATA.pdf(x[:, None] + width * z) @ weights, error=1e-13, route="quadrature over the kernel"),
            Estimate(formula, error=remainder, route="formula"),
            tol=tolerance(tol),
            seed=seed,
            title="mean of a kernel estimate",
        )

    return check


_Z = float(stats.norm.isf(0.5 * (1 - _LEVEL)))
_ERRORS = SamplingErrors(
    half_width=lambda sd, n: _Z * sd / np.sqrt(n),
    variance_of_mean=lambda draws: draws.mean(axis=-1).var(axis=-1, ddof=1) / draws.shape[-2],
    in_bin=lambda q, q_dxx, dx: q + q_dxx * dx**2 / 24,
    under_kernel=lambda q, q_dxx, b: q + 0.5 * b**2 * q_dxx,
)
_COVERED = ("coverage", "coverage, sampled")
_DEPENDENT = ("pairs", "blocks of ten", "pairs, sampled")
_HISTOGRAM, _KERNEL = ("bins of .1", "bins of .05"), ("kernel of .03", "kernel of .015")


def _independent_formula(draws: Array) -> Array:
    return np.asarray(draws.var(axis=(-2, -1)) / (draws[0].size - 1))


MC_CI = Identity(
    id="int-mc-ci",
    statement=(
        "mean ± 1.96 sd/√n covers 95 % as n → ∞\n"
        "dependent draws in independent blocks: Var(mean) = E[variance of the block means]/number of blocks\n"
        "histogram: E is the average over the bin, q + q'' dx²/24 + O(dx⁴); kernel of width b: q + ½ b² q'' + O(b⁴)"
    ),
    conditions="finite variance; blocks of equal size; q smooth.",
    source="central limit theorem; Flyvbjerg & Petersen (1989) for blocks; Silverman (1986) section 3.3",
    routes=(
        "coverage: laws of Student and of gamma for n → ∞; intervals of particles (sampled)",
        "dependent draws: covariance matrix, autocorrelations, expected estimate; pairs of particles (sampled)",
        "histogram: differences of F, quadrature over the bin, formula",
        "kernel: mixture with b² added, quadrature, formula",
    ),
    truth=_ERRORS,
    settings={
        "coverage": _coverage,
        "coverage, sampled": _sampled_coverage,
        "pairs": _dependent(2, 0.5),
        "blocks of ten": _dependent(10, 0.8),
        "pairs, sampled": _sampled_dependent,
        "bins of .1": _bins(0.1),
        "bins of .05": _bins(0.05),
        "kernel of .03": _kernels(0.03),
        "kernel of .015": _kernels(0.015),
    },
    siblings=(
        Sibling("1.645 sd/√n", replace(_ERRORS, half_width=lambda sd, n: 1.645 * sd / np.sqrt(n)), only=_COVERED),
        Sibling("1.96 sd/n", replace(_ERRORS, half_width=lambda sd, n: _Z * sd / n), only=_COVERED),
        Sibling(
            "formula of independent draws", replace(_ERRORS, variance_of_mean=_independent_formula), only=_DEPENDENT
        ),
        Sibling("density at the centre of the bin", replace(_ERRORS, in_bin=lambda q, q_dxx, dx: q), only=_HISTOGRAM),
        Sibling("dx²/12", replace(_ERRORS, in_bin=lambda q, q_dxx, dx: q + q_dxx * dx**2 / 12), only=_HISTOGRAM),
        Sibling("kernel without bias", replace(_ERRORS, under_kernel=lambda q, q_dxx, b: q), only=_KERNEL),
        Sibling(
            "b² q'' for ½ b² q''", replace(_ERRORS, under_kernel=lambda q, q_dxx, b: q + b**2 * q_dxx), only=_KERNEL
        ),
    ),
)
