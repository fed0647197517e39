"""How good a trained model is on a grid, and what its steps cost: what `audiodiff schedule` compares."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.data import load_entries, load_whole
from audiodiff.diffusion.grid import Fixed
from audiodiff.diffusion.noise import BlockNoise
from audiodiff.diffusion.sampler import Sampler, scaled_start
from audiodiff.diffusion.solvers import solver as solver_named
from audiodiff.errors import DataError, ParameterError
from audiodiff.io.console import say
from audiodiff.metrics import Metric, Pair, evaluate_pair
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.noise_schedule.levels import Levels, log_uniform
from audiodiff.tasks.noise_schedule.path import (
    Costs,
    best_path,
    bound_costs,
    denoising_errors,
    path_cost,
    truncation_powers,
)
from audiodiff.types import Denoise, Signal

N_LEVELS = 64
"""Fine levels that a grid is chosen from by dynamic programming."""
N_REFERENCE_STEPS = 128
"""Steps of Heun's method to what `convergence` is measured against."""
_FINEST = 1000

OnPart = Callable[[int, int], None]
"""(done, of all) -> None, while a measure is taken."""
Quality = Callable[[Synthesizer, OnPart], float]
"""(model, on_part) -> the mean of a metric over examples that are always the same, with the same noise."""


@dataclass(frozen=True)
class Example:
    """Hold what a model is asked to make.

    Args:
        item: number that keys its noise.
        audio: a recording, (channels, time); None where the model makes sound from nothing.
        n_samples: its length.
    """

    item: int
    audio: Tensor | None
    n_samples: int


@dataclass(frozen=True)
class Found:
    """Hold what dynamic programming found.

    Args:
        sigmas: the best grid.
        cost: of it.
        start_cost: of the grid to compare with; None where that is no path through the levels.
    """

    sigmas: Levels
    cost: float
    start_cost: float | None


def own_grid(sampler: Sampler, n_steps: int) -> Levels | None:
    """Return the levels that a sampler visits in n_steps steps, None if its grid has no such number."""
    try:
        return tuple(sampler.grid(n_steps).tolist()[:-1])
    except ParameterError:
        return None


def known_range(sampler: Sampler) -> tuple[float, float]:
    """Return the least and the greatest level above 0 of the finest grid that a sampler can make."""
    levels = own_grid(sampler, _FINEST) or own_grid(sampler, sampler.n_steps)
    assert levels is not None
    return levels[-1], levels[0]


def on_grid(model: Synthesizer, sigmas: Levels, *, solver: str | None) -> Synthesizer:
    """Return the same model with another grid, and with another solver if one is named; the weights are shared."""
    other = copy.copy(model)
    chosen = model.sampler.solver if solver is None else solver_named(solver)
    other.sampler = replace(model.sampler, grid=Fixed(sigmas), n_steps=len(sigmas), solver=chosen)
    return other


