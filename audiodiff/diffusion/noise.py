"""Sampling noise that depends neither on the batch nor on how a long signal is cut."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch

from audiodiff.errors import ParameterError
from audiodiff.types import Noise, Signal

BLOCK_SAMPLES = 4096


@dataclass(frozen=True)
class BlockNoise:
    """Draw white Gaussian noise as a pure function of (seed, item, step, channel, absolute sample).

    The samples are made in blocks of 4096 by the counter-based generator Philox: its key is a hash of (seed, item,
    step, channel), its counter the block, so that any stretch of any item can be made alone. The values are drawn in
    float32, on the CPU, whatever the dtype and device of the signal.

    Args:
        seed: any integer.
        items: one number for each example of the batch, the example's own whatever batch it is in.
        offset: absolute index of the signal's first sample, where it is a chunk of a longer one.

    Example:
        >>> whole = BlockNoise(seed=0, items=[7])(torch.zeros(1, 1, 10000), 3)
        >>> chunk = BlockNoise(seed=0, items=[2, 7], offset=6000)(torch.zeros(2, 1, 100), 3)
        >>> torch.equal(whole[0, :, 6000:6100], chunk[1])
        True

    Source: Salmon et al. 2011 (Philox).
    """

    seed: int
    items: Sequence[int]
    offset: int = 0

    def __post_init__(self) -> None:
        # As int: the key is made of what they look like, and numpy's 0 is written in another way.
        object.__setattr__(self, "seed", _whole(self.seed, name="seed"))
        object.__setattr__(self, "items", tuple(_whole(item, name="item") for item in self.items))
        if self.offset < 0:
            raise ParameterError(f"offset={self.offset} must not be negative")

    def __call__(self, like: Signal, step: int) -> Signal:
        """Return noise of like's shape, dtype and device; step is 0 for the start, then one more for each transition.

        Raises:
            ParameterError: if the batch has not as many examples as there are items.
        """
        n_batch, n_channels, n_samples = like.shape
        if n_batch != len(self.items):
            raise ParameterError(f"items has {len(self.items)} entries and the batch {n_batch}: they must be equal")
        noise = np.empty((n_batch, n_channels, n_samples), dtype=np.float32)
        for row, item in zip(noise, self.items, strict=True):
            for channel, samples in enumerate(row):
                self._fill(samples, (self.seed, item, step, channel))
        return torch.from_numpy(noise).to(device=like.device, dtype=like.dtype)

    def _fill(self, samples: np.ndarray, address: tuple[int, ...]) -> None:
        key = int.from_bytes(blake2b(repr(address).encode(), digest_size=16).digest(), "little")
        stop = self.offset + len(samples)
        for block in range(self.offset // BLOCK_SAMPLES, -(-stop // BLOCK_SAMPLES)):
            # One block uses far fewer than the 2^64 counters that lie between two values of the third word.
            generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, block, 0]))
            values = generator.standard_normal(BLOCK_SAMPLES, dtype=np.float32)
            first = block * BLOCK_SAMPLES
            low, high = max(first, self.offset), min(first + BLOCK_SAMPLES, stop)
            samples[low - self.offset : high - self.offset] = values[low - first : high - first]


@dataclass(frozen=True)
class SeedBlend:
    """A place on the way from the noise of one seed to that of another.

    The noise is cos(pi f / 2) a + sin(pi f / 2) b: the weights' squares sum to 1, so that it is as white, Gaussian and
    loud as the noises a and b of the seeds everywhere on the way, and their own to the bit at its ends. Its covariance
    with the noise at f' is cos(pi (f - f') / 2).

    Args:
        first: the seed where fraction is 0.
        last: the seed where fraction is 1.
        fraction: f, how far on the way, from 0 to 1.

    Raises:
        ParameterError: if a seed is no whole number, the two are equal, or the fraction is not in [0, 1].

    Example:
        >>> blend = noise_of(SeedBlend(1, 2, fraction=0.0), [7])
        >>> like = torch.zeros(1, 1, 100)
        >>> torch.equal(blend(like, 0), noise_of(1, [7])(like, 0))
        True

    Source: Song et al. 2021 (DDIM), appendix D.5: spherical interpolation, for noises that are
    orthogonal and equally long.
    """

    first: int
    last: int
    fraction: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", _whole(self.first, name="seed"))
        object.__setattr__(self, "last", _whole(self.last, name="seed"))
        if self.first == self.last:
            raise ParameterError(f"seeds {self.first} and {self.last} must differ: there is no way between equal ones")
        if not 0.0 <= self.fraction <= 1.0:
            raise ParameterError(f"fraction={self.fraction} must lie between 0 and 1")

    @property
    def weights(self) -> dict[int, float]:
        """How much of the noise of each seed there is, without those of which there is none."""
        # As sines, whose ends are exact.
        parts = {
            self.first: math.sin(math.pi * (1.0 - self.fraction) / 2.0),
            self.last: math.sin(math.pi * self.fraction / 2.0),
        }
        return {seed: weight for seed, weight in parts.items() if weight > 0.0}


Seed = int | SeedBlend
"""Of noise: a whole number, or a place between two."""


def noise_of(seed: Seed, items: Sequence[int], *, offset: int = 0) -> Noise:
    """Return the noise of a seed, or of a place between two; items and offset as for BlockNoise."""
    if not isinstance(seed, SeedBlend):
        return BlockNoise(seed, items, offset)
    parts = [(weight, BlockNoise(own, items, offset)) for own, weight in seed.weights.items()]

    def blended(like: Signal, step: int) -> Signal:
        return torch.stack([weight * noise(like, step) for weight, noise in parts]).sum(0)

    return blended


def _whole(value: int, *, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError as error:
        raise ParameterError(f"{name}={value} must be a whole number") from error
