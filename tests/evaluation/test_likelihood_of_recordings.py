"""Likelihood of recordings under Gaussian models, whose density is known in closed form."""

import math
from dataclasses import replace

import pytest
import torch
from analytic import Gaussian, GaussianNetwork
from torch import Tensor
from torch.distributions import Normal

from audiodiff.condition import Condition
from audiodiff.diffusion.bound import BIN_WIDTH
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.preconditioning import Sample
from audiodiff.diffusion.process import Flow
from audiodiff.diffusion.sampler import Sampler
from audiodiff.diffusion.solvers import euler
from audiodiff.dsp.mel import dialect
from audiodiff.errors import ParameterError
from audiodiff.evaluation.likelihood import USUAL_RMS, Likelihood, Settings, check_model, likelihood
from audiodiff.models.conditioners.conditioner import Conditioner
from audiodiff.models.conditioners.labels import LabelConditioner
from audiodiff.models.conditioners.none import NoConditioner
from audiodiff.models.mel_inverter import MelInverter
from audiodiff.models.representations.log_mel import LogMelRepresentation
from audiodiff.models.representations.representation import Representation
from audiodiff.models.representations.waveform import WaveformRepresentation
from audiodiff.models.synthesizer import Synthesizer

RATE = 8000
FLOW, BOUND = Settings(measures=("flow",), n_steps=40), Settings(measures=("bound",), n_levels=100)
S_MIN = 0.05
"""Relative to the std of the data."""


class ByClass(GaussianNetwork):
    """The ideal network of N(1, v) of the first class and N(-1, v) of the second."""

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        assert condition.vector is not None
        mean = condition.vector @ condition.vector.new_tensor([1.0, -1.0])
        self.data = replace(self.data, mean=mean[:, None, None])
        return super().forward(x, c_noise, condition)


def model(
    representation: Representation,
    *,
    std: float,
    conditioner: Conditioner | None = None,
    network: type[GaussianNetwork] = GaussianNetwork,
) -> Synthesizer:
    """Return a model of white Gaussian signals of this std."""
    process = Flow()
    data = Gaussian(torch.zeros(1, 1), torch.full((1, 1), std**2))
    made = Synthesizer(
        sample_rate=22050 if representation.makes_mel else RATE,
        dialect=dialect("hifigan") if representation.makes_mel else None,
        representation=representation,
        conditioner=conditioner or NoConditioner(),
        denoiser=Denoiser(network(data, process, "sample"), Sample(process)),
        sampler=Sampler(euler, Karras(sigma_min=S_MIN * std, sigma_max=100.0 * std), n_steps=8),
    )
    # The device of a model is that of its first parameter.
    made.register_parameter("place", torch.nn.Parameter(torch.zeros(1)))
    return made


def waveforms(gain: float, conditioner: Conditioner | None = None) -> Synthesizer:
    return model(WaveformRepresentation(gain=gain), std=gain * USUAL_RMS, conditioner=conditioner)


def noise(n_samples: int = 3000, *, level: float = 0.1, n_channels: int = 1) -> Tensor:
    return level * torch.randn(n_channels, n_samples, generator=torch.Generator().manual_seed(0))


def nats(model: Synthesizer, audio: Tensor, settings: Settings, rate: int = RATE, **options) -> float:
    found = likelihood(model, audio, sample_rate=rate, settings=settings, **options)
    assert list(found.nats) == list(settings.measures)
    return found.nats[settings.measures[0]]


@pytest.mark.parametrize("gain", [1.0, 5.0])
@pytest.mark.parametrize("level", [0.1, 0.3])
def test_flow_is_the_closed_form_with_the_bin_width_at_any_gain(gain, level):
    audio = noise(level=level)
    density = Normal(0.0, USUAL_RMS * math.sqrt(1.0 + S_MIN**2)).log_prob(audio).mean()
    assert nats(waveforms(gain), audio, FLOW) == pytest.approx(-float(density) - math.log(BIN_WIDTH), abs=1e-3)


@pytest.mark.parametrize("gain", [1.0, 5.0])
def test_bound_is_the_closed_form_with_the_bin_width_at_any_gain(gain):
    """With the exact denoiser, prior and diffusion terms add up to the divergence of x at sigma_min from its law."""
    audio, s, v = noise(20000), S_MIN * USUAL_RMS, USUAL_RMS**2
    power = float(audio.square().mean())
    divergence = 0.5 * ((power + s**2) / (v + s**2) - 1.0 + math.log((v + s**2) / s**2))
    shrink = v / (v + s**2)
    error = (1.0 - shrink) ** 2 * power + shrink**2 * s**2
    decoder = 0.5 * (math.log(2.0 * math.pi * s**2) + error / s**2)
    # The mean of 20000 draws of half a squared normal number, at the levels and in the decoder.
    assert nats(waveforms(gain), audio, BOUND) == pytest.approx(divergence + decoder - math.log(BIN_WIDTH), abs=0.02)


