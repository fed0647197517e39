"""Paths given to training reach it as they are, whatever characters they hold."""

from pathlib import Path

import pytest
import runs

from audiodiff.errors import ParameterError
from audiodiff.training.config import compose
from audiodiff.training.paths import quoted, with_quoted_path

NAMES = [
    *("données", "録音", "LJ (1)", "a [b]", "a=b", "a, b", "it's", "R&B", "#1", "wow!", "{x}", "a;b", 'say "a"'),
    *("1988", "1e5", "true", "a:b", "back\\slash", "ends in \\", "quote \\' it", "50 %", "a~b", "null", "-x", "a  b"),
]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_reaches_the_configuration_as_it_is(name: str):
    path = f"/music/{name}"
    assert compose([f"data.root={path}"]).data.root == path
    assert compose([f"data.root={quoted(path)}"]).data.root == path
    if name != "null":
        assert compose([f"data.root={name}"]).data.root == name


def test_the_home_folder_is_understood(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", "/home/josé")
    assert compose(["data.root=~/speech"]).data.root == "/home/josé/speech"
    assert with_quoted_path("hydra.run.dir=~take.wav") == "hydra.run.dir='~take.wav'"


def test_an_interpolation_is_resolved():
    assert compose(["data.root=${oc.env:HOME}/x"]).data.root == str(Path.home() / "x")


def test_commas_separate_the_paths_of_a_sweep_alone():
    assert with_quoted_path("data.root=/é,/b", sweep=True) == "data.root='/é','/b'"
    assert with_quoted_path("data.root=/a,/b", sweep=True) == "data.root=/a,/b"
    assert with_quoted_path("data.root=/a,/b") == "data.root='/a,/b'"


@pytest.mark.parametrize("key", ["data.root", "train.resume", "train.init_from", "hydra.run.dir"])
def test_an_empty_path_is_refused(key: str):
    with pytest.raises(ParameterError, match=f"{key}= is empty: give a path"):
        with_quoted_path(f"{key}=")


@pytest.mark.parametrize("name", ["josé (1)", "a = b", "it's"])
def test_a_run_in_such_a_folder_trains_and_goes_on(name: str, say, recordings: Path, tmp_path: Path):
    data, run = tmp_path / name / "data", tmp_path / name / "run"
    data.parent.mkdir()
    data.symlink_to(recordings)
    code, text = say(*runs.TINY, f"data.root={data}", "train.steps=1", f"hydra.run.dir={run}")
    assert code == 0, text
    code, text = say(f"train.resume={run}", "train.steps=2")
    assert code == 0, text
    assert runs.newest(run) == "step_00000002"
