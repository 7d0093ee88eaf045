"""A training that uses everything a measurement could disturb, and a record of all it leaves behind."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.data import Dataset
from torchmetrics import Accuracy, CatMetric, MeanMetric, MetricCollection

OURS = ("tail_index", "gradient_noise", "standardized_noise", "weight_", "first_exit", "sharpness", "iterate_", "sgd/")


def mixed_half(init_scale: float = 2.0**16) -> MixedPrecision:
    """Half precision with a scaled loss, on a CPU."""
    return MixedPrecision("16-mixed", device="cpu", scaler=torch.amp.GradScaler("cpu", init_scale=init_scale))


class NoisyData(Dataset):
    """Classification samples with random augmentation by every source of randomness there is."""

    def __init__(self, size: int = 40) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(size, 6, generator=generator)
        self.y = torch.randint(3, (size,), generator=generator)
        self.own = np.random.default_rng(3)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.reads += 1
        noise = random.gauss(0, 0.1) + np.random.normal(0, 0.1) + self.own.normal(0, 0.1)  # noqa: NPY002
        return self.x[index] + noise + 0.1 * torch.randn(6), self.y[index]


class Net(LightningModule):
    """BatchNorm, Dropout, metrics, logging, a user's list and counter."""

    def __init__(self, optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(8, 3)
        self.accuracy = Accuracy("multiclass", num_classes=3)
        self.collection = MetricCollection({"mean": MeanMetric(), "cat": CatMetric()})
        self.history: list[float] = []
        self.seen = 0
        self.centre = torch.zeros(6)
        self.make_optimizer = optimizer

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch[0].clone(), batch[1].clone()
        batch[0].zero_()  # what a step does to its batch is its own business
        self.seen += len(x)
        self.centre.lerp_(x.mean(0).float(), 0.1)
        logits = self.head(self.body(x))
        loss = nn.functional.cross_entropy(logits, y)
        self.history.append(loss.item())
        self.accuracy(logits, y)
        self.collection.update(loss.detach().float())
        self.log("loss", loss, on_step=True, on_epoch=True, batch_size=len(x))
        self.log("accuracy", self.accuracy, on_step=True, on_epoch=True, batch_size=len(x))
        self.log("random", torch.rand(()), batch_size=len(x))
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.parameters(), lr=0.05)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)}


def tensors(batch: Any) -> Iterator[Tensor]:
    """The tensors in a batch of whatever kind, objects of the user's own included."""
    if isinstance(batch, Tensor):
        yield batch
        return
    items = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, (list, tuple)) else ()
    for item in (*items, *getattr(batch, "__dict__", {}).values()):
        yield from tensors(item)


class Recorder(Callback):
    """Writes down each batch that training sees and each optimizer step's gradients."""

    def __init__(self) -> None:
        self.batches: list[Tensor] = []
        self.gradients: list[Tensor] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.batches.extend(tensor.clone() for tensor in tensors(batch))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.gradients.append(torch.cat([p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]))


class NaiveMeasurement(Callback):
    """What one would write first: the control. It reads training's loader and calls training's own module."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx % 2 == 0:
            extra = tree_map(lambda loader: next(iter(loader)), trainer.train_dataloader)
            extra = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(extra))
            with trainer.precision_plugin.train_step_context():
                loss = pl_module.training_step(extra, 0)
            torch.autograd.grad(loss, [p for p in pl_module.parameters() if p.requires_grad], allow_unused=True)


@dataclass
class Trace:
    """Everything that training leaves behind, by name."""

    values: dict[str, object] = field(default_factory=dict)

    def differences(self, other: Trace) -> list[str]:
        """Names what is not bit for bit the same."""
        names = sorted(set(self.values) | set(other.values))
        return [name for name in names if not _same(self.values.get(name), other.values.get(name))]


def _same(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return bool(np.array_equal(a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b) or (a != a and b != b)


def _is_own(name: str) -> bool:
    return name.startswith(OURS)


def _random_states() -> dict[str, object]:
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}  # noqa: NPY002


def _logged(logger: CSVLogger) -> list[dict[str, object]]:
    rows = ({k: v for k, v in row.items() if not _is_own(k)} for row in logger.all_rows)
    return [row for row in rows if set(row) - {"step"}]


class KeptCSVLogger(CSVLogger):
    """A CSVLogger that also keeps the rows."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.all_rows: list[dict[str, object]] = []

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.all_rows.append({**{k: float(v) for k, v in metrics.items()}, "step": step})


def trace(trainer: Trainer, module: LightningModule, recorder: Recorder, logger: KeptCSVLogger) -> Trace:
    """Collects what a training left behind."""
    attributes = {k: v for k, v in vars(module).items() if isinstance(v, (list, int, float, Tensor))}
    metrics = {k: v for k, v in trainer.callback_metrics.items() if not _is_own(k)}
    checkpoint: Any = trainer.checkpoint_callback
    dataset = getattr(trainer.train_dataloader, "dataset", None)
    saved = torch.load(checkpoint.best_model_path, weights_only=False) if checkpoint.best_model_path else {}
    return Trace(
        {
            "parameters": dict(module.named_parameters()),
            "requires_grad": [p.requires_grad for p in module.parameters()],
            "buffers": dict(module.named_buffers()),
            "optimizer": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "scheduler": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
            "batches": recorder.batches,
            "gradients": recorder.gradients,
            "logged": _logged(logger),
            "callback_metrics": metrics,
            "checkpoint": {k: saved.get(k) for k in ("state_dict", "optimizer_states", "lr_schedulers", "global_step")},
            "torchmetrics": [m.metric_state for m in module.modules() if hasattr(m, "metric_state")],
            "attributes": attributes,
            "dataset": {k: v for k, v in vars(dataset).items() if isinstance(v, (int, list))} if dataset else None,
            "sampler": getattr(getattr(trainer.train_dataloader, "sampler", None), "__dict__", {}).get("position"),
            "loader": trainer.train_dataloader.state_dict()
            if hasattr(trainer.train_dataloader, "state_dict")
            else None,
            "random": _random_states(),
            "loggers": [type(item).__name__ for item in trainer.loggers],
            "steps": (trainer.global_step, trainer.current_epoch),
        }
    )


def seed_everything() -> None:
    """Seeds without Lightning's own function, which would set environment variables for the tests after."""
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    torch.manual_seed(7)


def train(
    path: str,
    loader: Callable[[], Any],
    callbacks: Iterable[Callback] = (),
    module: Callable[[], LightningModule] = Net,
    make_logger: Callable[[str], KeptCSVLogger] = KeptCSVLogger,
    more_loggers: Callable[[str], list[Logger]] = lambda path: [],
    ckpt_path: str | None = None,
    **options: Any,
) -> tuple[Trace, Trainer]:
    """Trains from fixed seeds and returns all that is left behind."""
    seed_everything()
    recorder, logger = Recorder(), make_logger(f"{path}/logs")
    net = module()
    settings = {
        "max_epochs": 3,
        "accelerator": "cpu",
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        **options,
    }
    extra = [ModelCheckpoint(f"{path}/checkpoints")]
    loggers = [logger, *more_loggers(path)]
    trainer = Trainer(logger=loggers, callbacks=[*callbacks, recorder, *extra], default_root_dir=path, **settings)
    with contextlib.suppress(SystemExit):  # how Lightning ends after a KeyboardInterrupt
        trainer.fit(net, loader(), ckpt_path=ckpt_path)
    return trace(trainer, net, recorder, logger), trainer
