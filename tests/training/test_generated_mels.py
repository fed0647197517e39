"""A vocoder is told mels as the first stage makes them, of the same sound; what it is told by labels is theirs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import runs
import tiny
import torch
from torch import Tensor, nn

from audiodiff.condition import Condition
from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.density import UniformTime
from audiodiff.diffusion.grid import TimeUniform
from audiodiff.diffusion.objective import Plain
from audiodiff.diffusion.preconditioning import Sample
from audiodiff.diffusion.process import Flow
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import solver
from audiodiff.dsp.mel import dialect
from audiodiff.errors import MelError, ParameterError, TrainingError
from audiodiff.models import checkpoint, registry
from audiodiff.models.conditioners.labels import LabelConditioner
from audiodiff.models.conditioners.mel import MelConditioner
from audiodiff.models.examples import training_example
from audiodiff.models.representations.log_mel import LogMelRepresentation
from audiodiff.models.representations.waveform import WaveformRepresentation
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.networks.network import Network
from audiodiff.training.generated_mels import OnGeneratedMels, levels_below
from audiodiff.training.step import Float32Batch
from audiodiff.types import ReceptiveField

OWN = dialect("hifigan", sample_rate=8000, n_fft=256, win_length=256, hop_length=64, n_mels=20, f_max=4000.0)
PROCESS = Flow(noise_scale=1.0)
LABELS = {"digit": ["0", "1", "2"], "speaker": ["ann", "bob"]}
Function = Callable[[Tensor, Tensor, Condition], Tensor]
"""(x, sigma, condition) -> D."""


class Known(Network):
    """A network that is a given denoiser, and keeps what it was told."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function
        self.unused = nn.Parameter(torch.zeros(()))
        self.told: list[Condition] = []

    @property
    def receptive_field(self) -> ReceptiveField:
        return ReceptiveField(0, 0)

    def encode(self, condition: Condition) -> Condition:
        self.told.append(condition)
        return condition

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        sigma = PROCESS.sigma(c_noise)
        return self.function(x / pad_dims_like(PROCESS.input_scale(sigma), x), sigma, condition) + self.unused


def synthesizer(function: Function, *, stage: str, t_start: float = 0.99) -> Synthesizer:
    representation = LogMelRepresentation(dialect=OWN) if stage == "first" else WaveformRepresentation()
    if isinstance(representation, LogMelRepresentation):
        representation.mean.fill_(-5.0)
        representation.std.fill_(2.0)
    return Synthesizer(
        sample_rate=8000,
        dialect=OWN,
        representation=representation,
        conditioner=LabelConditioner(LABELS) if stage == "first" else MelConditioner(dialect=OWN),
        denoiser=Denoiser(Known(function), Sample(PROCESS)),
        sampler=Sampler(solver("euler"), TimeUniform(PROCESS, t_start=t_start), n_steps=4),
        n_iterations=1,
    )


def step(
    first: Function, *, share_true: float = 0.0, vocabularies: Any = LABELS, sigma_max: float = 1.0
) -> OnGeneratedMels:
    return OnGeneratedMels(
        synthesizer=synthesizer(lambda x, sigma, condition: 0.0 * x, stage="second"),
        objective=Plain(),
        density=UniformTime(PROCESS),
        first_stage=synthesizer(first, stage="first"),
        vocabularies=vocabularies,
        sigma_max=sigma_max,
        n_steps=3,
        share_true=share_true,
    )


def sound(n: int = 4, *, n_samples: int = 64 * 20) -> Tensor:
    return 0.1 * torch.randn(n, 1, n_samples, generator=torch.Generator().manual_seed(0))


def told_mel(module: OnGeneratedMels, batch: Float32Batch) -> Tensor:
    """Return the mels that the vocoder is told in a step."""
    module(batch, torch.Generator().manual_seed(1))
    frames = _network(module.synthesizer).told[-1].frames
    assert frames is not None
    return frames


def _network(model: Synthesizer) -> Known:
    network = model.denoiser.network
    assert isinstance(network, Known)
    return network


def test_a_first_stage_that_knows_the_mel_gives_it_back_from_any_noise():
    audio = sound()
    x0 = (OWN.mel(audio[:, 0]) + 5.0) / 2.0
    mel = told_mel(step(lambda x, sigma, condition: x0), Float32Batch(audio))
    assert torch.allclose(mel, OWN.mel(audio[:, 0]), atol=1e-4)


def test_a_first_stage_that_takes_all_for_noise_says_its_mean():
    mel = told_mel(step(lambda x, sigma, condition: 0.0 * x), Float32Batch(sound()))
    assert torch.allclose(mel, torch.full_like(mel, -5.0), atol=1e-5)


