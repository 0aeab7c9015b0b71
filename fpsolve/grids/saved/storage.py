"""Evolutions in files: tables of slices with a JSON header, compressed, without pickle, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fpsolve.errors import InputError
from fpsolve.grids.moving import MovingEvolution
from fpsolve.grids.saved.kept import kept
from fpsolve.grids.saved.loaded import FORMS, Loaded, LoadedEvolution
from fpsolve.paths.evolution import Evolution
from fpsolve.paths.export import UNITS, package_version
from fpsolve.problem.law_record import record_of
from fpsolve.problem.process import Process

__all__ = ["LoadedEvolution", "load", "save"]

FORMAT = 2  # grows when a file means something that older versions would misread
KIND = "fpsolve evolution"
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,  # of an array that stands alone in its file
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def save(q: Evolution, path: Any) -> Path:
    """Write an evolution to a file; see `Evolution.save`."""
    file = _file_of(path)
    if not file.parent.is_dir():
        raise InputError("save needs a folder that exists", str(file.parent), "make it first")
    if isinstance(q, Loaded):
        header, arrays = dict(q.header), q.arrays
    else:
        parts, arrays = kept(q)
        header = _header_of(q) | parts
    text = json.dumps(header, ensure_ascii=False, allow_nan=False)
    _write(file, {"header": np.frombuffer(text.encode(), dtype=np.uint8), **arrays})
    return file


def load(path: Any) -> Evolution:
    """Read an evolution that `save` wrote; nothing in the file is executed.

    Parameters
    ----------
    path : str or path
        File; `.npz` is added where it is missing.

    Returns
    -------
    Evolution
        Known at every time and point of the span, with the error budgets of the original. Its `message` says that it
        was loaded, its `process` is None and its `description` names the process.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, it is not one of these files, or a newer version wrote it.

    Examples
    --------
    >>> import tempfile
    >>> q = fps.solve_fokker_planck(fps.SDE(lambda x: -x, 2**0.5), fps.Normal(1, 0.5), (0, 1), rtol=1e-4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = fps.load(q.save(folder + "/ou"))
    >>> bool(abs(again.pdf(0.3, 0.61) - q.pdf(0.3, 0.61)) < 1e-4), again.process is None
    (True, True)
    """
    file = _file_of(path)
    if not file.is_file():
        raise InputError("load needs a file that exists", str(file), "name one that save has written")
    foreign = f"{file.name} is not a file that save has written"
    try:
        with file.open("rb") as stream:  # np.load would leave a file open that it cannot read
            archive = np.load(stream, allow_pickle=False)
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(bytes(arrays.pop("header")).decode())
        kind, version = header["kind"], int(header["format"])
    except _UNREADABLE as problem:
        reason = f"it cannot be read ({problem})"
        raise InputError(f"{foreign}, or it is damaged", reason, "save it again") from None
    if kind != KIND:
        raise InputError(foreign, kind, "name a file of fpsolve")
    if version > FORMAT:
        rule = f"this fpsolve reads files of format {FORMAT}"
        raise InputError(rule, f"format {version}, by fpsolve {header.get('fpsolve')}", "install a newer fpsolve")
    try:
        message = str(header["message"])
        if not message.startswith("loaded from "):
            header["message"] = f"loaded from {file.name}: {message}"
        return FORMS[header.get("form", "grid")](header, arrays)
    except _UNREADABLE as problem:
        rule = f"{file.name} is damaged: its parts must fit each other"
        raise InputError(rule, str(problem), "save it again") from None


def _file_of(path: Any) -> Path:
    try:
        file = Path(path)
    except TypeError:
        raise InputError("a file is named by a string or a path", path, 'write for instance q.save("ou.npz")') from None
    if not file.name or file.is_dir():
        raise InputError("a file needs a name", str(path), 'write for instance q.save("ou.npz")')
    return file if file.suffix == ".npz" else file.with_name(file.name + ".npz")


def _header_of(q: Evolution) -> dict[str, Any]:
    process, initial = q.process, q.initial
    if isinstance(q, MovingEvolution):
        process = q.inner.process
    known = isinstance(process, Process)
    record = None if initial is None else record_of(initial)
    return {
        "kind": KIND,
        "format": FORMAT,
        "fpsolve": package_version(),
        "class": type(q).__name__,
        "t_span": list(q.t_span),
        "message": q.message,
        "stats": _plain(q.stats),
        "process": _described(q.process) if known else "not given",
        "boundary": list(process.boundary) if known else ["natural", "natural"],
        "support": [str(end) for end in (process.support if known else (-math.inf, math.inf))],
        "initial": record,
        "units": UNITS,
    }


def _described(process: Process) -> str:
    """A process in words: its declaration, and what its coefficients are called."""
    parts = [repr(process)]
    for coefficient in (process.drift_coefficient, process.diffusion_coefficient):
        source = coefficient.source
        parts.append(f"{coefficient.what} {getattr(source, '__qualname__', None) or repr(source)}")
    return "; ".join(parts)


def _plain(value: Any) -> Any:
    """`value` in the types of strict JSON; a number that JSON does not know becomes text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _write(file: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write beside the file and rename, so that no file is ever seen half written."""
    target = file.resolve()  # a link stays a link
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            with part.open("wb") as stream:
                np.savez_compressed(stream, allow_pickle=False, **arrays)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as problem:
        rule = "an evolution is saved where there is room for it"
        raise InputError(rule, str(problem), "choose another place") from None


Evolution._keep = save
