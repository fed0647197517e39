"""Mel cepstral distortion: the distance between spectral envelopes."""

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.metrics.frames import magnitude_squared_blocks, speech_frames
from audiodiff.metrics.pairs import all_nan, in_float64, is_silent, nan_where, result_like

_N_MELS, _F_MAX = 80, 8000.0
_N_COEFFICIENTS = 13
_FLOOR = 1e-5


def mel_cepstral_distortion_db(
    estimate: Float[Tensor, "*batch time"], reference: Float[Tensor, "*batch time"], *, sample_rate: int
) -> Float[Tensor, "*batch"]:
    """Compute (10 sqrt(2) / ln 10) mean_t sqrt(sum_{k=1..13} (c_k,E - c_k,R)^2), in dB, per example.

    c is the orthonormal DCT-II over 80 bands of ln max(mel, 1e-5), where mel is the magnitude spectrogram (25 ms
    periodic Hann window, 10 ms hop, zero-padded to the power of two from twice the window up, centred frames with
    reflected ends) in Slaney's mel filters of unit area from 0 to 8000 Hz, or to half the rate if that is lower.
    c_0, the level, is left out. There is no time warping, so the signals must be aligned. Publications use many
    definitions of MCD, whose values differ by factors: compare only values of this one.

    Args:
        sample_rate: in Hz.

    Returns:
        A value from 0, in dB; NaN where a reference is silent or not longer than half an FFT (0.05 s).

    Raises:
        ParameterError: if the shapes differ or sample_rate is below 1000.

    Example:
        >>> reference = torch.randn(16000, generator=torch.Generator().manual_seed(0))
        >>> bool(mel_cepstral_distortion_db(0.5 * reference, reference, sample_rate=16000) < 1e-5)
        True

    Source:
        Kubichek 1993, "Mel-cepstral distance measure for objective speech quality assessment".
    """
    n_fft, hop_length, win_length = speech_frames(sample_rate)
    e, r = in_float64(estimate, reference)
    if r.shape[-1] <= n_fft // 2:
        return result_like(all_nan(r), estimate)
    difference = _log_mel(e, sample_rate=sample_rate, n_fft=n_fft, win_length=win_length, hop_length=hop_length)
    difference -= _log_mel(r, sample_rate=sample_rate, n_fft=n_fft, win_length=win_length, hop_length=hop_length)
    cepstrum = _dct().to(difference.device) @ difference  # (*batch, 13, frames)
    distance = cepstrum.square().sum(-2).sqrt().mean(-1)
    return result_like(nan_where(is_silent(r), 10 * math.sqrt(2) / math.log(10) * distance), estimate)


def _log_mel(
    audio: Float[Tensor, "*batch time"], *, sample_rate: int, n_fft: int, win_length: int, hop_length: int
) -> Float[Tensor, "*batch n_mels frames"]:
    filters = _filters(sample_rate, n_fft).to(audio.device)
    blocks = magnitude_squared_blocks(audio, n_fft=n_fft, hop_length=hop_length, win_length=win_length)
    return torch.cat([(filters @ power.sqrt()).clamp(min=_FLOOR).log() for power in blocks], dim=-1)


@functools.lru_cache(maxsize=8)
def _filters(sample_rate: int, n_fft: int) -> Float[Tensor, "n_mels bins"]:
    import librosa.filters  # lazy: it takes a second to import

    f_max = min(_F_MAX, sample_rate / 2)
    return torch.from_numpy(librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=_N_MELS, fmax=f_max)).double()


@functools.lru_cache(maxsize=1)
def _dct() -> Float[Tensor, "coefficients n_mels"]:
    """Return rows 1 to 13 of the orthonormal DCT-II."""
    k = torch.arange(1, _N_COEFFICIENTS + 1, dtype=torch.float64)[:, None]
    n = torch.arange(_N_MELS, dtype=torch.float64)
    return math.sqrt(2 / _N_MELS) * torch.cos(math.pi * k * (2 * n + 1) / (2 * _N_MELS))