def test_flow_and_bound_of_a_mel_are_densities_of_the_dialects_values():
    representation = LogMelRepresentation(dialect=dialect("hifigan"))
    representation.mean.copy_(torch.linspace(-6.0, -4.0, 80))
    representation.std.copy_(torch.linspace(0.5, 3.0, 80))
    audio = noise(22050)
    mel = dialect("hifigan").mel(audio)[0]
    law = Normal(representation.mean[:, None], representation.std[:, None] * math.sqrt(1.0 + S_MIN**2))
    exact = -float(law.log_prob(mel).mean())
    of = model(representation, std=1.0)
    assert nats(of, audio, FLOW, rate=22050) == pytest.approx(exact, abs=1e-3)
    # A bound on the flow's law with noise of sigma_min, whose decoder costs little in comparison.
    assert exact - 0.05 < nats(of, audio, BOUND, rate=22050) < exact + 0.1
    assert likelihood(of, audio, sample_rate=22050, settings=FLOW).n_dims == mel.numel()


def test_bits_are_nats_over_log_two():
    assert Likelihood(1, {"flow": 3.0 * math.log(2.0), "bound": -1.0}).bits == pytest.approx(
        {"flow": 3.0, "bound": -1.0 / math.log(2.0)}
    )


@pytest.mark.parametrize("settings", [FLOW, BOUND], ids=["flow", "bound"])
def test_a_recording_that_is_brought_to_a_level_keeps_its_own_bins(settings):
    conditioner = NoConditioner()
    conditioner.level = 0.1
    audio = noise()
    loud, soft = (nats(waveforms(1.0, conditioner), gain * audio, settings) for gain in (1.0, 0.25))
    assert loud - soft == pytest.approx(math.log(4.0), abs=1e-3)


def test_chunks_are_scored_as_recordings_of_their_own():
    """The samples of this model are independent, so that chunks change nothing."""
    audio = noise(5000)
    whole, chunked = (nats(waveforms(1.0), audio, replace(FLOW, chunk_seconds=length)) for length in (4.0, 0.1))
    assert chunked == pytest.approx(whole, abs=1e-5)


def test_the_progress_counts_every_evaluation():
    seen: list[tuple[int, int]] = []
    settings = Settings(n_steps=2, n_levels=3, chunk_seconds=0.1)
    likelihood(waveforms(1.0), noise(2000), sample_rate=RATE, settings=settings, on_step=lambda *at: seen.append(at))
    assert seen == [(done, 36) for done in range(1, 37)]


def test_labels_choose_the_conditional_law():
    labelled = model(
        WaveformRepresentation(), std=USUAL_RMS, conditioner=LabelConditioner({"sign": ["+", "-"]}), network=ByClass
    )
    audio = 1.0 + noise()
    right, wrong = (nats(labelled, audio, FLOW, labels={"sign": value}) for value in "+-")
    density = Normal(0.0, USUAL_RMS * math.sqrt(1.0 + S_MIN**2)).log_prob(noise()).mean()
    assert right == pytest.approx(-float(density) - math.log(BIN_WIDTH), abs=0.01)
    assert wrong > right + 100.0


def test_recordings_are_resampled_and_mixed_down():
    audio = noise(8000, n_channels=2)
    found = likelihood(waveforms(1.0), audio, sample_rate=2 * RATE, settings=FLOW)
    assert found.n_dims == 4000


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Settings(n_steps=0), "n_steps=0"),
        (lambda: Settings(chunk_seconds=0.0), "chunk_seconds=0.0"),
        (lambda: Settings(measures=()), "one or both of flow, bound"),
        (lambda: nats(waveforms(1.0), noise(), replace(FLOW, sigma_min=11.0)), "sigma_min=11"),
        (lambda: nats(waveforms(1.0), noise(), FLOW, labels={"digit": "1"}), "knows none"),
        (lambda: nats(model(WaveformRepresentation(n_channels=2), std=0.1), noise(), FLOW), "1 channels"),
        (lambda: check_model(MelInverter(dialect=dialect("hifigan"))), "not trained"),
    ],
)
def test_invalid_arguments_are_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call()
