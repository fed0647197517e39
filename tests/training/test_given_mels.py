"""Training on another system's mels: what the model is shown, refusals, and imported models."""

from pathlib import Path

import numpy as np
import pytest
import runs
import torch

import audiodiff
from audiodiff.dsp.mel import dialect
from audiodiff.errors import ParameterError
from audiodiff.io.audio import read
from audiodiff.models import checkpoint
from audiodiff.training.building import build_training_step
from audiodiff.training.run import build
from audiodiff.training.step import Float32Batch

HIFIGAN = dialect("hifigan")


@pytest.fixture(scope="module")
def mels(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write mels that are 2 nepers louder than those of the recordings, normalised."""
    folder = tmp_path_factory.mktemp("mels")
    for path in recordings.rglob("*.wav"):
        mel = HIFIGAN.mel(read(path)[0][0])
        np.save(folder / f"{path.stem}.npy", ((mel + 0.5 + 5.5) / 2.1).numpy())
    return folder


def given(mels: Path) -> tuple[str, ...]:
    return (f"data.mels={mels}", 'data.mels_dialect="hifigan:mean=-5.5,std=2.1"')


def test_training_shows_the_model_the_given_mels(recordings: Path, mels: Path, tmp_path: Path):
    run = build(runs.config(recordings, *given(mels)), run=tmp_path / "run")
    example = run.dataset[0]
    # Frames in the middle see the crop alone; the constant offset of a recording is left out of its crops.
    difference = example["mel"][4:, 3:5] - HIFIGAN.mel(example["audio"][0])[4:, 3:5]
    torch.testing.assert_close(difference, torch.full_like(difference, 0.5), atol=0.01, rtol=0)
    seen = []
    network = run.learner.module.synthesizer.denoiser.network
    encode = network.encode
    network.encode = lambda condition: seen.append(condition.frames) or encode(condition)
    batch = Float32Batch(example["audio"][None], mel=example["mel"][None])
    run.learner.module(batch, torch.Generator().manual_seed(0))
    assert torch.equal(seen[0][0], example["mel"])


def test_a_run_on_given_mels_trains_validates_and_tells_their_fit(recordings: Path, mels: Path, tmp_path: Path, capsys):
    outcome = runs.trained(recordings, tmp_path / "run", "train.steps=2", *given(mels))
    assert outcome.step == 2
    assert "at lag 0" in capsys.readouterr().err
    assert audiodiff.load(tmp_path / "run").dialect == HIFIGAN


def test_the_refiner_turns_the_level_of_the_mel_with_the_recordings(recordings: Path, mels: Path):
    module = build_training_step(runs.config(recordings, "preset=refiner"))
    audio = 0.1 * torch.randn(2, 1, 16 * 256, generator=torch.Generator().manual_seed(0))
    mel = HIFIGAN.mel(audio[:, 0])
    varied = module._varied(Float32Batch(audio, mel=mel), torch.Generator().manual_seed(1))
    torch.testing.assert_close(varied.mel, HIFIGAN.mel(varied.audio[:, 0]), atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("conditioner=none",), "has no meaning for a model without conditioner=mel"),
        (("data.mels_tolerance=-1",), "data.mels_tolerance=-1 must be a whole number"),
    ],
)
def test_given_mels_are_refused_where_they_have_no_meaning(recordings, mels, tmp_path, overrides, message):
    with pytest.raises(ParameterError, match=message):
        build(runs.config(recordings, *given(mels), *overrides), run=tmp_path / "run")


def test_a_run_takes_the_whole_model_of_a_checkpoint(recordings: Path, mels: Path, tmp_path: Path):
    """Also one that no group of the configuration describes: here of another width and an imported sampler."""
    runs.trained(recordings, tmp_path / "first", "train.steps=1", "network.n_layers=3", "validation.n_examples=0")
    taken = ("train.init_model=true", f"train.init_from={tmp_path / 'first'}", *given(mels))
    config = runs.config(recordings, *taken)
    saved = checkpoint.read_config(tmp_path / "first" / "checkpoints" / "step_00000001")["model"]
    assert config["model"]["denoiser"]["network"]["n_layers"] == 3
    assert config["model"] == saved
    run = build(config, run=tmp_path / "second")
    before = audiodiff.load(tmp_path / "first").state_dict()
    assert all(torch.equal(before[name], value) for name, value in run.learner.module.synthesizer.state_dict().items())
    with pytest.raises(ParameterError, match=r"train.init_from=MODEL"):
        runs.config(recordings, "train.init_model=true")
