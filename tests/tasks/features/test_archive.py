"""Feature files: round trips, names of columns, and files that are not theirs."""

from pathlib import Path

import numpy as np
import pytest

from audiodiff.data import Entry
from audiodiff.errors import DataError, ParameterError
from audiodiff.tasks.features.archive import Features, load_features, save_features
from audiodiff.tasks.features.extract import FeatureLayer
from audiodiff.tasks.features.files import features_from


def test_saved_features_are_loaded_unchanged(tmp_path):
    entries = (
        Entry(
            tmp_path / "in" / "a.wav", label="x", speaker="s", extra=(("vectors", "odd"), ("column_vectors", "odder"))
        ),
        Entry(Path("/elsewhere/b.wav"), start=1.25, text="zwölf"),
    )
    saved = Features(np.arange(6, dtype=np.float32).reshape(2, 3), entries, "m", FeatureLayer(0.1, 2))
    save_features(tmp_path / "f.npz", saved)
    found = load_features(tmp_path / "f.npz")
    assert found.entries == entries
    assert np.array_equal(found.vectors, saved.vectors)
    assert (found.model, found.extracted_at) == ("m", FeatureLayer(0.1, 2))


@pytest.mark.parametrize("column", ["file", "allow_pickle", "column_a"])
def test_a_column_may_have_any_name(tmp_path, column):
    entries = (Entry(tmp_path / "a.wav", extra=((column, "value"),)),)
    save_features(tmp_path / "f.npz", Features(np.zeros((1, 2), dtype=np.float32), entries, "m", FeatureLayer(0.1, 0)))
    found = load_features(tmp_path / "f.npz")
    assert found.columns == [column]
    assert found.values(column) == ["value"]


def test_folders_are_labels_where_there_are_no_others(tmp_path):
    entries = (Entry(Path("cat/1.wav")), Entry(Path("dog/2.wav")))
    vectors = np.zeros((2, 1), dtype=np.float32)
    assert Features(vectors, entries, "m", FeatureLayer(0.1, 0)).label_columns() == ["folder"]
    assert Features(vectors[:1], entries[:1], "m", FeatureLayer(0.1, 0)).label_columns() == []


def test_a_file_that_is_not_a_feature_file_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", mel=np.zeros(3))
    (tmp_path / "b.npz").write_text("text")
    (tmp_path / "empty.npz").touch()
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name, message in (
        ("a", "has no 'vectors'"),
        ("b", "not a feature file"),
        ("empty", "not a feature file"),
        ("array", "not a feature file"),
        ("c", "no such file"),
    ):
        with pytest.raises(DataError, match=message):
            load_features(tmp_path / f"{name}.npz")
    with pytest.raises(ParameterError, match="give it alone"):
        features_from([str(tmp_path / "a.npz"), "b.wav"], model="none")
