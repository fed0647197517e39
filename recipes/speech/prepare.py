"""Write the manifests of recipes/speech: clean speech of several data sets, and noise.

    python prepare.py librispeech kathleen --noise esc10 --unheard helicopter --out data
    audiodiff train recipes=speech/prior data.root=data/speech.csv method.noise_root=data/noise.csv

Each data set is a manifest, or a folder with a manifest.csv. Splits stay as they are, but for those of folds: fold5 is
for testing, the others are trained with. For testing is, too, all noise of the classes that training is not to hear.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from audiodiff.data import Entry, read_manifest, write_manifest
from audiodiff.errors import AudiodiffError, DataError

FOLDS = {f"fold{number}": "train" for number in range(1, 5)} | {"fold5": "test"}


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("speech", type=Path, nargs="+", help="data sets of clean speech")
    parser.add_argument("--noise", type=Path, nargs="+", default=[], help="data sets of noise")
    parser.add_argument("--unheard", nargs="+", default=[], help="labels of noise that is kept for testing")
    parser.add_argument("-o", "--out", type=Path, default=Path("data"), help="folder of the manifests (default: data)")
    options = parser.parse_args(arguments)
    try:
        told = {name: read(roots) for name, roots in (("speech", options.speech), ("noise", options.noise)) if roots}
        unknown = set(options.unheard) - {entry.label for entry in told.get("noise", [])}
        if unknown:
            raise DataError(f"--unheard {' '.join(sorted(unknown))}: no noise has this label")
        for name, entries in told.items():
            divided = [replace(entry, split=split_of(entry, options.unheard)) for entry in entries]
            write_manifest(divided, options.out / f"{name}.csv")
            n_train = sum(entry.split == "train" for entry in divided)
            print(f"{options.out / name}.csv: {len(divided)} recordings, {n_train} to train on")
    except AudiodiffError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def read(roots: list[Path]) -> list[Entry]:
    """Read the manifests of data sets."""
    return [entry for root in roots for entry in read_manifest(root / "manifest.csv" if root.is_dir() else root)]


def split_of(entry: Entry, unheard: list[str]) -> str:
    """Return where a recording belongs."""
    return "test" if entry.label in unheard else FOLDS.get(entry.split, entry.split)


if __name__ == "__main__":
    sys.exit(main())
