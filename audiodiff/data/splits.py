"""Division of data sets into training and validation splits."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from audiodiff.data.manifest import Entry
from audiodiff.errors import AudioFileError
from audiodiff.io import audio as audio_io

# Splits of entries that are to be divided.
_UNDIVIDED = ("", "all")


def divide(
    entries: Sequence[Entry], *, folder: Path, val_fraction: float, columns: Collection[str] = ()
) -> list[Entry]:
    """Assign a split to every entry, as `load_entries` describes.

    Args:
        entries: the recordings.
        folder: to which the hashed paths are relative.
        val_fraction: share of files for validation.
        columns: every value of these keeps at least one file in train.
    """
    if any(entry.split == "val" for entry in entries):
        return [replace(entry, split="train") if entry.split in _UNDIVIDED else entry for entry in entries]
    candidates = [entry for entry in entries if entry.split in (*_UNDIVIDED, "train")]
    if len(candidates) == 1:
        (only,) = candidates
        return [part for e in entries for part in (_divide_in_time(e, val_fraction) if e is only else [e])]

    single_file = len({entry.path for entry in candidates}) == 1
    hashes = {entry: _hash(entry, folder=folder, with_start=single_file) for entry in candidates}
    values: dict[float, set[tuple[str, str]]] = defaultdict(set)
    for entry, position in hashes.items():
        values[position] |= {(column, entry.value(column)) for column in columns if entry.value(column)}
    n_in_train = Counter(value for of_file in values.values() for value in of_file)
    chosen: set[float] = set()
    for position in sorted(values):
        if (position >= val_fraction and chosen) or len(chosen) == len(values) - 1:
            break
        if all(n_in_train[value] > 1 for value in values[position]):
            chosen.add(position)
            n_in_train.subtract(values[position])
    return [replace(e, split="val" if hashes[e] in chosen else "train") if e in hashes else e for e in entries]


def _hash(entry: Entry, *, folder: Path, with_start: bool) -> float:
    """Return a hash of an entry's path in [0, 1)."""
    inside = entry.path.is_relative_to(folder)
    key = (entry.path.relative_to(folder) if inside else entry.path).as_posix()
    if with_start:
        key = f"{key}@{entry.start:.6f}"
    return int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()[:8], "big") / 2**64


def _divide_in_time(entry: Entry, val_fraction: float) -> list[Entry]:
    """Divide an entry in time: train, then val."""
    try:
        seconds = entry.seconds or audio_io.info(entry.path).seconds - entry.start
    except AudioFileError:
        return [replace(entry, split="train")]  # the scan gives the reason
    border = (1 - val_fraction) * seconds
    head = replace(entry, seconds=border, split="train", n_samples=0)
    return [head, replace(head, start=entry.start + border, seconds=seconds - border, split="val")]
