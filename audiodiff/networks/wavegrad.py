"""WaveGrad: the noisy signal on the way down, the mel on the way up, and shifts and scales between them."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.errors import ParameterError
from audiodiff.networks.network import Network, frames_of
from audiodiff.types import ReceptiveField, Signal

_SLOPE = 0.2
"""Of the leaky rectifiers."""


class WaveGrad(Network):
    """Predict the noise from a noisy signal and a mel; the noise level is given by alpha_t, as in WaveGrad.

    Args:
        betas: table of the discrete process that the clock counts the steps of; alpha_t is interpolated between them.
        frame_bands: bands of the mel.
        factors: of the way up, from the frame rate to the sample rate; their product is the hop length.
        channels: after each stage of the way up.
        first_channels: before the way up.
        down_channels: after each stage of the way down, which takes the factors in the other order but the last.
        dilations: of the four convolutions of each stage of the way up.

    Source: Chen et al. 2021 (WaveGrad), section 3; widths and the position of the noise level as in its public
        implementation by LMNT.
    """

    alphas: Tensor

    def __init__(
        self,
        *,
        betas: Sequence[float],
        frame_bands: int = 128,
        factors: Sequence[int] = (5, 5, 3, 2, 2),
        channels: Sequence[int] = (512, 512, 256, 128, 128),
        first_channels: int = 768,
        down_channels: Sequence[int] = (32, 128, 128, 256, 512),
        dilations: Sequence[Sequence[int]] = ((1, 2, 1, 2), (1, 2, 1, 2), (1, 2, 4, 8), (1, 2, 4, 8), (1, 2, 4, 8)),
    ) -> None:
        super().__init__()
        if not len(factors) == len(channels) == len(down_channels) == len(dilations):
            raise ParameterError("factors, channels, down_channels and dilations must have an entry for each stage")
        self.frame_bands = frame_bands
        self.factors = tuple(factors)
        self.hop_length = math.prod(factors)
        self._dilations = [tuple(each) for each in dilations]
        alphas = torch.cumprod(1.0 - torch.tensor(betas, dtype=torch.float64), dim=0).sqrt().float()
        self.register_buffer("alphas", alphas, persistent=False)
        self.enter = nn.Conv1d(1, down_channels[0], 5, padding=2)
        self.down = nn.ModuleList(
            _Down(wide, wider, factor)
            for (wide, wider), factor in zip(pairwise(down_channels), self.factors[:0:-1], strict=True)
        )
        self.modulations = nn.ModuleList(
            _Modulation(own, other) for own, other in zip(down_channels, tuple(channels)[::-1], strict=True)
        )
        self.first = nn.Conv1d(frame_bands, first_channels, 3, padding=1)
        self.up = nn.ModuleList(
            _Up(wide, narrow, factor, each)
            for (wide, narrow), factor, each in zip(
                pairwise((first_channels, *channels)), factors, dilations, strict=True
            )
        )
        self.last = nn.Conv1d(channels[-1], 1, 3, padding=1)

    @property
    def receptive_field(self) -> ReceptiveField:
        # Of the way down, at each of its rates; its last stage and the way up then reach back from frames to samples.
        radius, rate, reach = 2, 1, []
        for factor in (1, *self.factors[:0:-1]):
            rate *= factor
            radius += 8 * rate if factor > 1 else 0  # dilations 1, 2 and 4, and the choice of a sample
            reach.append(radius + 2 * rate)
        up, rate = 1, self.hop_length
        up *= rate
        for factor, each in zip(self.factors, self._dilations, strict=True):
            rate //= factor
            up += (sum(each) + factor) * rate
        radius = up + 1 + max(reach)
        return ReceptiveField(radius, radius)

    @property
    def alignment(self) -> int:
        return self.hop_length

    def encode(self, condition: Condition) -> Condition:
        """Check the frames, and pass them through the first convolution."""
        return Condition(frames=self.first(frames_of(condition, n_bands=self.frame_bands)))

    def forward(self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition) -> Signal:
        """Predict the noise.

        Raises:
            ParameterError: if the frames end before x does.
        """
        frames = condition.frames
        n_frames = (x.shape[-1] + self.hop_length - 1) // self.hop_length
        if frames is None or frames.shape[-1] < n_frames:
            covered = 0 if frames is None else frames.shape[-1] * self.hop_length
            raise ParameterError(
                f"the condition covers {covered} samples and x has {x.shape[-1]}: give more frames or a shorter x"
            )
        alpha = self._alpha(c_noise)
        hidden = self.enter(F.pad(x, (0, n_frames * self.hop_length - x.shape[-1])))
        shifts = [self.modulations[0](hidden, alpha)]
        for stage, modulation in zip(self.down, self.modulations[1:], strict=True):
            hidden = stage(hidden)
            shifts.append(modulation(hidden, alpha))
        hidden = frames[..., :n_frames]
        for stage, (shift, scale) in zip(self.up, reversed(shifts), strict=True):
            hidden = stage(hidden, shift, scale)
        return self.last(hidden)[..., : x.shape[-1]]

    def _alpha(self, step: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        low = step.floor().clamp(0, len(self.alphas) - 2)
        below, above = self.alphas[low.long()], self.alphas[low.long() + 1]
        return below + (above - below) * (step - low)


class _Modulation(nn.Module):
    """Make a shift and a scale of the noisy signal's features and of the noise level."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.enter = nn.Conv1d(channels, channels, 3, padding=1)
        self.leave = nn.Conv1d(channels, 2 * out_channels, 3, padding=1)

    def forward(self, x: Tensor, alpha: Float[Tensor, "batch"]) -> tuple[Tensor, Tensor]:
        n = x.shape[1] // 2
        frequencies = torch.exp(torch.arange(n, dtype=alpha.dtype, device=alpha.device) * (-math.log(1e4) / n))
        arguments = alpha[:, None] * frequencies
        level = torch.cat([arguments.sin(), arguments.cos()], dim=-1)
        shift, scale = self.leave(F.leaky_relu(self.enter(x), _SLOPE) + level[..., None]).chunk(2, dim=1)
        return shift, scale


