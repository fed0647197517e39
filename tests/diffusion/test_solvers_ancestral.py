import math
from itertools import pairwise

import pytest
import torch
from analytic import Gaussian
from helpers import noise, white
from torch import Tensor

from audiodiff.diffusion.grid import Discrete, Karras
from audiodiff.diffusion.process import DiscreteVP, linear_betas
from audiodiff.diffusion.solvers import euler, euler_ancestral
from audiodiff.errors import ParameterError

pytestmark = pytest.mark.numeric

BETAS = linear_betas(1e-4, 0.05, 50)


def textbook(data: Gaussian, x: Tensor, eta: float) -> Tensor:
    """DDIM in x_t, eq. 12 and 16 of Song et al. 2021; eta = 1 is DDPM's posterior."""
    alpha_bar = [1.0]
    for beta in BETAS:
        alpha_bar.append(alpha_bar[-1] * (1.0 - beta))
    for transition, step in enumerate(range(len(BETAS), 0, -1)):
        now, before = alpha_bar[step], alpha_bar[step - 1]
        sigma = torch.tensor([math.sqrt(1.0 / now - 1.0)], dtype=torch.float64)
        x0 = data.denoise(x / math.sqrt(now), sigma)
        eps = (x - math.sqrt(now) * x0) / math.sqrt(1.0 - now)
        deviation = eta * math.sqrt((1.0 - before) / (1.0 - now) * (1.0 - now / before))
        x = math.sqrt(before) * x0 + math.sqrt(1.0 - before - deviation**2) * eps
        x = x + deviation * white(transition + 1, tuple(x.shape))
    return x


def test_euler_is_ddim_with_eta_zero(data):
    x = white(0, (1, 1, 32))
    sigmas = Discrete(DiscreteVP(BETAS))(50)
    start = x * torch.sqrt(1.0 + sigmas[0] ** 2)
    torch.testing.assert_close(euler(data.denoise, start, sigmas), textbook(data, x, eta=0.0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_euler_ancestral_is_ddim_with_that_eta(data, eta):
    x = white(0, (1, 1, 32))
    sigmas = Discrete(DiscreteVP(BETAS))(50)
    start = x * torch.sqrt(1.0 + sigmas[0] ** 2)
    result = euler_ancestral(data.denoise, start, sigmas, noise=noise, eta=eta)
    torch.testing.assert_close(result, textbook(data, x, eta=eta), rtol=1e-12, atol=1e-12)


def test_euler_ancestral_is_the_posterior_of_ddpm(data):
    x_t = white(0, (1, 1, 32))
    sigmas = Discrete(DiscreteVP(BETAS))(50)
    result = euler_ancestral(data.denoise, x_t * torch.sqrt(1.0 + sigmas[0] ** 2), sigmas, noise=noise)
    alpha_bar = torch.cumprod(1.0 - torch.tensor(BETAS, dtype=torch.float64), dim=0)
    for transition, step in enumerate(range(49, -1, -1)):
        now, beta = alpha_bar[step], BETAS[step]
        before = alpha_bar[step - 1] if step > 0 else torch.tensor(1.0, dtype=torch.float64)
        x0 = data.denoise(x_t / now.sqrt(), torch.sqrt(1.0 / now - 1.0).reshape(1))
        # Ho et al. 2020, eq. 7
        mean = before.sqrt() * beta / (1.0 - now) * x0 + math.sqrt(1.0 - beta) * (1.0 - before) / (1.0 - now) * x_t
        variance = (1.0 - before) / (1.0 - now) * beta
        x_t = mean + variance.sqrt() * white(transition + 1, (1, 1, 32))
    torch.testing.assert_close(result, x_t, rtol=1e-12, atol=1e-12)


def test_euler_ancestral_with_eta_zero_is_euler(data):
    start, sigmas = 80.0 * white(0, (1, 1, 32)), Karras()(12)
    torch.testing.assert_close(
        euler_ancestral(data.denoise, start, sigmas, noise=noise, eta=0.0),
        euler(data.denoise, start, sigmas),
        rtol=1e-13,
        atol=1e-13,
    )


def ancestral_variance(variance: float, sigmas: Tensor) -> float:
    """Return the variance that the ancestral chain of a Gaussian ends with."""
    marginal = variance + sigmas[0].item() ** 2
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        predict_jump = sigma_next**2 / sigma**2
        gain = predict_jump + (1.0 - predict_jump) * variance / (variance + sigma**2)
        marginal = gain**2 * marginal + sigma_next**2 * (1.0 - predict_jump)
    return marginal


def test_euler_ancestral_draws_from_the_law_of_its_chain():
    data = Gaussian(torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[0.04]], dtype=torch.float64))
    sigmas = Karras()(40)
    start = 0.5 + math.sqrt(0.04 + 80.0**2) * white(0, (40_000, 1, 1))
    result = euler_ancestral(data.denoise, start, sigmas, noise=noise)
    expected = ancestral_variance(0.04, sigmas)
    # Five standard errors of 40 000 draws.
    assert result.mean().item() == pytest.approx(0.5, abs=5.0 * math.sqrt(expected / 40_000))
    assert result.var().item() == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / 40_000))


def test_the_law_of_the_ancestral_chain_approaches_the_data_at_order_one():
    errors = [abs(ancestral_variance(0.04, Karras()(n_steps)) - 0.04) for n_steps in (400, 800, 1600)]
    assert [coarse / fine for coarse, fine in pairwise(errors)] == pytest.approx([2.0, 2.0], abs=0.1)
    assert errors[-1] < 0.01 * 0.04


def test_euler_ancestral_requires_noise(data):
    with pytest.raises(ParameterError, match="noise=None"):
        euler_ancestral(data.denoise, torch.zeros(1, 1, 32, dtype=torch.float64), Karras()(3))
