"""Sampling noise that depends neither on the batch nor on how a long signal is cut."""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch

from audiodiff.errors import ParameterError
from audiodiff.types import Signal

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


def _whole(value: int, *, name: str) -> int:
    try:
        return operator.index(value)
    except TypeError as error:
        raise ParameterError(f"{name}={value} must be a whole number") from error
