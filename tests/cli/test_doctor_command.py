"""`audiodiff doctor` on a machine that works, and on ones where something does not."""

import json
import os
import sys

import pytest
from click.testing import Result
from typer.testing import CliRunner

from audiodiff.cli.application import single
from audiodiff.cli.doctor import doctor_command
from audiodiff.doctor import machine


def doctor(*arguments: str) -> Result:
    return CliRunner().invoke(single(doctor_command), list(arguments))


def test_a_machine_where_everything_works_exits_with_zero(tmp_path):
    result = doctor("--runs", str(tmp_path / "runs"), "--json")
    assert result.exit_code == 0, result.output
    findings = {finding["name"]: finding for finding in json.loads(result.output)}
    assert {"torch", "processor", "audio .flac", "run folder", "model digits-8k", "mel inversion"} <= findings.keys()
    assert all(finding["problem"] is None for finding in findings.values())
    assert not (tmp_path / "runs").exists()


def test_a_package_that_cannot_be_loaded_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    (finding,) = [finding for finding in map(machine._package, ["pesq"], ["pesq"]) if finding.problem]
    assert "pip install" in finding.problem


def test_what_does_not_work_is_shown_and_exits_with_one(monkeypatch):
    findings = [machine.Finding("torch", "2.13"), machine.Finding("audio .mp3", "does not work", "cut off: install it")]
    monkeypatch.setattr("audiodiff.cli.doctor.examine", lambda runs: iter(findings))
    result = doctor()
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert lines[0].split() == ["ok", "torch", "2.13"]
    assert lines[1].startswith("NO")
    assert lines[2].strip() == "cut off: install it"
    assert lines[3] == "1 of 2 do not work"


def test_a_folder_without_permission_or_space_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "LEAST_FREE", 1e18)
    assert "are free on it" in str(machine._folder("run folder", tmp_path / "a" / "b").problem)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert f"{tmp_path} cannot be written to" in str(machine._folder("run folder", tmp_path / "a" / "b").problem)


@pytest.mark.parametrize("error", [RuntimeError("first\nsecond"), OSError()])
def test_an_attempt_that_fails_in_any_way_is_one_line(error):
    def job() -> str:
        raise error

    finding = machine._attempt("thing", job, remedy="mend it")
    assert finding.problem in ("first: mend it", "OSError: mend it")
