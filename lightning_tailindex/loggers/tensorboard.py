"""TensorBoard: scalars, histograms, figures, texts, hyperparameters and a dashboard of custom scalars."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, final

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.custom_scalar import layout_pb2, metadata
from torch.utils.tensorboard.summary import hparams

from lightning_tailindex.records import Histogram

from .sink import Band, Lines, Picture, Sink, Start, Table

__all__ = ["TensorBoardSink"]

_LARGEST = 1 << 24
"""Event files of more bytes take long to look through."""


@final
class TensorBoardSink(Sink):
    """Lightning's TensorBoardLogger, written to through its own writer."""

    classes: ClassVar[tuple[str, ...]] = ("TensorBoardLogger",)

    def begin(self, start: Start, step: int) -> None:
        """Writes the layout of the custom scalars, and hyperparameters where there are no others."""
        writer = self.logger.experiment.file_writer  # which add_scalar has opened
        # of several layouts in a run TensorBoard shows the last: each has all charts that are known by then
        ours = [_category(title, map(self._prefixed, charts)) for title, charts in start.charts.items()]
        others = [category for category in self._shown() if category.title not in start.charts]
        writer.add_summary(_summary(layout_pb2.Layout(category=[*others, *ours])))
        # TensorBoard shows a run's first hyperparameters and no others: those of the module go before ours
        if not self.logger.hparams:
            params = {f"{name}/{key}": v for name, values in start.hyperparameters.items() for key, v in values.items()}
            metrics = {self._tag(tag): 0.0 for tag in start.metrics}  # their names are written, no numbers
            for summary in hparams(params, metrics):  # type: ignore[no-untyped-call]
                writer.add_summary(summary, step)

    def _shown(self) -> Iterable[layout_pb2.Category]:
        """What the run's last layout shows, which may be the user's; nothing where its files are not on a disk."""
        self.logger.experiment.flush()
        found = [layout_pb2.Layout()]
        for path in sorted(Path(self.logger.experiment.log_dir).glob("*tfevents*")):
            with suppress(Exception):  # a link to nowhere, a file that is damaged
                found.extend(_layouts(path))
        return tuple(found[-1].category)

    def histograms(self, values: Mapping[str, Histogram], step: int) -> None:
        """Writes the bins as they are."""
        for tag, histogram in values.items():
            _add_histogram(self.logger.experiment, tag, histogram, step)

    def tables(self, values: Mapping[str, Table], step: int) -> None:
        """Writes tables as texts in Markdown."""
        for tag, table in values.items():
            self.logger.experiment.add_text(tag, table.markdown, step)

    def pictures(self, values: Mapping[str, Picture], step: int) -> None:
        """Writes figures as images."""
        for tag, picture in values.items():
            self.logger.experiment.add_image(tag, picture, step, dataformats="HWC")

    def _tag(self, tag: str) -> str:
        """Finds the tag of a scalar in the file, where Lightning puts the logger's prefix before it."""
        prefix = self.logger._prefix
        return f"{prefix}{self.logger.LOGGER_JOIN_CHAR}{tag}" if prefix else tag

    def _prefixed(self, chart: Lines | Band) -> Lines | Band:
        if isinstance(chart, Lines):
            return Lines(chart.title, tuple(map(self._tag, chart.tags)))
        return Band(chart.title, tuple((self._tag(a), self._tag(b), self._tag(c)) for a, b, c in chart.series))


def _add_histogram(writer: Any, tag: str, histogram: Histogram, step: int) -> None:
    filled = [i for i, count in enumerate(histogram.counts) if count]
    writer.add_histogram_raw(
        tag,
        # TensorBoard cuts empty bins at the ends and stretches the next to these limits
        min=histogram.edges[filled[0]],
        max=histogram.edges[filled[-1] + 1],
        num=sum(histogram.counts),
        sum=histogram.total,
        sum_squares=histogram.total_squares,
        bucket_limits=list(histogram.edges[1:]),
        bucket_counts=list(histogram.counts),
        global_step=step,
    )


def _chart(chart: Lines | Band) -> layout_pb2.Chart:
    if isinstance(chart, Lines):
        # TensorBoard takes expressions here, and every tag that starts with one
        tags = [f"{re.escape(tag)}$" for tag in chart.tags]
        return layout_pb2.Chart(title=chart.title, multiline=layout_pb2.MultilineChartContent(tag=tags))
    series = [layout_pb2.MarginChartContent.Series(value=a, lower=b, upper=c) for a, b, c in chart.series]
    return layout_pb2.Chart(title=chart.title, margin=layout_pb2.MarginChartContent(series=series))


def _category(title: str, charts: Iterable[Lines | Band]) -> layout_pb2.Category:
    return layout_pb2.Category(title=title, chart=map(_chart, charts))


def _summary(layout: layout_pb2.Layout) -> Summary:
    """Makes what ``SummaryWriter.add_custom_scalars`` writes, but for bands of more than one scalar."""
    content = layout.SerializeToString()
    tensor = TensorProto(dtype="DT_STRING", string_val=[content], tensor_shape=TensorShapeProto())
    plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME))
    return Summary(value=[Summary.Value(tag=metadata.CONFIG_SUMMARY_TAG, tensor=tensor, metadata=plugin)])


def _layouts(path: Path) -> Iterator[layout_pb2.Layout]:
    """Reads the layouts in an event file, if it is not large, without a look at checksums, which takes long."""
    tag, start = metadata.CONFIG_SUMMARY_TAG.encode(), 0
    content = path.read_bytes() if path.stat().st_size <= _LARGEST else b""
    size = len(content) if tag in content else 0
    while (end := start + 12 + int.from_bytes(content[start : start + 8], "little")) < size:
        # a length with its checksum, and a record with its own
        record = content[start + 12 : end]
        for value in Event.FromString(record).summary.value if tag in record else ():
            if value.tag == metadata.CONFIG_SUMMARY_TAG:
                yield layout_pb2.Layout.FromString(value.tensor.string_val[0])
        start = end + 4
