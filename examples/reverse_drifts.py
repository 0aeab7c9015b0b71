"""Four reverse drifts for a double well with state-dependent noise, as four derivations might leave them.

The process is dX = (X - X³) dt + g dW with g² = (1 + sin(X)/2)/2, started from two bumps; no closed form of its
densities is known. `fpsolve verify examples/reverse_drifts.py` says which of the drifts reverse it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fpsolve as fps
from fpsolve.cli import main as fpsolve_main

T_SPAN = (0.0, 1.0)


def drift(x: Any) -> Any:
    """Force of the double well, f(x)."""
    return x - x**3


def noise(x: Any) -> Any:
    """Amplitude g(x): the noise is stronger in the right-hand well."""
    return np.sqrt(0.5 * (1.0 + 0.5 * np.sin(x)))


process = fps.SDE(drift, noise)
start = fps.GaussianMixture([0.35, 0.65], [-1.2, 0.8], [0.3, 0.4])


@fps.claim
def anderson(tol: float | None = None, seed: int = 0) -> fps.Verdict:
    """The reversed drift is -f + ∂x g² + g² s (Anderson 1982)."""
    return fps.check_reverse(
        (process, start), lambda f, g2, g2_dx, s: -f + g2_dx + g2 * s, t_span=T_SPAN, tol=tol, seed=seed
    )


@fps.claim
def half_of_the_noise_gradient(tol: float | None = None, seed: int = 0) -> fps.Verdict:
    """The reversed drift is -f + ½ ∂x g² + g² s: the ½ belongs to the velocity of the flow, not here."""
    return fps.check_reverse(
        (process, start), lambda f, g2, g2_dx, s: -f + g2_dx / 2 + g2 * s, t_span=T_SPAN, tol=tol, seed=seed
    )


def paper_drift(f: Any, g2: Any, g2_dx: Any, s: Any) -> Any:
    """Reverse drift as papers write it in the forward clock, with dt < 0: dX = (f - ∂x g² - g² s) dt + g dW̄."""
    return f - g2_dx - g2 * s


@fps.claim
def forward_clock_taken_for_reversed(tol: float | None = None, seed: int = 0) -> fps.Verdict:
    """The reversed drift is f - ∂x g² - g² s, copied from a paper whose clock runs forward."""
    return fps.check_reverse((process, start), paper_drift, clock="reversed", t_span=T_SPAN, tol=tol, seed=seed)


@fps.claim
def forward_clock(tol: float | None = None, seed: int = 0) -> fps.Verdict:
    """In the forward clock the reverse drift is f - ∂x g² - g² s (Winther et al., eq. 15)."""
    return fps.check_reverse((process, start), paper_drift, clock="forward", t_span=T_SPAN, tol=tol, seed=seed)


def main() -> int:
    """Examine the claims of this file and return the exit status: 1, because two of them are refuted."""
    return fpsolve_main(["verify", __file__])


if __name__ == "__main__":
    raise SystemExit(main())
