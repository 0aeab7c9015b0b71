"""Where pictures come from: matplotlib, imported when the first one is drawn."""

from __future__ import annotations

import importlib
from typing import Any


def new_axes(ax: Any = None) -> Any:
    """Return `ax`, or the axes of a new figure."""
    if ax is not None:
        return ax
    # matplotlib costs as much to import as everything else together, and most runs draw nothing
    pyplot = importlib.import_module("matplotlib.pyplot")
    return pyplot.subplots(layout="constrained")[1]


def new_panels(rows: int, columns: int) -> tuple[Any, Any]:
    """Return a new figure and its axes, shape (rows, columns)."""
    pyplot = importlib.import_module("matplotlib.pyplot")
    size = (3.6 * columns, 3.2 * rows)
    return pyplot.subplots(rows, columns, squeeze=False, figsize=size, layout="constrained")
