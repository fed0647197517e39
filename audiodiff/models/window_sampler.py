"""From noise to sound, a window at a time: what a trained model does when it generates."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.guidance import Interval, classifier_free
from audiodiff.diffusion.noise import Seed, noise_of
from audiodiff.diffusion.sampler import Sampler, Start
from audiodiff.diffusion.solvers import evaluations_in_a_row
from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.inversion import constrain, constrain_low_band, inversion_receptive_field, invert, margin_frames
from audiodiff.dsp.mel import MelDialect
from audiodiff.labels import LabelValue
from audiodiff.models.chunking import ChunkPlan
from audiodiff.models.conditioners.conditioner import Conditioner
from audiodiff.models.representations.representation import Representation
from audiodiff.models.vocoder import Vocoder
from audiodiff.types import Denoise, MelsOfSignals, Noise, ReceptiveField, Signal, Waveform

INVERSION_STEP = -1
"""The step number that keys the noise of a mel's inversion, which no sampler takes."""


@dataclass(frozen=True)
class Parts:
    """What a model is made of, as far as generation needs it; see `Synthesizer`."""

    representation: Representation
    conditioner: Conditioner
    denoiser: Denoiser
    dialect: MelDialect | None
    vocoder: Vocoder | None
    warm_start: bool

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.denoiser.parameters()).device


@dataclass(frozen=True)
class Guidance:
    """How far to go away from what a guide would make.

    Args:
        scale: 1 is not at all.
        interval: the noise levels that are guided; None is all.
        guide: a weaker model; None is the model itself, not told its condition.
    """

    scale: float = 1.0
    interval: Interval | None = None
    guide: Parts | None = None


