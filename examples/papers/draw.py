"""What the seeds of a sweep say together: a table in Markdown, and a figure that says of which data it is.

python examples/papers/draw.py sweeps/galkin_2021_lenet -o docs/papers/galkin_2021_lenet.png
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_tailindex import Measurement, Report
from lightning_tailindex.report.compare import varied
from lightning_tailindex.report.runs import Run, read_runs

__all__ = ["drawn", "lines_of", "table"]

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
    ends = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{median(values):.2f}{ends}"


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


def _panel(ax: Axes, runs: Sequence[Run], title: str) -> None:
    alphas, surrogates = _values(runs, "alpha"), _values(runs, "gaussian_alpha")
    for place, (line, by_step) in enumerate(alphas.items()):
        steps, color, marker = sorted(by_step), _COLORS[place % len(_COLORS)], _MARKERS[place % len(_MARKERS)]
        middle = [median(by_step[step]) for step in steps]
        ax.plot(
            steps, middle, color=color, marker=marker, markersize=4, markerfacecolor="none", label=line[1] or line[0]
        )
        ends = [[choose(by_step[step]) for step in steps] for choose in (min, max)]
        ax.fill_between(steps, *ends, color=color, alpha=0.2, linewidth=0)
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
    parser.add_argument("-o", "--output", type=Path, required=True, help="where the figure goes")
    options = parser.parse_args(arguments)
    runs, problems = read_runs([options.folder])
    if not runs:
        parser.error(f"folder must hold runs with reports, got {options.folder}: {'; '.join(problems)}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    drawn(runs).savefig(options.output, dpi=100)
    print(table(runs))


if __name__ == "__main__":
    main()
