"""The figures of the term paper, 1 to 16, drawn again from the reports of sweeps.

python examples/papers/term_paper.py --nets sweeps/galkin_2021 --net sweeps/long/galkin_2021 \
    --lenet sweeps/galkin_2021_lenet --folder docs/papers/galkin

Its tail index is the mean over coordinates of each one's own, by group_sum; beside it stands the one across minibatches
with a scale for each coordinate. Where it shows one parameter's noise, all coordinates are shown, each in its scale.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from against import Plan, drawn_against
from matplotlib.figure import Figure
from over_steps import FIRST, draw_estimator
from results import data_of, has, read, settings
from style import legend_below

from lightning_tailindex import Report
from lightning_tailindex.figures import coordinate_alphas, noise_density, noise_qq
from lightning_tailindex.report.runs import Run

__all__ = ["figures_of_lenet", "figures_of_net", "figures_of_nets", "main"]

_TITLES = {FIRST: "across minibatches, first estimator", "group_sum": "as in the term paper, group_sum"}
_TAGS = (
    "tail_index/whole_model:tail_index_gaussian/whole_model",
    "tail_index_detail/group_sum/whole_model:tail_index_detail/group_sum_gaussian/whole_model",
)
_NET_STEPS, _LENET_STEPS = (100, 5000, 15000), (100, 5000, 12000)
_SIZES = (50, 150, 200)


def _report(run: Run, step: int) -> Report:
    """The last report up to a step, and not further from it than one report is from the next.

    Raises:
        ValueError: If there is none.
    """
    before = [report for report in run.reports if report.step <= step]
    furthest = max((b.step - a.step for a, b in pairwise(run.reports)), default=0)
    if not before or step - before[-1].step > furthest:
        raise ValueError(f"runs must have a report at step {step}, got {run.name} up to step {run.reports[-1].step}")
    return before[-1]


def _whole(runs: Sequence[Run]) -> str:
    return runs[0].reports[0].whole_model.group


def _first_seed(runs: Sequence[Run]) -> Run:
    return min(runs, key=lambda run: int(run.hparams["seed"]))


def _over_steps(title: str, lines: Sequence[tuple[str, Sequence[Run], str]]) -> Figure:
    """Draws lines of seeds over the steps, of a group each: a panel for each of the two estimators."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for ax, (estimator, how) in zip(axes, _TITLES.items(), strict=True):
        for place, (label, runs, group) in enumerate(lines):
            draw_estimator(ax, runs, (group, estimator), place, label)
        ax.set_title(how, fontsize=9)
        ax.set_xlabel("optimizer step")
    axes[0].set_ylabel("tail index α (2: Gaussian)")
    legend_below(figure, axes)
    figure.suptitle(f"{title}. {data_of(lines[0][1])}: median and range; dotted: Gaussian surrogates", size=10)
    return figure


def figures_of_net(runs: Sequence[Run]) -> dict[str, Figure]:
    """Draws figure 1, and of the first seed 3 to 5 and 8 with 9.

    Raises:
        ValueError: If the runs differ in more than the seed, or have no reports at the steps of these figures.
    """
    if len(settings(runs)) > 1:
        raise ValueError(f"net must be one net, got {'; '.join(settings(runs))}")
    setting = "FCN " + ", ".join(f"{name} {runs[0].hparams[name]}" for name in ("depth", "width", "batch_size"))
    run = _first_seed(runs)
    found = {"01": _over_steps(f"Figure 1: {setting}", [("whole model", runs, _whole(runs))])}
    for number, step in zip(("03", "04", "05"), _NET_STEPS, strict=True):
        found[number] = _distribution(run, step, f"Figure {int(number)}: {setting}")
    found["08_09"] = _fits(run, f"Figures 8 and 9: {setting}")
    return found


def _distribution(run: Run, step: int, title: str) -> Figure:
    """Draws a report's noise as a histogram, on a logarithmic axis, and against a Gaussian's quantiles."""
    report, figure = _report(run, step), Figure(figsize=(11.5, 7), layout="constrained")
    (linear, logarithmic), (quantiles, spare) = figure.subplots(2, 2)
    spare.remove()
    noise_density(report.whole_model, ax=(linear, logarithmic))
    noise_qq(report.whole_model, ax=quantiles)
    figure.suptitle(f"{title}, step {report.step}, {run.hparams['data']}, all coordinates in their scales", size=10)
    return figure


