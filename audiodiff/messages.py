"""What the command line says to a person, on standard error."""

import sys
from typing import NoReturn

from audiodiff.errors import AudiodiffError


def say(text: str) -> None:
    """Print a line."""
    print(text, file=sys.stderr, flush=True)


def fail(error: AudiodiffError) -> NoReturn:
    """Print an error in words, without a traceback, and exit with 2."""
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text("error: ", style="bold red") + Text(str(error)))
    raise SystemExit(2)
