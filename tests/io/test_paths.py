"""Paths as users write them: empty, with a tilde, with the suffix of another kind of file."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from audiodiff.cli import main
from audiodiff.data import Entry, load_entries, write_manifest
from audiodiff.data.manifest import read_manifest
from audiodiff.errors import AudioFileError, ParameterError
from audiodiff.evaluation.compare import evaluate_paths
from audiodiff.io import audio
from audiodiff.io.jobs import check_folder_name, find_files, plan_jobs, plan_targets
from audiodiff.io.paths import user_path
from audiodiff.models import registry
from audiodiff.tasks.features.archive import load_features
from audiodiff.tasks.features.files import list_recordings
from audiodiff.training.config import absolute
from tests.sounds import write


@pytest.mark.parametrize(
    "read",
    [
        find_files,
        load_entries,
        load_features,
        registry.find,
        absolute,
        lambda path: list_recordings([path]),
        lambda path: plan_jobs([path], out=Path("out"), force=False, new_suffix=None),
        lambda path: evaluate_paths(path, path),
    ],
)
def test_an_empty_path_is_refused_and_not_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[str], object]
):
    monkeypatch.chdir(tmp_path)
    write(Path("a.wav"), 8000)
    with pytest.raises(ParameterError, match="is empty"):
        read("")


@pytest.mark.parametrize("name", ["~take.wav", "~$lock.wav"])
def test_a_name_that_begins_with_a_tilde_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.chdir(tmp_path)
    write(Path(name), 44100)
    Path("manifest.csv").write_text(f"path\n{name}\n")
    assert find_files(name) == [Path(name)]
    assert read_manifest(Path("manifest.csv"))[0].path == Path(name)
    assert len(load_entries(name).entries) == 2


def test_a_tilde_alone_is_the_home_folder(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert user_path("~/a.wav") == Path("/home/someone/a.wav")
    assert user_path("a/~/b.wav") == Path("a/~/b.wav")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["audiodiff", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    return ended.value.code


def test_an_option_with_a_tilde_writes_to_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(Path("a.wav"), 8000)
    assert run(monkeypatch, "mel", "a.wav", "--out=~/a.npz") == 0
    assert (tmp_path / "home/a.npz").is_file()
    assert not Path("~").exists()


@pytest.mark.parametrize(
    "arguments", [("mel", "", "-o", "a.npz"), ("mel", "a.wav", "-o", ""), ("mel", "a.wav", "--out="), ("enhance", "")]
)
def test_a_command_refuses_an_empty_argument(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
):
    assert run(monkeypatch, *arguments) == 2
    assert "is empty, as a shell variable that is not set" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["r.m4a", "r.AAC", "r.aifc", "r.mel", "r.h5", "r.npz"])
def test_results_do_not_go_into_a_folder_named_as_a_file(tmp_path: Path, name: str):
    write(tmp_path / "a.wav", 8000)
    with pytest.raises(ParameterError, match=r"\.wav, \.flac, .* or a folder"):
        plan_jobs([str(tmp_path / "a.wav")], out=tmp_path / name, force=False, new_suffix=".wav")
    with pytest.raises(ParameterError, match=r"\.wav, \.flac, .* or a folder"):
        plan_targets(["a", "b"], out=tmp_path / name, force=False)
    with pytest.raises(ParameterError, match="give a folder"):
        check_folder_name(tmp_path / name)
    (tmp_path / name).mkdir()
    check_folder_name(tmp_path / name)


@pytest.mark.parametrize("name", ["out", "v1.2", "takes.2024-05-01", "speaker.theo"])
def test_a_folder_may_have_a_dot_in_its_name(name: str):
    check_folder_name(Path(name))


LATIN = os.fsdecode(b"lat\xe9in.wav")


@pytest.fixture
def latin_folder(tmp_path: Path) -> Path:
    """A folder with a file whose name is not UTF-8."""
    try:
        write(tmp_path / "in" / LATIN, 44100)
    except (AudioFileError, UnicodeError):
        pytest.skip("this file system takes only names that are UTF-8")
    return tmp_path / "in"


def test_a_name_that_is_not_utf8_is_read_and_written(latin_folder: Path):
    samples, rate = audio.read(latin_folder / LATIN)
    audio.write(latin_folder / "out" / LATIN, samples, sample_rate=rate)
    assert (latin_folder / "out" / LATIN).read_bytes() == (latin_folder / LATIN).read_bytes()
    assert len(load_entries(latin_folder / LATIN).entries) == 2


def test_a_manifest_and_tables_keep_a_name_that_is_not_utf8(latin_folder: Path):
    manifest = latin_folder / "manifest.csv"
    write_manifest([Entry(latin_folder / LATIN, text="été")], manifest)
    assert [(entry.path, entry.text) for entry in read_manifest(manifest)] == [(latin_folder / LATIN, "été")]
    evaluate_paths(latin_folder, latin_folder, out=latin_folder / "out", names=["snr_db"])
    assert os.fsencode(Path(LATIN).stem) in (latin_folder / "out/metrics.csv").read_bytes()


def test_commands_go_on_with_a_name_that_is_not_utf8(
    latin_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(monkeypatch, "mel", str(latin_folder), "-o", str(latin_folder / "mels")) == 0
    assert (
        run(monkeypatch, "evaluate", str(latin_folder / LATIN), str(latin_folder / LATIN), "--metrics", "snr_db") == 0
    )
    assert (latin_folder / "mels" / LATIN).with_suffix(".npz").is_file()


@pytest.mark.parametrize("name", ["日本語" * 27 + ".wav", "übung " * 20 + ".wav"])
def test_a_long_name_in_any_script_is_written(tmp_path: Path, name: str):
    assert write(tmp_path / name, 800).is_file()
