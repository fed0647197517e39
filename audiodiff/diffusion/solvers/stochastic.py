"""Ancestral sampling and the reverse-time SDE: one-step methods that draw noise at every step.

All take Gaussian steps from sigma to sigma' with the mean D + (sigma' / sigma)^2 (x - D). They differ by the variance,
written here for x = x_t / alpha_t:

| method | variance of the step | exact for data that are |
|---|---|---|
| ddpm, small; euler_ancestral, eta = 1 | sigma'^2 (1 - sigma'^2 / sigma^2) | one point |
| ddpm, large | (alpha / alpha')^2 (sigma^2 - sigma'^2) | white of unit variance, if the process preserves it |
| euler_maruyama | sigma^2 - sigma'^2: large with alpha = 1 | white without bound |

Large: a forward step of the process is x_t = (alpha / alpha') x_s + sqrt(beta) z. From the variances at both ends,
alpha^2 sigma^2 and alpha'^2 sigma'^2, follows beta = alpha^2 sigma^2 - alpha^2 sigma'^2. DDPM takes beta as the
variance of x_s, which is beta / alpha'^2 in x. Small: beta (alpha' sigma')^2 / (alpha sigma)^2. So the ratio of the two
standard deviations is that of the noise levels in x_t, alpha sigma / (alpha' sigma').
"""

import math
from itertools import pairwise
from types import MappingProxyType

import torch

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.process import Process
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish, required
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Signal


def check_euler_ancestral(sigmas: Sigmas, *, guided: bool = False, eta: float = 1.0) -> None:
    """Check eta."""
    if not 0.0 <= eta <= 1.0:
        raise ParameterError(f"eta={eta} must lie between 0 and 1")


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
        noise: draws the noise of transition k with step number k + 1; step number 0 is that of the start.
        on_step: called after every step.
        after_step: applied to the result of every step.
        eta: factor of the posterior's std, from 0 to 1; 0 is euler.

    Raises:
        ParameterError: if there is no noise to draw from, or eta is out of range.

    Source: Ho et al. 2020, eq. 6 and 7; Song et al. 2021 (DDIM), eq. 16 for eta.
    """
    draw = required(noise, "euler_ancestral")
    check_euler_ancestral(sigmas, eta=eta)
    levels = sigmas.tolist()
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        # sigma'^2 (1 - sigma'^2 / sigma^2) is the variance of the posterior, in x and not in x_t.
        sigma_up = eta * sigma_next * math.sqrt(1.0 - (sigma_next / sigma) ** 2)
        sigma_down = math.sqrt(sigma_next**2 - sigma_up**2)
        x = denoised + (sigma_down / sigma) * (x - denoised)
        if sigma_up > 0.0:
            x = x + sigma_up * draw(x, step + 1)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


_FRACTIONS = MappingProxyType({"small": 0.0, "large": 1.0})


def _level_in_x_t(process: Process | None, sigma: float) -> float:
    """Return sigma_t = alpha_t * sigma; without a process, that of one that preserves the variance."""
    if process is None:
        return sigma / math.sqrt(1.0 + sigma**2)
    return sigma * float(process.alpha(torch.tensor(sigma, dtype=torch.float64)))


def _with_fraction(denoise: Denoise, x: Signal, sigma: float) -> tuple[Signal, Signal]:
    """Return D and the network's log variance as a fraction between small (0) and large (1)."""
    predict = getattr(denoise, "predict", None)
    level = torch.full((x.shape[0],), sigma, dtype=torch.float64, device=x.device)
    prediction = None if predict is None else predict(x, level)
    if prediction is None or prediction.variance_fraction is None:
        raise _not_learned()
    return prediction.denoised, prediction.variance_fraction


def _not_learned() -> ParameterError:
    return ParameterError(
        "variance=learned needs a network that has learned it: train with objective=hybrid and leave guidance out, or "
        "choose small or large"
    )


def check_ddpm(
    sigmas: Sigmas, *, guided: bool = False, variance: str = "small", process: Process | None = None
) -> None:
    """Check the variance: a guided denoiser is a plain function, and has no learned one."""
    if variance != "learned" and variance not in _FRACTIONS:
        raise ParameterError(f"variance={variance!r} must be one of {', '.join(_FRACTIONS)}, learned")
    if guided and variance == "learned":
        raise _not_learned()


def ddpm(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    variance: str = "small",
    process: Process | None = None,
) -> Signal:
    """Draw from N(D + (sigma' / sigma)^2 (x - D), variance), the last step without noise: one evaluation a step.

    Args:
        denoise: (x, sigma) -> x0; for a learned variance, the result of Denoiser.bind.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: draws the noise of transition k with step number k + 1; step number 0 is that of the start.
        on_step: called after every step.
        after_step: applied to the result of every step.
        variance: "small", that of the posterior, as euler_ancestral; "large", that of the forward step; or "learned",
            small^(1 - v) large^v with the v of the network.
        process: determines the large variance; None is any process that preserves the variance, as a learned variance
            assumes.

    Raises:
        ParameterError: if there is no noise to draw from, there is no such variance, or it was not learned.

    Source: Ho et al. 2020, algorithm 2 and section 3.2; Nichol and Dhariwal 2021, eq. 15.
    """
    draw = required(noise, "ddpm")
    check_ddpm(sigmas, variance=variance)
    levels = sigmas.tolist()
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        if variance == "learned":
            denoised, fraction = _with_fraction(denoise, x, sigma)
        else:
            denoised, fraction = evaluate(denoise, x, sigma), _FRACTIONS[variance]
        x = denoised + (sigma_next / sigma) ** 2 * (x - denoised)
        if sigma_next > 0.0:
            small = sigma_next * math.sqrt(1.0 - (sigma_next / sigma) ** 2)
            large_to_small = _level_in_x_t(process, sigma) / _level_in_x_t(process, sigma_next)
            x = x + small * large_to_small**fraction * draw(x, step + 1)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


def euler_maruyama(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
) -> Signal:
    """Step x' = x + (sigma^2 - sigma'^2) score + sqrt(sigma^2 - sigma'^2) z, the last step without noise.

    The score is (D - x) / sigma^2, and the clock of this reverse-time SDE is sigma^2. It is the VE SDE of Song et al.
    In x = x_t / alpha_t, the drift of their forward VP and sub-VP SDEs vanishes, and they become this one.

    Args:
        denoise: (x, sigma) -> x0.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: draws the noise of transition k with step number k + 1; step number 0 is that of the start.
        on_step: called after every step.
        after_step: applied to the result of every step.

    Raises:
        ParameterError: if there is no noise to draw from.

    Source: Song et al. 2021 (score SDE), eq. 6 and 46; their reverse diffusion sampler of the VE SDE.
    """
    draw = required(noise, "euler_maruyama")
    levels = sigmas.tolist()
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        x = denoised + (sigma_next / sigma) ** 2 * (x - denoised)
        if sigma_next > 0.0:
            x = x + math.sqrt(sigma**2 - sigma_next**2) * draw(x, step + 1)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x
