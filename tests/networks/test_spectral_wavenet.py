"""Spectral WaveNet: lengths, levels, conditions."""

import math

import pytest
import torch

from audiodiff.condition import Condition
from audiodiff.data import load_entries, speech_folder
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.grid import TimeUniform
from audiodiff.diffusion.noise import BlockNoise
from audiodiff.diffusion.preconditioning import Sample
from audiodiff.diffusion.process import Flow
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import REGISTRY, solver
from audiodiff.dsp.mel import DIALECT_NAMES, MelDialect, dialect
from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError
from audiodiff.io import audio as audio_io
from audiodiff.networks.embedding import Sinusoidal
from audiodiff.networks.spectral import SpectralWaveNet

pytestmark = pytest.mark.numeric


def network(mel_dialect: MelDialect | None, **changes) -> SpectralWaveNet:
    """Make a small network whose last layer says something."""
    torch.manual_seed(0)
    made = SpectralWaveNet(
        Sinusoidal(), dialect=mel_dialect, channels=8, n_layers=3, dilation_cycle=2, step_features=8, **changes
    )
    torch.nn.init.normal_(made.output_projection.weight, std=0.1)
    return made.eval()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# Each dialect as it is, and one at another rate and hop.
DIALECTS = [
    *(pytest.param(dialect(name), id=name) for name in DIALECT_NAMES),
    pytest.param(dialect("hifigan", sample_rate=16000, hop_length=200), id="hifigan at 16 kHz"),
    pytest.param(dialect("vocos", sample_rate=44100, n_fft=2048, hop_length=512, n_mels=128), id="vocos at 44.1 kHz"),
]


@pytest.mark.parametrize("mel_dialect", DIALECTS)
def test_the_output_is_as_long_as_the_input_whatever_the_dialect(mel_dialect: MelDialect):
    model = network(mel_dialect)
    audio = noise(2, 1, 12 * mel_dialect.hop_length)
    encoded = model.encode(Condition(frames=mel_dialect.mel(audio[:, 0])))
    for n_samples in (audio.shape[-1], audio.shape[-1] - 1, 1001, 1):
        out = model(audio[..., :n_samples], torch.tensor([0.1, 0.9]), encoded)
        assert out.shape == (2, 1, n_samples)
        assert bool(torch.isfinite(out).all())


@pytest.mark.parametrize("n_samples", [1, 127, 128, 1000, 1001])
def test_without_a_mel_any_length_is_kept(n_samples: int):
    model = network(None)
    out = model(noise(1, 1, n_samples), torch.tensor([0.5]), model.encode(Condition()))
    assert out.shape == (1, 1, n_samples)


def test_a_mel_that_ends_before_the_signal_is_refused():
    model = network(dialect("hifigan"))
    encoded = model.encode(Condition(frames=torch.full((1, 80, 4), -5.0)))
    with pytest.raises(ParameterError, match="the mel covers 1024 samples and x has 1200: give more frames"):
        model(noise(1, 1, 1200), torch.tensor([0.5]), encoded)


@pytest.mark.parametrize("frames", [None, torch.zeros(1, 40, 4)])
def test_a_mel_of_the_wrong_shape_is_refused(frames: torch.Tensor | None):
    with pytest.raises(ParameterError, match="a mel spectrogram of 80 bands"):
        network(dialect("hifigan")).encode(Condition(frames=frames))


def test_stereo_is_refused():
    model = network(None)
    with pytest.raises(ParameterError, match="channels=2 must be 1"):
        model(noise(1, 2, 1000), torch.tensor([0.5]), model.encode(Condition()))


def test_examples_of_a_batch_are_independent():
    model = network(dialect("hifigan"))
    audio, clock = noise(2, 1, 4096), torch.tensor([0.2, 0.8])
    mel = model.dialect.mel(audio[:, 0])
    both = model(audio, clock, model.encode(Condition(frames=mel)))
    for index in range(2):
        one = slice(index, index + 1)
        alone = model(audio[one], clock[one], model.encode(Condition(frames=mel[one])))
        torch.testing.assert_close(both[one], alone, rtol=1e-4, atol=1e-6)


def test_encoding_once_and_at_every_call_are_the_same():
    denoiser = Denoiser(network(dialect("hifigan")), Sample(Flow(noise_scale=0.1)))
    audio, sigma = noise(1, 1, 4096), torch.tensor([0.3])
    condition = Condition(frames=dialect("hifigan").mel(audio[:, 0]))
    bound = denoiser.bind(condition)
    assert torch.equal(bound(audio, sigma), denoiser(audio, sigma, condition).denoised)
    assert torch.equal(bound(audio, sigma), bound(audio, sigma))


def test_the_condition_the_clock_and_the_vector_change_the_result():
    model = network(dialect("hifigan"), vector_features=3)
    audio = noise(1, 1, 4096)
    mel = model.dialect.mel(audio[:, 0])

    @torch.no_grad()
    def output(*, shift: float = 0.0, clock: float = 0.5, vector: float = 0.0) -> torch.Tensor:
        condition = Condition(frames=mel + shift, vector=torch.full((1, 3), vector))
        return model(audio, torch.tensor([clock]), model.encode(condition))

    for changed in (output(shift=-1.0), output(clock=0.6), output(vector=1.0)):
        assert float((changed - output()).abs().max()) > 1e-6
    with pytest.raises(ParameterError, match="needs 3 features"):
        model.encode(Condition(frames=mel))


