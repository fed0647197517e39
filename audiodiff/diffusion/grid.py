"""Grids: the sequences of noise levels that solvers visit."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.process import DiscreteVP, Flow, Process, SubVP, VPCosine, VPLinear, VPSigmoid
from audiodiff.errors import ParameterError

Sigmas = Float[Tensor, "levels"]
"""Decreasing noise levels, float64, on the CPU."""


class Grid(ABC):
    """Compute the noise levels that a solver visits."""

    @abstractmethod
    def __call__(self, n_steps: int) -> Sigmas:
        """Return n_steps + 1 decreasing noise levels in float64, the last 0.

        Raises:
            ParameterError: if the grid does not have this number of steps.
        """

    @property
    def only_steps(self) -> int | None:
        """The only number of steps that the grid has; None if it has many."""
        return None


def _ending_in_zero(sigmas: Float[Tensor, "steps"]) -> Float[Tensor, "steps+1"]:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _check_positive(n_steps: int) -> None:
    if n_steps < 1:
        raise ParameterError(f"n_steps={n_steps} must be at least 1")


def _check_levels(sigma_min: float, sigma_max: float) -> None:
    if not 0.0 < sigma_min < sigma_max:
        raise ParameterError(f"sigma_min={sigma_min} and sigma_max={sigma_max} must satisfy 0 < sigma_min < sigma_max")


@dataclass(frozen=True)
class Karras(Grid):
    """Space sigma^(1 / rho) evenly from sigma_max to sigma_min, then 0.

    Args:
        sigma_min: the last level before 0.
        sigma_max: the first level.
        rho: above 1 makes the levels denser near sigma_min.

    Example:
        >>> Karras(sigma_min=1.0, sigma_max=9.0, rho=2.0)(3)
        tensor([9., 4., 1., 0.], dtype=torch.float64)

    Source: Karras et al. 2022, eq. 5.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        _check_levels(self.sigma_min, self.sigma_max)
        if not self.rho > 0.0:
            raise ParameterError(f"rho={self.rho} must be positive")

    def __call__(self, n_steps: int) -> Sigmas:
        _check_positive(n_steps)
        first, last = self.sigma_max ** (1.0 / self.rho), self.sigma_min ** (1.0 / self.rho)
        return _ending_in_zero(torch.linspace(first, last, n_steps, dtype=torch.float64) ** self.rho)


@dataclass(frozen=True)
class LogUniform(Grid):
    """Space log(sigma) evenly from sigma_max to sigma_min, then 0: even in log SNR, and in the time of VE.

    Args:
        sigma_min: the last level before 0.
        sigma_max: the first level.

    Example:
        >>> LogUniform(sigma_min=1.0, sigma_max=100.0)(3)
        tensor([100.0000,  10.0000,   1.0000,   0.0000], dtype=torch.float64)

    Source: Lu et al. 2022 (DPM-Solver), "Step size schedule"; k-diffusion's exponential schedule.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _check_levels(self.sigma_min, self.sigma_max)

    def __call__(self, n_steps: int) -> Sigmas:
        _check_positive(n_steps)
        first, last = math.log(self.sigma_max), math.log(self.sigma_min)
        return _ending_in_zero(torch.linspace(first, last, n_steps, dtype=torch.float64).exp())


@dataclass(frozen=True)
class TimeBetween(Grid):
    """Space the clock of a process evenly between two noise levels, then 0; the model may have another process.

    Args:
        process: maps the clock to sigma.
        sigma_min: the last level before 0.
        sigma_max: the first level.

    Example:
        >>> TimeBetween(Flow(), sigma_min=1.0, sigma_max=9.0)(3)  # t is 0.9, 0.7, 0.5
        tensor([9.0000, 2.3333, 1.0000, 0.0000], dtype=torch.float64)
    """

    process: Process
    sigma_min: float
    sigma_max: float

    def __post_init__(self) -> None:
        _check_levels(self.sigma_min, self.sigma_max)

    def __call__(self, n_steps: int) -> Sigmas:
        _check_positive(n_steps)
        first, last = self.process.time(torch.tensor([self.sigma_max, self.sigma_min], dtype=torch.float64)).tolist()
        return _ending_in_zero(self.process.sigma(torch.linspace(first, last, n_steps, dtype=torch.float64)))


@dataclass(frozen=True)
class TimeUniform(Grid):
    """Space the clock of a process evenly: n_steps equal steps from t_start to t_end, where sigma is set to 0.

    Args:
        process: maps the clock to sigma.
        t_start: start, as a fraction of the process's clock; below 1 if alpha_t is 0 at 1.
        t_end: end, likewise.

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
    """Visit all steps of a discrete process, or n_steps of them from the last to the first.

    Args:
        process: the table of steps.
        power: step^(1 / power) is spaced evenly: 1 spaces the steps evenly, 2 is DDIM's quadratic subsequence, which is
            denser at low noise levels.

    Example:
        >>> from audiodiff.diffusion.process import linear_betas
        >>> process = DiscreteVP(linear_betas(1e-4, 0.05, 50))
        >>> process.time(Discrete(process, power=2.0)(5)[:-1]).round()
        tensor([49., 28., 12.,  3.,  0.], dtype=torch.float64)

    Source: Song et al. 2021 (DDIM), section 4.2 and appendix D.2.
    """

    process: DiscreteVP
    power: float = 1.0

    def __post_init__(self) -> None:
        if not self.power >= 1.0:
            raise ParameterError(f"power={self.power} must be at least 1")

    def __call__(self, n_steps: int) -> Sigmas:
        _check_positive(n_steps)
        n_known = len(self.process.betas)
        if n_steps > n_known:
            raise ParameterError(f"n_steps={n_steps} must not exceed the {n_known} steps of the process")
        roots = torch.linspace((n_known - 1.0) ** (1.0 / self.power), 0.0, n_steps, dtype=torch.float64)
        # No step twice: where several would round to one, the next free ones.
        free = torch.arange(n_steps - 1.0, -1.0, -1.0, dtype=torch.float64)
        steps = torch.maximum((roots**self.power).round(), free)
        return _ending_in_zero(self.process.sigma(steps))


