"""Progress of a training run: a bar on a terminal, lines at intervals in a file."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

LINE_EVERY_SECONDS = 15.0


class Progress:
    """Show step, loss, learning rate, and remaining time, on standard error.

    Args:
        total: steps in all.
        first: steps that were made before.
        shown: False for all DDP processes but the first.
    """

    def __init__(self, *, total: int, first: int, shown: bool) -> None:
        self._console = Console(stderr=True)
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.4g}  lr {task.fields[rate]:.2g}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not shown or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=total, completed=first, loss=float("nan"), rate=0.0)
        self._lines = shown and not self._console.is_terminal
        self._step, self._total = first, total
        self._loss: float | None = None
        self._printed = time.monotonic()

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, *, loss: float, rate: float) -> None:
        """Count a step, and show the smoothed loss."""
        self._step += 1
        self._loss = loss if self._loss is None else 0.95 * self._loss + 0.05 * loss
        self._bar.update(self._task, advance=1, loss=self._loss, rate=rate, description="training")
        if self._lines and (self._step == self._total or time.monotonic() - self._printed > LINE_EVERY_SECONDS):
            self._console.print(
                f"step {self._step}/{self._total}  loss {self._loss:.4g}  lr {rate:.2g}", highlight=False
            )
            self._printed = time.monotonic()

    def say(self, what: str) -> None:
        """Show another activity than training."""
        self._bar.update(self._task, description=what)
