"""Weights & Biases: scalars, histograms, figures, tables and the run's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar, final

from lightning_tailindex.records import Histogram

from .sink import Picture, Sink, Start, Table

__all__ = ["WandbSink"]


@final
class WandbSink(Sink):
    """Lightning's WandbLogger. Each kind goes in one call, because each call is a step of W&B's own count."""

    classes: ClassVar[tuple[str, ...]] = ("WandbLogger",)

    def begin(self, start: Start, step: int) -> None:
        """Adds hyperparameters to the run's configuration."""
        self.logger.log_hyperparams(start.hyperparameters)

    def histograms(self, values: Mapping[str, Histogram], step: int) -> None:
        """Logs the bins as they are."""
        wandb = _wandb()
        self._log({tag: wandb.Histogram(np_histogram=(h.counts, h.edges)) for tag, h in values.items()}, step)

    def tables(self, values: Mapping[str, Table], step: int) -> None:
        """Logs tables."""
        wandb = _wandb()
        made = {
            tag: wandb.Table(columns=list(table.columns), data=[list(row) for row in table.rows])
            for tag, table in values.items()
        }
        self._log(made, step)

    def pictures(self, values: Mapping[str, Picture], step: int) -> None:
        """Logs figures as images."""
        wandb = _wandb()
        self._log({tag: wandb.Image(picture) for tag, picture in values.items()}, step)

    def _log(self, values: dict[str, Any], step: int) -> None:
        if values:  # of nothing it makes a row too
            self.logger.log_metrics(values, step=step)


def _wandb() -> Any:
    return import_module("wandb")  # it is there where its logger is
