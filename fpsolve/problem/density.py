"""Laws that a user brings: a log-density, normalised or not, a SciPy distribution; and the conversion to a law."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from scipy import stats

from fpsolve.errors import DensityError, InputError, check_count
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.law import Declared, Law, check_faces, check_probabilities, check_support, generator_of, pointwise
from fpsolve.problem.mixtures import KDE, Empirical, GaussianMixture, LaplaceMixture, Normal, PointMass
from fpsolve.problem.quadrature import PanelTable, checked, integrate_exp, refuse_unusable, unusable
from fpsolve.problem.scale_mixture import check_column

__all__ = [
    "KDE",
    "Density",
    "Empirical",
    "GaussianMixture",
    "LaplaceMixture",
    "Law",
    "Normal",
    "PointMass",
    "SciPyLaw",
    "Unnormalized",
    "as_law",
]

NORMALISED = 1e-8  # how far from one the integral of a density may be, beyond its own error


def _check_log_density(logpdf: Any, support: Any, modes: Any) -> tuple[tuple[float, float], tuple[float, ...]]:
    if not callable(logpdf):
        raise InputError("logpdf must be a function of an array x", logpdf, "give for instance lambda x: -x**2 / 2")
    ends = check_support(support)
    places = () if modes is None else tuple(float(m) for m in check_column("modes", modes))
    outside = [m for m in places if not ends[0] <= m <= ends[1]]
    if outside:
        raise InputError(f"modes must lie within the support {ends}", outside[0], "correct the mode or the support")
    return ends, places


def _evaluate(
    logpdf: Callable[[np.ndarray], Any], support: tuple[float, float], table: PanelTable, x: np.ndarray
) -> np.ndarray:
    """A user's log-density: -inf outside the support, and where the formula overflows beyond all mass."""
    values = np.full(x.shape, -math.inf)
    inside = (x > support[0]) & (x < support[1])
    values[inside] = checked(logpdf)(x[inside])
    beyond = unusable(values) & ((x < table.edges[0]) | (x > table.edges[-1]))
    values[beyond] = -math.inf
    refuse_unusable(x, values)
    return values


class Density(Declared, Law):
    """A user's normalised law, given by its log-density.

    Parameters
    ----------
    logpdf : callable
        Vectorised log-density of an array x; -inf where there is no mass. It is called inside the support only.
    support : (float, float), optional
        Ends, possibly infinite. Integrable singularities are allowed at finite ends.
    modes : sequence of float, optional
        Places of modes too narrow to be found (narrower than 1e-3 of their distance to 0 and under a wider mode).

    Raises
    ------
    DensityError
        If the integral is not one within 1e-8 (and three times its own estimated error), does not exist or does not
        converge; if the function is NaN or +inf, returns the wrong shape, or mixes its points.
    InputError
        If `logpdf` is not callable, the support is not an interval, or a mode lies outside.

    Notes
    -----
    The law is never normalised in silence: an integral of 0.97 is an error, and `Unnormalized` the way to say that the
    constant is unknown. cdf, quantiles and moments come from the adaptive quadrature of that check.

    Examples
    --------
    >>> logistic = fps.Density(lambda x: -x - 2 * np.log1p(np.exp(-x)), support=(-np.inf, np.inf))
    >>> round(float(logistic.cdf(1.0)), 10), round(float(logistic.score(0.0)), 8) == 0
    (0.7310585786, True)
    """

    def __init__(
        self,
        logpdf: Callable[[np.ndarray], Any],
        support: tuple[float, float] = (-math.inf, math.inf),
        *,
        modes: Sequence[float] | None = None,
    ) -> None:
        ends, places = _check_log_density(logpdf, support, modes)
        table = integrate_exp(checked(logpdf), ends, places)
        integral, error = math.exp(min(table.log_total, 709.0)), table.error / table.total
        if abs(integral - 1.0) > NORMALISED + 3.0 * error * integral:
            raise DensityError(
                "a density must integrate to one within 1e-8",
                f"an integral of {integral:.12g}",
                "correct the constant, or write fps.Unnormalized(logpdf, support=...).normalized(); "
                "if the constant is right, a narrow mode was missed: give modes=[x]",
            )
        self._remember(_log_function=logpdf, _ends=ends, modes=places, _table=table)

    _log_function: Callable[[np.ndarray], Any]
    _ends: tuple[float, float]
    modes: tuple[float, ...]

    def _arguments(self) -> dict[str, Any]:
        return {"logpdf": self._log_function, "support": self._ends, "modes": self.modes or None}

    @property
    def support(self) -> tuple[float, float]:
        """Ends of the support."""
        return self._ends

    @pointwise
    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the density."""
        return _evaluate(self._log_function, self._ends, self._table, x)


@dataclass(frozen=True)
class ShiftedLog:
    """The function x -> log_function(x) - shift."""

    log_function: Callable[[np.ndarray], Any]
    shift: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.log_function(x)) - self.shift


class Unnormalized(Declared):
    """A law known up to its normalising constant Z = ∫ exp(logpdf).

    Parameters
    ----------
    logpdf : callable
        Vectorised logarithm of the unnormalised density of an array x.
    support : (float, float)
        Ends, possibly infinite.
    modes : sequence of float, optional
        Places of modes too narrow to be found by a search on all scales.

    Raises
    ------
    DensityError
        From `log_normalizer` and `normalized`, if the integral does not exist or does not converge, and if the function
        is NaN or +inf, returns the wrong shape, or mixes its points.
    InputError
        From every method of a law (`pdf`, `cdf`, ...): call `normalized()` first.

    Examples
    --------
    >>> rho = fps.Unnormalized(lambda x: -(x**2) / 2, support=(-np.inf, np.inf))
    >>> round(rho.log_normalizer.value, 9), round(rho.normalized().var(), 9)
    (0.918938533, 1.0)
    """

    def __init__(
        self,
        logpdf: Callable[[np.ndarray], Any],
        *,
        support: tuple[float, float],
        modes: Sequence[float] | None = None,
    ) -> None:
        ends, places = _check_log_density(logpdf, support, modes)
        self._remember(_log_function=logpdf, support=ends, modes=places)

    _log_function: Callable[[np.ndarray], Any]
    support: tuple[float, float]
    modes: tuple[float, ...]

    def _arguments(self) -> dict[str, Any]:
        return {"logpdf": self._log_function, "support": self.support, "modes": self.modes or None}

    def _integral(self) -> PanelTable:
        return integrate_exp(checked(self._log_function), self.support, self.modes)

    @property
    def log_normalizer(self) -> Estimate:
        """log Z with its estimated error, by adaptive quadrature (computed at each call)."""
        table = self._integral()
        return Estimate(table.log_total, error=-math.log1p(-table.error / table.total), route="quadrature")

    @pointwise
    def unnormalized_logpdf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the unnormalised density."""
        return _evaluate(self._log_function, self.support, self._integral(), x)

    def normalized(self) -> Density:
        """Return the normalised law, logpdf(x) - log Z."""
        return Density(
            ShiftedLog(self._log_function, self._integral().log_total), self.support, modes=self.modes or None
        )

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise InputError(
            "an unnormalised density must be normalised before it is used as a law", self, "call .normalized() first"
        )

    pdf = logpdf = score = cdf = sf = logcdf = logsf = ppf = isf = _refuse
    mean = var = std = expect = sample = quantile_span = cell_masses = _refuse


