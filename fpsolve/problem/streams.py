"""Random streams named by what they are for, so that no two routes share noise by accident."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsolve.errors import InputError


@dataclass(frozen=True)
class Stream:
    """A counter-based stream: a 64-bit key derived from a seed and the labels (claim, route, look)."""

    seed: int
    labels: tuple[str, ...] = ()

    @property
    def key(self) -> int:
        """64-bit key, the same on every machine."""
        text = "\x1f".join((str(self.seed), *self.labels))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")

    def child(self, *labels: object) -> Stream:
        """Return the independent stream for a part of this one's work."""
        return Stream(self.seed, (*self.labels, *map(str, labels)))

    def generator(self, *labels: object) -> np.random.Generator:
        """NumPy generator for what is not drawn inside a kernel (initial positions, test functions)."""
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(self.child("generator", *labels).key)))


def as_stream(rng: Any) -> Stream:
    """Accept a seed, a Stream or a NumPy Generator (of which one number is drawn)."""
    if isinstance(rng, Stream):
        return rng
    if isinstance(rng, np.random.Generator):
        return Stream(int(rng.integers(2**63)))
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool) and rng >= 0:
        return Stream(int(rng))
    raise InputError("rng must be a non-negative int or a numpy.random.Generator", rng, "write for instance rng=0")
