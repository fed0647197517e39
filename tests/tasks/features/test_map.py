"""Maps: coordinates of known shapes, measures of quality, and the content of a page."""

import base64
import builtins
import io
import json
import re
import warnings

import numpy as np
import pytest
import soundfile
import sounds
from sklearn.datasets import make_blobs

from audiodiff.data import Entry, scan
from audiodiff.errors import DataError, ParameterError
from audiodiff.tasks.features.archive import Features
from audiodiff.tasks.features.extract import FeatureLayer
from audiodiff.tasks.features.map import (
    PageAudio,
    coordinates,
    knn_accuracy,
    page,
    picture,
    trustworthiness,
    value_colours,
)


def test_pca_of_points_in_a_plane_keeps_all_distances():
    generator = np.random.default_rng(0)
    plane = generator.standard_normal((30, 2)) * [3.0, 1.0]
    basis = np.linalg.qr(generator.standard_normal((5, 2)))[0]
    found = coordinates(plane @ basis.T + 4.0)
    distances = [np.linalg.norm(points[:, None] - points[None], axis=-1) for points in (plane, found)]
    np.testing.assert_allclose(distances[1], distances[0], atol=1e-9)
    assert trustworthiness(plane @ basis.T, found) == pytest.approx(1.0)
    assert found[:, 0].std() > found[:, 1].std()


def test_points_on_a_line_have_second_coordinate_zero():
    found = coordinates(np.array([[0.0], [1.0], [5.0]]))
    assert found.shape == (3, 2)
    np.testing.assert_allclose(np.abs(np.diff(found[:, 0])), [1.0, 4.0], atol=1e-12)
    assert np.array_equal(found[:, 1], np.zeros(3))


@pytest.mark.parametrize("layout", ["pca", "umap"])
def test_copies_of_one_recording_share_one_place(layout):
    found = coordinates(np.full((12, 3), 0.1), layout=layout)
    assert np.array_equal(found, np.zeros((12, 2)))
    assert picture(found, ["a"] * 12, title="copies").startswith(b"\x89PNG")


@pytest.mark.slow  # numba compiles it anew
def test_umap_keeps_clusters_apart_and_a_seed_gives_the_same_map():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("umap")
    vectors, truth = make_blobs([20, 20, 20], n_features=6, centers=None, cluster_std=0.3, random_state=0)
    first, second = (coordinates(vectors, layout="umap", seed=3) for _ in range(2))
    assert np.array_equal(first, second)
    assert knn_accuracy(first, [str(value) for value in truth]) == 1.0
    assert coordinates(vectors[:4], layout="umap").shape == (4, 2)


def test_missing_umap_is_refused_with_the_command_to_install_it(monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **options):
        if name == "umap":
            raise ModuleNotFoundError("No module named 'umap'")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ParameterError, match=r"pip install 'audiodiff\[umap\]'"):
        coordinates(np.eye(6), layout="umap")


def test_invalid_arguments_are_refused():
    with pytest.raises(ParameterError, match="'tsne' must be one of pca, umap"):
        coordinates(np.eye(4), layout="tsne")
    for seed in (-1, 2**32):
        with pytest.raises(ParameterError, match=f"seed={seed} must be"):
            coordinates(np.eye(4), seed=seed)
    for layout, n in (("pca", 1), ("umap", 3)):
        with pytest.raises(ParameterError, match="too few"):
            coordinates(np.eye(4)[:n], layout=layout)


def test_knn_accuracy_is_1_where_labels_are_separate():
    places = np.array([[x + 100.0 * group, 0.0] for group in range(2) for x in range(8)])
    labels = ["a"] * 8 + ["b"] * 8
    assert knn_accuracy(places, labels) == 1.0
    assert knn_accuracy(places, [*labels[:15], ""]) == 1.0
    # With alternating labels, most of the five nearest neighbours have the other label.
    assert knn_accuracy(places, ["a", "b"] * 8) < 0.6
    assert np.isnan(knn_accuracy(places[:5], labels[:5]))


def test_few_points_have_no_trustworthiness():
    assert np.isnan(trustworthiness(np.eye(9), np.eye(9)[:, :2]))


def test_colours_differ():
    assert len(set(value_colours([str(index) for index in range(60)]).values())) == 60


