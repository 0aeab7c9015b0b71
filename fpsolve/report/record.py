"""The JSON record of a run: strict JSON, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fpsolve.errors import InputError
from fpsolve.report.result import Result, tally

FORMAT = 1  # grows when a name is dropped or changes its meaning
# What a verdict measured, and what stands there when there is none.
FIGURES = {
    "discrepancy": None,
    "error": None,
    "tolerance": None,
    "where": None,
    "routes": (),
    "blind_to": (),
    "scope": "",
    "note": "",
    "suspects": (),
    "spent": None,
}


def record(
    results: Sequence[Result], *, fpsolve: str, seed: int | None, tol: float | None, exit_status: int
) -> dict[str, Any]:
    """Return the record of a run; null stands for what a claim without a verdict lacks, and for infinite figures."""
    return {
        "format": FORMAT,
        "fpsolve": fpsolve,
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cpus": os.cpu_count()},
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": version("numba"),
        "seed": seed,
        "tol": tol,
        "claims": [_claim(result) for result in results],
        "summary": {outcome.replace(" ", "_"): count for outcome, count in tally(results).items()},
        "exit_status": exit_status,
    }


def _claim(result: Result) -> dict[str, Any]:
    return {
        "id": result.id,
        "setting": result.setting,
        "statement": result.statement,
        "outcome": result.outcome,
        **{name: plain(result.figures.get(name, absent)) for name, absent in FIGURES.items()},
        "seconds": result.seconds,
        "error_text": result.error_text,
    }


def plain(value: Any) -> Any:
    """Return `value` in the types of JSON; a number that JSON does not know becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def as_json(content: Mapping[str, Any]) -> str:
    """Return a record as JSON text."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def check_destination(file: str) -> Path:
    """Return the path of a file that can be written, or say at once why not."""
    path = Path(file)
    rule = "--json needs a file in a folder that can be written"
    if path.is_dir():
        raise InputError(rule, file, "name a file in this folder")
    if not path.parent.is_dir():
        raise InputError(rule, file, f"make the folder {path.parent} first")
    if not os.access(path if _is_device(path) else path.resolve().parent, os.W_OK):
        raise InputError(rule, file, "choose a place that you may write to")
    return path


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file()


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is never seen half written; a device or a pipe is written directly."""
    try:
        _write(path, text)
    except OSError as problem:
        raise InputError(
            "the record must go where there is room for it", str(problem), "choose another place"
        ) from None


def _write(path: Path, text: str) -> None:
    if _is_device(path):
        path.write_text(text, encoding="utf-8")
        return
    target = path.resolve()  # a link stays a link
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
