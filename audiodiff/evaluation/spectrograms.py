"""Pictures of spectrograms."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor


def draw_spectrograms(signals: Mapping[str, Tensor], *, sample_rate: int, path: Path, title: str) -> None:
    """Draw the log-magnitude spectrograms of signals under each other, on one scale of 80 dB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.1 * len(signals)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(signals), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (name, signal) in zip(axes, signals.items(), strict=True):
        window = torch.hann_window(1024)
        level = torch.stft(signal, 1024, 256, window=window, return_complex=True).abs().clamp(min=1e-6).log10() * 20
        extent = (0.0, signal.shape[-1] / sample_rate, 0.0, sample_rate / 2000.0)
        image = axis.imshow(
            level.numpy(), origin="lower", aspect="auto", cmap="magma", vmin=-50, vmax=30, extent=extent
        )
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_ylabel("kHz")
    axes[-1].set_xlabel("seconds")
    figure.colorbar(image, ax=list(axes), label="dB", shrink=0.6)
    figure.suptitle(title, fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
