"""Readers: the inputs of a command, recordings and files of mel spectrograms.

Each file is opened once, before anything is computed; what is known of it then is carried along.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.dialect_checks import converted, ensure_same, with_values_of
from audiodiff.dsp.level import offset_of
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel_stream import MelStream
from audiodiff.dsp.resample import ResampleStream
from audiodiff.errors import ParameterError
from audiodiff.io.audio import AudioInfo, blocks, info, read
from audiodiff.io.mel import MEL_KEY, MEL_SUFFIXES, load_mel
from audiodiff.types import Mel

MAX_HELD_BYTES = 2**30
"""Mel files that are held in memory from the moment they are opened; larger lists are loaded again one by one."""
_CHUNK_FRAMES = 1024


@dataclass(frozen=True)
class MelReader:
    """The mels of an input, read in chunks.

    Args:
        copied: for each channel, which of the distinct ones it equals.
        n_samples: to be generated for them, per channel.
        n_read: samples that the input has, or stands for.
        sample_rate: of these, Hz.
        level: factor of the generated audio: 1, or the peak of a recording beyond full scale.
        chunks: yields the mels in order, one example for each signal of the `ChannelPairs` of the distinct channels.
    """

    copied: Sequence[int]
    n_samples: int
    n_read: int
    sample_rate: int
    level: float
    chunks: Callable[[], Iterator[Mel]]


@dataclass(frozen=True)
class Recording:
    """A recording whose header was read.

    Args:
        path: the file.
        info: its sample rate, length, channels and sample format.
    """

    path: Path
    info: AudioInfo

    @property
    def dialect(self) -> None:
        """A recording states no mel dialect."""

    @property
    def needs_dialect(self) -> bool:
        """False: a recording is no mel without a dialect."""
        return False

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self.info.n_channels

    def read(self) -> Float[Tensor, "channels time"]:
        """Read all of it."""
        return read(self.path)[0]

    def blocks(self) -> Iterator[Float[Tensor, "channels _"]]:
        """Read it in blocks of a few seconds."""
        return blocks(self.path)

    def check(self, dialect: MelDialect) -> None:
        """Refuse a recording whose sample rate cannot be converted to that of a dialect.

        Raises:
            ParameterError: naming the file.
        """
        self.check_rate(dialect.sample_rate)

    def check_rate(self, rate: int) -> None:
        """Refuse a recording whose sample rate cannot be converted to another.

        Raises:
            ParameterError: naming the file.
        """
        try:
            ResampleStream(from_rate=self.info.sample_rate, to_rate=rate)
        except ParameterError as error:
            raise ParameterError(f"{self.path}: {error}") from error

    def mels(self, dialect: MelDialect, *, device: torch.device) -> MelReader:
        """Return a reader of its mels; the recording is read once now, for its length and its peak.

        Args:
            dialect: of the mels.
            device: where they are computed.

        Raises:
            AudioFileError: if the file cannot be read to its end.
        """
        n_read, peak, total = 0, 0.0, torch.zeros(self.n_channels, 1, dtype=torch.float64)
        equal = list(itertools.combinations(range(self.n_channels), 2))

        def counted() -> Iterator[Tensor]:
            nonlocal n_read, equal, total
            for block in self.blocks():
                n_read += block.shape[-1]
                total = total + block.sum(dim=-1, keepdim=True, dtype=torch.float64)
                equal = [(a, b) for a, b in equal if torch.equal(block[a], block[b])]
                yield block

        def resampled(blocks: Iterator[Tensor]) -> Iterator[Tensor]:
            return ResampleStream(from_rate=self.info.sample_rate, to_rate=dialect.sample_rate).over(blocks)

        for block in resampled(counted()):
            if block.shape[-1]:
                peak = max(peak, float(block.abs().max()))
        # Float samples may pass full scale, where no mel is defined: the level comes back after the synthesis.
        # An offset would be generated as a hum, so it is left out.
        offset = offset_of((total / n_read).float(), peak=peak)
        level = max(1.0, peak + float(offset.abs().max()))
        n_resampled = math.ceil(n_read * dialect.sample_rate / self.info.sample_rate)
        n_samples = whole_hops(n_resampled, hop_length=dialect.hop_length)

        first = [min((a for a, b in equal if b == channel), default=channel) for channel in range(self.n_channels)]
        distinct = sorted(set(first))
        pairs = ChannelPairs(len(distinct))

        def padded() -> Iterator[Tensor]:
            for block in resampled((block - offset)[distinct] for block in self.blocks()):
                yield pairs.mixed(block.to(device) / level)
            yield torch.zeros(pairs.n_signals, n_samples - n_resampled, device=device)

        return MelReader(
            [distinct.index(channel) for channel in first],
            n_samples,
            n_read,
            self.info.sample_rate,
            level,
            lambda: MelStream(dialect).over(padded()),
        )


@dataclass(frozen=True)
class MelInput:
    """A file of a mel spectrogram that was loaded.

    Args:
        path: the file.
        dialect: that it states, or that a bare array is read as; None where that is the model's.
        held: the mel; None to load it again when it is used.
        key: name of the array in the file.
        is_bare: the file states no dialect.
    """

    path: Path
    dialect: MelDialect | None
    held: Float[Tensor, "n_mels frames"] | None
    key: str = MEL_KEY
    is_bare: bool = False

    @property
    def n_channels(self) -> int:
        """Number of channels, 1."""
        return 1

    @property
    def needs_dialect(self) -> bool:
        """True if the file states no dialect."""
        return self.is_bare

    def mel(self) -> Float[Tensor, "n_mels frames"]:
        """Return the mel."""
        if self.held is not None:
            return self.held
        return load_mel(self.path, key=self.key, frames_first=self.dialect is not None and self.dialect.frames_first)[0]

    def check(self, dialect: MelDialect) -> None:
        """Refuse a mel of another dialect; another logarithm, mean and std are converted.

        Raises:
            MelError: naming the file, and the field that differs.
        """
        own = self.dialect or dialect
        ensure_same(with_values_of(own, dialect), dialect, name=str(self.path))
        own.check(self.mel(), name=str(self.path))

    def mels(self, dialect: MelDialect, *, device: torch.device) -> MelReader:
        """Return a reader of its mel, as that of a recording."""
        mel = self.mel()[None]
        if self.dialect is not None:
            mel = converted(mel, self.dialect, dialect)
        n_samples = dialect.natural_n_samples(mel.shape[-1])
        chunks = mel.split(_CHUNK_FRAMES, dim=-1)
        return MelReader([0], n_samples, n_samples, dialect.sample_rate, 1.0, lambda: iter(chunks))


Input = Recording | MelInput
"""An input file of a command that takes both."""


def open_recording(path: Path) -> Recording:
    """Open a recording.

    Raises:
        AudioFileError: if it is missing, empty or not audio.
    """
    return Recording(path, info(path))


def open_inputs(paths: Iterable[Path], *, dialect: MelDialect | None = None, key: str = MEL_KEY) -> list[Input]:
    """Open recordings and files of mel spectrograms, which their suffixes tell apart.

    Args:
        paths: the files.
        dialect: that bare arrays are read as; None is the model's.
        key: name of the array in a file that holds several by name.

    Raises:
        AudioFileError: if one cannot be read.
        MelError: if a mel file holds no mel of its stated dialect.
    """
    opened: list[Input] = []
    room = MAX_HELD_BYTES
    for path in paths:
        if path.suffix.lower() not in MEL_SUFFIXES:
            opened.append(open_recording(path))
            continue
        mel, stated = load_mel(path, key=key, frames_first=dialect is not None and dialect.frames_first)
        room -= path.stat().st_size
        opened.append(MelInput(path, stated or dialect, mel if room >= 0 else None, key, is_bare=stated is None))
    return opened


def whole_hops(n_samples: int, *, hop_length: int) -> int:
    """Round a length up to whole hops, so that every sample lies under a frame.

    Example:
        >>> whole_hops(257, hop_length=256)
        512
    """
    return -(-n_samples // hop_length) * hop_length
