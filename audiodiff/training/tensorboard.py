"""TensorBoard log of a training run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from audiodiff.io.spectrogram import spectrogram_figure
from audiodiff.training.log import Log

_DPI = 100


class TensorBoardLog(Log):
    """Write TensorBoard events into the run's folder `tensorboard`.

    Points of an interrupted run beyond the checkpoint that it is resumed from are hidden.
    """

    packages: ClassVar[tuple[str, ...]] = ("tensorboard", "matplotlib")

    def start(self, run: Path, *, first_step: int, config: Mapping[str, Any]) -> None:
        import yaml
        from torch.utils.tensorboard import SummaryWriter

        purge = first_step + 1 if first_step else None
        self._writer = SummaryWriter(str(run / "tensorboard"), flush_secs=10, purge_step=purge)
        self._shown: set[str] = set()
        text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
        self._writer.add_text("configuration", f"```yaml\n{text}```", first_step)

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def audio(
        self,
        name: str,
        audio: Float[Tensor, "channels time"],
        *,
        sample_rate: int,
        step: int,
        reference: Float[Tensor, "channels time"] | None = None,
    ) -> None:
        clips = {"generated": audio} if reference is None else {"generated": audio, "reference": reference}
        for kind, clip in clips.items():
            tag = f"{name}/{kind}"
            if kind == "reference" and tag in self._shown:
                continue  # It does not change.
            self._shown.add(tag)
            peak = clip.abs().amax().clamp(min=1.0)
            self._writer.add_audio(tag, (clip[:1] / peak).cpu(), step, sample_rate=sample_rate)
        picture = spectrogram_picture({kind: clip[0] for kind, clip in clips.items()}, sample_rate=sample_rate)
        self._writer.add_image(f"{name}/spectrogram", picture, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


def spectrogram_picture(signals: Mapping[str, Tensor], *, sample_rate: int) -> UInt8[np.ndarray, "height width 3"]:
    """Draw spectrograms of signals, (time,) each, under each other, with axes."""
    figure = spectrogram_figure(signals, sample_rate=sample_rate)
    figure.set_dpi(_DPI)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # pyright: ignore[reportAttributeAccessIssue]
