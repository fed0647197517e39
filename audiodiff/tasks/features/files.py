"""Features of files: which recordings, their vectors, and the .npz that holds both."""

import contextlib
import io
import os
import uuid
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from audiodiff.data import Entry, load_whole, read_manifest, scan, scan_folder, vocabulary
from audiodiff.data.manifest import MANIFEST_NAMES, TEXT_FIELDS
from audiodiff.errors import AudioFileError, DataError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.io.console import progress
from audiodiff.io.jobs import make_folder
from audiodiff.models import checkpoint
from audiodiff.models.checkpoint import SPEECH_PRIOR
from audiodiff.models.devices import device_named
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.features.extract import FeatureLayer, check_model, default_tap, features_of_layers, layers

SUFFIX = ".npz"
_MANIFEST_SUFFIXES = (".csv", ".jsonl")
_OWN = ("vectors", "path", "start", "seconds", "model", "noise_level", "layer")
_OF_NUMPY = ("file", "allow_pickle")
"""What numpy.savez_compressed takes for its own arguments."""

_COLUMN = "column_"
_N_NAMED = 10


@dataclass(frozen=True)
class Features:
    """Hold vectors and the recordings that they are of.

    Args:
        vectors: one row a recording.
        entries: the recordings, with what their manifest says of them.
        model: that made them.
        tap: where in the model.
    """

    vectors: Float32[np.ndarray, "recordings features"]
    entries: tuple[Entry, ...]
    model: str
    tap: FeatureLayer

    def __post_init__(self) -> None:
        if len(self.vectors) != len(self.entries):
            raise ParameterError(
                f"vectors has {len(self.vectors)} rows and must have {len(self.entries)}: one an entry"
            )

    @property
    def columns(self) -> list[str]:
        """The columns that say something of a recording."""
        others = dict.fromkeys(name for entry in self.entries for name, _ in entry.extra)
        return [*(name for name in TEXT_FIELDS if any(entry.value(name) for entry in self.entries)), *others]

    def values(self, column: str) -> list[str]:
        """Return what a column says of each recording, empty where it says nothing; folder is that of the file.

        Raises:
            ParameterError: if it says nothing of any.
        """
        found = [entry.value(column) for entry in self.entries]
        if not any(found):
            raise ParameterError(f"column {column!r} says nothing; there are {', '.join([*self.columns, 'folder'])}")
        return found

    def known_labels(self) -> list[str]:
        """Return the columns that recordings are usually told apart by: label and speaker, or else the folders."""
        names = [name for name in ("label", "speaker") if len(vocabulary(self.entries, name)) > 1]
        return names or (["folder"] if len(vocabulary(self.entries, "folder")) > 1 else [])


def recordings(inputs: Sequence[str], *, split: str | None = None) -> list[Entry]:
    """List recordings, with what is known of them, and look into the files.

    Args:
        inputs: folders (whose manifest.csv or manifest.jsonl is followed if there is one), manifests, files and globs.
        split: keep only what a manifest says is in this one.

    Raises:
        AudioFileError: if an input is missing.
        DataError: if a file cannot be used, or none is left.
    """
    listed = [entry for text in inputs for entry in _listed(Path(text).expanduser())]
    if split is not None:
        known = vocabulary(listed, "split")
        listed = [entry for entry in listed if entry.split == split]
        if not listed:
            raise DataError(
                f"--split {split}: no recording is in it; the splits there are: {', '.join(known) or 'none'}"
            )
    entries, bad = scan(listed, min_seconds=0.0)
    if bad:
        named = [f"  {file.path}: {file.reason}" for file in bad[:_N_NAMED]]
        more = [f"  and {len(bad) - _N_NAMED} more"] if len(bad) > _N_NAMED else []
        raise DataError(
            "\n".join([f"{len(bad)} of {len(listed)} recordings cannot be used; leave them out:", *named, *more])
        )
    return entries


def load_model(where: str, *, device: str = "auto") -> Synthesizer:
    """Load a model that features can be taken of.

    Raises:
        CheckpointError: if it cannot be loaded.
        ParameterError: if it is not a trained one.
    """
    return check_model(checkpoint.load(where, device=device_named(device)))


def features_of_files(
    model: Synthesizer, entries: Sequence[Entry], *, name: str = SPEECH_PRIOR, tap: FeatureLayer | None = None
) -> Features:
    """Compute the features of recordings.

    Args:
        model: as `load_model` returns it.
        entries: scanned recordings, as `recordings` lists them.
        name: of the model, to be kept with the features.
        tap: where in the model; None is its default.

    Raises:
        AudioFileError: if a file cannot be decoded.
        ParameterError: if the tap is not in the model.
    """
    tap = default_tap(model) if tap is None else tap
    vectors = []
    with progress("features", total=len(entries)) as bar:
        for entry in entries:
            vectors.append(entry_features(model, entry, noise_level=tap.noise_level, chosen=[tap.layer])[0])
            bar.advance()
    return Features(np.stack(vectors), tuple(entries), name, tap)


def entry_features(
    model: Synthesizer, entry: Entry, *, noise_level: float, chosen: Sequence[int] | None = None
) -> Float32[np.ndarray, "layers features"]:
    """Compute the features of layers for one scanned recording; all layers where None are chosen."""
    chosen = range(len(layers(model))) if chosen is None else chosen
    audio = load_whole(entry, sample_rate=model.sample_rate, n_channels=1)
    return features_of_layers(
        model, audio, sample_rate=model.sample_rate, noise_level=noise_level, chosen=list(chosen)
    ).numpy()


