"""Base classes of diffusion processes.

A process is a pair (alpha_t, sigma_t) with x_t = alpha_t * x0 + sigma_t * eps. Everything outside this package uses
x = x_t / alpha_t = x0 + sigma * eps, where sigma = sigma_t / alpha_t.

| here | elsewhere |
|---|---|
| alpha_t | sqrt(alpha_bar) in DDPM and DiffWave; a(t) or 1 - t in flow matching |
| sigma_t | sqrt(1 - alpha_bar) in DDPM; the noise std in x_t, not in x |
| sigma | Karras et al.'s sigma; 1 / sqrt(SNR) |
| t | 0 is clean; flow matching papers often let t = 1 be clean |
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

Clock = Float[Tensor, "*batch"]


class Process(ABC):
    """A map from the clock t to the mixture of signal and noise; functions keep the dtype of their argument."""

    @property
    @abstractmethod
    def last(self) -> float:
        """The clock at full noise: 1, or the last step's index for a discrete process."""

    @abstractmethod
    def coefficients(self, t: Clock) -> tuple[Clock, Clock]:
        """Compute (alpha_t, sigma_t) in x_t = alpha_t * x0 + sigma_t * eps."""

    @abstractmethod
    def rates(self, t: Clock) -> tuple[Clock, Clock]:
        """Compute (d alpha_t / dt, d sigma_t / dt)."""

    @abstractmethod
    def time(self, sigma: Clock) -> Clock:
        """Compute the clock at which sigma_t / alpha_t = sigma."""

    @abstractmethod
    def alpha(self, sigma: Clock) -> Clock:
        """Compute alpha_t from sigma, also at sigma = 0, where the clock may be singular."""

    @abstractmethod
    def input_scale(self, sigma: Clock) -> Clock:
        """Compute the factor that scales x for a network: alpha_t, unless x_t itself grows with the noise."""

    def sigma(self, t: Clock) -> Clock:
        """Compute sigma = sigma_t / alpha_t, the noise std in x = x0 + sigma * eps."""
        alpha_t, sigma_t = self.coefficients(t)
        return sigma_t / alpha_t

    def c_noise(self, sigma: Clock) -> Clock:
        """Compute the network's input for sigma: the time, except where training changes the time of a sigma."""
        return self.time(sigma)

    def log_snr(self, t: Clock) -> Clock:
        """Compute log(alpha_t^2 / sigma_t^2), a natural logarithm of a power ratio."""
        return -2.0 * torch.log(self.sigma(t))


class VariancePreserving(Process):
    """A process with alpha_t^2 + sigma_t^2 = 1, so that x_t has unit variance if x0 has."""

    def alpha(self, sigma: Clock) -> Clock:
        return torch.rsqrt(1.0 + sigma**2)

    def input_scale(self, sigma: Clock) -> Clock:
        return self.alpha(sigma)