class SciPyLaw(Declared, Law):
    """A continuous SciPy distribution of either style, frozen `stats.norm(0, 1)` or `stats.Normal(mu=0, sigma=1)`.

    Parameters
    ----------
    distribution : scipy.stats frozen distribution, continuous distribution or mixture
        With scalar parameters.

    Raises
    ------
    InputError
        If it is not a continuous univariate distribution, is not frozen, or has array parameters.

    Examples
    --------
    >>> from scipy import stats
    >>> from fpsolve.problem.density import SciPyLaw
    >>> q = SciPyLaw(stats.t(3))
    >>> round(q.var(), 6), round(float(q.score(1.0)), 6)
    (3.0, -1.0)
    """

    def __init__(self, distribution: Any) -> None:
        style = _scipy_style(distribution)
        if style == "":
            fix = "give a frozen continuous distribution, for instance scipy.stats.norm(0, 1)"
            raise InputError("a SciPy law must be a continuous distribution of one variable", distribution, fix)
        names = _FROZEN if style == "frozen" else _NEW
        with np.errstate(all="ignore"):
            shape = np.shape(getattr(distribution, names["cdf"])(0.0))
        if shape != ():
            rule = "a SciPy law must have scalar parameters"
            raise InputError(rule, f"parameters of shape {shape}", "build one distribution for each parameter")
        self._remember(distribution=distribution, _names=names)

    distribution: Any
    _names: dict[str, str]

    def _arguments(self) -> dict[str, Any]:
        return {"distribution": self.distribution}

    def _call(self, name: str, *arguments: Any, **keywords: Any) -> Any:
        with np.errstate(all="ignore"):
            return getattr(self.distribution, self._names[name])(*arguments, **keywords)

    @property
    def support(self) -> tuple[float, float]:
        """Ends of the support."""
        left, right = self.distribution.support()
        return float(left), float(right)

    @pointwise
    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the density."""
        return self._call("logpdf", x)

    @pointwise
    def cdf(self, x: np.ndarray) -> np.ndarray:
        """Distribution function."""
        return self._call("cdf", x)

    @pointwise
    def sf(self, x: np.ndarray) -> np.ndarray:
        """Survival function."""
        return self._call("sf", x)

    @pointwise
    def logcdf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the distribution function."""
        return self._call("logcdf", x)

    @pointwise
    def logsf(self, x: np.ndarray) -> np.ndarray:
        """Logarithm of the survival function."""
        return self._call("logsf", x)

    def ppf(self, p: Any) -> Any:
        """Quantile."""
        return np.asarray(self._call("ppf", check_probabilities(p)))[()]

    def isf(self, p: Any) -> Any:
        """Upper quantile."""
        return np.asarray(self._call("isf", check_probabilities(p)))[()]

    def _quantile(self, p: np.ndarray, upper: bool) -> np.ndarray:
        return np.asarray(self._call("isf" if upper else "ppf", p))

    def cell_masses(self, faces: Any) -> np.ndarray:
        """Masses of the n cells between n + 1 increasing faces: differences of the smaller tail."""
        faces = check_faces(faces)
        below, above = self.cdf(faces), self.sf(faces)
        return np.maximum(np.where(below[1:] <= above[:-1], np.diff(below), -np.diff(above)), 0.0)

    def mean(self) -> float:
        """Mean."""
        return float(self._call("mean"))

    def var(self) -> float:
        """Variance."""
        return float(self._call("var"))

    def sample(self, n: int, rng: Any) -> np.ndarray:
        """Draw `n` independent values; `rng` is a NumPy generator or a seed."""
        n, generator = check_count("n", n, at_least=0), generator_of(rng)
        if self._names is _FROZEN:
            return np.asarray(self.distribution.rvs(size=n, random_state=generator), dtype=float)
        return np.asarray(self.distribution.sample(n, rng=generator), dtype=float)


