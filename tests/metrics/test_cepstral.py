"""Mel cepstral distortion against librosa and scipy."""

import math

import librosa
import numpy as np
import pytest
import scipy.fft
import torch

from audiodiff.metrics import mel_cepstral_distortion_db


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 48000])
def test_mcd_equals_librosa_and_scipy(rate: int):
    generator = torch.Generator().manual_seed(0)
    e, r = 0.1 * torch.randn(2, rate, generator=generator, dtype=torch.float64)
    win_length = round(0.025 * rate)
    n_fft = 1
    while n_fft < 2 * win_length:
        n_fft *= 2
    cepstra = []
    for signal in (e, r):
        mel = librosa.feature.melspectrogram(
            y=signal.numpy(),
            sr=rate,
            n_fft=n_fft,
            win_length=win_length,
            hop_length=round(0.010 * rate),
            power=1.0,
            n_mels=80,
            fmax=min(8000, rate / 2),
            pad_mode="reflect",
        )
        cepstra.append(scipy.fft.dct(np.log(np.maximum(mel, 1e-5)), type=2, norm="ortho", axis=0)[1:14])
    distance = np.linalg.norm(cepstra[0] - cepstra[1], axis=0).mean()
    expected = 10 * math.sqrt(2) / math.log(10) * distance
    # librosa keeps its mel product in float32 here and there.
    assert mel_cepstral_distortion_db(e, r, sample_rate=rate).item() == pytest.approx(expected, rel=1e-6)


def test_a_gain_is_not_seen_and_the_order_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    e, r = 0.1 * torch.randn(2, 16000, generator=generator, dtype=torch.float64)
    value = mel_cepstral_distortion_db(e, r, sample_rate=16000)
    assert mel_cepstral_distortion_db(3 * e, r, sample_rate=16000).item() == pytest.approx(value.item(), abs=1e-9)
    assert mel_cepstral_distortion_db(r, e, sample_rate=16000).item() == pytest.approx(value.item(), abs=1e-12)
