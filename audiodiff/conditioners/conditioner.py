"""From a batch of training examples to what the network is told."""

from abc import ABC, abstractmethod

from torch import nn

from audiodiff.condition import Condition
from audiodiff.types import Waveform


class Conditioner(nn.Module, ABC):
    """Make the condition of clean audio."""

    @property
    @abstractmethod
    def needs_mel(self) -> bool:
        """Whether generation has to be given a mel spectrogram."""

    @property
    def can_drop(self) -> bool:
        """Whether training replaced the condition by `null` at random, so that a network knows what null means."""
        return False

    @abstractmethod
    def forward(self, audio: Waveform) -> Condition:
        """Return what the network is told about each example."""

    @abstractmethod
    def null(self, n: int) -> Condition:
        """Return the condition that says nothing, for n examples."""
