"""Solvers of denoisers that are trained to jump."""

from dataclasses import dataclass

import pytest
import torch
from analytic import Gaussian
from helpers import noise, white
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.diffusion.denoiser import Denoiser
from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.preconditioning import Sample
from audiodiff.diffusion.process import VE
from audiodiff.diffusion.solvers import euler, solver
from audiodiff.networks.network import Network
from audiodiff.types import ReceptiveField

pytestmark = pytest.mark.numeric


def test_consistency_adds_the_noise_above_sigma_end():
    sigmas = torch.tensor([5.0, 1.0], dtype=torch.float64)
    start = torch.zeros(1, 1, 8, dtype=torch.float64)
    result = solver("consistency", sigma_end=0.6)(lambda x, sigma: x + 2.0, start, sigmas, noise=noise)
    torch.testing.assert_close(result, 2.0 + 0.8 * white(1, (1, 1, 8)), rtol=1e-13, atol=1e-13)


class JumpNetwork(Network):
    """Predict the x0 whose Euler step lands on a Gaussian's flow; condition.vector is (sigma, sigma_next)."""

    receptive_field = ReceptiveField(0, 0)

    def __init__(self, data: Gaussian, process: VE) -> None:
        super().__init__()
        self.data, self.process = data, process

    def encode(self, condition: Condition) -> Condition:
        return condition

    def forward(self, x: Tensor, c_noise: Tensor, condition: Condition) -> Tensor:
        assert condition.vector is not None
        sigma, sigma_next = (float(level) for level in condition.vector[0])
        x = x / float(self.process.input_scale(torch.tensor(sigma, dtype=torch.float64)))
        ratio = sigma_next / sigma
        return (self.data.flow(x, sigma, sigma_next) - ratio * x) / (1.0 - ratio)


class BothLevels:
    """Tell a network both ends of a jump as they are."""

    n_features = 2

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return torch.stack([sigma, sigma_next], dim=1)


@pytest.mark.parametrize("n_steps", [1, 2, 7])
def test_shortcut_follows_an_exact_model_of_jumps(data, n_steps):
    process = VE()
    denoiser = Denoiser(JumpNetwork(data, process), Sample(process), step_size=BothLevels())
    start = 80.0 * white(0, (2, 1, 32))
    sigmas = torch.tensor([*[80.0, 20.0, 9.0, 3.0, 1.0, 0.3, 0.1][:n_steps], 0.0], dtype=torch.float64)
    result = solver("shortcut")(denoiser.bind(Condition(vector=torch.zeros(2, 0, dtype=torch.float64))), start, sigmas)
    torch.testing.assert_close(result, data.flow(start, 80.0, 0.0), rtol=1e-9, atol=1e-9)


@dataclass(frozen=True)
class Plain:
    """A denoiser whose estimate does not depend on sigma_next."""

    data: Gaussian

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.data.denoise(x, sigma)

    def predict_jump(self, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        return self.data.denoise(x, sigma)


def test_shortcut_with_an_ordinary_denoiser_is_euler(data):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(6)
    result = solver("shortcut")(Plain(data), start, sigmas)
    assert torch.equal(result, euler(data.denoise, start, sigmas))
    result = solver("shortcut")(Plain(data), start, sigmas, after_step=lambda x, step, sigma: x + sigma)
    assert torch.equal(result, euler(data.denoise, start, sigmas, after_step=lambda x, step, sigma: x + sigma))
