"""Labels of recordings: vocabularies and indices from the columns of a manifest."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from audiodiff.data.manifest import TEXT_FIELDS, Entry, vocabulary
from audiodiff.errors import DataError, ParameterError
from audiodiff.io.paths import display_name
from audiodiff.labels import LabelSet


def label_set(entries: Sequence[Entry], columns: Mapping[str, str]) -> LabelSet:
    """Collect the vocabulary of every label from the entries.

    Args:
        entries: the training recordings.
        columns: the column of each label, by its name (see `Entry.value`).

    Raises:
        DataError: if no entry has a value in a column, all are in one folder where that is to be the label, or a value
            is no text.

    Example:
        >>> from pathlib import Path
        >>> label_set([Entry(Path("kick/a.wav")), Entry(Path("snare/b.wav"))], {"instrument": "folder"})
        LabelSet(vocabularies={'instrument': ('kick', 'snare')})
    """
    for name, column in columns.items():
        if not any(entry.value(column) for entry in entries):
            there = [known for known in _columns(entries) if any(entry.value(known) for entry in entries)]
            raise DataError(
                f"label {name!r}: column {column!r} is empty or missing in all {len(entries)} training recordings; "
                f"columns with values: {', '.join(there)}"
            )
    vocabularies = {name: vocabulary(entries, column) for name, column in columns.items()}
    for name, column in columns.items():
        for value in vocabularies[name]:
            if display_name(value) != value:
                raise DataError(
                    f"label {name!r}: {display_name(value)!r} cannot be read as text here: rename it, or choose a "
                    "locale of UTF-8, as LC_ALL=C.UTF-8"
                )
        if column == "folder" and len(vocabularies[name]) == 1:
            raise DataError(
                f"label {name!r} is the name of a recording's folder, and all {len(entries)} training recordings are "
                f"in one, {vocabularies[name][0]!r}: make a folder for each {name}, or take a column of a manifest, as "
                f"in data.labels.{name}=label"
            )
    return LabelSet(vocabularies)


def label_indices(
    entries: Sequence[Entry], labels: LabelSet, columns: Mapping[str, str]
) -> Int[Tensor, "entries labels"]:
    """Return the index of every entry's labels in the vocabularies, -1 if it has none.

    Raises:
        ParameterError: unless columns has exactly the names of the labels.
        DataError: for a value that is not in its vocabulary, with the file and the known values.
    """
    if set(columns) != set(labels.names):
        raise ParameterError(
            f"columns={dict(columns)} must name a column for each label: {', '.join(labels.names) or 'none'}"
        )
    rows = [_indices(entry, labels, columns) for entry in entries]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(rows), len(labels.names))


def _indices(entry: Entry, labels: LabelSet, columns: Mapping[str, str]) -> list[int]:
    try:
        return labels.indices({name: entry.value(columns[name]) for name in labels.names})
    except ParameterError as error:
        raise DataError(
            f"{entry.path}: {error}; recordings of split {entry.split!r} may only have values of the training split: "
            "correct it, leave it empty, or move recordings with this value to train"
        ) from error


def _columns(entries: Sequence[Entry]) -> list[str]:
    return [*TEXT_FIELDS, *dict.fromkeys(name for entry in entries for name, _ in entry.extra), "folder"]
