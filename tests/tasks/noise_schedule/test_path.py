"""Grids by dynamic programming, against exact denoisers, brute force and closed forms."""

import itertools
import math

import pytest
import torch
from analytic import Gaussian, Mixture
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from torch.distributions import Normal, kl_divergence

from audiodiff.diffusion.grid import Fixed
from audiodiff.diffusion.solvers import euler
from audiodiff.errors import ParameterError
from audiodiff.tasks.noise_schedule.levels import log_uniform, standard_grids
from audiodiff.tasks.noise_schedule.path import best_path, bound_costs, denoising_mse, path_cost, truncation_powers

VARIANCE = 0.3


def mixture() -> Mixture:
    return Mixture(
        weights=torch.tensor([0.3, 0.7], dtype=torch.float64),
        means=torch.tensor([[-1.0], [0.5]], dtype=torch.float64),
        variances=torch.tensor([0.01, 0.05], dtype=torch.float64),
    )


def gaussian() -> Gaussian:
    return Gaussian(torch.zeros((), dtype=torch.float64), torch.tensor(VARIANCE, dtype=torch.float64))


def exact_errors(levels: tuple[float, ...]) -> torch.Tensor:
    """E|x0 - D|^2 of a normal x0 is the variance of its posterior."""
    power = torch.tensor(levels, dtype=torch.float64) ** 2
    return VARIANCE * power / (VARIANCE + power)


def brute_force(costs: torch.Tensor, n_steps: int) -> float:
    last = len(costs) - 1
    ways = itertools.combinations(range(1, last), n_steps - 1)
    return min(math.fsum(float(costs[i, j]) for i, j in itertools.pairwise((0, *way, last))) for way in ways)


@pytest.mark.parametrize("n_steps", range(1, 8))
def test_the_best_path_costs_as_little_as_brute_force_finds(n_steps: int):
    costs = torch.rand(8, 8, generator=torch.Generator().manual_seed(n_steps), dtype=torch.float64)
    path = best_path(costs, n_steps)
    assert len(path) == n_steps + 1
    assert (path[0], path[-1]) == (0, 7)
    assert list(path) == sorted(set(path))
    assert path_cost(costs, path) == pytest.approx(brute_force(costs, n_steps), rel=1e-14)


@pytest.mark.parametrize("n_steps", [0, 8])
def test_a_path_of_more_steps_than_levels_is_refused(n_steps: int):
    with pytest.raises(ParameterError, match=f"n_steps={n_steps} must lie between 1 and 7"):
        best_path(torch.zeros(8, 8), n_steps)


def test_the_cost_of_a_step_is_the_divergence_of_the_posteriors():
    x0, denoised, x_a, a, b = (torch.tensor(v, dtype=torch.float64) for v in (0.4, -0.3, 1.7, 2.0, 0.7))
    share = 1.0 - b**2 / a**2
    true = Normal(x_a * b**2 / a**2 + x0 * share, b * share.sqrt())
    ours = Normal(x_a * b**2 / a**2 + denoised * share, b * share.sqrt())
    costs = bound_costs((2.0, 0.7), torch.tensor([float((x0 - denoised) ** 2), 0.0], dtype=torch.float64))
    assert float(costs[0, 1]) == pytest.approx(float(kl_divergence(true, ours)), rel=1e-12)


def test_the_bound_of_normal_data_is_information_plus_divergence():
    levels = (5.0, 1.3, 0.4, 0.1)
    costs = bound_costs(levels, exact_errors(levels))
    for i, j in itertools.combinations(range(4), 2):
        a, b = levels[i] ** 2, levels[j] ** 2
        information = 0.5 * math.log((1.0 + VARIANCE / b) / (1.0 + VARIANCE / a))
        posterior = b * (1.0 - b / a)
        true = posterior + (1.0 - b / a) ** 2 * VARIANCE * a / (VARIANCE + a)
        missed = kl_divergence(Normal(0.0, true**0.5), Normal(0.0, posterior**0.5))
        assert float(costs[i, j]) == pytest.approx(information + float(missed), rel=1e-5)


def test_the_bound_converges_to_the_information_at_order_one():
    information = 0.5 * math.log((1.0 + VARIANCE / 0.01**2) / (1.0 + VARIANCE / 50.0**2))
    excess = []
    for n in (100, 200, 400):
        levels = log_uniform(0.01, 50.0, n + 1)
        excess.append(path_cost(bound_costs(levels, exact_errors(levels)), range(n + 1)) - information)
    assert excess[-1] > 0.0
    # A Riemann sum: its error is of order one in the width of the steps.
    assert excess[0] / excess[1] == pytest.approx(2.0, rel=0.05)
    assert excess[1] / excess[2] == pytest.approx(2.0, rel=0.05)


