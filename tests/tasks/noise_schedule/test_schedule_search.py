"""Grids by search and by dynamic programming, held to exact denoisers, brute force and closed forms."""

import itertools
import math

import pytest
import torch
from analytic import Gaussian, Mixture
from scipy.integrate import quad
from scipy.optimize import minimize_scalar
from torch.distributions import Normal, kl_divergence

from audiodiff.diffusion.grid import BetaTable, Fixed
from audiodiff.diffusion.solvers import euler
from audiodiff.errors import ParameterError
from audiodiff.tasks.noise_schedule.levels import betas_of_sigmas, log_uniform, sigmas_of_betas, standard_grids
from audiodiff.tasks.noise_schedule.path import best_path, bound_costs, denoising_errors, path_cost, truncation_powers
from audiodiff.tasks.noise_schedule.search import best, search

VARIANCE = 0.3
DIFFWAVE = (1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)


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


def test_betas_and_sigmas_are_each_others_inverse():
    sigmas = sigmas_of_betas(DIFFWAVE)
    alpha_bar = torch.cumprod(1.0 - torch.tensor(DIFFWAVE, dtype=torch.float64), dim=0)
    assert sigmas == pytest.approx(((1.0 - alpha_bar) / alpha_bar).sqrt().flip(0).tolist(), rel=1e-12)
    assert betas_of_sigmas(sigmas) == pytest.approx(DIFFWAVE, rel=1e-12)
    levels = (80.0, 1.0, 0.002)
    assert BetaTable(betas_of_sigmas(levels))(3).tolist() == pytest.approx([*levels, 0.0], rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_every_standard_grid_decreases_and_begins_at_the_greatest_level(n: int):
    for grid in standard_grids(0.01, 20.0, n).values():
        assert len(grid) == n
        assert grid[0] == pytest.approx(20.0, rel=1e-4)
        assert all(a > b > 0.0 for a, b in itertools.pairwise(grid))
    assert log_uniform(0.1, 3.0, 5)[0] == 3.0
    assert log_uniform(0.1, 3.0, 5)[-1] == 0.1


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (0.1, math.inf), (math.nan, 1.0)])
def test_a_range_that_is_none_is_refused(low: float, high: float):
    with pytest.raises(ParameterError, match="0 < sigma_min < sigma_max"):
        standard_grids(low, high, 3)


@pytest.mark.parametrize("n_steps", range(1, 8))
def test_the_path_costs_as_little_as_the_best_of_all_paths(n_steps: int):
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


def test_a_step_costs_the_divergence_of_the_posteriors():
    x0, denoised, x_a, a, b = (torch.tensor(v, dtype=torch.float64) for v in (0.4, -0.3, 1.7, 2.0, 0.7))
    share = 1.0 - b**2 / a**2
    true = Normal(x_a * b**2 / a**2 + x0 * share, b * share.sqrt())
    ours = Normal(x_a * b**2 / a**2 + denoised * share, b * share.sqrt())
    costs = bound_costs((2.0, 0.7), torch.tensor([float((x0 - denoised) ** 2), 0.0], dtype=torch.float64))
    assert float(costs[0, 1]) == pytest.approx(float(kl_divergence(true, ours)), rel=1e-12)


def test_the_bound_of_normal_data_is_its_information_and_what_sampling_misses():
    levels = (5.0, 1.3, 0.4, 0.1)
    costs = bound_costs(levels, exact_errors(levels))
    for i, j in itertools.combinations(range(4), 2):
        a, b = levels[i] ** 2, levels[j] ** 2
        information = 0.5 * math.log((1.0 + VARIANCE / b) / (1.0 + VARIANCE / a))
        posterior = b * (1.0 - b / a)
        true = posterior + (1.0 - b / a) ** 2 * VARIANCE * a / (VARIANCE + a)
        missed = kl_divergence(Normal(0.0, true**0.5), Normal(0.0, posterior**0.5))
        assert float(costs[i, j]) == pytest.approx(information + float(missed), rel=1e-5)


def test_the_bound_falls_to_the_information_as_steps_are_added():
    information = 0.5 * math.log((1.0 + VARIANCE / 0.01**2) / (1.0 + VARIANCE / 50.0**2))
    excess = []
    for n in (100, 200, 400):
        levels = log_uniform(0.01, 50.0, n + 1)
        excess.append(path_cost(bound_costs(levels, exact_errors(levels)), range(n + 1)) - information)
    assert excess[-1] > 0.0
    # A Riemann sum: its error is of order one in the width of the steps.
    assert excess[0] / excess[1] == pytest.approx(2.0, rel=0.05)
    assert excess[1] / excess[2] == pytest.approx(2.0, rel=0.05)


def test_the_bound_of_an_exact_denoiser_differs_from_align_your_steps_by_a_constant():
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


