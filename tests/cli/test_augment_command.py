"""`audiodiff augment`, as a user calls it."""

from pathlib import Path

import commands
import pytest
import sounds
import tiny
import torch

from audiodiff.cli.augment import augment_command
from audiodiff.data import Entry, read_manifest, write_manifest
from audiodiff.io import audio as audio_io
from audiodiff.models import checkpoint
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.editing.augment import augment

pytestmark = pytest.mark.usefixtures("empty_working_directory")

LABELS = ["conditioner=labels", "conditioner.vocabularies={digit: [a, b]}", "network.vector_features=2"]


run, made, refusal = commands.of(augment_command)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("plain") / "waves", [*tiny.UNCONDITIONAL, "sampler.n_steps=1"])


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    overrides = [*tiny.UNCONDITIONAL, *LABELS, "sampler.n_steps=1"]
    return tiny.save(tmp_path_factory.mktemp("labelled") / "waves", overrides)


def _described(root: Path) -> Path:
    """Write a data set with a manifest: two recordings to train on, one of them in two stretches, one to test on."""
    for name, n_channels in (("a.wav", 1), ("deep/b.wav", 2), ("c.wav", 1)):
        sounds.write(root / name, 2000, sample_rate=8000, n_channels=n_channels)
    entries = [
        Entry(root / "a.wav", start=0.0, seconds=0.1, label="a", speaker="ann", text="one", split="train"),
        Entry(root / "a.wav", start=0.1, seconds=0.1, label="b", speaker="ann", split="train"),
        Entry(root / "deep/b.wav", label="b", speaker="bob", split="train", extra=(("licence", "CC0"),)),
        Entry(root / "c.wav", label="a", split="test"),
    ]
    write_manifest(entries, root / "manifest.csv")
    return root


def test_copies_carry_what_is_known_of_their_recordings(plain: Path):
    root = _described(Path("in"))
    said = made(root, "-n", "2", "--model", plain, "-o", "out")
    assert "wrote 6 copies of 3 recordings" in said
    copies = read_manifest(Path("out/manifest.csv"))
    assert [entry.label for entry in copies] == ["a", "a", "b", "b", "b", "b"]
    assert {entry.split for entry in copies} == {"train"}
    assert [entry.text for entry in copies[:2]] == ["one", "one"]
    assert copies[4].value("licence") == "CC0"
    assert Path(copies[4].value("augmented_from")) == (root / "deep/b.wav").resolve()
    for entry, n_samples, n_channels in zip(copies, [800] * 4 + [2000] * 2, [1] * 4 + [2] * 2, strict=True):
        about = audio_io.info(entry.path)
        assert (about.n_samples, about.n_channels, about.sample_rate) == (n_samples, n_channels, 8000)
    assert len({entry.path for entry in copies}) == 6
    assert all(entry.start == 0.0 and entry.seconds is None for entry in copies)


def test_a_copy_is_what_the_library_makes_of_its_stretch(labelled: Path):
    root = _described(Path("in"))
    made(root, "-n", "1", "--model", labelled, "--label-from", "digit=label", "--strength", "0.5", "--float", "-o", "o")
    loaded = checkpoint.load(labelled)
    assert isinstance(loaded, Synthesizer)
    stretch, rate = audio_io.read(root / "a.wav", start=800, n_samples=800)
    expected = augment(loaded, stretch[None], sample_rate=rate, n=1, strength=0.5, labels={"digit": "b"}, items=[1])
    result, _ = audio_io.read(read_manifest(Path("o/manifest.csv"))[1].path)
    torch.testing.assert_close(result, expected[0, 0], rtol=0, atol=1e-6)


def test_originals_are_listed_where_they_lie(plain: Path):
    root = _described(Path("in"))
    made(root, "-n", "1", "--model", plain, "--with-originals", "-o", "out")
    entries = read_manifest(Path("out/manifest.csv"))
    assert len(entries) == 4 + 3
    assert [entry.split for entry in entries].count("test") == 1
    assert all(entry.path.exists() for entry in entries)
    assert (entries[1].start, entries[1].seconds) == (0.1, 0.1)


def test_a_folder_without_a_manifest_will_do(plain: Path):
    for name in ("kick/a.wav", "snare/a.wav"):
        sounds.write(Path("in") / name, 1500)
    made("in", "-n", "2", "--model", plain, "-o", "out")
    assert len(read_manifest(Path("out/manifest.csv"))) == 4
    # A second model that takes labels from folders finds them again.
    assert [entry.value("folder") for entry in read_manifest(Path("out/manifest.csv"))][::2] == ["kick", "snare"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["-n", "0"], "-n=0"),
        (["--strength", "-1"], "strength=-1"),
        (["--split", "dev"], "--split dev"),
        (["--label-from", "digit"], "NAME=COLUMN"),
        (["--label-from", "colour=label"], "colour=label"),
        (["--label-from", "digit=speaker"], "ann"),
        (["-o", "in"], "--out in holds the recordings"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(labelled: Path, arguments: list[str], named: str):
    root = _described(Path("in"))
    before = sorted(Path().rglob("*"))
    assert named in refusal(root, "--model", labelled, *arguments)
    assert sorted(Path().rglob("*")) == before


def test_without_force_nothing_is_replaced(plain: Path):
    root = _described(Path("in"))
    made(root, "-n", "1", "--model", plain, "-o", "out")
    before = Path("out/manifest.csv").read_bytes()
    assert "--force" in refusal(root, "-n", "1", "--model", plain, "-o", "out")
    made(root, "-n", "1", "--model", plain, "-o", "out", "--force")
    assert Path("out/manifest.csv").read_bytes() == before


def test_no_two_recordings_have_copies_of_one_name(plain: Path):
    for name in ("x.wav", "x.flac", "x_0.wav", "x_1.wav"):
        sounds.write(Path("in/a") / name, 500)
    assert "wrote 4 copies of 4 recordings" in made("in", "-n", "1", "--model", plain, "-o", "out")
    copies = read_manifest(Path("out/manifest.csv"))
    assert len({entry.path for entry in copies}) == len(list(Path("out/a").iterdir())) == 4
    origins = {entry.path.name: Path(entry.value("augmented_from")).name for entry in copies}
    assert origins["x_0_copy0.wav"] == "x_0.wav"
    assert origins["x_1_copy0.wav"] == "x_1.wav"


def test_old_copies_among_the_recordings_are_not_copied_again(plain: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("a.wav", "deep/b.wav"):
        sounds.write(Path("in") / name, 500)
    monkeypatch.chdir("in")
    made(".", "-n", "1", "--model", plain)
    first = {path: path.read_bytes() for path in Path().rglob("*.*")}
    said = made(".", "-n", "1", "--model", plain, "--force")
    assert "left out 2 recordings below --out augmented" in said
    assert "wrote 2 copies of 2 recordings" in said
    assert {path: path.read_bytes() for path in Path().rglob("*.*")} == first


def test_a_recording_is_never_replaced_by_a_copy(plain: Path):
    sounds.write(Path("far/x.wav"), 500)
    sounds.write(Path("far/x_copy0.wav"), 500)
    entries = [Entry(Path("far/x.wav"), split="train"), Entry(Path("far/x_copy0.wav"), split="test")]
    write_manifest(entries, Path("in/manifest.csv"))
    before = Path("far/x_copy0.wav").read_bytes()
    assert "is one of the recordings" in refusal("in", "-n", "1", "--model", plain, "-o", "far", "--force")
    assert Path("far/x_copy0.wav").read_bytes() == before
