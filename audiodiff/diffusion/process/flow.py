"""Rectified flow: the straight path between signal and noise."""

from dataclasses import dataclass

import torch

from audiodiff.diffusion.process.base import Clock, Process
from audiodiff.errors import ParameterError


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
