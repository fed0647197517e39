"""Scanning of data sets: bad files are listed with reasons, and only usable entries remain."""

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from audiodiff.data import CropDataset, Entry, describe_resampling, load_entries, load_whole, scan_folder, scanning
from audiodiff.errors import DataError, ParameterError
from audiodiff.io import audio as audio_io
from tests import sounds

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


def test_a_single_file_is_divided_into_train_and_val(tmp_path: Path):
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
    monkeypatch.setattr(scanning, "_PROGRESS_AFTER_SECONDS", -1.0)
    monkeypatch.setattr("rich.console.Console", lambda stderr: Console(file=shown, force_terminal=True))
    load_entries(tmp_path)
    assert "scanning audio files" in shown.getvalue()


def _of_rates(*rates: int) -> list[Entry]:
    return [Entry(Path(f"{index}.wav"), sample_rate=rate) for index, rate in enumerate(rates)]


def test_recordings_of_the_right_rate_are_not_mentioned():
    assert describe_resampling(_of_rates(44100, 44100), sample_rate=44100) is None


def test_recordings_of_higher_rates_are_counted():
    assert (
        describe_resampling(_of_rates(48000, 44100), sample_rate=44100) == "1 of 2 recordings are resampled to 44100 Hz"
    )


def test_recordings_of_lower_rates_are_reported_to_lack_high_frequencies():
    text = describe_resampling(_of_rates(48000, 44100, 22050, 16000), sample_rate=44100)
    assert text is not None
    assert "3 of 4 recordings are resampled" in text
    assert "2 of them from less, down to 16000 Hz" in text
    assert "above 8 kHz" in text
    assert "audio.sample_rate=16000" in text


def test_a_file_of_an_impossible_rate_is_a_bad_file(tmp_path: Path):
    for name, rate in (("good", 22051), ("also_good", 44101), ("sensor", 500)):
        audio_io.write(tmp_path / f"{name}.wav", sounds.white(0, seconds=0.5, rate=rate), sample_rate=rate)
    scan = load_entries(tmp_path, on_bad="skip")
    assert {entry.path.stem for entry in scan.entries} == {"good", "also_good"}
    assert "has a rate of 500 Hz" in scan.skipped[0].reason
    for entry in scan.entries:
        crops = CropDataset([entry], sample_rate=22050, n_channels=1, crop_samples=1024, seed=0)
        whole = load_whole(entry, sample_rate=22050, n_channels=1)
        crop = crops[0]["audio"]
        places = whole.unfold(-1, 1024, 1)[0]
        assert (places - crop).abs().amax(dim=-1).min() < 1e-5  # a crop is a part of the whole, to rounding
