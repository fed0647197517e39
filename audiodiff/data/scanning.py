"""Scanning of data sets: lists recordings, checks that they can be used, and divides them into splits."""

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

from audiodiff.data.manifest import MANIFEST_NAMES, Entry, read_manifest
from audiodiff.data.source import AudioSource, Read, read_file
from audiodiff.data.splits import divide
from audiodiff.dsp.resample import MAX_RATE, MIN_RATE
from audiodiff.errors import AudioFileError, DataError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.formats import AUDIO_SUFFIXES
from audiodiff.io.jobs import find_files
from audiodiff.io.paths import user_path

SILENCE_PEAK = 10 ** (-70 / 20)
"""A recording whose peak is below this, -70 dBFS, is silent."""

# Manifests give seconds with a few decimals, so a segment may seem to end slightly after its file.
_END_TOLERANCE_SECONDS = 0.05
_BLOCK_SAMPLES = 32768
_PROGRESS_AFTER_SECONDS = 2.0
_N_NAMED = 10
_ON_BAD = ("refuse", "skip")


@dataclass(frozen=True)
class BadFile:
    """Hold a file that cannot be used, and the reason."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Scan:
    """Hold the usable entries of a data set, the bad files that were skipped, and what reads the entries."""

    entries: tuple[Entry, ...]
    skipped: tuple[BadFile, ...]
    read: Read = read_file

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that have entries, sorted."""
        return tuple(sorted({entry.split for entry in self.entries}))

    def split(self, name: str) -> tuple[Entry, ...]:
        """Return the entries of a split.

        Raises:
            DataError: if it has none.
        """
        return _select_split(self.entries, name)


def scan_folder(root: Path) -> list[Entry]:
    """List the entries of a folder: its manifest.csv or manifest.jsonl, or else all audio files below it, sorted.

    Raises:
        DataError: if there is neither a manifest nor an audio file, or the manifest is invalid.
    """
    for name in MANIFEST_NAMES:
        if (root / name).is_file():
            return read_manifest(root / name)
    try:
        return [Entry(path) for path in find_files(root)]
    except AudioFileError as error:
        raise DataError(str(error)) from error


def load_entries(
    root: Path | str,
    *,
    split: str | None = None,
    on_bad: str = "refuse",
    min_seconds: float = 0.1,
    val_fraction: float = 0.05,
    columns: Collection[str] = (),
) -> Scan:
    """List, divide and scan a data set: a folder, a manifest, or one audio file.

    Splits are those of the manifest. If it has no val, about val_fraction of the training files become val, chosen by a
    hash of their relative paths: the same on every machine, whatever other files there are, but at least one of two or
    more. All segments of a file stay in one split. A single file is divided: its last val_fraction is val.

    A file is bad if it is missing, cannot be read, has no samples, is shorter than min_seconds, stays below -70 dBFS,
    or ends before its segment or before the length that its header states. Compressed files are decoded whole, others
    up to their first audible block, and at their end.

    Args:
        root: the folder, manifest or file.
        split: scan and keep only this split; None takes all.
        on_bad: "refuse" raises an error that lists bad files, "skip" lists them in the result.
        min_seconds: shortest usable recording.
        val_fraction: share of files without a split that become val.
        columns: of labels; a file that is the only one with some value of a label stays in train.

    Raises:
        DataError: if no entry is usable, the split is empty, or a file is bad and on_bad is refuse.
        ParameterError: if an argument is out of range.
    """
    if on_bad not in _ON_BAD:
        raise ParameterError(f"on_bad={on_bad!r} must be one of {', '.join(_ON_BAD)}")
    if not 0 < val_fraction < 1:
        raise ParameterError(f"val_fraction={val_fraction} must lie between 0 and 1")
    root = user_path(root)
    folder = root if root.is_dir() else root.parent
    listed = _listed(root)
    if split is not None:
        listed = _select_split(divide(listed, folder=folder, val_fraction=val_fraction, columns=columns), split)
    entries, bad = scan(listed, min_seconds=min_seconds)
    if split is None and (not bad or on_bad == "skip"):
        # Divided only now, since val must not consist of bad files.
        divided = divide(entries, folder=folder, val_fraction=val_fraction, columns=columns)
        segments, bad_segments = scan([entry for entry in divided if not entry.n_samples], min_seconds=min_seconds)
        entries = [*(entry for entry in divided if entry.n_samples), *segments]
        bad += bad_segments
    if bad and on_bad == "refuse":
        raise DataError(_refusal(root, bad))
    if not entries:
        raise DataError(f"{root}: none of its {len(bad)} files can be used:\n{_format_bad(bad)}")
    return Scan(entries=tuple(entries), skipped=tuple(bad))


