"""Steps along the probability flow with a noise level of its own for every example, and the x0 that a jump aims at.

A denoiser D that jumps from sigma to sigma' by x' = D + (sigma' / sigma) (x - D), as `euler` does, need not be the mean
of x0: whatever x' is wanted, there is one D that lands there. All few-step methods train D towards such a D, made from
several smaller steps, so that a student is sampled by the same solvers as its teacher, and begins as its teacher.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.grid import Grid, Sigmas
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Sigma, Signal


def land(x: Signal, denoised: Signal, sigma: Sigma, sigma_next: Sigma) -> Signal:
    """Compute x' = D + (sigma' / sigma) (x - D), where the jump of a denoised signal ends.

    Source: Song et al. 2021 (DDIM), eq. 12 with eta = 0.
    """
    return denoised + pad_dims_like(sigma_next / sigma, x) * (x - denoised)


def join(first: Signal, second: Signal, sigma: Sigma, middle: Sigma, end: Sigma) -> Signal:
    """Compute the D whose one jump from sigma to end is that of `first` to the middle and that of `second` from there.

    It is the mean of the two with the weight (1 - end / middle) / (1 - end / sigma) on the second: x cancels.

    Args:
        first: the denoised signal at sigma.
        second: the denoised signal at the middle, where the first jump landed.
        sigma: where the jump begins.
        middle: the level between the two jumps.
        end: where the jump ends; it may be 0.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> sigma, middle, end = (torch.tensor([level]) for level in (4.0, 2.0, 1.0))
        >>> join(0 * one, 3 * one, sigma, middle, end).item()
        2.0

    Source: Salimans and Ho 2022, algorithm 2, with x'' written out.
    """
    sigma, middle, end = sigma.double(), middle.double(), end.double()
    return first + pad_dims_like((1.0 - end / middle) / (1.0 - end / sigma), first) * (second - first)


def two_steps(denoise: Denoise, denoise_next: Denoise, x: Signal, sigma: Sigma, middle: Sigma, end: Sigma) -> Signal:
    """Return the D whose one jump from sigma to end is two: `denoise` to the middle, `denoise_next` from there."""
    first = denoise(x, sigma)
    return join(first, denoise_next(land(x, first, sigma, middle), middle), sigma, middle, end)


def euler_step(denoise: Denoise, x: Signal, sigma: Sigma, sigma_next: Sigma) -> Signal:
    """Carry x from sigma to sigma' with one evaluation: order one."""
    return land(x, denoise(x, sigma), sigma, sigma_next)


def heun_step(denoise: Denoise, x: Signal, sigma: Sigma, sigma_next: Sigma) -> Signal:
    """Carry x from sigma to sigma' with the mean of the slopes at both ends: order two; euler_step where sigma' = 0.

    Source: Karras et al. 2022, algorithm 1.
    """
    denoised = denoise(x, sigma)
    predicted = land(x, denoised, sigma, sigma_next)
    # There is no slope at sigma' = 0: another level stands in, and its result is not used.
    level = torch.where(sigma_next > 0.0, sigma_next, sigma)
    slope = (x - denoised) / pad_dims_like(sigma, x)
    slope_next = (predicted - denoise(predicted, level)) / pad_dims_like(level, x)
    corrected = x + pad_dims_like(sigma_next - sigma, x) * 0.5 * (slope + slope_next)
    return torch.where(pad_dims_like(sigma_next, x) > 0.0, corrected, predicted)


def halves(grid: Grid, n_steps: int) -> tuple[Sigmas, Sigmas, Sigmas]:
    """Return the n_steps steps of a grid as (sigma, the level half way, sigma'), each (n_steps,).

    Raises:
        ParameterError: if the grid's 2 n_steps steps are not halves of its n_steps steps.

    Example:
        >>> from audiodiff.diffusion.grid import TimeUniform
        >>> from audiodiff.diffusion.process import Flow
        >>> halves(TimeUniform(Flow(), t_start=0.75), 1)
        (tensor([3.], dtype=torch.float64), tensor([0.6000], dtype=torch.float64), tensor([0.], dtype=torch.float64))
    """
    levels, fine = grid(n_steps), grid(2 * n_steps)
    if not torch.allclose(fine[::2], levels, rtol=1e-9, atol=0.0):
        raise ParameterError(
            f"the grid {type(grid).__name__} with {2 * n_steps} steps does not halve its {n_steps} steps, so that two "
            "of a teacher's do not make one of a student's: choose a sampler that is uniform in time, as sampler=flow"
        )
    return levels[:-1], fine[1::2], levels[1:]


Chosen = Float[Tensor, "batch"]


def draw_steps(
    steps: tuple[Sigmas, ...], n: int, *, generator: torch.Generator, device: torch.device
) -> tuple[Chosen, ...]:
    """Draw n of some steps with equal probabilities, each step given by the same place in all the sequences."""
    which = torch.randint(len(steps[0]), (n,), generator=generator, device=generator.device).cpu()
    return tuple(levels[which].to(device) for levels in steps)
