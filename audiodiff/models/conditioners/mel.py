"""Conditioning on the mel spectrogram of the clean audio: vocoders."""

import torch
from jaxtyping import Int
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError
from audiodiff.models.conditioners.conditioner import Conditioner
from audiodiff.types import Waveform


class MelConditioner(Conditioner):
    """Condition on the mel spectrogram, in the compressed scale of its dialect."""

    def __init__(self, *, dialect: MelDialect) -> None:
        super().__init__()
        self.dialect = dialect

    @property
    def needs_mel(self) -> bool:
        return True

    def forward(self, audio: Waveform, labels: Int[Tensor, "batch labels"] | None = None) -> Condition:
        if audio.shape[1] != 1:
            raise ParameterError(f"channels={audio.shape[1]} must be 1: a mel spectrogram is made from mono audio")
        return Condition(frames=self.dialect.mel(audio[:, 0]))

    def null(self, n: int) -> Condition:
        """Return one frame of the quietest mel that the dialect has."""
        return Condition(frames=self.dialect.compress(torch.zeros(n, self.dialect.n_mels, 1)))
