"""Likelihood of recordings under a trained model, in nats and bits per dimension.

| measure | model that it is of | value |
|---|---|---|
| flow | the law of samples of deterministic solvers, in the limit of many steps | -log p, estimated without bias |
| bound | the law of samples of the ancestral chain, in the limit of many steps | upper bound on -log p, likewise |

These are two models: neither number bounds the other (`audiodiff.diffusion.bound`). Both are means over dimensions:

- Model of waveforms: -log P of 16-bit samples, P the probability of bins of width 2^-15 around them. A dimension is a
  sample of a channel at the model's sample rate. Bits are comparable with those of lossless compression.
- Model of mel spectrograms: -log p of the mel, p a density with respect to the values of the dialect. A dimension is a
  band of a frame. The number may be negative.

The change of scale between recording and diffused signal (the gain, or the standard deviations of the bands) is
included. Recordings are first resampled to the model's rate; a recording that a model hears at a level of its own keeps
the bins of its original level.

The smallest noise level, sigma_min, is part of the model: samples have white noise of that level before the last
denoising step. The decoder of the bound is a Gaussian of that standard deviation around D.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.bound import BIN_WIDTH, continuous_bound
from audiodiff.diffusion.likelihood import RungeKutta, log_likelihood, rademacher
from audiodiff.diffusion.noise import noise_of
from audiodiff.diffusion.sampler import fine_grid
from audiodiff.dsp.level import gain_to
from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError, check_whole
from audiodiff.labels import LabelValue
from audiodiff.models.examples import training_example
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.validation import checked_recording
from audiodiff.types import Denoise, Sigma, Signal, Waveform

Measure = Literal["flow", "bound"]
MEASURES: tuple[Measure, ...] = ("flow", "bound")
USUAL_RMS = 0.1
"""RMS of audio that the prior of a model of waveforms assumes, where the model does not set a level."""


@dataclass(frozen=True)
class Settings:
    """Set how exact a likelihood is.

    Args:
        measures: which numbers to compute.
        n_steps: steps of the flow, of order four, each with four evaluations.
        n_probes: random probes of the trace of the flow's Jacobian; the variance falls as 1 / n_probes.
        n_levels: noise levels of the bound, each with one draw of noise.
        sigma_min: smallest noise level; None is the smallest of the model's sampler in many steps.
        chunk_seconds: longer recordings are scored in chunks of at most this length, as independent recordings.
        seed: of the probes and of the bound's noise.

    Raises:
        ParameterError: if a number is out of range, or there is no such measure.
    """

    measures: tuple[Measure, ...] = MEASURES
    n_steps: int = 24
    n_probes: int = 1
    n_levels: int = 64
    sigma_min: float | None = None
    chunk_seconds: float = 4.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_probes", "n_levels"):
            check_whole(getattr(self, name), name=name, least=1)
        if not self.chunk_seconds > 0.0:
            raise ParameterError(f"chunk_seconds={self.chunk_seconds} must be positive")
        if not self.measures or not set(self.measures) <= set(MEASURES):
            raise ParameterError(f"measures={list(self.measures)} must be one or both of {', '.join(MEASURES)}")

    @property
    def n_evaluations(self) -> int:
        """Evaluations of the denoiser for each chunk."""
        return 4 * self.n_steps * ("flow" in self.measures) + (self.n_levels + 1) * ("bound" in self.measures)


@dataclass(frozen=True)
class Likelihood:
    """Hold the likelihood of one recording.

    Args:
        n_dims: dimensions: channels times samples, or bands times frames.
        nats: nats per dimension, by measure.
    """

    n_dims: int
    nats: Mapping[Measure, float] = field(default_factory=dict)

    @property
    def bits(self) -> dict[Measure, float]:
        """Bits per dimension, by measure: nats / log 2."""
        return {name: value / math.log(2.0) for name, value in self.nats.items()}


def likelihood(
    model: Synthesizer,
    audio: Float[Tensor, "channels time"],
    *,
    sample_rate: int,
    labels: Mapping[str, LabelValue] | None = None,
    settings: Settings | None = None,
    item: int = 0,
    on_step: Callable[[int, int], None] | None = None,
) -> Likelihood:
    """Compute the likelihood of a recording; see the module for what the numbers are of.

    Args:
        model: a trained model. One that is conditioned on mels is given the mel of the recording itself.
        audio: the recording; channels are averaged for a model of mono sound.
        sample_rate: of the audio, Hz.
        labels: of a model that is conditioned on labels; a label that is left out may be any.
        settings: how exact; None is `Settings()`.
        item: number of the recording, which keys its random draws.
        on_step: called as (done, of all) after each evaluation of the denoiser.

    Raises:
        ParameterError: if the recording is invalid or too short, or the model has no such likelihood.
    """
    settings = settings or Settings()
    sigma_min, sigma_max = _levels(check_model(model), sigma_min=settings.sigma_min)
    waveform, gain = _prepared(model, audio, sample_rate=sample_rate)
    size = _chunk_samples(model, waveform.shape[-1], seconds=settings.chunk_seconds)
    chunks = waveform.split(size, dim=-1)
    scale = model.representation.scale.double()
    bin_width = None if model.representation.makes_mel else gain * BIN_WIDTH / float(scale[0])
    variance = 1.0 if model.representation.makes_mel else (model.conditioner.level or USUAL_RMS) / float(scale[0])
    n_dims, done, sums = 0, 0, dict.fromkeys(settings.measures, 0.0)

    def report() -> None:
        nonlocal done
        done += 1
        if on_step is not None:
            on_step(done, settings.n_evaluations * len(chunks))

    for index, chunk in enumerate(chunks):
        with torch.no_grad():
            x0, condition = training_example(model, chunk)
            if model.labels is not None:
                condition = replace(condition, vector=model.labels.vectors([labels or {}]).to(x0.device))
            elif labels:
                raise ParameterError(f"labels={dict(labels)} have no meaning for this model, which knows none")
            denoise = _counted(model.denoiser.bind(condition), report)
        noise = noise_of(settings.seed, [item], offset=index * size // model.representation.hop_length)
        levels = {"sigma_min": sigma_min, "sigma_max": sigma_max, "data_variance": variance**2}
        n_dims += x0.numel()
        if "flow" in sums:
            integrate, probes = RungeKutta(settings.n_steps), rademacher(noise, settings.n_probes)
            log_p = float(log_likelihood(denoise, x0, probes=probes, integrate=integrate, **levels))
            sums["flow"] -= log_p if bin_width is None else log_p + x0.numel() * math.log(bin_width)
        if "bound" in sums:
            with torch.no_grad():
                bound = continuous_bound(
                    denoise, x0, n_levels=settings.n_levels, noise=noise, bin_width=bin_width, **levels
                )
            sums["bound"] += x0.numel() * float(bound.total)
    # From the density of the standardised signal to that of the mel. A bin's probability has no such factor.
    stretch = float(scale.log().mean()) if bin_width is None else 0.0
    return Likelihood(n_dims, {name: value / n_dims + stretch for name, value in sums.items()})


def mean(found: Sequence[Likelihood]) -> Likelihood:
    """Return the mean over the dimensions of all recordings.

    Example:
        >>> mean([Likelihood(1, {"flow": 4.0}), Likelihood(3, {"flow": 2.0})])
        Likelihood(n_dims=4, nats={'flow': 2.5})
    """
    n_dims = sum(each.n_dims for each in found)
    names = found[0].nats
    return Likelihood(n_dims, {name: sum(each.n_dims * each.nats[name] for each in found) / n_dims for name in names})


def check_model(model: object) -> Synthesizer:
    """Return a model that has a likelihood.

    Raises:
        ParameterError: if it was not trained, or does not sample from noise alone.
    """
    if not isinstance(model, Synthesizer):
        raise ParameterError("model was not trained, and has no likelihood: give a trained model, such as digits-8k")
    if model.warm_start:
        raise ParameterError(
            "model starts from an inverted mel and not from noise, so it has no likelihood: give a model with "
            "warm_start=false"
        )
    return model


def _levels(model: Synthesizer, *, sigma_min: float | None) -> tuple[float, float]:
    """Return the smallest and the greatest noise level of a model."""
    levels = fine_grid(model.sampler).tolist()
    least = levels[-2] if sigma_min is None else sigma_min
    if not 0.0 < least < levels[0]:
        raise ParameterError(
            f"sigma_min={least:.4g} must be positive and below the model's first level {levels[0]:.4g}"
        )
    return least, levels[0]


def _prepared(model: Synthesizer, audio: Tensor, *, sample_rate: int) -> tuple[Waveform, float]:
    """Return a recording with the model's rate, channels and level, and the gain that its level took."""
    audio = checked_recording(audio, sample_rate=sample_rate).to(model.device)
    n_channels = 1 if model.representation.makes_mel else model.representation.channels
    if n_channels == 1:
        audio = audio.mean(dim=0, keepdim=True)
    elif len(audio) != n_channels:
        raise ParameterError(f"audio has {len(audio)} channels and the model {n_channels}")
    audio = resample(audio, from_rate=sample_rate, to_rate=model.sample_rate)
    if model.needs_mel and model.dialect is not None:
        # A mel covers whole hops: what is left at the end is not scored.
        audio = audio[:, : audio.shape[-1] // model.dialect.hop_length * model.dialect.hop_length]
    if audio.shape[-1] < model.representation.hop_length or audio.shape[-1] == 0:
        raise ParameterError("audio is too short: less than a frame of the model")
    gain = gain_to(model.conditioner.level, audio, sample_rate=model.sample_rate)
    return (gain * audio)[None], gain


def _chunk_samples(model: Synthesizer, n_samples: int, *, seconds: float) -> int:
    """Return the length of chunks of nearly equal length, whole hops each."""
    hop = model.dialect.hop_length if model.needs_mel and model.dialect else model.representation.hop_length
    n_chunks = math.ceil(n_samples / max(hop, seconds * model.sample_rate))
    return math.ceil(n_samples / n_chunks / hop) * hop


def _counted(denoise: Denoise, report: Callable[[], None]) -> Denoise:
    def counted(x: Signal, sigma: Sigma) -> Signal:
        denoised = denoise(x, sigma)
        report()
        return denoised

    return counted
