"""Measures of a model's samples on a grid: a metric against recordings, or convergence to many steps."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from audiodiff.diffusion.grid import Fixed
from audiodiff.diffusion.noise import BlockNoise
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import solver as solver_named
from audiodiff.errors import ParameterError
from audiodiff.metrics import Metric, Pair, evaluate_pair
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.noise_schedule.examples import Example
from audiodiff.tasks.noise_schedule.levels import Levels, log_uniform
from audiodiff.types import Signal

N_REFERENCE_STEPS = 128
"""Steps of Heun's method for the references of `Convergence`."""
_FINEST = 1000

OnPart = Callable[[int, int], None]
"""(done, total) -> None, called while a measure is computed."""
Quality = Callable[[Synthesizer, OnPart], float]
"""(model, on_part) -> the mean of a metric over fixed examples, with fixed noise."""


def own_grid(sampler: Sampler, n_steps: int) -> Levels | None:
    """Return the levels that a sampler visits in n_steps steps, None if its grid has no such number."""
    try:
        return tuple(sampler.grid(n_steps).tolist()[:-1])
    except ParameterError:
        return None


def sampler_range(sampler: Sampler) -> tuple[float, float]:
    """Return the lowest and the highest level above 0 of the finest grid of a sampler."""
    levels = own_grid(sampler, _FINEST) or own_grid(sampler, sampler.n_steps)
    assert levels is not None
    return levels[-1], levels[0]


def on_grid(model: Synthesizer, sigmas: Levels, *, solver: str | None) -> Synthesizer:
    """Return the model with another grid, and with another solver if one is named; the weights are shared."""
    other = copy.copy(model)
    chosen = model.sampler.solver if solver is None else solver_named(solver)
    other.sampler = replace(model.sampler, grid=Fixed(sigmas), n_steps=len(sigmas), solver=chosen)
    return other


def mean_metric(
    model: Synthesizer, on_part: OnPart, *, examples: Sequence[Example], metric: Metric, seed: int
) -> float:
    """Generate the examples from their own mels, with fixed noise, and return the mean of the metric.

    NaN if one of them has no value: a mean over fewer examples is not comparable.
    """
    values = []
    for done, example in enumerate(examples, start=1):
        assert example.audio is not None
        mel = model.mel(example.audio[None])
        audio = model.generate(mel, n_samples=example.n_samples, seed=seed, items=[example.item])[0].cpu()
        row = evaluate_pair(Pair("", audio, example.audio, model.sample_rate), metrics=[metric])
        values.append(row.values[metric.name])
        on_part(done, len(examples))
    return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else math.nan


class Convergence:
    """Measure the distance of samples from those of many steps with the same noise: 20 log10(|x - x'| / |x'|), in dB.

    It needs no recording, only the condition of the model. It measures how closely few steps follow the probability
    flow, not whether the flow leads to good sound.

    Args:
        model: whose samples are compared.
        examples: to generate.
        low: lowest level of the many steps.
        high: their highest level.
        seed: of the noise.
        on_part: called while the many steps are computed.
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
        for done, example in enumerate(examples, start=1):
            self._references.append(self._sample(fine, example))
            on_part(done, len(examples))

    def __call__(self, model: Synthesizer, on_part: OnPart) -> float:
        """Return the mean over the examples."""
        values = []
        for done, (example, reference) in enumerate(zip(self._examples, self._references, strict=True), start=1):
            distance = torch.linalg.vector_norm((self._sample(model, example) - reference).double())
            size = torch.linalg.vector_norm(reference.double())
            values.append(20.0 * float(torch.log10(distance / size)))
            on_part(done, len(self._examples))
        return math.fsum(values) / len(values)

    def _sample(self, model: Synthesizer, example: Example) -> Signal:
        with torch.no_grad():
            denoise, like = example.bind(model)
            return model.sampler(denoise, like, BlockNoise(self._seed, [example.item]))
