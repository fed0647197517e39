"""Side by side with diffusers' schedulers: the same denoiser, start and levels.

The schedulers' own levels are float32 and come from their tables of betas; ours are put in their place, so that all but
those that round x itself to float32 agree to float64's last digits. All are asked for x0 (prediction_type "sample")
where they know it. Their x is alpha_t times ours where the scheduler preserves the variance, ours elsewhere.
"""

from typing import Any

import pytest
import torch
from analytic import Gaussian
from diffusers import (
    DDIMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from audiodiff.diffusion.grid import Discrete, Karras, TimeUniform
from audiodiff.diffusion.process import DiscreteVP, Flow, linear_betas
from audiodiff.diffusion.solvers import euler, heun, pndm, solver

# diffusers hands tensors to numpy in a way that numpy 2 will give up.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
]

DOUBLE = {"rtol": 1e-10, "atol": 1e-10}
# x is rounded to float32 at every level: 80 by 4e-6, which the flow shrinks with x.
SINGLE = {"rtol": 1e-5, "atol": 1e-5}


def white() -> Tensor:
    return torch.randn((2, 1, 32), generator=torch.Generator().manual_seed(1000), dtype=torch.float64)


def at(sigma: Tensor | float) -> Tensor:
    return torch.full((2,), float(sigma), dtype=torch.float64)


def preserved(sigma: float) -> float:
    return (1.0 + sigma**2) ** -0.5


def multistep(scheduler: Any, data: Gaussian, start: Tensor, sigmas: Tensor) -> Tensor:
    """Run a scheduler of x_t that reads its levels from `sigmas`."""
    n_steps = len(sigmas) - 1
    scheduler.set_timesteps(n_steps)
    scheduler.sigmas = sigmas
    scheduler.set_begin_index(0)
    x_t = preserved(sigmas[0].item()) * start
    for sigma, timestep in zip(sigmas.tolist(), scheduler.timesteps, strict=False):
        x0 = data.denoise(x_t / preserved(sigma), at(sigma))
        x_t = scheduler.step(x0, timestep, x_t, return_dict=False)[0]
    return x_t / preserved(sigmas[-1].item())


LEVELS = {"to zero": Karras()(16), "to a positive level": Karras()(16)[:-1]}


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize(("name", "options", "order"), [("dpmpp_2m", {}, 2), ("dpmpp_3m", {"curvature": 0.5}, 3)])
def test_dpmpp_is_that_of_diffusers(data, levels, name, options, order):
    # The third order of diffusers, as of the authors' code, takes half the parabola's curvature.
    sigmas = LEVELS[levels]
    scheduler = DPMSolverMultistepScheduler(
        solver_order=order, prediction_type="sample", algorithm_type="dpmsolver++", lower_order_final=False
    )
    scheduler.config.final_sigmas_type = "zero" if levels == "to zero" else "sigma_min"
    expected = multistep(scheduler, data, 80.0 * white(), sigmas)
    torch.testing.assert_close(solver(name, **options)(data.denoise, 80.0 * white(), sigmas), expected, **SINGLE)


@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc_is_that_of_diffusers(data, order, variant):
    sigmas = LEVELS["to a positive level"]
    scheduler = UniPCMultistepScheduler(
        solver_order=order, solver_type=variant, prediction_type="sample", lower_order_final=False
    )
    expected = multistep(scheduler, data, 80.0 * white(), sigmas)
    result = solver("unipc", order=order, variant=variant)(data.denoise, 80.0 * white(), sigmas)
    torch.testing.assert_close(result, expected, **DOUBLE)


@pytest.mark.parametrize("order", [1, 2])
def test_unipc_to_zero_is_that_of_diffusers_with_a_lower_order_at_the_end(data, order):
    # With order 3 theirs is of order two in the step before the last as well.
    sigmas = LEVELS["to zero"]
    scheduler = UniPCMultistepScheduler(solver_order=order, prediction_type="sample", lower_order_final=True)
    expected = multistep(scheduler, data, 80.0 * white(), sigmas)
    torch.testing.assert_close(solver("unipc", order=order)(data.denoise, 80.0 * white(), sigmas), expected, **DOUBLE)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_deis_is_that_of_diffusers(data, order):
    # Theirs ends at the least positive level of its table; for a step to zero its logarithms are not finite.
    sigmas = LEVELS["to a positive level"]
    scheduler = DEISMultistepScheduler(solver_order=order, prediction_type="sample", lower_order_final=False)
    expected = multistep(scheduler, data, 80.0 * white(), sigmas)
    torch.testing.assert_close(solver("deis", order=order)(data.denoise, 80.0 * white(), sigmas), expected, **DOUBLE)


