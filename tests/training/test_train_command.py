"""`audiodiff train` as a person meets it: help, sweeps, errors in words."""

from pathlib import Path

import pytest
import runs
import torch

import audiodiff
from audiodiff.cli import train
from audiodiff.errors import ParameterError, TrainingError
from audiodiff.models import checkpoint, registry
from audiodiff.training.config import config_folder, recipe_root
from audiodiff.training.overrides import hydra_arguments


def test_help_names_every_group_and_recipe(say):
    code, text = say("--help")
    assert code == 0
    for group in config_folder().iterdir():
        if group.is_dir() and group.name != "hydra":
            assert f"{group.name}: " in text
    for recipe in (recipe_root() / "recipes").glob("*/*.yaml"):
        assert f"{recipe.parent.name}/{recipe.stem}" in text
    ours, _, _ = text.partition("== Groups")  # of which Hydra prints each on one line
    assert max(len(line) for line in ours.splitlines()) <= 120


def test_the_configuration_can_be_shown(say):
    code, text = say("--cfg", "job", "recipes=ljspeech/vocoder", "train.steps=7")
    assert code == 0
    assert "steps: 7" in text
    assert "crop_frames: 62" in text


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("nonsense=1", "nonsense does not exist: audiodiff train --help lists the groups, --cfg job all settings"),
        ("train.step=5", "train.step does not exist: did you mean train.steps=5?"),
        ("trian.steps=5", "trian.steps does not exist: did you mean train.steps=5?"),
        ("netwrok=wavenet", "netwrok does not exist: did you mean network=wavenet?"),
        ("recipe=folder/class", "recipe does not exist: did you mean recipes=folder/class?"),
        ("network.chanels=4", "network.chanels does not exist: did you mean network.channels=4?"),
        ("data.labels.a=label", "an argument of a class of your own, is added by +data.labels.a=label"),
        ("lr_schedule={steps: 5}", "the key 'steps' is a new one: add it with +lr_schedule={steps: 5}"),
        ("lr=1e-4", "lr does not exist: did you mean optimizer.lr=1e-4?"),
        ("optimizer.learning_rate=1", "optimizer.learning_rate does not exist: did you mean optimizer.lr=1?"),
        ("epochs=3", "epochs does not exist: did you mean train.steps=3?"),
        ("root=/a", "root does not exist: did you mean data.root=/a?"),
        ("data.labels=folder", "data.labels=folder must name each label and its column, as in data.labels={class: "),
        ("data.min_seconds=x", "data.min_seconds=x must be a number of seconds"),
        ("audio.sample_rate=22050.0", "audio.sample_rate=22050.0 must be a whole number"),
        ("data.n_channels=x", "data.n_channels=x must be a whole number"),
        ("validation.metrics=pesq", "validation.metrics: metric 'pesq' is unknown, there are snr_db, "),
        ("train.steps", "train.steps has no value: give train.steps=VALUE"),
        ("seed=é", "seed=é: unreadable; special characters need quotes, as in \"seed='é'\""),
        ("optimizer.lr=fast", "optimizer.lr=fast must be a number ("),
        ("recipes=nonsense", "recipes=nonsense does not exist; audiodiff train --help lists all"),
        ("recipes=vocoder", "recipes=vocoder does not exist: did you mean recipes=folder/vocoder?"),
        ("recipes=fsdd/mell", "recipes=fsdd/mell does not exist: did you mean recipes=fsdd/mel?"),
        ("process=nonsense", "Could not find 'process/nonsense'; available options in 'process': cosine_discrete, "),
        ("process=[", "process=[: no viable alternative"),
        ("recipes=techniques/shortcut", "train.init_from: model='RUN' does not exist: give a run folder"),
        (
            "+hydra.callbacks.x={_target_:audiodiff.training.sweep.SweepTable,solvers:[x]}",
            "table.solvers: 'x' must be one",
        ),
        ("sampler.n_steps=2.5", "sampler.n_steps=2.5 must be a whole number, at least 1"),
        ("hydra.verbose=${nonsense}", "Interpolation key 'nonsense' not found"),
        ("train.stepz=1", "train.stepz does not exist: did you mean train.steps=1?"),
        ("+train.stepz=1", "train.stepz does not exist"),
        ("data.root=/nonsense", "data.root=/nonsense does not exist"),
        ("optimizer.lr=-1", "optimizer: Invalid learning rate"),
        ("validation.max_seconds=-1.0", "validation.max_seconds=-1.0 must be a positive number"),
        ("validation.iterations=-1", "validation.iterations=-1 must be a whole number, at least 0"),
    ],
)
def test_an_error_is_said_in_words(override: str, named: str, say, tmp_path: Path):
    code, text = say(*runs.TINY, override, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 2
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert named in text


@pytest.mark.parametrize("option", ["--train.steps=5", "--trains.steps", "--multirum", "-x"])
def test_a_setting_with_dashes_is_refused_with_the_right_form(option: str):
    with pytest.raises(ParameterError, match="is no option: settings have no dashes, as in ") as refusal:
        train.command([option, "5"])
    if "=" in option:
        assert "as in train.steps=5;" in str(refusal.value)


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU")
def test_a_gpu_where_there_is_none_is_refused_in_one_line(say, tmp_path: Path):
    code, text = say(*runs.TINY, "fabric=gpu", f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 2
    assert text.startswith("error: fabric.accelerator=gpu: torch ")
    assert text.endswith("finds no GPU; choose fabric=cpu, or install a torch and a driver for your GPU\n")
    assert text.count("\n") == 1


def test_a_loss_that_is_not_finite_leaves_with_an_error(say, recordings: Path, tmp_path: Path):
    hot = ("optimizer=sgd", "optimizer.lr=1e30", "train.clip_norm=null", "train.steps=50", "train.save_every=1")
    code, text = say(*runs.TINY, *hot, f"data.root={recordings}", f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 2
    assert "is not finite" in text or "must be finite" in text
    assert "step " in text
    assert "Traceback" not in text
    if runs.newest(tmp_path / "run"):
        audiodiff.load(tmp_path / "run", device="cpu")


def test_a_resume_needs_nothing_but_the_run(say, recordings: Path, tmp_path: Path, monkeypatch):
    run = tmp_path / "a run, with = and 'quotes'"
    escaped = str(run).replace("'", "\\'")
    begun = [*runs.TINY, f"data.root={recordings}", "train.steps=2", f"hydra.run.dir='{escaped}'"]
    assert say(*begun)[0] == 0
    monkeypatch.chdir(run.parent)
    code, text = say(f"train.resume='{escaped}'", "train.steps=3")
    assert code == 0, text
    assert runs.newest(run) == "step_00000003"
    overrides = (run / ".hydra" / "overrides.yaml").read_text()

    code, text = say("seed=1", f"hydra.run.dir='{escaped}'")
    assert code == 2
    assert "holds the checkpoints of an earlier run" in text
    assert (run / ".hydra" / "overrides.yaml").read_text() == overrides


def test_a_resume_goes_on_with_the_settings_of_the_resume_before(say, recordings: Path, tmp_path: Path):
    run = tmp_path / "run"
    begun = (*runs.TINY, f"data.root={recordings}", "lr_schedule=cosine", f"hydra.run.dir={run}")
    assert say(*begun, "train.steps=2")[0] == 0
    assert say(f"train.resume={run}", "train.steps=4", "seed=1")[0] == 2
    code, text = say(f"train.resume={run}", "train.steps=4", "lr_schedule.first_step=2", "train.save_every=3")
    assert code == 0, text
    (run / "checkpoints" / "latest").write_text("step_00000003")
    code, text = say(f"train.resume={run}")
    assert code == 0, text
    assert runs.newest(run) == "step_00000004"
    assert runs.state(run)["exactness"]["lr_schedule.first_step"] == "2"


def test_a_resume_finds_the_recipe_of_ones_own(say, recordings: Path, tmp_path: Path):
    folder, run = tmp_path / "conf", tmp_path / "run"
    (folder / "recipes").mkdir(parents=True)
    (folder / "recipes" / "mine.yaml").write_text("# @package _global_\nseed: 4\n")
    own = [*runs.TINY, f"data.root={recordings}", "recipes=mine", f"hydra.run.dir={run}", "--config-dir", str(folder)]
    assert say(*own, "train.steps=1")[0] == 0
    code, text = say(f"train.resume={run}", "train.steps=2")
    assert code == 0, text
    assert runs.newest(run) == "step_00000002"


def test_a_resume_of_nothing_is_refused_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(TrainingError, match=r"train\.resume=.*/nowhere does not exist: give a run folder"):
        train.command([f"train.resume={tmp_path / 'nowhere'}"])
    assert not list(tmp_path.iterdir())


def test_a_resume_finds_the_run_of_a_checkpoint(tmp_path: Path):
    step = tmp_path / "checkpoints" / "step_00000001"
    step.mkdir(parents=True)
    for given in (tmp_path, tmp_path / "checkpoints", step):
        assert f"hydra.run.dir='{tmp_path}'" in hydra_arguments([f"train.resume={given}"])
    assert "hydra.run.dir=x" in hydra_arguments([f"train.resume={step}", "hydra.run.dir=x"])
    assert not any("hydra.run.dir" in argument for argument in hydra_arguments(["train.resume=null"]))


def test_a_sweep_runs_its_jobs(say, recordings: Path, tmp_path: Path):
    sweep = ["--multirun", "seed=0,1", f"hydra.sweep.dir={tmp_path}", f"data.root={recordings}", "train.steps=1"]
    code, text = say(*runs.TINY, *sweep)
    assert code == 0, text
    states = [torch.load(registry.find(tmp_path / job) / checkpoint.STATE, weights_only=True) for job in ("0", "1")]
    assert [state["exactness"]["seed"] for state in states] == ["0", "1"]


@pytest.mark.parametrize("devices", ["2", "auto", "-1", "[0,1]"])
def test_a_sweep_of_several_processes_is_refused_with_the_reason(devices: str, say, tmp_path: Path):
    sweep = ("--multirun", "seed=0,1", f"hydra.sweep.dir={tmp_path}", "fabric=ddp", f"fabric.devices={devices}")
    code, text = say(*runs.TINY, *sweep)
    assert code == 2
    assert "--multirun: DDP starts its processes by the command line" in text


def test_a_recipe_of_ones_own_is_found(say, tmp_path: Path):
    (tmp_path / "conf" / "recipes").mkdir(parents=True)
    (tmp_path / "conf" / "recipes" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /optimizer: sgd\ntrain:\n  steps: 123\nseed: 4\n"
    )
    code, text = say("--config-dir", str(tmp_path / "conf"), "recipes=mine", "seed=5", "--cfg", "job")
    assert code == 0
    assert "_target_: torch.optim.SGD" in text
    assert "steps: 123" in text
    assert "seed: 5" in text