@dataclass(frozen=True)
class BetaTable(Grid):
    """Visit every step of a table of betas, which may differ from that of training.

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

    @property
    def only_steps(self) -> int:
        return len(self.betas)

    def __call__(self, n_steps: int) -> Sigmas:
        if n_steps != len(self.betas):
            raise ParameterError(
                f"n_steps={n_steps} must be {len(self.betas)}, the length of the table of betas: leave out the number "
                "of steps, or use another grid"
            )
        alpha_bar = torch.cumprod(1.0 - torch.tensor(self.betas, dtype=torch.float64), dim=0)
        return _ending_in_zero(torch.sqrt((1.0 - alpha_bar) / alpha_bar).flip(0))


@dataclass(frozen=True)
class Fixed(Grid):
    """Visit the given noise levels.

    Args:
        sigmas: decreasing and positive; the last level, 0, is appended.

    Example:
        >>> Fixed([4.0, 1.0])(2)
        tensor([4., 1., 0.], dtype=torch.float64)
    """

    sigmas: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigmas", tuple(float(sigma) for sigma in self.sigmas))
        for index, (high, low) in enumerate(zip(self.sigmas, (*self.sigmas[1:], 0.0), strict=True)):
            if not high > low:
                raise ParameterError(f"sigmas[{index}]={high} must be greater than the next one, {low}")

    @property
    def only_steps(self) -> int:
        return len(self.sigmas)

    def __call__(self, n_steps: int) -> Sigmas:
        if n_steps != len(self.sigmas):
            raise ParameterError(f"n_steps={n_steps} must be {len(self.sigmas)}, the number of given sigmas")
        return _ending_in_zero(torch.tensor(self.sigmas, dtype=torch.float64))


def _clock_of(process: Process) -> Callable[[float, float], Grid]:
    return lambda sigma_min, sigma_max: TimeBetween(process, sigma_min, sigma_max)


GRIDS: Mapping[str, Callable[[float, float], Grid]] = MappingProxyType(
    {
        "karras": Karras,
        "log_uniform": LogUniform,
        "flow": _clock_of(Flow(noise_scale=0.1)),
        "vp_cosine": _clock_of(VPCosine()),
        "vp_linear": _clock_of(VPLinear()),
        "vp_sigmoid": _clock_of(VPSigmoid()),
        "sub_vp": _clock_of(SubVP()),
    }
)
"""Grids by name, for any model: (sigma_min, sigma_max) -> grid. Their processes are those of `conf`."""


def grid_named(name: str, *, sigma_min: float, sigma_max: float) -> Grid:
    """Return a grid from sigma_max to sigma_min, then 0.

    Raises:
        ParameterError: if there is no grid of this name; the message lists the names.

    Example:
        >>> grid_named("log_uniform", sigma_min=0.1, sigma_max=10.0)(2)
        tensor([10.0000,  0.1000,  0.0000], dtype=torch.float64)
    """
    if name not in GRIDS:
        raise ParameterError(f"grid={name!r} must be one of {', '.join(GRIDS)}")
    return GRIDS[name](sigma_min, sigma_max)
