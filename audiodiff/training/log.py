"""Logs of training: TensorBoard, or none."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.stft import Stft


class Log(ABC):
    """Curves, sounds and pictures of a training run.

    A subclass names in `packages` what it imports late, so that training can import it before the first step.
    """

    packages: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Log numbers by name."""

    @abstractmethod
    def audio(self, name: str, audio: Float[Tensor, "channels time"], *, sample_rate: int, step: int) -> None:
        """Log a clip and its spectrogram."""

    @abstractmethod
    def close(self) -> None:
        """Write what is buffered, and close."""


class NoLog(Log):
    """Log nothing.

    Args:
        run: folder of the run, in which nothing is written.
        first_step: steps that were made before.
    """

    def __init__(self, run: Path | None = None, *, first_step: int = 0) -> None:
        pass

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        pass

    def audio(self, name: str, audio: Float[Tensor, "channels time"], *, sample_rate: int, step: int) -> None:
        pass

    def close(self) -> None:
        pass


class TensorBoardLog(Log):
    """Write TensorBoard events into the run's folder `tensorboard`.

    Args:
        run: folder of the run.
        first_step: steps that were made before; points of an interrupted run beyond them are hidden.
    """

    packages: ClassVar[tuple[str, ...]] = ("tensorboard", "matplotlib")

    def __init__(self, run: Path, *, first_step: int = 0) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = first_step + 1 if first_step else None
        self._writer = SummaryWriter(str(run / "tensorboard"), flush_secs=10, purge_step=purge)

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def audio(self, name: str, audio: Float[Tensor, "channels time"], *, sample_rate: int, step: int) -> None:
        peak = audio.abs().amax().clamp(min=1.0)
        self._writer.add_audio(name, (audio[:1] / peak).cpu(), step, sample_rate=sample_rate)
        self._writer.add_image(f"{name}/spectrogram", spectrogram_image(audio[0]), step)

    def close(self) -> None:
        self._writer.close()


def spectrogram_image(audio: Float[Tensor, "time"]) -> Float[Tensor, "3 bins frames"]:
    """Draw the log magnitude of the last 80 dB below the peak, low frequencies at the bottom."""
    from matplotlib import colormaps

    stft = Stft(n_fft=1024, hop_length=256, win_length=1024, padding=512, pad_mode="constant")
    level_db = 20.0 * stft.forward(audio.detach().float().cpu()).abs().clamp(min=1e-7).log10()
    unit = ((level_db - level_db.amax()) / 80.0 + 1.0).clamp(0.0, 1.0).flip(0)
    return torch.from_numpy(colormaps["magma"](unit.numpy())[..., :3]).float().permute(2, 0, 1)


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
