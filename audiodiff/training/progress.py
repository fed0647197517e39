"""Progress of a training run: a bar on a terminal, lines at intervals in a file."""

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from audiodiff.io.console import LOGGER

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
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not shown or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=total, completed=first, numbers="")
        self._shown, self._lines = shown, shown and not self._console.is_terminal
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
        numbers = f"loss {self._loss:.4g}  lr {rate:.2g}"
        self._bar.update(self._task, advance=1, numbers=numbers, description="training")
        if self._lines and (self._step == self._total or time.monotonic() - self._printed > LINE_EVERY_SECONDS):
            self._console.print(f"step {self._step}/{self._total}  {numbers}", highlight=False)
            self._printed = time.monotonic()

    def report(self, values: Mapping[str, float]) -> None:
        """Print the results of a validation, above the bar."""
        if not self._shown:
            return
        line = f"step {self._step}: validation " + ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        LOGGER.info(line)
        self._console.print(line, highlight=False, soft_wrap=True)

    def say(self, what: str) -> None:
        """Show another activity than training."""
        self._bar.update(self._task, description=what)
