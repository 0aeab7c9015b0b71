"""Wrong siblings of the catalogue as claims of their own: each must be refuted, or the setting is known to be blind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from fpsolve.catalogue.identity import Identity, Sibling
from fpsolve.report.result import Result
from fpsolve.verdict.claims import Claim
from fpsolve.verdict.verdict import REFUTED, Verdict

_MARGIN = 0.5  # part of a measured size that is asked for as tolerance, so that it is refuted beyond its error


def mutants(identity: Identity) -> list[Claim]:
    """One claim per wrong sibling and setting; below resolution at a tolerance that refutes it."""
    return [
        Claim(identity.id, sibling.name, _examined(sibling, claim), f"{claim.setting}: {sibling.name}")
        for sibling, claim in identity.wrong_claims()
    ]


def blind(identity: Identity) -> set[str]:
    """Names of the mutants that their setting cannot tell from the truth: the term vanishes there."""
    return {
        f"{identity.id} [{setting}: {sibling.name}]"
        for sibling in identity.siblings
        for setting, size in sibling.below_tolerance.items()
        if size == 0.0
    }


def _examined(sibling: Sibling, claim: Claim) -> Callable[..., Verdict]:
    size = sibling.below_tolerance.get(claim.setting)

    def run(tol: float | None = None, seed: int = 0) -> Verdict:
        verdict = claim(tol=tol, seed=seed)
        if not size or verdict.refuted or tol is not None:
            return verdict
        closer = claim(tol=_MARGIN * size, seed=seed)
        note = (
            f"off by {size:.1e}: {verdict.outcome} at tol={verdict.tolerance:g}, {closer.outcome} at {_MARGIN * size:g}"
        )
        return replace(closer, note=note)

    return run


def survivors(results: Sequence[Result], identities: Sequence[Identity]) -> list[Result]:
    """Results of mutants that should have been refuted and were not."""
    known = set().union(*(blind(identity) for identity in identities))
    return [result for result in results if result.outcome != REFUTED and result.name not in known]


def mutants_line(results: Sequence[Result], identities: Sequence[Identity], seconds: float) -> str:
    """How many were refuted, and how."""
    known = set().union(*(blind(identity) for identity in identities))
    refuted = [result for result in results if result.outcome == REFUTED]
    finer = sum(1 for result in refuted if result.figures["note"].startswith("off by"))
    unseen = sum(1 for result in results if result.name in known)
    left = len(survivors(results, identities))
    return (
        f"{len(refuted)} wrong siblings refuted, {finer} of them at a finer tolerance; {unseen} in settings that are "
        f"blind to them; {left} not refuted; {seconds:.1f} s"
    )