class _Down(nn.Module):
    """Take every sample of a factor, and pass it through three convolutions, beside one that skips them."""

    def __init__(self, channels: int, out_channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.skip = nn.Conv1d(channels, out_channels, 1)
        widths = (channels, out_channels, out_channels, out_channels)
        self.layers = nn.ModuleList(
            nn.Conv1d(wide, wider, 3, dilation=dilation, padding=dilation)
            for (wide, wider), dilation in zip(pairwise(widths), (1, 2, 4), strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., :: self.factor]
        hidden = x
        for layer in self.layers:
            hidden = layer(F.leaky_relu(hidden, _SLOPE))
        return hidden + self.skip(x)


class _Up(nn.Module):
    """Repeat each sample, and pass it through two pairs of modulated convolutions, beside one that skips the first."""

    def __init__(self, channels: int, out_channels: int, factor: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.factor = factor
        self.skip = nn.Conv1d(channels, out_channels, 1)
        widths = (channels, out_channels, out_channels, out_channels, out_channels)
        self.layers = nn.ModuleList(
            nn.Conv1d(wide, narrow, 3, dilation=dilation, padding=dilation)
            for (wide, narrow), dilation in zip(pairwise(widths), dilations, strict=True)
        )

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        x = x.repeat_interleave(self.factor, dim=-1)
        hidden = self.layers[0](F.leaky_relu(x, _SLOPE))
        x = self.skip(x) + self.layers[1](F.leaky_relu(shift + scale * hidden, _SLOPE))
        hidden = self.layers[2](F.leaky_relu(shift + scale * x, _SLOPE))
        return x + self.layers[3](F.leaky_relu(shift + scale * hidden, _SLOPE))
