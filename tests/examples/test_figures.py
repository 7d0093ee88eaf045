"""The example that draws the pictures of the documentation, with few steps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lightning_tailindex import figures
from tests.forked import script

ROOT = Path(__file__).parents[2]


@pytest.mark.uncounted
def test_every_figure_is_drawn_and_shown(tmp_path: Path) -> None:
    code, said = script(ROOT / "examples" / "figures.py", "--quick", folder=tmp_path, timeout=240)
    assert code == 0, said[-3000:]
    drawn = {path.name for path in (tmp_path / "runs" / "figures").iterdir()}
    assert drawn == {f"{name}.png" for name in figures.__all__}
    assert drawn == {path.name for path in (ROOT / "docs" / "figures").iterdir()}
    assert drawn == set(re.findall(r"\(figures/(\w+\.png)\)", (ROOT / "docs" / "figures.md").read_text("utf-8")))
