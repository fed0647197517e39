"""Upsampling of features from the frame rate to the sample rate."""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiodiff.errors import ParameterError


def upsample_factors(hop_length: int) -> tuple[int, ...]:
    """Split a hop into the two factors nearest to its root, the smaller first; of a prime, return the prime alone.

    Example:
        >>> upsample_factors(256), upsample_factors(300), upsample_factors(257), upsample_factors(1)
        ((16, 16), (15, 20), (257,), ())
    """
    if hop_length < 1:
        raise ParameterError(f"hop_length={hop_length} must be positive")
    small = next(factor for factor in range(math.isqrt(hop_length), 0, -1) if hop_length % factor == 0)
    return tuple(factor for factor in (small, hop_length // small) if factor > 1)


class Upsampler(nn.Module):
    """Upsample frames by hop_length in stages, each a transposed convolution over (bands, time) and a leaky relu.

    A stage of factor f has a kernel of 3 bands by 2 f samples (2 f + 1 for odd f), and f output samples for each input
    sample. With hop_length = 256 this is DiffWave's: 16 * 16, kernels of 3 by 32, slope 0.4.

    Args:
        hop_length: samples per frame.
        factors: of the stages; None derives them from hop_length.
        negative_slope: of the leaky relu.

    Example:
        >>> import torch
        >>> Upsampler(300)(torch.zeros(1, 80, 4)).shape
        torch.Size([1, 80, 1200])

    Source: Kong et al. 2021 (DiffWave), appendix C.
    """

    def __init__(self, hop_length: int, factors: Sequence[int] | None = None, negative_slope: float = 0.4) -> None:
        super().__init__()
        factors = upsample_factors(hop_length) if factors is None else tuple(factors)
        if math.prod(factors) != hop_length or any(factor < 1 for factor in factors):
            product = " * ".join(str(factor) for factor in factors)
            raise ParameterError(
                f"upsample factors {product} = {math.prod(factors)} must multiply to hop_length={hop_length}"
            )
        self.hop_length = hop_length
        self.factors = factors
        self.negative_slope = negative_slope
        self.stages = nn.ModuleList()
        for factor in factors:
            padding = (factor + 1) // 2
            kernel = (3, factor + 2 * padding)
            self.stages.append(nn.ConvTranspose2d(1, 1, kernel, stride=(1, factor), padding=(1, padding)))

    @property
    def receptive_field(self) -> int:
        """Samples to either side whose frames a sample depends on: half a frame of the input of every stage."""
        rates = [self.hop_length // math.prod(self.factors[: index + 1]) for index in range(len(self.factors))]
        return sum((factor + 1) // 2 * rate for factor, rate in zip(self.factors, rates, strict=True))

    def forward(self, frames: Float[Tensor, "batch bands frames"]) -> Float[Tensor, "batch bands time"]:
        image = frames.unsqueeze(1)  # (batch, 1, bands, frames)
        for stage in self.stages:
            image = F.leaky_relu(stage(image), self.negative_slope)
        return image.squeeze(1)
