"""Mel cepstral distortion: the distance between spectral envelopes."""

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.metrics.frames import magnitude_squared_blocks, speech_frames
from audiodiff.metrics.pairs import all_nan, in_float64, is_silent, nan_where, result_like
from audiodiff.metrics.time_warping import warped_distance

_N_MELS, _F_MAX = 80, 8000.0
_N_MFCC, _N_MEL_CEPSTRUM = 13, 24
_FLOOR = 1e-5
_DB = 10 * math.sqrt(2) / math.log(10)

Cepstra = Callable[[Tensor, int], Tensor]
"""(audio, sample_rate) -> cepstra of frames (*batch, coefficients, frames), without c_0."""


def mfcc(audio: Float[Tensor, "*batch time"], sample_rate: int) -> Float[Tensor, "*batch 13 frames"]:
    """Compute c_1 to c_13 of the orthonormal DCT-II over 80 bands of ln max(mel, 1e-5).

    mel is the magnitude spectrogram in Slaney's mel filters of unit area from 0 to 8000 Hz, or to half the rate if that
    is lower. Frames: 25 ms periodic Hann window every 10 ms, zero-padded to the power of two from twice the window up,
    centred, with reflected ends. The audio must be longer than half an FFT.
    """
    filters = _filters(sample_rate, speech_frames(sample_rate)[0]).to(audio)
    dct = _dct().to(audio)
    return torch.cat(
        [dct @ (filters @ power.sqrt()).clamp(min=_FLOOR).log() for power in _power(audio, sample_rate)], dim=-1
    )


def mel_cepstrum(audio: Float[Tensor, "*batch time"], sample_rate: int) -> Float[Tensor, "*batch 24 frames"]:
    """Compute the mel cepstrum c_1 to c_24 of each frame's spectrum, on the scale of SPTK and WORLD.

    ln |X(w)| is fitted by c_0 + sum_m c_m cos(m v(w)), where v is the frequency that an all-pass filter of alpha warps
    to nearly the mel scale (0.41 at 16 kHz, see `all_pass_constant`). |X|, at least 1e-5, is the spectrum of frames as
    in `mfcc`; WORLD and SPTK's mcep smooth it first, which changes the values.

    Source:
        Tokuda et al. 1994, "Mel-generalized cepstral analysis"; the warping is SPTK's freqt.
    """
    warping = _warping(speech_frames(sample_rate)[0], all_pass_constant(sample_rate)).to(audio)
    blocks = []
    for power in _power(audio, sample_rate):
        cepstrum = torch.fft.irfft(power.clamp(min=_FLOOR**2).log(), dim=-2)
        blocks.append(warping @ cepstrum[..., : warping.shape[1], :])
    return torch.cat(blocks, dim=-1)


