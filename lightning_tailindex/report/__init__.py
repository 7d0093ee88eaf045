"""One page of one or many runs, from TensorBoard's event files; on the command line, ``lightning-tailindex report``."""

from __future__ import annotations

from .page import page
from .progress import Progress
from .runs import Run, read_runs
from .table import write_table

__all__ = ["Progress", "Run", "page", "read_runs", "write_table"]
