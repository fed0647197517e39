"""Validation of what models are given: mels, audio, lengths, labels, and the numbers of examples."""

import math
from collections.abc import Mapping, Sequence
from numbers import Integral

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.resample import MAX_RATE, MIN_RATE
from audiodiff.errors import ParameterError
from audiodiff.labels import LabelSet, LabelValue
from audiodiff.types import Mel, Waveform

Labels = Mapping[str, LabelValue] | Sequence[Mapping[str, LabelValue]]
"""Labels of all examples alike, or of each."""


def checked_mel(mel: object, *, dialect: MelDialect) -> Mel:
    """Return mels as (batch, n_mels, frames) in float32, having refused what is provably not of the dialect.

    Args:
        mel: (n_mels, frames) or (batch, n_mels, frames).
        dialect: the contract.

    Raises:
        ParameterError: if it is no tensor of these axes and of floating point numbers, or empty.
        MelError: if it breaks the contract of the dialect.
    """
    mel = _checked_tensor(mel, name="mel", axes=("batch", "n_mels", "frames"), least=2)
    dialect.check(mel, name="mel")
    return mel.float()[(None,) * (3 - mel.ndim)]


def checked_recordings(audio: object, *, sample_rate: object) -> Waveform:
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
    check_rate(sample_rate)
    audio = _checked_tensor(audio, name="audio", axes=("batch", "channels", "time"), least=1).float()
    if not bool(torch.isfinite(audio).all()):
        raise ParameterError("audio holds NaN or infinite samples")
    return audio[(None,) * (3 - audio.ndim)]


def checked_recording(audio: object, *, sample_rate: object) -> Float[Tensor, "channels time"]:
    """Return one recording, (channels, time), in float32; see `checked_recordings`.

    Raises:
        ParameterError: as `checked_recordings`, also for other axes.
    """
    return checked_recordings(
        _checked_tensor(audio, name="audio", axes=("channels", "time"), least=2), sample_rate=sample_rate
    )[0]


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


def check_rate(sample_rate: object) -> None:
    """Refuse a sample rate that is no whole number of Hz, or that cannot be resampled.

    Raises:
        ParameterError: naming it.
    """
    if not isinstance(sample_rate, Integral) or isinstance(sample_rate, bool):
        raise ParameterError(f"sample_rate={sample_rate!r} must be a whole number of Hz: give the rate of the audio")
    if not MIN_RATE <= int(sample_rate) <= MAX_RATE:
        raise ParameterError(
            f"sample_rate={sample_rate} Hz must lie between {MIN_RATE} and {MAX_RATE} Hz; is it in kHz?"
        )


def _checked_tensor(value: object, *, name: str, axes: tuple[str, ...], least: int) -> Tensor:
    """Return a tensor of the last axes, of `least` or more, having refused other values with a remedy."""
    if not isinstance(value, Tensor):
        raise ParameterError(
            f"{name} is a {type(value).__name__}; give a torch tensor {_shapes(axes, least)}, as "
            "torch.from_numpy makes it of an array"
        )
    shape = tuple(value.shape)
    if not least <= value.ndim <= len(axes):
        remedies = {least - 1: f": give {name}[None]", len(axes) + 1: ": give its parts one by one"}
        wanted = _shapes(axes, least)
        raise ParameterError(f"{name} has shape {shape} and must have {wanted}{remedies.get(value.ndim, '')}")
    if 0 in shape:
        rule = "it has no samples" if name == "audio" else "it must not be empty"
        raise ParameterError(f"{name} has shape {shape}: {rule}")
    if not value.is_floating_point():
        remedy = " in [-1, 1]: divide 16-bit samples by 32768" if name == "audio" else ""
        raise ParameterError(f"{name} has dtype {value.dtype} and must be floating point{remedy}")
    return value


def _shapes(axes: tuple[str, ...], least: int) -> str:
    """Return the shapes that a tensor may have, as text."""
    shapes = [f"({', '.join(axes[-n:])}{',' if n == 1 else ''})" for n in range(least, len(axes) + 1)]
    return " or ".join(part for part in (", ".join(shapes[:-1]), shapes[-1]) if part)


def checked_items(items: Sequence[int] | None, *, batch: int) -> Sequence[int]:
    """Return the numbers that key the noise of each example: 0, 1, ... unless given."""
    if items is None:
        return range(batch)
    if len(items) != batch:
        raise ParameterError(f"items has {len(items)} numbers, and the batch {batch} examples: give one for each")
    return items


def checked_labels(
    labels: Labels | None, *, batch: int | None, known: LabelSet | None
) -> list[Mapping[str, LabelValue]]:
    """Return the labels of each example, which may be none.

    Args:
        labels: of all examples alike, or of each.
        batch: number of examples; None is as many as have labels.
        known: the labels that the model knows; None where it knows none.

    Raises:
        ParameterError: for labels of a model without them, one that is not known, or another number of them.
    """
    rows: list[Mapping[str, LabelValue]]
    if labels is None or isinstance(labels, Mapping):
        rows = [labels or {}] * (1 if batch is None else batch)
    elif batch not in (None, len(labels)):
        raise ParameterError(f"batch={batch}, and there are labels of {len(labels)} examples: leave batch out")
    else:
        rows = list(labels)
    if not rows:
        raise ParameterError("labels=[] must be the labels of one example or more")
    if known is not None:
        known.vectors(rows)
    elif any(rows):
        raise ParameterError("labels are given, and this model was trained without: leave them out")
    return rows


def checked_n_samples(n_samples: int | None, *, n_frames: int, dialect: MelDialect) -> int:
    """Return the length to generate from a mel: what the frames say unless given, and never more than they cover."""
    natural = dialect.natural_n_samples(n_frames)
    if n_samples is None:
        return natural
    if n_samples < 1 or n_samples > n_frames * dialect.hop_length or dialect.n_frames(n_samples) != n_frames:
        raise ParameterError(
            f"n_samples={n_samples} does not belong to {n_frames} frames of {dialect.hop_length} samples; they stand "
            f"for n_samples={natural}"
        )
    return n_samples


def checked_length(n_samples: int | None, *, seconds: float | None, sample_rate: int) -> int:
    """Return the length to generate from nothing, in samples: 1 second unless given."""
    if seconds is not None and n_samples is not None:
        raise ParameterError(f"seconds={seconds} and n_samples={n_samples}: give one of them")
    if seconds is not None and not (math.isfinite(seconds) and round(seconds * sample_rate) >= 1):
        raise ParameterError(f"seconds={seconds} must be at least one sample long, {1 / sample_rate:.2g} s")
    if n_samples is not None and n_samples < 1:
        raise ParameterError(f"n_samples={n_samples} must be at least 1")
    return n_samples if n_samples is not None else round((1.0 if seconds is None else seconds) * sample_rate)
