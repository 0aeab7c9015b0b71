"""What a scheme does to the law, without sampling: means of its chain by quadrature over the noise of each step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline, make_interp_spline
from scipy.sparse import csr_array

from fpsolve.grids.fokker_planck import solve_fokker_planck
from fpsolve.particles.schemes import Scheme
from fpsolve.paths.closed_forms import find_closed_form
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.law import Law
from fpsolve.problem.process import Process

Test = Callable[[np.ndarray], np.ndarray]
_KNOTS, _DEGREE = 900, 5
_NOISES, _AREAS = 20, 8
_FAR = 1e-12  # mass of the truth beyond the knots on each side, which then are widened
_RTOL = 1e-9


@dataclass(frozen=True)
class Truth:
    """E φ at the end of the span with its error, sizes of φ, where the law comes from and where it lies."""

    means: np.ndarray
    errors: np.ndarray
    sizes: np.ndarray
    route: str
    left: float
    right: float
    centre: float
    width: float


def follows_increments(scheme: Scheme) -> bool:
    """Whether a step is a function of x, t, h, dw and dz alone."""
    return "uniform" not in inspect.signature(scheme.step).parameters


def true_means(process: Process, law: Law, span: tuple[float, float], tests: Sequence[Test]) -> Truth:
    """Means of the process itself: the closed form, else the grid."""
    ito = process.to_ito()
    exact = find_closed_form(ito, law, span)
    if exact is not None:
        return _truth_of(exact, exact, law, 1e-12, "closed form", tests)
    fine, loose = (
        solve_fokker_planck(ito, law, span, t_eval=np.array(span[1:]), rtol=rtol) for rtol in (_RTOL, 100 * _RTOL)
    )
    return _truth_of(fine, loose, law, _RTOL, "grid", tests)


def _truth_of(fine: Evolution, loose: Evolution, law: Law, rounding: float, route: str, tests: Sequence[Test]) -> Truth:
    t1 = fine.t_span[1]
    means, others, squares = (
        np.array([q.expect(fn, t1) for fn in fns])
        for q, fns in ((fine, tests), (loose, tests), (fine, [lambda x, fn=fn: fn(x) ** 2 for fn in tests]))
    )
    sizes = np.sqrt(np.maximum(squares - means**2, 1e-300))
    spans = [law.quantile_span(_FAR), fine.span(t1, _FAR)]
    low, centre, high = (float(x) for x in fine.ppf(np.array([0.16, 0.5, 0.84]), t1))
    errors = np.abs(means - others) + rounding * (sizes + np.abs(means))
    left, right = min(a for a, _ in spans), max(b for _, b in spans)
    return Truth(means, errors, sizes, route, left, right, centre, 0.5 * (high - low))


@dataclass(frozen=True)
class Knots:
    """Points x = centre + 2 width sinh(y), equal in y, dense where the law is."""

    centre: float
    width: float
    y: np.ndarray

    @classmethod
    def around(cls, truth: Truth, n: int, widen: float) -> Knots:
        """Knots over the truth's span, widened by this share of its length on each side."""
        room, scale = widen * (truth.right - truth.left), 2.0 * truth.width
        ends = (np.array([truth.left - room, truth.right + room]) - truth.centre) / scale
        first, last = np.arcsinh(ends)
        return cls(truth.centre, scale, np.linspace(first, last, n))

    @property
    def x(self) -> np.ndarray:
        """Places."""
        return self.centre + self.width * np.sinh(self.y)

    def inverse(self, x: np.ndarray) -> np.ndarray:
        """y of places; what lies beyond the last knot, or is not a number, is put there."""
        y = np.arcsinh((np.nan_to_num(x, nan=np.inf) - self.centre) / self.width)
        return np.clip(y, self.y[0], self.y[-1])


