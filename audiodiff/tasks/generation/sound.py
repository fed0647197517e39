"""Sound: one file to generate."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audiodiff.io.readers import MelReader
from audiodiff.tasks.generation.specs import GenerationSpec

CHANNELS_PER_FILE = 64
"""Noise keys that a file has for its channels."""


@dataclass(frozen=True)
class Sound:
    """One file to generate.

    Args:
        target: the file.
        key: number that keys its noise.
        group: sounds of the same group are computed together.
        copied: for each channel, which of the generated ones it equals, to the bit.
        n_samples: to generate, per channel.
        n_written: to write, per channel.
        level: factor of the generated audio.
        mels: what it is generated from; None without an input.
        spec: what is asked for; None with an input.
    """

    target: Path
    key: int
    group: object
    copied: Sequence[int]
    n_samples: int
    n_written: int
    level: float = 1.0
    mels: MelReader | None = None
    spec: GenerationSpec | None = None

    @property
    def n_channels(self) -> int:
        """Number of channels that are generated: those that differ."""
        return max(self.copied) + 1

    @property
    def items(self) -> list[int]:
        """Numbers that key the noise of each channel."""
        return [self.key * CHANNELS_PER_FILE + channel for channel in range(self.n_channels)]