def scan(entries: Sequence[Entry], *, min_seconds: float = 0.1) -> tuple[list[Entry], list[BadFile]]:
    """Check the files of entries; return the usable ones, with length, rate and channels, and the bad files.

    A progress bar appears on standard error if this takes over two seconds.
    """
    good: list[Entry] = []
    bad: list[BadFile] = []
    pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
    try:
        counted = lru_cache(maxsize=None)(audio_io.count_samples)  # once for all segments of a file
        results = pool.map(partial(_scanned, min_seconds=min_seconds, counted=counted), entries)
        for entry, result in zip(entries, _with_progress(results, total=len(entries)), strict=True):
            if isinstance(result, Entry):
                good.append(result)
            else:
                bad.append(BadFile(entry.path, result))
    finally:
        pool.shutdown(cancel_futures=True)
    return good, bad


def source_entries(source: AudioSource) -> Scan:
    """List and check the recordings of a source.

    Raises:
        DataError: if there are none, or one cannot be used.
    """
    entries = tuple(source.entries())
    if not entries:
        raise DataError(f"{type(source).__name__}.entries lists no recordings")
    for entry in entries:
        if not MIN_RATE <= entry.sample_rate <= MAX_RATE or entry.n_samples < 1 or entry.n_channels < 1:
            raise DataError(
                f"{entry.path}: sample_rate={entry.sample_rate} must lie between {MIN_RATE} and {MAX_RATE} Hz, "
                f"n_samples={entry.n_samples} and n_channels={entry.n_channels} must be positive: set them in "
                f"{type(source).__name__}.entries"
            )
    return Scan(entries=entries, skipped=(), read=source.read)


def describe_resampling(entries: Sequence[Entry], *, sample_rate: int) -> str | None:
    """Describe how many scanned recordings are resampled, and what those of a lower rate lack; None if none is.

    Args:
        entries: the recordings.
        sample_rate: of training, in Hz.

    Example:
        >>> print(describe_resampling([Entry(Path("a.wav"), sample_rate=22050)], sample_rate=44100))
        1 of 1 recordings are resampled to 44100 Hz; 1 of them from less, down to 22050 Hz: such a recording has nothing
        above 11 kHz, and a model learns this silence as it learns the rest, except under objective=mrstft;
        audio.sample_rate=22050 would leave it out
    """
    others = [entry.sample_rate for entry in entries if entry.sample_rate != sample_rate]
    if not others:
        return None
    summary = f"{len(others)} of {len(entries)} recordings are resampled to {sample_rate} Hz"
    lower = [rate for rate in others if rate < sample_rate]
    if not lower:
        return summary
    return (
        f"{summary}; {len(lower)} of them from less, down to {min(lower)} Hz: such a recording has nothing\n"
        f"above {min(lower) / 2000:.3g} kHz, and a model learns this silence as it learns the rest, except under "
        f"objective=mrstft;\naudio.sample_rate={min(lower)} would leave it out"
    )


def _listed(root: Path) -> list[Entry]:
    if not root.exists():
        raise DataError(f"{root}: no such folder, manifest or audio file")
    if root.is_dir():
        return scan_folder(root)
    if root.suffix.lower() in AUDIO_SUFFIXES:
        return [Entry(root)]
    return read_manifest(root)


