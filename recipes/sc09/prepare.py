"""Write a manifest for SC09, the spoken digits of Speech Commands v0.02, with its official split.

    python prepare.py speech_commands_v0.02
    audiodiff train recipes=sc09/class data.root=speech_commands_v0.02

The label is the digit's word, the speaker the hash in the file name. validation_list.txt and testing_list.txt are the
official split, in which no speaker stands on two sides.
"""

import argparse
import sys
from pathlib import Path

from audiodiff.data import Entry, write_manifest
from audiodiff.errors import AudiodiffError, DataError

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LISTS = {"val": "validation_list.txt", "test": "testing_list.txt"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("root", type=Path, help="the unpacked folder, with zero/ to nine/ and the two lists")
    parser.add_argument("-o", "--out", type=Path, help="the manifest to write (default: ROOT/manifest.csv)")
    options = parser.parse_args(arguments)
    out = options.out or options.root / "manifest.csv"
    try:
        entries = read(options.root)
        write_manifest(entries, out)
    except AudiodiffError as error:
        print(error, file=sys.stderr)
        return 1
    counts = {split: sum(entry.split == split for entry in entries) for split in ("train", "val", "test")}
    print(f"{out}: " + ", ".join(f"{n} {split}" for split, n in counts.items()))
    return 0


def read(root: Path) -> list[Entry]:
    """List the digits' recordings, sorted, with label, speaker and split."""
    splits = {}
    for split, name in LISTS.items():
        if not (root / name).is_file():
            raise DataError(f"{root / name}: no such file; give the folder that speech_commands_v0.02.tar.gz makes")
        splits |= dict.fromkeys((root / name).read_text(encoding="utf-8").split(), split)
    entries = []
    for digit in DIGITS:
        paths = sorted((root / digit).glob("*.wav"))
        if not paths:
            raise DataError(f"{root / digit}: has no .wav files; unpack the archive again")
        for path in paths:
            speaker = path.stem.split("_nohash_")[0]
            entries.append(Entry(path, label=digit, speaker=speaker, split=splits.get(f"{digit}/{path.name}", "train")))
    return entries


if __name__ == "__main__":
    sys.exit(main())