_SAME = {name: name for name in ("logpdf", "cdf", "mean", "logcdf")}
_FROZEN = _SAME | {"sf": "sf", "logsf": "logsf", "ppf": "ppf", "isf": "isf", "var": "var"}
_NEW = _SAME | {"sf": "ccdf", "logsf": "logccdf", "ppf": "icdf", "isf": "iccdf", "var": "variance"}
# SciPy has no public base class for the new style; Normal is one of its continuous distributions
_NEW_CONTINUOUS = (stats.Normal.__mro__[1], stats.Mixture)


def _scipy_style(value: Any) -> str:
    """ "frozen", "new", or "" for anything that is not a continuous SciPy distribution of one variable."""
    if isinstance(value, _NEW_CONTINUOUS):
        return "new"
    return "frozen" if isinstance(getattr(value, "dist", None), stats.rv_continuous) else ""


def _gaussian_form(value: Any) -> GaussianMixture | None:
    """SciPy's normal laws and their mixtures as the fpsolve law with closed forms."""
    if isinstance(value, stats.Normal) and np.ndim(value.mu) == np.ndim(value.sigma) == 0:
        return Normal(float(value.mu), float(value.sigma))
    if isinstance(value, stats.Mixture) and all(isinstance(part, stats.Normal) for part in value.components):
        parts = value.components
        return GaussianMixture(value.weights, [float(p.mu) for p in parts], [float(p.sigma) for p in parts])
    if isinstance(getattr(value, "dist", None), type(stats.norm)) and np.ndim(value.mean()) == 0:
        return Normal(float(value.mean()), float(value.std()))
    return None


def as_law(value: Any, what: str = "q0") -> Law:
    """Return `value` as a Law.

    Parameters
    ----------
    value : Law or SciPy distribution
        A law, a frozen continuous distribution (`stats.norm(0, 1)`) or one of the new style (`stats.Normal(mu=0,
        sigma=1)`, `stats.Mixture`). Normal laws and their mixtures become Normal and GaussianMixture.
    what : str
        What to call it in a message.

    Raises
    ------
    InputError
        For a sample array or a number (with the choices), an unnormalised density, a distribution class that was not
        frozen, a discrete or a multivariate one, and anything else.

    Examples
    --------
    >>> from scipy import stats
    >>> from fpsolve.problem.density import as_law
    >>> as_law(stats.Normal(mu=1.0, sigma=2.0))
    Normal(mean=1.0, std=2.0)
    """
    if isinstance(value, Law):
        return value
    rule = f"{what} must be a law: one of fpsolve or a continuous SciPy distribution"
    if isinstance(value, Unnormalized):
        raise InputError(rule, value, "call .normalized() first")
    if _scipy_style(value):
        return _gaussian_form(value) or SciPyLaw(value)
    if isinstance(value, stats.rv_continuous):
        raise InputError(rule, f"the family {value.name!r}", f"freeze it, for instance scipy.stats.{value.name}(...)")
    if isinstance(value, stats.gaussian_kde):
        raise InputError(rule, value, "use fps.KDE(samples, bandwidth)")
    if type(value).__module__.startswith("scipy.stats"):
        raise InputError(rule, value, "a discrete or multivariate law has no density on the line; choose another")
    if isinstance(value, (int, float, np.number)) or (isinstance(value, np.ndarray) and value.ndim == 0):
        raise InputError(rule, value, "a deterministic start is fps.PointMass(x)")
    if isinstance(value, (list, tuple)) or hasattr(value, "__array__"):
        shown = value if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        fix = "a sample is not a law: choose fps.KDE(samples) for a density, or fps.Empirical(samples) for its atoms"
        raise InputError(rule, shown, fix)
    if callable(value):
        raise InputError(rule, value, "a log-density becomes a law by fps.Density(logpdf, support)")
    raise InputError(rule, value, "give for instance fps.Normal(0, 1) or scipy.stats.norm(0, 1)")
