"""A few recordings to train on, and the command as a user calls it."""

import sys
from pathlib import Path

import pytest
import runs

from audiodiff.cli import train


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.recordings(tmp_path_factory.mktemp("recordings"))


def said(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Run the command in this process; return its exit code and all that it said."""
    monkeypatch.setattr(sys, "argv", ["audiodiff", "train", *arguments])
    code = 0
    try:
        train.command(arguments)
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    return lambda *arguments: said(list(arguments), capsys, monkeypatch)
