"""Examples that schedules are compared on: recordings, or noise alone for unconditional models."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.data import load_entries, load_whole
from audiodiff.errors import DataError
from audiodiff.metrics import Metric, Pair, evaluate_pair
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.types import Denoise, Signal


@dataclass(frozen=True)
class Example:
    """One sound that a model generates.

    Args:
        item: number that keys its noise.
        audio: the recording, (channels, time); None for an unconditional model.
        n_samples: its length.
    """

    item: int
    audio: Tensor | None
    n_samples: int

    def bind(self, model: Synthesizer) -> tuple[Denoise, Signal]:
        """Return a model's denoiser bound to this example, and zeros of its signal's shape."""
        condition: Condition = model.conditioner.null(1)
        if self.audio is not None:
            condition = model.conditioner(self.audio[None].to(model.device))
        like = torch.zeros(1, model.representation.channels, model.representation.length(self.n_samples))
        return model.denoiser.bind(condition), like.to(model.device)


def load_examples(
    model: Synthesizer, root: Path, *, split: str, n: int, seconds: float
) -> tuple[list[Example], list[Example]]:
    """Read the beginnings of up to 2 n recordings: n to search on, and others to check the result.

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
            f"{root}: split {split!r} has {len(examples)} usable recording, and two are needed: one to search on and "
            "one to check the result"
        )
    n_searched = min(n, (len(examples) + 1) // 2)
    return examples[:n_searched], examples[n_searched:]


def unconditional_examples(model: Synthesizer, *, n: int, seconds: float) -> list[Example]:
    """Return n examples that are generated without a recording."""
    return [Example(item, None, max(1, round(seconds * model.sample_rate))) for item in range(n)]


def comparable(
    examples: Sequence[Example], metric: Metric, *, sample_rate: int, on_note: Callable[[str], None]
) -> list[Example]:
    """Leave out recordings for which the metric has no value with any estimate, and note each."""
    kept = []
    for example in examples:
        assert example.audio is not None
        # A softer copy of the recording stands for a near-perfect estimate.
        row = evaluate_pair(
            Pair(f"recording {example.item}", 0.9 * example.audio, example.audio, sample_rate), metrics=[metric]
        )
        if math.isnan(row.values[metric.name]):
            on_note(f"left out: {row.name} has no {metric.name} ({row.reasons[metric.name]})")
        else:
            kept.append(example)
    return kept
