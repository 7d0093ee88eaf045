"""The pages of the documentation do what they say: code runs, configurations build, commands exist."""

from __future__ import annotations

import doctest
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lightning_tailindex
from lightning_tailindex import TailIndexMonitor, records
from lightning_tailindex.report.cli import main

lightning = pytest.importorskip("lightning.pytorch")
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"", "python", "yaml", "shell", "{eval-rst}"}


def blocks(page: Path, language: str) -> list[str]:
    fences = re.findall(r"^```(.*)\n((?s:.*?))^```$", page.read_text(), re.MULTILINE)
    assert {name for name, _ in fences} <= LANGUAGES
    return [code for name, code in fences if name == language]


def pages_with(language: str) -> Any:
    pages = [page for page in PAGES if blocks(page, language)]
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.relative_to(ROOT).as_posix())


class Model(lightning.LightningModule):  # type: ignore[misc, name-defined]
    """What a reader is taken to have."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def at_hand() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(128, 8, generator=generator), torch.randint(3, (128,), generator=generator))
    torch.manual_seed(0)
    return {"__name__": "page", "model": Model(), "train_dataloader": DataLoader(data, 8, shuffle=True)}


def run(code: str, names: dict[str, Any], source: str) -> None:
    if not code.startswith(">>>"):
        exec(compile(code, source, "exec", dont_inherit=True), names)
        return
    example = doctest.DocTestParser().get_doctest(code, names, source, source, 0)
    doctest.DebugRunner().run(example, clear_globs=False)
    names.update(example.globs)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.setattr("sys.argv", ["page"])  # Lightning warns of arguments beside its own, such as pytest's
    yield
    for path in (ROOT / "examples").glob("*.py"):
        sys.modules.pop(path.stem, None)


@pages_with("python")
def test_the_code_of_a_page_runs_from_top_to_bottom(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = at_hand()
    for code in blocks(page, "python"):
        run(code, names, str(page))


@pytest.mark.parametrize("code", ["assert False", "missing", ">>> 1 + 1\n3\n", ">>> missing\n2\n"])
def test_code_that_fails_is_noticed(code: str) -> None:
    with pytest.raises((AssertionError, NameError, doctest.DocTestFailure, doctest.UnexpectedException)):
        run(code, at_hand(), "page")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's use of jsonargparse
@pages_with("yaml")
def test_its_configurations_build(page: Path, tmp_path: Path) -> None:
    from lightning.pytorch.cli import LightningCLI

    for number, text in enumerate(blocks(page, "yaml")):
        config = tmp_path / f"{number}.yaml"
        config.write_text(text)
        options = [f"--config={config}", "--trainer.logger=false", "--trainer.accelerator=cpu"]
        cli = LightningCLI(Model, run=False, save_config_callback=None, seed_everything_default=False, args=options)
        assert any(isinstance(callback, TailIndexMonitor) for callback in cli.trainer.callbacks)


def wrong_commands(text: str) -> Iterator[str]:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        program, *words = command.split()
        files = [word for word in words if word.endswith((".py", ".yaml"))]
        if not all((ROOT / file).is_file() for file in files) or not (program != "make" or {*words} <= targets):
            yield command
        elif program == "lightning-tailindex":
            try:
                main(words)  # of no runs: options that it does not know end the program
            except SystemExit:
                yield command
        elif program not in ("make", "python"):
            yield command


@pages_with("shell")
def test_its_commands_exist(page: Path) -> None:
    assert [wrong for text in blocks(page, "shell") for wrong in wrong_commands(text)] == []


@pytest.mark.parametrize(
    "command",
    ["make tea", "python examples/no.py", "lightning-tailindex report --no x", "lightning-tailindex no", "no"],
)
def test_a_command_that_does_not_exist_is_noticed(command: str) -> None:
    assert list(wrong_commands(f"make test  # this one does\n{command}")) == [command]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_targets_of_make_that_are_named_in_sentences_exist(page: Path) -> None:
    named = re.findall(r"`(make [a-z-]+)`", page.read_text())
    assert list(wrong_commands("\n".join(named))) == []


def test_every_public_name_is_in_the_reference() -> None:
    reference = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    explained = {*records.__all__, *re.findall(r"auto(?:class|function):: (?:[a-z_]+\.)*(\w+)", reference)}
    assert set(lightning_tailindex.__all__) <= explained
    for module in ("distributions", "figures", "functional", "init", "records", "report", "theory.least_squares"):
        assert f"automodule:: lightning_tailindex.{module}\n   :members:" in reference
