"""DPM-Solver++: multistep methods, which extrapolate D from earlier steps at one evaluation a step.

A step from sigma to sigma' has the width h = log(sigma / sigma'), in which the probability flow is

    x' = exp(-h) x + integral over s from 0 to h of exp(s - h) D(s) ds,

which the methods compute exactly for D a polynomial in log(sigma).
"""

import math
from itertools import pairwise

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish, weighted_sum
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

    The first step and a step to sigma = 0 are euler's.

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


def dpmpp_3m(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    curvature: float = 1.0,
) -> Signal:
    """Extrapolate D as a parabola in log(sigma) from the last three evaluations: order three, one evaluation a step.

    The first two steps are dpmpp_2m's and a step to sigma = 0 is euler's. The first step, of order one, limits the
    order of the whole if D depends on sigma at the first level; at the high levels that sampling starts from, it hardly
    does.

    Args:
        denoise: (x, sigma) -> x0.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: not used.
        on_step: called after every step.
        after_step: applied to the result of every step.
        curvature: factor of the parabola's curvature. 1 has order three. The authors' code, diffusers and k-diffusion
            have 1/2, of order two: they multiply the second divided difference, half the second derivative, by the
            weight of the second derivative.

    Source: Lu et al. 2022 (DPM-Solver++), section 4.2 and the authors' code for three evaluations, except for
    curvature.
    """
    levels = sigmas.tolist()
    history: list[tuple[float, Signal]] = []
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        history = [(sigma, denoised), *history[:2]]
        if sigma_next == 0.0:
            x = denoised
        else:
            known = [level for level, _ in history]
            weights = _weights(known, sigma_next, curvature)
            x = weighted_sum([sigma_next / sigma, *weights], [x, *(past for _, past in history)])
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


def _weights(levels: list[float], sigma_next: float, curvature: float) -> list[float]:
    """Return the weights of D at one to three levels, latest first, in a step from the latest."""
    h = math.log(levels[0] / sigma_next)
    phi_1 = -math.expm1(-h)
    if len(levels) == 1:
        return [phi_1]
    near = math.log(levels[1] / levels[0]) / h
    if len(levels) == 2:
        return [phi_1 * (1.0 + 0.5 / near), -phi_1 * 0.5 / near]
    far = math.log(levels[2] / levels[1]) / h
    # The integrals of s / h and s^2 / (2 h^2). They lose digits at small h, but differences of D are as small then.
    phi_2 = 1.0 - phi_1 / h
    phi_3 = 0.5 - phi_2 / h
    # The parabola's slope is recent + near * bend and its second derivative 2 * bend, where recent = (D0 - D1) / near,
    # earlier = (D1 - D2) / far and bend = (recent - earlier) / (near + far); lengths are in h.
    of_bend = (phi_2 * near + 2.0 * curvature * phi_3) / (near + far)
    of_recent, of_earlier = (phi_2 + of_bend) / near, -of_bend / far
    return [phi_1 + of_recent, of_earlier - of_recent, -of_earlier]
