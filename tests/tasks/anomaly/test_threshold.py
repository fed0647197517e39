"""Conformal thresholds against their guarantee."""

import math

import pytest
import torch

from audiodiff.errors import ParameterError
from audiodiff.tasks.anomaly.threshold import conformal_threshold, min_held_out


@pytest.mark.parametrize(("n", "false_alarms"), [(19, 0.05), (30, 0.1), (40, 0.25)])
def test_exchangeable_scores_exceed_the_threshold_at_the_stated_rate(n: int, false_alarms: float):
    """A new score exceeds the k-th smallest of n with a probability of 1 - k / (n + 1), exactly."""
    n_trials = 3000
    scores = torch.randn(n_trials, n + 1, generator=torch.Generator().manual_seed(n)).exp()
    alarms = sum(float(row[-1]) > conformal_threshold(row[:-1], false_alarms=false_alarms) for row in scores)
    expected = 1 - math.ceil((1 - false_alarms) * (n + 1) - 1e-9) / (n + 1)
    assert false_alarms - 1 / (n + 1) - 1e-9 <= expected <= false_alarms + 1e-9
    assert abs(alarms / n_trials - expected) < 4.5 * math.sqrt(expected * (1 - expected) / n_trials)


@pytest.mark.parametrize("false_alarms", [0.01, 0.05, 0.1, 1 / 3, 0.5, 0.9])
def test_min_held_out_is_the_smallest_number_with_a_threshold(false_alarms: float):
    n = min_held_out(false_alarms)
    conformal_threshold(torch.arange(float(n)), false_alarms=false_alarms)
    with pytest.raises(ParameterError, match="held-out"):
        conformal_threshold(torch.arange(float(n - 1)), false_alarms=false_alarms)
