"""All monitors of one training on one page of TensorBoard."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .dashboard import Dashboard, browser, coloured, save, tensorboard

pytestmark = pytest.mark.browser

EXAMPLES = Path(__file__).parents[2] / "examples"
CHARTS = {
    "Tail index of the gradient noise": 3,
    "Tail index of the iterates": 3,
    "Spectra of the weight matrices": 2,
    "Sharpness of the training loss": 2,
    "First exit of the weights": 2,
}
LINE = 100
"""Coloured pixels of the thinnest line across a chart of a row of three."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    folder = tmp_path_factory.mktemp("all_monitors")
    with browser() as driver:
        command = [sys.executable, "-W", "ignore", EXAMPLES / "cli.py", "fit"]
        options = ["--config", EXAMPLES / "config" / "all_monitors.yaml", "--trainer.enable_progress_bar=false"]
        done = subprocess.run(
            [*command, *options], cwd=folder, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        with tensorboard(folder / "runs") as address:
            yield Dashboard(driver, address)


def test_every_monitor_has_its_charts(shown: Dashboard, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    shown.resize(2200)  # the whole page without scrolling
    shown.open("custom_scalars", "path.line", sum(CHARTS.values()))
    shown.tick("Ignore outliers", on=False)
    shown.settled()
    sections = shown.all("tf-category-paginated-view")
    found = {}
    for section in sections:
        charts = shown.all("vz-line-chart2", section)
        found[section.text.splitlines()[0]] = len(charts)
        for chart in charts:
            assert shown.paths("line", chart) >= 1
            assert coloured(chart) > LINE
    assert found == CHARTS
    (page,) = shown.all("#categories-container")
    save(page.screenshot_as_png, Path(request.config.getoption("pictures") or tmp_path) / "all_monitors.png")
