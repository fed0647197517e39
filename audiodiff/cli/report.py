"""Lines that commands print about the files that they wrote."""

from collections.abc import Sequence
from pathlib import Path

from audiodiff.io.console import say
from audiodiff.io.writers import WrittenFile


def report_written(files: Sequence[Path], *, out: Path, beside: str = "") -> None:
    """Print which files were written.

    Args:
        files: all of them.
        out: their folder.
        beside: further files in it.
    """
    say(f"wrote {files[0]}" if len(files) == 1 else f"wrote {len(files)} files to {out}{beside}")


def report_scaled(files: Sequence[WrittenFile]) -> None:
    """Print how many files were scaled down to fit, if any."""
    n_scaled = sum(file.is_scaled for file in files)
    if n_scaled:
        which = "the result was" if len(files) == 1 else f"{n_scaled} of {len(files)} results were"
        say(f"{which} above full scale and scaled down to fit (--float keeps the level)")
