import copy
import inspect
import multiprocessing
import threading
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from lightning_tailindex.noise.copying import CopyAs, copy_data, copy_with
from lightning_tailindex.noise.reaching import reachable
from lightning_tailindex.noise.shadow import alias_shadow


class Holder:
    def __init__(self) -> None:
        self.array = np.zeros(200_000)
        self.tensor = torch.zeros(300_000)
        self.visits = np.zeros(3)
        self.long = list(range(5000))
        self.short = [1, 2]
        self.lock = threading.Lock()
        self.random = np.random.default_rng(0)


def test_data_is_shared_and_state_is_copied() -> None:
    original = Holder()
    copied = copy_data(original)
    assert copied is not original
    assert all(getattr(copied, name) is getattr(original, name) for name in ("array", "tensor", "long", "lock"))
    copied.short.append(3)
    copied.visits += 1
    assert original.visits.sum() == 0
    copied.random.normal()
    assert original.short == [1, 2]
    assert original.random.normal() == np.random.default_rng(0).normal()


class Parent:
    """What a copy becomes."""

    def __init__(self) -> None:
        self.inner: list[Parent] = []
        self.call = lambda: self

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class Disguised(Parent):
    """Refuses to be copied as what it is."""

    def __deepcopy__(self, memo: dict[int, object]) -> object:
        raise AssertionError("not as what it is")


def test_a_copy_can_be_of_another_class() -> None:
    original = Disguised()
    original.inner = [Disguised(), original]
    with pytest.raises(AssertionError, match="not as what it is"):
        copy_with(original, lambda item: None)
    copied = copy_with(original, lambda item: CopyAs(Parent) if isinstance(item, Disguised) else None)
    assert type(copied) is type(copied.inner[0]) is Parent
    assert copied.inner[1] is copied
    assert copied.inner[0] is not original.inner[0]
    assert copied.call() is copied
    assert original.call() is original


def test_handles_are_shared_and_iterators_refused(tmp_path: Path) -> None:
    with (tmp_path / "data").open("w") as file:
        copied = copy_data(SimpleNamespace(file=file, visits=[0]))
        assert copied.file is file
    with pytest.raises(TypeError, match="generator"):
        copy_data(SimpleNamespace(stream=(i for i in range(3))))


def test_what_processes_share_is_copied_unless_it_is_large_or_a_queue() -> None:
    small, large, queue = multiprocessing.Value("i", 3), multiprocessing.Array("d", 200_000), multiprocessing.Queue()
    copied = copy_data(SimpleNamespace(small=small, large=large, lock=multiprocessing.Lock()))
    assert copied.large is large
    assert copied.small.value == 3
    copied.small.value += 1
    assert small.value == 3
    with pytest.raises(RuntimeError, match="Queue"):
        copy_data(SimpleNamespace(queue=queue))
    queue.close()


def test_weak_references_lead_to_copies_or_to_what_is_not_copied() -> None:
    within, beside = Holder(), Holder()
    original = SimpleNamespace(held=within, within=weakref.ref(within), beside=weakref.ref(beside))
    copied = copy_data(original)
    assert copied.within() is copied.held is not within
    assert copied.beside() is beside
    del copied.held
    assert copied.within() is None


def test_many_small_objects_are_data_too() -> None:
    rows = [[{"x": i} for i in range(900)] for _ in range(100)]
    copied = copy_data(SimpleNamespace(rows=rows, first=[1]))
    assert sum(mine is theirs for mine, theirs in zip(copied.rows, rows, strict=True)) > 50


def test_closures_capture_the_copy() -> None:
    def make() -> SimpleNamespace:
        holder, calls = SimpleNamespace(seen=[]), 0

        def count(x: int) -> int:
            nonlocal calls
            calls += 1
            holder.seen.append(x)
            return calls

        holder.count = count
        holder.callbacks = [lambda x: count(10 * x), {"deep": count}]
        return holder

    original = make()
    copied = copy_data(original)
    assert [copied.count(1), copied.callbacks[0](2), copied.callbacks[1]["deep"](3)] == [1, 2, 3]
    assert (copied.seen, original.seen) == ([1, 20, 3], [])
    assert original.count(5) == 1


def test_named_objects_are_shared() -> None:
    shared = Holder()
    assert copy_data(SimpleNamespace(part=shared), share=(shared,)).part is shared


def test_walking_ends_in_cycles() -> None:
    item: list[object] = []
    item.append(item)
    assert list(reachable(item, lambda _: False)) == [item]