def features_from(inputs: Sequence[str], *, model: str, split: str | None = None, device: str = "auto") -> Features:
    """Read features from a file, or compute them of recordings at the model's default.

    Args:
        inputs: one .npz that `save_features` wrote, or recordings as for `recordings`.
        model: name or folder, for recordings.
        split: as for `recordings`; of a file, its rows.
        device: for recordings.

    Raises:
        AudioFileError: if an input is missing.
        DataError: if a file cannot be used.
    """
    if any(Path(text).suffix.lower() == SUFFIX for text in inputs):
        if len(inputs) > 1:
            raise ParameterError(f"{len(inputs)} inputs with a {SUFFIX} among them: give it alone")
        return _of_split(load_features(inputs[0]), split)
    entries = recordings(inputs, split=split)
    return features_of_files(load_model(model, device=device), entries, name=model)


def save_features(path: str | Path, found: Features) -> None:
    """Write features into an .npz, whole or not at all, that loads without pickle.

    It holds vectors (recordings, features), path (relative to the file's folder where below it), start and seconds of
    stretches (NaN: to the end), model, noise_level, layer, and every column of the manifest under its name, which
    column_ comes before where it is taken.

    Raises:
        AudioFileError: if it cannot be written.
    """
    path = Path(path)
    folder = path.absolute().parent
    arrays: dict[str, Any] = {
        "vectors": found.vectors,
        "path": np.array([shown_path(entry.path, folder=folder) for entry in found.entries]),
        "start": np.array([entry.start for entry in found.entries]),
        "seconds": np.array([np.nan if entry.seconds is None else entry.seconds for entry in found.entries]),
        "model": np.array(found.model),
        "noise_level": np.array(found.tap.noise_level),
        "layer": np.array(found.tap.layer),
    }
    for column in found.columns:
        # A column must neither hide what is the file's own nor be hidden by it.
        taken = column in (*_OWN, *_OF_NUMPY) or column.startswith(_COLUMN)
        arrays[f"{_COLUMN}{column}" if taken else column] = np.array(found.values(column))
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    write_whole(path, data.getvalue())


def load_features(path: str | Path) -> Features:
    """Read what `save_features` wrote.

    Raises:
        DataError: if the file is missing, or is another one.
    """
    path = Path(path).expanduser()
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        missing = [name for name in _OWN if name not in arrays]
        if missing:
            raise ValueError(f"it has no {missing[0]!r}")
        columns = {name.removeprefix(_COLUMN): values for name, values in arrays.items() if name not in _OWN}
        return Features(
            vectors=arrays["vectors"].astype(np.float32),
            entries=tuple(_entry(arrays, columns, index, folder=path.parent) for index in range(len(arrays["path"]))),
            model=str(arrays["model"]),
            tap=FeatureLayer(float(arrays["noise_level"]), int(arrays["layer"])),
        )
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; audiodiff features FOLDER -o {path.name} makes one") from error
    # EOFError is an empty file's, TypeError that of one array by itself.
    except (OSError, EOFError, ValueError, IndexError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{path}: is no file of features ({error}); make one with audiodiff features") from error


def check_outputs(paths: Sequence[Path], *, inputs: Sequence[str], force: bool) -> None:
    """Find out, before anything is computed, whether files can be written.

    Args:
        paths: to be written.
        inputs: as for `features_from`; neither they nor the manifests of folders among them are ever replaced.
        force: replace other files that exist.

    Raises:
        AudioFileError: if one exists, which `force` allows, is a folder, or its folder cannot be written to.
        ParameterError: if one is an input.
    """
    roots = [Path(text).expanduser() for text in inputs]
    read = {path.resolve() for root in roots for path in (root, *(root / name for name in MANIFEST_NAMES))}
    for path in paths:
        if path.resolve() in read:
            raise ParameterError(f"--out: {path} is one of the inputs: give another --out")
        if path.is_dir():
            raise AudioFileError(f"--out: {path} is a folder, and a file is to be written there: give another --out")
        if path.exists() and not force:
            raise AudioFileError(f"--out: {path} exists: give --force to replace it, or another --out")
        make_folder(path)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        AudioFileError: if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        raise AudioFileError(f"{path}: cannot be written ({error}); check the folder and its free space") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def shown_path(path: Path, *, folder: Path) -> str:
    """Show a path relative to a folder where it is below it, otherwise absolute."""
    # absolute, not resolved: a link inside the folder is part of the data set.
    place = Path(os.path.abspath(path))
    return (place.relative_to(folder) if place.is_relative_to(folder) else place).as_posix()


def _listed(root: Path) -> list[Entry]:
    if root.is_dir():
        return scan_folder(root)
    if root.suffix.lower() in _MANIFEST_SUFFIXES:
        return read_manifest(root)
    return [Entry(path) for path in audio_io.find(root)]


def _of_split(found: Features, split: str | None) -> Features:
    if split is None:
        return found
    kept = [index for index, entry in enumerate(found.entries) if entry.split == split]
    if not kept:
        known = vocabulary(found.entries, "split")
        raise DataError(f"--split {split}: no recording is in it; the splits there are: {', '.join(known) or 'none'}")
    return Features(found.vectors[kept], tuple(found.entries[index] for index in kept), found.model, found.tap)


def _entry(
    arrays: dict[str, Shaped[np.ndarray, "..."]],
    columns: dict[str, Shaped[np.ndarray, "..."]],
    index: int,
    *,
    folder: Path,
) -> Entry:
    own = {name: str(values[index]) for name, values in columns.items()}
    seconds = float(arrays["seconds"][index])
    return Entry(
        path=folder / str(arrays["path"][index]),
        start=float(arrays["start"][index]),
        seconds=None if np.isnan(seconds) else seconds,
        text=own.get("text", ""),
        label=own.get("label", ""),
        speaker=own.get("speaker", ""),
        split=own.get("split", ""),
        extra=tuple((name, value) for name, value in own.items() if name not in TEXT_FIELDS and value),
    )
