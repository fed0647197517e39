"""Padding: a clip in a padded batch is computed as alone, and padding does not change its loss."""

import pytest
import torch

from audiodiff.condition import Condition
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.density import UniformTime
from audiodiff.diffusion.grid import TimeUniform
from audiodiff.diffusion.objective import Objective, Plain, SpectrallyWeighted
from audiodiff.diffusion.preconditioning import Velocity
from audiodiff.diffusion.process import Flow
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import solver
from audiodiff.dsp.mel import dialect
from audiodiff.models.conditioners.labels import LabelConditioner
from audiodiff.models.representations.log_mel import LogMelRepresentation
from audiodiff.models.representations.representation import Representation
from audiodiff.models.representations.waveform import WaveformRepresentation
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.networks.embedding import Sinusoidal
from audiodiff.networks.network import Network
from audiodiff.networks.spectral import SpectralWaveNet
from audiodiff.networks.wavenet import WaveNet
from audiodiff.training.step import Denoising, Float32Batch

pytestmark = pytest.mark.numeric

LENGTHS = [400, 272, 112]
PROCESS = Flow(noise_scale=1.0)


def wavenet(*, look_ahead: int | None = None) -> WaveNet:
    return WaveNet(
        Sinusoidal(), in_channels=1, channels=16, n_layers=6, dilation_cycle=3, vector_features=5, look_ahead=look_ahead
    )


def spectral() -> SpectralWaveNet:
    return SpectralWaveNet(
        Sinusoidal(),
        dialect=None,
        n_fft=64,
        hop_length=16,
        channels=16,
        n_layers=4,
        dilation_cycle=2,
        vector_features=5,
    )


def with_weights(network: Network) -> Network:
    torch.manual_seed(0)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


@pytest.mark.parametrize("network", [wavenet(), wavenet(look_ahead=4), spectral()], ids=["both", "causal", "spectral"])
def test_a_clip_in_a_padded_batch_is_computed_as_alone(network: Network):
    denoiser = Denoiser(with_weights(network), Velocity(PROCESS))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 1, 400, generator=generator)
    vectors = torch.randn(3, 5, generator=generator)
    sigma = torch.tensor([0.5, 1.0, 2.0])
    mask = torch.arange(400) < torch.tensor(LENGTHS)[:, None]
    together = denoiser.bind(Condition(vector=vectors, mask=mask))(x, sigma)
    for row, n_samples in enumerate(LENGTHS):
        one = slice(row, row + 1)
        alone = denoiser.bind(Condition(vector=vectors[one]))(x[one, :, :n_samples], sigma[one])
        torch.testing.assert_close(together[one, :, :n_samples], alone, rtol=0.0, atol=2e-6)
        assert not together[row, :, n_samples:].any()


def model(representation: Representation, network: Network) -> Synthesizer:
    grid = TimeUniform(PROCESS)
    return Synthesizer(
        sample_rate=8000,
        dialect=getattr(representation, "dialect", None),
        representation=representation,
        conditioner=LabelConditioner({"digit": ["0", "1"]}, dropout=0.5),
        denoiser=Denoiser(with_weights(network), Velocity(PROCESS)),
        sampler=Sampler(solver("euler"), grid, 2),
        n_iterations=1,
    )


def mel_model() -> Synthesizer:
    small = dialect("hifigan", sample_rate=8000, n_fft=64, win_length=64, hop_length=16, n_mels=8, f_max=4000.0)
    representation = LogMelRepresentation(dialect=small)
    representation.mean.fill_(-5.0)
    return model(
        representation,
        WaveNet(Sinusoidal(), in_channels=8, channels=8, n_layers=2, dilation_cycle=2, vector_features=2),
    )


def wave_model() -> Synthesizer:
    return model(
        WaveformRepresentation(),
        WaveNet(Sinusoidal(), in_channels=1, channels=8, n_layers=2, dilation_cycle=2, vector_features=2),
    )


SPECTRAL = SpectrallyWeighted(n_fft=64, hop_length=16, n_bands=8)


@pytest.mark.parametrize(
    ("synthesizer", "objective"), [(wave_model(), Plain()), (mel_model(), Plain()), (wave_model(), SPECTRAL)]
)
def test_padding_changes_neither_loss_nor_gradient(synthesizer: Synthesizer, objective: Objective):
    step = Denoising(synthesizer=synthesizer, objective=objective, density=UniformTime(PROCESS))
    audio = 0.1 * torch.randn(3, 1, 400, generator=torch.Generator().manual_seed(2))
    found = []
    for rubbish in (0.0, 1.0):
        padded = audio.clone()
        for row, n_samples in enumerate(LENGTHS):
            padded[row, :, n_samples:] = rubbish
        synthesizer.zero_grad()
        losses, _, _ = step(Float32Batch(padded, torch.tensor(LENGTHS)), torch.Generator().manual_seed(3))
        losses.sum().backward()
        gradients = [parameter.grad.clone() for parameter in synthesizer.parameters() if parameter.grad is not None]
        found.append([losses.detach(), *gradients])
    assert len(found[0]) > 10
    for clean, dirty in zip(*found, strict=True):
        assert torch.equal(clean, dirty)


@pytest.mark.parametrize("synthesizer", [wave_model(), mel_model()])
def test_the_loss_of_a_clip_is_the_mean_over_its_own_samples(synthesizer: Synthesizer, monkeypatch: pytest.MonkeyPatch):
    noise = torch.randn(3, synthesizer.representation.channels, 400, generator=torch.Generator().manual_seed(4))
    rows = slice(0, 3)

    def own_noise(x: torch.Tensor, _: torch.Generator) -> torch.Tensor:
        return noise[rows, :, : x.shape[-1]].to(x)

    monkeypatch.setattr("audiodiff.training.step.noise_like", own_noise)
    monkeypatch.setattr(UniformTime, "__call__", lambda _, n, generator: torch.ones(n, dtype=torch.float64))
    step = Denoising(synthesizer=synthesizer, objective=Plain(), density=UniformTime(PROCESS))
    audio = 0.1 * torch.randn(3, 1, 400, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        together, _, _ = step(Float32Batch(audio, torch.tensor(LENGTHS)), torch.Generator())
        for row, n_samples in enumerate(LENGTHS):
            rows = slice(row, row + 1)
            alone, _, _ = step(Float32Batch(audio[rows, :, :n_samples]), torch.Generator())
            torch.testing.assert_close(together[rows], alone, rtol=1e-5, atol=0.0)
