"""Anomaly scorers: distances against scikit-learn and SciPy, surprise against errors computed one by one."""

import math

import numpy as np
import pytest
import scipy.spatial.distance
import torch
from sklearn.covariance import LedoitWolf
from sounds import white

from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.anomaly.distance import Distance, Gaussian
from audiodiff.tasks.anomaly.error_profile import error_profile
from audiodiff.tasks.anomaly.label_surprise import LabelSurprise
from audiodiff.tasks.anomaly.scorer import Observation


def test_distances_are_mahalanobis_with_ledoit_wolf_covariance():
    rows = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) @ torch.randn(
        6, 6, generator=torch.Generator().manual_seed(1)
    )
    gaussian = Gaussian.fit(rows)
    mean, std = rows.mean(dim=0).numpy(), rows.std(dim=0).numpy()
    precision = LedoitWolf().fit((rows.numpy() - mean) / std).precision_
    expected = [scipy.spatial.distance.mahalanobis((row - mean) / std, np.zeros(6), precision) for row in rows.numpy()]
    np.testing.assert_allclose(gaussian.distances(rows).numpy(), expected, rtol=1e-4)


def labelled_observations(n: int, *, seed: int, shift: float = 0.0) -> list[Observation]:
    """Draw observations whose means are sums of effects of their labels."""
    generator = torch.Generator().manual_seed(seed)
    effects = torch.tensor([[0.0, 1.0], [5.0, 0.0], [-5.0, -1.0], [3.0, 0.0], [-3.0, 0.0]])
    observations = []
    for index in range(n):
        labels = torch.zeros(5)
        labels[index % 3] = labels[3 + index % 2] = 1.0
        summary = -10.0 + labels @ effects + shift + 0.5 * torch.randn(2, generator=generator)
        observations.append(Observation(summary[0] + torch.randn(1, 20, generator=generator), summary, labels))
    return observations


def test_surprise_compares_with_recordings_of_the_same_labels():
    surprise = LabelSurprise.fit(labelled_observations(600, seed=0))
    scores = torch.tensor([surprise.score(each) for each in labelled_observations(600, seed=1)])
    assert abs(float(scores.mean())) < 4.5 * math.sqrt(2 / 600)
    assert float(scores.std()) == pytest.approx(1.0, abs=4.5 * math.sqrt(2) / math.sqrt(2 * 600))
    # In each group alone, though groups differ by twenty standard deviations; the ridge leaves a hundredth of them.
    for group in range(6):
        assert abs(float(scores[group::6].mean())) < 4.5 * math.sqrt(2 / 100) + 0.3
    # A shift of one standard deviation in both numbers shifts their sum by two, whose own deviation is sqrt(2).
    shifted = torch.tensor([surprise.score(each) for each in labelled_observations(600, seed=1, shift=0.5)])
    assert float((shifted - scores).mean()) == pytest.approx(math.sqrt(2), rel=0.1)


def test_surprise_picks_the_allowed_labels_with_the_lowest_error(labelled: Synthesizer):
    audio = white(0, rate=labelled.sample_rate)
    values = {"digit": ("0", "2"), "speaker": ("ann", "bob")}
    observation = LabelSurprise.observe(labelled, audio, sample_rate=labelled.sample_rate, allowed=values)

    def error(labels: dict[str, str]) -> float:
        errors = error_profile(
            labelled, audio, sample_rate=labelled.sample_rate, spec=LabelSurprise.spec, labels=[labels]
        )[0, :, 0]
        return float((10 * (errors.double().mean(dim=-1) + 1e-8).log10()).mean())

    best = {name: min(known, key=lambda value, name=name: error({name: value})) for name, known in values.items()}
    assert labelled.labels is not None
    assert torch.equal(observation.labels, labelled.labels.vectors([best])[0])
    expected = [
        error(best),
        error(best) - error({"speaker": best["speaker"]}),
        error(best) - error({"digit": best["digit"]}),
    ]
    torch.testing.assert_close(observation.summary, torch.tensor(expected), rtol=1e-3, atol=1e-3)


def test_distance_of_normal_recordings_is_cross_validated():
    """Normal scores are about 0 and 1, also where there are few recordings and many numbers."""
    generator = torch.Generator().manual_seed(0)

    def draw(n: int) -> list[Observation]:
        frames = torch.randn(n, 40, 30, generator=generator)
        return [Observation(each, each.mean(dim=-1), torch.zeros(0)) for each in frames]

    distance = Distance.fit(draw(30))
    logs = torch.stack([distance.whole.distances(each.summary[None])[0].log() for each in draw(200)])
    standardized = (logs - distance.usual[0, 0]) / distance.usual[0, 1]
    # The mean of 30 recordings has a standard error of a fifth of the deviation.
    assert abs(float(standardized.mean())) < 4.5 / math.sqrt(30)
