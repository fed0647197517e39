"""A learnt noise schedule is one object: trained, averaged, saved, loaded and sampled with."""

from pathlib import Path

import runs
import torch
from safetensors.torch import load_file

import audiodiff
from audiodiff.diffusion.process import Variational
from audiodiff.models import checkpoint, registry
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.building import build_training_step

LEARNT = ("process=variational", "density=variational")


def test_every_part_of_a_model_in_training_has_the_same_schedule(recordings: Path):
    module = build_training_step(runs.config(recordings, *LEARNT))
    schedule = module.synthesizer.denoiser.schedule
    assert isinstance(schedule, Variational)
    assert module.synthesizer.denoiser.preconditioning.process is schedule
    assert module.synthesizer.sampler.grid.process is schedule
    assert module.density.process is schedule
    names = [name for name, _ in module.named_parameters() if "schedule" in name]
    assert names == [f"synthesizer.denoiser.schedule.{name}" for name in ("logits", "centre_logits", "log_widths")]


def test_a_process_without_memory_adds_no_weights(recordings: Path):
    module = build_training_step(runs.config(recordings))
    assert not [name for name in module.state_dict() if "schedule" in name]


def test_a_loaded_model_samples_with_the_averaged_learnt_schedule(recordings: Path, tmp_path: Path):
    runs.trained(recordings, tmp_path / "run", *LEARNT, "train.steps=4", "optimizer.lr=0.05")
    state = runs.state(tmp_path / "run")
    logits = state["model"]["denoiser.schedule.logits"]
    assert not torch.equal(logits, Variational().logits)
    assert not torch.equal(logits, state["ema"]["denoiser.schedule.logits"])
    saved = load_file(registry.find(tmp_path / "run") / checkpoint.WEIGHTS)

    model = audiodiff.load(tmp_path / "run", device="cpu")
    assert isinstance(model, Synthesizer)
    own = Variational()
    own.load_state_dict({name: saved[f"denoiser.schedule.{name}"] for name in own.state_dict()})
    grid = model.sampler.grid
    times = torch.linspace(grid.t_start, grid.t_end, 5, dtype=torch.float64)[:-1]
    assert torch.equal(grid(4)[:-1], own.sigma(times))
    assert not torch.allclose(grid(4)[:-1], Variational().sigma(times))
