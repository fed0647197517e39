"""The bands of a mel spectrogram as the channels of a signal at the frame rate."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError
from audiodiff.models.representations.representation import Representation, affine
from audiodiff.types import Clip, Mel, Noise, Signal, Waveform


class LogMelRepresentation(Representation):
    """Diffuse a mel spectrogram, every band brought to mean 0 and variance 1 over the training data.

    Decoding gives the mel, which is still to be inverted, and white noise of variance 1 to do it with.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, dialect: MelDialect) -> None:
        super().__init__()
        self.dialect = dialect
        self.register_buffer("mean", torch.zeros(dialect.n_mels))
        self.register_buffer("std", torch.ones(dialect.n_mels))

    @property
    def channels(self) -> int:
        return self.dialect.n_mels

    @property
    def makes_mel(self) -> bool:
        return True

    @property
    def scale(self) -> Float[Tensor, "channels"]:
        return self.std

    @property
    def hop_length(self) -> int:
        return self.dialect.hop_length

    def fit(self, clips: Sequence[Clip]) -> None:
        frames = torch.cat([self._mel(clip).mT.flatten(0, 1) for clip in clips])
        self.mean.copy_(frames.mean(dim=0))
        self.std.copy_(frames.std(dim=0).clamp(min=1e-3))

    def encode(self, audio: Waveform) -> Signal:
        return (self._mel(audio) - affine(self.mean)) / affine(self.std)

    def length(self, n_samples: int) -> int:
        return self.dialect.n_frames(n_samples)

    def decode(self, signal: Signal, *, noise: Noise, n_samples: int) -> tuple[Waveform, Mel | None]:
        mel = self.dialect.limited(signal * affine(self.std) + affine(self.mean))
        return noise(signal.new_zeros(signal.shape[0], 1, n_samples), -1), mel

    def _mel(self, audio: Waveform) -> Mel:
        if audio.shape[1] != 1:
            raise ParameterError(f"channels={audio.shape[1]} must be 1: a mel spectrogram is made from mono audio")
        return self.dialect.mel(audio[:, 0])
