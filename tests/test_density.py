"""Densities: closed forms against high-precision sums, numerical laws against closed forms, every refusal."""

import math
import pickle
import re
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fpsolve.errors import DensityError, InputError
from fpsolve.problem.density import (
    KDE,
    Density,
    Empirical,
    GaussianMixture,
    LaplaceMixture,
    Law,
    Normal,
    PointMass,
    SciPyLaw,
    Unnormalized,
    as_law,
)
from fpsolve.problem.maps import Exp, Pushforward, Sinh

BIMODAL = GaussianMixture([0.35, 0.65], [-1.6, 1.1], [0.35, 0.5])
KINKED = LaplaceMixture([0.3, 0.7], [-1.0, 2.0], [0.5, 0.25])
X = np.linspace(-4.0, 4.0, 41)
LINE = (-np.inf, np.inf)
FALSE_ALARM = 1e-9  # probability that a correct sampler fails, per test of a sample


@st.composite
def mixtures(draw: st.DrawFn, kinds: tuple[type, ...] = (GaussianMixture, LaplaceMixture)) -> Any:
    """Random mixtures of one to five components, some narrow."""
    k = draw(st.integers(1, 5))
    weights = np.array(draw(st.lists(st.floats(0.01, 1.0), min_size=k, max_size=k)))
    centres = draw(st.lists(st.floats(-5.0, 5.0), min_size=k, max_size=k))
    scales = draw(st.lists(st.floats(0.05, 3.0), min_size=k, max_size=k))
    return draw(st.sampled_from(kinds))(weights / weights.sum(), centres, scales)


def decimal_logpdf_and_score(q: GaussianMixture | LaplaceMixture, x: float) -> tuple[float, float]:
    """The defining sums in 60 digits."""
    with localcontext() as context:
        context.prec = 60
        pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
        total = slope = Decimal(0)
        gaussian = isinstance(q, GaussianMixture)
        columns = (q.weights, q.means, q.stds) if gaussian else (q.weights, q.locations, q.scales)
        for w, m, s in zip(*(map(Decimal, map(float, column)) for column in columns), strict=True):
            z = (Decimal(float(x)) - m) / s
            q_k = w * (-z * z / 2).exp() / (s * (2 * pi).sqrt()) if gaussian else w * (-abs(z)).exp() / (2 * s)
            total += q_k
            slope += q_k * (-z / s if gaussian else -z.copy_sign(z) / (abs(z) * s))
        return float(total.ln()), float(slope / total)


# --- closed forms ---------------------------------------------------------------------------------------------------


@given(mixtures(), st.floats(-60.0, 60.0))
def test_mixture_versus_sums_in_sixty_digits(q: Any, x: float) -> None:
    if isinstance(q, LaplaceMixture) and x in q.locations:
        return  # the score jumps there
    logpdf, score = decimal_logpdf_and_score(q, x)
    assert math.isclose(float(q.logpdf(x)), logpdf, rel_tol=1e-13, abs_tol=1e-13)
    # near a stationary point the score is a difference of larger slopes
    assert abs(float(q.score(x)) - score) < 1e-12 * (abs(score) + 1e3)


@pytest.mark.parametrize("z", [-40.0, -20.0, 20.0, 40.0, 400.0])
def test_normal_far_out_versus_asymptotics(z: float) -> None:
    q = Normal(3.0, 0.1)
    x = 3.0 + 0.1 * z
    assert math.isclose(q.logpdf(x), -0.5 * z * z - math.log(0.1 * math.sqrt(2 * math.pi)), rel_tol=1e-13)
    assert math.isclose(q.score(x), -z / 0.1, rel_tol=1e-13)
    mills = sum((-1) ** k * math.prod(range(1, 2 * k, 2)) / z ** (2 * k) for k in range(12))  # asymptotic, |z| ≥ 20
    log_tail = -0.5 * z * z - math.log(abs(z) * math.sqrt(2 * math.pi)) + math.log(mills)
    assert math.isclose(q.logcdf(x) if z < 0 else q.logsf(x), log_tail, rel_tol=1e-12)


