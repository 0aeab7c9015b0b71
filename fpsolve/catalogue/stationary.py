"""The stationary law of a process: the density without flux."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special, stats

from fpsolve.catalogue.fixtures import SIGMA, SINH_1, SINH_25, THETA, refined, tolerance
from fpsolve.catalogue.identity import Check, Identity, Sibling
from fpsolve.grids.fokker_planck import solve_fokker_planck
from fpsolve.paths import processes
from fpsolve.problem.density import as_law
from fpsolve.problem.estimate import Estimate
from fpsolve.problem.law import Law
from fpsolve.problem.maps import Pushforward, Sinh
from fpsolve.problem.mixtures import Normal
from fpsolve.problem.process import SDE
from fpsolve.verdict.equality import check_equal
from fpsolve.verdict.verdict import Verdict

Array = np.ndarray
KAPPA, LEVEL, XI = 1.1, 0.9, 0.6  # dX = κ (θ - X) dt + ξ √X dW
SHARE = 0.4  # mean of the process on (0, 1)
CIR, JACOBI = processes.cir(KAPPA, LEVEL, XI), processes.jacobi(KAPPA, SHARE, XI)
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(12)
_SETTLED = 16.0  # of the start at most e^{-0.8 · 16} = 3e-6 is left then

# (∫ 2f/g², log g²) -> log of the unnormalised density
Shape = Callable[[Array, Array], Array]


@dataclass(frozen=True, eq=False)
class Stationary:
    """A process with its textbook stationary law, a coordinate x = forward(u) in which to integrate, and its range.

    `gap` is the smallest decay rate; `start` is where the grid route starts.
    """

    process: SDE
    law: Law
    start: Law
    forward: Callable[[Array], Array]
    inverse: Callable[[Array], Array]
    stretch: Callable[[Array], Array]
    reach: tuple[float, float]
    gap: float

    def points(self) -> Array:
        """Places where the mass is."""
        return np.asarray(self.law.ppf(np.linspace(0.02, 0.98, 25)))

    @cached_property
    def settled(self) -> Estimate:
        """Density at the points: the solution on a grid after a long time, with what is left of the start."""
        q = solve_fokker_planck(self.process, self.start, (0.0, _SETTLED), t_eval=[_SETTLED], rtol=1e-5)
        values, error = q.with_error("pdf", self.points(), _SETTLED)
        left = np.exp(-self.gap * _SETTLED) * values.max()
        return Estimate(values, error=error + left, route="grid, after a long time")

    def nodes(self, panels: int) -> tuple[Array, Array, Array]:
        """Nodes x, weights with the textbook density, and g², on panels equal in u."""
        edges = np.linspace(*self.reach, panels + 1)
        half = 0.5 * np.diff(edges)[:, None]
        x = self.forward(((edges[:-1, None] + half) + half * _NODES).ravel())
        weights = (half * _WEIGHTS).ravel() * self.stretch(x) * self.law.pdf(x)
        return x, weights, self.process.diffusion_squared(x, 0.0)


def on_line(process: SDE, law: Law, reach: float, gap: float) -> Stationary:
    """On the whole line, with x = sinh u."""
    start = Normal(0.3, 0.8)
    return Stationary(process, law, start, np.sinh, np.arcsinh, lambda x: np.sqrt(1 + x**2), (-reach, reach), gap)


def sinh_law(length: float) -> Law:
    """X = L sinh(Y/L) with Y ~ N(0, σ²/2θ)."""
    return Pushforward(Normal(0.0, SIGMA / np.sqrt(2.0 * THETA)), Sinh(length))


def _bent(c: float) -> Stationary:
    """dX = -X dt + √(1 + c x²) dW: q∞ ∝ (1 + c x²)^(-1 - 1/c), a Student law."""
    process = SDE(lambda x: -x, lambda x: np.sqrt(1 + c * x**2), diffusion_squared_dx=lambda x: 2 * c * x)
    return on_line(process, as_law(stats.t(1 + 2 / c, scale=(c + 2) ** -0.5)), 5.0, 1.0)


# (shape, rate) of the Gamma law, (a, b) of the Beta law
GAMMA_PARAMETERS = 2 * KAPPA * LEVEL / XI**2, 2 * KAPPA / XI**2
BETA_PARAMETERS = 2 * KAPPA * SHARE / XI**2, 2 * KAPPA * (1 - SHARE) / XI**2
_GAMMA = as_law(stats.gamma(GAMMA_PARAMETERS[0], scale=1 / GAMMA_PARAMETERS[1]))
_BETA = as_law(stats.beta(*BETA_PARAMETERS))
ON_HALF_LINE = Stationary(
    CIR, _GAMMA, as_law(stats.gamma(5.5, scale=0.3)), np.exp, np.log, lambda x: x, (-9.0, 3.5), KAPPA
)
ON_INTERVAL = Stationary(
    JACOBI,
    _BETA,
    as_law(stats.beta(3, 4)),
    special.expit,
    special.logit,
    lambda x: x * (1 - x),
    (-16.0, 12.0),
    KAPPA,
)


def by_quadrature(case: Stationary, shape: Shape) -> Estimate:
    """Density at the points from the coefficients alone: ∫ 2f/g² panel by panel, and its normalisation."""
    points = case.points()
    marks = np.concatenate([[case.reach[0]], case.inverse(points), [case.reach[1]]])

    def density(panels: int) -> Array:
        share = np.linspace(0.0, 1.0, panels + 1)[:-1]
        edges = np.append((marks[:-1, None] + np.diff(marks)[:, None] * share).ravel(), marks[-1])
        half = 0.5 * np.diff(edges)
        u = (edges[:-1] + half)[:, None] + half[:, None] * _NODES
        x = case.forward(u)
        slope = 2 * case.process.drift(x, 0.0) / case.process.diffusion_squared(x, 0.0) * case.stretch(x)
        at_edges = np.concatenate([[0.0], np.cumsum((half[:, None] * _WEIGHTS * slope).sum(axis=1))])
        inside = at_edges[:-1, None] + half[:, None] * (slope @ _RUNNING.T)
        logs = shape(inside, np.log(case.process.diffusion_squared(x, 0.0)))
        at_points = shape(at_edges[panels:-1:panels], np.log(case.process.diffusion_squared(points, 0.0)))
        top = logs.max()
        total = (half[:, None] * _WEIGHTS * case.stretch(x) * np.exp(logs - top)).sum()
        return np.exp(at_points - top) / total

    return refined(density, 4, "∫ 2f/g² by quadrature")


def _running_integrals() -> Array:
    """Matrix that takes values at the nodes to integrals from -1 to each node."""
    values = np.linalg.inv(np.polynomial.legendre.legvander(_NODES, _NODES.size - 1))
    rows = [
        np.polynomial.legendre.legval(_NODES, np.polynomial.legendre.legint(row, lbnd=-1))
        for row in np.eye(_NODES.size)
    ]
    return np.array(rows).T @ values


_RUNNING = _running_integrals()


def _density_of(case: Stationary) -> Check:
    def check(shape: Shape, *, tol: float | None = None, seed: int = 0) -> Verdict:
        textbook = Estimate(case.law.pdf(case.points()), route="textbook law")
        routes = textbook, by_quadrature(case, shape), case.settled
        return check_equal(*routes, tol=tolerance(tol), seed=seed, title="stationary density")

    return check


STATIONARY_DENSITY = Identity(
    id="fp-stationary-density",
    statement=(
        "f q - ½ ∂x(g² q) = 0, hence q∞ ∝ g⁻² exp ∫ 2f/g²\n"
        "square root: Gamma(2κθ/ξ², rate 2κ/ξ²); ξ²x(1 - x): Beta(2κm/ξ², 2κ(1 - m)/ξ²);\n"
        "f = -x, g² = 2(ν + x²)/(ν - 1): Student-t(ν); f = -x, g² = 1 + c x²: ∝ (1 + c x²)^(-1 - 1/c)"
    ),
    conditions="One dimension, g⁻² exp ∫ 2f/g² integrable, no flux at the ends (Feller's condition, or reflection).",
    source="Kolmogorov (1931); Wong (1964) for the Pearson family",
    routes=(
        "the law in the textbook, from SciPy",
        "∫ 2f/g² and its normalisation by quadrature of the coefficients",
        "the Fokker-Planck equation on a grid, after a long time",
    ),
    truth=lambda potential, log_g2: potential - log_g2,
    settings={
        "square root": _density_of(ON_HALF_LINE),
        "x(1 - x)": _density_of(ON_INTERVAL),
        "Student-t(5)": _density_of(on_line(processes.pearson(5.0), as_law(stats.t(5.0)), 8.0, 1.0)),
        "L = 1": _density_of(on_line(SINH_1.process, sinh_law(1.0), 6.0, THETA)),
        "L = 25": _density_of(on_line(SINH_25.process, sinh_law(25.0), 3.0, THETA)),
        "g² = 1 + 0.002 x²": _density_of(_bent(0.002)),
    },
    siblings=(
        Sibling(
            "Stratonovich: g⁻¹ exp ∫ 2f/g²",
            lambda potential, log_g2: potential - 0.5 * log_g2,
            below_tolerance={"L = 25": 2.4e-4},
        ),
        Sibling("isothermal: exp ∫ 2f/g²", lambda potential, log_g2: potential),
        Sibling("2 dropped: g⁻² exp ∫ f/g²", lambda potential, log_g2: 0.5 * potential - log_g2),
    ),
)
