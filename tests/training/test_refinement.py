"""Training on inversions of mels: what the network is given, what its objective hears, and that it is learnt from."""

from pathlib import Path

import pytest
import runs
import tiny
import torch

from audiodiff.condition import Condition
from audiodiff.diffusion.denoiser import Prediction
from audiodiff.diffusion.objective import MultiResolution
from audiodiff.diffusion.preconditioning import Scalings
from audiodiff.dsp.inversion import constrain_low_band, invert
from audiodiff.dsp.mel import dialect
from audiodiff.errors import CheckpointError, ParameterError
from audiodiff.models.mel_inverter import MelInverter
from audiodiff.networks.embedding import Sinusoidal
from audiodiff.networks.refiner import SpectralRefiner
from audiodiff.training.adversarial import Adversarial
from audiodiff.training.building import build_training_step
from audiodiff.training.refinement import Refinement, inverted_together
from audiodiff.training.step import Float32Batch


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def step(root: Path, *more: str) -> Refinement:
    torch.manual_seed(0)
    module = build_training_step(runs.config(root, *tiny.REFINING, *more))
    assert isinstance(module, Refinement)
    return module


def loss(objective: MultiResolution, estimate: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    one = torch.ones(len(truth))
    prediction = Prediction(estimate, estimate, Scalings(one, one, one, one), None)
    return objective(prediction, truth, truth, one)


def test_the_objective_hears_magnitudes_alone():
    truth, objective = noise(2, 1, 8000), MultiResolution(sample_rate=16000)
    assert float(loss(objective, truth, truth).abs().max()) == 0.0
    torch.testing.assert_close(loss(objective, -truth, truth), torch.zeros(2), rtol=0, atol=1e-6)
    louder, other = loss(objective, 2.0 * truth, truth), loss(objective, noise(2, 1, 8000, seed=1), truth)
    # |2 X|^(1/2) - |X|^(1/2), and E |X|^(1/2) = Gamma(5/4) where |X|^2 has the mean 1 of an exponential distribution.
    torch.testing.assert_close(louder, torch.full((2,), 0.414214 * 0.9064), rtol=0.02, atol=0)
    assert float(other.min()) > 0.2


def test_the_objective_does_not_judge_where_the_truth_has_nothing():
    objective = MultiResolution(sample_rate=16000)
    spectrum = torch.fft.rfft(noise(1, 1, 8192))
    low, high = spectrum.clone(), spectrum.clone()
    low[..., 2400:] = 0
    high[..., :2600] = 0
    window = torch.hann_window(8192)
    truth, above = (torch.fft.irfft(part) * window for part in (low, high))
    kept = loss(objective, truth + above, truth)
    # But for what a window of 256 samples sees across the edge.
    assert float(kept) < 0.02 * float(loss(objective, truth + above, truth + above.flip(-1)))
    full = truth + 1e-3 * above
    assert float(loss(objective, truth + above, full)) > 10.0 * float(kept)


def test_means_over_frames_leave_noise_its_fluctuations():
    truth, other = noise(2, 1, 32000), noise(2, 1, 32000, seed=1)
    one_by_one, means = (MultiResolution(sample_rate=16000, smoothing=n) for n in (1, 16))
    # The mean of 16 frames that overlap by three quarters is that of about 8 powers by themselves.
    assert float((loss(means, other, truth) / loss(one_by_one, other, truth)).max()) < 8**-0.5 * 1.2
    assert float(loss(means, truth, truth).abs().max()) == 0.0
    # What fluctuates no more counts for less than what is 3 dB too quiet.
    assert float((loss(means, 0.7 * other, truth) / loss(means, other, truth)).min()) > 1.3
    assert float((loss(one_by_one, 0.7 * other, truth) / loss(one_by_one, other, truth)).max()) < 1.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"windows": [8]}, "windows"),
        ({"exponent": 0.0}, "exponent=0.0"),
        ({"corner": 0.0}, "corner=0.0"),
        ({"smoothing": 0}, "smoothing=0"),
    ],
)
def test_an_objective_out_of_range_is_refused(options: dict[str, object], message: str):
    with pytest.raises(ParameterError, match=message):
        MultiResolution(sample_rate=16000, **options)


