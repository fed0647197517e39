"""Streaming generation: audio for mel frames that are still coming, a fixed number of frames later."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.chunking import ChunkPlan, Renderer, SlidingBuffer, round_up
from audiodiff.models.validation import checked_mel
from audiodiff.threads import one_thread
from audiodiff.types import AudioStretch, MelStretch


@dataclass(frozen=True)
class StreamLayout:
    """The frames of a stream.

    Args:
        chunk_frames: whose audio is returned at once.
        ahead_frames: after a chunk that must have arrived before it is computed.
        behind_frames: before a chunk that are computed again for it.
        equals_whole: whether the frames ahead are as many as the audio that `generate` makes of the whole asks for.
    """

    chunk_frames: int
    ahead_frames: int
    behind_frames: int
    equals_whole: bool


def stream_layout(
    plan: ChunkPlan, *, dialect: MelDialect, chunk_frames: int | None, ahead_frames: int | None
) -> StreamLayout:
    """Return the frames of a stream.

    Args:
        plan: how the model's sounds can be divided.
        dialect: of the mels.
        chunk_frames: None is 16, or as many as the alignment asks for.
        ahead_frames: None is the margin. With fewer, as many fewer of those before a chunk are computed again.

    Raises:
        ParameterError: if a number is out of its range.
    """
    hop = dialect.hop_length
    alignment = math.lcm(plan.alignment, hop) // hop
    chunk = round_up(16, alignment) if chunk_frames is None else chunk_frames
    check_whole(chunk, name="chunk_frames", least=1)
    if chunk % alignment:
        raise ParameterError(
            f"chunk_frames={chunk_frames} must be a multiple of {alignment}, where a frame of the mel and one of "
            "the network start together"
        )
    behind, margin = (round_up(-(-samples // hop), alignment) for samples in plan.margin)
    ahead = margin if ahead_frames is None else ahead_frames
    check_whole(ahead, name="ahead_frames", least=0)
    behind = round_up(max(0, behind - max(0, margin - ahead)), alignment)
    return StreamLayout(chunk, ahead, behind, equals_whole=ahead >= margin)


class Stream:
    """Take mel frames as they come, and return audio a fixed number of frames later.

    The result does not depend on how the frames arrive. With as many frames ahead as the model's margin asks for, it
    is the audio that `generate` makes of the whole mel, to 1e-4 of full scale.

    Args:
        render: computes the window of one chunk after another.
        dialect: of the mels.
        layout: frames of a chunk, and around it.
        channels: of the audio.
    """

    def __init__(self, render: Renderer, *, dialect: MelDialect, layout: StreamLayout, channels: int = 1) -> None:
        self._chunk = layout.chunk_frames
        self._ahead = layout.ahead_frames
        self._behind = layout.behind_frames
        self._render = render
        self._dialect = dialect
        self._channels = channels
        self._frames = SlidingBuffer(name="frames of the mel")
        self._done = 0  # number of the first frame whose audio was not returned yet
        self._closed = False

    @property
    def chunk_frames(self) -> int:
        """Frames whose audio is returned at once."""
        return self._chunk

    @property
    def ahead_frames(self) -> int:
        """Frames after a chunk that must have arrived before it is computed."""
        return self._ahead

    @cached_property
    def latency_frames(self) -> int:
        """Frames that must arrive before the audio of the first of them is returned."""
        # A centred frame stands in the middle of a window: the audio of a chunk needs the frame at its end.
        centred = self._dialect.n_frames(self._dialect.hop_length) - 1
        return self._chunk + self._ahead + centred

    @property
    def latency_seconds(self) -> float:
        """The same in seconds of audio, without the time to compute a chunk."""
        return self.latency_frames * self._dialect.hop_length / self._dialect.sample_rate

    def push(self, mel: MelStretch) -> AudioStretch:
        """Take frames, (1, n_mels, frames); return the audio that is ready, (1, channels, samples), maybe empty.

        Raises:
            MelError: if the frames break the contract of the dialect.
            ParameterError: if the stream is closed.
        """
        self._check_open()
        if mel.shape[-1]:
            mel = checked_mel(mel, dialect=self._dialect)
            if len(mel) != 1:
                raise ParameterError(f"mel has a batch of {len(mel)}, which must be 1: open a stream for each sound")
            self._frames.append(mel)
        ready: list[Tensor] = []
        while self._frames.end - self._done >= self.latency_frames:
            ready.append(self._next_chunk(self._done + self._chunk + self._ahead, last=False))
        return self._joined(ready)

    def over(self, mels: Iterable[MelStretch]) -> Iterator[AudioStretch]:
        """Push every mel and yield the audio that is ready, then the rest."""
        for mel in mels:
            audio = self.push(mel)
            if audio.shape[-1]:
                yield audio
        rest = self.close()
        if rest.shape[-1]:
            yield rest

    def close(self, n_samples: int | None = None) -> AudioStretch:
        """End the stream; return the audio of the remaining frames.

        Args:
            n_samples: of the whole sound; None is the natural length of the frames.
        """
        self._check_open()
        self._closed = True
        if self._frames.end == 0:
            return self._joined([])
        hop = self._dialect.hop_length
        whole = self._dialect.natural_n_samples(self._frames.end) if n_samples is None else n_samples
        ready: list[Tensor] = []
        while self._done * hop < whole:
            last = self._done + self._chunk + self._ahead
            ends = last * hop >= whole
            ready.append(self._next_chunk(-(-whole // hop) if ends else last, last=ends, whole=whole))
        return self._joined(ready)

    def _next_chunk(self, last_frame: int, *, last: bool, whole: int = 0) -> AudioStretch:
        """Compute the next chunk from the frames up to last_frame, or up to the end of the whole."""
        hop = self._dialect.hop_length
        first = max(0, self._done - self._behind)
        n_samples = (whole if last else last_frame * hop) - first * hop
        frames = self._frames.window(first, min(first + self._dialect.n_frames(n_samples), self._frames.end))
        with one_thread():
            audio = self._render(frames, n_samples=n_samples, first_sample=first * hop)
        stop = min((self._done + self._chunk) * hop, whole) if last else (self._done + self._chunk) * hop
        kept = audio[..., (self._done - first) * hop : stop - first * hop]
        self._done += self._chunk
        return kept

    def _joined(self, chunks: list[Tensor]) -> AudioStretch:
        return torch.cat(chunks, dim=-1) if chunks else torch.zeros(1, self._channels, 0)

    def _check_open(self) -> None:
        if self._closed:
            raise ParameterError("the stream is closed: open another one")