def _select_split(entries: Sequence[Entry], name: str) -> tuple[Entry, ...]:
    selected = tuple(entry for entry in entries if entry.split == name)
    if not selected:
        names = ", ".join(sorted({entry.split for entry in entries})) or "none"
        raise DataError(f"split={name!r} has no entries; the splits there are: {names}")
    return selected


def _scanned(entry: Entry, *, min_seconds: float, counted: Callable[[Path], int]) -> Entry | str:
    """Return an entry with length, rate and channels of its file, or the reason why it cannot be used."""
    try:
        info = audio_io.info(entry.path)
        if not MIN_RATE <= info.sample_rate <= MAX_RATE:
            return f"has a rate of {info.sample_rate} Hz, which must lie between {MIN_RATE} and {MAX_RATE} Hz"
        scanned = replace(entry, sample_rate=info.sample_rate, n_channels=info.n_channels)
        n_samples = counted(entry.path) if info.is_compressed else info.n_samples
        available = n_samples - scanned.first_sample
        wanted = available if entry.seconds is None else round(entry.seconds * info.sample_rate)
        if wanted > available + _END_TOLERANCE_SECONDS * info.sample_rate or available < 1:
            end = f"{n_samples / info.sample_rate:.3f} s"
            return f"ends at {end}, before its segment from {entry.start:g} s: {_length(entry)}"
        scanned = replace(scanned, n_samples=min(wanted, available))
        if scanned.n_samples < max(1, min_seconds * info.sample_rate):
            return f"is {scanned.n_samples / info.sample_rate:.3f} s long, shorter than min_seconds={min_seconds:g}"
        if _is_silent(scanned):
            where = "" if entry.seconds is None else f" from {entry.start:g} to {entry.start + entry.seconds:g} s"
            return f"is silent{where}: its peak is below -70 dBFS"
    except AudioFileError as error:
        return str(error).removeprefix(f"{entry.path}: ")
    return scanned


def _length(entry: Entry) -> str:
    return "to its end" if entry.seconds is None else f"{entry.seconds:g} s long"


def _is_silent(entry: Entry) -> bool:
    """Decode the last block, which fails for a truncated file, then from the start up to an audible block."""
    first, stop = entry.first_sample, entry.first_sample + entry.n_samples
    last = max(first, stop - _BLOCK_SAMPLES)
    starts = [last, *range(first, last, _BLOCK_SAMPLES)]
    return all(_peak(entry.path, start, min(_BLOCK_SAMPLES, stop - start)) < SILENCE_PEAK for start in starts)


def _peak(path: Path, start: int, n_samples: int) -> float:
    # NumPy, since torch would start more threads in each of the scan's threads.
    samples = audio_io.read(path, start=start, n_samples=n_samples)[0].numpy()
    return float(max(samples.max(), -samples.min()))


def _with_progress(results: Iterable[Entry | str], *, total: int) -> Iterator[Entry | str]:
    """Yield the results, with a progress bar after two seconds."""
    from rich.console import Console  # lazy: few scans are slow enough to need it
    from rich.progress import Progress, TaskID

    started = time.monotonic()
    bar = None
    with ExitStack() as stack:
        for n_done, result in enumerate(results, start=1):
            yield result
            if bar is not None:
                bar.update(TaskID(0), completed=n_done)
            elif time.monotonic() - started > _PROGRESS_AFTER_SECONDS:
                console = Console(stderr=True)
                bar = stack.enter_context(Progress(console=console, transient=True, disable=not console.is_terminal))
                bar.add_task("scanning audio files", total=total, completed=n_done)


def _format_bad(bad: Sequence[BadFile]) -> str:
    lines = [f"  {file.path}: {file.reason}" for file in bad[:_N_NAMED]]
    if len(bad) > _N_NAMED:
        lines.append(f"  and {len(bad) - _N_NAMED} more")
    return "\n".join(lines)


def _refusal(root: Path, bad: Sequence[BadFile]) -> str:
    files = "1 file" if len(bad) == 1 else f"{len(bad)} files"
    return f"{root}: {files} cannot be used; repair or remove them, or set data.on_bad=skip:\n{_format_bad(bad)}"
