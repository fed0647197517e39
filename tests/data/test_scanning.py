"""A scan names what cannot be used; splits are deterministic, disjoint and never empty where that is possible."""

import io
from functools import partial
from pathlib import Path

import pytest
import torch
from rich.console import Console

from audiodiff.data import Entry, load_entries, scan_folder, scanning
from audiodiff.errors import DataError, ParameterError
from audiodiff.io import audio as audio_io

RATE = 8000


def _write(path: Path, *, seconds: float = 0.5, peak: float = 0.5, n_channels: int = 1) -> Path:
    generator = torch.Generator().manual_seed(round(1000 * seconds))
    audio = (2 * torch.rand(n_channels, round(seconds * RATE), generator=generator) - 1) * peak
    audio_io.write(path, audio, sample_rate=RATE)
    return path


def _bad_folder(folder: Path) -> list[str]:
    """Make two good files and one of each bad kind; the names of the bad ones, sorted."""
    _write(folder / "good_1.wav")
    _write(folder / "sub" / "good_2.flac")
    (folder / "bad_empty.wav").touch()
    (folder / "bad_text.flac").write_text("this is not sound")
    audio_io.write(folder / "bad_silent.wav", torch.zeros(1, RATE), sample_rate=RATE)
    _write(folder / "bad_hiss.wav", peak=0.0003)
    _write(folder / "bad_short.wav", seconds=0.05)
    cut = _write(folder / "bad_cut.flac", seconds=9.0)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    return sorted(path.name for path in folder.glob("bad_*"))


def test_bad_files_are_refused_by_name_reason_and_remedy(tmp_path: Path):
    names = _bad_folder(tmp_path)
    with pytest.raises(DataError) as raised:
        load_entries(tmp_path)
    message = str(raised.value)
    assert f"{len(names)} files cannot be used" in message
    assert "data.on_bad=skip" in message
    assert all(name in message for name in names)
    assert "good_" not in message
    assert "is silent: its peak is below -70 dBFS" in message
    assert "is 0.050 s long, shorter than min_seconds=0.1" in message


def test_bad_files_are_skipped_and_counted_when_asked(tmp_path: Path):
    names = _bad_folder(tmp_path)
    found = load_entries(tmp_path, on_bad="skip")
    assert sorted(entry.path.name for entry in found.entries) == ["good_1.wav", "good_2.flac"]
    assert sorted(file.path.name for file in found.skipped) == names
    assert all(file.reason for file in found.skipped)


@pytest.mark.parametrize("bad", range(4))
def test_whichever_file_is_bad_the_others_make_both_splits(tmp_path: Path, bad: int):
    for index in range(4):
        _write(tmp_path / f"{index}.wav")
    (tmp_path / f"{bad}.wav").write_text("this is not sound")
    found = load_entries(tmp_path, on_bad="skip")
    assert found.splits == ("train", "val")
    assert len(found.entries) == 3


def test_a_silent_stretch_is_named_with_its_place(tmp_path: Path):
    audio = torch.zeros(1, 4 * RATE)
    audio[0, :RATE] = 0.5
    audio_io.write(tmp_path / "one.wav", audio, sample_rate=RATE)
    with pytest.raises(DataError, match=r"one\.wav: is silent from 3 to 4 s: its peak is below -70 dBFS"):
        load_entries(tmp_path, val_fraction=0.25)


def test_ten_bad_files_are_named_and_the_rest_counted(tmp_path: Path):
    for index in range(13):
        (tmp_path / f"{index:02d}.wav").touch()
    with pytest.raises(DataError, match="13 files cannot be used") as raised:
        load_entries(tmp_path)
    assert "09.wav" in str(raised.value)
    assert "10.wav" not in str(raised.value)
    assert "and 3 more" in str(raised.value)


def test_a_set_with_nothing_usable_is_refused_even_when_skipping(tmp_path: Path):
    (tmp_path / "a.wav").touch()
    with pytest.raises(DataError, match="none of its 1 files can be used"):
        load_entries(tmp_path, on_bad="skip")


