"""What holds of the estimators that take the quantiles of values."""

from __future__ import annotations

import pytest
import torch

from lightning_tailindex.functional import characteristic, quantile

from .samples import generator, stable
from .test_laws import Estimator


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("estimator", [characteristic, quantile])
def test_the_largest_numbers_do_not_overflow(estimator: Estimator, pooled: bool) -> None:
    x = stable(1.8, (64, 5), generator(10)).clamp(-1.99, 1.99).float()
    x[::2] = x[::2].abs() + 0.5  # values that lie apart, so that what lies between two of them matters too
    x[1::2] = -x[1::2].abs() - 0.5
    x = x.clamp(-1.99, 1.99)
    expected, found = estimator(x, pooled=pooled), estimator(x * 2.0**127, pooled=pooled)
    for field in ("alpha", "low", "high"):
        assert getattr(expected, field).isfinite().all()
        assert torch.allclose(getattr(found, field), getattr(expected, field), rtol=1e-6), field
    assert found.note == expected.note
