"""Modules sharded by ``fully_shard`` in the ways that there are, or not at all in a single process."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh

from tests.callbacks.training_trace import Net


def fully_shard(*args: Any, **kwargs: Any) -> None:
    """The function of that name, which the oldest versions lack."""
    from torch.distributed.fsdp import fully_shard

    fully_shard(*args, **kwargs)


class ShardedNet(Net):
    """Everything that a measurement could disturb, sharded; 8 rows in two shards, and 3 which no two can share."""

    def configure_model(self) -> None:
        mesh = self.device_mesh["data_parallel"]
        for part in (self.body[0], self.body, self.head):
            fully_shard(part, mesh=mesh)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Leaves parameters gathered, as passes without a backward pass do."""
        self.head(self.body(batch[0]))


class Plain(LightningModule):
    """Nothing random in it but where it starts: 7 and 5 rows, and a scale of which one process has nothing."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 7))
        self.head = nn.Linear(7, 5)
        self.scale = nn.Linear(1, 1)

    def configure_model(self) -> None:
        if self.device_mesh is not None:  # a single process shards nothing
            self.shard()

    def shard(self) -> None:
        for part in (self.body[0], self.body, self.head, self.scale):
            fully_shard(part, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        logits = self.head(self.body(batch[0]))
        return nn.functional.cross_entropy(logits * self.scale(batch[0][:, :1]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], lr=0.1)


class Replicated(Plain):
    """Both processes hold all of it (HSDP with shards of one process)."""

    shape = (2, 1)

    def shard(self) -> None:
        mesh = init_device_mesh("cpu", self.shape, mesh_dim_names=("replicate", "shard"))
        for part in (self.body, self.head, self.scale):
            fully_shard(part, mesh=mesh)


class Hybrid(Replicated):
    """A mesh of two dimensions that shards over both processes."""

    shape = (1, 2)


class Grouped(Plain):
    """Two layers in one group of communication, gathered once for forward and backward, in a part without others."""

    def shard(self) -> None:
        mesh = self.device_mesh["data_parallel"]
        fully_shard([self.body[0], self.body[2]], mesh=mesh, reshard_after_forward=False)
        for part in (self.body, self.head, self.scale):
            fully_shard(part, mesh=mesh)


class Tied(Plain):
    """A frozen layer and one weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body[0].requires_grad_(False)
        self.body.append(nn.Linear(7, 7))
        self.body[3].weight = self.body[2].weight


class Parametrized(Plain):
    """A layer whose class says how it is copied, and refuses to be pickled."""

    def __init__(self) -> None:
        super().__init__()
        nn.utils.parametrizations.weight_norm(self.body[0])


class Whole(Plain):
    """Sharded as one, the training step itself registered as a method that gathers."""

    def shard(self) -> None:
        from torch.distributed.fsdp import register_fsdp_forward_method

        fully_shard(self.body, mesh=self.device_mesh["data_parallel"])
        fully_shard(self, mesh=self.device_mesh["data_parallel"])
        register_fsdp_forward_method(self, "training_step")


class Offloaded(Plain):
    """Shards in main memory, computed in half precision."""

    def shard(self) -> None:
        from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy

        policy = {
            "offload_policy": CPUOffloadPolicy(pin_memory=False),
            "mp_policy": MixedPrecisionPolicy(torch.bfloat16),
        }
        for part in (self.body, self.head, self.scale):
            fully_shard(part, mesh=self.device_mesh["data_parallel"], **policy)


class HalfSharded(Plain):
    """Leaves its head out, so that each process trains a head of its own."""

    def shard(self) -> None:
        fully_shard(self.body, mesh=self.device_mesh["data_parallel"])


class Columns(Plain):
    """Cut along the second dimension."""

    def shard(self) -> None:
        from torch.distributed.tensor import Shard

        mesh = self.device_mesh["data_parallel"]
        fully_shard(
            self.body[0], mesh=mesh, shard_placement_fn=lambda parameter: Shard(1) if parameter.ndim > 1 else None
        )
        for part in (self.body, self.head, self.scale):
            fully_shard(part, mesh=mesh)


class NotSharded(Plain):
    """Forgets to shard anything."""

    def shard(self) -> None:
        return
