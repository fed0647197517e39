"""Write a manifest that cuts a folder of tracks into stretches, and leaves out silent stretches and broken files.

    python prepare.py my_tracks --seconds 10
    audiodiff train recipes=music/vocoder data.root=my_tracks

Nothing is copied: a stretch is a path with start and seconds. The last one of a track takes the rest. The label is the
folder that a track lies in (a genre or an album), relative to the root. Validation takes whole
tracks, not stretches of a track that is trained on; a single track is divided by its stretches.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from audiodiff.data import BadFile, Entry, divide, scan, write_manifest
from audiodiff.errors import AudiodiffError, ParameterError
from audiodiff.io.jobs import find_files


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("root", type=Path, help="the folder of tracks, searched to any depth")
    parser.add_argument("-o", "--out", type=Path, help="the manifest to write (default: ROOT/manifest.csv)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a stretch (default: 10)")
    parser.add_argument("--val-fraction", type=float, default=0.05, help="share of validation (default: 0.05)")
    options = parser.parse_args(arguments)
    out = options.out or options.root / "manifest.csv"
    try:
        entries, left_out = read(options.root, seconds=options.seconds, val_fraction=options.val_fraction)
        write_manifest(entries, out)
    except AudiodiffError as error:
        print(error, file=sys.stderr)
        return 1
    for bad in left_out:
        print(f"left out: {bad.path}: {bad.reason}", file=sys.stderr)
    n_val = sum(entry.split == "val" for entry in entries)
    print(f"{out}: {len(entries) - n_val} train, {n_val} val, {len(left_out)} left out")
    return 0


def read(root: Path, *, seconds: float, val_fraction: float) -> tuple[list[Entry], list[BadFile]]:
    """List the stretches that can be used, and what was left out."""
    if not seconds >= 0.1:
        raise ParameterError(f"seconds={seconds} must be at least 0.1")
    if not 0 < val_fraction < 1:
        raise ParameterError(f"val_fraction={val_fraction} must lie between 0 and 1")
    tracks, broken = scan([Entry(path) for path in find_files(root)])
    stretches = [stretch for track in tracks for stretch in cut(track, root=root, seconds=seconds)]
    good, silent = scan(stretches)
    return divide(good, folder=root, val_fraction=val_fraction), [*broken, *silent]


def cut(track: Entry, *, root: Path, seconds: float) -> list[Entry]:
    """Cut a scanned track into stretches of equal length, the last of which takes the rest."""
    label = track.path.parent.relative_to(root).as_posix()
    whole = replace(track, label="" if label == "." else label)
    n = max(1, int(track.n_samples / track.sample_rate / seconds))
    starts = [replace(whole, start=index * seconds, seconds=seconds) for index in range(n)]
    return [*starts[:-1], replace(starts[-1], seconds=None)]


if __name__ == "__main__":
    sys.exit(main())
