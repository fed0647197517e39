"""Exclusive use of a run's folder: no two processes write into one.

Hydra calls `Claim` (`hydra.callbacks.claim` in the default configuration) before it writes anything. A folder that
nobody named, as runs/DATE/TIME, gets a number where it is taken; one that the user named is refused while another
process trains in it.
"""

import os
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import open_dict

from audiodiff.errors import TrainingError
from audiodiff.io.console import fail
from audiodiff.models import registry
from audiodiff.training.config import absolute
from audiodiff.training.overrides import is_used
from audiodiff.training.paths import quoted

LOCK = ".lock"
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Environment variables by which a launcher numbers the processes of one training."""


class Claim(Callback):
    """Hold a run's folder, or that of a sweep, from before the first write until the process ends."""

    def __init__(self) -> None:
        self._held: Lock | None = None

    def on_run_start(self, config: Any, **_: Any) -> None:
        """Claim the folder of a run."""
        self._claim(config, "run")

    def on_run_end(self, config: Any, **_: Any) -> None:
        """Release the folder."""
        self._release()

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Claim the folder of a sweep."""
        self._claim(config, "sweep")

    def on_multirun_end(self, config: Any, **_: Any) -> None:
        """Release the folder."""
        self._release()

    def _claim(self, config: Any, mode: str) -> None:
        """Claim hydra.MODE.dir; Hydra catches every exception but an exit."""
        if _is_follower(config.fabric):
            return
        key, node = f"hydra.{mode}.dir", config.hydra[mode]
        overrides = config.hydra.overrides.hydra
        try:
            if any(str(override).startswith(f"{key}=") for override in overrides):
                folder = absolute(node.dir)
                self._held = lock(folder)
                if self._held is None:
                    raise TrainingError(f"{key}={folder} is in use by another training: choose another folder")
            else:
                folder, self._held = new_folder(absolute(node.dir))
                with open_dict(config):
                    node.dir = str(folder)
                    # A sweep composes each of its jobs anew.
                    overrides.append(f"{key}={quoted(str(folder))}")
        except TrainingError as error:
            fail(error)
        except OSError as error:
            fail(TrainingError(f"{key}={node.dir} cannot be written ({error.strerror}): choose another folder"))
        registry.remove_leftovers(folder / "checkpoints")
        if is_used(folder):
            with open_dict(config):
                config.hydra.output_subdir = None  # keeps what Hydra wrote at the start of the run

    def _release(self) -> None:
        if self._held is not None:
            self._held.release()


class Lock:
    """Hold an open file that is locked, until it is released or forgotten, or the process ends.

    Args:
        descriptor: of the file.
    """

    def __init__(self, descriptor: int) -> None:
        self.release = weakref.finalize(self, os.close, descriptor)


def new_folder(wanted: Path) -> tuple[Path, Lock | None]:
    """Make a folder that did not exist, under the wanted name or with a number after it, and lock it."""
    for folder in _numbered(wanted):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder, lock(folder)
    raise AssertionError("numbers do not end")


def lock(folder: Path) -> Lock | None:
    """Lock a folder for this process; None if another one holds it.

    The lock ends with the process, however that ends. Where the system has no locks, none is taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_CREAT | os.O_WRONLY, 0o666)
    held = Lock(descriptor)
    try:
        import fcntl
    except ImportError:
        return held
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.release()
        return None
    except OSError:
        pass  # a file system without locks
    return held


def _numbered(wanted: Path) -> Iterator[Path]:
    yield wanted
    number = 2
    while True:
        yield wanted.with_name(f"{wanted.name}_{number}")
        number += 1


def _is_follower(fabric: Mapping[str, Any]) -> bool:
    """Return whether this process is one of several of a training, and not their first."""
    if fabric["devices"] == 1 and fabric.get("num_nodes", 1) == 1:
        return False
    return any(int(os.environ.get(name, "0")) > 0 for name in RANKS)
