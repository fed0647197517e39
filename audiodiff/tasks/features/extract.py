"""Feature vectors of recordings: activations of a denoiser's layer at a noise level, pooled over time.

A network that separates noise from sound has to represent the sound. The input of the gates of a residual block, for a
recording with a little noise, is reduced to its mean and standard deviation over time: two numbers per channel, for
any length. The noise is the same for all recordings, so that a vector depends on its recording alone.

    model = audiodiff.load("speech-prior-16k")
    vector = features(model, audio, sample_rate=16000)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.diffusion.noise import noise_of
from audiodiff.dsp.level import constant_offset, gain_to
from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.chunking import ChunkPlan
from audiodiff.models.conditioners.degraded import DegradedConditioner
from audiodiff.models.registry import SPEECH_PRIOR
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.validation import checked_recording, checked_recordings
from audiodiff.networks.residual import ResidualBlock
from audiodiff.types import ReceptiveField, Waveform

_MIN_SECONDS = 0.1
_WAVEFORM_DEFAULT = (0.003, 0.27)
_MEL_DEFAULT = (0.4, 0.78)
"""Noise level relative to the audio, and layer as a fraction of the depth, by `audiodiff features --choose-by`."""


@dataclass(frozen=True)
class FeatureLayer:
    """Layer and noise level at which features are taken.

    Args:
        noise_level: sigma, in x = x0 + sigma * eps, where x0 is the audio in the model's representation.
        layer: number of the residual block, from 0.
    """

    noise_level: float
    layer: int

    def __post_init__(self) -> None:
        if not 0.0 < self.noise_level < math.inf:
            raise ParameterError(f"noise_level={self.noise_level} must be positive")
        check_whole(self.layer, name="layer", least=0)


def default_layer(model: Synthesizer) -> FeatureLayer:
    """Return the layer and noise level that suit this kind of model."""
    level, depth = _MEL_DEFAULT if model.representation.makes_mel else _WAVEFORM_DEFAULT
    return FeatureLayer(noise_level=level * signal_scale(model), layer=round(depth * (len(block_names(model)) - 1)))


def signal_scale(model: Synthesizer) -> float:
    """Return the factor between audio and the signal that is diffused; 1 for mels, whose bands have variance 1."""
    if model.representation.makes_mel:
        return 1.0
    return (
        model.representation.encode(torch.ones(1, model.representation.channels, 1, device=model.device)).max().item()
    )


def block_names(model: Synthesizer) -> list[str]:
    """List the module names of the network's residual blocks, from first to last.

    Raises:
        ParameterError: if the network has none.
    """
    network = model.denoiser.network
    assert isinstance(network, torch.nn.Module)
    names = [name for name, module in network.named_modules() if isinstance(module, ResidualBlock)]
    if not names:
        raise ParameterError("features need a network of residual blocks (network=wavenet, network=spectral)")
    return names


def check_feature_model(model: object) -> Synthesizer:
    """Return a model that has features, or refuse it.

    Raises:
        ParameterError: if it was not trained, or has no residual blocks.
    """
    if not isinstance(model, Synthesizer):
        raise ParameterError(
            f"model is a {type(model).__name__}, which was not trained: features are the activations of a network; "
            f"give {SPEECH_PRIOR}, digits-8k, or a run of your own"
        )
    block_names(model)
    return model


def features(
    model: Synthesizer,
    audio: Float[Tensor, "time"] | Float[Tensor, "channels time"] | Float[Tensor, "batch channels time"],
    *,
    sample_rate: int,
    noise_level: float | None = None,
    layer: int | None = None,
) -> Float[Tensor, "*batch features"]:
    """Compute the means, then the standard deviations, over time of a layer's channels.

    The network gets no label. A model that is conditioned on a recording gets this one, a vocoder its mel spectrogram.

    Args:
        model: as audiodiff.load returns it.
        audio: a recording of any length, or a batch; channels are averaged, and scaled to the level of the model if it
            has one.
        sample_rate: of the audio, Hz; it is resampled to the model's.
        noise_level: sigma of the added noise; None is that of `default_layer`.
        layer: number of the residual block, from 0; None is that of `default_layer`.

    Raises:
        ParameterError: if an argument is out of range, or the audio is not a tensor of finite floating point numbers.

    Example:
        >>> import audiodiff
        >>> features(audiodiff.load("digits-8k"), torch.randn(4000), sample_rate=8000).shape
        torch.Size([768])
    """
    default = default_layer(model)
    at = FeatureLayer(
        default.noise_level if noise_level is None else noise_level,
        default.layer if layer is None else layer,
    )
    vectors = [
        features_of_layers(model, each, sample_rate=sample_rate, noise_level=at.noise_level, layers=[at.layer])[0]
        for each in checked_recordings(audio, sample_rate=sample_rate)
    ]
    return torch.stack(vectors) if audio.ndim == 3 else vectors[0]


@torch.inference_mode()
def features_of_layers(
    model: Synthesizer,
    audio: Float[Tensor, "channels time"],
    *,
    sample_rate: int,
    noise_level: float,
    layers: Sequence[int],
) -> Float[Tensor, "layers features"]:
    """Compute the features of several layers of one recording in one pass; other arguments as for `features`.

    A long recording is computed in chunks, with enough context that the result equals the unchunked one.

    Raises:
        ParameterError: as `features`.
    """
    FeatureLayer(noise_level, 0)
    names = block_names(model)
    for layer in layers:
        check_whole(layer, name="layer", least=0)
        if layer >= len(names):
            raise ParameterError(f"layer={layer} must be below {len(names)}, the number of residual blocks")
    waveform = _prepare(model, audio, sample_rate=sample_rate)
    plan = _chunk_plan(model)
    totals, n_frames = torch.zeros((), dtype=torch.float64), 0
    for chunk in plan.chunks(waveform.shape[-1], sample_rate=model.sample_rate):
        window = waveform[..., chunk.first : chunk.last]
        blocks = [names[layer] for layer in layers]
        activations = _activations(model, window, blocks=blocks, noise_level=noise_level, first_sample=chunk.first)
        step = _samples_per_frame(activations.shape[-1], n_samples=window.shape[-1], alignment=plan.alignment)
        stop = None if chunk.stop == waveform.shape[-1] else chunk.within.stop // step
        kept = activations[..., chunk.within.start // step : stop].double()  # (layers, width, frames)
        totals = totals + torch.stack([kept.sum(-1), kept.square().sum(-1)]).cpu()
        n_frames += kept.shape[-1]
    mean, square = totals / n_frames
    return torch.cat([mean, (square - mean.square()).clamp(min=0.0).sqrt()], dim=-1).float()


def _activations(
    model: Synthesizer, window: Waveform, *, blocks: Sequence[str], noise_level: float, first_sample: int
) -> Float[Tensor, "layers width frames"]:
    x0 = model.representation.encode(window)
    noise = noise_of(0, [0], offset=first_sample // model.representation.hop_length)
    gates, outputs = ([f"{block}.{part}" for block in blocks] for part in ("dilated_conv", "output_projection"))
    activations = model.denoiser.activations(
        x0 + noise_level * noise(x0, 0),
        x0.new_full((1,), noise_level),
        _condition(model, window),
        layers=[*gates, outputs[0]],
    )
    # Where a block looks ahead less than back, its convolution yields frames beyond the end.
    n_frames = activations[outputs[0]].shape[-1]
    return torch.cat([activations[gate][..., :n_frames] for gate in gates])


def _condition(model: Synthesizer, window: Waveform) -> Condition:
    """Condition on the recording where the model takes one, otherwise on nothing."""
    takes_audio = model.needs_mel or isinstance(model.conditioner, DegradedConditioner)
    return model.conditioner(window) if takes_audio else model.conditioner.null(1)


def _prepare(model: Synthesizer, audio: Float[Tensor, "_ _"], *, sample_rate: int) -> Waveform:
    """Bring audio to the model's rate, channels and level, without a constant offset."""
    mono = checked_recording(audio, sample_rate=sample_rate).mean(dim=0)
    mono = mono - constant_offset(mono)
    mono = resample(mono.to(model.device), from_rate=sample_rate, to_rate=model.sample_rate)
    # Shorter than a frame, there would be no spectrum.
    length = max(mono.shape[-1], math.ceil(_MIN_SECONDS * model.sample_rate))
    if model.needs_mel and model.dialect is not None:
        # The mel that conditions a vocoder has no frame for a remainder.
        length = -(-length // model.dialect.hop_length) * model.dialect.hop_length
    mono = F.pad(mono, (0, length - mono.shape[-1]))
    mono = mono * gain_to(model.conditioner.level, mono, sample_rate=model.sample_rate)
    n_channels = 1 if model.representation.makes_mel else model.representation.channels
    return mono.expand(1, n_channels, -1)


def _chunk_plan(model: Synthesizer) -> ChunkPlan:
    """Return chunks with enough context for the network's output, which suffices for its activations."""
    network, hop = model.denoiser.network, model.representation.hop_length
    window, mel_hop = (0, 1) if model.dialect is None else (model.dialect.n_fft, model.dialect.hop_length)
    before, after = (hop * side + window for side in network.receptive_field)
    return ChunkPlan(margin=ReceptiveField(before, after), alignment=math.lcm(hop * network.alignment, mel_hop))


def _samples_per_frame(n_frames: int, *, n_samples: int, alignment: int) -> int:
    """Return the divisor of the alignment that is nearest to a layer's samples per frame."""
    divisors = [step for step in range(1, alignment + 1) if alignment % step == 0]
    return min(divisors, key=lambda step: abs(n_samples / n_frames - step))
