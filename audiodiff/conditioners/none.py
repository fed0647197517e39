"""No condition: unconditional generation."""

from audiodiff.condition import Condition
from audiodiff.conditioners.conditioner import Conditioner
from audiodiff.types import Waveform


class NoConditioner(Conditioner):
    """Tell the network nothing."""

    @property
    def needs_mel(self) -> bool:
        return False

    def forward(self, audio: Waveform) -> Condition:
        return Condition()

    def null(self, n: int) -> Condition:
        return Condition()
