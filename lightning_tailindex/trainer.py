"""All that knows Lightning's insides: loaders, precision, strategies, ranks, and how to leave them alone."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.fabric.utilities.data import sized_len
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor
from torch.utils._pytree import tree_unflatten

from .noise.copying import copy_data
from .noise.engine import Processes
from .noise.loaders import can_be_cloned, shuffled_batches
from .noise.minibatches import LoaderBatch, SweepPlan, guess_size
from .noise.random_state import isolated_random_state
from .noise.shadow import alias_shadow

__all__ = [
    "Replay",
    "borrowed_loss",
    "can_read_again",
    "check_measurable",
    "is_stepping",
    "needs_loss_scale",
    "optimizer_steps",
    "processes",
    "sweep_plan",
    "training_data",
]

STEP_METHOD = "gradient_noise_step"
"""What a module defines to say itself which loss is measured."""

_STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")
_ENDLESS_MODES = ("min_size", "max_size_cycle")


def _is_a(item: object, name: str) -> bool:
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
    if not any(_is_a(strategy, name) for name in _STRATEGIES):
        raise MisconfigurationException(
            f"The gradient noise cannot be measured under {type(strategy).__name__}: its parameters or gradients are"
            " not whole on one device. Use a single device or DDP."
        )
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
    """Returns the optimizer steps taken, however many optimizers there are: the x axis of Lightning's own logs."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def is_stepping(trainer: Trainer) -> bool:
    """Whether gradients are computed at all; stochastic weight averaging ends with an epoch of forward passes."""
    return not trainer.fit_loop.epoch_loop.automatic_optimization._skip_backward


def needs_loss_scale(trainer: Trainer) -> bool:
    """Whether gradients are computed in half precision, in which small ones underflow."""
    return str(trainer.precision) in {"16-mixed", "16-true", "transformer-engine-float16"}


def processes(trainer: Trainer) -> Processes:
    """Returns the processes that train together."""
    if trainer.world_size == 1:
        return Processes()

    def mean(tensor: Tensor) -> Tensor:
        # reduce works in place on its argument
        return trainer.strategy.reduce(tensor.clone(), reduce_op="mean")

    return Processes(trainer.world_size, mean)


def _combined_loader(trainer: Trainer) -> Any:
    return trainer.fit_loop._combined_loader


def can_read_again(trainer: Trainer) -> bool:
    """Whether the training data can be read a second time; streams cannot, and are replayed."""
    combined = _combined_loader(trainer)
    is_endless = len(combined.flattened) == 1 or combined._mode in _ENDLESS_MODES
    return is_endless and all(can_be_cloned(item) and sized_len(item) is not None for item in combined.flattened)


def sweep_plan(trainer: Trainer, num_minibatches: int, full_gradient_batches: int | None) -> SweepPlan:
    """Plans a measurement over data that can be read again.

    Args:
        trainer: The trainer, whose limits on batches and accumulation are followed.
        num_minibatches: Noise draws.
        full_gradient_batches: Minibatches averaged into the full gradient; None for a whole sweep.

    Returns:
        The plan.
    """
    return SweepPlan(
        num_minibatches=num_minibatches,
        full_gradient_batches=full_gradient_batches,
        sweep_length=int(trainer.num_training_batches),
        accumulation=trainer.accumulate_grad_batches,
        batch_size=_combined_loader(trainer).flattened[0].batch_size,
    )


def training_data(trainer: Trainer, seed: tuple[int, ...]) -> Iterator[LoaderBatch]:
    """Reads the training data in an order of its own, without end; training's loaders are not iterated.

    Args:
        trainer: The trainer.
        seed: Integers that determine the order.

    Yields:
        The batches as the trainer's loader would give them, before they are moved to the device.
    """
    combined = _combined_loader(trainer)
    streams = [
        shuffled_batches(loader, int(min(len(loader), trainer.num_training_batches)), (*seed, i), trainer.global_rank)
        for i, loader in enumerate(combined.flattened)
    ]
    for batches in zip(*streams, strict=False):
        yield LoaderBatch(tree_unflatten([batch.data for batch in batches], combined._spec), batches[0].size)