@pytest.mark.parametrize("name", ["hifigan", "tacotron2"])
def test_a_batch_is_inverted_together_as_each_would_be_alone(name: str):
    d = dialect(name)
    time = torch.arange(256 * 40) / d.sample_rate
    audio = torch.stack([0.1 * torch.sin(2 * torch.pi * hz * time) + 0.01 * noise(256 * 40) for hz in (150.0, 200.0)])
    mel, white = d.mel(audio), noise(2, 256 * 40, seed=3)
    together = inverted_together(white, mel, dialect=d, n_iterations=4)
    alone = invert(white, mel, dialect=d, n_iterations=4)
    assert together.shape == alone.shape
    if d.centred:
        assert torch.equal(together, alone)
        return
    # The same mel by other phases: the pulses are counted from other frames.
    middle = slice(8, -8)
    torch.testing.assert_close(d.mel(together)[..., :20, middle], d.mel(alone)[..., :20, middle], rtol=0, atol=1.5)
    assert (d.mel(together) - mel)[..., middle].abs().mean() < 1.2 * (d.mel(alone) - mel)[..., middle].abs().mean()


def test_the_network_is_given_an_inversion_of_what_it_is_to_give(recordings: Path, monkeypatch: pytest.MonkeyPatch):
    module = step(recordings, "method.spread_db=6.0")
    caught = []
    denoiser = module.synthesizer.denoiser
    forward = denoiser.forward

    def watched(x, sigma, condition):
        caught.append((x, condition))
        return forward(x, sigma, condition)

    monkeypatch.setattr(denoiser, "forward", watched)
    audio = 0.05 * noise(3, 1, 256 * 30)
    total, plain, sigma = module(Float32Batch(audio), torch.Generator().manual_seed(0))
    assert total.shape == plain.shape == sigma.shape == (3,)
    assert float(sigma.max()) < 1e-3
    ((x, condition),) = caught
    assert x.shape == audio.shape
    d = module.dialect
    assert (d.mel(x[:, 0]) - condition.frames)[..., 4:-4].abs().mean() < 0.5
    # Each at a level of its own, up to 6 dB from its own.
    gain = (condition.frames - d.mel(audio[:, 0])).mean(dim=(1, 2)) * 20.0 / torch.log(torch.tensor(10.0))
    assert float(gain.abs().max()) < 6.1
    assert float(gain.max() - gain.min()) > 0.5


def test_the_network_leaves_phases_alone():
    network = tiny.synthesizer(tiny.REFINING).denoiser.network
    d = dialect("hifigan")
    assert isinstance(network, SpectralRefiner)
    audio = 0.1 * noise(1, 1, 256 * 24)
    with torch.no_grad():
        network.output_projection.weight.zero_()
        network.output_projection.bias.fill_(0.5)
        told = network.encode(Condition(frames=d.mel(audio[:, 0])))
        louder = network(audio, torch.zeros(1), told)
    # One gain for all bins: exp(4 tanh(1/8)).
    torch.testing.assert_close(louder, 1.6444 * audio, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("n_gains", [0, 3])
def test_gains_of_frames_that_do_not_fit_are_refused(n_gains: int):
    with pytest.raises(ParameterError, match=f"n_gains={n_gains} must"):
        SpectralRefiner(Sinusoidal(), dialect=dialect("hifigan"), n_gains=n_gains)


def test_audio_at_full_scale_is_not_made_louder(recordings: Path):
    module = step(recordings, "method.spread_db=12.0")
    varied = module._varied(Float32Batch(torch.ones(16, 1, 100)), torch.Generator().manual_seed(0))
    assert float(varied.audio.max()) == pytest.approx(1.0)
    assert float(varied.audio.min()) >= 10 ** (-12 / 20) - 1e-6


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("method.n_iterations=[]", "must name a number"),
        ("method.n_iterations=[0]", "n_iterations=0"),
        ("method.spread_db=-1", "spread_db=-1"),
    ],
)
def test_what_makes_no_sense_is_refused(more: str, message: str, recordings: Path):
    with pytest.raises(ParameterError, match=message):
        step(recordings, more)


