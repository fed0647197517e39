"""The level of speech: pauses do not count, and gains are exact."""

import math

import pytest
import torch

from audiodiff.dsp.level import active_rms, gain_to

RATE = 16000


def test_pauses_do_not_count():
    tone = 0.2 * torch.sin(2 * math.pi * 500 * torch.arange(RATE) / RATE)
    hiss = 1e-3 * torch.randn(3 * RATE, generator=torch.Generator().manual_seed(0))
    loud = torch.stack([torch.cat([tone, torch.zeros(3 * RATE)]) + torch.cat([torch.zeros(RATE), hiss])])
    assert active_rms(loud, sample_rate=RATE).item() == pytest.approx(0.2 / math.sqrt(2), rel=0.02)


@pytest.mark.parametrize("n_samples", [1, 100, 511, 513])
def test_short_sounds_have_a_level(n_samples: int):
    assert active_rms(torch.full((n_samples,), 0.5), sample_rate=RATE).item() == pytest.approx(0.5)


@pytest.mark.parametrize("loud", [1e-4, 0.013, 0.07, 0.9, 30.0])
def test_a_gain_is_a_power_of_two_within_three_decibels(loud: float):
    audio = torch.full((2, RATE), loud)
    gain = gain_to(0.07, audio, sample_rate=RATE)
    assert math.log2(gain).is_integer()
    assert abs(20 * math.log10(gain * loud / 0.07)) <= 3.02
    assert torch.equal(audio * gain / gain, audio)


def test_silence_or_no_level_gives_a_gain_of_one():
    assert gain_to(0.07, torch.zeros(100), sample_rate=RATE) == 1.0
    assert gain_to(None, torch.ones(100), sample_rate=RATE) == 1.0
