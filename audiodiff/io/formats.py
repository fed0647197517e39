"""Audio file formats: which samples each suffix can hold."""

import io
import os
from pathlib import Path

import soundfile

from audiodiff.errors import AudioFileError

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
# Above, libvorbis has no settings, and libsndfile may crash instead of reporting it.
_VORBIS_MAX_RATE = 192_000

FLOAT = "FLOAT"
"""The sample format of the option `--float`."""

UNLIMITED_SUBTYPES = (FLOAT, "DOUBLE")
"""The sample formats that hold values beyond [-1, 1]."""

AUDIO_SUFFIXES: tuple[str, ...] = tuple(_CONTAINERS)
"""The suffixes that are read and written, in lower case."""

# fmt: off
_UNWRITTEN_AUDIO = (
    ".m4a", ".aac", ".mp2", ".mp4", ".wma", ".aifc", ".caf", ".w64", ".rf64", ".au", ".snd", ".raw", ".pcm", ".amr",
    ".ac3", ".ape", ".wv", ".mka", ".mkv", ".mov", ".webm",
)
_OTHER_FILES = (
    ".mel", ".npz", ".npy", ".pt", ".pth", ".h5", ".hdf5", ".mat", ".safetensors", ".csv", ".json", ".jsonl", ".txt",
    ".png", ".jpg", ".html", ".zip",
)
# fmt: on

FILE_SUFFIXES: tuple[str, ...] = (*AUDIO_SUFFIXES, *_UNWRITTEN_AUDIO, *_OTHER_FILES)
"""Suffixes by which a name means a file, in lower case, whether or not it can be written."""


def container_and_subtype(target: Path, subtype: str | None) -> tuple[str, str]:
    """Return libsndfile's names of the container and the sample format of a file to be written.

    Args:
        target: the file; only its suffix is used.
        subtype: None is 16-bit PCM, or the codec of a compressed format.

    Raises:
        AudioFileError: if the suffix is not supported, or cannot hold the sample format.
    """
    if target.suffix.lower() not in _CONTAINERS:
        raise AudioFileError(
            f"{target}: suffix {target.suffix!r} is not an audio format, use {', '.join(AUDIO_SUFFIXES)}"
        )
    container, default = _CONTAINERS[target.suffix.lower()]
    subtype = default if subtype is None else subtype
    if not soundfile.check_format(container, subtype):
        known = ", ".join(soundfile.available_subtypes(container))
        raise AudioFileError(f"{target}: subtype={subtype!r} does not go into {container}, use one of {known}")
    return container, subtype


def nearest_subtype(target: Path, subtype: str, *, n_channels: int = 1, sample_rate: int = 16000) -> str | None:
    """Return a sample format where the target can hold it, otherwise the nearest that it can, or None for its default.

    Args:
        target: the file; only its suffix is used.
        subtype: libsndfile's name, of a file that was read: some formats can be read and not written.
        n_channels: of the audio.
        sample_rate: in Hz.

    Example:
        >>> nearest_subtype(Path("a.wav"), "FLOAT"), nearest_subtype(Path("a.flac"), "FLOAT")
        ('FLOAT', 'PCM_24')
    """
    container, _ = container_and_subtype(target, None)
    candidates = (subtype, "PCM_24") if subtype in ("PCM_32", *UNLIMITED_SUBTYPES) else (subtype,)
    able = (each for each in candidates if soundfile.check_format(container, each))
    return next((each for each in able if _refusal(container, each, n_channels, sample_rate) is None), None)


def check_float(target: Path) -> None:
    """Refuse the option `--float` for a file that cannot hold 32-bit float samples.

    Raises:
        AudioFileError: with the suffixes that can.
    """
    able = [suffix for suffix, (container, _) in _CONTAINERS.items() if soundfile.check_format(container, FLOAT)]
    if target.suffix.lower() not in able:
        raise AudioFileError(
            f"--float: {target} cannot hold 32-bit float samples: give an --out that ends in one of {', '.join(able)}, "
            "or leave --float out"
        )


def check_format(
    target: str | os.PathLike[str], *, n_channels: int, sample_rate: int, subtype: str | None = None
) -> None:
    """Refuse audio that the format of a file cannot hold, before there is anything to write.

    Args:
        target: the file; only its suffix is used.
        n_channels: of the audio.
        sample_rate: in Hz.
        subtype: libsndfile's name of the sample format; None is the default of the suffix.

    Raises:
        AudioFileError: if the suffix is not supported, or does not go with the others.
    """
    target = Path(target)
    container, subtype = container_and_subtype(target, subtype)
    reason = _refusal(container, subtype, n_channels, sample_rate)
    if reason is not None:
        raise AudioFileError(
            f"{target}: cannot hold {n_channels} channels at {sample_rate} Hz as {container} {subtype} ({reason}); "
            "use .wav or .flac"
        )


def _refusal(container: str, subtype: str, n_channels: int, sample_rate: int) -> str | None:
    """Return why libsndfile cannot write such a file, None if it can."""
    if subtype == "VORBIS" and sample_rate > _VORBIS_MAX_RATE:
        return f"at most {_VORBIS_MAX_RATE} Hz"
    try:
        soundfile.SoundFile(io.BytesIO(), "w", sample_rate, n_channels, subtype, None, container).close()
    except soundfile.LibsndfileError as error:
        return error.error_string
    return None
