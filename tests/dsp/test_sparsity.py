"""Sparse sounds within bounds: tones come back from clipping, bounds hold, and no scale or length matters."""

import numpy as np
import pytest

from audiodiff.dsp.sparsity import sparsest_within

RATE = 8000


def clipped_tones(share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return two tones, and their bounds where they were clipped at a share of their peak."""
    time = np.arange(4000) / RATE
    audio = np.sin(2 * np.pi * 300 * time) + 0.5 * np.sin(2 * np.pi * 1234 * time + 1.0)
    limit = share * np.abs(audio).max()
    clipped = audio.clip(-limit, limit)
    lowest = np.where(audio <= -limit, -9.0, clipped)
    highest = np.where(audio >= limit, 9.0, clipped)
    return audio, lowest, highest


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_clipped_tones_come_back(share: float):
    """But for 5 % of the power that was clipped, at 20 % of the peak as well, where hardly a sample is known."""
    audio, lowest, highest = clipped_tones(share)
    clipped = np.where(np.abs(lowest) < 9.0, lowest, highest)
    made = sparsest_within(lowest, highest, sample_rate=RATE)
    assert np.square(made - audio).sum() < 0.05 * np.square(clipped - audio).sum()
    known = lowest == highest
    assert np.array_equal(made[known], audio[known])


def test_sparse_samples_keep_to_their_bounds():
    audio = np.random.default_rng(0).standard_normal(2000)
    made = sparsest_within(audio - 0.1, audio + 0.1, sample_rate=RATE)
    assert ((made >= audio - 0.1) & (made <= audio + 0.1)).all()


def test_the_level_of_a_sparse_sound_does_not_matter():
    """A power of two changes no rounding."""
    _, lowest, highest = clipped_tones(0.5)
    made = sparsest_within(lowest, highest, sample_rate=RATE)
    assert np.array_equal(sparsest_within(lowest / 1024, highest / 1024, sample_rate=RATE), made / 1024)


@pytest.mark.parametrize("n_samples", [1, 2, 5, 40])
def test_the_shortest_sounds_are_restored(n_samples: int):
    lowest = np.full(n_samples, 0.5)
    highest = np.where(np.arange(n_samples) % 3 == 1, 2.0, 0.5)
    made = sparsest_within(lowest, highest, sample_rate=RATE)
    assert ((made >= lowest) & (made <= highest)).all()
