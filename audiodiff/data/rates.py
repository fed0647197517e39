"""What becomes of recordings whose rate is not the one that is trained at."""

from collections.abc import Sequence

from audiodiff.data.manifest import Entry


def resampling(entries: Sequence[Entry], *, sample_rate: int) -> str | None:
    """Say how many scanned recordings are resampled, and what those of a lower rate lack; None where none is.

    Args:
        entries: the recordings.
        sample_rate: that they are resampled to, in Hz.

    Example:
        >>> from pathlib import Path
        >>> print(resampling([Entry(Path("a.wav"), sample_rate=22050)], sample_rate=44100))
        1 of 1 recordings are resampled to 44100 Hz; 1 of them from less, down to 22050 Hz: such a recording has nothing
        above 11 kHz, and a model learns this silence as it learns the rest, except under objective=mrstft;
        audio.sample_rate=22050 would leave it out
    """
    others = [entry.sample_rate for entry in entries if entry.sample_rate != sample_rate]
    if not others:
        return None
    told = f"{len(others)} of {len(entries)} recordings are resampled to {sample_rate} Hz"
    lower = [rate for rate in others if rate < sample_rate]
    if not lower:
        return told
    return (
        f"{told}; {len(lower)} of them from less, down to {min(lower)} Hz: such a recording has nothing\n"
        f"above {min(lower) / 2000:.3g} kHz, and a model learns this silence as it learns the rest, except under "
        f"objective=mrstft;\naudio.sample_rate={min(lower)} would leave it out"
    )
