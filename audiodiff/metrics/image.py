"""PSNR and SSIM of log-mel spectrograms, compared as images.

The image: mel magnitudes (25 ms periodic Hann window, 10 ms hop, zero-padded to the power of two from twice the window
up, centred frames with reflected ends; 80 of Slaney's filters of unit area from 0 to 8000 Hz, or to half the rate if
that is lower) in dB, 20 log10, with a floor 80 dB below the maximum of the reference's image, in both. The dynamic
range is these 80 dB. So neither value depends on a common gain of both signals, nor on levels below the floor.
"""

import functools
import warnings

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from audiodiff.metrics.frames import magnitude_squared_blocks, speech_frames
from audiodiff.metrics.pairs import all_nan, in_float64, is_silent, nan_where, result_like

N_MELS, F_MAX = 80, 8000.0
RANGE_DB = 80.0
SSIM_WINDOW, SSIM_SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03


def mel_psnr_db(
    estimate: Float[Tensor, "*batch time"], reference: Float[Tensor, "*batch time"], *, sample_rate: int
) -> Float[Tensor, "*batch"]:
    """Compute 10 log10(80^2 / mean (E - R)^2) of the log-mel images E and R, in dB, per example.

    See the module for the images.

    Args:
        sample_rate: in Hz.

    Returns:
        A value in dB; inf where the images are equal, NaN where a reference is silent or shorter than half an FFT.

    Raises:
        ParameterError: if the shapes differ or sample_rate is below 1000.

    Example:
        >>> reference = torch.randn(16000, generator=torch.Generator().manual_seed(0))
        >>> mel_psnr_db(0.5 * reference, reference, sample_rate=16000)  # 20 log10(80 / 20 log10(2))
        tensor(22.4690)

    Source: scikit-image's peak_signal_noise_ratio, with data_range=80.
    """
    e, r = in_float64(estimate, reference)
    if r.shape[-1] < shortest_image(sample_rate):
        return result_like(all_nan(r), estimate)
    image_e, image_r = _images(e, r, sample_rate=sample_rate)
    error = (image_e - image_r).square().mean((-1, -2))
    return result_like(nan_where(is_silent(r), 10.0 * (RANGE_DB**2 / error).log10()), estimate)


def mel_ssim(
    estimate: Float[Tensor, "*batch time"], reference: Float[Tensor, "*batch time"], *, sample_rate: int
) -> Float[Tensor, "*batch"]:
    """Compute the mean structural similarity of the log-mel images, per example.

    See the module for the images. Gaussian window of 11 x 11 and deviation 1.5, K1 = 0.01, K2 = 0.03, L = 80 dB,
    with the floor at 0; the mean is over the positions at which the window lies within the images.

    Args:
        sample_rate: in Hz.

    Returns:
        A value up to 1; NaN where a reference is silent or shorter than 11 frames (0.1 s).

    Raises:
        ParameterError: if the shapes differ or sample_rate is below 1000.

    Example:
        >>> reference = torch.randn(16000, generator=torch.Generator().manual_seed(0))
        >>> mel_ssim(reference, reference, sample_rate=16000)
        tensor(1.)

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", eq. 13.
    """
    e, r = in_float64(estimate, reference)
    if r.shape[-1] < shortest_ssim(sample_rate):
        return result_like(all_nan(r), estimate)
    e, r = _images(e, r, sample_rate=sample_rate)
    mean_e, mean_r = _smoothed(e), _smoothed(r)
    variances = _smoothed(e.square()) + _smoothed(r.square()) - mean_e.square() - mean_r.square()
    covariance = _smoothed(e * r) - mean_e * mean_r
    c1, c2 = (K1 * RANGE_DB) ** 2, (K2 * RANGE_DB) ** 2
    similarity = (2.0 * mean_e * mean_r + c1) * (2.0 * covariance + c2)
    similarity = similarity / ((mean_e.square() + mean_r.square() + c1) * (variances + c2))
    return result_like(nan_where(is_silent(reference), similarity.mean((-1, -2))), estimate)


def shortest_image(sample_rate: int) -> int:
    """Return the least number of samples of an image: more than half an FFT."""
    return speech_frames(sample_rate)[0] // 2 + 1


def shortest_ssim(sample_rate: int) -> int:
    """Return the least number of samples of an image with room for one window of the SSIM."""
    return max(shortest_image(sample_rate), (SSIM_WINDOW - 1) * speech_frames(sample_rate)[1])


def _images(
    estimate: Float[Tensor, "*batch time"], reference: Float[Tensor, "*batch time"], *, sample_rate: int
) -> tuple[Float[Tensor, "*batch n_mels frames"], Float[Tensor, "*batch n_mels frames"]]:
    """Return both images in dB above the floor, which depends on the reference."""
    e, r = _mel(estimate, sample_rate=sample_rate), _mel(reference, sample_rate=sample_rate)
    floor = r.amax((-1, -2), keepdim=True) * 10.0 ** (-RANGE_DB / 20.0)
    # A silent reference has no floor; its value is NaN anyway.
    floor = floor.clamp(min=torch.finfo(floor.dtype).tiny)
    return 20.0 * (e / floor).clamp(min=1.0).log10(), 20.0 * (r / floor).clamp(min=1.0).log10()


def _mel(audio: Float[Tensor, "*batch time"], *, sample_rate: int) -> Float[Tensor, "*batch n_mels frames"]:
    n_fft, hop_length, win_length = speech_frames(sample_rate)
    filters = _filters(sample_rate, n_fft).to(audio)
    blocks = magnitude_squared_blocks(audio, n_fft=n_fft, hop_length=hop_length, win_length=win_length)
    return torch.cat([filters @ power.sqrt() for power in blocks], dim=-1)


@functools.lru_cache(maxsize=8)
def _filters(sample_rate: int, n_fft: int) -> Float[Tensor, "n_mels bins"]:
    import librosa.filters  # lazy: it takes a second to import

    with warnings.catch_warnings():
        # At low rates some bands lie between two bins: they are at the floor in both images.
        warnings.filterwarnings("ignore", message="Empty filters detected")
        filters = librosa.filters.mel(
            sr=sample_rate, n_fft=n_fft, n_mels=N_MELS, fmax=min(F_MAX, sample_rate / 2), dtype=np.float64
        )
    return torch.from_numpy(filters)


def _smoothed(image: Float[Tensor, "*batch n_mels frames"]) -> Float[Tensor, "*batch rows columns"]:
    """Compute Gaussian-weighted means at the positions where the whole window lies within the image."""
    offsets = torch.arange(SSIM_WINDOW, dtype=image.dtype, device=image.device) - SSIM_WINDOW // 2
    weights = (-0.5 * (offsets / SSIM_SIGMA).square()).exp()
    weights = weights / weights.sum()
    flat = image.reshape(-1, 1, *image.shape[-2:])
    smoothed = F.conv2d(F.conv2d(flat, weights.reshape(1, 1, -1, 1)), weights.reshape(1, 1, 1, -1))
    return smoothed.reshape(*image.shape[:-2], *smoothed.shape[-2:])
