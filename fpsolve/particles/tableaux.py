"""The schemes that come with the package, as data: tableaux, orders and sources.

Sources: Maruyama (1955); Milstein (1974); Kloeden and Platen (1992), sections 10.3, 11.1 and 15.1; Rößler (2010),
SRI1W1 and SRA1; Hutzenthaler, Jentzen, Kloeden (2012) for taming; Higham (2000) for θ; Roberts and Tweedie (1996) for
the two Langevin chains; Dormand and Prince (1980).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.optimize import newton

from fpsolve.errors import InputError
from fpsolve.kernels import schemes as kinds
from fpsolve.kernels.schemes import Method
from fpsolve.particles.schemes import EMPTY, SCHEMES, Scheme
from fpsolve.problem.process import Process

Array = np.ndarray
Entry = tuple[int, int, Sequence[float]]
_ADAPTIVE_RTOL = 1e-8


def tableau(
    c: Sequence[float],
    alpha: Sequence[float],
    beta: Mapping[int, Sequence[float]],
    a: Mapping[tuple[int, int], float],
    b: Mapping[tuple[int, int], Sequence[float]] | None = None,
) -> Method:
    """Method from its non-zero entries; a point's f or g is evaluated if something uses it."""
    s = len(c)
    full = EMPTY._replace(
        kind=kinds.TABLEAU, c=np.array(c, dtype=float), uses=np.zeros((s, 2), np.uint8), a=np.zeros((s, s)),
        b=np.zeros((s, s, 3)), alpha=np.array(alpha, dtype=float), beta=np.zeros((s, 4)),
    )  # fmt: skip
    for i, row in beta.items():
        full.beta[i, : len(row)] = row
    for (i, j), weight in a.items():
        full.a[i, j] = weight
    for (i, j), row in (b or {}).items():
        full.b[i, j, : len(row)] = row
    full.uses[:, 0] = (full.a != 0).any(axis=0) | (full.alpha != 0)
    full.uses[:, 1] = (full.b != 0).any(axis=(0, 2)) | (full.beta != 0).any(axis=1)
    return full


def tableau_step(method: Method) -> Any:
    """One step of a tableau in NumPy."""

    def step(x: Array, t: float, h: float, dw: Array, process: Process, dz: Array | None = None) -> Array:
        root, area = math.sqrt(h), 0.0 if dz is None else dz / h
        on_points = (dw, root, area)
        at_end = (dw, (dw**2 - h) / (2 * root), area, dw * (dw**2 - 3 * h) / (6 * h))
        f: list[Any] = []
        g: list[Any] = []
        new = x
        for i, c in enumerate(method.c):
            point = x
            for j in range(i):
                point = point + h * method.a[i, j] * f[j]
                point = point + sum(w * r for w, r in zip(method.b[i, j], on_points, strict=True)) * g[j]
            f.append(process.drift(point, t + c * h) if method.uses[i, 0] else 0.0)
            g.append(process.diffusion(point, t + c * h) if method.uses[i, 1] else 0.0)
            new = new + h * method.alpha[i] * f[i]
            new = new + sum(w * r for w, r in zip(method.beta[i], at_end, strict=True)) * g[i]
        return np.asarray(new)

    return step


def _euler_step(x: Array, t: float, h: float, dw: Array, process: Process, dz: Array | None = None) -> Array:
    return x + process.drift(x, t) * h + process.diffusion(x, t) * dw


def _milstein_step(x: Array, t: float, h: float, dw: Array, process: Process, dz: Array | None = None) -> Array:
    return _euler_step(x, t, h, dw, process) + 0.25 * process.diffusion_squared_dx(x, t) * (dw**2 - h)


def _tamed_step(x: Array, t: float, h: float, dw: Array, process: Process, dz: Array | None = None) -> Array:
    f = process.drift(x, t)
    return x + f * h / (1 + h * np.abs(f)) + process.diffusion(x, t) * dw


