"""Base class of corruptions."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float

from audiodiff.errors import ParameterError
from audiodiff.types import Waveform


@dataclass(frozen=True)
class Corrupted:
    """Hold corrupted recordings.

    Args:
        audio: corrupted, 0 in gaps.
        known: 1 for samples that are measured, 0 for those that are lost or only bounded, as by clipping.
    """

    audio: Waveform
    known: Waveform


class Corruption(ABC):
    """Corrupt recordings, each with parameters of its own that are drawn at random."""

    @abstractmethod
    def __call__(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Corrupted:
        """Corrupt clean audio.

        Args:
            audio: mono.
            generator: of the CPU, for all draws.
            sample_rate: in Hz.
        """


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Float[torch.Tensor, "{n}"]:
    """Draw n numbers uniformly between low and high."""
    return low + (high - low) * torch.rand(n, generator=generator)


def check_range(low: float, high: float, *, name: str, least: float, greatest: float) -> None:
    """Refuse a range that is empty or not within [least, greatest]."""
    if not least <= low <= high <= greatest:
        raise ParameterError(
            f"{name}=[{low}, {high}] must be a range from its low to its high end, within [{least}, {greatest}]"
        )
