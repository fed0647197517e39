"""Recordings for tests."""

import math
from pathlib import Path

import torch

from audiodiff.dsp.mel import dialect
from audiodiff.io import audio as audio_io

NOISE_RATE = 16000


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


def mels(n: int = 1, *, n_frames: int = 12) -> torch.Tensor:
    """Make the mels of n tones in dialect hifigan, (n, 80, n_frames)."""
    hifigan = dialect("hifigan")
    peaks = [0.2 + 0.6 * k / n for k in range(n)]
    return torch.cat([hifigan.mel(tones(256 * n_frames, sample_rate=22050, peak=peak)) for peak in peaks])


def white(seed: int, *, seconds: float = 0.3, std: float = 0.1, rate: int = 8000) -> torch.Tensor:
    """Make white noise, (1, time)."""
    return std * torch.randn(1, round(seconds * rate), generator=torch.Generator().manual_seed(seed))


def silences(*, rate: int = 8000) -> dict[str, torch.Tensor]:
    """Make a second of the output of a dead microphone, (1, time) each."""
    nothing = torch.zeros(1, rate)
    click = nothing.clone()
    click[0, rate // 3] = 1.0
    return {"nothing": nothing, "a constant": nothing + 0.3, "a click": click, "far below": white(0, std=1e-5)}


def write(path: Path, n_samples: int, *, sample_rate: int = 22050, n_channels: int = 1, peak: float = 0.5) -> Path:
    """Write a recording in the format of its suffix, in float where it is a wav above full scale."""
    audio_io.write(
        path,
        tones(n_samples, sample_rate=sample_rate, n_channels=n_channels, peak=peak),
        sample_rate=sample_rate,
        subtype="FLOAT" if peak > 1 else None,
    )
    return path


def noise(seed: int, n_samples: int = 8000, n_channels: int = 1) -> torch.Tensor:
    """Make white noise, (channels, time)."""
    generator = torch.Generator().manual_seed(seed)
    return (0.1 * torch.randn(n_channels, n_samples, generator=generator)).clamp(-1, 1)


def save_float(path: Path, audio: torch.Tensor, *, rate: int = NOISE_RATE) -> None:
    """Write audio in float."""
    audio_io.write(path, audio, sample_rate=rate, subtype="FLOAT")


def noise_pairs(folder: Path) -> tuple[Path, Path]:
    """Write three references and estimates of an SNR of 20 dB, one pair in a subfolder; return the two folders."""
    reference, estimate = folder / "reference", folder / "estimate"
    for seed, name in enumerate(["a.wav", "b.wav", "sub/c.wav"]):
        save_float(reference / name, noise(seed))
        save_float(estimate / name, noise(seed) + 0.1 * noise(seed + 10))
    return reference, estimate
