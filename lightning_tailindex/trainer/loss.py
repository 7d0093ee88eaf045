"""The loss of a batch on a shadow of the module, with everything that training uses put aside."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from itertools import count
from types import MethodType
from typing import Any

import torch

from lightning_tailindex.noise.copying import copy_data
from lightning_tailindex.noise.emptying import emptied_afterwards
from lightning_tailindex.noise.random_state import isolated_random_state
from lightning_tailindex.noise.reaching import is_a
from lightning_tailindex.noise.shadow import alias_shadow
from lightning_tailindex.noise.touched import told_if_touched

from .flavour import (
    LightningModule,
    PassThroughProfiler,
    Trainer,
    is_param_in_hook_signature,
    move_data_to_device,
    rank_zero_warn,
)
from .optimizers import hand_over, held_by, twin_of_strategy
from .silence import Silence, SilentLogger
from .state import STEP_METHOD

__all__ = ["borrowed_loss"]

_LOGGING = ("log", "log_dict", "print")


def _ignore(*args: object, **kwargs: object) -> None:
    """Stands where the shadow would log."""


def _is_silenced(method: MethodType, trainer: Trainer) -> bool:
    if method.__self__ is trainer:
        return method.__name__ == "save_checkpoint"
    return method.__name__ in _LOGGING and is_a(method.__self__, "LightningModule")


def _backward(part: Any, twin: Trainer, *args: object, **kwargs: object) -> None:
    """Stands for ``manual_backward``, of which callbacks do not hear: their hooks are training's."""
    heard, twin.callbacks = _callbacks(twin), []  # type: ignore[attr-defined]
    try:
        type(part).manual_backward(part, *args, **kwargs)
    finally:
        twin.callbacks = heard  # type: ignore[attr-defined]


def _twin_of_trainer(trainer: Trainer) -> Trainer:
    """Returns a trainer for the shadow to read from: what is set on it, ``should_stop`` say, is set on nobody else."""
    twin: Any = copy.copy(trainer)
    twin.loggers = [SilentLogger(logger) for logger in trainer.loggers]
    # what a step measures of itself by the profiler, and saves, is training's
    twin.profiler, twin.save_checkpoint = PassThroughProfiler(), _ignore
    # a method of the module's class may log too: only those of the shadow itself are replaced
    twin.fit_loop, twin._logger_connector = copy.copy(twin.fit_loop), copy.copy(twin._logger_connector)
    metrics = vars(twin._logger_connector)  # what a step reads of them it may write, too
    metrics.update({name: dict(value) for name, value in metrics.items() if isinstance(value, dict)})
    twin.fit_loop.epoch_loop = copy.copy(twin.fit_loop.epoch_loop)
    twin.fit_loop.epoch_loop._results = Silence()
    twin._accelerator_connector = copy.copy(twin._accelerator_connector)
    twin._accelerator_connector.strategy = twin_of_strategy(trainer.strategy)
    around = (trainer, trainer.lightning_module)
    twin.datamodule = copy_data(_datamodule(trainer), share=around, is_read=False)
    if twin.datamodule is not None:
        vars(twin.datamodule)["trainer"] = twin
    return twin  # type: ignore[no-any-return]


def _shadow(trainer: Trainer, module: LightningModule) -> LightningModule:
    twin = _twin_of_trainer(trainer)
    originals = (trainer, trainer.strategy, _datamodule(trainer), *trainer.loggers)
    pairs = zip(originals, (twin, twin.strategy, _datamodule(twin), *twin.loggers), strict=True)
    stand_ins: dict[int, object] = {id(original): stand_in for original, stand_in in pairs if original is not None}
    kept = {id(callback) for callback in _callbacks(trainer)}

    def replace(item: object) -> object | None:
        if is_a(item, "SummaryWriter"):
            return Silence(item)
        if isinstance(item, MethodType) and _is_silenced(item, trainer):
            return _ignore
        return item if id(item) in kept else stand_ins.get(id(item))

    # who steps the others is the training step, by hand: averages of weights, say, also where a list hides them
    shadow = alias_shadow(module, replace, held_by(trainer.strategy.optimizers))
    hand_over(twin.strategy.optimizers, module, shadow)
    shadow.trainer = twin
    twin.strategy._lightning_module = twin.strategy.model = shadow
    for part in shadow.modules():
        if is_a(part, "LightningModule"):
            vars(part).update(dict.fromkeys(_LOGGING, _ignore), manual_backward=partial(_backward, part, twin))
    return shadow


@contextmanager
def _untied_afterwards(shadow: LightningModule) -> Iterator[None]:
    """Frees the shadow at once: it and its trainer refer to each other, and a collector may come late."""
    try:
        yield
    finally:
        strategy: Any = shadow.trainer.strategy
        strategy._lightning_module = strategy.model = None
        shadow.trainer = None


def _callbacks(trainer: Trainer) -> Iterable[object]:
    return trainer.callbacks  # type: ignore[attr-defined, no-any-return]


def _datamodule(trainer: Trainer) -> object:
    return getattr(trainer, "datamodule", None)


def _transfer(trainer: Trainer, shadow: LightningModule) -> Callable[[object], object]:
    """Returns what takes a batch the trainer's way to the device, with the user's hooks called on copies."""
    selector = trainer._data_connector._datahook_selector
    assert selector is not None
    datamodule = _datamodule(shadow.trainer)

    def hook(name: str, *args: object) -> object:
        is_module = is_a(selector.get_instance(name), "LightningModule")
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


@contextmanager
def borrowed_loss(
    trainer: Trainer,
    module: LightningModule,
    seed: int,
    in_step: Callable[[], None],
    *,
    is_transferred: bool,
    is_mixed: bool = True,
) -> Iterator[tuple[LightningModule, Callable[..., Any]]]:
    """Lends a shadow of the module and the loss of a batch on it; nothing that training uses is touched.

    Random states come back, whatever happens. If something of the module is touched in spite of it, a warning says so.

    Args:
        trainer: The trainer.
        module: The module in training.
        seed: Seed of the random states inside.
        in_step: Called before each pass, when everything that it needs is there.
        is_transferred: Whether the batches have gone the trainer's way to the device already.
        is_mixed: Whether autocast is on where it is in training; otherwise operations are in the parameters' type.

    Yields:
        The shadow, whose trainable parameters share the module's storage, and a function from a batch, and the number
        that the step is told (None: it counts), to the batch's loss.
    """
    device = trainer.strategy.root_device
    with isolated_random_state(seed, device):
        shadow = _shadow(trainer, module)
        step = _step(shadow)
        transfer = partial(move_data_to_device, device=device) if is_transferred else _transfer(trainer, shadow)
        seen, is_full = count(), not is_mixed and is_a(trainer.precision_plugin, "MixedPrecision")

        def loss(batch: object, batch_idx: int | None = None) -> Any:
            moved = transfer(batch)
            in_step()
            full = torch.autocast(device.type, enabled=False) if is_full else nullcontext()
            with trainer.precision_plugin.train_step_context(), full:
                output = step(moved, next(seen) if batch_idx is None else batch_idx)
            return output.get("loss") if isinstance(output, Mapping) else output

        with emptied_afterwards(shadow, module), _untied_afterwards(shadow), told_if_touched(module, rank_zero_warn):
            yield shadow, loss
