"""Base class of models that make sound, each of which may be the second stage of a model that makes mels."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn

from audiodiff.diffusion.grid import Grid
from audiodiff.diffusion.noise import Seed
from audiodiff.diffusion.solvers import Solver
from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError
from audiodiff.labels import LabelSet
from audiodiff.models.chunking import ChunkPlan, Renderer, StepCounter, chunks_of, render_batch, render_chunks
from audiodiff.models.devices import check_precision
from audiodiff.models.sampling import MODEL_DEFAULTS, SamplingOptions
from audiodiff.models.streaming import Stream, StreamLayout, stream_layout
from audiodiff.models.validation import Labels, checked_mel, checked_recordings
from audiodiff.threads import one_thread
from audiodiff.types import AudioStretch, Mel, Mels, MelStretch, Recordings, Waveform

_TORCH_NAMES = ("eval", "named_parameters", "parameters", "state_dict", "to", "train")


class Vocoder(nn.Module, ABC):
    """Make sound, for a caller or as the second stage of a model that makes mel spectrograms."""

    sample_rate: int
    """Of the audio, Hz."""
    dialect: MelDialect | None
    """Of the mel spectrograms that the model takes or makes; None where there are none."""
    n_iterations: int
    """Iterations of the mel inversion that ends a generation."""
    licence: str | None = None
    """Of the weights, as the model card names it."""

    @property
    @abstractmethod
    def needs_mel(self) -> bool:
        """True if `generate` needs a mel spectrogram."""

    @property
    @abstractmethod
    def n_steps(self) -> int:
        """Steps of its sampler, 0 where nothing is sampled."""

    @property
    @abstractmethod
    def labels(self) -> LabelSet | None:
        """The labels that it can generate from; None where it knows none."""

    @property
    def device(self) -> torch.device:
        """The device that the model computes on."""
        return next(chain(self.parameters(), self.buffers())).device

    def mel(self, audio: Recordings) -> Mels:
        """Analyse mono audio at the model's rate.

        Args:
            audio: (batch, 1, time), or one sound: (1, time) or (time,).

        Returns: (batch, n_mels, frames), or (n_mels, frames) of one sound.

        Raises:
            ParameterError: if the audio cannot be analysed, or the model has no mel dialect.
        """
        if self.dialect is None:
            raise ParameterError("dialect=None: this model knows no mel spectrogram")
        recordings = checked_recordings(audio, sample_rate=self.sample_rate)
        if recordings.shape[1] != 1:
            raise ParameterError(
                f"audio has channels={recordings.shape[1]}, which must be 1: analyse channels one by one"
            )
        with one_thread():
            mels = self.dialect.mel(recordings[:, 0].to(self.device))
        return mels if audio.ndim == 3 else mels[0]

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        """Change all tensors, as `to` and `half` do, but for their precision; see `check_precision`."""
        check_precision(fn)
        return super()._apply(fn, recurse)

    def __repr__(self) -> str:
        """Return what a user wants to know of the model in one line."""
        facts = {
            "sample_rate": f"{self.sample_rate} Hz",
            "dialect": self.dialect and self.dialect.name,
            "parameters": f"{sum(weight.numel() for weight in self.parameters()) / 1e6:.3g} M",
            "steps": self.n_steps,
            "iterations": self.checked_iterations(None),
            "labels": self.labels and ", ".join(self.labels.names),
            "licence": self.licence,
        }
        return f"{type(self).__name__}({', '.join(f'{name}: {fact}' for name, fact in facts.items() if fact)})"

    def __dir__(self) -> list[str]:
        """Return the public names of this package's classes, the parts of the model, and few of torch's own."""
        own = [name for each in type(self).__mro__ if issubclass(each, Vocoder) for name in vars(each)]
        names = {*own, *vars(self), *self._modules, *_TORCH_NAMES} - {"training"}
        return sorted(name for name in names if not name.startswith("_"))

    @abstractmethod
    def check_sampling(self, options: SamplingOptions = MODEL_DEFAULTS) -> None:
        """Refuse, before anything is computed, the options that generation would refuse.

        Raises:
            ParameterError: if an option has no meaning for this model or cannot be.
        """

    @abstractmethod
    def checked_iterations(self, iterations: int | None) -> int:
        """Return the number of iterations of mel inversion that end a generation; None is the model's own number.

        Raises:
            ParameterError: if the model cannot work with this number.
        """

    @abstractmethod
    def generate_chunks(
        self,
        mels: Iterable[Mel] | None = None,
        *,
        n_samples: int | Sequence[int],
        labels: Labels | None = None,
        batch: int = 1,
        at_once: int | None = None,
        pairs: ChannelPairs | None = None,
        iterations: int | None = None,
        options: SamplingOptions = MODEL_DEFAULTS,
        seed: Seed = 0,
        items: Sequence[int] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Iterator[Waveform]:
        """Generate audio a few seconds at a time, in the memory of one chunk.

        Args:
            mels: stretches of the mels in order, (batch, n_mels, frames) each; needed by, and only by, a model that is
                conditioned on a mel.
            n_samples: length of the whole; or of each result, which then come in one chunk and end in zeros.
            labels: of a model that knows some: one mapping for all results, or one for each.
            batch: number of results.
            at_once: results that are computed together; None is all. A CPU computes one after another.
            pairs: says that the results are the channels of one recording, which are computed together. The mels are
                then those of the signals of `ChannelPairs.mixed`.
            iterations: of the mel inversion at the end; None is the model's own number.
            options: how to sample.
            seed: of the noise.
            items: number of each result, which keys its noise.
            on_step: called as (done, of all) after each step of the sampler and each iteration.

        Returns: an iterator over audio, (batch, channels, samples).

        Raises:
            ParameterError: if an argument has no meaning for this model or cannot be; also where the mels end early.
            MelError: when a stretch is reached that breaks the contract of the dialect.
        """

    def open_stream(
        self,
        *,
        chunk_frames: int | None = None,
        ahead_frames: int | None = None,
        steps: int | None = None,
        iterations: int | None = None,
        solver: str | Solver | None = None,
        grid: str | Grid | None = None,
        seed: Seed = 0,
        item: int = 0,
    ) -> Stream:
        """Return a stream that takes mel frames as they arrive and returns audio.

        Args:
            chunk_frames: frames whose audio is returned at once; None is 16, or what the network's own frames ask for.
            ahead_frames: frames after a chunk that it waits for; None is as many as `generate` needs for the same
                result.
            steps: as in `SamplingOptions`, and so are solver and grid.
            iterations: of the mel inversion at the end; None is the model's own number.
            solver: see steps.
            grid: see steps.
            seed: of the noise.
            item: number that keys the noise, another one for another sound.

        Raises:
            ParameterError: if the model takes no mel, a number is out of its range, or only a whole can be generated.
        """
        if not self.needs_mel or self.dialect is None:
            raise ParameterError("this model takes no mel spectrogram, so there is nothing to stream from: generate it")
        n_iterations = self.checked_iterations(iterations)
        options = SamplingOptions(steps=steps, solver=solver, grid=grid)
        self.check_sampling(options)
        plan = self.chunk_plan(n_iterations=n_iterations, options=options)
        if plan is None:
            which = "this model" if solver is None else f"solver={solver}"
            raise ParameterError(
                f"{which} looks at the whole sound, so it cannot be streamed: choose another, for example the solver "
                "euler or the model mel-inversion"
            )
        layout = stream_layout(plan, dialect=self.dialect, chunk_frames=chunk_frames, ahead_frames=ahead_frames)
        continued = self.continued_renderer(layout, n_iterations=n_iterations, seed=seed, item=item)
        if layout.equals_whole or continued is None:
            render = self.renderer(n_iterations=n_iterations, seed=seed, items=[item], on_step=None, options=options)
        else:
            layout, render = continued
        return Stream(render, dialect=self.dialect, layout=layout)

    def stream(self, mels: Iterable[MelStretch], **options: Any) -> Iterator[AudioStretch]:
        """Yield audio, (1, channels, samples), while mel frames, (1, n_mels, frames), still arrive.

        Args:
            mels: stretches of one mel spectrogram, each of any number of frames.
            options: as in `open_stream`.
        """
        return self.open_stream(**options).over(mels)

    @abstractmethod
    def chunk_plan(self, *, n_iterations: int, options: SamplingOptions = MODEL_DEFAULTS) -> ChunkPlan | None:
        """Return how its sounds may be divided into chunks, or None where only a whole can be made."""

    @abstractmethod
    def renderer(
        self,
        *,
        n_iterations: int,
        seed: Seed,
        items: Sequence[int],
        on_step: Callable[..., None] | None,
        options: SamplingOptions = MODEL_DEFAULTS,
        pairs: ChannelPairs | None = None,
    ) -> Renderer:
        """Return the function that makes the sound of a window of mels."""

    @abstractmethod
    def continued_renderer(
        self, layout: StreamLayout, *, n_iterations: int, seed: Seed, item: int
    ) -> tuple[StreamLayout, Renderer] | None:
        """Return a renderer of one chunk after another, each of which starts from the result of the last.

        Args:
            layout: of the stream, with fewer frames ahead than the audio of the whole asks for.
            n_iterations: of the mel inversion.
            seed: of the noise.
            item: number that keys the noise.

        Returns: the layout with the frames behind that it needs, and the renderer; None where each chunk is computed
            anew.
        """

    def _in_chunks(
        self,
        renderer_of: Callable[[slice, StepCounter], Renderer],
        mels: Iterable[Mel] | None,
        *,
        n_samples: int,
        batch: int,
        at_once: int,
        plan: ChunkPlan | None,
        n_steps_of: Callable[[int], int],
        on_step: Callable[[int, int], None] | None,
    ) -> Iterator[Waveform]:
        """Generate a batch chunk by chunk, as many results together as fit.

        Args:
            renderer_of: (part of the batch, step counter) -> the renderer of that part.
            mels: stretches of the mels in order.
            n_samples: length of the whole.
            batch: number of results.
            at_once: results that are computed together.
            plan: how to divide into chunks; None is not at all.
            n_steps_of: (number of windows) -> the steps of all of them, for the progress.
            on_step: called as (done, of all).
        """
        chunks = chunks_of(n_samples, plan=plan, sample_rate=self.sample_rate)
        parts = [slice(first, first + at_once) for first in range(0, batch, at_once)]
        report = StepCounter(on_step, total=n_steps_of(len(parts) * len(chunks)))
        workers = None if self.device.type == "cpu" else 1
        render = render_batch([renderer_of(part, report) for part in parts], size=at_once, workers=workers)
        dialect, checked = self.dialect, None
        if mels is not None and dialect is not None:
            checked = (checked_mel(mel, dialect=dialect).to(self.device) for mel in mels)
        return render_chunks(render, checked, chunks, dialect=dialect, workers=workers, on_end=report.stop)
