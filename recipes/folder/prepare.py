"""Write a manifest for any folder of recordings, and leave out what cannot be used.

    python prepare.py my_recordings
    audiodiff train recipes=folder/vocoder data.root=my_recordings

A folder trains without this. A manifest fixes the split, leaves out broken and silent files once and for all, and adds
what can be found: the label is the folder that a file lies in, relative to the root, and every label keeps a file to
train on; the text is a .txt or .lab file of the same name beside it.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from audiodiff.data import BadFile, Entry, divide, scan, write_manifest
from audiodiff.errors import AudiodiffError, DataError, ParameterError
from audiodiff.io.jobs import find_files

TEXT_SUFFIXES = (".txt", ".lab")


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("root", type=Path, help="the folder of recordings, searched to any depth")
    parser.add_argument("-o", "--out", type=Path, help="the manifest to write (default: ROOT/manifest.csv)")
    parser.add_argument("--val-fraction", type=float, default=0.05, help="share of validation (default: 0.05)")
    parser.add_argument("--min-seconds", type=float, default=0.1, help="leave out shorter files (default: 0.1)")
    options = parser.parse_args(arguments)
    out = options.out or options.root / "manifest.csv"
    try:
        entries, left_out = read(options.root, val_fraction=options.val_fraction, min_seconds=options.min_seconds)
        write_manifest(entries, out)
    except AudiodiffError as error:
        print(error, file=sys.stderr)
        return 1
    for bad in left_out:
        print(f"left out: {bad.path}: {bad.reason}", file=sys.stderr)
    n_val = sum(entry.split == "val" for entry in entries)
    print(f"{out}: {len(entries) - n_val} train, {n_val} val, {len(left_out)} left out")
    return 0


def read(root: Path, *, val_fraction: float, min_seconds: float) -> tuple[list[Entry], list[BadFile]]:
    """List the recordings that can be used, and what was left out."""
    if not 0 < val_fraction < 1:
        raise ParameterError(f"val_fraction={val_fraction} must lie between 0 and 1")
    good, bad = scan([described(path, root=root) for path in find_files(root)], min_seconds=min_seconds)
    if not good:
        raise DataError(f"{root}: none of its {len(bad)} files can be used; the first: {bad[0].path}: {bad[0].reason}")
    return divide(good, folder=root, val_fraction=val_fraction, columns=["label"]), bad


def described(path: Path, *, root: Path) -> Entry:
    """Add the label and the text that stand around a file."""
    label = path.parent.relative_to(root).as_posix()
    texts = [path.with_suffix(suffix) for suffix in TEXT_SUFFIXES if path.with_suffix(suffix).is_file()]
    text = " ".join(texts[0].read_text(encoding="utf-8").split()) if texts else ""
    return replace(Entry(path), label="" if label == "." else label, text=text)


if __name__ == "__main__":
    sys.exit(main())
