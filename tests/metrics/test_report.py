"""Rows, their reasons, means and intervals."""

import math

import pytest
import torch

from audiodiff import metrics
from audiodiff.errors import ParameterError
from audiodiff.metrics import Pair, Row, bootstrap_interval, evaluate, summarise

RATE = 16000


def noise(seed: int, *shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_interval_covers_a_gaussian_mean_at_its_confidence():
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for trial in range(400):
        low, high = bootstrap_interval(torch.randn(40, generator=generator) + 3, n_resamples=400, seed=trial)
        covered += low <= 3 <= high
    # 95 % less the 1.2 % by which the percentile interval of 40 values is too narrow; 400 trials: standard error 1.2 %.
    assert 0.90 <= covered / 400 <= 0.98


def test_the_interval_is_about_two_standard_errors_either_side():
    values = torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = bootstrap_interval(values, n_resamples=4000)
    error = values.std(correction=0).item() / math.sqrt(500)
    # 4000 resamples place a 2.5 % quantile to about 3 %.
    assert low == pytest.approx(values.mean().item() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean().item() + 1.96 * error, abs=0.1 * error)


def test_the_interval_is_a_function_of_values_and_seed():
    values = torch.arange(20.0)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)
    assert all(math.isnan(end) for end in bootstrap_interval(values[:1]))
    assert bootstrap_interval(torch.full((5,), 2.0)) == (2.0, 2.0)


@pytest.mark.parametrize("bad", [{"confidence": 1.0}, {"n_resamples": 0}])
def test_impossible_intervals_are_refused(bad: dict):
    with pytest.raises(ParameterError):
        bootstrap_interval(torch.arange(3.0), **bad)
    with pytest.raises(ParameterError, match="NaN"):
        bootstrap_interval(torch.tensor([1.0, math.nan]))


@pytest.mark.parametrize(
    ("estimate", "reference", "name", "reason"),
    [
        (noise(0, 8000), torch.zeros(8000), "lsd", "silent reference"),
        (noise(0, 8000), torch.full((8000,), 2.0**-15), "snr_db", "silent reference"),
        (torch.zeros(8000), noise(0, 8000), "pesq_wb", "silent estimate"),
        (torch.zeros(8000), noise(0, 8000), "si_sdr_db", "silent estimate"),
        (noise(0, 3200), noise(1, 3200), "pesq_nb", "shorter than 0.25 s"),
        (noise(0, 3200), noise(1, 3200), "stoi", "shorter than 0.4 s"),
        (noise(0, 100), noise(1, 100), "lsd", "shorter than 0.064 s"),
        (noise(0, 0), noise(1, 0), "snr_db", "no samples"),
        (torch.full((8000,), math.nan), noise(1, 8000), "snr_db", "estimate not finite"),
        (noise(0, 8000), torch.full((8000,), 0.1), "si_sdr_db", "no variation"),
    ],
)
def test_a_row_says_why_a_value_is_missing(estimate: torch.Tensor, reference: torch.Tensor, name: str, reason: str):
    (row,) = evaluate([Pair("a", estimate, reference, RATE)], names=[name])
    assert math.isnan(row.values[name])
    assert row.reasons == {name: reason}


def test_the_value_of_a_pair_is_the_mean_over_channels():
    reference = noise(0, 2, 8000)
    estimate = reference + noise(1, 2, 8000) * torch.tensor([[0.1], [0.01]])
    (row,) = evaluate([Pair("a", estimate, reference, RATE)], names=["snr"])
    assert row.values["snr_db"] == pytest.approx(metrics.snr_db(estimate, reference).mean().item())
    assert row.seconds == 0.5
    assert row.reasons == {}


def test_pairs_of_different_shape_are_refused_by_name():
    with pytest.raises(ParameterError, match="song"):
        evaluate([Pair("song", noise(0, 10), noise(0, 11), RATE)])


def test_missing_values_are_counted_and_not_averaged():
    values = [1.0, 3.0, math.inf, math.nan, math.nan]
    rows = [Row(str(v), {"snr_db": v}, {"snr_db": "silent reference"} if math.isnan(v) else {}) for v in values]
    summary = summarise(rows)["snr_db"]
    assert (summary.mean, summary.n, summary.n_infinite, summary.n_excluded) == (2.0, 2, 1, 2)
    assert summary.reasons == {"silent reference": 2}
    assert 1 <= summary.low <= summary.high <= 3


def test_a_mean_of_infinities_alone_is_infinite_and_of_nothing_is_nan():
    assert summarise([Row("a", {"snr_db": math.inf})])["snr_db"].mean == math.inf
    summary = summarise([Row("a", {"snr_db": math.nan}, {"snr_db": "no samples"})])["snr_db"]
    assert math.isnan(summary.mean)
    assert math.isnan(summary.low)


def test_summarising_no_rows_is_refused():
    with pytest.raises(ParameterError, match="empty"):
        summarise([])
    with pytest.raises(ParameterError, match="different"):
        summarise([Row("a", {"lsd": 1.0}), Row("b", {"stoi": 1.0})])
