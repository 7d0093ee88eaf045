"""Which noise is stable: the tail index of averages of several minibatches, in every setting of several sweeps.

python examples/papers/averages.py sweeps/1901.06053 sweeps/galkin_2021_lenet -o docs/papers/averages.png

A stable law keeps its tail index when minibatches are averaged; noise of finite variance climbs to 2.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from results import data_of, read, settings
from style import tail_axis

from lightning_tailindex import Measurement
from lightning_tailindex.report.runs import Run

__all__ = ["Averages", "averages_of", "drawn", "main", "row"]

_HEAVY = 1.9  # tail index below which a setting counts as heavy-tailed
_MOST_COLUMNS = 3


@dataclass(frozen=True)
class Averages:
    """The whole model's tail index at the end of one setting, medians over seeds.

    Attributes:
        alphas: By the number of minibatches that are averaged, 1 among them.
        surrogates: Those of the Gaussian surrogate.
        apart: Whether in every seed the interval of averages of some size begins above the end of single minibatches'.
    """

    alphas: dict[int, float]
    surrogates: dict[int, float]
    apart: bool


def _numbers(measurement: Measurement) -> dict[int, tuple[float, float]]:
    several = {each.num_minibatches: (each.alpha, each.gaussian_alpha) for each in measurement.aggregated}
    found = {1: (measurement.alpha, measurement.gaussian_alpha), **several}
    return {size: numbers for size, numbers in found.items() if not any(map(math.isnan, numbers))}


def _is_apart(measurement: Measurement) -> bool:
    return any(each.low > measurement.high for each in measurement.aggregated)


def averages_of(runs: Sequence[Run]) -> list[Averages]:
    """What every setting of a sweep says at its last report, but for those that diverged."""
    found = []
    for own in settings(runs).values():
        last = [run.reports[-1].whole_model for run in own]
        numbers = [_numbers(measurement) for measurement in last]
        sizes = [size for size in numbers[0] if all(size in each for each in numbers)]
        if 1 not in sizes:
            continue
        alphas, surrogates = ({size: median(each[size][i] for each in numbers) for size in sizes} for i in range(2))
        found.append(Averages(alphas, surrogates, all(map(_is_apart, last))))
    return found


def _told(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def row(name: str, found: Sequence[Averages]) -> str:
    """One line of the table: medians over the settings that are heavy-tailed, the least and the largest."""
    heavy = [each for each in found if each.alphas[1] < _HEAVY]
    cells = [name, f"{len(heavy)} of {len(found)}"]
    for size in (1, 2, 4):
        values = [each.alphas[size] for each in heavy if size in each.alphas]
        cells.append(_told(values) if values else "none")
    cells.append(str(sum(each.alphas[max(each.alphas)] > each.alphas[1] for each in heavy)))
    cells.append(str(sum(each.apart for each in heavy)))
    return f"| {' | '.join(cells)} |"


def _panel(ax: Axes, name: str, found: Sequence[Averages]) -> None:
    for each in found:
        ax.plot(list(each.alphas), list(each.alphas.values()), color="#0072B2", alpha=0.4, linewidth=1)
    sizes = sorted(found[0].alphas)
    lines = (("alphas", "#D55E00", "-", "median of the settings"), ("surrogates", "#000000", ":", "their surrogates"))
    for field, color, style, label in lines:
        middle = [median(getattr(each, field)[size] for each in found) for size in sizes]
        ax.plot(sizes, middle, color=color, linestyle=style, linewidth=2, label=label)
    tail_axis(ax)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.set_title(f"{name}, {len(found)} settings", fontsize=9)
    ax.set_xlabel("minibatches averaged")


def drawn(found: dict[str, list[Averages]], data: str) -> Figure:
    """Draws a panel for each experiment with a line for each of its settings."""
    columns = min(len(found), _MOST_COLUMNS)
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(1 + 3.2 * columns, 1.2 + 2.6 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for ax in axes.flat[len(found) :]:
        ax.remove()
    for ax, (name, averages) in zip(axes.flat, found.items(), strict=False):
        _panel(ax, name, averages)
    for first in axes[:, 0]:
        first.set_ylabel("tail index α (2: Gaussian)")
    figure.suptitle(f"{data}: whole model, last report\na line for each setting", size=10)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of sweeps")
    parser.add_argument("-o", "--output", type=Path, help="where the figure goes; none without it")
    options = parser.parse_args(arguments)
    try:
        runs = {folder.name: read(folder) for folder in options.folders}
    except ValueError as error:
        parser.error(str(error))
    found = {name: averages_of(own) for name, own in runs.items()}
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        drawn(found, data_of([run for own in runs.values() for run in own])).savefig(options.output, dpi=100)
    sizes = "single minibatches | averages of 2 | averages of 4"
    print(f"| experiment | α < {_HEAVY} | {sizes} | settings that climb | intervals apart |\n{'|---' * 7}|")
    for name, averages in found.items():
        print(row(name, averages))


if __name__ == "__main__":
    main()