def mel_cepstral_distortion_db(
    estimate: Float[Tensor, "*batch time"],
    reference: Float[Tensor, "*batch time"],
    *,
    sample_rate: int,
    cepstra: Cepstra = mfcc,
    warp: bool = False,
) -> Float[Tensor, "*batch"]:
    """Compute (10 sqrt(2) / ln 10) mean_t sqrt(sum_k (c_k,E - c_k,R)^2), in dB, per example.

    c_0, the level, is left out. Publications use many definitions of MCD, whose values differ by factors: with
    `mel_cepstrum` it is the root mean square difference of the envelopes in dB; with `mfcc`, whose DCT is orthonormal,
    it is about sqrt(80 / 2) = 6.3 times as much. Compare only values of one definition.

    Args:
        sample_rate: in Hz.
        cepstra: `mfcc` or `mel_cepstrum`.
        warp: align the frames by dynamic time warping (`warped_distance`), and average along the alignment; otherwise
            frame t is compared with frame t, so the signals must be aligned.

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
    n_fft, _, _ = speech_frames(sample_rate)
    e, r = in_float64(estimate, reference)
    if r.shape[-1] <= n_fft // 2:
        return result_like(all_nan(r), estimate)
    of_e, of_r = cepstra(e, sample_rate), cepstra(r, sample_rate)
    if warp:
        pairs = zip(of_e.flatten(0, -3), of_r.flatten(0, -3), strict=True) if e.ndim > 1 else [(of_e, of_r)]
        distances = [warped_distance(one.cpu().numpy(), other.cpu().numpy()) for one, other in pairs]
        distance = torch.tensor(distances, dtype=r.dtype, device=r.device).reshape(r.shape[:-1])
    else:
        distance = (of_e - of_r).square().sum(-2).sqrt().mean(-1)
    return result_like(nan_where(is_silent(r), _DB * distance), estimate)


@functools.lru_cache(maxsize=8)
def all_pass_constant(sample_rate: int) -> float:
    """Return the alpha, to 0.001, whose all-pass filter warps frequencies most nearly to the mel scale.

    The mel scale is 1000 / ln 2 * ln(1 + f / 1000), scaled to half the rate, and the distance is the root mean square
    over all frequencies, as in pysptk's mcepalpha.

    Example:
        >>> [all_pass_constant(rate) for rate in (8000, 16000, 22050, 44100, 48000)]
        [0.312, 0.41, 0.455, 0.544, 0.554]
    """
    w = np.linspace(0.0, math.pi, 1000)
    mel = np.log1p(w / math.pi * sample_rate / 2 / 1000.0)
    mel *= math.pi / mel[-1]
    alphas = np.arange(0.0, 1.0, 0.001)[:, None]
    warped = w + 2 * np.arctan2(alphas * np.sin(w), 1 - alphas * np.cos(w))
    return round(float(alphas[np.square(warped - mel).mean(1).argmin(), 0]), 3)


def _power(audio: Float[Tensor, "*batch time"], sample_rate: int):
    """Yield |STFT|^2 of consecutive frames."""
    n_fft, hop_length, win_length = speech_frames(sample_rate)
    return magnitude_squared_blocks(audio, n_fft=n_fft, hop_length=hop_length, win_length=win_length)


@functools.lru_cache(maxsize=8)
def _filters(sample_rate: int, n_fft: int) -> Float[Tensor, "n_mels bins"]:
    import librosa.filters  # lazy: it takes a second to import

    f_max = min(_F_MAX, sample_rate / 2)
    return torch.from_numpy(librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=_N_MELS, fmax=f_max)).double()


@functools.lru_cache(maxsize=1)
def _dct() -> Float[Tensor, "coefficients n_mels"]:
    """Return rows 1 to 13 of the orthonormal DCT-II."""
    k = torch.arange(1, _N_MFCC + 1, dtype=torch.float64)[:, None]
    n = torch.arange(_N_MELS, dtype=torch.float64)
    return math.sqrt(2 / _N_MELS) * torch.cos(math.pi * k * (2 * n + 1) / (2 * _N_MELS))


@functools.lru_cache(maxsize=8)
def _warping(n_fft: int, alpha: float) -> Float[Tensor, "24 half"]:
    """Return the matrix from the inverse FFT of ln |X|^2 to the mel cepstrum (SPTK's freqt), by Oppenheim's recursion.

    Coefficient n of that inverse FFT is coefficient n of ln |X| = sum_n c_n cos(n w), for n from 1; half of it for the
    last one.
    """
    half = n_fft // 2 + 1
    inputs = np.eye(half)
    inputs[-1] *= 0.5
    warped = np.zeros((_N_MEL_CEPSTRUM + 1, half))
    for row in inputs[::-1]:
        previous = warped.copy()
        warped[0] = row + alpha * previous[0]
        warped[1] = (1 - alpha**2) * previous[0] + alpha * previous[1]
        for k in range(2, len(warped)):
            warped[k] = previous[k - 1] + alpha * (previous[k] - warped[k - 1])
    return torch.from_numpy(warped[1:])
