"""Pairs of channels, whose sums and differences say how the channels of a recording belong together.

Levels of two channels a and b, of (a + b) / 2 and of (a - b) / 2 determine their correlation. So signals that are made
from the mels of all four, and agree, keep the stereo image.
"""

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError

_REACH = 7
"""Each channel is paired with so many that follow: all pairs of up to 8 channels."""


@dataclass(frozen=True)
class ChannelPairs:
    """The signals of a recording: its channels, and half the sum and half the difference of each pair of them.

    Args:
        n_channels: of the recording, at least 1.

    Example:
        >>> pairs = ChannelPairs(2)
        >>> pairs.mixed(torch.tensor([[4.0], [2.0]]))
        tensor([[4.],
                [2.],
                [3.],
                [1.]])
        >>> pairs.unmixed(pairs.mixed(torch.tensor([[4.0], [2.0]])))
        tensor([[4.],
                [2.]])
    """

    n_channels: int

    def __post_init__(self) -> None:
        if self.n_channels < 1:
            raise ParameterError(f"n_channels={self.n_channels} must be positive")

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The channels of each pair."""
        return [(a, b) for a, b in itertools.combinations(range(self.n_channels), 2) if b - a <= _REACH]

    @property
    def n_signals(self) -> int:
        """Number of signals: channels, sums and differences."""
        return self.n_channels + 2 * len(self.pairs)

    def mixed(self, audio: Float[Tensor, "channels time"]) -> Float[Tensor, "signals time"]:
        """Return the signals of audio: the channels, then the sum and the difference of each pair."""
        mixes = [0.5 * (audio[a] + sign * audio[b]) for a, b in self.pairs for sign in (1.0, -1.0)]
        return torch.cat([audio, torch.stack(mixes)]) if mixes else audio

    def unmixed(self, signals: Float[Tensor, "signals time"]) -> Float[Tensor, "channels time"]:
        """Return the channels that are nearest to signals which disagree: the mean of all that is said of each."""
        total = signals[: self.n_channels].clone()
        counts = [1] * self.n_channels
        for place, (a, b) in zip(range(self.n_channels, self.n_signals, 2), self.pairs, strict=True):
            total[a] += signals[place] + signals[place + 1]
            total[b] += signals[place] - signals[place + 1]
            counts[a], counts[b] = counts[a] + 1, counts[b] + 1
        return total / total.new_tensor(counts)[:, None]
