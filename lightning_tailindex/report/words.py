"""What the numbers of a run show and what they do not, in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lightning_tailindex.analysis.aggregation import MOST_COORDINATES
from lightning_tailindex.analysis.notes import NO_STABLE_LAW, misfit
from lightning_tailindex.records import AggregatedTailIndex, Measurement, Report

__all__ = ["said"]

_SIGNIFICANT = 0.05
_LEAST = 1 / 39  # one in 40 is what 39 surrogates can show
_TWO_SIDED, _ONE_SIDED = 1.96, 1.645  # standard errors that a Gaussian exceeds in 5 %
_EFFICIENT = ("grouped_mle", "sequential_mle")
_SAME = 0.1  # tail indices that differ by less are said to be the same
_TWO = 1.995  # what is printed as 2
_LAWS = {
    "gaussian": "a Gaussian",
    "stable": "a symmetric stable law",
    "student_t": "Student's t, which is no stable law,",
    "laplace": "Laplace's law, which is no stable law,",
}


def said(reports: Sequence[Report]) -> list[str]:
    """Says what the whole model's numbers show, and what they leave open.

    Args:
        reports: The reports of a run by step, at least one.

    Returns:
        Sentences.
    """
    last = reports[-1]
    whole = last.whole_model
    if math.isnan(whole.alpha):
        why = whole.note.rstrip(".") or "no draw was usable"
        nothing = f"At step {last.step}, the last report, the whole model has no tail index: {why}."
        return [nothing, *_notes(last.note)]
    notes = _notes(last.note, whole.note.partition(NO_STABLE_LAW)[0])  # which _fit says
    return [*_estimate(last, whole), *notes, *_gaussian(whole), *_fit(whole), *_averages(whole), *_course(reports)]


def _notes(*notes: str) -> Iterator[str]:
    for note in (each.strip(" ;.") for each in notes):
        if note:
            yield f"{note[0].upper()}{note[1:]}."


def _estimate(report: Report, whole: Measurement) -> Iterator[str]:
    size = f" of {report.minibatch_size} samples" if report.minibatch_size else ""
    draws = f", from {whole.num_draws} draws, each a minibatch{size}" if whole.num_draws else ""
    interval = "" if math.isnan(whole.low) else f", 95\N{NO-BREAK SPACE}% interval {whole.low:.2f} to {whole.high:.2f}"
    yield f"At step {report.step}, the last report, α of the whole model is {whole.alpha:.2f}{interval}{draws}."
    if not interval:
        yield "No interval was logged: how precise this number is, nothing here tells."
    if math.isfinite(whole.signal_to_noise):
        most = "mostly noise" if whole.signal_to_noise < 1 else "more signal than noise"
        yield f"The full gradient is {whole.signal_to_noise:.2g} times as long as the noise: a step is {most}."


def _gaussian(whole: Measurement) -> Iterator[str]:
    """Says whether a Gaussian is excluded, which the interval alone cannot say."""
    surrogate = whole.gaussian_alpha
    known = f"its Gaussian surrogate, for which the truth is 2, reads {surrogate:.2f}"
    if math.isnan(whole.high) or math.isnan(surrogate):
        yield "Without an interval and a surrogate, a Gaussian is neither excluded nor shown."
    elif whole.high >= _TWO:
        yield (
            f"The interval reaches 2, and {known}: α alone does not exclude Gaussian noise. That does not show that it"
            " is Gaussian; more draws narrow the interval."
        )
    elif surrogate > min(whole.high, 2 - _SAME):
        above = ", above the interval" if surrogate > whole.high else ""
        yield (
            f"The interval excludes 2, and {known}{above}: the tails are heavier than a Gaussian's, and neither the"
            " covariance nor the estimator makes them look so."
        )
    else:
        yield (
            f"The interval excludes 2, but {known}, which is not above the interval: the estimate is off for this"
            " covariance, and heavy tails are not shown."
        )
    if not math.isnan(whole.gaussian_p_value):
        verdict = "rejects" if whole.gaussian_p_value <= _SIGNIFICANT else "does not reject"
        against = "The sharper test against Gaussian noise of the same covariance"
        least = ", the least that 39 surrogates can show" if whole.gaussian_p_value < _LEAST else ""
        yield f"{against} {verdict} it at 5\N{NO-BREAK SPACE}% (p = {whole.gaussian_p_value:.3f}){least}."


def _fit(whole: Measurement) -> Iterator[str]:
    if whole.law in _LAWS:
        is_slight = whole.law == "gaussian" and whole.gaussian_p_value <= _SIGNIFICANT
        still = " all the same: what the test sees is slight" if is_slight else ""
        yield f"Of four laws {_LAWS[whole.law]} fits best{still}."
    poor = misfit(whole)
    if poor:
        yield f"But {poor}, more than .05 and than chance. {_of_no_law(whole)}"
    elif not math.isnan(whole.kolmogorov_distance):
        yield (
            f"The best stable law is at a Kolmogorov distance of {whole.kolmogorov_distance:.2f}, which does not speak"
            " against it; so few draws cannot show that it is the law."
        )


def _of_no_law(whole: Measurement) -> str:
    if not _TWO <= whole.alpha <= 2:  # power laws have indices above
        return "α then says that tails are heavy, not by which law."
    lighter = "lighter-tailed than a Gaussian, discrete or skewed"
    return f"Not even a Gaussian does: the noise is {lighter}, and α is 2 only because its range ends there."


def _averages(whole: Measurement) -> Iterator[str]:
    """Says whether the tail index keeps its value when minibatches are averaged, where it is not 2 already."""
    known = [average for average in whole.aggregated if not math.isnan(average.alpha)]
    if not known:
        yield "Averages of minibatches were not measured: a finite variance is neither shown nor excluded."
    elif whole.alpha < _TWO:
        last = known[-1]
        yield f"Averages of {last.num_minibatches} minibatches read {last.alpha:.2f}: {_climb(whole, known)}"


def _climb(whole: Measurement, averages: Sequence[AggregatedTailIndex]) -> str:
    last = averages[-1]
    above = [_above(whole, average) for average in averages]
    is_more = last.alpha > whole.alpha + _SAME or last.alpha >= _TWO
    is_less = last.alpha < whole.alpha - _SAME
    if is_more and sum(each > _ONE_SIDED for each in above) > 1:  # one size errs too often where few draws rule
        return "α climbs, as it does for noise of finite variance, and larger minibatches have lighter tails."
    if is_less and sum(each < -_ONE_SIDED for each in above) > 1:
        return "α falls, which neither a stable law nor finite variance explains."
    if abs(last.alpha - whole.alpha) > _SAME:
        known = "by no more, or in no more sizes of averages, than chance has it"
        chance = "by how much chance would have it is not known" if math.isnan(above[-1]) else known
        more = "more" if last.alpha > whole.alpha else "less"
        return f"{more} than α, but {chance}: a climb, as of finite variance, is neither shown nor excluded."
    if max(whole.alpha + _SAME, whole.high) < _TWO and last.high < _TWO:  # there was room to climb, and no climb to 2
        return "α keeps its value, as under a stable law; so far, larger minibatches are no more Gaussian."
    return (
        f"within {_SAME:.1f} of α, but they are too few, or α is too near 2, to show whether it climbs, as for noise of"
        " finite variance, or keeps its value, as under a stable law."
    )


def _above(whole: Measurement, average: AggregatedTailIndex) -> float:
    """By how many standard errors averages read more than single draws; NaN where nobody knows.

    Averages of m draws of a stable law are as good as a share of 1/m of the draws. The estimate from all of them being
    efficient, the difference has the variance of the worse less that of the better (J. A. Hausman, Specification tests
    in econometrics, Econometrica 46, 1978): m - 1 times that of the tail index; more where fewer coordinates are
    averaged than the tail index is of, and all tell something of their own.
    """
    if whole.estimator not in _EFFICIENT:
        return math.nan
    difference = average.alpha - whole.alpha
    end = whole.high if difference > 0 else whole.low
    share = max(1.0, whole.effective_coordinates / MOST_COORDINATES)  # the first where the other is NaN
    error = abs(end - whole.alpha) / _TWO_SIDED * math.sqrt(average.num_minibatches * share - 1)
    return difference / error if error else math.nan


def _course(reports: Sequence[Report]) -> Iterator[str]:
    known = [(report.step, report.whole_model.alpha) for report in reports]
    known = [(step, alpha) for step, alpha in known if not math.isnan(alpha)]
    if len(known) == 1:
        yield "There is one report: how α moves in training, it does not tell."
        return
    (first, at_first), (_, at_last), (step, lowest) = known[0], known[-1], min(known, key=lambda pair: pair[1])
    course = f"α went from {at_first:.2f} at step {first} to {at_last:.2f}"
    yield f"Over {len(known)} reports {course}; its lowest is {lowest:.2f} at step {step}."
