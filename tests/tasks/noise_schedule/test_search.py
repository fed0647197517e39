"""Search for a grid of least cost."""

import itertools
import math

import pytest

from audiodiff.errors import ParameterError
from audiodiff.tasks.noise_schedule.levels import standard_grids
from audiodiff.tasks.noise_schedule.search import best, search


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
def test_a_search_repeats_no_grid_and_never_ends_worse_than_its_starts(n_trials: int):
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


def test_a_search_without_a_finite_cost_ends():
    trials = search(lambda sigmas: math.nan, [(5.0, 1.0)], low=0.1, high=10.0, n_trials=500)
    assert len(trials) <= 500
    assert best(trials).cost == math.inf


def test_a_search_without_trials_or_starts_is_refused():
    with pytest.raises(ParameterError, match="n_trials=0"):
        search(lambda sigmas: 0.0, [(1.0,)], low=0.1, high=10.0, n_trials=0)
    for starts in ([], [(1.0,), (2.0, 1.0)]):
        with pytest.raises(ParameterError, match="of one length"):
            search(lambda sigmas: 0.0, starts, low=0.1, high=10.0, n_trials=5)
