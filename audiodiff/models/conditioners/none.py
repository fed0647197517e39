"""No condition: unconditional generation."""

from jaxtyping import Int
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.models.conditioners.conditioner import Conditioner
from audiodiff.types import Waveform


class NoConditioner(Conditioner):
    """Give the network no condition."""

    @property
    def needs_mel(self) -> bool:
        return False

    def forward(self, audio: Waveform, labels: Int[Tensor, "batch labels"] | None = None) -> Condition:
        return Condition()

    def null(self, n: int) -> Condition:
        return Condition()
