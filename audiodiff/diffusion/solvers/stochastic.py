"""Methods that draw noise at every step."""

import math
from itertools import pairwise

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Signal


def euler_ancestral(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    eta: float = 1.0,
) -> Signal:
    """Step down to sigma_down, then add noise up to sigma': with eta = 1 a draw from DDPM's posterior.

    Args:
        denoise: (x, sigma) -> x0.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: draws the noise of transition k with step number k + 1; the start has number 0.
        on_step: called after every step.
        after_step: applied to the result of every step.
        eta: share of the posterior's std that is drawn; 0 is euler.

    Raises:
        ParameterError: if there is no noise to draw from.

    Source: Ho et al. 2020, eq. 6 and 7; Song et al. 2021 (DDIM), eq. 16 for eta.
    """
    if noise is None:
        raise ParameterError("noise=None: euler_ancestral draws noise at every step; give it a noise function")
    levels = sigmas.tolist()
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        # sigma'^2 (1 - sigma'^2 / sigma^2) is the posterior's variance, in x and not in x_t.
        sigma_up = eta * sigma_next * math.sqrt(1.0 - (sigma_next / sigma) ** 2)
        sigma_down = math.sqrt(sigma_next**2 - sigma_up**2)
        x = denoised + (sigma_down / sigma) * (x - denoised)
        if sigma_up > 0.0:
            x = x + sigma_up * noise(x, step + 1)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x
