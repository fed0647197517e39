"""Anomaly scorers: a statistic of denoising errors that is fitted on normal recordings.

| scorer | models | score of a recording |
|---|---|---|
| `LabelSurprise` | with labels | how badly the labels explain it, compared with normal recordings of the same labels |
| `Distance` | all | how far its errors are from those of normal recordings, in either direction |

A raw error measures loudness and complexity as much as normality: a hum has a lower error than any speech. `Distance`
therefore counts an unusually low error as anomalous too, and `LabelSurprise` compares with the same labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from audiodiff.models.synthesizer import Synthesizer
from audiodiff.tasks.anomaly.error_profile import ProfileSpec

State = Mapping[str, Float[Tensor, "..."]]


@dataclass(frozen=True)
class Observation:
    """Denoising errors of a recording, before they are compared with normal ones.

    Args:
        frames: errors over time, dB.
        summary: values that stand for the whole recording, dB.
        labels: 1 for the labels with the lowest error, 0 for the others.
    """

    frames: Float[Tensor, "values frames"]
    summary: Float[Tensor, "numbers"]
    labels: Float[Tensor, "labels"]


class AnomalyScorer(ABC):
    """Score observations: about 0 and mostly below 2 for normal recordings, higher for others."""

    kind: str
    spec: ProfileSpec

    @staticmethod
    @abstractmethod
    def observe(
        model: Synthesizer,
        audio: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
        allowed: Mapping[str, Sequence[str]],
    ) -> Observation:
        """Compute the errors of a recording that this scorer needs.

        Args:
            model: a trained model.
            audio: the recording.
            sample_rate: of the audio, Hz.
            allowed: the values of each label that are normal.
        """

    @classmethod
    @abstractmethod
    def fit(cls, observations: Sequence[Observation]) -> "AnomalyScorer":
        """Fit a scorer to observations of normal recordings."""

    @abstractmethod
    def score(self, observation: Observation) -> float:
        """Return the anomaly score of a recording."""

    @abstractmethod
    def frame_scores(self, observation: Observation) -> Float[Tensor, "frames"]:
        """Return the anomaly score of each frame."""

    @abstractmethod
    def state(self) -> State:
        """Return the fitted tensors by name, for `restore`."""

    @classmethod
    @abstractmethod
    def restore(cls, state: State) -> "AnomalyScorer":
        """Rebuild a scorer from its `state`."""
