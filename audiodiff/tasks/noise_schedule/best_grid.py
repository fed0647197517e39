"""Optimal grids of a model by dynamic programming: least variational bound, or least truncation error."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from audiodiff.diffusion.noise import BlockNoise
from audiodiff.diffusion.sampler import scaled_start
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.noise_schedule.examples import Example
from audiodiff.tasks.noise_schedule.levels import Levels
from audiodiff.tasks.noise_schedule.measures import OnPart
from audiodiff.tasks.noise_schedule.path import (
    Costs,
    best_path,
    bound_costs,
    denoising_mse,
    path_cost,
    truncation_powers,
)

N_LEVELS = 64
"""Fine levels from which a grid is chosen."""


@dataclass(frozen=True)
class BestGrid:
    """Optimal grid, and its cost.

    Args:
        sigmas: the grid.
        cost: of it.
        start_cost: of the grid to compare with; None if that is not a path through the levels.
    """

    sigmas: Levels
    cost: float
    start_cost: float | None


def best_bound(
    model: Synthesizer,
    examples: Sequence[Example],
    *,
    levels: Levels,
    start: Levels | None,
    n_steps: int,
    seed: int,
    on_part: OnPart,
) -> BestGrid:
    """Find the grid with the lowest variational bound of the recordings, in nats per dimension of the signal.

    Args:
        model: whose denoiser is measured.
        examples: recordings.
        levels: fine levels, decreasing; sampling starts at the first, and the last stands for the data.
        start: a grid to compare with, whose levels become candidates too.
        n_steps: of the grid.
        seed: of the noise.
        on_part: called after each level of each example.
    """
    candidates = _candidates(levels, start)
    count = _Counter(on_part, total=len(candidates) * len(examples))
    errors = torch.zeros(len(candidates), dtype=torch.float64)
    with torch.no_grad():
        for example in examples:
            denoise, like = example.bind(model)
            assert example.audio is not None
            x0 = model.representation.encode(example.audio[None].to(model.device))
            eps = BlockNoise(seed, [example.item])(like, 0)
            errors += denoising_mse(denoise, x0, eps, candidates, on_level=count)
    return _best_grid(bound_costs(candidates, errors / len(examples)), candidates, start=start, n_steps=n_steps)


def best_truncation(
    model: Synthesizer,
    examples: Sequence[Example],
    *,
    levels: Levels,
    start: Levels | None,
    n_steps: int,
    seed: int,
    on_part: OnPart,
) -> BestGrid:
    """Find the grid on which Euler steps deviate least from the probability flow, as an RMS of the signal.

    Arguments as for `best_bound`; the examples may be unconditional.
    """
    candidates = (*_candidates(levels, start), 0.0)
    count = _Counter(on_part, total=(len(candidates) - 1) * len(examples))
    powers = torch.zeros(len(candidates), len(candidates), dtype=torch.float64)
    start_from = scaled_start if model.sampler.start is None else model.sampler.start
    with torch.no_grad():
        for example in examples:
            denoise, like = example.bind(model)
            x = start_from(BlockNoise(seed, [example.item])(like, 0), candidates[0])
            powers += truncation_powers(denoise, x, candidates, on_level=count)
    return _best_grid((powers / len(examples)).sqrt(), candidates, start=start, n_steps=n_steps)


def _candidates(levels: Levels, start: Levels | None) -> Levels:
    """Merge the fine levels with those of a start that lie between them, decreasing."""
    return tuple(sorted({*levels, *(s for s in start or () if levels[-1] < s < levels[0])}, reverse=True))


def _best_grid(costs: Costs, levels: Levels, *, start: Levels | None, n_steps: int) -> BestGrid:
    path = best_path(costs, n_steps)
    sigmas, cost = tuple(levels[k] for k in path[:-1]), path_cost(costs, path)
    if start is None or start[0] != levels[0] or not set(start) <= set(levels):
        return BestGrid(sigmas, cost, None)
    start_cost = path_cost(costs, [*(levels.index(sigma) for sigma in start), len(levels) - 1])
    # A start that ends at the last level is not a path of n_steps: it leaves no step from there.
    return BestGrid(sigmas, cost, start_cost) if cost <= start_cost else BestGrid(start, start_cost, start_cost)


class _Counter:
    """Count finished parts and report them."""

    def __init__(self, on_part: OnPart, *, total: int) -> None:
        self._on_part, self._total, self._done = on_part, total, 0

    def __call__(self) -> None:
        self._done += 1
        self._on_part(self._done, self._total)
