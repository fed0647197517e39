"""Repairs: one class for each kind of damage, with the inverse problem that it poses to a posterior sampler."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.operators import LinearOperator
from audiodiff.types import Signal

Stretch = Float[Tensor, "channels _"]
"""Consecutive samples of a recording; stretches may differ in length."""


@dataclass(frozen=True)
class Problem:
    """Measurements of x0, and the constraints that every estimate of x0 has to meet.

    Args:
        measured: the degraded recording, (batch, 1, time), 0 where nothing was measured.
        known: 1 where a sample was measured, 0 where it is lost or only bounded; of the same shape.
        operator: A with A x0 = A measured, exactly; None where no part of x0 is known exactly, as under noise.
        possible: maps an estimate to the nearest one that agrees with the recording, for constraints that are not
            linear (clipping); None for none.
        guess: a first guess of x0, for a sampling that has a start; None is measured.
        noise_power: of the Gaussian noise in measured, (batch, 1, bins): the variance of white noise of the same
            level, at frequencies evenly spaced from 0 to half the sample rate; None where it is unknown.
    """

    measured: Signal
    known: Signal
    operator: LinearOperator | None = None
    possible: Callable[[Signal], Signal] | None = None
    guess: Signal | None = None
    noise_power: Float[Tensor, "batch 1 bins"] | None = None

    def scaled(self, gain: float) -> "Problem":
        """Return the problem of gain times x0."""
        possible = self.possible
        return replace(
            self,
            measured=gain * self.measured,
            possible=None if possible is None else lambda x: gain * possible(x / gain),
            guess=None if self.guess is None else gain * self.guess,
            noise_power=None if self.noise_power is None else gain**2 * self.noise_power,
        )


class Repair(ABC):
    """Undo one kind of damage.

    A recording is read twice. `analyze` reads all of it and detects what was not given: gaps, the cutoff, the clipping
    threshold. Then each window is restored: `known`; where it is affected, `measured`, the conversion to the model's
    rate and level, `problem`, the draw, the conversion back, and `blend`. A window that is not affected is copied.
    """

    @abstractmethod
    def analyze(self, blocks: Iterator[Stretch], *, sample_rate: int) -> "Repair":
        """Return the repair with everything that it needs to know of a recording.

        Args:
            blocks: the whole recording in order, at its own rate; little of it may be kept.
            sample_rate: of the recording, in Hz.

        Raises:
            ParameterError: if an argument does not fit the recording, for example a gap behind its end.
        """

    @abstractmethod
    def describe(self, *, sample_rate: int) -> str:
        """Describe in a few words what `analyze` detected, as in "3 gaps, 0.21 s"; may be empty."""

    @abstractmethod
    def known(self, audio: Float[Tensor, "channels time"], *, sample_rate: int, first_sample: int) -> Tensor:
        """Return 1 where a sample is known and 0 where it is lost or only bounded, of audio's shape.

        Args:
            audio: a window of the recording, at its own rate.
            sample_rate: in Hz.
            first_sample: number of its first sample in the recording.
        """

    @abstractmethod
    def is_affected(self, known: Float[Tensor, "channels time"]) -> bool:
        """Return whether there is anything to restore in a window, given its known samples."""

    @abstractmethod
    def measured(
        self, audio: Float[Tensor, "channels time"], known: Float[Tensor, "channels time"]
    ) -> Float[Tensor, "channels time"]:
        """Return the measurement, at the recording's rate: for example without the samples inside gaps."""

    @abstractmethod
    def problem(self, measured: Signal, known: Signal, *, sample_rate: int) -> Problem:
        """Pose the problem of a window.

        Args:
            measured: what `measured` returns, at the model's rate and level: (channels, 1, time).
            known: 1 where all samples of the recording that contribute to a sample are known; of the same shape.
            sample_rate: the model's, in Hz.
        """

    @abstractmethod
    def blend(
        self,
        recording: Float[Tensor, "channels time"],
        restored: Float[Tensor, "channels time"],
        known: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
    ) -> Float[Tensor, "channels time"]:
        """Return the result of a window; known samples stay as they are in the recording, to the bit.

        Args:
            recording: the window, at the rate of the result.
            restored: the draw, at that rate and at the recording's level.
            known: as `known` returns it, at that rate.
            sample_rate: of the result, in Hz.
        """

    @abstractmethod
    def out_rate(self, sample_rate: int, *, model_rate: int) -> int:
        """Return the sample rate of the result: the recording's own, or a higher one where the result needs it."""
