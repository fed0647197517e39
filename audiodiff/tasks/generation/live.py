"""Standard input to standard output, live: mel frames or samples come, and sound goes out while more of them come."""

import math
from collections.abc import Iterator
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch

from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel_stream import MelStream
from audiodiff.dsp.resample import ResampleStream
from audiodiff.errors import AudioFileError
from audiodiff.io.console import say
from audiodiff.models.streaming import Stream
from audiodiff.types import AudioStretch, MelStretch

LiveInput = Literal["pcm", "mel"]
"""16-bit little-endian mono samples, or frames of n_mels 32-bit little-endian floats."""

_BYTES_AT_ONCE = 65536
_FULL_SCALE = 32768.0


@runtime_checkable
class ByteSource(Protocol):
    """What bytes are read from: `read1` waits for the first, and returns what is there."""

    def read1(self, size: int, /) -> bytes: ...


@runtime_checkable
class ByteTarget(Protocol):
    """What bytes are written to."""

    def write(self, data: bytes, /) -> int: ...

    def flush(self) -> None: ...


def run_live(
    stream: Stream,
    *,
    dialect: MelDialect,
    source: ByteSource,
    target: ByteTarget,
    kind: LiveInput,
    in_rate: int,
    out_rate: int,
) -> None:
    """Make sound of what comes until it ends, as 16-bit little-endian mono samples.

    Args:
        stream: of a model.
        dialect: of its mels.
        source: what comes.
        target: where the sound goes, each chunk as soon as it is made.
        kind: of what comes.
        in_rate: of the samples that come, Hz.
        out_rate: of those that go, Hz.

    Raises:
        AudioFileError: if nothing comes, or it ends within a sample or a frame; the sound of the whole ones was given.
        MelError: if frames break the contract of the dialect.
    """
    rate, hop = dialect.sample_rate, dialect.hop_length
    pcm = kind == "pcm"
    coming = _Input(source, item_bytes=2 if pcm else 4 * dialect.n_mels, name="sample" if pcm else "frame")
    resampler = ResampleStream(from_rate=in_rate, to_rate=rate)
    output = _Output(target, from_rate=rate, to_rate=out_rate)
    latency = stream.latency_seconds + output.reach_seconds
    if pcm:
        stft = dialect.stft
        latency += (stft.n_fft - stft.padding - hop) / rate + resampler.latency_seconds
    takes = f"s16le mono at {in_rate} Hz" if pcm else f"float32 frames of {dialect.n_mels} bands ({dialect.name})"
    say(
        f"takes {takes}, gives s16le mono at {out_rate} Hz {1000.0 * latency:.0f} ms later (chunks of "
        f"{stream.chunk_frames} frames, {stream.ahead_frames} ahead), and the time to compute a chunk"
    )
    mels = _mels_of_samples(coming, dialect, resampler) if pcm else _mels_of_frames(coming, dialect)
    for mel in mels:
        # A chunk at a time, so that each is given before the next is computed.
        for frames in mel.split(stream.chunk_frames, dim=-1):
            audio = stream.push(frames)
            if coming.ended and pcm:
                output.end_after(math.ceil(coming.n_items * out_rate / in_rate))
            output.give(audio)
    if pcm:
        n_samples = _whole_hops(coming.n_items, in_rate=in_rate, dialect=dialect)
    else:
        n_samples = dialect.natural_n_samples(coming.n_items)
        output.end_after(math.ceil(n_samples * out_rate / rate))
    output.give(stream.close(n_samples))
    output.close()
    coming.check_end()


def _mels_of_frames(coming: "_Input", dialect: MelDialect) -> Iterator[MelStretch]:
    for data in coming:
        frames = np.frombuffer(data, "<f4").astype(np.float32)
        yield torch.from_numpy(frames).unflatten(0, (-1, dialect.n_mels)).T[None]


def _mels_of_samples(coming: "_Input", dialect: MelDialect, resampler: ResampleStream) -> Iterator[MelStretch]:
    mels = MelStream(dialect)
    n_samples = 0
    for data in coming:
        audio = torch.from_numpy(np.frombuffer(data, "<i2").astype(np.float32)) / _FULL_SCALE
        audio = resampler.push(audio)
        n_samples += len(audio)
        yield mels.push(audio[None])
    rest = resampler.close()
    if rest is not None:
        n_samples += len(rest)
        yield mels.push(rest[None])
    # Whole hops, so that every sample of the input lies under a frame; what is added is cut off again.
    yield mels.push(torch.zeros(1, -n_samples % dialect.hop_length))
    yield mels.close()


def _whole_hops(n_read: int, *, in_rate: int, dialect: MelDialect) -> int:
    n_samples = math.ceil(n_read * dialect.sample_rate / in_rate)
    return -(-n_samples // dialect.hop_length) * dialect.hop_length


class _Input:
    """What comes, in whole samples or frames, as soon as it comes."""

    def __init__(self, source: ByteSource, *, item_bytes: int, name: str) -> None:
        self._source = source
        self._item_bytes = item_bytes
        self._name = name
        self._rest = b""
        self.n_items = 0
        self.ended = False

    def __iter__(self) -> Iterator[bytes]:
        while data := self._source.read1(_BYTES_AT_ONCE):
            data = self._rest + data
            n_items = len(data) // self._item_bytes
            self._rest = data[n_items * self._item_bytes :]
            self.n_items += n_items
            if n_items:
                yield data[: n_items * self._item_bytes]
        self.ended = True
        if self.n_items == 0:
            said = f"{len(self._rest)} of the {self._item_bytes} bytes of a {self._name}" if self._rest else "nothing"
            raise AudioFileError(f"standard input ended after {said}: there is no sound to make")

    def check_end(self) -> None:
        """Refuse an input that ended within an item."""
        if self._rest:
            raise AudioFileError(
                f"standard input ended within a {self._name}, after {len(self._rest)} of its {self._item_bytes} bytes: "
                f"the sound of the {self.n_items} whole ones was written"
            )


class _Output:
    """Samples that are written as soon as they are made."""

    def __init__(self, target: ByteTarget, *, from_rate: int, to_rate: int) -> None:
        self._target = target
        self._resampler = ResampleStream(from_rate=from_rate, to_rate=to_rate)
        self._n_given = self._n_clipped = 0
        self._n_samples: int | None = None

    @property
    def reach_seconds(self) -> float:
        return self._resampler.latency_seconds

    def end_after(self, n_samples: int) -> None:
        """Give as many samples in all."""
        self._n_samples = n_samples

    def give(self, audio: AudioStretch) -> None:
        if audio.shape[-1]:
            self._write(self._resampler.push(audio[0, 0].cpu()))

    def close(self) -> None:
        """Give what is left, and say what did not fit."""
        rest = self._resampler.close()
        if rest is not None:
            self._write(rest)
        if self._n_clipped:
            say(f"{self._n_clipped} samples were above full scale and clipped")

    def _write(self, audio: torch.Tensor) -> None:
        if self._n_samples is not None:
            audio = audio[: self._n_samples - self._n_given]
        self._n_given += len(audio)
        self._n_clipped += int((audio.abs() > 1.0).sum())
        integers = (audio.double() * _FULL_SCALE).round().clamp(-_FULL_SCALE, _FULL_SCALE - 1.0)
        self._target.write(integers.numpy().astype("<i2").tobytes())
        self._target.flush()
