"""Audio files as float32 tensors (channels, time), through libsndfile."""

import contextlib
import glob
import io
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import AudioFileError, ParameterError

_CONTAINERS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".aiff": ("AIFF", "PCM_16"),
    ".aif": ("AIFF", "PCM_16"),
}
_INTEGER_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
# The Vorbis encoder of libsndfile keeps a whole write on the stack: long signals go in pieces.
_BLOCK_SAMPLES = 65536
# Above, libvorbis has no settings, and libsndfile may crash instead of saying so.
_VORBIS_MAX_RATE = 192_000

UNLIMITED_SUBTYPES = ("FLOAT", "DOUBLE")
"""The sample formats that hold what lies beyond [-1, 1]."""

AUDIO_SUFFIXES: tuple[str, ...] = tuple(_CONTAINERS)
"""The suffixes that are read and written, in lower case; `find` takes them in any case."""


@dataclass(frozen=True)
class AudioInfo:
    """Hold what the header of an audio file says.

    Args:
        sample_rate: in Hz.
        n_samples: per channel.
        n_channels: 1 is mono.
    """

    sample_rate: int
    n_samples: int
    n_channels: int

    @property
    def seconds(self) -> float:
        """The duration."""
        return self.n_samples / self.sample_rate


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """Read the header of an audio file, without decoding it.

    Raises:
        AudioFileError: if the file is missing, empty or not audio.
    """
    with _open(Path(path)) as file:
        return AudioInfo(sample_rate=file.samplerate, n_samples=file.frames, n_channels=file.channels)


def subtype_for(target: str | os.PathLike[str], *, source: str | os.PathLike[str]) -> str | None:
    """Return the sample format of a file where another can hold it, otherwise what is nearest to it there.

    Args:
        target: the file to be written; its suffix is looked at.
        source: a file that exists.

    Returns: as `write` takes it.

    Raises:
        AudioFileError: if the source is missing, empty or not audio, or the target's suffix is not supported.
    """
    target, _ = _checked_format(Path(target), None)
    with _open(Path(source)) as file:
        own = file.subtype
    container = _CONTAINERS[target.suffix.lower()][0]
    candidates = (own, "PCM_24") if own in ("PCM_32", *UNLIMITED_SUBTYPES) else (own,)
    return next((subtype for subtype in candidates if soundfile.check_format(container, subtype)), None)


def takes(path: str | os.PathLike[str], *, subtype: str) -> bool:
    """Return whether a file of this suffix, one of AUDIO_SUFFIXES, can hold a sample format.

    Example:
        >>> takes("a.wav", subtype="FLOAT"), takes("a.flac", subtype="FLOAT")
        (True, False)
    """
    return soundfile.check_format(_CONTAINERS[Path(path).suffix.lower()][0], subtype)


def check_format(
    target: str | os.PathLike[str], *, n_channels: int, sample_rate: int, subtype: str | None = None
) -> None:
    """Refuse what the format of a file to be written cannot hold, before there is anything to write.

    Args:
        target: the file; nothing but its suffix is looked at.
        n_channels: of the recording.
        sample_rate: in Hz.
        subtype: as in `write`.

    Raises:
        AudioFileError: if the suffix is not supported, or does not go with the others.
    """
    path, subtype = _checked_format(Path(target), subtype)
    container = _CONTAINERS[path.suffix.lower()][0]
    reason = f"at most {_VORBIS_MAX_RATE} Hz" if subtype == "VORBIS" and sample_rate > _VORBIS_MAX_RATE else ""
    try:
        if not reason:
            soundfile.SoundFile(
                io.BytesIO(), "w", samplerate=sample_rate, channels=n_channels, format=container, subtype=subtype
            ).close()
    except soundfile.LibsndfileError as error:
        reason = error.error_string
    if reason:
        raise AudioFileError(
            f"{path}: cannot hold {n_channels} channels at {sample_rate} Hz as {container} {subtype} ({reason}); "
            "use .wav or .flac"
        )


