"""`audiodiff features` and `audiodiff cluster`: files, tables and refusals."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import sounds
import tiny
import torch

from audiodiff.cli.cluster import cluster_command
from audiodiff.cli.features import features_command
from audiodiff.errors import AudioFileError, DataError, ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.tasks.features.archive import load_features
from audiodiff.tasks.features.extract import FeatureLayer, features
from audiodiff.tasks.features.files import list_recordings, load_model
from audiodiff.tasks.features.probe import choose_layer


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny.save(tmp_path_factory.mktemp("models") / "log_mel", tiny.LOG_MEL))


@pytest.fixture
def pitches(tmp_path) -> Path:
    """Write a data set whose label is a pitch that every model distinguishes."""
    folder = tmp_path / "pitches"
    rows = []
    for index in range(12):
        label = ("low", "high")[index % 2]
        t = torch.arange(6000 + 37 * index) / 22050
        audio = 0.4 * torch.sin(2 * torch.pi * (200 if label == "low" else 3000) * (1 + 0.01 * index) * t)
        audio_io.write(folder / f"{index}.wav", audio[None], sample_rate=22050)
        rows.append([f"{index}.wav", "test" if index >= 8 else "train", label, f"{index} layers", "CC0"])
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "split", "label", "layer", "licence"], *rows])
    return folder


def run(inputs, out, model, **options):
    """Call the command with the defaults of its options."""
    defaults = {"noise_level": None, "layer": None, "choose_by": None, "split": None, "device": "cpu", "force": False}
    features_command([str(entry) for entry in inputs], out=out, model=model, **{**defaults, **options})
    return load_features(out)


def test_a_vector_equals_that_of_the_library(model, tmp_path):
    path = sounds.write(tmp_path / "a.flac", 9000, sample_rate=16000, n_channels=2)
    found = run([path], tmp_path / "f.npz", model, noise_level=0.3, layer=1)
    audio, rate = audio_io.read(path)
    expected = features(load_model(model, device="cpu"), audio, sample_rate=rate, noise_level=0.3, layer=1)
    np.testing.assert_allclose(found.vectors[0], expected, rtol=1e-4, atol=1e-5)
    assert found.extracted_at == FeatureLayer(0.3, 1)
    assert found.model == model


def test_the_file_holds_the_columns_and_loads_without_pickle(model, pitches, tmp_path):
    out = tmp_path / "f.npz"
    found = run([pitches], out, model)
    with np.load(out, allow_pickle=False) as file:
        assert file["vectors"].dtype == np.float32
        assert file["vectors"].shape == (12, 32)
        assert file["label"].tolist() == ["low", "high"] * 6
        assert file["path"][0] == "pitches/0.wav"
    assert found.columns == ["label", "split", "layer", "licence"]
    assert found.values("layer")[3] == "3 layers"
    assert found.entries[0].path == pitches / "0.wav"


def test_a_vector_depends_on_its_recording_alone(model, pitches, tmp_path):
    together = run([pitches], tmp_path / "f.npz", model)
    alone = run([pitches / "5.wav"], tmp_path / "g.npz", model)
    assert np.array_equal(alone.vectors[0], together.vectors[5])


def test_a_split_is_that_of_the_manifest(model, pitches, tmp_path):
    found = run([pitches / "manifest.csv"], tmp_path / "f.npz", model, split="test")
    assert [entry.path.stem for entry in found.entries] == ["8", "9", "10", "11"]
    with pytest.raises(DataError, match="--split val: no recording is in it; the splits are: test, train"):
        list_recordings([str(pitches)], split="val")


def test_an_excerpt_has_the_features_of_the_excerpt_alone(model, tmp_path):
    path = sounds.write(tmp_path / "long.wav", 40000)
    audio, _ = audio_io.read(path)
    audio_io.write(tmp_path / "part.wav", audio[:, 11025:22050], sample_rate=22050)
    (tmp_path / "m.csv").write_text("path,start,seconds\nlong.wav,0.5,0.5\npart.wav,,\n")
    found = run([tmp_path / "m.csv"], tmp_path / "f.npz", model)
    assert np.array_equal(found.vectors[0], found.vectors[1])
    assert (found.entries[0].start, found.entries[0].seconds) == (0.5, 0.5)
    assert (found.entries[1].start, found.entries[1].seconds) == (0.0, None)


def test_the_layer_is_chosen_on_recordings_outside_the_test_split(model, pitches, tmp_path, capsys):
    found = run([pitches], tmp_path / "f.npz", model, choose_by="label")
    entries = list_recordings([str(pitches)])
    choice = choose_layer(load_model(model, device="cpu"), entries, column="label")
    assert (choice.n_fit, choice.n_validated) == (6, 2)
    assert found.extracted_at == choice.best
    assert "linear probe of label on 2 recordings, fitted on 6" in capsys.readouterr().err


def test_a_column_of_one_value_is_refused(model, pitches):
    with pytest.raises(DataError, match="column 'licence': 1 of its values"):
        choose_layer(load_model(model, device="cpu"), list_recordings([str(pitches)]), column="licence")


@pytest.mark.parametrize(("train", "val"), [(["low"], ["high"]), (["low", "high"], ["low"])])
def test_a_column_whose_values_splits_do_not_share_is_refused(model, pitches, train, val):
    known = list_recordings([str(pitches)])
    entries = [dataclasses.replace(entry, split="train") for entry in known if entry.label in train]
    entries += [dataclasses.replace(entry, split="val") for entry in known if entry.label in val]
    with pytest.raises(DataError, match=r"'label': [01] of its values are both among"):
        choose_layer(load_model(model, device="cpu"), entries, column="label")


def test_invalid_arguments_are_refused_before_anything_is_computed(model, pitches, tmp_path):
    with pytest.raises(ParameterError, match=r"must end in \.npz"):
        run([pitches], tmp_path / "f.txt", model)
    with pytest.raises(ParameterError, match="leave out --layer"):
        run([pitches], tmp_path / "f.npz", model, layer=1, choose_by="label")
    (tmp_path / "f.npz").write_text("mine")
    with pytest.raises(AudioFileError, match="give --force"):
        run([pitches], tmp_path / "f.npz", model)
    with pytest.raises(AudioFileError, match="no such file or folder"):
        run([tmp_path / "missing.wav"], tmp_path / "g.npz", model)
    with pytest.raises(ParameterError, match="was not trained"):
        run([pitches], tmp_path / "g.npz", "none")
    assert not (tmp_path / "g.npz").exists()


def test_a_bad_recording_is_named(pitches):
    (pitches / "3.wav").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"1 of 12 recordings cannot be used; leave them out:\n .*3\.wav"):
        list_recordings([str(pitches)])


def cluster(source, **options):
    """Call the command with the defaults of its options."""
    defaults = {"out": None, "k": None, "algorithm": "kmeans", "components": None, "centre": None, "label": None}
    defaults |= {"split": None, "model": "none", "device": "cpu", "force": False}
    cluster_command([str(source)], **{**defaults, **options})


def test_clusters_are_written_and_printed(model, pitches, tmp_path, capsys):
    run([pitches], tmp_path / "f.npz", model)
    cluster(tmp_path / "f.npz", k=2, out=tmp_path / "c.csv")
    output = capsys.readouterr().out
    assert "label (12 known): NMI 1.000, ARI 1.000, accuracy 100.0 %" in output
    with (tmp_path / "c.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["cluster"] for row in rows] == ["0", "1"] * 6
    assert sum(row["most_typical"] == "yes" for row in rows) == 2
    assert rows[0]["path"] == "pitches/0.wav"
    assert f"{pitches / '0.wav'}"[:-5] in output


def test_recordings_are_clustered_without_a_feature_file(model, pitches, capsys):
    cluster(pitches, k=2, model=model)
    assert "label (12 known): NMI 1.000" in capsys.readouterr().out
    cluster(pitches, k=None, model=model)
    assert "12 recordings, " in capsys.readouterr().out


def test_an_unknown_column_is_refused_with_the_known_ones(model, pitches, tmp_path):
    run([pitches], tmp_path / "f.npz", model)
    with pytest.raises(ParameterError, match="column 'pitch' has no values; there are label, split, layer, licence"):
        cluster(tmp_path / "f.npz", label=["pitch"])


@pytest.mark.parametrize("folder", [False, True])
def test_a_manifest_is_never_replaced(pitches, folder):
    manifest = pitches / "manifest.csv"
    before = manifest.read_text()
    with pytest.raises(ParameterError, match=r"manifest\.csv is one of the inputs: give another --out"):
        cluster(pitches if folder else manifest, out=pitches / ".." / "pitches" / "manifest.csv", force=True)
    assert manifest.read_text() == before
