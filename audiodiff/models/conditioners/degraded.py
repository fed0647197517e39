"""Conditioning on a degraded recording: enhancement, bandwidth extension, inpainting, declipping."""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.errors import ParameterError
from audiodiff.models.conditioners.conditioner import Conditioner
from audiodiff.types import Waveform


class DegradedConditioner(Conditioner):
    """Condition on a recording and a mask of its known samples; in the null condition no sample is known.

    Args:
        dropout: probability in training that an example gets the null condition, so that the network is also an
            unconditional model.
        level: RMS to which recordings are scaled unless they are silent (`audiodiff.dsp.level`).

    Raises:
        ParameterError: if dropout is not in [0, 1), or level not positive.

    Example:
        >>> DegradedConditioner()(torch.ones(1, 1, 2)).signal
        tensor([[[1., 1.],
                 [1., 1.]]])
    """

    level: float

    def __init__(self, *, dropout: float = 0.25, level: float = 0.07) -> None:
        super().__init__()
        if not 0.0 <= dropout < 1.0:
            raise ParameterError(f"dropout={dropout} must lie in [0, 1)")
        if not level > 0.0:
            raise ParameterError(f"level={level} must be positive")
        self.dropout = dropout
        self.level = level

    @property
    def needs_mel(self) -> bool:
        return False

    @property
    def can_drop(self) -> bool:
        return self.dropout > 0.0

    def forward(self, audio: Waveform, labels: Int[Tensor, "batch labels"] | None = None) -> Condition:
        """Condition on clean audio, all of it known."""
        return self.observed(audio, torch.ones_like(audio))

    @staticmethod
    def observed(audio: Waveform, known: Waveform) -> Condition:
        """Return the condition of a degraded recording: the recording, and a mask that is 1 at known samples."""
        return Condition(signal=torch.cat([audio, known], dim=1))

    def null(self, n: int) -> Condition:
        return Condition()

    def dropped(self, condition: Condition, generator: torch.Generator) -> Condition:
        """Give some examples the null condition."""
        if condition.signal is None:
            return condition
        kept = torch.rand(len(condition.signal), generator=generator) >= self.dropout
        return replace(condition, signal=condition.signal * kept.to(condition.signal)[:, None, None])
