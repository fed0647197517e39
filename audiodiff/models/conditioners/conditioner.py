"""Conditioners: make the condition of a network from a batch of clean audio."""

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
    """Labels that the condition can contain, if any."""

    level: float | None = None
    """RMS to which audio is scaled before it enters the model, unless it is silent; None does not scale."""

    @property
    @abstractmethod
    def needs_mel(self) -> bool:
        """True if generation needs a mel spectrogram."""

    @property
    def can_drop(self) -> bool:
        """True if training replaces the condition by `null` at random, as classifier-free guidance needs."""
        return False

    @abstractmethod
    def forward(self, audio: Waveform, labels: Int[Tensor, "batch labels"] | None = None) -> Condition:
        """Return the condition of each example.

        Args:
            audio: the examples.
            labels: indices of their labels in the conditioner's vocabularies, -1 for unknown ones.
        """

    @abstractmethod
    def null(self, n: int) -> Condition:
        """Return the null condition of n examples."""

    def seconds(
        self, vectors: Float[Tensor, "batch features"], draws: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch"] | None:
        """Return durations for labels, in seconds, each with its draw from N(0, 1); None if they are unknown."""
        return None

    def dropped(self, condition: Condition, generator: torch.Generator) -> Condition:
        """Return the condition with parts dropped at random, as in training; most conditioners drop nothing."""
        return condition
