"""Tables of betas."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from audiodiff.diffusion.process import (
    DiscreteVP,
    VPCosine,
    betas_of_alpha_bar,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
)
from audiodiff.errors import ParameterError


@pytest.mark.parametrize(
    ("betas", "name"),
    [
        (linear_betas(1e-4, 0.02, 50), "linear"),
        (scaled_linear_betas(1e-4, 0.02, 50), "scaled_linear"),
        (cosine_betas(50), "squaredcos_cap_v2"),
    ],
    ids=["linear", "scaled_linear", "cosine"],
)
def test_a_table_is_that_of_diffusers(betas, name):
    scheduler = DDPMScheduler(num_train_timesteps=50, beta_start=1e-4, beta_end=0.02, beta_schedule=name)
    # diffusers holds float32.
    torch.testing.assert_close(torch.tensor(betas), scheduler.betas, rtol=2e-6, atol=1e-9)


def test_the_products_of_the_cosine_table_are_alpha_bar():
    def alpha_bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2.0) ** 2

    # Step k of a table of 40 is at t = (k + 1) / 40.
    betas = cosine_betas(40)
    expected = torch.tensor([alpha_bar((k + 1) / 40) / alpha_bar(0.0) for k in range(39)], dtype=torch.float64)
    alpha_t, _ = DiscreteVP(betas).coefficients(torch.arange(39, dtype=torch.float64))
    torch.testing.assert_close(alpha_t**2, expected, rtol=1e-12, atol=0.0)
    assert betas[-1] == 0.999


def test_the_cosine_table_without_offset_is_the_cosine_process():
    table = DiscreteVP(cosine_betas(20, offset=0.0))
    steps = torch.arange(19, dtype=torch.float64)
    torch.testing.assert_close(table.sigma(steps), VPCosine().sigma((steps + 1.0) / 20.0), rtol=1e-11, atol=0.0)


def test_betas_of_the_products_of_betas_are_the_betas():
    betas = linear_betas(1e-4, 0.05, 50)
    alpha_bar = torch.cumprod(1.0 - torch.tensor(betas, dtype=torch.float64), dim=0)
    assert betas_of_alpha_bar(alpha_bar.tolist()) == pytest.approx(betas, rel=1e-11)


@pytest.mark.parametrize("alpha_bar", [[0.9, 0.9], [1.1, 0.5], [0.5, -0.1]])
def test_a_table_of_alpha_bar_that_does_not_decrease_is_refused_by_name(alpha_bar):
    with pytest.raises(ParameterError, match=r"alpha_bar\[[01]\]="):
        betas_of_alpha_bar(alpha_bar)
