"""From a batch of training examples to what the network is told."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audiodiff.condition import Condition
from audiodiff.labels import LabelSet
from audiodiff.types import Waveform


class Conditioner(nn.Module, ABC):
    """Make the condition of clean audio."""

    labels: LabelSet | None = None
    """The labels that can be told, if any."""

    level: float | None = None
    """RMS that audio is brought to before the model sees it, where it is not silent; None leaves it as it is."""

    @property
    @abstractmethod
    def needs_mel(self) -> bool:
        """Whether generation has to be given a mel spectrogram."""

    @property
    def can_drop(self) -> bool:
        """Whether training replaced the condition by `null` at random, so that a network knows what null means."""
        return False

    @abstractmethod
    def forward(self, audio: Waveform, labels: Int[Tensor, "batch labels"] | None = None) -> Condition:
        """Return what the network is told about each example.

        Args:
            audio: the examples.
            labels: places of their labels in the conditioner's vocabularies, -1 where one is not known.
        """

    @abstractmethod
    def null(self, n: int) -> Condition:
        """Return the condition that says nothing, for n examples."""

    def seconds(
        self, vectors: Float[Tensor, "batch features"], draws: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch"] | None:
        """Return how long sounds of these labels are, each with its draw from N(0, 1); None where that is not known."""
        return None

    def dropped(self, condition: Condition, generator: torch.Generator) -> Condition:
        """Return a condition of which training leaves out parts at random; of most conditioners all of it stays."""
        return condition
