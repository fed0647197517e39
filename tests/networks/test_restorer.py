"""Spectral restorer: conditioned on a degraded recording, and unconditional."""

import math

import pytest
import torch
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.preconditioning import Sample
from audiodiff.diffusion.process import Flow
from audiodiff.errors import ParameterError
from audiodiff.models.conditioners.degraded import DegradedConditioner
from audiodiff.networks.embedding import Sinusoidal
from audiodiff.networks.restorer import SpectralRestorer


def network(**changes) -> SpectralRestorer:
    made = SpectralRestorer(
        Sinusoidal(),
        **{"sample_rate": 16000, "n_fft": 64, "hop_length": 16, "channels": 8, "n_layers": 2, "dilation_cycle": 2}
        | {"step_features": 8}
        | changes,
    )
    torch.manual_seed(0)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made.eval()


def sound(n: int = 2, n_samples: int = 200, *, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(n, 1, n_samples, generator=torch.Generator().manual_seed(seed))


LEVEL = torch.tensor([0.5, 0.5])


def test_the_recording_changes_the_result():
    model = network()
    x, recording = sound(), sound(seed=1)
    conditional, nothing = (
        model(x, LEVEL, model.encode(each)) for each in (DegradedConditioner()(recording), Condition())
    )
    assert not torch.allclose(conditional, nothing, atol=1e-2)


def test_a_recording_without_known_samples_acts_as_none():
    model = network()
    x = sound()
    unknown = DegradedConditioner.observed(torch.zeros_like(x), torch.zeros_like(x))
    assert torch.equal(model(x, LEVEL, model.encode(unknown)), model(x, LEVEL, model.encode(Condition())))


def test_each_example_is_conditioned_on_its_own_recording():
    model = network()
    x, recording = sound(), sound(seed=1)
    conditional = DegradedConditioner.observed(
        recording * torch.tensor([1.0, 0.0])[:, None, None], torch.ones_like(recording)
    )
    both = model(x, LEVEL, model.encode(conditional))
    alone = model(x[:1], LEVEL[:1], model.encode(DegradedConditioner()(recording[:1])))
    assert torch.allclose(both[:1], alone, atol=1e-5)


@pytest.mark.parametrize("n_samples", [1, 15, 16, 17, 200])
def test_any_length(n_samples: int):
    model = network()
    x = sound(n_samples=n_samples)
    out = model(x, LEVEL, model.encode(DegradedConditioner()(x)))
    assert out.shape == x.shape
    assert bool(torch.isfinite(out).all())


def test_silence_and_loudness_are_finite():
    model = network()
    for x in (torch.zeros(1, 1, 100), 100.0 * sound(1, 100)):
        assert bool(torch.isfinite(model(x, LEVEL[:1], model.encode(DegradedConditioner()(x)))).all())


def test_nothing_beyond_the_receptive_field_changes_an_output():
    model = network()
    n_samples = 2000
    x, recording = sound(1, n_samples), sound(1, n_samples, seed=1)
    changed = recording.clone()
    changed[..., 1000] += 1.0
    one, other = (model(x, LEVEL[:1], model.encode(DegradedConditioner()(each))) for each in (recording, changed))
    where = torch.nonzero((one - other)[0, 0].abs() > 1e-6)[:, 0]
    before, after = model.receptive_field
    # An output sees so much before it: what follows a sample sees it as far.
    assert 1000 - after <= int(where.min())
    assert int(where.max()) <= 1000 + before


def test_a_clip_in_a_padded_batch_is_denoised_as_alone():
    denoiser = Denoiser(network(), Sample(Flow(noise_scale=0.1)))
    x, recording = sound(1, 200), sound(1, 200, seed=1)
    sigma = torch.tensor([0.1])
    alone = denoiser(x, sigma, DegradedConditioner()(recording)).denoised
    known = torch.ones_like(recording)
    padded = [torch.nn.functional.pad(each, (0, 88)) for each in (x, recording, known)]
    conditional = DegradedConditioner.observed(*padded[1:])
    mask = (torch.arange(288) < 200)[None]
    batch = denoiser(padded[0], sigma, Condition(signal=conditional.signal, mask=mask)).denoised
    assert torch.allclose(batch[..., :200], alone, atol=2e-5)
    assert not bool(batch[..., 200:].any())


def test_a_recording_shorter_than_the_signal_is_refused():
    model = network()
    with pytest.raises(ParameterError, match="covers 96 samples and x needs 208"):
        model(sound(1, 200), LEVEL[:1], model.encode(DegradedConditioner()(sound(1, 96))))


def test_a_recording_without_its_mask_is_refused():
    with pytest.raises(ParameterError, match="has 1 channels and must have 2"):
        network().encode(Condition(signal=sound()))


@pytest.mark.parametrize("changes", [{"hop_length": 40}, {"level": 0.0}, {"corner": -1.0}])
def test_invalid_networks_are_refused(changes: dict[str, float]):
    with pytest.raises(ParameterError, match="must be"):
        network(**changes)


def test_stereo_is_refused():
    with pytest.raises(ParameterError, match="channels=2 must be 1"):
        network()(torch.zeros(1, 2, 100), LEVEL[:1], Condition())


def gaussian(*, variance: float, kept: float) -> SpectralRestorer:
    """Make a network whose every bin has this variance, against the expected one, and keeps this share."""
    model = network()
    torch.nn.init.zeros_(model.output_projection.weight)
    assert model.output_projection.bias is not None
    with torch.no_grad():
        model.output_projection.bias.zero_()
        model.output_projection.bias[:33] = math.log(variance)
        model.output_projection.bias[33:66] = torch.tensor(kept).logit().clamp(-80.0, 80.0)
    return model


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("t", [1e-4, 0.3, 0.5, 0.999])
def test_every_bin_is_the_posterior_mean_of_its_gaussian(t: float, kept: float):
    model = gaussian(variance=2.0, kept=kept)
    x0, recording = sound(), sound(seed=1)
    sigma = 0.1 * t / (1.0 - t)
    x = x0 + sigma * sound(seed=2) / 0.1
    given = model((1.0 - t) * x, torch.full((2,), t), model.encode(DegradedConditioner()(recording)))
    window = torch.hann_window(64)
    spectra = [model.stft.forward(F.pad(each[:, 0], (0, 8))) for each in (x, recording)]
    noise = sigma**2 * window.square().sum()
    frequency = torch.linspace(0.0, 8000.0, 33)
    speech = 2.0 * 0.07**2 * window.square().sum() / (1.0 + (frequency / 500.0) ** 2)
    share = (speech / (speech + noise))[:, None]
    mean = kept * spectra[1]
    expected = model.stft.inverse(mean + share * (spectra[0] - mean), length=208)[:, None, :200]
    assert torch.allclose(given, expected, atol=2e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("t", "passed"), [(0.0, "x"), (1.0, "recording")])
def test_at_the_ends_of_the_clock_it_is_x_and_the_recording(t: float, passed: str):
    """Where there is no noise x, and where there is nothing else the mean, whatever the weights."""
    model = gaussian(variance=30.0, kept=1.0)
    x, recording = sound(), sound(seed=1)
    given = model((1.0 - t) * x, torch.full((2,), t), model.encode(DegradedConditioner()(recording)))
    assert torch.allclose(given, {"x": x, "recording": recording}[passed], atol=1e-5)


def test_quiet_bins_have_as_much_influence_as_loud_ones():
    """A level that falls by 20 dB changes directions by a root of 10 and logarithms by a quarter of 2 log(10)."""
    model = network()
    parts = model._analysed(sound())
    loud, quiet = (model._features(gain * parts) for gain in (1.0, 0.1))
    bins = 33
    assert torch.allclose(loud[:, : 2 * bins], 10**0.5 * quiet[:, : 2 * bins], rtol=0.02, atol=0.05)
    difference = loud[:, 2 * bins :] - quiet[:, 2 * bins :]
    assert float(difference.median()) == pytest.approx(0.5 * torch.log(torch.tensor(10.0)).item(), rel=1e-3)


def test_dropout_omits_whole_recordings_at_its_rate():
    conditional = DegradedConditioner(dropout=0.3).dropped(
        DegradedConditioner()(torch.ones(2000, 1, 4)), torch.Generator().manual_seed(0)
    )
    assert conditional.signal is not None
    kept = conditional.signal.flatten(1).mean(dim=1)
    assert set(kept.tolist()) == {0.0, 1.0}
    assert abs(float((kept == 0).sum()) - 600) < 5 * (2000 * 0.21) ** 0.5


@pytest.mark.parametrize("arguments", [{"dropout": 1.0}, {"dropout": -0.1}, {"level": 0.0}])
def test_invalid_conditioners_are_refused(arguments: dict[str, float]):
    with pytest.raises(ParameterError, match="must"):
        DegradedConditioner(**arguments)