def test_euler_is_ddim_of_diffusers(data):
    betas = linear_betas(1e-4, 0.05, 50)
    scheduler = DDIMScheduler(50, trained_betas=list(betas), prediction_type="sample", clip_sample=False)
    scheduler.alphas_cumprod = torch.cumprod(1.0 - torch.tensor(betas, dtype=torch.float64), dim=0)
    scheduler.set_timesteps(50)
    sigmas = Discrete(DiscreteVP(betas))(50)
    x_t = white()
    for sigma, timestep in zip(sigmas, scheduler.timesteps.tolist(), strict=False):
        x0 = data.denoise(x_t / preserved(sigma.item()), at(sigma))
        x_t = scheduler.step(x0, timestep, x_t, return_dict=False)[0]
    torch.testing.assert_close(euler(data.denoise, white() / preserved(sigmas[0].item()), sigmas), x_t, **DOUBLE)


def test_pndm_is_that_of_diffusers(data):
    # Theirs takes four eps in the step to zero too, ours is euler's there: so the levels end at the table's first.
    betas = linear_betas(1e-4, 0.05, 100)
    scheduler = PNDMScheduler(100, trained_betas=list(betas), skip_prk_steps=False)
    scheduler.alphas_cumprod = torch.cumprod(1.0 - torch.tensor(betas, dtype=torch.float64), dim=0)
    scheduler.set_timesteps(10)
    process = DiscreteVP(betas)
    x_t = white()
    timesteps = scheduler.timesteps.tolist()
    for timestep in timesteps[:-1]:
        sigma = process.sigma(torch.tensor([float(timestep)], dtype=torch.float64))
        eps = data.noise(x_t / preserved(sigma.item()), at(sigma))
        x_t = scheduler.step(eps, timestep, x_t, return_dict=False)[0]
    sigmas = process.sigma(torch.arange(90.0, -1.0, -10.0, dtype=torch.float64))
    result = pndm(data.denoise, white() / preserved(sigmas[0].item()), sigmas, process=process)
    torch.testing.assert_close(result * preserved(sigmas[-1].item()), x_t, **DOUBLE)
    assert len(timesteps) == 10 + 9


def test_euler_is_that_of_diffusers(data):
    # Not with churn: theirs adds the noise after the model was asked at the level below it, Karras et al. before.
    sigmas = Karras()(16)
    scheduler = EulerDiscreteScheduler(prediction_type="sample")
    scheduler.set_timesteps(16)
    scheduler.sigmas = sigmas
    scheduler.set_begin_index(0)
    x = 80.0 * white()
    for sigma, timestep in zip(sigmas, scheduler.timesteps, strict=False):
        scheduler.scale_model_input(x, timestep)
        x = scheduler.step(data.denoise(x, at(sigma)), timestep, x, return_dict=False)[0]
    torch.testing.assert_close(euler(data.denoise, 80.0 * white(), sigmas), x, **SINGLE)


def doubled(sigmas: Tensor) -> Tensor:
    """Repeat the inner levels, which Heun's schedulers visit twice."""
    return torch.cat([sigmas[:1], sigmas[1:-1].repeat_interleave(2), sigmas[-1:]])


def test_heun_is_that_of_diffusers(data):
    sigmas = doubled(Karras()(16))
    scheduler = HeunDiscreteScheduler(prediction_type="sample")
    scheduler.set_timesteps(16)
    scheduler.sigmas = sigmas
    scheduler.set_begin_index(0)
    x = 80.0 * white()
    # The first of two visits is at the level that the one before arrived at.
    for sigma, timestep in zip(sigmas, scheduler.timesteps, strict=False):
        x = scheduler.step(data.denoise(x, at(sigma)), timestep, x, return_dict=False)[0]
    torch.testing.assert_close(heun(data.denoise, 80.0 * white(), Karras()(16)), x, **DOUBLE)


def test_euler_is_that_of_flow_matching(data):
    # Theirs steps x_t along the velocity eps - x0, ours x along (x - D) / sigma: Euler's steps of both are one.
    times = torch.linspace(0.9, 0.0, 9, dtype=torch.float64)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(8)
    scheduler.sigmas = times
    scheduler.set_begin_index(0)
    x_t = white()
    sigmas = TimeUniform(Flow(), t_start=0.9)(8)
    for t, sigma, timestep in zip(times.tolist(), sigmas, scheduler.timesteps, strict=False):
        x = x_t / (1.0 - t)
        velocity = data.noise(x, at(sigma)) - data.denoise(x, at(sigma))
        x_t = scheduler.step(velocity, timestep, x_t, return_dict=False)[0]
    torch.testing.assert_close(euler(data.denoise, white() / 0.1, sigmas), x_t, **SINGLE)


def test_heun_is_that_of_flow_matching_along_dx_dsigma(data):
    # Its trapezoid of the velocity in t is another method than ours in sigma; both are the trapezoid of the slope that
    # they are given, so it is given ours.
    sigmas = doubled(Karras()(16))
    scheduler = FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(16)
    scheduler.sigmas = sigmas
    scheduler.set_begin_index(0)
    x = 80.0 * white()
    for sigma, timestep in zip(sigmas, scheduler.timesteps, strict=False):
        x = scheduler.step(data.noise(x, at(sigma)), timestep, x, return_dict=False)[0]
    torch.testing.assert_close(heun(data.denoise, 80.0 * white(), Karras()(16)), x, **SINGLE)
