"""Multistep exponential integrators of the diffusion SDE.

In lambda = -log(sigma) the SDE is dx = (1 + eta) (D - x) dlambda + sqrt(2 eta) sigma dw. A step of width h solves it
exactly for D a polynomial, extrapolated from the last evaluations: with H = (1 + eta) h,

    x' = x exp(-H) + (1 - exp(-H)) D + phi_2 h D' - phi_3 h^2 D'' + sigma' sqrt(1 - exp(-2 eta h)) z
    phi_2 = 1 - (1 - exp(-H)) / H,    phi_3 = phi_2 / H - 1 / 2

with the derivatives D' and D'' by lambda at the start of the step. eta = 0 is the probability flow, eta = 1 the
reverse-time SDE. Each step draws new noise, not increments of one Brownian path, so the noise depends on the grid.
"""

import math
from itertools import pairwise

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish, required
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Signal


def check_sde(
    sigmas: Sigmas, *, guided: bool = False, eta: float = 1.0, s_noise: float = 1.0, solver_type: str = "midpoint"
) -> None:
    """Check the amount of noise and the type of solver."""
    if not eta >= 0.0:
        raise ParameterError(f"eta={eta} must not be negative")
    if not s_noise >= 0.0:
        raise ParameterError(f"s_noise={s_noise} must not be negative")
    if solver_type not in ("midpoint", "heun"):
        raise ParameterError(f"solver_type={solver_type!r} must be midpoint or heun")


def _new_noise(eta: float, width: float) -> float:
    """Return the std of the noise that a step adds, over sigma'."""
    return math.sqrt(-math.expm1(-2.0 * eta * width))


def _phi_2(width: float) -> float:
    return 1.0 + math.expm1(-width) / width


def dpmpp_2m_sde(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver_type: str = "midpoint",
) -> Signal:
    """Extrapolate D linearly from the last two evaluations: one evaluation a step.

    Args:
        denoise: (x, sigma) -> x0.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: draws the noise of transition k with step number k + 1; step number 0 is that of the start.
        on_step: called after every step.
        after_step: applied to the result of every step.
        eta: amount of noise; 0 is dpmpp_2m, 1 the reverse-time SDE.
        s_noise: factor of the noise; slightly above 1 compensates for a denoiser that removes too much.
        solver_type: "midpoint" takes (1 - exp(-H)) / 2 for phi_2, as dpmpp_2m does; "heun" takes phi_2 itself.

    Raises:
        ParameterError: if there is no noise to draw from, or an option is out of range.

    Source: Lu et al. 2022 (DPM-Solver++), appendix B, SDE-DPM-Solver++(2M); k-diffusion for eta and s_noise.
    """
    draw = required(noise, "dpmpp_2m_sde")
    check_sde(sigmas, eta=eta, s_noise=s_noise, solver_type=solver_type)
    levels = sigmas.tolist()
    previous: Signal | None = None
    previous_width = 0.0
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        if sigma_next == 0.0:
            x = denoised
        else:
            width = math.log(sigma / sigma_next)
            total = (1.0 + eta) * width
            x = denoised + math.exp(-total) * (x - denoised)
            if previous is not None:
                gain = -0.5 * math.expm1(-total) if solver_type == "midpoint" else _phi_2(total)
                x = x + (gain * width / previous_width) * (denoised - previous)
            if eta > 0.0:
                x = x + (s_noise * sigma_next * _new_noise(eta, width)) * draw(x, step + 1)
            previous, previous_width = denoised, width
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


def dpmpp_3m_sde(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    eta: float = 1.0,
    s_noise: float = 1.0,
) -> Signal:
    """Extrapolate D by the parabola through the last three evaluations: one evaluation a step.

    The first two steps are dpmpp_2m_sde's. k-diffusion and the code of DPM-Solver++ have half of D'', and so only order
    two at eta = 0.

    Args:
        denoise: (x, sigma) -> x0.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels; the last may be 0.
        noise: draws the noise of transition k with step number k + 1; step number 0 is that of the start.
        on_step: called after every step.
        after_step: applied to the result of every step.
        eta: amount of noise; 0 is the probability flow at order three, 1 the reverse-time SDE.
        s_noise: factor of the noise; slightly above 1 compensates for a denoiser that removes too much.

    Raises:
        ParameterError: if there is no noise to draw from, or an option is out of range.

    Source: Lu et al. 2022 (DPM-Solver++), the multistep solver of order three, applied to the SDE as in
        k-diffusion.
    """
    draw = required(noise, "dpmpp_3m_sde")
    check_sde(sigmas, eta=eta, s_noise=s_noise)
    levels = sigmas.tolist()
    history: list[tuple[float, Signal]] = []
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = evaluate(denoise, x, sigma)
        if sigma_next == 0.0:
            x = denoised
        else:
            width = math.log(sigma / sigma_next)
            total = (1.0 + eta) * width
            x = denoised + math.exp(-total) * (x - denoised)
            history = [(sigma, denoised), *history[:2]]
            if len(history) > 1:
                x = x + _correction(history, width, total)
            if eta > 0.0:
                x = x + (s_noise * sigma_next * _new_noise(eta, width)) * draw(x, step + 1)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


def _correction(history: list[tuple[float, Signal]], width: float, total: float) -> Signal:
    """Return the terms of D' and D'' in a step, from two or three evaluations (sigma, D), newest first."""
    (sigma, newest), (sigma_1, older), *rest = history
    width_1 = math.log(sigma_1 / sigma)
    slope = (newest - older) / width_1
    if not rest:
        return (-0.5 * math.expm1(-total) * width) * slope
    sigma_2, oldest = rest[0]
    width_2 = math.log(sigma_2 / sigma_1)
    half_bend = (slope - (older - oldest) / width_2) / (width_1 + width_2)
    phi_2 = _phi_2(total)
    phi_3 = phi_2 / total - 0.5
    return (phi_2 * width) * (slope + width_1 * half_bend) - (2.0 * phi_3 * width**2) * half_bend
