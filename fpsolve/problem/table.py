"""A function of (x, t) looked up in a table, as a coefficient that costs a few nanoseconds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fpsolve.errors import CoefficientError, InputError, check_number, check_t_span
from fpsolve.kernels.coefficients import OK, evaluate, python_block
from fpsolve.kernels.lookup import TableBlock
from fpsolve.problem.coefficient import Binding, checked_array
from fpsolve.problem.tabulation import NotTabulated, tabulate


class Table:
    """A function of (x, t) tabulated on a region, to be used wherever a callable coefficient may stand.

    Parameters
    ----------
    fn : callable
        Function of x and t, bound by name; `x` is an array, and the result has its shape.
    region : (float, float), or callable
        Where it is tabulated: left < right, or a function of t that returns such a pair. Outside, in x and in t, `fn`
        itself is called: the region decides how fast a value is found, never what it is.
    t_span : (float, float)
        Times for which it is tabulated.
    rtol : float
        Error of interpolation that is allowed, relative to the largest |fn| at about the same time.

    Attributes
    ----------
    error : float
        The largest error measured between the nodes, relative likewise: one place in each cell of the table, at three
        times in each of its panels.
    shape : (int, int)
        Nodes in x of the finest panel, and nodes in t of all panels.
    called_directly : float
        Part of the times in which no table is fine enough, and `fn` is called.
    t_span, rtol

    Raises
    ------
    CoefficientError
        If `fn` is not resolved to `rtol` during more than a tenth of the times; says where.
    InputError
        If another argument breaks a rule.

    Notes
    -----
    Quintic splines in x, polynomials of degree seven through Chebyshev nodes in t, on panels that are halved until the
    measured error is small enough. In `simulate` a look-up costs about 5 ns, and no Python. `p.reverse(q)`,
    `p.probability_flow(q)` and `p.with_noise(gamma, q)` make their tables themselves, as do functions that use an
    Evolution, once there are many values to be found.

    What an error δ(x, t) of a drift does to the law of the paths is bounded by KL ≤ ½ ∫ E[δ²/g²] dt (Girsanov) and,
    with Pinsker's inequality, |E φ - E' φ| ≤ sup|φ| √(∫ E[δ²/g²] dt) for every bounded φ of the path. Without noise
    two trajectories part at most as ∫ |δ| exp(∫ sup ∂x f) dt (Gronwall).

    Examples
    --------
    >>> drift = fps.Table(lambda x, t: -np.tanh(x) * (1 + t), (-6, 6), (0, 1))
    >>> drift.error < 1e-8, round(float(drift(0.5, 0.25)), 6)
    (True, -0.577646)
    >>> p = fps.SDE(drift, 1.0)
    """

    def __init__(self, fn: Callable[..., Any], region: Any, t_span: Any, *, rtol: float = 1e-8) -> None:
        self._fn = Binding("tabulated function", fn, ("x", "t"), {})
        self.t_span, self.rtol = check_t_span(t_span), check_number("rtol", rtol, above=0.0)
        self.probe_times = (0.63 * self.t_span[0] + 0.37 * self.t_span[1], *self.t_span)
        try:
            self.tabulation = tabulate(self.direct, _checked_region(region), self.t_span, self.rtol, None)
        except NotTabulated as why:
            raise CoefficientError(
                f"a table must resolve its function to rtol={self.rtol:g}",
                str(why),
                "raise rtol, or take a region or times in which it is smoother",
            ) from None
        self._block: TableBlock | None = None

    @property
    def error(self) -> float:
        """Largest relative error of interpolation that was measured."""
        return self.tabulation.error

    @property
    def shape(self) -> tuple[int, int]:
        """Nodes in x of the finest panel, and nodes in t of all panels."""
        return self.tabulation.shape

    @property
    def called_directly(self) -> float:
        """Part of the times in which the function is called."""
        return self.tabulation.direct

    def direct(self, x: np.ndarray, t: float) -> np.ndarray:
        """Values of the function itself at one-dimensional `x`."""
        with np.errstate(all="ignore"):  # as for every coefficient: who uses the values looks at them
            return checked_array(self._fn.what, self._fn(x=x, t=t), x, t)

    def __call__(self, x: Any, t: float) -> np.ndarray:
        """Values at points `x` of any shape and one time."""
        points = np.asarray(x, dtype=float)
        flat, out = points.ravel(), np.empty(points.size)
        if self._block is None:
            self._block = TableBlock(self.tabulation.panels, "table", python_block(self.direct))
        if evaluate(self._block.address, flat, float(t), self._block.params, out) != OK:
            self._block.raise_stored()
        return out.reshape(points.shape)

    def __getstate__(self) -> dict[str, Any]:
        """Everything but addresses, which mean nothing in another process."""
        return self.__dict__ | {"_block": None}

    def __repr__(self) -> str:
        return f"Table({self.tabulation.description}, interpolation error {self.error:.1e})"


def _checked_region(region: Any) -> Callable[[float], tuple[float, float]]:
    """Return the region as a function of time."""
    rule = (
        "region must be a pair (left, right) of finite numbers with left < right, or a function of t that returns one"
    )

    def pair(value: Any) -> tuple[float, float]:
        try:
            left, right = (float(end) for end in value)
        except (TypeError, ValueError):
            raise InputError(rule, value, "write for instance region=(-5, 5)") from None
        if not (math.isfinite(left) and math.isfinite(right) and left < right):
            raise InputError(rule, value, "give finite ends in increasing order")
        return left, right

    if callable(region):
        return lambda t: pair(region(t))
    fixed = pair(region)
    return lambda t: fixed
