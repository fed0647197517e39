"""Logs of a training run, and the numbers that it takes from steps."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

from jaxtyping import Float
from torch import Tensor

from audiodiff.training.config import build_part


class Log(ABC):
    """Base class of logs: curves, sounds and pictures of a training run.

    A log of your own needs `scalars` only. It is named in the configuration, as in
    `+logger.mine._target_=my_module.MyLog`, and built with the other keys of its node before anything else happens. In
    `packages` it names what it imports late, so that a missing package is reported at once. With several processes,
    the first one logs.
    """

    packages: ClassVar[tuple[str, ...]] = ()

    def start(self, run: Path, *, first_step: int, config: Mapping[str, Any]) -> None:  # noqa: B027, optional
        """Begin, before the first step.

        Args:
            run: folder of the run.
            first_step: steps that were made before, if the run is resumed.
            config: the resolved configuration.
        """

    @abstractmethod
    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Log numbers by name, after optimiser step `step`, counted from 1.

        Names are train/NAME, loss_by_sigma/DECADE and speed/NAME each `train.log_every` steps, and validation/NAME
        after each validation.
        """

    def audio(  # noqa: B027, optional
        self,
        name: str,
        audio: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
        step: int,
        reference: Float[Tensor, "channels time"] | None = None,
    ) -> None:
        """Log a clip that the model generated, and the recording that it imitates, if any."""

    def close(self) -> None:  # noqa: B027, optional
        """End, also after an error or a signal."""


class Logs(Log):
    """Several logs as one.

    Args:
        logs: to write into, in this order.
    """

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = tuple(logs)

    def start(self, run: Path, *, first_step: int, config: Mapping[str, Any]) -> None:
        for log in self._logs:
            log.start(run, first_step=first_step, config=config)

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        for log in self._logs:
            log.scalars(values, step=step)

    def audio(
        self,
        name: str,
        audio: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
        step: int,
        reference: Float[Tensor, "channels time"] | None = None,
    ) -> None:
        for log in self._logs:
            log.audio(name, audio, sample_rate=sample_rate, step=step, reference=reference)

    def close(self) -> None:
        with ExitStack() as stack:
            for log in self._logs:
                stack.callback(log.close)


def build_logs(node: Mapping[str, Any]) -> list[Log]:
    """Build the logs of the configuration group `logger`.

    Args:
        node: from the name of a log to the node that builds it.

    Raises:
        ParameterError: for what is no log.
    """
    return [build_part(part, kind=Log, name=f"logger.{name}") for name, part in node.items() if part is not None]


class NoiseLevels:
    """Mean loss per decade of sigma, which shows at which noise levels a denoiser is weak."""

    def __init__(self) -> None:
        self._sums: dict[int, tuple[float, int]] = {}

    def add(self, losses: Float[Tensor, "batch"], sigma: Float[Tensor, "batch"]) -> None:
        """Add the losses of a batch."""
        decades = sigma.clamp(min=1e-6).log10().floor().int().tolist()
        for decade, loss in zip(decades, losses.tolist(), strict=True):
            total, n = self._sums.get(decade, (0.0, 0))
            self._sums[decade] = (total + loss, n + 1)

    def take(self) -> dict[str, float]:
        """Return the means by name, and start anew."""
        means = {f"loss_by_sigma/1e{decade}": total / n for decade, (total, n) in sorted(self._sums.items())}
        self._sums = {}
        return means


class Speed:
    """Optimiser steps and seconds of training audio per second, without validation and saving.

    Args:
        sample_rate: of the audio, Hz.
        world_size: number of processes, which are taken to be equally fast.
    """

    def __init__(self, *, sample_rate: int, world_size: int) -> None:
        self._sample_rate, self._world_size = sample_rate, world_size
        self._steps, self._samples, self._seconds = 0, 0, 0.0

    def add(self, batches: Sequence[Mapping[str, Any]], *, seconds: float) -> None:
        """Count a step with its batches, and the time that it took."""
        self._steps += 1
        self._samples += self._world_size * sum(int(batch["n_valid"].sum()) for batch in batches)
        self._seconds += seconds

    def take(self) -> dict[str, float]:
        """Return both since the last call, by name."""
        seconds = max(self._seconds, 1e-9)
        audio = self._samples / self._sample_rate
        taken = {"steps_per_second": self._steps / seconds, "audio_seconds_per_second": audio / seconds}
        self._steps, self._samples, self._seconds = 0, 0, 0.0
        return {f"speed/{name}": value for name, value in taken.items()}
