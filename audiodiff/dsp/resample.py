"""Change of sampling rate."""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.errors import ParameterError

MIN_RATE = 1_000
MAX_RATE = 768_000

# A longer kernel and a higher roll-off than torchaudio's defaults (librosa's kaiser_best). Rates that share no factor
# (44 100 and 16 001, say) make a kernel for each of to_rate phases.
_FILTER_WIDTH = 64
_ROLLOFF = 0.9476
_KAISER_BETA = 14.77
_MAX_KERNEL = 50_000_000


def resample(audio: Float[Tensor, "*batch time"], *, from_rate: int, to_rate: int) -> Float[Tensor, "*batch new_time"]:
    """Resample audio with a Kaiser-windowed sinc, to ceil(time * to_rate / from_rate) samples.

    Args:
        from_rate: rate of the input, in Hz.
        to_rate: rate of the result, in Hz. Where it equals from_rate, the input itself is returned.

    Raises:
        ParameterError: if a rate lies outside 1 kHz to 768 kHz, or the two share so small a factor that the filter is
            too long.

    Example:
        >>> resample(torch.zeros(1, 22050), from_rate=22050, to_rate=16000).shape
        torch.Size([1, 16000])
    """
    for name, rate in (("from_rate", from_rate), ("to_rate", to_rate)):
        if not MIN_RATE <= rate <= MAX_RATE:
            raise ParameterError(f"{name}={rate} Hz must lie between {MIN_RATE} and {MAX_RATE} Hz; is it in kHz?")
    if from_rate == to_rate:
        return audio
    if audio.shape[-1] == 0:
        raise ParameterError("audio has no samples, so it cannot be resampled")
    factor = math.gcd(from_rate, to_rate)
    taps = 2 * _FILTER_WIDTH * max(from_rate, to_rate) // min(from_rate, to_rate) + from_rate // factor
    if taps * (to_rate // factor) > _MAX_KERNEL:
        raise ParameterError(
            f"from_rate={from_rate} and to_rate={to_rate} share only the factor {factor}: the filter is too long; "
            f"go through a common rate, or round a rate to the nearest 25 Hz"
        )
    return _resampler(from_rate, to_rate, audio.device, audio.dtype)(audio)


@lru_cache(maxsize=8)
def _resampler(from_rate: int, to_rate: int, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Keep the kernel: making it takes longer than resampling a second."""
    import torchaudio.transforms  # imported here: `import audiodiff` loads nothing heavier than torch

    with torch.inference_mode(False):
        return torchaudio.transforms.Resample(
            from_rate,
            to_rate,
            lowpass_filter_width=_FILTER_WIDTH,
            rolloff=_ROLLOFF,
            resampling_method="sinc_interp_kaiser",
            beta=_KAISER_BETA,
            dtype=dtype,
        ).to(device)