def test_the_bound_equals_align_your_steps_up_to_a_constant():
    def shrink(sigma: float) -> float:
        return VARIANCE / (VARIANCE + sigma**2)

    levels = (5.0, 1.3, 0.4, 0.1)
    costs = bound_costs(levels, exact_errors(levels))
    for a, b in itertools.pairwise(levels):
        # E|D(x_sigma) - D(x_a)|^2 = VARIANCE (shrink(sigma) - shrink(a)) for normal data, weighed by sigma^-3.
        theirs, _ = quad(lambda sigma, a=a: VARIANCE * (shrink(sigma) - shrink(a)) / sigma**3, b, a)
        information = 0.5 * math.log((1.0 + VARIANCE / b**2) / (1.0 + VARIANCE / a**2))
        i, j = levels.index(a), levels.index(b)
        assert theirs == pytest.approx(float(costs[i, j]) - information, rel=1e-8)


def test_denoising_mse_of_normal_data_is_the_posterior_variance():
    n = 200_000
    generator = torch.Generator().manual_seed(0)
    x0 = math.sqrt(VARIANCE) * torch.randn(1, 1, n, generator=generator, dtype=torch.float64)
    eps = torch.randn(1, 1, n, generator=generator, dtype=torch.float64)
    levels, calls = (3.0, 0.5, 0.05), []
    errors = denoising_mse(gaussian().denoise, x0, eps, levels, on_level=lambda: calls.append(1))
    # The mean of n squares of a normal number has a relative standard error of sqrt(2 / n): five of them.
    assert errors.tolist() == pytest.approx(exact_errors(levels).tolist(), rel=5.0 * math.sqrt(2.0 / n))
    assert len(calls) == len(levels)


def test_the_best_bound_of_two_steps_is_near_the_continuous_optimum():
    low, high, n = 0.05, 20.0, 400

    def bound(log_sigma: float) -> float:
        levels = (high, math.exp(log_sigma), low)
        return path_cost(bound_costs(levels, exact_errors(levels)), (0, 1, 2))

    optimum = minimize_scalar(bound, bounds=(math.log(low), math.log(high)), method="bounded").x
    levels = log_uniform(low, high, n)
    path = best_path(bound_costs(levels, exact_errors(levels)), 2)
    assert math.log(levels[path[1]]) == pytest.approx(optimum, abs=math.log(high / low) / (n - 1))


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4])
def test_the_grid_for_a_mixture_is_the_best_of_all_grids(n_steps: int):
    data = mixture()
    generator = torch.Generator().manual_seed(1)
    x0 = data.sample(500, generator)
    eps = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    levels = log_uniform(0.02, 10.0, 9)
    bounds = bound_costs(levels, denoising_mse(data.denoise, x0, eps, levels))
    steps = truncation_powers(data.denoise, levels[0] * eps, (*levels, 0.0)).sqrt()
    for costs in (bounds, steps):
        assert path_cost(costs, best_path(costs, n_steps)) == pytest.approx(brute_force(costs, n_steps), rel=1e-12)


def test_the_error_of_an_euler_step_equals_its_closed_form():
    data, levels = gaussian(), (*log_uniform(0.02, 10.0, 60), 0.0)
    # A start whose flow ends at the standard deviation of the data, where the transport of errors is exact.
    x = torch.full((1, 1, 1), math.sqrt(VARIANCE + levels[0] ** 2), dtype=torch.float64)
    powers = truncation_powers(data.denoise, x, levels)
    # Heun's solution of 60 steps is the flow to about 1e-4; steps of many levels miss a hundred times as much.
    for i, j in [(0, 30), (10, 40), (20, 59), (25, 60), (0, 60)]:
        a, b = levels[i], levels[j]
        state = math.sqrt(VARIANCE + a**2)
        missed = state * (VARIANCE + a * b) / (VARIANCE + a**2) - math.sqrt(VARIANCE + b**2)
        carried = float(data.flow(torch.tensor(missed, dtype=torch.float64), b, 0.0))
        assert float(powers[i, j]) == pytest.approx(carried**2, rel=0.02)


def test_the_grid_of_least_truncation_beats_the_standard_grids():

    data, levels = gaussian(), (*log_uniform(0.02, 10.0, 60), 0.0)
    x = torch.full((1, 1, 1), math.sqrt(VARIANCE + levels[0] ** 2), dtype=torch.float64)
    path = best_path(truncation_powers(data.denoise, x, levels).sqrt(), 5)

    def distance(grid: tuple[float, ...]) -> float:
        return abs(float(euler(data.denoise, x, Fixed(grid)(len(grid)))) - math.sqrt(VARIANCE))

    found = distance(tuple(levels[k] for k in path[:-1]))
    assert all(found < distance(grid) for grid in standard_grids(0.02, 10.0, 5).values())
