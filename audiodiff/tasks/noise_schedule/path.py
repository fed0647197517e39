"""Optimal paths through fine noise levels, for costs that are sums over steps."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.solvers import heun
from audiodiff.diffusion.solvers.method import evaluate
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Signal

Costs = Float[Tensor, "levels levels"]
"""costs[i, j] is the cost of a step from level i down to level j; only j > i is read."""


def denoising_mse(
    denoise: Denoise,
    x0: Signal,
    eps: Signal,
    levels: Sequence[float],
    *,
    on_level: Callable[[], None] = lambda: None,
) -> Float[Tensor, "levels"]:
    """Compute mean |x0 - D(x0 + sigma eps, sigma)|^2 per dimension at each level, in float64.

    Args:
        denoise: (x, sigma) -> x0.
        x0: clean signals.
        eps: white noise of the same shape, the same at every level, so that the curve is smooth.
        levels: positive.
        on_level: called after each level.
    """
    errors = []
    for sigma in levels:
        errors.append(float(((x0 - evaluate(denoise, x0 + sigma * eps, sigma)).double() ** 2).mean()))
        on_level()
    return torch.tensor(errors, dtype=torch.float64)


def bound_costs(levels: Sequence[float], errors: Float[Tensor, "levels"]) -> Costs:
    """Compute the term of each step in the variational bound, in nats per dimension of the signal.

    The posterior q(x_b | x_a, x0) of a step from a to b is normal, with mean x_a b^2 / a^2 + x0 (1 - b^2 / a^2) and
    variance b^2 (1 - b^2 / a^2). Sampling replaces x0 by D: KL = (1/b^2 - 1/a^2) |x0 - D|^2 / 2. The last level
    stands for the data: the decoder's term of the bound is the same for all grids.

    Args:
        levels: decreasing, all positive.
        errors: mean |x0 - D|^2 at each, from `denoising_mse`.

    Source: Ho et al. 2020, eq. 8; Watson et al. 2021, section 3; Kingma et al. 2021 (VDM), eq. 13.
    """
    snr = torch.tensor(levels, dtype=torch.float64) ** -2
    return 0.5 * (snr[None, :] - snr[:, None]) * errors[:, None]


def truncation_powers(
    denoise: Denoise, x: Signal, levels: Sequence[float], *, on_level: Callable[[], None] = lambda: None
) -> Costs:
    """Compute the mean squared error of an Euler step from a fine solution at level i to level j, transported to 0.

    The fine solution is Heun's through all levels. An error at level b is scaled by s / sqrt(s^2 + b^2) on its way to
    0, where s is the RMS of the signal there, which is exact for normal data of that variance.

    Args:
        denoise: (x, sigma) -> x0.
        x: the start, at the first level.
        levels: decreasing, the last 0.
        on_level: called after each step of the fine solution.

    Returns: average it over examples; `best_path` takes its square root.
    """
    states, guesses = [x], []

    def keep(state: Signal, step: int, sigma: float) -> Signal:
        states.append(state)
        on_level()
        return state

    sigmas = torch.tensor(levels, dtype=torch.float64)
    heun(denoise, x, sigmas, after_step=keep, on_step=lambda step, denoised: guesses.append(denoised))
    power = float((states[-1].double() ** 2).mean())
    powers = torch.zeros(len(levels), len(levels), dtype=torch.float64)
    for i, (state, guess) in enumerate(zip(states[:-1], guesses, strict=True)):
        for j in range(i + 1, len(levels)):
            error = guess + (levels[j] / levels[i]) * (state - guess) - states[j]
            transport = power / (power + levels[j] ** 2) if levels[j] else 1.0
            powers[i, j] = float((error.double() ** 2).mean()) * transport
    return powers


def best_path(costs: Costs, n_steps: int) -> tuple[int, ...]:
    """Find the path of least cost from the first to the last level in exactly n_steps, by dynamic programming.

    Returns: the indices of its n_steps + 1 levels, including the first and the last.

    Raises:
        ParameterError: if there are too few levels.

    Example:
        >>> best_path(torch.tensor([[0.0, 1.0, 5.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]), 2)
        (0, 1, 2)

    Source: Watson et al. 2021, algorithms 1 and 2.
    """
    n_levels = len(costs)
    if not 1 <= n_steps < n_levels:
        raise ParameterError(f"n_steps={n_steps} must lie between 1 and {n_levels - 1}, one less than the fine levels")
    forward = torch.where(torch.ones_like(costs).triu(1).bool(), costs, torch.inf)
    spent = torch.full((n_levels,), torch.inf, dtype=costs.dtype)
    spent[0] = 0.0
    origins = []
    for _ in range(n_steps):
        spent, origin = (spent[:, None] + forward).min(dim=0)
        origins.append(origin)
    path = [n_levels - 1]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return tuple(reversed(path))


def path_cost(costs: Costs, path: Sequence[int]) -> float:
    """Return the sum of the costs of a path's steps."""
    return math.fsum(float(costs[i, j]) for i, j in pairwise(path))
