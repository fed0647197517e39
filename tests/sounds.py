"""Recordings for tests."""

import math
from pathlib import Path

import torch

from audiodiff.io import audio as audio_io


def tones(n_samples: int, *, sample_rate: int, n_channels: int = 1, peak: float = 0.5) -> torch.Tensor:
    """Make two tones and a little noise, other ones in each channel, (channels, time)."""
    t = torch.arange(n_samples) / sample_rate
    generator = torch.Generator().manual_seed(n_channels)
    channels = []
    for channel in range(n_channels):
        pitch = 200.0 * (channel + 1)
        sound = torch.sin(2 * math.pi * pitch * t) + 0.3 * torch.sin(2 * math.pi * 5.5 * pitch * t)
        channels.append(sound + 0.01 * torch.randn(n_samples, generator=generator))
    audio = torch.stack(channels)
    return peak * audio / audio.abs().max()


def write(path: Path, n_samples: int, *, sample_rate: int = 22050, n_channels: int = 1, peak: float = 0.5) -> Path:
    """Write a recording in the format of its suffix, in float where it is a wav above full scale."""
    audio_io.write(
        path,
        tones(n_samples, sample_rate=sample_rate, n_channels=n_channels, peak=peak),
        sample_rate=sample_rate,
        subtype="FLOAT" if peak > 1 else None,
    )
    return path
