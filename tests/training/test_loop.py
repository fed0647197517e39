"""What a run does: learns, logs, measures, and stops at a loss that is not finite."""

import json
import math
from pathlib import Path

import pytest
import runs
import torch

import audiodiff
from audiodiff.diffusion.density import UniformTime
from audiodiff.errors import ParameterError, TrainingError
from audiodiff.io import audio as audio_io
from audiodiff.models import checkpoint, registry
from audiodiff.training import building
from audiodiff.training.fabric import resolve_precision
from audiodiff.training.log import NoiseLevels
from audiodiff.training.loop import TrainSettings
from audiodiff.training.step import Denoising


def test_a_network_learns_a_harmonic_tone_in_tens_of_steps(tmp_path: Path):
    time = torch.arange(22050) / 22050
    tone = sum(torch.sin(2 * math.pi * 220 * k * time) / k for k in range(1, 6))
    for name in ("a", "b"):
        audio_io.write(tmp_path / "tone" / f"{name}.wav", 0.2 * tone[None], sample_rate=22050)
    way = ("network.channels=48", "network.n_layers=3", "train.batch_size=4", "data.crop_frames=16")
    way = (*way, "optimizer.lr=3e-3", "train.ema_decay=0.0", "validation.n_loss_examples=8", "validation.metrics=[]")
    begun = runs.trained(tmp_path / "tone", tmp_path / "begun", *way, "train.steps=1").metrics["loss"]
    learnt = runs.trained(tmp_path / "tone", tmp_path / "learnt", *way, "train.steps=80").metrics["loss"]
    # An output of 0 has the loss of the silent guess, near `begun`; measured: 0.1 of it.
    assert learnt < 0.3 * begun


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_every_optimizer_lowers_the_loss(optimizer: str, recordings: Path, tmp_path: Path):
    same = (f"optimizer={optimizer}", "train.ema_decay=0.0", "validation.n_loss_examples=8")
    first = runs.trained(recordings, tmp_path / "first", *same, "train.steps=1").metrics["loss"]
    last = runs.trained(recordings, tmp_path / "last", *same, "train.steps=15").metrics["loss"]
    assert last < first


@pytest.fixture
def broken_from_step_three(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Denoising.forward
    calls = iter(range(1000))

    def broken(self: Denoising, *arguments):
        losses, plain, sigma = forward(self, *arguments)
        # One call tries the parts together.
        return (losses * math.nan if next(calls) == 3 else losses), plain, sigma

    monkeypatch.setattr(Denoising, "forward", broken)


@pytest.mark.usefixtures("broken_from_step_three")
def test_a_nan_loss_stops_training_and_keeps_the_last_good_checkpoint(recordings: Path, tmp_path: Path):
    with pytest.raises(TrainingError, match=r"step 3: loss=nan .* must be finite"):
        runs.trained(recordings, tmp_path / "run", "train.steps=9", "train.save_every=1")
    assert runs.newest(tmp_path / "run") == "step_00000002"
    model = audiodiff.load(tmp_path / "run", device="cpu")
    assert all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())


def test_weights_that_are_no_numbers_are_not_saved(recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("audiodiff.training.learner._check_finite", lambda *_, **__: None)
    with pytest.raises(TrainingError, match=r"the weight .* is not finite"):
        runs.trained(
            recordings, tmp_path / "run", "train.steps=4", "optimizer=sgd", "optimizer.lr=1e38", "train.clip_norm=null"
        )
    assert runs.newest(tmp_path / "run") == ""


def test_the_checkpoint_tells_the_newest_validation(recordings: Path, tmp_path: Path):
    outcome = runs.trained(recordings, tmp_path / "run", "train.steps=2")
    folder = registry.find(tmp_path / "run")
    told = json.loads((folder / checkpoint.METRICS).read_text())
    assert told == {"step": 2, "validation": outcome.metrics}
    assert set(outcome.metrics) == {"loss", "lsd"}
    assert f"| lsd | {outcome.metrics['lsd']:.4g} |" in (folder / checkpoint.CARD).read_text()


def test_old_checkpoints_go_and_keep_stay(recordings: Path, tmp_path: Path):
    runs.trained(recordings, tmp_path / "run", "train.steps=5", "train.save_every=1", "train.keep=2")
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["latest", "step_00000004", "step_00000005"]


def test_accumulating_two_batches_is_one_batch_of_both(recordings: Path, tmp_path: Path, monkeypatch):
    # Without noise, and so with nothing random, the two see the same examples.
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(*shape))
    monkeypatch.setattr(UniformTime, "__call__", lambda _, n, **__: torch.full((n,), 0.1))
    monkeypatch.setattr(building, "range_problems", lambda **_: ())  # Training at one level suits no grid.
    same = ("train.steps=2", "optimizer=sgd", "optimizer.lr=0.1")
    runs.trained(recordings, tmp_path / "one", *same, "train.batch_size=4")
    runs.trained(recordings, tmp_path / "two", *same, "train.batch_size=2", "train.accumulate=2")
    one, two = (runs.state(tmp_path / name)["model"] for name in ("one", "two"))
    # Sums in another order: float32 rounding of two small steps.
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_noise_levels_are_means_per_decade_of_sigma():
    levels = NoiseLevels()
    levels.add(torch.tensor([1.0, 3.0, 10.0]), torch.tensor([0.02, 0.05, 2.0]))
    levels.add(torch.tensor([5.0]), torch.tensor([0.09]))
    assert levels.take() == {"loss_by_sigma/1e-2": 3.0, "loss_by_sigma/1e0": 10.0}
    assert levels.take() == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", 0), ("keep", 0), ("batch_size", 0), ("accumulate", 0), ("log_every", 0), ("save_every", -1)],
)
def test_a_setting_that_cannot_be_is_refused_by_name(name: str, value: int):
    good = {
        "steps": 1,
        "batch_size": 1,
        "accumulate": 1,
        "log_every": 1,
        "save_every": 0,
        "validate_every": 0,
        "keep": 1,
    }
    with pytest.raises(ParameterError, match=f"train.{name}={value}"):
        TrainSettings(**(good | {name: value}), clip_norm=None, ema_decay=0.9, seed=0)


def test_precision_is_known_or_refused():
    assert resolve_precision("32-true", accelerator="cpu") == "32-true"
    assert resolve_precision("auto", accelerator="cpu") in ("32-true", "bf16-mixed")
    with pytest.raises(ParameterError, match=r"fabric\.precision=16-mixed"):
        resolve_precision("16-mixed", accelerator="cpu")
