"""What every model checks of what it is given: a mel, audio, a length, the numbers of the examples."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError
from audiodiff.types import Mel, Waveform


def checked_mel(mel: Mel, *, dialect: MelDialect) -> Mel:
    """Return a mel in float32, having refused what is provably none of the dialect.

    Raises:
        ParameterError: if it is no tensor of floating point numbers, (batch, n_mels, frames), or empty.
        MelError: if it breaks the contract of the dialect.
    """
    _check_tensor(mel, name="mel", axes="(batch, n_mels, frames)")
    dialect.check(mel, name="mel")
    return mel.float()


def checked_audio(audio: Waveform) -> Waveform:
    """Return mono audio in float32, having refused what cannot be analysed.

    Raises:
        ParameterError: if it is no tensor of floating point numbers, (batch, 1, time), or empty, or not finite.
    """
    _check_tensor(audio, name="audio", axes="(batch, 1, time)")
    if audio.shape[1] != 1:
        raise ParameterError(f"audio has channels={audio.shape[1]}, which must be 1: analyse channels one by one")
    if not bool(torch.isfinite(audio).all()):
        raise ParameterError("audio holds NaN or infinite samples")
    return audio.float()


def checked_items(items: Sequence[int] | None, *, batch: int) -> Sequence[int]:
    """Return the numbers that key the noise of each example: 0, 1, ... unless given."""
    if items is None:
        return range(batch)
    if len(items) != batch:
        raise ParameterError(f"items has {len(items)} numbers, and the batch {batch} examples: give one for each")
    return items


def natural_n_samples(n_frames: int, *, dialect: MelDialect) -> int:
    """Return the length that frames stand for, whose own mel has as many frames again.

    Example:
        >>> from audiodiff.dsp.mel import dialect
        >>> [natural_n_samples(n, dialect=dialect("vocos")) for n in (1, 2, 3)]
        [255, 256, 512]
    """
    n_samples = dialect.n_samples(n_frames)
    # A centred analysis makes two frames of one whole hop.
    return n_samples if dialect.n_frames(n_samples) == n_frames else n_samples - 1


def checked_n_samples(n_samples: int | None, *, n_frames: int, dialect: MelDialect) -> int:
    """Return the length to generate from a mel: what the frames say unless given, and never more than they cover."""
    natural = natural_n_samples(n_frames, dialect=dialect)
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


def _check_tensor(value: object, *, name: str, axes: str) -> None:
    """Refuse what is no tensor of three axes, said in words that help who comes from arrays."""
    if not isinstance(value, Tensor):
        raise ParameterError(
            f"{name} is a {type(value).__name__}; give a torch tensor {axes}, as torch.from_numpy makes it of an array"
        )
    shape = tuple(value.shape)
    if value.ndim != 3:
        remedy = f": give {name}[None]" if value.ndim == 2 else ""
        raise ParameterError(f"{name} has shape {shape} and must have {axes}{remedy}")
    if 0 in shape:
        raise ParameterError(f"{name} has shape {shape}: it must not be empty")
    if not value.is_floating_point():
        raise ParameterError(f"{name} has dtype {value.dtype} and must be floating point")
