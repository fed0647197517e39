"""Weightings of the squared error over the noise level.

Most are defined by lambda(sigma), the weight of the squared error of x0, for any target of the network. The error in
network space is (D - x0) / c_out, hence w(sigma) = c_out^2 * lambda(sigma). With SNR = 1 / sigma^2, the squared error
of
eps is that of x0 times SNR:

| weighting | lambda(sigma) of the error of x0 |
|---|---|
| Uniform | 1 / c_out^2: the network's own target, unweighted |
| Snr | SNR: DDPM's simple loss of eps |
| TruncatedSnr | max(SNR, 1) |
| MinSnr | min(SNR, gamma) |
| P2 | SNR / (k + SNR)^gamma |
| EdmWeighting | SNR + 1 / sigma_data^2 |
| Vdm | -1/2 d SNR / dt |
| Sigmoid | -1/2 d SNR / dt * sigmoid(bias - log SNR) |
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.preconditioning import Scalings
from audiodiff.diffusion.process import Process
from audiodiff.errors import ParameterError
from audiodiff.types import Sigma


class Weighting(ABC):
    """Weigh a loss in network space by the noise level."""

    @abstractmethod
    def __call__(self, sigma: Sigma, scalings: Scalings) -> Float[Tensor, "batch"]:
        """Compute w(sigma) in w(sigma) * |F - target|^p."""


@dataclass(frozen=True)
class Uniform(Weighting):
    """Weigh all noise levels equally in network space: DDPM's simple loss for epsilon, EDM's weighting for EDM."""

    def __call__(self, sigma: Sigma, scalings: Scalings) -> Float[Tensor, "batch"]:
        return torch.ones_like(scalings.c_out)


class SampleWeighting(Weighting):
    """Weigh the squared error of x0: the same D has the same loss for every target of the network."""

    @abstractmethod
    def of_sample(self, sigma: Sigma) -> Sigma:
        """Compute lambda(sigma) in lambda(sigma) * (D - x0)^2; sigma is in float64."""

    def __call__(self, sigma: Sigma, scalings: Scalings) -> Float[Tensor, "batch"]:
        return scalings.c_out**2 * self.of_sample(sigma.double())


@dataclass(frozen=True)
class Snr(SampleWeighting):
    """Weigh by the SNR: DDPM's simple loss of epsilon for every target.

    Source: Ho et al. 2020, eq. 14; Salimans and Ho 2022, section 4, "SNR weighting".
    """

    def of_sample(self, sigma: Sigma) -> Sigma:
        return sigma**-2


@dataclass(frozen=True)
class TruncatedSnr(SampleWeighting):
    """Weigh by max(SNR, 1): the greater of the squared errors of x0 and of eps.

    Source: Salimans and Ho 2022, section 4, "truncated SNR weighting".
    """

    def of_sample(self, sigma: Sigma) -> Sigma:
        return torch.clamp(sigma**-2, min=1.0)


@dataclass(frozen=True)
class MinSnr(SampleWeighting):
    """Weigh by min(SNR, gamma).

    Args:
        gamma: the greatest weight, a power ratio.

    Source: Hang et al. 2023, section 3.4.
    """

    gamma: float = 5.0

    def __post_init__(self) -> None:
        _check_positive(gamma=self.gamma)

    def of_sample(self, sigma: Sigma) -> Sigma:
        return torch.clamp(sigma**-2, max=self.gamma)


@dataclass(frozen=True)
class P2(SampleWeighting):
    """Weigh the simple loss of epsilon by (k + SNR)^(-gamma), which lowers the weight of low noise levels.

    Args:
        k: limits the weight of high noise levels.
        gamma: 0 is the simple loss of epsilon, 1 the value of the paper.

    Source: Choi et al. 2022, eq. 8.
    """

    k: float = 1.0
    gamma: float = 1.0

    def __post_init__(self) -> None:
        _check_positive(k=self.k)
        if self.gamma < 0.0:
            raise ParameterError(f"gamma={self.gamma} must not be negative")

    def of_sample(self, sigma: Sigma) -> Sigma:
        snr = sigma**-2
        return snr * (self.k + snr) ** -self.gamma


@dataclass(frozen=True)
class EdmWeighting(SampleWeighting):
    """Weigh by (sigma^2 + sd^2) / (sigma sd)^2: EDM's loss for every target.

    Args:
        sigma_data: sd, the std of the signals that are diffused; near 0.1 for speech.

    Source: Karras et al. 2022, table 1, "loss weighting".
    """

    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        _check_positive(sigma_data=self.sigma_data)

    def of_sample(self, sigma: Sigma) -> Sigma:
        return sigma**-2 + self.sigma_data**-2


@dataclass(frozen=True)
class Vdm(SampleWeighting):
    """Weigh by -1/2 d SNR / dt: the variational bound's diffusion term, in nats, for t drawn uniformly.

    The weight of the error of eps is -1/2 d log(SNR) / dt. Time t runs from 0 to 1, whatever the process's clock.

    Args:
        process: determines SNR(t); training draws its clock uniformly.

    Source: Kingma et al. 2021 (VDM), eq. 17 and 18.
    """

    process: Process

    def of_sample(self, sigma: Sigma) -> Sigma:
        return _bound_weight(self.process, sigma)


@dataclass(frozen=True)
class Sigmoid(SampleWeighting):
    """Weigh the bound of VDM by sigmoid(bias - log SNR), which lowers the weight of low noise levels.

    Args:
        process: determines SNR(t); training draws its clock uniformly.
        bias: natural logarithm of the SNR at which the sigmoid is 1/2.

    Source: Kingma and Gao 2023, section 4 and appendix D; Hoogeboom et al. 2024 (simpler diffusion), section 3.
    """

    process: Process
    bias: float = 2.0

    def of_sample(self, sigma: Sigma) -> Sigma:
        return _bound_weight(self.process, sigma) * torch.sigmoid(self.bias + 2.0 * torch.log(sigma))


def _bound_weight(process: Process, sigma: Sigma) -> Sigma:
    # SNR = sigma^-2 and sigma = s / a: -SNR' / 2 = sigma' / sigma^3, sigma' = (s' - sigma a') / a.
    alpha_rate, sigma_rate = process.rates(process.time(sigma))
    return process.last * (sigma_rate - sigma * alpha_rate) / (process.alpha(sigma) * sigma**3)


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0.0:
            raise ParameterError(f"{name}={value} must be positive")
