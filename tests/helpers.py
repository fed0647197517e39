"""Small functions that tests of several packages have in common."""

import torch
from torch import Tensor


def white(step: int, shape: tuple[int, ...] = (1, 1, 32)) -> Tensor:
    """Draw white noise, another one for each step."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1000 + step), dtype=torch.float64)


def noise(like: Tensor, step: int) -> Tensor:
    """Draw white noise like a signal: the noise of a solver."""
    return white(step, tuple(like.shape)).to(like)
