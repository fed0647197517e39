"""Lines that commands print about the files that they wrote."""

from collections.abc import Sequence
from pathlib import Path

from audiodiff.dsp.loudness import Normalization
from audiodiff.dsp.mel import MelDialect, dialect
from audiodiff.io.console import say
from audiodiff.io.readers import Input, Recording
from audiodiff.io.writers import WrittenFile
from audiodiff.models import registry
from audiodiff.models.vocoder import Vocoder

FULL_BAND = "vocos:sample_rate={rate},n_fft=2048,win_length=2048,hop_length=512,n_mels=128"
"""Dialect that keeps the whole band of recordings at a rate."""
FULL_BAND_RATES = (44100, 48000)


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


def full_band(sources: Sequence[Input]) -> MelDialect | None:
    """Return a dialect that keeps the whole band of recordings that all have one of the common higher rates."""
    rates = {source.info.sample_rate if isinstance(source, Recording) else None for source in sources}
    rate = rates.pop() if len(rates) == 1 else None
    if rate not in FULL_BAND_RATES:
        return None
    say(
        f"inputs at {rate} Hz: dialect {FULL_BAND.format(rate=rate)}, which keeps the whole band (--dialect "
        f"{registry.DEFAULT_DIALECT} gives 22050 Hz)"
    )
    return dialect(FULL_BAND.format(rate=rate))


def report_lost(sources: Sequence[Input], written: Sequence[WrittenFile], *, model: Vocoder, is_chosen: bool) -> None:
    """Print what lies above the band of the results, and how to keep it where an untrained model allows another."""
    lost = [
        (source.info.sample_rate, file)
        for source, file in zip(sources, written, strict=True)
        if isinstance(source, Recording) and source.info.sample_rate > model.sample_rate
    ]
    if not lost:
        return
    rate, file = lost[0]
    which = file.path.name if len(lost) == 1 else f"{file.path.name} and {len(lost) - 1} more"
    remedy = "" if is_chosen else f"; for the whole band: --dialect {FULL_BAND.format(rate=rate)}"
    say(f"{which}: {rate} -> {file.sample_rate} Hz, nothing above {model.sample_rate // 2} Hz is kept{remedy}")
