"""Edit recordings: carry them part of the way to noise, and sample them down again as something else.

| method | the way up | the way down | what it keeps |
|---|---|---|---|
| sdedit | white noise is added | the model's sampler, under the new labels | what is louder than the noise |
| inversion | the probability flow under the old labels | the same under the new ones | a sound's place among its like |

Strength s says how far up: a place on the clock of the model's own sampler. Its grid with N steps visits N + 1 noise
levels, and s is the level after (1 - s) N of them. With a uniform grid of a flow, which the shipped models have, that
is the time t = 0.999 s, at which the signal is (1 - t) x0 + t noise. 0 is the recording's own signal, decoded; 1 with
sdedit is generation from noise, as `Synthesizer.generate` does it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.diffusion.editing import flow_of, inversion, levels, rungs, sdedit
from audiodiff.diffusion.guidance import classifier_free
from audiodiff.diffusion.noise import noise_of
from audiodiff.diffusion.sampler import Sampler
from audiodiff.dsp.level import gain_to
from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError
from audiodiff.labels import LabelValue
from audiodiff.models.checked_audio import checked_recording
from audiodiff.models.chunking import Chunk, StepCounter, join_chunks, overlap_add, round_up
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.validation import (
    Labels,
    checked_guidance,
    checked_items,
    checked_labels,
    checked_sampler,
)
from audiodiff.models.window_sampler import Guidance, Rendering
from audiodiff.types import Denoise, Noise, Signal, Waveform

METHODS = ("sdedit", "inversion")
DEFAULT_STRENGTH = 0.4
WINDOW_SECONDS, OVERLAP_SECONDS = 20.0, 2.0
"""A long recording is edited in windows, each faded into the next; both have the same noise where they overlap."""

Rows = Sequence[Mapping[str, LabelValue]]
_Value = TypeVar("_Value")


@torch.no_grad()
def edit(
    model: Synthesizer,
    audio: Waveform,
    *,
    sample_rate: int,
    strength: float = DEFAULT_STRENGTH,
    labels: Labels | None = None,
    source_labels: Labels | None = None,
    method: str = "sdedit",
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    items: Sequence[int] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Waveform:
    """Edit recordings, a little or a lot, into something else of the same length.

    Channels are edited one by one with the same noise: equal ones stay equal. What lies above half the model's rate
    is lost.

    Args:
        model: any that generates from labels or from nothing, as `audiodiff.load` returns it.
        audio: the recordings.
        sample_rate: of them, Hz.
        strength: from 0, the recording as the model's representation holds it, to 1; see the module.
        labels: what they are to become, as in `Synthesizer.generate`: of all alike, or of each.
        source_labels: what they are. Labels that are not asked to become something else stay as they are.
        method: sdedit or inversion; see the module.
        steps: of the sampler, whatever the strength; inversion takes as many up, and two evaluations for each. None is
            the model's number.
        guidance: scale of the guidance towards the labels, away from the source's where they are given, otherwise from
            no labels; 1 is none.
        seed: of the noise.
        items: number of each recording, which keys its noise.
        on_step: called as (done, of all).

    Returns: audio of the same shape, float32, not limited to [-1, 1].

    Raises:
        ParameterError: if an argument has no meaning for this model or cannot be.

    Source: Meng et al. 2022 (SDEdit), algorithm 1; Su et al. 2023 (dual diffusion implicit bridges), algorithm 1.
    """
    model = check_model(model)
    check_audio(audio, sample_rate=sample_rate)
    n_channels = audio.shape[1]
    signals = audio.float().flatten(0, 1)[:, None]
    check_strength(strength)
    if method not in METHODS:
        raise ParameterError(f"method={method!r} must be one of {', '.join(METHODS)}")
    source = _each(checked_labels(source_labels, batch=len(audio), known=model.labels), n_channels)
    asked = _each(checked_labels(labels, batch=len(audio), known=model.labels), n_channels)
    scale = _scale(model, guidance, source=source)
    sampler = checked_sampler(model.sampler, steps=steps, solver=None, grid=None, guided=scale != 1.0)
    numbers = _each(checked_items(items, batch=len(audio)), n_channels)

    signals = resample(signals.to(model.device), from_rate=sample_rate, to_rate=model.sample_rate)
    gains = torch.cat([_gain(model, own).expand(n_channels) for own in signals.split(n_channels)])[:, None, None]
    signals = gains * signals
    chunks = _chunks(model, signals.shape[-1])
    padded = F.pad(signals, (0, chunks[-1].last - signals.shape[-1]))
    # A CPU gains little from batches, and so an example does not depend on the others, to the bit.
    size = 1 if model.device.type == "cpu" else len(signals)
    n_levels = {"sdedit": 1, "inversion": 2}[method] * (sampler.n_steps if strength > 0.0 else 0)
    n_last = model.checked_iterations(None) + (0 if model.vocoder is None else model.vocoder.n_steps)
    report = StepCounter(on_step, total=len(chunks) * -(-len(signals) // size) * (n_levels + n_last))

    def edited(part: slice) -> Waveform:
        editing = _Editing(
            model,
            sampler,
            strength=strength,
            method=method,
            source=source[part],
            target=[{**own, **new} for own, new in zip(source[part], asked[part], strict=True)],
            scale=scale,
            seed=seed,
            items=numbers[part],
            on_step=report,
        )
        own = padded[part]
        made = overlap_add(lambda chunk: editing(own[..., chunk.first : chunk.last], first_sample=chunk.first), chunks)
        return join_chunks(made, n_samples=own.shape[-1])

    made = torch.cat([edited(slice(first, first + size)) for first in range(0, len(signals), size)])[
        ..., : signals.shape[-1]
    ]
    made = resample(made / gains, from_rate=model.sample_rate, to_rate=sample_rate)
    return made[..., : audio.shape[-1]].reshape(audio.shape).to(audio.device)


def check_audio(audio: object, *, sample_rate: object) -> None:
    """Refuse what is no batch of recordings.

    Raises:
        ParameterError: if it is no tensor (batch, channels, time) of floating point numbers, finite and not empty, or
            the rate is none.
    """
    if not isinstance(audio, Tensor):
        raise ParameterError(
            f"audio is a {type(audio).__name__}; give a torch tensor (batch, channels, time), as torch.from_numpy "
            "makes it of an array"
        )
    if audio.ndim != 3:
        remedy = {1: ": give audio[None, None]", 2: ": give audio[None]"}.get(audio.ndim, "")
        raise ParameterError(f"audio has shape {tuple(audio.shape)} and must have (batch, channels, time){remedy}")
    checked_recording(audio.flatten(0, 1), sample_rate=sample_rate)


def check_model(model: object) -> Synthesizer:
    """Return a model that recordings can be edited with.

    Raises:
        ParameterError: if it cannot, with a remedy.
    """
    if not isinstance(model, Synthesizer) or model.needs_mel:
        raise ParameterError(
            "editing needs a model that generates from labels or from nothing, digits-8k and speech-prior-16k for two: "
            "one that makes sound of given mel spectrograms has nothing to add to a recording"
        )
    if model.representation.channels != 1 and not model.representation.makes_mel:
        raise ParameterError(
            f"the model makes {model.representation.channels} channels at once, and editing needs one of mono sound"
        )
    return model


def check_strength(strength: float) -> None:
    """Refuse a strength that is no place on a clock.

    Raises:
        ParameterError: naming it.
    """
    if not 0.0 <= strength <= 1.0:
        raise ParameterError(f"strength={strength} must lie between 0, the recording, and 1, something else")


class _Editing:
    """Edit windows of a few signals at the model's rate and level."""

    def __init__(
        self,
        model: Synthesizer,
        sampler: Sampler,
        *,
        strength: float,
        method: str,
        source: Rows,
        target: Rows,
        scale: float,
        seed: int,
        items: Sequence[int],
        on_step: StepCounter,
    ) -> None:
        self._model, self._sampler, self._on_step = model, sampler, on_step
        self._strength, self._method = strength, method
        self._source = model.denoiser.bind(_condition(model, source))
        told = model.denoiser.bind(_condition(model, target))
        self._target: Denoise = told if scale == 1.0 else classifier_free(told, self._source, scale=scale)
        self._seed, self._items = seed, items
        self._rendering = Rendering(
            model.parts,
            sampler=sampler,
            guidance=Guidance(),
            n_iterations=model.checked_iterations(None),
            seed=seed,
            items=items,
            on_step=on_step,
        )

    def __call__(self, audio: Waveform, *, first_sample: int) -> Waveform:
        """Edit a window."""
        representation = self._model.representation
        noise = noise_of(self._seed, self._items, offset=first_sample // representation.hop_length)
        signal = self._sampled(representation.encode(audio), noise)
        return self._rendering.sound(
            signal, None, items=self._items, n_samples=audio.shape[-1], first_sample=first_sample
        )

    def _sampled(self, x0: Signal, noise: Noise) -> Signal:
        if self._strength == 0.0:
            return x0
        if self._method == "inversion":
            ladder = rungs(self._sampler, strength=self._strength)
            process = flow_of(self._sampler)
            return inversion(self._source, self._target, x0, ladder, process=process, on_step=self._on_step)
        if self._strength == 1.0:
            return self._sampler(self._target, x0, noise, on_step=self._on_step)
        return sdedit(
            self._target,
            x0,
            levels(self._sampler, strength=self._strength),
            solver=self._sampler.solver,
            noise=noise,
            on_step=self._on_step,
            after_step=self._sampler.after_step,
        )


def _condition(model: Synthesizer, rows: Rows) -> Condition:
    """Return what the network is told of signals of these labels."""
    if model.labels is None:
        return model.conditioner.null(len(rows))
    return Condition(vector=model.labels.vectors(rows).to(model.device))


def _scale(model: Synthesizer, guidance: float | None, *, source: Rows) -> float:
    """Return the scale of guidance, 1 where there is none, having checked that there is something to guide by."""
    scale = checked_guidance(guidance, interval=None, guided=False)
    if scale != 1.0 and model.labels is None:
        raise ParameterError(f"guidance={guidance} has no meaning for this model, which knows no labels: leave it out")
    if scale != 1.0 and not model.conditioner.can_drop and not all(source):
        raise ParameterError(
            f"guidance={guidance} needs source_labels: this model was not trained to do without labels, so there is "
            "nothing else to guide away from"
        )
    return scale


def _each(values: Sequence[_Value], n: int) -> list[_Value]:
    return [value for value in values for _ in range(n)]


def _gain(model: Synthesizer, channels: Tensor) -> Tensor:
    """Return what brings a recording to the level that the model knows, or at least within full scale."""
    level = model.conditioner.level
    if level is not None:
        return channels.new_tensor([gain_to(level, channels[:, 0], sample_rate=model.sample_rate)])
    return 1.0 / channels.abs().amax().clamp(min=1.0)[None]


def _chunks(model: Synthesizer, n_samples: int) -> list[Chunk]:
    """Divide a recording into windows that overlap and begin where frames do."""
    dialect = model.dialect
    hop = 1 if dialect is None else dialect.hop_length
    alignment = math.lcm(hop, model.representation.hop_length * model.denoiser.network.alignment)
    window, overlap = (
        round_up(round(seconds * model.sample_rate), alignment) for seconds in (WINDOW_SECONDS, OVERLAP_SECONDS)
    )
    if dialect is not None and model.representation.makes_mel:
        # Whole hops, so that every sample lies under a frame; and the analysis may reflect half a frame at the ends.
        n_samples = round_up(max(n_samples, dialect.n_fft), hop)
    stride = window - overlap
    n_chunks = 1 + max(0, -(-(n_samples - window) // stride))
    spans = [(index * stride, min(index * stride + window, n_samples)) for index in range(n_chunks)]
    return [Chunk(index, first, last, first, last) for index, (first, last) in enumerate(spans)]