def test_the_noise_of_a_mel_is_of_the_level_that_the_first_stage_is_told():
    seen: list[tuple[float, float]] = []
    audio = sound(2, n_samples=64 * 2000)
    x0 = (OWN.mel(audio[:, 0]) + 5.0) / 2.0

    def spy(x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        for level, remainder in zip(sigma.tolist(), x - x0, strict=True):
            seen.append((level, float(remainder.std())))
        return x0

    told_mel(step(spy), Float32Batch(audio))
    assert len(seen) == 2 * 3
    n = x0[0].numel()
    for level, measured in seen:
        assert measured == pytest.approx(level, rel=5.0 / (2 * n) ** 0.5)
    assert max(level for level, _ in seen) <= 1.0


def test_a_share_of_the_examples_keeps_the_mel_of_its_recording():
    n, share = 400, 0.25
    audio = sound(1).expand(n, -1, -1)
    true = OWN.mel(audio[:, 0])
    mel = told_mel(step(lambda x, sigma, condition: 0.0 * x, share_true=share), Float32Batch(audio))
    kept = (mel == true).flatten(1).all(dim=1)
    assert not bool((mel == true)[~kept].any())
    assert abs(float(kept.float().mean()) - share) < 4.0 * (share * (1 - share) / n) ** 0.5
    assert torch.equal(told_mel(step(lambda x, sigma, condition: 0.0 * x, share_true=1.0), Float32Batch(audio)), true)


def test_levels_are_drawn_evenly_in_the_clock_and_end_in_zero():
    grid = TimeUniform(PROCESS, t_start=0.9)
    chance = torch.linspace(0.0, 0.9, 7)
    levels = levels_below(3.0, chance, grid=grid, n_steps=4)
    # sigma = t / (1 - t), and 3 is t = 0.75.
    t = 0.75 * (1.0 - chance.double())[None] * torch.linspace(1.0, 0.0, 5, dtype=torch.float64)[:, None]
    assert torch.allclose(levels / (1.0 + levels), t, atol=0.9 / 256**2)


def test_labels_of_the_data_are_told_to_the_first_stage_by_name():
    module = step(
        lambda x, sigma, condition: 0.0 * x,
        vocabularies={"room": ["hall"], "digit": ["2", "9", "0"], "speaker": ["bob"]},
    )
    labels = torch.tensor([[0, 0, 0], [0, 1, -1], [-1, 2, 0], [0, -1, -1]])
    told_mel(module, Float32Batch(sound(), labels=labels))
    vector = _network(module.first_stage).told[-1].vector
    assert vector is not None
    assert vector.tolist() == [[0, 0, 1, 0, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 1], [0, 0, 0, 0, 0]]


def test_what_follows_a_clip_changes_no_mel_of_it():
    module = step(lambda x, sigma, condition: 0.5 * x)
    audio = sound(3)
    n_valid = torch.tensor([64 * 12, 64 * 20, 64 * 7])
    inside = torch.arange(audio.shape[-1]) < n_valid[:, None]
    audio = audio * inside[:, None]
    mel = told_mel(module, Float32Batch(audio, n_valid))
    true = training_example(module.synthesizer, audio, n_valid=n_valid)[1].frames
    assert true is not None
    for index, n in enumerate(n_valid.tolist()):
        alone = OWN.mel(audio[index, :, :n])
        assert torch.allclose(true[index, :, : n // 64], alone[0], atol=1e-6)
        assert torch.allclose(true[index, :, n // 64 :], alone[0, :, -1:], atol=1e-6)
        n_frames = n // 64
        # The last frame that the first stage made goes on.
        after = mel[index, :, n_frames - 1 : n_frames].expand(-1, mel.shape[-1] - n_frames)
        assert torch.equal(mel[index, :, n_frames:], after)


def test_what_cannot_be_is_refused_by_name():
    def nothing(x: torch.Tensor, sigma: torch.Tensor, condition: Condition) -> torch.Tensor:
        return 0.0 * x

    with pytest.raises(ParameterError, match=r"method\.sigma_max=200.0 must be positive and at most 99"):
        step(nothing, sigma_max=200.0)
    with pytest.raises(ParameterError, match=r"method\.share_true=1.5"):
        step(nothing, share_true=1.5)
    module = step(nothing)
    with pytest.raises(ParameterError, match="makes no mel"):
        OnGeneratedMels(
            synthesizer=module.synthesizer,
            objective=Plain(),
            density=UniformTime(PROCESS),
            first_stage=module.synthesizer,
            vocabularies=None,
            sigma_max=1.0,
            n_steps=1,
            share_true=0.0,
        )


def test_a_fine_tuned_vocoder_is_a_plain_one_and_resumes_to_the_bit(tmp_path: Path):
    root = runs.recordings(tmp_path / "data")
    mel = tiny.save(tmp_path / "mel", tiny.LOG_MEL)
    base = tmp_path / "base"
    runs.trained(root, base, "train.steps=1")
    method = ["method=on_generated_mels", f"method.first_stage.where={mel}", f"train.init_from={base}"]
    runs.trained(root, tmp_path / "whole", *method, "train.steps=3")
    runs.trained(root, tmp_path / "part", *method, "train.steps=2")
    runs.resumed(root, tmp_path / "part", *method, "train.steps=3")
    runs.assert_same(runs.state(tmp_path / "whole")["model"], runs.state(tmp_path / "part")["model"])
    assert "first_stage" not in (registry.find(tmp_path / "whole") / checkpoint.CONFIG).read_text()
    made, before = (checkpoint.load(run, device="cpu").state_dict() for run in (tmp_path / "whole", base))
    assert made.keys() == before.keys()
    assert any(not torch.equal(made[name], before[name]) for name in made)
    other = tiny.save(tmp_path / "other", tiny.LOG_MEL, seed=1)
    with pytest.raises(TrainingError, match="first_stage"):
        runs.resumed(root, tmp_path / "part", *method, f"method.first_stage.where={other}", "train.steps=4")
    with pytest.raises(ParameterError, match="a first stage is needed"):
        runs.trained(root, tmp_path / "none", "method=on_generated_mels", "train.steps=1")
    narrow = tiny.save(tmp_path / "narrow", [*tiny.LOG_MEL, "audio.n_mels=40"])
    with pytest.raises((ParameterError, MelError), match="n_mels"):
        runs.trained(root, tmp_path / "none", *method, f"method.first_stage.where={narrow}", "train.steps=1")
