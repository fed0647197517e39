"""Live generation: mel frames or samples from one byte stream, audio to another, chunk by chunk."""

import math
from collections.abc import Callable, Iterator
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch

from audiodiff.dsp.dialect_checks import converted
from audiodiff.dsp.dialect_text import format_dialect
from audiodiff.dsp.level import RunningOffset
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel_stream import MelStream
from audiodiff.dsp.resample import ResampleStream
from audiodiff.errors import AudioFileError
from audiodiff.io.readers import whole_hops
from audiodiff.models.streaming import Stream
from audiodiff.types import AudioStretch, MelStretch

LiveInput = Literal["pcm", "mel"]
"""Format of the input: 16-bit little-endian mono samples, or frames of n_mels 32-bit little-endian floats."""

_BYTES_AT_ONCE = 65536
_FULL_SCALE = 32768.0


@runtime_checkable
class ByteSource(Protocol):
    """A source of bytes: `read1` waits for the first, and returns those that are there."""

    def read1(self, size: int, /) -> bytes: ...


@runtime_checkable
class ByteTarget(Protocol):
    """A target of bytes."""

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
    input_dialect: MelDialect | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Generate 16-bit little-endian mono samples until the input ends.

    Args:
        stream: of a model.
        dialect: of its mels.
        source: of the input.
        target: of the audio, written chunk by chunk.
        kind: of the input.
        in_rate: of input samples, Hz.
        out_rate: of the audio, Hz.
        input_dialect: of mel frames on the input, which may have another logarithm; None is that of the stream.
        report: called with a line about the formats and the delay at the start, and one about clipping at the end.

    Raises:
        AudioFileError: if the input is empty, or ends within a sample or a frame; the audio of the whole ones was
            written.
        MelError: if frames break the contract of the dialect.
    """
    rate, hop = dialect.sample_rate, dialect.hop_length
    pcm, given = kind == "pcm", input_dialect or dialect
    incoming = _Input(source, item_bytes=2 if pcm else 4 * dialect.n_mels, name="sample" if pcm else "frame")
    resampler = ResampleStream(from_rate=in_rate, to_rate=rate)
    output = _Output(target, from_rate=rate, to_rate=out_rate)
    latency = stream.latency_seconds + output.latency_seconds
    if pcm:
        stft = dialect.stft
        latency += (stft.n_fft - stft.padding - hop) / rate + resampler.latency_seconds
    input_format = (
        f"s16le mono at {in_rate} Hz" if pcm else f"float32 frames of {dialect.n_mels} bands ({format_dialect(given)})"
    )
    report(
        f"input {input_format}; output s16le mono at {out_rate} Hz, {1000.0 * latency:.0f} ms later (chunks of "
        f"{stream.chunk_frames} frames, {stream.ahead_frames} ahead) and the time to compute a chunk"
    )
    mels = (
        _mels_of_samples(incoming, dialect, resampler, in_rate=in_rate)
        if pcm
        else _mels_of_frames(incoming, dialect, given)
    )
    for mel in mels:
        # One chunk at a time, so that each is written before the next is computed.
        for frames in mel.split(stream.chunk_frames, dim=-1):
            audio = stream.push(frames)
            if incoming.ended and pcm:
                output.end_after(math.ceil(incoming.n_items * out_rate / in_rate))
            output.write(audio)
    if pcm:
        n_resampled = math.ceil(incoming.n_items * rate / in_rate)
        n_samples = whole_hops(n_resampled, hop_length=hop)
    else:
        n_samples = dialect.natural_n_samples(incoming.n_items)
        output.end_after(math.ceil(n_samples * out_rate / rate))
    output.write(stream.close(n_samples))
    n_clipped = output.close()
    if n_clipped:
        report(f"{n_clipped} samples were above full scale and clipped")
    incoming.check_end()


def _mels_of_frames(incoming: "_Input", dialect: MelDialect, given: MelDialect) -> Iterator[MelStretch]:
    for data in incoming:
        frames = np.frombuffer(data, "<f4").astype(np.float32)
        mel = torch.from_numpy(frames).unflatten(0, (-1, dialect.n_mels)).T[None]
        if given != dialect:
            given.check(mel, name="mel")
            mel = converted(mel, given, dialect)
        yield mel


def _mels_of_samples(
    incoming: "_Input", dialect: MelDialect, resampler: ResampleStream, *, in_rate: int
) -> Iterator[MelStretch]:
    mels, offset = MelStream(dialect), RunningOffset(sample_rate=in_rate)
    n_samples = 0
    for data in incoming:
        audio = torch.from_numpy(np.frombuffer(data, "<i2").astype(np.float32)) / _FULL_SCALE
        audio = resampler.push(offset.remove(audio))
        n_samples += len(audio)
        yield mels.push(audio[None])
    rest = resampler.close()
    if rest is not None:
        n_samples += len(rest)
        yield mels.push(rest[None])
    # Whole hops, so that every sample of the input lies under a frame; the padding is cut off again.
    yield mels.push(torch.zeros(1, -n_samples % dialect.hop_length))
    yield mels.close()


class _Input:
    """The input in whole samples or frames, as soon as they arrive."""

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
            n_rest = len(self._rest)
            there = f"{n_rest} of the {self._item_bytes} bytes of a {self._name}" if n_rest else "nothing"
            raise AudioFileError(f"standard input ended after {there}: there is no audio to generate")

    def check_end(self) -> None:
        """Refuse an input that ended within an item."""
        if self._rest:
            raise AudioFileError(
                f"standard input ended within a {self._name}, after {len(self._rest)} of its {self._item_bytes} bytes: "
                f"the audio of the {self.n_items} whole ones was written"
            )


class _Output:
    """The output, written as soon as it is generated."""

    def __init__(self, target: ByteTarget, *, from_rate: int, to_rate: int) -> None:
        self._target = target
        self._resampler = ResampleStream(from_rate=from_rate, to_rate=to_rate)
        self._n_written = self._n_clipped = 0
        self._n_samples: int | None = None

    @property
    def latency_seconds(self) -> float:
        return self._resampler.latency_seconds

    def end_after(self, n_samples: int) -> None:
        """Set the number of samples in all."""
        self._n_samples = n_samples

    def write(self, audio: AudioStretch) -> None:
        if audio.shape[-1]:
            self._write_samples(self._resampler.push(audio[0, 0].cpu()))

    def close(self) -> int:
        """Write what is left; return how many samples were clipped."""
        rest = self._resampler.close()
        if rest is not None:
            self._write_samples(rest)
        return self._n_clipped

    def _write_samples(self, audio: torch.Tensor) -> None:
        if self._n_samples is not None:
            audio = audio[: self._n_samples - self._n_written]
        self._n_written += len(audio)
        self._n_clipped += int((audio.abs() > 1.0).sum())
        integers = (audio.double() * _FULL_SCALE).round().clamp(-_FULL_SCALE, _FULL_SCALE - 1.0)
        self._target.write(integers.numpy().astype("<i2").tobytes())
        self._target.flush()
