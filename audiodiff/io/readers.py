"""What sound is made from, a few seconds at a time: recordings, and files of mel spectrograms."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.dialect_checks import ensure_same
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel_stream import MelStream
from audiodiff.dsp.resample import ResampleStream
from audiodiff.io import audio as audio_io
from audiodiff.io.mel import MEL_SUFFIXES, load_mel
from audiodiff.types import Mel

_FRAMES_AT_ONCE = 1024


@dataclass(frozen=True)
class AudioReader:
    """A file that sound is made from.

    Args:
        n_signals: its channels.
        n_samples: to be generated.
        n_read: samples that it has, or stands for.
        rate: of these, Hz.
        level: what the result is multiplied by: 1, or the peak of a recording that passes full scale.
        mels: yields stretches of its mels, one example for each channel.
    """

    n_signals: int
    n_samples: int
    n_read: int
    rate: int
    level: float
    mels: Callable[[], Iterator[Mel]]


def is_mel(path: Path) -> bool:
    """Return whether a file holds a mel spectrogram, by its name."""
    return path.suffix.lower() in MEL_SUFFIXES


def read_mel(path: Path, *, dialect: MelDialect) -> Float[Tensor, "n_mels frames"]:
    """Read a mel that is to be used as one of the dialect.

    Raises:
        AudioFileError: if it cannot be read.
        MelError: if it is of another dialect.
    """
    mel, stated = load_mel(path)
    if stated is not None:
        ensure_same(stated, dialect, name=str(path))
    dialect.check(mel, name=str(path))
    return mel


def mel_source(path: Path, *, dialect: MelDialect) -> AudioReader:
    """Open a file of a mel spectrogram."""
    n_samples = dialect.natural_n_samples(read_mel(path, dialect=dialect).shape[-1])

    def mels() -> Iterator[Mel]:
        yield from read_mel(path, dialect=dialect)[None].split(_FRAMES_AT_ONCE, dim=-1)

    return AudioReader(1, n_samples, n_samples, dialect.sample_rate, 1.0, mels)


def recording_source(path: Path, *, dialect: MelDialect, device: torch.device) -> AudioReader:
    """Open a recording, having read it once for its length and its peak.

    Args:
        path: of the file.
        dialect: of the mel that it is brought to.
        device: where that is computed.

    Raises:
        AudioFileError: if it cannot be read to its end.
    """
    about = audio_io.info(path)
    n_read, peak = 0, 0.0

    def counted() -> Iterator[Tensor]:
        nonlocal n_read
        for block in audio_io.blocks(path):
            n_read += block.shape[-1]
            yield block

    def resampled(blocks: Iterator[Tensor]) -> Iterator[Tensor]:
        return ResampleStream(from_rate=about.sample_rate, to_rate=dialect.sample_rate).over(blocks)

    for block in resampled(counted()):
        if block.shape[-1]:
            peak = max(peak, float(block.abs().max()))
    # Float samples may pass full scale, where no mel is defined: the level comes back after the synthesis.
    level = max(1.0, peak)
    # Whole hops, so that every sample of the input lies under a frame; what is added is cut off again.
    hop = dialect.hop_length
    n_resampled = math.ceil(n_read * dialect.sample_rate / about.sample_rate)
    n_samples = -(-n_resampled // hop) * hop

    def whole_hops() -> Iterator[Tensor]:
        for block in resampled(audio_io.blocks(path)):
            yield block.to(device) / level
        yield torch.zeros(about.n_channels, n_samples - n_resampled, device=device)

    return AudioReader(
        about.n_channels, n_samples, n_read, about.sample_rate, level, lambda: MelStream(dialect).over(whole_hops())
    )
