"""Likelihood of the probability flow: the density of its samples at a signal.

With u = log(sigma) the flow is dx / du = x - D(x, sigma), and along it d log p / du = -(n - tr dD / dx), with n the
number of dimensions. It is solved from the signal up to sigma_max, where the density is a Gaussian.

`euler`, `heun` and the other deterministic solvers draw from this density in the limit of many steps. The variational
bound (`bound.py`) is of samples of the ancestral chain. For the exact denoiser both are the law of the data; of a
trained denoiser they are two models, and neither number bounds the other.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion import integration
from audiodiff.diffusion.integration import States, Tolerance
from audiodiff.errors import ParameterError, check_whole
from audiodiff.types import Denoise, Noise, Sigma, Signal

Nats = Float[Tensor, "batch"]
Probes = Callable[[Signal], Iterator[Signal]]
"""(like) -> vectors v of like's shape with tr J = E[v J v], drawn once for the whole flow."""
Field = Callable[[Sigma, Signal], tuple[Signal, Nats]]
"""(u, x) -> dx / du and its divergence, with one u for each example."""
Integrate = Callable[[Field, Signal, float, float], tuple[Signal, Nats]]
"""(field, x, first u, last u) -> x at the last u and the integral of the divergence."""


def log_likelihood(
    denoise: Denoise,
    x: Signal,
    *,
    sigma_min: float,
    sigma_max: float,
    probes: Probes,
    integrate: Integrate,
    data_variance: float = 0.0,
) -> Nats:
    """Compute log p(x) under the probability flow at sigma_min, in nats of the whole signal.

    The denoiser is differentiated by x, also under `torch.no_grad`. It must not have been bound under
    `torch.inference_mode`, which forbids that.

    Args:
        denoise: (x, sigma) -> x0.
        x: signals.
        sigma_min: level of x: p is the density of data with white noise of this std. It should be small against x, or
            x have such noise.
        sigma_max: level at which the density is N(0, sigma_max^2 + data_variance); large against x.
        probes: `basis` for the exact trace, in one backward pass for each dimension; `rademacher(noise, n)` or
            `gaussian(noise, n)` for an unbiased estimate in n backward passes.
        integrate: `RungeKutta(n_steps)` or `Adaptive(rtol, atol)`.
        data_variance: mean square of the data; if given, a lower sigma_max is enough.

    Raises:
        ParameterError: unless 0 < sigma_min < sigma_max, or for a negative data_variance.

    Example:
        >>> x = torch.zeros(1, 1, 2, dtype=torch.float64)  # data: N(0, 1)
        >>> log_likelihood(
        ...     lambda x, sigma: x / (1.0 + sigma[:, None, None] ** 2),
        ...     x,
        ...     sigma_min=0.001,
        ...     sigma_max=10.0,
        ...     probes=basis,
        ...     integrate=RungeKutta(50),
        ...     data_variance=1.0,
        ... )  # -log(2 pi)
        tensor([-1.8379], dtype=torch.float64)

    Source: Song et al. 2021 (score SDE), eq. 39 and appendix D.2.
    """
    if not 0.0 < sigma_min < sigma_max:
        raise ParameterError(f"sigma_min={sigma_min} and sigma_max={sigma_max} must satisfy 0 < sigma_min < sigma_max")
    if data_variance < 0.0:
        raise ParameterError(f"data_variance={data_variance} must not be negative")
    n_dims = x[0].numel()
    vectors = list(probes(x))

    def field(u: Sigma, x: Signal) -> tuple[Signal, Nats]:
        denoised, trace = _with_trace(denoise, x, torch.exp(u), vectors)
        return x - denoised, n_dims - trace

    x, divergence = integrate(field, x, math.log(sigma_min), math.log(sigma_max))
    variance = sigma_max**2 + data_variance
    power = x.double().square().flatten(1).sum(dim=1)
    return divergence - 0.5 * (power / variance + n_dims * math.log(2.0 * math.pi * variance))


def bits_per_dimension(log_likelihood: Nats, *, n_dims: int, bin_width: float) -> Nats:
    """Compute -log2 of the probability of the bin around a signal, per dimension: -(log p / n + log w) / log 2.

    Args:
        log_likelihood: log p of each signal, in nats.
        n_dims: n, channels times samples.
        bin_width: w, narrow against the width of the density: 2^-15 for 16-bit audio in [-1, 1].

    Raises:
        ParameterError: if n_dims or bin_width is not positive.

    Example:
        >>> uniform = torch.tensor([-3.0 * math.log(2.0)])  # the density of three numbers in [-1, 1]
        >>> bits_per_dimension(uniform, n_dims=3, bin_width=2.0**-15)
        tensor([16.])

    Source: Theis et al. 2016, section 3.1, for densities of quantised data.
    """
    check_whole(n_dims, name="n_dims", least=1)
    if not bin_width > 0.0:
        raise ParameterError(f"bin_width={bin_width} must be positive")
    return -(log_likelihood / n_dims + math.log(bin_width)) / math.log(2.0)