def chain_means(
    scheme: Scheme, process: Process, law: Law, span: tuple[float, float], tests: Sequence[Test], n_steps: int,
    knots: Knots,
) -> np.ndarray:  # fmt: skip
    """E φ after `n_steps` equal steps from `law`, one for each test function."""
    h = (span[1] - span[0]) / n_steps
    values = np.stack([fn(knots.x) for fn in tests], axis=1)
    same = _ignores_time(scheme, process, span, h, knots)
    transfer = _transfer(scheme, process, span[0], h, knots) if same else None
    for k in reversed(range(n_steps)):
        step = _transfer(scheme, process, span[0] + k * h, h, knots) if transfer is None else transfer
        values = step @ make_interp_spline(knots.y, values, k=_DEGREE).c
    carried = make_interp_spline(knots.y, values, k=_DEGREE)
    found = [law.expect(lambda x, j=j: carried(knots.inverse(x))[..., j]) for j in range(len(tests))]  # type: ignore[misc]
    return np.array(found)


def _noise(h: float, integral: bool) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Nodes of ΔW, of ∫ (W_s - W_t) ds where wanted, and weights."""
    z, weights = np.polynomial.hermite_e.hermegauss(_NOISES)
    dw, weights = np.sqrt(h) * z, weights / weights.sum()
    if not integral:
        return dw, None, weights
    area, shares = np.polynomial.hermite_e.hermegauss(_AREAS)
    dz = 0.5 * h * dw[:, None] + np.sqrt(h**3 / 12.0) * area
    return np.repeat(dw, _AREAS), dz.ravel(), np.outer(weights, shares / shares.sum()).ravel()


def _moved(scheme: Scheme, process: Process, t: float, h: float, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where every node of the noise takes every point (points, nodes), and the weights of the nodes."""
    dw, dz, weights = _noise(h, scheme.integral)
    shape = (x.size, dw.size)
    given = [np.broadcast_to(part, shape).ravel() for part in (x[:, None], dw)]
    areas = None if dz is None else np.broadcast_to(dz, shape).ravel()
    with np.errstate(all="ignore"):  # far out an overflow has no weight
        return scheme.step(given[0], t, h, given[1], process, areas).reshape(shape), weights


def _ignores_time(scheme: Scheme, process: Process, span: tuple[float, float], h: float, knots: Knots) -> bool:
    if process.drift_coefficient.uses_t or process.diffusion_coefficient.uses_t:
        return False
    few = knots.x[:: max(1, knots.y.size // 16)]
    now, later = (_moved(scheme, process, t, h, few)[0] for t in (span[0], 0.3 * span[0] + 0.7 * span[1]))
    return bool(np.array_equal(now, later, equal_nan=True))


def _transfer(scheme: Scheme, process: Process, t: float, h: float, knots: Knots) -> csr_array:
    """Matrix from spline coefficients of a function after a step to its mean before it, at the knots."""
    places, weights = _moved(scheme, process, t, h, knots.x)
    basis = make_interp_spline(knots.y, knots.y, k=_DEGREE).t
    design = BSpline.design_matrix(knots.inverse(places).ravel(), basis, _DEGREE)
    n, m = places.shape
    summed = csr_array((np.tile(weights, n), np.arange(n * m), np.arange(0, n * m + 1, m)), shape=(n, n * m))
    return summed @ design


def weak_errors(
    scheme: Scheme, process: Process, law: Law, span: tuple[float, float], tests: Sequence[Test], steps: Sequence[int],
    truth: Truth,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Norms of the biases over the test functions, in units of their spread, and what is not known of them."""
    found, floors = [], []
    for n in steps:
        fine, rough = (
            chain_means(scheme, process, law, span, tests, n, Knots.around(truth, knots, widen))
            for knots, widen in ((_KNOTS, 0.5), (2 * _KNOTS // 3, 0.6))
        )
        found.append(np.linalg.norm((fine - truth.means) / truth.sizes))
        floors.append(np.linalg.norm((np.abs(fine - rough) + truth.errors) / truth.sizes))
    return np.array(found), np.array(floors)
