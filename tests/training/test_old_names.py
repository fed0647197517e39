"""Runs, overrides and recipes of audiodiff 0.1 go on under today's names."""

import json
import sys
from pathlib import Path

import pytest
import runs
import tiny
import torch
import yaml
from hydra.errors import HydraException
from safetensors.torch import save_file

from audiodiff.cli import train
from audiodiff.compat import OVERRIDES, current_values
from audiodiff.models import checkpoint, registry
from audiodiff.training.config import compose, composition_message, plain
from audiodiff.training.overrides import hydra_arguments
from audiodiff.training.state import FIRST_STEP, FREE, MELS, flatten, is_among

NEW = {new: old for old, new in OVERRIDES.items()}
TARGETS = {
    "audiodiff.training.lr_schedule.": "audiodiff.training.schedule.",
    "audiodiff.training.run.train": "audiodiff.train.train",
    "audiodiff.models.synthesizer.": "audiodiff.synthesizer.",
    "audiodiff.models.conditioners.": "audiodiff.conditioners.",
    "audiodiff.models.representations.": "audiodiff.representations.",
    "audiodiff.diffusion.adaptive_density.": "audiodiff.diffusion.importance.",
}


def old_text(text: str) -> str:
    for new, old in TARGETS.items():
        text = text.replace(new, old)
    return text


def make_old(run: Path) -> None:
    """Rewrite a run folder with the names that audiodiff 0.1 gave."""
    overrides = run / ".hydra" / "overrides.yaml"
    overrides.write_text(overrides.read_text().replace("lr_schedule", "schedule"))
    folder = registry.find(run)
    config = yaml.safe_load((folder / checkpoint.CONFIG).read_text())
    config["model"]["starts_from_mel"] = config["model"].pop("warm_start")
    (folder / checkpoint.CONFIG).write_text(old_text(yaml.safe_dump(config, sort_keys=False)))
    state = torch.load(folder / checkpoint.STATE, weights_only=True)
    state["exactness"] = {
        next((key.replace(new, old, 1) for new, old in NEW.items() if key.startswith(new)), key): old_text(value)
        for key, value in state["exactness"].items()
    }
    assert "schedule._target_" in state["exactness"]
    assert "model.starts_from_mel" in state["exactness"]
    torch.save(state, folder / checkpoint.STATE)


def run_command(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["audiodiff", "train", *arguments])
    train.command(list(arguments))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_run_of_the_last_version_is_resumed_to_the_same_bits(recordings: Path, tmp_path: Path, monkeypatch):
    more = [*runs.TINY, f"data.root={recordings}", "density=loss_second_moment", "density.n_bins=2"]
    for name, steps in (("whole", 4), ("parts", 2)):
        run_command(*more, f"train.steps={steps}", f"hydra.run.dir={tmp_path / name}", monkeypatch=monkeypatch)
    make_old(tmp_path / "parts")
    run_command(f"train.resume={tmp_path / 'parts'}", "train.steps=4", monkeypatch=monkeypatch)
    runs.assert_same(runs.state(tmp_path / "parts"), runs.state(tmp_path / "whole"))


def test_old_overrides_are_those_of_today_with_a_notice(capsys: pytest.CaptureFixture[str]):
    given = ["schedule=constant", "schedule.warmup_steps=3", "model.starts_from_mel=true", "train.steps=1"]
    today = ["lr_schedule=constant", "lr_schedule.warmup_steps=3", "model.warm_start=true", "train.steps=1"]
    assert hydra_arguments(given)[:4] == today
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "schedule.warmup_steps is now lr_schedule.warmup_steps" in lines[1]
    with pytest.warns(FutureWarning, match=r"lr_schedule\.warmup_steps=3"):
        assert plain(compose(given[1:2]))["lr_schedule"]["warmup_steps"] == 3


@pytest.mark.parametrize("recipe", ["speech/vocoder", "techniques/shortcut"])
def test_a_recipe_has_the_values_of_the_last_version(recipe: str):
    # Otherwise a run of 0.1 could not be resumed exactly.
    saved = json.loads((Path(__file__).parent / "configurations_0_1.json").read_text())[recipe]
    today = flatten(plain(compose([f"recipes={recipe}", "data.root=embedded"])))
    # A state of the last version has no first step of the curve of the learning rate, which is 0 then.
    assert today.pop(FIRST_STEP, "0") == "0"
    # Nor has it adapters, which today's recipes do not train.
    assert (today.pop("train.lora.rank"), today.pop("train.lora.alpha")) == ("0", "None")
    # Nor has it settings of the mels of another system, and today's recipes name none.
    assert today["data.mels"] == "None"
    today = {name: value for name, value in today.items() if name not in MELS}
    assert without_free(today) == without_free(current_values(saved))


def without_free(values: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if not is_among(name, FREE)}


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_recipe_with_old_keys_is_read_as_of_today(tmp_path: Path):
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "mine.yaml").write_text(
        "# @package _global_\nschedule: {warmup_steps: 7, final: 0.5}\nmodel: {starts_from_mel: true}\n"
    )
    composed = compose(["recipes=mine", "lr_schedule.final=0.25"], config_folders=(tmp_path,))
    config = plain(composed)
    assert config["lr_schedule"]["warmup_steps"] == 7
    assert config["lr_schedule"]["final"] == 0.25
    assert config["model"]["warm_start"] is True
    assert "schedule" not in config
    assert "starts_from_mel" not in config["model"]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_checkpoint_with_a_horizon_loads_as_one_with_a_step_size(tmp_path: Path):
    jumps = (
        "model.denoiser.step_size="
        "{_target_:audiodiff.networks.step_size.StepSizeEmbedding,process:${process},n_features:8}"
    )
    folder = tiny.save(tmp_path, [*tiny.UNCONDITIONAL, "network.vector_features=8", jumps])
    new = checkpoint.load(folder, device="cpu").state_dict()
    config = (folder / checkpoint.CONFIG).read_text().replace("    step_size:", "    horizon:")
    old = "audiodiff.networks.horizon.HorizonEncoder"
    (folder / checkpoint.CONFIG).write_text(config.replace("audiodiff.networks.step_size.StepSizeEmbedding", old))
    weights = {name.replace("denoiser.step_size.", "denoiser.horizon."): value for name, value in new.items()}
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / checkpoint.WEIGHTS)
    assert weights.keys() != new.keys()
    loaded = checkpoint.load(folder, device="cpu").state_dict()
    assert loaded.keys() == new.keys()
    assert all(torch.equal(loaded[name], value) for name, value in new.items())


def test_a_recipe_that_overrides_an_old_group_is_told_the_new_one(tmp_path: Path):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /schedule: constant\n"
    )
    with pytest.raises(HydraException) as raised:
        compose(["recipes=mine"], config_folders=(tmp_path,))
    assert composition_message(raised.value).endswith("; schedule is now lr_schedule")
