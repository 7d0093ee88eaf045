"""The notebook as Jupyter executes it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "dashboard.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> NotebookNode:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("notebook")  # its run goes there
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parent), str(ROOT)]))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def outputs(notebook: NotebookNode, start: str) -> list[NotebookNode]:
    (found,) = (c.outputs for c in notebook.cells if c.cell_type == "code" and c.source.startswith(start))
    return list(found)


def test_the_table_shows_tails_that_grew_heavy(executed: NotebookNode) -> None:
    (printed,) = outputs(executed, "print(")
    found = re.findall(r"^ *(\d+)  (\w+) +(\d\.\d\d)  \S+ to (\d\.\d\d) +(\d\.\d\d)", printed.text, re.MULTILINE)
    groups = ["conv1", "conv2", "fc1", "fc2", "whole_model"]
    assert [(step, group) for step, group, *_ in found] == [(step, g) for step in ("0", "600") for g in groups]
    *_, (_, _, alpha, high, surrogate) = found
    assert float(alpha) < float(high) < 1.7 < 1.95 < float(surrogate)


def test_each_figure_is_shown(executed: NotebookNode) -> None:
    for name in ("alpha_over_steps", "noise_density", "alpha_by_minibatch_size"):
        (shown,) = outputs(executed, f"fig, _ = figures.{name}(")
        assert len(shown.data["image/png"]) > 10_000


def test_it_is_kept_without_outputs() -> None:
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)
    assert len(cells) == 6
