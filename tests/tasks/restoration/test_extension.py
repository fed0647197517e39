"""Lost high bands: how far the recording is intact, and that this stays."""

import math

import numpy as np
import pytest
import scipy.signal
import tiny
import torch
from torch import Tensor

from audiodiff.corruption import LowPassed
from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError
from audiodiff.tasks.restoration import Conditional, Projection, Sampling
from audiodiff.tasks.restoration.extension import Extend, detect_cutoff, extend, high_pass, mean_spectrum_db

RESTORING = [*tiny.DEGRADED, "audio.sample_rate=16000"]


def sound(*, rate: int = 16000, seconds: float = 1.0) -> Tensor:
    """Return noise whose spectrum falls by 12 dB an octave above 500 Hz, as that of speech does."""
    n_samples = round(seconds * rate)
    noise = torch.randn(1, n_samples, generator=torch.Generator().manual_seed(0))
    frequency = torch.fft.rfftfreq(n_samples, 1.0 / rate)
    return torch.fft.irfft(torch.fft.rfft(noise) / (1.0 + (frequency / 500.0) ** 2), n=n_samples)


def low_passed(audio: Tensor, cutoff: float, *, slope: float = 0.0, rate: int = 16000) -> Tensor:
    frequency = torch.fft.rfftfreq(audio.shape[-1], 1.0 / rate)
    over = ((frequency - cutoff) / max(slope * cutoff, 1e-3)).clamp(0.0, 1.0)
    return torch.fft.irfft(torch.fft.rfft(audio) * (0.5 + 0.5 * torch.cos(torch.pi * over)), n=audio.shape[-1])


def shaped(points: list[tuple[float, float]], *, rate: int = 16000, seconds: float = 4.0) -> Tensor:
    """Return noise whose spectrum runs through (Hz, dB), straight between the points."""
    n_samples = round(seconds * rate)
    frequency = torch.fft.rfftfreq(n_samples, 1.0 / rate)
    level_db = torch.from_numpy(np.interp(frequency.numpy(), *np.array(points).T)).float()
    noise = torch.randn(1, n_samples, generator=torch.Generator().manual_seed(0))
    return torch.fft.irfft(torch.fft.rfft(noise) * 10.0 ** (level_db / 20.0), n=n_samples)


def settled(repair: Extend, audio: Tensor, *, rate: int = 16000) -> Extend:
    return repair.analyze(iter(audio.split(3000, dim=-1)), sample_rate=rate)


def test_the_mean_spectrum_is_that_of_welch():
    """Up to a constant and to what smoothing takes away: 125 frames scatter by 10 / ln 10 / sqrt(125) = 0.39 dB."""
    from scipy.signal import welch

    audio = sound(seconds=8.0)
    spectrum = mean_spectrum_db(iter(audio.split(999, dim=-1)), sample_rate=16000)
    _, power = welch(audio[0].numpy(), fs=16000, window="hann", nperseg=1024, noverlap=0, detrend=False)  # pyright: ignore[reportArgumentType]
    difference = (spectrum.level_db - 10.0 * torch.from_numpy(power).log10())[20:-20]
    assert float((difference - difference.mean()).abs().max()) < 2.0


@pytest.mark.parametrize("cutoff", [2000.0, 3000.0, 4000.0, 5500.0, 7000.0])
@pytest.mark.parametrize("slope", [0.0, 0.15])
@pytest.mark.parametrize("floor", [0.0, 1e-4])
def test_a_cutoff_is_found_and_its_slope_is_not_taken_for_known(cutoff, slope, floor):
    """The floor is white noise that came after the filter, 16 bits' and more."""
    audio = low_passed(sound(seconds=4.0), cutoff, slope=slope)
    audio = audio + floor * torch.randn(audio.shape, generator=torch.Generator().manual_seed(1))
    repair = settled(Extend(), audio)
    assert 0.8 * cutoff - 100.0 <= repair.intact <= cutoff * (1.0 + slope / 2.0)
    assert settled(Extend(cutoff), audio).intact == cutoff


@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_of_a_whole_recording_nothing_is_missing(rate):
    audio = sound(rate=rate)
    assert detect_cutoff(mean_spectrum_db(iter([audio]), sample_rate=rate)) is None
    repair = settled(Extend(), audio, rate=rate)
    assert math.isinf(repair.intact)
    assert not repair.is_affected(torch.ones(1, 1))
    model = tiny.synthesizer(RESTORING)
    assert torch.equal(extend(model, audio, sample_rate=rate), audio)


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("cutoff", [2000.0, 3600.0, 5000.0])
def test_a_whole_recording_is_left_alone_whatever_the_cutoff(cutoff: float, rate: int):
    repair = settled(Extend(cutoff), sound(rate=rate, seconds=4.0), rate=rate)
    assert math.isinf(repair.intact)
    assert f"full band: its spectrum goes on above {cutoff:.0f} Hz" in repair.describe(sample_rate=rate)


@pytest.mark.parametrize(("given", "used"), [(3000.0, 3000.0), (3600.0, 3600.0), (3900.0, 3600.0)])
def test_at_a_lower_rate_a_cutoff_ends_where_resampling_attenuates(given: float, used: float):
    audio = low_passed(sound(rate=8000), given, rate=8000)
    assert settled(Extend(given), audio, rate=8000).intact == used
    tones = torch.sin(2.0 * torch.pi * 3600.0 * torch.arange(4000.0) / 8000)[None]
    kept = resample(tones, from_rate=8000, to_rate=16000)[:, 1000:-1000]
    assert 10.0 * math.log10(float(kept.square().mean()) / 0.5) > -0.03


