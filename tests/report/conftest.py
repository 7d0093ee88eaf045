"""A sweep of two runs, made once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from lightning_tailindex.records import Report

from .trained import SCRIPT, Net, train


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, tuple[Report, ...]]]:
    """The folder of two runs that differ in their width, minibatch size and kind, and the reports of each."""
    folder = tmp_path_factory.mktemp("sweep")
    settings = {"narrow": (4, 4, "plain"), "wide": (12, 2, SCRIPT)}
    reports = {
        name: train(
            folder / name,
            Net(width, kind=kind, sizes=(3, 3)),
            batch_size=batch_size,
            estimators=["grouped_mle", "hill"],
        )
        for name, (width, batch_size, kind) in settings.items()
    }
    return folder, reports
