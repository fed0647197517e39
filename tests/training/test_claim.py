"""Two trainings never write into one folder."""

from pathlib import Path

import pytest
import runs

from audiodiff.errors import AudiodiffError
from audiodiff.models import registry
from audiodiff.training.claim import lock, new_folder


def shown(say, recordings: Path, *overrides: str) -> tuple[int, str]:
    return say(*runs.TINY, f"data.root={recordings}", "train.steps=1", *overrides)


def test_a_folder_in_use_by_another_training_is_refused(say, recordings: Path, tmp_path: Path):
    run = tmp_path / "run"
    held = lock(run)
    assert held is not None
    code, text = shown(say, recordings, f"hydra.run.dir={run}")
    assert code == 2
    assert text == f"error: hydra.run.dir={run} is in use by another training: choose another folder\n"
    assert [path.name for path in run.iterdir()] == [".lock"]
    held.release()
    assert shown(say, recordings, f"hydra.run.dir={run}")[0] == 0


def test_a_resume_of_a_run_that_still_trains_is_refused(say, recordings: Path, tmp_path: Path):
    run = tmp_path / "run"
    assert shown(say, recordings, f"hydra.run.dir={run}")[0] == 0
    held = lock(run)
    assert held is not None
    code, text = say(f"train.resume={run}", "train.steps=2")
    assert code == 2
    assert "is in use by another training" in text


def test_runs_that_start_in_one_second_take_two_folders(tmp_path: Path):
    wanted = tmp_path / "runs" / "2026-01-31" / "12-00-00"
    folders = [new_folder(wanted)[0].name for _ in range(3)]
    assert folders == ["12-00-00", "12-00-00_2", "12-00-00_3"]


def test_the_default_folder_of_a_run_is_a_new_one(say, recordings: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    conf = tmp_path / "conf" / "recipes"
    conf.mkdir(parents=True)
    (conf / "mine.yaml").write_text("# @package _global_\nhydra: {run: {dir: mine}, sweep: {dir: swept}}\n")
    own = ("--config-dir", str(conf.parent), "recipes=mine")
    (tmp_path / "mine").mkdir()
    code, text = shown(say, recordings, *own)
    assert code == 0, text
    assert f"checkpoint {tmp_path / 'mine_2' / 'checkpoints' / 'step_00000001'}" in text
    assert not list((tmp_path / "mine").iterdir())

    (tmp_path / "swept").mkdir()
    code, text = shown(say, recordings, *own, "--multirun", "seed=0,1")
    assert code == 0, text
    assert [registry.find(tmp_path / "swept_2" / job).name for job in ("0", "1")] == ["step_00000001"] * 2
    assert not list((tmp_path / "swept").iterdir())


def test_a_sweep_in_a_folder_in_use_is_refused(say, recordings: Path, tmp_path: Path):
    held = lock(tmp_path / "swept")
    assert held is not None
    code, text = shown(say, recordings, "--multirun", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'swept'}")
    assert code == 2
    assert "swept is in use by another training" in text


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(say, recordings: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    code, text = shown(say, recordings, f"hydra.run.dir={tmp_path / 'file' / 'run'}")
    assert code == 2
    assert text.endswith("cannot be written (Not a directory): choose another folder\n")
    assert text.count("\n") == 1


def test_an_earlier_run_of_that_name_keeps_its_overrides(say, recordings: Path, tmp_path: Path):
    run = tmp_path / "run"
    assert shown(say, recordings, f"hydra.run.dir={run}")[0] == 0
    before = (run / ".hydra" / "overrides.yaml").read_text()
    assert shown(say, recordings, f"hydra.run.dir={run}", "seed=7")[0] == 2
    assert (run / ".hydra" / "overrides.yaml").read_text() == before


def test_a_save_leaves_temporary_files_of_other_processes(recordings: Path, tmp_path: Path):
    other = tmp_path / "run" / "checkpoints" / f".{32 * 'a'}.step_00000009"
    other.mkdir(parents=True)
    runs.trained(recordings, tmp_path / "run", "train.steps=1")
    assert other.is_dir()


def test_the_next_claim_clears_what_a_kill_left(say, recordings: Path, tmp_path: Path):
    run = tmp_path / "run"
    for name in (f".{32 * 'a'}.step_00000009", ".step_00000009.123.new.tmp"):
        (run / "checkpoints" / name).mkdir(parents=True)
    assert shown(say, recordings, f"hydra.run.dir={run}")[0] == 0
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["latest", "step_00000001"]


def test_a_renamed_step_folder_survives_pruning(recordings: Path, tmp_path: Path):
    runs.trained(recordings, tmp_path, "train.steps=1")
    kept = tmp_path / "checkpoints" / "step_00000001_best"
    (tmp_path / "checkpoints" / "step_00000001").rename(kept)
    with pytest.raises(AudiodiffError, match="names step_00000001, which does not exist: rename it back, or"):
        registry.find(tmp_path)
    runs.trained(recordings, tmp_path / "again", f"train.resume={kept}", "train.steps=2")
    (tmp_path / "again" / "checkpoints" / "step_00000001_best").mkdir()
    runs.resumed(recordings, tmp_path / "again", "train.steps=4", "train.save_every=1", "train.keep=1")
    left = sorted(path.name for path in (tmp_path / "again" / "checkpoints").iterdir())
    assert left == ["latest", "step_00000001_best", "step_00000004"]
