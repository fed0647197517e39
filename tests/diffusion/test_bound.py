"""The variational bound against entropies: expectations are quadratures over x0 and eps, not samples."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from analytic import Gaussian, Mixture
from scipy import stats
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from audiodiff.diffusion.bound import Bound, continuous_bound, variational_bound
from audiodiff.diffusion.divergence import decoder_nats, log_variance_ratio, posterior_divergence, prior_divergence
from audiodiff.diffusion.grid import Discrete
from audiodiff.diffusion.noise import BlockNoise
from audiodiff.diffusion.process import DiscreteVP, linear_betas
from audiodiff.errors import ParameterError

number = partial(torch.tensor, dtype=torch.float64)
MIXTURE = Mixture(number([0.3, 0.7]), number([[-1.0], [0.5]]), number([0.04, 0.1]))
LEVELS = [20.0, 6.0, 2.0, 0.7, 0.3, 0.0]
SIGMAS = number(LEVELS)


def hermite(n: int) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of the standard normal distribution; exact up to degree 2 n - 1."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(n)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())


def product(x0: Tensor, x0_weight: Tensor, n_eps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return x0, eps and their weights for all pairs of nodes, as a batch of single numbers."""
    eps, eps_weight = hermite(n_eps)
    pairs = torch.cartesian_prod(x0, eps)
    weight = torch.cartesian_prod(x0_weight, eps_weight).prod(dim=1)
    return pairs[:, :1, None], pairs[:, 1:, None], weight


def expected(bound: Bound, weight: Tensor) -> Bound:
    return Bound((weight @ bound.prior)[None], (weight @ bound.diffusion)[None], (weight @ bound.reconstruction)[None])


def entropy_of_mixture() -> tuple[Tensor, Tensor, float]:
    """Return nodes of x0, their probabilities, and the entropy, all by the trapezoidal rule, which is exact here."""
    x0 = torch.linspace(-3.5, 3.5, 141, dtype=torch.float64)
    log_density = MIXTURE.log_prob(x0[:, None, None], torch.zeros(1))
    mass = log_density.exp() * (x0[1] - x0[0])
    assert mass.sum().item() == pytest.approx(1.0, abs=1e-12)
    return x0, mass, -(mass * log_density).sum().item()


@pytest.mark.parametrize("variance", [0.01, 1.0, 3.0])
@pytest.mark.parametrize("data_variance", [0.0, 1.0])
def test_of_a_gaussian_each_term_exceeds_the_entropy_by_its_own_divergence(variance, data_variance):
    data = Gaussian(torch.zeros(1, 1).double(), number(variance).reshape(1, 1))
    nodes, node_weight = hermite(3)  # the terms are quadratic in x0 and eps
    x0, eps, weight = product(math.sqrt(variance) * nodes, node_weight, 3)
    bound = variational_bound(data.denoise, x0, SIGMAS, noise=lambda like, step: eps, data_variance=data_variance)
    parts = expected(bound, weight)

    def normal(power: float) -> Normal:
        return Normal(number(0.0), number(power).sqrt())

    def reverse(sigma: float, sigma_next: float) -> float:
        """Return the variance of x_s given x_t, which is x_s with more noise."""
        return (variance + sigma_next**2) - (variance + sigma_next**2) ** 2 / (variance + sigma**2)

    # The means agree, so that every divergence is between variances: of the truth, and of the chain.
    excess = kl_divergence(normal(variance + LEVELS[0] ** 2), normal(LEVELS[0] ** 2 + data_variance))
    for sigma, sigma_next in pairwise(LEVELS[:-1]):
        chain = sigma_next**2 * (1.0 - sigma_next**2 / sigma**2)
        excess += kl_divergence(normal(reverse(sigma, sigma_next)), normal(chain))
    excess += kl_divergence(normal(reverse(LEVELS[-2], 0.0)), normal(LEVELS[-2] ** 2))
    entropy = 0.5 * math.log(2.0 * math.pi * math.e * variance)
    torch.testing.assert_close(parts.total[0], entropy + excess, rtol=0.0, atol=1e-12)


