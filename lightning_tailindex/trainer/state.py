"""Where training stands, and whether it can be measured."""

from __future__ import annotations

import math

from torch import Tensor

from lightning_tailindex.noise.processes import NoiseUnit, Processes

from .flavour import LightningModule, MisconfigurationException, Trainer, is_param_in_hook_signature

__all__ = ["check_measurable", "is_a", "is_stepping", "last_step", "needs_loss_scale", "optimizer_steps", "processes"]

STEP_METHOD = "gradient_noise_step"
"""What a module defines to say itself which loss is measured."""

_STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")
_FOREIGN = ("DeepSpeed", "XLA", "FSDP", "ModelParallel")
"""Strategies that build on those above and yet keep parameters or gradients elsewhere."""


def is_a(item: object, name: str) -> bool:
    """Whether an object is of a class of that name, be it ``lightning.pytorch``'s or ``pytorch_lightning``'s."""
    return any(cls.__name__ == name for cls in type(item).__mro__)


def check_measurable(trainer: Trainer, module: LightningModule) -> None:
    """Refuses what cannot be measured, before training starts.

    Args:
        trainer: The trainer.
        module: The module that it will train.

    Raises:
        MisconfigurationException: If the strategy shards or replaces gradients, or if calling ``training_step`` would
            step optimizers or read training's own iterator and the module does not define ``gradient_noise_step``.
    """
    strategy = trainer.strategy
    is_known = any(is_a(strategy, name) for name in _STRATEGIES)
    if not is_known or any(part in cls.__name__ for cls in type(strategy).__mro__ for part in _FOREIGN):
        raise MisconfigurationException(
            f"The gradient noise cannot be measured under {type(strategy).__name__}: its parameters or gradients are"
            " not whole on one device. Use a single device or DDP."
        )
    if sum(is_a(callback, "TailIndexMonitor") for callback in trainer.callbacks) > 1:  # type: ignore[attr-defined]
        raise MisconfigurationException("One TailIndexMonitor logs under the names of the other: use one per Trainer.")
    if callable(getattr(module, STEP_METHOD, None)):
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


def optimizer_steps(trainer: Trainer) -> int:
    """Returns the optimizer steps taken, however many optimizers there are.

    The x axis of Lightning's own logs is a count of batches that stepped. It is the same number, but one too many in a
    run that goes on from what a crash left.
    """
    is_single = trainer.lightning_module.automatic_optimization
    return int(trainer.global_step if is_single else trainer.fit_loop.epoch_loop._batches_that_stepped)


def last_step(trainer: Trainer, module: LightningModule) -> float:
    """Returns the step at which training will end; infinity where nobody knows, as for streams."""
    is_known = module.automatic_optimization and math.isfinite(trainer.num_training_batches)
    end = trainer.estimated_stepping_batches if is_known else math.inf
    return end if end > 0 else math.inf


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

    def mean(tensor: Tensor) -> Tensor:
        # reduce works in place on its argument
        return trainer.strategy.reduce(tensor.clone(), reduce_op="mean")

    def gather(tensor: Tensor) -> Tensor:
        return trainer.strategy.all_gather(tensor)

    return Processes(trainer.world_size, mean, trainer.strategy.root_device, gather, noise_unit)
