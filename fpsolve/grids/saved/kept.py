"""What a file keeps of each kind of evolution: tables on its own grid, on a chosen one, along a flow, or of atoms."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter1d

from fpsolve.errors import InputError
from fpsolve.grids.budgets import relative_errors
from fpsolve.grids.extrapolation import interpolate
from fpsolve.grids.flows.atoms import AtomEvolution
from fpsolve.grids.flows.characteristics import CharacteristicEvolution
from fpsolve.grids.flows.transport_solution import TransportEvolution
from fpsolve.grids.moving import MovingEvolution, Walls
from fpsolve.grids.saved.kept_flow import table_of_flow
from fpsolve.grids.saved.loaded import Arrays, budget_parts, table_parts
from fpsolve.grids.saved.on_grid import ACCURACY, OPENINGS, OnGrid
from fpsolve.grids.saved.panels import LEAST, Demand, Table, Tabulation
from fpsolve.grids.saved.pieces import fitted
from fpsolve.grids.slices import CAUSES, NAMES, Field, Slice
from fpsolve.grids.solution import GridEvolution
from fpsolve.paths.evolution import Evolution
from fpsolve.problem.differences import differentiate
from fpsolve.problem.law import Law
from fpsolve.problem.law_record import record_of
from fpsolve.problem.mixtures import Empirical, PointMass

_OPENING = 1e-10  # of the span, after which a solve is smooth in time
_NOISE = 1e-11  # misfit in time that never matters
_SPREAD_OUT = 0.1  # estimated error of q, relative to its maximum, from which on a solve from atoms is kept
_UNKNOWN = 1e30
_ROUNDING = 1e-12  # of sums of masses
_IN_CELL = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
_DEPTH_ATOMS, _DEPTH_TRANSPORT = 10, 4
_LOST_ATOMS = 1e-6  # of their spread, to which atoms must be found again


def kept(q: Evolution) -> tuple[dict[str, Any], Arrays]:
    """Parts of the header, and arrays, that are kept of an evolution that was not loaded."""
    if isinstance(q, MovingEvolution):
        header, arrays = _kept_on_grid(_own_table(q.inner), q.inner.error)
        walls = (q.frame.walls or Walls.of(q.frame, q.t_span)).smooth()
        rows = {"walls edges": walls.pieces.edges, "walls": walls.values, "walls error": walls.miss}
        return header | {"form": "moving"}, arrays | rows
    if isinstance(q, CharacteristicEvolution):
        return _kept_flow(q)
    if isinstance(q.at(q.t_span[1]), Empirical):
        return _kept_atoms(q)
    if isinstance(q, TransportEvolution):
        table = _table_of(_OfTransport(q), Demand(_NOISE, _DEPTH_TRANSPORT, strict=False, counted=False))
        return _kept_on_grid(table, {})
    if isinstance(q, GridEvolution):
        return _kept_on_grid(_own_table(q), q.error)
    return _kept_on_grid(_chosen_table(q), getattr(q, "error", {}))


def _kept_on_grid(table: Table, budgets: Any) -> tuple[dict[str, Any], Arrays]:
    (header, arrays), (norms, rows) = table_parts(table), budget_parts(budgets)
    return header | {"form": "grid", "budgets": norms}, arrays | rows


def _own_table(q: GridEvolution) -> Table:
    return _table_of(q, Demand(_NOISE, 8, strict=False))


def _table_of(q: Any, demand: Demand) -> Table:
    t0, t1 = q.t_span
    solved = Tabulation(q.slice, q.grid, t0, demand)
    if isinstance(q.initial, Empirical):
        return solved.table(_spread_out(q), t1, None)
    return solved.table(t0 + _OPENING * (t1 - t0), t1, t0)


def _spread_out(q: GridEvolution) -> float:
    """First time at which a solve from atoms says that it has a density."""
    t0, t1 = q.t_span
    for part in OPENINGS:
        t = t0 + float(part) * (t1 - t0)
        if sum(relative_errors(q.slice(t).field("logpdf")).values()) < _SPREAD_OUT:
            return t
    raise InputError("atoms must have spread out before the path is kept", q, "solve with a smaller rtol")


def _chosen_table(q: Evolution) -> Table:
    """Table of a path that has no grid, on one that is chosen for it."""
    shown = OnGrid(q)
    return Tabulation(shown.slice, shown.grid, q.t_span[0], Demand(ACCURACY, 12, strict=True)).table(
        shown.first, q.t_span[1], None
    )


class _OfTransport:
    """Slices of the transport scheme at its faces; what its cells have between them and polynomials miss is error."""

    def __init__(self, q: TransportEvolution) -> None:
        self.q, self.t_span, self.initial, self.grid = q, q.t_span, q.initial, q.levels[2].grid
        self._between = self.grid.nodes((np.arange(self.grid.cells)[:, None] + _IN_CELL).ravel())

    def slice(self, t: float) -> Slice:
        """The path at one time."""
        fields = {name: self._field(name, t) for name in (*NAMES, "flux", "pdf")}
        found = Slice(self.grid, t, self.q.masses(t), fields.__getitem__, self.q.absorbed(t))
        known = {}
        for name, field in fields.items():
            gap = np.abs(self._shown(found, name) - self._truth(name, self._between, t)[0])
            in_cell = np.nan_to_num(gap, nan=_UNKNOWN, posinf=_UNKNOWN).reshape(self.grid.cells, -1).max(axis=1)
            at_faces = np.maximum(np.append(in_cell, 0.0), np.append(0.0, in_cell))
            wide = maximum_filter1d(at_faces, 3, mode="nearest")
            known[name] = Field(field.value, field.errors | {"space": field.errors["space"] + wide})
        return Slice(self.grid, t, found.masses, known.__getitem__, found.absorbed, has_flux=True)

    def _shown(self, found: Slice, name: str) -> np.ndarray:
        """What a table makes of a field inside the cells."""
        if name == "logpdf":
            return np.log(np.maximum(interpolate(self.grid, found.density, self._between), LEAST))
        values = found.below - found.absorbed[0] if name == "cdf" else found.field(name).value
        return interpolate(self.grid, values, self._between)

    def _truth(self, name: str, x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Values and errors; the error of log q is such that it gives back that of q."""
        if name != "logpdf":
            value, error = self.q.flux_with_error(x, t) if name == "flux" else self.q.with_error(name, x, t)
            return np.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0), error
        q, error = self.q.with_error("pdf", x, t)
        with np.errstate(all="ignore"):
            return np.log(np.maximum(q, LEAST)), np.log1p(error / np.maximum(q, LEAST))

    def _field(self, name: str, t: float) -> Field:
        value, error = self._truth(name, self.grid.faces, t)
        errors = {cause: np.zeros(value.shape) for cause in CAUSES}
        errors["rounding"] += _ROUNDING * (name == "cdf")
        return Field(value, errors | {"space": np.minimum(np.nan_to_num(error, nan=_UNKNOWN), _UNKNOWN)})


