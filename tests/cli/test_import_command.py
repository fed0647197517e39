"""`audiodiff import` as a person uses it: whose checkpoints get in, and what is refused before anything is written."""

import json
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
import sounds
import torch
from peers import model, params
from safetensors.torch import save_file

from audiodiff.cli.generate import generate_command
from audiodiff.cli.import_checkpoint import import_command
from audiodiff.io.audio import read
from audiodiff.models.checkpoint import load

run, made, refusal = commands.of(import_command)
_, generated, _ = commands.of(generate_command)
SETTINGS = {**params.params, "residual_channels": 4, "residual_layers": 2, "dilation_cycle_length": 2}


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return model.DiffWave(params.AttrDict(SETTINGS)).state_dict()


@pytest.fixture
def checkpoint(tmp_path, weights) -> Path:
    torch.save({"step": 7, "model": weights, "params": dict(SETTINGS)}, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def test_an_imported_checkpoint_generates_and_has_a_card(tmp_path, checkpoint):
    assert "diffwave" in made(checkpoint, "-o", tmp_path / "mine", "--licence", "Apache-2.0")
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "family: diffwave" in card
    assert "SHA256" in card
    assert load(tmp_path / "mine").licence == "Apache-2.0"
    recording = sounds.write(tmp_path / "a.wav", 4000, sample_rate=22050)
    generated(recording, "--model", tmp_path / "mine", "-o", tmp_path / "b.wav")
    audio, rate = read(tmp_path / "b.wav")
    assert (rate, audio.shape[-1]) == (22050, 4000)


def test_a_file_is_taken_as_a_model_directly(tmp_path, checkpoint):
    made(checkpoint, "-o", tmp_path / "mine")
    np.save(tmp_path / "mel.npy", np.full((80, 5), 0.3, dtype=np.float32))
    with pytest.warns(UserWarning, match="was read as a checkpoint of diffwave"):
        direct = load(checkpoint)
    mel = torch.full((80, 5), 0.3)
    assert torch.equal(direct.generate(mel, seed=3), load(tmp_path / "mine").generate(mel, seed=3))


def test_safetensors_and_weights_of_data_parallel_training_get_in(tmp_path, weights):
    save_file({f"module.{name}": weight for name, weight in weights.items()}, tmp_path / "weights.safetensors")
    said = made(tmp_path / "weights.safetensors", "-o", tmp_path / "mine", "--set", "dilation_cycle=2")
    assert "sample_rate=22050" in said
    assert "dilation_cycle" not in said


def test_what_the_file_does_not_say_is_said(tmp_path, weights):
    torch.save(weights, tmp_path / "weights.pt")
    said = made(tmp_path / "weights.pt", "-o", tmp_path / "mine")
    assert "assumed, since the file does not say it: family=diffwave (PriorGrad's" in said
    assert "sample_rate=22050, n_fft=1024" in said


class Payload:
    """Leaves a mark where unpickling it runs code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_a_file_that_would_run_code_is_refused_unread(tmp_path, weights):
    torch.save({"model": weights, "args": Payload(tmp_path / "mark")}, tmp_path / "weights.pt")
    message = refusal(tmp_path / "weights.pt", "-o", tmp_path / "mine")
    assert "reading it could run code" in message
    assert "torch.save(torch.load(" in message
    assert not (tmp_path / "mark").exists()
    assert not (tmp_path / "mine").exists()


def spoiled(weights: dict[str, torch.Tensor], how: str) -> Any:
    first = next(iter(weights))
    if how == "missing":
        return {name: weight for name, weight in weights.items() if name != "skip_projection.bias"}
    if how == "unknown":
        return {**weights, "skip_projection.gain": torch.ones(1)}
    if how == "shape":
        return {**weights, "skip_projection.bias": torch.zeros(9)}
    return {"other." + first: weights[first]}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "denoiser.network.skip_projection.bias of the model is missing"),
        ("unknown", "denoiser.network.skip_projection.gain is not one of the model's"),
        ("shape", r"skip_projection.bias has shape (9,), the model (4,)"),
        ("family", "is of no known family (diffwave, "),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, weights, how, message):
    torch.save({"model": spoiled(weights, how), "params": SETTINGS}, tmp_path / "weights.pt")
    assert message in refusal(tmp_path / "weights.pt", "-o", tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "wavenet"], "--from wavenet must be one of diffwave, "),
        (["--from", "vocos"], "is no checkpoint of vocos: it has the weights of diffwave"),
        (["--set", "rate=8000"], "--set rate: diffwave takes sample_rate (Hz)"),
        (["--set", "sample_rate=high"], "--set sample_rate=high must be a whole number"),
        (["--set", "schedule=slow"], "--set schedule=slow must be fast or full"),
        (["--set", "hop_length=300"], "hop_length=300 does not fit the upsampler of the file, 256"),
        (["--set", "sample_rate"], "--set sample_rate must be NAME=VALUE"),
        (["--config", "absent.json"], "absent.json cannot be read"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path, monkeypatch, checkpoint, options, message):
    monkeypatch.chdir(tmp_path)
    assert message in refusal(checkpoint, "-o", tmp_path / "mine", *options)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "is damaged, or no file of torch.save"), (b"PK\x03\x04 and no more", "is damaged")]
)
def test_damaged_files_are_refused(tmp_path, content, message):
    (tmp_path / "weights.pt").write_bytes(content)
    assert message in refusal(tmp_path / "weights.pt", "-o", tmp_path / "mine")


def test_a_truncated_file_is_refused(tmp_path, checkpoint):
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data[: len(data) // 2])
    assert "is damaged" in refusal(checkpoint, "-o", tmp_path / "mine")


def test_a_configuration_of_another_type_is_refused(tmp_path, checkpoint):
    (tmp_path / "config.json").write_text(json.dumps({"sample_rate": "fast"}))
    assert "setting sample_rate='fast' must be a whole number" in refusal(checkpoint, "-o", tmp_path / "mine")
    (tmp_path / "config.json").write_text("[1, 2]")
    assert "must hold names and values" in refusal(checkpoint, "-o", tmp_path / "mine")


def test_a_folder_with_other_files_is_never_overwritten(tmp_path, checkpoint):
    made(checkpoint, "-o", tmp_path / "mine")
    assert "give --force to replace it" in refusal(checkpoint, "-o", tmp_path / "mine")
    made(checkpoint, "-o", tmp_path / "mine", "--force")
    (tmp_path / "mine" / "notes.txt").touch()
    assert "holds notes.txt" in refusal(checkpoint, "-o", tmp_path / "mine", "--force")