@pytest.mark.parametrize("z", [-700.0, -40.0, 40.0, 700.0])
def test_laplace_far_out_is_exponential(z: float) -> None:
    q = LaplaceMixture([1.0], [1.0], [0.5])
    x = 1.0 + 0.5 * z
    assert math.isclose(q.logpdf(x), -abs(z), rel_tol=1e-15)
    assert q.score(x) == -math.copysign(2.0, z)
    assert math.isclose(q.logcdf(x) if z < 0 else q.logsf(x), -abs(z) - math.log(2.0), rel_tol=1e-14)


def test_score_beyond_underflow_belongs_to_the_widest_component() -> None:
    q = GaussianMixture([0.999, 0.001], [0.0, 1.0], [0.1, 2.0])
    assert math.isclose(q.score(60.0), -59.0 / 4.0, rel_tol=1e-14)
    assert q.score(np.inf) == -np.inf
    assert np.isfinite(q.score(1e200))
    assert KINKED.score([-np.inf, np.inf]).tolist() == [2.0, -2.0]


@given(mixtures())
def test_pdf_integrates_to_one(q: Any) -> None:
    assert abs(q.expect(np.ones_like) - 1.0) < 1e-12
    assert math.isclose(q.expect(lambda x: x), q.mean(), rel_tol=1e-10, abs_tol=1e-10)
    assert math.isclose(q.expect(lambda x: (x - q.mean()) ** 2), q.var(), rel_tol=1e-10)


@given(mixtures(), st.lists(st.floats(1e-14, 1 - 1e-9), min_size=1, max_size=20))
def test_cdf_of_ppf_is_identity(q: Any, p: list[float]) -> None:
    np.testing.assert_allclose(q.cdf(q.ppf(p)), p, rtol=1e-11)
    np.testing.assert_allclose(q.sf(q.isf(p)), p, rtol=1e-11)


@given(mixtures(kinds=(GaussianMixture,)), st.floats(-6.0, 6.0))
def test_score_is_derivative_of_logpdf(q: Any, x: float) -> None:
    h = 1e-3 * q.stds.min()
    numeric = (8 * (q.logpdf(x + h) - q.logpdf(x - h)) - (q.logpdf(x + 2 * h) - q.logpdf(x - 2 * h))) / (12 * h)
    assert math.isclose(q.score(x), numeric, rel_tol=1e-6, abs_tol=1e-6)


@given(mixtures(), st.floats(1e-14, 0.4))
def test_quantile_span_leaves_at_most_p(q: Any, p: float) -> None:
    left, right = q.quantile_span(p)
    assert q.cdf(left) <= p
    assert q.sf(right) <= p
    assert left >= q.ppf(p / q.weights.size / 1.01) - 10.0 * q.std()


@given(mixtures())
def test_cell_masses_sum_to_one_and_keep_both_tails(q: Any) -> None:
    faces = np.concatenate([[-np.inf], np.linspace(-120.0, 120.0, 481), [np.inf]])
    masses = q.cell_masses(faces)
    assert abs(masses.sum() - 1.0) < 1e-13
    reference = Law.cell_masses(q, faces)  # Gauss-Legendre quadrature of the density
    seen = reference > 1e-280
    tails = np.minimum(
        q.cdf(faces[1:]), q.sf(faces[:-1])
    )  # the quadrature resolves a valley relative to the mass beyond
    assert (np.abs(masses - reference) <= 1e-10 * reference + 1e-12 * tails)[seen].all()
    assert (masses >= 0.0).all()


def test_tail_cells_do_not_cancel() -> None:
    far = Normal(0.0, 1.0).cell_masses([30.0, 30.1, 31.0])
    mirrored = Normal(0.0, 1.0).cell_masses([-31.0, -30.1, -30.0])[::-1]
    np.testing.assert_array_equal(far, mirrored)
    assert math.isclose(far.sum(), stats.norm.sf(30.0) - stats.norm.sf(31.0), rel_tol=1e-13)


# --- shapes, identity, sampling -------------------------------------------------------------------------------------


LAWS = [
    Normal(1.0, 2.0),
    BIMODAL,
    KINKED,
    KDE([0.0, 1.0, 3.0, 3.5]),
    Pushforward(BIMODAL, Sinh(1.0)),
    Pushforward(Normal(0.0, 0.5), Exp()),
    SciPyLaw(stats.t(5)),
    Density(BIMODAL.logpdf),
]