class _Standing(Evolution):
    """A law that stays as it is, for a table of it."""

    def __init__(self, law: Law, t_span: tuple[float, float]) -> None:
        self.initial, self.t_span, self._own = law, t_span, type(law).score is not Law.score

    def at(self, t: float) -> Law:
        """The law."""
        return self.initial  # type: ignore[return-value]

    def with_error(self, name: str, x: Any, t: float) -> tuple[np.ndarray, np.ndarray]:
        """Values and errors; a score may be a difference."""
        if name == "velocity":
            return np.zeros(np.shape(x)), np.zeros(np.shape(x))
        if self._own or name != "score":
            return super().with_error(name, x, t)
        law, (left, right) = self.at(t), self.at(t).quantile_span(0.16)
        with np.errstate(invalid="ignore"):
            value, error = differentiate(law.logpdf, x, support=law.support, length=0.5 * (right - left))
        known = np.isfinite(value) & np.isfinite(error)  # differences do not reach the ends of a law that ends suddenly
        value = np.where(known, value, np.interp(x, x[known], value[known]))
        return value, np.where(known, error, _UNKNOWN)


def _kept_flow(q: CharacteristicEvolution) -> tuple[dict[str, Any], Arrays]:
    table, loss = table_of_flow(q), q.flow.loss
    about: dict[str, Any] = {
        "loss": [loss.left, loss.right],
        "turns": {str(side): times.tolist() for side, times in q.turns.items()},
    }
    arrays = {"origins": table.origins.edges, "clock": table.clock.edges, "budget times": q.error["pdf"].times}
    arrays |= {"state": table.state, "state error": table.errors, "breaks": q.breaks}
    if record_of(q.initial) is None:
        header, start = table_parts(_chosen_table(_Standing(q.initial, q.t_span)), "initial ")
        open_ends = {"support": ["-inf", "inf"], "boundary": ["natural", "natural"], "budgets": {}}
        about["initial"] = header | open_ends
        arrays |= start
    return {"form": "flow", "flow": about, "budgets": {}}, arrays


def _kept_atoms(q: Evolution) -> tuple[dict[str, Any], Arrays]:
    """Atoms at Chebyshev points in time; on a ring they are followed over its seam."""
    t0, t1 = q.t_span
    ring: tuple[float, ...] = ()
    if isinstance(q, AtomEvolution):
        places, own = q.places, q.error["x"]
        ring = q.process.support if q.process.boundary[0] == "periodic" else ()
    else:
        places, own = lambda t: q.at(t).samples, 0.0  # type: ignore[attr-defined]
    size = max(float(np.ptp(places(t0))), float(np.ptp(places(t1))), abs(float(np.mean(places(t1) - places(t0)))))
    size = size if size > 0.0 else 1.0

    def rows(times: np.ndarray) -> np.ndarray:
        return np.stack([places(float(t)) for t in times], axis=-1)

    def limit(times: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        limits = np.maximum(own, 1e-12 * size) + 4e-16 * np.abs(found)
        return limits, np.ones(times.size, dtype=bool)

    clock, values, missed = fitted(rows, np.array([t0, t1]), limit, _DEPTH_ATOMS)
    gap = float((clock.spread(missed) * limit(clock.nodes, values)[0]).max())
    if gap > _LOST_ATOMS * size + 30.0 * own:
        rule = f"atoms are kept as polynomials in time, which must find them to {_LOST_ATOMS:.0e} of their spread"
        raise InputError(rule, f"{gap / size:.1e}", "save a part of the span in which they move smoothly")
    about = {"one": isinstance(q.initial, PointMass), "ring": list(ring), "error": own + gap}
    return {"form": "atoms", "atoms": about, "budgets": {}}, {"clock": clock.edges, "atoms": values}
