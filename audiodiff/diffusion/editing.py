"""Editing: add noise to a signal, or invert it to noise, and denoise it as another signal.

A strength, from 0 to 1, is a position in the grid of a sampler: with N steps the grid has N + 1 noise levels, and
strength s is level number (1 - s) N. N is that of `fine_grid`.
"""

import torch

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.process import Flow, Process
from audiodiff.diffusion.sampler import Sampler, fine_grid
from audiodiff.diffusion.solvers import AfterStep, OnStep, Solver, midpoint
from audiodiff.types import Denoise, Noise, Signal


def sdedit(
    denoise: Denoise,
    x0: Signal,
    sigmas: Sigmas,
    *,
    solver: Solver,
    noise: Noise,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
) -> Signal:
    """Add noise of the first level to x0, and denoise the result with a solver.

    Source: Meng et al. 2022 (SDEdit), algorithm 1.
    """
    x = x0 + float(sigmas[0]) * noise(x0, 0)
    return solver(denoise, x, sigmas, noise=noise, on_step=on_step, after_step=after_step)


def inversion(
    source: Denoise, target: Denoise, x0: Signal, sigmas: Sigmas, *, process: Process, on_step: OnStep | None = None
) -> Signal:
    """Follow the probability flow of one denoiser from the last level to the first, and back that of another.

    With the same denoiser twice, the result is x0 up to the error of the midpoint rule, of order two. Between two
    Gaussians with proportional covariances, and with a high first level, the map is the optimal transport.

    Args:
        source: conditional denoiser of x0.
        target: conditional denoiser of the result.
        x0: starts at the last level.
        sigmas: decreasing; the last is not 0, and small against x0.
        process: the middle of a step is that of its clock. `Flow` works from the lowest to the highest levels.
        on_step: called after every step, up and down.

    Source: Su et al. 2023 (dual diffusion implicit bridges), algorithm 1 and proposition 3.1 for the map; Song et al.
    2021 (DDIM), section 4.3.
    """
    latent = midpoint(source, x0, sigmas.flip(0), process=process, on_step=on_step)
    return midpoint(target, latent, sigmas, process=process, on_step=on_step)


def edit_sigmas(sampler: Sampler, *, strength: float) -> Sigmas:
    """Return the noise levels of an edit down to 0: as many steps as the sampler's, evenly on its own clock.

    Args:
        sampler: whose grid and number of steps they are; a grid of a fixed table gives what lies on its levels.
        strength: the place of the first level, above 0; see the module.

    Example:
        >>> from audiodiff.diffusion.grid import TimeUniform
        >>> flow = Sampler(midpoint, TimeUniform(Flow(), t_start=1.0 - 2**-20), n_steps=2)
        >>> edit_sigmas(flow, strength=0.5)  # sigma = t / (1 - t) at t = 1/2, 1/4, 0
        tensor([1.0000, 0.3333, 0.0000], dtype=torch.float64)
    """
    if strength == 1.0:
        return sampler.grid(sampler.n_steps)
    clock = fine_grid(sampler)
    n = len(clock) - 1
    return clock[torch.linspace(_first(strength, n), n, sampler.n_steps + 1).round().long().unique()]


def inversion_sigmas(sampler: Sampler, *, strength: float) -> Sigmas:
    """Return the noise levels of an inversion: from that of its strength to the clock's least, even in log(sigma).

    Args:
        sampler: see `edit_sigmas`.
        strength: see `edit_sigmas`.
    """
    clock = fine_grid(sampler)
    first = clock[_first(strength, len(clock) - 1)]
    return torch.linspace(first.log().item(), clock[-2].log().item(), sampler.n_steps + 1, dtype=torch.float64).exp()


def flow_of(sampler: Sampler) -> Flow:
    """Return the flow with t = 1 / 2 in the middle of a sampler's grid."""
    clock = fine_grid(sampler)
    return Flow(noise_scale=float(clock[(len(clock) - 1) // 2]))


def _first(strength: float, n: int) -> int:
    """Return the place of a strength above 0 among n + 1 levels of which the last is 0."""
    return min(round((1.0 - strength) * n), n - 1)