def recordings(
    model: Synthesizer, root: Path, *, split: str, n: int, seconds: float
) -> tuple[list[Example], list[Example]]:
    """Read the beginnings of up to 2 n recordings: n to search on, and others to check what was found.

    Raises:
        DataError: if there are fewer than two, or the data set cannot be used.
    """
    entries = load_entries(root, split=split).entries[: 2 * n]
    n_channels = 1 if model.dialect is not None else model.representation.channels
    hop = 1 if model.dialect is None else model.dialect.hop_length
    examples = []
    for item, entry in enumerate(entries):
        audio = load_whole(entry, sample_rate=model.sample_rate, n_channels=n_channels, max_seconds=seconds)
        n_samples = audio.shape[-1] // hop * hop
        if n_samples:
            examples.append(Example(item, audio[:, :n_samples], n_samples))
    if len(examples) < 2:
        raise DataError(
            f"{root}: split {split!r} has {len(examples)} recording that can be used: one to search on and another to "
            "check it are needed"
        )
    n_searched = min(n, (len(examples) + 1) // 2)
    return examples[:n_searched], examples[n_searched:]


def from_nothing(model: Synthesizer, *, n: int, seconds: float) -> list[Example]:
    """Return n examples of sound that is made without a recording."""
    return [Example(item, None, max(1, round(seconds * model.sample_rate))) for item in range(n)]


def comparable(examples: Sequence[Example], metric: Metric, *, sample_rate: int) -> list[Example]:
    """Leave out recordings for which the metric has no value however they are made, and say so."""
    kept = []
    for example in examples:
        assert example.audio is not None
        # The recording itself, a little softer, is as good an estimate as there can be.
        row = evaluate_pair(
            Pair(f"recording {example.item}", 0.9 * example.audio, example.audio, sample_rate), metrics=[metric]
        )
        if math.isnan(row.values[metric.name]):
            say(f"left out: {row.name} has no {metric.name} ({row.reasons[metric.name]})")
        else:
            kept.append(example)
    return kept


def mean_metric(
    model: Synthesizer, on_part: OnPart, *, examples: Sequence[Example], metric: Metric, seed: int
) -> float:
    """Make the examples from their own mels, with the same noise each time, and return the mean of the metric.

    NaN, if one of them has no value: a mean over fewer examples is another quantity.
    """
    values = []
    for done, example in enumerate(examples):
        assert example.audio is not None
        mel = model.mel(example.audio[None])
        audio = model.generate(mel, n_samples=example.n_samples, seed=seed, items=[example.item])[0].cpu()
        row = evaluate_pair(Pair("", audio, example.audio, model.sample_rate), metrics=[metric])
        values.append(row.values[metric.name])
        on_part(done + 1, len(examples))
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan


class Convergence:
    """Measure how far samples are from what many steps make of the same noise: 20 log10(|x - x'| / |x'|), in dB.

    It needs no recording, only what the model is conditioned on, and says how well few steps follow the probability
    flow; not whether the flow leads to good sound.

    Args:
        model: whose samples are compared.
        examples: to be made.
        low: the least level of the many steps.
        high: their greatest.
        seed: of the noise.
        on_part: called as (done, of all) while the many steps are made.
    """

    def __init__(
        self,
        model: Synthesizer,
        examples: Sequence[Example],
        *,
        low: float,
        high: float,
        seed: int,
        on_part: OnPart,
    ) -> None:
        self._examples, self._seed = examples, seed
        fine = on_grid(model, log_uniform(low, high, N_REFERENCE_STEPS), solver="heun")
        self._references = []
        for done, example in enumerate(examples):
            self._references.append(self._sample(fine, example))
            on_part(done + 1, len(examples))

    def __call__(self, model: Synthesizer, on_part: OnPart) -> float:
        """Return the mean over the examples."""
        values = []
        for done, (example, reference) in enumerate(zip(self._examples, self._references, strict=True)):
            distance = torch.linalg.vector_norm((self._sample(model, example) - reference).double())
            size = torch.linalg.vector_norm(reference.double())
            values.append(20.0 * float(torch.log10(distance / size)))
            on_part(done + 1, len(self._examples))
        return math.fsum(values) / len(values)

    def _sample(self, model: Synthesizer, example: Example) -> Signal:
        with torch.no_grad():
            denoise, like = _task(model, example)
            return model.sampler(denoise, like, BlockNoise(self._seed, [example.item]))


def best_bound(
    model: Synthesizer,
    examples: Sequence[Example],
    *,
    levels: Levels,
    start: Levels | None,
    n_steps: int,
    seed: int,
    on_part: OnPart,
) -> Found:
    """Find the grid of the least variational bound of the recordings, in nats per number of the signal.

    Args:
        model: whose denoiser is judged.
        examples: recordings.
        levels: the fine levels, decreasing; the first is where sampling starts, the last stands for the data.
        start: a grid to compare with, whose levels are offered too.
        n_steps: of the grid.
        seed: of the noise.
        on_part: called as (done, of all).
    """
    offered = _offered(levels, start)
    count = _Count(on_part, total=len(offered) * len(examples))
    errors = torch.zeros(len(offered), dtype=torch.float64)
    with torch.no_grad():
        for example in examples:
            denoise, like = _task(model, example)
            assert example.audio is not None
            x0 = model.representation.encode(example.audio[None].to(model.device))
            eps = BlockNoise(seed, [example.item])(like, 0)
            errors += denoising_errors(denoise, x0, eps, offered, on_level=count)
    return _found(bound_costs(offered, errors / len(examples)), offered, start=start, n_steps=n_steps)


def best_truncation(
    model: Synthesizer,
    examples: Sequence[Example],
    *,
    levels: Levels,
    start: Levels | None,
    n_steps: int,
    seed: int,
    on_part: OnPart,
) -> Found:
    """Find the grid on which steps of Euler's method miss least of the probability flow, as an RMS in the signal.

    Arguments as for `best_bound`; the examples may be made from nothing.
    """
    offered = (*_offered(levels, start), 0.0)
    count = _Count(on_part, total=(len(offered) - 1) * len(examples))
    powers = torch.zeros(len(offered), len(offered), dtype=torch.float64)
    start_from = scaled_start if model.sampler.start is None else model.sampler.start
    with torch.no_grad():
        for example in examples:
            denoise, like = _task(model, example)
            x = start_from(BlockNoise(seed, [example.item])(like, 0), offered[0])
            powers += truncation_powers(denoise, x, offered, on_level=count)
    return _found((powers / len(examples)).sqrt(), offered, start=start, n_steps=n_steps)


def _task(model: Synthesizer, example: Example) -> tuple[Denoise, Signal]:
    """Return the denoiser of one example, and zeros of its signal's shape."""
    condition: Condition = model.conditioner.null(1)
    if example.audio is not None:
        condition = model.conditioner(example.audio[None].to(model.device))
    like = torch.zeros(1, model.representation.channels, model.representation.length(example.n_samples))
    return model.denoiser.bind(condition), like.to(model.device)


def _offered(levels: Levels, start: Levels | None) -> Levels:
    """Return the fine levels and those of a start that lie between them, decreasing."""
    return tuple(sorted({*levels, *(s for s in start or () if levels[-1] < s < levels[0])}, reverse=True))


def _found(costs: Costs, levels: Levels, *, start: Levels | None, n_steps: int) -> Found:
    path = best_path(costs, n_steps)
    sigmas, cost = tuple(levels[k] for k in path[:-1]), path_cost(costs, path)
    if start is None or start[0] != levels[0] or not set(start) <= set(levels):
        return Found(sigmas, cost, None)
    start_cost = path_cost(costs, [*(levels.index(sigma) for sigma in start), len(levels) - 1])
    # A start that ends at the last level has no step left for it, and is no path of n_steps.
    return Found(sigmas, cost, start_cost) if cost <= start_cost else Found(start, start_cost, start_cost)


class _Count:
    """Count parts of a work and report them."""

    def __init__(self, on_part: OnPart, *, total: int) -> None:
        self._on_part, self._total, self._done = on_part, total, 0

    def __call__(self) -> None:
        self._done += 1
        self._on_part(self._done, self._total)
