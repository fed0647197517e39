"""WaveFM: residual blocks on the way down from the noisy signal, and on the way up from the mel."""

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


class WaveFm(Network):
    """Predict x0, bounded by tanh, from a noisy signal and a mel. The clock is 0 at noise and 1 at the signal.

    Args:
        frame_bands: bands of the mel.
        channels: widths, from that at the frame rate to that at the rate of the signal.
        rates: factors between them; their product is the hop length.
        up_kernels, up_dilations: of the residual blocks on the way up; a kernel has a block for each dilation.
        down_kernels, down_dilations: the same on the way down.
        step_features: width of the embedded clock.

    Source: Luo et al. 2025 (WaveFM).
    """

    def __init__(
        self,
        *,
        frame_bands: int = 100,
        channels: Sequence[int] = (512, 256, 128, 64, 32),
        rates: Sequence[int] = (8, 8, 2, 2),
        up_kernels: Sequence[int] = (3, 7, 11),
        up_dilations: Sequence[int] = (1, 3, 5),
        down_kernels: Sequence[int] = (3,),
        down_dilations: Sequence[int] = (1, 1, 1, 1),
        step_features: int = 512,
    ) -> None:
        super().__init__()
        if len(channels) != len(rates) + 1:
            raise ParameterError(f"channels has {len(channels)} values and must have one more than rates, {len(rates)}")
        self.frame_bands = frame_bands
        self.factors = tuple(rates)
        self.hop_length = math.prod(rates)
        self.step = nn.Sequential(
            nn.Linear(128, step_features), nn.SiLU(), nn.Linear(step_features, step_features), nn.SiLU()
        )
        self.up_first = nn.Conv1d(frame_bands, channels[0], 7, padding=3)
        self.down_first = nn.Conv1d(1, channels[-1], 7, padding=3)
        pairs = list(zip(channels[:-1], channels[1:], rates, strict=True))  # widths before and after, and the factor
        self.ups = nn.ModuleList(nn.ConvTranspose1d(a, b, 2 * r, r, r // 2) for a, b, r in pairs)
        self.downs = nn.ModuleList(nn.Conv1d(b, a, 2 * r + 1, r, r) for a, b, r in pairs)
        self.up_blocks = nn.ModuleList(_Blocks(b, up_kernels, up_dilations) for _, b, _ in pairs)
        self.down_blocks = nn.ModuleList(_Blocks(b, down_kernels, down_dilations) for _, b, _ in pairs)
        self.down_steps = nn.ModuleList(nn.Linear(step_features, b) for _, b, _ in pairs)
        self.last_activation = _Snake(channels[-1])
        self.last = nn.Conv1d(channels[-1], 1, 7, padding=3)

    @property
    def receptive_field(self) -> ReceptiveField:
        radius, scale = 3 + 3, 1
        for rate, up, down in list(zip(self.factors, self.up_blocks, self.down_blocks, strict=True))[::-1]:
            assert isinstance(up, _Blocks)
            assert isinstance(down, _Blocks)
            radius += scale * (up.radius + down.radius + rate)
            scale *= rate
            radius += scale
        radius += 4 * scale
        return ReceptiveField(radius, radius)

    @property
    def alignment(self) -> int:
        return self.hop_length

    def encode(self, condition: Condition) -> Condition:
        """Compute the first features of the mel."""
        return Condition(frames=self.up_first(frames_of(condition, n_bands=self.frame_bands)))

    def forward(self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition) -> Signal:
        """Predict x0.

        Raises:
            ParameterError: if the mel ends before x does.
        """
        n_samples = x.shape[-1]
        n_frames = -(-n_samples // self.hop_length)
        frames = condition.frames
        if frames is None or frames.shape[-1] < n_frames:
            raise ParameterError(f"the mel must cover the {n_samples} samples of x: give more frames")
        angles = 100.0 * c_noise[:, None] * 10.0 ** (torch.arange(64, device=x.device) * 4.0 / 63.0)
        step = self.step(torch.cat([angles.sin(), angles.cos()], dim=1))
        y = self.down_first(F.pad(x, (0, n_frames * self.hop_length - n_samples)))
        skips = [y]
        for blocks, down, project in list(zip(self.down_blocks, self.downs, self.down_steps, strict=True))[::-1]:
            y = down(blocks(y + project(step)[..., None]))
            skips.append(y)
        y = frames[..., :n_frames] + skips.pop()
        for blocks, up in zip(self.up_blocks, self.ups, strict=True):
            y = blocks(up(y) + skips.pop())
        return torch.tanh(self.last(self.last_activation(y)))[..., :n_samples]


class _Blocks(nn.Module):
    """Mean over kernels of residual blocks in a row, one for each dilation."""

    def __init__(self, channels: int, kernels: Sequence[int], dilations: Sequence[int]) -> None:
        super().__init__()
        self.n_in_a_row = len(dilations)
        self.blocks = nn.ModuleList(_Block(channels, kernel, d) for kernel in kernels for d in dilations)
        self.radius = max((kernel // 2) * (sum(dilations) + len(dilations)) for kernel in kernels)

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        total, n = torch.zeros_like(x), self.n_in_a_row
        for first in range(0, len(self.blocks), n):
            y = x
            for block in list(self.blocks)[first : first + n]:
                y = block(y)
            total = total + y
        return total / (len(self.blocks) // n)


class _Block(nn.Module):
    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.act1 = _Snake(channels)
        self.conv1 = nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel // 2))
        self.act2 = _Snake(channels)
        self.conv2 = nn.Conv1d(channels, channels, kernel, padding=kernel // 2)

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        return x + self.conv2(self.act2(self.conv1(self.act1(x))))


class _Snake(nn.Module):
    """Return x + sin(exp(alpha) x)^2 / exp(beta)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1, channels, 1))
        self.beta = nn.Parameter(torch.zeros(1, channels, 1))

    def forward(self, x: Float[Tensor, "batch channels time"]) -> Float[Tensor, "batch channels time"]:
        return x + torch.sin(self.alpha.exp() * x).square() / (self.beta.exp() + 1e-8)
