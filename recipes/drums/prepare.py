"""Write a manifest for a folder of one-shot sounds: their classes, their beginnings, and a split of every class.

    python prepare.py drums
    audiodiff train recipes=drums/class data.root=drums/one_shots.csv

The class is the column label of a manifest.csv in the folder, or else the name of the folder that holds a file. Of a
long sound, a cymbal say, the first --seconds are taken, so that every example begins with its attack. A share of the
files is for validation, but every class keeps one to train on.
"""

import argparse
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

from audiodiff.data import BadFile, Entry, divide, scan, scan_folder, write_manifest
from audiodiff.errors import AudiodiffError, DataError, ParameterError


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("root", type=Path, help="the folder of sounds, with or without a manifest")
    parser.add_argument("-o", "--out", type=Path, help="the manifest to write (default: ROOT/one_shots.csv)")
    parser.add_argument("--seconds", type=float, default=1.5, help="the most to take of a sound (default: 1.5)")
    parser.add_argument("--min-seconds", type=float, default=0.1, help="leave out shorter files (default: 0.1)")
    parser.add_argument("--val-fraction", type=float, default=0.1, help="share of validation (default: 0.1)")
    options = parser.parse_args(arguments)
    out = options.out or options.root / "one_shots.csv"
    try:
        entries, left_out = read(
            options.root,
            seconds=options.seconds,
            min_seconds=options.min_seconds,
            val_fraction=options.val_fraction,
        )
        write_manifest(entries, out)
    except AudiodiffError as error:
        print(error, file=sys.stderr)
        return 1
    for bad in left_out:
        print(f"left out: {bad.path}: {bad.reason}", file=sys.stderr)
    for name, n in Counter(entry.label for entry in entries).most_common():
        n_val = sum(entry.label == name and entry.split == "val" for entry in entries)
        print(f"{name}: {n - n_val} train, {n_val} val")
    print(f"{out}: {len(entries)} sounds, {len(left_out)} left out")
    return 0


def read(root: Path, *, seconds: float, min_seconds: float, val_fraction: float) -> tuple[list[Entry], list[BadFile]]:
    """List the beginnings of the sounds that can be used, and what was left out."""
    if not 0 < min_seconds <= seconds:
        raise ParameterError(f"seconds={seconds} must be at least min_seconds={min_seconds}, which must be positive")
    if not 0 < val_fraction < 1:
        raise ParameterError(f"val_fraction={val_fraction} must lie between 0 and 1")
    sounds, broken = scan(scan_folder(root), min_seconds=min_seconds)
    good, silent = scan([beginning(sound, seconds=seconds) for sound in sounds], min_seconds=min_seconds)
    if not good:
        first = [*broken, *silent][0]
        raise DataError(f"{root}: none of its files can be used; the first: {first.path}: {first.reason}")
    divided = divide(good, folder=root, val_fraction=val_fraction, columns=["label"])
    return divided, [*broken, *silent]


def beginning(sound: Entry, *, seconds: float) -> Entry:
    """Take the first seconds of a scanned sound, and give it a class."""
    labelled = replace(sound, label=sound.label or sound.value("folder"))
    return replace(labelled, seconds=seconds) if sound.n_samples > seconds * sound.sample_rate else labelled


if __name__ == "__main__":
    sys.exit(main())
