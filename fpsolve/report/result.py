"""What became of one claim in a run, as plain data that travels between processes."""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fpsolve.verdict.claims import Claim
from fpsolve.verdict.verdict import CONFIRMED, INCONCLUSIVE, REFUTED, Verdict

PACKAGE = Path(__file__).parents[1]
ERROR, NOT_RUN = "error", "not run"
OUTCOMES = (CONFIRMED, REFUTED, INCONCLUSIVE, ERROR, NOT_RUN)


@dataclass(frozen=True)
class Result:
    """One claim of a run: what was claimed, what came out, and its explanation.

    `outcome` is one of OUTCOMES. `figures` holds what the verdict measured, under the names of the JSON record; it
    is empty when there is no verdict.
    """

    id: str
    setting: str
    statement: str
    outcome: str
    explanation: str = ""
    error_text: str = ""
    seconds: float | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Id with its setting."""
        return f"{self.id} [{self.setting}]" if self.setting else self.id


def examine(claim: Claim, **options: Any) -> Result:
    """Return what becomes of a claim; one that raises has the outcome "error", with the exception's text."""
    start = time.perf_counter()
    try:
        verdict = claim(**options)
        outcome, explanation, figures, error_text = verdict.outcome, verdict.explain(), _figures(verdict), ""
    except (Exception, SystemExit) as problem:  # whatever a claim raises is its own result, and the run goes on
        outcome, explanation, figures, error_text = ERROR, "", {}, _text_of(problem, claim)
    seconds = time.perf_counter() - start
    return Result(claim.id, claim.setting, claim.statement, outcome, explanation, error_text, seconds, figures)


def without_verdict(claim: Claim, outcome: str, error_text: str = "") -> Result:
    """Result of a claim that was not examined to its end."""
    return Result(claim.id, claim.setting, claim.statement, outcome, error_text=error_text)


def tally(results: Iterable[Result]) -> dict[str, int]:
    """Number of results of each outcome."""
    outcomes = [result.outcome for result in results]
    return {outcome: outcomes.count(outcome) for outcome in OUTCOMES}


def _figures(verdict: Verdict) -> dict[str, Any]:
    deciding = verdict.deciding
    return {
        "discrepancy": None if deciding is None else float(deciding.discrepancy.value),
        "error": None if deciding is None else deciding.joint_error,
        "tolerance": verdict.tolerance,
        "where": verdict.where,
        "routes": verdict.table,
        "blind_to": verdict.blind_to,
        "scope": verdict.scope,
        "note": verdict.note,
        "suspects": [{"terms": s.terms, "reading": s.reading, "left": s.left} for s in verdict.suspects],
        "spent": verdict.spent,
    }


def _text_of(problem: BaseException, claim: Claim) -> str:
    """Exception with its text and its place: the line of the user's own file, where the claim has one."""
    text = f"{type(problem).__name__}: {problem}" if str(problem) else type(problem).__name__
    frames = traceback.extract_tb(problem.__traceback__)
    file = inspect.unwrap(claim.function).__code__.co_filename
    own = [] if PACKAGE in Path(file).parents else [frame for frame in frames if frame.filename == file]
    place = (own or frames)[-1]
    return f"{text} ({Path(place.filename).name}, line {place.lineno})"
