"""What a process declares, examined once and frozen: coefficients, support, boundary, parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fpsolve.errors import CoefficientError, check_choice, check_number
from fpsolve.problem.boundary import check_natural_ends, checked_boundary
from fpsolve.problem.coefficient import Coefficient, check_params_used, checked_params
from fpsolve.problem.ends import End, classify_end
from fpsolve.problem.support import CoefficientBetweenWalls, Support, side_index


class Declaration:
    """Coefficients of dX = f dt + g dW with their support, boundary and parameters.

    `support` is always a pair of floats: the ends at `probe_time`, if one of them moves (see `support_at`).
    `closed_form(process, law, t_span)` solves a published instance, and belongs to that instance alone: whatever is
    declared otherwise, or built from it, has None. `target` is the law for which a Langevin process is made.
    """

    drift_coefficient: Coefficient
    diffusion_coefficient: Coefficient
    support: tuple[float, float]
    boundary: tuple[str, str]
    calculus: str
    closed_form: Callable[[Any, Any, Any], Any] | None
    target: Any
    _ends: Support
    _probe_time: float
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
        given = checked_params(params)
        set_(self, "_ends", Support(support, given))
        set_(self, "calculus", check_choice("calculus", calculus, ("ito", "stratonovich")))
        set_(self, "_params", given)
        set_(self, "closed_form", None)
        set_(self, "target", None)
        preferred = (*getattr(drift, "probe_times", ()), *getattr(diffusion, "probe_times", ()))
        t = self._ends.first_time(preferred)
        set_(self, "boundary", checked_boundary(boundary, self._ends.at(t), self.moving))
        self._resolve(t, what, drift, diffusion, square_dx)
        if any(self.moving) and self.probe_time != t:
            # a coefficient is not known at that time: look again, between the ends of a time when it is
            self._resolve(self.probe_time, what, drift, diffusion, square_dx)
        parts = [self.drift_coefficient, self.diffusion_coefficient, self._square_dx, self._ends]
        check_params_used(given, set().union(*(part.param_names() for part in parts if part is not None)))
        self._check_square_dx()
        check_natural_ends(self)

    def _resolve(self, t: float, what: str, drift: Any, diffusion: Any, square_dx: Any) -> None:
        """Resolve and examine the coefficients on the support of time t."""
        set_ = object.__setattr__
        set_(self, "_probe_time", t)
        set_(self, "support", self._ends.at(t))
        set_(self, "drift_coefficient", self._coefficient(what, drift, self._params))
        set_(self, "diffusion_coefficient", self._coefficient("diffusion", diffusion, self._params))
        square = None if square_dx is None else self._coefficient("diffusion_squared_dx", square_dx, self._params)
        set_(self, "_square_dx", square)

    def _coefficient(self, what: str, source: Any, params: Mapping[str, float]) -> Coefficient:
        """Resolve a function on the support."""
        if any(self.moving):
            return CoefficientBetweenWalls(what, source, params, self._ends, self.support)
        return Coefficient(what, source, params, self.support)

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
        """Time at which the coefficients were examined; of the ends too, where they move."""
        for coefficient in (self.diffusion_coefficient, self.drift_coefficient):
            if coefficient.uses_t:
                return coefficient.probe_time
        return self._probe_time

    @property
    def moving(self) -> tuple[bool, bool]:
        """Whether the left and the right end of the support is a function of time."""
        return self._ends.moving

    def support_at(self, t: float) -> tuple[float, float]:
        """Return the ends (left, right) of the support at time t.

        Parameters
        ----------
        t : float
            Time.

        Raises
        ------
        InputError
            If a moving end is not a finite number at `t`, or the ends have met.

        Examples
        --------
        >>> p = fps.SDE(0.0, 1.0, support=(lambda t: 2 * t, np.inf), boundary="absorbing")
        >>> p.support_at(0.5), p.moving
        ((1.0, inf), (True, False))
        """
        return self._ends.at(check_number("t", t))

    def wall_speed(self, side: Any, t: float) -> float:
        """Return the speed d end/dt of an end at time t, by sixth-order differences; zero for an end at rest.

        Parameters
        ----------
        side : {0, 1, "left", "right"}
            Which end.
        t : float
            Time. Where the end is only known on one side of it, the differences are one-sided, of order four.

        Raises
        ------
        InputError
            If the end is not a finite number at `t` or near it.

        Examples
        --------
        >>> p = fps.SDE(0.0, 1.0, support=(lambda t: t**2, np.inf), boundary="absorbing")
        >>> round(p.wall_speed("left", 3.0), 8)
        6.0
        """
        return self._ends.speed(side_index(side), check_number("t", t))

    def ends(self, t: float | None = None) -> tuple[End, End]:
        """Classify the ends of the support by scale and speed (Feller): regular, exit, entrance or natural.

        Parameters
        ----------
        t : float, optional
            Time at which the coefficients are frozen; `probe_time` unless given.

        Returns
        -------
        (End, End)
            Each with `.kind`, `.accessible` (Σ = ∫ M dS finite), `.enterable` (N = ∫ S dM finite), `.exponents` and
            `.reason`. Its kind is "undecided" where values of the coefficients near the end do not decide it.

        Notes
        -----
        s' = exp(-∫ 2f/g²) and m = 2/(g² s'), with the Itô drift. Feller (1952); Karlin and Taylor (1981), section
        15.6. A moving end is seen from the end. What the process does at the end is `boundary`, not this.

        Examples
        --------
        >>> square_root = fps.SDE(lambda x: 0.6 - x, lambda x: np.sqrt(x), support=(0, np.inf))
        >>> [end.kind for end in square_root.ends()]
        ['entrance', 'natural']
        """
        time = self.probe_time if t is None else check_number("t", t)
        return classify_end(self, 0, time), classify_end(self, 1, time)

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
