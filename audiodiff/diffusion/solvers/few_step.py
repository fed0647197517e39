"""Methods for denoisers that were trained to jump: few steps, each of any length."""

import math
from itertools import pairwise

import torch

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish, required
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Signal


def consistency(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    sigma_end: float = 0.0,
) -> Signal:
    """Jump to x0 = D, then noise it again: x' = D + sqrt(sigma'^2 - sigma_end^2) z, the last step without noise.

    It is meant for a consistency model, whose D is the end of the flow and not the mean of x0: then every step ends in
    the data's law. With an ordinary denoiser more steps do not.

    Args:
        denoise: (x, sigma) -> the end of the flow through x.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: draws the noise of transition k with step number k + 1; the start has number 0.
        on_step: called after every step.
        after_step: applied to the result of every step.
        sigma_end: the level at which the model was taught to end; 0 where it is clean.

    Raises:
        ParameterError: if there is no noise to draw from, or sigma_end is negative or above a level to noise to.

    Source: Song et al. 2023 (consistency models), algorithm 1.
    """
    draw = required(noise, "consistency")
    if not sigma_end >= 0.0:
        raise ParameterError(f"sigma_end={sigma_end} must not be negative")
    levels = sigmas.tolist()
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        if 0.0 < sigma_next < sigma_end:
            raise ParameterError(
                f"sigma_end={sigma_end} must not exceed any level of the grid but the last 0, here {sigma_next}: "
                "raise the grid's lowest level"
            )
        denoised = evaluate(denoise, x, sigma)
        x = denoised
        if sigma_next > 0.0:
            x = x + math.sqrt(sigma_next**2 - sigma_end**2) * draw(x, step + 1)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


def shortcut(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
) -> Signal:
    """Step x' = D + (sigma' / sigma) (x - D) with the D that is right for just this step: one evaluation a step.

    Args:
        denoise: what Denoiser.bind returns, of a denoiser that knows where a step goes.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: not used.
        on_step: called after every step.
        after_step: applied to the result of every step.

    Raises:
        ParameterError: if the denoiser knows no jumps.

    Source: Frans et al. 2025 (shortcut models), algorithm 2.
    """
    predict_jump = getattr(denoise, "predict_jump", None)
    if predict_jump is None:
        raise ParameterError(
            "sampler=shortcut needs a denoiser that knows jumps: train with method=shortcut and leave guidance out, or "
            "choose another sampler"
        )
    levels = sigmas.tolist()
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        ahead = torch.full((x.shape[0],), sigma_next, dtype=torch.float64, device=x.device)
        denoised = predict_jump(x, torch.full_like(ahead, sigma), ahead)
        x = denoised + (sigma_next / sigma) * (x - denoised)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x
