"""Enhancement by the exact denoiser of white speech in white noise: the Wiener filter, and draws around it."""

import math

import pytest
import scipy.optimize
import scipy.signal
import torch
from torch import Tensor, nn

from audiodiff.condition import Condition
from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.noise import noise_of
from audiodiff.diffusion.operators import Mask
from audiodiff.diffusion.preconditioning import Sample
from audiodiff.diffusion.process import VE
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import heun
from audiodiff.dsp.level import gain_to
from audiodiff.dsp.resample import resample
from audiodiff.errors import ParameterError
from audiodiff.models.conditioners.degraded import DegradedConditioner
from audiodiff.models.representations.waveform import WaveformRepresentation
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.networks.network import Network
from audiodiff.tasks.restoration import Denoising, Problem, Projection, Sampling, draw, enhance
from audiodiff.tasks.restoration.enhancement import Enhance, noise_power
from audiodiff.types import ReceptiveField

RATE = 8000
SPEECH, NOISE = 0.004, 0.002
"""Variances at the model's level."""
KEPT = SPEECH / (SPEECH + NOISE)
LEFT = SPEECH * NOISE / (SPEECH + NOISE)
FIRST = 20.0


class WienerNetwork(Network):
    """The ideal network, of x0 itself: E[x0 | x, y] where x0 and y - x0 are white."""

    receptive_field = ReceptiveField(0, 0)

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def encode(self, condition: Condition) -> Condition:
        return condition

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        assert condition.signal is not None
        y, known = condition.signal.split(1, dim=1)
        assert bool((known == 1).all())
        sigma = VE().sigma(c_noise)
        power = pad_dims_like(sigma, x) ** 2
        x = x / pad_dims_like(VE().input_scale(sigma), x)
        return ((LEFT * x + power * KEPT * y) / (LEFT + power)).to(x)


@pytest.fixture
def model() -> Synthesizer:
    return Synthesizer(
        sample_rate=RATE,
        representation=WaveformRepresentation(),
        conditioner=DegradedConditioner(level=math.sqrt(SPEECH + NOISE)),
        denoiser=Denoiser(WienerNetwork(), Sample(VE())),
        sampler=Sampler(heun, Karras(sigma_min=1e-3, sigma_max=FIRST), n_steps=60),
    )


