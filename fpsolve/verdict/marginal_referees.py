"""Referees of marginals: propagate on the grid, or simulate and compare distribution functions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fpsolve.errors import BlowUp, CoefficientError, DensityError, MassEscape
from fpsolve.grids.fokker_planck import solve_fokker_planck
from fpsolve.particles.ensemble import Ensemble
from fpsolve.particles.flow import flow_map
from fpsolve.particles.simulate import simulate
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.estimate import Estimate, normal_quantile
from fpsolve.problem.law import Law
from fpsolve.problem.process import Process
from fpsolve.problem.streams import Stream
from fpsolve.verdict.candidate import Ingredients
from fpsolve.verdict.comparison import compare_density, region_nodes
from fpsolve.verdict.decision import Measurement, Referee
from fpsolve.verdict.field_referees import FieldClaim, summarised
from fpsolve.verdict.sources import (
    CHARACTERISTICS,
    GRID,
    PARTICLES,
    Problem,
    Source,
    grid_rtol,
    grid_scheme,
    sources_of,
)

CHUNK, CHUNKS_FIRST, STEPS = 2**17, 5, 150
_POINTS = 1500
# a step through a callback into Python costs about eight compiled ones
PYTHON_WEIGHT = 8.0


class PropagationReferee(Referee):
    """Propagates a candidate process on the grid from the law at the start and compares densities with q."""

    def __init__(self, candidate: Process, source: Source, claim: FieldClaim) -> None:
        self.candidate, self.source, self.claim = candidate, source, claim
        self.engine, self.quantity, self.tolerance = GRID, "density", claim.tolerance
        self.route = f"grid, propagated and compared with the {source.engine}"

    def cost(self) -> float:
        """A solve of its own."""
        return 1e7

    def measure(self, look: int, stream: Stream, alpha: float) -> Measurement:
        """Solve the candidate's forward equation; mass that escapes or a blow-up refutes."""
        problem, truth = self.claim.problem, self.source.evolution(look)
        start = problem.law if problem.law is not None else truth.at(problem.t_span[0])
        try:
            ours = solve_fokker_planck(
                self.candidate,
                start,
                problem.t_span,
                t_eval=problem.times,
                scheme=grid_scheme(self.candidate),
                rtol=grid_rtol(look),
            )
        except (MassEscape, BlowUp, CoefficientError, DensityError) as failure:
            return Measurement(Estimate(1.0, route=self.route), 1e7, reason=str(failure), refuted=True)
        gaps = []
        for t in problem.times:
            nodes = region_nodes(truth, float(t), self.claim.region)
            expected, error = truth.with_error("pdf", nodes.x, nodes.t)
            values, own_error = ours.with_error("pdf", nodes.x, nodes.t)
            gaps.append(compare_density(nodes, values, expected, error + own_error))
        work = self.source.work(look) + float(ours.stats["cell_steps"])
        return summarised(gaps, self.route, work, np.inf)


class TransportReferee(Referee):
    """Carries the starting density along the characteristics of a candidate flow and compares with q."""

    engine, quantity, looks = CHARACTERISTICS, "density", 2

    def __init__(self, candidate: Process, source: Source, claim: FieldClaim) -> None:
        self.candidate, self.source, self.claim, self.tolerance = candidate, source, claim, claim.tolerance
        self.route = f"characteristics, compared with the {source.engine}"

    def cost(self) -> float:
        """Trajectories of a few hundred points."""
        return 1e7

    def measure(self, look: int, stream: Stream, alpha: float) -> Measurement:
        """q̂(x, t) = q₀(x₀) exp(-∫v') along the trajectory that ends in x; a blow-up refutes."""
        problem, truth = self.claim.problem, self.source.evolution(look)
        start = problem.law if problem.law is not None else truth.at(problem.t_span[0])
        gaps, work = [], self.source.work(look)
        for t in problem.times[problem.times > problem.t_span[0]]:
            nodes = region_nodes(truth, float(t), self.claim.region, panels=24)
            try:
                times = (float(t), problem.t_span[0])
                back = flow_map(self.candidate, nodes.x, times, rtol=10.0 ** (-6 - 2 * look), log_det=True)
            except (BlowUp, CoefficientError) as failure:
                return Measurement(Estimate(1.0, route=self.route), work, reason=str(failure), refuted=True)
            values = start.pdf(back.x) * np.exp(np.asarray(back.log_det))
            moved = np.abs(start.score(back.x)) * back.error + back.log_det_error
            expected, error = truth.with_error("pdf", nodes.x, nodes.t)
            gaps.append(compare_density(nodes, values, expected, error + values * moved))
            work += 1e3 * nodes.x.size
        return summarised(gaps, self.route, work, np.inf)


