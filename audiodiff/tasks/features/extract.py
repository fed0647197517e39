"""What a trained denoiser makes of recordings, as vectors: the activations of a layer at a noise level, over time.

A network that tells noise from sound has to know the sound. What goes into the gates of a residual block, for a
recording with a little noise, is averaged over time, and so is its spread: two numbers for each channel, whatever the
length. The noise is the same for all recordings, so that a vector depends on its recording alone.

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
from audiodiff.dsp.level import gain_to
from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.checked_audio import checked_recording
from audiodiff.models.checkpoint import SPEECH_PRIOR
from audiodiff.models.chunking import ChunkPlan
from audiodiff.models.conditioners.degraded import DegradedConditioner
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.networks.residual import ResidualBlock
from audiodiff.types import ReceptiveField, Waveform

_LEAST_SECONDS = 0.1
_OF_WAVEFORMS = (0.003, 0.27)
_OF_MELS = (0.4, 0.78)
"""Noise level, where audio is the signal, and layer, as a share of the way from the first to the last."""


@dataclass(frozen=True)
class FeatureLayer:
    """Where features are taken.

    Args:
        noise_level: sigma, in x = x0 + sigma * eps, x0 as the model's representation has it.
        layer: number of the residual block, from 0.
    """

    noise_level: float
    layer: int

    def __post_init__(self) -> None:
        if not 0.0 < self.noise_level < math.inf:
            raise ParameterError(f"noise_level={self.noise_level} must be positive")
        check_whole(self.layer, name="layer", least=0)


def default_tap(model: Synthesizer) -> FeatureLayer:
    """Return where features are taken unless a call says otherwise, as `audiodiff features --choose-by` found it."""
    level, depth = _OF_MELS if model.representation.makes_mel else _OF_WAVEFORMS
    return FeatureLayer(noise_level=level * usual_scale(model), layer=round(depth * (len(layers(model)) - 1)))


def usual_scale(model: Synthesizer) -> float:
    """Return the factor between audio and the signal that is diffused; 1 for mels, whose bands have variance 1."""
    if model.representation.makes_mel:
        return 1.0
    return (
        model.representation.encode(torch.ones(1, model.representation.channels, 1, device=model.device)).max().item()
    )


def layers(model: Synthesizer) -> list[str]:
    """List the network's residual blocks, the first to the last, by their names as modules.

    Raises:
        ParameterError: if the network has none.
    """
    network = model.denoiser.network
    assert isinstance(network, torch.nn.Module)
    found = [name for name, module in network.named_modules() if isinstance(module, ResidualBlock)]
    if not found:
        raise ParameterError("features need a network of residual blocks (network=wavenet, network=spectral)")
    return found


def check_model(model: object) -> Synthesizer:
    """Return a model that features can be taken of.

    Raises:
        ParameterError: if it is not a trained one.
    """
    if not isinstance(model, Synthesizer):
        raise ParameterError(
            f"model is a {type(model).__name__}, which was not trained: features are the activations of a network; "
            f"give {SPEECH_PRIOR}, digits-8k, or a run of your own"
        )
    layers(model)
    return model


def features(
    model: Synthesizer,
    audio: Float[Tensor, "channels time"] | Float[Tensor, "time"],
    *,
    sample_rate: int,
    noise_level: float | None = None,
    layer: int | None = None,
) -> Float[Tensor, "features"]:
    """Return the means and then the standard deviations over time of a layer's channels.

    The network is told no label; one that hears recordings is told this one, and a vocoder its mel spectrogram.

    Args:
        model: as audiodiff.load returns it.
        audio: a recording of any length; channels are averaged, and a model that expects a level is given it.
        sample_rate: of the audio, Hz; it is resampled to the model's.
        noise_level: sigma of the noise that is added; None is `default_tap`'s.
        layer: number of the residual block, from 0; None is `default_tap`'s.

    Raises:
        ParameterError: if an argument is out of range, or audio is no recording, is empty or not finite.

    Example:
        >>> import audiodiff
        >>> features(audiodiff.load("digits-8k"), torch.randn(4000), sample_rate=8000).shape
        torch.Size([768])
    """
    usual = default_tap(model)
    tap = FeatureLayer(
        usual.noise_level if noise_level is None else noise_level,
        usual.layer if layer is None else layer,
    )
    return features_of_layers(model, audio, sample_rate=sample_rate, noise_level=tap.noise_level, chosen=[tap.layer])[0]


@torch.inference_mode()
def features_of_layers(
    model: Synthesizer,
    audio: Float[Tensor, "channels time"] | Float[Tensor, "time"],
    *,
    sample_rate: int,
    noise_level: float,
    chosen: Sequence[int],
) -> Float[Tensor, "layers features"]:
    """Return the features of several layers, which cost no more than those of one; arguments as for `features`.

    A long recording is computed in pieces, each with so much around it that the sums are those of the whole.

    Raises:
        ParameterError: as `features`.
    """
    FeatureLayer(noise_level, 0)
    known = layers(model)
    for layer in chosen:
        check_whole(layer, name="layer", least=0)
        if layer >= len(known):
            raise ParameterError(f"layer={layer} must be below {len(known)}: the network has so many residual blocks")
    blocks = [known[layer] for layer in chosen]
    waveform = _prepared(model, audio, sample_rate=sample_rate)
    cut = _cut(model)
    totals, n_frames = torch.zeros((), dtype=torch.float64), 0
    for piece in cut.chunks(waveform.shape[-1], sample_rate=model.sample_rate):
        window = waveform[..., piece.first : piece.last]
        found = _activations(model, window, blocks=blocks, noise_level=noise_level, first_sample=piece.first)
        step = _samples_per_frame(found.shape[-1], n_samples=window.shape[-1], alignment=cut.alignment)
        stop = None if piece.stop == waveform.shape[-1] else piece.within.stop // step
        kept = found[..., piece.within.start // step : stop].double()  # (layers, width, frames)
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
    found = model.denoiser.activations(
        x0 + noise_level * noise(x0, 0),
        x0.new_full((1,), noise_level),
        _condition(model, window),
        layers=[*gates, outputs[0]],
    )
    # The convolution of a block that looks ahead less than back goes on behind the end.
    n_frames = found[outputs[0]].shape[-1]
    return torch.cat([found[gate][..., :n_frames] for gate in gates])


def _condition(model: Synthesizer, window: Waveform) -> Condition:
    """Return what the network is told: the recording, as far as it can hear one, and nothing else."""
    hears = model.needs_mel or isinstance(model.conditioner, DegradedConditioner)
    return model.conditioner(window) if hears else model.conditioner.null(1)


def _prepared(model: Synthesizer, audio: object, *, sample_rate: int) -> Waveform:
    """Bring audio to the model's rate, channels and level."""
    channels = audio[None] if isinstance(audio, Tensor) and audio.ndim == 1 else audio
    mono = checked_recording(channels, sample_rate=sample_rate).mean(dim=0)
    mono = resample(mono.to(model.device), from_rate=sample_rate, to_rate=model.sample_rate)
    # What is shorter than a frame has no spectrum.
    length = max(mono.shape[-1], math.ceil(_LEAST_SECONDS * model.sample_rate))
    if model.needs_mel and model.dialect is not None:
        # The mel that a vocoder is told has no frame for what is left over.
        length = -(-length // model.dialect.hop_length) * model.dialect.hop_length
    mono = F.pad(mono, (0, length - mono.shape[-1]))
    mono = mono * gain_to(model.conditioner.level, mono, sample_rate=model.sample_rate)
    n_channels = 1 if model.representation.makes_mel else model.representation.channels
    return mono.expand(1, n_channels, -1)


def _cut(model: Synthesizer) -> ChunkPlan:
    """Return how a recording may be cut: an activation depends on no more than an output does."""
    network, hop = model.denoiser.network, model.representation.hop_length
    window, mel_hop = (0, 1) if model.dialect is None else (model.dialect.n_fft, model.dialect.hop_length)
    before, after = (hop * side + window for side in network.receptive_field)
    return ChunkPlan(margin=ReceptiveField(before, after), alignment=math.lcm(hop * network.alignment, mel_hop))


def _samples_per_frame(n_frames: int, *, n_samples: int, alignment: int) -> int:
    """Return the divisor of the grain by which a layer's rate is lower than that of the samples."""
    divisors = [step for step in range(1, alignment + 1) if alignment % step == 0]
    return min(divisors, key=lambda step: abs(n_samples / n_frames - step))
