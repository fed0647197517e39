"""Multistep exponential integrators of the SDE: their limits, order and exactness."""

import math
from itertools import pairwise

import pytest
import torch
from helpers import noise, white
from scipy import integrate
from torch import Tensor

from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.solvers import dpmpp_2m, dpmpp_3m, euler_ancestral, solver

pytestmark = pytest.mark.numeric


@pytest.mark.parametrize("name", ["dpmpp_2m_sde", "dpmpp_3m_sde"])
def test_the_first_step_of_a_multistep_sde_solver_is_the_posterior(data, name):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), torch.tensor([5.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        solver(name)(data.denoise, start, sigmas, noise=noise),
        euler_ancestral(data.denoise, start, sigmas, noise=noise),
        rtol=1e-13,
        atol=1e-13,
    )


def test_dpmpp_2m_sde_without_noise_is_dpmpp_2m(data):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(12)
    result = solver("dpmpp_2m_sde", eta=0.0)(data.denoise, start, sigmas, noise=noise)
    torch.testing.assert_close(result, dpmpp_2m(data.denoise, start, sigmas), rtol=1e-12, atol=1e-12)


def test_dpmpp_3m_sde_without_noise_is_dpmpp_3m(data):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(12)
    result = solver("dpmpp_3m_sde", eta=0.0)(data.denoise, start, sigmas, noise=noise)
    torch.testing.assert_close(result, dpmpp_3m(data.denoise, start, sigmas), rtol=1e-11, atol=1e-11)


def test_dpmpp_3m_sde_without_noise_converges_to_the_flow_at_order_three(data):
    # From 100, where the first two steps, of lower order, do little harm: D hardly depends on sigma there.
    start = 100.0 * white(0, (1, 1, 32))
    exact = data.flow(start, 100.0, 0.1)
    solve = solver("dpmpp_3m_sde", eta=0.0)
    errors = []
    for n_steps in (64, 128, 256):
        sigmas = torch.logspace(2.0, -1.0, n_steps + 1, dtype=torch.float64)
        errors.append((solve(data.denoise, start, sigmas, noise=noise) - exact).abs().max().item())
    slopes = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    assert slopes == pytest.approx([3.0, 3.0], abs=0.25)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(
    ("name", "options", "degree"), [("dpmpp_2m_sde", {"solver_type": "heun"}, 1), ("dpmpp_3m_sde", {}, 2)]
)
def test_a_multistep_sde_solver_is_exact_for_a_polynomial_in_log_sigma(name, options, degree, eta):
    def denoised(moment: float) -> float:
        return 1.0 + 2.0 * moment + (3.0 * moment**2 if degree == 2 else 0.0)

    sigmas = torch.tensor([9.0, 5.0, 2.0, 1.1, 0.4], dtype=torch.float64)
    path = [torch.full((1, 1, 1), 7.0, dtype=torch.float64)]

    def keep(x: Tensor, step: int, sigma: float) -> Tensor:
        path.append(x)
        return x

    solver(name, eta=eta, s_noise=0.0, **options)(
        lambda x, sigma: torch.full_like(x, denoised(-math.log(sigma.item()))),
        path[0],
        sigmas,
        noise=noise,
        after_step=keep,
    )
    for step in range(degree, 4):
        begin, end = -math.log(sigmas[step].item()), -math.log(sigmas[step + 1].item())
        forced = integrate.quad(
            lambda m, end=end: (1.0 + eta) * math.exp((1.0 + eta) * (m - end)) * denoised(m), begin, end
        )
        expected = math.exp((1.0 + eta) * (begin - end)) * path[step].item() + forced[0]
        assert path[step + 1].item() == pytest.approx(expected, rel=1e-12)


def test_s_noise_multiplies_the_noise():
    sigmas = torch.tensor([5.0, 1.0], dtype=torch.float64)
    start = torch.zeros(1, 1, 8, dtype=torch.float64)
    for name in ("dpmpp_2m_sde", "dpmpp_3m_sde"):
        once = solver(name)(lambda x, sigma: 0.0 * x, start, sigmas, noise=noise)
        twice = solver(name, s_noise=2.0)(lambda x, sigma: 0.0 * x, start, sigmas, noise=noise)
        torch.testing.assert_close(twice, 2.0 * once)