def test_a_scan_fills_in_length_rate_and_channels(tmp_path: Path):
    _write(tmp_path / "a.wav", seconds=0.75, n_channels=2)
    (tmp_path / "manifest.csv").write_text("path,start,seconds\na.wav,0.25,0.25\na.wav,0.25,\na.wav,0,0.76\n")
    entries = load_entries(tmp_path).entries
    assert [(e.first_sample, e.n_samples) for e in entries] == [(2000, 2000), (2000, 4000), (0, 6000)]
    assert {(e.sample_rate, e.n_channels) for e in entries} == {(RATE, 2)}


@pytest.mark.parametrize("row", ["a.wav,0,0.9", "a.wav,0.8,0.1", "a.wav,0.75,", "b.wav,0,"])
def test_a_stretch_beyond_its_file_and_a_missing_file_are_bad(tmp_path: Path, row: str):
    _write(tmp_path / "a.wav", seconds=0.75)
    (tmp_path / "manifest.csv").write_text(f"path,start,seconds\na.wav,0,0.5\n{row}\n")
    # The one stretch that is left is cut into halves for train and val.
    assert [file.path.name for file in load_entries(tmp_path, on_bad="skip", val_fraction=0.5).skipped] == [row[:5]]


def test_a_sound_after_a_long_silence_is_not_silent(tmp_path: Path):
    audio = torch.zeros(1, 12 * RATE)
    audio[0, 5 * RATE] = 0.5
    audio_io.write(tmp_path / "late.wav", audio, sample_rate=RATE)
    _write(tmp_path / "other.wav")
    assert len(load_entries(tmp_path).entries) == 2


def test_a_folder_is_listed_to_any_depth_in_order_unless_it_has_a_manifest(tmp_path: Path):
    for name in ("b.wav", "a/z.WAV", "a/b/c.flac"):
        path = _write(tmp_path / Path(name).with_suffix(Path(name).suffix.lower()))
        path.rename(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    listed = scan_folder(tmp_path)
    assert listed == [Entry(tmp_path / name) for name in ("a/b/c.flac", "a/z.WAV", "b.wav")]
    (tmp_path / "manifest.jsonl").write_text('{"path": "b.wav"}\n')
    assert scan_folder(tmp_path) == [Entry(tmp_path / "b.wav")]


def test_an_empty_or_missing_folder_and_bad_arguments_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="no file there"):
        load_entries(tmp_path)
    with pytest.raises(DataError, match="nowhere: no such folder, manifest or audio file"):
        load_entries(tmp_path / "nowhere")
    (tmp_path / "list.txt").touch()
    with pytest.raises(DataError, match=r"must end in \.csv or \.jsonl"):
        load_entries(tmp_path / "list.txt")
    with pytest.raises(ParameterError, match="on_bad='ignore' must be one of refuse, skip"):
        load_entries(tmp_path, on_bad="ignore")
    with pytest.raises(ParameterError, match="val_fraction"):
        load_entries(tmp_path, val_fraction=0.0)


def _listed(n: int, *, folder: Path = Path("set"), split: str = "") -> list[Entry]:
    return [Entry(folder / f"{index}.wav", split=split) for index in range(n)]


def _val(entries: list[Entry]) -> set[str]:
    return {entry.path.name for entry in entries if entry.split == "val"}


def test_hashed_splits_do_not_depend_on_place_order_or_other_files():
    few = scanning.divide(_listed(300), folder=Path("set"), val_fraction=0.1)
    many = scanning.divide(_listed(900)[::-1], folder=Path("set"), val_fraction=0.1)
    moved = scanning.divide(_listed(300, folder=Path("/else")), folder=Path("/else"), val_fraction=0.1)
    assert _val(few) == _val(moved) == {name for name in _val(many) if int(name[:-4]) < 300}
    # 90 expected of 900, with a standard deviation of 9.
    assert 54 <= len(_val(many)) <= 126
    assert {entry.split for entry in many} == {"train", "val"}


@pytest.mark.parametrize("n", [2, 3, 5, 9])
@pytest.mark.parametrize("val_fraction", [0.001, 0.999])
def test_two_or_more_files_give_at_least_one_to_either_side(n: int, val_fraction: float):
    divided = scanning.divide(_listed(n), folder=Path("set"), val_fraction=val_fraction)
    assert 1 <= len(_val(divided)) < n


