"""Where training stands, and whether it can be measured."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lightning_tailindex.noise.groups import check_patterns, measured_parameters
from lightning_tailindex.noise.processes import NoiseUnit, Processes
from lightning_tailindex.noise.reaching import is_a
from lightning_tailindex.noise.resharding import can_shard_again, gather_no_more, reason_against
from lightning_tailindex.noise.sharded import check_shards

from .flavour import LightningModule, MisconfigurationException, Trainer, is_param_in_hook_signature

__all__ = [
    "check_alone",
    "check_measurable",
    "check_parameters",
    "is_stepping",
    "last_step",
    "may_shard",
    "needs_loss_scale",
    "optimizer_steps",
    "processes",
    "reason_against_strategy",
    "steps_after_batch",
]

STEP_METHOD = "gradient_noise_step"
"""What a module defines to say itself which loss is measured."""

_STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy", "ModelParallelStrategy")
_FOREIGN = ("DeepSpeed", "XLA", "FSDP")
"""Strategies that build on those above and yet keep parameters or gradients elsewhere."""


def may_shard(trainer: Trainer) -> bool:
    """Whether the strategy may shard parameters over processes by FSDP2."""
    return is_a(trainer.strategy, "ModelParallelStrategy")


def reason_against_strategy(trainer: Trainer) -> str | None:
    """Says in words why neither weights nor gradients can be read under a strategy; None if they can."""
    strategy = trainer.strategy
    is_known = any(is_a(strategy, name) for name in _STRATEGIES)
    if not is_known or any(part in cls.__name__ for cls in type(strategy).__mro__ for part in _FOREIGN):
        advice = "Use a single device, DDP, or FSDP2 by ModelParallelStrategy"
        return f"its parameters or gradients are not whole on one device. {advice}"
    return None


def _reason_against(trainer: Trainer, noise_unit: NoiseUnit) -> str | None:
    """Says in words why the gradient noise cannot be measured under a strategy; None if it can."""
    strategy: Any = trainer.strategy
    reason = reason_against_strategy(trainer)
    if reason is not None or not may_shard(trainer):
        return reason
    if not can_shard_again():
        return f"it needs fully_shard of torch.distributed.fsdp, from torch 2.6 on, got torch {torch.__version__}"
    if strategy.device_mesh["tensor_parallel"].size() > 1:
        size = strategy.device_mesh["tensor_parallel"].size()
        return f"tensor parallelism is not supported, got tensor_parallel_size={size}. Set it to 1"
    if noise_unit == "loader":
        return 'it averages gradients over processes as it computes them, so noise_unit must be "step", got "loader"'
    return None


def check_alone(trainer: Trainer, name: str) -> None:
    """Refuses a second callback of a class, which would log under the names of the first.

    Args:
        trainer: The trainer.
        name: Name of the class.

    Raises:
        MisconfigurationException: If the trainer has more than one.
    """
    if sum(is_a(callback, name) for callback in trainer.callbacks) > 1:  # type: ignore[attr-defined]
        raise MisconfigurationException(f"One {name} logs under the names of the other: use one per Trainer.")


def check_measurable(
    trainer: Trainer,
    module: LightningModule,
    noise_unit: NoiseUnit,
    what: str = "The gradient noise",
    *,
    calls_step: bool = True,
) -> None:
    """Refuses what cannot be measured, before training starts.

    Args:
        trainer: The trainer.
        module: The module that it will train.
        noise_unit: What a draw is.
        what: What is to be measured.
        calls_step: Whether it is measured by calling ``training_step``.

    Raises:
        MisconfigurationException: If the strategy replaces gradients or shards in a way that is not supported, or if
            calling ``training_step`` would step optimizers or read training's own iterator and the module does not
            define ``gradient_noise_step``.
    """
    reason = _reason_against(trainer, noise_unit)
    if reason is not None:
        name = type(trainer.strategy).__name__
        raise MisconfigurationException(f"{what} cannot be measured under {name}: {reason}.")
    if not calls_step or callable(getattr(module, STEP_METHOD, None)):
        return
    name, advice = type(module).__name__, f"Define {STEP_METHOD}(self, batch, batch_idx) on it, which returns the loss."
    if not module.automatic_optimization:
        raise MisconfigurationException(
            f"{name} optimizes manually, so calling its training_step would step its optimizers. {advice}"
        )
    if is_param_in_hook_signature(module.training_step, "dataloader_iter", explicit=True):
        raise MisconfigurationException(
            f"{name}.training_step takes dataloader_iter, so calling it would consume training's batches. {advice}"
        )


def check_parameters(trainer: Trainer, module: LightningModule, patterns: Iterable[re.Pattern[str]]) -> None:
    """Refuses expressions that match no parameter, and shards that cannot be measured, when training starts.

    Args:
        trainer: The trainer.
        module: The module, sharded already where the strategy shards.
        patterns: Expressions of the names of the parameters to measure.

    Raises:
        ValueError: If an expression matches nothing, or a parameter is not sharded as ``fully_shard`` does it.
        MisconfigurationException: If the module could not be copied as it is sharded.
    """
    wanted = tuple(patterns)
    check_patterns(module, wanted)
    if may_shard(trainer):
        reason = reason_against(module)
        if reason is not None:
            raise MisconfigurationException(f"{type(module).__name__} cannot be measured: {reason}.")
        gather_no_more(module)
        check_shards(measured_parameters(module, wanted))


def optimizer_steps(trainer: Trainer) -> int:
    """Returns the optimizer steps taken, however many optimizers there are.

    The x axis of Lightning's own logs is a count of batches that stepped. It is the same number, but one too many in a
    run that goes on from what a crash left.
    """
    is_single = trainer.lightning_module.automatic_optimization
    return int(trainer.global_step if is_single else trainer.fit_loop.epoch_loop._batches_that_stepped)


def steps_after_batch(trainer: Trainer) -> int:
    """Returns the optimizer steps taken at the end of a batch, the one of this batch included.

    Of manual optimization, the trainer counts a batch only after its callbacks have seen its end.
    """
    return optimizer_steps(trainer) + (0 if trainer.lightning_module.automatic_optimization else 1)


def last_step(trainer: Trainer, module: LightningModule) -> float:
    """Returns the step at which training will end; infinity where nobody knows, as for streams."""
    is_known = module.automatic_optimization and math.isfinite(trainer.num_training_batches)
    end = min(trainer.estimated_stepping_batches, _steps_of_schedule(trainer)) if is_known else math.inf
    epochs = _epochs_of_steps(trainer)
    if math.isfinite(end) and epochs > 0:
        end = min(end, epochs * math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches))
    return end if end > 0 else math.inf


def _epochs_of_steps(trainer: Trainer) -> int:
    """Epochs but for that of forward passes that averaging of weights adds for batch norms; -1 for any number."""
    every: list[Any] = list(trainer.callbacks)  # type: ignore[attr-defined]
    averages = (c for c in every if is_a(c, "StochasticWeightAveraging"))
    epochs = trainer.max_epochs or -1
    return epochs - (epochs > 0 and any(getattr(c, "_model_contains_batch_norm", False) for c in averages))


def _steps_of_schedule(trainer: Trainer) -> float:
    """The optimizer steps of all epochs where accumulation changes between them; infinity where it does not.

    Lightning's own estimate knows the accumulation of the present epoch alone, 1 before the first of them.
    """
    every: list[Any] = list(trainer.callbacks)  # type: ignore[attr-defined]
    schedules: list[dict[int, int]] = [c.scheduling for c in every if is_a(c, "GradientAccumulationScheduler")]
    epochs, batches = _epochs_of_steps(trainer), trainer.num_training_batches
    if not schedules or epochs < 0:
        return math.inf
    schedule = schedules[-1]  # which overwrites what the others set
    starts = sorted(epoch for epoch in schedule if epoch < epochs)
    spans = pairwise((*starts, epochs))
    return sum((after - epoch) * math.ceil(batches / schedule[epoch]) for epoch, after in spans)


def is_stepping(trainer: Trainer) -> bool:
    """Whether gradients are computed at all; stochastic weight averaging ends with an epoch of forward passes."""
    return not trainer.fit_loop.epoch_loop.automatic_optimization._skip_backward


def needs_loss_scale(trainer: Trainer) -> bool:
    """Whether gradients are computed in half precision, in which small ones underflow."""
    return str(trainer.precision) in {"16-mixed", "16-true", "transformer-engine-float16"}


def processes(trainer: Trainer, noise_unit: NoiseUnit = "step") -> Processes:
    """Returns the processes that train together."""
    if trainer.world_size == 1:
        return Processes(noise_unit=noise_unit)

    def average(tensor: Tensor) -> Tensor:
        return trainer.strategy.reduce(tensor, reduce_op="mean")  # in place

    def gather(tensor: Tensor) -> Tensor:
        # not by the strategy's way, which is differentiable and warns of torch's plans in each run
        own = tensor.contiguous()
        everyone = [torch.empty_like(own) for _ in range(trainer.world_size)]
        torch.distributed.all_gather(everyone, own)
        return torch.stack(everyone)

    def total(tensor: Tensor) -> Tensor:
        # shards may be kept in main memory, where processes on accelerators cannot add
        return trainer.strategy.reduce(tensor.to(device, copy=True), reduce_op="sum").to(tensor.device)

    device = trainer.strategy.root_device
    return Processes(trainer.world_size, average, device, gather, noise_unit, total if may_shard(trainer) else None)
