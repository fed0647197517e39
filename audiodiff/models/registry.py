"""Names of models: those that ship with the package, and the folders of runs and checkpoints."""

import os
import shutil
from pathlib import Path

from audiodiff.errors import CheckpointError
from audiodiff.io.atomic import atomic_file
from audiodiff.io.paths import user_path
from audiodiff.models.mel_inverter import INVERSIONS

CONFIG = "config.yaml"
"""The file that makes a folder a checkpoint."""
LATEST = "latest"
"""The file beside the checkpoints of a run that names the newest."""
SPEECH_PRIOR = "speech-prior-16k"
"""The model that restores, edits and compares speech where no other is named."""
DEFAULT_DIALECT = "hifigan"
"""The mel dialect of inversion without training where no other is named."""

_SHIPPED = Path(__file__).parents[1] / "pretrained"


def names() -> list[str]:
    """Return the names of all models that need no training: shipped ones and inversions."""
    return sorted([*INVERSIONS, *(path.name for path in _SHIPPED.glob("*") if path.is_dir())])


def find(where: str | os.PathLike[str]) -> Path:
    """Return the checkpoint folder that a name or path means.

    Args:
        where: a checkpoint, a run (its newest checkpoint is taken), a run's `checkpoints`, or the name of a model that
            ships with the package.

    Raises:
        CheckpointError: if there is none, with what there is instead.
    """
    path = user_path(where, name="the name of the model")
    for holder in (path / "checkpoints", path):
        pointer = holder / LATEST
        if pointer.is_file():
            path = holder / pointer.read_text().strip()
            break
    else:
        shipped = _SHIPPED / str(where)
        if not path.exists() and shipped.is_dir():
            path = shipped
    if not (path / CONFIG).is_file():
        what = f"holds no {CONFIG}" if path.exists() else "does not exist"
        raise CheckpointError(
            f"model={str(where)!r} {what}: give a run folder, one of its checkpoints, or a model by name "
            f"({', '.join(names())})"
        )
    return path


def point_latest(checkpoints: Path, name: str) -> None:
    """Make the file `latest` name a step folder beside it, atomically."""
    with atomic_file(checkpoints / LATEST) as temporary:
        temporary.write_text(name + "\n")


def prune(checkpoints: Path, *, newest: str, keep: int) -> None:
    """Delete all but `keep` steps up to the newest, and what an interrupted save left.

    Later steps, which a run has that was resumed from an earlier one, are not counted.
    """
    folders = sorted(folder for folder in checkpoints.glob("step_*") if folder.is_dir() and folder.name <= newest)
    for folder in [*folders[:-keep], *checkpoints.glob(".*.step_*")]:
        shutil.rmtree(folder, ignore_errors=True)
