"""A trained model: representation + conditioner + denoiser + sampler."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from audiodiff.condition import Condition
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
from audiodiff.models.guides import check_guide
from audiodiff.models.representations.representation import Representation
from audiodiff.models.sampling import MODEL_DEFAULTS, SamplingOptions
from audiodiff.models.streaming import Stream
from audiodiff.models.validation import (
    Labels,
    checked_guidance,
    checked_items,
    checked_labels,
    checked_length,
    checked_mel,
    checked_n_samples,
    checked_sampler,
)
from audiodiff.models.vocoder import Vocoder
from audiodiff.models.window_sampler import Guidance, Parts, Rendering, plan_of, prefix_mask
from audiodiff.types import Mel, Mels, Signal, Waveform

DURATION_STEP = -2
"""The step number that keys the draw of a duration, which no sampler takes."""


class Synthesizer(Vocoder):
    """Make sound: from nothing, from labels, or from a mel spectrogram.

    Args:
        sample_rate: of the audio, Hz.
        dialect: of the mel spectrograms that the model takes or makes; None where it knows none.
        representation: between audio and the signal that is diffused.
        conditioner: what the network is told.
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
            raise ParameterError("warm_start=true needs a model that is told a mel: choose conditioner=mel")
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
        """Whether `generate` has to be given a mel spectrogram."""
        return self.conditioner.needs_mel

    @property
    def n_steps(self) -> int:
        """Steps of its sampler."""
        return self.sampler.n_steps

    @property
    def parts(self) -> Parts:
        """What generation is made of."""
        return Parts(self.representation, self.conditioner, self.denoiser, self.dialect, self.vocoder, self.warm_start)

    @property
    def labels(self) -> LabelSet | None:
        """The labels that `generate` can be told, if any."""
        return self.conditioner.labels

    def example(
        self,
        audio: Waveform,
        *,
        n_valid: Int[Tensor, "batch"] | None = None,
        labels: Int[Tensor, "batch labels"] | None = None,
    ) -> tuple[Signal, Condition]:
        """Return the clean signal x0 and the condition of training examples.

        Args:
            audio: the examples.
            n_valid: samples of each before its padding, where x0 is zero and the condition's mask False; None for all.
            labels: places of their labels in the vocabularies of the conditioner, -1 where one is not known.
        """
        condition = self.conditioner(audio, labels)
        if n_valid is None or bool((n_valid >= audio.shape[-1]).all()):
            return self.representation.encode(audio), condition
        # Each by itself: at its end, an analysis is not to see the padding.
        clips = [clip[None, :, :n] for clip, n in zip(audio, n_valid.tolist(), strict=True)]
        if condition.frames is not None:
            n_frames = condition.frames.shape[-1]
            frames = [own for clip in clips if (own := self.conditioner(clip).frames) is not None]
            # A network that interpolates between frames sees the last one beyond it, as without padding.
            padded = [F.pad(own, (0, n_frames - own.shape[-1]), mode="replicate") for own in frames]
            condition = replace(condition, frames=torch.cat(padded))
        encoded = [self.representation.encode(clip) for clip in clips]
        length = self.representation.length(audio.shape[-1])
        x0 = torch.cat([F.pad(signal, (0, length - signal.shape[-1])) for signal in encoded])
        return x0, replace(
            condition, mask=prefix_mask([signal.shape[-1] for signal in encoded], n_steps=length, device=x0.device)
        )

    def check_sampling(self, options: SamplingOptions = MODEL_DEFAULTS) -> None:
        """Refuse, before anything is computed, the options that `generate` would refuse.

        Raises:
            ParameterError: if an option has no meaning for this model or cannot be.
        """
        self._resolve(options)

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
        """Return the numbers of samples that `generate` gives results of these labels when it is not told how long.

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
        sampler, scale = self._resolve(options)
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
        guidance = (scale, options.guidance_interval, guide)
        n_last = n_iterations + (0 if self.vocoder is None else self.vocoder.n_steps)
        return self._in_chunks(
            lambda part, report: self._renderer(
                sampler,
                guidance=guidance,
                n_iterations=n_iterations,
                seed=seed,
                items=items[part],
                on_step=report,
                labels=rows[part],
                lengths=None if equal else lengths[part],
                pairs=pairs,
            ),
            mels,
            n_samples=max(lengths),
            batch=batch,
            at_once=at_once or batch,
            plan=self._plan(sampler, n_iterations=n_iterations, guide=guide) if equal else None,
            n_steps_of=lambda n: n * sampler.n_steps + (n if equal else batch) * n_last,
            on_step=on_step,
        )

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
        """Return a stream that takes mel frames as they come, and gives audio.

        Args:
            chunk_frames: frames whose audio is given at once; None is 16, or what the network's own frames ask for.
            ahead_frames: frames after a chunk that it waits for; None is as many as `generate` needs for the same
                result.
            steps: as in `generate`, and so are iterations, solver, grid and seed.
            iterations: see steps.
            solver: see steps.
            grid: see steps.
            seed: see steps.
            item: number that keys the noise, another one for another sound.

        Raises:
            ParameterError: if the model takes no mel, a number is out of its range, or the solver looks at the whole.
        """
        if not self.needs_mel or self.dialect is None:
            raise ParameterError("this model takes no mel spectrogram, so there is nothing to stream from: generate it")
        n_iterations = self.checked_iterations(iterations)
        sampler = checked_sampler(self.sampler, steps=steps, solver=solver, grid=grid, guided=False)
        plan = self._plan(sampler, n_iterations=n_iterations, guide=None)
        if plan is None:
            raise ParameterError(
                f"solver={solver} looks at the whole sound, so it cannot be streamed: choose another, for example euler"
            )
        return Stream(
            self._renderer(
                sampler, guidance=(1.0, None, None), n_iterations=n_iterations, seed=seed, items=[item], on_step=None
            ),
            dialect=self.dialect,
            plan=plan,
            chunk_frames=chunk_frames,
            ahead_frames=ahead_frames,
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
            ParameterError: if a model of mels could not be heard, or one without is to be constrained.
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

    def chunk_plan(self, *, n_iterations: int) -> ChunkPlan | None:
        """Return how its sounds may be divided into chunks, or None where only a whole can be made."""
        return self._plan(self.sampler, n_iterations=n_iterations, guide=None)

    def renderer(
        self,
        *,
        n_iterations: int,
        seed: Seed,
        items: Sequence[int],
        on_step: Callable[..., None] | None,
        pairs: ChannelPairs | None = None,
    ) -> Renderer:
        """Return what makes the sound of a window of mels."""
        return self._renderer(
            self.sampler,
            guidance=(1.0, None, None),
            n_iterations=n_iterations,
            seed=seed,
            items=items,
            on_step=on_step,
            pairs=pairs,
        )

    def _plan(self, sampler: Sampler, *, n_iterations: int, guide: "Synthesizer | None") -> ChunkPlan | None:
        """Return how a sound of this model may be cut, or None where the solver looks at the whole."""
        guided = None if guide is None else guide.parts
        return plan_of(self.parts, sampler=sampler, n_iterations=n_iterations, guide=guided)

    def _renderer(
        self,
        sampler: Sampler,
        *,
        guidance: tuple[float, tuple[float, float] | None, "Synthesizer | None"],
        n_iterations: int,
        seed: Seed,
        items: Sequence[int],
        on_step: Callable[..., None] | None,
        labels: Sequence[Mapping[str, LabelValue]] | None = None,
        lengths: Sequence[int] | None = None,
        pairs: ChannelPairs | None = None,
    ) -> Renderer:
        """Return what computes a window of examples."""
        scale, interval, guide = guidance
        return Rendering(
            self.parts,
            sampler=sampler,
            guidance=Guidance(scale, interval, None if guide is None else guide.parts),
            n_iterations=n_iterations,
            seed=seed,
            items=items,
            on_step=on_step,
            labels=labels,
            lengths=lengths,
            pairs=pairs,
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

    @torch.no_grad()
    def _resolve(self, options: SamplingOptions) -> tuple[Sampler, float]:
        """Return the sampler and the scale of guidance that the options mean, having refused what cannot be."""
        sampler = checked_sampler(
            self.sampler,
            steps=options.steps,
            solver=options.solver,
            grid=options.grid,
            guided=options.guidance not in (None, 1.0),
        )
        return sampler, self._guidance_scale(options, sampler=sampler)

    def _guidance_scale(self, options: SamplingOptions, *, sampler: Sampler) -> float:
        """Return the scale of guidance, 1 where there is none, having checked that there is something to guide by."""
        guide, guidance = options.guide, options.guidance
        scale = checked_guidance(guidance, interval=options.guidance_interval, guided=guide is not None)
        if guide is not None:
            if not isinstance(guide, Synthesizer):
                raise ParameterError(
                    f"guide is a {type(guide).__name__}; give a trained model, as audiodiff.load returns it"
                )
            own, other = ((model.sample_rate, model.parts) for model in (self, guide))
            check_guide(other, of=own, known_to=_first_level(guide.sampler), from_level=_first_level(sampler))
        elif guidance is not None and not self.conditioner.can_drop:
            raise ParameterError(
                f"guidance={guidance} needs a guide: this model was not trained to do without its condition, so that "
                "there is no null condition to guide by; give a weaker checkpoint of it as guide"
            )
        return scale


def _first_level(sampler: Sampler) -> float:
    """Return the noise level at which sampling starts."""
    return float(sampler.grid(sampler.n_steps)[0])
