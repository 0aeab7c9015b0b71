"""What the identities of the reversed clock share: the process whose drift is turned round, and -log q as a value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fpsolve.catalogue.fixtures import Fixture
from fpsolve.catalogue.lines import POINTS, Coefficients
from fpsolve.catalogue.log_density import END
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.process import SDE

Array = np.ndarray
REGION = 5.0, 400  # reach of Y and cells of the backward engine; from there few paths come back in time


def anti_diffusion(fixture: Fixture, drift: Callable[[Array, Array], Array]) -> SDE:
    """Drift from (f, (g²)') and the same noise, of a fixture without t in its coefficients."""

    def turned(x: Array) -> Array:
        c = Coefficients.of(fixture, x, 0.0)
        return drift(c.f, c.g2_dx)

    return SDE(turned, lambda x: np.sqrt(Coefficients.of(fixture, x, 0.0).g2))


def negative_log_data(fixture: Fixture) -> Callable[[Array], Array]:
    """-log q_0."""
    law = fixture.law_at(0.0)
    return lambda x: -law.logpdf(x)


def value_now(fixture: Fixture) -> Estimate:
    """-log q at the end of the span, which is τ = 0."""
    value = -fixture.law_at(END).logpdf(fixture.forward(POINTS))
    return Estimate(value, error=1e-12 * (1.0 + np.abs(value)), route="-log q, textbook")
