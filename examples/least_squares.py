"""Train linear regressions on Gaussian data by plain SGD: their iterates have heavy tails, as heavy as theory says.

python examples/least_squares.py            # two to three minutes; writes runs/least_squares.png
python examples/least_squares.py --quick    # the same in seconds, of few regressions and settings
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from regressions import Setting, Sizes, Trained, quiet, train

# Okabe and Ito's colours.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"


@dataclass(frozen=True)
class Sweep:
    """Settings that differ in one thing."""

    varied: str
    label: str
    held: str
    values: tuple[float, ...]
    start: Setting

    @property
    def is_counted(self) -> bool:
        return isinstance(self.values[0], int)

    def at(self, value: float) -> Setting:
        return replace(self.start, **{self.varied: value})  # type: ignore[arg-type]


# Each goes on to where there is no stationary law.
SWEEPS = (
    Sweep("step_size", "step size η", "b = 5, d = 2, σ = 1", (1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 2.0), Setting()),
    Sweep("batch_size", "minibatch size b", "η = 1.2, d = 2, σ = 1", (7, 6, 5, 4, 3, 2, 1), Setting()),
    Sweep("dim", "dimension d", "η = 1, b = 5, σ = 1", (1, 2, 3, 4, 5, 6), Setting(step_size=1.0)),
    Sweep(
        "scale", "standard deviation σ of inputs", "η = 1, b = 5, d = 2",
        (1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.4), Setting(step_size=1.0),
    ),
)  # fmt: skip
LOOKED_INTO = {Setting(step_size=1.1): (BLUE, "o", 0.96), Setting(step_size=1.4): (ORANGE, "s", 1.04)}


def row(setting: Setting, trained: Trained | None) -> str:
    """One line of the table; what has no stationary law has no tail index to print."""
    cells = f"{setting.step_size:5g} {setting.batch_size:3d} {setting.dim:3d} {setting.scale:5g}"
    cells += f" {setting.lyapunov_exponent:8.3f}"
    if trained is None:
        return f"{cells}   no stationary law: not trained, nothing estimated"
    return f"{cells} {setting.tail_index:8.2f} {trained.alpha:8.2f}   [{trained.low:.2f}, {trained.high:.2f}]"


def noise_rows(trained: Trained) -> list[str]:
    setting = trained.setting
    return [
        f"{setting.step_size:5g} {setting.batch_size * each.num_minibatches:15d} {each.alpha:9.2f}"
        f"   [{each.low:.2f}, {each.high:.2f}] {each.gaussian_alpha:12.2f} {trained.alpha:13.2f}"
        for each in trained.noise
    ]


def averages_row(trained: Trained) -> str:
    """Averages over many steps tend to a stable law: that of the iterates' index, or the Gaussian from 2 on."""
    found, setting = trained.averages, trained.setting
    assert found is not None
    limit = min(setting.tail_index, 2.0)
    return f"{setting.step_size:5g} {found.alpha:21.2f}   [{found.low:.2f}, {found.high:.2f}] {limit:8.2f}"


def draw_sweep(ax: Axes, sweep: Sweep, found: dict[Setting, Trained]) -> None:
    low, high = min(sweep.values), max(sweep.values)
    if sweep.is_counted:
        places: list[float] = list(range(int(low), int(high) + 1))
    else:
        places = torch.linspace(low, high, 81).tolist()
    theory = [sweep.at(value).tail_index for value in places]
    style = {"marker": "_", "markersize": 12, "linestyle": ":"} if sweep.is_counted else {}
    ax.plot(places, theory, color=GREEN, label="theory: h(α) = 1", **style)  # type: ignore[arg-type]
    lawless = [value for value, alpha in zip(places, theory, strict=True) if math.isnan(alpha)]
    if lawless:
        margin = 0.5 if sweep.is_counted else 0.0
        ax.axvspan(min(lawless) - margin, max(lawless) + margin, color=GREY, alpha=0.25, linewidth=0)
        middle = (min(lawless) + max(lawless)) / 2
        ax.text(middle, 0.7, "no stationary law\n(ρ ≥ 0)", transform=ax.get_xaxis_transform(), rotation=90, va="top",
                ha="center", fontsize="small")  # fmt: skip
    points = [(value, found[sweep.at(value)]) for value in sweep.values if sweep.at(value) in found]
    values, alphas = [value for value, _ in points], [each.alpha for _, each in points]
    errors = [[each.alpha - each.low for _, each in points], [each.high - each.alpha for _, each in points]]
    ax.errorbar(values, alphas, errors, color=BLUE, fmt="o", markersize=5, label="Trainer: Hill, 95 % interval")
    ax.set(title=f"α against {sweep.label.split(' of ')[0]} ({sweep.held})", xlabel=sweep.label)
    ax.set(ylabel="tail index α of the iterates", ylim=(0, 5.5))
    ax.legend(frameon=False, loc="upper left" if sweep.varied == "batch_size" else "upper right")


