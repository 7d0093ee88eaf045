"""What one TensorBoard event file holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import HistogramProto
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.plugins.text import metadata as text_metadata

from lightning_tailindex.records import Histogram

from .names import LAWS, meaning

__all__ = ["Events", "read_events"]

_FRAME = 16  # bytes of a record in a file beside its content: its length and two checksums
_TEXT_SUFFIX = "/text_summary"  # which SummaryWriter.add_text puts behind a tag


@dataclass
class Events:
    """What was logged, by tag and step; what was logged last counts, as after a resumption.

    A run that went back to an earlier checkpoint logs a report at a step before that of its last one. The reports of
    later steps are then of a branch that was abandoned, and are dropped; what others have logged is kept.

    Attributes:
        scalars: Numbers.
        histograms: Histograms.
        texts: Texts.
        hparams: Hyperparameters by name.
        dropped: Steps whose reports were dropped, each with the step that the run was measured at again.
        count: Events read.
    """

    scalars: dict[str, dict[int, float]] = field(default_factory=dict)
    histograms: dict[str, dict[int, Histogram]] = field(default_factory=dict)
    texts: dict[str, dict[int, str]] = field(default_factory=dict)
    hparams: dict[str, str | float | bool] = field(default_factory=dict)
    dropped: dict[int, int] = field(default_factory=dict)
    count: int = 0


def read_events(path: Path, into: Events) -> str:
    """Reads an event file behind what was read of earlier ones.

    Args:
        path: The file.
        into: What the earlier files of the same run hold, to which this one's is added.

    Returns:
        What is wrong with the file, in words: it is empty, broken or cannot be opened; what comes before the broken
        place is read. Empty where nothing is.
    """
    before = into.count
    try:
        for event in _events(path):
            into.count += 1
            for value in event.summary.value:
                _take(value, event.step, into)
    except Exception as error:  # whatever a file holds, the other files are read
        read = into.count - before
        what = str(error) or type(error).__name__
        return f"{what}; the {read} events before are read" if read else what
    return ""


def _events(path: Path) -> Iterator[Any]:
    if path.stat().st_size == 0:
        raise EOFError("the file is empty")
    consumed = 0
    # TensorBoard's reader ends at a broken record without a word: it may be one that is still being written
    with path.open("rb"):  # which says why it cannot be opened
        loader = RawEventFileLoader(str(path))
    for record in loader.Load():
        consumed += len(record) + _FRAME
        yield Event.FromString(record)
    if consumed < path.stat().st_size:
        raise EOFError(f"the file is broken or cut off after {consumed} of {path.stat().st_size} bytes")


def _take(value: Any, step: int, into: Events) -> None:
    kind, plugin = value.WhichOneof("value"), value.metadata.plugin_data
    if plugin.plugin_name == hparams_metadata.PLUGIN_NAME:
        into.hparams.update(_hparams(plugin.content))
    elif kind == "simple_value":
        if _is_earlier(value.tag, step, into):
            _drop_after(step, into)
        into.scalars.setdefault(value.tag, {})[step] = value.simple_value
    elif kind == "histo" and _is_usable(value.histo):
        into.histograms.setdefault(value.tag, {})[step] = _histogram(value.histo)
    elif plugin.plugin_name == text_metadata.PLUGIN_NAME and value.tensor.string_val:
        text = value.tensor.string_val[0].decode("utf-8", errors="replace")
        into.texts.setdefault(value.tag.removesuffix(_TEXT_SUFFIX), {})[step] = text


def _is_earlier(tag: str, step: int, into: Events) -> bool:
    """Whether a report was logged at a later step already, told by a number that it alone logs, and once.

    Its other numbers may be logged by others: those that runs are compared by are, with hyperparameters, at step 0.
    """
    meant = meaning(tag)
    is_of_report = meant is not None and meant.record == "report"
    # steps ascend, for those after an earlier one are dropped
    return is_of_report and step < next(reversed(into.scalars.get(tag, {})), step)


def _drop_after(step: int, into: Events) -> None:
    kinds: tuple[dict[str, dict[int, Any]], ...] = (into.scalars, into.histograms, into.texts)
    for values in (values for kind in kinds for tag, values in kind.items() if tag == LAWS or meaning(tag)):
        for later in [each for each in values if each > step]:
            into.dropped[later] = step
            del values[later]


def _is_usable(histo: HistogramProto) -> bool:
    counts, limits = list(histo.bucket), list(histo.bucket_limit)
    return 1 < len(counts) == len(limits) and math.isfinite(sum(counts))


def _histogram(histo: HistogramProto) -> Histogram:
    limits = [float(limit) for limit in histo.bucket_limit]
    first = 2 * limits[0] - limits[1]  # files have no lower edge; our bins are of one width
    counts = tuple(int(count) for count in histo.bucket)
    return Histogram((first, *limits), counts, histo.sum, histo.sum_squares)


def _hparams(content: bytes) -> dict[str, str | float | bool]:
    session = HParamsPluginData.FromString(content).session_start_info
    found = {name: getattr(v, v.WhichOneof("kind") or "string_value") for name, v in session.hparams.items()}
    return {name: value for name, value in found.items() if isinstance(value, (str, float, bool))}
