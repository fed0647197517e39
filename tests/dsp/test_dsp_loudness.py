"""Loudness: the standard's filters, its closed forms, its gates, and gains to a level."""

import math

import numpy as np
import pytest
import scipy.signal
import sounds
import torch

from audiodiff.dsp.loudness import LoudnessMeter, Normalization, k_weighting, loudness, normalize, read_normalization
from audiodiff.errors import ParameterError


def sine(level_db: float, *, seconds: float = 3.0, frequency: float = 997.0, rate: int = 48000) -> torch.Tensor:
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return 10 ** (level_db / 20) * torch.sin(2 * math.pi * frequency * time)[None]


def test_the_filters_at_48_khz_are_those_of_the_standard():
    """ITU-R BS.1770-4, tables 1 and 2."""
    expected = [
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585],
        [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
    ]
    np.testing.assert_allclose(k_weighting(48000), expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 96000])
def test_filters_at_other_rates_have_the_response_at_48_khz(rate: int):
    """Up to an eighth of the rate, above which the bilinear transform bends the frequency axis.

    The poles of the high-pass filter are those of the standard, but its numerator has no gain of 1: at other rates the
    gain of the pass band differs by less than 0.06 dB.
    """
    frequency = np.geomspace(30.0, min(rate, 48000) / 8, 40)
    responses = [
        20 * np.log10(np.abs(scipy.signal.sosfreqz(k_weighting(each), frequency, fs=each)[1])) for each in (rate, 48000)
    ]
    assert np.abs(responses[0] - responses[1]).max() < 0.25


@pytest.mark.parametrize("level_db", [0.0, -20.0, -60.0])
@pytest.mark.parametrize("rate", [44100, 48000])
def test_a_full_scale_sine_in_one_channel_has_minus_3_01_lufs(level_db: float, rate: int):
    assert loudness(sine(level_db, rate=rate), sample_rate=rate) == pytest.approx(level_db - 3.01, abs=0.01)


@pytest.mark.parametrize(
    ("n_channels", "place", "extra_db"),
    [(2, 1, 0.0), (5, 3, 10 * math.log10(1.41)), (6, 4, 10 * math.log10(1.41)), (6, 3, -math.inf)],
)
def test_channels_weigh_as_in_the_standard(n_channels: int, place: int, extra_db: float):
    audio = torch.zeros(n_channels, 3 * 48000, dtype=torch.float64)
    audio[place] = sine(-20.0)[0]
    assert loudness(audio, sample_rate=48000) == pytest.approx(-23.01 + extra_db, abs=0.01)


def test_two_equal_channels_are_3_db_louder_than_one():
    audio = sine(-20.0)
    both = loudness(audio.expand(2, -1), sample_rate=48000)
    assert both - loudness(audio, sample_rate=48000) == pytest.approx(10 * math.log10(2))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        # EBU Tech 3341, cases 3 and 4, each shortened to a third.
        ([(-36.0, 3.3), (-23.0, 20.0), (-36.0, 3.3)], -23.0),
        ([(-72.0, 3.3), (-36.0, 3.3), (-23.0, 20.0), (-36.0, 3.3), (-72.0, 3.3)], -23.0),
        ([(-26.0, 6.7), (-20.0, 6.7), (-26.0, 6.7)], -23.0),
    ],
)
def test_pauses_and_quiet_parts_are_gated(parts: list[tuple[float, float]], expected: float):
    audio = torch.cat([sine(level_db, seconds=seconds, frequency=1000.0) for level_db, seconds in parts], dim=-1)
    assert loudness(audio.expand(2, -1), sample_rate=48000) == pytest.approx(expected, abs=0.1)


def test_the_loudness_equals_that_of_pyloudnorm():
    pyloudnorm = pytest.importorskip("pyloudnorm", reason="pyloudnorm is not installed")
    audio = sounds.tones(5 * 44100, sample_rate=44100, n_channels=2) * torch.linspace(0.01, 1.0, 5 * 44100)
    meter = pyloudnorm.Meter(44100, filter_class="DeMan")
    assert loudness(audio, sample_rate=44100) == pytest.approx(
        meter.integrated_loudness(audio.T.double().numpy()), abs=0.1
    )


def test_blocks_give_the_loudness_of_the_whole():
    audio = sounds.tones(40000, sample_rate=16000, n_channels=2)
    meter = LoudnessMeter(sample_rate=16000)
    for block in audio.split(777, dim=-1):
        meter.add(block)
    assert meter.loudness() == pytest.approx(loudness(audio, sample_rate=16000), abs=1e-9)


@pytest.mark.parametrize("n_samples", [1, 100, 6399])
def test_a_recording_shorter_than_a_gating_block_has_a_loudness(n_samples: int):
    assert math.isfinite(loudness(torch.ones(1, n_samples), sample_rate=16000))


@pytest.mark.parametrize("target", ["-16LUFS", "-30 LKFS"])
def test_a_recording_is_brought_to_a_loudness_by_one_gain(target: str):
    audio = sounds.tones(40000, sample_rate=16000, n_channels=2, peak=0.01)
    made = normalize(audio, target, sample_rate=16000)
    assert loudness(made, sample_rate=16000) == pytest.approx(float(target[:3]), abs=1e-3)
    torch.testing.assert_close(made / audio, (made / audio)[:1, :1].expand_as(audio))


@pytest.mark.parametrize("shape", [(600,), (2, 300), (3, 2, 100)])
def test_each_recording_of_a_batch_is_brought_to_a_peak(shape: tuple[int, ...]):
    audio = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = normalize(audio, "-6.0206dB", sample_rate=8000)
    assert made.shape == audio.shape
    own = made.flatten(1) if made.ndim == 3 else made.reshape(1, -1)
    torch.testing.assert_close(own.abs().amax(1), torch.full((len(own),), 0.5))


@pytest.mark.parametrize("target", ["-16LUFS", "-1dB"])
def test_silence_stays_silence(target: str):
    assert not normalize(torch.zeros(1, 16000), target, sample_rate=16000).any()


@pytest.mark.parametrize("text", ["", "-16", "loud", "-16 dBA", "3dB", "-90LUFS", "nanLUFS"])
def test_a_level_that_is_none_is_refused(text: str):
    with pytest.raises(ParameterError, match="normalize="):
        read_normalization(text)


def test_a_level_is_written_as_it_is_read():
    for level in (Normalization(-16.5, True), Normalization(-1.0, False), Normalization(0.0, False)):
        assert read_normalization(str(level)) == level
