import math

import pytest
import torch

from audiodiff.diffusion.noise import SeedBlend, noise_of
from audiodiff.errors import ParameterError

FRACTIONS = [0.0, 0.25, 0.5, 0.75, 1.0]


def draw(fraction: float, *, items: tuple[int, ...] = (4,), n_samples: int = 5000, offset: int = 0, step: int = 1):
    blend = SeedBlend(1, 2, fraction=fraction)
    return noise_of(blend, items, offset=offset)(torch.zeros(len(items), 1, n_samples), step)


def test_the_ends_are_the_noises_of_the_seeds_to_the_bit():
    like = torch.zeros(1, 1, 5000)
    assert torch.equal(draw(0.0), noise_of(1, [4])(like, 1))
    assert torch.equal(draw(1.0), noise_of(2, [4])(like, 1))


@pytest.mark.parametrize("fraction", [0.0, 0.1, 1 / 3, 0.5, 0.9, 1.0])
def test_the_variance_in_expectation_is_one(fraction: float):
    """The seeds' noises are independent, so that it is the sum of the squared weights."""
    weights = SeedBlend(1, 2, fraction=fraction).weights.values()
    assert sum(weight**2 for weight in weights) == pytest.approx(1.0, abs=1e-15)


def test_swapped_seeds_reverse_the_blend():
    like = torch.zeros(1, 1, 100)
    back = noise_of(SeedBlend(2, 1, fraction=0.75), [4])(like, 1)
    assert torch.equal(draw(0.25, n_samples=100), back)


def test_a_blend_is_standard_normal():
    n = 100_000
    for fraction in FRACTIONS:
        x = draw(fraction, n_samples=n).double().flatten()
        assert abs(float(x.mean())) < 5 / math.sqrt(n)
        assert abs(float(x.square().mean()) - 1.0) < 5 * math.sqrt(2 / n)
        ranks = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        # The largest difference of Kolmogorov and Smirnov: 2.5 / sqrt(n) is passed with a chance of 7e-6.
        assert (torch.special.ndtr(x.sort().values) - ranks).abs().max() < 2.5 / math.sqrt(n)


def test_two_blends_have_the_covariance_of_their_angle():
    n = 100_000
    noises = torch.cat([draw(fraction, n_samples=n) for fraction in FRACTIONS])[:, 0].double()
    measured = noises @ noises.T / n
    at = torch.tensor(FRACTIONS, dtype=torch.float64)
    expected = torch.cos(math.pi * (at[:, None] - at[None]) / 2)
    # A product of standard normals of covariance c has the variance 1 + c^2.
    assert ((measured - expected).abs() < 5 * ((1 + expected**2) / n).sqrt()).all()


def test_a_blend_depends_neither_on_the_batch_nor_on_chunks():
    whole = draw(0.3, items=(4, 9), n_samples=9000)
    assert torch.equal(draw(0.3, items=(9,), n_samples=500, offset=4000), whole[1:, :, 4000:4500])


@pytest.mark.parametrize(("last", "fraction", "reason"), [(1, 0.5, "must differ"), (2, 1.5, "fraction=1.5")])
def test_invalid_blends_are_refused(last: int, fraction: float, reason: str):
    with pytest.raises(ParameterError, match=reason):
        SeedBlend(1, last, fraction=fraction)
