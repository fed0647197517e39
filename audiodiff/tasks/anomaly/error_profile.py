"""Denoising error of a recording at each noise level, in each frequency band, over time.

A denoiser errs little on sounds like its training data and more on others: at low noise in the detail, at high noise
in the overall shape. Noise levels and noise are the same for all recordings, so that errors can be compared.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.diffusion.noise import noise_of
from audiodiff.dsp.filters import mel_filters
from audiodiff.dsp.level import FRAME_SECONDS as LEVEL_FRAME_SECONDS
from audiodiff.dsp.level import constant_offset, gain_to
from audiodiff.dsp.resample import resample
from audiodiff.dsp.stft import Stft
from audiodiff.errors import ParameterError, check_whole
from audiodiff.labels import LabelValue
from audiodiff.models.chunking import ChunkPlan
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.validation import checked_recording
from audiodiff.types import ReceptiveField, Signal

MIN_SECONDS = 0.1
FRAME_SECONDS = 0.01
_WINDOW_SECONDS = 0.032
_TYPICAL_RMS = 0.1
_LOUD_SHARE = 0.1
SILENCE_DB = -160.0
"""Level of digital silence."""
_FLOOR = 1e-8
"""Added to errors, as a share of the signal's typical power: errors below -80 dB count as none."""


@dataclass(frozen=True)
class ProfileSpec:
    """Noise levels, noise draws and frequency bands of an error profile.

    Args:
        n_levels: noise levels, spaced as by the model's own grid. The first is nearly pure noise, where the error is
            the signal's own deviation from the mean of the training data.
        first: index of the first level that is used.
        last: index after the last level that is used.
        n_draws: draws of the noise, over which the error is averaged.
        n_bands: frequency bands.
        seed: of the noise.

    Raises:
        ParameterError: if a number is below 1, or no level is used.
    """

    n_levels: int
    first: int
    last: int
    n_draws: int
    n_bands: int
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole(self.n_levels, name="n_levels", least=1)
        check_whole(self.n_draws, name="n_draws", least=1)
        check_whole(self.n_bands, name="n_bands", least=1)
        if not 0 <= self.first < self.last <= self.n_levels:
            raise ParameterError(
                f"first={self.first} and last={self.last} must satisfy 0 <= first < last <= n_levels={self.n_levels}"
            )


@torch.inference_mode()
def error_profile(
    model: Synthesizer,
    audio: Float[Tensor, "channels time"],
    *,
    sample_rate: int,
    spec: ProfileSpec,
    labels: Sequence[Mapping[str, LabelValue]] = ({},),
) -> Float[Tensor, "labels levels bands frames"]:
    """Compute |D(x0 + sigma eps, sigma) - x0|^2 relative to the signal's typical power, averaged over draws of eps.

    Args:
        model: a trained model.
        audio: a recording; channels are averaged, it is resampled to the model's rate and scaled to its level.
        sample_rate: of the audio, Hz.
        spec: levels, draws and bands.
        labels: conditions that the errors are computed for; {} is unconditional.

    Raises:
        ParameterError: if the audio is empty, not finite or shorter than 0.1 s, or the spec does not fit the model.

    Source: Kingma and Gao 2023, "Understanding diffusion objectives as the ELBO with simple data augmentation":
        weighted over the levels, these errors are the bound on -log p.
    """
    x0 = model.representation.encode(_prepare(model, audio, sample_rate=sample_rate))
    bands = _Bands.of(model, n_bands=spec.n_bands)
    sigmas = model.sampler.grid(spec.n_levels)[spec.first : spec.last].to(x0)
    parts: list[Tensor] = []
    for chunk in bands.chunk_plan(model).chunks(x0.shape[-1], sample_rate=round(bands.steps_per_second)):
        window = x0[..., chunk.first : chunk.last]
        total = torch.zeros(())
        for draw in range(spec.n_draws):
            eps = noise_of(spec.seed, [draw], offset=chunk.first)(window, 0)
            total = total + torch.stack(list(_errors(model, window, eps, sigmas=sigmas, labels=labels, bands=bands)), 1)
        first = chunk.within.start // bands.steps
        last = None if chunk.stop == x0.shape[-1] else chunk.within.stop // bands.steps
        parts.append((total / spec.n_draws)[..., first:last])
    return torch.cat(parts, dim=-1).cpu()


@torch.inference_mode()
def level_db(model: Synthesizer, audio: Float[Tensor, "channels time"], *, sample_rate: int) -> float:
    """Compute the level that the loudest tenth of the 32 ms frames exceeds, in dB of full scale, at least -160.

    The level of a frame is its standard deviation at the model's rate, so that a constant counts as silence. A click
    in silence fills fewer frames than a tenth.

    Args:
        model: a trained model.
        audio: a recording, as for `error_profile`.
        sample_rate: of the audio, Hz.

    Raises:
        ParameterError: as for `error_profile`.
    """
    mono = _mono(model, audio, sample_rate=sample_rate)
    frame = min(max(1, round(LEVEL_FRAME_SECONDS * model.sample_rate)), mono.shape[-1])
    deviations = mono.unfold(0, frame, frame).std(dim=-1, correction=0)
    level = float(deviations.quantile(1.0 - _LOUD_SHARE, interpolation="lower"))
    return max(SILENCE_DB, 20.0 * math.log10(level)) if level > 0.0 else SILENCE_DB


