"""What stands in MLflow's store of files, read back by MLflow's own client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import MLFlowLogger
from PIL import Image

from .training import FIGURES, fit, monitor

# MLflow is pulled in while warnings are errors, and others' deprecations are none of ours
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that MLflow keeps its runs in."""
    pytest.importorskip("mlflow", reason="mlflow-skinny is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return tmp_path / "store"


def test_scalars_figures_texts_and_parameters(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    from mlflow.tracking import MlflowClient

    caplog.set_level("INFO")
    logger, watcher = MLFlowLogger("digits", tracking_uri=f"file:{store}"), monitor()
    fit(logger, watcher)
    client, run = MlflowClient(f"file:{store}"), logger.run_id
    for group, place in (("first", 0), ("whole_model", -1)):
        history = client.get_metric_history(run, f"tail_index/{group}")
        assert [metric.step for metric in history] == [0, 10, 20, 30]
        expected = [report.measurements[place].alpha for report in watcher.reports]
        assert [metric.value for metric in history] == pytest.approx(expected)
    parameters = client.get_run(run).data.params
    assert parameters["TailIndexMonitor/num_minibatches"] == "32"
    assert parameters["TailIndexMonitor/dataloader"] == "None"
    for name in FIGURES:
        files = [Path(item.path).name for item in client.list_artifacts(run, f"tail_index_figures/{name}")]
        assert files == [f"step_{step:08d}.png" for step in (0, 20, 30)]
    folder = Path(client.download_artifacts(run, "", str(store.parent)))
    assert np.asarray(Image.open(folder / "tail_index_figures/alpha_heatmap/step_00000030.png")).std() > 10
    assert "| estimators | grouped_mle |" in (folder / "tail_index_setup/step_00000000.md").read_text()
    assert len(list((folder / "tail_index_law").iterdir())) == 4
    assert "MLFlowLogger takes everything that monitors log but histograms." in caplog.messages


def test_parameters_that_may_not_change_do_not_end_a_training(store: Path) -> None:
    logger = MLFlowLogger("digits", tracking_uri=f"file:{store}")
    fit(logger, monitor(figures=None))
    again = MLFlowLogger("digits", tracking_uri=f"file:{store}", run_id=logger.run_id)
    with pytest.warns(UserWarning, match=r"MLFlowLogger could not log the report of step 0.*num_minibatches"):
        trainer = fit(again, monitor(figures=None, num_minibatches=16, on_error="warn"))
    assert trainer.global_step == 40
    assert len(again.experiment.get_metric_history(logger.run_id, "tail_index/first")) == 8
