"""Tables and figures of the papers' experiments, from reports and scalars whose numbers are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from torch.utils.tensorboard import SummaryWriter

from examples.papers.against import Plan, drawn_against, table_against
from examples.papers.averages import averages_of, row
from examples.papers.averages import drawn as averages_drawn
from examples.papers.over_steps import drawn, table
from examples.papers.results import data_of, has, settings, spread
from examples.papers.term_paper import figures_of_lenet, figures_of_net, figures_of_nets
from lightning_tailindex.records import AggregatedTailIndex
from lightning_tailindex.report.runs import Run
from tests.figures.reports import report


def run(seed: int, alpha: float, steps: Sequence[int] = (0, 100), name: str = "", **more: str | float) -> Run:
    """A run whose whole model ends at a tail index."""
    reports = tuple(report(step, fc1=2.0 if step == 0 else alpha, fc2=1.95) for step in steps)
    return Run(name, reports, {"data": "MNIST-10k", "seed": seed, **more}, {})


SEEDS = [run(seed, alpha) for seed, alpha in enumerate((1.1, 1.9, 1.4))]


def test_seeds_are_summed_up_with_the_name_of_their_data() -> None:
    heading, *rows = table(SEEDS).splitlines()
    assert heading == "MNIST-10k, 3 seeds"
    assert "| all | 100 | whole_model | first | 1.4 (1.1 to 1.9) | 1.20 to 1.50 | 1.98 | 1.6 (1.3 to 2.1) |" in rows
    assert sum("| fc2 |" in line for line in rows) == 1  # of further estimators, the whole model alone
    figure = drawn(SEEDS)
    assert "MNIST-10k, 3 seeds: median and range" in figure.get_suptitle()
    (panel,) = figure.axes
    labels = panel.get_legend_handles_labels()[1]
    assert labels == ["fc1", "fc2", "whole_model", "group_sum"]
    (whole,) = (line for line in panel.get_lines() if line.get_label() == "whole_model")
    assert list(whole.get_ydata()) == [1.95, 1.4]


def test_settings_have_panels_in_the_order_of_their_numbers() -> None:
    runs = [run(0, 1.5, batch_size=size) for size in (100, 20, 3)]
    assert [ax.get_title() for ax in drawn(runs).axes] == ["batch_size 3", "batch_size 20", "batch_size 100"]


def test_a_line_has_one_colour_in_all_panels_and_the_legend_has_all_lines() -> None:
    short = run(0, 1.5, depth=2)
    reports = tuple(report(each.step, fc1=1.5, fc2=1.6, fc3=1.7) for each in short.reports)
    figure = drawn([short, replace(short, reports=reports, hparams={**short.hparams, "depth": 3})])
    first, second = ({line.get_label(): line.get_color() for line in ax.get_lines()} for ax in figure.axes)
    assert "fc3" not in first
    assert first["whole_model"] == second["whole_model"] != second["fc3"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["fc1", "fc2", "whole_model", "group_sum", "fc3"]


def test_two_runs_of_one_seed_are_refused() -> None:
    with pytest.raises(ValueError, match="one run for each seed, got a, b"):
        settings([run(0, 1.2, name="a"), run(0, 1.3, name="b")])
    assert list(settings([run(0, 1.2, width=10), run(0, 1.3, width=9)])) == ["width 9", "width 10"]


def test_data_of_several_names_are_named() -> None:
    other = run(1, 1.3)
    runs = [run(0, 1.2), replace(other, hparams={**other.hparams, "data": "digits"})]
    assert data_of(runs) == "MNIST-10k and digits, 2 seeds"


def test_runs_are_chosen_by_their_hyperparameters() -> None:
    assert has({"model.init_args.width": 16, "data.batch_size": 5}, ["width=16,64", "batch_size=5"])
    assert not has({"model.init_args.width": 16, "data.batch_size": 5}, ["width=16,64", "batch_size=50"])
    assert not has({"width": 16}, ["depth=2"])


def test_a_seed_without_a_number_is_left_out_and_told() -> None:
    assert spread([1.0, float("nan"), 2.0]) == "1.5 (1 to 2), 2 of 3"
    assert spread([float("nan")]) == spread([]) == "none"
    runs = [run(0, 1.2), run(1, float("nan")), run(2, 1.4)]
    for order in ((0, 1, 2), (1, 0, 2), (0, 2, 1)):  # the median of a list with NaN depends on its order
        numbers = "1.3 (1.2 to 1.4), 2 of 3 | 1.10 to 1.40 | 1.98, 2 of 3 |"
        assert any(f"| fc1 | first | {numbers}" in line for line in table([runs[i] for i in order]).splitlines())
    (whole,) = (line for line in drawn(runs).axes[0].get_lines() if line.get_label() == "fc1")
    assert list(whole.get_ydata()) == [2.0, pytest.approx(1.3)]


def logged(folder: Path, seed: int, width: int, depth: int, alpha: float) -> Run:
    """A run whose event file has a tail index at steps 10 and 20, and a surrogate's at step 10."""
    name = folder / f"{seed}-{width}-{depth}"
    with SummaryWriter(str(name)) as writer:
        writer.add_scalar("tail_index/whole_model", alpha, 10)
        writer.add_scalar("tail_index/whole_model", alpha / 2, 20)
        writer.add_scalar("tail_index_gaussian/whole_model", 1.75, 10)
        writer.add_scalar("sgd/ratio", alpha / 8, 20)
    return run(seed, alpha, name=str(name), width=width, depth=depth)


