"""A coefficient is a number or a callable bound by parameter name, resolved and examined once."""

from __future__ import annotations

import functools
import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fpsolve.errors import CoefficientError, InputError, UnknownName, check_choice, check_number
from fpsolve.kernels.coefficients import Block, NotCompiled, compile_block, constant_block, evaluate, python_block
from fpsolve.kernels.lookup import TableBlock
from fpsolve.problem.built_on import BuiltOn, built_on, common_density, common_region, total_error
from fpsolve.problem.differences import differentiate
from fpsolve.problem.tabulation import NotTabulated, Tabulation, tabulate

# a new function costs about 60 ms to compile and a callback about 5 ns per value (100 ns if elementwise)
COMPILE_FROM = 10_000_000
VALUES_PER_CALL = 1000  # a callback costs as much as so many values, even for none
COMPILE_ELEMENTWISE_FROM = 500_000
TABULATE_FROM = 2_000_000  # a table of a function on an Evolution takes about a second, a value without it 500 ns
TABLE_RTOL = 1e-8
_PROBE_TIMES = (0.37, 0.0, 1.0, 0.73, 1.9, 3.3, 7.1, 20.3, -0.37)
_PROBE_PARTS = np.array([0.13, 0.31, 0.47, 0.5, 0.62, 0.78, 0.91])


class MachineCode:
    """What numba made of a function, shared by the coefficients that differ only in their parameters."""

    def __init__(self) -> None:
        self.compiled: Any = None
        self.refusal = ""

    def __reduce__(self) -> tuple[type[MachineCode], tuple[()]]:
        """Travel without the machine code: another process compiles for itself."""
        return MachineCode, ()


class Binding:
    """A callable whose arguments are found by name: fields (x, t, ...) and parameters."""

    def __init__(self, what: str, fn: Callable[..., Any], fields: tuple[str, ...], params: Mapping[str, float]) -> None:
        self.what, self.fn = what, fn
        self.fields: list[str] = []
        self.constants: dict[str, Any] = {}
        for name, parameter in _signature_of(what, fn).items():
            if name in fields:
                self.fields.append(name)
            elif name in params:
                self.constants[name] = float(params[name])
            elif parameter.default is not inspect.Parameter.empty:
                self.constants[name] = parameter.default
            else:
                known = ", ".join((*fields, *params))
                raise UnknownName(
                    f"the arguments of the {what} must be among {known}, or have a default",
                    name,
                    f"rename it, or pass params={{{name!r}: ...}}",
                )

    def __call__(self, **values: Any) -> Any:
        """Call with the fields that it names, taken from `values`."""
        return self.fn(**{name: values[name] for name in self.fields}, **self.constants)


