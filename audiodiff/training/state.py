"""Training state of a run: read for a resume, and compared with what the resumed run would be."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn

from audiodiff import compat
from audiodiff.data.manifest import Entry
from audiodiff.errors import TrainingError
from audiodiff.models import checkpoint, registry

FREE = (
    "train.steps",
    "train.save_every",
    "train.log_every",
    "train.validate_every",
    "train.keep",
    "train.init_across",
    "train.resume",
    "data.root",
    "data.n_workers",
    "data.on_bad",
    "logger",
    "resume",
    "sampler",
    "model.sampler",
    "model.n_iterations",
    "validation",
)
"""Settings, and whole groups of them, that a run's continuation may change without changing a single weight."""


def flatten(node: Any, prefix: str = "") -> dict[str, str]:
    """Return the leaves of a nested configuration by their dotted names."""
    if isinstance(node, Mapping):
        return {
            name: value
            for key, item in node.items()
            for name, value in flatten(item, f"{prefix}.{key}" if prefix else str(key)).items()
        }
    return {prefix: repr(node)}


def exactness(
    config: Mapping[str, Any], *, data: str, world_size: int, device: str, method: Mapping[str, str]
) -> dict[str, str]:
    """Return everything that the weights of a run depend on, by name.

    Args:
        config: the resolved configuration.
        data: a digest of the training examples.
        world_size: number of processes.
        device: as torch names it.
        method: what else the method depends on, by name, as its teacher's weights.
    """
    kept = {
        name: value
        for name, value in flatten(config).items()
        if not any(name == free or name.startswith(f"{free}.") for free in FREE)
    }
    machine = {
        "data": data,
        "world_size": str(world_size),
        "threads": str(torch.get_num_threads()),
        "device": device,
        "torch": str(torch.__version__),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }
    return (
        kept
        | {f"machine.{name}": value for name, value in machine.items()}
        | {f"the method's {name}": value for name, value in method.items()}
    )


def weights_digest(model: nn.Module) -> str:
    """Return a short digest of a model's weights."""
    found = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        found.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def digest(entries: Iterable[Entry], *, columns: Collection[str] = ()) -> str:
    """Return a digest of a set of recordings: names, stretches and rates, in the order of the examples.

    Args:
        entries: the recordings.
        columns: what labels are taken from (`Entry.value`); their values count too.
    """
    found = hashlib.sha256()
    for entry in entries:
        parts = (entry.path.name, entry.first_sample, entry.n_samples, entry.sample_rate, *map(entry.value, columns))
        found.update(("|".join(map(str, parts)) + "\n").encode())
    return found.hexdigest()[:16]


def read_state(run: str, *, wanted: Mapping[str, str], exact: bool) -> dict[str, Any]:
    """Load the training state of a run's newest checkpoint.

    Args:
        run: the run folder, or one of its checkpoints.
        wanted: `exactness` of the run that goes on.
        exact: refuse a resume that could not give the weights of a run that was never stopped.

    Raises:
        TrainingError: if there is no state, or an exact resume is impossible, with each field that differs.
        CheckpointError: if there is no checkpoint.
    """
    folder = registry.find(run)
    path = folder / checkpoint.STATE
    if not path.is_file():
        raise TrainingError(
            f"train.resume={run}: {folder} has no {checkpoint.STATE}: it was made for use, not for resume"
        )
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, UnpicklingError) as error:
        raise TrainingError(f"train.resume={run}: {path} is damaged ({str(error).splitlines()[0]})") from error
    if not {"step", "model", "ema", "optimizer", "optimizer_kind", "density", "metrics", "exactness"} <= state.keys():
        raise TrainingError(f"train.resume={run}: {path} is of another version of audiodiff")
    saved = compat.current_values(state["exactness"])
    differing = [
        f"{name} was {saved.get(name, 'absent')}, is {wanted.get(name, 'absent')}"
        for name in sorted(saved.keys() | wanted.keys())
        if saved.get(name) != wanted.get(name)
    ]
    if differing and exact:
        shown = "\n  ".join(differing[:20])
        raise TrainingError(
            f"train.resume={run} cannot be exact; what differs:\n  {shown}\n"
            "Undo the change, or go on inexactly with resume.exact=false"
        )
    return state
