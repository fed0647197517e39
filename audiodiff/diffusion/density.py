"""The distribution of sigma in training."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from audiodiff.diffusion.process import DiscreteVP, Process
from audiodiff.errors import ParameterError
from audiodiff.types import Sigma

Draw = Callable[..., Tensor]
"""(n, *, generator) -> n numbers in (0, 1), float64."""


def independent(n: int, *, generator: Generator) -> Float[Tensor, "n"]:
    """Draw n independent uniform numbers."""
    return torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)


def stratified(n: int, *, generator: Generator) -> Float[Tensor, "n"]:
    """Draw one uniform number in each of n equal strata of (0, 1), in random order: each uniform, evenly spread."""
    offsets = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
    strata = torch.randperm(n, generator=generator, device=generator.device)
    return (strata + offsets) / n


class Density(ABC):
    """Draw noise levels for a batch of training examples."""

    @abstractmethod
    def __call__(self, n: int, *, generator: Generator) -> Sigma:
        """Draw n noise levels on the generator's device, computed in float64 and rounded to float32."""

    def weight(self, sigma: Sigma) -> Sigma:
        """Return what each loss counts by, so that its expectation is that of the density this one stands in for."""
        return torch.ones_like(sigma)

    def lesson(self, sigma: Sigma, losses: Float[Tensor, "batch"]) -> Float[Tensor, "batch"] | None:
        """Return a loss of the density's own parameters, which is added to each example's; None where it has none."""
        return None

    def observe(self, sigma: Sigma, losses: Float[Tensor, "batch"]) -> None:
        """Take note of the unweighted losses of a step, of all processes, in the order of their ranks."""
        return

    def state(self) -> dict[str, Tensor]:
        """Return what `observe` has learnt, for a resume."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take back what `state` returned."""
        return


@dataclass(frozen=True)
class UniformTime(Density):
    """Draw the process's clock uniformly.

    Args:
        process: maps the clock to sigma.
        t_min: where to begin, as a fraction of the process's clock; above 0, where sigma would be 0.
        t_max: where to end, likewise; below 1 where alpha_t would be 0 there.
        draw: how to draw uniform numbers: independent, or stratified within the batch.
    """

    process: Process
    t_min: float = 0.001
    t_max: float = 0.999
    draw: Draw = independent

    def __post_init__(self) -> None:
        if not 0.0 <= self.t_min < self.t_max <= 1.0:
            raise ParameterError(f"t_min={self.t_min} and t_max={self.t_max} must satisfy 0 <= t_min < t_max <= 1")

    def __call__(self, n: int, *, generator: Generator) -> Sigma:
        uniform = self.draw(n, generator=generator)
        return self.process.sigma(self.process.last * (self.t_min + (self.t_max - self.t_min) * uniform)).float()


@dataclass(frozen=True)
class DiscreteSteps(Density):
    """Draw one of the steps of a discrete process, all equally likely.

    Args:
        process: the table of steps.
        draw: how to draw uniform numbers: independent, or stratified within the batch.

    Source: Ho et al. 2020, algorithm 1.
    """

    process: DiscreteVP
    draw: Draw = independent

    def __call__(self, n: int, *, generator: Generator) -> Sigma:
        n_steps = len(self.process.betas)
        steps = torch.clamp(torch.floor(n_steps * self.draw(n, generator=generator)), max=n_steps - 1.0)
        return self.process.sigma(steps).float()


@dataclass(frozen=True)
class LogNormal(Density):
    """Draw log(sigma) from a normal distribution.

    Args:
        mean: mean of the natural log of sigma; -1.2 in EDM for signals of std 0.5, lower for quieter ones.
        std: standard deviation of the natural log of sigma.
        draw: how to draw uniform numbers: independent, or stratified within the batch.

    Source: Karras et al. 2022, table 1 (P_mean, P_std).
    """

    mean: float = -1.2
    std: float = 1.2
    draw: Draw = independent

    def __post_init__(self) -> None:
        if not self.std > 0.0:
            raise ParameterError(f"std={self.std} must be positive")

    def __call__(self, n: int, *, generator: Generator) -> Sigma:
        # erfinv is infinite at +-1: kept inside by one step of float64.
        centred = torch.clamp(2.0 * self.draw(n, generator=generator) - 1.0, -1.0 + 1e-15, 1.0 - 1e-15)
        return torch.exp(self.mean + self.std * math.sqrt(2.0) * torch.erfinv(centred)).float()