@pytest.fixture
def grid(tmp_path: Path) -> list[Run]:
    return [
        logged(tmp_path, seed, width, depth, 2.0 - width / 32 - depth / 16 - seed / 16)
        for seed in (0, 1, 2)
        for width in (16, 4)
        for depth in (4, 2)
    ]


PLAN = Plan("width", "depth", "", ("tail_index/whole_model:tail_index_gaussian/whole_model", "no/such"), ())


def test_a_scalar_against_a_hyperparameter(grid: list[Run]) -> None:
    told = table_against(grid, PLAN).splitlines()
    assert told[0] == "MNIST-10k, 3 seeds"
    assert told[told.index("tail_index/whole_model against width") + 2] == "| depth | width 4 | width 16 |"
    assert "| 2 | 0.844 (0.812 to 0.875) | 0.656 (0.625 to 0.688) |" in told
    assert "| 4 | 0.781 (0.75 to 0.812) | 0.594 (0.562 to 0.625) |" in told
    assert told[told.index("tail_index_gaussian/whole_model against width") + 4 :][:2] == [
        "| 2 | 1.75 | 1.75 |",
        "| 4 | 1.75 | 1.75 |",
    ]
    first, second = drawn_against(grid, PLAN).axes
    lines = {line.get_label(): line for line in first.get_lines()}
    assert list(lines["depth 4"].get_xdata()) == [4, 16]
    assert list(lines["depth 4"].get_ydata()) == [0.78125, 0.59375]
    assert sum(line.get_linestyle() == ":" for line in first.get_lines()) == 2
    assert (first.get_title(), first.get_xlabel()) == ("tail index, whole model", "width")
    assert all(len(line.get_xdata()) == 0 for line in second.get_lines())


def test_steps_are_lines_and_scalars_may_be_along_the_axis(grid: list[Run]) -> None:
    plan = Plan("width", "step", "depth", ("tail_index/whole_model",), (15, 20))
    told = table_against(grid, plan).splitlines()
    assert "| depth | step | width 4 | width 16 |" in told
    assert "| 2 | 15 | 1.69 (1.62 to 1.75) | 1.31 (1.25 to 1.38) |" in told
    assert "| 2 | 20 | 0.844 (0.812 to 0.875) | 0.656 (0.625 to 0.688) |" in told
    assert [ax.get_title()[-7:] for ax in drawn_against(grid, plan).axes] == ["depth 2", "depth 4"]
    own = [each for each in grid if each.hparams["seed"] == 0 and each.hparams["depth"] == 4]
    along = table_against(own, replace(plan, along="sgd/ratio", lines="", panels="", steps=()))
    assert "| 0.15625 | 0.203125 |" in along
    assert "| 0.625 | 0.812 |" in along
    for wrong, told in (({"along": "heads"}, "heads"), ({"panels": "loss"}, "loss"), ({"along": "data"}, "data=MNIST")):
        with pytest.raises(ValueError, match=f"against must be a number and lines and panels known of .*, got {told}"):
            table_against(own, replace(plan, **wrong))


def test_runs_of_other_settings_are_not_taken_for_seeds(grid: list[Run]) -> None:
    with pytest.raises(ValueError, match="must tell runs of one seed apart, which differ in depth"):
        table_against(grid, replace(PLAN, lines=""))