def _exact_linear_step(x: Array, t: float, h: float, dw: Array, process: Process, dz: Array | None = None) -> Array:
    rate = linear_rate(process)
    part = h if rate == 0 else -math.expm1(-rate * h) / rate
    spread = 1.0 if rate == 0 else math.sqrt(-math.expm1(-2 * rate * h) / (2 * rate * h))
    return x + process.drift(x, t) * part + spread * process.diffusion(x, t) * dw


def linear_rate(process: Process) -> float:
    """The rate a of f = -a (x - m) with constant g; InputError for any other process."""
    f, g = process.drift_coefficient, process.diffusion_coefficient
    rule = "scheme 'exact-ou' is for dX = -a (X - m) dt + σ dW"
    if f.uses_t or g.uses_x or g.uses_t:
        raise InputError(rule, process, "take another scheme")
    x = f.probe_points()
    values = np.asarray(f(x, 0.0))
    slope = (values[-1] - values[0]) / (x[-1] - x[0])
    if np.abs(values - values[0] - slope * (x - x[0])).max() > 1e-12 * (1.0 + np.abs(values).max()):
        raise InputError(rule, "a drift that is not affine in x", "take another scheme")
    return -float(slope)


def _theta_step(theta: float) -> Any:
    def step(x: Array, t: float, h: float, dw: Array, process: Process, dz: Array | None = None) -> Array:
        known = x + (1 - theta) * h * process.drift(x, t) + process.diffusion(x, t) * dw
        found = newton(
            lambda y: y - theta * h * process.drift(y, t + h) - known,
            known,
            fprime=lambda y: 1 - theta * h * process.drift_dx(y, t + h),
            tol=1e-13,
            maxiter=100,
        )
        return np.asarray(found)

    return step


def _mala_step(
    x: Array, t: float, h: float, dw: Array, process: Process, dz: Array | None = None, *, uniform: Any = None
) -> Array:
    if uniform is None:
        raise InputError("a step of MALA needs a uniform number for each path", None, "give uniform=rng.random(x.size)")
    y = _euler_step(x, t, h, dw, process)
    there, back = y - x - process.drift(x, t) * h, x - y - process.drift(y, t) * h
    variance = process.diffusion_squared(x, t) * h
    log_ratio = process.target.logpdf(y) - process.target.logpdf(x) + (there**2 - back**2) / (2 * variance)
    return np.where(np.log(uniform) < log_ratio, y, x)


def _add(name: str, strong: float | None, weak: float, method: Method, **options: Any) -> None:
    options.setdefault("step", tableau_step(method) if method.kind == kinds.TABLEAU else None)
    uses = method.uses.sum(axis=0)
    options.setdefault("cost", (int(uses[0]), int(uses[1])))
    options = {"calculus": "ito", "noise": "general"} | options
    SCHEMES[name] = Scheme(name, strong, weak, method=method, **options)


def _kind(kind: int, number: float = 0.0) -> Method:
    return EMPTY._replace(kind=kind, number=number)


_RK4 = tableau((0, 0.5, 0.5, 1), (1 / 6, 1 / 3, 1 / 3, 1 / 6), {}, {(1, 0): 0.5, (2, 1): 0.5, (3, 2): 1.0})
_DORMAND_PRINCE_A = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_FIFTH = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0)
_FOURTH = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)


def _dormand_prince() -> Method:
    rows = {(i + 1, j): w for i, row in enumerate(_DORMAND_PRINCE_A) for j, w in enumerate(row) if w}
    method = tableau((0, 0.2, 0.3, 0.8, 8 / 9, 1, 1), _FIFTH, {}, rows)
    method.beta[:, 0] = np.subtract(_FIFTH, _FOURTH)  # the estimate of the error has no noise to weigh
    return method._replace(kind=kinds.ADAPTIVE, number=_ADAPTIVE_RTOL)