def test_denoising_errors_of_normal_data_are_the_variance_of_the_posterior():
    n = 200_000
    generator = torch.Generator().manual_seed(0)
    x0 = math.sqrt(VARIANCE) * torch.randn(1, 1, n, generator=generator, dtype=torch.float64)
    eps = torch.randn(1, 1, n, generator=generator, dtype=torch.float64)
    levels, calls = (3.0, 0.5, 0.05), []
    errors = denoising_errors(gaussian().denoise, x0, eps, levels, on_level=lambda: calls.append(1))
    # The mean of n squares of a normal number has a relative standard error of sqrt(2 / n): five of them.
    assert errors.tolist() == pytest.approx(exact_errors(levels).tolist(), rel=5.0 * math.sqrt(2.0 / n))
    assert len(calls) == len(levels)


def test_the_best_bound_of_two_steps_is_the_continuous_optimum_to_the_width_of_the_levels():
    low, high, n = 0.05, 20.0, 400

    def bound(log_sigma: float) -> float:
        levels = (high, math.exp(log_sigma), low)
        return path_cost(bound_costs(levels, exact_errors(levels)), (0, 1, 2))

    optimum = minimize_scalar(bound, bounds=(math.log(low), math.log(high)), method="bounded").x
    levels = log_uniform(low, high, n)
    path = best_path(bound_costs(levels, exact_errors(levels)), 2)
    assert math.log(levels[path[1]]) == pytest.approx(optimum, abs=math.log(high / low) / (n - 1))


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4])
def test_of_a_mixture_the_grid_is_the_best_of_all_grids(n_steps: int):
    data = mixture()
    generator = torch.Generator().manual_seed(1)
    x0 = data.sample(500, generator)
    eps = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    levels = log_uniform(0.02, 10.0, 9)
    bounds = bound_costs(levels, denoising_errors(data.denoise, x0, eps, levels))
    steps = truncation_powers(data.denoise, levels[0] * eps, (*levels, 0.0)).sqrt()
    for costs in (bounds, steps):
        assert path_cost(costs, best_path(costs, n_steps)) == pytest.approx(brute_force(costs, n_steps), rel=1e-12)


def test_a_step_of_eulers_method_misses_what_the_closed_form_says():
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


def test_the_grid_of_least_truncation_is_nearer_to_the_flow_than_the_standard_ones():

    data, levels = gaussian(), (*log_uniform(0.02, 10.0, 60), 0.0)
    x = torch.full((1, 1, 1), math.sqrt(VARIANCE + levels[0] ** 2), dtype=torch.float64)
    path = best_path(truncation_powers(data.denoise, x, levels).sqrt(), 5)

    def distance(grid: tuple[float, ...]) -> float:
        return abs(float(euler(data.denoise, x, Fixed(grid)(len(grid)))) - math.sqrt(VARIANCE))

    found = distance(tuple(levels[k] for k in path[:-1]))
    assert all(found < distance(grid) for grid in standard_grids(0.02, 10.0, 5).values())


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_search_finds_the_optimum_of_a_quadratic(n: int):
    low, high = 0.01, 100.0
    optimum = [math.log(sigma) for sigma in (31.0, 2.0, 0.4, 0.03)[:n]]

    def cost(sigmas: tuple[float, ...]) -> float:
        return sum((math.log(sigma) - goal) ** 2 for sigma, goal in zip(sigmas, optimum, strict=True))

    starts = list(standard_grids(low, high, n).values())
    found = best(search(cost, starts, low=low, high=high, n_trials=100 * n))
    assert [math.log(sigma) for sigma in found.sigmas] == pytest.approx(optimum, abs=0.02)


@pytest.mark.parametrize("n_trials", [1, 3, 4, 30])
def test_a_search_tries_no_grid_twice_and_never_ends_worse_than_its_starts(n_trials: int):
    low, high, calls, seen = 0.1, 10.0, [], []
    starts = list(standard_grids(low, high, 3).values())

    def rugged(sigmas: tuple[float, ...]) -> float:
        calls.append(sigmas)
        return math.sin(1e5 * sum(sigmas)) if len(calls) % 5 else math.nan

    trials = search(rugged, starts, low=low, high=high, n_trials=n_trials, on_trial=seen.append)
    assert len(calls) == len(set(calls)) == len(trials) == n_trials
    assert seen == trials
    assert calls[:3] == starts[:n_trials]
    assert best(trials).cost == min(trial.cost for trial in trials)
    assert math.isfinite(best(trials).cost)
    for trial in trials:
        assert all(a > b for a, b in itertools.pairwise(trial.sigmas))
        assert low * 0.998 <= trial.sigmas[-1] <= trial.sigmas[0] <= high


def test_a_search_among_worthless_grids_ends():
    trials = search(lambda sigmas: math.nan, [(5.0, 1.0)], low=0.1, high=10.0, n_trials=500)
    assert len(trials) <= 500
    assert best(trials).cost == math.inf


def test_a_search_without_trials_or_starts_is_refused():
    with pytest.raises(ParameterError, match="n_trials=0"):
        search(lambda sigmas: 0.0, [(1.0,)], low=0.1, high=10.0, n_trials=0)
    for starts in ([], [(1.0,), (2.0, 1.0)]):
        with pytest.raises(ParameterError, match="of one length"):
            search(lambda sigmas: 0.0, starts, low=0.1, high=10.0, n_trials=5)
