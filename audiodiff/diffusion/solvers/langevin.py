"""Predictor-corrector sampling: steps of the reverse SDE, corrected by Langevin dynamics."""

import math
from itertools import pairwise

import torch

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish, required
from audiodiff.errors import ParameterError, check_whole
from audiodiff.types import Denoise, Noise, Signal


def _langevin(score: Signal, z: Signal, r: float) -> Signal:
    """Return eps score + sqrt(2 eps) z with eps = 2 (r |z| / |score|)^2, or 0 if the score is 0.

    Source: Song et al. 2021 (score SDE), algorithm 4, with norms per example where they average over the batch.
    """
    slope = torch.linalg.vector_norm(score.flatten(1), dim=1, dtype=torch.float64)
    length = torch.linalg.vector_norm(z.flatten(1), dim=1, dtype=torch.float64)
    size = torch.where(slope > 0.0, 2.0 * (r * length / slope) ** 2, 0.0)
    return pad_dims_like(size, score) * score + pad_dims_like(torch.sqrt(2.0 * size), z) * z


def check_predictor_corrector(sigmas: Sigmas, *, guided: bool = False, r: float = 0.16, n_corrections: int = 1) -> None:
    """Check r and the number of corrections."""
    if not r > 0.0:
        raise ParameterError(f"r={r} must be positive: n_corrections=0 leaves the corrections out")
    check_whole(n_corrections, name="n_corrections", least=0)


def predictor_corrector(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    r: float = 0.16,
    n_corrections: int = 1,
) -> Signal:
    """Predict by a step of the reverse SDE (euler_maruyama), then correct by Langevin steps at the new level.

    It evaluates the denoiser once for each prediction and each correction: n + n_corrections (n - 1) times in n steps,
    as a step to sigma = 0 is not corrected. The length of a correction depends on norms over a whole example, which
    vary little for signals of many samples; for a single number per example it would be heavy-tailed, and the law
    wrong. The length is the same for the scores of x and of x_t, so that no factor of the process (their algorithm 5)
    is needed.

    Each correction has an error in law of order r^2, so that many steps converge to the law of the data only as r goes
    to 0. The rounding error of the score is that of x over sigma^2: in float32, with signals near 1 and a last level of
    0.002, it was 4e-4.

    Args:
        denoise: (x, sigma) -> x0.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: draws the noise of transition k of n with step number k + 1, and that of its correction j, counted from
            0, with step number n + 1 + k n_corrections + j; step number 0 is that of the start.
        on_step: called after every step, with the predictor's denoised signal.
        after_step: applied to the result of every step, corrections included.
        r: norm of a correction's drift over that of its noise, the "signal-to-noise ratio" of the paper.
        n_corrections: Langevin steps after each prediction; 0 is euler_maruyama.

    Raises:
        ParameterError: if there is no noise to draw from, r is not positive or n_corrections is negative.

    Source: Song et al. 2021 (score SDE), algorithms 2 and 4.
    """
    draw = required(noise, "predictor_corrector")
    check_predictor_corrector(sigmas, r=r, n_corrections=n_corrections)
    levels = sigmas.tolist()
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        x = denoised + (sigma_next / sigma) ** 2 * (x - denoised)
        if sigma_next > 0.0:
            x = x + math.sqrt(sigma**2 - sigma_next**2) * draw(x, step + 1)
            for correction in range(n_corrections):
                score = (evaluate(denoise, x, sigma_next) - x) / sigma_next**2
                x = x + _langevin(score, draw(x, len(levels) + step * n_corrections + correction), r)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x