@dataclass(frozen=True)
class Rendering:
    """Compute windows of examples, with noise that is keyed by where a window lies.

    Args:
        parts: the model.
        sampler: what it is sampled with.
        guidance: how it is guided.
        n_iterations: of the mel constraint, at the end or, of a model that starts from the mel, before its first step.
        seed: of the noise.
        items: number of each example.
        on_step: called after each step of the sampler and each iteration.
        labels: of each example, of a model that is told some.
        lengths: samples of each example; a window is then all of them, and ends in zeros. None is the window's own.
        pairs: of the examples, where they are the channels of one recording; mels hold those of all its signals.
    """

    parts: Parts
    sampler: Sampler
    guidance: Guidance
    n_iterations: int
    seed: Seed
    items: Sequence[int]
    on_step: Callable[..., None] | None = None
    labels: Sequence[Mapping[str, LabelValue]] | None = None
    lengths: Sequence[int] | None = None
    pairs: ChannelPairs | None = None

    @torch.no_grad()
    def __call__(self, mel: MelsOfSignals | None, *, n_samples: int, first_sample: int) -> Waveform:
        """Return the audio of a window, (batch, channels, n_samples)."""
        if self.lengths is not None:
            return self._unequal(self.lengths, n_samples=n_samples)
        representation = self.parts.representation
        # Channels are sampled from the same noise, so that they differ by their mels alone.
        keys = self.items if self.pairs is None else [self.items[0]] * len(self.items)
        noise = noise_of(self.seed, keys, offset=first_sample // representation.hop_length)
        condition = self._told() if mel is None else Condition(frames=mel[: len(self.items)])
        start = self._start(mel, n_samples=n_samples, first_sample=first_sample)
        signal = self._sampled(condition, noise, n_steps=representation.length(n_samples), start=start)
        return self.sound(signal, mel, items=self.items, n_samples=n_samples, first_sample=first_sample)

    def _unequal(self, lengths: Sequence[int], *, n_samples: int) -> Waveform:
        """Return examples of different lengths, sampled together and made sound one by one."""
        n_each = [self.parts.representation.length(length) for length in lengths]
        condition = self._told()
        if min(n_each) < max(n_each):
            mask = prefix_mask(n_each, n_steps=max(n_each), device=self.parts.device)
            condition = replace(condition, mask=mask)
        signals = self._sampled(condition, noise_of(self.seed, self.items), n_steps=max(n_each))
        sounds = [
            self.sound(signal[None, :, :n_steps], None, items=[item], n_samples=length, first_sample=0)
            for signal, item, n_steps, length in zip(signals, self.items, n_each, lengths, strict=True)
        ]
        return torch.cat([F.pad(sound, (0, n_samples - sound.shape[-1])) for sound in sounds])

    def _told(self) -> Condition:
        """Return what the network is told of examples without a mel."""
        known = self.parts.conditioner.labels
        if self.labels is None or known is None:
            return self.parts.conditioner.null(len(self.items))
        return Condition(vector=known.vectors(self.labels).to(self.parts.device))

    def _start(self, mel: MelsOfSignals | None, *, n_samples: int, first_sample: int) -> Start | None:
        """Return what makes the first x of a model that starts from the mel's inversion."""
        dialect = self.parts.dialect
        if not self.parts.warm_start or mel is None or dialect is None:
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
        return partial(beside_noise, self.parts.representation.encode(inverted[:, None]))

    def _sampled(self, condition: Condition, noise: Noise, *, n_steps: int, start: Start | None = None) -> Signal:
        """Return the signals that the sampler makes of noise."""
        denoise: Denoise = self.parts.denoiser.bind(condition)
        scale, interval, guide = self.guidance.scale, self.guidance.interval, self.guidance.guide
        if scale != 1.0:
            model, told = (self.parts, self._null(condition)) if guide is None else (guide, condition)
            denoise = classifier_free(denoise, model.denoiser.bind(told), scale=scale, interval=interval)
        like = torch.zeros(len(self.items), self.parts.representation.channels, n_steps, device=self.parts.device)
        sampler = self.sampler if start is None else replace(self.sampler, start=start)
        return sampler(denoise, like, noise, on_step=self.on_step)

    def _null(self, condition: Condition) -> Condition:
        """Return the condition that says nothing, as long as the one that says something."""
        null = replace(self.parts.conditioner.null(len(self.items)), mask=condition.mask)
        if null.frames is None or condition.frames is None:
            return null
        return replace(null, frames=null.frames.to(self.parts.device).expand_as(condition.frames))

    def sound(
        self, signal: Signal, given: MelsOfSignals | None, *, items: Sequence[int], n_samples: int, first_sample: int
    ) -> Waveform:
        """Return the audio of sampled signals, brought to the mel that they stand for, or that was given."""
        noise = noise_of(self.seed, items, offset=first_sample)
        audio, made = self.parts.representation.decode(signal, noise=noise, n_samples=n_samples)
        target = given if made is None else made
        dialect, vocoder = self.parts.dialect, self.parts.vocoder
        if vocoder is not None:
            second = vocoder.renderer(n_iterations=self.n_iterations, seed=self.seed, items=items, on_step=self.on_step)
            return second(target, n_samples=n_samples, first_sample=first_sample)
        if self.n_iterations == 0 or target is None or dialect is None:
            return audio
        first_frame = first_sample // dialect.hop_length
        if self.parts.warm_start:
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


def beside_noise(signal: Signal, eps: Signal, sigma: float) -> Signal:
    """Start from a signal and the noise of the first level beside it."""
    return signal + sigma * eps


def plan_of(parts: Parts, *, sampler: Sampler, n_iterations: int, guide: Parts | None) -> ChunkPlan | None:
    """Return how a model's sounds may be cut, or None where the solver looks at the whole.

    Args:
        parts: the model.
        sampler: what it is sampled with.
        n_iterations: of the mel constraint at the end.
        guide: a weaker model that it is guided by.
    """
    in_a_row = evaluations_in_a_row(sampler.solver, sampler.n_steps)
    if in_a_row is None:
        return None
    networks = [model.denoiser.network for model in (parts, guide) if model is not None]
    hop = parts.representation.hop_length
    reaches = [network.receptive_field for network in networks]
    before, after = (in_a_row * hop * max(sides) for sides in zip(*reaches, strict=True))
    alignment = hop * math.lcm(*(network.alignment for network in networks))
    if parts.vocoder is not None:
        second = parts.vocoder.chunk_plan(n_iterations=n_iterations)
        if second is None:
            return None
        before, after = before + second.margin.before, after + second.margin.after
        alignment = math.lcm(alignment, second.alignment)
    elif parts.dialect is not None:
        frames = [ReceptiveField(margin_frames(n_iterations), margin_frames(n_iterations))]
        if parts.warm_start:
            frames.append(inversion_receptive_field(parts.dialect, n_iterations))
        elif parts.representation.makes_mel:
            frames = [inversion_receptive_field(parts.dialect, n_iterations)]
        hop_of_mel = parts.dialect.hop_length
        before += hop_of_mel * sum(receptive_field.before for receptive_field in frames)
        after += hop_of_mel * sum(receptive_field.after for receptive_field in frames)
        alignment = math.lcm(alignment, parts.dialect.hop_length)
    return ChunkPlan(margin=ReceptiveField(before, after), alignment=alignment)


def prefix_mask(lengths: Sequence[int], *, n_steps: int, device: torch.device) -> Bool[Tensor, "batch signal_time"]:
    """Return True for the first so many time steps of each example, of n_steps in all."""
    return torch.arange(n_steps, device=device) < torch.tensor(lengths, device=device)[:, None]
