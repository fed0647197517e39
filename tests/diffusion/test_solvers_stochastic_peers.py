"""The stochastic solvers beside diffusers' schedulers and k-diffusion, with the same denoiser and the same noise."""

import importlib
import importlib.util
import math
import sys
from collections.abc import Callable
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from analytic import Gaussian
from helpers import noise, white
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.grid import Discrete, Karras
from audiodiff.diffusion.preconditioning import Sample
from audiodiff.diffusion.process import DiscreteVP, linear_betas
from audiodiff.diffusion.solvers import solver
from audiodiff.networks.network import Network
from audiodiff.types import ReceptiveField

# diffusers hands tensors to numpy in a way that numpy 2 will give up.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
]

BETAS = linear_betas(1e-4, 0.05, 50)
PROCESS = DiscreteVP(BETAS)


def in_double(scheduler: Any) -> Any:
    """Replace a scheduler's float32 table by the same in float64, so that rounding does not hide what differs."""
    scheduler.alphas_cumprod = torch.cumprod(1.0 - torch.tensor(BETAS, dtype=torch.float64), dim=0)
    return scheduler


def alpha_bar(timestep: int) -> float:
    return math.prod(1.0 - beta for beta in BETAS[: timestep + 1])


def denoised_at(data: Gaussian, x_t: Tensor, timestep: int) -> Tensor:
    sigma = torch.full((x_t.shape[0],), math.sqrt(1.0 / alpha_bar(timestep) - 1.0), dtype=torch.float64)
    return data.denoise(x_t / math.sqrt(alpha_bar(timestep)), sigma)


class WithFraction(Network):
    """Predict a Gaussian's x0 and a variance that depends on the place, as 2 v - 1."""

    receptive_field = ReceptiveField(0, 0)

    def __init__(self, data: Gaussian) -> None:
        super().__init__()
        self.data = data

    def encode(self, condition: Condition) -> Condition:
        return condition

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        sigma = PROCESS.sigma(c_noise)
        x0 = self.data.denoise(x / PROCESS.alpha(sigma)[:, None, None], sigma)
        return torch.cat([x0, VARIANCE_OUTPUT.expand_as(x)], dim=1)


VARIANCE_OUTPUT = torch.linspace(-1.4, 1.6, 32, dtype=torch.float64)
DIFFUSERS_NAMES = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}


