"""RePaint on Gaussian data, whose posterior is known."""

import math
from itertools import pairwise

import pytest
import torch
from analytic import Law, decimation
from helpers import noise, white
from torch import Tensor

from audiodiff.diffusion.grid import Karras
from audiodiff.diffusion.operators import Linear, LinearOperator, LowPass, Mask
from audiodiff.diffusion.repaint import repaint, repaint_path
from audiodiff.errors import ParameterError

N = 8
KNOWN = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
OPERATORS: dict[str, LinearOperator] = {"mask": Mask(KNOWN), "low_pass": LowPass(0.25), "decimate": decimation(2)}
GRID = Karras(sigma_min=0.01, sigma_max=20.0)


def correlated() -> Law:
    """Return a law whose samples correlate by 0.8 with their neighbours."""
    distance = (torch.arange(N)[:, None] - torch.arange(N)).abs().double()
    return Law(0.5 * white(0, (N,)), 0.25 * 0.8**distance)


def measured(operator: LinearOperator, law: Law, sigma_y: float = 0.0) -> Tensor:
    """Return a measurement of one draw of the law."""
    x0 = law.mean + torch.linalg.cholesky(law.covariance) @ white(1, (N,))
    y = operator(x0[None, None])
    return y + sigma_y * white(2, tuple(y.shape))


@pytest.mark.parametrize(
    ("n_steps", "jump_length", "n_resamples", "n_calls"),
    # The first is the paper's own: 4570 levels on the path, 2410 of them by an evaluation.
    [(250, 10, 10, 2410), (7, 3, 4, 25), (5, 1, 3, 13), (5, 5, 9, 5), (9, 2, 1, 9)],
)
def test_repaint_makes_the_stated_number_of_evaluations(n_steps, jump_length, n_resamples, n_calls):
    path = repaint_path(n_steps, jump_length=jump_length, n_resamples=n_resamples)
    assert path[0] == n_steps
    assert path[-1] == 0
    steps = [after - before for before, after in pairwise(path)]
    assert set(steps) <= {-1, jump_length}
    assert steps.count(-1) == n_calls
    assert n_calls == n_steps + (n_resamples - 1) * jump_length * math.ceil((n_steps - jump_length) / jump_length)
    if n_steps > 9:
        return
    calls: list[float] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append(sigma.item())
        return 0.0 * x

    seen: list[int] = []
    solve = repaint(
        Mask(KNOWN), torch.zeros(1, 1, N, dtype=torch.float64), jump_length=jump_length, n_resamples=n_resamples
    )
    solve(denoise, white(0, (1, 1, N)), GRID(n_steps), noise=noise, on_step=lambda step, _: seen.append(step))
    assert len(calls) == n_calls
    assert seen == list(range(n_calls))


def test_resampling_brings_repaint_to_the_posterior():
    """The chain is linear, so that its mean is what it makes of no noise at all."""
    law = correlated()
    y = measured(Mask(KNOWN), law)
    exact = law.posterior(Mask(KNOWN), y, 0.0)
    start = law.mean.expand(1, 1, N).clone()

    def bias(jump_length: int, n_resamples: int) -> float:
        solve = repaint(Mask(KNOWN), y, jump_length=jump_length, n_resamples=n_resamples)
        mean = solve(law.denoise, start, GRID(20), noise=lambda like, _: torch.zeros_like(like))
        return (mean[0, 0] - exact.mean).norm().item()

    replaced, some, many = bias(1, 1), bias(1, 5), bias(1, 20)
    assert replaced > 2.0 * some > 4.0 * many


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda mask, y: repaint(mask, y, jump_length=0), "jump_length=0"),
        (lambda mask, y: repaint(mask, y, n_resamples=0), "n_resamples=0"),
        (lambda mask, y: repaint(mask, y)(correlated().denoise, y, GRID(9), noise=noise), "exceed the 9 steps"),
        (lambda mask, y: repaint(mask, y)(correlated().denoise, y, GRID(12)), "repaint"),
        (lambda mask, y: repaint(Linear(mask, mask), y), "has no gain"),
    ],
)
def test_invalid_arguments_are_refused(call, message):
    with pytest.raises(ParameterError, match=message):
        call(Mask(KNOWN), torch.zeros(1, 1, N, dtype=torch.float64))
