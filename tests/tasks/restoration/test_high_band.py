"""The level of an added high band, which what lies below it decides, and not the draw."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from audiodiff.diffusion.operators import LowPass
from audiodiff.dsp import speech_bands
from audiodiff.dsp.resample import resample
from audiodiff.io import audio as audio_io
from audiodiff.models import checkpoint
from audiodiff.tasks.restoration import extend
from audiodiff.tasks.restoration.high_band import shaped

KATHLEEN = Path(__file__).resolve().parents[4] / "shared" / "data" / "kathleen"
RATE = 16000
LEVELS = torch.tensor([speech_bands.LEVEL])
LOUD, LESS = speech_bands.of_speech().means.mean(dim=1).argsort(descending=True)[:2].tolist()


def typical(number: int, *, rate: int = RATE, seconds: float = 1.0) -> torch.Tensor:
    """Return noise, (1, time), whose band powers are the mean of one of the mixture's Gaussians."""
    n_samples = round(seconds * rate)
    frequency = np.fft.rfftfreq(n_samples, 1.0 / rate)
    edges, mean = speech_bands.edges_hz(), speech_bands.of_speech().means[number].numpy()
    log_power = np.interp(frequency, 0.5 * (edges[1:] + edges[:-1]), mean)
    gain = np.exp(0.5 * log_power) / np.sqrt(0.375 * 512 * 16000 / rate) * (frequency <= 8000)
    noise = torch.randn(1, n_samples, generator=torch.Generator().manual_seed(number))
    return torch.fft.irfft(torch.fft.rfft(noise) * torch.from_numpy(gain), n=n_samples).float()


def low_passed(audio: torch.Tensor, cutoff: float, *, rate: int = RATE) -> torch.Tensor:
    return LowPass(cutoff / rate)(audio[:, None])[:, 0]


def band_db(audio: torch.Tensor, low: float, high: float, *, rate: int = RATE) -> float:
    power = torch.fft.rfft(audio.double()).abs().square().sum(0)
    frequency = torch.fft.rfftfreq(audio.shape[-1], 1.0 / rate)
    return float(10.0 * power[(frequency > low) & (frequency < high)].sum().log10())


def white(rate: int = RATE) -> torch.Tensor:
    return 0.01 * torch.randn(1, rate, generator=torch.Generator().manual_seed(99))


@pytest.mark.parametrize("cutoff", [2000.0, 3600.0, 5000.0])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_sound_as_typical_of_speech_gets_its_lost_band_back(cutoff: float, rate: int):
    """On average over the six most frequent Gaussians, whose own bands are the truth; below, some look like others."""
    errors = []
    for number in speech_bands.of_speech().weights.argsort(descending=True)[:6].tolist():
        truth = typical(number, rate=rate)
        made = shaped(low_passed(truth, cutoff, rate=rate), white(rate), cutoff=cutoff, levels=LEVELS, sample_rate=rate)
        own, true = (band_db(each, cutoff + 200.0, 7800.0, rate=rate) for each in (made, truth))
        errors.append(own - true)
    assert abs(float(np.mean(errors))) < 3.0


def test_the_level_of_the_draw_does_not_matter_and_that_of_the_recording_does():
    narrow, drawn = low_passed(typical(LOUD), 3000.0), white()
    made = shaped(narrow, drawn, cutoff=3000.0, levels=LEVELS, sample_rate=RATE)
    quiet = shaped(narrow, 0.1 * drawn, cutoff=3000.0, levels=LEVELS, sample_rate=RATE)
    assert abs(band_db(quiet, 3200.0, 7800.0) - band_db(made, 3200.0, 7800.0)) < 0.1
    double = shaped(2.0 * narrow, drawn, cutoff=3000.0, levels=2.0 * LEVELS, sample_rate=RATE)
    torch.testing.assert_close(double, 2.0 * made, rtol=0, atol=1e-3 * float(made.abs().max()))


def test_channels_are_shaped_each_by_itself():
    narrow = low_passed(torch.cat([typical(LOUD), 0.1 * typical(LOUD), typical(LESS)]), 3000.0)
    drawn, levels = white().expand(3, -1), torch.cat([LEVELS, 0.1 * LEVELS, LEVELS])
    made = shaped(narrow, drawn, cutoff=3000.0, levels=levels, sample_rate=RATE)
    for channel in range(3):
        part = slice(channel, channel + 1)
        alone = shaped(narrow[part], drawn[part], cutoff=3000.0, levels=levels[part], sample_rate=RATE)
        torch.testing.assert_close(made[part], alone, rtol=0, atol=1e-4 * float(alone.abs().max()))
    torch.testing.assert_close(made[1], 0.1 * made[0], rtol=0, atol=1e-4 * float(made[0].abs().max()))


def test_silence_gets_no_band():
    made = shaped(torch.zeros(1, RATE), torch.zeros(1, RATE), cutoff=3000.0, levels=torch.zeros(1), sample_rate=RATE)
    assert not made.any()


@pytest.mark.skipif(not KATHLEEN.is_dir(), reason="needs recordings in shared/data/kathleen beside the repository")
@pytest.mark.parametrize("cutoff", [2000.0, 4000.0])
def test_speech_gets_a_band_within_6_db_of_what_it_lost(cutoff: float):
    """In the loudest fifth of frames, on average over four prompts; takes 3 s for the draws of a network."""
    model = checkpoint.load("speech-prior-16k")
    with (KATHLEEN / "manifest.csv").open(newline="") as file:
        paths = [KATHLEEN / row["path"] for row in csv.DictReader(file) if row["split"] == "test"]
    errors = []
    for path in paths[::15]:
        audio, rate = audio_io.read(path)
        truth = resample(audio, from_rate=rate, to_rate=RATE)[:, : 2 * RATE]
        made = extend(model, low_passed(truth, cutoff), sample_rate=RATE, cutoff=cutoff)
        frames = [each[0].unfold(-1, 512, 512) for each in (made, truth)]
        power = frames[1].square().sum(-1)
        loud = power >= power.quantile(0.8)
        own, true = (band_db(each[loud] * torch.hann_window(512), cutoff + 200.0, 8000.0) for each in frames)
        errors.append(own - true)
    assert len(errors) == 4
    assert abs(float(np.mean(errors))) < 6.0
