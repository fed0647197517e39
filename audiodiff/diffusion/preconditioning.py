"""Preconditioning: the target of the network F, by D(x, sigma) = c_skip * x + c_out * F(c_in * x, c_noise).

With a = alpha_t, s = sigma_t and a dot for d/dt, x_t = a * x and sigma = s / a:

| network's target | c_skip | c_out |
|---|---|---|
| epsilon: eps | 1 | -sigma |
| sample: x0 | 0 | 1 |
| v: a eps - s x0 | a^2 / (a^2 + s^2) | -s / (a^2 + s^2) |
| velocity: a. x0 + s. eps | a s. / (a s. - s a.) | -s / (a s. - s a.) |
| EDM | sd^2 / (sigma^2 + sd^2) | sigma sd / sqrt(sigma^2 + sd^2) |

c_in is the process's input scale (a, if x_t is bounded) and c_noise the process's clock; EDM has
c_in = 1 / sqrt(sigma^2 + sd^2) and c_noise = log(sigma) / 4.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.process import Process
from audiodiff.errors import ParameterError
from audiodiff.types import Sigma


@dataclass(frozen=True)
class Scalings:
    """Hold the four coefficients of D(x, sigma) = c_skip * x + c_out * F(c_in * x, c_noise), one per example."""

    c_skip: Float[Tensor, "batch"]
    c_out: Float[Tensor, "batch"]
    c_in: Float[Tensor, "batch"]
    c_noise: Float[Tensor, "batch"]


class Preconditioning(ABC):
    """Turn a noise level into the scalings around a network."""

    @abstractmethod
    def __call__(self, sigma: Sigma) -> Scalings:
        """Compute the scalings in the dtype of sigma; use float64 for small sigma."""


@dataclass(frozen=True)
class Epsilon(Preconditioning):
    """Let the network predict the noise eps.

    Args:
        process: determines the input scale and the clock.

    Example:
        >>> from audiodiff.diffusion.process import Flow
        >>> Epsilon(Flow())(torch.tensor([1.0])).c_out
        tensor([-1.])

    Source: Ho et al. 2020, eq. 12.
    """

    process: Process

    def __call__(self, sigma: Sigma) -> Scalings:
        return Scalings(torch.ones_like(sigma), -sigma, self.process.input_scale(sigma), self.process.c_noise(sigma))


@dataclass(frozen=True)
class Sample(Preconditioning):
    """Let the network predict the clean signal x0.

    Args:
        process: determines the input scale and the clock.
        from_noise: the network's clock is 0 at noise and 1 at the signal, as in papers of flow matching.
    """

    process: Process
    from_noise: bool = False

    def __call__(self, sigma: Sigma) -> Scalings:
        ones = torch.ones_like(sigma)
        clock = self.process.alpha(sigma) if self.from_noise else self.process.c_noise(sigma)
        return Scalings(torch.zeros_like(sigma), ones, self.process.input_scale(sigma), clock)


@dataclass(frozen=True)
class V(Preconditioning):
    """Let the network predict v = alpha_t * eps - sigma_t * x0.

    Args:
        process: determines alpha_t, the input scale and the clock.

    Source: Salimans and Ho 2022, appendix D.
    """

    process: Process

    def __call__(self, sigma: Sigma) -> Scalings:
        # With s = a sigma, a^2 / (a^2 + s^2) = 1 / (1 + sigma^2).
        c_skip = 1.0 / (1.0 + sigma**2)
        c_out = -c_skip * sigma / self.process.alpha(sigma)
        return Scalings(c_skip, c_out, self.process.input_scale(sigma), self.process.c_noise(sigma))


@dataclass(frozen=True)
class Velocity(Preconditioning):
    """Let the network predict the velocity d x_t / dt = (d alpha_t / dt) * x0 + (d sigma_t / dt) * eps.

    Args:
        process: determines the rates of alpha_t and sigma_t, the input scale and the clock.

    Source: Lipman et al. 2023, eq. 9, with reversed time: t = 0 is clean.
    """

    process: Process

    def __call__(self, sigma: Sigma) -> Scalings:
        t = self.process.time(sigma)
        alpha_rate, sigma_rate = self.process.rates(t)
        # Both fractions are divided by a: s / a is sigma, which is exact.
        total = sigma_rate - sigma * alpha_rate
        c_noise = self.process.c_noise(sigma)
        return Scalings(sigma_rate / total, -sigma / total, self.process.input_scale(sigma), c_noise)


@dataclass(frozen=True)
class EDM(Preconditioning):
    """Keep the network's input and target at unit variance at every noise level, without a process.

    Args:
        sigma_data: std of the signals that are diffused; near 0.1 for speech.

    Example:
        >>> EDM(sigma_data=0.5)(torch.tensor([0.5])).c_skip
        tensor([0.5000])

    Source: Karras et al. 2022, table 1.
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        if not self.sigma_data > 0.0:
            raise ParameterError(f"sigma_data={self.sigma_data} must be positive")

    def __call__(self, sigma: Sigma) -> Scalings:
        power = sigma**2 + self.sigma_data**2
        return Scalings(
            c_skip=self.sigma_data**2 / power,
            c_out=sigma * self.sigma_data * torch.rsqrt(power),
            c_in=torch.rsqrt(power),
            c_noise=0.25 * torch.log(sigma),
        )
