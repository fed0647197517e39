"""Ancestral sampling and the reverse-time SDE beside textbook formulas."""

import math
from itertools import pairwise

import pytest
import torch
from analytic import Gaussian, GaussianNetwork
from helpers import noise, white
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.diffusion.denoiser import BoundDenoiser, Denoiser
from audiodiff.diffusion.divergence import log_variance_ratio
from audiodiff.diffusion.grid import Discrete, Karras
from audiodiff.diffusion.preconditioning import Sample
from audiodiff.diffusion.process import VE, DiscreteVP, Flow, VPLinear, linear_betas
from audiodiff.diffusion.solvers import euler_ancestral, solver
from audiodiff.errors import ParameterError
from audiodiff.networks.network import Network
from audiodiff.types import ReceptiveField

pytestmark = pytest.mark.numeric

BETAS = linear_betas(1e-4, 0.05, 50)


@pytest.mark.parametrize("process", [None, VPLinear(), Flow(noise_scale=0.3), VE()])
def test_large_variance_is_that_of_the_forward_step_of_the_process(process):
    sigma, sigma_next = 2.0, 0.7
    clocks = (process or VPLinear()).time(torch.tensor([sigma, sigma_next], dtype=torch.float64))
    alpha_t, sigma_t = (process or VPLinear()).coefficients(clocks)
    beta = sigma_t[0] ** 2 - (alpha_t[0] / alpha_t[1]) ** 2 * sigma_t[1] ** 2
    expected = (beta.sqrt() / alpha_t[1]).item() * white(1, (1, 1, 8))
    sigmas = torch.tensor([sigma, sigma_next], dtype=torch.float64)
    large = solver("ddpm", variance="large", process=process)
    result = large(lambda x, sigma: 0.0 * x, torch.zeros(1, 1, 8, dtype=torch.float64), sigmas, noise=noise)
    torch.testing.assert_close(result, expected, rtol=1e-10, atol=0.0)


def test_a_learned_variance_lies_between_small_and_large():
    sigmas = torch.tensor([2.0, 0.7], dtype=torch.float64)
    start = torch.zeros(1, 1, 8, dtype=torch.float64)
    large, small = (
        solver("ddpm", variance=variance)(lambda x, sigma: 0.0 * x, start, sigmas, noise=noise)
        for variance in ("large", "small")
    )
    ratio = torch.exp(0.5 * log_variance_ratio(sigmas[:1], sigmas[1:]))
    torch.testing.assert_close(large, ratio * small, rtol=1e-13, atol=0.0)


class WithFraction(Network):
    """Append a variance fraction to a network's output, as 2 v - 1."""

    receptive_field = ReceptiveField(0, 0)

    def __init__(self, network: Network, fraction: Tensor) -> None:
        super().__init__()
        self.network, self.fraction = network, fraction

    def encode(self, condition: Condition) -> Condition:
        return condition

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        return torch.cat([self.network(x, c_noise, condition), 2.0 * self.fraction.expand_as(x) - 1.0], dim=1)


FRACTION = torch.linspace(-0.2, 1.3, 32, dtype=torch.float64)


def bound(data: Gaussian) -> BoundDenoiser:
    process = DiscreteVP(BETAS)
    network = WithFraction(GaussianNetwork(data, process, "sample"), FRACTION)
    return Denoiser(network, Sample(process), learns_variance=True).bind(Condition())


def textbook(data: Gaussian, x_t: Tensor, variance: str) -> Tensor:
    """Ho et al. 2020, algorithm 2 with the mean of eq. 7; Nichol and Dhariwal 2021, eq. 15, for the learned one."""
    alpha_bar = [1.0, *torch.cumprod(1.0 - torch.tensor(BETAS, dtype=torch.float64), dim=0).tolist()]
    for transition, step in enumerate(range(len(BETAS), 0, -1)):
        now, before, beta = alpha_bar[step], alpha_bar[step - 1], BETAS[step - 1]
        sigma = torch.tensor([math.sqrt(1.0 / now - 1.0)], dtype=torch.float64)
        x0 = data.denoise(x_t / math.sqrt(now), sigma)
        x_t = math.sqrt(before) * beta / (1.0 - now) * x0 + math.sqrt(1.0 - beta) * (1.0 - before) / (1.0 - now) * x_t
        if step > 1:
            small = (1.0 - before) / (1.0 - now) * beta
            learned = torch.exp(FRACTION * math.log(beta) + (1.0 - FRACTION) * math.log(small))
            drawn = {"small": small, "large": beta, "learned": learned}[variance]
            x_t = x_t + drawn**0.5 * white(transition + 1, tuple(x_t.shape))
    return x_t


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
def test_ddpm_is_the_textbooks_algorithm_in_x_t(data, variance):
    x_t = white(0, (1, 1, 32))
    sigmas = Discrete(DiscreteVP(BETAS))(50)
    start = x_t * torch.sqrt(1.0 + sigmas[0] ** 2)
    result = solver("ddpm", variance=variance)(bound(data), start, sigmas, noise=noise)
    torch.testing.assert_close(result, textbook(data, x_t, variance), rtol=1e-10, atol=1e-10)


def test_ddpm_with_the_small_variance_is_euler_ancestral(data):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(12)
    torch.testing.assert_close(
        solver("ddpm")(data.denoise, start, sigmas, noise=noise),
        euler_ancestral(data.denoise, start, sigmas, noise=noise),
        rtol=1e-13,
        atol=1e-13,
    )


def test_euler_maruyama_is_ddpm_with_the_large_variance_of_ve(data):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(12)
    torch.testing.assert_close(
        solver("euler_maruyama")(data.denoise, start, sigmas, noise=noise),
        solver("ddpm", variance="large", process=VE())(data.denoise, start, sigmas, noise=noise),
        rtol=1e-13,
        atol=1e-13,
    )


def test_euler_maruyama_is_the_reverse_sde_of_vp_in_its_own_coordinate(data):
    # Song et al. 2021, eq. 6 and 11, in x_t and in steps of t: the two discretisations meet as steps shrink.
    process, n_steps = VPLinear(), 400
    times = torch.linspace(1.0, 0.3, n_steps + 1, dtype=torch.float64)
    x_t = first = white(0, (1, 1, 32))
    for step, (t, t_next) in enumerate(pairwise(times)):
        beta = process.beta_min + t * (process.beta_max - process.beta_min)
        alpha_t, sigma_t = process.coefficients(t)
        denoised = data.denoise(x_t / alpha_t, process.sigma(t).reshape(1))
        score = (alpha_t * denoised - x_t) / sigma_t**2
        x_t = x_t + (0.5 * beta * x_t + beta * score) * (t - t_next)
        x_t = x_t + torch.sqrt(beta * (t - t_next)) * white(step + 1, (1, 1, 32))
    result = solver("euler_maruyama")(
        data.denoise, first / process.coefficients(times[0])[0], process.sigma(times), noise=noise
    )
    error = (process.coefficients(times[-1])[0] * result - x_t).abs().max()
    # Each is within order h of the SDE's path for additive noise; h = 0.7 / 400, and beta is up to 20.
    assert error < 20.0 * 0.7 / n_steps


def test_a_denoiser_without_a_learned_variance_is_refused(data):
    process = DiscreteVP(BETAS)
    plain = Denoiser(GaussianNetwork(data, process, "sample"), Sample(process)).bind(Condition())
    with pytest.raises(ParameterError, match="variance=learned needs a network that has learned it"):
        solver("ddpm", variance="learned")(plain, white(0, (1, 1, 32)), Discrete(process)(5), noise=noise)
