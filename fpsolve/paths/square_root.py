"""Closed forms of the square-root process dX = κ (θ - X) dt + ξ √X dW (Feller; Cox, Ingersoll & Ross)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from fpsolve.errors import InputError, NoClosedForm, check_points
from fpsolve.paths.closed_forms import ExactEvolution
from fpsolve.problem.density import SciPyLaw
from fpsolve.problem.gamma import GammaMixture, NoncentralChiSquare, noncentral_logpdf
from fpsolve.problem.law import Law
from fpsolve.problem.mixtures import PointMass
from fpsolve.problem.process import Process

_FIX = "use fps.solve_fokker_planck"


def refuse_absorbing_ends(process: Process) -> None:
    """Refuse ends other than those that no mass leaves through, for which the known kernels hold."""
    other = [kind for kind in process.boundary if kind not in ("natural", "reflecting")]
    if other:
        raise NoClosedForm("the kernel of this process is known for natural and reflecting ends", other[0], _FIX)


def start_within(process: Process, law: PointMass) -> float:
    """Return the starting point; it must lie in the support."""
    x, (left, right) = law.x, process.support
    if not left < x < right:
        raise InputError("the start must lie inside the support of the process", x, f"start between {left} and {right}")
    return x


@dataclass(frozen=True)
class SquareRoot:
    """The published process with these parameters; called with (process, law, t_span) it solves it.

    X_t given X_s = x is c Z with Z noncentral chi-square, ν = 4κθ/ξ² degrees of freedom, noncentrality x e^{-κu}/c,
    c = ξ² (1 - e^{-κu})/(4κ), u = t - s. A Gamma law of shape ν/2 and scale S keeps its shape, and S becomes
    S e^{-κu} + 2c.
    """

    kappa: float
    theta: float
    xi: float

    @property
    def df(self) -> float:
        """Degrees of freedom ν."""
        return 4.0 * self.kappa * self.theta / self.xi**2

    def decay(self, elapsed: float) -> float:
        """e^{-κu}."""
        return math.exp(-self.kappa * elapsed)

    def scale(self, elapsed: float) -> float:
        """c = ξ² (1 - e^{-κu})/(4κ)."""
        return -0.25 * self.xi**2 * math.expm1(-self.kappa * elapsed) / self.kappa

    def __call__(self, process: Process, law: Law, span: tuple[float, float]) -> ExactEvolution:
        """Return the evolution from a point mass, or from a Gamma mixture of shape ν/2."""
        refuse_absorbing_ends(process)
        if isinstance(law, PointMass):
            return FromPoint(self, process, law, start_within(process, law), span)
        gammas = _as_gammas(law)
        if gammas is None or (np.abs(gammas.shapes - 0.5 * self.df) > 1e-12 * self.df).any():
            rule = f"the start must be a point mass or a Gamma mixture of shape ν/2 = 2κθ/ξ² = {0.5 * self.df!r}"
            raise NoClosedForm(rule, law, _FIX)
        return FromGammas(self, process, law, gammas, span)


def _as_gammas(law: Law) -> GammaMixture | None:
    """The law as a Gamma mixture, if it is one or SciPy's Gamma law on the positive numbers."""
    if isinstance(law, GammaMixture):
        return law
    if isinstance(law, SciPyLaw) and isinstance(getattr(law.distribution, "dist", None), type(stats.gamma)):
        mean, var = law.mean(), law.var()
        return GammaMixture([1.0], [mean**2 / var], [var / mean]) if law.support[0] == 0.0 else None
    return None


class _SquareRootEvolution(ExactEvolution):
    """What both starts share: the transition kernel."""

    family: SquareRoot

    def _elapsed(self, t: float) -> float:
        return self.check_t(t) - self.t_span[0]

    def transition_logpdf(self, x: Any, t: float, y: Any, s: float) -> np.ndarray:
        """log p(X_t = x | X_s = y) for s < t and positive x, y, which broadcast."""
        elapsed = self.check_t(t) - self.check_t(s)
        c = self.family.scale(elapsed)
        noncentrality = np.asarray(y, dtype=float) * self.family.decay(elapsed) / c
        return noncentral_logpdf(np.asarray(x, dtype=float), self.family.df, noncentrality, c)


class FromPoint(_SquareRootEvolution):
    """Point mass under the square-root process: scaled noncentral chi-square laws."""

    def __init__(
        self, family: SquareRoot, process: Process, initial: PointMass, start: float, t_span: tuple[float, float]
    ) -> None:
        self.family, self.process, self.initial, self.t_span = family, process, initial, t_span
        self._start = start
        self.message = "closed form: noncentral chi-square law of a square-root process"
        self._laws: dict[float, Law] = {t_span[0]: initial}

    def at(self, t: float) -> Law:
        """Return the law at time `t`."""
        time = self.check_t(t)
        if time not in self._laws:
            if len(self._laws) > 4096:
                self._laws = {self.t_span[0]: self._laws[self.t_span[0]]}
            c = self.family.scale(self._elapsed(time))
            noncentrality = self._start * self.family.decay(self._elapsed(time)) / c
            self._laws[time] = NoncentralChiSquare(self.family.df, noncentrality, c)
        return self._laws[time]

    def velocity(self, x: Any, t: float) -> np.ndarray:
        """v = -∂t F/q, exactly: F depends on t through the scale and the noncentrality, and ∂F/∂λ = -q_{ν+2}."""
        points, law, u = check_points("x", x), self.at(t), self._elapsed(t)
        if not isinstance(law, NoncentralChiSquare):
            raise InputError("a point mass has no velocity field", t, "ask at a later time")
        c, kappa = law.scale, self.family.kappa
        from_scale = points * (0.25 * self.family.xi**2 * self.family.decay(u) / c)
        rate = kappa * law.noncentrality / math.expm1(-kappa * u)
        return from_scale + rate * c * law.growth(points)


class FromGammas(_SquareRootEvolution):
    """Gamma mixture of shape ν/2 under the square-root process: every scale moves by itself."""

    def __init__(
        self, family: SquareRoot, process: Process, initial: Law, gammas: GammaMixture, t_span: tuple[float, float]
    ) -> None:
        self.family, self.process, self.initial, self.t_span = family, process, initial, t_span
        self._gammas = gammas
        self.message = "closed form: Gamma mixture under a square-root process"

    def at(self, t: float) -> GammaMixture:
        """Return the law at time `t`."""
        u, first = self._elapsed(t), self._gammas
        return GammaMixture(first.weights, first.shapes, first.scales * self.family.decay(u) + 2 * self.family.scale(u))

    def velocity(self, x: Any, t: float) -> np.ndarray:
        """v = -∂t F/q, exactly: each component stretches with S'/S, weighted by its posterior."""
        points, law = check_points("x", x), self.at(t)
        rates = (0.5 * self.family.xi**2 - self.family.kappa * self._gammas.scales) * self.family.decay(
            self._elapsed(t)
        )
        return points * (law.shares(points) * (rates / law.scales)).sum(axis=-1)
