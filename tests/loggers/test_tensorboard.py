"""What stands in a TensorBoard file, read back."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from lightning_tailindex import TailIndexMonitor, WeightSpectrumMonitor
from lightning_tailindex.loggers.sink import Table

from .training import FIGURES, GROUPS, TwoLayers, WithHyperparameters, categories, events_in, fit, layout, monitor, text

SECTIONS = {"tail_index", "tail_index_gaussian", "tail_index_detail", "tail_index_aggregated", "gradient_noise"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[TailIndexMonitor, EventAccumulator]:
    folder, watcher = tmp_path_factory.mktemp("run"), monitor()
    fit(TensorBoardLogger(folder, "", ""), watcher)
    return watcher, events_in(folder)


def test_scalars_stand_in_five_sections(run: tuple[TailIndexMonitor, EventAccumulator]) -> None:
    watcher, events = run
    tags = set(events.Tags()["scalars"]) - {"loss", "epoch"}
    assert {tag.split("/")[0] for tag in tags} == SECTIONS
    for group in GROUPS:
        shown = [event.value for event in events.Scalars(f"tail_index/{group}")]
        expected = [m.alpha for report in watcher.reports for m in report.measurements if m.group == group]
        assert shown == pytest.approx(expected, nan_ok=True)


def test_histograms_are_those_of_the_report(run: tuple[TailIndexMonitor, EventAccumulator]) -> None:
    watcher, events = run
    names = {"standardized_noise": "standardized_noise", "tail_index_per_coordinate": "coordinate_alphas"}
    assert set(events.Tags()["histograms"]) == {f"{tag}/{group}" for tag in names for group in GROUPS}
    for tag, name in names.items():
        found = [event.histogram_value for event in events.Histograms(f"{tag}/whole_model")]
        expected = [getattr(report.whole_model, name) for report in watcher.reports]
        assert [h.num for h in found] == [sum(h.counts) for h in expected]
        assert [h.sum for h in found] == pytest.approx([h.total for h in expected])


def test_figures_are_drawn_every_so_often_and_at_the_end(run: tuple[TailIndexMonitor, EventAccumulator]) -> None:
    _, events = run
    assert set(events.Tags()["images"]) == {f"tail_index_figures/{name}" for name in FIGURES}
    for tag in events.Tags()["images"]:
        images = events.Images(tag)
        assert [image.step for image in images] == [0, 20, 30]
        pixels = np.asarray(Image.open(io.BytesIO(images[-1].encoded_image_string)))
        assert pixels.shape == (images[-1].height, images[-1].width, 3)
        assert pixels.std() > 10
        assert images[0].encoded_image_string != images[-1].encoded_image_string


def test_the_layout_shows_scalars_that_are_there(run: tuple[TailIndexMonitor, EventAccumulator]) -> None:
    _, events = run
    tags, charts = events.Tags()["scalars"], layout(events)
    groups, band, averages = charts.values()
    assert [re.sub(r"\\|\$$", "", tag) for tag in groups.multiline.tag] == [f"tail_index/{group}" for group in GROUPS]
    for expression in (*groups.multiline.tag, *averages.multiline.tag):
        assert len([tag for tag in tags if re.match(expression, tag)]) == 1
    assert len(averages.multiline.tag) == 2
    alpha, surrogate = band.margin.series
    assert (alpha.value, alpha.lower, alpha.upper) == (
        "tail_index/whole_model",
        "tail_index_detail/low/whole_model",
        "tail_index_detail/high/whole_model",
    )
    assert surrogate.value == surrogate.lower == surrogate.upper == "tail_index_gaussian/whole_model"
    for series in band.margin.series:  # TensorBoard would take whatever begins with a tag
        for shown in (series.value, series.lower, series.upper):
            assert [tag for tag in tags if tag.startswith(shown)] == [shown]


def test_the_layout_follows_the_loggers_prefix(tmp_path: Path) -> None:
    fit(TensorBoardLogger(tmp_path, "", "", prefix="mine"), monitor(figures=None))
    events = events_in(tmp_path)
    tags, (groups, band, averages) = set(events.Tags()["scalars"]), layout(events).values()
    assert "mine-tail_index/first" in tags
    assert {s.value for s in band.margin.series} | {s.upper for s in band.margin.series} <= tags
    for expression in (*groups.multiline.tag, *averages.multiline.tag):
        assert any(re.match(expression, tag) for tag in tags)


class WithCharts(TwoLayers):
    """Has a layout and hyperparameters of its own, as scripts write them."""

    def on_fit_start(self) -> None:
        logger: Any = self.logger
        logger.experiment.add_custom_scalars({"mine": {"loss": ["Multiline", ["loss"]]}})
        logger.log_hyperparams({"width": 6}, {"final": 0.0})

    def on_train_end(self) -> None:
        self.logger.log_metrics({"final": 1.5}, self.global_step)  # type: ignore[union-attr]


def test_the_modules_own_charts_stay(tmp_path: Path) -> None:
    spectra = WeightSpectrumMonitor(min_tail=2, figures=None, on_error="raise")
    watchers = [monitor(figures=None), spectra]
    for module, name in ((WithCharts(), "own"), (TwoLayers(), "none")):
        fit(TensorBoardLogger(tmp_path, name, ""), *watchers, module=module)
    ours = ["Tail index of the gradient noise", "Spectra of the weight matrices"]
    own, none = (categories(events_in(tmp_path / name)) for name in ("own", "none"))
    assert [list(each) for each in own] == [["mine"], ["mine", *ours[:1]], ["mine", *ours]]
    assert [list(each) for each in none] == [ours[:1], ours]
    assert own[0]["mine"] == own[-1]["mine"]
    assert [own[-1][title] for title in ours] == [none[-1][title] for title in ours]
    fit(TensorBoardLogger(tmp_path, "own", ""), *watchers)  # goes on in the same folder
    again = events_in(tmp_path / "own")
    assert list(categories(again)[-1]) == ["mine", *ours]


def test_hyperparameters_that_are_logged_early_are_shown(tmp_path: Path) -> None:
    fit(TensorBoardLogger(tmp_path, "", ""), monitor(figures=None), module=WithCharts())
    events = events_in(tmp_path)
    assert hyperparameters(events) == {"width": 6, "metrics": ["final"]}
    assert [event.value for event in events.Scalars("final")] == [0.0, 1.5]


def test_a_text_says_what_was_measured_and_how(run: tuple[TailIndexMonitor, EventAccumulator]) -> None:
    watcher, events = run
    assert len(events.Tensors("tail_index_setup/text_summary")) == 1
    rows = [line.strip("| ").split(" | ") for line in text(events, "tail_index_setup").splitlines()]
    assert {len(row) for row in rows[:1] + rows[2:]} == {2}
    said = dict(rows[2:])
    assert said["draws"] == "32 minibatches of 4 samples; a draw is what an optimizer step consumes"
    assert said["measured"] == "2 groups; 44 of the whole model's 44 coordinates"
    assert said["full gradient"] == "40 minibatches"
    assert said["estimators"] == "grouped_mle"
    assert said["data"] == watcher.reports[0].note or "no two draws share data"
    assert "every 10 optimizer steps (at most 4 measurements" in said["schedule"]
    assert re.search(r"Python 3\.\d+.*torch \d.*lightning \d", said["versions"])
    assert (said["num_minibatches"], said["dataloader"]) == ("32", "None")
    assert text(events, "tail_index_law").count("\n") == 4


def test_no_cell_of_a_table_is_wide() -> None:
    words = "one of the sentences that TensorBoard would make room for by breaking numbers beside it; and another"
    line, path = Table(("what", "how"), ((words, "a/path/" * 30),)).markdown.splitlines()[2].strip("| ").split(" | ")
    assert line.replace("<br>", " ") == words
    assert max(map(len, line.split("<br>"))) <= 60
    assert path == "a/path/" * 30  # nothing is put into a word


def hyperparameters(events: EventAccumulator) -> dict[str, Any]:
    """What TensorBoard shows of a run: its first entry."""
    tags = events.PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(tags["_hparams_/session_start_info"]).session_start_info
    experiment = HParamsPluginData.FromString(tags["_hparams_/experiment"]).experiment
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    return {**values, "metrics": [info.name.tag for info in experiment.metric_infos]}


def test_hyperparameters_are_entered(run: tuple[TailIndexMonitor, EventAccumulator]) -> None:
    found = hyperparameters(run[1])
    assert found["TailIndexMonitor/num_minibatches"] == 32
    assert found["TailIndexMonitor/group_by"] == "module"
    assert found["TailIndexMonitor/figures"] == ", ".join(FIGURES)
    assert found["metrics"] == ["tail_index/whole_model", "tail_index_gaussian/whole_model"]


def test_the_modules_own_hyperparameters_come_first(tmp_path: Path) -> None:
    fit(TensorBoardLogger(tmp_path, "", ""), monitor(figures=None), module=WithHyperparameters(7))
    events = events_in(tmp_path)
    assert hyperparameters(events) == {"width": 7, "metrics": ["hp_metric"]}
    assert len(events.Scalars("hp_metric")) == 1
    assert (tmp_path / "hparams.yaml").read_text() == "width: 7\n"


def test_no_figures_where_none_are_wanted(tmp_path: Path) -> None:
    fit(TensorBoardLogger(tmp_path, "", ""), monitor(figures=()))
    assert events_in(tmp_path).Tags()["images"] == []


def test_one_figure_by_its_name(tmp_path: Path) -> None:
    fit(TensorBoardLogger(tmp_path, "", ""), monitor(figures="noise_qq", figures_every=100))
    events = events_in(tmp_path)
    assert events.Tags()["images"] == ["tail_index_figures/noise_qq"]
    assert [image.step for image in events.Images("tail_index_figures/noise_qq")] == [0, 30]


def test_a_second_fit_writes_on(tmp_path: Path) -> None:
    logger, watcher = TensorBoardLogger(tmp_path, "", ""), monitor(figures="alpha_heatmap")
    fit(logger, watcher)
    fit(logger, watcher)
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()
    assert tags["images"] == ["tail_index_figures/alpha_heatmap"]
    assert [report.step for report in watcher.reports] == [0, 10, 20, 30]