def read(
    path: str | os.PathLike[str], *, start: int = 0, n_samples: int | None = None
) -> tuple[Float[Tensor, "channels time"], int]:
    """Read an audio file, or only samples start to start + n_samples of it.

    Args:
        start: the first sample, from 0.
        n_samples: how many at most; the file's end cuts it short. None reads to the end.

    Returns:
        The audio, float32, integer formats in [-1, 1), and the sample rate in Hz.

    Raises:
        AudioFileError: if the file is missing, empty, not audio, damaged, not finite, or ends before `start`.
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
        audio = _decoded(file, -1 if n_samples is None else n_samples, path=path)
        sample_rate = file.samplerate
    if audio.shape[-1] == 0:
        raise AudioFileError(f"{path}: no sample could be decoded at start={start}; it may be cut off, replace it")
    return audio, sample_rate


def blocks(path: str | os.PathLike[str]) -> Iterator[Float[Tensor, "channels _"]]:
    """Yield what `read` returns of a whole file, a few seconds at a time.

    Raises:
        AudioFileError: as `read`, when the block is reached that it is about.
    """
    path = Path(path)
    n_read = 0
    with _open(path) as file:
        while (block := _decoded(file, _BLOCK_SAMPLES, path=path)).shape[-1]:
            n_read += block.shape[-1]
            yield block
    if n_read == 0:
        raise AudioFileError(f"{path}: no sample could be decoded at start=0; it may be cut off, replace it")


def write(
    path: str | os.PathLike[str],
    audio: Float[Tensor, "channels time"],
    *,
    sample_rate: int,
    subtype: str | None = None,
) -> None:
    """Write audio to a file whose suffix chooses the format; it appears whole or not at all.

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
    path, subtype = _checked_format(Path(path), subtype)
    _check_samples(audio, path=path, subtype=subtype)
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
    """Write audio that comes a block at a time, as `write` does: it appears whole or not at all.

    Args:
        blocks: of one recording, in order.
        n_channels: of each.
        sample_rate: in Hz.
        subtype: as in `write`.

    Raises:
        AudioFileError: as `write`, or if the blocks cannot be read.
        ParameterError: as `write`.
    """
    path, subtype = _checked_format(Path(path), subtype)
    container = _CONTAINERS[path.suffix.lower()][0]
    temporary = path.with_name(f".{path.name[-100:]}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with soundfile.SoundFile(
            temporary, "w", samplerate=sample_rate, channels=n_channels, format=container, subtype=subtype
        ) as file:
            for block in blocks:
                _check_samples(block, path=path, subtype=subtype)
                file.write(_samples(block.detach().cpu(), subtype=subtype).T.contiguous().numpy())
        os.replace(temporary, path)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise AudioFileError(
            f"{path}: cannot be written with {n_channels} channels at {sample_rate} Hz as {container} {subtype} "
            f"({error}); check the folder, its free space and the rate, or use .wav"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def find(path_or_glob: str | os.PathLike[str], *, suffixes: Sequence[str] = AUDIO_SUFFIXES) -> list[Path]:
    """List the files that a path names: itself, all below a folder, or all that match a glob, sorted.

    Args:
        path_or_glob: a file (taken whatever its suffix), a folder (searched to any depth) or a glob, where ** is any
            depth of folders. Hidden files and folders are left out.
        suffixes: which files of a folder or glob count, in lower case.

    Raises:
        AudioFileError: if there is nothing there, or no file with such a suffix.
    """
    path = Path(path_or_glob).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        candidates = [f for f in path.rglob("*") if not any(p.startswith(".") for p in f.relative_to(path).parts)]
    elif glob.has_magic(str(path)):
        candidates = [Path(match) for match in glob.glob(str(path), recursive=True)]
    else:
        raise AudioFileError(f"{path}: no such file or folder")
    found = sorted(c for c in candidates if c.suffix.lower() in suffixes and c.is_file())
    if not found:
        raise AudioFileError(f"{path}: no file there ends in {', '.join(suffixes)}")
    return found


def _open(path: Path) -> soundfile.SoundFile:
    """Open an audio file for reading, or say why not."""
    if not path.exists():
        raise AudioFileError(f"{path}: no such file")
    if path.is_dir():
        raise AudioFileError(f"{path}: is a folder, not an audio file")
    try:
        empty = path.stat().st_size == 0
        # libsndfile looks at the content, soundfile at the name: it wants parameters for a ".raw" unless it has bytes.
        file = None if empty else soundfile.SoundFile(path)
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError) as error:
        raise AudioFileError(
            f"{path}: cannot be read as audio ({error}); convert it to wav or flac, with ffmpeg for instance"
        ) from error
    if file is None:
        raise AudioFileError(f"{path}: is empty (0 bytes); replace or remove it")
    if file.frames < 1:
        file.close()
        raise AudioFileError(f"{path}: has a header but no samples; replace or remove it")
    return file


def _decoded(file: soundfile.SoundFile, n_samples: int, *, path: Path) -> Float[Tensor, "channels _"]:
    """Decode the next samples, at most as many, or all where n_samples is -1."""
    try:
        samples = file.read(n_samples, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioFileError(f"{path}: cannot be decoded ({error}); it may be damaged, replace it") from error
    audio = torch.from_numpy(samples).T.contiguous()
    if not torch.isfinite(audio).all():
        raise AudioFileError(f"{path}: holds NaN or infinite samples; write it again from a sound source")
    return audio


def _checked_format(path: Path, subtype: str | None) -> tuple[Path, str]:
    """Return the path and the subtype to be written, having refused what the suffix does not take."""
    if path.suffix.lower() not in _CONTAINERS:
        raise AudioFileError(f"{path}: suffix {path.suffix!r} is not an audio format, use {', '.join(AUDIO_SUFFIXES)}")
    container, default_subtype = _CONTAINERS[path.suffix.lower()]
    subtype = default_subtype if subtype is None else subtype
    if not soundfile.check_format(container, subtype):
        known = ", ".join(soundfile.available_subtypes(container))
        raise AudioFileError(f"{path}: subtype={subtype!r} does not go into {container}, use one of {known}")
    return path, subtype


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
