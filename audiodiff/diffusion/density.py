"""Fixed distributions of sigma in training; `adaptive_density` has those that follow the losses."""

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
    """Draw one uniform number in each of n equal strata of (0, 1), in random order.

    Several processes or accumulated batches of one step draw independently of each other.

    Source: Kingma et al. 2021 (VDM), appendix I, whose numbers are (u + i / n) mod 1 with one u for all.
    """
    offsets = torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)
    strata = torch.randperm(n, generator=generator, device=generator.device)
    return (strata + offsets) / n


class SigmaDistribution(ABC):
    """A distribution of the noise levels of training examples."""

    @abstractmethod
    def __call__(self, n: int, *, generator: Generator) -> Sigma:
        """Draw n noise levels on the generator's device, computed in float64 and rounded to float32."""

    def weight(self, sigma: Sigma) -> Sigma:
        """Return the factor of each loss that corrects its expectation, where sigma is drawn by importance."""
        return torch.ones_like(sigma)

    def schedule_loss(self, sigma: Sigma, losses: Float[Tensor, "batch"]) -> Float[Tensor, "batch"] | None:
        """Return the loss of a learnt noise schedule, which is added to each example's; None without one."""
        return None

    def update(self, sigma: Sigma, losses: Float[Tensor, "batch"]) -> None:
        """Adapt to the unweighted losses of a step, of all processes, in the order of their ranks."""
        return

    def state(self) -> dict[str, Tensor]:
        """Return what `update` has collected, for a resume."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        return


class InvertibleDistribution(SigmaDistribution):
    """A distribution with a known inverse cdf, which turns uniform numbers in (0, 1) into noise levels."""

    draw: Draw

    @abstractmethod
    def icdf(self, uniform: Float[Tensor, "n"]) -> Sigma:
        """Compute sigma from its cumulative probability, in float64."""

    @abstractmethod
    def cdf(self, sigma: Sigma) -> Float[Tensor, "n"]:
        """Compute the cumulative probability of sigma, in float64."""

    def __call__(self, n: int, *, generator: Generator) -> Sigma:
        return self.icdf(self.draw(n, generator=generator)).float()


def _normal(uniform: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    # Infinite at 0 and 1, hence the clamp.
    return math.sqrt(2.0) * torch.erfinv(torch.clamp(2.0 * uniform - 1.0, -1.0 + 1e-15, 1.0 - 1e-15))


@dataclass(frozen=True)
class UniformTime(InvertibleDistribution):
    """Draw the process's clock uniformly.

    Args:
        process: maps the clock to sigma.
        t_min: least clock, as a fraction of the process's range; above 0, since sigma would be 0.
        t_max: greatest clock, likewise; below 1 where alpha_t would be 0.
        last_share: share of the draws that are t_max itself, nearly pure noise: for models that sample in one step or
            few, of which the first matters most.
        draw: how to draw uniform numbers: independent, or stratified within the batch.
    """

    process: Process
    t_min: float = 0.001
    t_max: float = 0.999
    last_share: float = 0.0
    draw: Draw = independent

    def __post_init__(self) -> None:
        if not 0.0 <= self.t_min < self.t_max <= 1.0:
            raise ParameterError(f"t_min={self.t_min} and t_max={self.t_max} must satisfy 0 <= t_min < t_max <= 1")
        if not 0.0 <= self.last_share < 1.0:
            raise ParameterError(f"last_share={self.last_share} must lie in [0, 1)")

    def icdf(self, uniform: Float[Tensor, "n"]) -> Sigma:
        place = torch.clamp(uniform / (1.0 - self.last_share), max=1.0)
        return self.process.sigma(self.process.last * (self.t_min + (self.t_max - self.t_min) * place))

    def cdf(self, sigma: Sigma) -> Float[Tensor, "n"]:
        fraction = self.process.time(sigma.double()) / self.process.last
        place = torch.clamp((fraction - self.t_min) / (self.t_max - self.t_min), 0.0, 1.0)
        # t_max has probability last_share: the middle of its jump.
        return torch.where(place < 1.0 - 1e-9, (1.0 - self.last_share) * place, 1.0 - self.last_share / 2.0)


@dataclass(frozen=True)
class DiscreteSteps(InvertibleDistribution):
    """Draw one of the steps of a discrete process, all equally likely.

    Args:
        process: the table of steps.
        draw: how to draw uniform numbers: independent, or stratified within the batch.

    Source: Ho et al. 2020, algorithm 1.
    """

    process: DiscreteVP
    draw: Draw = independent

    def icdf(self, uniform: Float[Tensor, "n"]) -> Sigma:
        n_steps = len(self.process.betas)
        return self.process.sigma(torch.clamp(torch.floor(n_steps * uniform), max=n_steps - 1.0))

    def cdf(self, sigma: Sigma) -> Float[Tensor, "n"]:
        # Each step is a jump of the cdf: its middle.
        return (self.process.time(sigma.double()).round() + 0.5) / len(self.process.betas)


@dataclass(frozen=True)
class LogNormal(InvertibleDistribution):
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
        _check_std(self.std)

    def icdf(self, uniform: Float[Tensor, "n"]) -> Sigma:
        return torch.exp(self.mean + self.std * _normal(uniform))

    def cdf(self, sigma: Sigma) -> Float[Tensor, "n"]:
        return torch.special.ndtr((torch.log(sigma.double()) - self.mean) / self.std)


@dataclass(frozen=True)
class LogitNormal(InvertibleDistribution):
    """Draw log(t / (1 - t)) of the process's clock t from a normal distribution, which prefers the middle of the clock.

    Args:
        process: maps the clock to sigma.
        mean: of log(t / (1 - t)); above 0 draws more noise.
        std: standard deviation of log(t / (1 - t)).
        draw: how to draw uniform numbers: independent, or stratified within the batch.

    Source: Esser et al. 2024 (Stable Diffusion 3), eq. 19, "rf/lognorm(0.00, 1.00)".
    """

    process: Process
    mean: float = 0.0
    std: float = 1.0
    draw: Draw = independent

    def __post_init__(self) -> None:
        _check_std(self.std)

    def icdf(self, uniform: Float[Tensor, "n"]) -> Sigma:
        return self.process.sigma(self.process.last * torch.sigmoid(self.mean + self.std * _normal(uniform)))

    def cdf(self, sigma: Sigma) -> Float[Tensor, "n"]:
        fraction = self.process.time(sigma.double()) / self.process.last
        return torch.special.ndtr((torch.logit(fraction) - self.mean) / self.std)


@dataclass(frozen=True)
class LogUniform(InvertibleDistribution):
    """Draw log(sigma), and so the log-SNR, uniformly.

    Args:
        sigma_min: the least noise.
        sigma_max: the greatest; both within the range of the process (`audiodiff.diffusion.process.sigma_range`).
        draw: how to draw uniform numbers: independent, or stratified within the batch.

    Example:
        >>> density = LogUniform(sigma_min=0.01, sigma_max=1.0)
        >>> density.icdf(torch.tensor([0.5], dtype=torch.float64))
        tensor([0.1000], dtype=torch.float64)
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    draw: Draw = independent

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma_min < self.sigma_max:
            raise ParameterError(
                f"sigma_min={self.sigma_min} and sigma_max={self.sigma_max} must satisfy 0 < sigma_min < sigma_max"
            )

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def icdf(self, uniform: Float[Tensor, "n"]) -> Sigma:
        return self.sigma_min * torch.exp(self._log_ratio * uniform)

    def cdf(self, sigma: Sigma) -> Float[Tensor, "n"]:
        return torch.clamp(torch.log(sigma.double() / self.sigma_min) / self._log_ratio, 0.0, 1.0)


def _check_std(std: float) -> None:
    if not std > 0.0:
        raise ParameterError(f"std={std} must be positive")