def test_a_seed_that_did_not_log_a_scalar_is_told(grid: list[Run], tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path / "none")) as writer:
        writer.add_scalar("some/thing", 1.0, 10)
    silent = run(3, 1.0, name=str(tmp_path / "none"), width=4, depth=2)
    assert "0.844 (0.812 to 0.875), 3 of 4" in table_against([*grid, silent], PLAN)
    figure = drawn_against([*grid, silent], replace(PLAN, scalars=PLAN.scalars[:1]))
    assert "without 1 of 13 runs somewhere" in figure.get_suptitle()


def averaged(alpha: float, *fours: float) -> list[Run]:
    """Seeds at one tail index, each with that of averages of four."""
    found = []
    for seed, four in enumerate(fours):
        made = run(seed, alpha, setting=str(alpha))
        last = made.reports[-1]
        sizes = ((2, alpha, 2.0), (4, four, 1.9))
        averages = tuple(AggregatedTailIndex(k, 64 // k, mean, 0.0, 2.0, surrogate) for k, mean, surrogate in sizes)
        whole = replace(last.whole_model, aggregated=averages)
        place = last.measurements.index(last.whole_model)
        measurements = (*last.measurements[:place], whole, *last.measurements[place + 1 :])
        found.append(replace(made, reports=(replace(last, measurements=measurements),)))
    return found


def test_averages_tell_what_is_stable() -> None:
    climbs, keeps = averaged(1.0, 1.8, 1.6), averaged(1.5, 1.5)
    gaussian, diverged = averaged(1.95, 2.0), averaged(math.nan, 2.0)
    found = averages_of([*climbs, *keeps, *gaussian, *diverged])
    assert [each.rises for each in found] == [True, False, True]
    assert found[0].alphas == {1: 1.0, 2: 1.0, 4: pytest.approx(1.7)}
    assert found[0].surrogates == {1: 1.98, 2: 2.0, 4: 1.9}
    medians = ["1.25 (1 to 1.5)", "1.25 (1 to 1.5)", "1.6 (1.5 to 1.7)", "1.9"]
    assert row("some", found, 4).split(" | ") == ["| some", "2 of 4", *medians, "1 |"]
    (one_says_no,) = averages_of(averaged(1.0, 1.8, 0.9))
    assert not one_says_no.rises
    panel, empty = averages_drawn({"some": found, "none": []}, "MNIST-10k, 2 seeds").axes
    assert (panel.get_title(), empty.get_title()) == ("some, 3 settings", "none, 0 settings")
    assert row("none", [], 1).split(" | ") == ["| none", "0 of 1", *["none"] * 4, "0 |"]


def test_the_term_paper_has_sixteen_figures(grid: list[Run]) -> None:
    net = [run(seed, 1.2, (100, 5000, 15000), depth=3, width=32, batch_size=50) for seed in (1, 0)]
    lenet = [run(seed, 0.8, (100, 5000, 11900), batch_size=size) for seed in (0, 1) for size in (50, 150, 200)]
    nets = [replace(each, hparams={**each.hparams, "depth": 3, "width": 32, "batch_size": 40}) for each in grid[::4]]
    drawn = {**figures_of_net(net), **figures_of_nets([*grid_of(grid), *nets]), **figures_of_lenet(lenet)}
    assert sorted(drawn) == ["01", "02", "03", "04", "05", "06", "07", "08_09", "10_12", "13", "14", "15", "16"]
    assert all("MNIST-10k" in figure.get_suptitle() and "Figure" in figure.get_suptitle() for figure in drawn.values())
    assert "step 5000" in drawn["04"].get_suptitle()
    for number, groups in (("01", ["whole model"]), ("02", ["b = 40"]), ("14", ["fc1", "fc2"])):
        ours, theirs = drawn[number].axes
        assert ours.get_legend_handles_labels()[1] == theirs.get_legend_handles_labels()[1] == groups
    ours, theirs = ({line.get_label(): line for line in ax.get_lines()} for ax in drawn["13"].axes)
    assert list(ours["fc1"].get_ydata()) == [0.8, 0.8, 0.8]
    assert list(theirs["fc1"].get_ydata()) == [0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match=r"must have a report at step 15000, got .* up to step 5000"):
        figures_of_net([replace(each, reports=each.reports[:-1]) for each in net])
    with pytest.raises(ValueError, match="net must be one net, got depth 2; depth 3"):
        figures_of_net([*net, run(0, 1.2, (100, 5000, 15000), depth=2, width=32, batch_size=50)])


def grid_of(runs: list[Run]) -> list[Run]:
    return [replace(each, hparams={**each.hparams, "batch_size": 40}) for each in runs]
