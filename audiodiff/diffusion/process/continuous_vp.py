"""Variance-preserving and sub-variance-preserving processes in continuous time."""

import math
from dataclasses import dataclass

import torch

from audiodiff.diffusion.process.base import Clock, Process, VariancePreserving
from audiodiff.errors import ParameterError


def _check_betas(beta_min: float, beta_max: float) -> None:
    if not 0.0 <= beta_min < beta_max:
        raise ParameterError(f"beta_min={beta_min} and beta_max={beta_max} must satisfy 0 <= min < max")


def _beta(t: Clock, beta_min: float, beta_max: float) -> Clock:
    return beta_min + t * (beta_max - beta_min)


def _integral(t: Clock, beta_min: float, beta_max: float) -> Clock:
    """Compute B, the integral of beta from 0 to t."""
    return 0.5 * t**2 * (beta_max - beta_min) + t * beta_min


def _time_of_integral(integral: Clock, beta_min: float, beta_max: float) -> Clock:
    """Compute the root t of B(t) = integral, in the form that does not cancel."""
    return 2.0 * integral / (beta_min + torch.sqrt(beta_min**2 + 2.0 * (beta_max - beta_min) * integral))


@dataclass(frozen=True)
class VPLinear(VariancePreserving):
    """Variance preserving with beta(t) = beta_min + t * (beta_max - beta_min), in continuous time.

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
        _check_betas(self.beta_min, self.beta_max)

    @property
    def last(self) -> float:
        return 1.0

    def coefficients(self, t: Clock) -> tuple[Clock, Clock]:
        integral = _integral(t, self.beta_min, self.beta_max)
        return torch.exp(-0.5 * integral), torch.sqrt(-torch.expm1(-integral))

    def rates(self, t: Clock) -> tuple[Clock, Clock]:
        alpha_t, sigma_t = self.coefficients(t)
        alpha_rate = -0.5 * alpha_t * _beta(t, self.beta_min, self.beta_max)
        return alpha_rate, -alpha_t * alpha_rate / sigma_t

    def time(self, sigma: Clock) -> Clock:
        return _time_of_integral(torch.log1p(sigma**2), self.beta_min, self.beta_max)


@dataclass(frozen=True)
class VPCosine(VariancePreserving):
    """Variance preserving with sigma = shift * tan(pi t / 2): alpha_t = cos(pi t / 2) if shift is 1.

    Args:
        shift: multiplies sigma at every t; above 1 there is more noise at the same t.

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


@dataclass(frozen=True)
class VPSigmoid(VariancePreserving):
    """Variance preserving with alpha_t^2 = (s(z_1) - s(z_t)) / (s(z_1) - s(z_0)), s the logistic function.

    z_t increases linearly from start / temperature to end / temperature. alpha_t = 0 at t = 1 is singular in
    x = x_t / alpha_t: grids start at t = 0.999.

    Args:
        start: the argument of the logistic function at t = 0, times the temperature.
        end: likewise at t = 1.
        temperature: below 1 the change from signal to noise is steeper.

    Example:
        >>> VPSigmoid().coefficients(torch.tensor([0.5]))
        (tensor([0.7071]), tensor([0.7071]))

    Source: Jabri et al. 2022 (RIN), appendix B; Chen 2023, algorithm 1, without its clipping.
    """

    start: float = -3.0
    end: float = 3.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not self.start < self.end:
            raise ParameterError(f"start={self.start} must be below end={self.end}")
        if not self.temperature > 0.0:
            raise ParameterError(f"temperature={self.temperature} must be positive")

    # With h = (z - z_0) / 2 and D = (z_1 - z_0) / 2, differences of logistic functions are, without cancellation,
    # alpha^2 = sinh(D - h) cosh(z_0 / 2) / (sinh(D) cosh(z / 2)), 1 - alpha^2 = sinh(h) cosh(z_1 / 2) / (the same).

    @property
    def last(self) -> float:
        return 1.0

    @property
    def _half_length(self) -> float:
        return 0.5 * (self.end - self.start) / self.temperature

    @property
    def _cosines(self) -> tuple[float, float]:
        return math.cosh(0.5 * self.start / self.temperature), math.cosh(0.5 * self.end / self.temperature)

    def _half_argument(self, t: Clock) -> Clock:
        return 0.5 * self.start / self.temperature + self._half_length * t

    def coefficients(self, t: Clock) -> tuple[Clock, Clock]:
        first, last = self._cosines
        total = math.sinh(self._half_length) * torch.cosh(self._half_argument(t))
        alpha_power = torch.sinh(self._half_length * (1.0 - t)) * first / total
        return torch.sqrt(alpha_power), torch.sqrt(torch.sinh(self._half_length * t) * last / total)

    def rates(self, t: Clock) -> tuple[Clock, Clock]:
        first, last = self._cosines
        # d s / dz = 1 / (4 cosh(z / 2)^2), and s(z_1) - s(z_0) = sinh(D) / (2 cosh(z_0 / 2) cosh(z_1 / 2)).
        power_rate = self._half_length * first * last / math.sinh(self._half_length)
        power_rate = power_rate / torch.cosh(self._half_argument(t)) ** 2
        alpha_t, sigma_t = self.coefficients(t)
        return -0.5 * power_rate / alpha_t, 0.5 * power_rate / sigma_t

    def time(self, sigma: Clock) -> Clock:
        # sinh(h) / sinh(D - h) = r, solved for exp(2 h).
        first, last = self._cosines
        ratio = sigma**2 * first / last
        half = torch.log1p(ratio * math.exp(self._half_length)) - torch.log1p(ratio * math.exp(-self._half_length))
        return 0.5 * half / self._half_length


@dataclass(frozen=True)
class SubVP(Process):
    """Below the preserved variance: alpha_t = exp(-B / 2) and sigma_t = 1 - exp(-B), B the integral of beta.

    Here sigma = 2 sinh(B / 2) and alpha^2 + sigma alpha - 1 = 0.

    Args:
        beta_min: rate of noise at t = 0.
        beta_max: rate of noise at t = 1.

    Example:
        >>> alpha_t, sigma_t = SubVP().coefficients(torch.tensor([0.5], dtype=torch.float64))
        >>> alpha_t**2 + sigma_t
        tensor([1.], dtype=torch.float64)

    Source: Song et al. 2021 (score SDE), eq. 29.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        _check_betas(self.beta_min, self.beta_max)

    @property
    def last(self) -> float:
        return 1.0

    def coefficients(self, t: Clock) -> tuple[Clock, Clock]:
        integral = _integral(t, self.beta_min, self.beta_max)
        return torch.exp(-0.5 * integral), -torch.expm1(-integral)

    def rates(self, t: Clock) -> tuple[Clock, Clock]:
        alpha_t, _ = self.coefficients(t)
        beta = _beta(t, self.beta_min, self.beta_max)
        return -0.5 * beta * alpha_t, beta * alpha_t**2

    def time(self, sigma: Clock) -> Clock:
        return _time_of_integral(2.0 * torch.asinh(0.5 * sigma), self.beta_min, self.beta_max)

    def alpha(self, sigma: Clock) -> Clock:
        return 2.0 / (sigma + torch.sqrt(sigma**2 + 4.0))

    def input_scale(self, sigma: Clock) -> Clock:
        return self.alpha(sigma)