def _fits(run: Run, title: str) -> Figure:
    """Draws the noise in the middle and at the end of training with both laws, linear and logarithmic."""
    figure = Figure(figsize=(13, 7.6), layout="constrained")
    axes = figure.subplots(2, 2)
    for row, step in zip(axes, _NET_STEPS[1:], strict=True):
        report = _report(run, step)
        noise_density(report.whole_model, ax=row)
        for ax in row:
            ax.set_title(f"step {report.step}: {ax.get_title()}", fontsize=9)
    figure.suptitle(f"{title}, {run.hparams['data']}, all coordinates in their scales", size=10)
    return figure


def figures_of_nets(runs: Sequence[Run]) -> dict[str, Figure]:
    """Draws figure 2 over minibatch sizes, 6 over widths and 7 over depths."""
    some = [run for run in runs if has(run.hparams, ["depth=3", "width=32"])]
    sizes = sorted({int(run.hparams["batch_size"]) for run in some})
    own = [[run for run in some if run.hparams["batch_size"] == size] for size in sizes]
    lines = [(f"b = {size}", runs, _whole(runs)) for size, runs in zip(sizes, own, strict=True)]
    found = {"02": _over_steps("Figure 2: FCN, depth 3, width 32", lines)}
    for number, along, other in (("06", "width", "depth"), ("07", "depth", "width")):
        found[number] = drawn_against(runs, Plan(along, other, "batch_size", _TAGS, ()))
        found[number].suptitle(f"Figure {int(number)}: FCN, last report. {found[number].get_suptitle()}", size=10)
    return found


def figures_of_lenet(runs: Sequence[Run]) -> dict[str, Figure]:
    """Draws 10 to 12 and 16 of the first seed with b = 50, and 13 to 15 for all minibatch sizes.

    Raises:
        ValueError: If a minibatch size, or a report at a step of these figures, is missing.
    """
    by_size = {size: [run for run in runs if run.hparams["batch_size"] == size] for size in _SIZES}
    missing = [size for size, own in by_size.items() if not own]
    if missing:
        raise ValueError(f"lenet must have runs with batch_size {_SIZES}, got none with {missing}")
    run = _first_seed(by_size[50])
    groups = [measurement.group for measurement in run.reports[0].headline[:-1]]
    found = {"10_12": _coordinates(run), "16": _layers(run, groups)}
    for number, (size, own) in zip(("13", "14", "15"), by_size.items(), strict=True):
        found[number] = _over_steps(f"Figure {number}: LeNet, b = {size}", [(group, own, group) for group in groups])
    return found


def _coordinates(run: Run) -> Figure:
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    reports = [_report(run, step) for step in _LENET_STEPS]
    coordinate_alphas(reports, ax=figure.subplots())
    figure.suptitle(f"Figures 10 to 12: LeNet, b = 50, {run.hparams['data']}", size=10)
    return figure


def _layers(run: Run, groups: Sequence[str]) -> Figure:
    reports = [_report(run, step) for step in _LENET_STEPS]
    figure = Figure(figsize=(15, 7.2), layout="constrained")
    for ax, group in zip(figure.subplots(-(-len(groups) // 2), 2).flat, groups, strict=False):
        coordinate_alphas(reports, group, ax=ax)
    figure.suptitle(f"Figure 16: LeNet, b = 50, {run.hparams['data']}", size=10)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=Path, required=True, help="sweep of galkin_2021 over its whole grid")
    parser.add_argument("--net", type=Path, required=True, help="sweep of one of its nets, measured every 100 steps")
    parser.add_argument("--lenet", type=Path, required=True, help="sweep of galkin_2021_lenet")
    parser.add_argument("--folder", type=Path, required=True, help="where the figures go")
    options = parser.parse_args(arguments)
    try:
        drawn = {
            **figures_of_net(read(options.net)),
            **figures_of_nets(read(options.nets)),
            **figures_of_lenet(read(options.lenet)),
        }
    except ValueError as error:
        parser.error(str(error))
    options.folder.mkdir(parents=True, exist_ok=True)
    for number, figure in drawn.items():
        figure.savefig(options.folder / f"figure_{number}.png", dpi=70)


if __name__ == "__main__":
    main()
