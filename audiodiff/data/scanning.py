"""From a folder, a manifest or a file to entries that are known to be readable sound, each in a split."""

import hashlib
import os
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from audiodiff.data.manifest import MANIFEST_NAMES, Entry, read_manifest
from audiodiff.errors import AudioFileError, DataError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.formats import AUDIO_SUFFIXES
from audiodiff.io.jobs import find_files

SILENCE_PEAK = 10 ** (-70 / 20)
"""A recording that nowhere exceeds this, -70 dBFS, is silent."""

# Manifests give seconds with a few decimals, so a stretch may seem to end a little behind its file.
_END_TOLERANCE_SECONDS = 0.05
_BLOCK_SAMPLES = 32768
_SHOW_PROGRESS_AFTER_SECONDS = 2.0
_N_NAMED = 10
_ON_BAD = ("refuse", "skip")
# Splits that mean "all of it": such entries are divided here.
_UNDIVIDED = ("", "all")


@dataclass(frozen=True)
class BadFile:
    """Name a file that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Scan:
    """Hold what was found: the usable entries, and the bad files that were skipped."""

    entries: tuple[Entry, ...]
    skipped: tuple[BadFile, ...]

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that have entries, sorted."""
        return tuple(sorted({entry.split for entry in self.entries}))

    def split(self, name: str) -> tuple[Entry, ...]:
        """Take the entries of one split.

        Raises:
            DataError: if it has none.
        """
        return _of_split(self.entries, name)


def scan_folder(root: Path) -> list[Entry]:
    """List a data set: the rows of its manifest.csv or manifest.jsonl, or else all audio files below it, sorted.

    Raises:
        DataError: if there is neither a manifest nor an audio file, or the manifest is malformed.
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

    Splits are those of the manifest. Where none is val, about val_fraction of the training files become val, chosen by
    a hash of their relative paths: the same on every machine, whatever other files there are, but at least one of two
    or more. All stretches of a file stay on one side. A single file is cut: its last val_fraction is val.

    A file is bad where it is missing, cannot be read, has no samples, is shorter than min_seconds, nowhere exceeds
    -70 dBFS, or ends before its stretch. Each is decoded until its first audible block, and at its end.

    Args:
        root: the folder, manifest or file.
        split: scan and keep only this one; None takes all.
        on_bad: refuse (raise, naming them) or skip (and count, in the result).
        min_seconds: what is shorter is bad; from there to the length of a crop, it is padded.
        val_fraction: of files without a split, for validation.
        columns: of labels; a file that alone has a value in one of them is trained on, not validated on.

    Raises:
        DataError: if nothing usable is there, the split is empty, or a file is bad and on_bad is refuse.
        ParameterError: if an argument is out of range.
    """
    if on_bad not in _ON_BAD:
        raise ParameterError(f"on_bad={on_bad!r} must be one of {', '.join(_ON_BAD)}")
    if not 0 < val_fraction < 1:
        raise ParameterError(f"val_fraction={val_fraction} must lie between 0 and 1")
    root = Path(root).expanduser()
    folder = root if root.is_dir() else root.parent
    listed = _listed(root)
    if split is not None:
        listed = _of_split(divide(listed, folder=folder, val_fraction=val_fraction, columns=columns), split)
    entries, bad = scan(listed, min_seconds=min_seconds)
    if split is None and (not bad or on_bad == "skip"):
        # Divided only now, or a bad file could be all that there is to validate on.
        divided = divide(entries, folder=folder, val_fraction=val_fraction, columns=columns)
        pieces, bad_pieces = scan([entry for entry in divided if not entry.n_samples], min_seconds=min_seconds)
        entries = [*(entry for entry in divided if entry.n_samples), *pieces]
        bad += bad_pieces
    if bad and on_bad == "refuse":
        raise DataError(_complaint(root, bad))
    if not entries:
        raise DataError(f"{root}: none of its {len(bad)} files can be used:\n{_names(bad)}")
    return Scan(entries=tuple(entries), skipped=tuple(bad))


def scan(entries: Sequence[Entry], *, min_seconds: float = 0.1) -> tuple[list[Entry], list[BadFile]]:
    """Look into the files: the usable entries with their lengths, rates and channels filled in, and the bad files.

    A progress bar appears on the standard error output where it takes over two seconds.
    """
    good: list[Entry] = []
    bad: list[BadFile] = []
    pool = ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1))
    try:
        results = pool.map(partial(_scanned, min_seconds=min_seconds), entries)
        for entry, result in zip(entries, _with_progress(results, total=len(entries)), strict=True):
            if isinstance(result, Entry):
                good.append(result)
            else:
                bad.append(BadFile(entry.path, result))
    finally:
        pool.shutdown(cancel_futures=True)
    return good, bad


def divide(
    entries: Sequence[Entry], *, folder: Path, val_fraction: float, columns: Collection[str] = ()
) -> list[Entry]:
    """Give every entry a split, as `load_entries` describes.

    Args:
        entries: the recordings.
        folder: what the hashed paths are relative to.
        val_fraction: the share of files for validation.
        columns: whose every value keeps a file in train.
    """
    if any(entry.split == "val" for entry in entries):
        return [replace(entry, split="train") if entry.split in _UNDIVIDED else entry for entry in entries]
    candidates = [entry for entry in entries if entry.split in (*_UNDIVIDED, "train")]
    if len(candidates) == 1:
        return [e for entry in entries for e in (_cut(entry, val_fraction) if entry is candidates[0] else [entry])]

    single_file = len({entry.path for entry in candidates}) == 1
    places = {entry: _place(entry, folder=folder, with_start=single_file) for entry in candidates}
    values: dict[float, set[tuple[str, str]]] = defaultdict(set)
    for entry, place in places.items():
        values[place] |= {(column, entry.value(column)) for column in columns if entry.value(column)}
    trained_on = Counter(value for found in values.values() for value in found)
    chosen: set[float] = set()
    for place in sorted(values):
        if (place >= val_fraction and chosen) or len(chosen) == len(values) - 1:
            break
        if all(trained_on[value] > 1 for value in values[place]):
            chosen.add(place)
            trained_on.subtract(values[place])
    return [replace(e, split="val" if places[e] in chosen else "train") if e in places else e for e in entries]


