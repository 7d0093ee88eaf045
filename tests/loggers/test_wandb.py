"""What stands in the folder of a W&B run that is never sent anywhere, as far as it can be read back."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import WandbLogger
from PIL import Image

from lightning_tailindex import FirstExitMonitor

from .training import FIGURES, GROUPS, fit, monitor

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

_BLOCK, _HEADER = 32768, struct.Struct("<IHB")  # checksum, length, and whether a record begins or ends here
_WHOLE, _LAST = 1, 4


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """W&B without a network and without a word."""
    module = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield module
    module.finish()


def records(path: Path) -> Iterator[Any]:
    """Reads the records of a run's file, which are kept as LevelDB keeps its log."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, parts = path.read_bytes(), 7, b""
    while place + _HEADER.size <= len(data):
        if (left := _BLOCK - place % _BLOCK) < _HEADER.size:
            place += left
            continue
        _, length, kind = _HEADER.unpack_from(data, place)
        place += _HEADER.size + length
        if place > len(data):
            return
        parts += data[place - length : place]
        if kind in (_WHOLE, _LAST):
            yield Record.FromString(parts)
            parts = b""


def is_complete(path: Path) -> bool:
    """Whether W&B's own process has written everything, which it may do a little after a run has finished."""
    return any(record.WhichOneof("record_type") == "exit" for record in records(path))


def rows(path: Path) -> list[dict[str, Any]]:
    """What was logged, call by call; the parts of histograms and images by their dotted names."""
    found = (record.history.item for record in records(path) if record.WhichOneof("record_type") == "history")
    return [{item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in row} for row in found]


def finished(wandb: Any, path: Path) -> Path:
    """The file of the only run, once all of it is written."""
    wandb.finish()
    (file,) = path.glob("wandb/offline-run-*/*.wandb")
    deadline = time.monotonic() + 60
    while not is_complete(file) and time.monotonic() < deadline:
        time.sleep(0.1)
    return file


def test_what_a_report_has_not_makes_no_row(wandb: Any, tmp_path: Path) -> None:
    watcher = FirstExitMonitor(0.1, every_n_steps=20, on_error="raise")
    fit(WandbLogger(save_dir=tmp_path, offline=True), watcher)
    logged = [
        {name for name in row if not name.startswith(("_", "trainer/"))} for row in rows(finished(wandb, tmp_path))
    ]
    assert len(watcher.reports) == 3
    assert sum(any(name.startswith("first_exit/") for name in row) for row in logged) == 3
    assert len(logged) == 4  # and the setup
    assert all(logged)


def test_scalars_histograms_figures_tables_and_configuration(wandb: Any, tmp_path: Path) -> None:
    logger, watcher = WandbLogger(save_dir=tmp_path, offline=True, project="digits"), monitor()
    fit(logger, watcher)
    file = finished(wandb, tmp_path)
    logged = rows(file)

    def values(name: str) -> dict[int, Any]:
        return {row["trainer/global_step"]: row[name] for row in logged if name in row}

    for group in GROUPS:
        assert list(values(f"tail_index/{group}")) == [0, 10, 20, 30]
    alphas = [report.whole_model.alpha for report in watcher.reports]
    assert list(values("tail_index/whole_model").values()) == pytest.approx(alphas)
    bins = watcher.reports[1].whole_model.standardized_noise
    assert values("standardized_noise/whole_model.values")[10] == list(bins.counts)
    assert values("standardized_noise/whole_model.bins")[10] == pytest.approx(bins.edges)
    for name in FIGURES:
        files = values(f"tail_index_figures/{name}.path")
        assert list(files) == [0, 20, 30]
        assert np.asarray(Image.open(file.parent / "files" / files[30])).std() > 10
    (table,) = values("tail_index_setup.path").values()
    said = dict(json.loads((file.parent / "files" / table).read_text())["data"])
    assert said["estimators"] == "grouped_mle"
    configured = [update for record in records(file) for update in record.config.update]
    (ours,) = [json.loads(update.value_json) for update in configured if update.key == "TailIndexMonitor"]
    assert ours["num_minibatches"] == 32
    assert ours["dataloader"] is None
