"""What the catalogue is made of: an identity, its settings, and the wrong siblings that must be refuted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fpsolve.verdict.claims import Claim
from fpsolve.verdict.verdict import Verdict

Check = Callable[..., Verdict]


@dataclass(frozen=True)
class Sibling:
    """A wrong version of an identity, as derivations get it wrong.

    Attributes
    ----------
    name : str
        The slip, in words.
    candidate : object
        Wrong candidate for the checks of the identity's settings.
    below_tolerance : dict
        Settings in which it is off by less than three default tolerances, with the measured size: a tolerance under
        it refutes. Zero means that the setting is blind to the slip.
    only : tuple of str
        Settings that can examine it; all unless given.
    """

    name: str
    candidate: Any
    below_tolerance: Mapping[str, float] = field(default_factory=dict)
    only: tuple[str, ...] = ()

    def applies_to(self, setting: str) -> bool:
        """Whether the setting can examine this sibling."""
        return not self.only or setting in self.only


@dataclass(frozen=True)
class Identity:
    """One identity of the catalogue.

    Attributes
    ----------
    id : str
        Name on the command line, such as "rev-anderson".
    statement, conditions, source : str
        The equation, when it holds, and where it is from (paper and equation number).
    routes : tuple of str
        How it is examined.
    truth : object
        The right candidate: a formula, or whatever the checks of `settings` take.
    settings : dict
        Setting name -> check(candidate, *, tol=None, seed=0): the fixtures, a blatant and a subtle one.
    siblings : tuple of Sibling
        Wrong candidates for the same checks.
    """

    id: str
    statement: str
    conditions: str
    source: str
    routes: tuple[str, ...]
    truth: Any
    settings: Mapping[str, Check]
    siblings: tuple[Sibling, ...] = field(default=())

    @property
    def group(self) -> str:
        """Prefix of the id."""
        return self.id.split("-")[0]

    def claims(self) -> list[Claim]:
        """One claim per setting."""
        return [
            Claim(self.id, self.statement, _bound(check, self.truth), name) for name, check in self.settings.items()
        ]

    def wrong_claims(self) -> list[tuple[Sibling, Claim]]:
        """Every wrong sibling in every setting that can examine it."""
        return [
            (sibling, Claim(self.id, sibling.name, _bound(check, sibling.candidate), name))
            for sibling in self.siblings
            for name, check in self.settings.items()
            if sibling.applies_to(name)
        ]


def _bound(check: Check, candidate: Any) -> Callable[..., Verdict]:
    def run(tol: float | None = None, seed: int = 0) -> Verdict:
        return check(candidate, tol=tol, seed=seed)

    return run
