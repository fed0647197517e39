"""Failure of a stage around training: save what was learnt, and say how to go on."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from audiodiff.errors import AudiodiffError, TrainingError
from audiodiff.io.console import say
from audiodiff.models import registry
from audiodiff.training.log import Log

FAILURE = "failure.txt"
"""File of a run that holds the traceback of what ended it."""


class StageError(TrainingError):
    """Failure of a stage that changes no weight: reading data, validation, writing curves.

    Args:
        stage: its name.
        step: optimiser steps that were made before.
        cause: what was raised.
    """

    def __init__(self, stage: str, *, step: int, cause: Exception) -> None:
        super().__init__(f"{stage} failed after step {step} ({in_a_line(cause)})")


@contextmanager
def saving_on_failure(stage: str, *, step: int, keep: Callable[[], None]) -> Iterator[None]:
    """Run a stage that changes no weight; where it fails, save a checkpoint before the error goes on.

    Args:
        stage: its name in the message.
        step: optimiser steps that were made before.
        keep: saves a checkpoint of that step, if there is none.

    Raises:
        StageError: for any exception.
    """
    try:
        yield
    except Exception as error:
        keep()
        raise StageError(stage, step=step, cause=error) from error


@contextmanager
def explaining(run: Path, *, steps: int) -> Iterator[None]:
    """Name the newest checkpoint and how to go on if a stage fails; the traceback goes into a file of the run.

    Raises:
        TrainingError: for a StageError.
    """
    try:
        yield
    except StageError as error:
        where = ""
        with suppress(OSError):
            (run / FAILURE).write_text("".join(traceback.format_exception(error)), encoding="utf-8")
            where = f"; traceback in {run / FAILURE}"
        raise TrainingError(f"{error}{where}. {how_to_go_on(run, steps=steps)}") from error


@contextmanager
def closing_log(log: Log) -> Iterator[None]:
    """Close a log at the end; where that fails, its last curves are lost and the run is not."""
    try:
        yield
    finally:
        try:
            log.close()
        except Exception as error:
            say(f"the log cannot be closed ({in_a_line(error)}): its last curves are missing")


def how_to_go_on(run: Path, *, steps: int) -> str:
    """Name the newest checkpoint of a run, and the command that goes on from it."""
    latest = run / "checkpoints" / registry.LATEST
    if not latest.exists():
        return "No checkpoint was written: start again"
    newest = latest.read_text(encoding="utf-8").strip()
    kept = f"The newest checkpoint is {latest.with_name(newest)}: "
    if int(newest.removeprefix("step_")) >= steps:
        return f"{kept}all {steps} steps are in it; use it with --model {run}"
    return (
        f"{kept}go on with `audiodiff train train.resume={run}` (validation=loss leaves the metrics out, logger=none "
        "the curves and pictures)"
    )


def in_a_line(error: Exception) -> str:
    """Return the first line of an error's text, after its kind where it is not an error of this package."""
    text = (str(error).strip().splitlines() or ["no further words"])[0]
    return text if isinstance(error, AudiodiffError) else f"{type(error).__name__}: {text}"
