"""Commands in surroundings that lack something: permissions, standard streams."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audiodiff.data import load_entries
from audiodiff.data.manifest import read_manifest
from audiodiff.errors import AudioFileError, CheckpointError, DataError
from audiodiff.io import audio
from audiodiff.io.jobs import find_files
from audiodiff.models import checkpoint
from tests import sounds

REAL_OPEN, REAL_STAT = Path.open, Path.stat


def audiodiff(arguments: str, folder: Path, *, shell: str = "") -> "subprocess.CompletedProcess[bytes]":
    """Run a command line of a shell, as a user does."""
    command = f"{sys.executable} -m audiodiff {arguments} {shell}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(command, shell=True, cwd=folder, capture_output=True, env=environment, check=False)


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> str:
    """Make every file named locked one that may not be opened, also for root, whom permissions do not stop."""

    def opened(path: Path, mode: str = "r", *arguments, **options):
        if path.stem == "locked" and mode.startswith("r"):
            raise PermissionError(13, "Permission denied", str(path))
        return REAL_OPEN(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)
    return "locked"


def test_a_recording_that_may_not_be_read_is_said_to_be_so(tmp_path: Path, locked: str):
    sounds.write(tmp_path / f"{locked}.wav", 44100)
    sounds.write(tmp_path / "good.wav", 44100)
    with pytest.raises(AudioFileError, match=r"locked\.wav: cannot be opened \(Permission denied\)"):
        audio.info(tmp_path / f"{locked}.wav")
    (bad,) = load_entries(tmp_path, on_bad="skip").skipped
    assert "Permission denied" in bad.reason


def test_a_recording_in_a_folder_that_may_not_be_entered_is_one_bad_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sounds.write(tmp_path / "locked" / "a.wav", 44100)
    sounds.write(tmp_path / "good.wav", 44100)

    def status(path: Path, **options):
        if path.parent.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return REAL_STAT(path, **options)

    monkeypatch.setattr(Path, "stat", status)
    assert len(find_files(tmp_path)) == 2
    (bad,) = load_entries(tmp_path, on_bad="skip").skipped
    assert "cannot be opened (Permission denied)" in bad.reason


def test_a_manifest_and_weights_that_may_not_be_read_are_not_called_missing(tmp_path: Path, locked: str):
    (tmp_path / f"{locked}.csv").write_text("path\na.wav\n")
    with pytest.raises(DataError, match="Permission denied"):
        read_manifest(tmp_path / f"{locked}.csv")
    (tmp_path / f"{locked}.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"Permission denied.*chmod"):
        checkpoint.load_weights(torch.nn.Linear(1, 1), tmp_path / f"{locked}.safetensors")


@pytest.mark.skipif(os.getuid() == 0, reason="permissions do not stop root")
def test_a_run_that_cannot_be_made_is_one_line(tmp_path: Path):
    tmp_path.chmod(0o555)
    ended = audiodiff("train debug=two_steps", tmp_path)
    tmp_path.chmod(0o755)
    assert ended.returncode == 2
    assert b"Permission denied" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_with_standard_error_closed_only_samples_are_written(tmp_path: Path):
    n_samples = 8000
    (tmp_path / "a.raw").write_bytes(bytes(2 * n_samples))
    arguments = "generate - -o - --iterations 1"
    closed = audiodiff(arguments, tmp_path, shell="< a.raw 2>&-")
    assert closed.returncode == 0
    assert closed.stdout == audiodiff(arguments, tmp_path, shell="< a.raw").stdout
    assert len(closed.stdout) == 2 * n_samples


def test_a_closed_standard_input_is_an_empty_one(tmp_path: Path):
    ended = audiodiff("generate - -o - --iterations 1", tmp_path, shell="<&-")
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert b"standard input ended after nothing" in ended.stderr
