"""TensorBoard's pages of the demo's run, as a browser draws them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .dashboard import Dashboard, WebDriver, WebElement, browser, coloured, save, tensorboard

pytestmark = pytest.mark.browser

DEMO = Path(__file__).parents[2] / "examples" / "digits.py"
GROUPS = ("conv1", "conv2", "fc1", "fc2", "whole_model")
MEASUREMENTS = 13
PROGRAM = Path(sys.executable).with_name("lightning-tailindex")
LINE = 200
"""Coloured pixels of the thinnest line across a chart."""


def demo(folder: Path, *options: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(DEMO), *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def driver() -> Iterator[WebDriver]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, driver: WebDriver) -> Path:
    """Where the demo ran; without a browser nothing is trained."""
    place = tmp_path_factory.mktemp("demo")
    demo(place, "--every-n-steps", "150")
    return place


@pytest.fixture(scope="module")
def shown(folder: Path, driver: WebDriver) -> Iterator[Dashboard]:
    with tensorboard(folder / "runs") as address:
        yield Dashboard(driver, address)


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return Path(request.config.getoption("pictures") or tmp_path)


def section(board: Dashboard) -> WebElement:
    """What the filter lets pass, or the first section where there is no filter."""
    return next(one for one in board.all("tf-category-paginated-view") if one.size["height"])


def cards(board: Dashboard, kind: str) -> dict[str, WebElement]:
    """The charts of the section by their titles."""
    headings = [heading.text.splitlines()[0] for heading in board.all("tf-card-heading", section(board))]
    return dict(zip(headings, board.all(kind, section(board)), strict=True))


def photograph(board: Dashboard, path: Path) -> None:
    board.settled()
    save(section(board).screenshot_as_png, path)


def test_scalars_are_lines(shown: Dashboard, pictures: Path) -> None:
    shown.open("scalars", "path.line", len(GROUPS), "^tail_index/")
    shown.tick("Ignore outliers", on=False)
    shown.settled()
    charts = cards(shown, "vz-line-chart2")
    assert set(charts) == {f"tail_index/{group}" for group in GROUPS}
    for chart in charts.values():
        assert shown.paths("line", chart) >= 1
        assert coloured(chart) > LINE
    photograph(shown, pictures / "scalars.png")


def test_custom_scalars_are_lines_and_a_band(shown: Dashboard, pictures: Path) -> None:
    shown.open("custom_scalars", "path.line", 3)
    shown.tick("Ignore outliers", on=False)
    for button in shown.all(".toggle-matches-button"):
        button.click()
    shown.settled()
    charts, matches = cards(shown, "vz-line-chart2"), shown.all("#matches-list")
    whole, averages = "tail_index/whole_model", (f"tail_index_aggregated/{n}_minibatches/whole_model" for n in (2, 4))
    expected = {
        "α of the whole model and its groups": {f"tail_index/{group}" for group in GROUPS},
        "Whole model: α of draws and of averages of them": {whole, *averages},
        "Whole model: α, 95 % interval, Gaussian surrogate": {whole, "tail_index_gaussian/whole_model"},
    }
    assert list(charts) == list(expected)  # TensorBoard puts bands last
    for chart, legend, tags in zip(charts.values(), matches, expected.values(), strict=True):
        assert {word for word in legend.text.split() if "/" in word and "(" not in word} == tags
        assert shown.paths("line", chart) >= len(tags)
        assert coloured(chart) > len(tags) * LINE
    assert [shown.paths("area", chart) > 0 for chart in charts.values()] == [False, False, True]
    photograph(shown, pictures / "custom_scalars.png")


def test_histograms_are_drawn_at_each_step(shown: Dashboard, pictures: Path) -> None:
    shown.open("histograms", "path.outline", 6 * MEASUREMENTS, "/(conv1|fc2|whole_model)$")
    shown.settled()
    charts = cards(shown, "vz-histogram-timeseries")
    for group in ("conv1", "fc2", "whole_model"):
        for tag in ("standardized_noise", "tail_index_per_coordinate"):
            chart = charts[f"{tag}/{group}"]
            assert shown.paths("outline", chart) == MEASUREMENTS
            assert coloured(chart) > 20 * LINE
    photograph(shown, pictures / "histograms.png")


def test_images_are_the_figures_in_a_readable_size(shown: Dashboard, pictures: Path) -> None:
    shown.open("images", "img", 3, "tail_index_figures")
    shown.tick("actual image size", on=True)
    shown.settled()
    figures = cards(shown, "img")
    names = "alpha_heatmap", "alpha_over_steps", "noise_density"
    assert set(figures) == {f"tail_index_figures/{name}" for name in names}
    for figure in figures.values():
        assert figure.size["width"] >= 800
        assert coloured(figure) > 10 * LINE
    photograph(shown, pictures / "images.png")


def test_texts_are_tables(shown: Dashboard, pictures: Path) -> None:
    shown.open("text", "tf-text-loader", 2, "tail_index")
    shown.settled()
    law, setup = (text.text.splitlines() for text in cards(shown, "tf-text-loader").values())
    assert len([line for line in law if line.startswith("step ")]) == MEASUREMENTS
    table = law.index("group best law α p-value of the Gaussian note") + 1
    assert [line.split()[0] for line in law[table:] if line.split()[0] in GROUPS][: len(GROUPS)] == list(GROUPS)
    assert {"num_minibatches 64", "data no two draws share data"} <= set(setup)
    photograph(shown, pictures / "text.png")


def test_the_report_of_several_runs_is_a_page(tmp_path: Path, driver: WebDriver, pictures: Path) -> None:
    for step_size, batch_size in ((0.03, 16), (0.1, 16), (0.3, 16), (0.1, 64)):
        options = f"--max-steps 301 --every-n-steps 100 --step-size {step_size} --batch-size {batch_size}"
        demo(tmp_path, *options.split())
    report = tmp_path / "report.html"
    subprocess.run([PROGRAM, "report", "runs", "-o", report.name], cwd=tmp_path, check=True, capture_output=True)
    driver.get(report.as_uri())
    body, drawn = driver.find_element("tag name", "body"), driver.find_elements("tag name", "img")
    assert body.text.count("α of the whole model is") == 4
    assert len(drawn) > 4 * 3  # those of each run, and of what varied
    assert "What differs between the runs: step_size, minibatch size (measured)." in body.text
    for figure in drawn:
        assert figure.size["width"] >= 400
        assert int(figure.get_property("naturalWidth")) >= 400  # it could be read
    save(driver.get_screenshot_as_png(), pictures / "report.png", most_bytes=200_000)


def test_without_its_run_a_chart_is_empty(shown: Dashboard) -> None:
    """What the tests above ask of a chart, it can lack."""
    shown.open("custom_scalars", "path.line", 3)
    shown.click("paper-button", "toggle all runs")
    shown.settled()
    charts = cards(shown, "vz-line-chart2").values()
    assert len(charts) == 3
    for chart in charts:
        assert shown.paths("line", chart) == shown.paths("area", chart) == coloured(chart) == 0


def test_without_a_run_there_is_no_page(tmp_path: Path) -> None:
    with browser() as driver, tensorboard(tmp_path) as address:
        board = Dashboard(driver, address)
        with pytest.raises(AssertionError, match=r"0 of 1 path\.line"):
            board.open("custom_scalars", "path.line", 1, tries=1)
