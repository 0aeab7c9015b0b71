"""The steps of a run: equal inside each segment between save times, so that every save time is landed on."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from fpsolve.errors import InputError


class Segment(NamedTuple):
    """Equal steps from t0 to t1; `first_step` counts from the start of the run and names the noise."""

    t0: float
    t1: float
    steps: int
    first_step: int

    @property
    def step(self) -> float:
        """Step size."""
        return (self.t1 - self.t0) / self.steps


def segments(t_span: tuple[float, float], save_at: np.ndarray, n_steps: int) -> list[Segment]:
    """Return the segments between t0, the save times and t1: each gets ceil(n_steps * its share of the span) steps."""
    ends = np.unique(np.concatenate([t_span, save_at]))
    found: list[Segment] = []
    first = 0
    for t0, t1 in pairwise(ends.tolist()):
        share = n_steps * (t1 - t0) / (t_span[1] - t_span[0])
        steps = max(1, math.ceil(share * (1.0 - 1e-12)))  # a tenth of 100 steps is 10, not 11
        found.append(Segment(t0, t1, steps, first))
        first += steps
    return found


def check_all_equal(plan: list[Segment], n_steps: int) -> None:
    """Refuse save times that are not ends of `n_steps` equal steps: a given path is known there alone."""
    if sum(segment.steps for segment in plan) == n_steps:
        return
    step = (plan[-1].t1 - plan[0].t0) / n_steps
    off = next(s.t1 for s in plan if abs((s.t1 - plan[0].t0) / step - round((s.t1 - plan[0].t0) / step)) > 1e-9)
    raise InputError(
        "with brownian= every save time must be the end of one of n_steps equal steps", off,
        "move it to a dyadic fraction of the span, or take more steps",
    )  # fmt: skip
