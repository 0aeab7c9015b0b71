"""Text about claims and identities, for people."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from fpsolve.catalogue.identity import Identity
from fpsolve.report.result import ERROR, NOT_RUN, Result

LABEL_WIDTH = 18


def explain_result(result: Result) -> str:
    """Explain a result that is not a confirmation: the claim, its statement, and why."""
    why = f"ERROR: {result.error_text}" if result.outcome == ERROR else result.explanation
    statement = textwrap.indent(result.statement, "  ")
    return f"{result.name}\n{statement}\n{textwrap.indent(why, '  ')}"


def explanations(results: Sequence[Result], expected: str) -> list[str]:
    """Explanations of everything that was examined and came out otherwise than expected."""
    return [explain_result(result) for result in results if result.outcome not in (expected, NOT_RUN)]


def explain_identity(identity: Identity) -> str:
    """Return everything that the catalogue says about an identity."""
    entries = {
        "statement": identity.statement,
        "conditions": identity.conditions,
        "source": identity.source,
        "settings": "\n".join(identity.settings),
        "routes": "\n".join(identity.routes),
        "wrong siblings": "\n".join(sibling.name for sibling in identity.siblings),
    }
    lines = [identity.id]
    for label, text in entries.items():
        block = textwrap.indent(text or "-", " " * LABEL_WIDTH, lambda line: True)
        lines.append(f"  {label}".ljust(LABEL_WIDTH) + block[LABEL_WIDTH:])
    return "\n".join(lines)


def list_rows(identities: Sequence[Identity]) -> list[tuple[str, ...]]:
    """One row per identity, in the order of LIST_COLUMNS."""
    return [
        (i.id, i.group, i.statement.strip().split("\n")[0], str(len(i.settings)), str(len(i.siblings)))
        for i in identities
    ]


LIST_COLUMNS = ("id", "group", "statement", "settings", "siblings")