@pytest.mark.parametrize("q", LAWS, ids=lambda q: type(q).__name__)
def test_results_have_the_shape_of_the_points(q: Law) -> None:
    for name in ("pdf", "logpdf", "score", "cdf", "sf", "logcdf", "logsf", "ppf", "isf"):
        method = getattr(q, name)
        assert np.shape(method(0.5)) == ()
        assert method(np.full((2, 3), 0.5)).shape == (2, 3)
        assert method([]).shape == (0,)
        np.testing.assert_allclose(method(np.full((2, 3), 0.5)), method(0.5), rtol=1e-9 if name == "score" else 1e-14)
    np.testing.assert_allclose(q.cdf(X) + q.sf(X), 1.0, rtol=1e-12)


@pytest.mark.parametrize("q", LAWS, ids=lambda q: type(q).__name__)
def test_sample_follows_the_cdf_within_the_dkw_band(q: Law) -> None:
    n = 4000
    x = np.sort(q.sample(n, np.random.default_rng(5)))
    gap = np.abs(q.cdf(x) - (np.arange(n) + 0.5) / n).max() - 0.5 / n
    assert gap < math.sqrt(math.log(2.0 / FALSE_ALARM) / (2 * n))
    np.testing.assert_array_equal(q.sample(5, 7), q.sample(5, 7))
    assert not np.array_equal(q.sample(5, 7), q.sample(5, 8))
    assert q.sample(0, 7).shape == (0,)


@pytest.mark.parametrize("q", [*LAWS[:6], PointMass(2.0), Empirical([3.0, 1.0])], ids=lambda q: type(q).__name__)
def test_law_is_frozen_equal_and_picklable(q: Any) -> None:
    copy = pickle.loads(pickle.dumps(q))
    assert copy == q
    assert q != Normal(0.0, 7.0)
    assert repr(copy) == repr(q)
    assert repr(q).startswith(type(q).__name__)
    with pytest.raises(AttributeError, match="frozen"):
        q.weights = 1
    for value in vars(copy).values():
        assert not (isinstance(value, np.ndarray) and value.flags.writeable)


def test_arguments_are_copied() -> None:
    weights = np.array([0.5, 0.5])
    q = GaussianMixture(weights, [0.0, 1.0], [1.0, 1.0])
    weights[0] = 7.0
    assert q.weights.tolist() == [0.5, 0.5]


def test_normal_and_kde_are_gaussian_mixtures() -> None:
    samples = np.random.default_rng(1).normal(size=3000)
    q = KDE(samples)
    assert isinstance(q, GaussianMixture)
    assert isinstance(Normal(0.0, 1.0), GaussianMixture)
    spread = min(samples.std(ddof=1), np.subtract(*np.quantile(samples, [0.75, 0.25])) / 1.34)
    assert math.isclose(q.bandwidth, 0.9 * spread * 3000**-0.2)
    reference = stats.norm.pdf(X[:, None], samples, q.bandwidth).mean(axis=1)
    np.testing.assert_allclose(q.pdf(X), reference, rtol=1e-12)
    p = np.linspace(0.01, 0.99, 99)  # many enough for the tabulated brackets
    np.testing.assert_allclose(q.cdf(q.ppf(p)), p, rtol=1e-12)
    np.testing.assert_allclose(q.sf(q.isf(p)), p, rtol=1e-12)


def test_atoms() -> None:
    q = Empirical([3.0, 1.0, 2.0, 2.0])
    assert q.cdf([0.0, 1.0, 2.0, 3.0]).tolist() == [0.0, 0.25, 0.75, 1.0]
    assert q.ppf([0.0, 0.25, 0.26, 0.75, 1.0]).tolist() == [1.0, 1.0, 2.0, 2.0, 3.0]
    assert q.isf([1.0, 0.25, 0.24, 0.0]).tolist() == [1.0, 2.0, 3.0, 3.0]
    assert q.cell_masses([-np.inf, 2.0, 3.0]).tolist() == [0.25, 0.75]
    assert (q.mean(), q.var()) == (2.0, 0.5)
    left, right = q.quantile_span(1e-14)
    assert (q.cdf(left), q.sf(right)) == (0.0, 0.0)
    assert set(q.sample(100, 0)) == {1.0, 2.0, 3.0}
    assert PointMass(2.0).sample(3, 0).tolist() == [2.0, 2.0, 2.0]