@pytest.mark.parametrize(
    "points",
    [
        # The first formant, and far below it a second and a third.
        [(0, -10), (450, 0), (600, -5), (900, -25), (1500, -28), (2500, -30), (4000, -35), (8000, -45)],
        # A valley between formants, as steep as a filter.
        [(0, -5), (500, 0), (1700, -15), (2000, -48), (2400, -47), (3000, -37), (8000, -50)],
        # A steep fall that ends not far below the peak.
        [(0, -5), (500, 0), (1900, -5), (2100, -24), (8000, -24)],
    ],
)
def test_formants_are_no_cutoff(points: list[tuple[float, float]]):
    assert math.isinf(settled(Extend(), shaped(points)).intact)


def butterworth(audio: Tensor, cutoff: float) -> Tensor:
    sections = scipy.signal.butter(16, cutoff, fs=16000, output="sos")
    return torch.from_numpy(scipy.signal.sosfilt(sections, audio.double().numpy())).float()


def finite(audio: Tensor, cutoff: float) -> Tensor:
    taps = scipy.signal.firwin(127, cutoff, fs=16000)
    return torch.from_numpy(scipy.signal.lfilter(taps, 1.0, audio.double().numpy())).float()


def resampled(audio: Tensor, cutoff: float) -> Tensor:
    there = resample(audio, from_rate=16000, to_rate=round(2.0 * cutoff))
    return resample(there, from_rate=round(2.0 * cutoff), to_rate=16000)


def gated(audio: Tensor, cutoff: float) -> Tensor:
    """Leave out the bands above, frame by frame, as codecs do."""
    window = torch.hann_window(1024)
    bands = torch.stft(audio, 1024, 256, window=window, return_complex=True)
    bands[:, round(cutoff * 1024 / 16000) :] = 0.0
    return torch.istft(bands, 1024, 256, window=window, length=audio.shape[-1])


@pytest.mark.parametrize("cutoff", [1500.0, 2500.0, 3400.0, 5000.0, 7000.0])
@pytest.mark.parametrize("filtered", [butterworth, finite, resampled, gated])
def test_cutoffs_of_common_filters_are_found(filtered, cutoff: float):
    """Above the steps of 16 bits. The steepest place lies behind the cutoff, by the width of the slope."""
    points: list[tuple[float, float]] = [
        (0, -10),
        (450, 0),
        (900, -14),
        (1500, -15),
        (2500, -17),
        (4000, -22),
        (8000, -32),
    ]
    speech = shaped(points)
    audio = (filtered(0.1 * speech / speech.std(), cutoff) * 32768).round() / 32768
    found = detect_cutoff(mean_spectrum_db(iter([audio]), sample_rate=16000))
    assert found is not None
    assert 0.85 * cutoff - 100.0 < found < 1.3 * cutoff


def test_a_lower_rate_is_a_cutoff_below_the_slope_of_resampling():
    repair = settled(Extend(), sound(rate=8000), rate=8000)
    assert repair.intact == pytest.approx(0.87 * 4000.0)
    tones = torch.sin(2.0 * torch.pi * repair.intact * torch.arange(4000.0) / 8000)[None]
    kept = resample(tones, from_rate=8000, to_rate=16000)[:, 1000:-1000]
    assert float(kept.square().mean()) == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("posterior", "rate"),
    [(Conditional(), 8000), (Conditional(), 16000), (Conditional(), 44100), (Projection(), 16000)],
)
def test_the_band_below_stays_and_the_result_has_the_higher_rate(posterior, rate):
    audio = low_passed(sound(rate=rate), 3000.0, rate=rate)
    model = tiny.synthesizer(RESTORING)
    result = extend(model, audio, sample_rate=rate, sampling=Sampling(posterior, steps=2))
    out_rate = max(rate, 16000)
    recording = resample(audio, from_rate=rate, to_rate=out_rate)
    assert result.shape == recording.shape
    added = result - recording
    middle = added[:, out_rate // 10 : -out_rate // 10]
    power = torch.fft.rfft(middle * torch.hann_window(middle.shape[-1])).abs().square()[0]
    frequency = torch.fft.rfftfreq(middle.shape[-1], 1.0 / out_rate)
    # The filter stops by 80 dB.
    assert float(power[frequency < 0.88 * 0.8 * 3000.0].sum()) < 1e-6 * float(power.sum())
    assert float(power[frequency > 3000.0].sum()) > 0.1 * float(power.sum())


def test_the_crossover_passes_all_above_and_nothing_below():
    time = torch.arange(16000.0) / 16000
    for frequency, passes in ((1500.0, False), (1750.0, False), (2000.0, True), (5000.0, True)):
        tone = torch.sin(2.0 * torch.pi * frequency * time)[None]
        kept = high_pass(tone, 2000.0, sample_rate=16000)[:, 1000:-1000]
        torch.testing.assert_close(kept, (tone * passes)[:, 1000:-1000], rtol=0, atol=2e-3)


def test_training_damage_is_recognised():
    """What `LowPassed` makes is found within its range of cutoffs."""
    audio = sound(seconds=4.0)[:, None]
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        damaged = LowPassed(highest=6500.0)(audio, generator, sample_rate=16000).audio[:, 0]
        assert 0.7 * 1500.0 < settled(Extend(), damaged).intact < 1.15 * 6500.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Extend(4.0), "is it in kHz"),
        (lambda: Extend(8000.0), "below half of the model's"),
        (lambda: settled(Extend(5000.0), sound(rate=8000), rate=8000), "at most half of the sample rate"),
    ],
)
def test_wrong_arguments_are_refused_by_name(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
