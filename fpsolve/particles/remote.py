"""Tasks for workers in other processes: the problem travels once as bytes, and is rebuilt and remembered there."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import cloudpickle
import numpy as np

from fpsolve.errors import InputError
from fpsolve.particles.run import Piece, Run

_REMEMBERED = 8  # problems per worker


def packed(prepare: Callable[[], Run]) -> bytes:
    """A call that prepares a run as bytes; lambdas and closures go along."""
    try:
        return bytes(cloudpickle.dumps(prepare))
    except Exception as problem:  # whatever a user's object raises when it is pickled
        raise InputError(
            "with executor= everything that the process needs must be picklable",
            f"{type(problem).__name__}: {problem}",
            "leave out what holds locks, files or compiled code, or run without executor=",
        ) from problem


@lru_cache(_REMEMBERED)
def _rebuilt(parts: bytes) -> Run:
    prepare: Callable[[], Run] = cloudpickle.loads(parts)
    return prepare()


def _task(parts: bytes, first: int, start: np.ndarray) -> Piece:
    run = _rebuilt(parts)
    run.stop[0] = 0  # of an earlier task that failed here
    return run.task(first, start)


def remote_task(parts: bytes, first: int, start: np.ndarray) -> partial[Piece]:
    """A call that a worker can make: the paths `first` ... from `start` (n,)."""
    return partial(_task, parts, first, start)
