import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from analytic import Gaussian, Mixture
from torch import Tensor
from torch.distributions import Normal

from audiodiff.condition import Condition
from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.likelihood import (
    Adaptive,
    Integrate,
    Probes,
    RungeKutta,
    basis,
    bits_per_dimension,
    gaussian,
    log_likelihood,
    rademacher,
)
from audiodiff.diffusion.noise import BlockNoise
from audiodiff.diffusion.preconditioning import EDM
from audiodiff.errors import ParameterError
from audiodiff.networks.embedding import Sinusoidal
from audiodiff.networks.wavenet import WaveNet

pytestmark = pytest.mark.numeric

number = partial(torch.tensor, dtype=torch.float64)
# Point-symmetric and of equal variance in both channels, so that at sigma_max the law is N(0, sigma^2 + mean square)
# but for terms of the order of sigma^-4.
MIXTURE = Mixture(
    number([0.25, 0.25, 0.25, 0.25]),
    number([[1.0, 0.5], [-1.0, -0.5], [0.5, -1.0], [-0.5, 1.0]]),
    number([0.04, 0.04, 0.3, 0.3]),
)
MEAN_SQUARE = 0.5 * (1.0**2 + 0.5**2) + 0.5 * (0.04 + 0.3)
SIGMA_MIN, SIGMA_MAX = 0.1, 60.0


def of_mixture(
    x: Tensor, *, probes: Probes, integrate: Integrate, data: Mixture = MIXTURE, sigma_min: float = SIGMA_MIN
) -> Tensor:
    return log_likelihood(
        data.denoise,
        x,
        sigma_min=sigma_min,
        sigma_max=SIGMA_MAX,
        probes=probes,
        integrate=integrate,
        data_variance=MEAN_SQUARE,
    )


def density_of_mixture(x: Tensor) -> Tensor:
    return MIXTURE.log_prob(x, torch.full((len(x),), SIGMA_MIN, dtype=torch.float64))


@pytest.mark.parametrize("integrate", [Adaptive(rtol=1e-8, atol=1e-8), RungeKutta(120)], ids=["adaptive", "fixed"])
@pytest.mark.parametrize("probes", [basis, rademacher(BlockNoise(seed=3, items=range(5)), 1)], ids=["basis", "signs"])
def test_the_likelihood_of_a_gaussian_is_its_density_with_either_trace(integrate, probes):
    variance = 0.3
    x = 2.0 * torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = Normal(number(0.0), number(variance + 0.1**2).sqrt()).log_prob(x).sum(dim=(1, 2))
    assert exact.min() < -20.0  # far out as well
    data = Gaussian(torch.zeros(2, 2).double(), torch.full((2, 2), variance, dtype=torch.float64))
    # With the data's own variance the start is exact at any sigma_max.
    actual = log_likelihood(
        data.denoise,
        x,
        sigma_min=0.1,
        sigma_max=5.0,
        probes=probes,
        integrate=integrate,
        data_variance=variance,
    )
    torch.testing.assert_close(actual, exact, rtol=0.0, atol=2e-6)


def of_uneven_gaussian(x: Tensor, variance: Tensor, integrate: Integrate) -> tuple[Tensor, Tensor]:
    """Return what is computed, and the exact result of starting from a law that is not quite the data's."""
    data = Gaussian(torch.zeros_like(variance), variance)
    first, last, start = 0.2, 8.0, 0.7
    actual = log_likelihood(
        data.denoise, x, sigma_min=first, sigma_max=last, probes=basis, integrate=integrate, data_variance=start
    )
    end = data.flow(x, first, last)
    stretch = 0.5 * torch.log((variance + last**2) / (variance + first**2))
    prior = Normal(number(0.0), number(last**2 + start).sqrt()).log_prob(end)
    return actual, (prior + stretch).sum(dim=(1, 2))


def test_the_likelihood_of_an_uneven_gaussian_is_its_density():
    variance = number([[0.01, 0.3], [4.0, 0.5]])
    x = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    actual, exact = of_uneven_gaussian(x, variance, Adaptive(rtol=1e-8, atol=1e-8))
    torch.testing.assert_close(actual, exact, rtol=0.0, atol=2e-6)


def test_the_fixed_steps_converge_at_order_four():
    variance = number([[0.1], [2.0]])
    x = number([[[0.4], [1.1]], [[-1.0], [0.2]]])
    errors: list[float] = []
    for n_steps in (10, 20, 40):
        actual, exact = of_uneven_gaussian(x, variance, RungeKutta(n_steps))
        errors.append((actual - exact).abs().max().item())
    orders = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert orders[-1] == pytest.approx(4.0, abs=0.3), errors


def test_of_a_mixture_it_is_the_density():
    x = torch.cat([MIXTURE.sample(4, torch.Generator().manual_seed(0)), number([[[2.0], [-2.0]]])])
    actual = of_mixture(x, probes=basis, integrate=Adaptive(rtol=1e-7, atol=1e-7))
    torch.testing.assert_close(actual, density_of_mixture(x), rtol=0.0, atol=2e-5)


@pytest.mark.parametrize("integrate", [Adaptive(rtol=1e-5, atol=1e-5), RungeKutta(50)], ids=["adaptive", "fixed"])
def test_float32_is_as_precise_as_its_rounding(integrate):
    x = MIXTURE.sample(4, torch.Generator().manual_seed(0))
    single = Mixture(*(part.float() for part in (MIXTURE.weights, MIXTURE.means, MIXTURE.variances)))
    actual = of_mixture(x.float(), probes=basis, integrate=integrate, data=single)
    torch.testing.assert_close(actual, density_of_mixture(x), rtol=0.0, atol=2e-3)


