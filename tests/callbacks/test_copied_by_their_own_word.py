"""Objects that say themselves how they are copied, or answer for names that nobody defined: training keeps them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_tailindex import TailIndexMonitor

from .training_trace import NaiveMeasurement, Net, NoisyData, train

pytestmark = pytest.mark.uncounted


class DropsInPlace(NoisyData):
    """Lets go of what it has open when somebody asks for its state, instead of leaving it out of a copy of that."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: torch.Tensor | None = torch.arange(40) / 100.0

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__
        state["rows"] = None
        return state

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(index)
        assert self.rows is not None
        return x + self.rows[index], y


class Delegates(Dataset[Any]):
    """Answers for every name by what it holds."""

    def __init__(self, data: Dataset[Any]) -> None:
        self.data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.data, name)

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        return self.data[index]


class Settings(dict[str, Any]):
    """A dictionary whose items are its attributes."""

    def __init__(self, **items: Any) -> None:
        super().__init__(**items)
        self.__dict__ = self


class Keys(dict[str, Any]):
    """A dictionary that answers for names by its items, with the error of its items."""

    __getattr__ = dict.__getitem__


class Unpicklable:
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise pickle.PicklingError("not this one")


class HoldsKeys(NoisyData):
    def __init__(self) -> None:
        super().__init__()
        self.keys, self.other = Keys(reads=0), Unpicklable()

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.keys["reads"] += 1
        x, y = super().__getitem__(index)
        return x + 1e-3 * self.keys.reads, y


class Counts(Net):
    """Counts in dictionaries with attributes, one within the other."""

    def __init__(self) -> None:
        super().__init__()
        self.settings = Settings(steps=0, inner=Settings(steps=0))
        self.keys, self.wrapped = Keys(steps=0), Delegates(NoisyData())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.settings.steps += 1
        self.settings["inner"].steps += 1
        self.keys["steps"] += 1
        assert self.settings.steps == self.settings["inner"]["steps"] == self.keys.steps
        assert len(self.wrapped.x) == 40
        return super().training_step([batch[0] + 0.01 * self.settings["steps"], batch[1]], batch_idx)


CASES: dict[str, tuple[Callable[[], Any], type[LightningModule]]] = {
    "a wrapper that delegates": (lambda: Delegates(NoisyData()), Net),
    "a dictionary with the errors of its items": (HoldsKeys, Net),
    "dictionaries with attributes in a module": (NoisyData, Counts),
}


@pytest.mark.parametrize("case", CASES)
def test_training_is_the_same_bit_for_bit_and_is_measured(case: str, tmp_path: Path) -> None:
    data, module = CASES[case]
    loader = lambda: DataLoader(data(), batch_size=6, shuffle=True)  # noqa: E731
    without, _ = train(str(tmp_path / "without"), loader, module=module)
    watcher = TailIndexMonitor(3, num_minibatches=16, on_error="raise")
    watched, _ = train(str(tmp_path / "with"), loader, [watcher], module=module)
    assert len(watcher.reports) == 7
    assert without.differences(watched) == []
    naive, _ = train(str(tmp_path / "naive"), loader, [NaiveMeasurement()], module=module)
    assert "parameters" in without.differences(naive)


@pytest.mark.filterwarnings("ignore:TailIndexMonitor")
def test_what_lets_go_of_its_state_when_asked_for_it_gets_it_back(tmp_path: Path) -> None:
    loader = lambda: DataLoader(DropsInPlace(), batch_size=6, shuffle=True)  # noqa: E731
    without, _ = train(str(tmp_path / "without"), loader)
    watched, trainer = train(str(tmp_path / "with"), loader, [TailIndexMonitor(3, num_minibatches=16)])
    assert trainer.global_step == 21
    assert without.differences(watched) == []
    pickle.dumps(trainer.train_dataloader.dataset)  # type: ignore[union-attr]  # the control
    assert trainer.train_dataloader.dataset.rows is None  # type: ignore[union-attr]
