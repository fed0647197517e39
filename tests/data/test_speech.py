"""The embedded set is what its manifest says, within its size, and can be made again."""

import csv
import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from audiodiff.data import load_entries, speech_folder

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make_speech.py"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (speech_folder() / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    if not SCRIPT.is_file():
        pytest.skip("scripts/make_speech.py is not beside the tests")
    spec = importlib.util.spec_from_file_location("make_speech", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def test_the_set_is_at_most_six_megabytes():
    assert sum(path.stat().st_size for path in speech_folder().rglob("*") if path.is_file()) <= 6_000_000


def test_the_manifest_agrees_with_the_audio(rows: list[dict[str, str]]):
    folder = speech_folder()
    assert {row["path"] for row in rows} == {p.relative_to(folder).as_posix() for p in folder.rglob("*.flac")}
    for row in rows:
        samples, rate = soundfile.read(folder / row["path"], dtype="int16", always_2d=True)
        assert (rate, samples.shape[1]) == (int(row["sample_rate"]), 1) == (22050, 1)
        assert round(float(row["seconds"]) * rate) == len(samples)
        assert row["licence"] == "CC0-1.0"
        peak = np.abs(samples.astype(int)).max() / 2**15
        assert 20 * np.log10(peak) == pytest.approx(-3.0, abs=0.01)


def test_the_files_have_their_check_sums(rows: list[dict[str, str]]):
    lines = (speech_folder() / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(sums) == {row["path"] for row in rows}
    assert all(
        hashlib.sha256((speech_folder() / name).read_bytes()).hexdigest() == digest for name, digest in sums.items()
    )


def test_every_split_has_every_voice_and_no_sentence_stands_in_two(rows: list[dict[str, str]]):
    splits = {split: [row for row in rows if row["split"] == split] for split in ("train", "val", "test")}
    assert sum(map(len, splits.values())) == len(rows)
    voices = {row["speaker"] for row in rows}
    assert len(voices) >= 4
    assert all({row["speaker"] for row in group} == voices for group in splits.values())
    assert 6 <= len(splits["test"]) <= 8
    assert 4 <= len(splits["val"]) <= 6
    assert len({row["text"] for row in rows}) == len(rows)


def test_there_is_no_digital_silence(rows: list[dict[str, str]]):
    for row in rows:
        samples, _ = soundfile.read(speech_folder() / row["path"], dtype="int16")
        windows = np.lib.stride_tricks.sliding_window_view(samples, 64)[::64]
        assert windows.any(axis=1).all()


def test_the_set_is_read_by_the_same_loader_as_every_other(rows: list[dict[str, str]]):
    found = load_entries(speech_folder())
    assert found.splits == ("test", "train", "val")
    assert not found.skipped
    assert [entry.text for entry in found.entries] == [row["text"] for row in rows]


def test_the_script_reproduces_a_recording(script: ModuleType):
    problem = script.espeak_problem()
    if problem:
        pytest.skip(problem)
    utterance = script.utterances()[-1]
    shipped, _ = soundfile.read(speech_folder() / utterance.path, dtype="int16")
    assert np.array_equal(script.speak(utterance), shipped)


def test_the_script_and_the_manifest_name_the_same_utterances(script: ModuleType, rows: list[dict[str, str]]):
    made = [(u, round(float(row["seconds"]) * 22050)) for u, row in zip(script.utterances(), rows, strict=True)]
    assert script.manifest_text(made) == (speech_folder() / "manifest.csv").read_text(encoding="utf-8")


def test_the_script_says_how_to_install_espeak(script: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert "apt install espeak-ng" in script.espeak_problem()
