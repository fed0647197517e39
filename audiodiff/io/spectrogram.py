"""Spectrograms of signals as panels of a picture, with axes and a scale."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

N_FFT, HOP_LENGTH = 1024, 256
RANGE_DB = 80.0


def spectrogram_figure(signals: Mapping[str, Tensor], *, sample_rate: int, title: str = "") -> Any:
    """Draw the spectrograms of signals under each other, on one scale of 80 dB below the loudest of all.

    The level is that of a sine, in dB relative to full scale: a sine of amplitude 1 has 0 dB.

    Args:
        signals: of one channel, (time,), by the names of their panels.
        sample_rate: of all, Hz.
        title: of the picture.

    Returns: a matplotlib Figure with an Agg canvas, whatever the backend that matplotlib is set to.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.1 * len(signals)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(signals), 1, sharex=True, squeeze=False)[:, 0]
    levels = {name: level_db(signal) for name, signal in signals.items()}
    loudest = max(float(level.max()) for level in levels.values())
    for axis, (name, level) in zip(axes, levels.items(), strict=True):
        image = axis.imshow(
            level.numpy(),
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=loudest - RANGE_DB,
            vmax=loudest,
            extent=(0.0, signals[name].shape[-1] / sample_rate, 0.0, sample_rate / 2000.0),
        )
        axis.set_title(name, fontsize=9, loc="left")
        axis.set_ylabel("frequency (kHz)", fontsize=8)
    axes[-1].set_xlabel("time (s)", fontsize=8)
    figure.colorbar(image, ax=list(axes), label="level (dBFS)", shrink=0.8)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def level_db(signal: Tensor) -> Tensor:
    """Return levels of short-time spectra in dB relative to a sine of amplitude 1: (bins, frames), at least -140."""
    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(
        signal.detach().float().cpu(), N_FFT, HOP_LENGTH, window=window, return_complex=True, pad_mode="constant"
    )
    return 20.0 * (spectrum.abs() * (2.0 / float(window.sum()))).clamp(min=1e-7).log10()
