"""WaveNet, its embeddings and its upsampler, beside LMNT's DiffWave (the package diffwave)."""

import math

import numpy as np
import pytest
import torch
from peers import inference, model, params
from torch import Tensor, nn

from audiodiff.condition import Condition
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.grid import BetaTable, Discrete, Grid
from audiodiff.diffusion.preconditioning import Epsilon
from audiodiff.diffusion.process import DiscreteVP, VPCosine, linear_betas
from audiodiff.diffusion.sampler import Sampler, clamp_scaled, unit_start
from audiodiff.diffusion.solvers import euler_ancestral
from audiodiff.errors import ParameterError
from audiodiff.networks.embedding import Sinusoidal, StepTable
from audiodiff.networks.residual import ResidualStack
from audiodiff.networks.upsample import Upsampler, upsample_factors
from audiodiff.networks.wavenet import WaveNet

pytestmark = pytest.mark.numeric

HOP_LENGTH = 256
N_MELS = 80
N_FRAMES = 3


def peer_network() -> model.DiffWave:
    """Make LMNT's network at its own size, its last layer filled so that it says something."""
    torch.manual_seed(0)
    peer = model.DiffWave(params.AttrDict(params.params)).eval()
    # At initialisation the last layer is 0. A larger std than this one drives untrained sampling into the clamp.
    nn.init.normal_(peer.output_projection.weight, std=0.1)
    return peer


def own_network(**changes) -> WaveNet:
    return WaveNet(StepTable(50), frame_bands=N_MELS, hop_length=HOP_LENGTH, **changes).eval()


def own_name(name: str) -> str:
    """Translate the name of a weight of LMNT's into ours."""
    for theirs, ours in (
        ("residual_layers.", "stack.blocks."),
        ("diffusion_projection", "step_projection"),
        ("conditioner_projection", "condition_projection"),
        ("diffusion_embedding.", "step_encoder."),
        ("spectrogram_upsampler.conv1", "upsample.stages.0"),
        ("spectrogram_upsampler.conv2", "upsample.stages.1"),
    ):
        name = name.replace(theirs, ours)
    return name


@pytest.fixture(scope="module")
def peer() -> model.DiffWave:
    return peer_network()


@pytest.fixture(scope="module")
def own(peer) -> WaveNet:
    network = own_network()
    network.load_state_dict({own_name(name): weight for name, weight in peer.state_dict().items()}, strict=True)
    return network


@pytest.fixture(scope="module")
def mel() -> Tensor:
    return torch.rand(1, N_MELS, N_FRAMES, generator=torch.Generator().manual_seed(1))


def white(step: int) -> Tensor:
    return torch.randn(1, 1, N_FRAMES * HOP_LENGTH, generator=torch.Generator().manual_seed(100 + step))


@pytest.mark.parametrize("t", [0.0, 7.0, 49.0, 0.8941341, 42.9186431])
def test_the_network_is_diffwaves_at_whole_and_fractional_steps(peer, own, mel, t):
    x = white(0)
    step = torch.full((1,), t)
    with torch.no_grad():
        expected = peer(x.squeeze(1), mel, step)
        actual = own(x, step, own.encode(Condition(frames=mel)))
    assert 0.1 < expected.std() < 10.0
    torch.testing.assert_close(actual, expected, rtol=0.0, atol=1e-4 * expected.std().item())


@pytest.mark.parametrize(
    ("fast", "grid", "n_steps"),
    [
        (True, BetaTable([0.0001, 0.001, 0.01, 0.05, 0.2, 0.5]), 6),
        (False, Discrete(DiscreteVP(linear_betas(1e-4, 0.05, 50))), 50),
    ],
    ids=["fast", "full"],
)
def test_sampling_is_diffwaves(monkeypatch, peer, own, mel, fast: bool, grid: Grid, n_steps: int):
    draws = [white(step) for step in range(n_steps)]
    left = iter(draws)
    monkeypatch.setattr(inference.torch, "randn", lambda *_, **__: next(left).squeeze(1))
    monkeypatch.setattr(inference.torch, "randn_like", lambda *_, **__: next(left).squeeze(1))
    monkeypatch.setitem(inference.models, "in memory", peer)
    expected, _ = inference.predict(mel, "in memory", params={}, device=torch.device("cpu"), fast_sampling=fast)
    monkeypatch.undo()

    process = DiscreteVP(linear_betas(1e-4, 0.05, 50))
    sampler = Sampler(euler_ancestral, grid, n_steps, unit_start(process), clamp_scaled(process))
    with torch.no_grad():
        denoise = Denoiser(own, Epsilon(process)).bind(Condition(frames=mel))
        actual = sampler(denoise, draws[0], lambda like, step: draws[step])
    # Something else than the clamp alone is compared.
    assert (expected.abs() < 0.999).float().mean() > 0.5
    torch.testing.assert_close(actual.squeeze(1), expected, rtol=0.0, atol=1e-4)


