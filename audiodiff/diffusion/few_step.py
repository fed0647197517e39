"""Few-step methods: steps along the probability flow at one noise level per example, and targets for D.

`euler` jumps from sigma to sigma' by x' = D + (sigma' / sigma) (x - D). For any x' there is exactly one D with this
result, which need not be the mean of x0. All few-step methods train D towards such a D, made from several smaller
steps. So a student is sampled by the same solvers as its teacher, and can start from its teacher's weights.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.grid import Grid, Sigmas
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Sigma, Signal


def ddim_step(x: Signal, denoised: Signal, sigma: Sigma, sigma_next: Sigma) -> Signal:
    """Compute x' = D + (sigma' / sigma) (x - D).

    Source: Song et al. 2021 (DDIM), eq. 12 with eta = 0.
    """
    return denoised + pad_dims_like(sigma_next / sigma, x) * (x - denoised)


def merge_steps(first: Signal, second: Signal, sigma: Sigma, middle: Sigma, end: Sigma) -> Signal:
    """Compute the D whose single step from sigma to end equals a step to middle with `first`, then one with `second`.

    It is the mean of the two with the weight (1 - end / middle) / (1 - end / sigma) on the second: x cancels.

    Args:
        first: D at sigma.
        second: D at middle, at the result of the first step.
        sigma: level at the start.
        middle: level between the two steps.
        end: level at the end; it may be 0.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> sigma, middle, end = (torch.tensor([level]) for level in (4.0, 2.0, 1.0))
        >>> merge_steps(0 * one, 3 * one, sigma, middle, end).item()
        2.0

    Source: Salimans and Ho 2022, algorithm 2, with x'' written out.
    """
    sigma, middle, end = sigma.double(), middle.double(), end.double()
    return first + pad_dims_like((1.0 - end / middle) / (1.0 - end / sigma), first) * (second - first)


def two_steps(denoise: Denoise, denoise_next: Denoise, x: Signal, sigma: Sigma, middle: Sigma, end: Sigma) -> Signal:
    """Compute the D whose single step equals a step to middle with `denoise`, then one to end with `denoise_next`."""
    first = denoise(x, sigma)
    return merge_steps(first, denoise_next(ddim_step(x, first, sigma, middle), middle), sigma, middle, end)


def euler_step(denoise: Denoise, x: Signal, sigma: Sigma, sigma_next: Sigma) -> Signal:
    """Step x from sigma to sigma' with one evaluation: order one."""
    return ddim_step(x, denoise(x, sigma), sigma, sigma_next)


def heun_step(denoise: Denoise, x: Signal, sigma: Sigma, sigma_next: Sigma) -> Signal:
    """Step x from sigma to sigma' with the mean of the slopes at both ends: order two; euler_step to sigma' = 0.

    Source: Karras et al. 2022, algorithm 1.
    """
    denoised = denoise(x, sigma)
    predicted = ddim_step(x, denoised, sigma, sigma_next)
    # There is no slope at sigma' = 0: that result is computed at sigma and discarded.
    level = torch.where(sigma_next > 0.0, sigma_next, sigma)
    slope = (x - denoised) / pad_dims_like(sigma, x)
    slope_next = (predicted - denoise(predicted, level)) / pad_dims_like(level, x)
    corrected = x + pad_dims_like(sigma_next - sigma, x) * 0.5 * (slope + slope_next)
    return torch.where(pad_dims_like(sigma_next, x) > 0.0, corrected, predicted)


def halves(grid: Grid, n_steps: int) -> tuple[Sigmas, Sigmas, Sigmas]:
    """Return the steps of a grid and their middle levels as (sigma, middle, sigma'), each (n_steps,).

    Raises:
        ParameterError: if the grid with 2 n_steps steps does not halve its n_steps steps.

    Example:
        >>> from audiodiff.diffusion.grid import TimeUniform
        >>> from audiodiff.diffusion.process import Flow
        >>> halves(TimeUniform(Flow(), t_start=0.75), 1)
        (tensor([3.], dtype=torch.float64), tensor([0.6000], dtype=torch.float64), tensor([0.], dtype=torch.float64))
    """
    levels, fine = grid(n_steps), grid(2 * n_steps)
    if not torch.allclose(fine[::2], levels, rtol=1e-9, atol=0.0):
        raise ParameterError(
            f"the grid {type(grid).__name__} with {2 * n_steps} steps does not halve its {n_steps} steps, so two steps "
            "of a teacher are not one of a student: choose a sampler that is uniform in time, such as sampler=flow"
        )
    return levels[:-1], fine[1::2], levels[1:]


def draw_steps(
    steps: tuple[Sigmas, ...], n: int, *, generator: torch.Generator, device: torch.device
) -> tuple[Float[Tensor, "batch"], ...]:
    """Draw n steps with equal probabilities; the entries of one step have the same index in all sequences."""
    which = torch.randint(len(steps[0]), (n,), generator=generator, device=generator.device).cpu()
    return tuple(levels[which].to(device) for levels in steps)
