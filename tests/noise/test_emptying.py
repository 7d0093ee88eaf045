"""What a shadow held is freed when a measurement is over, and nothing of the original's is lost with it."""

from __future__ import annotations

import copy
import functools
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_tailindex import TailIndexMonitor, gradient_noise
from lightning_tailindex.noise.emptying import emptied_afterwards
from lightning_tailindex.noise.shadow import alias_shadow
from tests.callbacks.training_trace import Net, NoisyData, train


class Positions(nn.Module):
    """Keeps what it returned, and so itself."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.ones(6))
        self.frozen = nn.Parameter(torch.ones(6), requires_grad=False)
        self.more = {"table": torch.ones(6)}

    @functools.cache  # noqa: B019 -- which is what is tested
    def shift(self, length: int) -> Tensor:
        return torch.zeros(length, 1)

    def held(self) -> list[weakref.ref[Tensor]]:
        return [weakref.ref(each) for each in (self.table, self.frozen, self.more["table"])]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift(len(x))


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.positions, self.head = Positions(), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.positions(x))
        return out


def alive(references: list[weakref.ref[Tensor]]) -> int:
    gc.collect()
    return sum(reference() is not None for reference in references)


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_a_cached_method_keeps_no_tensor_of_a_shadow(engine: Any) -> None:
    module, held = Module(), []

    def loss(shadow: Module, x: Tensor) -> Tensor:
        held.extend(shadow.positions.held())
        return shadow(x).square().mean()

    before = Positions.shift.cache_info().currsize
    gradient_noise(module, loss, torch.randn(16, 4, 6), engine=engine)
    assert Positions.shift.cache_info().currsize > before  # the control: the part itself is kept
    assert held
    assert alive(held) == 0
    assert alive(module.positions.held()) == 3


class Cached(Net):
    """Collects what the shadows of a training hold."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = Positions()

    @functools.cache  # noqa: B019 -- which is what is tested
    def scale(self) -> float:
        return 1.0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        held: list[weakref.ref[Tensor]] = type(self).held  # type: ignore[attr-defined]
        held.extend([*self.positions.held(), weakref.ref(self.centre)])
        return super().training_step([self.positions(batch[0]), batch[1]], batch_idx) * self.scale()


def test_training_keeps_no_tensor_of_a_shadow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Tensor]] = []
    monkeypatch.setattr(Cached, "held", held, raising=False)
    loader = lambda: DataLoader(NoisyData(), batch_size=6, shuffle=True)  # noqa: E731
    without, _ = train(str(tmp_path / "without"), loader, module=Cached)
    steps = Cached.scale.cache_info().currsize
    held.clear()
    watcher = TailIndexMonitor(3, num_minibatches=16, on_error="raise", engine="loop")
    watched, trainer = train(str(tmp_path / "with"), loader, [watcher], module=Cached)
    assert without.differences(watched) == []
    assert Cached.scale.cache_info().currsize - steps == len(watcher.reports) + 1  # the control: all of them are kept
    assert len(held) > 7 * 16
    module: Any = trainer.lightning_module
    own = {id(tensor()) for tensor in [*module.positions.held(), weakref.ref(module.centre)]}
    gc.collect()
    assert {id(tensor()) for tensor in held if tensor() is not None} == own


class Itself(nn.Linear):
    def __deepcopy__(self, memo: dict[int, object]) -> Itself:
        return self


class SharingItsAttributes(nn.Linear):
    """All of whose copies are one."""

    def __deepcopy__(self, memo: dict[int, object]) -> SharingItsAttributes:
        twin = copy.copy(self)
        twin.__dict__ = self.__dict__
        return twin


class Compared(nn.Linear):
    """Is asked for its attributes by whoever looks for it in a dictionary."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compared) and self.in_features == other.in_features

    def __hash__(self) -> int:
        return hash(self.in_features)


class Deleted(nn.Linear):
    def __del__(self) -> None:
        assert self.in_features == 2


PARTS: list[Callable[[int, int], nn.Linear]] = [Itself, SharingItsAttributes, Compared, Deleted]


@pytest.mark.parametrize("part", PARTS)
def test_nothing_of_the_original_is_emptied(part: Callable[[int, int], nn.Linear]) -> None:
    module, later = nn.Sequential(nn.Linear(2, 2), part(2, 2)), nn.Linear(2, 2)
    module.shared = [module[0]]  # type: ignore[assignment]
    shadow = alias_shadow(module)
    with emptied_afterwards(shadow, module):
        shadow.later = later  # as a step may do that finds a part in a global variable
    assert list(shadow.modules()) == [shadow]
    assert module(torch.ones(1, 2)).shape == later(torch.ones(1, 2)).shape == (1, 2)
    assert len(list(module.parameters())) == 4
    assert {module[1]: 1}[module[1]] == 1


@pytest.mark.parametrize(("part", "is_emptied"), [(nn.Linear, True), (Compared, False), (Deleted, False)])
def test_parts_that_are_asked_for_what_they_hold_keep_it(part: type[nn.Linear], is_emptied: bool) -> None:
    module = nn.Sequential(part(2, 2))
    shadow = alias_shadow(module)
    (within,) = shadow
    with emptied_afterwards(shadow, module):
        pass
    assert (list(within.parameters()) == []) is is_emptied


def test_a_shadow_is_emptied_when_its_measurement_fails() -> None:
    module = nn.Linear(2, 2)
    shadow = alias_shadow(module)
    with pytest.raises(RuntimeError, match="in the step"), emptied_afterwards(shadow, module):
        raise RuntimeError("in the step")
    assert list(shadow.parameters()) == []
    assert len(list(module.parameters())) == 2
