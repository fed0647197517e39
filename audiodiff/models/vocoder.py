"""Base class of models that make sound, each of which may be the second stage of a model that makes mels."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn

from audiodiff.diffusion.noise import Seed
from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError
from audiodiff.models.chunking import ChunkPlan, Renderer, StepCounter, chunks_of, render_batch, render_chunks
from audiodiff.models.sampling import MODEL_DEFAULTS, SamplingOptions
from audiodiff.models.streaming import Stream
from audiodiff.models.validation import Labels, checked_mel, checked_recordings
from audiodiff.types import AudioStretch, Mel, Mels, MelStretch, Recordings, Waveform


class Vocoder(nn.Module, ABC):
    """Make sound, for a caller or as the second stage of a model that makes mel spectrograms."""

    sample_rate: int
    """Of the audio, Hz."""
    dialect: MelDialect | None
    """Of the mel spectrograms that the model takes or makes; None where there are none."""

    @property
    @abstractmethod
    def needs_mel(self) -> bool:
        """Whether a mel spectrogram is the only thing that it can make sound from."""

    @property
    @abstractmethod
    def n_steps(self) -> int:
        """Steps of its sampler, 0 where nothing is sampled."""

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
        mels = self.dialect.mel(recordings[:, 0].to(self.device))
        return mels if audio.ndim == 3 else mels[0]

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

    @abstractmethod
    def open_stream(self, **options: Any) -> Stream:
        """Return a stream that takes mel frames as they arrive and returns audio."""

    def stream(self, mels: Iterable[MelStretch], **options: Any) -> Iterator[AudioStretch]:
        """Yield audio, (1, channels, samples), while mel frames, (1, n_mels, frames), still arrive.

        Args:
            mels: stretches of one mel spectrogram, each of any number of frames.
            options: as in `open_stream`.
        """
        return self.open_stream(**options).over(mels)

    @abstractmethod
    def chunk_plan(self, *, n_iterations: int) -> ChunkPlan | None:
        """Return how its sounds may be divided into chunks, or None where only a whole can be made."""

    @abstractmethod
    def renderer(
        self,
        *,
        n_iterations: int,
        seed: Seed,
        items: Sequence[int],
        on_step: Callable[..., None] | None,
        pairs: ChannelPairs | None = None,
    ) -> Renderer:
        """Return the function that makes the sound of a window of mels."""

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
        render = render_batch([renderer_of(part, report) for part in parts], size=at_once)
        dialect = self.dialect
        if mels is None or dialect is None:
            return render_chunks(render, None, chunks, dialect=dialect)
        checked = (checked_mel(mel, dialect=dialect).to(self.device) for mel in mels)
        return render_chunks(render, checked, chunks, dialect=dialect)
