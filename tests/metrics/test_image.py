"""PSNR and SSIM of log-mel images against scikit-image, on images that librosa makes."""

import inspect
import math

import librosa
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from audiodiff.errors import ParameterError
from audiodiff.metrics import mel_psnr_db, mel_ssim


def noise(seed: int, n_samples: int = 16000) -> torch.Tensor:
    envelope = 10.0 ** (-3.0 * torch.linspace(0, 1, n_samples, dtype=torch.float64))
    return envelope * 0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def librosa_images(e: torch.Tensor, r: torch.Tensor, *, rate: int) -> list[np.ndarray]:
    win = round(0.025 * rate)
    n_fft = 2 ** math.ceil(math.log2(2 * win))
    filters = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=80, fmax=min(8000.0, rate / 2), dtype=np.float64)
    mels = [
        filters
        @ np.abs(librosa.stft(s.numpy(), n_fft=n_fft, hop_length=rate // 100, win_length=win, pad_mode="reflect"))
        for s in (e, r)
    ]
    top = 20 * np.log10(mels[1].max())
    return [np.maximum(20 * np.log10(np.maximum(mel, 1e-30)) - (top - 80), 0) for mel in mels]


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_psnr_and_ssim_equal_scikit_image_on_librosas_mel(rate: int):
    r = noise(0, rate)
    e = 0.7 * r + 0.003 * noise(1, rate).flip(0)
    image_e, image_r = librosa_images(e, r, rate=rate)
    psnr = peak_signal_noise_ratio(image_r, image_e, data_range=80)
    ssim = structural_similarity(
        image_e, image_r, data_range=80, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert 0.1 < ssim < 0.999
    assert mel_psnr_db(e, r, sample_rate=rate).item() == pytest.approx(psnr, abs=1e-6)
    assert mel_ssim(e, r, sample_rate=rate).item() == pytest.approx(ssim, abs=1e-8)


def test_psnr_of_a_gain_above_the_floor_is_that_of_its_decibels():
    r = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert mel_psnr_db(2.0 * r, r, sample_rate=16000).item() == pytest.approx(
        20 * math.log10(80 / (20 * math.log10(2))), abs=1e-9
    )


def test_a_common_gain_does_not_matter():
    e, r = noise(0), noise(1)
    for metric in (mel_psnr_db, mel_ssim):
        assert metric(1e-3 * e, 1e-3 * r, sample_rate=16000).item() == pytest.approx(
            metric(e, r, sample_rate=16000).item(), abs=1e-9
        )


def test_levels_80_db_below_the_reference_do_not_matter():
    r = torch.zeros(16000, dtype=torch.float64)
    r[:8000] = 0.5 * noise(0)[:8000]
    quiet = 1e-12 * noise(1)
    assert mel_psnr_db(r + quiet, r, sample_rate=16000) > 60
    assert mel_ssim(r + quiet, r, sample_rate=16000).item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("metric", [mel_psnr_db, mel_ssim])
def test_a_rate_in_kilohertz_is_refused(metric):
    with pytest.raises(ParameterError, match="kHz"):
        inspect.unwrap(metric)(noise(0), noise(1), sample_rate=16)