def noisy(n_samples: int = 4 * RATE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    audio = math.sqrt(SPEECH + NOISE) * torch.randn(2, n_samples, generator=generator)
    assert gain_to(math.sqrt(SPEECH + NOISE), audio, sample_rate=RATE) == 1.0
    return audio


def test_one_step_is_the_wiener_filter(model: Synthesizer):
    y = noisy()
    # What is left of the noise that it starts from: of a std of 20, the share LEFT / 20^2, five sigma.
    bound = 5.5 * FIRST * LEFT / FIRST**2
    torch.testing.assert_close(enhance(model, y, sample_rate=RATE), KEPT * y, atol=bound, rtol=0.0)


def test_more_steps_draw_from_the_posterior(model: Synthesizer):
    y = noisy()
    drawn = enhance(model, y, sample_rate=RATE, sampling=Sampling(steps=60))
    rest = (drawn - KEPT * y).double()
    n = rest.shape[-1]
    # Each channel has the same noise and its own y. Five standard errors, and half a percent for the solver.
    for own, noisy_one in zip(rest, y.double(), strict=True):
        assert float(own.square().mean()) == pytest.approx(LEFT, rel=5 * math.sqrt(2 / n) + 0.005)
        assert abs(float((own * noisy_one).mean())) < 5 * math.sqrt(LEFT * (SPEECH + NOISE) / n)


@pytest.mark.parametrize("start", [0.02, 0.2])
def test_a_start_from_noisy_speech_is_the_flow_from_there(model: Synthesizer, start: float):
    y = noisy()
    drawn = enhance(model, y, sample_rate=RATE, sampling=Sampling(steps=60, start=start))
    # The flow shrinks x - KEPT y, of x = y + start eps, by this.
    shrink = math.sqrt(LEFT / (LEFT + start**2))
    rest = (drawn - KEPT * y - shrink * (1.0 - KEPT) * y).double()
    n = rest.shape[-1]
    variance = (shrink * start) ** 2
    for own, noisy_one in zip(rest, y.double(), strict=True):
        assert float(own.square().mean()) == pytest.approx(variance, rel=5 * math.sqrt(2 / n) + 0.005)
        assert abs(float((own * noisy_one).mean())) < 5 * math.sqrt(variance * (SPEECH + NOISE) / n) + 1e-3 * SPEECH


@pytest.mark.parametrize("factor", [2.0**-9, 0.5, 64.0])
def test_the_level_of_a_recording_does_not_matter(model: Synthesizer, factor: float):
    y = noisy(RATE)
    sampling = Sampling(steps=3)
    louder = enhance(model, factor * y, sample_rate=RATE, sampling=sampling)
    assert torch.equal(louder, factor * enhance(model, y, sample_rate=RATE, sampling=sampling))


def test_silence_stays_silence(model: Synthesizer):
    assert torch.equal(enhance(model, torch.zeros(1, 500), sample_rate=RATE), torch.zeros(1, 500))


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("n_samples", [1, 799, 4800])
def test_every_rate_and_length_stays(model: Synthesizer, sample_rate: int, n_samples: int):
    y = 0.1 * torch.ones(1, n_samples)
    assert enhance(model, y, sample_rate=sample_rate).shape == y.shape


def test_posteriors_that_need_known_samples_are_refused(model: Synthesizer):
    with pytest.raises(ParameterError, match="choose one of conditional, denoising"):
        enhance(model, noisy(RATE), sample_rate=RATE, sampling=Sampling(posterior=Projection()))


class SpeechNetwork(Network):
    """The ideal network of white speech alone, whatever its condition."""

    receptive_field = ReceptiveField(0, 0)

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def encode(self, condition: Condition) -> Condition:
        return Condition()

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        sigma = VE().sigma(c_noise)
        x = x / pad_dims_like(VE().input_scale(sigma), x)
        return SPEECH / (SPEECH + pad_dims_like(sigma, x) ** 2) * x


def test_denoising_of_white_speech_is_the_wiener_filter_of_known_noise(model: Synthesizer):
    """The speech stops now and then, and the noise, of two levels by frequency, does not."""
    model.denoiser.network = SpeechNetwork()
    n_samples = 8 * RATE
    generator = torch.Generator().manual_seed(1)
    speech, hiss = torch.randn(2, 1, 1, n_samples, generator=generator)
    speech = math.sqrt(SPEECH) * speech * (torch.arange(n_samples) // 2000 % 2)
    power = torch.where(torch.linspace(0.0, 1.0, n_samples // 2 + 1) < 0.5, NOISE, NOISE / 16.0)
    hiss = torch.fft.irfft(torch.fft.rfft(hiss) * power.sqrt())

    problem = Problem(speech + hiss, torch.ones_like(speech), noise_power=power[None, None])
    result = draw(model, problem, sampling=Sampling(posterior=Denoising(), steps=1), noise=noise_of(0, [0]))
    spectrum = torch.fft.rfft(speech + hiss)
    exact = torch.fft.irfft(SPEECH / (SPEECH + power) * spectrum)
    # Where noise was added to make it white, its rest is: less than the speech's own uncertainty.
    assert (result - exact).square().mean() < 0.1 * SPEECH * NOISE / (SPEECH + NOISE)
    clean = (result - speech).square().mean()
    assert clean < 0.8 * hiss.square().mean()


@pytest.mark.parametrize("colour", [0.0, 0.9])
def test_the_spectrum_of_steady_noise_is_found(colour):
    """Of an autoregression of order one, whose spectrum is known; over 16 s, with 1 s of silence at its end."""
    generator = torch.Generator().manual_seed(2)
    noise = scipy.signal.lfilter([1.0], [1.0, -colour], torch.randn(16 * 16000, generator=generator).numpy())
    audio = torch.from_numpy(noise).float()
    audio[-16000:] = 0.0
    found = noise_power(audio[None, None], sample_rate=16000)[0, 0]
    angle = torch.linspace(0.0, math.pi, len(found))
    exact = 1.0 / (1.0 - 2.0 * colour * angle.cos() + colour**2)
    # Away from the ends and the peak, where the average over 500 Hz on either side is that of the middle.
    inner = slice(60, -20)
    torch.testing.assert_close(found[inner], exact[inner], rtol=0.15, atol=0.0)


@pytest.mark.parametrize("snr", [0.5, 2.0, 30.0])
def test_speech_raises_the_noise_spectrum_as_the_quantile_predicts(snr):
    """Powers are exponential: of noise alone for one half of the frames, of the sum for the other."""
    generator = torch.Generator().manual_seed(3)
    speech, noise = torch.randn(2, 1, 1, 60 * RATE, generator=generator)
    speech = math.sqrt(snr) * speech * (torch.arange(60 * RATE) // (2 * RATE) % 2)
    found = noise_power(speech + noise, sample_rate=RATE).mean().item()
    held = scipy.optimize.brentq(lambda q: 1.0 - 0.5 * (math.exp(-q) + math.exp(-q / (1.0 + snr))) - 0.3, 1e-6, 9.0)
    assert found == pytest.approx(held / -math.log(0.7), rel=0.03)


def test_silence_has_no_noise():
    assert not bool(noise_power(torch.zeros(2, 1, 4000), sample_rate=RATE).any())
    assert noise_power(torch.zeros(1, 1, 10), sample_rate=RATE).shape == (1, 1, 129)


def test_samples_that_are_lost_are_no_noise(model: Synthesizer):
    y = noisy()[:1, None]
    problem = Problem(y, torch.ones_like(y), Mask(torch.ones(y.shape[-1])))
    with pytest.raises(ParameterError, match="posterior=denoising needs a recording with noise of a known spectrum"):
        draw(model, problem, sampling=Sampling(posterior=Denoising()), noise=noise_of(0, [0]))


def _seconds_of_noise(n_channels: int, rate: int) -> torch.Tensor:
    return 0.1 * torch.randn(n_channels, 3 * rate, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("rate", [22050, 44100])
def test_above_the_model_band_the_recording_is_attenuated_as_just_below(rate: int):
    """For a restoration that is the recording at half its amplitude, below the band's edge, all of it is."""
    audio = _seconds_of_noise(1, rate)
    half = resample(resample(0.5 * audio, from_rate=rate, to_rate=16000), from_rate=16000, to_rate=rate)
    result = Enhance().blend(audio, half[:, : audio.shape[-1]], torch.ones_like(audio), sample_rate=rate)
    inner = slice(rate // 2, -rate // 2)
    assert torch.allclose(result[:, inner], 0.5 * audio[:, inner], atol=2e-3)


def test_channels_are_changed_by_the_same_gain_and_keep_their_image():
    """Two coherent channels of which one alone was restored: both get the gain of their common power."""
    audio = _seconds_of_noise(1, 16000) * torch.tensor([[1.0], [0.5]])
    restored = audio * torch.tensor([[0.8], [0.2]])
    result = Enhance().blend(audio, restored, torch.ones_like(audio), sample_rate=16000)
    gain = (0.8 + 0.25 * 0.2) / 1.25
    assert torch.allclose(result, gain * audio, atol=1e-4)


def test_channels_without_coherence_keep_gains_of_their_own():
    audio = _seconds_of_noise(2, 16000)
    restored = audio * torch.tensor([[1.0], [0.0]])
    result = Enhance().blend(audio, restored, torch.ones_like(audio), sample_rate=16000)
    levels = result.norm(dim=-1) / audio.norm(dim=-1)
    assert levels.tolist() == pytest.approx([1.0, 0.0], abs=0.02)


def test_in_music_no_instrument_is_turned_down_against_another():
    """Of two channels without coherence one alone was restored: both keep half of their amplitude."""
    audio = _seconds_of_noise(2, 16000)
    restored = audio * torch.tensor([[1.0], [0.0]])
    result = Enhance(steady_share=0.4).blend(audio, restored, torch.ones_like(audio), sample_rate=16000)
    levels = result.norm(dim=-1) / audio.norm(dim=-1)
    assert levels.tolist() == pytest.approx([0.5, 0.5], abs=0.05)  # half a dB


def test_in_music_what_is_far_above_the_steady_part_is_kept():
    """Bursts 40 dB above steady noise, of which the model kept nothing: to 0.5 dB; in speech nothing is left."""
    audio = _seconds_of_noise(2, 16000)
    is_loud = torch.arange(audio.shape[-1]) // 8000 % 2 == 1
    audio = torch.where(is_loud, audio, 0.01 * audio)
    for share, kept in ((0.0, 0.0), (0.4, 1.0)):
        result = Enhance(steady_share=share).blend(
            audio, torch.zeros_like(audio), torch.ones_like(audio), sample_rate=16000
        )
        assert float(result.norm() / audio.norm()) == pytest.approx(kept, abs=0.06)


def test_music_is_recognised_by_its_steady_tones_and_noise_is_not():
    time = torch.arange(3 * 22050) / 22050
    chord = sum(0.1 * torch.sin(2 * torch.pi * pitch * time) for pitch in (220.0, 277.2, 329.6))[None]
    glide = 0.1 * torch.sin(2 * torch.pi * (200.0 * time + 100.0 * time.square()))[None]
    for audio, is_music in ((chord, True), (glide, False), (_seconds_of_noise(1, 22050), False)):
        found = Enhance().analyze(iter([audio]), sample_rate=22050)
        assert ("as in music" in found.describe(sample_rate=22050)) == is_music