def _listed(root: Path) -> list[Entry]:
    if not root.exists():
        raise DataError(f"{root}: no such folder, manifest or audio file")
    if root.is_dir():
        return scan_folder(root)
    if root.suffix.lower() in AUDIO_SUFFIXES:
        return [Entry(root)]
    return read_manifest(root)


def _place(entry: Entry, *, folder: Path, with_start: bool) -> float:
    """Place a file in [0, 1) by a hash of its path."""
    inside = entry.path.is_relative_to(folder)
    key = (entry.path.relative_to(folder) if inside else entry.path).as_posix()
    if with_start:
        key = f"{key}@{entry.start:.6f}"
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64


def _cut(entry: Entry, val_fraction: float) -> list[Entry]:
    """Cut one entry in two: train, then val."""
    try:
        seconds = entry.seconds or audio_io.info(entry.path).seconds - entry.start
    except AudioFileError:
        return [replace(entry, split="train")]  # the scan says what is wrong with it
    border = (1 - val_fraction) * seconds
    head = replace(entry, seconds=border, split="train", n_samples=0)
    return [head, replace(head, start=entry.start + border, seconds=seconds - border, split="val")]


def _of_split(entries: Sequence[Entry], name: str) -> tuple[Entry, ...]:
    found = tuple(entry for entry in entries if entry.split == name)
    if not found:
        names = ", ".join(sorted({entry.split for entry in entries})) or "none"
        raise DataError(f"split={name!r} has no entries; the splits there are: {names}")
    return found


def _scanned(entry: Entry, *, min_seconds: float) -> Entry | str:
    """Complete an entry from its file, or say what is wrong with it."""
    try:
        info = audio_io.info(entry.path)
        known = replace(entry, sample_rate=info.sample_rate, n_channels=info.n_channels)
        available = info.n_samples - known.first_sample
        wanted = available if entry.seconds is None else round(entry.seconds * info.sample_rate)
        if wanted > available + _END_TOLERANCE_SECONDS * info.sample_rate or available < 1:
            return f"ends at {info.seconds:.3f} s, before its stretch from {entry.start:g} s: {_length(entry)}"
        known = replace(known, n_samples=min(wanted, available))
        if known.n_samples < max(1, min_seconds * info.sample_rate):
            return f"is {known.n_samples / info.sample_rate:.3f} s long, shorter than min_seconds={min_seconds:g}"
        if _is_silent(known):
            where = "" if entry.seconds is None else f" from {entry.start:g} to {entry.start + entry.seconds:g} s"
            return f"is silent{where}: its peak is below -70 dBFS"
    except AudioFileError as error:
        return str(error).removeprefix(f"{entry.path}: ")
    return known


def _length(entry: Entry) -> str:
    return "to its end" if entry.seconds is None else f"{entry.seconds:g} s long"


def _is_silent(entry: Entry) -> bool:
    """Decode the last block, which fails where a file was cut off, then from the start until something is audible."""
    first, stop = entry.first_sample, entry.first_sample + entry.n_samples
    last = max(first, stop - _BLOCK_SAMPLES)
    starts = [last, *range(first, last, _BLOCK_SAMPLES)]
    return all(_peak(entry.path, start, min(_BLOCK_SAMPLES, stop - start)) < SILENCE_PEAK for start in starts)


def _peak(path: Path, start: int, n_samples: int) -> float:
    # numpy, not torch: the files are looked into by several threads, and torch would start more in each.
    samples = audio_io.read(path, start=start, n_samples=n_samples)[0].numpy()
    return float(max(samples.max(), -samples.min()))


def _with_progress(results: Iterable[Entry | str], *, total: int) -> Iterator[Entry | str]:
    """Pass results on; show a progress bar from the third second on."""
    from rich.console import Console  # imported here: few scans are slow enough to need it
    from rich.progress import Progress, TaskID

    started = time.monotonic()
    bar = None
    with ExitStack() as stack:
        for n_done, result in enumerate(results, start=1):
            yield result
            if bar is not None:
                bar.update(TaskID(0), completed=n_done)
            elif time.monotonic() - started > _SHOW_PROGRESS_AFTER_SECONDS:
                bar = stack.enter_context(Progress(console=Console(stderr=True), transient=True))
                bar.add_task("scanning audio files", total=total, completed=n_done)


def _names(bad: Sequence[BadFile]) -> str:
    lines = [f"  {file.path}: {file.reason}" for file in bad[:_N_NAMED]]
    if len(bad) > _N_NAMED:
        lines.append(f"  and {len(bad) - _N_NAMED} more")
    return "\n".join(lines)


def _complaint(root: Path, bad: Sequence[BadFile]) -> str:
    files = "1 file" if len(bad) == 1 else f"{len(bad)} files"
    return f"{root}: {files} cannot be used; repair or remove them, or set data.on_bad=skip:\n{_names(bad)}"
