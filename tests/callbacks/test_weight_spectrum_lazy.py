"""Spectra of modules whose weights have no shape when training starts."""

from __future__ import annotations

from torch import nn

from .test_weight_spectrum_monitor import NoMatrices, by_name, fit, monitor


class AllLazy(NoMatrices):
    """Has other matrices, which are frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.LazyLinear(3)


def test_lazy_matrices_are_measured_once_they_have_a_shape() -> None:
    watcher = monitor(every_n_steps=5)
    fit(watcher, module=AllLazy())
    assert [(report.step, list(by_name(report))) for report in watcher.reports] == [
        (step, ["head.weight"]) for step in (1, 5, 10)
    ]
    net = AllLazy()
    net.embedding.requires_grad_()
    watcher = monitor(every_n_steps=5)
    fit(watcher, module=net)
    found = [len(report.matrices) for report in watcher.reports]
    note = "2 lazy parameters have no shape yet and are not measured"
    assert (found, [note in report.note for report in watcher.reports]) == ([1, 2, 2], [True, False, False])
