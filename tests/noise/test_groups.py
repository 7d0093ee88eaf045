from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_tailindex.noise.coordinates import sample_coordinates
from lightning_tailindex.noise.groups import (
    WHOLE_MODEL,
    check_grouping,
    check_patterns,
    compile_patterns,
    group_names,
    measured_parameters,
    resolve_grouping,
)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.block = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
        self.out = nn.Linear(3, 5, bias=False)
        self.out.weight = self.embed.weight
        self.temperature = nn.Parameter(torch.ones(()))
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)
        self.lazy = nn.LazyLinear(2)


@pytest.fixture
def names() -> list[str]:
    return list(measured_parameters(Tied()))


def test_shared_parameters_are_listed_once_frozen_and_lazy_ones_not_at_all(names: list[str]) -> None:
    assert names == [
        "temperature", "embed.weight", "block.0.weight", "block.0.bias", "block.1.weight", "block.1.bias",
    ]  # fmt: skip


def test_groups_are_module_paths_and_the_whole_model(names: list[str]) -> None:
    groups = group_names(names, resolve_grouping("module"))
    assert list(groups) == ["temperature", "embed", "block.0", "block.1", WHOLE_MODEL]
    assert groups["block.0"] == ("block.0.weight", "block.0.bias")
    assert groups[WHOLE_MODEL] == tuple(names)


def test_other_groupings(names: list[str]) -> None:
    assert list(group_names(names, resolve_grouping("parameter"))) == [*names, WHOLE_MODEL]
    assert list(group_names(names, resolve_grouping("model"))) == [WHOLE_MODEL]
    own = group_names(names, resolve_grouping(lambda name: name.split(".")[0]))
    assert list(own) == ["temperature", "embed", "block", WHOLE_MODEL]


def test_expressions_choose_parameters() -> None:
    assert list(measured_parameters(Tied(), compile_patterns("embed|bias"))) == [
        "embed.weight", "block.0.bias", "block.1.bias",
    ]  # fmt: skip
    assert list(measured_parameters(Tied(), compile_patterns(["^temp", "1.w"]))) == ["temperature", "block.1.weight"]


