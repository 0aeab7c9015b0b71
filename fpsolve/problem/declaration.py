"""What a process declares, examined once and frozen: coefficients, support, boundary, parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fpsolve.errors import CoefficientError, check_choice
from fpsolve.problem.boundary import check_natural_ends, checked_boundary, checked_support
from fpsolve.problem.coefficient import Coefficient, check_params_used, checked_params
from fpsolve.problem.maps import Map


@dataclass(frozen=True)
class Latent:
    """A process that is X = map(Y) for a process Y with a closed form: how published instances are solved."""

    process: Any
    map: Map


class Declaration:
    """Coefficients of dX = f dt + g dW with their support, boundary and parameters."""

    drift_coefficient: Coefficient
    diffusion_coefficient: Coefficient
    support: tuple[float, float]
    boundary: tuple[str, str]
    calculus: str
    latent: Latent | None
    _params: dict[str, float]
    _square_dx: Coefficient | None

    def _declare(
        self,
        what: str,
        drift: Any,
        diffusion: Any,
        calculus: str,
        support: Any,
        boundary: Any,
        params: Any,
        square_dx: Any,
    ) -> None:
        set_ = object.__setattr__
        set_(self, "support", checked_support(support))
        set_(self, "boundary", checked_boundary(boundary, self.support))
        set_(self, "calculus", check_choice("calculus", calculus, ("ito", "stratonovich")))
        given = checked_params(params)
        set_(self, "drift_coefficient", Coefficient(what, drift, given, self.support))
        set_(self, "diffusion_coefficient", Coefficient("diffusion", diffusion, given, self.support))
        set_(
            self,
            "_square_dx",
            None if square_dx is None else Coefficient("diffusion_squared_dx", square_dx, given, self.support),
        )
        parts = [self.drift_coefficient, self.diffusion_coefficient, self._square_dx]
        check_params_used(given, set().union(*(part.param_names() for part in parts if part is not None)))
        set_(self, "_params", given)
        set_(self, "latent", None)
        self._check_square_dx()
        check_natural_ends(self)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"a process is frozen; declare another one (p.with_params(...) changes parameters), not {name}="
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a process is frozen; {name} stays")

    @property
    def params(self) -> dict[str, float]:
        """Values of the parameters, a copy."""
        return dict(self._params)

    @property
    def probe_time(self) -> float:
        """Time at which the coefficients were examined."""
        g = self.diffusion_coefficient
        return g.probe_time if g.uses_t else self.drift_coefficient.probe_time

    def drift(self, x: Any, t: float) -> np.ndarray:
        """Drift f(x, t) as declared, shape of x."""
        return self.drift_coefficient(x, t)

    def diffusion(self, x: Any, t: float) -> np.ndarray:
        """Diffusion g(x, t), shape of x."""
        return self.diffusion_coefficient(x, t)

    def diffusion_squared(self, x: Any, t: float) -> np.ndarray:
        """g²(x, t), shape of x."""
        return self.diffusion_coefficient(x, t) ** 2

    def diffusion_squared_dx(self, x: Any, t: float, order: int = 1) -> np.ndarray:
        """∂x g² (order=1) or ∂xx g² (order=2): as declared, or by sixth-order differences of g²."""
        if self._square_dx is None:
            return self.diffusion_coefficient.square_dx(x, t, order)
        return self._square_dx(x, t) if order == 1 else self._square_dx.dx(x, t)

    def drift_dx(self, x: Any, t: float) -> np.ndarray:
        """∂x f by sixth-order differences, shape of x."""
        return self.drift_coefficient.dx(x, t)

    @property
    def is_ode(self) -> bool:
        """Whether the noise is the number zero."""
        return self.diffusion_coefficient.is_zero

    def _check_square_dx(self) -> None:
        if self._square_dx is None:
            return
        points, t = self.diffusion_coefficient.probe_points(), self.probe_time
        given, found = self._square_dx(points, t), self.diffusion_coefficient.square_dx(points, t)
        scale = np.abs(found).max() + 1e-3 * np.abs(self.diffusion_squared(points, t)).max()
        gap = np.abs(given - found)
        if gap.max() > 1e-5 * scale:
            j = int(np.argmax(gap))
            raise CoefficientError(
                "diffusion_squared_dx must be the derivative of g² in x",
                f"{given[j]:.6g} at x={points[j]:.6g}, t={t:g}, where differences of g² give {found[j]:.6g}",
                "remember ∂x g² = 2 g ∂x g, or leave it out",
            )
