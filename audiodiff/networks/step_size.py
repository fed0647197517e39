"""The encoder of how far a denoiser is to jump."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from audiodiff.networks.embedding import Sinusoidal
from audiodiff.types import Sigma


@runtime_checkable
class Clock(Protocol):
    """What the encoder asks of a process: audiodiff.diffusion.Process, which a sibling package may not import."""

    @property
    def last(self) -> float: ...

    def time(self, sigma: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]: ...


class StepSizeEmbedding(nn.Module):
    """Turn a jump from sigma to sigma_next into features: its length on the process's clock, through two layers.

    The last layer begins at zero, so that a network which is given these features begins as one without them.

    Args:
        process: whose clock measures the length, from 0 (no jump) to 1 (the whole clock).
        n_features: width of the result, and network.vector_features.

    Example:
        >>> import torch
        >>> from audiodiff.diffusion.process import Flow
        >>> encode = HorizonEncoder(Flow(), n_features=8)
        >>> encode(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 0.0])).shape
        torch.Size([2, 8])

    Source: Frans et al. 2025 (shortcut models), section 3, where the step size d is embedded as the time is.
    """

    def __init__(self, process: Clock, *, n_features: int = 64) -> None:
        super().__init__()
        self.process = process
        self.n_features = n_features
        # A jump of 1 / 128 of the clock differs from none by an eighth of a period.
        self.embedding = Sinusoidal(n_features, f_lowest=0.25, f_highest=16.0)
        self.projection1 = nn.Linear(n_features, n_features)
        self.projection2 = nn.Linear(n_features, n_features)
        nn.init.zeros_(self.projection2.weight)
        nn.init.zeros_(self.projection2.bias)

    def forward(self, sigma: Sigma, sigma_next: Sigma) -> Float[Tensor, "batch features"]:
        """Encode one jump per example; sigma_next may be 0, and equals sigma for a jump of no length."""
        start, end = (self.process.time(level.double()) for level in (sigma, sigma_next))
        # A clock that is logarithmic in sigma has no place for 0: its own beginning stands for that.
        length = (start - end.clamp(min=0.0)) / self.process.last
        return self.projection2(F.silu(self.projection1(self.embedding(length.float()))))
