"""82 galaxy velocities, diffused to noise and brought back by the reverse SDE and by the probability-flow ODE.

    python examples/galaxies.py [--picture galaxies.png]

The data law is a kernel density of the velocities (10³ km/s, standardised), so that its marginals under a
variance-preserving diffusion are known in closed form. Each way back is checked against the data law, and the formulas
behind them by the checks of fpsolve. The exit status is 0 if everything is as it should be.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import fpsolve as fps

DATA = Path(__file__).parent / "data" / "galaxies.csv"
SPAN = (0.0, 1.0)
PATHS, STEPS = 4000, 128  # every step evaluates 82 kernels per path
ALPHA = 1e-4  # probability that sampling alone fails an entry of the table
PROBABILITIES = np.concatenate([[1e-4, 1e-3], np.linspace(0.01, 0.99, 57), [1 - 1e-3, 1 - 1e-4]])
FLOW_TOL = 1e-5


@dataclass(frozen=True)
class Entry:
    """A line of the table: the value stands against zero, within error + tolerance."""

    quantity: str
    value: float
    error: float
    tolerance: float
    outcome: str

    @classmethod
    def measured(cls, quantity: str, value: float, error: float, tolerance: float) -> "Entry":
        """A discrepancy that passes if it is within the tolerance, its error included."""
        return cls(quantity, value, error, tolerance, "within" if value + error <= tolerance else "OUTSIDE")

    @classmethod
    def judged(cls, quantity: str, verdict: fps.Verdict) -> "Entry":
        """The deciding discrepancy of a verdict."""
        d = verdict.discrepancy
        return cls(quantity, float(d.value), float(d.joint_error(ALPHA)), verdict.tolerance, verdict.outcome)


@dataclass(frozen=True)
class Returned:
    """What came back: samples of the reverse SDE, and points of the flow with their log-density."""

    reverse: fps.Ensemble
    start: np.ndarray
    flow_x: np.ndarray
    flow_logpdf: np.ndarray


def load() -> tuple[np.ndarray, float, float]:
    """Standardised velocities, with their mean and standard deviation in 10³ km/s."""
    velocity = np.loadtxt(DATA, comments="#", skiprows=4) / 1000.0
    mean, std = float(velocity.mean()), float(velocity.std())
    return (velocity - mean) / std, mean, std


def returned_by_sde(p: fps.SDE, q: fps.Evolution) -> tuple[fps.Ensemble, list[Entry]]:
    """Reverse SDE from q_1; its sample against the data law by the empirical cdf, and the bias of its steps."""
    ens = fps.simulate(
        p.reverse(q), q.at(1.0), SPAN, n_paths=PATHS, n_steps=STEPS,
        save_at=np.linspace(0.0, 1.0, STEPS // 2 + 1), keep="saved", bias="halving", rng=7,
    )  # fmt: skip
    x = np.sort(ens.x[-1])
    cdf, ranks = q.cdf(x, 0.0), np.arange(PATHS + 1) / PATHS
    distance = float(np.maximum(cdf - ranks[:-1], ranks[1:] - cdf).max())
    band = float(np.sqrt(np.log(2 / ALPHA) / (2 * PATHS)))  # Dvoretzky-Kiefer-Wolfowitz-Massart
    rank = ens.expect(lambda x: q.cdf(x, 0.0))  # uniform on (0, 1) if x has the data law, so of mean 1/2
    return ens, [
        Entry.measured("reverse SDE: sup |F̂ - F|, DKW band as tolerance", distance, 0.0, band),
        Entry.measured("reverse SDE: |E F(X) - 1/2|", abs(rank.value - 0.5), rank.joint_error(ALPHA), 0.03),
    ]


def returned_by_flow(flow: fps.ODE, q: fps.Evolution) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Entry]]:
    """Quantiles of q_1 carried back: they must be those of the data, and their density that of the data."""
    start = q.ppf(PROBABILITIES, 1.0)
    back = fps.flow_map(flow, start, (1.0, 0.0), rtol=1e-7, log_det=True)
    logpdf = q.logpdf(start, 1.0) - back.log_det
    apart = np.abs(back.x - q.ppf(PROBABILITIES, 0.0))
    log_apart = np.abs(logpdf - q.logpdf(back.x, 0.0))
    return (
        start,
        back.x,
        logpdf,
        [
            Entry.measured("flow: |x(p) - quantile(p)|", float(apart.max()), float(back.error.max()), FLOW_TOL),
            Entry.measured(
                "flow: |log q₀ by change of variables - exact|",
                float(log_apart.max()),
                float(back.log_det_error.max()),
                FLOW_TOL,
            ),
        ],
    )


def judged(p: fps.SDE, q0: fps.KDE, q: fps.Evolution, flow: fps.ODE) -> list[tuple[Entry, str]]:
    """The formulas behind both ways back, and one of them with a slip, each with the outcome it should have."""
    what, options = (p, q0), {"t_span": SPAN, "times": (0.05, 0.3, 0.9)}
    right = fps.check_reverse(what, lambda f, g2, g2_dx, s: -f + g2_dx + g2 * s, **options)
    slip = fps.check_reverse(what, lambda f, g2, g2_dx, s: -f + g2_dx + g2 * s / 2, **options)
    carried = fps.check_drift(q, flow, times=options["times"])
    return [
        (Entry.judged("check_reverse: -f + ∂x g² + g² s", right), "confirmed"),
        (Entry.judged("check_reverse with a slip: ½ g² s", slip), "refuted"),
        (Entry.judged("check_drift: the flow has the marginals", carried), "confirmed"),
    ]


def show(entries: Sequence[Entry]) -> None:
    """Print the table."""
    width = max(len(entry.quantity) for entry in entries)
    print(f"{'quantity':{width}s}  {'value':>8s}  {'error':>8s}  {'tolerance':>9s}  outcome")
    for e in entries:
        print(f"{e.quantity:{width}s}  {e.value:8.1e}  {e.error:8.1e}  {e.tolerance:9.1e}  {e.outcome}")


def draw(path: Path, z: np.ndarray, q: fps.Evolution, back: Returned, unit: tuple[float, float]) -> None:
    """Three panels: marginals with reverse paths; the data law and what came back; what differs."""
    mean, std = unit
    figure = Figure(figsize=(13.5, 4.2), layout="constrained")
    evolution, law, gaps = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))

    times, x = 1.0 - back.reverse.t[::-1], np.linspace(-3.6, 3.6, 241)
    image = np.array([q.pdf(x, t) for t in times]).T
    mesh = evolution.pcolormesh(times, mean + std * x, np.sqrt(image / std), cmap="Blues", shading="gouraud")
    figure.colorbar(mesh, ax=evolution, label="√ density, (10³ km/s)$^{-1/2}$", pad=0.02)
    v = mean + std * x
    evolution.plot(1.0 - back.reverse.t, mean + std * back.reverse.x[:, :8], color="tab:red", lw=0.6, alpha=0.8)
    evolution.plot(np.zeros(z.size), mean + std * z, "k_", ms=9, clip_on=False, zorder=3)
    evolution.set(xlabel="t (data at 0, noise at 1)", ylabel="velocity, 10³ km/s", xlim=(0, 1))
    evolution.set_ylim(v[0], v[-1])
    evolution.set_title("Marginals; eight paths of the reverse SDE")

    law.hist(mean + std * back.reverse.x[-1], bins=60, density=True, color="0.82", label="reverse SDE, samples")
    law.plot(v, q.pdf(x, 0.0) / std, color="tab:blue", lw=2.0, label="data law (kernel density)")
    law.plot(
        mean + std * back.flow_x, np.exp(back.flow_logpdf) / std, ".", color="tab:orange", ms=6,
        label="flow, change of variables",
    )  # fmt: skip
    law.plot(mean + std * z, np.full(z.size, -0.006), "|", color="k", ms=6, label="82 galaxies")
    law.set(xlabel="velocity, 10³ km/s", ylabel="density, 1/(10³ km/s)", xlim=(v[0], v[-1]), ylim=(-0.013, 0.215))
    law.set_title("Brought back to the data")
    law.legend(frameon=False, fontsize=8, loc="upper left")

    _draw_gaps(gaps, q, back)
    figure.savefig(path, dpi=130)


def _draw_gaps(axes, q: fps.Evolution, back: Returned) -> None:  # type: ignore[no-untyped-def]
    sample = np.sort(back.reverse.x[-1])
    cdf = q.cdf(sample, 0.0)
    distance = np.abs(cdf - (np.arange(PATHS) + 0.5) / PATHS)
    band = np.sqrt(np.log(2 / ALPHA) / (2 * PATHS))
    log_gap = np.abs(back.flow_logpdf - q.logpdf(back.flow_x, 0.0))
    gap = np.abs(back.flow_x - q.ppf(PROBABILITIES, 0.0))
    axes.semilogy(cdf[::20], distance[::20], color="0.55", lw=0.8, label="reverse SDE: |F̂ - F|")
    axes.axhline(band, color="k", ls="--", lw=1.0, label="its DKW band")
    axes.semilogy(PROBABILITIES, np.maximum(log_gap, 1e-16), ".", color="tab:orange", ms=4, label="flow: log q₀")
    axes.semilogy(PROBABILITIES, np.maximum(gap, 1e-16), ".", color="tab:green", ms=4, label="flow: quantiles")
    axes.axhline(FLOW_TOL, color="tab:orange", ls="--", lw=1.0, label="tolerance of the flow")
    axes.set(xlabel="F(x), probability to the left", ylabel="discrepancy", xlim=(0, 1), ylim=(1e-14, 20))
    axes.set_title("What differs from the data law")
    axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example; return 0 if every entry of the table is as expected."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", type=Path, default=Path("galaxies.png"), help="where the picture goes")
    options = parser.parse_args(argv)
    z, mean, std = load()
    q0, p = fps.KDE(z), fps.processes.vp()
    q = fps.exact_evolution(p, q0, SPAN)
    flow = p.probability_flow(q)
    ensemble, sampled = returned_by_sde(p, q)
    start, flow_x, flow_logpdf, carried = returned_by_flow(flow, q)
    formulas = judged(p, q0, q, flow)
    expected = [(entry, "within") for entry in (*sampled, *carried)] + formulas
    show([entry for entry, _ in expected])
    draw(options.picture, z, q, Returned(ensemble, start, flow_x, flow_logpdf), (mean, std))
    print(f"picture: {options.picture}")
    return 0 if all(entry.outcome == wanted for entry, wanted in expected) else 1


if __name__ == "__main__":
    sys.exit(main())
