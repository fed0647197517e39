"""The level of speech: pauses do not count, and gains are exact."""

import math

import pytest
import torch

from audiodiff.dsp.level import LevelMeter, RunningOffset, active_rms, constant_offset, gain_to

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


@pytest.mark.parametrize("offset", [0.0, 0.05, -0.4])
def test_an_offset_does_not_count_in_the_level_of_a_recording(offset: float):
    tone = 0.2 * torch.sin(2 * math.pi * 500 * torch.arange(RATE) / RATE)
    meter = LevelMeter(sample_rate=RATE)
    for block in torch.stack([tone + offset, 0.5 * tone]).split(777, dim=-1):
        meter.add(block)
    torch.testing.assert_close(meter.offset()[:, 0], torch.tensor([offset, 0.0]), rtol=0, atol=1e-5)
    expected = torch.tensor([0.2, 0.1]) / math.sqrt(2)
    torch.testing.assert_close(meter.active_rms(), expected, rtol=1e-3, atol=0)


def test_each_channel_has_an_offset_of_its_own_and_a_small_mean_is_none():
    audio = torch.stack([torch.tensor([0.7, 0.5]), torch.tensor([0.5, -0.501])])
    torch.testing.assert_close(constant_offset(audio), torch.tensor([[0.6], [0.0]]))


def test_a_running_offset_leaves_a_sound_without_one_to_the_bit():
    time = torch.arange(2 * RATE) / RATE
    for sound in (torch.cos(2 * math.pi * 60 * time), 0.1 * torch.sin(2 * math.pi * 500 * time)):
        assert torch.equal(RunningOffset(sample_rate=RATE).remove(sound), sound)


def test_a_running_offset_is_removed_the_same_however_blocks_arrive():
    """All but 0.5 % of the peak, and what a mean over t may be wrong by: 1 / (pi 48 Hz t)."""
    tone = 0.2 * torch.sin(2 * math.pi * 500 * torch.arange(4 * RATE) / RATE) + 0.1
    made = []
    for size in (7, 1000, 4 * RATE):
        offset = RunningOffset(sample_rate=RATE)
        made.append(torch.cat([offset.remove(block) for block in tone.split(size)]))
    torch.testing.assert_close(made[0], made[2], rtol=0, atol=1e-6)
    torch.testing.assert_close(made[1], made[2], rtol=0, atol=1e-6)
    assert abs(float(made[0][-RATE:].mean())) < 0.3 * (0.005 + 0.0067 / 3.0)
