"""MLflow: scalars and hyperparameters; figures and texts as artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

from lightning_tailindex.records import Histogram

from .sink import Picture, Sink, Start, Table

__all__ = ["MLFlowSink"]


@final
class MLFlowSink(Sink):
    """Lightning's MLFlowLogger, written to through its own client."""

    classes: ClassVar[tuple[str, ...]] = ("MLFlowLogger",)
    left_out: ClassVar[str] = "histograms"

    def begin(self, start: Start, step: int) -> None:
        """Logs hyperparameters."""
        self.logger.log_hyperparams(start.hyperparameters)

    def histograms(self, values: Mapping[str, Histogram], step: int) -> None:
        """Leaves them out: MLflow has none."""

    def tables(self, values: Mapping[str, Table], step: int) -> None:
        """Logs tables in Markdown, one file a step."""
        for tag, table in values.items():
            self.logger.experiment.log_text(self.logger.run_id, table.markdown, _file(tag, step, "md"))

    def pictures(self, values: Mapping[str, Picture], step: int) -> None:
        """Logs figures, one file a step."""
        for tag, picture in values.items():
            self.logger.experiment.log_image(self.logger.run_id, picture, _file(tag, step, "png"))


def _file(tag: str, step: int, kind: str) -> str:
    return f"{tag}/step_{step:08d}.{kind}"  # so that files sort by their steps
