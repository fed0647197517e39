"""euler and heun with churn, and midpoint."""

import math
from itertools import pairwise

import pytest
import torch
from analytic import Gaussian
from helpers import noise
from torch import Tensor

from audiodiff.diffusion.grid import Karras, TimeUniform
from audiodiff.diffusion.process import VE, DiscreteVP, Flow, Process, VPCosine, VPLinear, linear_betas
from audiodiff.diffusion.solvers import euler, heun, midpoint
from audiodiff.errors import ParameterError

pytestmark = pytest.mark.numeric

SHAPE = (2, 1, 32)


def white(step: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1000 + step), dtype=torch.float64)


def at(sigma: float) -> Tensor:
    return torch.full((2,), sigma, dtype=torch.float64)


@pytest.mark.parametrize("corrected", [True, False])
def test_churn_is_algorithm_2_of_karras(data, corrected):
    sigmas = Karras()(9).tolist()
    s_churn, s_tmin, s_tmax, s_noise = 3.0, 0.05, 50.0, 1.007
    x = 80.0 * white(0)
    raised = []
    for i, (t, t_next) in enumerate(pairwise(sigmas)):
        gamma = min(s_churn / 9, math.sqrt(2.0) - 1.0) if s_tmin <= t <= s_tmax else 0.0
        t_hat = t + gamma * t
        raised.append(t_hat > t)
        x_hat = x + math.sqrt(t_hat**2 - t**2) * s_noise * white(i + 1)
        d = (x_hat - data.denoise(x_hat, at(t_hat))) / t_hat
        x = x_hat + (t_next - t_hat) * d
        if corrected and t_next != 0.0:
            d_next = (x - data.denoise(x, at(t_next))) / t_next
            x = x_hat + (t_next - t_hat) * (0.5 * d + 0.5 * d_next)
    assert 0 < sum(raised) < 9
    solve = heun if corrected else euler
    result = solve(
        data.denoise,
        80.0 * white(0),
        Karras()(9),
        noise=noise,
        s_churn=s_churn,
        s_tmin=s_tmin,
        s_tmax=s_tmax,
        s_noise=s_noise,
    )
    torch.testing.assert_close(result, x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solve", [euler, heun])
def test_churn_requires_noise_and_no_churn_draws_none(solve, data):
    start = 80.0 * white(0)
    with pytest.raises(ParameterError, match=r"noise=None: s_churn=1\.0"):
        solve(data.denoise, start, Karras()(3), s_churn=1.0)
    with pytest.raises(ParameterError, match=r"s_churn=-1\.0"):
        solve(data.denoise, start, Karras()(3), s_churn=-1.0, noise=noise)

    def never(like: Tensor, step: int) -> Tensor:
        raise AssertionError

    without = solve(data.denoise, start, Karras()(3))
    assert torch.equal(solve(data.denoise, start, Karras()(3), noise=never), without)
    above = solve(data.denoise, start, Karras()(3), noise=never, s_churn=1.0, s_tmin=100.0)
    assert torch.equal(above, without)


def churned_variance(variance: float, sigmas: Tensor, s_churn: float) -> float:
    """Return the variance that euler's chain ends with on a Gaussian, step by step in closed form."""
    marginal = variance + sigmas[0].item() ** 2
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        raised = sigma * (1.0 + min(s_churn / (len(sigmas) - 1), math.sqrt(2.0) - 1.0))
        shrink = variance / (variance + raised**2)
        gain = shrink + sigma_next / raised * (1.0 - shrink)
        marginal = gain**2 * (marginal + raised**2 - sigma**2)
    return marginal


def test_churn_keeps_the_law_of_the_data_as_the_steps_grow():
    sigmas, n = Karras()(40), 40_000
    data = Gaussian(torch.tensor([[0.5]], dtype=torch.float64), torch.tensor([[0.04]], dtype=torch.float64))
    start = 0.5 + math.sqrt(0.04 + 80.0**2) * white(0, (n, 1, 1))
    result = euler(data.denoise, start, sigmas, noise=noise, s_churn=10.0)
    expected = churned_variance(0.04, sigmas, 10.0)
    # Five standard errors.
    assert result.mean().item() == pytest.approx(0.5, abs=5.0 * math.sqrt(expected / n))
    assert result.var().item() == pytest.approx(expected, rel=5.0 * math.sqrt(2.0 / n))
    errors = [abs(churned_variance(0.04, Karras()(n_steps), 10.0) - 0.04) for n_steps in (400, 800, 1600)]
    assert [coarse / fine for coarse, fine in pairwise(errors)] == pytest.approx([2.0, 2.0], abs=0.1)


@pytest.mark.parametrize("t_end", [0.0, 0.1])
@pytest.mark.parametrize("noise_scale", [1.0, 0.3])
def test_midpoint_of_flow_is_the_textbooks_midpoint_of_the_velocity(data, t_end, noise_scale):
    process = Flow(noise_scale=noise_scale)
    n_steps = 6

    def velocity(x_t: Tensor, t: float) -> Tensor:
        """Return E[s eps - x0 | x_t]; the law of x_t is N((1 - t) mean, (1 - t)^2 variance + s^2 t^2)."""
        signal, scale = 1.0 - t, noise_scale * t
        total = signal**2 * data.variance + scale**2
        x0 = data.mean + signal * data.variance / total * (x_t - signal * data.mean)
        eps = scale / total * (x_t - signal * data.mean)
        return noise_scale * eps - x0

    times = torch.linspace(0.95, t_end, n_steps + 1, dtype=torch.float64)
    x_t = white(0)
    for t, t_next in pairwise(times.tolist()):
        half = x_t + 0.5 * (t_next - t) * velocity(x_t, t)
        x_t = x_t + (t_next - t) * velocity(half, 0.5 * (t + t_next))
    result = midpoint(data.denoise, white(0) / 0.05, process.sigma(times), process=process)
    torch.testing.assert_close(result * (1.0 - t_end), x_t, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("process", "n_calls"),
    [
        (None, 11),
        (Flow(noise_scale=0.5), 12),
        (VPLinear(), 12),
        (VPCosine(), 12),
        (VE(), 11),
        (DiscreteVP(linear_betas(1e-4, 0.05, 50)), 11),
    ],
    ids=repr,
)
def test_the_last_step_of_midpoint_is_defined_for_every_process(data, process: Process | None, n_calls):
    levels: list[float] = []

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        levels.append(float(sigma[0]))
        return data.denoise(x, sigma)

    sigmas = TimeUniform(Flow() if process is None else process, t_start=0.9)(6)
    start = sigmas[0] * white(0)
    result = midpoint(denoise, start, sigmas, process=process)
    # Two evaluations, and one in a last step for which the clock has no middle.
    assert len(levels) == n_calls
    assert sorted(levels, reverse=True) == levels
    assert min(levels) > 0.0
    x0 = white(3)
    reached = midpoint(lambda x, sigma: x0, start, sigmas, process=process)
    torch.testing.assert_close(reached, x0, rtol=1e-10, atol=1e-10)
    assert bool(torch.isfinite(result).all())


@pytest.mark.parametrize(
    "process", [Flow(), VPLinear(), VPCosine(), VE(), DiscreteVP(linear_betas(1e-4, 0.02, 1000))], ids=lambda p: type(p)
)
def test_midpoint_converges_at_order_two_under_every_process(data, process):
    high, low = torch.tensor([5.0, 0.1], dtype=torch.float64)
    start = 5.0 * white(0)
    exact = data.flow(start, 5.0, 0.1)
    first, last = process.time(high).item(), process.time(low).item()
    errors = []
    for n_steps in (32, 64):
        sigmas = process.sigma(torch.linspace(first, last, n_steps + 1, dtype=torch.float64))
        errors.append((midpoint(data.denoise, start, sigmas, process=process) - exact).abs().max().item())
    # Rectified flow is of order three on a Gaussian; the mixture of test_solvers.py is not so kind.
    assert math.log2(errors[0] / errors[1]) >= 1.95


def test_midpoint_of_ve_is_that_of_log_sigma(data):
    start = 10.0 * white(0)
    sigmas = Karras(sigma_max=10.0)(8)
    ve, log_sigma = (midpoint(data.denoise, start, sigmas, process=process) for process in (VE(), None))
    torch.testing.assert_close(ve, log_sigma, rtol=1e-12, atol=1e-12)


def test_midpoint_refuses_a_level_that_the_process_never_has(data):
    process = DiscreteVP(linear_betas(1e-4, 0.05, 50))
    with pytest.raises(ParameterError, match=r"process=DiscreteVP never has sigma=80\.0"):
        midpoint(data.denoise, 80.0 * white(0), Karras()(4), process=process)