def in_db(errors: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return 10 log10 of errors, with a floor of -80 dB."""
    return 10.0 * (errors + _FLOOR).log10()


def frame_seconds(model: Synthesizer) -> float:
    """Return the time between two frames of an error profile, in seconds."""
    bands = _Bands.of(model, n_bands=1)
    return bands.steps / bands.steps_per_second


def _errors(
    model: Synthesizer,
    window: Signal,
    eps: Signal,
    *,
    sigmas: Float[Tensor, "levels"],
    labels: Sequence[Mapping[str, LabelValue]],
    bands: "_Bands",
) -> Iterator[Float[Tensor, "labels bands frames"]]:
    """Yield the errors at each level."""
    denoise = model.denoiser.bind(_condition(model, window, labels=labels))
    for sigma in sigmas:
        x = (window + sigma * eps).expand(len(labels), -1, -1)
        yield bands(denoise(x, sigma.expand(len(labels))) - window)


def _condition(model: Synthesizer, window: Signal, *, labels: Sequence[Mapping[str, LabelValue]]) -> Condition:
    """Condition a model with labels on them, a vocoder on the mel of the window, and other models on nothing."""
    if model.labels is not None:
        return Condition(vector=model.labels.vectors(labels).to(window.device))
    if any(labels):
        raise ParameterError(f"labels {labels[0]} have no meaning for this model, which was trained without")
    return model.conditioner(window) if model.needs_mel else model.conditioner.null(1)


def _mono(model: Synthesizer, audio: Float[Tensor, "channels time"], *, sample_rate: int) -> Float[Tensor, "_"]:
    audio = checked_recording(audio, sample_rate=sample_rate)
    if audio.shape[-1] < MIN_SECONDS * sample_rate:
        seconds = audio.shape[-1] / sample_rate
        raise ParameterError(f"audio of {seconds:.3f} s is too short to be scored: give {MIN_SECONDS} s or more")
    mono = audio.mean(dim=0)
    return resample((mono - constant_offset(mono)).to(model.device), from_rate=sample_rate, to_rate=model.sample_rate)


def _prepare(model: Synthesizer, audio: Float[Tensor, "channels time"], *, sample_rate: int) -> Signal:
    """Bring audio to the model's rate, level and channels."""
    mono = _mono(model, audio, sample_rate=sample_rate)
    mono = mono * gain_to(model.conditioner.level, mono, sample_rate=model.sample_rate)
    if model.needs_mel and model.dialect is not None:
        # A mel covers whole hops.
        mono = torch.nn.functional.pad(mono, (0, -mono.shape[-1] % model.dialect.hop_length))
    n_channels = 1 if model.representation.makes_mel else model.representation.channels
    return mono.expand(1, n_channels, -1)


@dataclass(frozen=True)
class _Bands:
    """Compute the power of an error in bands and frames.

    Args:
        steps: of the signal per frame.
        steps_per_second: of the signal.
        scale: divides the powers.
        weights: of the channels or bins in each band.
        stft: of a waveform; None where channels are bands already.
    """

    steps: int
    steps_per_second: float
    scale: float
    weights: Float[Tensor, "bands _"]
    stft: Stft | None

    @classmethod
    def of(cls, model: Synthesizer, *, n_bands: int) -> "_Bands":
        rate = model.sample_rate
        if model.representation.makes_mel:
            n_mels = model.representation.channels
            if n_bands > n_mels:
                raise ParameterError(f"n_bands={n_bands} must not exceed the {n_mels} of the model's mel spectrogram")
            band = torch.arange(n_mels) * n_bands // n_mels
            weights = (band == torch.arange(n_bands)[:, None]).float()
            weights = weights / weights.sum(dim=1, keepdim=True)
            return cls(1, rate / model.representation.hop_length, 1.0, weights, None)
        hop_length = max(1, round(FRAME_SECONDS * rate))
        n_fft = 2 ** max(4, round(math.log2(_WINDOW_SECONDS * rate)))
        filters = mel_filters(
            sample_rate=rate,
            n_fft=n_fft,
            n_mels=n_bands,
            f_min=0.0,
            f_max=rate / 2,
            scale="slaney",
            area_normalised=False,
            gain=1.0,
        )
        # Mean power in a band, relative to that of white noise at the typical level: Hann's mean square is 3/8.
        level = model.conditioner.level or _TYPICAL_RMS
        weights = (filters / filters.sum(dim=1, keepdim=True)).float() / (n_fft * 3.0 / 8.0)
        stft = Stft(n_fft, hop_length, n_fft, (n_fft - hop_length) // 2, "reflect")
        return cls(hop_length, float(rate), level**2, weights, stft)

    def __call__(self, error: Signal) -> Float[Tensor, "labels bands frames"]:
        if self.stft is None:
            power = error.square()
        else:
            spectrum = self.stft.forward(error.mean(dim=1))
            power = spectrum.real.square() + spectrum.imag.square()
        return self.weights.to(power) @ power / self.scale

    def chunk_plan(self, model: Synthesizer) -> ChunkPlan:
        """Return chunks with enough context that errors equal those of the unchunked signal."""
        network = model.denoiser.network
        window, alignment = (0, 1) if self.stft is None else (self.stft.n_fft, self.steps)
        if model.needs_mel and model.dialect is not None:
            window, alignment = window + model.dialect.n_fft, math.lcm(alignment, model.dialect.hop_length)
        before, after = (side + window for side in network.receptive_field)
        return ChunkPlan(margin=ReceptiveField(before, after), alignment=math.lcm(network.alignment, alignment))
