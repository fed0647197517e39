"""Chunked generation. Each chunk is computed with enough context that the result equals the unchunked one."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError
from audiodiff.threads import spread
from audiodiff.types import MelsOfSignals, ReceptiveField, Waveform

CHUNK_SECONDS = 10.0
"""Least length of a chunk; chunks are longer where the margins would otherwise be most of the work."""


@dataclass(frozen=True)
class Chunk:
    """A stretch of the result, and the window around it that is computed for it, in samples.

    Args:
        index: number of the chunk, from 0.
        start: first sample of the stretch.
        stop: end of the stretch. It may overlap the next one, see `overlap_add`.
        first: first sample of the window.
        last: end of the window.
    """

    index: int
    start: int
    stop: int
    first: int
    last: int

    @property
    def within(self) -> slice:
        """Position of the stretch in the window."""
        return slice(self.start - self.first, self.stop - self.first)


@dataclass(frozen=True)
class ChunkPlan:
    """Rule by which a signal can be divided so that its chunks equal the whole.

    Args:
        margin: samples before and after a chunk that its own samples depend on.
        alignment: chunks and windows start at multiples of it.
    """

    margin: ReceptiveField
    alignment: int

    def chunks(self, n_samples: int, *, sample_rate: int) -> Iterator[Chunk]:
        """Divide into chunks of 10 s, or of twice both margins, so that a third of the work at most is done twice."""
        length = round_up(max(round(CHUNK_SECONDS * sample_rate), 2 * sum(self.margin)), self.alignment)
        before, after = (round_up(margin, self.alignment) for margin in self.margin)
        if n_samples < length + before + after:
            length = n_samples
        for index, start in enumerate(range(0, n_samples, length)):
            stop = min(start + length, n_samples)
            yield Chunk(index, start, stop, max(0, start - before), min(stop + after, n_samples))


def chunks_of(n_samples: int, *, plan: ChunkPlan | None, sample_rate: int) -> list[Chunk]:
    """Divide by a plan; without one, everything is one chunk."""
    if plan is None:
        return [Chunk(0, 0, n_samples, 0, n_samples)]
    return list(plan.chunks(n_samples, sample_rate=sample_rate))


def round_up(n: int, alignment: int) -> int:
    """Return the least multiple of alignment that is not below n."""
    return -(-n // alignment) * alignment


def overlap_add(
    windows: Iterable[Float[Tensor, "*batch _"]], chunks: Sequence[Chunk]
) -> Iterator[Float[Tensor, "*batch _"]]:
    """Cut the stretch of each chunk from its window, and fade each linearly into the next where the two overlap.

    Args:
        windows: the computed windows of the chunks, in order; each is taken when it is needed.
        chunks: in order; the stretch of each overlaps that of the next, or ends where that starts.

    Yields: consecutive stretches of the result, one for each chunk.

    Example:
        >>> chunks = [Chunk(0, 0, 4, 0, 4), Chunk(1, 2, 5, 2, 5)]
        >>> torch.cat(list(overlap_add([torch.zeros(4), torch.ones(3)], chunks)))
        tensor([0.0000, 0.0000, 0.2500, 0.7500, 1.0000])
    """
    tail: Tensor | None = None
    for window, chunk, following in zip(windows, chunks, [*chunks[1:], None], strict=True):
        result = window[..., chunk.within]
        if tail is not None:
            n = tail.shape[-1]
            ramp = (torch.arange(n, device=result.device) + 0.5) / n
            # As a difference, so that samples on which both agree stay as they are, to the bit.
            result = torch.cat([tail + ramp * (result[..., :n] - tail), result[..., n:]], dim=-1)
        tail = None
        if following is not None and following.start < chunk.stop:
            n_ready = result.shape[-1] - (chunk.stop - following.start)
            result, tail = result[..., :n_ready], result[..., n_ready:]
        yield result


def join_chunks(chunks: Iterable[Float[Tensor, "*batch _"]], *, n_samples: int) -> Float[Tensor, "*batch time"]:
    """Concatenate consecutive stretches, in the memory of one of them and of the result."""
    result: Tensor | None = None
    done = 0
    for audio in chunks:
        if audio.shape[-1] == n_samples:
            return audio
        if result is None:
            result = audio.new_empty(*audio.shape[:-1], n_samples)
        result[..., done : done + audio.shape[-1]] = audio
        done += audio.shape[-1]
    assert result is not None
    assert done == n_samples
    return result


class SlidingBuffer:
    """Give windows of a signal that arrives in stretches; a window forgets all that lies before it.

    Args:
        stretches: in order, each read when a window needs it; further ones can be appended.
        name: of what arrives, for the error message: "samples of the recording".
    """

    def __init__(self, stretches: Iterable[Float[Tensor, "*batch _"]] = (), *, name: str) -> None:
        self._coming = iter(stretches)
        self._name = name
        self._held: list[Tensor] = []
        self._first = self._end = 0

    @property
    def end(self) -> int:
        """Number of samples or frames that have arrived."""
        return self._end

    def append(self, stretch: Float[Tensor, "*batch _"]) -> None:
        """Add a stretch at the end."""
        self._held.append(stretch)
        self._end += stretch.shape[-1]

    def window(self, first: int, last: int) -> Float[Tensor, "*batch window"]:
        """Return what lies from first to last, which must not start before the window that was taken last.

        Raises:
            ParameterError: if the signal ends before the window does.
        """
        while self._end < last:
            stretch = next(self._coming, None)
            if stretch is None:
                raise ParameterError(f"the {self._name} end after {self._end}, and {last} are needed")
            self.append(stretch)
        held = self._held[0] if len(self._held) == 1 else torch.cat(self._held, dim=-1)
        held = held[..., first - self._first :]
        self._held, self._first = [held], first
        return held[..., : last - first]


@runtime_checkable
class Renderer(Protocol):
    """Compute a window of one or more examples, given its mel, if any, and its position: (batch, channels, samples)."""

    def __call__(self, mel: MelsOfSignals | None, *, n_samples: int, first_sample: int) -> Waveform: ...


def render_batch(renderers: Sequence[Renderer], *, size: int, workers: int | None = None) -> Renderer:
    """Return a renderer that splits a batch into groups of this size, each with its own renderer.

    Args:
        renderers: of the groups.
        size: of a group.
        workers: groups that are rendered at once, at most; None is `num_workers()`.
    """

    def render(mel: MelsOfSignals | None, *, n_samples: int, first_sample: int) -> Waveform:
        mels = [None] * len(renderers) if mel is None else mel.split(size)
        groups = zip(renderers, mels, strict=True)

        def own(group: tuple[Renderer, MelsOfSignals | None]) -> Waveform:
            return group[0](group[1], n_samples=n_samples, first_sample=first_sample)

        return torch.cat(list(spread(own, groups, workers=workers)))

    return render


def render_chunks(
    render: Renderer,
    mels: Iterable[MelsOfSignals] | None,
    chunks: Sequence[Chunk],
    *,
    dialect: MelDialect | None,
    workers: int | None = None,
    on_end: Callable[[], None] = lambda: None,
) -> Iterator[Waveform]:
    """Render a sound chunk by chunk, in the memory of one window for each worker.

    Args:
        render: computes a window.
        mels: stretches of the mel in order, (batch, n_mels, frames) each; None for a model that takes none.
        chunks: of the whole sound.
        dialect: of the mel.
        workers: windows that are rendered at once, at most; None is `num_workers()`.
        on_end: called if not all chunks are wanted, to end the rendering of others; see `spread`.

    Raises:
        ParameterError: if the mels end before the sound does.
    """
    frames = None if mels is None else SlidingBuffer(mels, name="frames of the mel")

    def framed() -> Iterator[tuple[Chunk, MelsOfSignals | None]]:
        for chunk in chunks:
            mel = None
            if frames is not None and dialect is not None:
                first = chunk.first // dialect.hop_length
                mel = frames.window(first, first + dialect.n_frames(chunk.last - chunk.first))
            yield chunk, mel

    def window(piece: tuple[Chunk, MelsOfSignals | None]) -> Waveform:
        chunk, mel = piece
        return render(mel, n_samples=chunk.last - chunk.first, first_sample=chunk.first)

    return overlap_add(spread(window, framed(), workers=workers, on_end=on_end), chunks)


class StoppedError(Exception):
    """The steps of a stage are no longer wanted."""


class StepCounter:
    """Count the steps of stages; each calls it after every step, with any arguments, from any thread.

    Args:
        on_step: called as (done, of all).
        total: steps of all stages.
    """

    def __init__(self, on_step: Callable[[int, int], None] | None, *, total: int) -> None:
        self._on_step = on_step
        self._total = total
        self._done = 0
        self._stopped = False
        self._lock = threading.Lock()

    def __call__(self, *_: object) -> None:
        with self._lock:
            if self._stopped:
                raise StoppedError
            self._done += 1
            if self._on_step is not None:
                self._on_step(self._done, self._total)

    def stop(self) -> None:
        """End each stage at its next step."""
        self._stopped = True