def _signature_of(what: str, fn: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    rule = f"the {what} must be a number or a callable with named arguments"
    if not callable(fn):
        raise CoefficientError(rule, fn, "write for instance lambda x, t: -x")
    try:
        found = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        raise CoefficientError(rule, fn, "wrap it: lambda x, t: fn(x)") from None
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if any(p.kind not in by_name for p in found.values()):
        raise CoefficientError(
            rule, fn, "it takes *args, **kwargs or positional-only arguments; wrap it: lambda x, t: fn(x, t)"
        )
    return found


def checked_array(what: str, result: Any, x: np.ndarray, t: float) -> np.ndarray:
    """Return what a callable gave at the points `x` as float64 of the shape of `x`, or say what is wrong."""
    array = np.asarray(result)
    if array.dtype.kind not in "biuf":
        raise CoefficientError(
            f"the {what} must return real numbers",
            f"dtype {array.dtype} at t={t:g}",
            "return a float array shaped like x",
        )
    if array.shape not in ((), x.shape):
        raise CoefficientError(
            f"the {what} must return one value per point",
            f"shape {array.shape} for x of shape {x.shape} at t={t:g}",
            "return an array shaped like x, or one number",
        )
    return np.broadcast_to(array.astype(float, copy=False), x.shape)


def check_finite(what: str, values: np.ndarray, x: np.ndarray, t: float) -> np.ndarray:
    """Return `values`, or name the first point at which they are not finite."""
    bad = ~np.isfinite(values)
    if bad.any():
        j = int(np.argmax(bad))
        raise CoefficientError(
            f"the {what} must be finite on the support",
            f"{values[j]} at x={x[j]:.6g}, t={t:.6g}",
            "correct it there, or declare support= without that point",
        )
    return values


class Coefficient:
    """A real function of (x, t), usable from NumPy and, as a block, from every kernel."""

    def __init__(
        self,
        what: str,
        source: Any,
        params: Mapping[str, float] | None = None,
        support: tuple[float, float] = (-np.inf, np.inf),
    ) -> None:
        self.what, self.source, self.support = what, source, support
        self.constant: float | None = None
        self.probe_time = _PROBE_TIMES[0]
        self._elementwise = False
        self._machine = MachineCode()
        self._tables: dict[tuple[float, float], Tabulation | str] = {}  # by span; or why there is none
        self.params = dict(params or {})
        if (isinstance(source, numbers.Real) and not isinstance(source, bool)) or _is_scalar_array(source):
            self.constant = float(source)
            if not math.isfinite(self.constant):
                raise CoefficientError(f"the {what} must be finite", self.constant, "give a finite number")
            self.binding = None
        else:
            self.binding = Binding(what, source, ("x", "t"), self.params)
            self.probe_time = self._examine()

    @property
    def uses_x(self) -> bool:
        """Whether it can depend on x."""
        return self.binding is not None and "x" in self.binding.fields

    @property
    def uses_t(self) -> bool:
        """Whether it can depend on t."""
        return self.binding is not None and "t" in self.binding.fields

    @property
    def is_zero(self) -> bool:
        """Whether it is the number zero."""
        return self.constant == 0.0

    def param_names(self) -> set[str]:
        """Names of the parameters that it reads."""
        return set() if self.binding is None else set(self.binding.constants) & set(self.params)

    def share_machine_code(self, other: Coefficient) -> None:
        """Share what is or will be compiled for `other`, the same function with other parameter values."""
        self._machine = other._machine

    def resolved(self) -> Any:
        """Return the source with its parameters bound, fit to declare another coefficient."""
        if self.binding is None:
            return self.constant
        return self.source if not self.param_names() else functools.partial(self.source, **self._bound_params())

    def _bound_params(self) -> dict[str, float]:
        return {name: self.params[name] for name in self.param_names()}

    def probe_points(self) -> np.ndarray:
        """Seven points at which it is examined."""
        return probe_points(self.support)

    def __call__(self, x: Any, t: float) -> np.ndarray:
        """Values at points `x` of any shape and one time, checked for shape, type and finiteness."""
        points = np.asarray(x, dtype=float)
        flat = points.ravel()
        return check_finite(self.what, self.raw(flat, t), flat, t).reshape(points.shape)

    def raw(self, x: np.ndarray, t: float) -> np.ndarray:
        """Values at one-dimensional `x`, not yet checked to be finite."""
        if self.binding is None:
            return np.full(x.shape, self.constant)
        with np.errstate(all="ignore"):
            if self._elementwise:
                values = [self.binding(x=float(one), t=t) for one in x]
                return checked_array(self.what, np.array(values), x, t)
            return checked_array(self.what, self.binding(x=x, t=t), x, t)

    def dx(self, x: Any, t: float, order: int = 1) -> np.ndarray:
        """Derivative in x by sixth-order differences (exactly zero where x is not an argument)."""
        return self._differentiated(lambda y: self(y, t), x, order)

    def square_dx(self, x: Any, t: float, order: int = 1) -> np.ndarray:
        """Derivative in x of the square: noise enters every equation as g², never as g."""
        return self._differentiated(lambda y: self(y, t) ** 2, x, order)

    def _differentiated(self, fn: Callable[[np.ndarray], np.ndarray], x: Any, order: int) -> np.ndarray:
        if not self.uses_x:
            return np.zeros(np.shape(x))
        return differentiate(fn, x, order=order, support=self.support)[0]

    def _examine(self) -> float:
        """Probe shape, type, finiteness and independence of neighbouring entries; return the first usable time."""
        points = probe_points(self.support)
        refusals: list[BaseException] = []
        # a function that this package builds on a path of densities says where that path is known
        times = (*getattr(self.source, "probe_times", ()), *_PROBE_TIMES)
        for t in times if self.uses_t else times[:1]:
            try:
                values = self._probe_array(points, t)
                self._check_pointwise(points, values, t)
                return t
            except CoefficientError as refusal:
                if "finite" not in refusal.rule and "raise" not in refusal.rule:
                    raise
                refusals.append(refusal)
        raise refusals[0]

    def _probe_array(self, points: np.ndarray, t: float) -> np.ndarray:
        """Values at the probe points; a function that only takes single numbers is marked as elementwise."""
        try:
            values = self.raw(points, t)
        except CoefficientError:
            raise
        except Exception as problem:
            self._elementwise = True
            try:
                values = self.raw(points, t)
            except Exception:
                self._elementwise = False
                raise CoefficientError(
                    f"the {self.what} must not raise",
                    f"{type(problem).__name__}: {problem} (for an array x of shape {points.shape}, t={t:g})",
                    "make it return one value per point of x",
                ) from problem
        return check_finite(self.what, values, points, t)

    def _check_pointwise(self, points: np.ndarray, values: np.ndarray, t: float) -> None:
        if self._elementwise:
            return
        order = np.array([4, 2, 6, 0, 5, 1, 3])
        with np.errstate(all="ignore"):
            resolution = _resolution(self.binding(x=points, t=t))  # type: ignore[misc]
        # rounding depends on where a point stands in the array; derivatives by differences amplify it, sums may cancel
        spread = max(64 * resolution, 1e-8) * np.abs(values).max() + 1e-11
        rearranged = self.raw(points[order], t)
        fewer = self.raw(points[:3], t)
        if np.abs(rearranged - values[order]).max() > spread or np.abs(fewer - values[:3]).max() > spread:
            raise CoefficientError(
                f"the {self.what} must treat every point by itself",
                "values that change when points are reordered or left out",
                "do not use means, sums, sorting or neighbours of x inside it",
            )

    def pays(self, evaluations: float, calls: float) -> bool:
        """Whether so many values are worth compiling for, or so many calls that would fetch them from Python."""
        threshold = COMPILE_ELEMENTWISE_FROM if self._elementwise else COMPILE_FROM
        return evaluations + VALUES_PER_CALL * calls >= threshold

    def block(self, evaluations: float, t_span: tuple[float, float], calls: float = 0.0) -> Block:
        """Return it for kernels: compiled where that pays and is safe, else as a callback into Python."""
        if self.binding is None:
            return constant_block(self.constant or 0.0)
        if self.pays(evaluations, calls):
            block = self._compiled_block(t_span)
            if block is not None:
                return block
        return python_block(self.raw)

    @property
    def built_on(self) -> tuple[BuiltOn, ...]:
        """The Evolutions whose scores it holds."""
        return () if self.binding is None else built_on(self.source)

    def path_block(self, evaluations: float, t_span: tuple[float, float], calls: float = 0.0) -> Block:
        """Return it for kernels that move paths: like `block`, but from a table if it is one, or uses an Evolution.

        Beyond the table values come from the function itself; beyond where the Evolution is known they are NaN.
        """
        tabulation, parts = getattr(self.source, "tabulation", None), self.built_on
        if isinstance(tabulation, Tabulation):
            how = f"table ({tabulation.description}, interpolation error {tabulation.error:.1e})"
            return TableBlock(tabulation.panels, how, python_block(self.source.direct))
        if not parts:
            return self.block(evaluations, t_span, calls)
        beyond = python_block(self._where_known)
        table = self._tabulated(t_span) if evaluations >= TABULATE_FROM else ""
        if not isinstance(table, Tabulation):
            return beyond
        errors = f"interpolation error {table.rms_error:.1e}, from the error of the score {table.rms_noise:.1e}"
        return TableBlock(table.panels, f"table ({table.description}, {errors})", beyond)

    def _tabulated(self, t_span: tuple[float, float]) -> Tabulation | str:
        """The table for a span, made once, or why there is none."""
        parts = self.built_on
        if t_span not in self._tables:
            try:
                self._tables[t_span] = tabulate(
                    self.raw,
                    lambda t: common_region(parts, self.support, t),
                    t_span,
                    TABLE_RTOL,
                    lambda x, t: total_error(parts, x, t),
                    common_density(parts),
                )
            except NotTabulated as why:
                self._tables[t_span] = f"no table, {why}"
        return self._tables[t_span]

    def _where_known(self, x: np.ndarray, t: float) -> np.ndarray:
        """Values, and NaN where an Evolution in it is not known."""
        values = self.raw(x, t)
        for part in self.built_on:
            unknown = part.is_unknown(x, t)
            if unknown.any():
                values = np.where(unknown, np.nan, values)
        return values

    def _compiled_block(self, t_span: tuple[float, float]) -> Block | None:
        names = list(inspect.signature(self.source).parameters)
        values = {k: v for k, v in self.binding.constants.items() if isinstance(v, numbers.Real)}  # type: ignore[union-attr]
        machine = self._machine
        if machine.compiled is None and not machine.refusal:
            passed = [name for name in names if name in ("x", "t") or name in values]
            try:
                machine.compiled = compile_block(self.source, passed, list(values))
            except NotCompiled as refusal:
                machine.refusal = str(refusal)
        if machine.compiled is None:
            return None
        # numba wants at least one parameter to point at
        block = Block(
            machine.compiled.address,
            np.array([*values.values()] if values else [0.0], dtype=float),
            "compiled",
            machine.compiled,
        )
        return block if self._agrees_with_python(block, t_span) else None

    def _agrees_with_python(self, block: Block, t_span: tuple[float, float]) -> bool:
        """Compare machine code with Python to 8 units in the last place: constants freeze, powers wrap."""
        points = probe_points(self.support)
        out = np.empty_like(points)
        for t in (t_span[0], 0.3 * t_span[0] + 0.7 * t_span[1], t_span[1]):
            evaluate(block.address, points, t, block.params, out)
            expected = self.raw(points, t)
            both = np.isfinite(expected) & np.isfinite(out)
            scale = np.maximum(np.abs(expected), 1e-3 * np.abs(expected[both]).max(initial=0.0))
            with np.errstate(invalid="ignore"):
                far = np.abs(out - expected) > 8 * np.spacing(scale)
            if (far & both).any() or (np.isfinite(expected) != np.isfinite(out)).any():
                return False
        return True

    def refusal(self) -> str:
        """Why the function is neither tabulated nor compiled, or an empty string."""
        refusals = [table for table in self._tables.values() if isinstance(table, str)]
        return refusals[0] if refusals else self._machine.refusal


def _is_scalar_array(source: Any) -> bool:
    return isinstance(source, np.ndarray) and source.ndim == 0 and source.dtype.kind in "iuf"


def _resolution(result: Any) -> float:
    dtype = np.asarray(result).dtype
    return float(np.finfo(dtype).eps) if dtype.kind == "f" else float(np.finfo(float).eps)


def probe_points(support: tuple[float, float]) -> np.ndarray:
    """Seven points inside `support`, of moderate size where it is infinite."""
    left, right = support
    if math.isfinite(left) and math.isfinite(right):
        return left + (right - left) * _PROBE_PARTS
    if math.isfinite(left):
        return left + 3.0 * _PROBE_PARTS
    if math.isfinite(right):
        return right - 3.0 * _PROBE_PARTS
    return -1.7 + 3.4 * _PROBE_PARTS


def checked_params(params: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the parameters as floats."""
    given = {} if params is None else params
    if not isinstance(given, Mapping):
        raise InputError("params must map names to numbers", given, "write for instance params={'k': 1.0}")
    return {name: check_number(f"parameter {name}", value) for name, value in given.items()}


def check_params_used(params: Mapping[str, float], used: set[str]) -> None:
    """Refuse a parameter that no coefficient reads."""
    for name in params:
        check_choice("a parameter", name, used or {"(this process reads no parameters)"})
