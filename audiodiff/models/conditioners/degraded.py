"""A degraded recording as what the network is told: enhancement, bandwidth extension, inpainting, declipping."""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.errors import ParameterError
from audiodiff.models.conditioners.conditioner import Conditioner
from audiodiff.types import Waveform


class DegradedConditioner(Conditioner):
    """Tell the network a recording, and where its samples are known; or nothing, of which all samples are unknown.

    Args:
        dropout: probability in training that an example's recording is not told, so that the same network knows
            sounds as such.
        level: RMS that recordings are brought to where they are not silent (`audiodiff.dsp.level`).

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
        """Tell audio as it is, all of it known."""
        return self.told(audio, torch.ones_like(audio))

    @staticmethod
    def told(audio: Waveform, known: Waveform) -> Condition:
        """Return the condition of a degraded recording: the recording, and 1 where a sample of it is known."""
        return Condition(signal=torch.cat([audio, known], dim=1))

    def null(self, n: int) -> Condition:
        return Condition()

    def dropped(self, condition: Condition, generator: torch.Generator) -> Condition:
        """Leave out the recordings of some examples."""
        if condition.signal is None:
            return condition
        kept = torch.rand(len(condition.signal), generator=generator) >= self.dropout
        return replace(condition, signal=condition.signal * kept.to(condition.signal)[:, None, None])
