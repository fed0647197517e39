"""Models that are made in a moment: the shape of real ones, random weights."""

from pathlib import Path
from typing import Any

import torch

from audiodiff.models import checkpoint
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.config import compose, plain

_SMALL = ["network.channels=8", "network.n_layers=2", "network.dilation_cycle=2", "network.step_features=8"]
VOCODER = [*_SMALL, "sampler.n_steps=2", "model.n_iterations=3"]
REFINING = [
    "preset=refiner",
    *_SMALL,
    "model.n_iterations=2",
]
UNCONDITIONAL = ["recipes=folder/unconditional", "data.root=embedded", *_SMALL, "sampler.n_steps=3"]
DEGRADED = [*UNCONDITIONAL, "conditioner=degraded", "network=spectral_restorer"]
LOG_MEL = ["recipes=quickstart/mel", *_SMALL, "sampler.n_steps=2", "model.n_iterations=3"]
GAUSSIAN = [*UNCONDITIONAL, "audio.sample_rate=8000", "preconditioning=edm", "signal_std=0.1"]
LABELLED = [
    *LOG_MEL,
    "conditioner=labels",
    "conditioner.vocabularies={digit: ['0', '1', '2'], speaker: [ann, bob]}",
    "network.vector_features=5",
]


def synthesizer(overrides: list[str], *, seed: int = 0) -> Synthesizer:
    """Build a model with weights that make every output depend on every input."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = checkpoint.build(_node(overrides), where=Path("tiny"))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    for name, buffer in model.named_buffers():
        if name == "representation.mean":
            buffer.fill_(-6.0)
    return model.eval()


def save(folder: Path, overrides: list[str], *, seed: int = 0) -> Path:
    """Write a checkpoint."""
    model = synthesizer(overrides, seed=seed)
    checkpoint.save(
        folder,
        model=_node(overrides),
        sample_rate=model.sample_rate,
        mel_dialect=model.dialect,
        weights=model.state_dict(),
        metrics={},
        card="",
    )
    return folder


def _node(overrides: list[str]) -> dict[str, Any]:
    return plain(compose(overrides))["model"]
