import pytest
import torch
from analytic import EdmGaussianNetwork, Gaussian, GaussianNetwork
from torch import nn

from audiodiff.condition import Condition
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.preconditioning import EDM, Epsilon, Sample, V, Velocity
from audiodiff.diffusion.process import VE, DiscreteVP, Flow, VPCosine, VPLinear, linear_betas
from audiodiff.errors import ParameterError
from audiodiff.networks.network import Network
from audiodiff.types import ReceptiveField

PROCESSES = {
    "vp_linear": VPLinear(),
    "vp_cosine": VPCosine(),
    "flow": Flow(),
    "flow_quiet": Flow(noise_scale=0.1),
    "ve": VE(),
    "discrete": DiscreteVP(linear_betas(1e-4, 0.05, 50)),
}
PARAMETERISATIONS = {"epsilon": Epsilon, "sample": Sample, "v": V, "velocity": Velocity}


@pytest.fixture
def data() -> Gaussian:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(2, 16, generator=generator, dtype=torch.float64)
    variance = 0.1 + torch.rand(2, 16, generator=generator, dtype=torch.float64)
    return Gaussian(mean, variance)


def noisy(data: Gaussian, sigma: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x0, eps = torch.randn(2, len(sigma), *data.mean.shape, generator=generator, dtype=torch.float64)
    return data.mean + data.variance.sqrt() * x0 + sigma[:, None, None] * eps


@pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
@pytest.mark.parametrize("target", PARAMETERISATIONS)
def test_every_parameterisation_of_every_process_gives_the_exact_denoiser(data, process, target):
    denoiser = Denoiser(GaussianNetwork(data, process, target), PARAMETERISATIONS[target](process))
    # Up to t = 0.99: a = 1 - t loses as many digits as t comes near to 1.
    sigma = process.sigma(process.last * torch.linspace(0.011, 0.99, 23, dtype=torch.float64))
    x = noisy(data, sigma)
    # A target that is small beside x loses digits in proportion to x.
    scale = torch.maximum(torch.ones_like(sigma), sigma)[:, None, None]
    error = (denoiser(x, sigma, Condition()).denoised - data.denoise(x, sigma)).abs() / scale
    assert error.max() < 1e-12


def test_edm_gives_the_exact_denoiser(data):
    sigma = torch.logspace(-3, 2, 23, dtype=torch.float64)
    x = noisy(data, sigma)
    denoiser = Denoiser(EdmGaussianNetwork(data, 0.3), EDM(sigma_data=0.3))
    error = (denoiser(x, sigma, Condition()).denoised - data.denoise(x, sigma)).abs() / (1.0 + sigma[:, None, None])
    assert error.max() < 1e-12


def test_edm_keeps_input_and_target_of_the_network_at_unit_variance():
    sigma = torch.logspace(-3, 3, 31, dtype=torch.float64)
    scalings = EDM(sigma_data=0.3)(sigma)
    ones = torch.ones_like(sigma)
    torch.testing.assert_close(scalings.c_in**2 * (0.3**2 + sigma**2), ones)
    # x0 - c_skip x = (1 - c_skip) x0 - c_skip sigma eps
    power = (1.0 - scalings.c_skip) ** 2 * 0.3**2 + scalings.c_skip**2 * sigma**2
    torch.testing.assert_close(power / scalings.c_out**2, ones)


class Counting(Network):
    """A network that counts how often it encodes."""

    receptive_field = ReceptiveField(0, 0)

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv1d(1, 1, 1)
        self.encoded = 0

    def encode(self, condition: Condition) -> Condition:
        self.encoded += 1
        return condition

    def forward(self, x, c_noise, condition):
        return self.inner(x)


def test_bind_encodes_once_and_denoises_like_forward():
    network = Counting()
    denoiser = Denoiser(network, Epsilon(VPCosine()))
    x, sigma = torch.randn(2, 1, 8), torch.tensor([0.5, 2.0])
    denoise = denoiser.bind(Condition())
    results = [denoise(x, sigma) for _ in range(3)]
    assert network.encoded == 1
    assert all(torch.equal(result, denoiser(x, sigma, Condition()).denoised) for result in results)


def test_gradients_reach_the_network_through_bind():
    network = Counting()
    Denoiser(network, V(Flow())).bind(Condition())(torch.randn(1, 1, 8), torch.ones(1)).sum().backward()
    assert network.inner.weight.grad is not None


def test_activations_are_outputs_of_named_modules_and_leave_no_hook():
    network = Counting()
    denoiser = Denoiser(network, Epsilon(VPCosine()))
    x, sigma = torch.randn(1, 1, 8), torch.ones(1)
    found = denoiser.activations(x, sigma, Condition(), layers=["inner"])
    torch.testing.assert_close(found["inner"], denoiser(x, sigma, Condition()).raw)
    assert not network.inner._forward_hooks
    with pytest.raises(ParameterError, match="'outer'"):
        denoiser.activations(x, sigma, Condition(), layers=["inner", "outer"])
    assert not network.inner._forward_hooks


def test_float32_signals_get_scalings_that_were_computed_in_float64():
    process = DiscreteVP(linear_betas(1e-4, 0.05, 50))
    prediction = Denoiser(Counting(), Epsilon(process))(torch.randn(1, 1, 8), torch.tensor([0.01]), Condition())
    assert prediction.denoised.dtype == torch.float32
    assert prediction.scalings.c_noise.dtype == torch.float64