class Replay:
    """The last batches that training itself saw, for data that cannot be read a second time.

    Args:
        length: Batches to keep.
    """

    def __init__(self, length: int) -> None:
        self._batches: deque[object] = deque(maxlen=length)

    @property
    def is_full(self) -> bool:
        """Whether all the batches asked for have been seen."""
        return len(self._batches) == self._batches.maxlen

    def see(self, batch: object) -> None:
        """Keeps a copy of a batch that training is about to use, in main memory."""
        self._batches.append(copy.deepcopy(move_data_to_device(batch, "cpu")))

    def __iter__(self) -> Iterator[LoaderBatch]:
        for batch in self._batches:
            yield LoaderBatch(copy.deepcopy(batch), guess_size(batch))


def _ignore(*args: object, **kwargs: object) -> None:
    """Stands where the shadow would log."""


def _shadow(trainer: Trainer, module: LightningModule) -> LightningModule:
    shadow = alias_shadow(module, share=(trainer, *trainer.loggers, *_callbacks(trainer), _datamodule(trainer)))
    shadow.trainer = trainer
    for part in shadow.modules():
        if _is_a(part, "LightningModule"):
            vars(part).update(log=_ignore, log_dict=_ignore, print=_ignore)
    return shadow


def _callbacks(trainer: Trainer) -> Iterable[object]:
    return trainer.callbacks  # type: ignore[attr-defined, no-any-return]


def _datamodule(trainer: Trainer) -> object:
    return getattr(trainer, "datamodule", None)


def _transfer(trainer: Trainer, shadow: LightningModule) -> Callable[[object], object]:
    """Returns what takes a batch the trainer's way to the device, with the user's hooks called on copies."""
    selector = trainer._data_connector._datahook_selector
    assert selector is not None
    datamodule = copy_data(_datamodule(trainer), share=(trainer, shadow))

    def hook(name: str, *args: object) -> object:
        is_module = _is_a(selector.get_instance(name), "LightningModule")
        return getattr(shadow if is_module else datamodule, name)(*args, 0)

    def transfer(batch: object) -> object:
        batch = hook("on_before_batch_transfer", trainer.precision_plugin.convert_input(batch))
        batch = hook("transfer_batch_to_device", batch, trainer.strategy.root_device)
        return hook("on_after_batch_transfer", batch)

    return transfer


def _step(shadow: LightningModule) -> Callable[[object, int], object]:
    """Returns the method whose loss is measured, called as the training loop would call it."""
    own = getattr(shadow, STEP_METHOD, None)
    if callable(own):
        return own  # type: ignore[no-any-return]
    if is_param_in_hook_signature(shadow.training_step, "batch_idx", min_args=2):
        return shadow.training_step
    return lambda batch, batch_idx: shadow.training_step(batch)


def _loss(output: object) -> Tensor | None:
    loss = output.get("loss") if isinstance(output, Mapping) else output
    if loss is None:
        return None  # training would skip this batch too
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise ValueError(f"the loss to measure must be a tensor with a gradient, got {type(loss).__name__}.")
    return loss


@contextmanager
def borrowed_loss(
    trainer: Trainer, module: LightningModule, seed: int, *, is_transferred: bool
) -> Iterator[tuple[LightningModule, Callable[[object], Tensor | None]]]:
    """Lends a shadow of the module and the loss of a batch on it; nothing that training uses is touched.

    Random states and the trainer's loggers are put aside and come back, whatever happens.

    Args:
        trainer: The trainer.
        module: The module in training.
        seed: Seed of the random states inside.
        is_transferred: Whether the batches have gone the trainer's way to the device already.

    Yields:
        The shadow, whose trainable parameters share the module's storage, and a function from a batch to its loss.
    """
    device = trainer.strategy.root_device
    loggers = trainer.loggers
    with isolated_random_state(seed, device):
        try:
            shadow = _shadow(trainer, module)
            step = _step(shadow)
            transfer = partial(move_data_to_device, device=device) if is_transferred else _transfer(trainer, shadow)
            trainer.loggers = [DummyLogger()] if loggers else []
            seen = 0

            def loss(batch: object) -> Tensor | None:
                nonlocal seen
                moved = transfer(batch)
                with trainer.precision_plugin.train_step_context():
                    output = step(moved, seen)
                seen += 1
                return _loss(output)

            yield shadow, loss
        finally:
            trainer.loggers = loggers
