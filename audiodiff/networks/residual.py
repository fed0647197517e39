"""The dilated gated residual stack of WaveNet and DiffWave, which works at any rate: of samples, of frames."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.errors import ParameterError


def kaiming_conv1d(in_channels: int, out_channels: int, kernel_size: int = 1, *, dilation: int = 1) -> nn.Conv1d:
    """Make a convolution that keeps the length, with He et al.'s normal initialisation, as DiffWave has everywhere."""
    padding = dilation * (kernel_size // 2)
    conv = nn.Conv1d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation)
    nn.init.kaiming_normal_(conv.weight)
    return conv


class ResidualBlock(nn.Module):
    """Add to x what a gated dilated convolution of x + step makes of it, and hand out a skip signal.

    The step is added before the convolution and is not in the residual path; the conditions are added inside the gate.

    Args:
        channels: width of x and of the skip signal.
        kernel_size: odd.
        dilation: of the convolution, in samples.
        step_features: width of the encoded step.
        condition_channels: channels of the local condition; None if there is none.
        vector_features: width of the global condition; None if there is none.

    Source: Kong et al. 2021 (DiffWave), figure 2; van den Oord et al. 2016 (WaveNet), eq. 2 and section 2.5.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        dilation: int,
        step_features: int,
        condition_channels: int | None,
        vector_features: int | None,
    ) -> None:
        super().__init__()
        self.dilated_conv = kaiming_conv1d(channels, 2 * channels, kernel_size, dilation=dilation)
        self.step_projection = nn.Linear(step_features, channels)
        self.condition_projection = (
            None if condition_channels is None else kaiming_conv1d(condition_channels, 2 * channels)
        )
        self.vector_projection = None if vector_features is None else nn.Linear(vector_features, 2 * channels)
        self.output_projection = kaiming_conv1d(channels, 2 * channels)

    def forward(
        self,
        x: Float[Tensor, "batch channels time"],
        step: Float[Tensor, "batch step_features"],
        local: Float[Tensor, "batch bands time"] | None,
        vector: Float[Tensor, "batch features"] | None,
    ) -> tuple[Float[Tensor, "batch channels time"], Float[Tensor, "batch channels time"]]:
        y = self.dilated_conv(x + self.step_projection(step).unsqueeze(-1))  # (batch, 2 * channels, time)
        if self.condition_projection is not None:
            y = y + self.condition_projection(local)
        if self.vector_projection is not None:
            y = y + self.vector_projection(vector).unsqueeze(-1)
        gate, content = y.chunk(2, dim=1)
        residual, skip = self.output_projection(torch.sigmoid(gate) * torch.tanh(content)).chunk(2, dim=1)
        return (x + residual) / math.sqrt(2.0), skip


class ResidualStack(nn.Module):
    """Run residual blocks whose dilation doubles within each cycle; return the sum of skips over sqrt(n_layers).

    It works at any rate: samples of a waveform, frames of a spectrum.

    Args:
        channels: width of the stack.
        n_layers: number of blocks.
        dilation_cycle: layer i has dilation 2^(i mod dilation_cycle).
        kernel_size: of the dilated convolutions, odd.
        step_features: width of the encoded step.
        condition_channels: channels of the local condition at the rate of x; None if there is none.
        vector_features: width of the global condition; None if there is none.

    Example:
        >>> stack = ResidualStack(8, n_layers=4, dilation_cycle=2, step_features=16, condition_channels=3)
        >>> stack(torch.zeros(2, 8, 50), torch.zeros(2, 16), torch.zeros(2, 3, 50)).shape
        torch.Size([2, 8, 50])
        >>> stack.receptive_field
        13
    """

    def __init__(
        self,
        channels: int,
        *,
        n_layers: int,
        dilation_cycle: int,
        kernel_size: int = 3,
        step_features: int = 512,
        condition_channels: int | None = None,
        vector_features: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("n_layers", n_layers), ("dilation_cycle", dilation_cycle)):
            if value < 1:
                raise ParameterError(f"{name}={value} must be at least 1")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ParameterError(f"kernel_size={kernel_size} must be odd and positive")
        dilations = [2 ** (layer % dilation_cycle) for layer in range(n_layers)]
        self.receptive_field = 1 + (kernel_size - 1) * sum(dilations)
        self.condition_channels = condition_channels
        self.vector_features = vector_features
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, kernel_size, dilation, step_features, condition_channels, vector_features)
            for dilation in dilations
        )

    @property
    def layers(self) -> list[ResidualBlock]:
        """The blocks, from the first to the last."""
        return [block for block in self.blocks if isinstance(block, ResidualBlock)]

    def forward(
        self,
        hidden: Float[Tensor, "batch channels time"],
        step: Float[Tensor, "batch step_features"],
        local: Float[Tensor, "batch bands time"] | None = None,
        vector: Float[Tensor, "batch features"] | None = None,
    ) -> Float[Tensor, "batch channels time"]:
        """Return the scaled sum of skips.

        Raises:
            ParameterError: if a condition that the stack was built for is missing, or one that it was not is given.
        """
        self.check(local, vector)
        total = torch.zeros_like(hidden)
        for block in self.blocks:
            hidden, skip = block(hidden, step, local, vector)
            total = total + skip
        return total / math.sqrt(len(self.blocks))

    def check(self, local: Tensor | None, vector: Tensor | None) -> None:
        """Refuse a condition that is missing, or one that the stack was not built for."""
        if (local is None) != (self.condition_channels is None):
            raise ParameterError(
                f"a local condition was {'not ' if local is None else ''}given to a stack with "
                f"condition_channels={self.condition_channels}"
            )
        if (vector is None) != (self.vector_features is None):
            raise ParameterError(
                f"a vector was {'not ' if vector is None else ''}given to a stack with "
                f"vector_features={self.vector_features}"
            )
