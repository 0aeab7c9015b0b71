"""A path of densities as an xarray.Dataset; xarray is an optional extra, imported when a dataset is asked for."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_points, check_times
from fpsolve.problem.mixtures import Empirical

FIELDS = {  # name: (long name, units in terms of those of x and t)
    "pdf": ("density q(x, t)", "1/x"),
    "logpdf": ("log q(x, t)", "log(1/x)"),
    "cdf": ("distribution function F(x, t)", "1"),
    "sf": ("survival function 1 - F(x, t)", "1"),
    "score": ("score ∂x log q(x, t)", "1/x"),
    "velocity": ("velocity J/q = -∂t F/q", "x/t"),
}
UNITS = {"x": "x", "t": "t", **{name: units for name, (_, units) in FIELDS.items()}}
_NEED_A_DENSITY = ("pdf", "logpdf", "score", "velocity")
_POINTS, _TIMES = 401, 33


def dataset(q: Any, x: Any, times: Any) -> Any:
    """The dataset that `Evolution.to_xarray` describes."""
    xarray = _xarray()
    clock = _times_of(q) if times is None else check_times("times", times, q.t_span)
    points = _points_of(q, clock) if x is None else _checked_points(x)
    values = {name: np.full((clock.size, points.size), np.nan) for name in FIELDS}
    errors = {name: np.full((clock.size, points.size), np.nan) for name in FIELDS}
    for k, t in enumerate(map(float, clock)):
        atoms = isinstance(q.at(t), Empirical)
        for name in FIELDS:
            if not (atoms and name in _NEED_A_DENSITY):
                values[name][k], errors[name][k] = q.with_error(name, points, t)
    variables = {}
    for name, (long_name, units) in FIELDS.items():
        variables[name] = (("t", "x"), values[name], {"long_name": long_name, "units": units})
        about = {"long_name": f"estimated error of {name}", "units": "1" if name == "logpdf" else units}
        variables[f"{name}_error"] = (("t", "x"), errors[name], about)
    coords = {
        "t": ("t", clock, {"long_name": "time", "units": "t"}),
        "x": ("x", points, {"long_name": "place", "units": "x"}),
    }
    return xarray.Dataset(variables, coords, _attributes(q))


def _xarray() -> Any:
    """The module xarray, which takes longer to import than most solves."""
    try:
        return importlib.import_module("xarray")
    except ImportError:
        rule = "to_xarray needs the package xarray"
        raise InputError(rule, "no module named xarray", "run: pip install 'fpsolve[xarray]'") from None


def package_version() -> str:
    """Version of the installed fpsolve, or "unknown" where it runs without being installed."""
    try:
        return version("fpsolve")
    except PackageNotFoundError:
        return "unknown"


def _attributes(q: Any) -> dict[str, str]:
    """What a netCDF file can hold as attributes: text."""
    return {
        "title": "path of densities q(x, t)",
        "message": q.message,
        "stats": repr(q.stats),
        "source": f"fpsolve {package_version()}",
    }


def _times_of(q: Any) -> np.ndarray:
    """Times of the error budgets; else those at which the path is known; else some over the span."""
    budgets = getattr(q, "error", None)
    if budgets is not None and "pdf" in budgets:
        return np.asarray(budgets["pdf"].times)
    return np.linspace(float(q.t_span[0]), float(q.t_span[1]), _TIMES) if q.times is None else q.times


def _points_of(q: Any, times: np.ndarray) -> np.ndarray:
    if q.grid is not None:
        return q.grid.faces
    spans = np.array([q.span(float(t)) for t in times])
    left, right = float(spans[:, 0].min()), float(spans[:, 1].max())
    return np.linspace(left, right, _POINTS)


def _checked_points(x: Any) -> np.ndarray:
    points = np.atleast_1d(check_points("x", x))
    if points.ndim != 1 or not np.isfinite(points).all() or not (np.diff(points) > 0.0).all():
        raise InputError("x must be increasing finite points in one dimension", x, "sort them and drop repeated ones")
    return points
