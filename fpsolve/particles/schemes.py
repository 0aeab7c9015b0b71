"""What a scheme is: declared orders, calculus, noise class and cost, and one step function."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_choice, check_number
from fpsolve.kernels import schemes as kinds
from fpsolve.kernels.schemes import Method
from fpsolve.problem.coefficient import checked_array
from fpsolve.problem.process import Process

CALCULI = ("ito", "stratonovich")
NOISES = ("general", "additive", "none")
_STEP_NAMES = ("x", "t", "h", "dw", "process")


@dataclass(frozen=True, eq=False)
class Scheme:
    """An integrator: what it promises, and one step.

    Attributes
    ----------
    name : str
    strong_order : float or None
        Of E|X_h - X| for one path at a fixed time; None if it does not follow the path of W.
    weak_order : float
        Of |E φ(X_h) - E φ(X)|; inf if the law is exact.
    ode_order : float
        Without noise.
    calculus : {"ito", "stratonovich"}
        How the drift is meant that it reads; of no matter for additive noise.
    noise : {"general", "additive", "none"}
        The widest class of noise that it supports: g(x, t), g(t), or g = 0.
    cost : (int, int)
        Values of drift and of diffusion per step.
    integral : bool
        Whether it needs ∫ (W_s - W_t) ds over a step beside ΔW.
    step : callable
        step(x, t, h, dw, process, dz=None): positions (n,) after one step from `x` (n,) with increments `dw` (n,) and,
        if needed, iterated integrals `dz` (n,).

    Examples
    --------
    >>> heun = fps.SCHEMES["heun"]
    >>> heun.strong_order, heun.weak_order, heun.calculus, heun.noise
    (1.0, 1.0, 'stratonovich', 'general')
    >>> p = fps.ODE(lambda x: -x)
    >>> round(float(heun.step(np.array([1.0]), 0.0, 0.1, np.zeros(1), p)[0]), 12)
    0.905
    """

    name: str
    strong_order: float | None
    weak_order: float
    calculus: str
    noise: str
    step: Callable[..., np.ndarray] = field(repr=False)
    ode_order: float = 1.0
    cost: tuple[int, int] = (1, 1)
    integral: bool = False
    method: Method | None = field(default=None, repr=False)

    def check_supports(self, process: Process) -> None:
        """Refuse a process whose noise or calculus this scheme does not support; InputError names those that do."""
        if process.is_ode:
            return
        multiplicative = process.diffusion_coefficient.uses_x
        if self.noise == "none" or (self.noise == "additive" and multiplicative):
            kind = "g depends on x" if multiplicative else "g is not zero"
            allowed = "an ODE" if self.noise == "none" else "additive noise, g a function of t alone"
            raise InputError(
                f"scheme {self.name!r} is for {allowed}", kind, "take one for such noise: " + _suited(process)
            )
        if multiplicative and process.calculus != self.calculus:
            raise InputError(
                f"scheme {self.name!r} reads the drift in {self.calculus} calculus",
                f"a process declared with calculus={process.calculus!r}",
                f"convert it, process.to_{self.calculus}(), or take one of: {_suited(process)}",
            )


SCHEMES: dict[str, Scheme] = {}


def _suited(process: Process) -> str:
    """Names of the schemes that take this process."""
    multiplicative = process.diffusion_coefficient.uses_x
    noises = ("general",) if multiplicative else ("general", "additive")
    suited = [
        s for s in SCHEMES.values() if s.noise in noises and (not multiplicative or s.calculus == process.calculus)
    ]
    return ", ".join(scheme.name for scheme in suited)


def as_scheme(given: Any) -> Scheme:
    """A Scheme, or the one of that name."""
    if isinstance(given, Scheme):
        return given
    return SCHEMES[check_choice("scheme", given, tuple(SCHEMES))]


def scheme(
    *, strong_order: float | None, weak_order: float, calculus: str = "ito", noise: str = "general"
) -> Callable[[Callable[..., Any]], Scheme]:
    """Declare a scheme of one's own: the decorated function is its step.

    Parameters
    ----------
    strong_order : float or None
        Order that it is said to have path by path; None if it does not follow the path of W.
    weak_order : float
        Order that it is said to have in law.
    calculus : {"ito", "stratonovich"}
        How it reads the drift.
    noise : {"general", "additive", "none"}
        The widest class of noise that it is meant for.

    Returns
    -------
    callable
        Decorator of `step(x, t, h, dw, process)`, arguments by name, `dz` allowed (∫ (W_s - W_t) ds over the step); it
        returns a Scheme, which goes wherever the name of a scheme does.

    Raises
    ------
    InputError, UnknownName
        If an order is not positive, or the function does not take these arguments.

    Examples
    --------
    >>> @fps.scheme(strong_order=0.5, weak_order=1.0)
    ... def mine(x, t, h, dw, process):
    ...     return x + process.drift(x, t) * h + process.diffusion(x, t) * dw
    >>> p = fps.SDE(lambda x: -x, lambda x: 0.1 * x)
    >>> def run(scheme):
    ...     return fps.simulate(p, fps.PointMass(1.0), (0, 1), n_paths=100, n_steps=8, scheme=scheme).x
    >>> bool(abs(run(mine) - run("euler-maruyama")).max() < 1e-12)
    True
    """
    for what, order in (("strong_order", strong_order), ("weak_order", weak_order)):
        if order is not None:
            check_number(what, order, above=0.0)
    check_choice("calculus", calculus, CALCULI)
    check_choice("noise", noise, NOISES)

    def declared(step: Callable[..., Any]) -> Scheme:
        names = _checked_names(step)
        integral = "dz" in names

        def checked_step(
            x: np.ndarray, t: float, h: float, dw: np.ndarray, process: Process, dz: np.ndarray | None = None
        ) -> np.ndarray:
            given = {"x": x, "t": t, "h": h, "dw": dw, "process": process, "dz": dz}
            with np.errstate(all="ignore"):  # what is not finite ends a path and is reported
                return checked_array(f"step of {step.__name__}", step(**{name: given[name] for name in names}), x, t)

        return Scheme(
            step.__name__, strong_order, weak_order, calculus, noise, checked_step, weak_order, (0, 0), integral
        )

    return declared


def _checked_names(step: Any) -> list[str]:
    rule = "a step must be a function of x, t, h, dw, process and, if it needs it, dz"
    if not callable(step):
        raise InputError(rule, step, "decorate a function: def step(x, t, h, dw, process): ...")
    found = inspect.signature(step).parameters
    names = [name for name, p in found.items() if name in (*_STEP_NAMES, "dz")]
    others = [name for name, p in found.items() if name not in names and p.default is inspect.Parameter.empty]
    if others or "x" not in names:
        raise InputError(rule, f"({', '.join(found)})", "name its arguments so, or give the others defaults")
    return names


def method_of(scheme: Scheme, callback: int = 0, number: float | None = None) -> Method:
    """The scheme as the kernel takes it."""
    if scheme.method is None:
        return EMPTY._replace(kind=kinds.CALLBACK, callback=callback)
    return scheme.method if number is None else scheme.method._replace(number=number)


EMPTY = Method(
    kinds.EULER, np.zeros(1), np.zeros((1, 2), np.uint8), np.zeros((1, 1)), np.zeros((1, 1, 3)), np.zeros(1),
    np.zeros((1, 4)), 0.0, 0,
)  # fmt: skip
