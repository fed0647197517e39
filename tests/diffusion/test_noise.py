import math
import subprocess
import sys

import pytest
import torch

from audiodiff.diffusion.noise import BLOCK_SAMPLES, BlockNoise
from audiodiff.errors import ParameterError


def draw(*, seed: int = 0, item: int = 0, step: int = 0, n_samples: int = 5000, offset: int = 0, channels: int = 1):
    return BlockNoise(seed, [item], offset)(torch.zeros(1, channels, n_samples), step)[0]


def test_noise_is_the_same_in_any_batch():
    like = torch.zeros(3, 2, 5000)
    together = BlockNoise(7, [4, 9, 2])(like, 3)
    for row, item in enumerate([4, 9, 2]):
        assert torch.equal(BlockNoise(7, [item])(like[:1], 3)[0], together[row])
    assert torch.equal(BlockNoise(7, [2, 4, 9])(like, 3), together[[2, 0, 1]])


@pytest.mark.parametrize("size", [1, 333, BLOCK_SAMPLES, BLOCK_SAMPLES + 1])
def test_noise_is_the_same_for_any_chunks(size):
    whole = draw(n_samples=2 * BLOCK_SAMPLES + 100)
    starts = range(0, whole.shape[-1], size) if size > 1 else [0, BLOCK_SAMPLES - 1, BLOCK_SAMPLES]
    for start in starts:
        stop = min(start + size, whole.shape[-1])
        assert torch.equal(draw(n_samples=stop - start, offset=start), whole[:, start:stop])


# In a process without the tests' type checks, as callers have it.
NUMBERS = """
import numpy, torch
from audiodiff.diffusion.noise import BlockNoise
like = torch.zeros(1, 1, 100)
same = BlockNoise(3, [4])(like, 0)
assert torch.equal(BlockNoise(numpy.int64(3), [numpy.int32(4)])(like, 0), same)
assert torch.equal(BlockNoise(torch.tensor(3), torch.tensor([4]))(like, 0), same)
try:
    BlockNoise(1.5, [0])
except ValueError as error:
    print(error)
"""


def test_integers_of_any_type_are_the_same_seed_and_others_are_refused():
    done = subprocess.run([sys.executable, "-c", NUMBERS], check=True, capture_output=True, text=True)
    assert done.stdout == "seed=1.5 must be a whole number\n"


def test_the_first_channel_does_not_depend_on_how_many_there_are():
    assert torch.equal(draw(channels=2)[:1], draw(channels=1))


def test_noise_takes_the_dtype_of_the_signal_and_keeps_its_values():
    double = BlockNoise(0, [0])(torch.zeros(1, 1, 100, dtype=torch.float64), 0)
    assert double.dtype == torch.float64
    assert torch.equal(double.float(), draw(n_samples=100)[None])


def test_noise_is_white_and_standard_normal():
    x = draw(n_samples=200_000).double().squeeze()
    standard_error = 1.0 / math.sqrt(len(x))
    assert abs(x.mean()) < 5 * standard_error
    assert abs(x.var() - 1.0) < 5 * math.sqrt(2.0) * standard_error
    ranks = (torch.arange(len(x), dtype=torch.float64) + 0.5) / len(x)
    assert (torch.special.ndtr(x.sort().values) - ranks).abs().max() < 2.5 * standard_error
    for lag in (1, 2, 17, BLOCK_SAMPLES):
        assert abs((x[lag:] * x[:-lag]).mean()) < 5 * standard_error


def test_noises_of_different_keys_are_uncorrelated():
    addresses = [{}, {"seed": 1}, {"item": 1}, {"step": 1}, {"seed": 1, "item": 1}, {"item": 11}, {"seed": -1}]
    draws = [draw(**address).squeeze() for address in addresses]
    draws += [draw(channels=2)[1], draw(offset=10_000).squeeze()]
    correlation = torch.corrcoef(torch.stack(draws))
    # Five standard errors of 5000 samples.
    assert (correlation - torch.eye(len(draws))).abs().max() < 5.0 / math.sqrt(5000)


def test_a_batch_of_another_size_is_refused():
    with pytest.raises(ParameterError, match="items has 2 entries and the batch 1"):
        BlockNoise(0, [0, 1])(torch.zeros(1, 1, 10), 0)
    with pytest.raises(ParameterError, match="offset=-1"):
        BlockNoise(0, [0], offset=-1)
