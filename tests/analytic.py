"""The exact denoiser of Gaussian data, and the networks that make it under every parameterisation."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.operators import Linear, LinearOperator
from audiodiff.diffusion.process import Process
from audiodiff.networks.network import Network
from audiodiff.types import ReceptiveField


@dataclass(frozen=True)
class Gaussian:
    """Data of law N(mean, diag(variance)), (channels, time) each."""

    mean: Tensor
    variance: Tensor

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return E[x0 | x0 + sigma eps = x]."""
        power = pad_dims_like(sigma, x) ** 2
        return (self.variance * x + power * self.mean) / (self.variance + power)

    def noise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return E[eps | x0 + sigma eps = x], from its own closed form."""
        spread = pad_dims_like(sigma, x)
        return spread * (x - self.mean) / (self.variance + spread**2)

    def flow(self, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """Carry x along the probability flow from one noise level to another."""
        return self.mean + torch.sqrt((self.variance + sigma_next**2) / (self.variance + sigma**2)) * (x - self.mean)


class GaussianNetwork(Network):
    """The ideal network of a Gaussian: it reads the clock, undoes the input scale and returns the target's mean."""

    receptive_field = ReceptiveField(0, 0)

    def __init__(self, data: Gaussian, process: Process, target: str) -> None:
        super().__init__()
        self.data, self.process, self.target = data, process, target

    def encode(self, condition: Condition) -> Condition:
        return condition

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        sigma = self.process.sigma(c_noise)
        x = x / pad_dims_like(self.process.input_scale(sigma), x)
        x0, eps = self.data.denoise(x, sigma), self.data.noise(x, sigma)
        alpha_t, sigma_t = (pad_dims_like(part, x) for part in self.process.coefficients(c_noise))
        alpha_rate, sigma_rate = (pad_dims_like(part, x) for part in self.process.rates(c_noise))
        return {
            "epsilon": eps,
            "sample": x0,
            "v": alpha_t * eps - sigma_t * x0,
            "velocity": alpha_rate * x0 + sigma_rate * eps,
        }[self.target]


class EdmGaussianNetwork(Network):
    """The ideal network of a Gaussian under EDM: the normalised remainder of x0, from log(sigma) / 4."""

    receptive_field = ReceptiveField(0, 0)

    def __init__(self, data: Gaussian, sigma_data: float) -> None:
        super().__init__()
        self.data, self.sigma_data = data, sigma_data

    def encode(self, condition: Condition) -> Condition:
        return condition

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        sigma = torch.exp(4.0 * c_noise)
        spread = pad_dims_like(sigma, x)
        total = torch.sqrt(spread**2 + self.sigma_data**2)
        x = x * total
        x0, eps = self.data.denoise(x, sigma), self.data.noise(x, sigma)
        # x0 - c_skip x with x = x0 + sigma eps is (sigma^2 x0 - sd^2 sigma eps) / total^2; c_out = sigma sd / total.
        return (spread * x0 - self.sigma_data**2 * eps) / (self.sigma_data * total)


@dataclass(frozen=True)
class Mixture:
    """A mixture of isotropic Gaussians over single numbers or vectors of channels: signals (batch, channels, 1).

    Args:
        weights: of the components, summing to 1.
        means: (components, channels).
        variances: of each component, the same in every channel.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor

    def _log_parts(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return log of weight times density of every component at x, and each one's total variance."""
        total = self.variances + sigma.to(x).reshape(-1, 1) ** 2
        distance = ((x[:, None, :, 0] - self.means) ** 2).sum(-1)
        log_density = -0.5 * distance / total - 0.5 * self.means.shape[1] * torch.log(2.0 * torch.pi * total)
        return self.weights.log() + log_density, total

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the log density of x = x0 + sigma eps."""
        return torch.logsumexp(self._log_parts(x, sigma)[0], dim=1)

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return E[x0 | x0 + sigma eps = x]."""
        parts, total = self._log_parts(x, sigma)
        share = torch.softmax(parts, dim=1)[..., None]
        shrink = (self.variances / total)[..., None]
        return (share * (self.means + shrink * (x[:, None, :, 0] - self.means))).sum(1)[..., None]

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw n signals."""
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        eps = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return (self.means[which] + self.variances[which].sqrt()[:, None] * eps)[..., None]


@dataclass(frozen=True)
class Law:
    """The law N(mean, covariance) of signals of one channel: (time,) and (time, time)."""

    mean: Tensor
    covariance: Tensor

    @cached_property
    def spectrum(self) -> tuple[Tensor, Tensor]:
        """The eigenvalues and eigenvectors of the covariance."""
        values, vectors = torch.linalg.eigh(self.covariance)
        return values, vectors

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return E[x0 | x0 + sigma eps = x]."""
        power = pad_dims_like(sigma, x) ** 2
        values, vectors = self.spectrum
        return self.mean + ((x - self.mean) @ vectors * (values / (values + power))) @ vectors.mT

    def posterior(self, operator: LinearOperator, y: Tensor, sigma_y: float) -> "Law":
        """Condition on y = A x0 + sigma_y noise, by the formula of Gauss; y of one example."""
        a = matrix(operator, len(self.mean))
        inner = a @ self.covariance @ a.mT + sigma_y**2 * torch.eye(len(a), dtype=torch.float64)
        gain = self.covariance @ a.mT @ torch.linalg.pinv(inner, hermitian=True, rtol=1e-10)
        mean = self.mean + gain @ (y[0, 0] - a @ self.mean)
        return Law(mean, self.covariance - gain @ a @ self.covariance)


def decimation(factor: int) -> Linear:
    """Return a band limit to the new half of the rate, then every factor-th sample: A A^T = 1 / factor below it."""

    def band(x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x)
        kept = torch.arange(spectrum.shape[-1]) < -(-x.shape[-1] // (2 * factor))
        return torch.fft.irfft(spectrum * kept, n=x.shape[-1])

    def transpose(y: Tensor) -> Tensor:
        spread = y.new_zeros(*y.shape[:-1], y.shape[-1] * factor)
        spread[..., ::factor] = y
        return band(spread)

    return Linear(lambda x: band(x)[..., ::factor], transpose, multiple=1.0 / factor)


def matrix(operator: LinearOperator, n_samples: int) -> Tensor:
    """Return the operator's matrix, column by column."""
    return operator(torch.eye(n_samples, dtype=torch.float64)[:, None])[:, 0].mT
