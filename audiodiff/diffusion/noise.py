"""Sampling noise that does not depend on the batch, or on how a long signal is split into chunks."""

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

    Blocks of 4096 samples are drawn by the counter-based generator Philox: its key is a hash of (seed, item, step,
    channel), its counter the number of the block. So any part of any item can be drawn alone. Values are drawn in
    float32 on the CPU, whatever the dtype and device of the signal.

    Args:
        seed: any integer.
        items: a number for each example of the batch, which identifies it in any batch.
        offset: index of the signal's first sample in the whole signal, for a chunk.

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
        # As int: the key is made of their repr, and numpy's integers have another one.
        object.__setattr__(self, "seed", _whole(self.seed, name="seed"))
        object.__setattr__(self, "items", tuple(_whole(item, name="item") for item in self.items))
        if self.offset < 0:
            raise ParameterError(f"offset={self.offset} must not be negative")

    def __call__(self, like: Signal, step: int) -> Signal:
        """Return noise of like's shape, dtype and device; step is 0 for the start and k + 1 for transition k.

        Raises:
            ParameterError: if the numbers of examples and items differ.
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
            # A block uses far fewer than the 2^64 counters between two values of the third word.
            generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, block, 0]))
            values = generator.standard_normal(BLOCK_SAMPLES, dtype=np.float32)
            first = block * BLOCK_SAMPLES
            low, high = max(first, self.offset), min(first + BLOCK_SAMPLES, stop)
            samples[low - self.offset : high - self.offset] = values[low - first : high - first]


@dataclass(frozen=True)
class SeedBlend:
    """Blend the noises of two seeds.

    The blend of the noises a and b is cos(pi f / 2) a + sin(pi f / 2) b. The squares of the weights sum to 1, so it is
    white Gaussian noise of variance 1 for every f, and equals a and b to the bit at f = 0 and f = 1. Its covariance
    with the noise at f' is cos(pi (f - f') / 2).

    Args:
        first: the seed of a.
        last: the seed of b.
        fraction: f, from 0 to 1.

    Raises:
        ParameterError: if a seed is not a whole number, the two are equal, or the fraction is not in [0, 1].

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
            raise ParameterError(f"seeds {self.first} and {self.last} must differ to be blended")
        if not 0.0 <= self.fraction <= 1.0:
            raise ParameterError(f"fraction={self.fraction} must lie between 0 and 1")

    @property
    def weights(self) -> dict[int, float]:
        """The weight of each seed's noise, without weights of 0."""
        # Sines are exact at both ends.
        parts = {
            self.first: math.sin(math.pi * (1.0 - self.fraction) / 2.0),
            self.last: math.sin(math.pi * self.fraction / 2.0),
        }
        return {seed: weight for seed, weight in parts.items() if weight > 0.0}


Seed = int | SeedBlend
"""A whole number, or a blend of two."""


def noise_of(seed: Seed, items: Sequence[int], *, offset: int = 0) -> Noise:
    """Return the noise of a seed or a blend; items and offset as for BlockNoise."""
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
