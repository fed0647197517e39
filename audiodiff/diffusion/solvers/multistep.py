"""Methods that remember earlier evaluations: one evaluation a step at higher order."""

import math
from itertools import pairwise

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish
from audiodiff.types import Denoise, Noise, Signal


def dpmpp_2m(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
) -> Signal:
    """Extrapolate D linearly in log(sigma) from the last two evaluations: order two, one evaluation a step.

    Source: Lu et al. 2022 (DPM-Solver++), algorithm 2.
    """
    levels = sigmas.tolist()
    previous: Signal | None = None
    previous_width = 0.0
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        target = denoised
        width = math.inf if sigma_next == 0.0 else math.log(sigma / sigma_next)
        if previous is not None and sigma_next > 0.0:
            target = denoised + (0.5 * width / previous_width) * (denoised - previous)
        x = target + (sigma_next / sigma) * (x - target)
        previous, previous_width = denoised, width
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x
