"""A module that ``fully_shard`` has sharded, here over a single process, and its shadow."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh

from lightning_tailindex import gradient_noise
from lightning_tailindex.noise.coordinates import sample_parameters
from lightning_tailindex.noise.resharding import reason_against
from lightning_tailindex.noise.shadow import alias_shadow
from lightning_tailindex.noise.sharded import OwnCoordinates, check_shards, is_sharded, own_part
from tests.sharding import needs_fully_shard

pytestmark = needs_fully_shard


@pytest.fixture
def mesh() -> Iterator[Any]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


def block() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 2)))


@pytest.fixture
def module(mesh: Any) -> Any:
    from torch.distributed.fsdp import fully_shard

    module = block()
    fully_shard(module[2], mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


def x() -> torch.Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(1))


def test_the_gradients_of_the_shadow_are_those_of_the_module_that_was_not_sharded(module: Any) -> None:
    shadow, plain = alias_shadow(module), block()
    for model in (shadow, plain):
        model(x()).square().sum().backward()
    for name, parameter in shadow.named_parameters():
        assert is_sharded(parameter)
        assert torch.equal(own_part(parameter.grad), plain.get_parameter(name).grad)  # type: ignore[arg-type]


def test_parts_that_were_compiled_before_or_after_they_were_sharded_are_copied(mesh: Any) -> None:
    from torch.distributed.fsdp import fully_shard

    module, plain = block(), block()
    module[0] = torch.compile(module[0], backend="eager")
    module[2] = fully_shard(module[2], mesh=mesh)
    fully_shard(module[0], mesh=mesh)
    fully_shard(module, mesh=mesh)
    module[2] = torch.compile(module[2], backend="eager")
    shadow = alias_shadow(module)
    for model in (shadow, plain):
        model(x()).square().sum().backward()
    for alias, parameter in zip(shadow.parameters(), plain.parameters(), strict=True):
        assert torch.equal(own_part(alias.grad), parameter.grad)  # type: ignore[arg-type]
    assert all(parameter.grad is None for parameter in module.parameters())


def test_the_shadow_shares_shards_and_nothing_else(module: Any) -> None:
    before = [part.__class__ for part in module.modules()]
    hooks = [dict(part._forward_pre_hooks) for part in module.modules()]
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    shadow = alias_shadow(module)
    shadow(x()).sum().backward()
    for mine, other in zip(module.parameters(), shadow.parameters(), strict=True):
        assert mine.grad is None
        assert mine is not other
        assert own_part(mine).data_ptr() == own_part(other).data_ptr()
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in module.named_buffers())
    assert [part.__class__ for part in module.modules()] == before
    assert [dict(part._forward_pre_hooks) for part in module.modules()] == hooks
    module(x()).sum().backward()  # the control: what a pass of the module itself leaves behind
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert not all(torch.equal(buffer, buffers[name]) for name, buffer in module.named_buffers())


def test_shadows_follow_the_weights_and_can_be_made_again(module: Any) -> None:
    first = alias_shadow(module).eval()(x())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)
    second = alias_shadow(alias_shadow(module)).eval()(x())
    assert not torch.allclose(first, second)
    assert torch.equal(second, module.eval()(x()))


def test_settings_of_the_module_are_those_of_the_shadow(module: Any) -> None:
    module.set_gradient_divide_factor(4.0)
    module.set_force_sum_reduction_for_comms(True)  # older versions divide only so over gloo
    shadow = alias_shadow(module)
    for model in (shadow, module):
        model(x()).square().sum().backward()
    for mine, other in zip(module.parameters(), shadow.parameters(), strict=True):
        assert torch.equal(own_part(mine.grad), own_part(other.grad))  # type: ignore[arg-type]
    module.set_gradient_divide_factor(1.0)
    again = alias_shadow(module)
    again(x()).square().sum().backward()
    assert not torch.equal(own_part(again[0].weight.grad), own_part(shadow[0].weight.grad))


def test_what_is_gathered_after_a_pass_without_backward_is_sharded_again(module: Any) -> None:
    module.train()(x())
    assert not is_sharded(module[0].weight)
    shadow = alias_shadow(module)
    assert is_sharded(module[0].weight)
    assert is_sharded(shadow[0].weight)


def test_one_process_owns_every_coordinate(module: Any) -> None:
    measured = dict(module.named_parameters())
    sample = sample_parameters(measured, {"all": tuple(measured)}, 7, seed=0)
    own = OwnCoordinates.of(sample, measured)
    assert own.columns.tolist() == list(range(sample.width))
    assert all(torch.equal(own.indices[name], index) for name, index in sample.indices.items())


def test_a_module_without_shards_has_a_reason_against_it(module: Any) -> None:
    assert reason_against(module) is None
    check_shards(dict(module.named_parameters()))
    assert reason_against(block()) == "fully_shard was applied to none of its submodules"
    with pytest.raises(ValueError, match=r"must hold every measured parameter, it does not hold '0\.weight'"):
        check_shards(dict(block().named_parameters()))


def test_without_a_trainer_shards_are_refused(module: Any) -> None:
    with pytest.raises(ValueError, match="FSDPSequential must not be sharded"):
        gradient_noise(module, lambda model, batch: model(batch).sum(), [x()] * 4)