def test_the_bound_of_a_mixture_falls_with_steps_to_a_limit_above_entropy():
    nodes, mass, entropy = entropy_of_mixture()
    x0, eps, weight = product(nodes, mass, 20)
    mean_square = float(mass @ nodes**2)
    sigma_min, sigma_max = 0.05, 30.0

    def noise(like: Tensor, step: int) -> Tensor:
        return eps

    totals = []
    for n_steps in (2, 4, 8, 16, 32, 64, 128):
        levels = sigma_max * (sigma_min / sigma_max) ** torch.linspace(0.0, 1.0, n_steps + 1, dtype=torch.float64)
        sigmas = torch.cat([levels, torch.zeros(1).double()])
        bound = variational_bound(MIXTURE.denoise, x0, sigmas, noise=noise, data_variance=mean_square)
        totals.append(expected(bound, weight).total.item())
    limit = expected(
        continuous_bound(
            MIXTURE.denoise,
            x0,
            sigma_min=sigma_min,
            sigma_max=sigma_max,
            n_levels=48,
            noise=noise,
            data_variance=mean_square,
        ),
        weight,
    ).total.item()
    # What is left of the limit is the decoder's: its variance is sigma^2, the truth's sigma^2 v / (sigma^2 + v) within
    # a component, which costs about sigma^4 / (4 v^2), 4.0e-4 in the mean; the rest is the components' overlap.
    assert 0.0 < limit - entropy < 5e-4
    assert all(more > fewer for more, fewer in pairwise([*totals, limit]))
    # An upper sum of a falling function converges at order one.
    gaps = [total - limit for total in totals]
    assert gaps[-2] / gaps[-1] == pytest.approx(2.0, abs=0.1)


def test_the_limits_diffusion_is_the_integral_over_the_noise():
    variance = 0.25
    data = Gaussian(torch.zeros(1, 1).double(), number(variance).reshape(1, 1))
    nodes, node_weight = hermite(3)
    x0, eps, weight = product(math.sqrt(variance) * nodes, node_weight, 3)
    bound = continuous_bound(
        data.denoise, x0, sigma_min=0.01, sigma_max=40.0, n_levels=40, noise=lambda like, step: eps
    )
    # The integral of v / (sigma (v + sigma^2)) d sigma.
    exact = 0.5 * math.log(40.0**2 / (variance + 40.0**2)) - 0.5 * math.log(0.01**2 / (variance + 0.01**2))
    assert expected(bound, weight).diffusion.sum().item() == pytest.approx(exact, rel=1e-9)


def test_a_term_of_the_bound_is_ddpms_weighted_error_of_the_noise():
    process = DiscreteVP(linear_betas(1e-3, 0.2, 12))
    generator = torch.Generator().manual_seed(0)
    x0, eps, guess = torch.randn(3, 2, 1, 50, generator=generator, dtype=torch.float64)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return x - sigma[:, None, None] * guess

    bound = variational_bound(denoise, x0, Discrete(process)(12), noise=lambda like, step: eps)
    beta = torch.tensor(process.betas, dtype=torch.float64)
    alpha_bar = torch.cumprod(1.0 - beta, dim=0)
    # Ho et al. 2020, eq. 12, with the posterior's own variance (eq. 7).
    small = beta[1:] * (1.0 - alpha_bar[:-1]) / (1.0 - alpha_bar[1:])
    weight = beta[1:] ** 2 / (2.0 * small * (1.0 - beta[1:]) * (1.0 - alpha_bar[1:]))
    error = (eps - guess).square().mean(dim=(1, 2))
    torch.testing.assert_close(bound.diffusion, error[:, None] * weight.flip(0))


def test_the_divergences_are_those_of_normal_distributions():
    generator = torch.Generator().manual_seed(0)
    x0, denoised, x, excess = torch.randn(4, 2, 1, 20, generator=generator, dtype=torch.float64)
    sigma, sigma_next, data_variance = 1.3, 0.8, 0.6
    ratio = sigma_next**2 / sigma**2
    std = number(sigma_next * math.sqrt(1.0 - ratio))
    q = Normal(x0 + ratio * (x - x0), std)
    p = Normal(denoised + ratio * (x - denoised), std * torch.exp(0.5 * excess))
    actual = posterior_divergence(x0 - denoised, number([sigma_next**-2 - sigma**-2] * 2), excess)
    torch.testing.assert_close(actual, kl_divergence(q, p), rtol=1e-9, atol=1e-12)
    start = kl_divergence(
        Normal(x0, number(sigma)),
        Normal(number(0.0), number(sigma**2 + data_variance).sqrt()),
    )
    torch.testing.assert_close(
        prior_divergence(x0, sigma, data_variance=data_variance), start.mean(dim=(1, 2)), rtol=1e-9, atol=1e-12
    )


def test_the_range_of_variances_is_that_of_the_betas():
    process = DiscreteVP(linear_betas(1e-4, 0.05, 50))
    beta = torch.tensor(process.betas, dtype=torch.float64)
    alpha_bar = torch.cumprod(1.0 - beta, dim=0)
    small = beta[1:] * (1.0 - alpha_bar[:-1]) / (1.0 - alpha_bar[1:])
    sigma = process.sigma(torch.arange(50.0, dtype=torch.float64))
    torch.testing.assert_close(log_variance_ratio(sigma[1:], sigma[:-1]), torch.log(beta[1:] / small))


