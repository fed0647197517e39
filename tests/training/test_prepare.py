"""Every prepare script turns a miniature of its data set into a manifest that loads."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from audiodiff.data import Entry, label_indices, label_set, load_entries, read_manifest
from audiodiff.io import audio as audio_io

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
NAMES = ("ljspeech", "sc09", "music", "folder", "drums", "speech")


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"prepare_{name}", RECIPES / name / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _sound(path: Path, *, seconds: float = 0.3, silent_from: float | None = None) -> None:
    audio = 0.1 * torch.randn(1, round(8000 * seconds), generator=torch.Generator().manual_seed(0))
    if silent_from is not None:
        audio[:, round(8000 * silent_from) :] = 0
    audio_io.write(path, audio.clamp(-1, 1), sample_rate=8000)


def _rows(path: Path) -> dict[str, Entry]:
    return {entry.path.relative_to(path.parent).as_posix(): entry for entry in read_manifest(path)}


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_the_two_commands(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as raised:
        _script(name).main(["--help"])
    assert raised.value.code == 0
    shown = capsys.readouterr().out
    assert "python prepare.py" in shown
    assert f"audiodiff train recipes={name}/" in shown


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_folder_is_one_readable_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert _script(name).main([str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert str(tmp_path) in message
    assert message.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_ljspeech_holds_out_the_first_two_chapters(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    names = ("LJ001-0001", "LJ002-0001", "LJ003-0001", "LJ050-0278")
    for name in names:
        _sound(tmp_path / "wavs" / f"{name}.wav")
    # The real file has stray quotation marks and no quoting.
    (tmp_path / "metadata.csv").write_text(
        "".join(f'{name}|"In 1900, he said|"In nineteen hundred, he said\n' for name in names), encoding="utf-8"
    )
    assert _script("ljspeech").main([str(tmp_path)]) == 0
    assert "2 train, 1 val, 1 test" in capsys.readouterr().out
    rows = _rows(tmp_path / "manifest.csv")
    assert [rows[f"wavs/{name}.wav"].split for name in names] == ["test", "val", "train", "train"]
    assert {(row.text, row.speaker) for row in rows.values()} == {('"In nineteen hundred, he said', "LJ")}
    assert load_entries(tmp_path).splits == ("test", "train", "val")


@pytest.mark.parametrize(
    ("metadata", "words"), [("LJ001-0001|only two\n", "must have three fields"), ("LJ009-0001|a|b\n", "is missing")]
)
def test_ljspeech_names_a_bad_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], metadata: str, words: str):
    (tmp_path / "metadata.csv").write_text(metadata)
    assert _script("ljspeech").main([str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "metadata.csv:1: " in message
    assert words in message


def test_sc09_takes_digits_with_their_speakers_and_official_split(tmp_path: Path):
    script = _script("sc09")
    for word in (*script.DIGITS, "cat"):
        for speaker in ("0a7c", "b433", "ffd2"):
            _sound(tmp_path / word / f"{speaker}_nohash_0.wav")
    (tmp_path / "validation_list.txt").write_text("".join(f"{w}/b433_nohash_0.wav\n" for w in (*script.DIGITS, "cat")))
    (tmp_path / "testing_list.txt").write_text("".join(f"{w}/ffd2_nohash_0.wav\n" for w in (*script.DIGITS, "cat")))
    assert script.main([str(tmp_path), "--out", str(tmp_path / "digits.csv")]) == 0
    rows = _rows(tmp_path / "digits.csv")
    assert len(rows) == 30
    assert {row.label for row in rows.values()} == set(script.DIGITS)
    assert {(row.speaker, row.split) for row in rows.values()} == {("0a7c", "train"), ("b433", "val"), ("ffd2", "test")}
    assert len(load_entries(tmp_path / "digits.csv", split="test").entries) == 10


def test_sc09_has_a_label_that_all_splits_share(tmp_path: Path):
    script = _script("sc09")
    for word in script.DIGITS:
        for speaker in ("0a7c", "b433"):
            _sound(tmp_path / word / f"{speaker}_nohash_0.wav")
    (tmp_path / "validation_list.txt").write_text("".join(f"{word}/b433_nohash_0.wav\n" for word in script.DIGITS))
    (tmp_path / "testing_list.txt").write_text("")
    assert script.main([str(tmp_path)]) == 0
    found = load_entries(tmp_path)
    labels = label_set(found.split("train"), {"digit": "label"})
    assert set(labels.vocabularies["digit"]) == set(script.DIGITS)
    assert label_indices(found.split("val"), labels, {"digit": "label"}).min() == 0


def test_drums_are_beginnings_of_every_class_and_every_class_is_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name, n in (("kick", 12), ("rim", 1), ("crash", 3)):
        for index in range(n):
            _sound(tmp_path / "kit" / name / f"{index}.wav", seconds=2.5 if name == "crash" else 0.15)
    _sound(tmp_path / "kit" / "crash" / "late.wav", seconds=2.5, silent_from=0.0)
    _sound(tmp_path / "kit" / "crash" / "short.wav", seconds=0.05)
    assert _script("drums").main([str(tmp_path), "--val-fraction", "0.9", "--seconds", "1"]) == 0
    shown = capsys.readouterr()
    assert "rim: 1 train, 0 val" in shown.out
    assert "16 sounds, 2 left out" in shown.out
    assert "late.wav: is silent" in shown.err
    assert "short.wav: is 0.050 s long" in shown.err
    found = load_entries(tmp_path / "one_shots.csv")
    assert {entry.label for entry in found.split("train")} == {"kick", "rim", "crash"}
    assert {(entry.label, entry.first_sample, entry.n_samples) for entry in found.entries} == {
        ("kick", 0, 1200),
        ("rim", 0, 1200),
        ("crash", 0, 8000),
    }


def test_drums_of_a_manifest_keep_its_labels_and_columns(tmp_path: Path):
    for index in range(4):
        _sound(tmp_path / "all" / f"{index}.wav")
    rows = "".join(f"all/{index}.wav,{'kick' if index % 2 else 'tom'},kit {index},CC0\n" for index in range(4))
    (tmp_path / "manifest.csv").write_text(f"path,label,speaker,licence\n{rows}")
    assert _script("drums").main([str(tmp_path)]) == 0
    entries = read_manifest(tmp_path / "one_shots.csv")
    assert [(entry.label, entry.speaker, entry.value("licence")) for entry in entries] == [
        ("tom", "kit 0", "CC0"),
        ("kick", "kit 1", "CC0"),
        ("tom", "kit 2", "CC0"),
        ("kick", "kit 3", "CC0"),
    ]


def test_music_is_cut_into_stretches_without_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    _sound(tmp_path / "jazz" / "long.wav", seconds=3.5)
    _sound(tmp_path / "jazz" / "short.wav", seconds=0.4)
    _sound(tmp_path / "fading.flac", seconds=3.0, silent_from=2.0)
    (tmp_path / "broken.wav").touch()
    assert _script("music").main([str(tmp_path), "--seconds", "1", "--val-fraction", "0.4"]) == 0
    shown = capsys.readouterr()
    assert "2 left out" in shown.out
    assert "broken.wav: is empty" in shown.err
    assert "fading.flac: is silent" in shown.err
    entries = load_entries(tmp_path).entries
    lengths = {name: [e.n_samples for e in entries if e.path.stem == name] for name in ("long", "short", "fading")}
    assert lengths == {"long": [8000, 8000, 12000], "short": [3200], "fading": [8000, 8000]}
    assert {(entry.path.stem, entry.label) for entry in entries} == {
        ("long", "jazz"),
        ("short", "jazz"),
        ("fading", ""),
    }
    tracks = {split: {e.path for e in entries if e.split == split} for split in ("train", "val")}
    assert tracks["train"]
    assert tracks["val"]
    assert not tracks["train"] & tracks["val"]


def test_a_folder_gets_labels_texts_and_a_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("dog/a.wav", "dog/b.wav", "cat/deep/c.flac", "d.ogg"):
        _sound(tmp_path / name)
    (tmp_path / "dog" / "a.txt").write_text("Good\ndog.\n")
    (tmp_path / "d.lab").write_text("nothing")
    (tmp_path / "e.wav").touch()
    assert _script("folder").main([str(tmp_path)]) == 0
    assert "3 train, 1 val, 1 left out" in capsys.readouterr().out
    rows = _rows(tmp_path / "manifest.csv")
    assert {name: (row.label, row.text) for name, row in rows.items()} == {
        "cat/deep/c.flac": ("cat/deep", ""),
        "d.ogg": ("", "nothing"),
        "dog/a.wav": ("dog", "Good dog."),
        "dog/b.wav": ("dog", ""),
    }
    assert load_entries(tmp_path).splits == ("train", "val")


def test_speech_joins_data_sets_and_keeps_noise_for_testing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name, rows in {
        "books": ["path,split,speaker", "a.wav,train,ann", "b.wav,val,bob"],
        "prompts": ["path,split", "c.wav,train"],
        "noise": ["path,split,label", "d.wav,fold1,rain", "e.wav,fold5,rain", "f.wav,fold2,saw"],
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.csv").write_text("\n".join(rows))
    roots = [str(tmp_path / "books"), str(tmp_path / "prompts" / "manifest.csv")]
    out = tmp_path / "made"
    given = [*roots, "--noise", str(tmp_path / "noise"), "--unheard", "saw", "--out", str(out)]
    assert _script("speech").main(given) == 0
    assert "3 recordings, 2 to train on" in capsys.readouterr().out
    speech, noise = (
        [(entry.path.name, entry.split) for entry in read_manifest(out / f"{name}.csv")] for name in ("speech", "noise")
    )
    assert speech == [("a.wav", "train"), ("b.wav", "val"), ("c.wav", "train")]
    assert noise == [("d.wav", "train"), ("e.wav", "test"), ("f.wav", "test")]
    assert _script("speech").main([*given[:-4], "--unheard", "owl", "--out", str(tmp_path / "other")]) == 1
    assert "--unheard owl" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
