"""Representations: map audio to the signal that is diffused, and back."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.types import Clip, Mel, Noise, Signal, Waveform


class Representation(nn.Module, ABC):
    """Map audio to the signal that is diffused, and back.

    A mel spectrogram has no phase: `decode` then returns noise and the mel that mel inversion has to meet.
    """

    @property
    @abstractmethod
    def channels(self) -> int:
        """Number of channels of the signal."""

    @property
    @abstractmethod
    def makes_mel(self) -> bool:
        """True if decoding gives a mel that still has to be inverted."""

    @property
    @abstractmethod
    def scale(self) -> Float[Tensor, "channels"]:
        """Size of a unit of each channel of the signal, in units of the audio, or of the mel."""

    @property
    def hop_length(self) -> int:
        """Samples of audio per time step of the signal."""
        return 1

    @abstractmethod
    def fit(self, clips: Sequence[Clip]) -> None:
        """Compute statistics of the training data, from clips of any lengths, before the first step."""

    @abstractmethod
    def encode(self, audio: Waveform) -> Signal:
        """Return the signal x0 of clean audio."""

    @abstractmethod
    def length(self, n_samples: int) -> int:
        """Return the number of time steps that the signal of n_samples of audio has."""

    @abstractmethod
    def decode(self, signal: Signal, *, noise: Noise, n_samples: int) -> tuple[Waveform, Mel | None]:
        """Return audio of n_samples, and the mel that still has to be inverted (None if the audio is finished)."""


def affine(values: Float[Tensor, "channels"]) -> Float[Tensor, "1 channels 1"]:
    """Shape per-channel values to act on (batch, channels, time)."""
    return values.reshape(1, -1, 1)
