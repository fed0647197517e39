"""Write a manifest for LJSpeech 1.1: transcripts, and the split in which LJ001 and LJ002 are held out.

    python prepare.py LJSpeech-1.1
    audiodiff train recipes=ljspeech/vocoder data.root=LJSpeech-1.1

LJSpeech has no official split. The published DiffWave weights (lmnt) were trained without LJ001 and LJ002, so these two
chapters are test and validation here: what is measured on them can be compared.
"""

import argparse
import sys
from pathlib import Path

from audiodiff.data import Entry, write_manifest
from audiodiff.errors import AudiodiffError, DataError

SPLITS = {"LJ001": "test", "LJ002": "val"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("root", type=Path, help="the unpacked folder, with metadata.csv and wavs/")
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
    """List the recordings that metadata.csv names: id|transcript|transcript with numbers spelt out, without quoting."""
    metadata = root / "metadata.csv"
    if not metadata.is_file():
        raise DataError(f"{metadata}: no such file; unpack LJSpeech-1.1.tar.bz2 and give the folder that it makes")
    entries = []
    for line, row in enumerate(metadata.read_text(encoding="utf-8").splitlines(), start=1):
        name, *texts = row.split("|")
        if len(texts) != 2:
            raise DataError(f"{metadata}:{line}: {row[:60]!r} must have three fields with | between them")
        path = root / "wavs" / f"{name}.wav"
        if not path.is_file():
            raise DataError(f"{metadata}:{line}: {path} is missing; unpack the archive again")
        entries.append(Entry(path, text=texts[1].strip(), speaker="LJ", split=SPLITS.get(name[:5], "train")))
    return entries


if __name__ == "__main__":
    sys.exit(main())
