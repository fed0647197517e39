"""Training on degraded recordings: what is told, how loud it is, and that it is learnt from."""

from pathlib import Path

import pytest
import runs
import torch

import audiodiff
from audiodiff.condition import Condition
from audiodiff.dsp.level import active_rms
from audiodiff.errors import ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.models.conditioners.degraded import DegradedConditioner
from audiodiff.training.building import build_training_step
from audiodiff.training.restoration import Restoration
from audiodiff.training.run import train
from audiodiff.training.step import Float32Batch, TrainingStep

TELLING = (
    "audio=plain",
    "conditioner=degraded",
    "network=spectral_restorer",
    "method=restoration",
    "objective.by_noisy=true",
    "validation=loss",
)
ONLY = dict.fromkeys(("recorded", "coloured", "babble", "low_passed", "clipped", "gaps", "untouched"), 0.0)


def step(root: Path, *more: str) -> TrainingStep:
    torch.manual_seed(0)
    return build_training_step(runs.config(root, *TELLING, *more))


def only(**shares: float) -> tuple[str, ...]:
    return tuple(f"method.shares.{name}={share}" for name, share in {**ONLY, **shares}.items())


def seen(module: TrainingStep, batch: Float32Batch, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, Condition]:
    """Return the noisy signal and the condition that a step gives to the denoiser."""
    caught: list[tuple[torch.Tensor, Condition]] = []
    denoiser = module.synthesizer.denoiser
    forward = denoiser.forward

    def watched(x: torch.Tensor, sigma: torch.Tensor, condition: Condition):
        caught.append((x, condition))
        return forward(x, sigma, condition)

    monkeypatch.setattr(denoiser, "forward", watched)
    module(batch, torch.Generator().manual_seed(0))
    return caught[0]


def test_what_is_told_is_at_the_level_and_the_truth_at_the_same_gain(recordings: Path, monkeypatch: pytest.MonkeyPatch):
    module = step(recordings, *only(untouched=1.0), "method.spread_db=0.0", "conditioner.dropout=0.0")
    audio = (
        torch.randn(3, 1, 4000, generator=torch.Generator().manual_seed(1))
        * torch.tensor([0.01, 0.1, 1.0])[:, None, None]
    )
    _, condition = seen(module, Float32Batch(audio), monkeypatch)
    assert condition.signal is not None
    told, known = condition.signal[:, :1], condition.signal[:, 1:]
    assert bool((known == 1).all())
    levels = active_rms(told[:, 0], sample_rate=16000)
    assert torch.allclose(levels, torch.full((3,), 0.07), rtol=1e-4)
    assert torch.allclose(told / told.abs().amax(-1, True), audio / audio.abs().amax(-1, True), atol=1e-5)


def test_padding_is_told_as_unknown(recordings: Path, monkeypatch: pytest.MonkeyPatch):
    module = step(recordings, *only(coloured=1.0), "conditioner.dropout=0.0")
    audio = 0.1 * torch.randn(2, 1, 4000, generator=torch.Generator().manual_seed(1))
    audio[1, :, 2500:] = 0.0
    x, condition = seen(module, Float32Batch(audio, torch.tensor([4000, 2500])), monkeypatch)
    assert condition.signal is not None
    assert not bool(condition.signal[1, :, 2500:].any())
    assert bool(condition.signal[0, 1].all())
    assert not bool(x[1, :, 2500:].any())


def test_recorded_noise_comes_from_the_training_split(tmp_path: Path, recordings: Path):
    for index, split in enumerate(("train", "test")):
        tone = 0.1 * (1 + index) * torch.sin(2.0 * torch.pi * torch.arange(22050) / 50)
        audio_io.write(tmp_path / f"{split}.wav", tone[None], sample_rate=22050)
    (tmp_path / "noise.csv").write_text("path,split\ntrain.wav,train\ntest.wav,test\n")
    module = step(
        recordings, *only(recorded=1.0), f"method.noise_root={tmp_path / 'noise.csv'}", "audio.sample_rate=22050"
    )
    assert isinstance(module, Restoration)
    recorded = module.corruption.kinds["recorded"].first.recordings
    assert [round(float(each.square().mean().sqrt()) * 2**0.5, 3) for each in recorded] == [0.1]
    other = step(recordings, *only(coloured=1.0))
    assert module.dependencies() != other.dependencies()


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        (("method.noise_root=/no/such/folder",), ParameterError, "method: noise_root=/no/such/folder does not exist"),
        (only(recorded=1.0), ParameterError, "some must be positive"),
        (("method.spread_db=-1.0",), ParameterError, "spread_db=-1.0 must not be negative"),
        (("+method.shares.hum=0.5",), ParameterError, "shares has .*hum"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(recordings: Path, more: tuple[str, ...], error: type, message: str):
    with pytest.raises(error, match=message):
        step(recordings, *more)


def test_told_a_recording_as_it_is_a_model_soon_returns_it(recordings: Path, tmp_path: Path):
    """A model that is told the truth has a loss of nearly nothing; one that is told nothing has not."""
    more = (
        *only(untouched=1.0),
        "conditioner.dropout=0.5",
        "optimizer.lr=3e-3",
        "train.steps=60",
        "train.ema_decay=0.0",
    )
    train(runs.config(recordings, *TELLING, *more, "train.batch_size=4"), run=tmp_path)
    model = audiodiff.load(tmp_path, device="cpu")
    audio = 0.07 * torch.randn(2, 1, 2000, generator=torch.Generator().manual_seed(5)).cumsum(-1).diff(
        dim=-1, prepend=torch.zeros(2, 1, 1)
    )
    sigma = torch.full((2,), 50.0)
    x = audio + 50.0 * torch.randn(audio.shape, generator=torch.Generator().manual_seed(6))
    errors = []
    with torch.no_grad():
        for condition in (DegradedConditioner()(audio), Condition()):
            errors.append(float((model.denoiser(x, sigma, condition).denoised - audio).square().mean()))
    assert errors[0] < 0.3 * errors[1]
