"""`audiodiff map`: the page, the table, the picture, and refusals."""

import csv
import json
import math
import re

import numpy as np
import pytest
import sounds

from audiodiff.cli.map import map_command
from audiodiff.data import Entry
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.tasks.features.archive import Features, save_features
from audiodiff.tasks.features.extract import FeatureLayer


@pytest.fixture
def source(tmp_path):
    """Write features of recordings of two labels, far apart, and two speakers, farther apart."""
    generator = np.random.default_rng(0)
    entries = []
    for index in range(16):
        path = sounds.write(tmp_path / "in" / f"{index}.wav", 2000, sample_rate=8000)
        entries.append(Entry(path, label="ab"[index % 2], speaker="xy"[index // 8]))
    vectors = generator.standard_normal((16, 4))
    vectors[:, 0] += 20.0 * (np.arange(16) % 2)
    vectors[:, 1:3] += 60.0 * (np.arange(16)[:, None] // 8)
    save_features(tmp_path / "f.npz", Features(vectors.astype(np.float32), tuple(entries), "m", FeatureLayer(0.1, 0)))
    return tmp_path / "f.npz"


def run(source, out, **options):
    """Call the command with the defaults of its options."""
    defaults = {"layout": "pca", "centre": None, "label": None, "embed": 20.0, "seed": 0, "split": None}
    defaults |= {"model": "none", "device": "cpu", "force": False}
    map_command([str(source)], out=out, **{**defaults, **options})


def test_a_page_coordinates_and_a_picture_are_written(source, tmp_path, capsys):
    out = tmp_path / "new" / "map.html"
    run(source, out)
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 16
    # The speakers are farthest apart: the first coordinate separates them.
    sides = [float(row["x"]) > 0.0 for row in rows]
    assert sides in ([True] * 8 + [False] * 8, [False] * 8 + [True] * 8)
    assert rows[3]["label"] == "b"
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    data = re.search(r'id="data">(.*?)</script>', out.read_text(), re.DOTALL)
    assert data is not None
    content = json.loads(data[1])
    assert [column["name"] for column in content["columns"]] == ["label", "speaker"]
    assert all(point["source"].startswith("data:audio/mpeg") for point in content["points"])
    assert "5-NN accuracy of speaker 100.0 %" in capsys.readouterr().out


def test_centring_by_speaker_lays_out_by_label(source, tmp_path):
    out = tmp_path / "map.html"
    run(source, out, centre="speaker")
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    by_label = {label: np.mean([float(row["x"]) for row in rows if row["label"] == label]) for label in "ab"}
    by_speaker = {name: np.mean([float(row["x"]) for row in rows if row["speaker"] == name]) for name in "xy"}
    assert abs(by_label["a"] - by_label["b"]) > 1.0
    assert abs(by_speaker["x"] - by_speaker["y"]) < 1e-4


def test_nothing_is_embedded_with_embed_zero(source, tmp_path, capsys):
    run(source, tmp_path / "map.html", embed=0.0)
    assert "16 of 16 recordings are linked" in capsys.readouterr().err
    assert '"source": "in/0.wav"' in (tmp_path / "map.html").read_text()


def test_few_recordings_have_no_measure_of_quality(tmp_path, capsys):
    paths = [sounds.write(tmp_path / f"{index}.wav", 2000, sample_rate=8000) for index in range(3)]
    vectors = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    save_features(tmp_path / "f.npz", Features(vectors, tuple(map(Entry, paths)), "m", FeatureLayer(0.1, 0)))
    run(tmp_path / "f.npz", tmp_path / "map.html")
    assert capsys.readouterr().out == "3 recordings are too few to measure the quality of the map\n"


@pytest.mark.parametrize("suffix", [".html", ".csv", ".png"])
def test_no_file_is_replaced_without_force(source, tmp_path, suffix):
    (tmp_path / f"map{suffix}").write_text("mine")
    with pytest.raises(AudioFileError, match="give --force"):
        run(source, tmp_path / "map.html")
    assert (tmp_path / f"map{suffix}").read_text() == "mine"
    run(source, tmp_path / "map.html", force=True, embed=0.0)


def test_an_input_is_never_replaced(tmp_path):
    manifest = tmp_path / "m.csv"
    manifest.write_text("path\na.wav\nb.wav\n")
    with pytest.raises(ParameterError, match=r"m\.csv is one of the inputs: give another --out"):
        run(manifest, tmp_path / "m.html", force=True)
    assert manifest.read_text() == "path\na.wav\nb.wav\n"


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("map.txt", {}, r"must end in \.html"),
        ("map.html", {"layout": "tsne"}, "--layout tsne must be one of"),
        ("map.html", {"embed": -1.0}, "--embed -1.0 must not be negative"),
        *(("map.html", {"embed": embed}, "must not be negative, and finite") for embed in (math.inf, math.nan, 1e305)),
        *(("map.html", {"seed": seed}, f"--seed {seed} must lie between") for seed in (-1, 2**32)),
        ("map.html", {"label": ["colour"]}, "column 'colour' has no values"),
    ],
)
def test_invalid_arguments_are_refused(source, tmp_path, out, options, message):
    with pytest.raises(ParameterError, match=message):
        run(source, tmp_path / out, **options)
    assert not (tmp_path / "map.csv").exists()
