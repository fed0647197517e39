"""Names for the tensors and functions that cross the borders of modules."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from jaxtyping import Complex, Float
from torch import Tensor

Waveform: TypeAlias = Float[Tensor, "batch channels time"]
"""Audio, float32, nominally in [-1, 1]."""

Recordings: TypeAlias = Float[Tensor, "*axes time"]
"""Audio as functions take it from users: (time,), (channels, time) or (batch, channels, time)."""

Signal: TypeAlias = Float[Tensor, "batch signal_channels signal_time"]
"""The signal that is diffused: a waveform, or the bands of a mel spectrogram as channels at the frame rate."""

Sigma: TypeAlias = Float[Tensor, "batch"]
"""Noise standard deviation per example, in x = x0 + sigma * eps."""

Mel: TypeAlias = Float[Tensor, "batch n_mels frames"]
"""A mel spectrogram in the compressed scale of its dialect."""

MelsOfSignals: TypeAlias = Float[Tensor, "signals n_mels frames"]
"""The mels of a batch, or of one recording: of its channels and of the sums and differences of their pairs."""

Mels: TypeAlias = Float[Tensor, "... n_mels frames"]
"""Mel spectrograms as functions take them from users: (n_mels, frames) or (batch, n_mels, frames)."""

Spectrum: TypeAlias = Complex[Tensor, "*batch bins frames"]
"""A one-sided short-time Fourier transform."""

Denoise: TypeAlias = Callable[[Signal, Sigma], Signal]
"""A denoiser bound to its condition: (x, sigma) -> x0."""

Noise: TypeAlias = Callable[[Signal, int], Signal]
"""(like, step) -> white Gaussian noise of like's shape, a pure function of seed, item, step and absolute sample."""

MelStretch: TypeAlias = Float[Tensor, "1 n_mels _"]
"""Some frames of a mel spectrogram of which more come; each stretch may have another number of them."""

AudioStretch: TypeAlias = Float[Tensor, "1 channels _"]
"""Some samples of a sound of which more come."""

Clip: TypeAlias = Float[Tensor, "_ channels _"]
"""Audio, one of several that have lengths of their own."""

OnProgress: TypeAlias = Callable[[str, int | float, int], None]
"""(stage, done, total), called while a job works; done counts finished items and the finished part of the next."""


class ReceptiveField(NamedTuple):
    """Receptive field of an output: how far before and after it the input may change it."""

    before: int
    after: int
