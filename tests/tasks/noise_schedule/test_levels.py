"""Noise levels: tables of betas, and standard grids."""

import itertools
import math

import pytest
import torch

from audiodiff.diffusion.grid import BetaTable
from audiodiff.errors import ParameterError
from audiodiff.tasks.noise_schedule.levels import betas_of_sigmas, log_uniform, sigmas_of_betas, standard_grids

DIFFWAVE = (1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5)


def test_betas_and_sigmas_are_inverse_conversions():
    sigmas = sigmas_of_betas(DIFFWAVE)
    alpha_bar = torch.cumprod(1.0 - torch.tensor(DIFFWAVE, dtype=torch.float64), dim=0)
    assert sigmas == pytest.approx(((1.0 - alpha_bar) / alpha_bar).sqrt().flip(0).tolist(), rel=1e-12)
    assert betas_of_sigmas(sigmas) == pytest.approx(DIFFWAVE, rel=1e-12)
    levels = (80.0, 1.0, 0.002)
    assert BetaTable(betas_of_sigmas(levels))(3).tolist() == pytest.approx([*levels, 0.0], rel=1e-9)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_standard_grids_decrease_from_the_highest_level(n: int):
    for grid in standard_grids(0.01, 20.0, n).values():
        assert len(grid) == n
        assert grid[0] == pytest.approx(20.0, rel=1e-4)
        assert all(a > b > 0.0 for a, b in itertools.pairwise(grid))
    assert log_uniform(0.1, 3.0, 5)[0] == 3.0
    assert log_uniform(0.1, 3.0, 5)[-1] == 0.1


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (0.1, math.inf), (math.nan, 1.0)])
def test_an_empty_range_of_levels_is_refused(low: float, high: float):
    with pytest.raises(ParameterError, match="0 < sigma_min < sigma_max"):
        standard_grids(low, high, 3)
