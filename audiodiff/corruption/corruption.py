"""What every corruption is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float

from audiodiff.errors import ParameterError
from audiodiff.types import Waveform


@dataclass(frozen=True)
class Corrupted:
    """Hold what is left of recordings.

    Args:
        audio: as it is measured, 0 where nothing is.
        known: 1 where a sample was measured, 0 where it is lost or no more than a bound.
    """

    audio: Waveform
    known: Waveform


class Corruption(ABC):
    """Spoil recordings; how, is drawn for each anew."""

    @abstractmethod
    def __call__(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Corrupted:
        """Return what is left of clean audio.

        Args:
            audio: mono.
            generator: of the CPU, which all draws come from.
            sample_rate: in Hz.
        """


def uniform(n: int, low: float, high: float, generator: torch.Generator) -> Float[torch.Tensor, "{n}"]:
    """Draw n numbers evenly between low and high."""
    return low + (high - low) * torch.rand(n, generator=generator)


def check_range(low: float, high: float, *, name: str, least: float, greatest: float) -> None:
    """Refuse a range that is empty or reaches beyond what it may."""
    if not least <= low <= high <= greatest:
        raise ParameterError(
            f"{name}=[{low}, {high}] must be a range from its low to its high end, within [{least}, {greatest}]"
        )
