"""Lines that commands print about the files that they wrote."""

from collections.abc import Sequence
from pathlib import Path

from audiodiff.dsp.loudness import Normalization
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


def report_levels(
    files: Sequence[WrittenFile], normalization: Normalization | None, *, names: tuple[str, str] = ("result", "results")
) -> None:
    """Print how many files were scaled down to fit, and which are too quiet for the level that was asked for.

    Args:
        files: that were written.
        normalization: the level that was asked for.
        names: of a file, and of several.
    """
    scaled = [file for file in files if file.is_scaled]
    which = f"the {names[0]}" if len(files) == 1 else f"{len(scaled)} of {len(files)} {names[1]}"
    if scaled and normalization is None:
        were = "was" if len(files) == 1 else "were"
        say(f"{which} {were} above full scale and scaled down to fit (--float keeps the level)")
    elif scaled:
        least = min(file.level_db for file in scaled)
        upto = "" if len(scaled) == 1 else "up to "
        say(f"{which} would clip at {normalization} and lies {upto}{-least:.1f} dB lower (--float reaches the level)")
    silent = [file.path.name for file in files if file.is_unmeasured]
    if silent:
        more = "" if len(silent) == 1 else f" and {len(silent) - 1} more"
        say(f"{silent[0]}{more}: too quiet to measure, level unchanged")
