"""Evolutions in files: tables of slices with a JSON header, compressed, without pickle, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fpsolve.errors import InputError
from fpsolve.grids.budgets import Budgets, ErrorBudget, relative_errors
from fpsolve.grids.on_grid import ACCURACY, OPENINGS, OnGrid
from fpsolve.grids.panels import NODES, Demand, Table, Tabulation
from fpsolve.grids.slices import CAUSES, NAMES, Slice
from fpsolve.grids.solution import GridEvolution, GridLaw
from fpsolve.paths.evolution import Evolution
from fpsolve.paths.export import UNITS, package_version
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law
from fpsolve.problem.law_record import law_of, record_of
from fpsolve.problem.mixtures import Empirical
from fpsolve.problem.process import Process

FORMAT = 1  # grows when a file means something that older versions would misread
KIND = "fpsolve evolution"
_VALUES = tuple(name for name in NAMES if name != "cdf")
_OPENING = 1e-10  # of the span, after which a solve is smooth in time
_NOISE = 1e-11  # misfit in time that never matters
_SPREAD_OUT = 0.1  # estimated error of q, relative to its maximum, from which on a solve from atoms is kept
_SAVED = 33
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


class LoadedEvolution(GridEvolution):
    """A path of densities from a file: the tables of another one, interpolated in time as that was in x.

    It has no process (`process` is None; `description` says what it was), so that checks which solve the problem again
    refuse it where they need one. From atoms it is known at the start and from `first` on.

    Attributes
    ----------
    description : str
        The process, in words.
    """

    def __init__(self, header: Mapping[str, Any], table: Table, budgets: Mapping[str, ErrorBudget] | None) -> None:
        self.header, self.table, self.grid = header, table, table.grid
        self.process, self.description = None, str(header["process"])
        left, right = (float(end) for end in header["support"])
        self.support, self.boundary = (left, right), (str(header["boundary"][0]), str(header["boundary"][1]))
        self.t_span = (float(header["t_span"][0]), float(header["t_span"][1]))
        self.first = float(table.times[0])
        self.message, self._stats = str(header["message"]), dict(header["stats"])
        self._slices: OrderedDict[float, Slice] = OrderedDict()
        self._make_slice = table.slice
        self._start = None if header["initial"] is None else law_of(header["initial"])
        self.initial: Law = GridLaw(self, self.t_span[0]) if self._start is None else self._start
        self.given_budgets = budgets
        saved = np.linspace(self.first, self.t_span[1], _SAVED)
        self.error = Budgets(self.slice, saved) if budgets is None else budgets

    def __repr__(self) -> str:
        return f"LoadedEvolution(t_span={self.t_span}, {self.grid}, {self.message!r})"

    def check_t(self, t: Any) -> float:
        """Return `t` as a float inside the span, where something is known."""
        time = super().check_t(t)
        if self.t_span[0] < time < self.first:
            rule = f"this path starts from atoms and was kept at {self.t_span[0]:g} and from {self.first:.6g} on"
            raise InputError(rule, time, "ask later, or solve it again")
        return time

    def slice(self, t: float) -> Slice:
        """Masses and fields at one time."""
        if self.check_t(t) < self.first:
            raise InputError("atoms have no density", t, f"ask from t={self.first:.6g} on")
        return super().slice(t)

    def _starts_at(self, t: float) -> bool:
        return self._start is not None and super()._starts_at(t)


def save(q: Evolution, path: Any) -> Path:
    """Write an evolution to a file; see `Evolution.save`."""
    file = _file_of(path)
    if not file.parent.is_dir():
        raise InputError("save needs a folder that exists", str(file.parent), "make it first")
    if isinstance(q, LoadedEvolution):
        header, table, budgets = q.header, q.table, q.given_budgets
    else:
        table = _table_of(q)
        header, budgets = _header_of(q), getattr(q, "error", None)
    arrays = {"times": table.times, "masses": table.masses, "absorbed": table.absorbed}
    arrays |= {name: table.values[name] for name in _VALUES}
    arrays |= {f"error {name} {cause}": table.errors[name][cause] for name in NAMES for cause in CAUSES}
    norms = {}
    if budgets is not None:
        for name, budget in budgets.items():
            norms[name] = budget.norm
            arrays[f"budget {name}"] = np.array([budget.times, *(getattr(budget, cause) for cause in CAUSES)])
    full = {**header, "grid": asdict(table.grid), "alone": table.alone, "origin": table.origin, "budgets": norms}
    text = json.dumps(full, ensure_ascii=False, allow_nan=False)
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
        return _restored(header, arrays, file.name)
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


def _table_of(q: Evolution) -> Table:
    t0, t1 = q.t_span
    if isinstance(q, GridEvolution):
        solved = Tabulation(q.slice, q.grid, t0, Demand(_NOISE, 8, strict=False))
        if isinstance(q.initial, Empirical):
            return solved.table(_spread_out(q), t1, None)
        return solved.table(t0 + _OPENING * (t1 - t0), t1, t0)
    shown = OnGrid(q)
    exact = Tabulation(shown.slice, shown.grid, t0, Demand(ACCURACY, 12, strict=True))
    return exact.table(shown.first, t1, None)


def _spread_out(q: GridEvolution) -> float:
    """First time at which a solve from atoms says that it has a density."""
    t0, t1 = q.t_span
    for part in OPENINGS:
        t = t0 + float(part) * (t1 - t0)
        if sum(relative_errors(q.slice(t).field("logpdf")).values()) < _SPREAD_OUT:
            return t
    raise InputError("atoms must have spread out before the path is kept", q, "solve with a smaller rtol")


def _header_of(q: Evolution) -> dict[str, Any]:
    process, initial = q.process, q.initial
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
        "process": _described(process) if known else "not given",
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


def _restored(header: dict[str, Any], arrays: dict[str, np.ndarray], name: str) -> LoadedEvolution:
    """The evolution of a header and arrays whose shapes fit it; what does not fit raises ValueError or LookupError."""
    grid = Grid(**header["grid"])
    alone, times = int(header["alone"]), arrays["times"]
    panels = times.size - alone - 1
    if alone not in (0, 1) or times.ndim != 1 or panels < NODES - 1 or panels % (NODES - 1):
        raise ValueError(f"{times.size} times make no panels")
    t0, t1 = (float(t) for t in header["t_span"])
    if not (np.diff(times) > 0.0).all() or not t0 <= times[0] or times[-1] != t1 or header["origin"] > times[0]:
        raise ValueError("times must increase within t_span")
    values = {field: _checked(arrays, field, (times.size, grid.cells + 1)) for field in _VALUES}
    errors = {
        field: {cause: _checked(arrays, f"error {field} {cause}", (times.size, grid.cells + 1)) for cause in CAUSES}
        for field in NAMES
    }
    masses = _checked(arrays, "masses", (times.size, grid.cells))
    absorbed = _checked(arrays, "absorbed", (times.size, 2))
    table = Table(grid, float(header["origin"]), alone, times, masses, absorbed, values, errors)
    budgets = {}
    for field, norm in header["budgets"].items():
        rows = arrays[f"budget {field}"]
        if rows.shape != (1 + len(CAUSES), rows.shape[1]):
            raise ValueError(f"the error budget of {field} has shape {rows.shape}")
        budgets[field] = ErrorBudget(str(norm), rows[0], **dict(zip(CAUSES, rows[1:], strict=True)))
    message = str(header["message"])
    if not message.startswith("loaded from "):
        message = f"loaded from {name}: {message}"
    return LoadedEvolution({**header, "message": message}, table, budgets or None)


def _checked(arrays: dict[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    found = arrays[name]
    if found.shape != shape or found.dtype.kind != "f" or not np.isfinite(found).all():
        raise ValueError(f"{name} must be finite numbers of shape {shape}")
    return found


Evolution._keep = save