def test_every_value_of_a_label_keeps_a_file_to_train_on():
    # One file of class 0, two of class 1, ... ten of class 9; two stretches of each; speakers in pairs of classes.
    entries = [
        Entry(Path(f"set/{label}/{take}.wav"), start=start, seconds=1.0, label=str(label), speaker=f"s{label // 2}")
        for label in range(10)
        for take in range(label + 1)
        for start in (0.0, 1.0)
    ]
    for val_fraction in (0.01, 0.3, 0.99):
        divide = partial(scanning.divide, entries, folder=Path("set"), val_fraction=val_fraction)
        plain, divided = divide(), divide(columns=["label", "folder"])
        train, val = ([entry for entry in divided if entry.split == split] for split in ("train", "val"))
        assert val
        assert {entry.label for entry in train} == {str(label) for label in range(10)}
        assert not {entry.path for entry in train} & {entry.path for entry in val}
        assert divide(columns=["mood"]) == plain
    # At 0.99 all but one file of each class.
    assert len({entry.path for entry in val}) == 55 - 10


def test_nothing_is_validated_on_where_every_file_is_a_class_of_its_own():
    entries = [Entry(Path(f"set/{index}.wav"), label=str(index)) for index in range(5)]
    divided = scanning.divide(entries, folder=Path("set"), val_fraction=0.4, columns=["label"])
    assert {entry.split for entry in divided} == {"train"}


def test_the_splits_of_a_manifest_are_kept_and_val_is_taken_from_train_where_none_is_given():
    given = [
        *_listed(50, split="train"),
        *_listed(3, folder=Path("v"), split="val"),
        Entry(Path("t.wav"), split="test"),
    ]
    assert scanning.divide(given, folder=Path("set"), val_fraction=0.2) == given
    without = [entry for entry in given if entry.split != "val"]
    divided = scanning.divide(without, folder=Path("set"), val_fraction=0.2)
    assert divided[-1] == without[-1]
    assert 1 <= len(_val(divided)) < 50


def test_stretches_of_one_file_stay_together():
    entries = [Entry(Path(f"set/{i % 10}.wav"), start=float(i), seconds=1.0, split="all") for i in range(100)]
    divided = scanning.divide(entries, folder=Path("set"), val_fraction=0.3)
    sides = {entry.path: {e.split for e in divided if e.path == entry.path} for entry in divided}
    assert all(len(side) == 1 for side in sides.values())
    assert {entry.split for entry in divided} == {"train", "val"}


def test_a_single_file_is_cut_into_train_and_val(tmp_path: Path):
    path = _write(tmp_path / "one.wav", seconds=4.0)
    for root in (tmp_path, path):
        found = load_entries(root, val_fraction=0.25)
        (train,), (val,) = found.split("train"), found.split("val")
        assert (train.first_sample, train.n_samples) == (0, 3 * RATE)
        assert (val.first_sample, val.n_samples) == (3 * RATE, RATE)


def test_a_split_is_scanned_alone_and_a_missing_one_names_the_others(tmp_path: Path):
    _write(tmp_path / "a.wav")
    (tmp_path / "b.wav").touch()
    (tmp_path / "manifest.csv").write_text("path,split\na.wav,test\nb.wav,train\na.wav,val\n")
    assert [entry.path.name for entry in load_entries(tmp_path, split="test").entries] == ["a.wav"]
    with pytest.raises(DataError, match="split='dev' has no entries; the splits there are: test, train, val"):
        load_entries(tmp_path, split="dev")
    assert load_entries(tmp_path, on_bad="skip").splits == ("test", "val")


def test_a_slow_scan_shows_its_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for index in range(3):
        _write(tmp_path / f"{index}.wav")
    shown = io.StringIO()
    monkeypatch.setattr(scanning, "_SHOW_PROGRESS_AFTER_SECONDS", -1.0)
    monkeypatch.setattr("rich.console.Console", lambda stderr: Console(file=shown, force_terminal=True))
    load_entries(tmp_path)
    assert "scanning audio files" in shown.getvalue()
