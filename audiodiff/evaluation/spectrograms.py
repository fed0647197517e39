"""Pictures of spectrograms."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from audiodiff.io.spectrogram import spectrogram_figure


def draw_spectrograms(signals: Mapping[str, Tensor], *, sample_rate: int, path: Path, title: str) -> None:
    """Write a picture of the spectrograms of signals under each other, on one scale of 80 dB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    spectrogram_figure(signals, sample_rate=sample_rate, title=title).savefig(path, dpi=90)
