"""Methods that look at one step at a time."""

from itertools import pairwise

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish
from audiodiff.types import Denoise, Noise, Signal


def euler(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
) -> Signal:
    """Step x' = D + (sigma' / sigma) (x - D): order one, one evaluation a step.

    Source: Song et al. 2021 (DDIM), eq. 12 with eta = 0.
    """
    levels = sigmas.tolist()
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        x = denoised + (sigma_next / sigma) * (x - denoised)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


def heun(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
) -> Signal:
    """Average the slopes at both ends of a step: order two, two evaluations a step, one where sigma' = 0.

    Source: Karras et al. 2022, algorithm 1.
    """
    levels = sigmas.tolist()
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        slope = (x - denoised) / sigma
        predicted = x + (sigma_next - sigma) * slope
        if sigma_next > 0.0:
            slope_next = (predicted - evaluate(denoise, predicted, sigma_next)) / sigma_next
            predicted = x + 0.5 * (sigma_next - sigma) * (slope + slope_next)
        x = finish(predicted, denoised, step, sigma_next, on_step, after_step)
    return x
