"""Feature files: vectors of recordings with the columns of their manifest, as an .npz file."""

import csv
import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from audiodiff.data import Entry, vocabulary
from audiodiff.data.manifest import TEXT_FIELDS
from audiodiff.errors import DataError, ParameterError
from audiodiff.io.atomic import write_atomic
from audiodiff.io.paths import file_text, user_path
from audiodiff.tasks.features.extract import FeatureLayer

SUFFIX = ".npz"
_OWN_NAMES = ("vectors", "path", "start", "seconds", "model", "noise_level", "layer")
_NUMPY_NAMES = ("file", "allow_pickle")
"""Arguments of numpy.savez_compressed, which cannot name an array."""
_COLUMN = "column_"


@dataclass(frozen=True)
class Features:
    """Feature vectors and their recordings.

    Args:
        vectors: one row per recording.
        entries: the recordings, with the columns of their manifest.
        model: name or folder of the model.
        extracted_at: layer and noise level.
    """

    vectors: Float32[np.ndarray, "recordings features"]
    entries: tuple[Entry, ...]
    model: str
    extracted_at: FeatureLayer

    def __post_init__(self) -> None:
        if len(self.vectors) != len(self.entries):
            raise ParameterError(
                f"vectors has {len(self.vectors)} rows and must have {len(self.entries)}: one per entry"
            )

    @property
    def columns(self) -> list[str]:
        """The columns of the manifest with any value."""
        others = dict.fromkeys(name for entry in self.entries for name, _ in entry.extra)
        return [*(name for name in TEXT_FIELDS if any(entry.value(name) for entry in self.entries)), *others]

    def values(self, column: str) -> list[str]:
        """Return the value of a column for each recording, empty where it has none; folder is that of the file.

        Raises:
            ParameterError: if no recording has a value.
        """
        values = [entry.value(column) for entry in self.entries]
        if not any(values):
            raise ParameterError(f"column {column!r} has no values; there are {', '.join([*self.columns, 'folder'])}")
        return values

    def label_columns(self) -> list[str]:
        """Return the columns that usually distinguish recordings: label and speaker, or else the folder."""
        names = [name for name in ("label", "speaker") if len(vocabulary(self.entries, name)) > 1]
        return names or (["folder"] if len(vocabulary(self.entries, "folder")) > 1 else [])

    def of_split(self, split: str) -> "Features":
        """Return the features of the recordings in a split.

        Raises:
            DataError: if there are none.
        """
        kept = [index for index, entry in enumerate(self.entries) if entry.split == split]
        if not kept:
            raise DataError(f"--split {split}: no recording is in it; {known_splits(self.entries)}")
        return replace(self, vectors=self.vectors[kept], entries=tuple(self.entries[index] for index in kept))


def save_features(path: str | Path, features: Features) -> None:
    """Write features to an .npz file that loads without pickle.

    It holds vectors (recordings, features), path (relative to the file's folder if below it), start and seconds of
    excerpts (NaN: to the end), model, noise_level, layer, and each column of the manifest under its name, prefixed with
    column_ where the name is taken.

    Raises:
        AudioFileError: if it cannot be written.
    """
    path = Path(path)
    folder = path.absolute().parent
    arrays: dict[str, Any] = {
        "vectors": features.vectors,
        "path": np.array([relative_path(entry.path, folder=folder) for entry in features.entries]),
        "start": np.array([entry.start for entry in features.entries]),
        "seconds": np.array([np.nan if entry.seconds is None else entry.seconds for entry in features.entries]),
        "model": np.array(features.model),
        "noise_level": np.array(features.extracted_at.noise_level),
        "layer": np.array(features.extracted_at.layer),
    }
    for column in features.columns:
        # A column must neither hide one of the file's own arrays nor be hidden by it.
        taken = column in (*_OWN_NAMES, *_NUMPY_NAMES) or column.startswith(_COLUMN)
        arrays[f"{_COLUMN}{column}" if taken else column] = np.array(features.values(column))
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    write_atomic(path, data.getvalue())


def load_features(path: str | Path) -> Features:
    """Read a file of `save_features`.

    Raises:
        DataError: if the file is missing, or not a feature file.
    """
    path = user_path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        missing = [name for name in _OWN_NAMES if name not in arrays]
        if missing:
            raise ValueError(f"it has no {missing[0]!r}")
        columns = {name.removeprefix(_COLUMN): values for name, values in arrays.items() if name not in _OWN_NAMES}
        return Features(
            vectors=arrays["vectors"].astype(np.float32),
            entries=tuple(_entry(arrays, columns, index, folder=path.parent) for index in range(len(arrays["path"]))),
            model=str(arrays["model"]),
            extracted_at=FeatureLayer(float(arrays["noise_level"]), int(arrays["layer"])),
        )
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; make one with audiodiff features FOLDER -o {path.name}") from error
    # numpy raises EOFError for an empty file, and yields a bare array, without `files`, for .npy data.
    except (OSError, EOFError, ValueError, IndexError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise DataError(f"{path}: not a feature file ({error}); make one with audiodiff features") from error


def write_table(
    path: Path, features: Features, *, results: Mapping[str, Sequence[str]], columns: Sequence[str]
) -> None:
    """Write a CSV file of results, one row per recording.

    Args:
        path: of the file.
        features: the recordings.
        results: columns that follow path and start.
        columns: of the manifest, which come last.

    Raises:
        AudioFileError: if it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "start", *results, *columns])
    paths = [relative_path(entry.path, folder=path.absolute().parent) for entry in features.entries]
    starts = [f"{entry.start:g}" for entry in features.entries]
    writer.writerows(zip(paths, starts, *results.values(), *map(features.values, columns), strict=True))
    write_atomic(path, file_text(text.getvalue()))


def relative_path(path: Path, *, folder: Path) -> str:
    """Return a path relative to a folder if it is below it, otherwise absolute."""
    # absolute, not resolved: a link inside the folder is part of the data set.
    absolute = Path(os.path.abspath(path))
    return (absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute).as_posix()


def known_splits(entries: Sequence[Entry]) -> str:
    """Return a list of the splits of recordings, for a message."""
    return f"the splits are: {', '.join(vocabulary(entries, 'split')) or 'none'}"


def _entry(
    arrays: dict[str, Shaped[np.ndarray, "..."]],
    columns: dict[str, Shaped[np.ndarray, "..."]],
    index: int,
    *,
    folder: Path,
) -> Entry:
    values = {name: str(column[index]) for name, column in columns.items()}
    seconds = float(arrays["seconds"][index])
    return Entry(
        path=folder / str(arrays["path"][index]),
        start=float(arrays["start"][index]),
        seconds=None if np.isnan(seconds) else seconds,
        text=values.get("text", ""),
        label=values.get("label", ""),
        speaker=values.get("speaker", ""),
        split=values.get("split", ""),
        extra=tuple((name, value) for name, value in values.items() if name not in TEXT_FIELDS and value),
    )
