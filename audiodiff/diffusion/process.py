"""Diffusion processes: how signal and noise are mixed as the clock runs.

A process is a pair (alpha_t, sigma_t) with x_t = alpha_t * x0 + sigma_t * eps. Everything outside this module lives in
the coordinate x = x_t / alpha_t = x0 + sigma * eps, where sigma = sigma_t / alpha_t.

| here | elsewhere |
|---|---|
| alpha_t | sqrt(alpha_bar) in DDPM and DiffWave; a(t) or 1 - t in flow matching |
| sigma_t | sqrt(1 - alpha_bar) in DDPM; the noise std in x_t, not in x |
| sigma | Karras et al.'s sigma; 1 / sqrt(SNR) |
| t | 0 is clean; flow matching papers often let t = 1 be clean |
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError

Clock = Float[Tensor, "*batch"]


class Process(ABC):
    """Map a clock t to the mixture of signal and noise, and back; every function keeps the dtype of its argument."""

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
        """Compute alpha_t from sigma directly, also where the clock is singular (sigma = 0)."""

    @abstractmethod
    def input_scale(self, sigma: Clock) -> Clock:
        """Compute the factor that brings x to a size that a network can take: alpha_t, unless x_t itself grows."""

    def sigma(self, t: Clock) -> Clock:
        """Compute sigma = sigma_t / alpha_t, the noise std in x = x0 + sigma * eps."""
        alpha_t, sigma_t = self.coefficients(t)
        return sigma_t / alpha_t

    def log_snr(self, t: Clock) -> Clock:
        """Compute log(alpha_t^2 / sigma_t^2), a natural logarithm of a power ratio."""
        return -2.0 * torch.log(self.sigma(t))


def _variance_preserving_alpha(sigma: Clock) -> Clock:
    return torch.rsqrt(1.0 + sigma**2)


@dataclass(frozen=True)
class VPLinear(Process):
    """Preserve the variance with beta(t) = beta_min + t * (beta_max - beta_min), in continuous time.

    Args:
        beta_min: rate of noise at t = 0.
        beta_max: rate of noise at t = 1; 20 leaves alpha_1 = 0.0066.

    Example:
        >>> VPLinear().sigma(torch.tensor([0.5, 1.0], dtype=torch.float64))
        tensor([  3.4129, 152.1670], dtype=torch.float64)

    Source: Song et al. 2021 (score SDE), eq. 32 and 33.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.beta_min < self.beta_max:
            raise ParameterError(f"beta_min={self.beta_min} and beta_max={self.beta_max} must satisfy 0 <= min < max")

    @property
    def last(self) -> float:
        return 1.0

    def coefficients(self, t: Clock) -> tuple[Clock, Clock]:
        log_alpha_t = -0.25 * t**2 * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min
        return torch.exp(log_alpha_t), torch.sqrt(-torch.expm1(2.0 * log_alpha_t))

    def rates(self, t: Clock) -> tuple[Clock, Clock]:
        alpha_t, sigma_t = self.coefficients(t)
        alpha_rate = -0.5 * alpha_t * (self.beta_min + t * (self.beta_max - self.beta_min))
        return alpha_rate, -alpha_t * alpha_rate / sigma_t

    def time(self, sigma: Clock) -> Clock:
        # The root of t^2 (beta_max - beta_min) / 2 + t beta_min = log(1 + sigma^2), in the form that does not cancel.
        power = torch.log1p(sigma**2)
        return (
            2.0 * power / (self.beta_min + torch.sqrt(self.beta_min**2 + 2.0 * (self.beta_max - self.beta_min) * power))
        )

    def alpha(self, sigma: Clock) -> Clock:
        return _variance_preserving_alpha(sigma)

    def input_scale(self, sigma: Clock) -> Clock:
        return _variance_preserving_alpha(sigma)


@dataclass(frozen=True)
class VPCosine(Process):
    """Preserve the variance with sigma = shift * tan(pi t / 2): alpha_t = cos(pi t / 2) where shift is 1.

    Args:
        shift: multiplies sigma at every t; above 1 the same clock is noisier, below 1 cleaner.

    Example:
        >>> VPCosine().coefficients(torch.tensor([0.5]))
        (tensor([0.7071]), tensor([0.7071]))

    Source: Nichol and Dhariwal 2021, eq. 17 without the offset; Hoogeboom et al. 2023, section 3.1, for the shift.
    """

    shift: float = 1.0

    def __post_init__(self) -> None:
        if not self.shift > 0.0:
            raise ParameterError(f"shift={self.shift} must be positive")

    @property
    def last(self) -> float:
        return 1.0

    def _parts(self, t: Clock) -> tuple[Clock, Clock, Clock]:
        cosine, sine = torch.cos(0.5 * math.pi * t), torch.sin(0.5 * math.pi * t)
        return cosine, sine, torch.sqrt(cosine**2 + (self.shift * sine) ** 2)

    def coefficients(self, t: Clock) -> tuple[Clock, Clock]:
        cosine, sine, norm = self._parts(t)
        return cosine / norm, self.shift * sine / norm

    def rates(self, t: Clock) -> tuple[Clock, Clock]:
        cosine, sine, norm = self._parts(t)
        scale = 0.5 * math.pi * self.shift / norm**3
        return -scale * self.shift * sine, scale * cosine

    def time(self, sigma: Clock) -> Clock:
        return 2.0 / math.pi * torch.atan(sigma / self.shift)

    def alpha(self, sigma: Clock) -> Clock:
        return _variance_preserving_alpha(sigma)

    def input_scale(self, sigma: Clock) -> Clock:
        return _variance_preserving_alpha(sigma)


