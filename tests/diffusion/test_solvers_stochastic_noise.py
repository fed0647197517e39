"""The stochastic solvers' use of noise, and the options that they refuse."""

import math

import pytest
import torch
from analytic import Gaussian
from helpers import noise, white
from torch import Tensor

from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.solvers import REGISTRY, check_solver, solver
from audiodiff.errors import ParameterError

pytestmark = pytest.mark.numeric

STOCHASTIC = [
    "euler_ancestral",
    "ddpm",
    "euler_maruyama",
    "predictor_corrector",
    "dpmpp_2m_sde",
    "dpmpp_3m_sde",
    "consistency",
]


@pytest.mark.parametrize("name", STOCHASTIC)
@pytest.mark.parametrize("n_steps", [1, 2, 6])
def test_every_draw_has_its_own_step_number(name, n_steps, data):
    numbers: list[int] = []

    def counted(like: Tensor, step: int) -> Tensor:
        numbers.append(step)
        return noise(like, step)

    solver(name)(data.denoise, white(0, (1, 1, 32)), Karras(sigma_max=10.0)(n_steps + 1)[1:], noise=counted)
    transitions = list(range(1, n_steps))
    corrections = list(range(n_steps + 1, 2 * n_steps)) if name == "predictor_corrector" else []
    assert sorted(numbers) == transitions + corrections


@pytest.mark.parametrize("name", STOCHASTIC)
def test_solvers_without_noise_draw_none(name, data):
    quiet = {"euler_ancestral": {"eta": 0.0}, "dpmpp_2m_sde": {"eta": 0.0}, "dpmpp_3m_sde": {"eta": 0.0}}.get(name)
    sigmas = Karras()(5) if quiet is not None else torch.tensor([3.0, 0.0], dtype=torch.float64)

    def refuse(like: Tensor, step: int) -> Tensor:
        raise AssertionError(f"step {step} draws")

    solver(name, **(quiet or {}))(data.denoise, white(0, (1, 1, 32)), sigmas, noise=refuse)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_stochastic_solver_keeps_float32(name, data):
    narrow = Gaussian(data.mean.float(), data.variance.float())
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras(sigma_min=0.05)(12)
    result = solver(name)(narrow.denoise, start.float(), sigmas, noise=noise)
    assert result.dtype == torch.float32
    # x near 2 is rounded by 1e-7, and a correction's score by that over sigma^2: 5e-5, of which it takes a hundredth.
    expected = solver(name)(data.denoise, start, sigmas, noise=noise)
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_stochastic_solver_requires_noise(name, data):
    with pytest.raises(ParameterError, match=f"noise=None: {name} draws noise at every step"):
        solver(name)(data.denoise, torch.zeros(1, 1, 32, dtype=torch.float64), Karras()(3))


INVALID = [
    ("euler_ancestral", {"eta": 1.1}, "eta=1.1 must lie between 0 and 1"),
    ("euler_ancestral", {"eta": math.nan}, "eta=nan must lie"),
    ("ddpm", {"variance": "medium"}, "variance='medium' must be one of small, large, learned"),
    ("ddpm", {"variance": "learned"}, "train with objective=hybrid"),
    ("predictor_corrector", {"r": 0.0}, "r=0.0 must be positive: n_corrections=0"),
    ("predictor_corrector", {"n_corrections": -1}, "n_corrections=-1 must be a whole number, at least 0"),
    ("dpmpp_2m_sde", {"eta": -0.1}, "eta=-0.1 must not be negative"),
    ("dpmpp_3m_sde", {"eta": math.nan}, "eta=nan must not be negative"),
    ("dpmpp_3m_sde", {"s_noise": -1.0}, "s_noise=-1.0 must not be negative"),
    ("dpmpp_2m_sde", {"solver_type": "rk4"}, "solver_type='rk4' must be midpoint or heun"),
    ("consistency", {"sigma_end": -0.1}, "sigma_end=-0.1 must not be negative"),
    ("consistency", {"sigma_end": 0.1}, "sigma_end=0.1 must not exceed any level of the grid"),
    ("shortcut", {}, "sampler=shortcut needs a denoiser that is trained to jump: train with method=shortcut"),
]


@pytest.mark.parametrize(("name", "options", "message"), INVALID)
def test_invalid_options_are_refused(name, options, message, data):
    with pytest.raises(ParameterError, match=message):
        solver(name, **options)(data.denoise, torch.zeros(1, 1, 32, dtype=torch.float64), Karras()(3), noise=noise)


@pytest.mark.parametrize(("name", "options", "message"), INVALID)
def test_options_are_checked_without_a_denoiser(name, options, message):
    with pytest.raises(ParameterError, match=message):
        check_solver(solver(name, **options), Karras()(3), guided=True)


@pytest.mark.parametrize("name", sorted(set(REGISTRY) - {"shortcut"}))
def test_default_options_pass_the_check(name):
    check_solver(solver(name), Karras()(3), guided=True)


def test_solvers_outside_the_registry_are_not_checked():
    check_solver(lambda denoise, x, sigmas, **_: x, Karras()(3))