@pytest.mark.parametrize("variance", DIFFUSERS_NAMES)
def test_ddpm_is_that_of_diffusers(data, variance, monkeypatch):
    schedulers = pytest.importorskip("diffusers.schedulers")
    scheduler = in_double(
        schedulers.DDPMScheduler(
            num_train_timesteps=50,
            trained_betas=list(BETAS),
            variance_type=DIFFUSERS_NAMES[variance],
            prediction_type="sample",
            clip_sample=False,
        )
    )
    scheduler.set_timesteps(50)
    draws: list[int] = []

    def inject(shape: tuple[int, ...], **_: Any) -> Tensor:
        draws.append(len(draws) + 1)
        return white(draws[-1], tuple(shape))

    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", inject)
    x_t = white(0, (1, 1, 32))
    sigmas = Discrete(PROCESS)(50)
    start = x_t * torch.sqrt(1.0 + sigmas[0] ** 2)
    for timestep in scheduler.timesteps:
        output = denoised_at(data, x_t, int(timestep))
        if variance == "learned":
            output = torch.cat([output, VARIANCE_OUTPUT.expand_as(output)], dim=1)
        # learned_range is split off again, but fixed variances know one half only.
        x_t = scheduler.step(output, int(timestep), x_t).prev_sample
    denoise = Denoiser(WithFraction(data), Sample(PROCESS), learns_variance=True).bind(Condition())
    result = solver("ddpm", variance=variance)(denoise, start, sigmas, noise=noise)
    assert len(draws) == 49
    torch.testing.assert_close(result, x_t, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_euler_ancestral_is_ddim_of_diffusers_with_that_eta(data, eta):
    schedulers = pytest.importorskip("diffusers.schedulers")
    scheduler = in_double(
        schedulers.DDIMScheduler(
            num_train_timesteps=50, trained_betas=list(BETAS), prediction_type="sample", clip_sample=False
        )
    )
    scheduler.set_timesteps(50)
    x_t = white(0, (1, 1, 32))
    sigmas = Discrete(PROCESS)(50)
    start = x_t * torch.sqrt(1.0 + sigmas[0] ** 2)
    for transition, timestep in enumerate(scheduler.timesteps):
        output = denoised_at(data, x_t, int(timestep))
        drawn = white(transition + 1, (1, 1, 32))
        x_t = scheduler.step(output, int(timestep), x_t, eta=eta, variance_noise=drawn).prev_sample
    result = solver("euler_ancestral", eta=eta)(data.denoise, start, sigmas, noise=noise)
    torch.testing.assert_close(result, x_t, rtol=1e-10, atol=1e-10)


def test_euler_ancestral_is_that_of_diffusers(data, monkeypatch):
    schedulers = pytest.importorskip("diffusers.schedulers")
    scheduler = schedulers.EulerAncestralDiscreteScheduler(num_train_timesteps=50, trained_betas=list(BETAS))
    scheduler.set_timesteps(12)
    sigmas = Karras(sigma_max=10.0)(12)
    scheduler.sigmas = sigmas
    draws: list[int] = []

    def inject(shape: tuple[int, ...], **_: Any) -> Tensor:
        draws.append(len(draws) + 1)
        return white(draws[-1], tuple(shape))

    monkeypatch.setattr("diffusers.schedulers.scheduling_euler_ancestral_discrete.randn_tensor", inject)
    x = start = 10.0 * white(0, (1, 1, 32))
    for step, timestep in enumerate(scheduler.timesteps):
        scheduler.scale_model_input(x, timestep)
        eps = (x - data.denoise(x, sigmas[step].reshape(1))) / sigmas[step]
        x = scheduler.step(eps, timestep, x).prev_sample.double()
    # It steps in float32: rounding of x near 10, and of eps times sigma after it.
    result = solver("euler_ancestral")(data.denoise, start, sigmas, noise=noise)
    torch.testing.assert_close(result, x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
def test_dpmpp_2m_sde_is_that_of_diffusers(data, solver_type):
    schedulers = pytest.importorskip("diffusers.schedulers")
    scheduler = schedulers.DPMSolverMultistepScheduler(
        num_train_timesteps=50,
        trained_betas=list(BETAS),
        algorithm_type="sde-dpmsolver++",
        solver_order=2,
        solver_type=solver_type,
        prediction_type="sample",
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(16)
    sigmas = Karras(sigma_min=0.05, sigma_max=10.0)(16)
    scheduler.sigmas = sigmas
    start = 10.0 * white(0, (1, 1, 32))
    x_t = start / math.sqrt(1.0 + 10.0**2)
    for step, timestep in enumerate(scheduler.timesteps):
        output = data.denoise(x_t.double() * torch.sqrt(1.0 + sigmas[step] ** 2), sigmas[step].reshape(1))
        drawn = white(step + 1, (1, 1, 32))
        x_t = scheduler.step(output, timestep, x_t, variance_noise=drawn).prev_sample
    result = solver("dpmpp_2m_sde", solver_type=solver_type)(data.denoise, start, sigmas, noise=noise)
    # It steps in float32.
    torch.testing.assert_close(result, x_t.double(), rtol=1e-5, atol=1e-5)


@pytest.fixture
def k_diffusion(monkeypatch) -> ModuleType:
    """Import k-diffusion's samplers alone: the package itself asks for torchvision and more that they do not use."""
    for needed in ("torchsde", "torchdiffeq", "tqdm"):
        pytest.importorskip(needed)
    found = importlib.util.find_spec("k_diffusion")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("k-diffusion is not installed")
    package, helpers = ModuleType("k_diffusion"), ModuleType("k_diffusion.utils")
    package.__path__ = list(found.submodule_search_locations)
    package.utils = helpers
    monkeypatch.setitem(sys.modules, "k_diffusion", package)
    monkeypatch.setitem(sys.modules, "k_diffusion.utils", helpers)
    monkeypatch.delitem(sys.modules, "k_diffusion.sampling", raising=False)
    sampling = importlib.import_module("k_diffusion.sampling")
    monkeypatch.setitem(sys.modules, "k_diffusion.sampling", sampling)
    monkeypatch.setattr(helpers, "append_dims", lambda x, n_dims: x.reshape(x.shape + (1,) * (n_dims - x.ndim)), False)
    return sampling


def sampled(sample: Callable, data: Gaussian, start: Tensor, sigmas: Tensor, **options: Any) -> Tensor:
    """Run a sampler of k-diffusion with the noise of our transitions."""
    number = {sigma_next: step + 1 for step, (_, sigma_next) in enumerate(pairwise(sigmas.tolist()))}

    def noise_sampler(sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return white(number[sigma_next.item()], tuple(start.shape))

    return sample(data.denoise, start, sigmas, disable=True, noise_sampler=noise_sampler, **options)


@pytest.mark.parametrize("solver_type", ["midpoint", "heun"])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_dpmpp_2m_sde_is_that_of_k_diffusion(data, k_diffusion, solver_type, eta):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(12)
    options = {"solver_type": solver_type, "eta": eta, "s_noise": 1.1}
    expected = sampled(k_diffusion.sample_dpmpp_2m_sde, data, start, sigmas, **options)
    result = solver("dpmpp_2m_sde", **options)(data.denoise, start, sigmas, noise=noise)
    torch.testing.assert_close(result, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_euler_ancestral_is_that_of_k_diffusion(data, k_diffusion, eta):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(12)
    expected = sampled(k_diffusion.sample_euler_ancestral, data, start, sigmas, eta=eta)
    result = solver("euler_ancestral", eta=eta)(data.denoise, start, sigmas, noise=noise)
    torch.testing.assert_close(result, expected, rtol=1e-11, atol=1e-11)


def test_dpmpp_3m_sde_keeps_the_order_that_k_diffusion_loses(data, k_diffusion):
    # They count the second derivative half: their third evaluation buys a smaller error, but not the order three.
    start = 100.0 * white(0, (1, 1, 32))
    exact = data.flow(start, 100.0, 0.1)
    ours, theirs = [], []
    for n_steps in (128, 256):
        sigmas = torch.logspace(2.0, -1.0, n_steps + 1, dtype=torch.float64)
        result = solver("dpmpp_3m_sde", eta=0.0)(data.denoise, start, sigmas, noise=noise)
        ours.append((result - exact).abs().max().item())
        result = sampled(k_diffusion.sample_dpmpp_3m_sde, data, start, sigmas, eta=0.0)
        theirs.append((result - exact).abs().max().item())
    assert math.log2(theirs[0] / theirs[1]) == pytest.approx(2.0, abs=0.25)
    assert math.log2(ours[0] / ours[1]) == pytest.approx(3.0, abs=0.25)


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_dpmpp_3m_sde_is_that_of_k_diffusion_where_d_is_constant(k_diffusion, eta):
    # What is left is the decay and the noise, which do not depend on how D is extrapolated.
    point = Gaussian(torch.ones(1, 32, dtype=torch.float64), torch.zeros(1, 32, dtype=torch.float64))
    start, sigmas = 80.0 * white(0, (2, 1, 32)), torch.logspace(2.0, -1.0, 9, dtype=torch.float64)
    expected = sampled(k_diffusion.sample_dpmpp_3m_sde, point, start, sigmas, eta=eta, s_noise=1.1)
    result = solver("dpmpp_3m_sde", eta=eta, s_noise=1.1)(point.denoise, start, sigmas, noise=noise)
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
