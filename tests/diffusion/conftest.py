"""Data that several tests of diffusion have in common."""

import pytest
import torch
from analytic import Gaussian


@pytest.fixture
def data() -> Gaussian:
    """Return the law of one channel of 32 samples, each with its own mean and variance."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(1, 32, generator=generator, dtype=torch.float64)
    return Gaussian(mean, 0.1 + torch.rand(1, 32, generator=generator, dtype=torch.float64))