def test_the_step_table_holds_sines_and_mixes_its_rows():
    table = StepTable(50)
    t = torch.tensor([3.0, 4.0])
    rows = table(t)
    frequencies = 10.0 ** (4.0 * np.arange(64) / 63.0)
    exact = np.concatenate([np.sin(3.0 * frequencies), np.cos(3.0 * frequencies)])
    # float32 rounds arguments of 30 000 to 0.002.
    np.testing.assert_allclose(rows[0].numpy(), exact, atol=4e-3)
    torch.testing.assert_close(table(torch.tensor([3.25])), (0.75 * rows[:1] + 0.25 * rows[1:]))


def test_the_sinusoidal_embedding_has_the_stated_frequencies():
    features = Sinusoidal(6, f_lowest=0.5, f_highest=8.0)(torch.tensor([0.3]))
    arguments = 2.0 * math.pi * 0.3 * torch.tensor([0.5, 2.0, 8.0])
    torch.testing.assert_close(features[0], torch.cat([arguments.sin(), arguments.cos()]))


@pytest.mark.parametrize("hop_length", [1, 2, 7, 64, 120, 128, 160, 200, 240, 256, 257, 275, 300, 320, 441, 512])
def test_the_upsampler_makes_exactly_hop_length_samples_a_frame(hop_length):
    for n_frames in (1, 5):
        assert Upsampler(hop_length)(torch.zeros(1, 4, n_frames)).shape == (1, 4, n_frames * hop_length)


def test_the_factors_multiply_to_the_hop():
    assert all(math.prod(upsample_factors(hop_length)) == hop_length for hop_length in range(1, 1025))
    assert upsample_factors(256) == (16, 16)


@pytest.mark.parametrize("factors", [(4, 5), (20,), (2, 2, 5), (1, 20)])
def test_any_factors_that_multiply_to_the_hop_are_taken(factors):
    assert Upsampler(20, factors)(torch.zeros(1, 4, 3)).shape == (1, 4, 60)


def test_factors_with_another_product_are_refused():
    with pytest.raises(ParameterError, match=r"upsample factors 16 \* 8 = 128 must multiply to hop_length=256"):
        Upsampler(256, (16, 8))


def small(**changes) -> WaveNet:
    torch.manual_seed(0)
    network = WaveNet(Sinusoidal(8), channels=6, n_layers=4, dilation_cycle=2, step_features=8, **changes)
    nn.init.normal_(network.output_projection.weight)
    return network


def test_the_output_of_a_new_network_is_zero_but_for_its_bias():
    network = WaveNet(Sinusoidal(8), channels=6, n_layers=2, dilation_cycle=2)
    result = network(torch.randn(2, 1, 30), torch.rand(2), network.encode(Condition()))
    torch.testing.assert_close(result, network.output_projection.bias.reshape(1, 1, 1).expand(2, 1, 30))


def test_an_output_depends_on_its_receptive_field_and_on_nothing_else():
    network = small()
    receptive_field = network.stack.receptive_field.before
    assert receptive_field == 1 + 2 + 1 + 2
    x = torch.randn(1, 1, 64, requires_grad=True)
    network(x, torch.rand(1), Condition())[0, 0, 30].backward()
    touched = x.grad.squeeze().nonzero().squeeze()
    assert (touched.min(), touched.max()) == (30 - receptive_field, 30 + receptive_field)


def test_channels_of_a_learned_variance_leave_the_others_unchanged():
    plain, double = small(in_channels=2), small(in_channels=2, out_channels=4)
    shared = {name: weight for name, weight in plain.state_dict().items() if not name.startswith("output_projection")}
    double.load_state_dict(shared, strict=False)
    for name in ("weight", "bias"):
        of_double = getattr(double.output_projection, name)
        of_double.data[:2] = getattr(plain.output_projection, name).data
    x, sigma = torch.randn(3, 2, 40), torch.tensor([0.1, 1.0, 7.0])
    process = VPCosine()
    expected = Denoiser(plain, Epsilon(process))(x, sigma, Condition())
    prediction = Denoiser(double, Epsilon(process), learns_variance=True)(x, sigma, Condition())
    torch.testing.assert_close(prediction.denoised, expected.denoised)
    assert prediction.variance_fraction is not None
    assert prediction.variance_fraction.shape == x.shape
    assert prediction.variance_fraction.std() > 0.0


