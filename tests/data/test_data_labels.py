"""Columns become vocabularies and indices, and a value that was not trained on is refused at once."""

from pathlib import Path

import pytest
import torch

from audiodiff.data import Entry, label_indices, label_set
from audiodiff.errors import DataError, ParameterError
from audiodiff.labels import LabelSet
from audiodiff.training.state import digest

ENTRIES = [
    Entry(Path("set/kick/a.wav"), label="10", speaker="ann", split="train"),
    Entry(Path("set/kick/b.wav"), label="2", split="train", extra=(("tempo", "90"),)),
    Entry(Path("set/snare/c.wav"), speaker="bob", split="train"),
]
COLUMNS = {"digit": "label", "who": "speaker", "drum": "folder", "tempo": "tempo"}


def test_a_label_set_takes_each_label_from_its_column():
    assert label_set(ENTRIES, COLUMNS).vocabularies == {
        "digit": ("2", "10"),
        "who": ("ann", "bob"),
        "drum": ("kick", "snare"),
        "tempo": ("90",),
    }
    assert label_set(ENTRIES, {}).names == ()


def test_indices_give_back_the_values_of_the_entries():
    labels = label_set(ENTRIES, COLUMNS)
    indices = label_indices(ENTRIES, labels, COLUMNS)
    assert indices.dtype == torch.int64
    for entry, row in zip(ENTRIES, indices.tolist(), strict=True):
        for (name, known), index in zip(labels.vocabularies.items(), row, strict=True):
            assert entry.value(COLUMNS[name]) == ("" if index == -1 else known[index])
    assert label_indices(ENTRIES, LabelSet({}), {}).shape == (3, 0)


def test_a_column_without_values_is_refused_with_those_that_have_some():
    with pytest.raises(DataError, match=r"'mood'.*all 3 training recordings.*: label, speaker, split, tempo, folder$"):
        label_set(ENTRIES, {"digit": "label", "feeling": "mood"})


def test_an_unknown_value_is_refused_with_its_file_and_the_known_ones():
    stranger = Entry(Path("set/kick/z.wav"), label="11", split="val")
    columns = {"digit": "label"}
    with pytest.raises(DataError, match=r"z\.wav: digit=11 is not known.* 2, 10; .*split 'val'"):
        label_indices([stranger], label_set(ENTRIES, columns), columns)


def test_columns_of_other_labels_are_refused():
    with pytest.raises(ParameterError, match="must name a column for each label: digit"):
        label_indices(ENTRIES, label_set(ENTRIES, {"digit": "label"}), {"speaker": "speaker"})


def test_a_digest_distinguishes_labels_where_they_are_used():
    changed = [Entry(Path("set/kick/a.wav"), label="7", split="train"), *ENTRIES[1:]]
    assert digest(changed) == digest(ENTRIES)
    assert digest(changed, columns=["label"]) != digest(ENTRIES, columns=["label"])
    assert digest(changed, columns=["tempo"]) == digest(ENTRIES, columns=["tempo"])


@pytest.mark.parametrize("folder", ["set", "set/kick"])
def test_classes_by_folder_need_more_than_one_folder(folder: str):
    flat = [Entry(Path(folder) / name) for name in ("a.wav", "b.wav")]
    with pytest.raises(DataError, match=r"recordings are in one, .*: make a folder for each drum, or take"):
        label_set(flat, {"drum": "folder"})


def test_names_that_are_not_utf_8_train_but_are_no_labels():
    entries = [Entry(Path("set/kick/lat\udce9in.wav")), Entry(Path("set/sn\udce4re/b.wav"))]
    assert digest(entries) != digest(ENTRIES[:2])
    with pytest.raises(DataError, match=r"label 'drum': 'sn\ufffdre' cannot be read as text here: rename it"):
        label_set(entries, {"drum": "folder"})
