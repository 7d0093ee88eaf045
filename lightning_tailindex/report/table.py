"""All numbers in one table, for whoever wants to compute with them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import IO

from lightning_tailindex.records import Measurement, Report

from .runs import Run

__all__ = ["write_table"]

_NOT_LOGGED = ("num_coordinates", "group_size")
_FIELDS = [f.name for f in fields(Measurement) if f.type in ("int", "float", "str") and f.name not in _NOT_LOGGED]


def _row(report: Report, measurement: Measurement) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(measurement, name) for name in _FIELDS}
    row["signal_to_noise"] = measurement.signal_to_noise
    row["minibatch_size"], row["seconds"] = report.minibatch_size, report.seconds
    for average in measurement.aggregated:
        row[f"alpha_of_{average.num_minibatches}_minibatches"] = average.alpha
        row[f"gaussian_alpha_of_{average.num_minibatches}_minibatches"] = average.gaussian_alpha
        row[f"low_of_{average.num_minibatches}_minibatches"] = average.low
        row[f"high_of_{average.num_minibatches}_minibatches"] = average.high
    return row


def _rows(run: Run) -> Iterator[dict[str, object]]:
    varying = {f"setting:{name}": value for name, value in run.settings.items()}
    varying |= {f"hparam:{name}": value for name, value in run.hparams.items()}
    for report in run.reports:
        for measurement in report.measurements:
            yield {"run": run.name, "step": report.step, **_row(report, measurement), **varying}


def write_table(runs: Sequence[Run], file: IO[str]) -> None:
    """Writes a line for each group at each step of each run, by each estimator, as comma-separated values.

    Args:
        runs: The runs.
        file: Where to. Columns are ``run``, ``step``, what was logged of a measurement but its histograms, the tail
            indices of averages of minibatches with their intervals, ``setting:<name>`` for settings of the measurement
            that say whether tail indices can be compared, and ``hparam:<name>`` for every hyperparameter; empty where
            there is none.
    """
    rows = [row for run in runs for row in _rows(run)]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    columns.sort(key=lambda column: column.startswith("hparam:"))
    writer = csv.DictWriter(file, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
