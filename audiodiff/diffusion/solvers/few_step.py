"""Solvers for denoisers of few-step methods, which are trained to jump: steps of any length."""

import math
from itertools import pairwise

import torch

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish, required
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Signal


def check_consistency(sigmas: Sigmas, *, guided: bool = False, sigma_end: float = 0.0) -> None:
    """Check that sigma_end is not negative, and below all levels but the last 0."""
    if not sigma_end >= 0.0:
        raise ParameterError(f"sigma_end={sigma_end} must not be negative")
    for level in sigmas[1:].tolist():
        if 0.0 < level < sigma_end:
            raise ParameterError(
                f"sigma_end={sigma_end} must not exceed any level of the grid but the last 0, here {level}: raise the "
                "grid's lowest level"
            )


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
    """Jump to x0 = D, then add noise: x' = D + sqrt(sigma'^2 - sigma_end^2) z, the last step without noise.

    It is made for a consistency model, whose D is the end of the flow and not the mean of x0. With an ordinary denoiser
    it does not converge to the law of the data.

    Args:
        denoise: (x, sigma) -> the end of the flow through x.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: draws the noise of transition k with step number k + 1; step number 0 is that of the start.
        on_step: called after every step.
        after_step: applied to the result of every step.
        sigma_end: the level that the model was trained to end at; 0 for clean signals.

    Raises:
        ParameterError: if there is no noise to draw from, or sigma_end is negative or above a level to noise to.

    Source: Song et al. 2023 (consistency models), algorithm 1.
    """
    draw = required(noise, "consistency")
    check_consistency(sigmas, sigma_end=sigma_end)
    levels = sigmas.tolist()
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        x = denoised
        if sigma_next > 0.0:
            x = x + math.sqrt(sigma_next**2 - sigma_end**2) * draw(x, step + 1)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


def check_shortcut(sigmas: Sigmas, *, guided: bool = False) -> None:
    """Check that the denoiser is not guided: a guided denoiser is a plain function, and does not jump."""
    if guided:
        raise ParameterError(
            "sampler=shortcut needs a denoiser that is trained to jump: train with method=shortcut and leave guidance "
            "out, or choose another sampler"
        )


def shortcut(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
) -> Signal:
    """Step x' = D + (sigma' / sigma) (x - D) with the D of the jump from sigma to sigma': one evaluation a step.

    Args:
        denoise: the result of Denoiser.bind, of a denoiser with a step-size embedding.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: not used.
        on_step: called after every step.
        after_step: applied to the result of every step.

    Raises:
        ParameterError: if the denoiser was not trained to jump.

    Source: Frans et al. 2025 (shortcut models), algorithm 2.
    """
    predict_jump = getattr(denoise, "predict_jump", None)
    check_shortcut(sigmas, guided=predict_jump is None)
    assert predict_jump is not None
    levels = sigmas.tolist()
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        ahead = torch.full((x.shape[0],), sigma_next, dtype=torch.float64, device=x.device)
        denoised = predict_jump(x, torch.full_like(ahead, sigma), ahead)
        x = denoised + (sigma_next / sigma) * (x - denoised)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x
