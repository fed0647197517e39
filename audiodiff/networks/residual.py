"""The dilated gated residual stack of WaveNet and DiffWave, at any rate: of samples or frames."""

import math
from collections.abc import Iterable, Sequence
from itertools import repeat

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from audiodiff.errors import ParameterError
from audiodiff.types import ReceptiveField


def kaiming_conv1d(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    *,
    dilation: int = 1,
    look_ahead: int | None = None,
    reflect: bool = False,
) -> nn.Conv1d:
    """Make a convolution with He et al.'s normal initialisation, as in all of DiffWave.

    Its output is as long as its input, or longer if it looks ahead less than back: the end is then to be cut off.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: odd.
        dilation: between the taps.
        look_ahead: samples after it that an output depends on, at most as many as before it; None is that many.
        reflect: what lies outside the signal is its reflection; else zeros.
    """
    padding = dilation * (kernel_size // 2)
    if look_ahead is not None:
        padding = 2 * padding - look_ahead
    padding_mode = "reflect" if reflect else "zeros"
    conv = nn.Conv1d(
        in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, padding_mode=padding_mode
    )
    nn.init.kaiming_normal_(conv.weight)
    return conv


def shared_look_ahead(look_ahead: int | None, symmetric: Sequence[int]) -> list[int]:
    """Distribute a look-ahead among convolutions in a row: each takes as much as it looks back, until it is used up.

    Args:
        look_ahead: of all together; None is without limit.
        symmetric: look-ahead of each without limit.

    Example:
        >>> shared_look_ahead(6, [1, 2, 4, 8]), shared_look_ahead(0, [1, 2]), shared_look_ahead(None, [1, 2])
        ([1, 2, 3, 0], [0, 0], [1, 2])
    """
    if look_ahead is None:
        return list(symmetric)
    if look_ahead < 0:
        raise ParameterError(f"look_ahead={look_ahead} must not be negative; 0 is causal, null is symmetric")
    shares: list[int] = []
    for own in symmetric:
        shares.append(min(own, look_ahead - sum(shares)))
    return shares


class ResidualBlock(nn.Module):
    """Add a gated dilated convolution of x + step to x, and return a skip signal beside it.

    The step is added before the convolution, and to the residual path on request only. Conditions are added inside the
    gate.

    Args:
        channels: width of x and of the skip signal.
        kernel_size: odd.
        dilation: of the convolution, in samples.
        step_features: width of the encoded step.
        condition_channels: channels of the local condition; None without one.
        vector_features: width of the global condition; None without one.
        look_ahead: samples after it that an output depends on; None is as many as before it.
        reflect: the dilated convolution sees the reflected signal outside it; else zeros.
        step_in_residual: also add the step to the residual path.

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
        look_ahead: int | None = None,
        reflect: bool = False,
        step_in_residual: bool = False,
    ) -> None:
        super().__init__()
        self.step_in_residual = step_in_residual
        symmetric = dilation * (kernel_size // 2)
        after = symmetric if look_ahead is None else look_ahead
        self.receptive_field = ReceptiveField(before=2 * symmetric - after, after=after)
        self.dilated_conv = kaiming_conv1d(
            channels,
            2 * channels,
            kernel_size,
            dilation=dilation,
            look_ahead=look_ahead,
            reflect=reflect,
        )
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
        mask: Bool[Tensor, "batch 1 time"] | None = None,
    ) -> tuple[Float[Tensor, "batch channels time"], Float[Tensor, "batch channels time"]]:
        stepped = x + self.step_projection(step).unsqueeze(-1)
        if mask is not None:
            stepped = stepped * mask
        y = self.dilated_conv(stepped)[..., : x.shape[-1]]  # (batch, 2 * channels, time)
        if self.condition_projection is not None:
            y = y + self.condition_projection(local)
        if self.vector_projection is not None:
            y = y + self.vector_projection(vector).unsqueeze(-1)
        gate, content = y.chunk(2, dim=1)
        residual, skip = self.output_projection(torch.sigmoid(gate) * torch.tanh(content)).chunk(2, dim=1)
        return ((stepped if self.step_in_residual else x) + residual) / math.sqrt(2.0), skip


class ResidualStack(nn.Module):
    """Apply residual blocks whose dilation doubles within each cycle; return the sum of skips over sqrt(n_layers).

    Args:
        channels: width of the stack.
        n_layers: number of blocks.
        dilation_cycle: layer i has dilation 2^(i mod dilation_cycle).
        kernel_size: of the dilated convolutions, odd.
        step_features: width of the encoded step.
        condition_channels: channels of the local condition at the rate of x; None without one.
        vector_features: width of the global condition; None without one.
        look_ahead: samples after it that an output depends on at most, used up by the first blocks; None is as many as
            before it.
        reflect: the dilated convolutions see the reflected signal outside it; else zeros.
        step_in_residual: also add the step to the residual path.

    Example:
        >>> stack = ResidualStack(8, n_layers=4, dilation_cycle=2, step_features=16, condition_channels=3)
        >>> stack(torch.zeros(2, 8, 50), torch.zeros(2, 16), torch.zeros(2, 3, 50)).shape
        torch.Size([2, 8, 50])
        >>> stack.receptive_field
        ReceptiveField(before=6, after=6)
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
        look_ahead: int | None = None,
        reflect: bool = False,
        step_in_residual: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("channels", channels), ("n_layers", n_layers), ("dilation_cycle", dilation_cycle)):
            if value < 1:
                raise ParameterError(f"{name}={value} must be at least 1")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ParameterError(f"kernel_size={kernel_size} must be odd and positive")
        dilations = [2 ** (layer % dilation_cycle) for layer in range(n_layers)]
        self.condition_channels = condition_channels
        self.vector_features = vector_features
        ahead = shared_look_ahead(look_ahead, [dilation * (kernel_size // 2) for dilation in dilations])
        self.step_in_residual = step_in_residual
        self.reflected = max(dilations) * (kernel_size // 2) if reflect else 0
        self.blocks = nn.ModuleList(
            ResidualBlock(
                channels,
                kernel_size,
                dilation,
                step_features,
                condition_channels,
                vector_features,
                after,
                reflect,
                step_in_residual,
            )
            for dilation, after in zip(dilations, ahead, strict=True)
        )

    @property
    def layers(self) -> list[ResidualBlock]:
        """The blocks, from the first to the last."""
        return [block for block in self.blocks if isinstance(block, ResidualBlock)]

    @property
    def receptive_field(self) -> ReceptiveField:
        """Samples of the input that an output depends on before and after it."""
        before, after = zip(*(block.receptive_field for block in self.layers), strict=True)
        return ReceptiveField(sum(before), sum(after))

    def forward(
        self,
        hidden: Float[Tensor, "batch channels time"],
        step: Float[Tensor, "batch step_features"],
        local: Float[Tensor, "batch bands time"] | Iterable[Float[Tensor, "batch bands time"]] | None = None,
        vector: Float[Tensor, "batch features"] | None = None,
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch channels time"]:
        """Return the scaled sum of skips.

        Args:
            hidden: input of the first block.
            step: the encoded noise level.
            local: the local condition, or one for each block.
            vector: the global condition.
            mask: False where hidden is padding, which then acts as the end of the signal does; None without padding.

        Raises:
            ParameterError: if a condition of the stack is missing, or one is given that the stack does not have.
        """
        self.check(local, vector)
        total = torch.zeros_like(hidden)
        inside = None if mask is None else mask.unsqueeze(1)
        each = repeat(local) if local is None or isinstance(local, Tensor) else local
        for block, own in zip(self.blocks, each, strict=False):
            hidden, skip = block(hidden, step, own, vector, inside)
            total = total + skip
        return total / math.sqrt(len(self.blocks))

    def check(self, local: Tensor | Iterable[Tensor] | None, vector: Tensor | None) -> None:
        """Check that exactly the conditions of the stack are given."""
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
