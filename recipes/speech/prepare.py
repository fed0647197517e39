"""Write the manifests of recipes/speech: clean speech of several data sets, and noise.

python recipes/speech/prepare.py --speech librispeech/manifest.csv kathleen/manifest.csv --noise esc10/manifest.csv \
    --unheard helicopter --out data

Splits stay as they are, but for those of folds: fold5 is for testing, the others are trained with. So is, for testing,
all noise of the classes that training is not to hear.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from audiodiff.data import Entry, read_manifest, write_manifest

FOLDS = {f"fold{number}": "train" for number in range(1, 5)} | {"fold5": "test"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, nargs="+", required=True, help="manifests of clean speech")
    parser.add_argument("--noise", type=Path, nargs="*", default=[], help="manifests of noise")
    parser.add_argument("--unheard", nargs="*", default=[], help="classes of noise that are kept for testing")
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder of the manifests that are written")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, manifests in (("speech", given.speech), ("noise", given.noise)):
        entries = [entry for manifest in manifests for entry in read_manifest(manifest)]
        if entries:
            path = given.out / f"{name}.csv"
            write_manifest([replace(entry, split=split_of(entry, given.unheard)) for entry in entries], path)
            print(f"{path}: {len(entries)} recordings")


def split_of(entry: Entry, unheard: list[str]) -> str:
    """Return where a recording belongs."""
    return "test" if entry.label in unheard else FOLDS.get(entry.split, entry.split)


if __name__ == "__main__":
    main()
