"""Short-time power spectra in blocks of frames, to bound the memory for long audio."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

_BLOCK_FRAMES = 4096


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