def test_its_second_stage_starts_from_inversions_too(recordings: Path, monkeypatch: pytest.MonkeyPatch):
    small = ("method=adversarial", "method.n_steps=[1]", "method.discriminators.channels=2")
    module = build_training_step(runs.config(recordings, *tiny.REFINING, *small))
    asked = []
    compared = Adversarial._compared

    def watched(self, fake, real):
        asked.append(fake)
        return compared(self, fake, real)

    monkeypatch.setattr(Adversarial, "_compared", watched)
    audio = 0.05 * noise(2, 1, 256 * 20)
    module(Float32Batch(audio), torch.Generator().manual_seed(0))[0].sum().backward()
    d = module.synthesizer.dialect
    assert d is not None
    # The network begins as the identity, so that its sound has the mel before anything is learnt.
    (fake,) = asked
    assert (d.mel(fake[:, 0]) - d.mel(audio[:, 0]))[..., 4:-4].abs().mean() < 0.5
    projection = module.synthesizer.denoiser.network.output_projection
    assert float(projection.weight.grad.abs().max()) > 0.0


def test_what_the_model_gives_is_mended_from_what_none_gives():
    model = tiny.synthesizer(tiny.REFINING)
    d = model.dialect
    assert d is not None
    mel = d.mel(0.05 * noise(1, 256 * 40))
    for parameter in model.denoiser.network.output_projection.parameters():
        parameter.data.zero_()
    made = model.generate(mel, iterations=3, seed=5)
    none = MelInverter(dialect=d).generate(mel, iterations=3, seed=5)
    settled = constrain_low_band(none[:, 0], mel, dialect=d, n_iterations=3)
    # Noise of -74 dB beside it, and 1 - t of the flow, which the iterations that end it take for a start.
    assert (d.mel(made[:, 0]) - d.mel(settled))[..., 4:-4].abs().mean() < 0.1
    above = [torch.fft.rfft(audio)[..., audio.shape[-1] // 8 :] for audio in (made[:, 0], none[:, 0])]
    assert (above[0] - above[1]).norm() < 0.02 * above[1].norm()
    other = model.generate(mel, iterations=4, seed=5)
    assert (other - made).abs().max() > 1e-2


def test_a_first_guess_of_no_iterations_is_refused():
    model = tiny.synthesizer(tiny.REFINING)
    with pytest.raises(ParameterError, match="iterations=0 must be positive"):
        model.generate(torch.zeros(1, 80, 20) - 5.0, iterations=0)
    with pytest.raises(CheckpointError, match="n_iterations=0 must be positive"):
        tiny.synthesizer([*tiny.REFINING, "model.n_iterations=0"])
    with pytest.raises(CheckpointError, match="conditioner=mel"):
        tiny.synthesizer([*tiny.UNCONDITIONAL, "model.warm_start=true"])


def test_a_long_sound_in_pieces_is_the_whole(monkeypatch: pytest.MonkeyPatch):
    model = tiny.synthesizer(tiny.REFINING)
    d = model.dialect
    assert d is not None
    time = torch.arange(22050 * 25) / 22050
    audio = 0.05 * torch.sin(2 * torch.pi * 150 * time + torch.sin(8 * time)) + 0.01 * noise(1, len(time))
    mel = d.mel(audio)
    pieces = list(model.generate_chunks([mel], n_samples=d.n_samples(mel.shape[-1])))
    assert len(pieces) > 1
    monkeypatch.setattr("audiodiff.models.chunking.CHUNK_SECONDS", 1000.0)
    whole = model.generate(mel)
    assert (torch.cat(pieces, dim=-1) - whole).abs().max() < 1e-4
