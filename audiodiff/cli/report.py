"""Lines that commands print about the files that they wrote."""

from collections.abc import Sequence
from pathlib import Path

from audiodiff.io.console import say
from audiodiff.io.readers import Input
from audiodiff.io.writers import WrittenFile
from audiodiff.models.vocoder import Vocoder


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


def report_mels(sources: Sequence[Input], model: Vocoder, *, is_given: bool) -> None:
    """Print which dialect is assumed for mel files that state none, unless it was given."""
    bare = [source.path for source in sources if source.needs_dialect]
    if bare and model.dialect is not None and not is_given:
        which = bare[0].name if len(bare) == 1 else f"{bare[0].name} and {len(bare) - 1} more"
        say(f"no dialect is stated by {which}: taken as {model.dialect.name} (see --dialect and audiodiff mel --check)")
