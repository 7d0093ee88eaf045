"""The two pictures of the documentation."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from intervals import Coverage, pooled_repetitions
from shared import name_of_rank

mpl.use("Agg")
import matplotlib.pyplot as plt

# Okabe and Ito's colours, told apart by the colour-blind too.
_COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"]
_MARKERS = ["o", "s", "^", "D", "v"]
_STYLE = {"font.size": 11, "axes.titlesize": 11.5, "axes.spines.top": False, "axes.spines.right": False}
_DPI = 150


def draw_calibration(curves: dict[str, list[tuple[float, float, float]]], folder: Path) -> None:
    """Mean error and its spread, one panel for each estimator."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(2, 3, figsize=(9, 5.6), sharex=True, sharey=True, layout="constrained")
        for axis, colour, marker, (name, points) in zip(axes.flat, _COLOURS, _MARKERS, curves.items(), strict=False):
            alpha, mean, sd = zip(*points, strict=True)
            low, high = [m - s for m, s in zip(mean, sd, strict=True)], [m + s for m, s in zip(mean, sd, strict=True)]
            axis.axhline(0, color="black", linewidth=0.8)
            axis.fill_between(alpha, low, high, color=colour, alpha=0.25, linewidth=0, label="± 1 sd of one estimate")
            axis.plot(alpha, mean, color=colour, marker=marker, markersize=5, label="mean estimate − true α")
            axis.set(title=name, ylim=(-0.28, 0.2))
            axis.legend(loc="lower left", fontsize=8.5, frameon=False)
            axis.tick_params(labelbottom=True)
        for axis in axes[:, 0]:
            axis.set_ylabel("estimate − true α")
        for axis in axes.flat[2:5]:
            axis.set_xlabel("true α (no unit)")
        axes.flat[-1].set_axis_off()
        axes.flat[-1].text(
            0,
            0.5,
            "Estimates above 2 read as 2.\nAll panels share one scale.",
            va="center",
            transform=axes.flat[-1].transAxes,
        )
        figure.suptitle("Error of the estimated tail index of one series, n = 1000 values", fontsize=13)
        figure.savefig(folder / "calibration.png", dpi=_DPI)
        plt.close(figure)


def draw_coverage(
    series: dict[int, dict[float, tuple[float, int]]], pooled: Coverage, folder: Path, quick: bool
) -> None:
    """Coverage of both kinds of interval against alpha, with Monte-Carlo error bars."""
    curves = {"one series, n = 1000": (series[1000], series[1000][1.5][1])}
    for (draws, rank), cells in pooled.items():
        if draws == 64:
            curves[f"pooled, 64 draws × 300, {name_of_rank(rank)}"] = (cells, pooled_repetitions(quick))
    with mpl.rc_context(_STYLE):
        figure, axis = plt.subplots(figsize=(9, 4.8), layout="constrained")
        axis.axhline(95, color="black", linestyle="--", linewidth=1, label="nominal, 95 %")
        for place, (colour, marker, (name, (cells, count))) in enumerate(
            zip(_COLOURS, _MARKERS, curves.items(), strict=False)
        ):
            share = [100 * cell[0] for cell in cells.values()]
            error = [1.96 * (s * (100 - s) / count) ** 0.5 for s in share]
            places = [alpha + 0.006 * (place - 1.5) for alpha in cells]
            axis.errorbar(places, share, error, color=colour, marker=marker, markersize=6, capsize=3, label=name)
        axis.set(
            xlabel="true α (no unit)", ylabel="intervals that hold α (%)", ylim=(78, 101), yticks=range(80, 101, 5)
        )
        axis.set_title("Coverage of the 95 % intervals of grouped_mle (bars: 95 % error of the simulation)")
        axis.legend(loc="lower left", frameon=False)
        figure.savefig(folder / "coverage.png", dpi=_DPI)
        plt.close(figure)
