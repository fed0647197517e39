"""A sweep leaves a table: what every run reached, why one was refused, how good each model is by solver and steps."""

import csv
import dataclasses
import json
import sys
from pathlib import Path

import pytest
import runs

from audiodiff.cli import train
from audiodiff.diffusion.solvers import REGISTRY
from audiodiff.errors import ParameterError
from audiodiff.models import checkpoint, registry
from audiodiff.training import loop, sweep
from audiodiff.training.sweep import SweepTable

TABLE = (
    "+hydra.callbacks.table.solvers=[euler,heun]",
    "+hydra.callbacks.table.steps=[1,2]",
    "+hydra.callbacks.table.metrics=[lsd]",
    "+hydra.callbacks.table.n_examples=1",
    "+hydra.callbacks.table.max_seconds=0.3",
)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sweep_continues_after_a_refusal_and_lists_it_in_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    root, sweep = runs.recordings(tmp_path / "recordings"), tmp_path / "sweep"
    matrix = ("--multirun", "process=ve,flow", "preconditioning=v,sample", f"hydra.sweep.dir={sweep}")
    arguments = [*runs.TINY, *TABLE, f"data.root={root}", "train.steps=1", "sampler.n_steps=2", *matrix]
    monkeypatch.setattr(sys, "argv", ["audiodiff", "train", *arguments])
    train.command(arguments)
    table = _rows(sweep / "table.csv")
    chosen = [("ve", "v"), ("ve", "sample"), ("flow", "v"), ("flow", "sample")]
    assert [(row["process"], row["preconditioning"]) for row in table] == chosen
    assert "choose preconditioning=edm or epsilon" in table[0]["refused"]
    assert table[0]["lsd"] == ""
    assert all(row["refused"] == "" and float(row["lsd"]) > 0 for row in table[1:])
    quality = _rows(sweep / "quality.csv")
    assert len(quality) == 3 * 2 * 2
    for row in quality:
        calls = REGISTRY[row["solver"]].n_evaluations
        assert calls is not None
        assert int(row["calls"]) == calls(int(row["steps"]))
    # One step of either solver is the denoiser's first estimate, but for the rounding of x - (x - D) at sigma=80.
    first = {(row["run"], row["solver"]): float(row["lsd"]) for row in quality if row["steps"] == "1"}
    assert all(first[run, "heun"] == pytest.approx(first[run, "euler"], rel=0.05) for run in ("1", "2", "3"))
    text = (sweep / "table.md").read_text()
    assert "lsd, by solver and number of steps:" in text
    assert len({line.count("|") for line in text.split("\n\n")[0].splitlines()}) == 1
    monkeypatch.setattr(sys, "argv", ["audiodiff", "train", *arguments])
    with pytest.raises(SystemExit, match="2"):
        train.command(arguments)
    assert "choose another folder" in capsys.readouterr().err
    assert (sweep / "table.md").read_text() == text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"solvers": ["nothing"]}, "'nothing' must be one of euler"),
        ({"steps": [0]}, "table.steps"),
        ({"n_examples": 0}, "table.n_examples"),
        ({"max_seconds": -1.0}, "table.max_seconds=-1.0 must be positive"),
        ({"metrics": ["nothing"]}, "'nothing' is unknown"),
    ],
)
def test_what_a_table_cannot_hold_is_refused(arguments: dict, named: str):
    with pytest.raises(ParameterError, match=named):
        SweepTable(**arguments)


def test_a_multirun_ends_with_a_table_of_overrides_and_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    root, sweep = runs.recordings(tmp_path / "recordings"), tmp_path / "sweep"
    matrix = ("--multirun", "seed=0,1", "optimizer.lr=1e-3,fast", f"hydra.sweep.dir={sweep}")
    arguments = [*runs.TINY, f"data.root={root}", "train.steps=2", *matrix]
    monkeypatch.setattr(sys, "argv", ["audiodiff", "train", *arguments])
    train.command(arguments)
    table = _rows(sweep / "table.csv")
    assert [(row["seed"], row["optimizer.lr"]) for row in table] == [
        (seed, lr) for seed in "01" for lr in ("0.001", "fast")
    ]
    for row in table[::2]:
        written = json.loads((registry.find(sweep / row["run"]) / checkpoint.METRICS).read_text())
        assert row["step"] == "2"
        assert {name: float(row[name]) for name in ("loss", "lsd")} == pytest.approx(written["validation"])
    assert all("optimizer.lr=fast must be a number" in row["refused"] for row in table[1::2])
    said = capsys.readouterr().err
    shown = [line for line in said.splitlines() if line.startswith("| ")]
    assert len(shown) == 2 + len(table)
    assert len({len(line) for line in shown}) == 1
    for row, line in zip(table, shown[2:], strict=True):
        assert [row["run"], row["seed"], row["optimizer.lr"]] == [cell.strip() for cell in line.split("|")[1:4]]
        assert row["loss"] == "" or f"{float(row['loss']):.4g}" in line
    assert str(sweep / "table.csv") in said


def test_a_signal_ends_the_whole_sweep_with_a_table(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fit = loop.fit

    def interrupted(*arguments, **options):
        (tmp_path / "began").touch(exist_ok=False)  # by one run only
        return dataclasses.replace(fit(*arguments, **options), signal="SIGINT")

    monkeypatch.setattr(loop, "fit", interrupted)
    sweep = tmp_path / "sweep"
    arguments = [*runs.TINY, f"data.root={recordings}", "train.steps=1", "--multirun", "seed=0,1,2"]
    arguments.append(f"hydra.sweep.dir={sweep}")
    monkeypatch.setattr(sys, "argv", ["audiodiff", "train", *arguments])
    train.command(arguments)
    table = _rows(sweep / "table.csv")
    assert [row["step"] for row in table] == ["1", "", ""]
    assert all(row["refused"] == "not run, since the sweep was stopped by SIGINT" for row in table[1:])


def test_a_single_run_has_no_row_of_a_table(say, recordings: Path, tmp_path: Path):
    assert say(*runs.TINY, f"data.root={recordings}", "train.steps=1", f"hydra.run.dir={tmp_path / 'run'}")[0] == 0
    assert not (tmp_path / "run" / "row.json").exists()


def test_a_classifiers_results_in_a_table_are_its_accuracies():
    measured = {"step": 3, "accuracy": {"val": {"digit": {"n_right": 3, "n": 4}, "who": {"n_right": 0, "n": 0}}}}
    assert sweep._results(measured) == {"step": 3, "validation": {"val digit": 0.75}}


def test_a_sweep_of_refusals_may_be_repeated_in_its_folder(say, recordings: Path, tmp_path: Path):
    sweep = (f"hydra.sweep.dir={tmp_path / 'sweep'}", "train.steps=1", "--multirun")
    code, said = say(*runs.TINY, *sweep, "data.root=/nowhere", "seed=0,1,2")
    assert code == 2
    assert said.count("data.root=/nowhere does not exist") == 6
    code, said = say(*runs.TINY, *sweep, f"data.root={recordings}", "seed=0,1")
    assert code == 0, said
    assert [row["refused"] for row in _rows(tmp_path / "sweep" / "table.csv")] == ["", ""]
