"""Audio files, read and written as float32 tensors (channels, time) through libsndfile."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.io.atomic import atomic_file
from audiodiff.io.formats import UNLIMITED_SUBTYPES, container_and_subtype
from audiodiff.io.lengths import cut_off, missing_samples, states_length
from audiodiff.io.paths import check_file

_INTEGER_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_COMPRESSED = ("FLAC", "OGG", "MP3")
# The Vorbis encoder of libsndfile keeps a whole write on the stack: long signals are written in blocks.
_BLOCK_SAMPLES = 65536


@dataclass(frozen=True)
class AudioInfo:
    """The header of an audio file.

    Args:
        sample_rate: in Hz.
        n_samples: per channel.
        n_channels: 1 is mono.
        subtype: libsndfile's name of the sample format.
        container: libsndfile's name of the file format.
    """

    sample_rate: int
    n_samples: int
    n_channels: int
    subtype: str = field(default="", compare=False)
    container: str = field(default="", compare=False)

    @property
    def seconds(self) -> float:
        """The duration."""
        return self.n_samples / self.sample_rate

    @property
    def is_compressed(self) -> bool:
        """Whether only decoding the whole file shows its damage and, for some MP3, its length."""
        return self.container in _COMPRESSED or self.subtype.startswith("MPEG")


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """Read the header of an audio file, without decoding it.

    Raises:
        AudioFileError: if the file is missing, empty or not audio.
    """
    with _open(Path(path)) as file:
        return AudioInfo(file.samplerate, file.frames, file.channels, file.subtype, file.format)


def read(
    path: str | os.PathLike[str], *, start: int = 0, n_samples: int | None = None
) -> tuple[Float[Tensor, "channels time"], int]:
    """Read an audio file, or its samples from start to start + n_samples.

    Args:
        start: the first sample, from 0.
        n_samples: the most to read; fewer where the file ends. None reads to the end.

    Returns:
        The audio, float32, integer formats in [-1, 1), and the sample rate in Hz.

    Raises:
        AudioFileError: if the file is missing, empty, not audio, damaged, not finite, or ends before `start` or its
            stated length.
        ParameterError: if start is negative or n_samples is below 1.
    """
    if start < 0:
        raise ParameterError(f"start={start} must not be negative")
    if n_samples is not None and n_samples < 1:
        raise ParameterError(f"n_samples={n_samples} must be at least 1")
    path = Path(path)
    with _open(path) as file:
        if start >= file.frames:
            raise AudioFileError(f"{path}: start={start} is past its end, it has {file.frames} samples")
        try:
            file.seek(start)
        except (soundfile.SoundFileError, RuntimeError) as error:
            raise AudioFileError(f"{path}: cannot be decoded ({error}); it may be damaged, replace it") from error
        expected = file.frames - start if n_samples is None else min(n_samples, file.frames - start)
        audio = _decoded(file, expected, path=path)
        _check_end(file, path=path, wanted=start + expected, there=start + audio.shape[-1])
        if audio.shape[-1] == 0:
            raise AudioFileError(f"{path}: no sample could be decoded at start={start}; it may be cut off, replace it")
        return audio, file.samplerate


def blocks(path: str | os.PathLike[str]) -> Iterator[Float[Tensor, "channels _"]]:
    """Read a whole audio file in blocks of a few seconds.

    Raises:
        AudioFileError: as `read`, when the damaged block is reached, or the end before the stated length.
    """
    path = Path(path)
    n_read = 0
    with _open(path) as file:
        while (block := _decoded(file, min(_BLOCK_SAMPLES, file.frames - n_read), path=path)).shape[-1]:
            n_read += block.shape[-1]
            yield block
            if block.shape[-1] < _BLOCK_SAMPLES:
                break
        _check_end(file, path=path, wanted=file.frames, there=n_read)
    if n_read == 0:
        raise AudioFileError(f"{path}: no sample could be decoded at start=0; it may be cut off, replace it")


def count_samples(path: str | os.PathLike[str]) -> int:
    """Decode a whole audio file and return its number of samples per channel.

    Raises:
        AudioFileError: as `read`, also if it ends before its stated length.
    """
    return sum(block.shape[-1] for block in blocks(path))


def write(
    path: str | os.PathLike[str],
    audio: Float[Tensor, "channels time"],
    *,
    sample_rate: int,
    subtype: str | None = None,
) -> None:
    """Write audio to a file, whole or not at all; the suffix chooses the format.

    The folder is made where it is missing. Integer samples are round(2^(bits-1) x), the inverse of `read`, so that a
    file that is read and written again keeps its samples.

    Args:
        sample_rate: in Hz.
        subtype: libsndfile's name of the sample format, as in "PCM_24" or "FLOAT"; None is 16-bit PCM, or the codec
            of a compressed format.

    Raises:
        AudioFileError: if the suffix, the subtype or the rate is not supported, or the place cannot be written to.
        ParameterError: if audio is empty, not finite, or beyond [-1, 1] in any format but FLOAT and DOUBLE.
    """
    _, checked = container_and_subtype(Path(path), subtype)
    _check_samples(audio, path=Path(path), subtype=checked)
    parts = audio.split(_BLOCK_SAMPLES, dim=-1)
    write_blocks(path, parts, n_channels=len(audio), sample_rate=sample_rate, subtype=subtype)


def write_blocks(
    path: str | os.PathLike[str],
    blocks: Iterable[Float[Tensor, "channels _"]],
    *,
    n_channels: int,
    sample_rate: int,
    subtype: str | None = None,
) -> None:
    """Write audio in blocks, whole or not at all, as `write` does.

    Args:
        blocks: of one recording, in order.
        n_channels: of each.
        sample_rate: in Hz.
        subtype: as in `write`.

    Raises:
        AudioFileError: as `write`, or if the blocks cannot be read.
        ParameterError: as `write`.
    """
    path = Path(path)
    container, subtype = container_and_subtype(path, subtype)
    try:
        with (
            atomic_file(path) as temporary,
            soundfile.SoundFile(
                _native(temporary), "w", samplerate=sample_rate, channels=n_channels, format=container, subtype=subtype
            ) as file,
        ):
            for block in blocks:
                _check_samples(block, path=path, subtype=subtype)
                file.write(_samples(block.detach().cpu(), subtype=subtype).T.contiguous().numpy())
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise AudioFileError(
            f"{path}: cannot be written with {n_channels} channels at {sample_rate} Hz as {container} {subtype} "
            f"({error}); check the folder, its free space and the rate, or use .wav"
        ) from error


def _open(path: Path) -> soundfile.SoundFile:
    """Open an audio file for reading.

    Raises:
        AudioFileError: with the reason and the remedy.
    """
    check_file(path, kind="an audio file")
    try:
        # libsndfile looks at the content, but soundfile at the name: it wants parameters for a ".raw".
        file = soundfile.SoundFile(_native(path))
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError) as error:
        raise AudioFileError(
            f"{path}: cannot be read as audio ({error}); convert it to wav or flac, with ffmpeg for instance"
        ) from error
    if (reason := missing_samples(file, path)) is not None:
        file.close()
        raise AudioFileError(f"{path}: {reason}")
    return file


def _native(path: Path) -> Any:
    """Return a path as the system has it, since soundfile encodes only names that are UTF-8."""
    return os.fspath(path) if os.name == "nt" else os.fsencode(path)


def _decoded(file: soundfile.SoundFile, n_samples: int, *, path: Path) -> Float[Tensor, "channels _"]:
    """Decode the next samples, at most as many."""
    try:
        samples = file.read(n_samples, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        raise AudioFileError(f"{path}: cannot be decoded ({error}); it may be damaged, replace it") from error
    audio = torch.from_numpy(samples).T.contiguous()
    if not torch.isfinite(audio).all():
        raise AudioFileError(f"{path}: holds NaN or infinite samples; write it again from a sound source")
    return audio


def _check_end(file: soundfile.SoundFile, *, path: Path, wanted: int, there: int) -> None:
    """Refuse a file whose samples end before its stated length."""
    if there < wanted and states_length(file, path):
        raise AudioFileError(f"{path}: {cut_off(stated=file.frames, there=there)}")


def _check_samples(audio: Float[Tensor, "channels time"], *, path: Path, subtype: str) -> None:
    if audio.numel() == 0:
        raise ParameterError(f"{path}: audio of shape {tuple(audio.shape)} has no samples to write")
    if not torch.isfinite(audio).all():
        raise ParameterError(f"{path}: audio holds NaN or infinite samples")
    peak = audio.abs().max().item()
    if peak > 1 and subtype not in UNLIMITED_SUBTYPES:
        raise ParameterError(
            f"{path}: audio peaks at {peak:.6g}, beyond the [-1, 1] of {subtype}; scale it or use FLOAT"
        )


def _samples(block: Float[Tensor, "channels time"], *, subtype: str) -> Tensor:
    """Convert to what libsndfile stores: integers for PCM, left-aligned in 32 bits, otherwise floats."""
    if subtype not in _INTEGER_BITS:
        return block.float()
    bits = _INTEGER_BITS[subtype]
    # libsndfile would scale floats by 2^(bits-1) - 1, which moves the large samples of a file that is only copied.
    full_scale = 2 ** (bits - 1)
    integers = (block.double() * full_scale).round().clamp(-full_scale, full_scale - 1).to(torch.int64)
    return (integers << (32 - bits)).to(torch.int32)
