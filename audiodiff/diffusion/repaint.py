"""RePaint: posterior sampling that goes back to noisier levels, so that the known and the unknown part agree."""

import math
from itertools import pairwise

from audiodiff.diffusion.grid import Sigmas
from audiodiff.diffusion.operators import LinearOperator, Measurement, gain_of
from audiodiff.diffusion.posterior import replacement
from audiodiff.diffusion.solvers import AfterStep, OnStep, Solver, euler_ancestral
from audiodiff.diffusion.solvers.method import finish, fixed_step, required
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Signal


def repaint_path(n_steps: int, *, jump_length: int, n_resamples: int) -> list[int]:
    """Return the levels that RePaint visits, as numbers of steps before the end: from n_steps to 0.

    At every jump_length-th level the path goes up by jump_length levels and down again, n_resamples - 1 times. Each
    step down is an evaluation: n_steps + (n_resamples - 1) jump_length ceil((n_steps - jump_length) / jump_length) of
    them in all.

    Example:
        >>> repaint_path(4, jump_length=2, n_resamples=2)
        [4, 3, 2, 1, 3, 2, 1, 0]

    Raises:
        ParameterError: if a number is below 1, or jump_length exceeds n_steps.

    Source: Lugmayr et al. 2022 (RePaint), algorithm 1 and appendix A.
    """
    for name, value in (("jump_length", jump_length), ("n_resamples", n_resamples)):
        if value < 1:
            raise ParameterError(f"{name}={value} must be at least 1")
    if jump_length > n_steps:
        raise ParameterError(f"jump_length={jump_length} must not exceed the {n_steps} steps of the sampler")
    jumps = dict.fromkeys(range(1, n_steps - jump_length + 1, jump_length), n_resamples - 1)
    path, level = [n_steps], n_steps
    while level > 0:
        level -= 1
        path.append(level)
        if jumps.get(level, 0) > 0:
            jumps[level] -= 1
            level += jump_length
            path.append(level)
    return path


def repaint(
    operator: LinearOperator,
    y: Measurement,
    *,
    jump_length: int = 10,
    n_resamples: int = 10,
    solver: Solver = euler_ancestral,
) -> Solver:
    """Make a solver that replaces the measured part of x after every step, and resamples to make the rest fit it.

    With replacement alone, the unknown part is drawn for a known part that is then replaced. Adding the noise of
    jump_length levels and removing it again makes the two parts agree. `repaint_path` gives the number of evaluations.

    Args:
        operator: A, with a pseudo-inverse.
        y: the measurement, without noise.
        jump_length: levels to go back by; longer jumps make larger structures agree.
        n_resamples: how often each stretch of levels is sampled; 1 is replacement alone.
        solver: takes each step down; transition k draws its noise with step number k + 1, as without resampling.

    Raises:
        ParameterError: if the operator has no pseudo-inverse or a number is below 1; while solving, if there is no
            noise or jump_length exceeds the number of steps.

    Source: Lugmayr et al. 2022 (RePaint), algorithm 1.
    """
    gain_of(operator)
    repaint_path(jump_length, jump_length=jump_length, n_resamples=n_resamples)

    def solve(
        denoise: Denoise,
        x: Signal,
        sigmas: Sigmas,
        *,
        noise: Noise | None = None,
        on_step: OnStep | None = None,
        after_step: AfterStep | None = None,
    ) -> Signal:
        draw = required(noise, "repaint")
        path = repaint_path(len(sigmas) - 1, jump_length=jump_length, n_resamples=n_resamples)
        # Step numbers below len(path) are those of the steps down.
        replaced = replacement(operator, y, noise=lambda like, step: draw(like, len(path) + step))
        step = 0
        for transition, (now, following) in enumerate(pairwise(path)):
            sigma, sigma_next = sigmas[-1 - now].item(), sigmas[-1 - following].item()
            if sigma_next > sigma:
                eps = draw(x, 2 * len(path) + transition)
                x = x + math.sqrt(sigma_next**2 - sigma**2) * eps
                continue
            seen: list[Signal] = []
            x = solver(
                denoise,
                x,
                sigmas.new_tensor([sigma, sigma_next]),
                noise=fixed_step(draw, step + 1),
                on_step=lambda _, denoised, seen=seen: seen.append(denoised),
            )
            x = finish(replaced(x, step, sigma_next), seen[-1], step, sigma_next, on_step, after_step)
            step += 1
        return x

    return solve
