"""Editing: add noise to recordings up to some level, then denoise them as something else.

| algorithm | noising | denoising | preserved |
|---|---|---|---|
| sdedit | white noise is added | the model's sampler, with the new labels | what is louder than the noise |
| inversion | probability flow with the old labels | the same with the new labels | quantile of the sound in its class |

The strength s sets the noise level, on the time axis of the model's own sampler: its grid with N steps visits N + 1
noise levels, and s is the level after (1 - s) N of them. With a uniform grid of a flow, as in the shipped models, that
is the time t = 0.999 s, at which the signal is (1 - t) x0 + t noise. 0 is the recording, encoded and decoded; 1 with
sdedit is generation from noise, as by `Synthesizer.generate`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from audiodiff.compat import warn
from audiodiff.condition import Condition
from audiodiff.diffusion.editing import edit_sigmas, flow_of, inversion, inversion_sigmas, sdedit
from audiodiff.diffusion.guidance import classifier_free
from audiodiff.diffusion.noise import noise_of
from audiodiff.diffusion.sampler import Sampler
from audiodiff.dsp.level import constant_offset, gain_to
from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError
from audiodiff.labels import LabelValue
from audiodiff.models.chunking import Chunk, StepCounter, join_chunks, overlap_add, round_up
from audiodiff.models.sampling import checked_guidance, checked_sampler
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.validation import (
    Labels,
    checked_items,
    checked_labels,
    checked_recordings,
    without_added_axes,
)
from audiodiff.models.window_sampler import WindowSampler
from audiodiff.tasks.editing.components import components_of
from audiodiff.threads import spread
from audiodiff.types import Denoise, Noise, Recordings, Signal, Waveform

ALGORITHMS = ("sdedit", "inversion")
DEFAULT_STRENGTH = 0.4
WINDOW_SECONDS, OVERLAP_SECONDS = 20.0, 2.0
"""Long recordings are edited in windows that fade into each other; where two overlap they have the same noise."""

Rows = Sequence[Mapping[str, LabelValue]]
_Value = TypeVar("_Value")


@torch.no_grad()
def edit(
    model: Synthesizer,
    audio: Recordings,
    *,
    sample_rate: int,
    strength: float = DEFAULT_STRENGTH,
    labels: Labels | None = None,
    source_labels: Labels | None = None,
    algorithm: str = "sdedit",
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    items: Sequence[int] | None = None,
    on_step: Callable[[int, int], None] | None = None,
    method: str | None = None,
) -> Recordings:
    """Edit recordings: change their labels, or vary them.

    Of several channels the principal components are edited, and keep their levels beside each other: panned sources
    stay in place, and equal channels stay equal. Frequencies above half the model's rate are lost. A constant offset is
    not given to the model, and stays.

    Args:
        model: any that generates from labels or from nothing, as `audiodiff.load` returns it.
        audio: one recording or a batch.
        sample_rate: of the audio, Hz.
        strength: from 0, the recording encoded and decoded, to 1; see the module.
        labels: new labels, as in `Synthesizer.generate`: one mapping for all recordings, or one for each.
        source_labels: present labels. Those without a new value stay.
        algorithm: sdedit or inversion; see the module.
        steps: of the sampler, at any strength; inversion takes twice as many, with two evaluations each. None is the
            model's number.
        guidance: scale of the guidance towards the new labels, away from the present ones where they are given,
            otherwise from no labels; 1 is none.
        seed: of the noise.
        items: number of each recording, which keys its noise.
        on_step: called as (done, of all).
        method: the algorithm in audiodiff 0.1.

    Returns: audio of the same shape, float32, not limited to [-1, 1].

    Raises:
        ParameterError: if an argument is out of its range or does not suit the model.

    Source: Meng et al. 2022 (SDEdit), algorithm 1; Su et al. 2023 (dual diffusion implicit bridges), algorithm 1.
    """
    model = check_model(model)
    recordings = checked_recordings(audio, sample_rate=sample_rate)
    batch, n_channels, n_samples = recordings.shape
    signals = recordings.flatten(0, 1)[:, None]
    offset = torch.cat([constant_offset(own) for own in signals.split(n_channels)])
    signals = signals - offset
    check_strength(strength)
    if method is not None:
        warn("method=", "algorithm=")
        algorithm = method
    if algorithm not in ALGORITHMS:
        raise ParameterError(f"algorithm={algorithm!r} must be one of {', '.join(ALGORITHMS)}")
    source = _each(checked_labels(source_labels, batch=batch, known=model.labels), n_channels)
    asked = _each(checked_labels(labels, batch=batch, known=model.labels), n_channels)
    scale = _scale(model, guidance, source=source)
    sampler = checked_sampler(model.sampler, steps=steps, solver=None, grid=None, guided=scale != 1.0)
    # Noise of their own for the second component and those after it.
    numbers = [number + (k << 80) for number in checked_items(items, batch=batch) for k in range(n_channels)]

    signals = resample(signals.to(model.device), from_rate=sample_rate, to_rate=model.sample_rate)
    parts_of = [components_of(own[:, 0]) for own in signals.split(n_channels)]
    signals = torch.cat([own.signals for own in parts_of])[:, None]
    gains = torch.cat([_gain(model, own) for own in signals.split(1)])[:, None, None]
    signals = gains * signals
    chunks = _chunks(model, signals.shape[-1])
    padded = F.pad(signals, (0, chunks[-1].last - signals.shape[-1]))
    # A CPU gains little from batches; one by one, no example depends on the others, to the bit.
    size, workers = (1, None) if model.device.type == "cpu" else (len(signals), 1)
    n_levels = {"sdedit": 1, "inversion": 2}[algorithm] * (sampler.n_steps if strength > 0.0 else 0)
    n_last = model.checked_iterations(None) + (0 if model.vocoder is None else model.vocoder.n_steps)
    report = StepCounter(on_step, total=len(chunks) * -(-len(signals) // size) * (n_levels + n_last))

    def edited(part: slice) -> Waveform:
        editing = _Editing(
            model,
            sampler,
            strength=strength,
            algorithm=algorithm,
            source=source[part],
            target=[{**own, **new} for own, new in zip(source[part], asked[part], strict=True)],
            scale=scale,
            seed=seed,
            items=numbers[part],
            on_step=report,
        )
        own = padded[part]

        def window(chunk: Chunk) -> Waveform:
            return editing(own[..., chunk.first : chunk.last], first_sample=chunk.first)

        made = overlap_add(spread(window, chunks, workers=workers, on_end=report.stop), chunks)
        return join_chunks(made, n_samples=own.shape[-1])

    parts = [slice(first, first + size) for first in range(0, len(signals), size)]
    made = torch.cat(list(spread(edited, parts, workers=workers, on_end=report.stop)))[..., : signals.shape[-1]]
    made = (made / gains)[:, 0].split(n_channels)
    made = torch.cat([own.joined(part) for own, part in zip(parts_of, made, strict=True)])[:, None]
    made = resample(made, from_rate=model.sample_rate, to_rate=sample_rate)
    made = (made[..., :n_samples] + offset.to(made)).reshape(recordings.shape).to(audio.device)
    return without_added_axes(made, given=audio)


def check_model(model: object) -> Synthesizer:
    """Return a model that can edit recordings.

    Raises:
        ParameterError: if it cannot, with a remedy.
    """
    if not isinstance(model, Synthesizer) or model.needs_mel:
        raise ParameterError(
            "editing needs a model that generates from labels or from nothing, for example digits-8k or "
            "speech-prior-16k, and not a vocoder of mel spectrograms"
        )
    if model.representation.channels != 1 and not model.representation.makes_mel:
        raise ParameterError(
            f"the model generates {model.representation.channels} channels at once, and editing needs one of mono sound"
        )
    return model


def check_strength(strength: float) -> None:
    """Raise a ParameterError for a strength outside [0, 1]."""
    if not 0.0 <= strength <= 1.0:
        raise ParameterError(f"strength={strength} must lie between 0, the recording, and 1, a new sound")


class _Editing:
    """Edit windows of one or more signals at the model's rate and level."""

    def __init__(
        self,
        model: Synthesizer,
        sampler: Sampler,
        *,
        strength: float,
        algorithm: str,
        source: Rows,
        target: Rows,
        scale: float,
        seed: int,
        items: Sequence[int],
        on_step: StepCounter,
    ) -> None:
        self._model, self._sampler, self._on_step = model, sampler, on_step
        self._strength, self._algorithm = strength, algorithm
        self._source = model.denoiser.bind(_condition(model, source))
        bound = model.denoiser.bind(_condition(model, target))
        self._target: Denoise = bound if scale == 1.0 else classifier_free(bound, self._source, scale=scale)
        self._seed, self._items = seed, items
        self._decoder = WindowSampler(
            model,
            sampler,
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
        return self._decoder.sound(
            signal, None, items=self._items, n_samples=audio.shape[-1], first_sample=first_sample
        )

    def _sampled(self, x0: Signal, noise: Noise) -> Signal:
        if self._strength == 0.0:
            return x0
        if self._algorithm == "inversion":
            sigmas = inversion_sigmas(self._sampler, strength=self._strength)
            process = flow_of(self._sampler)
            return inversion(self._source, self._target, x0, sigmas, process=process, on_step=self._on_step)
        if self._strength == 1.0:
            return self._sampler(self._target, x0, noise, on_step=self._on_step)
        return sdedit(
            self._target,
            x0,
            edit_sigmas(self._sampler, strength=self._strength),
            solver=self._sampler.solver,
            noise=noise,
            on_step=self._on_step,
            after_step=self._sampler.after_step,
        )


def _condition(model: Synthesizer, rows: Rows) -> Condition:
    """Return the condition for these labels."""
    if model.labels is None:
        return model.conditioner.null(len(rows))
    return Condition(vector=model.labels.vectors(rows).to(model.device))


def _scale(model: Synthesizer, guidance: float | None, *, source: Rows) -> float:
    """Return the scale of guidance, 1 for none, and refuse one that the model cannot apply."""
    scale = checked_guidance(guidance, interval=None, guided=False)
    if scale != 1.0 and model.labels is None:
        raise ParameterError(f"guidance={guidance} needs a model with labels, and this one has none: leave it out")
    if scale != 1.0 and not model.conditioner.can_drop and not all(source):
        raise ParameterError(
            f"guidance={guidance} needs source_labels to guide away from: this model was not trained without labels"
        )
    return scale


def _each(values: Sequence[_Value], n: int) -> list[_Value]:
    return [value for value in values for _ in range(n)]


def _gain(model: Synthesizer, channels: Tensor) -> Tensor:
    """Return the gain that brings a recording to the level of the model's training, or at least within full scale."""
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
        # Whole hops, so that a frame covers every sample; and the analysis may reflect half a frame at the ends.
        n_samples = round_up(max(n_samples, dialect.n_fft), hop)
    stride = window - overlap
    n_chunks = 1 + max(0, -(-(n_samples - window) // stride))
    spans = [(index * stride, min(index * stride + window, n_samples)) for index in range(n_chunks)]
    return [Chunk(index, first, last, first, last) for index, (first, last) in enumerate(spans)]
