"""What `simulate` returns: positions, functionals and observables of many paths, with honest errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsolve.errors import BlowUp, InputError, check_time
from fpsolve.particles.moments import Moments
from fpsolve.particles.run import Kept, Lost
from fpsolve.problem.coefficient import Binding, check_finite, checked_array
from fpsolve.problem.estimate import Estimate


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Paths of a process.

    Attributes
    ----------
    t : ndarray, shape (times,)
        Times of the rows of `x`: the save times with keep="saved", t1 with "final", none with "none".
    x : ndarray, shape (times, paths)
        Positions; NaN from the time on at which a path was lost. With bias="halving" those of step h/2.
    functionals : dict of ndarray, shape (paths,)
        Values at t1 of ∫ a dt + ∫ b dW; empty with keep="none" (their means are in `stats`).
    absorbed_at : ndarray, shape (paths,)
        Time of absorption, inf for paths that are alive; `x` then is the end. Empty with keep="none".
    save_at : ndarray
        Times of the observables.
    stats : dict
        n_paths, interrupted, scheme, steps, step_sizes (smallest, largest), path_steps, coefficients (which way each
        ran and why), functionals (an Estimate of each mean; None if paths were lost or there is one path), lost
        (count, first_path, first_time, start, cause), threads, seconds.
    message : str
        One line for people.

    Examples
    --------
    >>> ens = fps.simulate(fps.SDE(0.0, 1.0), fps.PointMass(1.0), (0, 1), n_paths=100, n_steps=10)
    >>> ens.t, ens.x.shape
    (array([1.]), (1, 100))
    """

    t: np.ndarray
    x: np.ndarray
    functionals: Mapping[str, np.ndarray]
    absorbed_at: np.ndarray
    save_at: np.ndarray
    stats: Mapping[str, Any]
    message: str
    _observables: Mapping[str, Moments]
    _kept: Kept
    _lost: Lost
    _route: str
    _antithetic: bool

    @property
    def observables(self) -> dict[str, Estimate]:
        """Mean of each observable with its standard error, arrays over `save_at`.

        Raises
        ------
        BlowUp
            If paths were lost: a mean over the others would be a mean under another law.
        """
        if self._lost.count:
            raise self._blow_up()
        return {name: estimate_of(moments, self._route) for name, moments in self._observables.items()}

    @property
    def coarse(self) -> np.ndarray:
        """Positions with step h on the noise of `x`, same shape; InputError unless bias="halving" ran them."""
        if len(self._kept.x) < 2:
            raise InputError("only coupled runs have coarse paths", None, 'simulate with bias="halving"')
        return self._kept.x[1]

    def check_complete(self) -> None:
        """Raise KeyboardInterrupt if the run was interrupted, BlowUp if paths were lost."""
        if self.stats["interrupted"]:
            raise KeyboardInterrupt(self.message)
        if self._lost.count:
            raise self._blow_up()

    def expect(self, fn: Callable[..., Any], t: float | None = None) -> Estimate:
        """Mean of a test function over the paths at time `t` (the last kept time unless given).

        Parameters
        ----------
        fn : callable
            fn(x), or bound by name: x, t, alive (not absorbed by then) and, at the end of the span, names of
            functionals.
        t : float, optional
            One of the kept times.

        Returns
        -------
        Estimate
            With bias="halving": the mean at step h/2; `error` is |D| + its standard error, D = mean of (value with
            step h) - (value with step h/2) on the same noise, which for a scheme of weak order one is the bias that
            step h/2 still has. Without it `error` is 0 and the route says that the step bias is not measured.

        Raises
        ------
        BlowUp
            If paths were lost before `t`.
        InputError
            If positions were not kept at `t`, or there is only one path.

        Examples
        --------
        >>> p = fps.SDE(lambda x: -x, 1.0)
        >>> ens = fps.simulate(p, fps.PointMass(2.0), (0, 1), n_paths=1000, n_steps=50, bias="halving")
        >>> m = ens.expect(lambda x: x)
        >>> bool(abs(m.value - 2 * np.exp(-1)) < m.error + 5 * m.std_error)
        True
        """
        return estimate_of(self.moments(fn, t), self._route)

    def moments(self, fn: Callable[..., Any], t: float | None = None) -> Moments:
        """Moments behind `expect`: a row for the value and, with bias="halving", one for coarse minus fine."""
        row = self._row(t)
        x = self._kept.x[:, row, :]
        if np.isnan(x).any():
            raise self._blow_up()
        now = float(self.t[row])
        absorbed_at = self._kept.absorbed_at  # empty where no end absorbs
        alive = absorbed_at > now if absorbed_at.size else np.ones(x.shape, bool)
        fields = {"x": x, "t": now, "alive": alive}
        if row == len(self.t) - 1 and self.t[row] == self.stats["t_span"][1]:
            names = list(self.functionals)
            fields |= {name: self._kept.sums[:, m, :] for m, name in enumerate(names)}
        values = np.array([_value(fn, {k: _level(v, j) for k, v in fields.items()}) for j in range(len(x))])
        if x.shape[1] < 2:
            raise InputError("a standard error needs at least two paths", x.shape[1], "raise n_paths")
        values[1:] -= values[0]
        if self._antithetic:  # the pair is what is independent
            values = 0.5 * (values[:, 0::2] + values[:, 1::2])
        return Moments.of(values)

    def _row(self, t: float | None) -> int:
        if self.t.size == 0:
            raise InputError(
                'expect needs kept positions, but keep was "none"', "none", "use observables=, or keep more"
            )
        if t is None:
            return len(self.t) - 1
        found = np.flatnonzero(self.t == check_time(t, self.stats["t_span"]))
        if not found.size:
            kept = ", ".join(f"{time:g}" for time in self.t[:8])
            raise InputError(f"t must be a kept time ({kept})", t, 'give it in save_at= and use keep="saved"')
        return int(found[0])

    def _blow_up(self) -> BlowUp:
        lost = self._lost
        return BlowUp(
            f"no mean is reported because paths are missing: {lost}. Fix: take more steps, or end t_span earlier.",
            x=lost.start,
            time=lost.time,
        )


def _level(value: Any, level: int) -> Any:
    return value[level] if isinstance(value, np.ndarray) else value


def _value(fn: Callable[..., Any], fields: dict[str, Any]) -> np.ndarray:
    """Values of a test function: bound by name where it has names, else called with x (a NumPy ufunc)."""
    x, t = fields["x"], fields["t"]
    if isinstance(fn, np.ufunc) or inspect.isbuiltin(fn):
        result = fn(x)
    else:
        result = Binding("test function", fn, tuple(fields), {})(**fields)
    return check_finite("test function", checked_array("test function", result, x, t), x, t)


def estimate_of(moments: Moments, route: str) -> Estimate:
    """Estimate from moments whose last axis is the value and, if coupled, coarse minus fine."""
    mean, std_error = moments.mean, moments.std_error
    error = np.abs(mean[..., 1]) + std_error[..., 1] if mean.shape[-1] == 2 else np.zeros(mean.shape[:-1])
    return Estimate(mean[..., 0], error=error, std_error=std_error[..., 0], route=route)
