"""Flow2GAN: ConvNeXt blocks between STFTs of several sizes and their inverses, averaged."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.errors import ParameterError
from audiodiff.networks.network import Network, frames_of
from audiodiff.types import ReceptiveField, Signal

_KERNEL = 7
"""Frames of the convolutions over time."""


class Flow2Gan(Network):
    """Predict x0 from a noisy signal and a mel: the mean of branches, each with an STFT of its own.

    The clock is 0 at noise and 1 at the signal.

    Args:
        frame_bands: bands of the mel.
        hop_length: samples per frame of the mel.
        n_ffts: of the branches.
        hop_lengths: of their STFTs, divisors of hop_length.
        channels: widths of the branches.
        n_layers: blocks of each branch.
        condition_channels: width of the encoder of the mel.
        condition_layers: blocks of the encoder.
        step_features: width of the embedded clock.
        hidden_factor: width inside a block, as a multiple of its width.

    Source: Yao et al. 2025 (Flow2GAN); Yao et al. 2024 (Zipformer) for BiasNorm.
    """

    def __init__(
        self,
        *,
        frame_bands: int = 100,
        hop_length: int = 256,
        n_ffts: Sequence[int] = (512, 256, 128),
        hop_lengths: Sequence[int] = (256, 128, 64),
        channels: Sequence[int] = (768, 512, 384),
        n_layers: Sequence[int] = (8, 8, 8),
        condition_channels: int = 512,
        condition_layers: int = 4,
        step_features: int = 512,
        hidden_factor: int = 3,
    ) -> None:
        super().__init__()
        if not len(n_ffts) == len(hop_lengths) == len(channels) == len(n_layers):
            raise ParameterError("n_ffts, hop_lengths, channels and n_layers must have a value for each branch")
        for hop in hop_lengths:
            if hop_length % hop:
                raise ParameterError(f"hop_lengths has {hop}, which must divide hop_length={hop_length}")
        self.frame_bands = frame_bands
        self.hop_length = hop_length
        self.encoder = _Encoder(frame_bands, condition_channels, condition_layers, hidden_factor)
        self.branches = nn.ModuleList(
            _Branch(n_fft, hop, width, depth, condition_channels, step_features, hidden_factor)
            for n_fft, hop, width, depth in zip(n_ffts, hop_lengths, channels, n_layers, strict=True)
        )

    @property
    def receptive_field(self) -> ReceptiveField:
        mel = (1 + len(self.encoder.blocks) * (_KERNEL // 2) + 1) * self.hop_length
        own = max(len(each.blocks) * (_KERNEL // 2) * each.hop_length + 2 * each.n_fft for each in self._branches)
        return ReceptiveField(mel + own, mel + own)

    @property
    def _branches(self) -> list["_Branch"]:
        return [branch for branch in self.branches if isinstance(branch, _Branch)]

    @property
    def alignment(self) -> int:
        return self.hop_length

    def encode(self, condition: Condition) -> Condition:
        """Encode the mel for every branch; frames of the result are those of all branches, one after the other.

        One more frame, of zeros, stands for what lies beyond the mel.
        """
        encoded = F.pad(self.encoder(frames_of(condition, n_bands=self.frame_bands)), (0, 1))
        return Condition(frames=torch.cat([branch.condition(encoded) for branch in self._branches], dim=1))

    def forward(self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition) -> Signal:
        """Predict x0.

        Raises:
            ParameterError: if x is too short to be reflected, or the mel ends before it does.
        """
        frames, n_samples = condition.frames, x.shape[-1]
        longest = max(branch.n_fft for branch in self._branches) // 2
        if n_samples <= longest:
            raise ParameterError(
                f"x has {n_samples} samples: this network reflects {longest} at each end, so give more"
            )
        if frames is None or (frames.shape[-1] - 1) * self.hop_length < n_samples:
            raise ParameterError(f"the mel must cover the {n_samples} samples of x: give more frames")
        parts = frames.chunk(len(self.branches), dim=1)
        found = [
            branch(x[:, 0], c_noise, part.repeat_interleave(self.hop_length // branch.hop_length, dim=-1))
            for branch, part in zip(self._branches, parts, strict=True)
        ]
        return torch.stack(found).mean(dim=0)[:, None]


class _Branch(nn.Module):
    """ConvNeXt blocks on the real and imaginary parts of an STFT."""

    window: Tensor

    def __init__(
        self, n_fft: int, hop: int, channels: int, n_layers: int, condition: int, step_features: int, factor: int
    ) -> None:
        super().__init__()
        self.n_fft, self.hop_length, self.step_features = n_fft, hop, step_features
        self.first = nn.Conv1d(n_fft + 2, channels, 1)
        self.first_norm = _BiasNorm(channels)
        self.step = nn.Sequential(
            nn.Linear(step_features, factor * step_features),
            nn.SiLU(),
            nn.Linear(factor * step_features, step_features),
        )
        self.condition = nn.Sequential(
            nn.Conv1d(condition, factor * condition, 1),
            nn.PReLU(factor * condition),
            nn.Conv1d(factor * condition, condition, 1),
        )
        self.blocks = nn.ModuleList(
            _Block(channels, factor, condition=condition, step_features=step_features) for _ in range(n_layers)
        )
        self.last = nn.Conv1d(channels, n_fft + 2, 1)
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(
        self, x: Float[Tensor, "batch time"], t: Float[Tensor, "batch"], condition: Float[Tensor, "batch channels _"]
    ) -> Float[Tensor, "batch time"]:
        options = {"n_fft": self.n_fft, "hop_length": self.hop_length, "window": self.window}
        spectrum = torch.stft(x, **options, center=True, pad_mode="reflect", return_complex=True)
        n_frames = spectrum.shape[-1]
        condition = condition[..., :n_frames]
        half = self.step_features // 2
        rates = torch.exp(torch.arange(half, device=x.device) * (-math.log(10000.0) / (half - 1)))
        angles = 1000.0 * t[:, None] * rates
        step = self.step(torch.cat([angles.sin(), angles.cos()], dim=-1))
        y = self.first_norm(self.first(torch.cat([spectrum.real, spectrum.imag], dim=1)))
        for block in self.blocks:
            y = block(y, condition, step)
        made = torch.istft(torch.complex(*self.last(y).chunk(2, dim=1)), **options, center=True)
        return F.pad(made, (0, max(0, x.shape[-1] - made.shape[-1])))[..., : x.shape[-1]]


class _Encoder(nn.Module):
    """ConvNeXt blocks on the frames of a mel."""

    def __init__(self, bands: int, channels: int, n_layers: int, factor: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(bands, channels, 3, padding=1)
        self.first_norm = _BiasNorm(channels)
        self.blocks = nn.ModuleList(_Block(channels, factor) for _ in range(n_layers))

    def forward(self, mel: Float[Tensor, "batch bands frames"]) -> Float[Tensor, "batch channels frames"]:
        x = self.first_norm(self.first(mel))
        for block in self.blocks:
            x = block(x)
        return x


class _Block(nn.Module):
    """Add to scaled features a convolution over time and two layers with a PReLU between them, conditioned."""

    def __init__(
        self, channels: int, factor: int, *, condition: int | None = None, step_features: int | None = None
    ) -> None:
        super().__init__()
        self.over_time = nn.Conv1d(channels, channels, _KERNEL, padding=_KERNEL // 2, groups=channels)
        self.norm = _BiasNorm(channels)
        self.condition = None if condition is None else nn.Conv1d(condition, channels, 1)
        self.step = None if step_features is None else nn.Linear(step_features, channels)
        self.expand = nn.Conv1d(channels, factor * channels, 1)
        self.activation = nn.PReLU(factor * channels)
        self.shrink = nn.Conv1d(factor * channels, channels, 1)
        self.residual_scale = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor, condition: Tensor | None = None, step: Tensor | None = None) -> Tensor:
        y = self.norm(self.over_time(x))
        if self.condition is not None:
            y = y + self.condition(condition)
        if self.step is not None:
            y = y * (1.0 + self.step(step)[..., None])
        return self.shrink(self.activation(self.expand(y))) + self.residual_scale * x


class _BiasNorm(nn.Module):
    """Return x exp(log_scale) / sqrt(mean((x - bias)^2)), the mean over the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        level = (x - self.bias[:, None]).square().mean(dim=1, keepdim=True).sqrt()
        return x * (self.log_scale.exp() / level)
