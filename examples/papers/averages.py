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

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from results import data_of, middle, read, settings, spread
from style import legend_below, panels, tail_axis

from lightning_tailindex import Measurement
from lightning_tailindex.report.runs import Run

__all__ = ["Averages", "averages_of", "drawn", "main", "row"]

_HEAVY = 1.9  # tail index below which a setting counts as heavy-tailed


@dataclass(frozen=True)
class Averages:
    """The whole model's tail index at the end of one setting, medians over seeds.

    Attributes:
        alphas: By the number of minibatches that are averaged, 1 among them.
        surrogates: Those of the Gaussian surrogate.
        rises: Whether averages of four have more than single minibatches in every seed.
    """

    alphas: dict[int, float]
    surrogates: dict[int, float]
    rises: bool


def _numbers(measurement: Measurement) -> dict[int, tuple[float, float]]:
    several = {each.num_minibatches: (each.alpha, each.gaussian_alpha) for each in measurement.aggregated}
    return {1: (measurement.alpha, measurement.gaussian_alpha), **several}


def averages_of(runs: Sequence[Run]) -> list[Averages]:
    """What every setting of a sweep says at its last report, but for those that diverged in all seeds."""
    found = []
    for own in settings(runs).values():
        last = [run.reports[-1].whole_model for run in own if not math.isnan(run.reports[-1].whole_model.alpha)]
        if last:
            found.append(_averages(last))
    return found


def _averages(seeds: Sequence[Measurement]) -> Averages:
    numbers = [_numbers(measurement) for measurement in seeds]
    sizes = sorted({size for each in numbers for size in each})
    alphas, surrogates = (
        {size: middle(each[size][i] for each in numbers if size in each) for size in sizes} for i in range(2)
    )
    fours = [(m, each) for m in seeds for each in m.aggregated if each.num_minibatches == 4]
    return Averages(
        {size: alpha for size, alpha in alphas.items() if not math.isnan(alpha)},
        {size: alpha for size, alpha in surrogates.items() if not math.isnan(alpha)},
        rises=len(fours) == len(seeds) and all(each.alpha > m.alpha for m, each in fours),
    )


def row(name: str, found: Sequence[Averages], num_settings: int) -> str:
    """One line of the table: medians over the settings that are heavy-tailed, the least and the largest.

    Args:
        name: Name of the experiment.
        found: Its settings, but for those that diverged.
        num_settings: How many there are with these.
    """
    heavy = [each for each in found if each.alphas[1] < _HEAVY]
    cells = [name, f"{len(heavy)} of {num_settings}"]
    cells += [spread([each.alphas.get(size, math.nan) for each in heavy]) for size in (1, 2, 4)]
    cells.append(spread([each.surrogates.get(4, math.nan) for each in heavy]))
    return f"| {' | '.join([*cells, str(sum(each.rises for each in heavy))])} |"


def _panel(ax: Axes, found: Sequence[Averages]) -> None:
    for each in found:
        ax.plot(list(each.alphas), list(each.alphas.values()), color="#0072B2", alpha=0.4, linewidth=1)
    sizes = sorted({size for each in found for size in each.alphas})
    lines = (("alphas", "#D55E00", "-", "median of the settings"), ("surrogates", "#000000", ":", "their surrogates"))
    for field, color, style, label in lines:
        medians = [middle(getattr(each, field).get(size, math.nan) for each in found) for size in sizes]
        ax.plot(sizes, medians, color=color, linestyle=style, linewidth=2, label=label)
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, [str(size) for size in sizes])
    tail_axis(ax)


def drawn(found: dict[str, list[Averages]], data: str) -> Figure:
    """Draws a panel for each experiment with a line for each of its settings."""
    figure, axes = panels(len(found))
    for ax, (name, averages) in zip(axes, found.items(), strict=True):
        _panel(ax, averages)
        ax.set_title(f"{name}, {len(averages)} settings", fontsize=9)
        ax.set_xlabel("minibatches averaged")
    figure.suptitle(f"{data}: whole model, last report\na line for each setting, median of the seeds", size=10)
    legend_below(figure, axes)
    return figure


def _name(folder: Path) -> str:
    return "/".join(folder.resolve().parts[-2:])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", help="folders of sweeps")
    parser.add_argument("-o", "--output", type=Path, help="where the figure goes; none without it")
    options = parser.parse_args(arguments)
    try:
        runs = {_name(folder): read(folder) for folder in options.folders}
        found = {name: averages_of(own) for name, own in runs.items()}
    except ValueError as error:
        parser.error(str(error))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        drawn(found, data_of([run for own in runs.values() for run in own])).savefig(options.output, dpi=100)
    sizes = "single minibatches | averages of 2 | averages of 4 | their surrogates"
    print(f"| experiment | settings with α < {_HEAVY} | {sizes} | rises in every seed |")
    print("|---" * 7 + "|")
    for name, averages in found.items():
        print(row(name, averages, len(settings(runs[name]))))


if __name__ == "__main__":
    main()
