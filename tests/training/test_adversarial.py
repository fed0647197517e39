"""Adversarial fine-tuning: whose gradient is whose, what is zero where it must be, and what a regression cannot do."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audiodiff.condition import Condition
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.density import UniformTime
from audiodiff.diffusion.grid import TimeUniform
from audiodiff.diffusion.objective import Plain
from audiodiff.diffusion.preconditioning import Sample
from audiodiff.diffusion.process import Flow
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import solver
from audiodiff.dsp.mel import dialect
from audiodiff.errors import ParameterError
from audiodiff.models.conditioners.none import NoConditioner
from audiodiff.models.representations.waveform import WaveformRepresentation
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.networks.discriminators import Discriminators
from audiodiff.networks.network import Network
from audiodiff.training.adversarial import Adversarial
from audiodiff.training.step import Float32Batch
from audiodiff.types import ReceptiveField

PROCESS = Flow()
RATE, LENGTH = 8000, 256
MEL = dialect("vocos", sample_rate=RATE, n_fft=128, hop_length=32, win_length=128, n_mels=16)


@dataclass
class Calls:
    """The clock at every call of a network."""

    times: list[float]


class Given(Network):
    """A network whose estimate is a function of x and of one weight."""

    receptive_field = ReceptiveField(0, 0)

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], calls: Calls) -> None:
        super().__init__()
        self.function, self.calls = function, calls
        self.weight = nn.Parameter(torch.tensor(0.1))

    def encode(self, condition: Condition) -> Condition:
        return condition

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        self.calls.times.append(float(c_noise[0]))
        return self.function(x, self.weight)


torch.manual_seed(0)
ALL = Discriminators(periods=[2, 3], resolutions=[[64, 16, 64]], channels=2)


def step(
    function: Callable[[Tensor, Tensor], Tensor], *, discriminators: Discriminators = ALL, **settings: Any
) -> Adversarial:
    synthesizer = Synthesizer(
        sample_rate=RATE,
        representation=WaveformRepresentation(),
        conditioner=NoConditioner(),
        denoiser=Denoiser(Given(function, Calls([])), Sample(PROCESS)),
        sampler=Sampler(solver("euler"), TimeUniform(PROCESS), n_steps=1),
    )
    return Adversarial(
        synthesizer=synthesizer,
        objective=Plain(),
        density=UniformTime(PROCESS),
        discriminators=deepcopy(discriminators),
        mel=MEL,
        **settings,
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def recordings(n: int = 4, seed: int = 1) -> Tensor:
    return 0.1 * torch.randn(n, 1, LENGTH, generator=generator(seed))


def scaled(x: Tensor, weight: Tensor) -> Tensor:
    return weight * x


def test_model_and_discriminators_learn_from_their_own_losses_alone():
    """Against two separate passes, as generative adversarial networks are trained elsewhere."""
    module = step(scaled, n_steps=[1])
    audio = recordings()
    losses, _, _ = module(Float32Batch(audio), generator())
    losses.mean().backward()
    together = {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}
    assert together.keys() == dict(module.named_parameters()).keys()

    source = generator()
    torch.randint(1, (), generator=source)
    noise = torch.randn(audio.shape, generator=source) * float(module.synthesizer.sampler.grid(1)[0])
    denoise = module.synthesizer.denoiser.bind(Condition())
    fake = denoise(noise, module.synthesizer.sampler.grid(1)[:1].expand(len(audio)))

    module.zero_grad()
    told = [
        torch.relu(1 - right).mean() + torch.relu(1 + wrong).mean()
        for (right, _), (wrong, _) in zip(
            module.discriminators(audio), module.discriminators(fake.detach()), strict=True
        )
    ]
    (sum(told) / len(told)).backward()
    of_discriminators = {name: value.grad.clone() for name, value in module.discriminators.named_parameters()}

    module.zero_grad()
    judged, real = module.discriminators(fake), module.discriminators(audio)
    deceived = sum(torch.relu(1 - scores).mean() for scores, _ in judged) / len(judged)
    distances = [
        (own - its).abs().mean()
        for (_, layers), (_, others) in zip(judged, real, strict=True)
        for own, its in zip(layers, others, strict=True)
    ]
    distance = (MEL.mel(fake[:, 0]) - MEL.mel(audio[:, 0])).abs().mean()
    (deceived + 2.0 * sum(distances) / len(distances) + 45.0 * distance).backward()
    of_model = {name: value.grad.clone() for name, value in module.synthesizer.named_parameters()}

    for name, gradient in of_discriminators.items():
        torch.testing.assert_close(together[f"discriminators.{name}"], gradient)
    for name, gradient in of_model.items():
        torch.testing.assert_close(together[f"synthesizer.{name}"], gradient)
        assert float(gradient.abs().max()) > 0.0


def test_a_model_that_returns_the_recording_has_nothing_to_match():
    audio = recordings()
    module = step(lambda x, weight: audio + 0.0 * weight, n_steps=[2])
    _, plain, _ = module(Float32Batch(audio), generator())
    assert float(plain.abs().max()) < 1e-4
    assert module.logged()["feature_matching"] < 1e-5
    assert module.logged()["mel_distance"] == pytest.approx(float(plain.mean()))


def test_discriminators_that_know_nothing_have_the_hinge_of_both_margins():
    module = step(scaled)
    for each in module.discriminators.each:
        each.last.parametrizations.weight.original0.data.zero_()
        each.last.bias.data.zero_()
    module(Float32Batch(recordings()), generator())
    assert module.logged()["discriminators"] == 2.0
    assert module.logged()["adversarial"] == 1.0


def test_batches_are_sampled_with_every_number_of_steps_and_no_other():
    module = step(scaled, n_steps=[1, 2, 4])
    network = module.synthesizer.denoiser.network
    numbers = []
    for seed in range(30):
        network.calls.times.clear()
        with torch.no_grad():
            _, _, sigma = module(Float32Batch(recordings(2)), generator(seed))
        numbers.append(len(network.calls.times))
        assert network.calls.times == sorted(network.calls.times, reverse=True)
        assert float(sigma[0]) == pytest.approx(float(module.synthesizer.sampler.grid(1)[0]))
    assert set(numbers) == {1, 2, 4}


def test_one_adversarial_step_learns_the_power_that_regression_loses():
    """Sounds are one of two that are opposite: their mean, which is all that a regression gives, is silence."""
    tone = 0.3 * torch.sin(2.0 * torch.pi * torch.arange(LENGTH) / 16.0)

    def sign(x: Tensor, weight: Tensor) -> Tensor:
        return weight * tone * torch.sign((x * tone).sum(dim=-1, keepdim=True))

    def trained(**settings: float) -> float:
        module = step(
            sign, n_steps=[1], discriminators=Discriminators(periods=[2], resolutions=[], channels=8), **settings
        )
        optimizer = torch.optim.Adam(module.trainable(), lr=2e-2, betas=(0.5, 0.9))
        weights = []
        for number in range(120):
            signs = torch.randint(2, (8, 1, 1), generator=generator(number)) * 2.0 - 1.0
            losses, _, _ = module(Float32Batch(signs * tone), generator(1000 + number))
            optimizer.zero_grad()
            losses.mean().backward()
            optimizer.step()
            weights.append(module.synthesizer.denoiser.network.weight.item())
        return sum(weights[-30:]) / 30

    assert trained(feature_matching=0.0, mel_distance=0.0) == pytest.approx(1.0, abs=0.25)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_steps": []}, "must name a number of steps"),
        ({"n_steps": [0]}, "n_steps=0"),
        ({"mel_distance": -1.0}, "mel_distance=-1.0"),
    ],
)
def test_settings_that_do_not_fit_are_named(settings, message):
    with pytest.raises(ParameterError, match=message):
        step(scaled, **settings)


def test_clips_shorter_than_the_windows_are_judged_with_silence_behind():
    module = step(scaled, n_steps=[1])
    losses, _, _ = module(Float32Batch(recordings()[..., :20]), generator())
    losses.mean().backward()
    assert all(bool(value.grad.isfinite().all()) for value in module.parameters() if value.grad is not None)
