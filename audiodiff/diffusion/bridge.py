"""Bridges: processes between clean and noisy speech, x_t = w_x x0 + w_y y + s eps, as coordinates of one denoiser.

Given y, D(x, sigma | y) denoises x = (x_t - w_y y) / w_x = x0 + (s / w_x) eps, with sigma = s / w_x. So one conditional
denoiser of clean speech given noisy speech serves all of these processes; they differ by the noise levels that their
samplers visit, and by their start.

| process | w_x | s | its sampler starts at |
|---|---|---|---|
| SGMSE+, `OrnsteinUhlenbeck` | exp(-gamma t) | eq. 6 there | y + s eps, t = 1 |
| FlowSE, `NoisyFlow` | 1 - t | noise_scale t | y + s eps, t = 1 |
| Schroedinger bridge, `SchroedingerBridge` | (v(1) - v(t)) / v(1) | sqrt(v(t) (v(1) - v(t)) / v(1)) | y, t = 1 |

In all of them w_y = 1 - w_x, so that x_t = y + s eps is y + sigma eps in the denoiser's coordinate: noisy speech with
more noise, the start of `Sampling(start=sigma)`. If w_x is 0, sigma is infinite and y has no part in x: FlowSE and the
Schroedinger bridge start from noise alone. SGMSE+ starts at a finite sigma, as if the mean of x_1 were y.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.grid import Grid, Sigmas
from audiodiff.errors import ParameterError, check_whole

Times = Float[Tensor, "*times"]


class Coefficients(NamedTuple):
    """w_x, w_y and s of x_t = w_x x0 + w_y y + s eps."""

    w_x: Times
    w_y: Times
    s: Times


class Bridge(ABC):
    """A Gaussian process between x0 at t = 0 and noisy speech y at t = 1."""

    @abstractmethod
    def coefficients(self, t: Times) -> Coefficients:
        """Return w_x, w_y and s at times in [0, 1]."""

    def sigma(self, t: Times) -> Times:
        """Return the noise level s / w_x; infinite if w_x is 0."""
        w_x, _, s = self.coefficients(t)
        return torch.where(w_x > 0.0, s / w_x, math.inf)


@dataclass(frozen=True)
class OrnsteinUhlenbeck(Bridge):
    """dx = gamma (y - x) dt + sigma_min r^t sqrt(2 log r) dw, with r = sigma_max / sigma_min.

    Args:
        gamma: rate at which the mean goes from x0 to y.
        sigma_min: least scale of the noise, in units of the diffused signal (in the paper, compressed spectra).
        sigma_max: greatest scale, likewise.

    Example:
        >>> OrnsteinUhlenbeck().sigma(torch.tensor([0.0, 1.0]))
        tensor([0.0000, 1.7433])

    Source: Richter et al. 2023 (SGMSE+), eq. 3 to 6.
    """

    gamma: float = 1.5
    sigma_min: float = 0.05
    sigma_max: float = 0.5

    def __post_init__(self) -> None:
        if not self.gamma > 0.0:
            raise ParameterError(f"gamma={self.gamma} must be positive")
        if not 0.0 < self.sigma_min < self.sigma_max:
            raise ParameterError(
                f"sigma_min={self.sigma_min} and sigma_max={self.sigma_max} must satisfy 0 < sigma_min < sigma_max"
            )

    def coefficients(self, t: Times) -> Coefficients:
        w_x = torch.exp(-self.gamma * t)
        rate = math.log(self.sigma_max / self.sigma_min)
        # Richter et al. 2023, eq. 6; expm1 is exact near t = 0.
        variance = self.sigma_min**2 * rate / (self.gamma + rate) * w_x**2 * torch.expm1(2.0 * (self.gamma + rate) * t)
        return Coefficients(w_x, 1.0 - w_x, variance.sqrt())


@dataclass(frozen=True)
class NoisyFlow(Bridge):
    """x_t = (1 - t) x0 + t (y + noise_scale eps): straight lines from clean speech to noisy speech plus noise.

    Args:
        noise_scale: std of the noise at t = 1, in units of the diffused signal.

    Example:
        >>> NoisyFlow(noise_scale=0.5).sigma(torch.tensor([0.5, 1.0]))
        tensor([0.5000,    inf])

    Source: Lee et al. 2025 (FlowSE: flow matching-based speech enhancement), with sigma_min = 0.
    """

    noise_scale: float = 0.5

    def __post_init__(self) -> None:
        if not self.noise_scale > 0.0:
            raise ParameterError(f"noise_scale={self.noise_scale} must be positive")

    def coefficients(self, t: Times) -> Coefficients:
        return Coefficients(1.0 - t, t, self.noise_scale * t)


@dataclass(frozen=True)
class SchroedingerBridge(Bridge):
    """A Brownian bridge from x0 to y, with the variance v(t) = c (k^2t - 1) / (2 log k) of dx = sqrt(c) k^t dw.

    Args:
        c: scale of the variance.
        k: growth of the noise from t = 0 to 1.

    Source: Jukić et al. 2024 (Schrödinger bridge for generative speech enhancement), eq. 11 and table 1, SB-VE.
    """

    c: float = 0.4
    k: float = 2.6

    def __post_init__(self) -> None:
        if not self.c > 0.0:
            raise ParameterError(f"c={self.c} must be positive")
        if not self.k > 1.0:
            raise ParameterError(f"k={self.k} must be greater than 1")

    def variance(self, t: Times) -> Times:
        """Return v(t)."""
        rate = 2.0 * math.log(self.k)
        return self.c * torch.expm1(rate * t) / rate

    def coefficients(self, t: Times) -> Coefficients:
        variance, whole = self.variance(t), self.variance(torch.ones_like(t))
        w_x = (whole - variance) / whole
        return Coefficients(w_x, variance / whole, (variance * w_x).sqrt())


@dataclass(frozen=True)
class BridgeGrid(Grid):
    """Space the time of a bridge evenly, from t_start to 0.

    Args:
        bridge: the bridge.
        t_start: time of the first level; below 1 for bridges with w_x = 0 at t = 1.

    Example:
        >>> BridgeGrid(NoisyFlow(noise_scale=1.0), t_start=0.75)(3)
        tensor([3.0000, 1.0000, 0.3333, 0.0000], dtype=torch.float64)
    """

    bridge: Bridge
    t_start: float = 0.999

    def __post_init__(self) -> None:
        if not 0.0 < self.t_start <= 1.0:
            raise ParameterError(f"t_start={self.t_start} must lie in (0, 1]")

    def __call__(self, n_steps: int) -> Sigmas:
        check_whole(n_steps, name="n_steps", least=1)
        return self.bridge.sigma(torch.linspace(self.t_start, 0.0, n_steps + 1, dtype=torch.float64))
