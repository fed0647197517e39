"""Variance-exploding processes, which add noise to an unscaled signal."""

import math
from dataclasses import dataclass

import torch

from audiodiff.diffusion.process.base import Clock, Process
from audiodiff.errors import ParameterError


@dataclass(frozen=True)
class VE(Process):
    """Variance exploding: alpha_t = 1 and sigma_t = sigma_min * (sigma_max / sigma_min)^t.

    The network sees x / sqrt(1 + sigma^2), since x itself is as large as sigma.

    Args:
        sigma_min: noise std at t = 0.
        sigma_max: noise std at t = 1; above the largest distance between two signals.

    Example:
        >>> VE(sigma_min=0.01, sigma_max=100.0).sigma(torch.tensor([0.0, 0.5, 1.0]))
        tensor([1.0000e-02, 1.0000e+00, 1.0000e+02])

    Source: Song et al. 2021 (score SDE), eq. 31.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma_min < self.sigma_max:
            raise ParameterError(
                f"sigma_min={self.sigma_min} and sigma_max={self.sigma_max} must satisfy 0 < sigma_min < sigma_max"
            )

    @property
    def last(self) -> float:
        return 1.0

    @property
    def _log_ratio(self) -> float:
        return math.log(self.sigma_max / self.sigma_min)

    def coefficients(self, t: Clock) -> tuple[Clock, Clock]:
        return torch.ones_like(t), self.sigma_min * torch.exp(t * self._log_ratio)

    def rates(self, t: Clock) -> tuple[Clock, Clock]:
        alpha_t, sigma_t = self.coefficients(t)
        return torch.zeros_like(alpha_t), sigma_t * self._log_ratio

    def time(self, sigma: Clock) -> Clock:
        return torch.log(sigma / self.sigma_min) / self._log_ratio

    def alpha(self, sigma: Clock) -> Clock:
        return torch.ones_like(sigma)

    def input_scale(self, sigma: Clock) -> Clock:
        return torch.rsqrt(1.0 + sigma**2)


@dataclass(frozen=True)
class VELinear(Process):
    """Variance exploding with linear growth: alpha_t = 1 and sigma_t = sigma_max * t, EDM's process with t in [0, 1].

    The paths of x are straight where x0 is known, which suits large steps. Karras et al. draw sigma in training from a
    log-normal distribution and space the grid of sampling by their own rule (`density=log_normal`, `sampler=karras`):
    uniform steps of this clock would hardly reach small noise.

    Args:
        sigma_max: noise std at t = 1.

    Example:
        >>> VELinear(sigma_max=80.0).sigma(torch.tensor([0.0, 0.5]))
        tensor([ 0., 40.])

    Source: Karras et al. 2022, table 1, sigma(t) = t and s(t) = 1.
    """

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        if not self.sigma_max > 0.0:
            raise ParameterError(f"sigma_max={self.sigma_max} must be positive")

    @property
    def last(self) -> float:
        return 1.0

    def coefficients(self, t: Clock) -> tuple[Clock, Clock]:
        return torch.ones_like(t), self.sigma_max * t

    def rates(self, t: Clock) -> tuple[Clock, Clock]:
        return torch.zeros_like(t), torch.full_like(t, self.sigma_max)

    def time(self, sigma: Clock) -> Clock:
        return sigma / self.sigma_max

    def alpha(self, sigma: Clock) -> Clock:
        return torch.ones_like(sigma)

    def input_scale(self, sigma: Clock) -> Clock:
        return torch.rsqrt(1.0 + sigma**2)
