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
from audiodiff.io.paths import file_text
from audiodiff.models import checkpoint, registry

MELS = ("data.mels_dialect", "data.mels_key", "data.mels_tolerance")
"""Settings of the mels of another system."""
FREE = (
    "train.steps",
    "train.save_every",
    "train.log_every",
    "train.validate_every",
    "train.keep",
    "train.init_across",
    "train.init_model",
    "train.resume",
    "data.root",
    "data.mels",
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

FIRST_STEP = "lr_schedule.first_step"
"""Step at which the curve of the learning rate begins, for schedules that have one."""
CURVE = ("lr_schedule", "optimizer.lr")
"""Settings of the learning rate, which a continuation with a new curve from its first step on may change."""


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
    kept = {name: value for name, value in flatten(config).items() if not is_among(name, FREE)}
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
        found.update(file_text("|".join(map(str, parts)) + "\n"))
    return found.hexdigest()[:16]


def read_state(run: str, *, wanted: Mapping[str, str], exact: bool) -> dict[str, Any]:
    """Load the training state of a run's newest checkpoint.

    Args:
        run: the run folder, or one of its checkpoints.
        wanted: `exactness` of the run that goes on.
        exact: refuse a resume that could not give the weights of a run that was never stopped. The learning rate may
            differ if its curve begins (`lr_schedule.first_step`) at the step of the checkpoint.

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
    if FIRST_STEP in wanted:
        saved = {FIRST_STEP: "0"} | saved  # checkpoints of audiodiff 0.1 have none
    # Older runs lack these, and had no mels of another system, which the digest of the data tells.
    saved = {name: wanted[name] for name in MELS if name in wanted} | saved
    differing = {
        name: f"{name} was {saved.get(name, 'absent')}, is {wanted.get(name, 'absent')}"
        for name in sorted(saved.keys() | wanted.keys())
        if saved.get(name) != wanted.get(name)
    }
    if wanted.get(FIRST_STEP) == str(state["step"]) != "0":
        differing = {name: said for name, said in differing.items() if not is_among(name, CURVE)}
    if differing and exact:
        shown = "\n  ".join(list(differing.values())[:20])
        curve = ""
        if FIRST_STEP in wanted and all(is_among(name, CURVE) for name in differing):
            curve = f" begin a new curve of the learning rate with {FIRST_STEP}={state['step']},"
        raise TrainingError(
            f"train.resume={run} cannot be exact; what differs:\n  {shown}\n"
            f"Undo the change,{curve} or go on inexactly with resume.exact=false"
        )
    return state


def check_unfinished(state: Mapping[str, Any], *, run: str, steps: int, wanted: Mapping[str, str]) -> None:
    """Refuse to resume a run that has made all its steps, with the command that makes more.

    Raises:
        TrainingError: if there are no steps to make.
    """
    made = state["step"]
    if made < steps:
        return
    curve = f" {FIRST_STEP}={made}" if FIRST_STEP in wanted else ""
    raise TrainingError(
        f"train.steps={steps} are made already: {run} holds step {made}; to make as many again"
        f"{', with a new curve of the learning rate from here' if curve else ''}: audiodiff train train.resume={run} "
        f"train.steps={made + steps}{curve}"
    )


def check_curve(wanted: Mapping[str, str], *, step: int) -> None:
    """Refuse a curve of the learning rate that begins after the first step that is to be made.

    Raises:
        TrainingError: naming that step.
    """
    first = wanted.get(FIRST_STEP, "0")
    if int(first) > step:
        raise TrainingError(
            f"{FIRST_STEP}={first} begins a new curve of the learning rate at that step of a resumed run, and this run "
            f"begins at step {step}: leave it out, or set it to {step}"
        )


def is_among(name: str, settings: Collection[str]) -> bool:
    """Return whether a dotted name is one of the settings, or within a group among them."""
    return any(name == each or name.startswith(f"{each}.") for each in settings)