_add("euler-maruyama", 0.5, 1.0, _kind(kinds.EULER), step=_euler_step, cost=(1, 1))
_add("milstein", 1.0, 1.0, _kind(kinds.MILSTEIN), step=_milstein_step, cost=(1, 2))
_add(
    "milstein-derivative-free", 1.0, 1.0,
    tableau((0, 1), (1, 0), {0: (1, -1), 1: (0, 1)}, {(1, 0): 1.0}, {(1, 0): (0, 1)}),
)  # fmt: skip
_add(
    "euler-heun", 1.0, 1.0, tableau((0, 1), (1, 0), {0: (0.5,), 1: (0.5,)}, {}, {(1, 0): (1,)}), calculus="stratonovich"
)
_add(
    "heun", 1.0, 1.0, tableau((0, 1), (0.5, 0.5), {0: (0.5,), 1: (0.5,)}, {(1, 0): 1.0}, {(1, 0): (1,)}),
    calculus="stratonovich", ode_order=2.0,
)  # fmt: skip
_add(
    "rossler-1.5", 1.5, 1.5,
    tableau(
        (0, 0.75, 0.25, 1, 0.25), (1 / 3, 2 / 3, 0, 0, 0),
        {0: (-1, -1, 2, -2), 2: (4 / 3, 4 / 3, -4 / 3, 5 / 3), 3: (2 / 3, -1 / 3, -2 / 3, -2 / 3), 4: (0, 0, 0, 1)},
        {(1, 0): 0.75, (2, 0): 0.25, (3, 0): 1.0, (4, 0): 0.25},
        {(1, 0): (0, 0, 1.5), (2, 0): (0, 0.5), (3, 0): (0, -1), (4, 0): (0, -5), (4, 2): (0, 3), (4, 3): (0, 0.5)},
    ),
    integral=True, ode_order=2.0,
)  # fmt: skip
_add(
    "rossler-1.5-additive", 1.5, 2.0,
    tableau(
        (0, 1, 0.75), (1 / 3, 0, 2 / 3), {0: (0, 0, 1), 1: (1, 0, -1)}, {(2, 0): 0.75}, {(2, 1): (0, 0, 1.5)}
    ),
    integral=True, noise="additive", ode_order=2.0,
)  # fmt: skip
_add(
    "platen-weak-2", 1.0, 2.0,
    tableau(
        (0, 1, 1, 1), (0.5, 0.5, 0, 0), {0: (0.5,), 2: (0.25, 0.5), 3: (0.25, -0.5)},
        {(1, 0): 1.0, (2, 0): 1.0, (3, 0): 1.0}, {(1, 0): (1,), (2, 0): (0, 1), (3, 0): (0, -1)},
    ),
    ode_order=2.0,
)  # fmt: skip
_add("theta", 0.5, 1.0, _kind(kinds.THETA, 0.5), step=_theta_step(0.5), cost=(5, 1), ode_order=2.0)
_add("implicit-euler", 0.5, 1.0, _kind(kinds.THETA, 1.0), step=_theta_step(1.0), cost=(5, 1))
_add("tamed-euler", 0.5, 1.0, _kind(kinds.TAMED), step=_tamed_step, cost=(1, 1))
_add("exact-ou", 1.0, math.inf, _kind(kinds.LINEAR), step=_exact_linear_step, noise="additive", ode_order=math.inf)
_add("ula", 1.0, 1.0, _kind(kinds.EULER), step=_euler_step, noise="additive", cost=(1, 1))
_add("mala", None, 1.0, _kind(kinds.MALA), step=_mala_step, noise="additive", cost=(2, 1))
_add("euler", None, 1.0, _kind(kinds.EULER), step=_euler_step, noise="none", cost=(1, 0))
_add("midpoint", None, 2.0, tableau((0, 0.5), (0, 1), {}, {(1, 0): 0.5}), noise="none", ode_order=2.0)
_add("rk4", None, 4.0, _RK4, noise="none", ode_order=4.0)
_add(
    "dopri5", None, 5.0, _dormand_prince(), step=tableau_step(_dormand_prince()._replace(beta=np.zeros((7, 4)))),
    noise="none", ode_order=5.0, cost=(7, 0),
)  # fmt: skip
