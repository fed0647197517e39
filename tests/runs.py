"""Training runs of a tiny model on a few seconds of sound, in this process and in others."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import torch

from audiodiff.io import audio as audio_io
from audiodiff.models import checkpoint, registry
from audiodiff.models.registry import LATEST
from audiodiff.training.config import compose, plain
from audiodiff.training.loop import Outcome
from audiodiff.training.run import train

TINY = (
    "network.channels=8",
    "network.n_layers=2",
    "++network.step_features=16",
    "train.batch_size=2",
    "train.log_every=1",
    "train.save_every=0",
    "train.validate_every=0",
    "data.n_workers=0",
    "data.crop_frames=8",
    "validation.n_examples=1",
    "validation.max_seconds=0.3",
    "validation.n_loss_examples=2",
    "validation.metrics=[lsd]",
    "logger=none",
    "lr_schedule=constant",
    "fabric.precision=32-true",
)
COMMAND = str(Path(sysconfig.get_path("scripts")) / "audiodiff")


def recordings(folder: Path, *, n: int = 4, seconds: float = 1.0, seed: int = 0) -> Path:
    """Write a few recordings of coloured noise, in two folders by turns."""
    generator = torch.Generator().manual_seed(seed)
    for index in range(n):
        audio = 0.02 * torch.randn(1, round(22050 * seconds), generator=generator).cumsum(dim=-1)
        audio = audio - audio.roll(50, dims=-1)
        audio_io.write(
            folder / ("odd" if index % 2 else "even") / f"{index}.wav", audio.clamp(-1, 1), sample_rate=22050
        )
    return folder


def config(root: Path, *overrides: str) -> dict[str, Any]:
    """Compose the tiny run."""
    return plain(compose([*TINY, f"data.root={root}", *overrides]))


def trained(root: Path, run: Path, *overrides: str) -> Outcome:
    """Train in this process."""
    return train(config(root, *overrides), run=run)


def resumed(root: Path, run: Path, *overrides: str) -> Outcome:
    """Go on with a run in this process."""
    return train(config(root, *overrides, f"train.resume={run}"), run=run)


def state(run: Path) -> dict[str, Any]:
    """Return the training state of a run's newest checkpoint."""
    return torch.load(registry.find(run) / checkpoint.STATE, weights_only=True)


def newest(run: Path) -> str:
    """Return the name of a run's newest step, empty while there is none."""
    latest = run / "checkpoints" / LATEST
    return latest.read_text().strip() if latest.exists() else ""


def assert_same(first: Any, second: Any, *, where: str = "state") -> None:
    """Compare nested states bit by bit."""
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], where=f"{where}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, where=f"{where}.{index}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


def start(root: Path, run: Path, *overrides: str, program: tuple[str, ...] = (COMMAND,)) -> subprocess.Popen[str]:
    """Start `audiodiff train` as a process group of its own, with one thread as this process has."""
    return subprocess.Popen(
        [*program, "train", *TINY, f"data.root={root}", f"hydra.run.dir={run}", *overrides],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str], *, seconds: float = 120.0) -> str:
    """Wait for a process, and return what it said."""
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def script(path: Path) -> tuple[str, ...]:
    """Return how to run a Python file."""
    return (sys.executable, str(path))
