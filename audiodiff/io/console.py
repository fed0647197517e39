"""Console: lines, errors and progress bars of the command line, on standard error.

`recorded` writes lines and errors into a file as well, as `audiodiff train` does into the run's train.log.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from audiodiff.errors import AudiodiffError

LOGGER = logging.getLogger("audiodiff.console")
LOGGER.setLevel(logging.INFO)
LOGGER.propagate = False  # what is printed already is not to be printed again
LOGGER.addHandler(logging.NullHandler())


def say(text: str) -> None:
    """Print a line, unless standard error is closed, where print would write to standard output."""
    _record(text)
    if sys.stderr is not None:
        print(text, file=sys.stderr, flush=True)


def _record(text: str) -> None:
    """Log a line, in which a byte of a name that is not UTF-8 is written as such."""
    LOGGER.info(text.encode("utf-8", "backslashreplace").decode())


def fail(error: AudiodiffError) -> NoReturn:
    """Print an error without a traceback, and exit with 2."""
    _record(f"error: {error}")
    try:
        from rich.console import Console
        from rich.text import Text
    except Exception:  # the error may be that rich, or what it needs, cannot be loaded
        say(f"error: {error}")
        raise SystemExit(2) from None
    Console(stderr=True, soft_wrap=True).print(Text("error: ", style="bold red") + Text(str(error)))
    raise SystemExit(2)


@contextmanager
def recorded(path: Path) -> Iterator[None]:
    """Append what is said within a block to a file, each line after its time."""
    handler = logging.FileHandler(path, encoding="utf-8", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        handler.close()


@dataclass(frozen=True)
class ProgressBar:
    """Callbacks by which a job reports its progress.

    Args:
        advance: called after each item.
        within: called as (done, of all) within an item.
    """

    advance: Callable[[], None]
    within: Callable[[int, int], None]


SILENT = ProgressBar(lambda: None, lambda _done, _all: None)
"""Shows nothing."""


@contextmanager
def progress(what: str, *, total: int) -> Iterator[ProgressBar]:
    """Show a bar of `total` items while a block runs, on a terminal only."""
    whole = 0
    with stage_progress() as show:

        def advance() -> None:
            nonlocal whole
            whole += 1
            show(what, whole, total)

        def within(done: int, of_all: int) -> None:
            show(what, whole + min(done / of_all, 0.99), total)

        show(what, 0, total)
        yield ProgressBar(advance, within)


@contextmanager
def stage_progress() -> Iterator[Callable[[str, int | float, int], None]]:
    """Show a bar for the current stage of a job, on a terminal only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        stages: dict[str, TaskID] = {}

        def show(stage: str, done: int | float, total: int) -> None:
            if stage not in stages:
                stages[stage] = bar.add_task(stage, total=total)
            for name, task in stages.items():
                bar.update(task, visible=name == stage)
            bar.update(stages[stage], completed=done, total=total)

        yield show
