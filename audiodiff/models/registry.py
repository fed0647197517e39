"""Names of models: those that ship with the package, and the folders of runs and checkpoints."""

import os
import re
import shutil
from pathlib import Path

from audiodiff.errors import AudioFileError, CheckpointError
from audiodiff.io.atomic import atomic_file
from audiodiff.io.jobs import check_folder_name
from audiodiff.io.paths import user_path
from audiodiff.models import hub
from audiodiff.models.mel_inverter import INVERSIONS

CONFIG, WEIGHTS, METRICS, CARD = "config.yaml", "model.safetensors", "metrics.json", "README.md"
"""Files of a checkpoint; the first makes a folder one."""
ADAPTER = "adapter.safetensors"
"""In the place of the weights: the adapters of another model."""
FILES = frozenset({CONFIG, WEIGHTS, ADAPTER, METRICS, CARD})
"""What a checkpoint to be given away holds."""
LATEST = "latest"
"""The file beside the checkpoints of a run that names the newest."""
SPEECH_PRIOR = "speech-prior-16k"
"""The model that restores, edits and compares speech where no other is named."""
DEFAULT_DIALECT = "hifigan"
"""The mel dialect of inversion without training where no other is named."""

_STEP = re.compile(r"step_\d+")
SHIPPED = Path(__file__).parents[1] / "pretrained"
"""Folder of the models that ship."""


def names() -> list[str]:
    """Return the names of all models that need no training: shipped ones and inversions."""
    return sorted([*INVERSIONS, *(path.name for path in SHIPPED.glob("*") if path.is_dir())])


def find(where: str | os.PathLike[str]) -> Path:
    """Return the checkpoint folder that a name or path means.

    Args:
        where: a checkpoint, a run (its newest checkpoint is taken), a run's `checkpoints`, the name of a model that
            ships with the package, or hf://owner/name, with @revision or without, on the Hugging Face Hub.

    Raises:
        CheckpointError: if there is none, with what there is instead.
    """
    if hub.is_address(where):
        return hub.download(where, needed=(CONFIG,), optional=(WEIGHTS, ADAPTER, METRICS, CARD))
    path = user_path(where, name="the name of the model")
    for holder in (path / "checkpoints", path):
        pointer = holder / LATEST
        if pointer.is_file():
            path = _step_of(pointer)
            break
    else:
        shipped = SHIPPED / str(where)
        if not path.exists() and shipped.is_dir():
            path = shipped
    if not (path / CONFIG).is_file():
        what = f"holds no {CONFIG}" if path.exists() else "does not exist"
        raise CheckpointError(
            f"model={str(where)!r} {what}: give a run folder, one of its checkpoints, or a model by name "
            f"({', '.join(names())}), or {hub.FORM}"
        )
    return path


def check_new_checkpoint(out: Path, *, force: bool) -> None:
    """Refuse a folder to write a checkpoint into that holds anything else, or a checkpoint without --force.

    Raises:
        ParameterError: if it is named as a file.
        AudioFileError: with the remedy.
    """
    check_folder_name(out)
    if not out.exists():
        return
    if not force:
        raise AudioFileError(f"--out: {out} exists: give --force to replace it, or another --out")
    others = sorted({path.name for path in out.iterdir()} - FILES) if out.is_dir() else [out.name]
    if others:
        raise AudioFileError(f"--out: {out} holds {others[0]}, which this command does not write: give another --out")


def point_latest(checkpoints: Path, name: str) -> None:
    """Make the file `latest` name a step folder beside it, atomically."""
    with atomic_file(checkpoints / LATEST) as temporary:
        temporary.write_text(name + "\n", encoding="utf-8")


def prune(checkpoints: Path, *, newest: str, keep: int) -> None:
    """Delete all but `keep` steps up to the newest.

    Later steps, which a run has that was resumed from an earlier one, are not counted, and folders that somebody has
    renamed are kept.
    """
    steps = (folder for folder in checkpoints.glob("step_*") if _STEP.fullmatch(folder.name) and folder.is_dir())
    for folder in sorted(folder for folder in steps if folder.name <= newest)[:-keep]:
        shutil.rmtree(folder, ignore_errors=True)


def remove_leftovers(checkpoints: Path) -> None:
    """Delete what interrupted saves left, in a folder that no other process writes into."""
    for folder in [*checkpoints.glob(".*.step_*"), *checkpoints.glob(".step_*.tmp")]:
        shutil.rmtree(folder, ignore_errors=True)


def _step_of(pointer: Path) -> Path:
    """Return the step folder that the file `latest` names."""
    step = pointer.with_name(pointer.read_text(encoding="utf-8").strip())
    if not step.is_dir():
        present = sorted(config.parent.name for config in pointer.parent.glob(f"*/{CONFIG}"))
        remedy = f"give one of {', '.join(map(repr, present))} there" if present else "no other is there"
        raise CheckpointError(f"{pointer} names {step.name}, which does not exist: rename it back, or {remedy}")
    return step
