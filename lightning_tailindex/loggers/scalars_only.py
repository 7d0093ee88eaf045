"""Loggers that take numbers, and loggers that nobody has written a class for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, final

from lightning_tailindex.records import Histogram

from .sink import Picture, Sink, Start, Table

__all__ = ["CSVSink", "SilentSink", "UnknownSink"]


class _ScalarsOnly(Sink):
    takes_pictures: ClassVar[bool] = False

    def begin(self, start: Start, step: int) -> None:
        pass

    def histograms(self, values: Mapping[str, Histogram], step: int) -> None:
        pass

    def tables(self, values: Mapping[str, Table], step: int) -> None:
        pass

    def pictures(self, values: Mapping[str, Picture], step: int) -> None:
        pass


@final
class CSVSink(_ScalarsOnly):
    """Lightning's CSVLogger. Its hparams.yaml is left alone: modules are loaded from it."""

    classes: ClassVar[tuple[str, ...]] = ("CSVLogger",)
    left_out: ClassVar[str] = "histograms, figures and texts"


@final
class SilentSink(_ScalarsOnly):
    """What Lightning puts in a logger's place where nothing is to be logged, as with ``fast_dev_run``."""

    classes: ClassVar[tuple[str, ...]] = ("DummyLogger",)


@final
class UnknownSink(_ScalarsOnly):
    """Any other logger: every logger of Lightning takes numbers."""

    left_out: ClassVar[str] = "histograms, figures and texts, as nobody has said yet how it takes them"