@pytest.fixture(scope="module")
def speech() -> tuple[torch.Tensor, int]:
    entry = load_entries(speech_folder(), split="val").entries[0]
    return audio_io.read(entry.path)


@pytest.mark.parametrize("mel_dialect", DIALECTS)
@pytest.mark.parametrize("kind", ["white", "speech"])
def test_the_envelope_has_the_level_of_the_spectrum(mel_dialect: MelDialect, kind: str, speech):
    audio, rate = speech
    highest = 0.9 * min(mel_dialect.f_max, (rate if kind == "speech" else mel_dialect.sample_rate) / 2)
    audio = resample(audio, from_rate=rate, to_rate=mel_dialect.sample_rate)[:, : 150 * mel_dialect.hop_length]
    if kind == "white":
        audio = noise(1, audio.shape[-1])
    # A window much shorter than the dialect's sees the pulses of a voice, and between its harmonics.
    n_fft = 512 if mel_dialect.sample_rate < 30000 else 1024
    model = network(mel_dialect, n_fft=n_fft, hop_length=n_fft // 4)
    envelope = model.encode(Condition(frames=mel_dialect.mel(audio))).signal
    assert envelope is not None
    n_frames = audio.shape[-1] // model.stft.hop_length
    spectrum = model.stft.forward(audio[:, : n_frames * model.stft.hop_length]).abs()[..., 4 : n_frames - 4]
    envelope = envelope[..., 4 : n_frames - 4]
    # Where the bands reach, and there is sound at all: the dialects' floors are far above digital silence.
    frequency = torch.linspace(0, mel_dialect.sample_rate / 2, spectrum.shape[1])
    inside = (frequency > mel_dialect.f_min + 150) & (frequency < highest)
    spectrum, envelope = spectrum[:, inside], envelope[:, inside]
    loud = spectrum.square().mean(dim=1) > 1e-4 * spectrum.square().mean()
    ratio = (spectrum / envelope.clamp(min=1e-3)).transpose(1, 2)[loud]
    rms = float(ratio.square().mean().sqrt())
    median = float(ratio.median())
    # Measured: 1.02 to 1.26, and 0.79 to 0.99; noise has a Rayleigh distribution around its level.
    assert 0.8 < rms < 1.4
    assert 0.6 < median < 1.2


def test_the_first_output_is_silence():
    torch.manual_seed(0)
    model = SpectralWaveNet(Sinusoidal(), dialect=None, channels=8, n_layers=2, dilation_cycle=2)
    model.output_projection.bias.data.zero_()
    out = model(noise(1, 1, 1000), torch.tensor([0.5]), model.encode(Condition()))
    assert torch.equal(out, torch.zeros(1, 1, 1000))


def test_every_weight_has_a_gradient():
    model = network(dialect("hifigan"), vector_features=2).train()
    audio = noise(1, 1, 4096)
    condition = Condition(frames=model.dialect.mel(audio[:, 0]), vector=torch.ones(1, 2))
    model(audio, torch.tensor([0.5]), model.encode(condition)).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


@pytest.mark.parametrize("name", [name for name, method in REGISTRY.items() if not method.jumps])
@pytest.mark.parametrize("conditioned", [True, False])
def test_every_solver_runs(name: str, conditioned: bool):
    process = Flow(noise_scale=0.1)
    mel_dialect = dialect("hifigan") if conditioned else None
    audio = noise(1, 1, 4096)
    condition = Condition(frames=mel_dialect.mel(audio[:, 0])) if mel_dialect else Condition()
    denoise = Denoiser(network(mel_dialect), Sample(process)).bind(condition)
    with torch.no_grad():
        out = Sampler(solver(name), TimeUniform(process), n_steps=3)(denoise, audio, BlockNoise(0, [0]))
    assert out.shape == audio.shape
    assert bool(torch.isfinite(out).all())


@pytest.mark.parametrize("arguments", [{"hop_length": 300}, {"level": 0.0}, {"kernel_size": 2}])
def test_invalid_networks_are_refused(arguments: dict):
    with pytest.raises(ParameterError, match=next(iter(arguments))):
        network(None, **arguments)


def test_the_mel_is_interpolated_at_the_centres_of_frames():
    mel_dialect = dialect("hifigan")
    model = network(mel_dialect)
    audio = torch.zeros(1, 1, 64 * 256)
    click = 30 * 256 + 128
    audio[..., click] = 1.0
    envelope = model.encode(Condition(frames=mel_dialect.mel(audio[:, 0]))).signal
    assert envelope is not None
    level = envelope.mean(dim=(0, 1))
    centre = float((level * torch.arange(len(level))).sum() / level.sum() + 0.5) * model.stft.hop_length
    # The frames of the dialect are 256 apart, so half of one is as near as it gets.
    assert math.isclose(centre, click, abs_tol=64)