def test_the_result_of_an_example_does_not_depend_on_its_batch():
    network = small(frame_bands=3, hop_length=6, vector_features=5)
    x, t = torch.randn(3, 1, 60), torch.rand(3)
    condition = Condition(vector=torch.randn(3, 5), frames=torch.randn(3, 3, 10))
    one = Condition(vector=condition.vector[1:2], frames=condition.frames[1:2])
    together = network(x, t, network.encode(condition))
    torch.testing.assert_close(network(x[1:2], t[1:2], network.encode(one)), together[1:2], rtol=1e-4, atol=1e-5)


def test_every_condition_changes_the_result():
    network = small(frame_bands=3, hop_length=6, signal_channels=2, vector_features=5)
    x, t = torch.randn(1, 1, 60), torch.rand(1)
    given = {"vector": torch.randn(1, 5), "frames": torch.randn(1, 3, 10), "signal": torch.randn(1, 2, 60)}
    before = network(x, t, network.encode(Condition(**given)))
    for name in given:
        changed = Condition(**{**given, name: given[name] + 1.0})
        assert not torch.allclose(network(x, t, network.encode(changed)), before)
    assert not torch.allclose(network(x, t + 0.3, network.encode(Condition(**given))), before)


def test_frames_at_the_rate_of_x_are_not_upsampled():
    network = small(in_channels=7, frame_bands=3)
    frames = torch.randn(1, 3, 20)
    assert torch.equal(network.encode(Condition(frames=frames)).signal, frames)
    assert network(torch.randn(1, 7, 20), torch.rand(1), network.encode(Condition(frames=frames))).shape == (1, 7, 20)


def test_frames_beyond_x_are_cut_and_missing_ones_refused():
    network = small(frame_bands=3, hop_length=6)
    encoded = network.encode(Condition(frames=torch.randn(1, 3, 10)))
    assert network(torch.randn(1, 1, 55), torch.rand(1), encoded).shape == (1, 1, 55)
    with pytest.raises(ParameterError, match="covers 60 samples and x has 61"):
        network(torch.randn(1, 1, 61), torch.rand(1), encoded)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (Condition(vector=torch.zeros(1, 5)), "condition.frames=None: this network needs 3"),
        (Condition(vector=torch.zeros(1, 5), frames=torch.zeros(1, 80, 4)), "frames has 80 features .* needs 3"),
        (Condition(frames=torch.zeros(1, 3, 4)), "condition.vector=None: this network needs 5"),
    ],
)
def test_conditions_of_wrong_sizes_are_refused(condition, message):
    with pytest.raises(ParameterError, match=message):
        small(frame_bands=3, hop_length=6, vector_features=5).encode(condition)


def test_a_stack_refuses_conditions_that_it_does_not_have():
    stack = ResidualStack(4, n_layers=2, dilation_cycle=2, step_features=8, condition_channels=3)
    hidden, step, local = torch.zeros(1, 4, 10), torch.zeros(1, 8), torch.zeros(1, 3, 10)
    with pytest.raises(ParameterError, match="local condition was not given"):
        stack(hidden, step)
    with pytest.raises(ParameterError, match="a vector was given"):
        stack(hidden, step, local, torch.zeros(1, 5))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(kernel_size=4), "kernel_size=4 must be odd"),
        (lambda: ResidualStack(4, n_layers=0, dilation_cycle=2), "n_layers=0"),
        (lambda: small(frame_bands=3, hop_length=6, upsample=Upsampler(8)), "upsample.hop_length=8 must equal"),
        (lambda: small(out_channels=0), "out_channels=0 must be at least 1"),
        (lambda: Sinusoidal(7), "n_features=7 must be even"),
    ],
)
def test_invalid_networks_are_refused(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_every_weight_of_a_conditional_network_is_trained():
    network = small(frame_bands=3, hop_length=6, signal_channels=2, vector_features=5)
    condition = Condition(torch.randn(1, 5), torch.randn(1, 3, 10), torch.randn(1, 2, 60))
    network(torch.randn(1, 1, 60), torch.rand(1), network.encode(condition)).square().sum().backward()
    # The last block's residual half goes nowhere, as in DiffWave: half of one weight, never a whole one.
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0.0 for weight in network.parameters())