def features_of(paths):
    entries, bad = scan([Entry(path, label=label) for path, label in zip(paths, ["<b>", "</script>"], strict=True)])
    assert not bad
    return Features(np.zeros((2, 3), dtype=np.float32), tuple(entries), "m", FeatureLayer(0.1, 0))


def shown(text):
    """Return what the page's script reads."""
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert data is not None
    return json.loads(data[1])


def test_a_page_embeds_its_audio_and_loads_nothing_from_the_network(tmp_path):
    found = features_of([sounds.write(tmp_path / f"{index}.wav", 4000, sample_rate=8000) for index in range(2)])
    audio_of_page = PageAudio(folder=tmp_path, max_bytes=10**6)
    text = page(
        found,
        np.array([[0.0, 1.0], [2.0, 3.0]]),
        columns={"label": found.values("label")},
        title="<a map>",
        notes=["a & b"],
        audio=audio_of_page,
    )
    content = shown(text)
    assert audio_of_page.n_linked == 0
    assert [(point["x"], point["y"], point["values"]) for point in content["points"]] == [
        (0.0, 1.0, ["<b>"]),
        (2.0, 3.0, ["</script>"]),
    ]
    assert content["notes"] == ["a & b"]
    assert "<title>&lt;a map&gt;</title>" in text
    kind, encoded = content["points"][0]["source"].split(",")
    assert kind == "data:audio/mpeg;base64"
    audio, rate = soundfile.read(io.BytesIO(base64.b64decode(encoded)))
    assert rate == 8000
    assert np.abs(audio).max() == pytest.approx(0.5, abs=0.1)
    without_sounds = re.sub(r"data:audio[^\"]*", "", text)
    assert not re.search(r"https?:|src=|href=|@import|url\(", without_sounds)


def test_names_and_labels_cannot_end_or_extend_the_script(tmp_path):
    names = ["<!--<script>.wav", "plain.wav"]
    found = features_of([sounds.write(tmp_path / name, 800, sample_rate=8000) for name in names])
    text = page(
        found,
        np.zeros((2, 2)),
        columns={"label": found.values("label")},
        title="map",
        notes=["<!--<script>"],
        audio=PageAudio(folder=tmp_path, max_bytes=0),
    )
    content = shown(text)
    assert [point["name"] for point in content["points"]] == names
    assert content["columns"][0]["order"] == ["</script>", "<b>"]
    assert "<!--" not in text.split('id="data">')[1].split("</script>")[0]


def test_recordings_beyond_max_bytes_are_linked_relatively(tmp_path):
    paths = [sounds.write(tmp_path / "my sounds" / f"{index} #1.wav", 4000, sample_rate=8000) for index in range(2)]
    entries = features_of(paths).entries
    one = len(PageAudio(folder=tmp_path, max_bytes=10**6).source(entries[0]))
    audio_of_page = PageAudio(folder=tmp_path / "out", max_bytes=one + 10)
    first, second = (audio_of_page.source(entry) for entry in entries)
    assert first.startswith("data:audio/mpeg;base64,")
    assert second == "../my%20sounds/1%20%231.wav"
    assert audio_of_page.n_linked == 1


def test_an_excerpt_is_linked_as_an_excerpt(tmp_path):
    audio_of_page = PageAudio(folder=tmp_path, max_bytes=0)
    assert audio_of_page.source(Entry(tmp_path / "a.wav", start=1.0, seconds=0.5)) == "a.wav#t=1.000,1.500"
    assert audio_of_page.source(Entry(tmp_path / "a.wav", start=1.0)) == "a.wav#t=1.000"


def test_a_missing_recording_is_named_with_a_remedy(tmp_path):
    with pytest.raises(DataError, match=r"gone\.wav: no such file; .*--embed 0"):
        PageAudio(folder=tmp_path, max_bytes=10**6).source(Entry(tmp_path / "gone.wav"))


def test_a_picture_is_drawn_with_and_without_labels():
    places = np.random.default_rng(0).standard_normal((40, 2))
    for labels in (["a", "b", "c", ""] * 10, [""] * 40, [str(index) for index in range(40)]):
        data = picture(places, labels, title="a map")
        assert data.startswith(b"\x89PNG")
        assert len(data) < 150_000
