"""Distances between magnitude spectrograms: log-spectral distance and multi-resolution STFT."""

from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError
from audiodiff.metrics.frames import magnitude_squared_blocks
from audiodiff.metrics.pairs import all_nan, in_float64, is_silent, nan_where, result_like

_EPS_POWER = 1e-8
_LSD_N_FFT, _LSD_HOP_LENGTH = 2048, 512
# n_fft, hop_length, win_length: the defaults of auraloss 0.4.0, from Yamamoto et al. 2019.
_RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))


def log_spectral_distance(
    estimate: Float[Tensor, "*batch time"],
    reference: Float[Tensor, "*batch time"],
    *,
    sample_rate: int | None = None,
    f_min: float = 0.0,
    f_max: float | None = None,
) -> Float[Tensor, "*batch"]:
    """Compute mean_t sqrt(mean_f (log10 |E|^2 - log10 |R|^2)^2), per example: 0.1 is 1 dB.

    The published convention: log10 of power of at least 1e-8; 2048-point STFT, hop 512, periodic Hann, centred frames
    with reflected ends. Digital silence against noise gives a large distance, which depends on this floor.

    Args:
        sample_rate: in Hz; needed only with a band.
        f_min: lowest frequency of the band, in Hz; the cutoff gives LSD-HF of a bandwidth extension.
        f_max: highest frequency of the band, in Hz; None is half the rate.

    Returns:
        A value from 0, without unit (bels of power); NaN where a reference is silent or not longer than 1024 samples.

    Raises:
        ParameterError: if the shapes differ, or the band has no bin or no sample_rate.

    Example:
        >>> reference = torch.randn(16000, generator=torch.Generator().manual_seed(0))
        >>> log_spectral_distance(0.1 * reference, reference)
        tensor(2.)

    Source:
        Gray and Markel 1976; as computed by Lee and Han 2021, "NU-Wave".
    """
    e, r = in_float64(estimate, reference)
    bins = _band(sample_rate=sample_rate, f_min=f_min, f_max=f_max)
    if r.shape[-1] <= _LSD_N_FFT // 2:
        return result_like(all_nan(r), estimate)
    frames = [
        (e_power[..., bins, :].log10() - r_power[..., bins, :].log10()).square().mean(-2).sqrt()
        for e_power, r_power in _powers(e, r, n_fft=_LSD_N_FFT, hop_length=_LSD_HOP_LENGTH, win_length=_LSD_N_FFT)
    ]
    distance = torch.cat(frames, dim=-1).mean(-1)
    return result_like(nan_where(is_silent(r), distance), estimate)


def multi_resolution_stft(
    estimate: Float[Tensor, "*batch time"], reference: Float[Tensor, "*batch time"]
) -> Float[Tensor, "*batch"]:
    """Compute the mean over three STFTs of | |R| - |E| |_F / | |R| |_F + mean |ln |R| - ln |E||, per example.

    The value of auraloss 0.4.0, MultiResolutionSTFTLoss with its defaults: FFT 1024, 2048, 512; hop 120, 240, 50;
    Hann windows of 600, 1200, 240; power at least 1e-8; no perceptual weighting.

    Returns:
        A value from 0, without unit; NaN where a reference is silent or not longer than 1024 samples.

    Raises:
        ParameterError: if the shapes differ.

    Example:
        >>> reference = torch.randn(16000, generator=torch.Generator().manual_seed(0))
        >>> multi_resolution_stft(0.5 * reference, reference)  # 0.5 + ln 2
        tensor(1.1931)

    Source:
        Yamamoto, Song and Kim 2019, arXiv 1910.11480, eqs. 4 to 6; Steinmetz and Reiss 2020, "auraloss".
    """
    e, r = in_float64(estimate, reference)
    if r.shape[-1] <= max(n_fft for n_fft, _, _ in _RESOLUTIONS) // 2:
        return result_like(all_nan(r), estimate)
    total = torch.zeros(r.shape[:-1], dtype=r.dtype, device=r.device)
    for n_fft, hop_length, win_length in _RESOLUTIONS:
        error, power, log_distance, n_values = (torch.zeros_like(total) for _ in range(4))
        for e_power, r_power in _powers(e, r, n_fft=n_fft, hop_length=hop_length, win_length=win_length):
            error = error + (r_power.sqrt() - e_power.sqrt()).square().sum((-1, -2))
            power = power + r_power.sum((-1, -2))
            log_distance = log_distance + 0.5 * (r_power.log() - e_power.log()).abs().sum((-1, -2))
            n_values = n_values + r_power.shape[-1] * r_power.shape[-2]
        total = total + (error / power).sqrt() + log_distance / n_values
    return result_like(nan_where(is_silent(r), total / len(_RESOLUTIONS)), estimate)


def _powers(
    estimate: Float[Tensor, "*batch time"],
    reference: Float[Tensor, "*batch time"],
    *,
    n_fft: int,
    hop_length: int,
    win_length: int,
) -> Iterator[tuple[Float[Tensor, "*batch bins frames"], Float[Tensor, "*batch bins frames"]]]:
    """Yield |STFT|^2 of both, at least 1e-8, in blocks of frames."""
    blocks = partial(magnitude_squared_blocks, n_fft=n_fft, hop_length=hop_length, win_length=win_length)
    for e_power, r_power in zip(blocks(estimate), blocks(reference), strict=True):
        yield e_power.clamp(min=_EPS_POWER), r_power.clamp(min=_EPS_POWER)


def _band(*, sample_rate: int | None, f_min: float, f_max: float | None) -> slice:
    """Return the bins of the log-spectral distance whose centres lie in [f_min, f_max]."""
    if f_min == 0 and f_max is None:
        return slice(None)
    if sample_rate is None:
        raise ParameterError(f"a band (f_min={f_min}, f_max={f_max}) needs sample_rate")
    bin_hz = sample_rate / _LSD_N_FFT
    top_hz = sample_rate / 2 if f_max is None else f_max
    first = max(0, -int(-f_min // bin_hz))
    stop = min(int(top_hz // bin_hz), _LSD_N_FFT // 2) + 1
    if first >= stop:
        raise ParameterError(
            f"no bin lies in the band f_min={f_min}, f_max={top_hz} Hz: it must be wider than {bin_hz:.1f} Hz and "
            f"below half of sample_rate={sample_rate}"
        )
    return slice(first, stop)
