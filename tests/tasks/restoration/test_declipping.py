"""Clipped peaks: found, restored outwards, and nothing else changed."""

import math
from pathlib import Path

import pytest
import soundfile
import tiny
import torch
from torch import Tensor

from audiodiff.errors import ParameterError
from audiodiff.tasks.restoration import FOR_LOSS, Sampling
from audiodiff.tasks.restoration.declipping import TOLERANCE, Declip, declip

RATE = 8000


def sound(n_channels: int = 1, *, n_samples: int = 4000, seed: int = 0) -> Tensor:
    noise = torch.randn(n_channels, n_samples, generator=torch.Generator().manual_seed(seed))
    return 0.1 * (noise + noise.roll(1) + noise.roll(2))


def settled(repair: Declip, audio: Tensor, *, block: int = 500) -> Declip:
    return repair.analyze(iter(audio.split(block, dim=-1)), sample_rate=RATE)


@pytest.mark.parametrize("block", [100, 777, 4000])
@pytest.mark.parametrize("bits", [None, 16, 8])
def test_the_limits_of_each_channel_and_sign_are_found(block, bits):
    """To the tolerance of 1e-4, and the step of the quantisation."""
    audio = torch.stack([sound()[0].clamp(-0.2, 0.15), sound(seed=1)[0].clamp(-0.3, 9.0)])
    if bits is not None:
        audio = (audio * 2 ** (bits - 1)).round() / 2 ** (bits - 1)
    (low, high), (other, none) = settled(Declip(), audio, block=block).limits
    step = 1e-4 if bits is None else 2.0**-bits + 1e-4
    assert low == pytest.approx(-0.2, abs=step)
    assert high == pytest.approx(0.15, abs=step)
    assert other == pytest.approx(-0.3, abs=step)
    assert none == math.inf


@pytest.mark.parametrize("frequency", [20.0, 100.0, 440.0])
def test_a_whole_tone_and_whole_noise_are_not_clipped(frequency):
    tone = 0.5 * torch.sin(2.0 * torch.pi * frequency * torch.arange(8000.0) / RATE)
    for audio in (tone[None], sound(), torch.zeros(1, 100), (sound() * 128).round() / 128):
        repair = settled(Declip(), audio)
        assert repair.limits == ((-math.inf, math.inf),)
        assert repair.describe(sample_rate=RATE) == "no clipping found"
        assert not repair.is_affected(repair.known(audio, sample_rate=RATE, first_sample=0))


def stored(audio: Tensor, folder: Path, *, subtype: str) -> Tensor:
    soundfile.write(folder / "a.wav", audio.T.numpy(), RATE, subtype=subtype)
    return torch.from_numpy(soundfile.read(folder / "a.wav", dtype="float32", always_2d=True)[0]).T


@pytest.mark.parametrize("subtype", ["PCM_U8", "ULAW", "ALAW"])
def test_coarse_samples_crowd_at_the_highest_level_without_being_clipped(tmp_path: Path, subtype: str):
    """Whole tones of many levels and pitches, and then with a limit that a third of their samples pass."""
    for number in range(20):
        time = torch.arange(4000.0) / RATE
        tone = (0.2 + 0.035 * number) * torch.sin(2.0 * torch.pi * (91.3 + 17.7 * number) * time + number)[None]
        assert settled(Declip(), stored(tone, tmp_path, subtype=subtype)).limits == ((-math.inf, math.inf),)
        limit = 0.85 * float(tone.max())
        ((low, high),) = settled(Declip(), stored(tone.clamp(-limit, limit), tmp_path, subtype=subtype)).limits
        # Half a step of the largest samples, a 16th of an octave's lower end.
        assert low == pytest.approx(-limit, rel=1.0 / 16)
        assert high == pytest.approx(limit, rel=1.0 / 16)


@pytest.mark.parametrize("posterior", FOR_LOSS.values(), ids=FOR_LOSS)
@pytest.mark.parametrize("rate", [8000, 16000])
def test_nothing_changes_but_clipped_samples_and_these_only_outwards(posterior, rate):
    audio = sound(2, n_samples=1200).clamp(-0.2, 0.2)
    model = tiny.synthesizer(tiny.DEGRADED)
    result = declip(model, audio, sample_rate=rate, sampling=Sampling(posterior, steps=2))
    clipped = audio.abs() >= 0.2 * (1.0 - TOLERANCE)
    assert torch.equal(result[~clipped], audio[~clipped])
    assert bool((result[clipped].abs() >= audio[clipped].abs()).all())
    assert torch.equal(result[clipped].sign(), audio[clipped].sign())
    assert bool((result[clipped] != audio[clipped]).any())


def test_a_given_threshold_is_that_of_all_channels():
    audio = sound(2)
    repair = settled(Declip(0.2), audio)
    assert torch.equal(repair.known(audio, sample_rate=RATE, first_sample=0), (audio.abs() < 0.2).float())
    assert repair.describe(sample_rate=RATE) == "clipped at 0.2"


def test_what_is_not_clipped_is_returned_as_it_is():
    audio = sound()
    model = tiny.synthesizer(tiny.DEGRADED)
    assert torch.equal(declip(model, audio, sample_rate=RATE), audio)
    assert torch.equal(declip(model, audio, sample_rate=RATE, threshold=5.0), audio)
    assert settled(Declip(5.0), audio).describe(sample_rate=RATE) == "no sample reaches 5"


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.inf, math.nan])
def test_a_threshold_that_cannot_be_is_refused(threshold):
    with pytest.raises(ParameterError, match="threshold="):
        Declip(threshold)