def test_bad_arguments_name_the_rule_and_the_value() -> None:
    with pytest.raises(ValueError, match=r"group_by must be one of .*'module'.* got 'layer'"):
        resolve_grouping("layer")
    with pytest.raises(ValueError, match=r"parameters must be regular expressions, got '\('"):
        compile_patterns("(")
    with pytest.raises(ValueError, match="at least one regular expression"):
        compile_patterns([])
    with pytest.raises(
        ValueError, match=r"Tied has no trainable parameters to measure that match \['nothing'\]; it has 'temp"
    ):
        measured_parameters(Tied(), compile_patterns("nothing"))
    with pytest.raises(ValueError, match="group_by must be one of"):
        resolve_grouping(["module"])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"at least one regular expression, got \[3\]"):
        compile_patterns([3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"got None for 'a\.weight'"):
        group_names(["a.weight"], lambda name: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="keep the name 'whole_model'"):
        group_names(["whole_model.weight", "b.weight"], resolve_grouping("module"))
    with pytest.raises(ValueError, match=r"group_by failed for 'a\.weight': IndexError: list index out of range"):
        group_names(["a.weight"], lambda name: name.split(".")[5])
    with pytest.raises(ValueError, match="group_by failed for 'temperature': KeyError: 'temperature'"):
        check_grouping(Tied(), (), {}.__getitem__)
    check_grouping(Tied(), compile_patterns("frozen"), {}.__getitem__)  # of those that are not measured nobody asks
    check_grouping(Tied(), compile_patterns("lazy"), str)
    with pytest.raises(ValueError, match="'nothing' matches no parameter of Tied"):
        check_patterns(Tied(), compile_patterns(["embed", "nothing"]))
    check_patterns(Tied(), compile_patterns(["frozen", "lazy"]))
    with pytest.raises(ValueError, match="ReLU has no trainable parameters to measure"):
        measured_parameters(nn.ReLU())


SIZES = (("a", 30), ("b", 3_000_000), ("c", 5))
GROUPS = (("ab", ("a", "b")), ("c", ("c",)), (WHOLE_MODEL, ("a", "b", "c")))


def test_coordinates_are_sampled_once_for_all_groups() -> None:
    sample = sample_coordinates(SIZES, GROUPS, 1000, 0)
    assert {group: len(columns) for group, columns in sample.columns.items()} == {"ab": 1000, "c": 5, WHOLE_MODEL: 1000}
    assert sample.sizes == {"ab": 3_000_030, "c": 5, WHOLE_MODEL: 3_000_035}
    for columns in sample.columns.values():
        assert len(columns.unique()) == len(columns)
    assert max(int(columns.max()) for columns in sample.columns.values()) == sample.width - 1


def test_columns_lead_back_to_the_coordinates() -> None:
    sizes, groups = (("a", 4), ("b", 3)), (("a", ("a",)), ("b", ("b",)), (WHOLE_MODEL, ("a", "b")))
    sample = sample_coordinates(sizes, groups, None, 0)
    flat = {"a": torch.arange(4), "b": torch.arange(10, 13)}
    row = torch.cat([flat[name][index] for name, index in sample.indices.items()])
    assert {group: row[columns].tolist() for group, columns in sample.columns.items()} == {
        "a": [0, 1, 2, 3],
        "b": [10, 11, 12],
        WHOLE_MODEL: [0, 1, 2, 3, 10, 11, 12],
    }


def test_the_sample_is_fixed_by_its_seed_and_uniform() -> None:
    first, second, other = (sample_coordinates(SIZES, GROUPS, 1000, seed) for seed in (0, 0, 1))
    assert torch.equal(first.indices["b"], second.indices["b"])
    assert not torch.equal(first.indices["b"], other.indices["b"])
    assert abs(float(first.indices["b"].float().mean()) / 1_500_000 - 1) < 0.1


def test_a_sample_may_leave_parameters_out_and_have_nothing_of_others() -> None:
    sizes, groups = (("a", 3), ("empty", 0), ("other", 4), ("b", 2)), (("ab", ("b", "empty", "a")), ("b", ("b",)))
    sample = sample_coordinates(sizes, groups, None, 0)
    indices = {name: index.tolist() for name, index in sample.indices.items()}
    assert indices == {"a": [0, 1, 2], "empty": [], "b": [0, 1]}
    columns = {group: each.tolist() for group, each in sample.columns.items()}
    assert columns == {"ab": [0, 1, 2, 3, 4], "b": [3, 4]}
    nothing = sample_coordinates((("empty", 0),), (("empty", ("empty",)),), 10, 0)
    assert nothing.indices["empty"].tolist() == nothing.columns["empty"].tolist() == []


class Counted(str):
    """A name that counts how often it is looked up."""

    times: list[int]

    def __hash__(self) -> int:
        self.times[0] += 1
        return super().__hash__()


class Elements(TorchDispatchMode):
    """Counts the elements of what operations return."""

    number = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.number += found.numel() if isinstance(found, Tensor) else 0
        return found


def work_of_sampling(layers: int) -> tuple[int, int]:
    """How often names are looked up, and how many numbers are made, for groups of one parameter and the whole."""
    times = [0]
    names = tuple(map(Counted, (f"layer{i}" for i in range(layers))))
    for name in names:
        name.times = times
    groups = (*((str(name) + "_group", (name,)) for name in names), (WHOLE_MODEL, names))
    with Elements() as elements:
        sample_coordinates(tuple((name, 4) for name in names), groups, None, 0)
    return times[0], elements.number


def test_many_parameters_are_not_looked_for_in_each_of_many_groups() -> None:
    few, many = work_of_sampling(20), work_of_sampling(200)
    assert min(few) >= 20
    assert many[0] < 20 * few[0]
    assert many[1] < 20 * few[1]
