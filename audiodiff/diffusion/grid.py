"""The sequence of sigma in sampling."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.process import DiscreteVP, Process
from audiodiff.errors import ParameterError

Sigmas = Float[Tensor, "levels"]
"""Decreasing noise levels, float64, on the CPU."""


class Grid(ABC):
    """Choose the noise levels that a solver visits."""

    @abstractmethod
    def __call__(self, n_steps: int) -> Sigmas:
        """Return n_steps + 1 decreasing noise levels in float64, the last 0.

        Raises:
            ParameterError: if the grid has no such number of steps.
        """


def _ending_in_zero(sigmas: Float[Tensor, "steps"]) -> Float[Tensor, "steps+1"]:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _check_positive(n_steps: int) -> None:
    if n_steps < 1:
        raise ParameterError(f"n_steps={n_steps} must be at least 1")


@dataclass(frozen=True)
class Karras(Grid):
    """Space sigma^(1 / rho) evenly from sigma_max to sigma_min, then 0.

    Args:
        sigma_min: the last level before 0.
        sigma_max: the first level.
        rho: above 1 crowds the levels near sigma_min.

    Example:
        >>> Karras(sigma_min=1.0, sigma_max=9.0, rho=2.0)(3)
        tensor([9., 4., 1., 0.], dtype=torch.float64)

    Source: Karras et al. 2022, eq. 5.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma_min < self.sigma_max:
            raise ParameterError(
                f"sigma_min={self.sigma_min} and sigma_max={self.sigma_max} must satisfy 0 < sigma_min < sigma_max"
            )
        if not self.rho > 0.0:
            raise ParameterError(f"rho={self.rho} must be positive")

    def __call__(self, n_steps: int) -> Sigmas:
        _check_positive(n_steps)
        first, last = self.sigma_max ** (1.0 / self.rho), self.sigma_min ** (1.0 / self.rho)
        return _ending_in_zero(torch.linspace(first, last, n_steps, dtype=torch.float64) ** self.rho)


@dataclass(frozen=True)
class TimeUniform(Grid):
    """Space the process's clock evenly: n_steps equal steps from t_start to t_end, where sigma is set to 0.

    Args:
        process: maps the clock to sigma.
        t_start: where to begin, as a fraction of the process's clock; below 1 where alpha_t would be 0 there.
        t_end: where to end, likewise.

    Example:
        >>> from audiodiff.diffusion.process import Flow
        >>> TimeUniform(Flow(), t_start=0.75)(3)
        tensor([3.0000, 1.0000, 0.3333, 0.0000], dtype=torch.float64)
    """

    process: Process
    t_start: float = 0.999
    t_end: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.t_end < self.t_start <= 1.0:
            raise ParameterError(
                f"t_start={self.t_start} and t_end={self.t_end} must satisfy 0 <= t_end < t_start <= 1"
            )

    def __call__(self, n_steps: int) -> Sigmas:
        _check_positive(n_steps)
        times = torch.linspace(self.t_start, self.t_end, n_steps + 1, dtype=torch.float64)[:-1]
        return _ending_in_zero(self.process.sigma(self.process.last * times))


@dataclass(frozen=True)
class Discrete(Grid):
    """Visit steps of a discrete process: all of them, or n_steps of them spread evenly from the last to the first.

    Args:
        process: the table of steps.

    Source: Song et al. 2021 (DDIM), section 4.2, linear subsequence.
    """

    process: DiscreteVP

    def __call__(self, n_steps: int) -> Sigmas:
        _check_positive(n_steps)
        n_known = len(self.process.betas)
        if n_steps > n_known:
            raise ParameterError(f"n_steps={n_steps} must not exceed the {n_known} steps of the process")
        steps = torch.linspace(n_known - 1.0, 0.0, n_steps, dtype=torch.float64).round()
        return _ending_in_zero(self.process.sigma(steps))


@dataclass(frozen=True)
class BetaTable(Grid):
    """Visit every step of a table of betas that need not be the one of training.

    Args:
        betas: the table, least noisy first; DiffWave's fast one is [1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5].

    Example:
        >>> BetaTable([0.2, 0.5])(2)
        tensor([1.2247, 0.5000, 0.0000], dtype=torch.float64)

    Source: Kong et al. 2021 (DiffWave), appendix B.
    """

    betas: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(float(beta) for beta in self.betas))
        for index, beta in enumerate(self.betas):
            if not 0.0 < beta < 1.0:
                raise ParameterError(f"betas[{index}]={beta} must lie between 0 and 1")

    def __call__(self, n_steps: int) -> Sigmas:
        if n_steps != len(self.betas):
            raise ParameterError(
                f"n_steps={n_steps} must be {len(self.betas)}, the length of the table of betas: leave the number of "
                "steps out, or use another grid"
            )
        alpha_bar = torch.cumprod(1.0 - torch.tensor(self.betas, dtype=torch.float64), dim=0)
        return _ending_in_zero(torch.sqrt((1.0 - alpha_bar) / alpha_bar).flip(0))


@dataclass(frozen=True)
class Fixed(Grid):
    """Visit noise levels that are given.

    Args:
        sigmas: decreasing and positive; the last level, 0, is added.

    Example:
        >>> Fixed([4.0, 1.0])(2)
        tensor([4., 1., 0.], dtype=torch.float64)
    """

    sigmas: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigmas", tuple(float(sigma) for sigma in self.sigmas))
        for index, (high, low) in enumerate(zip(self.sigmas, (*self.sigmas[1:], 0.0), strict=True)):
            if not high > low:
                raise ParameterError(f"sigmas[{index}]={high} must be greater than what follows it, {low}")

    def __call__(self, n_steps: int) -> Sigmas:
        if n_steps != len(self.sigmas):
            raise ParameterError(f"n_steps={n_steps} must be {len(self.sigmas)}, the number of given sigmas")
        return _ending_in_zero(torch.tensor(self.sigmas, dtype=torch.float64))
