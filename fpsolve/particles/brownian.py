"""A Brownian path as an object: the same path at every dyadic step size, with its iterated integral."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpsolve.errors import InputError, check_count, check_t_span
from fpsolve.kernels.brownian import MOST_LEVELS, Noise, fill_increments
from fpsolve.problem.streams import as_stream


class BrownianPath:
    """Brownian paths over a span, one for each path number, known at every dyadic fraction of it.

    Parameters
    ----------
    t_span : (float, float)
        t0 < t1.
    rng : int, numpy.random.Generator or Stream
        Same number, same paths.
    antithetic : bool
        Paths 2j and 2j + 1 are -1 times each other. An ensemble then starts both at the same place, and its standard
        errors are those of the means of pairs.

    Raises
    ------
    InputError
        If a number of steps is not a power of two.

    Notes
    -----
    A tree of bridges keyed by (path, level, index), jointly for W and its integral: Lévy's construction; Foster, Lyons
    and Oberhauser (2020) for the area.

    Examples
    --------
    >>> w = fps.BrownianPath((0, 2), rng=1)
    >>> fine, coarse = w.increments(8, 3), w.increments(4, 3)
    >>> bool(abs(fine[0::2] + fine[1::2] - coarse).max() < 1e-14)
    True
    """

    def __init__(self, t_span: tuple[float, float], *, rng: Any = 0, antithetic: bool = False) -> None:
        self.t_span = check_t_span(t_span)
        self.antithetic = bool(antithetic)
        self._key = as_stream(rng).key

    def __repr__(self) -> str:
        return f"BrownianPath({self.t_span}, antithetic={self.antithetic})"

    def noise(self, n_steps: int, integral: bool) -> Noise:
        """The path as the kernel takes it, cut into `n_steps`."""
        return Noise(
            np.uint64(self._key), levels_of(n_steps), self.t_span[1] - self.t_span[0], self.antithetic, integral, True
        )

    def increments(self, n_steps: int, n_paths: int, first_path: int = 0) -> np.ndarray:
        """W(t_{k+1}) - W(t_k) for equal steps, shape (n_steps, n_paths); a power of two steps."""
        return self._filled(n_steps, n_paths, first_path)[0]

    def integrals(self, n_steps: int, n_paths: int, first_path: int = 0) -> np.ndarray:
        """∫ (W_s - W(t_k)) ds over each step, shape (n_steps, n_paths): the ∫∫ dW ds of stochastic Taylor schemes."""
        return self._filled(n_steps, n_paths, first_path)[1]

    def _filled(self, n_steps: int, n_paths: int, first_path: int) -> tuple[np.ndarray, np.ndarray]:
        noise = self.noise(check_count("n_steps", n_steps), True)
        shape = (n_steps, check_count("n_paths", n_paths))
        dw, dz = np.empty(shape), np.empty(shape)
        first = check_count("first_path", first_path, at_least=0)
        fill_increments(noise, first, (self.t_span[1] - self.t_span[0]) / n_steps, dw, dz)
        return dw, dz


def levels_of(n_steps: int) -> int:
    """Levels of the tree with `n_steps` leaves."""
    levels = n_steps.bit_length() - 1
    if n_steps != 1 << levels or levels > MOST_LEVELS:
        raise InputError(
            "a BrownianPath is cut into a power of two of equal steps",
            f"{n_steps} steps",
            f"take {1 << levels} or {2 << levels}, or leave brownian= out",
        )
    return levels
