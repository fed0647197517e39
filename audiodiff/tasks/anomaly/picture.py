"""Picture of a recording: its spectrogram, and the anomaly score of each frame below it."""

import io
import math

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.tasks.anomaly.detector import Verdict

_RANGE_DB = 80.0
_WINDOW_SECONDS = 0.032
_MAX_COLUMNS = 1500
_FRAMES_AT_ONCE = 1024


def picture(audio: Float[Tensor, "channels time"], verdict: Verdict, *, sample_rate: int, title: str) -> bytes:
    """Draw the spectrogram in dB relative to its maximum, and the frame scores below it.

    Args:
        audio: the recording.
        verdict: of a detector.
        sample_rate: of the audio, Hz.
        title: of the picture.

    Returns: a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    seconds = audio.shape[-1] / sample_rate
    figure = Figure(figsize=(9.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.0, 1.0])
    top.imshow(
        _spectrogram(audio.mean(dim=0), sample_rate=sample_rate).numpy(),
        origin="lower",
        aspect="auto",
        extent=(0.0, seconds, 0.0, sample_rate / 2000.0),
        cmap="magma",
        vmin=-_RANGE_DB,
        vmax=0.0,
    )
    top.set_ylabel("kHz")
    top.set_title(title, fontsize=10)
    bottom.plot(verdict.seconds.numpy(), verdict.frames.numpy(), linewidth=0.8)
    bottom.axhline(0.0, color="grey", linewidth=0.5)
    bottom.set_xlim(0.0, seconds)
    bottom.set_xlabel("s")
    bottom.set_ylabel("frame score")
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=100)
    return data.getvalue()


def _spectrogram(mono: Float[Tensor, "time"], *, sample_rate: int) -> Float[Tensor, "bins columns"]:
    """Compute a spectrogram in dB with at most as many columns as a picture shows."""
    n_fft = 2 ** max(4, round(math.log2(_WINDOW_SECONDS * sample_rate)))
    hop = max(n_fft // 4, math.ceil(mono.shape[-1] / _MAX_COLUMNS))
    padded = torch.nn.functional.pad(mono, (n_fft // 2, n_fft // 2 + hop))
    frames = padded.unfold(0, n_fft, hop)
    window = torch.hann_window(n_fft)
    parts = [torch.fft.rfft(part * window).abs().T for part in frames.split(_FRAMES_AT_ONCE)]
    magnitude = torch.cat(parts, dim=-1)
    return (20.0 * (magnitude / magnitude.max().clamp(min=1e-9)).clamp(min=1e-9).log10()).clamp(min=-_RANGE_DB)