class SampledMarginalReferee(Referee):
    """Simulates a process and compares empirical with expected distribution functions (DKW band)."""

    engine, quantity = PARTICLES, "distribution function"

    def __init__(
        self,
        process: Process,
        start: Law,
        problem: Problem,
        expected: Callable[..., np.ndarray],
        against: str,
        tolerance: float,
    ) -> None:
        self.process, self.start, self.problem, self.tolerance = process, start, problem, tolerance
        self._expected, self.route = expected, f"particles, empirical cdf{against}"

    @classmethod
    def of_candidate(cls, claim: FieldClaim, tolerance: float) -> SampledMarginalReferee:
        """Simulate the declared process against the distribution function of a candidate density."""
        problem = claim.problem

        def expected(x: np.ndarray, t: float) -> np.ndarray:
            fine = np.linspace(x[0] - 3 * np.ptp(x), x[-1] + 3 * np.ptp(x), 60_001)
            values = claim.candidate(Ingredients(problem.process, None, problem.t_span[1]), fine, t)[0]
            steps = 0.5 * np.diff(fine) * (values[1:] + values[:-1])
            return np.interp(x, fine, np.concatenate([[0.0], np.cumsum(steps)]))

        assert problem.process is not None
        assert problem.law is not None
        return cls(problem.process, problem.law, problem, expected, "", tolerance)

    @classmethod
    def of_process(
        cls, problem: Problem, candidate: Process, source: Source, tolerance: float
    ) -> SampledMarginalReferee:
        """Simulate a candidate process from the law at the start against F of the given path."""
        truth = source.evolution(1)
        start = problem.law if problem.law is not None else truth.at(problem.t_span[0])
        return cls(candidate, start, problem, truth.cdf, f" against the {source.engine}", tolerance)

    def cost(self) -> float:
        """Sampling comes last."""
        return 1e8

    def measure(self, look: int, stream: Stream, alpha: float) -> Measurement:
        """Largest gap of distribution functions over the times; the step bias is measured by coupled halving."""
        try:
            seen = empirical_cdfs(self.process, self.start, self.problem, look, stream)
        except BlowUp as failure:
            return Measurement(Estimate(1.0, route=self.route), 1e8, reason=str(failure), refuted=True)
        pairs = zip(self.problem.times, seen.rows, strict=True)
        gaps = [np.abs(found - self._expected(x, float(t))) for t, (x, found, _) in pairs]
        worst = int(np.argmax([gap.max() for gap in gaps]))
        x, _, bias = seen.rows[worst]
        # stated as a standard error, so that the joint error at this alpha is the DKW band
        spread = dkw_band(seen.n_paths, alpha / len(gaps)) / normal_quantile(alpha)
        place = (float(x[int(np.argmax(gaps[worst]))]), float(self.problem.times[worst]))
        value = Estimate(gaps[worst].max(), error=bias.max(), std_error=spread, at=place, route=self.route)
        return Measurement(value, seen.work)


def dkw_band(n: int, alpha: float) -> float:
    """Dvoretzky-Kiefer-Wolfowitz: P(sup|F_n - F| > band) ≤ alpha."""
    return float(np.sqrt(np.log(2.0 / alpha) / (2.0 * n)))


class EmpiricalCdfs:
    """Empirical distribution functions by time: rows of points, values and the step bias that may be left."""

    def __init__(self, rows: list[tuple[np.ndarray, np.ndarray, np.ndarray]], n_paths: int, work: float) -> None:
        self.rows, self.n_paths, self.work = rows, n_paths, work


def empirical_cdfs(process: Process, start: Law, problem: Problem, look: int, stream: Stream) -> EmpiricalCdfs:
    """Simulate in chunks and count; the step bias is extrapolated, and half of that change counts as its error."""
    n_chunks = CHUNKS_FIRST * 4 ** (look - 1)
    counts: list[np.ndarray] = []
    points: list[np.ndarray] = []
    work = 0.0
    for chunk in range(n_chunks):
        ens = simulated(process, start, problem, problem.times, CHUNK, STEPS, stream.child(chunk))
        work += weighted_work(ens)
        if not points:
            points = [np.unique(np.quantile(row[: 2**15], np.linspace(0.0005, 0.9995, _POINTS))) for row in ens.x]
        below = [
            np.array([np.searchsorted(np.sort(level), x, side="right") for level in (fine, coarse)])
            for x, fine, coarse in zip(points, ens.x, ens.coarse, strict=True)
        ]
        counts = below if not counts else [a + b for a, b in zip(counts, below, strict=True)]
    n_paths = n_chunks * CHUNK
    shares = [count / n_paths for count in counts]
    rows = [(x, 2 * f - c, 0.5 * np.abs(f - c)) for x, (f, c) in zip(points, shares, strict=True)]
    return EmpiricalCdfs(rows, n_paths, work)


def simulated(
    process: Process, start: Law, problem: Problem, save_at: np.ndarray, n_paths: int, n_steps: int, stream: Stream
) -> Ensemble:
    """Run coupled paths with steps h and h/2; lost paths raise BlowUp."""
    ens = simulate(
        process,
        start,
        problem.t_span,
        n_paths=n_paths,
        n_steps=n_steps,
        save_at=save_at,
        keep="saved",
        rng=stream,
        bias="halving",
        executor=problem.executor,
    )
    ens.check_complete()
    return ens


def weighted_work(ens: Ensemble) -> float:
    """Path-steps, counting callbacks into Python at their price."""
    slow = any("python" in how for how in ens.stats["coefficients"].values())
    return float(ens.stats["path_steps"]) * (PYTHON_WEIGHT if slow else 1.0)


def truth_scale(claim: FieldClaim, look: int, t: float) -> float:
    """Size of the claimed field at time t, from the first deterministic view."""
    if claim.scale is not None:
        return claim.scale
    q: Evolution = sources_of(claim.problem)[0].evolution(look)
    nodes = region_nodes(q, t, claim.region)
    truth = claim.truth(q, nodes)[0]
    return float(np.sqrt((nodes.mass * truth**2).sum() / nodes.mass.sum()))
