import math
import threading

import pytest
import torch
from analytic import Mixture
from torch import Tensor

from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.solvers import adaptive
from audiodiff.errors import ParameterError

pytestmark = pytest.mark.numeric

MIXTURE = Mixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0, 0.5], [1.0, -0.2]], dtype=torch.float64),
    torch.tensor([0.2, 0.02], dtype=torch.float64),
)


def white(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1000), dtype=torch.float64)


def ending(*levels: float) -> Tensor:
    return torch.tensor(levels, dtype=torch.float64)


@pytest.mark.parametrize("method", ["RK23", "RK45", "DOP853"])
def test_the_error_follows_the_tolerance(data, method):
    start = 80.0 * white((2, 1, 32))
    exact = data.flow(start, 80.0, 0.05)
    errors = []
    for tolerance in (1e-3, 1e-5, 1e-7):
        result = adaptive(data.denoise, start, ending(80.0, 0.05), rtol=tolerance, atol=tolerance, method=method)
        errors.append((result - exact).abs().max().item())
        # Every step may err by as much, and RK23 needs hundreds; but the flow shrinks early errors.
        assert errors[-1] < 30.0 * tolerance
    assert errors[0] > 20.0 * errors[1] > 400.0 * errors[2]


def test_the_last_step_is_the_denoiser_at_the_last_positive_level(data):
    start = 80.0 * white((2, 1, 32))
    before = adaptive(data.denoise, start, ending(80.0, 0.05))
    result = adaptive(data.denoise, start, ending(80.0, 0.05, 0.0))
    torch.testing.assert_close(result, data.denoise(before, ending(0.05, 0.05)), rtol=1e-14, atol=1e-14)


def test_inner_levels_change_only_the_calls_of_hooks(data):
    start = 80.0 * white((2, 1, 32))
    seen: list[Tensor] = []

    def after_step(x: Tensor, step: int, sigma: float) -> Tensor:
        torch.testing.assert_close(x, data.flow(start, 80.0, sigma), rtol=0.0, atol=1e-3)
        seen.append(x)
        return x

    few, many = (
        adaptive(data.denoise, start, sigmas, after_step=after_step)
        for sigmas in (ending(80.0, 0.002), Karras()(12)[:-1])
    )
    assert len(seen) == 1 + 11
    # Ten times the default tolerance.
    torch.testing.assert_close(few, many, rtol=0.0, atol=1e-4)


def test_examples_take_their_own_steps_and_share_evaluations():
    start = torch.cat([80.0 * white((1, 2, 1)), torch.full((1, 2, 1), 1e-3, dtype=torch.float64)])
    calls: list[Tensor] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        assert len(x) == len(sigma)
        calls.append(sigma.clone())
        return MIXTURE.denoise(x, sigma)

    sigmas = ending(80.0, 0.01)
    together = adaptive(denoise, start, sigmas)
    n_together = len(calls)
    assert any(float(first) != float(second) for first, second in calls)
    n_alone = []
    for example in range(2):
        calls.clear()
        alone = adaptive(denoise, start[example : example + 1], sigmas)
        n_alone.append(len(calls))
        torch.testing.assert_close(together[example : example + 1], alone, rtol=1e-12, atol=1e-12)
    assert n_together == max(n_alone)
    assert n_alone[0] != n_alone[1]


@pytest.mark.parametrize("sigmas", [(80.0, 0.0), (80.0,)])
def test_a_grid_without_a_second_positive_level_is_refused(data, sigmas):
    with pytest.raises(ParameterError, match=r"sigmas=\[80\.0.*take at least 2 steps"):
        adaptive(data.denoise, 80.0 * white((1, 1, 32)), ending(*sigmas))


def test_a_method_that_does_not_exist_is_refused(data):
    with pytest.raises(ParameterError, match="method='LSODA' must be one of RK23, RK45, DOP853"):
        adaptive(data.denoise, 80.0 * white((1, 1, 32)), Karras()(3), method="LSODA")


@pytest.mark.parametrize("below", [math.inf, 1.0])
def test_a_denoiser_that_is_not_finite_is_reported(data, below):
    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        return data.denoise(x, sigma) + torch.where(sigma < below, math.nan, 0.0)[:, None, None]

    with pytest.raises(ParameterError, match=r"denoise is not finite.* at sigma="):
        adaptive(denoise, 2.0 * white((2, 1, 32)), ending(2.0, 0.5))


@pytest.mark.parametrize("tolerances", [{"rtol": 0.0}, {"atol": -1.0}, {"rtol": math.nan}])
def test_invalid_tolerances_are_refused(data, tolerances):
    with pytest.raises(ParameterError, match=r"rtol=.* and atol=.* must be positive"):
        adaptive(data.denoise, 80.0 * white((1, 1, 32)), Karras()(3), **tolerances)


def test_an_error_in_the_denoiser_is_raised_and_ends_all_threads(data):
    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        if float(sigma[0]) < 1.0:
            raise KeyError("out of memory")
        return data.denoise(x, sigma)

    before = threading.active_count()
    with pytest.raises(KeyError, match="out of memory"):
        adaptive(denoise, 2.0 * white((3, 1, 32)), ending(2.0, 0.5))
    assert threading.active_count() == before
