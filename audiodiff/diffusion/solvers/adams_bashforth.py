"""Adams-Bashforth methods: the slope eps = (x - D) / sigma of dx / dsigma extrapolated from earlier steps."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.process import Process
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish, weighted_sum
from audiodiff.diffusion.solvers.one_step import middle_level
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Signal


def exponential_moments(rate: float, n: int) -> list[float]:
    """Compute the integral of s^j exp(rate s) over s from 0 to 1 for j = 0, ..., n - 1.

    Example:
        >>> exponential_moments(0.0, 3)
        [1.0, 0.5, 0.3333333333333333]
    """
    if abs(rate) < 1.0:
        # The recursion below would cancel. Twenty terms of the series leave an error below 1 / 20!.
        return [sum(rate**m / (math.factorial(m) * (m + j + 1)) for m in range(20)) for j in range(n)]
    moments = [math.expm1(rate) / rate]
    for j in range(1, n):
        moments.append((math.exp(rate) - j * moments[-1]) / rate)
    return moments


def check_deis(sigmas: Sigmas, *, guided: bool = False, order: int = 3) -> None:
    """Check the order."""
    if order not in (1, 2, 3, 4):
        raise ParameterError(f"order={order} must be 1, 2, 3 or 4")


def deis(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    order: int = 3,
) -> Signal:
    """Integrate the polynomial in log(sigma) through the last eps exactly: order three, one evaluation a step.

    Step k, counted from 1, has order min(k, order); a step to sigma = 0 is euler's. The first step, of order one,
    limits the order of the whole if eps depends on sigma at the first level; at the high levels that sampling starts
    from, it hardly does.

    Args:
        denoise: (x, sigma) -> x0.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: not used.
        on_step: called after every step.
        after_step: applied to the result of every step.
        order: number of evaluations that the polynomial interpolates, 1 to 4; 1 is euler.

    Raises:
        ParameterError: if the order is not 1 to 4.

    Source: Zhang and Chen 2023 (DEIS), eq. 14 and 15 with polynomials in log(rho); rho is sigma here.
    """
    check_deis(sigmas, order=order)
    levels = sigmas.tolist()
    history: list[tuple[float, Signal]] = []
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        if sigma_next == 0.0:
            x = denoised
        else:
            history = [(sigma, (x - denoised) / sigma), *history[: order - 1]]
            weights = _lagrange_integrals([level for level, _ in history], sigma_next)
            x = weighted_sum([1.0, *weights], [x, *(eps for _, eps in history)])
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


def _lagrange_integrals(levels: Sequence[float], sigma_next: float) -> list[float]:
    """Integrate each Lagrange polynomial in log(sigma) through the levels, over sigma from the first to sigma_next."""
    sigma = levels[0]
    h = math.log(sigma / sigma_next)
    # The weights are exact for 1, s, s^2, ... with s = log(sigma / tau) / h, and so for the polynomial.
    places = [math.log(sigma / level) / h for level in levels]
    powers = np.vander(places, increasing=True).T
    return (-h * sigma * np.linalg.solve(powers, exponential_moments(-h, len(levels)))).tolist()


_ADAMS_BASHFORTH = (55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0)


def pndm(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    process: Process | None = None,
) -> Signal:
    """Step x' = x + (sigma' - sigma) e with e the Adams-Bashforth mean of four eps: order two.

    In the first three steps, e is the Runge-Kutta mean of eps at their start, middle and end, at four evaluations each;
    all others take one. A step to sigma = 0 is euler's. The weights are those of equal steps: the grid must be even in
    a clock in which sigma is smooth, and sigma must not fall by orders of magnitude in the first steps, as it does from
    the first level of rectified flow.

    Args:
        denoise: (x, sigma) -> x0.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: not used.
        on_step: called after every step.
        after_step: applied to the result of every step.
        process: the middle of a first step is that of its clock; None takes that of log(sigma).

    Raises:
        ParameterError: if the process has no clock at one of the first levels.

    Source: Liu et al. 2022 (PNDM), eq. 9 to 14 and algorithm 2 (F-PNDM).
    """
    levels = sigmas.tolist()
    history: list[Signal] = []
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        if sigma_next == 0.0:
            x = denoised
        else:
            history = [(x - denoised) / sigma, *history[:3]]
            change = sigma_next - sigma
            if len(history) == 4:
                x = weighted_sum([1.0, *(change * weight for weight in _ADAMS_BASHFORTH)], [x, *history])
            else:
                middle = middle_level(sigma, sigma_next, process)
                x = x + change * _runge_kutta_mean(denoise, x, history[0], sigma, middle, sigma_next)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


def _runge_kutta_mean(
    denoise: Denoise, x: Signal, first: Signal, sigma: float, middle: float, sigma_next: float
) -> Signal:
    def eps(slope: Signal, level: float) -> Signal:
        stage = x + (level - sigma) * slope
        return (stage - evaluate(denoise, stage, level)) / level

    second = eps(first, middle)
    third = eps(second, middle)
    return weighted_sum([1 / 6, 1 / 3, 1 / 3, 1 / 6], [first, second, third, eps(third, sigma_next)])
