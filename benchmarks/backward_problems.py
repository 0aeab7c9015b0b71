"""Random backward equations and control problems with closed forms, in families; everything is exact to about 1e-12."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from random_problems import mixtures, numbers
from scipy.integrate import solve_ivp
from scipy.special import ndtr

import fpsolve as fps

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(12)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_IMAGES = 12

Field = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray]]  # (x, t) -> value, gradient


@dataclass(frozen=True)
class BackwardProblem:
    """A problem with its closed form; `text` declares it in full.

    `solve(rtol, times)` gives anything with `with_error(name, x, t)` and `region`; `exact(x, t)` value and gradient.
    """

    family: str
    solve: Callable[[float, tuple[float, ...]], Any]
    exact: Field
    t_span: tuple[float, float]
    times: tuple[float, ...]
    text: str

    def __repr__(self) -> str:
        return f"{self.family}: {self.text}, t_span={self.t_span}, t_eval={list(self.times)}"


@st.composite
def _spans(draw: Callable, longest: float = 2.0) -> tuple[tuple[float, float], tuple[float, ...]]:
    """A span and one or two times in it, the first one among them."""
    start, length = draw(st.sampled_from([0.0, 0.5, -1.0])), draw(numbers(0.1, longest))
    inner = draw(st.lists(numbers(0.05, 0.9), max_size=1))
    return (start, start + length), tuple(sorted({start, *(start + u * length for u in inner)}))


def _feynman_kac(process: fps.SDE, terminal: Any, t_span: tuple[float, float], potential: Any = None) -> Callable:
    def solve(rtol: float, times: tuple[float, ...]) -> Any:
        return fps.solve_backward(process, terminal, t_span, potential=potential, t_eval=times, rtol=rtol)

    return solve


# ---- terminals whose mean over a normal law is known: (function, mean and its derivative in the mean, text)


Averaged = tuple[Callable, Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray]], str]


def _bumps(law: fps.GaussianMixture, text: str) -> Averaged:
    def mean(m: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
        value, slope = np.zeros_like(m), np.zeros_like(m)
        for w, centre, std in zip(law.weights, law.means, law.stds, strict=True):
            total = std**2 + variance
            part = w * np.exp(-0.5 * (m - centre) ** 2 / total) / np.sqrt(2 * np.pi * total)
            value, slope = value + part, slope - part * (m - centre) / total
        return value, slope

    return law.pdf, mean, f"pdf of {text}"


def _polynomial(coefficients: list[float]) -> Averaged:
    p = np.polynomial.Polynomial(coefficients)

    def mean(m: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
        x = m[..., None] + np.sqrt(variance) * _NODES
        return p(x) @ _WEIGHTS, p.deriv()(x) @ _WEIGHTS

    return lambda x: p(x), mean, f"polynomial{coefficients}"


def _exponential(k: float) -> Averaged:
    def mean(m: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
        value = np.exp(k * m + 0.5 * k**2 * variance)
        return value, k * value

    return lambda x: np.exp(k * x), mean, f"exp({k} x)"


def _wave(k: float, phase: float) -> Averaged:
    def mean(m: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
        damp = np.exp(-0.5 * k**2 * variance)
        return damp * np.sin(k * m + phase), damp * k * np.cos(k * m + phase)

    return lambda x: np.sin(k * x + phase), mean, f"sin({k} x + {phase})"


def _step(place: float) -> Averaged:
    def mean(m: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
        z = (m - place) / np.sqrt(variance)
        return ndtr(z), np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi * variance)

    return lambda x: np.where(x > place, 1.0, 0.0), mean, f"1[x > {place}]"


def _kink(place: float) -> Averaged:
    def mean(m: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
        z = (m - place) / np.sqrt(variance)
        value = (m - place) * ndtr(z) + np.sqrt(variance) * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
        return value, ndtr(z)

    return lambda x: np.maximum(x - place, 0.0 * x), mean, f"max(x - {place}, 0)"


@st.composite
def _terminals(draw: Callable, rough: bool = True) -> Averaged:
    kind = draw(st.sampled_from(["bumps", "bumps", "polynomial", "exponential", "wave", *(["step", "kink"] * rough)]))
    if kind == "bumps":
        return _bumps(*draw(mixtures(reach=2.0)))
    if kind == "polynomial":
        return _polynomial([draw(numbers(-1.0, 1.0)) for _ in range(draw(st.integers(2, 5)))])
    if kind == "exponential":
        return _exponential(draw(numbers(-1.0, 1.0)))
    if kind == "wave":
        return _wave(draw(numbers(0.5, 3.0)), draw(numbers(0.0, 6.0)))
    return (_step if kind == "step" else _kink)(draw(numbers(-1.0, 1.0)))


# ---- families


@st.composite
def ou_problems(draw: Callable) -> BackwardProblem:
    """Ornstein-Uhlenbeck process, constant potential."""
    theta, sigma, centre = draw(numbers(0.2, 2.5)), draw(numbers(0.3, 1.8)), draw(numbers(-1.0, 1.0))
    rate, (terminal, mean, text), (span, times) = draw(numbers(0.0, 1.0)), draw(_terminals()), draw(_spans())

    def exact(x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        decay, left = np.exp(-theta * (span[1] - t)), np.exp(-rate * (span[1] - t))
        value, slope = mean(centre + (x - centre) * decay, sigma**2 * (1 - decay**2) / (2 * theta))
        return left * value, left * decay * slope

    solve = _feynman_kac(fps.processes.ou(theta, sigma, centre), terminal, span, rate)
    return BackwardProblem("OU", solve, exact, span, times, f"ou({theta}, {sigma}, {centre}), {text}, rate {rate}")


@st.composite
def sinh_problems(draw: Callable) -> BackwardProblem:
    """SinhOU with terminals of y = L asinh(x/L)."""
    theta, sigma, length = draw(numbers(0.3, 1.5)), draw(numbers(0.3, 1.2)), draw(numbers(1.0, 20.0))
    (terminal, mean, text), (span, times) = draw(_terminals(rough=False)), draw(_spans())

    def exact(x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        decay = np.exp(-theta * (span[1] - t))
        value, slope = mean(length * np.arcsinh(x / length) * decay, sigma**2 * (1 - decay**2) / (2 * theta))
        return value, decay * slope / np.sqrt(1 + (x / length) ** 2)

    process = fps.processes.sinh_ou(theta, sigma, length)
    solve = _feynman_kac(process, lambda x: terminal(length * np.arcsinh(x / length)), span)
    return BackwardProblem("SinhOU", solve, exact, span, times, f"sinh_ou({theta}, {sigma}, {length}), {text} in y")


@st.composite
def gbm_problems(draw: Callable) -> BackwardProblem:
    """Geometric Brownian motion: digitals, calls, powers, discounted (Black and Scholes)."""
    rate, sigma, strike = draw(numbers(0.0, 0.2)), draw(numbers(0.1, 0.5)), draw(numbers(0.5, 3.0))
    kind, power = draw(st.sampled_from(["digital", "call", "power", "bump"])), draw(numbers(0.5, 2.0))
    span, times = draw(_spans())

    def payoff(x: np.ndarray) -> np.ndarray:
        if kind == "digital":
            return np.where(x > strike, 1.0, 0.0)
        if kind == "call":
            return np.maximum(x - strike, 0.0 * x)
        return x**power if kind == "power" else np.exp(-4.0 * np.log(np.maximum(x, 1e-300) / strike) ** 2)

    def exact(x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        s = span[1] - t
        spread, gone = sigma * np.sqrt(s), np.exp(-rate * s)
        m = np.log(x) + (rate - 0.5 * sigma**2) * s
        d2 = (m - np.log(strike)) / spread
        bell = np.exp(-0.5 * d2**2) / np.sqrt(2 * np.pi)
        if kind == "digital":
            return gone * ndtr(d2), gone * bell / (spread * x)
        if kind == "call":
            return x * ndtr(d2 + spread) - strike * gone * ndtr(d2), ndtr(d2 + spread)
        if kind == "power":
            value = gone * np.exp(power * m + 0.5 * power**2 * spread**2)
            return value, power * value / x
        wide = 1 + 8.0 * spread**2
        value = gone * np.exp(-4.0 * (m - np.log(strike)) ** 2 / wide) / np.sqrt(wide)
        return value, -8.0 * (m - np.log(strike)) / wide / x * value

    solve = _feynman_kac(fps.processes.gbm(rate, sigma), payoff, span, rate)
    return BackwardProblem("GBM", solve, exact, span, times, f"gbm({rate}, {sigma}), {kind}({strike}, {power})")


@st.composite
def vasicek_problems(draw: Callable) -> BackwardProblem:
    """Bond of an Ornstein-Uhlenbeck rate, potential x, terminal exp(-c x)."""
    theta, sigma, centre = draw(numbers(0.2, 2.5)), draw(numbers(0.1, 0.8)), draw(numbers(-0.5, 1.0))
    c, (span, times) = draw(numbers(-0.5, 1.0)), draw(_spans())

    def exact(x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        s = span[1] - t
        # c X_T + ∫ X is Gaussian: weights of the noise at time u before the end are c e^(-θu) + (1 - e^(-θu))/θ
        e1, e2 = -np.expm1(-theta * s), -np.expm1(-2 * theta * s)
        b = c * np.exp(-theta * s) + e1 / theta
        mean = centre * (c + s) + (x - centre) * b
        k = c - 1 / theta
        variance = sigma**2 * (k**2 * e2 / (2 * theta) + 2 * k / theta * e1 / theta + s / theta**2)
        value = np.exp(-mean + 0.5 * variance)
        return value, -b * value

    process = fps.processes.ou(theta, sigma, centre)
    solve = _feynman_kac(process, lambda x: np.exp(-c * x), span, lambda x: x)
    return BackwardProblem("Vasicek", solve, exact, span, times, f"ou({theta}, {sigma}, {centre}), exp(-{c} x)")


@st.composite
def cir_problems(draw: Callable) -> BackwardProblem:
    """Bond of a square-root rate, potential k x, terminal exp(-c x), on both sides of Feller's condition."""
    kappa, theta, xi = draw(numbers(0.3, 2.5)), draw(numbers(0.3, 1.5)), draw(numbers(0.2, 1.2))
    k, c, (span, times) = draw(numbers(0.1, 2.0)), draw(numbers(0.0, 2.0)), draw(_spans())

    def exact(x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        # Lamberton and Lapeyre (1996), proposition 6.2.5
        s, root = span[1] - t, np.sqrt(kappa**2 + 2 * k * xi**2)
        grown = np.exp(root * s)
        below = xi**2 * c * (grown - 1) + root - kappa + grown * (root + kappa)
        b = (c * (root + kappa + grown * (root - kappa)) + 2 * k * (grown - 1)) / below
        log_a = 2 * kappa * theta / xi**2 * np.log(2 * root * np.exp(0.5 * s * (root + kappa)) / below)
        value = np.exp(log_a - b * x)
        return value, -b * value

    boundary = "natural" if 2 * kappa * theta >= xi**2 else "reflecting"
    process = fps.processes.cir(kappa, theta, xi, boundary)
    solve = _feynman_kac(process, lambda x: np.exp(-c * x), span, lambda x: k * x)
    return BackwardProblem("CIR", solve, exact, span, times, f"cir({kappa}, {theta}, {xi}), exp(-{c} x), {k} x")


@st.composite
def walled_problems(draw: Callable) -> BackwardProblem:
    """Brownian motion between ends that absorb or reflect, or from one such end on; a bump or a constant, by images."""
    sigma, length = draw(numbers(0.4, 1.2)), draw(numbers(0.8, 3.0))
    ends = draw(st.sampled_from([(a, b) for a in (-1, 1) for b in (-1, 0, 1)]))  # -1 absorbs, 1 reflects, 0 is far
    centre, width = draw(numbers(0.2, 0.8)), draw(numbers(0.1, 0.5))
    kind, (span, times) = draw(st.sampled_from(["bump", "constant", "step"])), draw(_spans(longest=1.0))
    right = length if ends[1] else np.inf
    centre *= length

    def terminal(x: np.ndarray) -> np.ndarray:
        if kind == "bump":
            return np.exp(-0.5 * ((x - centre) / width) ** 2)
        return np.where(x > centre, 1.0, 0.0) if kind == "step" else 1.0 + 0.0 * x

    def carried(x: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
        """Mean of the terminal on (0, right) alone under a normal law about x, and its slope."""
        if kind != "bump":
            low = centre if kind == "step" else 0.0
            z = [(x - low) / np.sqrt(variance), (x - right) / np.sqrt(variance)]
            bells = [np.exp(-0.5 * v**2) / np.sqrt(2 * np.pi * variance) for v in z]
            return ndtr(z[0]) - ndtr(z[1]), bells[0] - bells[1]
        total = width**2 + variance
        part = width / np.sqrt(total) * np.exp(-0.5 * (x - centre) ** 2 / total)
        std = width * np.sqrt(variance / total)
        middle, turn = (x * width**2 + centre * variance) / total, width**2 / total
        inside = ndtr(middle / std) - ndtr((middle - right) / std)
        edge = np.exp(-0.5 * (middle / std) ** 2) - np.exp(-0.5 * ((middle - right) / std) ** 2)
        return part * inside, -part * inside * (x - centre) / total + part * edge * turn / (std * np.sqrt(2 * np.pi))

    def exact(x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        variance = sigma**2 * (span[1] - t)
        value, slope = np.zeros_like(x), np.zeros_like(x)
        for n in range(-_IMAGES, _IMAGES + 1) if ends[1] else (0,):
            size = float(ends[0] * ends[1]) ** abs(n) if ends[1] else 1.0
            shift = 2 * n * length if ends[1] else 0.0
            v, dv = carried(x + shift, variance)
            w, dw = carried(-x + shift, variance)
            value, slope = value + size * (v + ends[0] * w), slope + size * (dv - ends[0] * dw)
        return value, slope

    names = {-1: "absorbing", 0: "natural", 1: "reflecting"}
    boundary = names[ends[0]], names[ends[1]]
    solve = _feynman_kac(fps.SDE(0.0, sigma, support=(0.0, right), boundary=boundary), terminal, span)
    text = f"SDE(0, {sigma}) on (0, {right:g}), {boundary}, {kind} at {centre:.6g}, width {width}"
    return BackwardProblem("walls", solve, exact, span, times, text)


# ---- control


def _controlled(direct: bool, problem: fps.ControlProblem) -> Callable:
    def solve(rtol: float, times: tuple[float, ...]) -> Any:
        route = problem.solve_hjb if direct else problem.solve_hopf_cole
        return route(t_eval=times, rtol=rtol)

    return solve


@st.composite
def regulator_problems(draw: Callable) -> BackwardProblem:
    """Linear process, quadratic costs: V = ½ p x² + b x + c by Riccati's equation."""
    a, shift, s = draw(numbers(-1.5, 0.8)), draw(numbers(-1.0, 1.0)), draw(numbers(0.3, 1.2))
    k, m, tilt = draw(numbers(0.0, 2.0)), draw(numbers(0.0, 2.0)), draw(numbers(-1.0, 1.0))
    direct, (span, times) = draw(st.booleans()), draw(_spans())

    def rates(_: float, y: np.ndarray) -> list[float]:
        p, b, _c = y
        return [2 * a * p - s**2 * p**2 + k, (a - s**2 * p) * b + shift * p, shift * b + 0.5 * s**2 * (p - b**2)]

    def exact(x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        end = solve_ivp(rates, (0, span[1] - t), [m, tilt, 0.0], "DOP853", rtol=3e-14, atol=1e-14).y[:, -1]
        return 0.5 * end[0] * x**2 + end[1] * x + end[2], end[0] * x + end[1]

    problem = fps.ControlProblem(
        fps.SDE(lambda x: a * x + shift, s), lambda x: 0.5 * k * x**2, lambda x: 0.5 * m * x**2 + tilt * x, span
    )
    text = f"dX = ({a} X + {shift} + {s} u) dt + {s} dW, costs ½ {k} x², ½ {m} x² + {tilt} x"
    name = "regulator, HJB" if direct else "regulator, Hopf-Cole"
    return BackwardProblem(name, _controlled(direct, problem), exact, span, times, text)


@st.composite
def log_density_problems(draw: Callable) -> BackwardProblem:
    """OU or SinhOU reversed, terminal cost -log q0 of a mixture: V = -log q (Berner et al., Lemma 2.3)."""
    theta, sigma = draw(numbers(0.3, 1.5)), draw(numbers(0.4, 1.4))
    length = draw(st.one_of(st.just(np.inf), numbers(2.0, 20.0)))
    n = draw(st.integers(1, 2))
    means, stds = [draw(numbers(-1.0, 1.0)) for _ in range(n)], [draw(numbers(0.3, 1.0)) for _ in range(n)]
    law = fps.GaussianMixture(np.full(n, 1.0 / n), means, stds)
    direct, (span, times) = draw(st.booleans()), draw(_spans(longest=1.0))
    if np.isinf(length):
        process, q0 = fps.processes.ou(theta, sigma), law
    else:
        process, q0 = fps.processes.sinh_ou(theta, sigma, length), fps.Pushforward(law, fps.maps.Sinh(length))
    q = fps.exact_evolution(process, q0, (0.0, span[1] - span[0]))

    def exact(x: np.ndarray, t: float) -> tuple[np.ndarray, np.ndarray]:
        return -q.logpdf(x, span[1] - t), -q.score(x, span[1] - t)

    problem = fps.ControlProblem(*_reversed_in_time(theta, sigma, length), lambda x: -q0.logpdf(x), span)
    text = f"sinh_ou({theta}, {sigma}, {length}), mixture {means}, {stds}"
    name = "log-density, HJB" if direct else "log-density, Hopf-Cole"
    return BackwardProblem(name, _controlled(direct, problem), exact, span, times, text)


def _reversed_in_time(theta: float, sigma: float, length: float) -> tuple[fps.SDE, Any]:
    """Process with drift (g²)' - f, and the running cost f' - ½ (g²)'' whose value function is -log q."""
    if np.isinf(length):
        return fps.SDE(lambda x: theta * x, sigma), -theta

    def root(x: np.ndarray) -> np.ndarray:
        return np.sqrt(1 + (x / length) ** 2)

    def drift(x: np.ndarray) -> np.ndarray:
        return theta * length * np.arcsinh(x / length) * root(x) + 1.5 * (sigma / length) ** 2 * x

    def running(x: np.ndarray) -> np.ndarray:
        pulled = -theta * (1 + np.arcsinh(x / length) * (x / length) / root(x))
        return pulled - 0.5 * (sigma / length) ** 2

    return fps.SDE(drift, lambda x: sigma * root(x)), running


LINEAR = st.one_of(
    ou_problems(), sinh_problems(), gbm_problems(), vasicek_problems(), cir_problems(), walled_problems()
)
CONTROL = st.one_of(regulator_problems(), log_density_problems())
