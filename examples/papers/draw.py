"""What the seeds of a sweep say together: a table in Markdown, and a figure that says of which data it is.

python examples/papers/draw.py sweeps/galkin_2021_lenet -o docs/papers/galkin_2021_lenet.png
python examples/papers/draw.py sweeps/2006.04740 --scalars iterate_tail_index/whole_model iterate_tail_index/fc1
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_tailindex import Measurement, Report
from lightning_tailindex.report.compare import varied
from lightning_tailindex.report.events import Events, read_events
from lightning_tailindex.report.runs import Run, read_runs

__all__ = ["drawn", "lines_of", "scalars", "table"]

# Okabe and Ito's, which colour-blind readers can tell apart
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MOST_COLUMNS = 3

Line = tuple[str, str]  # group and estimator


def settings(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Puts the runs together that differ in nothing but the seed, by what they differ in from the others."""
    differing = {name: values for name, values in varied(runs).items() if name != "seed"}
    together = defaultdict(list)
    for place, run in enumerate(runs):
        together[", ".join(f"{name} {values[place]}" for name, values in differing.items()) or "all"].append(run)
    return dict(together)


def lines_of(report: Report) -> Iterator[tuple[Line, Measurement]]:
    """Names what is told of a report: the first estimator's groups, and further estimators of the whole model."""
    first, whole = report.measurements[0].estimator, report.whole_model.group
    for measurement in report.measurements:
        if measurement.estimator == first:
            yield (measurement.group, ""), measurement
        elif measurement.group == whole:
            yield (whole, measurement.estimator), measurement


def _values(runs: Sequence[Run], field: str) -> dict[Line, dict[int, list[float]]]:
    """A number of every line at every step, one for each seed."""
    found: dict[Line, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for report in run.reports:
            for line, measurement in lines_of(report):
                found[line][report.step].append(getattr(measurement, field))
    return found


def _spread(values: Sequence[float]) -> str:
    """The median over seeds and, where there are several, the least and the largest."""
    if not values:
        return "not measured"
    middle, low, high = (f"{choose(values):.3g}" for choose in (median, min, max))
    return middle if low == high else f"{middle} ({low} to {high})"


def table(runs: Sequence[Run]) -> str:
    """Writes what was measured at the last step of every setting: medians over seeds, and their least and largest."""
    rows = [
        f"{runs[0].hparams['data']}, {len({run.hparams['seed'] for run in runs})} seeds",
        "",
        "| setting | step | group | estimator | α | 95 % interval | Gaussian surrogate | averages of 4 minibatches |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, own in settings(runs).items():
        step = min(run.reports[-1].step for run in own)
        last = [dict(lines_of(report)) for run in own for report in run.reports if report.step == step]
        for line in last[0]:
            ms = [found[line] for found in last]
            interval = f"{median(m.low for m in ms):.2f} to {median(m.high for m in ms):.2f}"
            fours = [average.alpha for m in ms for average in m.aggregated if average.num_minibatches == 4]
            cells = (name, str(step), line[0], line[1] or "grouped_mle", _spread([m.alpha for m in ms]), interval)
            # of the published arrangement, the surrogate is a line of its own
            surrogate = "" if line[1].startswith("published") else _spread([m.gaussian_alpha for m in ms])
            rows.append(f"| {' | '.join([*cells, surrogate, _spread(fours) if fours else ''])} |")
    return "\n".join(rows)


def _logged(run: Run) -> dict[str, dict[int, float]]:
    """Every scalar of a run by tag and step."""
    events = Events()
    for file in sorted(Path(run.name).glob("*tfevents*")):
        read_events(file, events)
    return events.scalars


def scalars(runs: Sequence[Run], tags: Sequence[str], steps: Sequence[int]) -> str:
    """Writes scalars of every setting, such as those of the iterates: medians over seeds, their least and largest.

    Args:
        runs: The runs.
        tags: Tags of the scalars.
        steps: Where, each at the last step up to it; none for the end of the run.
    """
    rows = [f"| setting | {'step | ' * bool(steps)}{' | '.join(tags)} |", "|---" * (1 + bool(steps) + len(tags)) + "|"]
    for name, own in settings(runs).items():
        logged = [_logged(run) for run in own]
        for last in steps or [sys.maxsize]:
            cells = [name, str(last)] if steps else [name]
            for tag in tags:
                found = [{step: v for step, v in run.get(tag, {}).items() if step <= last} for run in logged]
                cells.append(_spread([by_step[max(by_step)] for by_step in found if by_step]))
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _panel(ax: Axes, runs: Sequence[Run], title: str) -> None:
    alphas, surrogates = _values(runs, "alpha"), _values(runs, "gaussian_alpha")
    for place, (line, by_step) in enumerate(alphas.items()):
        steps, color, marker = sorted(by_step), _COLORS[place % len(_COLORS)], _MARKERS[place % len(_MARKERS)]
        middle = [median(by_step[step]) for step in steps]
        ax.plot(
            steps, middle, color=color, marker=marker, markersize=4, markerfacecolor="none", label=line[1] or line[0]
        )
        low, high = ([choose(by_step[step]) for step in steps] for choose in (min, max))
        ax.fill_between(steps, low, high, color=color, alpha=0.2, linewidth=0)
        if not line[1]:
            gaussian = [median(surrogates[line][step]) for step in steps]
            ax.plot(steps, gaussian, color=color, linestyle=":", linewidth=1)
    ax.axhline(2, color="0.7", linewidth=0.8, zorder=0)
    ax.set(title=title, xlabel="optimizer step", ylim=(0, 2.3))
    ax.title.set_fontsize(9)


def drawn(runs: Sequence[Run]) -> Figure:
    """Draws the tail index over steps, a panel for each setting: medians over seeds, bands from least to largest."""
    panels = settings(runs)
    columns = min(len(panels), _MOST_COLUMNS)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(1 + 3.6 * columns, 1.2 + 2.8 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    for ax, (title, own) in zip(axes.flat, panels.items(), strict=False):
        _panel(ax, own, title)
    for row in axes:
        row[0].set_ylabel("tail index α (2: Gaussian)")
    seeds = len({run.hparams["seed"] for run in runs})
    figure.suptitle(
        f"{runs[0].hparams['data']}: median and range of {seeds} seeds\ndotted: Gaussian surrogates", size=10
    )
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of a sweep, or of runs of one experiment")
    parser.add_argument("-o", "--output", type=Path, help="where the figure goes; none without it")
    parser.add_argument("--scalars", nargs="+", metavar="TAG", help="tell of these scalars instead")
    parser.add_argument("--steps", nargs="+", type=int, default=[], help="at these steps; at the last without it")
    options = parser.parse_args(arguments)
    runs, problems = read_runs([options.folder])
    if not runs:
        parser.error(f"folder must hold runs with reports, got {options.folder}: {'; '.join(problems)}")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        drawn(runs).savefig(options.output, dpi=100)
    print(scalars(runs, options.scalars, options.steps) if options.scalars else table(runs))


if __name__ == "__main__":
    main()