def test_the_density_of_any_denoiser_integrates_to_one():
    # No data has this denoiser; the flow still carries a Gaussian to a density.
    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return (torch.tanh(2.0 * x) + 0.3 * torch.sin(x + 1.0)) / (1.0 + pad_dims_like(sigma, x) ** 2)

    x = torch.linspace(-6.0, 6.0, 401, dtype=torch.float64)[:, None, None]
    log_density = log_likelihood(
        denoise, x, sigma_min=0.5, sigma_max=30.0, probes=basis, integrate=RungeKutta(60), data_variance=1.0
    )
    assert log_density.max() - log_density[len(x) // 2] > 0.5  # not a Gaussian
    assert torch.trapezoid(log_density.exp(), x.flatten()).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("kind", [rademacher, gaussian])
def test_hutchinsons_estimate_is_unbiased(kind):
    n = 400
    x = number([[[0.7], [0.3]]]).expand(n, 2, 1)  # off the axes of the Jacobian
    integrate = RungeKutta(20)
    exact = of_mixture(x[:1], probes=basis, integrate=integrate)
    estimates = of_mixture(x, probes=kind(BlockNoise(seed=0, items=range(n)), 1), integrate=integrate)
    error = estimates.std() / math.sqrt(n)
    assert error > 0.005
    assert (estimates.mean() - exact).abs().item() < 4.5 * error


def test_the_estimate_of_several_probes_is_the_mean_of_the_single_ones():
    x = MIXTURE.sample(3, torch.Generator().manual_seed(0))
    noise = BlockNoise(seed=0, items=range(3))
    estimate = partial(of_mixture, x, integrate=RungeKutta(20))
    singles = [estimate(probes=gaussian(lambda like, step, k=k: noise(like, k), 1)) for k in range(3)]
    torch.testing.assert_close(estimate(probes=gaussian(noise, 3)), torch.stack(singles).mean(dim=0))


def test_probes_of_signs_are_signs():
    like = torch.zeros(2, 1, 5000)
    first, second = rademacher(BlockNoise(seed=0, items=[0, 1]), 2)(like)
    assert first.dtype == like.dtype
    assert set(first.flatten().tolist()) == {-1.0, 1.0}
    # Sums of 10 000 independent signs have a standard deviation of 100.
    assert max(first.sum().abs(), (first * second).sum().abs()) < 450.0


def test_an_example_does_not_depend_on_its_batch():
    x = MIXTURE.sample(4, torch.Generator().manual_seed(0))
    fixed = RungeKutta(40)
    together = of_mixture(x, probes=gaussian(BlockNoise(seed=0, items=[3, 4, 5, 6]), 2), integrate=fixed)
    alone = of_mixture(x[1:2], probes=gaussian(BlockNoise(seed=0, items=[4]), 2), integrate=fixed)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-12, atol=0.0)
    adaptive = Adaptive(rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        of_mixture(x, probes=basis, integrate=adaptive)[1:2],
        of_mixture(x[1:2], probes=basis, integrate=adaptive),
        rtol=1e-12,
        atol=0.0,
    )


def test_a_network_is_differentiated_with_gradients_off_and_keeps_none():
    torch.manual_seed(0)
    network = WaveNet(Sinusoidal(8), channels=4, n_layers=2, dilation_cycle=2)
    torch.nn.init.normal_(network.output_projection.weight, std=0.1)
    denoise = Denoiser(network, EDM(sigma_data=0.5)).bind(Condition())
    x = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        value = log_likelihood(denoise, x, sigma_min=0.1, sigma_max=5.0, probes=basis, integrate=RungeKutta(4))
    assert value.isfinite().all()
    assert not value.requires_grad
    assert all(weight.grad is None for weight in network.parameters())


def test_bits_of_a_gaussian_are_those_of_its_bins():
    std, width = 0.1, 2.0**-7
    edges = width * (torch.arange(-130.0, 131.0, dtype=torch.float64) - 0.5)
    mass = Normal(number(0.0), number(std)).cdf(edges).diff()
    mass = mass[mass > 0.0]
    entropy = -(mass * torch.log2(mass)).sum()
    mean_log_density = number([-0.5 * math.log(2.0 * math.pi * math.e * std**2)])
    bits = bits_per_dimension(7.0 * mean_log_density, n_dims=7, bin_width=width)
    # To the next order in the width, the bins' entropy is greater by w^2 / (24 std^2) nats.
    assert entropy.item() - bits.item() == pytest.approx((width / std) ** 2 / 24.0 / math.log(2.0), rel=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(RungeKutta, 0), "n_steps=0"),
        (partial(Adaptive, rtol=0.0), "rtol=0.0 and atol"),
        (partial(rademacher, BlockNoise(seed=0, items=[0]), 0), "n_probes=0"),
        (
            partial(of_mixture, torch.zeros(1, 2, 1), probes=basis, integrate=RungeKutta(1), sigma_min=0.0),
            "sigma_min=0.0",
        ),
        (partial(bits_per_dimension, torch.zeros(1), n_dims=0, bin_width=1.0), "n_dims=0"),
        (partial(bits_per_dimension, torch.zeros(1), n_dims=1, bin_width=0.0), "bin_width=0.0"),
    ],
)
def test_invalid_options_are_refused(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_a_denoiser_that_is_not_finite_is_reported():
    def broken(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.log(-(x**2))

    with pytest.raises(ParameterError, match="denoise is not finite"):
        log_likelihood(broken, torch.ones(1, 1, 2), sigma_min=0.1, sigma_max=1.0, probes=basis, integrate=Adaptive())
