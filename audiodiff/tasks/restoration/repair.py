"""What every kind of damage says of itself, so that one function restores recordings of any length from it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor

from audiodiff.tasks.restoration.problem import Problem
from audiodiff.types import Signal

Stretch = Float[Tensor, "channels _"]
"""Some samples of a recording, of which the next stretch may have another number."""


class Repair(ABC):
    """Undo one kind of damage.

    A recording is read twice. `survey` sees all of it and settles what was not given: where the gaps are, the cutoff,
    the clipping threshold. Then every window goes its way: `known`, and where anything is `needed`, `measured`, the
    change to the model's rate and level, `problem`, the draw, the change back, and `merged`. A window of which nothing
    is needed is copied.
    """

    @abstractmethod
    def survey(self, blocks: Iterator[Stretch], *, sample_rate: int) -> "Repair":
        """Return the repair with all that it has to know of a recording.

        Args:
            blocks: the recording from its first sample to its last, at its own rate; little of it may be kept.
            sample_rate: of the recording, in Hz.

        Raises:
            ParameterError: if what was given does not fit the recording: a gap behind its end, say.
        """

    @abstractmethod
    def found(self, *, sample_rate: int) -> str:
        """Say in a few words what a survey has settled, as in "3 gaps, 0.21 s"; empty where there is nothing to say."""

    @abstractmethod
    def known(self, audio: Float[Tensor, "channels time"], *, sample_rate: int, first_sample: int) -> Tensor:
        """Return 1 where a sample is known and 0 where it is lost or no more than a bound, of audio's shape.

        Args:
            audio: a window of the recording, at its own rate.
            sample_rate: in Hz.
            first_sample: number of its first sample in the recording.
        """

    @abstractmethod
    def needed(self, known: Float[Tensor, "channels time"]) -> bool:
        """Return whether a window of which this is known has anything to restore."""

    @abstractmethod
    def measured(
        self, audio: Float[Tensor, "channels time"], known: Float[Tensor, "channels time"]
    ) -> Float[Tensor, "channels time"]:
        """Return what the recording says, at its own rate: without what stands in gaps, for one."""

    @abstractmethod
    def problem(self, measured: Signal, known: Signal, *, sample_rate: int) -> Problem:
        """Pose the problem of a window.

        Args:
            measured: what `measured` returns, at the model's rate and level: (channels, 1, time).
            known: 1 where the samples of the recording that a sample is made of are known; of the same shape.
            sample_rate: the model's, in Hz.
        """

    @abstractmethod
    def merged(
        self,
        recording: Float[Tensor, "channels time"],
        restored: Float[Tensor, "channels time"],
        known: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
    ) -> Float[Tensor, "channels time"]:
        """Return the result of a window; what is known stays as it is in the recording, to the bit.

        Args:
            recording: the window, at the rate of the result.
            restored: what was drawn, at that rate and at the recording's level.
            known: as `known` returns it, at that rate.
            sample_rate: of the result, in Hz.
        """

    @abstractmethod
    def out_rate(self, sample_rate: int, *, model_rate: int) -> int:
        """Return the sample rate of the result: the recording's own, or more where it could not hold the result."""
