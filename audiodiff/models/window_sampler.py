"""Window sampler: generates one window of a sound with a trained model, from noise to audio."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.diffusion.guidance import Interval, classifier_free
from audiodiff.diffusion.noise import Seed, noise_of
from audiodiff.diffusion.sampler import Sampler, Start
from audiodiff.diffusion.solvers import evaluations_in_a_row
from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.inversion import constrain, constrain_low_band, inversion_receptive_field, invert, margin_frames
from audiodiff.labels import LabelValue
from audiodiff.models.chunking import ChunkPlan
from audiodiff.types import Denoise, MelsOfSignals, Noise, ReceptiveField, Signal, Waveform

if TYPE_CHECKING:
    import audiodiff.models.synthesizer

INVERSION_STEP = -1
"""The step number that keys the noise of a mel's inversion, which no sampler takes."""


@dataclass(frozen=True)
class WindowSampler:
    """Generate windows of a batch of sounds, with noise that depends on where a window lies.

    Args:
        model: a trained model.
        sampler: solver, grid and number of steps.
        n_iterations: of the mel constraint, at the end or, of a model with a warm start, before its first step.
        seed: of the noise.
        items: number of each example, which keys its noise.
        on_step: called after each step of the sampler and each iteration.
        labels: of each example, of a model that knows some.
        lengths: samples of each example; a window is then all of them, and ends in zeros. None is the window's own.
        scale: of the guidance; 1 is none.
        interval: the noise levels that are guided; None is all.
        guide: a weaker model; None is the model itself under its null condition.
        pairs: of the examples, where they are the channels of one recording; mels hold those of all its signals.
    """

    model: "audiodiff.models.synthesizer.Synthesizer"
    sampler: Sampler
    n_iterations: int
    seed: Seed
    items: Sequence[int]
    on_step: Callable[..., None] | None = None
    labels: Sequence[Mapping[str, LabelValue]] | None = None
    lengths: Sequence[int] | None = None
    scale: float = 1.0
    interval: Interval | None = None
    guide: "audiodiff.models.synthesizer.Synthesizer | None" = None
    pairs: ChannelPairs | None = None

    @torch.no_grad()
    def __call__(self, mel: MelsOfSignals | None, *, n_samples: int, first_sample: int) -> Waveform:
        """Return the audio of a window, (batch, channels, n_samples)."""
        if self.lengths is not None:
            return self._unequal(self.lengths, n_samples=n_samples)
        representation = self.model.representation
        # Channels are sampled from the same noise, so that they differ by their mels alone.
        keys = self.items if self.pairs is None else [self.items[0]] * len(self.items)
        noise = noise_of(self.seed, keys, offset=first_sample // representation.hop_length)
        condition = self._condition() if mel is None else Condition(frames=mel[: len(self.items)])
        start = self._start(mel, n_samples=n_samples, first_sample=first_sample)
        signal = self._sampled(condition, noise, n_steps=representation.length(n_samples), start=start)
        return self.sound(signal, mel, items=self.items, n_samples=n_samples, first_sample=first_sample)

    def _unequal(self, lengths: Sequence[int], *, n_samples: int) -> Waveform:
        """Return examples of different lengths, sampled together and decoded one by one."""
        n_each = [self.model.representation.length(length) for length in lengths]
        condition = self._condition()
        if min(n_each) < max(n_each):
            mask = prefix_mask(n_each, n_steps=max(n_each), device=self.model.device)
            condition = replace(condition, mask=mask)
        signals = self._sampled(condition, noise_of(self.seed, self.items), n_steps=max(n_each))
        sounds = [
            self.sound(signal[None, :, :n_steps], None, items=[item], n_samples=length, first_sample=0)
            for signal, item, n_steps, length in zip(signals, self.items, n_each, lengths, strict=True)
        ]
        return torch.cat([F.pad(sound, (0, n_samples - sound.shape[-1])) for sound in sounds])

    def _condition(self) -> Condition:
        """Return the condition of examples without a mel."""
        known = self.model.conditioner.labels
        if self.labels is None or known is None:
            return self.model.conditioner.null(len(self.items))
        return Condition(vector=known.vectors(self.labels).to(self.model.device))

    def _start(self, mel: MelsOfSignals | None, *, n_samples: int, first_sample: int) -> Start | None:
        """Return the start of a model with a warm start: the inversion of the mel, and noise."""
        dialect = self.model.dialect
        if not self.model.warm_start or mel is None or dialect is None:
            return None
        noise = noise_of(self.seed, self.items, offset=first_sample)
        inverted = invert(
            noise(mel.new_zeros(len(self.items), 1, n_samples), INVERSION_STEP)[:, 0],
            mel,
            dialect=dialect,
            n_iterations=self.n_iterations,
            first_frame=first_sample // dialect.hop_length,
            pairs=self.pairs,
            on_step=self.on_step,
        )
        return partial(add_noise, self.model.representation.encode(inverted[:, None]))

    def _sampled(self, condition: Condition, noise: Noise, *, n_steps: int, start: Start | None = None) -> Signal:
        """Sample signals from noise."""
        denoise: Denoise = self.model.denoiser.bind(condition)
        if self.scale != 1.0:
            guide, weaker = (self.model, self._null(condition)) if self.guide is None else (self.guide, condition)
            denoise = classifier_free(denoise, guide.denoiser.bind(weaker), scale=self.scale, interval=self.interval)
        like = torch.zeros(len(self.items), self.model.representation.channels, n_steps, device=self.model.device)
        sampler = self.sampler if start is None else replace(self.sampler, start=start)

        def shaped(like: Signal, step: int) -> Signal:
            return self.model.denoiser.shaped(noise(like, step), condition)

        return sampler(denoise, like, shaped, on_step=self.on_step)

    def _null(self, condition: Condition) -> Condition:
        """Return the null condition of the same length as a condition."""
        null = replace(self.model.conditioner.null(len(self.items)), mask=condition.mask)
        if null.frames is None or condition.frames is None:
            return null
        return replace(null, frames=null.frames.to(self.model.device).expand_as(condition.frames))

    def sound(
        self, signal: Signal, given: MelsOfSignals | None, *, items: Sequence[int], n_samples: int, first_sample: int
    ) -> Waveform:
        """Decode sampled signals, and bring the audio to the mel that they stand for, or that was given."""
        noise = noise_of(self.seed, items, offset=first_sample)
        audio, made = self.model.representation.decode(signal, noise=noise, n_samples=n_samples)
        target = given if made is None else made
        dialect, vocoder = self.model.dialect, self.model.vocoder
        if vocoder is not None:
            second = vocoder.renderer(n_iterations=self.n_iterations, seed=self.seed, items=items, on_step=self.on_step)
            return second(target, n_samples=n_samples, first_sample=first_sample)
        if self.n_iterations == 0 or target is None or dialect is None:
            return audio
        first_frame = first_sample // dialect.hop_length
        if self.model.warm_start:
            mono = constrain_low_band(
                audio[:, 0],
                target,
                dialect=dialect,
                n_iterations=self.n_iterations,
                first_frame=first_frame,
                pairs=self.pairs,
            )
            return mono[:, None]
        finish = constrain if made is None else invert
        return finish(
            audio[:, 0],
            target,
            dialect=dialect,
            n_iterations=self.n_iterations,
            first_frame=first_frame,
            pairs=self.pairs,
            on_step=self.on_step,
        )[:, None]


def add_noise(signal: Signal, eps: Signal, sigma: float) -> Signal:
    """Return a signal plus noise of a level: the first x of a warm start."""
    return signal + sigma * eps


def plan_chunks(
    model: "audiodiff.models.synthesizer.Synthesizer",
    *,
    sampler: Sampler,
    n_iterations: int,
    guide: "audiodiff.models.synthesizer.Synthesizer | None" = None,
) -> ChunkPlan | None:
    """Return how a model's sounds may be divided into chunks, or None where the solver looks at the whole sound.

    Args:
        model: a trained model.
        sampler: solver, grid and number of steps.
        n_iterations: of the mel constraint at the end.
        guide: a weaker model that it is guided by.
    """
    in_a_row = evaluations_in_a_row(sampler.solver, sampler.n_steps)
    if in_a_row is None:
        return None
    networks = [each.denoiser.network for each in (model, guide) if each is not None]
    hop = model.representation.hop_length
    fields = [network.receptive_field for network in networks]
    before, after = (in_a_row * hop * max(sides) for sides in zip(*fields, strict=True))
    alignment = hop * math.lcm(*(network.alignment for network in networks))
    if model.vocoder is not None:
        second = model.vocoder.chunk_plan(n_iterations=n_iterations)
        if second is None:
            return None
        before, after = before + second.margin.before, after + second.margin.after
        alignment = math.lcm(alignment, second.alignment)
    elif model.dialect is not None:
        frames = [ReceptiveField(margin_frames(n_iterations), margin_frames(n_iterations))]
        if model.warm_start:
            frames.append(inversion_receptive_field(model.dialect, n_iterations))
        elif model.representation.makes_mel:
            frames = [inversion_receptive_field(model.dialect, n_iterations)]
        hop_of_mel = model.dialect.hop_length
        before += hop_of_mel * sum(receptive_field.before for receptive_field in frames)
        after += hop_of_mel * sum(receptive_field.after for receptive_field in frames)
        alignment = math.lcm(alignment, model.dialect.hop_length)
    return ChunkPlan(margin=ReceptiveField(before, after), alignment=alignment)


def prefix_mask(lengths: Sequence[int], *, n_steps: int, device: torch.device) -> Bool[Tensor, "batch signal_time"]:
    """Return True for the first so many time steps of each example, of n_steps in all."""
    return torch.arange(n_steps, device=device) < torch.tensor(lengths, device=device)[:, None]
