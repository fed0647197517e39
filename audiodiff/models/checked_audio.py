"""A recording as it is given to a function, checked before anything is computed of it."""

from numbers import Integral

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.resample import MAX_RATE, MIN_RATE
from audiodiff.errors import ParameterError


def checked_recordings(audio: object, *, sample_rate: object) -> Float[Tensor, "batch channels time"]:
    """Return independent recordings in float32, with the leading axes that were missing.

    Args:
        audio: a tensor (time,), (channels, time) or (batch, channels, time) of finite floating point numbers.
        sample_rate: a whole number of Hz.

    Raises:
        ParameterError: if one of them is not, with a remedy.

    Example:
        >>> checked_recordings(torch.zeros(3), sample_rate=16000).shape
        torch.Size([1, 1, 3])
    """
    if not isinstance(audio, Tensor) or not 1 <= audio.ndim <= 3:
        what = f"has shape {tuple(audio.shape)}" if isinstance(audio, Tensor) else f"is a {type(audio).__name__}"
        raise ParameterError(
            f"audio {what}; give a torch tensor (time,), (channels, time) or (batch, channels, time), as "
            "torch.from_numpy makes it of an array"
        )
    audio = audio[(None,) * (3 - audio.ndim)]
    if 0 in audio.shape:
        raise ParameterError(f"audio has shape {tuple(audio.shape)}, (batch, channels, time): it has no samples")
    return checked_recording(audio.flatten(0, 1), sample_rate=sample_rate).unflatten(0, audio.shape[:2])


def without_added_axes(
    result: Float[Tensor, "batch *more new_time"], *, given: Float[Tensor, "*axes time"]
) -> Float[Tensor, "*result_axes new_time"]:
    """Remove from a result the leading axes, (batch, channels), that its input was given without.

    Example:
        >>> without_added_axes(torch.zeros(1, 4, 1, 3), given=torch.zeros(3)).shape  # (batch, copies, channels, time)
        torch.Size([4, 3])
    """
    if given.ndim < 2:
        result = result.squeeze(-2)
    return result[0] if given.ndim < 3 else result


def checked_recording(audio: object, *, sample_rate: object) -> Float[Tensor, "channels time"]:
    """Return a recording in float32, having refused what is none.

    Args:
        audio: what should be a tensor (channels, time) of floating point numbers, finite and not empty.
        sample_rate: what should be a whole number of Hz.

    Raises:
        ParameterError: if one of them is not, with a remedy.

    Example:
        >>> checked_recording(torch.zeros(2, 3, dtype=torch.float64), sample_rate=16000).dtype
        torch.float32
    """
    check_rate(sample_rate)
    if not isinstance(audio, Tensor):
        raise ParameterError(
            f"audio is a {type(audio).__name__}; give a torch tensor (channels, time), as torch.from_numpy makes it of "
            "an array"
        )
    shape = tuple(audio.shape)
    if audio.ndim != 2:
        remedy = {1: ": give audio[None]", 3: ": give its recordings one by one"}.get(audio.ndim, "")
        raise ParameterError(f"audio has shape {shape} and must have (channels, time){remedy}")
    if 0 in shape:
        raise ParameterError(f"audio has shape {shape}, (channels, time): it has no samples")
    if not audio.is_floating_point():
        raise ParameterError(
            f"audio has dtype {audio.dtype} and must be floating point in [-1, 1]: divide 16-bit samples by 32768"
        )
    audio = audio.float()
    if not bool(torch.isfinite(audio).all()):
        raise ParameterError("audio holds NaN or infinite samples")
    return audio


def check_rate(sample_rate: object) -> None:
    """Refuse what is no sample rate.

    Raises:
        ParameterError: if it is no whole number, or not one that can be resampled.
    """
    if not isinstance(sample_rate, Integral) or isinstance(sample_rate, bool):
        raise ParameterError(f"sample_rate={sample_rate!r} must be a whole number of Hz: give the rate of the audio")
    if not MIN_RATE <= int(sample_rate) <= MAX_RATE:
        raise ParameterError(
            f"sample_rate={sample_rate} Hz must lie between {MIN_RATE} and {MAX_RATE} Hz; is it in kHz?"
        )