class Busy(nn.Module):
    """Holds what a plain deepcopy trips over or copies needlessly."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.tied = self.layer
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("count", torch.zeros(()))
        self.activations = self.layer(torch.ones(1, 3))  # not a leaf: deepcopy refuses it
        self.lock = threading.Lock()
        self.data = TensorDataset(torch.zeros(5))
        self.forward = torch.compile(self.forward, backend="eager")  # as Lightning sets it
        self.outputs: list[torch.Tensor] = []
        self.layer.register_forward_hook(lambda module, inputs, output: self.outputs.append(output))


def test_a_shadow_shares_trainable_weights_and_nothing_else() -> None:
    module = Busy()
    shadow = alias_shadow(module)
    assert shadow.layer.weight.data_ptr() == module.layer.weight.data_ptr()
    assert shadow.layer.weight is not module.layer.weight
    assert shadow.tied is shadow.layer
    assert shadow.frozen.data_ptr() != module.frozen.data_ptr()
    assert shadow.count.data_ptr() != module.count.data_ptr()
    assert shadow.data is module.data
    assert inspect.unwrap(shadow.forward).__self__ is shadow
    torch.autograd.backward(shadow.layer(torch.ones(1, 3)).sum())
    assert (len(module.outputs), len(shadow.outputs)) == (0, 1)
    assert module.layer.weight.grad is None
    assert shadow.layer.weight.grad is not None


def test_what_could_not_be_copied_at_first_is_not_held_twice() -> None:
    copies: weakref.WeakSet[nn.Module] = weakref.WeakSet()
    held: list[int] = []

    class Large(nn.Module):
        def __deepcopy__(self, memo: dict[int, object]) -> nn.Module:
            held.append(len(copies))
            copied = Large()
            copies.add(copied)
            return copied

    module = nn.ModuleDict({"large": Large(), "layer": nn.Linear(2, 2)})
    module.lock = threading.Lock()  # type: ignore[assignment]
    shadow = alias_shadow(module)
    assert shadow["large"] in copies
    assert held == [0, 0]


def test_attributes_of_a_parameter_come_along() -> None:
    module = nn.Linear(2, 2)
    module.weight.decay = 0.1  # type: ignore[attr-defined]
    assert alias_shadow(module).weight.decay == 0.1


def test_what_python_cannot_copy_is_named() -> None:
    module = nn.Linear(2, 2)
    module.stream = (i for i in range(3))  # type: ignore[assignment]
    with pytest.raises(TypeError, match="generator"):
        alias_shadow(module)


def plain(batch: object, keys: tuple[str, ...] = ("x", "y")) -> object:
    return batch


plain.is_tagged = True  # type: ignore[attr-defined]


def test_functions_that_hold_plain_values_stay_themselves_for_tables_and_pickles() -> None:
    assert copy_data(SimpleNamespace(collate=plain, table={plain: 1})).collate is plain


def test_what_only_calls_something_its_trainer_is_copied() -> None:
    counter = SimpleNamespace(_trainer=None, visits=[0])
    assert copy_data(counter).visits is not counter.visits


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch.compile's own
def test_compiled_functions_are_copied_uncompiled() -> None:
    factor = [2.0]
    state = SimpleNamespace(compiled=torch.compile(lambda x: factor[0] * x, backend="eager"), factor=factor)
    copied = copy_data(state)
    copied.factor[0] = 3.0
    assert copied.compiled(torch.ones(1)) == 3
    assert state.compiled(torch.ones(1)) == 2
    assert copied.compiled.__name__ == state.compiled.__name__


class Stubborn:
    """Says nothing of why it cannot be copied."""

    def __deepcopy__(self, memo: dict[int, object]) -> object:
        raise KeyError("x")


class Endless:
    """Holds another one, and that one another one, as soon as somebody asks."""

    def __reduce_ex__(self, protocol: object) -> object:
        return Endless, (), {"next": Endless()}


def test_what_cannot_be_copied_is_told_by_its_class() -> None:
    with pytest.raises(TypeError, match=r"cannot copy a Stubborn \(KeyError: 'x'\)"):
        copy_data(SimpleNamespace(held=[{"deep": Stubborn()}]))
    with pytest.raises(TypeError, match=r"cannot copy a \w+ \(RecursionError: maximum recursion depth"):
        copy_data(Endless())


class Single:
    """Of which there is one."""

    instance: "Single | None" = None

    def __new__(cls) -> "Single":
        if cls.instance is None:
            cls.instance = super().__new__(cls)
            cls.instance.counts = [0]
        return cls.instance

    counts: list[int]


def test_what_there_is_one_of_is_shared_and_keeps_its_parts() -> None:
    single = Single()
    counts = single.counts
    held = SimpleNamespace(single=single, counts=counts)
    copied = copy_data(held)
    assert copied.single is single
    assert single.counts is counts is not copied.counts
    assert copy.deepcopy(held).single.counts is not counts  # the control
