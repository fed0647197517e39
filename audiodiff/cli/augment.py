"""`audiodiff augment`: varied copies of recordings, with a manifest of them."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from audiodiff.cli.options import (
    Device,
    Float,
    Force,
    LabelGuidance,
    Model,
    Normalize,
    StepsAtAnyStrength,
    read_normalize,
)
from audiodiff.cli.report import report_levels
from audiodiff.data import Entry, label_indices, read_manifest, scan, scan_folder, write_manifest
from audiodiff.errors import DataError, ParameterError, check_whole
from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress, say
from audiodiff.io.formats import FLOAT
from audiodiff.io.jobs import check_folder_name, check_target, make_folder
from audiodiff.io.paths import display_name
from audiodiff.io.writers import WrittenFile, open_writer
from audiodiff.labels import LabelSet
from audiodiff.models import checkpoint, registry
from audiodiff.models.devices import device_named
from audiodiff.models.sampling import SamplingOptions
from audiodiff.tasks.editing.augment import DEFAULT_STRENGTH, augment
from audiodiff.tasks.editing.edit import check_model, check_strength

DEFAULT_OUT = Path("augmented")
MANIFEST = "manifest.csv"
SOURCE = "augmented_from"
"""Column of the manifest that names the recording of a copy."""


def augment_command(
    root: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder of recordings, with or without a manifest.csv; or a manifest."),
    ],
    n: Annotated[int, typer.Option("-n", "--copies", metavar="N", help="Copies of each recording.")] = 4,
    strength: Annotated[
        float,
        typer.Option(
            metavar="S", help="How much copies differ from their recording, from 0 to 1; as in `audiodiff edit`."
        ),
    ] = DEFAULT_STRENGTH,
    label_from: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=COLUMN",
            help="For a model with labels: take each recording's label from a column of the manifest, or from the name "
            "of its folder (digit=label, class=folder). It preserves the class at a high --strength.",
            show_default="none",
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The split of the manifest whose recordings are copied.",
            show_default="train where there is one, otherwise all",
        ),
    ] = None,
    with_originals: Annotated[
        bool,
        typer.Option("--with-originals", help="List all recordings of DIR in the manifest too, of all splits."),
    ] = False,
    model: Model = registry.SPEECH_PRIOR,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Where the copies and their manifest.csv go.")
    ] = DEFAULT_OUT,
    steps: StepsAtAnyStrength = None,
    guidance: LabelGuidance = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same copies.")] = 0,
    device: Device = "auto",
    float_: Float = False,
    normalize: Normalize = None,
    force: Force = False,
) -> None:
    """Make varied copies of recordings, as training data for other models.

    Copies are wav files with the rate and the channels of their recording, in the same tree of folders. A manifest.csv
    beside them lists each copy with its recording's label, speaker, text, split and other columns, and the recording
    itself in the column augmented_from.

    \b
    Examples:
      audiodiff augment recordings/ -n 4 --strength 0.2 -o more
      audiodiff augment recordings/ --with-originals -o all       a manifest to train with: originals and copies
      audiodiff augment digits/ --model digits-8k --label-from digit=label --strength 0.6
    """
    check_whole(n, name="-n", least=1)
    check_strength(strength)
    if steps is not None:
        check_whole(steps, name="--steps", least=1)
    normalization = read_normalize(normalize)
    folder = root if root.is_dir() else root.parent
    everything = read_manifest(root) if root.suffix.lower() in (".csv", ".jsonl") else scan_folder(root)
    everything = _outside(everything, folder=folder, out=out)
    chosen = _of_split(everything, split)
    targets = _targets(chosen, folder=folder, out=out, n=n, force=force)
    _check_kept(everything, targets)
    loaded = check_model(checkpoint.load(model, device=device_named(device)))
    loaded.check_sampling(SamplingOptions(steps=steps, guidance=guidance))
    rows = _labels(chosen, label_from or [], known=loaded.labels)
    usable, bad = scan(chosen, min_seconds=0.0)
    if bad:
        raise DataError(f"{bad[0].path}: {bad[0].reason}: repair or remove it ({len(bad)} such files)")
    make_folder(out / MANIFEST)
    (out / MANIFEST).unlink(missing_ok=True)
    made: list[Entry] = []
    written: list[WrittenFile] = []
    with progress("augmenting", total=len(usable)) as bar:
        for index, (entry, row, own) in enumerate(zip(usable, rows, targets, strict=True)):
            audio, sample_rate = audio_io.read(entry.path, start=entry.first_sample, n_samples=entry.n_samples)
            copies = augment(
                loaded,
                audio,
                sample_rate=sample_rate,
                n=n,
                strength=strength,
                labels=row,
                steps=steps,
                guidance=guidance,
                seed=seed,
                items=[index],
                on_step=bar.within,
            )
            for target, copy in zip(own, copies, strict=True):
                with open_writer(
                    target,
                    n_samples=copy.shape[-1],
                    sample_rate=sample_rate,
                    subtype=FLOAT if float_ else None,
                    normalization=normalization,
                ) as writer:
                    writer.add(copy)
                    written.append(writer.finish())
                extra = (*entry.extra, (SOURCE, display_name(entry.path.resolve())))
                made.append(replace(entry, path=target, start=0.0, seconds=None, extra=extra))
            bar.advance()
    write_manifest([*(everything if with_originals else []), *made], out / MANIFEST)
    report_levels(written, normalization, names=("copy", "copies"))
    say(f"wrote {len(made)} copies of {len(usable)} recordings to {out}, and {MANIFEST} beside them")


def _outside(entries: Sequence[Entry], *, folder: Path, out: Path) -> list[Entry]:
    """Leave out recordings below the output folder, for example old copies, and report it.

    Raises:
        ParameterError: if none is left.
    """
    place = out.resolve()
    if not place.is_relative_to(folder.resolve()):
        return list(entries)
    kept = [entry for entry in entries if not entry.path.resolve().is_relative_to(place)]
    if not kept:
        raise ParameterError(f"--out {out} holds the recordings: give another folder")
    if len(kept) < len(entries):
        say(f"left out {len(entries) - len(kept)} recordings below --out {out}, where the copies go")
    return kept


def _of_split(entries: Sequence[Entry], split: str | None) -> list[Entry]:
    """Return the recordings of a split; by default of train, or all where there is no such split.

    Raises:
        DataError: if the split has none.
    """
    there = Counter(entry.split for entry in entries)
    wanted = "train" if split is None and "train" in there else split
    if wanted is None:
        return list(entries)
    if wanted not in there:
        raise DataError(f"--split {wanted} has no recordings; there are: {', '.join(sorted(there)) or 'none'}")
    return [entry for entry in entries if entry.split == wanted]


def _targets(entries: Sequence[Entry], *, folder: Path, out: Path, n: int, force: bool) -> list[list[Path]]:
    """Return the files of each recording's copies, all different.

    Raises:
        AudioFileError: if one exists.
    """
    check_folder_name(out)
    check_target(out / MANIFEST, force=force)
    stems: list[Path] = []
    for entry in entries:
        inside = entry.path.resolve().is_relative_to(folder.resolve())
        stem = entry.path.resolve().relative_to(folder.resolve()) if inside else Path(entry.path.name)
        stems.append(stem.with_suffix(""))
    width = len(str(n - 1))
    targets = [
        [out / stem.parent / f"{stem.name}_copy{copy:0{width}d}.wav" for copy in range(n)] for stem in _unique(stems)
    ]
    for target in (path for paths in targets for path in paths):
        check_target(target, force=force)
    return targets


def _check_kept(entries: Sequence[Entry], targets: Sequence[Sequence[Path]]) -> None:
    """Raise a ParameterError where a copy would replace a recording."""
    sources = {entry.path.resolve() for entry in entries}
    for target in (path for paths in targets for path in paths):
        if target.resolve() in sources:
            raise ParameterError(f"--out: {target} is one of the recordings: give another --out")


def _unique(stems: Sequence[Path]) -> list[Path]:
    """Number equal names: several segments of one file, or files that differ only in their suffix.

    Example:
        >>> [str(path) for path in _unique([Path("x"), Path("x"), Path("x_0"), Path("y")])]
        ['x_1', 'x_2', 'x_0', 'y']
    """
    times = Counter(stems)
    taken = set(stems)
    numbers = {stem: itertools.count() for stem in times}
    found: list[Path] = []
    for stem in stems:
        name = stem
        if times[stem] > 1:
            width = len(str(times[stem] - 1))
            numbered = (stem.with_name(f"{stem.name}_{number:0{width}d}") for number in numbers[stem])
            name = next(path for path in numbered if path not in taken)
            taken.add(name)
        found.append(name)
    return found


def _labels(entries: Sequence[Entry], texts: Sequence[str], *, known: LabelSet | None) -> list[dict[str, str]]:
    """Return the labels of each recording for the model.

    Raises:
        ParameterError: if an option cannot be read, or the model has no such label.
        DataError: for a value that the model does not have.
    """
    columns: dict[str, str] = {}
    for text in texts:
        name, equals, column = (part.strip() for part in text.partition("="))
        if known is None:
            raise ParameterError(f"--label-from {text} needs a model with labels, and this one has none")
        if not (name and equals and column) or name not in known.names:
            raise ParameterError(f"--label-from {text} must be NAME=COLUMN with a NAME of {', '.join(known.names)}")
        columns[name] = column
    if not columns or known is None:
        return [{} for _ in entries]
    used = LabelSet({name: known.vocabularies[name] for name in columns})
    label_indices(entries, used, columns)
    return [{name: value for name, column in columns.items() if (value := entry.value(column))} for entry in entries]
