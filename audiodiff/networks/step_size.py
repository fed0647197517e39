"""Step-size embedding: the length of a jump as features of a denoiser."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiodiff.networks.embedding import Sinusoidal
from audiodiff.types import Sigma


@runtime_checkable
class Clock(Protocol):
    """The interface of audiodiff.diffusion.process.Process, which this package may not import."""

    @property
    def last(self) -> float: ...

    def time(self, sigma: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]: ...


class StepSizeEmbedding(nn.Module):
    """Embed a jump from sigma to sigma_next by its length on the process's clock, through two layers.

    The last layer starts at zero, so that a network with these features starts as one without them.

    Args:
        process: its clock measures the length, from 0 (no jump) to 1 (the whole clock).
        n_features: width of the result, and network.vector_features.

    Example:
        >>> import torch
        >>> from audiodiff.diffusion.process import Flow
        >>> embed = StepSizeEmbedding(Flow(), n_features=8)
        >>> embed(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 0.0])).shape
        torch.Size([2, 8])

    Source: Frans et al. 2025 (shortcut models), section 3.
    """

    def __init__(self, process: Clock, *, n_features: int = 64) -> None:
        super().__init__()
        self.process = process
        self.n_features = n_features
        # A jump of 1 / 128 of the clock is an eighth of a period of the highest frequency.
        self.embedding = Sinusoidal(n_features, f_lowest=0.25, f_highest=16.0)
        self.projection1 = nn.Linear(n_features, n_features)
        self.projection2 = nn.Linear(n_features, n_features)
        nn.init.zeros_(self.projection2.weight)
        nn.init.zeros_(self.projection2.bias)

    def forward(self, sigma: Sigma, sigma_next: Sigma) -> Float[Tensor, "batch features"]:
        """Embed one jump per example; sigma_next may be 0, and equals sigma for a jump of length 0."""
        start, end = (self.process.time(level.double()) for level in (sigma, sigma_next))
        # A clock that is logarithmic in sigma does not include 0: its start stands for it.
        length = (start - end.clamp(min=0.0)) / self.process.last
        return self.projection2(F.silu(self.projection1(self.embedding(length.float()))))
