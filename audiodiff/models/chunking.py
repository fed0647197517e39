"""Long sounds a piece at a time: each computed with so much around it that it is what the whole would be there."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.validation import checked_mel, natural_n_samples
from audiodiff.types import AudioStretch, Mel, MelStretch, ReceptiveField, Waveform

PIECE_SECONDS = 10.0
"""What is computed at once, at least; longer where the margins would otherwise be most of the work."""


@dataclass(frozen=True)
class Chunk:
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
class ChunkPlan:
    """How a model's sounds may be cut.

    Args:
        margin: samples before and after a piece that its own samples depend on.
        grain: every cut lies at a multiple of it.
    """

    margin: ReceptiveField
    alignment: int

    def pieces(self, n_samples: int, *, sample_rate: int) -> Iterator[Chunk]:
        """Divide into pieces of 10 s, or of twice both margins, so that a third of the work at most is done twice."""
        length = _up(max(round(PIECE_SECONDS * sample_rate), 2 * sum(self.margin)), self.alignment)
        before, after = (_up(margin, self.alignment) for margin in self.margin)
        if n_samples < length + before + after:
            length = n_samples
        for start in range(0, n_samples, length):
            stop = min(start + length, n_samples)
            yield Chunk(start, stop, max(0, start - before), min(stop + after, n_samples))


def _up(n: int, alignment: int) -> int:
    return -(-n // alignment) * alignment


@runtime_checkable
class Renderer(Protocol):
    """What computes a window of one example: its mel, if it has one, and where it lies -> (1, channels, samples)."""

    def __call__(self, mel: Mel | None, *, n_samples: int, first_sample: int) -> Waveform: ...


def in_parts(renders: Sequence[Renderer], *, at_once: int) -> Renderer:
    """Return what renders a batch by parts of as many examples, each part by its own renderer."""

    def render(mel: Mel | None, *, n_samples: int, first_sample: int) -> Waveform:
        mels = [None] * len(renders) if mel is None else mel.split(at_once)
        parts = zip(renders, mels, strict=True)
        return torch.cat([own(part, n_samples=n_samples, first_sample=first_sample) for own, part in parts])

    return render


def in_pieces(
    render: Renderer, mels: Iterable[Mel] | None, pieces: Iterable[Chunk], *, dialect: MelDialect | None
) -> Iterator[Waveform]:
    """Yield a whole piece by piece, in the memory of one of them.

    Args:
        render: computes a window.
        mels: stretches of the whole mel in order, (batch, n_mels, frames) each; None where there is none.
        pieces: of the whole, in order.
        dialect: of the mel.
    """
    frames = None if mels is None else Frames(mels)
    for piece in pieces:
        n_samples = piece.last - piece.first
        own = None
        if frames is not None and dialect is not None:
            own = frames(piece.first // dialect.hop_length, n_frames=dialect.n_frames(n_samples))
        yield render(own, n_samples=n_samples, first_sample=piece.first)[..., piece.within]


def joined(made: Iterable[Waveform], *, n_samples: int) -> Waveform:
    """Put pieces together, in the memory of one of them and of the result."""
    result: Tensor | None = None
    done = 0
    for audio in made:
        if audio.shape[-1] == n_samples:
            return audio
        if result is None:
            result = audio.new_empty(*audio.shape[:-1], n_samples)
        result[..., done : done + audio.shape[-1]] = audio
        done += audio.shape[-1]
    assert result is not None
    assert done == n_samples
    return result


def whole(n_samples: int) -> list[Chunk]:
    """Return the one piece that is everything."""
    return [Chunk(0, n_samples, 0, n_samples)]


class Frames:
    """Give windows of frames that come in stretches; what lies before the last window is forgotten."""

    def __init__(self, mels: Iterable[Mel]) -> None:
        self._coming = iter(mels)
        self._base = 0
        self._held: list[Tensor] = []

    def __call__(self, first: int, *, n_frames: int) -> Float[Tensor, "batch n_mels window_frames"]:
        n_held = sum(mel.shape[-1] for mel in self._held)
        while self._base + n_held < first + n_frames:
            mel = next(self._coming, None)
            if mel is None:
                raise ParameterError(
                    f"mels end after {self._base + n_held} frames, and the sound needs {first + n_frames} of them"
                )
            self._held.append(mel)
            n_held += mel.shape[-1]
        held = self._held[0] if len(self._held) == 1 else torch.cat(self._held, dim=-1)
        held = held[..., first - self._base :]
        self._held, self._base = [held], first
        return held[..., :n_frames]


class CountedSteps:
    """Count the steps of one stage after another; called with whatever the stage reports.

    Args:
        on_step: called as (done, of all).
        total: steps of all stages.
    """

    def __init__(self, on_step: Callable[[int, int], None] | None, *, total: int) -> None:
        self._on_step = on_step
        self._total = total
        self._done = 0

    def __call__(self, *_: object) -> None:
        self._done += 1
        if self._on_step is not None:
            self._on_step(self._done, self._total)


class Stream:
    """Take mel frames as they come, and give audio a fixed number of frames later.

    What is given does not depend on how the frames arrive. With all the frames ahead that the model's margin asks for
    it is what `generate` makes of the whole, to 1e-4 of full scale.

    Args:
        render: computes a window.
        dialect: of the mels.
        cut: how the model's sounds may be cut.
        chunk_frames: frames whose audio is given at once; None is 16, or as many as the grain asks for.
        ahead_frames: frames after a chunk that have to have come before it is computed; None is the margin. With
            fewer, as many fewer of those before it are computed again.
        channels: of the audio.

    Raises:
        ParameterError: if a number is out of its range.
    """

    def __init__(
        self,
        render: Renderer,
        *,
        dialect: MelDialect,
        cut: ChunkPlan,
        chunk_frames: int | None,
        ahead_frames: int | None,
        channels: int = 1,
    ) -> None:
        hop = dialect.hop_length
        alignment = math.lcm(cut.alignment, hop) // hop
        self._chunk = _up(16, alignment) if chunk_frames is None else chunk_frames
        check_whole(self._chunk, name="chunk_frames", least=1)
        if self._chunk % alignment:
            raise ParameterError(
                f"chunk_frames={chunk_frames} must be a multiple of {alignment}: there frames of the mel and of the "
                "network begin together"
            )
        behind, ahead = (_up(-(-margin // hop), alignment) for margin in cut.margin)
        self._ahead = ahead if ahead_frames is None else ahead_frames
        check_whole(self._ahead, name="ahead_frames", least=0)
        self._behind = _up(max(0, behind - max(0, ahead - self._ahead)), alignment)
        self._render = render
        self._dialect = dialect
        self._channels = channels
        self._frames: Tensor = torch.zeros(1, dialect.n_mels, 0)
        self._base = 0  # number of the first frame that is kept
        self._done = 0  # number of the first frame whose audio was not given yet
        self._closed = False

    @property
    def chunk_frames(self) -> int:
        """Frames whose audio is given at once."""
        return self._chunk

    @property
    def ahead_frames(self) -> int:
        """Frames after a chunk that it waits for."""
        return self._ahead

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

    def push(self, mel: MelStretch) -> AudioStretch:
        """Take frames, (1, n_mels, frames); return the audio that is ready, (1, channels, samples), or none of it.

        Raises:
            MelError: if the frames break the contract of the dialect.
            ParameterError: if the stream was closed.
        """
        self._check_open()
        if mel.shape[-1]:
            mel = checked_mel(mel, dialect=self._dialect)
            if len(mel) != 1:
                raise ParameterError(f"mel has a batch of {len(mel)}, which must be 1: open a stream for each sound")
            self._frames = torch.cat([self._frames.to(mel), mel], dim=-1)
        given: list[Tensor] = []
        while self._base + self._frames.shape[-1] - self._done >= self.latency_frames:
            given.append(self._chunk_of_audio(self._done + self._chunk + self._ahead, last=False))
        return self._joined(given)

    def over(self, mels: Iterable[MelStretch]) -> Iterator[AudioStretch]:
        """Push every mel and yield what is ready, then the rest."""
        for mel in mels:
            audio = self.push(mel)
            if audio.shape[-1]:
                yield audio
        rest = self.close()
        if rest.shape[-1]:
            yield rest

    def close(self, n_samples: int | None = None) -> AudioStretch:
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

    def _chunk_of_audio(self, last_frame: int, *, last: bool, whole: int = 0) -> AudioStretch:
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

    def _joined(self, given: list[Tensor]) -> AudioStretch:
        return torch.cat(given, dim=-1) if given else torch.zeros(1, self._channels, 0)

    def _check_open(self) -> None:
        if self._closed:
            raise ParameterError("the stream is closed: open another one")
