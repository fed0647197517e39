"""Metrics of pairs of signals as rows, and their means with intervals and counts of missing values."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError
from audiodiff.metrics.bootstrap import bootstrap_interval
from audiodiff.metrics.registry import Metric, select

_SILENCE = 2.0**-15  # one step of 16 bits, so that dither counts as silence


@dataclass(frozen=True)
class Pair:
    """Hold two signals to compare, of equal shape and rate.

    Args:
        name: in a report.
        estimate: the signal to evaluate.
        reference: the true signal.
        sample_rate: in Hz, of both.
    """

    name: str
    estimate: Float[Tensor, "..."]  # (*channels, time); evaluate_pair compares the two shapes
    reference: Float[Tensor, "..."]
    sample_rate: int


@dataclass(frozen=True)
class Row:
    """Hold the metrics of one pair.

    Args:
        name: of the pair.
        values: by metric name, the mean over channels; NaN if there is none.
        reasons: for a missing value, by metric name.
        seconds: length of the comparison.
        sample_rate: of the comparison, in Hz.
        notes: changes made for the comparison (resampled, trimmed).
        refusal: why the pair was not compared; None if it was.
    """

    name: str
    values: Mapping[str, float]
    reasons: Mapping[str, str] = field(default_factory=dict)
    seconds: float = math.nan
    sample_rate: int | None = None
    notes: tuple[str, ...] = ()
    refusal: str | None = None


@dataclass(frozen=True)
class Summary:
    """Summarise one metric over all rows.

    Args:
        name: of the metric.
        mean: of the n finite values; if there are none, the infinity that all values are, or NaN.
        low: lower end of the 95 % bootstrap interval of the mean; NaN for fewer than two values.
        high: its upper end.
        n: number of finite values.
        n_infinite: number of infinite values (for example, where estimate equals reference), which are not averaged.
        n_excluded: number of rows without a value.
        reasons: for missing values, with the number of rows.
    """

    name: str
    mean: float
    low: float
    high: float
    n: int
    n_infinite: int
    n_excluded: int
    reasons: Mapping[str, int]


def evaluate(pairs: Iterable[Pair], *, names: Sequence[str | Metric] | None = None) -> list[Row]:
    """Score pairs, one row each, in order.

    Args:
        names: which metrics; None is all of METRICS.

    Raises:
        ParameterError: if the shapes of a pair differ or a metric is unknown.

    Example:
        >>> truth = torch.sin(torch.arange(16000.0))
        >>> pairs = [Pair("a", 0.5 * truth, truth, 16000), Pair("b", truth, 0 * truth, 16000)]
        >>> [(row.name, row.values, row.reasons) for row in evaluate(pairs, names=["si_sdr"])]
        [('a', {'si_sdr_db': inf}, {}), ('b', {'si_sdr_db': nan}, {'si_sdr_db': 'silent reference'})]
    """
    metrics = select(names)
    return [evaluate_pair(pair, metrics=metrics) for pair in pairs]


def evaluate_pair(pair: Pair, *, metrics: Sequence[Metric]) -> Row:
    """Score one pair; channels are scored separately and averaged.

    A metric whose computation fails (out of memory, for example) has no value, and the error as its reason.

    Raises:
        ParameterError: if the shapes differ.
    """
    if pair.estimate.shape != pair.reference.shape:
        raise ParameterError(
            f"{pair.name}: estimate has shape {tuple(pair.estimate.shape)} and reference "
            f"{tuple(pair.reference.shape)}: they must be equal; trim both to the shorter"
        )
    values: dict[str, float] = {}
    reasons: dict[str, str] = {}
    obstacle = _obstacle(pair)
    for metric in metrics:
        # NaN in one channel makes the mean NaN: a value of half a file would mislead.
        value, failure = math.nan, None
        if obstacle is None:
            try:
                value = _mean_over_channels(metric, pair)
            except (OSError, RuntimeError, MemoryError) as error:
                failure = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        values[metric.name] = value
        if math.isnan(value):
            reasons[metric.name] = obstacle or failure or _reason(metric, pair)
    return Row(
        name=pair.name,
        values=values,
        reasons=reasons,
        seconds=pair.reference.shape[-1] / pair.sample_rate,
        sample_rate=pair.sample_rate,
    )


def refused(name: str, reason: str, *, metrics: Sequence[Metric]) -> Row:
    """Return the row of a pair that cannot be compared, with the reason as its `refusal`."""
    return Row(
        name=name,
        values={metric.name: math.nan for metric in metrics},
        reasons={metric.name: "refused" for metric in metrics},
        refusal=reason,
    )


def summarise(rows: Sequence[Row], *, n_resamples: int = 2000, seed: int = 0) -> dict[str, Summary]:
    """Average the finite values of each metric, with a 95 % bootstrap interval, and count the others.

    Args:
        n_resamples: of the bootstrap over rows.
        seed: of the bootstrap.

    Raises:
        ParameterError: if there are no rows, or rows with different metrics.

    Example:
        >>> silent = Row("c", {"lsd": float("nan")}, {"lsd": "silent reference"})
        >>> summary = summarise([Row("a", {"lsd": 1.0}), Row("b", {"lsd": 2.0}), silent])["lsd"]
        >>> summary.mean, summary.n, summary.n_excluded, summary.reasons
        (1.5, 2, 1, {'silent reference': 1})
    """
    if not rows:
        raise ParameterError("rows is empty: there is nothing to summarise")
    if any(row.values.keys() != rows[0].values.keys() for row in rows):
        raise ParameterError("rows have different metrics: evaluate them with the same names")
    return {name: _summary(name, rows, n_resamples=n_resamples, seed=seed) for name in rows[0].values}


def _summary(name: str, rows: Sequence[Row], *, n_resamples: int, seed: int) -> Summary:
    values = [row.values[name] for row in rows]
    finite = [value for value in values if math.isfinite(value)]
    infinite = [value for value in values if math.isinf(value)]
    low, high = bootstrap_interval(torch.tensor(finite, dtype=torch.float64), n_resamples=n_resamples, seed=seed)
    return Summary(
        name=name,
        mean=math.fsum(finite) / len(finite) if finite else (sum(infinite) if infinite else math.nan),
        low=low,
        high=high,
        n=len(finite),
        n_infinite=len(infinite),
        n_excluded=len(values) - len(finite) - len(infinite),
        reasons=dict(Counter(row.reasons.get(name, "no value") for row in rows if math.isnan(row.values[name]))),
    )


def _mean_over_channels(metric: Metric, pair: Pair) -> float:
    n_samples = pair.reference.shape[-1]
    estimates, references = pair.estimate.reshape(-1, n_samples), pair.reference.reshape(-1, n_samples)
    values = [metric.compute(e, r, pair.sample_rate).item() for e, r in zip(estimates, references, strict=True)]
    return sum(values) / len(values)


def _obstacle(pair: Pair) -> str | None:
    """Return why no metric can have a value, or None."""
    if pair.reference.numel() == 0:
        return "no samples"
    for name, signal in (("reference", pair.reference), ("estimate", pair.estimate)):
        if not torch.isfinite(signal).all():
            return f"{name} not finite"
    if (pair.reference.abs().amax(-1) <= _SILENCE).any():
        return "silent reference"
    return None


def _reason(metric: Metric, pair: Pair) -> str:
    """Return why one metric has no value."""
    shortest = metric.shortest(pair.sample_rate)
    if pair.reference.shape[-1] < shortest:
        return f"shorter than {shortest / pair.sample_rate:.2g} s"
    if (pair.estimate.abs().amax(-1) <= _SILENCE).any():
        return "silent estimate"
    return metric.otherwise