def draw_tails(ax: Axes, found: dict[Setting, Trained]) -> None:
    """How often iterates are farther than t from the solution."""
    for setting, (colour, _, _) in LOOKED_INTO.items():
        distances = found[setting].distances.sort(descending=True).values
        share = torch.arange(1, len(distances) + 1) / len(distances)
        ax.plot(distances, share, color=colour, label=f"η = {setting.step_size:g}, iterates")
        k = len(distances) // 100
        tail = torch.tensor([float(distances[k]), float(distances[0])])
        line = share[k] * (tail / tail[0]) ** -setting.tail_index
        name = f"η = {setting.step_size:g}, theory: slope −{setting.tail_index:.2f}"
        ax.plot(tail, line, color=colour, linestyle="--", linewidth=2.5, alpha=0.5, label=name)
        middle = float(distances.median())
        t = torch.linspace(0.01, 5, 200) * middle
        ax.plot(t, 0.5 ** (t / middle) ** 2, color=colour, linestyle=":", label="Gaussian, same median")
    ax.set(title="Heavy-tailed iterates (b = 5, d = 2, σ = 1)", xscale="log", yscale="log")
    ax.set(xlabel="t, distance from the solution", ylabel="share of the replicas beyond t", xlim=(0.001, None))
    ax.set(ylim=(0.5 / len(next(iter(found.values())).distances), 2))
    ax.legend(frameon=False, fontsize="small", loc="lower left")


def draw_noise(ax: Axes, found: dict[Setting, Trained]) -> None:
    """The noise at held weights beside where such noise has brought the weights."""
    for setting, (colour, marker, shift) in LOOKED_INTO.items():
        each = found[setting]
        sizes = [setting.batch_size * noise.num_minibatches for noise in each.noise]
        places = [shift * size for size in sizes]  # or one would hide the other
        errors = [[n.alpha - n.low for n in each.noise], [n.high - n.alpha for n in each.noise]]
        ax.errorbar(places, [n.alpha for n in each.noise], errors, color=colour, marker=marker, capsize=3,
                    label=f"noise, η = {setting.step_size:g}")  # fmt: skip
        ax.axhline(each.alpha, color=colour, linestyle="--", label=f"iterates, η = {setting.step_size:g}")
        ax.axhspan(each.low, each.high, color=colour, alpha=0.15, linewidth=0)
    ax.set(title="Noise at held weights, beside the iterates", xscale="log")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.set(xlabel="samples averaged: b = 5 and multiples", ylabel="tail index α (95 % intervals)", ylim=(0, None))
    ax.legend(frameon=False, ncols=2, loc="lower left")


def figure(found: dict[Setting, Trained]) -> Figure:
    drawn = Figure(figsize=(14, 7.4), layout="constrained")
    axes = [drawn.add_subplot(2, 3, place) for place in range(1, 7)]
    draw_tails(axes[0], found)
    for ax, sweep in zip(axes[1:5], SWEEPS, strict=True):
        draw_sweep(ax, sweep, found)
    draw_noise(axes[5], found)
    for ax in axes:
        ax.title.set_fontsize("medium")
        ax.spines[["top", "right"]].set_visible(False)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few regressions, steps and settings")
    parser.add_argument("--output", type=Path, default=Path("runs/least_squares.png"), help="default: %(default)s")
    arguments = parser.parse_args()
    sizes = Sizes(5000, 100, 200, 64) if arguments.quick else Sizes(40_000, 400, 500, 256)
    quiet()
    found: dict[Setting, Trained] = {}
    print("    η   b   d     σ        ρ   theory     Hill   95 % interval")
    for sweep in SWEEPS:
        for value in sweep.values:
            setting = sweep.at(value)
            is_needed = setting in LOOKED_INTO or value in (sweep.values[3], sweep.values[-1])
            if arguments.quick and not is_needed:
                continue
            if setting.lyapunov_exponent < 0 and setting not in found:
                found[setting] = train(setting, sizes, seed=len(found), monitored=setting in LOOKED_INTO)
            print(row(setting, found.get(setting)), flush=True)
    print("\n    η   minibatch size   noise α   95 % interval   Gaussian's   iterates' α")
    for setting in LOOKED_INTO:
        print("\n".join(noise_rows(found[setting])))
    print("\n    η   ergodic averages' α   95 % interval   theory")
    for setting in LOOKED_INTO:
        print(averages_row(found[setting]))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure(found).savefig(arguments.output, dpi=80, pil_kwargs={"optimize": True})
    print(f"\nThe figure is {arguments.output}.")


if __name__ == "__main__":
    main()
