"""What functions say of a sample."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["LawFit", "NormalityTest", "ProjectionAcceptance", "TailIndexEstimate"]


@dataclass(frozen=True)
class TailIndexEstimate:
    """A tail index with its uncertainty and its fit, one per series or one for all of them.

    Attributes:
        alpha: Tail index, shape ``[...]`` (``[]`` where the series were pooled); NaN where the data gave none.
        low: Lower end of the 95 % interval of ``alpha``, same shape.
        high: Upper end of the 95 % interval of ``alpha``, same shape.
        scale: Scale of each series in the unit of the data, shape ``[...]`` of the series.
        log_likelihood: Maximal log-likelihood, shape of ``alpha``; NaN for estimators that have none.
        gain: Mean log-likelihood of a value above that of the best Gaussian, in nats, shape of ``alpha``.
        num_values: Finite, non-zero values behind ``alpha``, same shape.
        zero_share: Share of exact zeros among the values, in [0, 1], same shape; where a draw is taken for the centre,
            other draws of exactly its value count too.
        effective_series: Effective number of independent series behind a pooled ``alpha``; NaN otherwise.
        note: What a reader has to know of this estimate, in words; empty where nothing is special.
    """

    alpha: Tensor
    low: Tensor
    high: Tensor
    scale: Tensor
    log_likelihood: Tensor
    gain: Tensor
    num_values: Tensor
    zero_share: Tensor
    effective_series: Tensor
    note: str = ""


@dataclass(frozen=True)
class LawFit:
    """Which of several laws fits, for each series or for all of them together.

    Attributes:
        laws: Names of the laws, the Gaussian first.
        gains: Mean log-likelihood of a value under each law above that under the best Gaussian, in nats, shape
            ``[laws, ...]``.
        best: Place in ``laws`` of the law that fits best, shape ``[...]`` (``[]`` where the series were pooled); -1
            where the data gave none.
        p_value: Chance that Gaussian data favour a stable law at least as much, in (0, 1], same shape.
        kolmogorov_distance: Largest distance between the distribution functions of the sizes of the values and of the
            best stable law, in [0, 1], same shape.
        note: What a reader has to know of these numbers, in words; empty where nothing is special.
    """

    laws: tuple[str, ...]
    gains: Tensor
    best: Tensor
    p_value: Tensor
    kolmogorov_distance: Tensor
    note: str = ""

    @property
    def name(self) -> str:
        """Name of the best law of one series or of pooled ones; ``"none"`` where the data gave none."""
        place = int(self.best)
        return self.laws[place] if place >= 0 else "none"


@dataclass(frozen=True)
class NormalityTest:
    """What a test says of the hypothesis that series are Gaussian.

    Attributes:
        statistic: Statistic of the test, shape ``[...]`` of the series; NaN where the data gave none.
        p_value: Chance of a statistic at least as far from what Gaussian values give, in [0, 1], same shape.
        num_values: Values tested, same shape.
        note: What a reader has to know of these numbers, in words; empty where nothing is special.
    """

    statistic: Tensor
    p_value: Tensor
    num_values: Tensor
    note: str = ""


@dataclass(frozen=True)
class ProjectionAcceptance:
    """In which share of random projections noise passes for Gaussian, by two tests of the same projections.

    Attributes:
        anderson_darling: Share that passes Anderson and Darling's test, a scalar in [0, 1]; NaN where there is none.
        shapiro_wilk: Share that passes Shapiro and Wilk's test, likewise.
        note: What a reader has to know of these numbers, in words; empty where nothing is special.
    """

    anderson_darling: Tensor
    shapiro_wilk: Tensor
    note: str = ""
