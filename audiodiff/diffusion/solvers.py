"""Solvers: plain functions from noise to signal, written on (x, sigma) -> x0 alone.

All solve dx / dsigma = (x - D(x, sigma)) / sigma (Karras et al. 2022, eq. 1 with s(t) = 1 and sigma(t) = t), or its
stochastic form, along a decreasing sequence of sigma. Coefficients are Python floats, so that x keeps its dtype.

| here | elsewhere |
|---|---|
| euler | DDIM with eta = 0; DPM-Solver-1 |
| euler_ancestral | DDPM's posterior; DDIM with that eta |
| heun | Karras et al. 2022, algorithm 1 |
| dpmpp_2m | DPM-Solver++(2M) |
"""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import torch

from audiodiff.diffusion.grid import Sigmas
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Signal

OnStep = Callable[[int, Signal], None]
"""(step, denoised) -> None, after every step, for a progress bar or a picture; step counts from 0."""
AfterStep = Callable[[Signal, int, float], Signal]
"""(x, step, sigma) -> x, applied to the result of every step; sigma is the level that the step arrived at."""


@runtime_checkable
class Solver(Protocol):
    """Carry x from the first sigma to the last one; no state, no randomness but noise."""

    def __call__(
        self,
        denoise: Denoise,
        x: Signal,
        sigmas: Sigmas,
        *,
        noise: Noise | None = None,
        on_step: OnStep | None = None,
        after_step: AfterStep | None = None,
    ) -> Signal: ...


def _evaluate(denoise: Denoise, x: Signal, sigma: float) -> Signal:
    # float64: the denoiser's own scalings need more digits than x.
    return denoise(x, torch.full((x.shape[0],), sigma, dtype=torch.float64, device=x.device))


def _finish(
    x: Signal, denoised: Signal, step: int, sigma: float, on_step: OnStep | None, after_step: AfterStep | None
) -> Signal:
    if after_step is not None:
        x = after_step(x, step, sigma)
    if on_step is not None:
        on_step(step, denoised)
    return x


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
        denoised = _evaluate(denoise, x, sigma)
        x = denoised + (sigma_next / sigma) * (x - denoised)
        x = _finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


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
        denoised = _evaluate(denoise, x, sigma)
        # sigma'^2 (1 - sigma'^2 / sigma^2) is the posterior's variance, in x and not in x_t.
        sigma_up = eta * sigma_next * math.sqrt(1.0 - (sigma_next / sigma) ** 2)
        sigma_down = math.sqrt(sigma_next**2 - sigma_up**2)
        x = denoised + (sigma_down / sigma) * (x - denoised)
        if sigma_up > 0.0:
            x = x + sigma_up * noise(x, step + 1)
        x = _finish(x, denoised, step, sigma_next, on_step, after_step)
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
        denoised = _evaluate(denoise, x, sigma)
        slope = (x - denoised) / sigma
        predicted = x + (sigma_next - sigma) * slope
        if sigma_next > 0.0:
            slope_next = (predicted - _evaluate(denoise, predicted, sigma_next)) / sigma_next
            predicted = x + 0.5 * (sigma_next - sigma) * (slope + slope_next)
        x = _finish(predicted, denoised, step, sigma_next, on_step, after_step)
    return x


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
        denoised = _evaluate(denoise, x, sigma)
        target = denoised
        width = math.inf if sigma_next == 0.0 else math.log(sigma / sigma_next)
        if previous is not None and sigma_next > 0.0:
            target = denoised + (0.5 * width / previous_width) * (denoised - previous)
        x = target + (sigma_next / sigma) * (x - target)
        previous, previous_width = denoised, width
        x = _finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


REGISTRY: Mapping[str, Solver] = MappingProxyType(
    {"euler": euler, "euler_ancestral": euler_ancestral, "heun": heun, "dpmpp_2m": dpmpp_2m}
)
"""Every solver by its name: for the command line, the configuration and the tests."""


def solver(name: str) -> Solver:
    """Return the solver of that name.

    Raises:
        ParameterError: if there is none; the message names those that exist.

    Example:
        >>> solver("heun").__name__
        'heun'
    """
    if name not in REGISTRY:
        raise ParameterError(f"sampler={name!r} must be one of {', '.join(REGISTRY)}")
    return REGISTRY[name]
