"""Kramers' formula for what it is: the limit of weak noise of a mean passage time, not the mean passage time.

    python examples/kramers.py [--picture kramers.png]

In the double well V = x⁴/4 - x²/2 the mean time from the bottom at -1 to the bottom at 1 is known by quadrature, and
the slowest decay rate of the process by its spectrum, λ₁ = 2/E T up to terms that vanish with e^{-ΔV/ε}, ε = σ²/2.
Kramers' formula is E T ≈ 2π e^{ΔV/ε}/√(V''(-1) |V''(0)|). Laplace's method taken one term further multiplies it by
1 + ε (a + b), with a = 5V'''²/(24V''³) - V''''/(8V''²) = 3/4 at the bottom and b = V''''/8 = 3/4 at the top, where
V'' = -1 and V''' = 0.
The exit status is 0 if the formula errs as these terms say.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import fpsolve as fps

BARRIER = 0.25  # ΔV = V(0) - V(-1)
CORRECTION = 3 / 4 + 3 / 4
STEEPNESS = np.array([0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0])  # ΔV/ε


@dataclass(frozen=True)
class Escape:
    """What one strength of noise gives: mean time by quadrature, half the slowest rate, and Kramers' time."""

    steepness: float
    noise: float
    mean: float
    mean_error: float
    half_rate: float
    kramers: float

    @property
    def ratio(self) -> float:
        """Kramers' rate over the true one, E T over Kramers' time."""
        return self.mean / self.kramers

    @property
    def corrected(self) -> float:
        """The same with the next term."""
        return self.ratio / (1.0 + CORRECTION * self.noise)


def escape(steepness: float) -> Escape:
    """Mean time and slowest rate where the barrier is `steepness` times ε."""
    noise = BARRIER / steepness
    p = fps.processes.double_well(sigma=np.sqrt(2.0 * noise))
    passage = fps.first_passage(p, -1.0, upper=1.0)
    half_rate = 0.5 * float(fps.spectrum(p, 2).eigenvalues[1])
    kramers = 2.0 * np.pi / np.sqrt(2.0) * np.exp(steepness)
    return Escape(steepness, noise, passage.mean, passage.mean_error, half_rate, float(kramers))


def show(found: Sequence[Escape]) -> None:
    """Print the table."""
    head = f"{'ΔV/ε':>6s} {'E T':>17s} {'± relative':>10s} {'λ₁ E T/2':>12s}"
    print(f"{head} {'Kramers rate/true':>18s} {'with next term':>15s}")
    for e in found:
        row = f"{e.steepness:6.1f} {e.mean:17.10g} {e.mean_error / e.mean:10.1e} {e.half_rate * e.mean:12.9f}"
        print(f"{row} {e.ratio:18.6f} {e.corrected:15.6f}")


def draw(path: Path, found: Sequence[Escape]) -> None:
    """Two panels: the ratio against the barrier, and how it tends to one."""
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    ratio, gap = figure.subplots(1, 2)
    x = np.array([e.steepness for e in found])
    ratio.axhline(1.0, color="k", lw=0.8)
    ratio.semilogx(x, [e.ratio for e in found], "o-", color="tab:blue", label="Kramers, against 1/E T")
    by_rate = [1.0 / (e.kramers * e.half_rate) for e in found]
    ratio.semilogx(x, by_rate, "s--", color="tab:green", ms=4, label="Kramers, against λ₁/2")
    ratio.semilogx(x, [e.corrected for e in found], "^-", color="tab:orange", ms=4, label="with the next term")
    ratio.set(xlabel="barrier over noise, ΔV/ε", ylabel="formula's rate / true rate")
    ratio.set_title("What Kramers' formula is worth")
    ratio.legend(frameon=False)
    noise = np.array([e.noise for e in found])
    for values, style, label in (
        ([e.ratio - 1.0 for e in found], "o-", "Kramers"),
        ([e.corrected - 1.0 for e in found], "^-", "with the next term"),
        ([e.half_rate * e.mean - 1.0 for e in found], "s-", "λ₁ E T/2"),
    ):
        gap.loglog(noise, np.maximum(np.abs(values), 1e-16), style, ms=4, label=label)
    gap.loglog(noise, CORRECTION * noise, "k:", lw=1.0, label="3ε/2")
    gap.set(xlabel="noise, ε = σ²/2", ylabel="|ratio - 1|", ylim=(1e-15, 20))
    gap.set_title("How it tends to one")
    gap.legend(frameon=False)
    figure.savefig(path, dpi=130)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; return 0 if the formula errs by 3ε/2, and with the next term by order ε²."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, default=Path("kramers.png"), help="where the picture goes")
    options = parser.parse_args(argv)
    found = [escape(float(steepness)) for steepness in STEEPNESS]
    show(found)
    draw(options.picture, found)
    weak, weaker = found[-2:]
    slope = (weaker.ratio - 1.0) / weaker.noise
    order = np.log((weak.corrected - 1.0) / (weaker.corrected - 1.0)) / np.log(weak.noise / weaker.noise)
    print(f"(rate ratio - 1)/ε at the weakest noise: {slope:.4f}, in theory {CORRECTION} as ε → 0")
    print(f"order in ε of what is left with the next term: {order:.3f}, in theory 2")
    print(f"picture: {options.picture}")
    return 0 if abs(slope - CORRECTION) < 10.0 * weaker.noise and abs(order - 2.0) < 0.1 else 1


if __name__ == "__main__":
    sys.exit(main())
