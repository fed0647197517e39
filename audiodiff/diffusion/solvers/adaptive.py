"""Adaptive solver: the probability flow to a tolerance, with steps of automatically chosen size."""

import math
from itertools import pairwise

import torch

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.integration import States, Tolerance, integrate
from audiodiff.diffusion.solvers.method import AfterStep, OnStep, evaluate, finish
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Sigma, Signal


def check_adaptive(
    sigmas: Sigmas, *, guided: bool = False, rtol: float = 1e-5, atol: float = 1e-5, method: str = "RK45"
) -> None:
    """Check the second level and the tolerance."""
    Tolerance(rtol, atol, method)
    if len(sigmas) < 2 or sigmas[1] == 0.0:
        raise ParameterError(
            f"sigmas={sigmas.tolist()}: adaptive integrates from the first level to the last positive one, so the "
            "second must be positive; take at least 2 steps"
        )


def adaptive(
    denoise: Denoise,
    x: Signal,
    sigmas: Sigmas,
    *,
    noise: Noise | None = None,
    on_step: OnStep | None = None,
    after_step: AfterStep | None = None,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    method: str = "RK45",
) -> Signal:
    """Solve dx / dlog(sigma) = x - D to a tolerance from the first to the last positive level; the result is D there.

    Between two levels the solver takes as many steps as the tolerance requires. At each level of the grid it stops for
    the hooks and restarts, which costs about ten evaluations: few levels are fastest, for example [80, 0.002, 0]. Every
    example has steps of its own, whatever the batch; all unfinished examples share the evaluations of the batch.

    Args:
        denoise: (x, sigma) -> x0, where sigma differs from example to example.
        x: the start, at the first of sigmas.
        sigmas: decreasing levels, the first two positive; the last may be 0.
        noise: not used.
        on_step: called at every level of the grid.
        after_step: applied at every level of the grid.
        rtol: relative error that is tolerated in a step.
        atol: absolute error that is tolerated in a step, in units of x.
        method: RK23, RK45 (Dormand and Prince) or DOP853; a step is of order 3, 5 or 8.

    Raises:
        ParameterError: if the second level or a tolerance is not positive, there is no such method, the denoiser is not
            finite, or the tolerance cannot be met.

    Source: Song et al. 2021 (score SDE), section 4.3 and appendix D.4; scipy.integrate for the solvers.
    """
    check_adaptive(sigmas, rtol=rtol, atol=atol, method=method)
    tolerance, levels = Tolerance(rtol, atol, method), sigmas.tolist()
    for step, (sigma, sigma_next) in enumerate(pairwise(levels)):
        if sigma_next == 0.0:
            x = denoised = evaluate(denoise, x, sigma)
        else:
            x, denoised = _between(denoise, x, sigma, sigma_next, tolerance)
        x = finish(x, denoised, step, sigma_next, on_step, after_step)
    return x


def _between(
    denoise: Denoise, x: Signal, sigma: float, sigma_next: float, tolerance: Tolerance
) -> tuple[Signal, Signal]:
    """Return x at sigma_next, and D at sigma."""
    first: list[Signal] = []

    def slope(u: Sigma, states: States) -> States:
        denoised = denoise(states.reshape(x.shape).to(x), torch.exp(u))
        if not first:
            first.append(denoised)
        return states - denoised.double().flatten(1)

    end = integrate(slope, x.double().flatten(1), math.log(sigma), math.log(sigma_next), tolerance)
    return end.reshape(x.shape).to(x), first[0]
