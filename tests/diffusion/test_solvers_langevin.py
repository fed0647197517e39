"""Predictor-corrector sampling: its law, and the step of the paper."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from analytic import Gaussian
from helpers import noise, white
from torch import Tensor

from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.solvers import REGISTRY, solver

pytestmark = pytest.mark.numeric

VARIANCE = 0.04


NARROW = Gaussian(torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[VARIANCE]], dtype=torch.float64))


N_DRAWS = 40_000


def corrected_variance(sigmas: Tensor, r: float, n_corrections: int) -> float:
    """Return the variance that predictor and corrector end with on NARROW, for long signals, where norms are sure."""
    marginal = VARIANCE + sigmas[0].item() ** 2
    for s, t in pairwise(sigmas.tolist()):
        predict_jump = (t / s) ** 2
        marginal *= (predict_jump + (1.0 - predict_jump) * VARIANCE / (VARIANCE + s**2)) ** 2
        if t > 0.0:
            marginal += s**2 - t**2
            for _ in range(n_corrections):
                # score = -(x - mean) / total, so that |score|^2 is marginal / total^2 for each sample.
                total = VARIANCE + t**2
                size = 2.0 * r**2 * total**2 / marginal
                marginal = (1.0 - size / total) ** 2 * marginal + 2.0 * size
    return marginal


@pytest.mark.parametrize(("r", "n_corrections"), [(0.16, 1), (0.16, 3), (0.5, 1)])
def test_predictor_and_corrector_draw_from_the_law_of_their_chain(r, n_corrections):
    sigmas = Karras()(24)
    start = 0.5 + math.sqrt(VARIANCE + 80.0**2) * white(0, (8, 1, 5000))
    solve = solver("predictor_corrector", r=r, n_corrections=n_corrections)
    result = solve(NARROW.denoise, start, sigmas, noise=noise)
    expected = corrected_variance(sigmas, r, n_corrections)
    # Five standard errors; what a finite length adds to the size of a step is 2 / 5000 of it.
    assert result.mean().item() == pytest.approx(0.5, abs=5.0 * math.sqrt(expected / N_DRAWS))
    assert result.var().item() == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / N_DRAWS))


def test_corrections_leave_an_error_of_order_r_squared():
    def error(n_steps: int, r: float, n_corrections: int = 1) -> float:
        return corrected_variance(Karras()(n_steps), r, n_corrections) / VARIANCE - 1.0

    assert 0.0 < error(100, 0.16) < 0.3 * error(100, 0.16, n_corrections=0)
    # More steps alone do not help: the order in the registry is 0 ...
    assert error(3200, 0.16) == pytest.approx(error(1600, 0.16), rel=0.01)
    assert REGISTRY["predictor_corrector"].order == 0
    # ... r does, quadratically, and both together at order one.
    assert error(3200, 0.2) / error(3200, 0.1) == pytest.approx(4.0, rel=0.1)
    assert error(400, 0.08) / error(1600, 0.04) == pytest.approx(4.0, rel=0.1)


def test_predictor_corrector_without_corrections_is_euler_maruyama(data):
    start, sigmas = 80.0 * white(0, (2, 1, 32)), Karras()(6)
    result = solver("predictor_corrector", n_corrections=0)(data.denoise, start, sigmas, noise=noise)
    assert torch.equal(result, solver("euler_maruyama")(data.denoise, start, sigmas, noise=noise))


def test_a_correction_is_the_papers_step():
    # Song et al. 2021, algorithm 4, on one example: eps = 2 (r |z| / |g|)^2, x + eps g + sqrt(2 eps) z.
    x, sigmas = white(0, (1, 2, 16)), torch.tensor([2.0, 0.5], dtype=torch.float64)
    predicted = solver("euler_maruyama")(lambda x, sigma: 0.3 * x, x, sigmas, noise=noise)
    g, z = -0.7 * predicted / 0.5**2, white(2, (1, 2, 16))
    eps = 2.0 * (0.2 * z.norm() / g.norm()) ** 2
    result = solver("predictor_corrector", r=0.2)(lambda x, sigma: 0.3 * x, x, sigmas, noise=noise)
    torch.testing.assert_close(result, predicted + eps * g + torch.sqrt(2.0 * eps) * z, rtol=1e-13, atol=1e-13)
    assert ((eps * g).norm() / (torch.sqrt(2.0 * eps) * z).norm()).item() == pytest.approx(0.2, rel=1e-12)


def test_a_correction_with_score_zero_changes_nothing():
    start, sigmas = white(0, (1, 1, 8)), Karras()(4)
    result = solver("predictor_corrector")(lambda x, sigma: x, start, sigmas, noise=noise)
    assert torch.equal(result, solver("euler_maruyama")(lambda x, sigma: x, start, sigmas, noise=noise))


def test_corrections_depend_on_the_example_alone():
    start = 80.0 * white(0, (3, 1, 64)) * torch.tensor([1.0, 100.0, 1e-3], dtype=torch.float64)[:, None, None]
    rows = white(9, (3, 64))

    def own_noise(which: list[int]) -> Callable[[Tensor, int], Tensor]:
        return lambda like, step: (rows[which] * math.cos(step) + white(step, (64,)) * math.sin(step))[:, None]

    solve = partial(solver("predictor_corrector"), lambda x, sigma: 0.1 * torch.tanh(x), sigmas=Karras()(5))
    together = solve(start, noise=own_noise([0, 1, 2]))
    for index in range(3):
        assert torch.equal(together[index : index + 1], solve(start[index : index + 1], noise=own_noise([index])))


def test_corrections_have_step_numbers_and_evaluations_of_their_own(data):
    numbers: list[int] = []
    levels: list[float] = []

    def counted(like: Tensor, step: int) -> Tensor:
        numbers.append(step)
        return noise(like, step)

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        levels.append(sigma[0].item())
        return data.denoise(x, sigma)

    sigmas = torch.tensor([4.0, 2.0, 1.0, 0.0], dtype=torch.float64)
    solver("predictor_corrector", n_corrections=3)(denoise, white(0, (1, 1, 32)), sigmas, noise=counted)
    assert numbers == [1, 4, 5, 6, 2, 7, 8, 9]
    assert levels == [4.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0]
