"""A trained model: representation + conditioner + denoiser + sampler."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.grid import Grid
from audiodiff.diffusion.noise import Seed, noise_of
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import Solver, evaluations_in_a_row
from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.dialect_checks import ensure_same
from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError, check_whole
from audiodiff.labels import LabelSet, LabelValue
from audiodiff.models.chunking import ChunkPlan, Renderer, join_chunks
from audiodiff.models.conditioners.conditioner import Conditioner
from audiodiff.models.representations.representation import Representation
from audiodiff.models.sampling import MODEL_DEFAULTS, SamplingOptions, resolve_sampling
from audiodiff.models.streaming import StreamLayout
from audiodiff.models.validation import (
    Labels,
    checked_items,
    checked_labels,
    checked_length,
    checked_mel,
    checked_n_samples,
)
from audiodiff.models.vocoder import Vocoder
from audiodiff.models.window_sampler import WindowSampler, plan_chunks
from audiodiff.types import Mel, Mels, Waveform

DURATION_STEP = -2
"""The step number that keys the draw of a duration, which no sampler takes."""


class Synthesizer(Vocoder):
    """Make sound: from nothing, from labels, or from a mel spectrogram.

    Args:
        sample_rate: of the audio, Hz.
        dialect: of the mel spectrograms that the model takes or makes; None where it knows none.
        representation: between audio and the signal that is diffused.
        conditioner: makes the network's condition.
        denoiser: the network and its preconditioning.
        sampler: solver, grid and number of steps unless a call asks for others.
        n_iterations: of the mel constraint that ends a generation; 0 leaves the network's output as it is.
        warm_start: sample from the inversion of the mel, which has these iterations, and from the noise of the
            first level beside it; at the end, the mel constraint only settles what lies below about 1.2 kHz.
        vocoder: the second stage of a model that makes mels, which makes sound of them; None leaves that to the mel
            constraint.
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        representation: Representation,
        conditioner: Conditioner,
        denoiser: Denoiser,
        sampler: Sampler,
        dialect: MelDialect | None = None,
        n_iterations: int = 0,
        warm_start: bool = False,
        vocoder: Vocoder | None = None,
    ) -> None:
        super().__init__()
        if dialect is not None and dialect.sample_rate != sample_rate:
            raise ParameterError(f"sample_rate={sample_rate} must be that of the mel dialect, {dialect.sample_rate}")
        if dialect is None and (conditioner.needs_mel or representation.makes_mel):
            raise ParameterError("dialect=None: a model that takes or makes mel spectrograms needs their dialect")
        if n_iterations < 0:
            raise ParameterError(f"n_iterations={n_iterations} must not be negative")
        if warm_start and not conditioner.needs_mel:
            raise ParameterError("warm_start=true needs a model that is conditioned on a mel: choose conditioner=mel")
        if warm_start and n_iterations == 0:
            raise ParameterError("n_iterations=0 must be positive with warm_start=true: what it starts from")
        self.sample_rate = sample_rate
        self.dialect = dialect
        self.representation = representation
        self.conditioner = conditioner
        self.denoiser = denoiser
        self.sampler = sampler
        self.n_iterations = n_iterations
        self.warm_start = warm_start
        self.vocoder = self.checked_vocoder(vocoder)

    @property
    def needs_mel(self) -> bool:
        """True if `generate` needs a mel spectrogram."""
        return self.conditioner.needs_mel

    @property
    def n_steps(self) -> int:
        """Steps of its sampler."""
        return self.sampler.n_steps

    @property
    def labels(self) -> LabelSet | None:
        """Labels that `generate` takes, if any."""
        return self.conditioner.labels

    def check_sampling(self, options: SamplingOptions = MODEL_DEFAULTS) -> None:
        """Refuse, before anything is computed, the options that `generate` would refuse.

        Raises:
            ParameterError: if an option has no meaning for this model or cannot be.
        """
        resolve_sampling(self, options)

    @torch.no_grad()
    def generate(
        self,
        mel: Mels | None = None,
        *,
        labels: Labels | None = None,
        batch: int | None = None,
        seconds: float | None = None,
        n_samples: int | None = None,
        steps: int | None = None,
        iterations: int | None = None,
        solver: str | Solver | None = None,
        grid: str | Grid | None = None,
        guide: "Synthesizer | None" = None,
        guidance: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        seed: Seed = 0,
        items: Sequence[int] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Float[Tensor, "... time"]:
        """Make audio from a mel spectrogram, from labels, or from nothing.

        Args:
            mel: (batch, n_mels, frames), or (n_mels, frames) of one sound, in the compressed scale of the dialect;
                needed by, and only by, a model that is conditioned on it.
            labels: of a model that knows some: one mapping for all results, {"digit": "7"}, or one for each. A label
                that is left out may be any; {"digit": {"3": 0.5, "7": 0.5}} lies between two.
            batch: number of results without a mel; as many as there are labels, or 1, where None.
            seconds: length of each without a mel; where None, a draw from the durations in training where the model
                knows them, otherwise 1.
            n_samples: the length in samples instead.
            steps: as in `SamplingOptions`, and so are solver, grid, guide, guidance and guidance_interval.
            iterations: of the mel constraint at the end, 0 for none; None is the checkpoint's default.
            solver: see steps.
            grid: see steps.
            guide: see steps.
            guidance: see steps.
            guidance_interval: see steps.
            seed: of the sampling noise: a number, or a `SeedBlend`, a place between two.
            items: number of each example, which keys its noise, so that it does not depend on the batch.
            on_step: called as (done, of all) after each step of the sampler and each iteration.

        Returns: audio (batch, channels, n_samples), or (channels, n_samples) for a mel of one sound, not limited to
            [-1, 1]; results of different lengths end in zeros.

        Raises:
            ParameterError: if an argument has no meaning for this model or cannot be.
            MelError: if the mel breaks the contract of the dialect.
        """
        lengths: int | Sequence[int]
        if self.needs_mel:
            mels, lengths = self._checked_mel(mel, batch=batch, seconds=seconds, n_samples=n_samples)
            n_examples = len(mels)
            rows = checked_labels(labels, batch=n_examples, known=self.labels)
        elif mel is not None:
            raise ParameterError("mel is given, and this model takes none: it generates from nothing, or from labels")
        else:
            if batch is not None:
                check_whole(batch, name="batch", least=1)
            mels, rows = None, checked_labels(labels, batch=batch, known=self.labels)
            n_examples = len(rows)
            if seconds is None and n_samples is None:
                lengths = self.lengths(rows, seed=seed, items=items)
            else:
                lengths = checked_length(n_samples, seconds=seconds, sample_rate=self.sample_rate)
        made = self.generate_chunks(
            None if mels is None else [mels],
            labels=rows,
            batch=n_examples,
            n_samples=lengths,
            iterations=iterations,
            options=SamplingOptions(steps, solver, grid, guide, guidance, guidance_interval),
            seed=seed,
            items=items,
            on_step=on_step,
        )
        audio = join_chunks(made, n_samples=lengths if isinstance(lengths, int) else max(lengths))
        return audio if mel is None or mel.ndim == 3 else audio[0]

    def lengths(
        self, labels: Sequence[Mapping[str, LabelValue]], *, seed: Seed = 0, items: Sequence[int] | None = None
    ) -> list[int]:
        """Return the lengths in samples that `generate` chooses for these labels when none is given.

        Args:
            labels: of each result.
            seed: as in `generate`, and so are items.
            items: see seed.
        """
        items = checked_items(items, batch=len(labels))
        default = checked_length(None, seconds=None, sample_rate=self.sample_rate)
        if self.labels is None:
            return [default] * len(labels)
        draws = noise_of(seed, items)(torch.zeros(len(labels), 1, 1), DURATION_STEP)[:, 0, 0]
        seconds = self.conditioner.seconds(self.labels.vectors(labels).to(self.device), draws.to(self.device))
        if seconds is None:
            return [default] * len(labels)
        hop = self.representation.hop_length
        return [max(1, round(each * self.sample_rate / hop)) * hop for each in seconds.tolist()]

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
        """Generate audio a few seconds at a time, in the memory of one chunk; see `Vocoder.generate_chunks`."""
        if self.needs_mel and mels is None:
            raise ParameterError("mels=None: this model is conditioned on a mel spectrogram; give one, or audio")
        if not self.needs_mel and mels is not None:
            raise ParameterError("mels is given, and this model takes none: it generates from nothing, or from labels")
        rows = checked_labels(labels, batch=batch, known=self.labels)
        n_iterations = self.checked_iterations(iterations)
        sampler, scale = resolve_sampling(self, options)
        items = checked_items(items, batch=batch)
        lengths = [n_samples] * batch if isinstance(n_samples, int) else list(n_samples)
        if len(lengths) != batch:
            raise ParameterError(
                f"n_samples has {len(lengths)} lengths, and there are {batch} examples: give one for each"
            )
        equal = min(lengths) == max(lengths)
        # A solver that looks at the whole sound would look at its padding as well.
        alone = not equal and evaluations_in_a_row(sampler.solver, sampler.n_steps) is None
        # Convolutions round by the size of their batch, and the mel constraint amplifies that. A CPU gains little from
        # batches, so there each example is computed alone and is the same to the bit in any batch.
        if pairs is not None:
            at_once = pairs.n_signals
        elif self.device.type == "cpu" or alone:
            at_once = 1
        guide = options.guide if isinstance(options.guide, Synthesizer) else None
        n_last = n_iterations + (0 if self.vocoder is None else self.vocoder.n_steps)
        return self._in_chunks(
            lambda part, report: WindowSampler(
                self,
                sampler,
                n_iterations=n_iterations,
                seed=seed,
                items=items[part],
                on_step=report,
                labels=rows[part],
                lengths=None if equal else lengths[part],
                scale=scale,
                interval=options.guidance_interval,
                guide=guide,
                pairs=pairs,
            ),
            mels,
            n_samples=max(lengths),
            batch=batch,
            at_once=at_once or batch,
            plan=plan_chunks(self, sampler=sampler, n_iterations=n_iterations, guide=guide) if equal else None,
            n_steps_of=lambda n: n * sampler.n_steps + (n if equal else batch) * n_last,
            on_step=on_step,
        )

    def checked_vocoder(self, vocoder: Vocoder | None) -> Vocoder | None:
        """Return a second stage, having refused one that cannot take what this model makes.

        Raises:
            ParameterError: if this model makes no mel, or the second stage takes none.
            MelError: if its dialect is another one.
        """
        if vocoder is None:
            return None
        if not self.representation.makes_mel or self.dialect is None:
            raise ParameterError("vocoder is given, and this model makes no mel spectrograms: it is finished without")
        if not vocoder.needs_mel or vocoder.dialect is None:
            raise ParameterError("vocoder takes no mel spectrogram: give a model that was trained with conditioner=mel")
        ensure_same(vocoder.dialect, self.dialect, name="vocoder", remedy="give a vocoder of the first stage's dialect")
        return vocoder

    def checked_iterations(self, iterations: int | None) -> int:
        """Return how often the mel constraint is to be applied, which is 0 where there is no mel.

        Raises:
            ParameterError: if a model of mels has no iterations, or a model without mels has some.
        """
        if self.vocoder is not None:
            return self.vocoder.checked_iterations(iterations)
        if not (self.needs_mel or self.representation.makes_mel):
            if iterations:
                raise ParameterError(f"iterations={iterations} needs a mel spectrogram, and this model has none")
            return 0
        n_iterations = self.n_iterations if iterations is None else iterations
        check_whole(n_iterations, name="iterations", least=0)
        if n_iterations == 0 and self.warm_start:
            raise ParameterError("iterations=0 must be positive: this model starts from what they make of the mel")
        if n_iterations == 0 and self.representation.makes_mel:
            raise ParameterError("iterations=0 must be positive: this model makes a mel, which is still to be inverted")
        return n_iterations

    def chunk_plan(self, *, n_iterations: int, options: SamplingOptions = MODEL_DEFAULTS) -> ChunkPlan | None:
        """Return how its sounds may be divided into chunks, or None where only a whole can be made."""
        sampler, _ = resolve_sampling(self, options)
        return plan_chunks(self, sampler=sampler, n_iterations=n_iterations)

    def continued_renderer(self, layout: StreamLayout, *, n_iterations: int, seed: Seed, item: int) -> None:
        """Return None: the network computes each chunk anew."""

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
        sampler, _ = resolve_sampling(self, options)
        return WindowSampler(
            self, sampler, n_iterations=n_iterations, seed=seed, items=items, on_step=on_step, pairs=pairs
        )

    def _checked_mel(
        self, mel: Mels | None, *, batch: int | None, seconds: float | None, n_samples: int | None
    ) -> tuple[Mel, int]:
        """Return the checked mel, and its length in samples."""
        if mel is None or self.dialect is None:
            raise ParameterError("mel=None: this model is conditioned on a mel spectrogram; give one, or audio")
        for name, value in (("batch", batch), ("seconds", seconds)):
            if value is not None:
                raise ParameterError(f"{name}={value} has no meaning with a mel, which says how many and how long")
        mels = checked_mel(mel, dialect=self.dialect).to(self.device)
        return mels, checked_n_samples(n_samples, n_frames=mel.shape[-1], dialect=self.dialect)
