"""Tables and live progress: rich on a terminal, plain lines of any width elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fpsolve.report.result import ERROR, NOT_RUN, Result, tally
from fpsolve.verdict.verdict import CONFIRMED, INCONCLUSIVE, REFUTED

STYLES = {CONFIRMED: "green", REFUTED: "bold red", INCONCLUSIVE: "yellow", ERROR: "bold magenta", NOT_RUN: "dim"}
COLUMNS = ("claim", "routes", "discrepancy", "tolerance", "verdict", "seconds")
RIGHT = frozenset({"discrepancy", "tolerance", "seconds", "settings", "siblings", "steps", "evaluations", "ns/path"})
RIGHT |= {"weak error", "±", "strong error", "± ", "order w", "order s"}
WRAPPED = frozenset({"claim", "routes", "statement"})


def result_rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """One row of text per result, in the order of COLUMNS."""
    return [_result_row(result) for result in results]


def _routes_of(row: dict[str, Any]) -> list[str]:
    """Route of a finding; both where one compares two values, so that many pairs do not name each of them again."""
    route = str(row["route"])
    return route.split(" against ") if row["quantity"] == "value" else [route]


def _result_row(result: Result) -> tuple[str, ...]:
    figures = result.figures
    routes = "; ".join(dict.fromkeys(name for row in figures.get("routes", ()) for name in _routes_of(row))) or "-"
    discrepancy, tolerance = figures.get("discrepancy"), figures.get("tolerance")
    return (
        result.name,
        routes,
        "-" if discrepancy is None else f"{discrepancy:.1e} ± {figures['error']:.0e}",
        "-" if tolerance is None else f"{tolerance:.1e}",
        result.outcome,
        "-" if result.seconds is None else f"{result.seconds:.2f}",
    )


def summary_line(results: Sequence[Result], seconds: float) -> str:
    """Counts of what came out, and the time of the run."""
    counts = [f"{count} {outcome}" for outcome, count in tally(results).items() if count]
    return f"{', '.join(counts) or 'no claims'} in {seconds:.1f} s"


def print_table(stream: TextIO, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: as wide as the terminal, or, where the stream is none, as wide as it needs to be."""
    if stream.isatty():
        table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for name in columns:
            justify: JustifyMethod = "right" if name in RIGHT else "left"
            table.add_column(name, justify=justify, overflow="fold", no_wrap=name not in WRAPPED)
        for row in rows:
            table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
        Console(file=stream).print(table)
        return
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = [
            cell.rjust(width) if name in RIGHT else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        ]
        print("  ".join(cells).rstrip(), file=stream)


class LiveProgress:
    """A bar with the claim at hand and the counts so far; silent where neither stream is a terminal."""

    def __init__(self, streams: Sequence[TextIO], total: int) -> None:
        terminal = next((stream for stream in streams if stream.isatty()), None)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(file=terminal),
            transient=True,
            disable=terminal is None,
        )
        self._task = self._progress.add_task("starting", total=total)
        self._done: list[Result] = []

    def __enter__(self) -> LiveProgress:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, name: str) -> None:
        """Say what is being examined."""
        counts = [f"{count} {outcome}" for outcome, count in tally(self._done).items() if count]
        self._progress.update(self._task, description=", ".join([name, *counts]), completed=len(self._done))

    def finish(self, result: Result) -> None:
        """Count a result."""
        self._done.append(result)
        self.show(result.name)