# --- laws known by their log-density only ---------------------------------------------------------------------------

KNOWN = [
    stats.norm(1000.0, 1e-3),
    stats.norm(0.0, 1e-9),
    stats.t(2.5),
    stats.cauchy(),
    stats.gamma(0.5),
    stats.beta(0.5, 0.5),
    stats.lognorm(3.0),
    stats.laplace(0.3, 2.0),
    stats.uniform(0.0, 3.0),
]


@pytest.mark.parametrize("known", KNOWN, ids=lambda d: d.dist.name)
def test_numerical_law_versus_scipy(known: Any) -> None:
    reference = SciPyLaw(known)
    q = Density(reference.logpdf, reference.support)
    p = np.array([1e-14, 1e-6, 0.01, 0.3, 0.8, 0.999])
    x, upper = known.ppf(p), known.isf(p)
    np.testing.assert_allclose(q.cdf(x), p, rtol=1e-9)
    np.testing.assert_allclose(q.ppf(p), x, rtol=1e-8, atol=1e-9 * known.interval(0.5)[1])
    if known.support()[1] == np.inf:  # near a finite end of 1, x itself is rounded
        np.testing.assert_allclose(q.sf(upper), p, rtol=1e-9)
    np.testing.assert_allclose(q.mean(), known.mean(), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(q.var(), known.var(), rtol=1e-6)
    faces = x[[0, 2, 3, 4]]
    np.testing.assert_allclose(q.cell_masses(faces), np.diff(p[[0, 2, 3, 4]]), rtol=1e-9)


@given(mixtures(kinds=(GaussianMixture,)))
def test_numerical_law_versus_mixture(q: Any) -> None:
    numerical = Density(q.logpdf)
    np.testing.assert_allclose(numerical.cdf(X), q.cdf(X), rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(numerical.sf(X), q.sf(X), rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(numerical.score(X), q.score(X), rtol=1e-7, atol=1e-7 / q.stds.min())
    left, right = numerical.quantile_span(1e-14)
    assert q.cdf(left) <= 1e-14 <= q.cdf(left) * 1.01
    assert q.sf(right) <= 1e-14 <= q.sf(right) * 1.01


def test_density_may_be_zero_and_may_overflow_far_outside() -> None:
    box = Density(lambda x: np.where(np.abs(x - 0.5) < 0.5, 0.0, -np.inf))
    assert math.isclose(box.cdf(0.25), 0.25)
    assert box.pdf(2.0) == 0.0
    # log cosh overflows at 711, where x² / 2 has long removed all mass
    flat = Density(lambda x: -(x**2) / 2 + np.log(np.cosh(x)) - 0.5 - 0.5 * math.log(2 * math.pi))
    assert flat.pdf(1e6) == 0.0
    np.testing.assert_allclose(flat.cdf(X), GaussianMixture([0.5, 0.5], [-1, 1], [1, 1]).cdf(X), rtol=1e-12)


def test_hidden_spike_is_missed_without_a_hint_and_found_with_it() -> None:
    q = GaussianMixture([0.3, 0.7], [0.0, 0.3331], [1.0, 1e-7])
    with pytest.raises(DensityError, match=r"0\.3"):
        Density(q.logpdf)
    assert math.isclose(Density(q.logpdf, modes=[0.3331]).mean(), q.mean(), rel_tol=1e-9)
    rho = Unnormalized(q.logpdf, support=LINE, modes=[0.3331])
    assert abs(rho.log_normalizer.value) <= rho.log_normalizer.error < 1e-6


def test_log_normalizer_versus_closed_form() -> None:
    rho = Unnormalized(lambda x: 1e4 - np.abs(x) ** 4, support=LINE)
    estimate, exact = rho.log_normalizer, 1e4 + math.log(2.0 * math.gamma(1.25))
    assert abs(estimate.value - exact) <= estimate.error + 4e-12
    assert estimate.error < 1e-9
    q = rho.normalized()
    assert math.isclose(q.expect(lambda x: x**4), 0.25, rel_tol=1e-9)
    assert math.isclose(rho.unnormalized_logpdf(1.0), 1e4 - 1.0)


# --- maps and SciPy -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [Pushforward(BIMODAL, Sinh(0.7)), Pushforward(BIMODAL, Exp())], ids=["sinh", "exp"])
def test_pushforward_versus_quadrature_of_its_density(q: Pushforward) -> None:
    numerical = Density(q.logpdf, q.support)
    x = np.array([0.05, 0.4, 1.0, 2.5, 9.0])
    np.testing.assert_allclose(numerical.cdf(x), q.cdf(x), rtol=1e-10)
    np.testing.assert_allclose(numerical.score(x), q.score(x), rtol=1e-7)
    np.testing.assert_allclose(q.cdf(q.ppf([1e-12, 0.2, 0.9])), [1e-12, 0.2, 0.9], rtol=1e-10)
    faces = [-1.0, 0.0, 1.0, 4.0]
    np.testing.assert_allclose(q.cell_masses(faces), numerical.cell_masses(faces), rtol=1e-9)
    assert math.isclose(q.mean(), numerical.mean(), rel_tol=1e-9)
    assert q.cdf(q.quantile_span(1e-14)[0]) <= 1e-14


@pytest.mark.parametrize("map_", [Sinh(0.5), Sinh(25.0), Exp()])
@given(y=st.floats(-6.0, 6.0))
def test_map_derivatives(map_: Any, y: float) -> None:
    h = 1e-4
    assert math.isclose(map_.inverse(map_.forward(y)), y, rel_tol=1e-12, abs_tol=1e-12)
    slope = (map_.forward(y + h) - map_.forward(y - h)) / (2 * h)
    assert math.isclose(map_.derivative(y), slope, rel_tol=1e-6)
    assert math.isclose(map_.log_derivative(y), math.log(map_.derivative(y)), rel_tol=1e-12, abs_tol=1e-14)
    curve = (map_.log_derivative(y + h) - map_.log_derivative(y - h)) / (2 * h)
    assert math.isclose(map_.log_derivative_dy(y), curve, rel_tol=1e-6, abs_tol=1e-8)


def test_pushforward_of_atoms_and_far_points() -> None:
    assert Pushforward(PointMass(1.0), Exp()).mean() == math.e
    q = Pushforward(Normal(0.0, 1.0), Exp())
    assert q.pdf([-1.0, 0.0]).tolist() == [0.0, 0.0]
    assert np.isnan(q.score(-1.0))
    assert Sinh(1.0).log_derivative(1000.0) == 1000.0 - math.log(2.0)


STYLES = [
    (stats.norm(1.0, 2.0), stats.Normal(mu=1.0, sigma=2.0), Normal),
    (stats.logistic(), stats.Logistic(), SciPyLaw),
    (stats.uniform(1.0, 2.0), stats.Uniform(a=1.0, b=3.0), SciPyLaw),
]


@pytest.mark.parametrize(("old", "new", "kind"), STYLES, ids=lambda d: getattr(d, "__name__", "style"))
def test_both_scipy_styles_agree(old: Any, new: Any, kind: type) -> None:
    a, b = as_law(old), as_law(new)
    assert type(a) is type(b) is kind
    p = np.array([0.01, 0.3, 0.9])
    x = a.ppf(p)
    for name in ("logpdf", "cdf", "sf", "logcdf", "logsf", "score"):
        np.testing.assert_allclose(getattr(b, name)(x), getattr(a, name)(x), rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(b.isf(p), a.isf(p), rtol=1e-10)
    np.testing.assert_allclose([b.mean(), b.var()], [a.mean(), a.var()], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(b.cell_masses(x), np.diff(p), rtol=1e-10)
    assert b.support == a.support
    assert a.quantile_span(1e-10) == pytest.approx(b.quantile_span(1e-10))
    assert b.sample(4, 1).shape == (4,)


def test_scipy_mixtures() -> None:
    gaussian = stats.Mixture([stats.Normal(mu=-1, sigma=0.5), stats.Normal(mu=2, sigma=1)], weights=[0.3, 0.7])
    assert as_law(gaussian) == GaussianMixture([0.3, 0.7], [-1, 2], [0.5, 1])
    other = as_law(stats.Mixture([stats.Normal(), stats.Logistic()], weights=[0.3, 0.7]))
    assert isinstance(other, SciPyLaw)
    np.testing.assert_allclose(other.pdf(X), 0.3 * stats.norm.pdf(X) + 0.7 * stats.logistic.pdf(X), rtol=1e-12)


# --- refusals: rule, value and fix ----------------------------------------------------------------------------------

REFUSALS: list[tuple[Callable[[], Any], str, str, str]] = [
    (lambda: GaussianMixture([0.5, 0.4], [0, 1], [1, 1]), "weights must sum to one", "0.9", "divide them by their sum"),
    (lambda: GaussianMixture([1.5, -0.5], [0, 1], [1, 1]), "must not be negative", "-0.5", "drop or correct"),
    (lambda: GaussianMixture([0.5, 0.5], [0, 1], [1, -2]), "stds must be positive", "-2", "positive width"),
    (lambda: LaplaceMixture([0.5, 0.5], [0, 1], [1, 0]), "scales must be positive", "0", "positive width"),
    (lambda: GaussianMixture([1.0], [0, 1], [1]), "one entry per component", "[1, 2, 1]", "equal length"),
    (lambda: GaussianMixture([1.0], [np.nan], [1]), "means must be finite", "nan", "drop NaN"),
    (lambda: GaussianMixture([], [], []), "weights must be finite numbers in one dimension", "array", "flatten"),
    (lambda: GaussianMixture(["a"], [0], [1]), "weights must be real", "'a'", "sequence"),
    (lambda: Normal(0, -1), "std must be a finite number above 0", "-1", "within these limits"),
    (lambda: Normal("0", 1), "mean must be a finite number", "'0'", "one number"),
    (lambda: KDE([1.0, 1.0]), "must have some spread", "1.", "bandwidth="),
    (lambda: KDE([[1.0, 2.0]]), "in one dimension", "1., 2.", "flatten"),
    (lambda: KDE([1.0, 2.0], bandwidth=0), "bandwidth must be a finite number above 0", "0", "limits"),
    (lambda: PointMass(np.inf), "x must be a finite number", "inf", "limits"),
    (lambda: PointMass(1.0).pdf(1.0), "atoms and no density", "PointMass(x=1.0)", "narrow fps.Normal"),
    (lambda: Empirical([1.0, 2.0]).score(1.0), "atoms and no density", "Empirical", "fps.KDE"),
    (lambda: BIMODAL.ppf(1.5), "probabilities within [0, 1]", "1.5", "between 0 and 1"),
    (lambda: BIMODAL.logpdf([0.0, np.nan]), "must not contain NaN", "nan", "drop the NaN"),
    (lambda: BIMODAL.cell_masses([1.0, 0.0]), "faces must be an increasing", "[1.0, 0.0]", "sort the faces"),
    (lambda: BIMODAL.quantile_span(0.7), "p must be a finite number above 0 below 0.5", "0.7", "limits"),
    (lambda: BIMODAL.sample(-1, 0), "n must be a whole number of at least 0", "-1", "int"),
    (lambda: BIMODAL.sample(1, None), "rng must be", "None", "rng=0"),
    (lambda: Density(0.5), "logpdf must be a function", "0.5", "lambda x"),  # type: ignore[arg-type]
    (lambda: Density(stats.norm.logpdf, (1, 0)), "left < right", "(1, 0)", "increasing order"),
    (lambda: Density(stats.norm.logpdf, 3), "must be a pair", "3", "support=(0, np.inf)"),  # type: ignore[arg-type]
    (lambda: Density(stats.norm.logpdf, modes=[np.nan]), "modes must be finite", "nan", "drop NaN"),
    (lambda: Density(stats.expon.logpdf, (0, np.inf), modes=[-1]), "within the support", "-1", "correct the mode"),
    (lambda: Density(lambda x: -(x**2) / 2), "must integrate to one", "2.50662827463", "fps.Unnormalized"),
    (lambda: Density(lambda x: -np.abs(x) * np.nan), "must not be NaN", "x = ", "-inf where there is no mass"),
    (lambda: Density(lambda x: -np.sqrt(x)), "must not be NaN", "x = -", "end the support"),
    (lambda: Density(lambda x: -0.5 * np.log(np.abs(x)) - x**2), "below +inf", "x = 0", "end the support"),
    (lambda: Density(lambda x: 0.0, (0, 1)), "one real number per point", "shape ()", "np.zeros_like"),
    (lambda: Density(lambda x: -(x**2) + 0j), "one real number per point", "complex128", "NumPy operations"),
    (lambda: Density(lambda x: 0.0 * x), "must be integrable", "without bound", "sign and support"),
    (lambda: Density(lambda x: x**2), "must be integrable", "without bound", "sign and support"),
    (lambda: Density(lambda x: x**4), "must be integrable", "without bound", "sign and support"),
    (lambda: Density(lambda x: -np.log1p(np.abs(x))), "must be integrable", "without bound", "sign and support"),
    (lambda: Density(lambda x: -np.log(x), (0, 1)), "must be integrable", "towards 0", "sign and support"),
    (lambda: Density(lambda x: x - np.inf), "positive somewhere", "-inf at", "modes=[x]"),
    (lambda: Density(lambda x: x[0] - x**2), "every point on its own", "two values", "sums, sorts or means"),
    (
        lambda: Density(lambda x: -(x**2) + np.sign(np.sin(1e7 * x))),
        "must converge",
        "error",
        "modes=",
    ),
    (
        lambda: Unnormalized(lambda x: -(x**2), support=LINE).pdf(0.0),
        "must be normalised",
        "Unnormalized(",
        ".normalized()",
    ),
    (lambda: Pushforward(3.0, Exp()), "base must be a law", "3", "as_law"),  # type: ignore[arg-type]
    (lambda: Pushforward(BIMODAL, np.exp), "a map must have", "exp", "add forward"),  # type: ignore[arg-type]
    (lambda: Sinh(0.0), "scale must be a finite number above 0", "0", "limits"),
    (
        lambda: as_law(np.zeros(9)),
        "q0 must be a law",
        "(9,)",
        "fps.KDE(samples) for a density, or fps.Empirical",
    ),
    (lambda: as_law([1.0, 2.0], "start"), "start must be a law", "list", "fps.Empirical(samples)"),
    (lambda: as_law(1.0), "must be a law", "1", "fps.PointMass(x)"),
    (lambda: as_law(Unnormalized(np.negative, support=(0, 1))), "must be a law", "Unnormalized", ".normalized()"),
    (lambda: as_law(stats.norm), "must be a law", "'norm'", "freeze it, for instance scipy.stats.norm(...)"),
    (lambda: as_law(stats.poisson(2.0)), "must be a law", "rv_discrete", "discrete"),
    (lambda: as_law(stats.Binomial(n=3, p=0.5)), "must be a law", "Binomial", "discrete"),
    (lambda: as_law(stats.multivariate_normal([0, 0])), "must be a law", "multivariate", "multivariate"),
    (lambda: as_law(stats.gaussian_kde([0.0, 1.0, 3.0])), "must be a law", "gaussian_kde", "fps.KDE"),
    (lambda: as_law(stats.norm([0.0, 1.0], 1.0)), "scalar parameters", "(2,)", "for each parameter"),
    (lambda: as_law(np.exp), "must be a law", "exp", "fps.Density(logpdf, support)"),
    (lambda: as_law("normal"), "must be a law", "'normal'", "fps.Normal(0, 1)"),
    (lambda: SciPyLaw(3), "must be a continuous distribution", "3", "scipy.stats.norm(0, 1)"),
]


@pytest.mark.parametrize(
    ("make", "rule", "value", "fix"), REFUSALS, ids=[f"{i}-{r[1]}" for i, r in enumerate(REFUSALS)]
)
def test_refusal_has_rule_value_and_fix(make: Callable[[], Any], rule: str, value: str, fix: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    head, _, rest = str(caught.value).partition("; got ")
    shown, _, advice = rest.rpartition(" Fix: ")
    assert rule in head
    assert value in shown
    assert fix in advice
    assert re.search(r"\.$", advice)


def test_unnormalized_refuses_every_method_of_a_law() -> None:
    rho = Unnormalized(lambda x: -(x**2), support=LINE)
    public = [name for name in vars(Law) if callable(getattr(Law, name)) and not name.startswith("_")]
    for name in public:
        with pytest.raises(InputError, match="normalized"):
            getattr(rho, name)(0.5)
