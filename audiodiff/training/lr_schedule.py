"""Learning-rate schedules: a factor of the optimiser's learning rate, as a pure function of the step."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from audiodiff.errors import ParameterError, check_whole


class LrSchedule(ABC):
    """Factor of the learning rate at each step."""

    @abstractmethod
    def __call__(self, step: int) -> float:
        """Return the factor of step `step`, counted from 0."""


def warm_up(step: int, *, warmup_steps: int) -> float:
    """Rise linearly to 1 over warmup_steps."""
    return min(1.0, (step + 1) / (warmup_steps + 1))


@dataclass(frozen=True)
class Constant(LrSchedule):
    """A factor of 1 after the warm-up.

    Args:
        warmup_steps: length of a linear rise; 0 starts at 1.
    """

    warmup_steps: int = 0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup_steps)

    def __call__(self, step: int) -> float:
        return warm_up(step, warmup_steps=self.warmup_steps)


@dataclass(frozen=True)
class Cosine(LrSchedule):
    """Half a cosine from 1 to `final` after the warm-up (Loshchilov and Hutter 2017, eq. 5).

    Args:
        total_steps: step at which `final` is reached.
        warmup_steps: length of a linear rise before it.
        final: factor at the end.
        first_step: step at which the curve begins, with its warm-up: 0, or that of a run that is resumed with a new
            curve (`exactness` in `training/state.py`). Earlier steps have the factor of this one.
    """

    total_steps: int
    warmup_steps: int = 0
    final: float = 0.0
    first_step: int = 0

    def __post_init__(self) -> None:
        _check_warmup(self.warmup_steps)
        check_whole(self.first_step, name="first_step", least=0)
        if not 0.0 <= self.final <= 1.0:
            raise ParameterError(f"final={self.final} must lie in [0, 1]")
        if self.total_steps <= self.first_step:
            raise ParameterError(
                f"total_steps={self.total_steps} must be greater than first_step={self.first_step}: it is the step at "
                "which the curve ends, train.steps unless given"
            )

    def __call__(self, step: int) -> float:
        made = max(0, step - self.first_step)
        after = max(0, made - self.warmup_steps)
        progress = min(1.0, after / max(1, self.total_steps - self.first_step - self.warmup_steps))
        fall = self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * progress))
        return warm_up(made, warmup_steps=self.warmup_steps) * fall


def _check_warmup(warmup_steps: int) -> None:
    if warmup_steps < 0:
        raise ParameterError(f"warmup_steps={warmup_steps} must not be negative")
