"""A small training that logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import TailIndexMonitor

GROUPS = ("first", "second", "whole_model")
FIGURES = ("alpha_over_steps", "alpha_heatmap", "noise_density")


class TwoLayers(LightningModule):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, width), nn.Linear(width, 2)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.second(self.first(batch[0]).relu()), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class WithHyperparameters(TwoLayers):
    def __init__(self, width: int = 6) -> None:
        super().__init__(width)
        self.save_hyperparameters()


def monitor(**options: Any) -> TailIndexMonitor:
    """Measures at steps 0, 10, 20 and 30, 32 draws each."""
    settings: dict[str, Any] = {"every_n_steps": 10, "num_minibatches": 32, "figures_every": 2, "on_error": "raise"}
    return TailIndexMonitor(**{**settings, **options})


def fit(logger: Any, *callbacks: Callback, module: LightningModule | None = None, **options: Any) -> Trainer:
    """Trains for 40 steps."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(160, 4, generator=generator), torch.randint(2, (160,), generator=generator)
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", logger=logger, callbacks=list(callbacks), **{**quiet, **options})
    data = DataLoader(TensorDataset(x, y), batch_size=4, shuffle=True, generator=generator)
    trainer.fit(TwoLayers() if module is None else module, data)
    return trainer


def events_in(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), {"scalars": 0, "images": 0, "tensors": 0, "histograms": 0}).Reload()


def text(events: EventAccumulator, tag: str) -> str:
    """The last text of a tag, its long cells in one line."""
    (string,) = events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val
    return str(string.decode()).replace("<br>", " ")


def categories(events: EventAccumulator) -> list[dict[str, Any]]:
    """Charts of the custom scalars' layouts by category, of every layout that was written."""
    written = [event.tensor_proto.string_val[0] for event in events.Tensors("custom_scalars__config__")]
    return [{each.title: list(each.chart) for each in Layout.FromString(string).category} for string in written]


def layout(events: EventAccumulator) -> dict[str, Any]:
    """Charts of the only category of the custom scalars' first layout, by title."""
    (charts,) = categories(events)[0].values()
    return {chart.title: chart for chart in charts}