@pytest.mark.parametrize("bin_width", [2.0**-15, 0.1, 3.0])
def test_the_probabilities_of_all_bins_sum_to_one(bin_width):
    std = 0.01 if bin_width < 0.01 else 0.5
    n_bins = int(20.0 * std / bin_width) + 2
    centres = bin_width * torch.arange(-n_bins, n_bins + 1, dtype=torch.float64).reshape(1, 1, -1) + 0.003
    log_variance = torch.full_like(centres, 2.0 * math.log(std))
    assert torch.exp(-decoder_nats(centres, log_variance, bin_width)).sum().item() == pytest.approx(1.0, abs=1e-9)


def test_the_probability_of_a_bin_is_exact_also_far_out():
    errors = number([0.0, 0.2, -0.2, 3.0, -7.0], dtype=torch.float64).reshape(1, 1, -1).requires_grad_()
    std, bin_width = 0.2, 0.1
    nats = decoder_nats(errors, torch.full_like(errors, 2.0 * math.log(std)), bin_width)
    size = errors.detach().abs().flatten().numpy()
    upper, lower = (stats.norm.logcdf((sign * 0.5 * bin_width - size) / std) for sign in (1.0, -1.0))
    np.testing.assert_allclose(nats.detach().flatten(), -(upper + np.log1p(-np.exp(lower - upper))), rtol=1e-9)
    nats.sum().backward()
    assert errors.grad is not None
    assert errors.grad.isfinite().all()
    # Farther out the nearer edge decides: -log P grows like (|e| - w / 2)^2 / (2 std^2).
    far = decoder_nats(torch.full((1, 1, 1), 500.0).double(), torch.zeros(1, 1, 1).double(), bin_width)
    assert far.item() == pytest.approx(0.5 * 499.95**2, rel=1e-4)


def test_narrow_bins_count_their_width():
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(3, 2, 40, generator=generator, dtype=torch.float64)
    data = Gaussian(torch.zeros(2, 40).double(), torch.ones(2, 40).double())
    noise = BlockNoise(seed=1, items=range(3))
    density, binned = (
        variational_bound(data.denoise, x0, SIGMAS, noise=noise, bin_width=width) for width in (None, 1e-4)
    )
    torch.testing.assert_close(binned.total, density.total - math.log(1e-4), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_bound_of_an_example_does_not_depend_on_its_batch(dtype):
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(3, 2, 40, generator=generator, dtype=torch.float64).to(dtype)
    data = Gaussian(torch.zeros(2, 40, dtype=dtype), torch.ones(2, 40, dtype=dtype))
    for bounded in (
        partial(variational_bound, sigmas=SIGMAS),
        partial(continuous_bound, sigma_min=0.1, sigma_max=10.0, n_levels=5),
    ):
        together = bounded(data.denoise, x0, noise=BlockNoise(seed=1, items=[4, 5, 6])).total
        alone = bounded(data.denoise, x0[1:2], noise=BlockNoise(seed=1, items=[5])).total
        torch.testing.assert_close(together[1:2], alone, rtol=1e-6, atol=0.0)


def test_a_single_level_has_no_transitions():
    x0 = torch.ones(2, 1, 3)
    bound = variational_bound(lambda x, sigma: x, x0, number([2.0, 0.0]), noise=lambda like, step: like)
    assert bound.diffusion.shape == (2, 0)
    torch.testing.assert_close(bound.total, bound.prior + bound.reconstruction)


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (partial(variational_bound, sigmas=number([2.0, 1.0])), "must decrease to 0"),
        (partial(variational_bound, sigmas=number([1.0, 2.0, 0.0])), "must decrease to 0"),
        (partial(variational_bound, sigmas=number([0.0])), "must decrease to 0"),
        (partial(variational_bound, sigmas=number([1.0, 0.0]), data_variance=-1.0), "data_variance=-1.0"),
        (partial(continuous_bound, sigma_min=2.0, sigma_max=1.0, n_levels=2), "sigma_min=2.0 and sigma_max=1.0"),
        (partial(continuous_bound, sigma_min=0.1, sigma_max=1.0, n_levels=0), "n_levels=0"),
    ],
)
def test_invalid_bounds_are_refused(compute, message):
    with pytest.raises(ParameterError, match=message):
        compute(lambda x, sigma: x, torch.ones(1, 1, 2), noise=lambda like, step: like)
