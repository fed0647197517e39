"""Long sounds a piece at a time: each computed with so much around it that it is what the whole would be there."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError, check_whole
from audiodiff.generation_arguments import natural_n_samples
from audiodiff.types import Mel, Waveform

PIECE_SECONDS = 10.0
"""What is computed at once, at least; longer where the margins would otherwise be most of the work."""


@dataclass(frozen=True)
class Piece:
    """A stretch that is kept, and the window around it that is computed, in samples.

    Args:
        start: first sample that is kept.
        stop: end of what is kept.
        first: first sample of the window.
        last: end of the window.
    """

    start: int
    stop: int
    first: int
    last: int

    @property
    def within(self) -> slice:
        """Where the kept stretch lies in the window."""
        return slice(self.start - self.first, self.stop - self.first)


@dataclass(frozen=True)
class Cut:
    """How a model's sounds may be cut.

    Args:
        margin: samples to either side of a piece that its own samples depend on.
        grain: every cut lies at a multiple of it.
    """

    margin: int
    grain: int

    def length(self, sample_rate: int) -> int:
        """Return how long the pieces are, in samples: four margins at least, so that a third of the work is spent twice."""
        return _up(max(round(PIECE_SECONDS * sample_rate), 4 * self.margin), self.grain)

    def pieces(self, n_samples: int, *, length: int) -> Iterator[Piece]:
        """Divide n_samples into pieces of a length that is a multiple of the grain."""
        margin = _up(self.margin, self.grain)
        for start in range(0, n_samples, length):
            stop = min(start + length, n_samples)
            yield Piece(start, stop, max(0, start - margin), min(stop + margin, n_samples))


def _up(n: int, grain: int) -> int:
    return -(-n // grain) * grain


class Renderer(Protocol):
    """What computes a window: (its mel, its number of samples, its first sample) -> audio (1, channels, samples)."""

    def __call__(self, mel: Mel, *, n_samples: int, first_sample: int) -> Waveform: ...


class Stream:
    """Take mel frames as they come, and give audio a fixed number of frames later.

    What is given does not depend on how the frames arrive. With `ahead_frames` as large as the model's margin it is
    what `generate` makes of all the frames at once.

    Args:
        render: computes a window.
        dialect: of the mels.
        chunk_frames: frames whose audio is given at once; a multiple of the grain.
        ahead_frames: frames after a chunk that have to have come before it is computed.
        behind_frames: frames before a chunk that are computed with it; a multiple of the grain.
        channels: of the audio.
    """

    def __init__(
        self,
        render: Renderer,
        *,
        dialect: MelDialect,
        chunk_frames: int,
        ahead_frames: int,
        behind_frames: int,
        channels: int = 1,
    ) -> None:
        check_whole(chunk_frames, name="chunk_frames", least=1)
        check_whole(ahead_frames, name="ahead_frames", least=0)
        check_whole(behind_frames, name="behind_frames", least=0)
        self._render = render
        self._dialect = dialect
        self._chunk, self._ahead, self._behind = chunk_frames, ahead_frames, behind_frames
        self._channels = channels
        self._frames: Tensor = torch.zeros(1, dialect.n_mels, 0)
        self._base = 0  # number of the first frame that is kept
        self._done = 0  # number of the first frame whose audio was not given yet
        self._closed = False

    @property
    def latency_frames(self) -> int:
        """Frames that have to come before the audio of the first of them is given: a chunk, and what follows it."""
        # A centred frame stands in the middle of a window: the audio of a chunk needs the frame at its end.
        centred = self._dialect.n_frames(self._dialect.hop_length) - 1
        return self._chunk + self._ahead + centred

    @property
    def latency_seconds(self) -> float:
        """The same, in seconds of audio; the time to compute a chunk comes on top."""
        return self.latency_frames * self._dialect.hop_length / self._dialect.sample_rate

    def push(self, mel: Mel) -> Waveform:
        """Take frames, (1, n_mels, frames); return the audio that is ready, (1, channels, samples), maybe of no samples.

        Raises:
            MelError: if the frames break the contract of the dialect.
            ParameterError: if the stream was closed.
        """
        self._check_open()
        if mel.ndim != 3 or len(mel) != 1:
            raise ParameterError(f"mel has shape {tuple(mel.shape)} and must have (1, n_mels, frames)")
        if mel.shape[-1]:
            self._dialect.check(mel, name="mel")
            self._frames = torch.cat([self._frames.to(mel), mel.float()], dim=-1)
        given: list[Tensor] = []
        while self._base + self._frames.shape[-1] - self._done >= self.latency_frames:
            given.append(self._chunk_of_audio(self._done + self._chunk + self._ahead, last=False))
        return self._joined(given)

    def close(self, n_samples: int | None = None) -> Waveform:
        """End the stream; return the audio of the frames that are left.

        Args:
            n_samples: of the whole sound; None is what the frames stand for.
        """
        self._check_open()
        self._closed = True
        n_frames = self._base + self._frames.shape[-1]
        if n_frames == 0:
            return self._joined([])
        hop = self._dialect.hop_length
        whole = natural_n_samples(n_frames, dialect=self._dialect) if n_samples is None else n_samples
        given: list[Tensor] = []
        while self._done * hop < whole:
            last = self._done + self._chunk + self._ahead
            ends = last * hop >= whole
            given.append(self._chunk_of_audio(-(-whole // hop) if ends else last, last=ends, whole=whole))
        return self._joined(given)

    def _chunk_of_audio(self, last_frame: int, *, last: bool, whole: int = 0) -> Waveform:
        """Compute the next chunk from the frames up to last_frame, or up to the end of the whole."""
        hop = self._dialect.hop_length
        first = max(0, self._done - self._behind)
        n_samples = (whole if last else last_frame * hop) - first * hop
        frames = self._frames[..., first - self._base :][..., : self._dialect.n_frames(n_samples)]
        audio = self._render(frames, n_samples=n_samples, first_sample=first * hop)
        stop = min((self._done + self._chunk) * hop, whole) if last else (self._done + self._chunk) * hop
        kept = audio[..., (self._done - first) * hop : stop - first * hop]
        self._done += self._chunk
        drop = max(0, self._done - self._behind) - self._base
        self._frames, self._base = self._frames[..., drop:].clone(), self._base + drop
        return kept

    def _joined(self, given: list[Tensor]) -> Waveform:
        return torch.cat(given, dim=-1) if given else torch.zeros(1, self._channels, 0)

    def _check_open(self) -> None:
        if self._closed:
            raise ParameterError("the stream is closed: open another one")


def streamed(stream: Stream, mels: Iterable[Mel], on_end: Callable[[], None] | None = None) -> Iterator[Waveform]:
    """Push every mel and yield what is ready, then the rest."""
    for mel in mels:
        audio = stream.push(mel)
        if audio.shape[-1]:
            yield audio
    rest = stream.close()
    if rest.shape[-1]:
        yield rest
