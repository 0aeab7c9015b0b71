"""Terms that vanish identically in an instance: a verdict there says nothing about them."""

from __future__ import annotations

import numpy as np

from fpsolve.paths.evolution import Evolution
from fpsolve.problem.process import Process


def blind_terms(
    process: Process | None, q: Evolution | None, t_span: tuple[float, float], times: np.ndarray
) -> tuple[str, ...]:
    """Return what this instance cannot see, in words."""
    found: list[str] = []
    if process is not None:
        found += _of_process(process.to_ito(), q, t_span, times)
    if q is not None:
        found += _of_density(q, times)
    return tuple(found)


def _points(q: Evolution | None, t: float) -> np.ndarray:
    left, right = (-1.5, 1.5) if q is None else q.span(t, 1e-3)
    return np.linspace(left, right, 17)[1:-1]


def _is_small(values: np.ndarray, size: float) -> bool:
    return bool(np.abs(values).max() <= 1e-8 * max(size, 1e-300))


def _of_process(p: Process, q: Evolution | None, t_span: tuple[float, float], times: np.ndarray) -> list[str]:
    rows = [(float(t), _points(q, float(t))) for t in times]
    found = []
    g2 = [p.diffusion_squared(x, t) for t, x in rows]
    size = max(float(np.abs(part).max()) for part in g2)
    if p.is_ode:
        return ["every noise term (g = 0)"]
    if all(_is_small(p.diffusion_squared_dx(x, t), size) for t, x in rows):
        found.append("∂x g² (additive noise)")
    elif all(_is_small(np.diff(p.diffusion_squared_dx(x, t)), size) for t, x in rows):
        found.append("∂xx g² (g² linear in x)")
    slopes = [p.drift_dx(x, t) for t, x in rows]
    if all(_is_small(np.diff(part), 1e2 * np.abs(part).max() + 1e-12) for part in slopes):
        found.append("f'' (f' constant in x)")
    x = rows[0][1]
    early, late = (float(t) for t in t_span)
    if np.array_equal(p.drift(x, early), p.drift(x, late)) and np.array_equal(
        p.diffusion(x, early), p.diffusion(x, late)
    ):
        found.append("time dependence of f and g (autonomous)")
    return found


def _of_density(q: Evolution, times: np.ndarray) -> list[str]:
    linear, symmetric = True, True
    for t in map(float, times):
        x = _points(q, t)
        s = q.score(x, t)
        fit = np.polyval(np.polyfit(x, s, 1), x)
        linear &= bool(np.abs(s - fit).max() <= 1e-8 * np.abs(s).max())
        centre = q.mean(t)
        steps = np.sqrt(q.var(t)) * np.array([0.4, 1.1, 1.9])
        mirrored = q.pdf(centre + steps, t) - q.pdf(centre - steps, t)
        symmetric &= bool(np.abs(mirrored).max() <= 1e-8 * q.pdf(np.array([centre]), t)[0] + 1e-12)
    found = ["s'' (Gaussian marginals)"] if linear else []
    if symmetric:
        found.append("reflections (symmetric density)")
    return found
