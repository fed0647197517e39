"""Embeddings of c_noise, the clock of the noise level."""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiodiff.errors import ParameterError


class Embedding(nn.Module, ABC):
    """Turn a clock value into `n_features` features."""

    n_features: int

    @abstractmethod
    def forward(self, c_noise: Float[Tensor, "batch"]) -> Float[Tensor, "batch features"]:
        """Embed one clock value per example."""


class StepTable(Embedding):
    """Embed a step t as sin and cos of t * 10^(4 k / 63), k = 0 to 63, from a table of the integer steps.

    A fractional t interpolates linearly between the rows of floor(t) and ceil(t). As the frequencies reach 10^4, sin of
    the fractional t itself would differ entirely. The table is float32, which rounds arguments of 10^5 to 0.01; trained
    weights depend on this rounding.

    Args:
        n_steps: number of steps of the discrete process, and of rows of the table.

    Example:
        >>> StepTable(50)(torch.tensor([0.0, 48.5])).shape
        torch.Size([2, 128])

    Source: Kong et al. 2021 (DiffWave), eq. 8; the interpolation is that of its public implementation by LMNT.
    """

    table: Tensor

    def __init__(self, n_steps: int) -> None:
        super().__init__()
        if n_steps < 1:
            raise ParameterError(f"n_steps={n_steps} must be at least 1")
        self.n_features = 128
        steps = torch.arange(n_steps).unsqueeze(1)
        arguments = steps * 10.0 ** (torch.arange(64).unsqueeze(0) * 4.0 / 63.0)
        self.register_buffer("table", torch.cat([arguments.sin(), arguments.cos()], dim=1), persistent=False)

    def forward(self, c_noise: Float[Tensor, "batch"]) -> Float[Tensor, "batch features"]:
        low = c_noise.floor()
        first, second = self.table[low.long()], self.table[c_noise.ceil().long()]
        return first + (second - first) * (c_noise - low).unsqueeze(1)


class StepSinusoid(Embedding):
    """Embed a step t as sin and cos of t * 10^(-4 k / (n - 1)), k = 0 to n - 1, of fractional steps as of whole ones.

    Args:
        n_features: number of features, even; half are sines.

    Example:
        >>> StepSinusoid()(torch.tensor([0.0, 48.5])).shape
        torch.Size([2, 128])

    Source: Vaswani et al. 2017, section 3.5; the sign of the exponent is that of the implementations of DiffWave by
        Kong et al. (philsyn), against eq. 8 of their paper.
    """

    def __init__(self, n_features: int = 128) -> None:
        super().__init__()
        if n_features < 4 or n_features % 2:
            raise ParameterError(f"n_features={n_features} must be even and at least 4")
        self.n_features = n_features

    def forward(self, c_noise: Float[Tensor, "batch"]) -> Float[Tensor, "batch features"]:
        n = self.n_features // 2
        places = torch.arange(n, device=c_noise.device, dtype=c_noise.dtype)
        arguments = c_noise.unsqueeze(1) * torch.exp(places * (-math.log(10000.0) / (n - 1)))
        return torch.cat([arguments.sin(), arguments.cos()], dim=1)


class Sinusoidal(Embedding):
    """Embed a continuous clock c as sin and cos of 2 pi f c, with f spaced geometrically from f_lowest to f_highest.

    Args:
        n_features: number of features, even; half are sines.
        f_lowest: lowest frequency in periods per unit of the clock; 0.25 distinguishes the ends of [0, 1], and covers
            log(sigma) / 4 from -2 to 2 in one period.
        f_highest: highest frequency likewise; clock values closer than 1 / (4 f_highest) are hardly distinguished.

    Example:
        >>> Sinusoidal()(torch.tensor([0.0, 0.5])).shape
        torch.Size([2, 128])
    """

    frequencies: Tensor

    def __init__(self, n_features: int = 128, f_lowest: float = 0.25, f_highest: float = 250.0) -> None:
        super().__init__()
        if n_features < 2 or n_features % 2:
            raise ParameterError(f"n_features={n_features} must be even and at least 2")
        if not 0.0 < f_lowest <= f_highest:
            raise ParameterError(
                f"f_lowest={f_lowest} and f_highest={f_highest} must satisfy 0 < f_lowest <= f_highest"
            )
        self.n_features = n_features
        exponents = torch.linspace(math.log(f_lowest), math.log(f_highest), n_features // 2, dtype=torch.float64)
        self.register_buffer("frequencies", exponents.exp().float(), persistent=False)

    def forward(self, c_noise: Float[Tensor, "batch"]) -> Float[Tensor, "batch features"]:
        arguments = 2.0 * math.pi * c_noise.unsqueeze(1) * self.frequencies
        return torch.cat([arguments.sin(), arguments.cos()], dim=1)


class StepEncoder(nn.Module):
    """Pass an embedding through two linear layers, each followed by silu.

    Args:
        embedding: of the clock.
        n_features: width of the result.

    Source: Kong et al. 2021 (DiffWave), section 3.2: 128 features, then 512 and 512.
    """

    def __init__(self, embedding: Embedding, n_features: int = 512) -> None:
        super().__init__()
        self.embedding = embedding
        self.projection1 = nn.Linear(embedding.n_features, n_features)
        self.projection2 = nn.Linear(n_features, n_features)

    def forward(self, c_noise: Float[Tensor, "batch"]) -> Float[Tensor, "batch features"]:
        return F.silu(self.projection2(F.silu(self.projection1(self.embedding(c_noise)))))
