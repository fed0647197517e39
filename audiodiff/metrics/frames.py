"""Short-time power spectra in blocks of frames, to bound the memory for long audio."""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError

_BLOCK_FRAMES = 4096
_WINDOW_SECONDS, _HOP_SECONDS = 0.025, 0.010


def speech_frames(sample_rate: int) -> tuple[int, int, int]:
    """Return n_fft, hop_length and win_length of frames of 25 ms every 10 ms, for an FFT of at least twice the window.

    Raises:
        ParameterError: if sample_rate is below 1000.
    """
    if sample_rate < 1000:
        raise ParameterError(f"sample_rate={sample_rate} Hz must be at least 1000; is it in kHz?")
    win_length = round(_WINDOW_SECONDS * sample_rate)
    return 2 ** math.ceil(math.log2(2 * win_length)), round(_HOP_SECONDS * sample_rate), win_length


def magnitude_squared_blocks(
    audio: Float[Tensor, "*batch time"], *, n_fft: int, hop_length: int, win_length: int
) -> Iterator[Float[Tensor, "*batch bins frames"]]:
    """Yield |STFT|^2 of consecutive frames, as torch.stft makes them: periodic Hann, centred, reflected ends.

    The audio must be longer than n_fft / 2.
    """
    window = torch.hann_window(win_length, dtype=audio.dtype, device=audio.device)
    flat = audio.reshape(-1, audio.shape[-1])
    padded = torch.nn.functional.pad(flat, (n_fft // 2, n_fft // 2), mode="reflect")
    n_frames = 1 + audio.shape[-1] // hop_length
    for first in range(0, n_frames, _BLOCK_FRAMES):
        last = min(first + _BLOCK_FRAMES, n_frames) - 1
        block = padded[:, first * hop_length : last * hop_length + n_fft]
        spectrum = torch.stft(block, n_fft, hop_length, win_length, window, center=False, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        yield power.reshape(*audio.shape[:-1], *power.shape[-2:])
