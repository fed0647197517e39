"""Signal-to-noise ratios: SNR, segmental SNR and scale-invariant SDR.

They depend on sign and phase, which a vocoder may choose freely, so they say little about vocoders (good ones have an
SNR of -2 to -7 dB). Use them for enhancement, restoration and coding.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from audiodiff.errors import ParameterError
from audiodiff.metrics.pairs import all_nan, in_float64, is_silent, nan_where, result_like

_SEGMENT_SECONDS = 0.025
_SEGMENT_RANGE_DB = (-10.0, 35.0)
# As in STOI: a frame this far below the loudest contains no speech.
_SILENCE_BELOW_LOUDEST_DB = 40.0


def snr_db(estimate: Float[Tensor, "*batch time"], reference: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch"]:
    """Compute the signal-to-noise ratio 10 log10(sum r^2 / sum (r - e)^2), in dB, per example.

    Returns:
        inf where estimate equals reference, NaN where a reference is silent.

    Raises:
        ParameterError: if the shapes differ.

    Example:
        >>> snr_db(torch.tensor([2.5, 0.0, 2.0, 8.0]), torch.tensor([3.0, -0.5, 2.0, 7.0]))
        tensor(16.1805)
    """
    e, r = in_float64(estimate, reference)
    ratio_db = 10 * torch.log10(r.square().sum(-1) / (r - e).square().sum(-1))
    return result_like(nan_where(is_silent(r), ratio_db), estimate)


def segmental_snr_db(
    estimate: Float[Tensor, "*batch time"], reference: Float[Tensor, "*batch time"], *, sample_rate: int
) -> Float[Tensor, "*batch"]:
    """Compute the mean over frames of 10 log10(sum r^2 / sum (r - e)^2), each clipped to [-10, 35] dB, per example.

    Frames are 25 ms long, adjacent and unweighted; an incomplete last frame is left out. Frames of the reference more
    than 40 dB below its loudest frame are silent and skipped.

    Args:
        sample_rate: in Hz.

    Returns:
        A value in [-10, 35] dB; NaN where a reference is silent or shorter than a frame.

    Raises:
        ParameterError: if the shapes differ or sample_rate is not positive.

    Example:
        >>> reference = torch.sin(torch.arange(16000.0))
        >>> segmental_snr_db(0.5 * reference, reference, sample_rate=16000)
        tensor(6.0206)

    Source:
        Hansen and Pellom 1998, "An effective quality evaluation protocol for speech enhancement algorithms".
    """
    if sample_rate <= 0:
        raise ParameterError(f"sample_rate={sample_rate} must be positive")
    e, r = in_float64(estimate, reference)
    frame = max(1, round(_SEGMENT_SECONDS * sample_rate))
    if r.shape[-1] < frame:
        return result_like(all_nan(r), estimate)
    power = r.unfold(-1, frame, frame).square().sum(-1)  # (*batch, frames)
    error = (r - e).unfold(-1, frame, frame).square().sum(-1)
    loudest = power.amax(-1, keepdim=True)
    audible = (power > 0) & (power >= loudest * 10 ** (-_SILENCE_BELOW_LOUDEST_DB / 10))
    frame_db = torch.where(audible, 10 * torch.log10(power / error), 0.0).clamp(*_SEGMENT_RANGE_DB)
    frame_db = torch.where(audible, frame_db, 0.0)
    return result_like(frame_db.sum(-1) / audible.sum(-1), estimate)  # 0 / 0 is the NaN of a silent reference


def si_sdr_db(
    estimate: Float[Tensor, "*batch time"], reference: Float[Tensor, "*batch time"]
) -> Float[Tensor, "*batch"]:
    """Compute the scale-invariant SDR 10 log10(|a r|^2 / |a r - e|^2) with a = <e, r> / |r|^2, in dB, per example.

    The means of both signals are removed first.

    Returns:
        inf where estimate is a multiple of reference, also a negative one; -inf where it is orthogonal to it; NaN
        where either is silent or constant.

    Raises:
        ParameterError: if the shapes differ.

    Example:
        >>> si_sdr_db(torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.tensor([2.0, 0.0, 0.0, -2.0]))
        tensor(0.)

    Source:
        Le Roux, Wisdom, Erdogan and Hershey 2019, "SDR - half-baked or well done?", eq. 3.
    """
    e, r = in_float64(estimate, reference)
    if r.shape[-1] == 0:
        return result_like(all_nan(r), estimate)
    without_value = is_constant(e) | is_constant(r)
    e = e - e.mean(-1, keepdim=True)
    r = r - r.mean(-1, keepdim=True)
    target = (e * r).sum(-1, keepdim=True) / r.square().sum(-1, keepdim=True) * r
    ratio_db = 10 * torch.log10(target.square().sum(-1) / (target - e).square().sum(-1))
    return result_like(nan_where(without_value, ratio_db), estimate)


def is_constant(signal: Float[Tensor, "*batch time"]) -> Bool[Tensor, "*batch"]:
    """Return which examples are constant, and zero once their mean is removed."""
    return is_silent(signal - signal[..., :1])