def basis(like: Signal) -> Iterator[Signal]:
    """Yield the n unit vectors times sqrt(n): the mean of v J v over them is the exact trace."""
    shape, n_dims = like.shape[1:], like[0].numel()
    for index in range(n_dims):
        unit = like.new_zeros(n_dims)
        unit[index] = math.sqrt(n_dims)
        yield unit.reshape(shape).expand_as(like)


def rademacher(noise: Noise, n_probes: int) -> Probes:
    """Make n random probes of -1 and 1: Hutchinson's estimate of least variance; exact for a diagonal Jacobian.

    Args:
        noise: called with step number k for probe k.
        n_probes: number of them, and of backward passes at every evaluation.

    Raises:
        ParameterError: if n_probes is not positive.

    Source: Hutchinson 1990; Grathwohl et al. 2019 (FFJORD), section 3.1.
    """
    normal = gaussian(noise, n_probes)

    def probes(like: Signal) -> Iterator[Signal]:
        return (torch.where(probe < 0.0, -1.0, 1.0).to(like) for probe in normal(like))

    return probes


def gaussian(noise: Noise, n_probes: int) -> Probes:
    """Make n random probes of white noise.

    Args:
        noise: called with step number k for probe k.
        n_probes: number of them, and of backward passes at every evaluation.

    Raises:
        ParameterError: if n_probes is not positive.

    Source: Hutchinson 1990; Skilling 1989.
    """
    check_whole(n_probes, name="n_probes", least=1)

    def probes(like: Signal) -> Iterator[Signal]:
        return (noise(like, step) for step in range(n_probes))

    return probes


@dataclass(frozen=True)
class RungeKutta:
    """Integrate by the classical Runge-Kutta method of order four, in equal steps of log(sigma).

    The result of an example does not depend on the batch.

    Args:
        n_steps: number of steps, of four evaluations each.

    Source: Hairer et al. 1993, section II.1, table 1.2.
    """

    n_steps: int

    def __post_init__(self) -> None:
        check_whole(self.n_steps, name="n_steps", least=1)

    def __call__(self, field: Field, x: Signal, first: float, last: float) -> tuple[Signal, Nats]:
        width = (last - first) / self.n_steps
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for step in range(self.n_steps):
            u = torch.full_like(total, first + step * width)
            slope_1, rate_1 = field(u, x)
            slope_2, rate_2 = field(u + 0.5 * width, x + 0.5 * width * slope_1)
            slope_3, rate_3 = field(u + 0.5 * width, x + 0.5 * width * slope_2)
            slope_4, rate_4 = field(u + width, x + width * slope_3)
            x = x + width / 6.0 * (slope_1 + 2.0 * slope_2 + 2.0 * slope_3 + slope_4)
            total = total + width / 6.0 * (rate_1 + 2.0 * rate_2 + 2.0 * rate_3 + rate_4)
        return x, total


@dataclass(frozen=True)
class Adaptive:
    """Integrate by the method of Dormand and Prince, with adaptive steps for each example.

    The result of an example does not depend on the batch. The state is float64, whatever the dtype of x.

    Args:
        rtol: relative error that is tolerated in a step, root mean square over an example and its log density.
        atol: absolute error, likewise; in nats, and in units of x.

    Source: scipy.integrate.RK45; Song et al. 2021 (score SDE), appendix D.2, has these tolerances.
    """

    rtol: float = 1e-5
    atol: float = 1e-5

    def __post_init__(self) -> None:
        Tolerance(self.rtol, self.atol)

    def __call__(self, field: Field, x: Signal, first: float, last: float) -> tuple[Signal, Nats]:
        """Integrate each example.

        Raises:
            ParameterError: if the tolerance cannot be met, or the denoiser is not finite.
        """

        def slope(u: Sigma, states: States) -> States:
            change, rate = field(u, states[:, 1:].reshape(x.shape).to(x))
            return torch.cat([rate[:, None], change.double().flatten(1)], dim=1)

        start = F.pad(x.double().flatten(1), (1, 0))
        end = integration.integrate(slope, start, first, last, Tolerance(self.rtol, self.atol))
        return end[:, 1:].reshape(x.shape).to(x), end[:, 0]


def _with_trace(denoise: Denoise, x: Signal, sigma: Sigma, probes: Sequence[Signal]) -> tuple[Signal, Nats]:
    """Evaluate D and the trace of dD / dx of each example."""
    terms: list[Nats] = []
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        denoised = denoise(x, sigma)
        for probe in probes:
            (product,) = torch.autograd.grad(denoised, x, probe, retain_graph=True)
            terms.append((probe * product).double().flatten(1).sum(dim=1).detach())
    return denoised.detach(), torch.stack(terms).mean(dim=0)
