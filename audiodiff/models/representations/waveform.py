"""The waveform itself."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError
from audiodiff.models.representations.representation import Representation
from audiodiff.types import Clip, Mel, Noise, Signal, Waveform


class WaveformRepresentation(Representation):
    """Diffuse the samples, times a constant gain.

    Args:
        n_channels: channels of the audio.
        gain: factor between audio and signal. Speech has an RMS near 0.1; processes that are defined against a unit
            variance (VP, EDM) see less noise than they mean where it stays 1, which is what DiffWave does.
    """

    def __init__(self, *, n_channels: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        if n_channels < 1:
            raise ParameterError(f"n_channels={n_channels} must be at least 1")
        if gain <= 0:
            raise ParameterError(f"gain={gain} must be positive")
        self.n_channels = n_channels
        self.gain = gain

    @property
    def channels(self) -> int:
        return self.n_channels

    @property
    def makes_mel(self) -> bool:
        return False

    @property
    def scale(self) -> Float[Tensor, "channels"]:
        return torch.full((self.n_channels,), 1.0 / self.gain)

    def fit(self, clips: Sequence[Clip]) -> None:
        """Need nothing."""

    def encode(self, audio: Waveform) -> Signal:
        return self.gain * audio

    def length(self, n_samples: int) -> int:
        return n_samples

    def decode(self, signal: Signal, *, noise: Noise, n_samples: int) -> tuple[Waveform, Mel | None]:
        return signal[..., :n_samples] / self.gain, None
