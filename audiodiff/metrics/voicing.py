"""Periodicity and voicing errors of speech.

Both signals are resampled to 8 kHz and divided into frames of 40 ms every 10 ms. The periodicity of a frame is its
greatest normalised cross-correlation with the signal one pitch period later, over periods of 65 to 500 Hz, with
parabolic interpolation: 1 for a periodic signal, and a little above S / (S + N) for a tone of power S in white noise of
power N. Frames are used where the reference is at most 40 dB below its loudest frame.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError
from audiodiff.metrics.pairs import all_nan, in_float64, is_silent, nan_where, result_like

RATE = 8000
WINDOW, HOP = 320, 80
SHORTEST_PERIOD, LONGEST_PERIOD = RATE // 500, math.ceil(RATE / 65)
VOICED = 0.5
RANGE_DB = 40.0
_FRAMES_AT_ONCE = 2048


def periodicity_rmse(
    estimate: Float[Tensor, "*batch time"], reference: Float[Tensor, "*batch time"], *, sample_rate: int
) -> Float[Tensor, "*batch"]:
    """Compute the root mean squared difference of periodicities, over frames, per example.

    See the module for the definition of periodicity.

    Args:
        sample_rate: in Hz.

    Returns:
        A value from 0 to 2, without unit; NaN where a reference is silent or has no frame.

    Raises:
        ParameterError: if the shapes differ or sample_rate is below 1000.

    Source: Morrison et al. 2022 (CARGAN), section 4, with the cross-correlation of Talkin 1995 (RAPT), eq. 2, instead
        of a network.
    """
    e, r = in_float64(estimate, reference)
    if r.shape[-1] < shortest_voicing(sample_rate):
        return result_like(all_nan(r), estimate)
    (of_e, _), (of_r, used) = (_periodicity(signal, sample_rate=sample_rate) for signal in (e, r))
    error = (of_e - of_r).square()
    return result_like(nan_where(is_silent(r), _mean(error, used).sqrt()), estimate)


def vuv_error(
    estimate: Float[Tensor, "*batch time"], reference: Float[Tensor, "*batch time"], *, sample_rate: int
) -> Float[Tensor, "*batch"]:
    """Compute the share of frames that are voiced in only one of the signals, per example.

    A frame is voiced where its periodicity is at least 0.5.

    Args:
        sample_rate: in Hz.

    Returns:
        A share from 0 to 1; NaN where a reference is silent or has no frame.

    Raises:
        ParameterError: if the shapes differ or sample_rate is below 1000.

    Example:
        >>> hum = torch.sin(2 * math.pi * 100 * torch.arange(8000) / 8000)
        >>> hiss = torch.randn(8000, generator=torch.Generator().manual_seed(0))
        >>> vuv_error(hiss, hum, sample_rate=8000), vuv_error(hum, hum, sample_rate=8000)
        (tensor(1.), tensor(0.))
    """
    e, r = in_float64(estimate, reference)
    if r.shape[-1] < shortest_voicing(sample_rate):
        return result_like(all_nan(r), estimate)
    (of_e, _), (of_r, used) = (_periodicity(signal, sample_rate=sample_rate) for signal in (e, r))
    differs = ((of_e >= VOICED) != (of_r >= VOICED)).double()
    return result_like(nan_where(is_silent(r), _mean(differs, used)), estimate)


def shortest_voicing(sample_rate: int) -> int:
    """Return the least number of samples: a frame and the longest period after it.

    Raises:
        ParameterError: if sample_rate is below 1000.
    """
    if sample_rate < 1000:
        raise ParameterError(f"sample_rate={sample_rate} Hz must be at least 1000 to resolve pitch periods")
    return math.ceil((WINDOW + LONGEST_PERIOD + 1) * sample_rate / RATE)


def _mean(values: Float[Tensor, "*batch frames"], used: Bool[Tensor, "*batch frames"]) -> Float[Tensor, "*batch"]:
    return (values * used).sum(dim=-1) / used.sum(dim=-1)


def _periodicity(
    signal: Float[Tensor, "*batch time"], *, sample_rate: int
) -> tuple[Float[Tensor, "*batch frames"], Bool[Tensor, "*batch frames"]]:
    """Return the periodicity of every frame, and whether it is loud enough to be used."""
    at_rate = resample(signal.reshape(-1, signal.shape[-1]), from_rate=sample_rate, to_rate=RATE)
    length = WINDOW + LONGEST_PERIOD + 1
    frames = at_rate.unfold(-1, length, HOP)
    parts = [_of_frames(part) for part in frames.split(_FRAMES_AT_ONCE, dim=1)]
    periodicity = torch.cat(parts, dim=1)
    power = frames[..., :WINDOW].square().mean(dim=-1)
    loud = power >= 10.0 ** (-RANGE_DB / 10.0) * power.amax(dim=-1, keepdim=True)
    shape = (*signal.shape[:-1], periodicity.shape[-1])
    return periodicity.reshape(shape), loud.reshape(shape)


def _of_frames(frames: Float[Tensor, "batch frames samples"]) -> Float[Tensor, "batch frames"]:
    n_fft = 1 << (frames.shape[-1] + WINDOW - 1).bit_length()
    head = torch.fft.rfft(frames[..., :WINDOW], n=n_fft)
    products = torch.fft.irfft(head.conj() * torch.fft.rfft(frames, n=n_fft), n=n_fft)
    energy = torch.nn.functional.pad(frames.square().cumsum(dim=-1), (1, 0))
    energies = energy[..., WINDOW:] - energy[..., : energy.shape[-1] - WINDOW]
    # One lag to either side of the allowed ones, for the parabola.
    lags = slice(SHORTEST_PERIOD - 1, LONGEST_PERIOD + 2)
    norm = (energies[..., :1] * energies[..., lags]).clamp(min=1e-300).sqrt()
    correlation = products[..., lags] / norm
    inner = correlation[..., 1:-1]
    best, index = inner.max(dim=-1)
    before, after = (correlation.gather(-1, (index + step).unsqueeze(-1)).squeeze(-1) for step in (0, 2))
    # The peak of the parabola through three points, unless the greatest is at an end of the range.
    curvature = before - 2.0 * best + after
    slope = (after - before) / 2.0
    peak = best - slope.square() / (2.0 * torch.where(curvature < 0.0, curvature, -torch.inf))
    is_peak = (best >= before) & (best >= after)
    loud = energies[..., 0] > 1e-20 * WINDOW
    return torch.where(is_peak, peak, best).clamp(-1.0, 1.0) * loud