@dataclass(frozen=True)
class VE(Process):
    """Let the variance explode: alpha_t = 1 and sigma_t = sigma_min * (sigma_max / sigma_min)^t.

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
class Flow(Process):
    """Interpolate straight from signal to noise: alpha_t = 1 - t, sigma_t = noise_scale * t.

    alpha_t = 0 at t = 1 is singular in x = x_t / alpha_t: grids start at t = 0.999.

    Args:
        noise_scale: std of the noise at t = 1; near the std of the signals, 1 for signals of unit variance.

    Example:
        >>> Flow().sigma(torch.tensor([0.0, 0.5, 0.75]))
        tensor([0., 1., 3.])

    Source: Liu et al. 2023 (rectified flow); Lipman et al. 2023, eq. 20, with the clock turned round.
    """

    noise_scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.noise_scale > 0.0:
            raise ParameterError(f"noise_scale={self.noise_scale} must be positive")

    @property
    def last(self) -> float:
        return 1.0

    def coefficients(self, t: Clock) -> tuple[Clock, Clock]:
        return 1.0 - t, self.noise_scale * t

    def rates(self, t: Clock) -> tuple[Clock, Clock]:
        return -torch.ones_like(t), torch.full_like(t, self.noise_scale)

    def time(self, sigma: Clock) -> Clock:
        return sigma / (self.noise_scale + sigma)

    def alpha(self, sigma: Clock) -> Clock:
        return self.noise_scale / (self.noise_scale + sigma)

    def input_scale(self, sigma: Clock) -> Clock:
        return self.alpha(sigma)


def linear_betas(start: float, stop: float, n: int) -> tuple[float, ...]:
    """Space n betas evenly from start to stop, both included.

    DiffWave's tables are linear_betas(1e-4, 0.05, 50) with 64 channels and linear_betas(1e-4, 0.02, 200) with more.

    Example:
        >>> linear_betas(0.1, 0.3, 3)
        (0.1, 0.2, 0.3)
    """
    return tuple(torch.linspace(start, stop, n, dtype=torch.float64).tolist())


@dataclass(frozen=True)
class DiscreteVP(Process):
    """Preserve the variance in the steps of a table of betas; the clock is the step's index, 0 the least noisy.

    alpha at step k is sqrt(alpha_bar_k), the root of the product of 1 - beta over steps 0 to k. Between steps alpha is
    interpolated linearly, which gives DiffWave's fractional steps; outside the table the clock stays at its ends,
    because a network knows no other steps.

    Args:
        betas: the table, each in (0, 1).

    Example:
        >>> process = DiscreteVP(linear_betas(1e-4, 0.05, 50))
        >>> process.alpha(process.sigma(torch.tensor([49.0], dtype=torch.float64))) ** 2
        tensor([0.2797], dtype=torch.float64)

    Source: Ho et al. 2020, eq. 4; Kong et al. 2021 (DiffWave), section 2 and its appendix B.
    """

    betas: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(float(beta) for beta in self.betas))
        if len(self.betas) < 2:
            raise ParameterError(f"betas has {len(self.betas)} entries: a discrete process needs at least 2")
        for index, beta in enumerate(self.betas):
            if not 0.0 < beta < 1.0:
                raise ParameterError(f"betas[{index}]={beta} must lie between 0 and 1")

    @property
    def last(self) -> float:
        return len(self.betas) - 1.0

    @cached_property
    def _alphas(self) -> Float[Tensor, "steps"]:
        return torch.cumprod(1.0 - torch.tensor(self.betas, dtype=torch.float64), dim=0).sqrt()

    def _around(self, t: Clock) -> tuple[Clock, Clock, Clock]:
        """Return the table's values at the step below t and the step above it, and where t stands between them."""
        alphas = self._alphas.to(t.device)
        low = torch.clamp(t.floor(), 0.0, self.last - 1.0).long()
        return alphas[low].to(t.dtype), alphas[low + 1].to(t.dtype), t - low

    def coefficients(self, t: Clock) -> tuple[Clock, Clock]:
        low, high, fraction = self._around(t)
        alpha_t = low + (high - low) * fraction
        return alpha_t, torch.sqrt((1.0 - alpha_t) * (1.0 + alpha_t))

    def rates(self, t: Clock) -> tuple[Clock, Clock]:
        # A difference over one step around t: the slope of the interpolation itself jumps at the steps, where the clock
        # is known to its last digit only, and a target that jumps there is no target.
        before, after = torch.clamp(t - 0.5, min=0.0), torch.clamp(t + 0.5, max=self.last)
        alpha_rate = (self.coefficients(after)[0] - self.coefficients(before)[0]) / (after - before)
        alpha_t, sigma_t = self.coefficients(t)
        return alpha_rate, -alpha_t * alpha_rate / sigma_t

    def time(self, sigma: Clock) -> Clock:
        alphas = self._alphas.to(sigma.device)
        alpha = _variance_preserving_alpha(sigma.double())
        low = torch.clamp(torch.searchsorted(-alphas, -alpha, right=True) - 1, 0, len(self.betas) - 2)
        t = low + (alphas[low] - alpha) / (alphas[low] - alphas[low + 1])
        return torch.clamp(t, 0.0, self.last).to(sigma.dtype)

    def alpha(self, sigma: Clock) -> Clock:
        return _variance_preserving_alpha(sigma)

    def input_scale(self, sigma: Clock) -> Clock:
        return _variance_preserving_alpha(sigma)
