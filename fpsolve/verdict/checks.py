"""The checks of fields and marginals: each builds its claim and lets the referees judge it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_choice, check_number
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.density import as_law
from fpsolve.problem.process import Process
from fpsolve.problem.streams import Stream
from fpsolve.verdict.blindness import blind_terms
from fpsolve.verdict.candidate import Candidate, process_field
from fpsolve.verdict.comparison import Nodes
from fpsolve.verdict.decision import BUDGET, DETERMINISTIC_TOL, SAMPLING_TOL, Referee, judge
from fpsolve.verdict.field_referees import (
    FieldClaim,
    IntegratedReferee,
    PointwiseReferee,
    flux_integrals,
    score_integrals,
)
from fpsolve.verdict.marginal_referees import PropagationReferee, SampledMarginalReferee, TwoSampleReferee
from fpsolve.verdict.sources import Problem, declare, sources_of
from fpsolve.verdict.verdict import Verdict
from fpsolve.verdict.weak_referees import WeakFormReferee

Field = tuple[np.ndarray, np.ndarray]


def check_density(
    what: Any,
    candidate: Any,
    *,
    t_span: Any = None,
    times: Any = None,
    region: Any = None,
    tol: float | None = None,
    scale: float | None = None,
    budget: float = BUDGET,
    seed: int = 0,
) -> Verdict:
    """Is `candidate` the density q(x, t)?

    Parameters
    ----------
    what : Evolution or (process, q0)
        Whose density; q0 is the law at t_span[0].
    candidate : callable or Evolution
        q̂ bound by name from (x, t) and the other field names, or an Evolution.
    t_span, times : optional
        Span (needed for a pair) and the times to examine (four inside the span unless given).
    region : (float, float), optional
        Interval to examine; F, 1 - F > 1e-6 unless given.
    tol : float, optional
        Tolerance of every route; 1e-4 for deterministic routes and 3e-3 for sampling unless given.
    scale : float, optional
        Not used by densities, which are compared relative to max q.
    budget : float
        Work allowed, in cell-steps and path-steps.
    seed : int
        Of the random streams.

    Returns
    -------
    Verdict
        Discrepancy: the larger of max|Δ|/max q and total variation, at the worst time.

    Raises
    ------
    InputError
        If an argument breaks a rule.

    Examples
    --------
    >>> p, q0 = fps.processes.ou(1.0, 2**0.5), fps.Normal(0, 1)
    >>> v = fps.check_density((p, q0), lambda x, t: np.exp(-x**2 / 2) / np.sqrt(2 * np.pi), t_span=(0, 1))
    >>> v.outcome
    'confirmed'
    """
    problem = declare(what, t_span, times)
    source = candidate.pdf if isinstance(candidate, Evolution) else candidate
    field = process_field("density", source) if isinstance(candidate, Evolution) else Candidate("density", source)
    claim = FieldClaim("density", field, _field("pdf"), problem, _tolerance(tol), None, _region(region))
    referees = _pointwise(claim)
    if problem.process is not None and problem.law is not None:
        referees.append(SampledMarginalReferee.of_candidate(claim, _tolerance(tol, SAMPLING_TOL)))
    return _judge("density", claim, referees, budget, seed)


def check_score(
    what: Any,
    candidate: Any,
    *,
    t_span: Any = None,
    times: Any = None,
    region: Any = None,
    tol: float | None = None,
    scale: float | None = None,
    budget: float = BUDGET,
    seed: int = 0,
) -> Verdict:
    """Is `candidate` the score ∂x log q_t?

    Parameters
    ----------
    what : Evolution or (process, q0)
        Whose score.
    candidate : callable
        ŝ bound by name from x, t, tau and the field names f, f_dx, g2, g2_dx, g2_dxx, logq, s, s_dx, v.
    t_span, times, region, tol, budget, seed
        As in `check_density`.
    scale : float, optional
        Natural size of the field, needed where it vanishes; its rms under q_t unless given.

    Returns
    -------
    Verdict
        Discrepancy: L²(q_t) norm relative to the rms of the score, at the worst time.

    Examples
    --------
    >>> p, q0 = fps.processes.ou(1.0, 2**0.5), fps.Normal(0, 1)
    >>> fps.check_score((p, q0), lambda x, t: x, t_span=(0, 1)).outcome
    'refuted'
    """
    problem = declare(what, t_span, times)
    claim = _claim("score", candidate, _field("score"), problem, tol, scale, region)
    referees = _pointwise(claim)
    if problem.process is None:
        referees += [IntegratedReferee(claim, s, score_integrals) for s in sources_of(problem)]
    referees += _weak(claim, tol, "score")
    return _judge("score", claim, referees, budget, seed)


def check_velocity(
    what: Any,
    candidate: Any,
    *,
    t_span: Any = None,
    times: Any = None,
    region: Any = None,
    tol: float | None = None,
    scale: float | None = None,
    budget: float = BUDGET,
    seed: int = 0,
) -> Verdict:
    """Is `candidate` the velocity v = -∂t F/q, the drift of the flow with marginals q_t?

    The truth is taken from the change of the distribution function in time, never from f - ½ ∂x g² - ½ g² s.

    Parameters
    ----------
    what : Evolution or (process, q0)
        Whose velocity.
    candidate : callable or ODE
        v̂ bound by name, as in `check_score`, or a flow.
    t_span, times, region, tol, scale, budget, seed
        As in `check_score`.

    Examples
    --------
    >>> p, q0 = fps.processes.sinh_ou(length=1.0), fps.Pushforward(fps.Normal(0.5, 0.4), fps.maps.Sinh(1.0))
    >>> fps.check_velocity((p, q0), lambda f, g2, g2_dx, s: f - g2_dx / 2 - g2 * s / 2, t_span=(0, 1)).outcome
    'confirmed'
    """
    problem = declare(what, t_span, times)
    if isinstance(candidate, Process):
        flow = _as_ode(candidate)
        field = process_field("velocity", flow.drift)
    else:
        field = Candidate("velocity", candidate)
    claim = FieldClaim("velocity", field, _field("velocity"), problem, _tolerance(tol), _scale(scale), _region(region))
    referees = _pointwise(claim)
    if problem.process is None:
        referees += [IntegratedReferee(claim, s, flux_integrals) for s in sources_of(problem)]
    referees += _weak(claim, tol, "velocity")
    return _judge("velocity", claim, referees, budget, seed)


def check_reverse(
    what: Any,
    candidate: Any,
    *,
    clock: str = "reversed",
    law: str = "path",
    t_span: Any = None,
    times: Any = None,
    region: Any = None,
    tol: float | None = None,
    scale: float | None = None,
    budget: float = BUDGET,
    seed: int = 0,
) -> Verdict:
    """Is `candidate` the drift (or the process) of the time reversal?

    Parameters
    ----------
    what : Evolution or (process, q0)
        What is reversed.
    candidate : callable or SDE
        A drift, bound by name; `t` is the forward time at which the fields are taken and `tau` = t1 - t. Or a process,
        whose coefficients are in its own clock.
    clock : {"reversed", "forward"}
        "reversed": dY = b dτ + g dB with τ = t1 - t. "forward": dX = b dt + g dW̄ with t running backward (Winther et
        al. eq. 15), so that the drift in the reversed clock is -b.
    law : {"path", "marginals"}
        "path": the reversed path law, so the noise must be g. "marginals": the noise may be any.
    t_span, times, region, tol, scale, budget, seed
        As in `check_score`; times are forward times.

    Notes
    -----
    The referee is the flux: the reversed process must carry -J, that is b q - ½ ∂x(γ² q) = ∂t F, with F from each
    engine. With γ = g its only solution is Anderson's drift -f + ∂x g² + g² s.

    Examples
    --------
    >>> p, q0 = fps.processes.sinh_ou(length=1.0), fps.Pushforward(fps.Normal(0.5, 0.4), fps.maps.Sinh(1.0))
    >>> fps.check_reverse((p, q0), lambda f, g2, g2_dx, s: -f + g2_dx / 2 + g2 * s, t_span=(0, 1)).outcome
    'refuted'
    """
    problem = declare(what, t_span, times)
    if problem.process is None:
        raise InputError("a reversal needs the process, not only its marginals", what, "pass the pair (process, q0)")
    check_choice("law", law, ("path", "marginals"))
    sign = -1.0 if check_choice("clock", clock, ("reversed", "forward")) == "forward" else 1.0
    forward, t1 = problem.process.to_ito(), problem.t_span[1]
    noise: Process = forward
    if isinstance(candidate, Process):
        reverse = candidate.to_ito()
        own_clock: Callable[[float], float] = (lambda t: t) if sign < 0 else (lambda t: t1 - t)
        field = process_field("reverse drift", lambda x, t: reverse.drift(x, own_clock(t)))
        noise = _in_clock(reverse, own_clock)
    else:
        field = Candidate("reverse drift", candidate)
    # a drift written in the forward clock is minus the drift in the reversed clock
    claim = FieldClaim(
        "reverse drift",
        field,
        _driven_flux(noise, orientation=-1.0, sign=sign),
        problem,
        _tolerance(tol),
        _scale(scale),
        _region(region),
        orientation=-sign,
    )
    referees = _pointwise(claim)
    if noise is not forward and law == "path":
        noise_claim = FieldClaim(
            "noise g²",
            process_field("noise g²", noise.diffusion_squared),
            lambda q, nodes: (forward.diffusion_squared(nodes.x, nodes.t), np.zeros_like(nodes.x)),
            problem,
            _tolerance(tol),
            _scale(scale),
            _region(region),
        )
        refuting = _judge("noise of the reversal", noise_claim, _pointwise(noise_claim), budget, seed)
        if not refuting.confirmed:
            return refuting
    if noise is forward:
        referees += _weak(claim, tol, "reverse drift", sign)
    return _judge("reverse drift" if law == "path" else "reverse drift (marginals)", claim, referees, budget, seed)


def check_drift(
    q: Any,
    candidate_process: Any,
    *,
    t_span: Any = None,
    times: Any = None,
    region: Any = None,
    tol: float | None = None,
    scale: float | None = None,
    budget: float = BUDGET,
    seed: int = 0,
) -> Verdict:
    """Does this process have the marginals q?

    First the flux defect is examined without solving anything: f̂ q - ½ ∂x(ĝ² q) must equal -∂t F. Then the
    candidate is propagated from q at the start of the span and compared with q.

    Parameters
    ----------
    q : Evolution or (process, q0)
        The marginals.
    candidate_process : SDE or ODE
        The process under examination.
    t_span, times, region, tol, scale, budget, seed
        As in `check_score`; the scale is that of the drift.

    Examples
    --------
    >>> q = fps.path(lambda x, t: -(x - t)**2 / 2 - 0.5 * np.log(2 * np.pi), t_span=(0, 1))
    >>> fps.check_drift(q, fps.ODE(1.0)).outcome, fps.check_drift(q, fps.ODE(0.9)).outcome
    ('confirmed', 'refuted')
    """
    problem = declare(q, t_span, times)
    return _marginals_of("drift for given marginals", problem, candidate_process, tol, scale, region, budget, seed)


def check_same_marginals(
    process_a: Any,
    process_b: Any,
    q0: Any,
    t_span: Any,
    *,
    times: Any = None,
    region: Any = None,
    tol: float | None = None,
    scale: float | None = None,
    budget: float = BUDGET,
    seed: int = 0,
) -> Verdict:
    """Do two processes that start from the same law have the same marginals?

    Parameters
    ----------
    process_a, process_b : SDE or ODE
        The two; the marginals of the first are the reference.
    q0 : density
        Law of both at t_span[0].
    t_span, times, region, tol, scale, budget, seed
        As in `check_drift`.

    Examples
    --------
    >>> p, q0 = fps.processes.ou(1.0, 2**0.5), fps.Normal(0.5, 0.6)
    >>> q = fps.exact_evolution(p, q0, (0, 1))
    >>> fps.check_same_marginals(p, p.probability_flow(q), q0, (0, 1)).outcome
    'confirmed'
    """
    for process in (process_a, process_b):
        _as_process(process)
    problem = declare((process_a, as_law(q0, "q0")), t_span, times)
    return _marginals_of("same marginals", problem, process_b, tol, scale, region, budget, seed)


def _marginals_of(
    title: str, problem: Problem, process: Any, tol: Any, scale: Any, region: Any, budget: float, seed: int
) -> Verdict:
    candidate = _as_process(process).to_ito()
    claim = FieldClaim(
        "drift",
        process_field("drift", candidate.drift_coefficient.raw),
        _driven_flux(candidate, orientation=1.0, sign=1.0),
        problem,
        _tolerance(tol),
        _scale(scale),
        _region(region),
    )
    referees = _pointwise(claim)
    sources = sources_of(problem)
    referees += [PropagationReferee(candidate, source, claim) for source in sources[:1]]
    sampling = _tolerance(tol, SAMPLING_TOL)
    if problem.given is None and problem.process is not None and problem.law is not None:
        referees.append(TwoSampleReferee(problem, problem.process, candidate, sampling))
    else:
        referees += [SampledMarginalReferee.of_process(problem, candidate, source, sampling) for source in sources[:1]]
    return _judge(title, claim, referees, budget, seed)


def _field(name: str) -> Callable[[Evolution, Nodes], Field]:
    return lambda q, nodes: q.with_error(name, nodes.x, nodes.t)


def _driven_flux(noise: Process, *, orientation: float, sign: float) -> Callable[[Evolution, Nodes], Field]:
    """Drift that must go with this noise to carry `orientation` times the flux J: b = ±J/q + ½ ∂x γ² + ½ γ² s."""

    def truth(q: Evolution, nodes: Nodes) -> Field:
        x, t = nodes.x, nodes.t
        velocity, velocity_error = q.with_error("velocity", x, t)
        if noise.is_ode:
            return sign * orientation * velocity, velocity_error
        score, score_error = q.with_error("score", x, t)
        g2 = noise.diffusion_squared(x, t)
        drift = orientation * velocity + 0.5 * noise.diffusion_squared_dx(x, t) + 0.5 * g2 * score
        return sign * drift, velocity_error + 0.5 * g2 * score_error + 1e-11 * np.abs(drift)

    return truth


class _in_clock(Process):
    """Noise of a process read at another time."""

    def __init__(self, process: Process, clock: Callable[[float], float]) -> None:
        object.__setattr__(self, "_inner", process)
        object.__setattr__(self, "_clock", clock)
        object.__setattr__(self, "diffusion_coefficient", process.diffusion_coefficient)

    def diffusion_squared(self, x: Any, t: float) -> np.ndarray:
        """g² at the other time."""
        return self._inner.diffusion_squared(x, self._clock(t))  # type: ignore[attr-defined]

    def diffusion_squared_dx(self, x: Any, t: float, order: int = 1) -> np.ndarray:
        """∂x g² at the other time."""
        return self._inner.diffusion_squared_dx(x, self._clock(t), order)  # type: ignore[attr-defined]


def _claim(quantity: str, candidate: Any, truth: Any, problem: Problem, tol: Any, scale: Any, region: Any) -> FieldClaim:
    field = Candidate(quantity, candidate)
    return FieldClaim(quantity, field, truth, problem, _tolerance(tol), _scale(scale), _region(region))


def _pointwise(claim: FieldClaim) -> list[Referee]:
    return [PointwiseReferee(claim, source) for source in sources_of(claim.problem)]


def _weak(claim: FieldClaim, tol: float | None, kind: str, sign: float = 1.0) -> list[Referee]:
    if claim.problem.process is None or claim.problem.law is None:
        return []
    return [WeakFormReferee(claim, kind, sign, _tolerance(tol, SAMPLING_TOL))]


def _judge(title: str, claim: FieldClaim, referees: Sequence[Referee], budget: float, seed: int) -> Verdict:
    problem = claim.problem
    sources = sources_of(problem)
    seen = sources[0].evolution(1) if sources else None
    blind = blind_terms(problem.process, seen, problem.t_span, problem.times)
    where = "F, 1-F > 1e-6" if claim.region is None else f"{claim.region[0]:g} < x < {claim.region[1]:g}"
    scope = f"{where} at t = {', '.join(f'{t:.3g}' for t in problem.times)}; outside not examined"
    return judge(title, referees, Stream(seed), budget=check_number("budget", budget, above=0), blind_to=blind, scope=scope)


def _as_process(value: Any) -> Process:
    if not isinstance(value, Process):
        raise InputError("the candidate must be a process", value, "wrap it: fps.SDE(drift, diffusion) or fps.ODE(velocity)")
    return value


def _as_ode(value: Process) -> Process:
    if not value.is_ode:
        raise InputError("a velocity has no noise", value, "pass an ODE, or use fps.check_drift for a process")
    return value


def _tolerance(tol: float | None, default: float = DETERMINISTIC_TOL) -> float:
    return default if tol is None else check_number("tol", tol, above=0.0)


def _scale(scale: float | None) -> float | None:
    return None if scale is None else check_number("scale", scale, above=0.0)


def _region(region: Any) -> tuple[float, float] | None:
    if region is None:
        return None
    left, right = (check_number("region", end) for end in region)
    if left >= right:
        raise InputError("region must be a pair (left, right) with left < right", region, "swap the ends")
    return left, right
