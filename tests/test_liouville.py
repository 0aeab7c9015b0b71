"""The Liouville solvers: characteristics against closed forms, conservative transport against both; refusals."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import fpsolve as fps
from fpsolve.grids.flows import transport as levels
from fpsolve.grids.flows.transport import Level
from fpsolve.grids.flows.velocity import Velocity
from fpsolve.kernels.transport import PERIODIC, transport

MIXTURE = fps.GaussianMixture([0.4, 0.6], [-1.0, 1.2], [0.4, 0.5])
NORMAL = fps.Normal(0.3, 1.0)
UNIFORM = stats.uniform(0, 1)
CIRCLE = {"support": (-1.0, 1.0), "boundary": "periodic"}


@dataclass(frozen=True)
class ClosedFlow:
    """A velocity, and the origin of (x, t) with its first two derivatives in x."""

    velocity: Callable
    origin: Callable

    def fields(self, law: fps.Normal, x: np.ndarray, t: float) -> dict[str, np.ndarray]:
        x0, slope, bend = self.origin(x, t)
        return {"pdf": law.pdf(x0) * slope, "cdf": law.cdf(x0), "score": law.score(x0) * slope + bend / slope}


def linear(k: float) -> ClosedFlow:
    return ClosedFlow(lambda x: -k * x, lambda x, t: (x * np.exp(k * t), np.exp(k * t) + 0 * x, 0 * x))


def cubic(k: float) -> ClosedFlow:
    def origin(x: np.ndarray, t: float) -> tuple:
        d = 1 - 2 * k * t * x**2
        return x * d**-0.5, d**-1.5, 6 * k * t * x * d**-2.5

    return ClosedFlow(lambda x: -k * x * x * x, origin)


def sine(k: float) -> ClosedFlow:
    def origin(x: np.ndarray, t: float) -> tuple:
        e = np.exp(-k * t)
        turns = 2 * np.pi * np.round(x / (2 * np.pi))
        p = 1 + e**2 + (1 - e**2) * np.cos(x)
        return turns + 2 * np.arctan(np.tan((x - turns) / 2) * e), 2 * e / p, 2 * e * (1 - e**2) * np.sin(x) / p**2

    return ClosedFlow(lambda x: k * np.sin(x), origin)


def double_well(k: float) -> ClosedFlow:
    def origin(x: np.ndarray, t: float) -> tuple:
        e = np.exp(-k * t)
        d = 1 - x**2 * (1 - e**2)
        return e * x * d**-0.5, e * d**-1.5, 3 * e * (1 - e**2) * x * d**-2.5

    return ClosedFlow(lambda x: k * (x - x * x * x), origin)


def front(width: float) -> ClosedFlow:
    def origin(x: np.ndarray, t: float) -> tuple:
        grow, z = np.exp(t / width), x / width
        r = np.sqrt(1 + (np.sinh(z) * grow) ** 2)
        slope = np.cosh(z) * grow / r
        return width * np.arcsinh(np.sinh(z) * grow), slope, slope * np.tanh(z) * (1 - (slope * r / r) ** 2) / width

    return ClosedFlow(lambda x: -np.tanh(x / width), origin)


FLOWS = {
    "linear": linear(1.0),
    "contracting": linear(5.0),
    "expanding": linear(-2.0),
    "cubic": cubic(1.0),
    "sine": sine(1.0),
    "double well": double_well(1.0),
    "front": front(0.05),
}
FAMILIES = {"linear": linear, "cubic": cubic, "sine": sine, "double well": double_well}


def check_covered(q: fps.Evolution, truth: dict, x: np.ndarray, t: float, names: tuple = ("pdf", "cdf")) -> None:
    for name in names:
        values, error = q.with_error(name, x, t)
        assert (np.abs(values - truth[name]) <= error).all(), (name, t, np.nanmax(np.abs(values - truth[name]) / error))


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("law", [NORMAL, MIXTURE], ids=["normal", "mixture"])
def test_characteristics_against_closed_forms(name: str, law: fps.Normal) -> None:
    flow = FLOWS[name]
    q = fps.solve_liouville(fps.ODE(flow.velocity), law, (0, 1))
    assert q.stats["scheme"] == "characteristics"
    assert "v is smooth" in q.message
    for t in (0.37, 1.0):
        x = q.ppf(np.linspace(1e-4, 1 - 1e-4, 41), t)
        truth = flow.fields(law, x, t)
        check_covered(q, truth, x, t, ("pdf", "cdf", "score"))
        assert np.abs(q.pdf(x, t) - truth["pdf"]).max() < 1e-7 * truth["pdf"].max()
        assert np.abs(q.cdf(x, t) - truth["cdf"]).max() < 1e-9
    assert q.error["pdf"].worst < 1e-6


def test_both_tails_quantiles_and_expectations() -> None:
    q = fps.solve_liouville(fps.ODE(lambda x: -x), NORMAL, (0, 1))
    exact = fps.Normal(0.3 * np.exp(-1), np.exp(-1))
    x, law = exact.mean() + exact.std() * np.array([-9.0, -6.0, 6.0, 9.0]), q.at(1.0)
    assert law.cdf(x[:2]) == pytest.approx(exact.cdf(x[:2]), rel=1e-7)
    assert law.sf(x[2:]) == pytest.approx(exact.sf(x[2:]), rel=1e-7)
    assert law.ppf([1e-12, 0.5]) == pytest.approx(exact.ppf([1e-12, 0.5]), rel=1e-9)
    assert law.isf(1e-12) == pytest.approx(float(exact.isf(1e-12)), rel=1e-9)
    assert (q.mean(1.0), q.var(1.0)) == pytest.approx((exact.mean(), exact.var()), rel=1e-9)
    assert q.entropy(1.0) == pytest.approx(0.5 * np.log(2 * np.pi * np.e * exact.var()), rel=1e-9)
    assert q.fisher(1.0) == pytest.approx(1 / exact.var(), rel=1e-8)
    assert q.sample(20000, 1.0).std() == pytest.approx(exact.std(), rel=0.03)
    assert q.velocity(2.0, 0.4) == -2.0
    assert q.flux(0.2, 1.0) == pytest.approx(-0.2 * float(exact.pdf(0.2)), rel=1e-9)
    assert law.cell_masses([-1.0, 0.0, 4.0]) == pytest.approx(exact.cell_masses([-1.0, 0.0, 4.0]), rel=1e-9)


@pytest.mark.parametrize("name", ["linear", "sine", "double well"])
def test_finite_volume_against_closed_forms_and_characteristics(name: str) -> None:
    flow, t = FLOWS[name], 0.7
    process = fps.ODE(flow.velocity)
    a = fps.solve_liouville(process, MIXTURE, (0, t))
    b = fps.solve_liouville(process, MIXTURE, (0, t), scheme="finite-volume", rtol=1e-3, t_eval=[t])
    x = np.linspace(*b.span(t, 1e-6), 101)
    truth = flow.fields(MIXTURE, x, t)
    check_covered(b, truth, x, t)
    assert b.error["pdf"].worst < (0.1 if name == "double well" else 1e-3)
    (va, ea), (vb, eb) = a.with_error("pdf", x, t), b.with_error("pdf", x, t)
    assert (np.abs(va - vb) <= ea + eb).all()
    assert abs(b.mass(t) - 1) < 1e-12
    assert b.masses(t).min() >= 0
    assert b.mean(t) == pytest.approx(a.mean(t), abs=1e-4)


def errors_by_cells(
    process: fps.ODE, law: fps.Normal, exact: fps.Normal, grids: list[fps.Grid], t: float
) -> np.ndarray:
    found = []
    for grid in grids:
        state = Level(process, law, (0.0, t), grid, np.array([0.0, t])).run().at(t)
        found.append(np.abs((state.mass - exact.cell_masses(grid.faces)) / grid.widths).max() / exact.pdf(exact.mean()))
    return np.array(found)


@pytest.mark.parametrize("graded", [False, True], ids=["periodic, equal cells", "line, graded cells"])
def test_order_five_in_space(monkeypatch: pytest.MonkeyPatch, graded: bool) -> None:
    monkeypatch.setattr(levels, "COURANT", 0.2)
    if graded:
        exact = fps.Normal(0.5 * np.exp(-1), np.exp(-1))
        grids = [fps.Grid(-8, 8, n, 1.5, 0.0) for n in (256, 512)]
        errors = errors_by_cells(fps.ODE(lambda x: -x), fps.Normal(0.5, 1), exact, grids, 1.0)
    else:
        law = fps.Normal(0, 0.15)
        errors = errors_by_cells(fps.ODE(1.0, **CIRCLE), law, law, [fps.Grid(-1, 1, n) for n in (256, 512)], 2.0)
    assert np.log2(errors[0] / errors[1]) == pytest.approx(5.0, abs=0.1)
    assert errors[1] < 1e-6


def test_order_four_in_time() -> None:
    flow, n = fps.ODE(lambda x: 1 + 0.4 * np.sin(np.pi * x), **CIRCLE), 48
    faces = np.linspace(-1, 1, n + 1)
    start = np.diff(faces + 0.2 * np.sin(np.pi * faces) / np.pi) / 2
    block = flow.drift_coefficient.block(0, (0, 1))

    def after(steps: int) -> np.ndarray:
        mass = start.copy()
        slope, ends = np.full(n + 1, n / 2), np.array([PERIODIC, PERIODIC])
        times, flux = np.linspace(0, 1, steps + 1), np.empty(n + 1)
        status, _ = transport(mass, times, faces, slope, (block.address, block.params), False, ends, np.zeros(2), flux)
        assert status == 0
        return mass

    exact = after(2000)
    errors = [np.abs(after(steps) - exact).max() for steps in (24, 48)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(4.0, abs=0.1)


def test_a_box_keeps_its_bounds_and_its_variation() -> None:
    box = fps.problem.density.as_law(stats.uniform(-0.5, 1.0))
    process = fps.ODE(1.0, **CIRCLE)
    q = Level(process, box, (0.0, 2.0), fps.Grid(-1, 1, 200), np.array([0.0, 2.0])).run().at(2.0).mass * 100
    assert q.min() >= 0
    assert q.max() < 1 + 1e-12
    assert np.abs(np.diff(q)).sum() < 2 + 1e-12
    assert (np.abs(q - (np.abs(np.linspace(-0.995, 0.995, 200)) < 0.5)) > 0.01).sum() < 20


def test_a_steep_front_has_one_maximum_and_honest_errors() -> None:
    process, t = fps.ODE(FLOWS["front"].velocity), 0.2
    law = fps.Normal(0, 1)
    q = fps.solve_liouville(process, law, (0, t), grid=fps.Grid(-8, 8, 800), t_eval=[t])
    assert "a grid was given" in q.message
    mass = q.masses(t)
    rise = np.diff(mass)[np.abs(np.diff(mass)) > 1e-14 * mass.max()]
    assert (np.diff(np.sign(rise)) != 0).sum() == 1
    x = np.linspace(-1.5, 1.5, 200)
    check_covered(q, FLOWS["front"].fields(law, x, t), x, t)
    sharp = fps.solve_liouville(process, law, (0, 1))
    assert sharp.error["pdf"].worst < 1e-6
    assert sharp.at(1.0).pdf(0.0) == pytest.approx(float(law.pdf(0.0)) * np.exp(20), rel=1e-6)


def test_a_discontinuous_start() -> None:
    q = fps.solve_liouville(fps.ODE(lambda x: -2 * x), UNIFORM, (0, 1))
    x = np.array([-0.1, 0.1, 0.5, 0.9, 1.1]) * np.exp(-2)
    assert q.pdf(x, 1.0) == pytest.approx(np.exp(2) * np.array([0, 1, 1, 1, 0]), rel=1e-9)
    assert q.cdf(x, 1.0) == pytest.approx([0, 0.1, 0.5, 0.9, 1], abs=1e-7)
    b = fps.solve_liouville(fps.ODE(lambda x: -2 * x), UNIFORM, (0, 1), scheme="finite-volume", rtol=0.5)
    check_covered(b, {"cdf": np.clip(x * np.exp(2), 0, 1)}, x, 1.0, ("cdf",))
    assert abs(b.mass(1.0) - 1) < 1e-11


def test_periodic_both_schemes() -> None:
    process = fps.ODE(lambda x: 1 + 0.5 * np.sin(2 * np.pi * x), support=(0, 1), boundary="periodic")
    law, x = stats.beta(3, 4), np.linspace(0, 1, 31)
    a = fps.solve_liouville(process, law, (0, 1.3))
    b = fps.solve_liouville(process, law, (0, 1.3), scheme="finite-volume", rtol=1e-2, t_eval=[1.3])
    for name in ("pdf", "cdf"):
        (va, ea), (vb, eb) = a.with_error(name, x, 1.3), b.with_error(name, x, 1.3)
        assert (np.abs(va - vb) <= ea + eb).all(), name
    assert (a.mass(1.3), b.mass(1.3)) == pytest.approx((1, 1), abs=1e-12)
    assert a.cdf([0.0, 1.0], 1.3) == pytest.approx([0, 1], abs=1e-9)
    p = np.linspace(0.02, 0.98, 9)
    assert a.cdf(a.ppf(p, 1.3), 1.3) == pytest.approx(p, abs=1e-9)
    assert a.mean(1.3) == pytest.approx(b.mean(1.3), abs=1e-4)
    period = 2 / np.sqrt(3)  # ∫ dx/(1 + sin(2πx)/2): after it everything is back
    back = fps.solve_liouville(process, law, (0, period))
    assert back.cdf(x, period) == pytest.approx(law.cdf(x), abs=1e-8)


@pytest.mark.parametrize("scheme", ["characteristics", "finite-volume"])
def test_absorbing_ends_report_what_left(scheme: str) -> None:
    process = fps.ODE(lambda x, t: np.cos(6 * t) + 0 * x, support=(0, 1), boundary="absorbing")
    q = fps.solve_liouville(process, UNIFORM, (0, 1), scheme=scheme, rtol=0.2, t_eval=[1.0])
    tolerance = 1e-7 if scheme == "characteristics" else 2e-3
    # the shift sin(6t)/6 goes to 1/6 and back beyond zero to -1/6: each end takes a sixth
    assert q.absorbed(1.0) == pytest.approx((1 / 6, 1 / 6), abs=tolerance)
    assert q.mass(1.0) == pytest.approx(2 / 3, abs=2 * tolerance)
    assert sum(q.absorbed(1.0)) + q.mass(1.0) == pytest.approx(1, abs=1e-11)
    shift = np.sin(6.0) / 6
    assert q.cdf(0.5 + shift, 1.0) == pytest.approx(0.5 - 1 / 6, abs=tolerance)
    assert q.pdf([0.05, 0.5], 1.0) == pytest.approx([float(0.05 - shift > 1 / 6), 1], abs=10 * tolerance)


def test_absorbed_characteristics_have_quantiles_and_moments() -> None:
    q = fps.solve_liouville(fps.ODE(1.0, support=(0, 1), boundary="absorbing"), UNIFORM, (0, 0.5))
    assert q.mean(0.3) == pytest.approx(0.5 * (1 - 0.3**2), abs=1e-10)
    assert q.ppf(0.35, 0.3) == pytest.approx(0.65, abs=1e-9)
    assert q.at(0.3).support == pytest.approx((0.3, 1.0))
    with pytest.raises(fps.InputError, match="lost mass"):
        q.at(0.3).sample(3, 0)


def test_a_wall_that_nothing_passes() -> None:
    process = fps.ODE(lambda x: x * (1 - x), support=(0, 1), boundary="reflecting")
    q = fps.solve_liouville(process, stats.beta(2, 3), (0, 1))
    x = np.linspace(0.01, 0.99, 25)
    assert q.cdf(x, 1.0) == pytest.approx(stats.beta(2, 3).cdf(x / (x + (1 - x) * np.e)), abs=1e-9)


@pytest.mark.parametrize(
    ("atoms", "kind"), [(fps.PointMass(2.0), fps.PointMass), (fps.Empirical([1.0, -2.0, 1.0]), fps.Empirical)]
)
def test_atoms_move_exactly(atoms: fps.Empirical, kind: type) -> None:
    q = fps.solve_liouville(fps.ODE(lambda x: -(x**3)), atoms, (0, 1), rtol=1e-9)
    for t in (0.0, 0.3, 1.0):
        expected = np.sort(atoms.samples / np.sqrt(1 + 2 * t * atoms.samples**2))
        assert isinstance(q.at(t), kind)
        assert q.at(t).samples == pytest.approx(expected, abs=max(q.error["x"], 1e-14))
    assert q.error["x"] < 1e-8
    with pytest.raises(fps.InputError, match="no density"):
        q.pdf(0.0, 1.0)


def test_an_sde_without_noise_is_a_flow() -> None:
    q = fps.solve_liouville(fps.SDE(lambda x: -x, 0.0), NORMAL, (0, 1), scheme="characteristics")
    assert q.cdf(0.0, 1.0) == pytest.approx(float(NORMAL.cdf(0.0)), abs=1e-12)


def test_auto_leaves_characteristics_where_v_jumps() -> None:
    q = fps.solve_liouville(fps.ODE(lambda x: -np.sign(x)), fps.Normal(0, 1), (0, 0.5), t_eval=[0.5], rtol=0.1)
    assert q.stats["scheme"] == "finite-volume"
    assert "chosen: " in q.message
    assert q.cdf([-0.5, 0.5], 0.5) == pytest.approx(fps.Normal(0, 1).cdf([-1.0, 1.0]), abs=1e-6)
    assert q.error["pdf"].worst > 0.1  # an atom grows at zero, which no density shows


def test_a_velocity_with_a_kink_is_covered() -> None:
    q = fps.solve_liouville(fps.ODE(lambda x: -np.abs(x)), NORMAL, (0, 1), rtol=1e-3)
    x = np.linspace(-3, 3, 31)
    check_covered(q, {"cdf": NORMAL.cdf(np.where(x > 0, x * np.e, x / np.e))}, x, 1.0, ("cdf",))


@pytest.mark.parametrize("scheme", ["characteristics", "finite-volume"])
@pytest.mark.parametrize(("velocity", "side"), [(lambda x: x**2, "right"), (lambda x: -(x**2), "left")])
def test_mass_that_runs_to_infinity(scheme: str, velocity: Callable, side: str) -> None:
    with pytest.raises(fps.MassEscape, match="runs to infinity") as caught:
        fps.solve_liouville(fps.ODE(velocity), fps.Normal(0, 1), (0, 0.5), scheme=scheme)
    assert caught.value.side == side
    assert 0.15 < caught.value.time < 0.25  # 1/x0 for the x0 that 1e-9 or 1e-7 of the mass lies beyond


def test_mass_that_would_escape_later_does_not_matter() -> None:
    q = fps.solve_liouville(fps.ODE(lambda x: x**2), fps.Normal(0, 0.1), (0, 0.5))
    x = np.linspace(-0.3, 0.4, 15)
    assert q.cdf(x, 0.5) == pytest.approx(fps.Normal(0, 0.1).cdf(x / (1 + 0.5 * x)), abs=1e-9)


def test_an_atom_that_blows_up() -> None:
    with pytest.raises(fps.BlowUp) as caught:
        fps.solve_liouville(fps.ODE(lambda x: x**2), fps.PointMass(2.0), (0, 1))
    assert caught.value.time == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize("scheme", ["characteristics", "finite-volume"])
def test_a_velocity_that_fails_on_the_way_is_named(scheme: str) -> None:
    late = fps.ODE(lambda x, t: np.where(t > 0.5, np.nan, -x))
    with pytest.raises(fps.CoefficientError, match=r"velocity must be finite.*t=0\.5"):
        fps.solve_liouville(late, NORMAL, (0, 1), scheme=scheme)

    def broken(x: np.ndarray, t: float) -> np.ndarray:
        if t > 0.5:
            raise KeyError("late")
        return -x

    with pytest.raises(KeyError, match="late"):
        fps.solve_liouville(fps.ODE(broken), NORMAL, (0, 1), scheme=scheme)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"process": fps.SDE(0.0, 1.0)}, fps.InputError, "without noise"),
        ({"process": lambda x: -x}, fps.InputError, r"fps\.ODE"),
        ({"t_span": (1, 0)}, fps.InputError, "reverse"),
        ({"t_eval": [0.5, 2.0]}, fps.InputError, "inside the span"),
        ({"scheme": "characteristic"}, fps.UnknownName, "did you mean 'characteristics'"),
        ({"rtol": 0.0}, fps.InputError, "rtol"),
        ({"grid": (-8, 8)}, fps.InputError, r"fps\.Grid"),
        ({"grid": fps.Grid(-8, 8, 100), "scheme": "characteristics"}, fps.InputError, "no grid"),
        ({"grid": fps.Grid(-1, 1, 100)}, fps.DensityError, "use a grid that covers"),
        ({"grid": fps.Grid(-8e3, 8e3, 100000)}, fps.InputError, "cell-steps"),
        ({"q0": fps.PointMass(0.0), "scheme": "finite-volume"}, fps.InputError, "law with a density"),
        ({"q0": [0.0, 1.0, 2.0]}, fps.InputError, "KDE"),
        ({"process": fps.ODE(-1.0, support=(-9, 9), boundary="reflecting")}, fps.InputError, "point out of an end"),
        ({"process": fps.ODE(-1.0, support=(0, 9), boundary="absorbing")}, fps.DensityError, "support"),
    ],
)
def test_bad_input(changes: dict, error: type, words: str) -> None:
    arguments = {"process": fps.ODE(lambda x: -x), "q0": NORMAL, "t_span": (0, 1)} | changes
    positional = [arguments.pop(name) for name in ("process", "q0", "t_span")]
    with pytest.raises(error, match=words) as caught:
        fps.solve_liouville(*positional, **arguments)
    assert "Fix:" in str(caught.value)


@st.composite
def problems(draw: st.DrawFn) -> tuple[ClosedFlow, fps.GaussianMixture, float]:
    k = draw(st.floats(0.1, 1.5))
    flow = FAMILIES[draw(st.sampled_from(sorted(FAMILIES)))](k)
    means = draw(st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=3))
    stds = [draw(st.floats(0.15, 0.8)) for _ in means]
    return flow, fps.GaussianMixture(np.full(len(means), 1 / len(means)), means, stds), draw(st.floats(0.2, 1.0))


@given(problems())
@settings(max_examples=12)
def test_estimates_cover_random_flows(problem: tuple[ClosedFlow, fps.GaussianMixture, float]) -> None:
    flow, law, t = problem
    process = fps.ODE(flow.velocity)
    q = fps.solve_liouville(process, law, (0, 1), t_eval=[t], rtol=1e-4)
    x = q.ppf(np.linspace(1e-4, 1 - 1e-4, 25), t)
    truth = flow.fields(law, x, t)
    check_covered(q, truth, x, t, ("pdf", "cdf", "score"))
    assert np.abs(q.pdf(x, t) - truth["pdf"]).max() / truth["pdf"].max() <= q.error["pdf"].worst
    b = fps.solve_liouville(process, law, (0, t), scheme="finite-volume", t_eval=[t], rtol=0.3)
    check_covered(b, truth, x, t)
    assert np.abs(b.pdf(x, t) - truth["pdf"]).max() / truth["pdf"].max() <= b.error["pdf"].worst


def test_derivatives_follow_the_scale_of_the_velocity() -> None:
    x = np.linspace(-3, 3, 201)
    velocity = Velocity(fps.ODE(lambda x: -np.tanh(x / 0.01)))
    jet = velocity.jet(x, 0.0, velocity.first_spacing(x, 0.0, 1.0, 0.0))
    exact = -100 / np.cosh(np.clip(x / 0.01, -300, 300)) ** 2
    assert (np.abs(jet.dx - exact) <= jet.dx_error).all()
    assert jet.dx_error.max() < 1e-9 * 100
