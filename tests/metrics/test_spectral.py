"""Spectral distances against closed forms and against independent computations."""

import inspect
import math

import librosa
import numpy as np
import pytest
import torch

from audiodiff.errors import ParameterError
from audiodiff.metrics import log_spectral_distance, multi_resolution_stft
from audiodiff.metrics.frames import magnitude_squared_blocks


def noise(seed: int, n_samples: int = 16000) -> torch.Tensor:
    return 0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("gain_db", [-20.0, -3.0, 10.0])
def test_lsd_of_a_gain_is_a_tenth_of_its_db(gain_db: float):
    r = noise(0)
    assert log_spectral_distance(10 ** (gain_db / 20) * r, r).item() == pytest.approx(abs(gain_db) / 10, abs=1e-3)


def test_lsd_equals_librosa_and_numpy():
    e, r = noise(0), noise(1)
    log_e, log_r = (
        np.log10(np.maximum(np.abs(librosa.stft(s.numpy(), n_fft=2048, hop_length=512, pad_mode="reflect")) ** 2, 1e-8))
        for s in (e, r)
    )
    expected = np.sqrt(((log_e - log_r) ** 2).mean(axis=0)).mean()
    assert log_spectral_distance(e, r).item() == pytest.approx(expected, abs=1e-9)
    # A band is the same over the bins whose centres lie in it.
    hz = librosa.fft_frequencies(sr=16000, n_fft=2048)
    inside = (hz >= 1000) & (hz <= 4000)
    expected = np.sqrt(((log_e - log_r)[inside] ** 2).mean(axis=0)).mean()
    banded = log_spectral_distance(e, r, sample_rate=16000, f_min=1000.0, f_max=4000.0)
    assert banded.item() == pytest.approx(expected, abs=1e-9)


def test_lsd_is_symmetric_and_its_band_to_half_the_rate_is_the_whole():
    e, r = noise(0), noise(1)
    whole = log_spectral_distance(e, r)
    assert whole == log_spectral_distance(r, e)
    assert whole == log_spectral_distance(e, r, sample_rate=16000, f_max=8000.0)


@pytest.mark.parametrize(
    "band",
    [
        {"f_min": 100.0},
        {"f_min": 9000.0, "sample_rate": 16000},
        {"f_min": 4000.0, "f_max": 3000.0, "sample_rate": 16000},
    ],
)
def test_impossible_bands_are_refused(band: dict):
    with pytest.raises(ParameterError, match="f_min"):
        inspect.unwrap(log_spectral_distance)(noise(0), noise(1), **band)


def test_the_phase_does_not_matter():
    r = noise(0)
    assert log_spectral_distance(-r, r) == 0
    assert multi_resolution_stft(-r, r) == 0


def test_multi_resolution_stft_of_a_gain_has_a_closed_form():
    r = noise(0)
    # | 1 - g | + | ln g |; white noise of this level stays above the floor of 1e-4, save for few bins.
    assert multi_resolution_stft(0.5 * r, r).item() == pytest.approx(0.5 + math.log(2), abs=1e-4)


def test_multi_resolution_stft_equals_auraloss_as_it_is_documented():
    e, r = noise(0), noise(1)
    total = 0.0
    for n_fft, hop_length, win_length in ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)):
        window = np.hanning(win_length + 1)[:-1]
        magnitudes = []
        for signal in (e, r):
            spectrum = librosa.stft(
                signal.numpy(),
                n_fft=n_fft,
                hop_length=hop_length,
                win_length=win_length,
                window=window,
                pad_mode="reflect",
            )
            magnitudes.append(np.sqrt(np.maximum(np.abs(spectrum) ** 2, 1e-8)))
        e_magnitude, r_magnitude = magnitudes
        total += np.linalg.norm(r_magnitude - e_magnitude) / np.linalg.norm(r_magnitude)
        total += np.abs(np.log(r_magnitude) - np.log(e_magnitude)).mean()
    assert multi_resolution_stft(e, r).item() == pytest.approx(total / 3, rel=1e-9)


@pytest.mark.parametrize("n_samples", [1100, 4096 * 50 - 1, 4096 * 50, 4096 * 50 + 1])
def test_spectra_in_blocks_are_those_of_the_whole(n_samples: int):
    audio = noise(0, n_samples)
    blocks = list(magnitude_squared_blocks(audio, n_fft=512, hop_length=50, win_length=240))
    whole = torch.stft(audio, 512, 50, 240, torch.hann_window(240, dtype=audio.dtype), return_complex=True).abs() ** 2
    torch.testing.assert_close(torch.cat(blocks, dim=-1), whole)
    assert len(blocks) == (2 if whole.shape[-1] > 4096 else 1)
