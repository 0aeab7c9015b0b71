"""check_order: does a scheme converge as fast as it says?"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fpsolve.errors import CoefficientError, InputError, check_choice, check_executor, check_number, check_t_span
from fpsolve.particles.flow import flow_map
from fpsolve.particles.schemes import Scheme, as_scheme
from fpsolve.paths.closed_forms import LinearCoefficients
from fpsolve.problem.density import as_law
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.law import Law
from fpsolve.problem.mixtures import PointMass
from fpsolve.problem.process import ODE, Process
from fpsolve.problem.streams import Stream
from fpsolve.verdict.blindness import blind_terms
from fpsolve.verdict.chains import Test, follows_increments, true_means, weak_errors
from fpsolve.verdict.coupled import CommonNoise, reference_for
from fpsolve.verdict.decision import BUDGET, UNDECIDED, Measurement, Referee, examine
from fpsolve.verdict.framing import as_process, tolerance_of
from fpsolve.verdict.slopes import Levels, fitted
from fpsolve.verdict.sources import CHARACTERISTICS, PARTICLES
from fpsolve.verdict.verdict import INCONCLUSIVE, Verdict

STRONG, WEAK, DETERMINISTIC = "strong", "weak", "deterministic"
ORDER_TOL = 0.2
EXACT_TOL = 1e-7
QUADRATURE = "quadrature"
_PATHS_FIRST, _WEAK_PATHS_FIRST = 2**12, 2**15
_POINTS = 9
_UNKNOWN = 10.0  # error of an order of which nothing is known
DEFAULT_TESTS: tuple[Test, ...] = (lambda x: x, lambda x: x**2, np.sin)


@dataclass(frozen=True)
class OrderClaim:
    """A scheme on a process from a law over a span, and the order that it is said to have."""

    scheme: Scheme
    process: Process
    law: Law
    span: tuple[float, float]
    order: float
    at_least: bool
    tests: tuple[Test, ...]
    tolerance: float
    executor: Executor | None = None


class OrderReferee(Referee):
    """Fits the slope of errors at falling steps; each route measures the errors in its own way."""

    quantity = "order"
    unit = 0.5  # orders are multiples of it

    def __init__(self, claim: OrderClaim) -> None:
        self.claim = claim
        self.tolerance = EXACT_TOL if math.isinf(claim.order) else claim.tolerance

    @abstractmethod
    def levels(self, look: int, stream: Stream) -> Levels:
        """Measure the errors."""

    def steps(self, first: int, last: int) -> list[int]:
        """Numbers of steps 2**first ... 2**last."""
        return [2**k for k in range(first, last + 1)]

    def measure(self, look: int, stream: Stream, alpha: float) -> Measurement:
        """Distance of the fitted order from the one that is claimed."""
        levels = self.levels(look, stream)
        return _exactness(levels) if math.isinf(self.claim.order) else self._distance(levels, alpha)

    def _distance(self, levels: Levels, alpha: float) -> Measurement:
        slope = fitted(levels, alpha)
        if slope is None:
            said = ", ".join(
                f"{e:.1e} ± {u:.0e} at h={h:.3g}"
                for h, e, u in zip(levels.h, levels.error, levels.uncertainty, strict=True)
            )
            nothing = Estimate(0.0, error=_UNKNOWN, route=self.route)
            return Measurement(nothing, levels.work, reason=f"fewer than three levels are above the floor: {said}")
        measured = Estimate(slope.value, error=slope.error, std_error=slope.std_error, route=self.route)
        half = measured.joint_error(alpha)
        faster = slope.value - self.claim.order
        used, error = slope.used, slope.error
        said = f"order {slope.value:.2f} ± {half:.2f} from h = {used.h[0]:.3g} to {used.h[-1]:.3g}, errors"
        said += f" {used.error[0]:.1e} to {used.error[-1]:.1e}"
        if self.claim.at_least and faster > self.tolerance:
            said += "; faster here than declared for processes in general"
        elif faster > self.tolerance and not self._settled(slope.value, half):
            # a small term of the claimed order may still come
            error, said = max(error, faster), said + "; faster than claimed, but not at an order of its own yet"
        distance = 0.0 if self.claim.at_least and faster > 0 else abs(faster)
        found = Estimate(distance, error=error, std_error=slope.std_error, route=self.route)
        return Measurement(found, levels.work, reason=said + (f"; {slope.note}" if slope.note else ""))

    def _settled(self, value: float, half: float) -> bool:
        """Whether the slope is that of an order that a scheme can have."""
        return abs(value - self.unit * round(value / self.unit)) + half <= self.tolerance


def _exactness(levels: Levels) -> Measurement:
    """Largest error over the levels, of a scheme that is said to be exact."""
    worst = int(np.argmax(levels.error))
    value = Estimate(
        levels.error[worst], error=levels.floor[worst], std_error=levels.std_error[worst], route="largest error"
    )
    return Measurement(value, levels.work, reason=f"largest error {levels.error[worst]:.1e} at h={levels.h[worst]:.3g}")


class CoupledReferee(OrderReferee):
    """E|X_h - X| on the paths themselves, or the bias of test functions on common noise."""

    engine = PARTICLES

    def __init__(self, claim: OrderClaim, kind: str) -> None:
        super().__init__(claim)
        self.kind, self.reference = kind, reference_for(claim.scheme, claim.process, claim.law)
        if kind == WEAK:  # its bias is small long before its paths are close
            self.reference = replace(self.reference, finer=2)
        self.route = f"coupled paths against {self.reference.route}"

    def levels(self, look: int, stream: Stream) -> Levels:
        """Run the scheme at falling steps on one Brownian path for each look."""
        c = self.claim
        first = _PATHS_FIRST if self.kind == STRONG else _WEAK_PATHS_FIRST
        steps = self.steps(2, 7 + look) if self.kind == STRONG else self.steps(2, 6)
        noise = CommonNoise(c.span, first * 4 ** (look - 1), stream, c.executor)
        x = np.array([noise.ends(c.scheme, c.process, c.law, n) for n in steps])
        x[np.isnan(x).any(axis=1)] = np.nan  # a level that lost a path is left out
        truth, rough = noise.truth(self.reference, max(steps))
        h = (c.span[1] - c.span[0]) / np.array(steps)
        if self.kind == STRONG:
            return _sampled(h, np.abs(x - truth)[..., None], float(np.abs(truth - rough).mean()), noise.work)
        sizes = [fn(truth).std() for fn in c.tests]
        gaps, unknown = (
            np.stack([(fn(y) - fn(truth)) / size for fn, size in zip(c.tests, sizes, strict=True)], axis=-1)
            for y in (x, rough)
        )
        return _sampled(h, gaps, float(np.linalg.norm(unknown.mean(axis=0))), noise.work)


def _sampled(h: np.ndarray, values: np.ndarray, floor: float, work: float) -> Levels:
    """Norms of the means of values (levels, paths, functions), with their covariance to first order."""
    with np.errstate(invalid="ignore"):
        means = values.mean(axis=1)
        norms = np.linalg.norm(means, axis=1)
        along = (values * (means / norms[:, None])[:, None, :]).sum(axis=-1)
        covariance = np.atleast_2d(np.cov(along)) / values.shape[1]
    return Levels(h, norms, np.full(h.size, floor), covariance, work)


class ChainReferee(OrderReferee):
    """Bias of test functions, the mean of the chain by quadrature over the noise of each step."""

    engine = QUADRATURE

    def __init__(self, claim: OrderClaim) -> None:
        super().__init__(claim)
        self.truth = true_means(claim.process, claim.law, claim.span, claim.tests)
        self.route = f"chain by quadrature against the {self.truth.route}"

    def levels(self, look: int, stream: Stream) -> Levels:
        """Carry the test functions back through the steps."""
        c, steps = self.claim, self.steps(2, 5 + look)
        error, floor = weak_errors(c.scheme, c.process, c.law, c.span, c.tests, steps, self.truth)
        return Levels.without_noise((c.span[1] - c.span[0]) / np.array(steps), error, floor, 1e5 * sum(steps))


class FlowReferee(OrderReferee):
    """Distance from the trajectory, with noise off."""

    engine, route, looks = CHARACTERISTICS, "steps without noise against Dormand-Prince 8(5,3)", 2
    unit = 1.0

    def levels(self, look: int, stream: Stream) -> Levels:
        """Step from a few points."""
        c, steps = self.claim, self.steps(0, 7 + 2 * look)
        x = np.full(1, c.law.mean()) if isinstance(c.law, PointMass) else c.law.ppf(np.linspace(0.1, 0.9, _POINTS))
        flow = ODE(c.process.drift_coefficient.resolved(), support=c.process.support)
        found = flow_map(flow, x, c.span, rtol=1e-12)
        ends = np.array([_without_noise(c.scheme, flow, x, c.span, n) for n in steps])
        # what the flow reports is the error of a solve at a 30 times looser tolerance
        rounding = 1e-15 * np.sqrt(steps)[:, None] * (1.0 + np.abs(found.x)) + 0.1 * found.error
        with np.errstate(invalid="ignore", over="ignore"):  # a large step may diverge: that level is left out
            error = np.linalg.norm(ends - found.x, axis=1)
        h = (c.span[1] - c.span[0]) / np.array(steps)
        return Levels.without_noise(h, error, np.linalg.norm(rounding, axis=1), float(x.size * sum(steps)))


def _without_noise(scheme: Scheme, flow: Process, x: np.ndarray, span: tuple[float, float], n_steps: int) -> np.ndarray:
    h, nothing = (span[1] - span[0]) / n_steps, np.zeros_like(x)
    with np.errstate(all="ignore"):
        for k in range(n_steps):
            try:
                x = scheme.step(x, span[0] + k * h, h, nothing, flow, nothing if scheme.integral else None)
            except CoefficientError:  # at a stage that has diverged: the flow itself met no such point
                return np.full_like(x, np.nan)
    return x


def check_order(
    scheme: Any,
    process: Any,
    *,
    kind: str = STRONG,
    order: float | None = None,
    start: Any = None,
    tests: Sequence[Callable[..., Any]] | None = None,
    t_span: Any = (0.0, 1.0),
    tol: float | None = None,
    budget: float = BUDGET,
    seed: int = 0,
    executor: Executor | None = None,
) -> Verdict:
    """Does a scheme converge with the order that it declares?

    Parameters
    ----------
    scheme : str or Scheme
        A name in `SCHEMES`, or one declared with `@fps.scheme`.
    process : SDE or ODE
        On the line, or with natural ends; the scheme must support its noise and calculus.
    kind : {"strong", "weak", "deterministic"}
        "strong": E|X_h - X| at the end of the span. "weak": |E φ(X_h) - E φ(X)|, in units of the spread of φ and as a
        norm over the test functions. "deterministic": with the noise off (what an ODE gets for every kind).
    order : float, optional
        Order that is claimed; what the scheme declares unless given.
    start : density, optional
        Law at t_span[0]; PointMass(1.0) unless given.
    tests : sequence of callable, optional
        Smooth φ(x) for the weak order; x, x² and sin x unless given.
    t_span : (float, float)
        Span; its end is where errors are measured.
    tol : float, optional
        Tolerance for the order; 0.2 unless given, so that the neighbouring order, 0.5 away, is excluded by whatever
        confirms. For a scheme that is said to be exact (order inf) the tolerance for its error is 1e-7.
    budget : float
        Work allowed, in path-steps.
    seed : int
        Of the random streams.
    executor : concurrent.futures.Executor, optional
        Moves the paths of sampled orders, with the same verdict; threads unless given.

    Returns
    -------
    Verdict
        d = |fitted order - order|; confirmed iff d + E ≤ tol, refuted iff d - E > tol, where a slope above the claim
        must be that of another order (a small term of low order may still come). E has the confidence interval of the
        slope, what the error of the reference, of quadrature and of rounding may change, and curvature. A scheme may
        be faster than it declares where the process is simpler than those it is made for: additive noise for a scheme
        for any noise, and a linear drift with additive noise.

    Raises
    ------
    InputError
        If an argument breaks a rule, the scheme declares no such order, or it does not support the process.

    Notes
    -----
    Strong: all steps on one `BrownianPath`, against the exact solution where the process is the image of a linear one,
    else against a scheme of higher order on the same path. Weak: φ is carried back through the chain by quadrature over
    the noise of each step, so that nothing is sampled; the truth is the closed form, else the grid. A scheme that uses
    further random numbers (MALA) is sampled, on common noise. Kloeden and Platen (1992), sections 9.6, 9.7.

    Examples
    --------
    >>> p = fps.processes.gbm(0.7, 0.5)
    >>> fps.check_order("milstein", p, kind="strong").outcome
    'confirmed'
    >>> fps.check_order("euler-maruyama", p, kind="strong", order=1.0).outcome
    'refuted'
    """
    check_choice("kind", kind, (STRONG, WEAK, DETERMINISTIC))
    claim = _claimed(as_scheme(scheme), as_process(process), kind, order, start, tests, t_span, tol)
    claim = replace(claim, executor=check_executor(executor))
    referee = _referee(claim, kind)
    stream = Stream(seed).child(f"{kind} order of {claim.scheme.name}")
    finding = examine(referee, stream, check_number("budget", budget, above=0.0))
    outcome = INCONCLUSIVE if finding.decision == UNDECIDED else finding.decision
    title = f"{kind} order {claim.order:g} of {claim.scheme.name}"
    note = ""
    if outcome == INCONCLUSIVE:
        reach = float(finding.discrepancy.value) + finding.joint_error
        note = f"the budget is spent; tol={reach:.1e} could have been decided"
    blind = blind_terms(claim.process, None, claim.span, np.array(claim.span[1:]))
    scope = f"errors at t = {claim.span[1]:g}, start {claim.law}"
    return Verdict(title, outcome, (finding,), finding.work, budget, blind, scope, note)


def _claimed(
    scheme: Scheme, process: Process, kind: str, order: Any, start: Any, tests: Any, t_span: Any, tol: Any
) -> OrderClaim:
    if set(process.boundary) != {"natural"}:
        raise InputError("orders are defined where nothing happens at the ends", process.boundary, "use natural ends")
    if kind != DETERMINISTIC:
        scheme.check_supports(process)
    off = kind == DETERMINISTIC or process.is_ode
    declared = scheme.ode_order if off else scheme.strong_order if kind == STRONG else scheme.weak_order
    if order is None and declared is None:
        raise InputError(
            f"scheme {scheme.name!r} declares no strong order", declared, "check its weak order, or give order="
        )
    span = check_t_span(t_span)
    additive = not off and not process.diffusion_coefficient.uses_x
    narrower = additive and (scheme.noise == "general" or not LinearCoefficients(process).why_not_linear(span))
    law = as_law(PointMass(1.0) if start is None else start, "start")
    given = DEFAULT_TESTS if tests is None else tuple(tests)
    if not given or not all(callable(fn) for fn in given):
        raise InputError("tests must be functions of x", tests, "write for instance tests=[lambda x: x]")
    return OrderClaim(
        scheme, process, law, span,
        float(declared) if order is None else check_number("order", order, above=0.0),  # type: ignore[arg-type]
        order is None and narrower, given, tolerance_of(tol, ORDER_TOL),
    )  # fmt: skip


def _referee(claim: OrderClaim, kind: str) -> OrderReferee:
    if kind == DETERMINISTIC or claim.process.is_ode:
        return FlowReferee(claim)
    if kind == WEAK and follows_increments(claim.scheme):
        return ChainReferee(claim)
    return CoupledReferee(claim, kind)
