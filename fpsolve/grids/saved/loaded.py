"""Evolutions from files: a header and arrays, and the paths of densities that these describe."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_points
from fpsolve.grids.budgets import Budgets, ErrorBudget
from fpsolve.grids.extrapolation import POINTS, interpolate
from fpsolve.grids.flows.pullback import Fields, Trace
from fpsolve.grids.flows.trajectories import Loss
from fpsolve.grids.moving import Frame, MovingEvolution, SeenFromOutside, Walls
from fpsolve.grids.saved.kept_flow import FlowTable, KeptCharacteristics, KeptFlow
from fpsolve.grids.saved.panels import LEAST, NODES, Table
from fpsolve.grids.saved.pieces import Pieces
from fpsolve.grids.slices import CAUSES, NAMES, Slice
from fpsolve.grids.solution import GridEvolution, GridLaw
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.grid import Grid
from fpsolve.problem.law import Law
from fpsolve.problem.law_record import law_of
from fpsolve.problem.maps import Pushforward
from fpsolve.problem.mixtures import Empirical, PointMass

_SAVED = 33
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(3)
_UNKNOWN = 1e29
Arrays = dict[str, np.ndarray]


class Loaded:
    """What all paths from files have: `header` and `arrays` as they stand in the file, and no process.

    Checks that solve the problem again refuse them where they need one.

    Attributes
    ----------
    description : str
        The process, in words.
    """

    header: Mapping[str, Any]
    arrays: Arrays

    def _remember_file(self, header: Mapping[str, Any], arrays: Arrays) -> None:
        self.header, self.arrays, self.process = header, arrays, None
        self.message, self.description = str(header["message"]), str(header["process"])
        self.t_span = (float(header["t_span"][0]), float(header["t_span"][1]))

    @property
    def stats(self) -> dict[str, Any]:
        """Counters of the work that was done before the path was saved."""
        return dict(self.header["stats"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(t_span={self.t_span}, {self.message!r})"


class LoadedEvolution(Loaded, GridEvolution):
    """A path of densities on a grid: the tables of another one, interpolated in time as that was in x.

    From atoms it is known at the start and from `first` on.
    """

    def __init__(self, header: Mapping[str, Any], arrays: Arrays, prefix: str = "") -> None:
        self._remember_file(header, arrays)
        self.table = table_from(header, arrays, self.t_span, prefix)
        self.grid = self.table.grid
        left, right = (float(end) for end in header["support"])
        self.support, self.boundary = (left, right), (str(header["boundary"][0]), str(header["boundary"][1]))
        self.first = float(self.table.times[0])
        self._slices: OrderedDict[float, Slice] = OrderedDict()
        self._make_slice = self.table.slice
        self._start = None if prefix or header["initial"] is None else law_of(header["initial"])
        self.initial: Law = GridLaw(self, self.t_span[0]) if self._start is None else self._start
        saved = np.linspace(self.first, self.t_span[1], _SAVED)
        self.error = budgets_from(header, arrays) or Budgets(self.slice, saved)

    def starting_from(self, law: Law) -> LoadedEvolution:
        """The same path, with a start that the file describes otherwise."""
        self._start = self.initial = law
        return self

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
        return self._start is not None and self.table.counted and super()._starts_at(t)

    def at(self, t: float) -> Law:
        """Return the law at time `t`."""
        if self.table.counted or (self._start is not None and self.check_t(t) == self.t_span[0]):
            return self._start if self._start is not None and self.check_t(t) == self.t_span[0] else super().at(t)
        return _LawOfTheRest(self, self.check_t(t))

    def with_error(self, name: str, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Return (values, estimated errors) of "pdf", "logpdf", "score", "cdf", "sf" or "velocity" at points `x`."""
        if self.table.counted:
            return super().with_error(name, x, t)
        if name == "logpdf":
            q, error = self.with_error("pdf", x, t)
            with np.errstate(all="ignore"):
                relative = error / q
                return np.log(q), np.where(relative < 0.5, -np.log1p(-np.minimum(relative, 0.5)), np.inf)
        value, error = super().with_error(name, x, t)
        if name in ("cdf", "sf"):
            return np.maximum(value - self.absorbed(t)[name == "sf"], 0.0), error
        return value, np.where(error < _UNKNOWN, error, np.inf)

    def _density_at(self, found: Slice, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where fronts pass, q itself is interpolated and not its logarithm."""
        if self.table.counted:
            return super()._density_at(found, x)
        grid, field, inside = self.grid, found.field("pdf"), np.clip(x, self.grid.left, self.grid.right)
        values, rough = (np.maximum(interpolate(grid, field.value, inside, n), 0.0) for n in (POINTS, POINTS - 2))
        places = np.arange(grid.cells + 1.0)
        error = np.interp(grid.place(inside), places, field.total) + np.abs(values - rough)
        return np.where(inside == x, values, 0.0), np.where(inside == x, error, field.total.max())

    def _take_quotients(self, found: Slice, x: np.ndarray, values: np.ndarray, error: np.ndarray) -> None:
        if self.table.counted:  # else the velocity has no poles
            super()._take_quotients(found, x, values, error)

    def _replace_poles(self, score: np.ndarray, x: np.ndarray, *results: np.ndarray) -> None:
        if self.table.counted:  # without noise q does not vanish where it is absorbed
            super()._replace_poles(score, x, *results)

    def expect(self, fn: Callable[[np.ndarray], np.ndarray], t: float) -> float:
        """E φ(X_t); what was absorbed stays at its end, if the path counts it."""
        if self.table.counted:
            return super().expect(fn, t)
        half = 0.5 * self.grid.widths[:, None]
        x = self.grid.faces[:-1, None] + half + half * _NODES
        parts = _WEIGHTS * self.pdf(x, t) + 1e-300
        weights = self.slice(t).masses[:, None] * parts / parts.sum(axis=1, keepdims=True)
        with np.errstate(all="ignore"):
            return float(np.where(weights > 0.0, weights * fn(x), 0.0).sum())

    def entropy(self, t: float) -> float:
        """Differential entropy in nats."""
        return super().entropy(t) if self.table.counted else -self.expect(lambda x: np.log(self.pdf(x, t) + LEAST), t)

    def fisher(self, t: float) -> float:
        """Fisher information E s², where the error of the score is below its size."""
        if self.table.counted:
            return super().fisher(t)

        def squared(x: np.ndarray) -> np.ndarray:
            score, error = self.with_error("score", x, t)
            return np.where(error < np.abs(score), score, 0.0) ** 2

        return self.expect(squared, t)

    def mass(self, t: float) -> float:
        """Mass inside."""
        return super().mass(t) if self.table.counted else 1.0 - sum(self.absorbed(t))

    def absorbed(self, t: float) -> tuple[float, float]:
        """Mass that has left through the left and the right end."""
        time = self.check_t(t)
        return (0.0, 0.0) if time < self.first else self.table.absorbed_at(time)

    def sample(self, n: int, t: float, rng: Any = 0) -> np.ndarray:
        """Draw `n` values of X_t."""
        if not self.table.counted and sum(self.absorbed(t)) > 0.0:
            raise InputError(
                "a law that lost mass cannot be sampled", self.absorbed(t), "sample before it was absorbed"
            )
        return super().sample(n, t, rng)


class _LawOfTheRest(GridLaw):
    """Law whose F begins at zero and ends at the mass that was not absorbed."""

    def __init__(self, evolution: LoadedEvolution, t: float) -> None:
        super().__init__(evolution, t)
        self._gone = evolution.absorbed(t)

    def cdf(self, x: Any) -> Any:
        """Mass left of x."""
        return np.maximum(super().cdf(x) - self._gone[0], 0.0)

    def sf(self, x: Any) -> Any:
        """Mass right of x."""
        return np.maximum(super().sf(x) - self._gone[1], 0.0)

    def _at_faces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        faces, below, above = super()._at_faces()
        return faces, below - self._gone[0], above - self._gone[1]


class _KeptFrame(Frame):
    """The frame of moving walls that are known as polynomials in time only."""

    def __init__(self, walls: Walls) -> None:
        self.walls = walls
        self._remember()


class LoadedMoving(Loaded, MovingEvolution):
    """A path between moving walls: a path in the frame of the walls, and the walls."""

    def __init__(self, header: Mapping[str, Any], arrays: Arrays) -> None:
        self._remember_file(header, arrays)
        edges, times = arrays["walls edges"], Pieces(arrays["walls edges"])
        _check_edges(edges, self.t_span)
        shape = (4, times.nodes.size)
        self._walls = Walls(times, checked(arrays, "walls", shape), checked(arrays, "walls error", shape))
        self.frame, self.inner = _KeptFrame(self._walls), LoadedEvolution(header, arrays)
        self.first, t0 = self.inner.first, self.t_span[0]
        if header["initial"] is None:
            self.initial = Pushforward(self.inner.initial, self.frame.at(t0))
        else:
            self.initial = law_of(header["initial"])
            self.inner.starting_from(self.frame.seen(self.initial, t0))
        self.error = SeenFromOutside(self.inner.error, self.frame)

    def check_t(self, t: Any) -> float:
        """Return `t` as a float inside the span, where something is known."""
        return self.inner.check_t(t)

    def with_error(self, name: str, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """As of a MovingEvolution, with what the walls may be off by."""
        points = check_points("x", x)
        value, error = super().with_error(name, points, t)
        shift, scale, *speeds = self._walls.missed(t)
        frame = self.frame.at(t)
        xi = np.abs(frame.inverse(points))
        away = shift + scale * xi
        with np.errstate(invalid="ignore"):
            near = [super(LoadedMoving, self).with_error(name, points + sign * away, t)[0] for sign in (-1.0, 1.0)]
            error = error + np.nan_to_num(np.max(np.abs(np.array(near) - value), axis=0))
            error = error + np.abs(value) * (scale / frame.scale if name in ("pdf", "score", "velocity") else 0.0)
        return value, error + (speeds[0] + speeds[1] * xi if name == "velocity" else 0.0)


class _TabulatedFields(Fields):
    """Fields from an initial law that is itself a table."""

    def __init__(self, path: LoadedEvolution, lost: float) -> None:
        super().__init__(path.initial, lost)
        self._path = path

    def _near(self, name: str, trace: Trace) -> tuple[np.ndarray, np.ndarray]:
        value, spread = super()._near(name, trace)
        return value, spread + self._path.with_error(name, trace.x0, self._path.t_span[0])[1]


class LoadedCharacteristics(Loaded, KeptCharacteristics):
    """A path carried by a flow: its initial law, and where each of its points is at any time."""

    def __init__(self, header: Mapping[str, Any], arrays: Arrays) -> None:
        self._remember_file(header, arrays)
        kept = header["flow"]
        origins, clock = Pieces(arrays["origins"]), Pieces(arrays["clock"])
        _check_edges(origins.edges, None)
        _check_edges(clock.edges, self.t_span)
        shape = (4, origins.nodes.size, clock.nodes.size)
        table = FlowTable(origins, clock, checked(arrays, "state", shape), checked(arrays, "state error", shape))
        left, right = (float(end) for end in header["support"])
        boundary = (str(header["boundary"][0]), str(header["boundary"][1]))
        loss = Loss(*(float(part) for part in kept["loss"]))
        flow = KeptFlow(table, loss, self.t_span, (left, right), boundary[0] == "periodic")
        lost = loss.left + loss.right
        if header["initial"] is None:
            start = LoadedEvolution({**header, **kept["initial"]}, arrays, "initial ")
            fields: Fields = _TabulatedFields(start, lost)
        else:
            fields = Fields(law_of(header["initial"]), lost)
        turns = {int(side): np.array(times) for side, times in kept["turns"].items()}
        self._begin(fields, flow, boundary, turns, arrays["budget times"], arrays["breaks"])


class LoadedAtoms(Loaded, Evolution):
    """Atoms: where each of them is at any time.

    Attributes
    ----------
    error : dict of float
        "x": estimated error of the positions over the span.
    """

    def __init__(self, header: Mapping[str, Any], arrays: Arrays) -> None:
        self._remember_file(header, arrays)
        self._clock = Pieces(arrays["clock"])
        _check_edges(self._clock.edges, self.t_span)
        self._x = checked(arrays, "atoms", (arrays["atoms"].shape[0], self._clock.nodes.size))
        self._one = bool(header["atoms"]["one"])
        self._ring = tuple(float(end) for end in header["atoms"]["ring"])
        self.error = {"x": float(header["atoms"]["error"])}
        self.initial = self.at(self.t_span[0])

    def at(self, t: float) -> Empirical:
        """Return the atoms at time `t`."""
        x = self._clock.at_one(self._x, self.check_t(t))
        if self._ring:
            left, right = self._ring
            x = left + np.mod(x - left, right - left)
        return PointMass(float(x[0])) if self._one else Empirical(x)

    def velocity(self, x: Any, t: float) -> np.ndarray:
        """Refused: the velocity is a function of x, and the file has only where the atoms are."""
        raise InputError("atoms from a file have no velocity at every x", x, "ask the process from which they came")

    def flux_with_error(self, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Refused: atoms have no flux."""
        raise InputError("atoms have no flux", x, "ask for cdf, or for the atoms by at(t)")


FORMS = {
    "grid": LoadedEvolution,
    "moving": LoadedMoving,
    "flow": LoadedCharacteristics,
    "atoms": LoadedAtoms,
}


def table_parts(table: Table, prefix: str = "") -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of a table."""
    header = {"grid": asdict(table.grid), "alone": table.alone, "origin": table.origin, "counted": table.counted}
    arrays = {"times": table.times, "masses": table.masses, "absorbed": table.absorbed, **table.values}
    arrays |= {f"error {name} {cause}": parts[cause] for name, parts in table.errors.items() for cause in CAUSES}
    return header, {prefix + name: array for name, array in arrays.items()}


def table_from(header: Mapping[str, Any], arrays: Arrays, t_span: tuple[float, float], prefix: str = "") -> Table:
    """The table of a header and arrays whose shapes fit it; what does not fit raises ValueError or LookupError."""
    grid = Grid(**header["grid"])
    alone, times = int(header["alone"]), arrays[prefix + "times"]
    panels = times.size - alone - 1
    if alone not in (0, 1) or times.ndim != 1 or panels < NODES - 1 or panels % (NODES - 1):
        raise ValueError(f"{times.size} times make no panels")
    t0, t1 = t_span
    if not (np.diff(times) > 0.0).all() or not t0 <= times[0] or times[-1] != t1 or header["origin"] > times[0]:
        raise ValueError("times must increase within t_span")
    names = (*NAMES, *(name for name in ("flux", "pdf") if prefix + name in arrays))
    shape = (times.size, grid.cells + 1)
    values = {name: checked(arrays, prefix + name, shape) for name in names if name != "cdf"}
    errors = {
        name: {cause: checked(arrays, f"{prefix}error {name} {cause}", shape) for cause in CAUSES} for name in names
    }
    masses = checked(arrays, prefix + "masses", (times.size, grid.cells))
    absorbed = checked(arrays, prefix + "absorbed", (times.size, 2))
    counted = bool(header.get("counted", True))
    return Table(grid, float(header["origin"]), alone, times, masses, absorbed, values, errors, counted)


def budget_parts(budgets: Mapping[str, ErrorBudget]) -> tuple[dict[str, str], Arrays]:
    """Norms by name, and arrays of error budgets."""
    rows = {f"budget {name}": np.array([b.times, *(getattr(b, c) for c in CAUSES)]) for name, b in budgets.items()}
    return {name: budget.norm for name, budget in budgets.items()}, rows


def budgets_from(header: Mapping[str, Any], arrays: Arrays) -> dict[str, ErrorBudget]:
    """The budgets of a header and arrays."""
    budgets = {}
    for name, norm in header["budgets"].items():
        rows = arrays[f"budget {name}"]
        if rows.shape != (1 + len(CAUSES), rows.shape[1]):
            raise ValueError(f"the error budget of {name} has shape {rows.shape}")
        budgets[name] = ErrorBudget(str(norm), rows[0], **dict(zip(CAUSES, rows[1:], strict=True)))
    return budgets


def checked(arrays: Arrays, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """One of the arrays, which must be finite numbers of a shape; else ValueError or LookupError."""
    found = arrays[name]
    if found.shape != shape or found.dtype.kind != "f" or not np.isfinite(found).all():
        raise ValueError(f"{name} must be finite numbers of shape {shape}")
    return found


def _check_edges(edges: np.ndarray, span: tuple[float, float] | None) -> None:
    if edges.ndim != 1 or edges.size < 2 or not np.isfinite(edges).all() or not (np.diff(edges) > 0.0).all():
        raise ValueError("panels must increase")
    if span is not None and (edges[0], edges[-1]) != span:
        raise ValueError("panels must fill t_span")
