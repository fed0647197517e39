"""What a resume needs, and whether it would be exact."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from audiodiff import checkpoint
from audiodiff.errors import TrainingError

FREE = ("train.steps", "train.save_every", "train.log_every", "train.validate_every", "train.keep", "train.resume")
"""Settings that may differ between a run and its continuation without changing a single weight."""

FREE_GROUPS = ("logger", "metrics", "resume", "hydra", "data.root", "data.n_workers", "data.on_bad", "validation")


def flatten(node: Any, prefix: str = "") -> dict[str, str]:
    """Return the leaves of a nested configuration by their dotted names."""
    if isinstance(node, Mapping):
        return {
            name: value
            for key, item in node.items()
            for name, value in flatten(item, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {prefix: repr(node)}


def exactness(config: Mapping[str, Any], *, data: str, world_size: int, device: str) -> dict[str, str]:
    """Return everything that the weights of a run depend on, by name.

    Args:
        config: the resolved configuration.
        data: a digest of the training examples.
        world_size: number of processes.
        device: as torch names it.
    """
    kept = {
        name: value
        for name, value in flatten(config).items()
        if name not in FREE and not any(name == group or name.startswith(f"{group}.") for group in FREE_GROUPS)
    }
    machine = {
        "data": data,
        "world_size": str(world_size),
        "threads": str(torch.get_num_threads()),
        "device": device,
        "torch": str(torch.__version__),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    return kept | {f"machine.{name}": value for name, value in machine.items()}


def read_state(run: str, *, wanted: Mapping[str, str], exact: bool) -> tuple[Path, dict[str, Any]]:
    """Load the training state of a run's newest checkpoint.

    Args:
        run: the run folder, or one of its checkpoints.
        wanted: `exactness` of the run that goes on.
        exact: refuse what cannot give the same weights as a run that was never stopped.

    Raises:
        TrainingError: if there is no state, or an exact resume is impossible, with each field that differs.
        CheckpointError: if there is no checkpoint.
    """
    folder = checkpoint.find(run)
    path = folder / checkpoint.STATE
    if not path.is_file():
        raise TrainingError(
            f"train.resume={run}: {folder} has no {checkpoint.STATE}: it was made for use, not for resume"
        )
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    differing = [
        f"{name} was {state['exactness'].get(name, 'absent')}, is {wanted.get(name, 'absent')}"
        for name in sorted(state["exactness"].keys() | wanted.keys())
        if state["exactness"].get(name) != wanted.get(name)
    ]
    if differing and exact:
        shown = "\n  ".join(differing[:20])
        raise TrainingError(
            f"train.resume={run} cannot be exact; what differs:\n  {shown}\n"
            "Put it back, or go on all the same with resume.exact=false"
        )
    return folder, state
