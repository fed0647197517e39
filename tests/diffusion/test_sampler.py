import pytest
import torch

from audiodiff.diffusion.grid import BetaTable, Karras, TimeUniform
from audiodiff.diffusion.noise import BlockNoise
from audiodiff.diffusion.process import VE, DiscreteVP, Flow, VPCosine, VPLinear, linear_betas
from audiodiff.diffusion.sampler import Sampler, clamp_scaled, unit_start
from audiodiff.diffusion.solvers import REGISTRY, euler
from audiodiff.errors import ParameterError


def nothing_known(x, sigma):
    """Denoise data of zero mean and no variance."""
    return torch.zeros_like(x) * sigma.to(x.dtype)[:, None, None]


def first_x(sampler: Sampler, noise: BlockNoise) -> torch.Tensor:
    seen = []

    def denoise(x, sigma):
        seen.append(x)
        return nothing_known(x, sigma)

    sampler(denoise, torch.zeros(1, 1, 64), noise)
    return seen[0]


def test_a_sampler_starts_at_the_first_level_times_step_zero_of_the_noise():
    noise = BlockNoise(0, [3])
    x = first_x(Sampler(euler, Karras(sigma_max=80.0), 4), noise)
    torch.testing.assert_close(x, 80.0 * noise(torch.zeros(1, 1, 64), 0))


def test_a_unit_start_has_x_t_of_unit_variance():
    process = DiscreteVP(linear_betas(1e-4, 0.05, 50))
    grid, noise = BetaTable([1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5]), BlockNoise(0, [3])
    x = first_x(Sampler(euler, grid, 6, start=unit_start(process)), noise)
    alpha_bar = (1 - 1e-4) * (1 - 1e-3) * 0.99 * 0.95 * 0.8 * 0.5
    torch.testing.assert_close(x * alpha_bar**0.5, noise(torch.zeros(1, 1, 64), 0))


@pytest.mark.parametrize("process", [VPLinear(), VPCosine(), VPCosine(shift=2.0)])
def test_a_unit_start_fits_every_process_that_preserves_the_variance(process):
    eps = torch.ones(1, 1, 4)
    # x0 of variance 1 plus noise of variance sigma^2.
    torch.testing.assert_close(unit_start(process)(eps, 2.0), 5.0**0.5 * eps)


@pytest.mark.parametrize("process", [Flow(), Flow(noise_scale=0.1), VE()])
def test_a_unit_start_is_refused_where_x_t_is_not_of_unit_variance(process):
    with pytest.raises(ParameterError, match="must preserve the variance"):
        unit_start(process)


def test_clamp_scaled_clamps_x_t_and_not_x():
    process = Flow()
    x = torch.tensor([[[-9.0, 0.5, 3.0]]])
    # At sigma = 1, alpha_t is 0.5: what exceeds 2 in x exceeds 1 in x_t.
    torch.testing.assert_close(clamp_scaled(process)(x, 0, 1.0), torch.tensor([[[-2.0, 0.5, 2.0]]]))
    torch.testing.assert_close(clamp_scaled(process)(x, 0, 0.0), torch.tensor([[[-1.0, 0.5, 1.0]]]))


@pytest.mark.parametrize("name", [name for name, method in REGISTRY.items() if not method.jumps])
def test_the_same_noise_gives_the_same_signal_whatever_the_batch(name):
    sampler = Sampler(REGISTRY[name].solve, TimeUniform(Flow(noise_scale=0.3)), 5)

    def denoise(x, sigma):
        return x / (1.0 + sigma.to(x.dtype)[:, None, None] ** 2)

    like = torch.zeros(3, 1, 200)
    together = sampler(denoise, like, BlockNoise(0, [0, 1, 2]))
    alone = sampler(denoise, like[:1], BlockNoise(0, [1]))
    assert torch.equal(together[1:2], alone)
    assert together.dtype == like.dtype


def test_a_call_can_set_the_number_of_steps():
    steps: list[int] = []
    sampler = Sampler(euler, Karras(), 4)
    like, noise = torch.zeros(1, 1, 8), BlockNoise(0, [0])
    sampler(nothing_known, like, noise, on_step=lambda step, _: steps.append(step))
    sampler(nothing_known, like, noise, n_steps=2, on_step=lambda step, _: steps.append(step))
    assert steps == [0, 1, 2, 3, 0, 1]
    with pytest.raises(ParameterError, match="n_steps=0"):
        Sampler(euler, Karras(), 0)
