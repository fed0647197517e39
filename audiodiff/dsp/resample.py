"""Resampling by a polyphase filter: a Kaiser-windowed sinc, applied as a strided convolution.

With the rates divided by their greatest common divisor to f (from) and g (to), the cutoff c = rolloff * min(f, g), and
the filter's width W in zero crossings of the sinc, sample j of the result is

    y[j] = (c / f) * sum_i x[i] * h(c * (i / f - j / g)),    h(t) = sinc(t) * I0(beta * sqrt(1 - (t / W)^2)) / I0(beta)

with sinc(t) = sin(pi t) / (pi t) and h(t) = 0 from |t| = W on. The weights of y[j + g] are those of y[j], moved by f
samples of x: g filters, each applied at every f-th sample, make the whole result.

Source: Smith, "Digital Audio Resampling" (https://ccrma.stanford.edu/~jos/resample/); Kaiser and Schafer 1980 for the
window. The constants are librosa's `kaiser_best`, the kernel's layout is that of torchaudio.transforms.Resample.
"""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError

MIN_RATE = 1_000
MAX_RATE = 768_000
INTACT_SHARE = 0.87
"""Share of half the lower rate below which resampling changes nothing."""

_FILTER_WIDTH = 64
_ROLLOFF = 0.9476
_KAISER_BETA = 14.77
# Rates without a common factor (44 100 and 16 001, for example) need a filter for each of to_rate phases.
_MAX_KERNEL = 50_000_000
_LEAST_FILTERS = 32
_KERNEL_BLOCK = 1 << 20
"""Weights that are computed at once, in float64; bounds the memory on top of the kernel's own."""


def resample(audio: Float[Tensor, "*batch time"], *, from_rate: int, to_rate: int) -> Float[Tensor, "*batch new_time"]:
    """Resample audio with a Kaiser-windowed sinc, to ceil(time * to_rate / from_rate) samples.

    Args:
        from_rate: rate of the input, in Hz.
        to_rate: rate of the result, in Hz. Where it equals from_rate, the input itself is returned.

    Raises:
        ParameterError: if a rate lies outside 1 kHz to 768 kHz, or their greatest common divisor is so small that
            the filter is too long.

    Example:
        >>> resample(torch.zeros(1, 22050), from_rate=22050, to_rate=16000).shape
        torch.Size([1, 16000])
    """
    _check_rates(from_rate, to_rate)
    if from_rate == to_rate:
        return audio
    if audio.shape[-1] == 0:
        raise ParameterError("audio has no samples, so it cannot be resampled")
    period, n_phases = _in_lowest_terms(from_rate, to_rate)
    half_width = _half_width(period, n_phases)
    # Filters repeated over several periods: a convolution to few channels is slower (at 2:1, 7 times).
    n_periods = max(1, _LEAST_FILTERS // n_phases)
    period, n_phases = period * n_periods, n_phases * n_periods
    kernel = _kernel(period, n_phases, audio.device, audio.dtype)
    n_samples = audio.shape[-1]
    signals = audio.reshape(math.prod(audio.shape[:-1]), 1, n_samples)
    padded = F.pad(signals, (half_width, half_width + period))
    phases = F.conv1d(padded, kernel, stride=period)  # (signals, phases, periods)
    result = phases.transpose(1, 2).flatten(1)[:, : -(-n_samples * n_phases // period)]
    return result.reshape(*audio.shape[:-1], result.shape[-1])


def resample_mask(
    known: Float[Tensor, "*batch time"], *, from_rate: int, to_rate: int
) -> Float[Tensor, "*batch new_time"]:
    """Resample a mask of known samples: 1 if all input samples under the filter's main lobe are known, otherwise 0.

    Args:
        known: 1 where a sample is known, otherwise 0; samples outside count as known.
        from_rate: rate of the input, in Hz.
        to_rate: rate of the result, in Hz. Where it equals from_rate, the input itself is returned.

    Example:
        >>> resample_mask(torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 1.0]), from_rate=8000, to_rate=16000)
        tensor([1., 1., 1., 1., 0., 0., 0., 0., 0., 1., 1., 1.])
    """
    if from_rate == to_rate:
        return known
    n_samples = known.shape[-1]
    lost = F.pad((known == 0).cumsum(dim=-1), (1, 0))
    positions = torch.arange(math.ceil(n_samples * to_rate / from_rate), device=known.device) * (from_rate / to_rate)
    half = from_rate / (min(from_rate, to_rate) * _ROLLOFF)
    first = (positions - half).ceil().long().clamp(0, n_samples)
    last = ((positions + half).floor().long() + 1).clamp(0, n_samples)
    return (lost[..., last] == lost[..., first]).to(known)


class ResampleStream:
    """Resample audio that arrives in blocks, with the same result as `resample` of the whole.

    Args:
        from_rate: rate of the input, in Hz.
        to_rate: rate of the result, in Hz.

    Raises:
        ParameterError: as in `resample`.

    Example:
        >>> stream = ResampleStream(from_rate=22050, to_rate=16000)
        >>> [part.shape[-1] for part in stream.over(torch.zeros(1, 22050).split(6000, dim=-1))]
        [4160, 4160, 4480, 2880, 320]
    """

    def __init__(self, *, from_rate: int, to_rate: int) -> None:
        _check_rates(from_rate, to_rate)
        self._from_rate, self._to_rate = from_rate, to_rate
        # A period of the input gives a whole number of samples; the filter needs half_width samples around it.
        self._period, self._n_phases = _in_lowest_terms(from_rate, to_rate)
        self._half_width = 0 if from_rate == to_rate else _half_width(self._period, self._n_phases)
        self._buffer: Tensor | None = None
        self._before = 0  # periods in the buffer that were already resampled
        self._n_in = self._n_out = 0

    @property
    def latency_seconds(self) -> float:
        """How far the output lags behind the input."""
        return 0.0 if self._half_width == 0 else (self._half_width + self._period) / self._from_rate

    def push(self, audio: Float[Tensor, "*batch _"]) -> Float[Tensor, "*batch _"]:
        """Add samples and return the resampled ones that are ready."""
        self._n_in += audio.shape[-1]
        if self._from_rate == self._to_rate:
            return audio
        buffer = audio if self._buffer is None else torch.cat([self._buffer, audio], dim=-1)
        periods = max(0, (buffer.shape[-1] - self._half_width) // self._period - self._before)
        output = self._resampled(buffer, periods * self._n_phases)
        done = self._before + periods
        kept = min(done, -(-self._half_width // self._period))
        self._buffer, self._before = buffer[..., (done - kept) * self._period :].clone(), kept
        self._n_out += output.shape[-1]
        return output

    def close(self) -> Float[Tensor, "*batch _"] | None:
        """End the stream and return the remaining samples, or None if there was no audio or nothing is held back."""
        if self._buffer is None:
            return None
        return self._resampled(self._buffer, math.ceil(self._n_in * self._n_phases / self._period) - self._n_out)

    def over(self, blocks: Iterable[Float[Tensor, "*batch _"]]) -> Iterator[Float[Tensor, "*batch _"]]:
        """Push every block and yield the samples that are ready, then the rest."""
        for block in blocks:
            yield self.push(block)
        rest = self.close()
        if rest is not None:
            yield rest

    def _resampled(self, buffer: Tensor, n_samples: int) -> Tensor:
        if n_samples == 0:
            return buffer[..., :0]
        first = self._before * self._n_phases
        return resample(buffer, from_rate=self._from_rate, to_rate=self._to_rate)[..., first : first + n_samples]


def _in_lowest_terms(from_rate: int, to_rate: int) -> tuple[int, int]:
    """Divide two rates by their greatest common divisor."""
    factor = math.gcd(from_rate, to_rate)
    return from_rate // factor, to_rate // factor


def _half_width(period: int, n_phases: int) -> int:
    """Return how many samples of the input the filter covers on each side."""
    return math.ceil(_FILTER_WIDTH * period / (min(period, n_phases) * _ROLLOFF))


@lru_cache(maxsize=8)  # making a kernel takes longer than resampling a second
def _kernel(period: int, n_phases: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "phases 1 taps"]:
    """Compute n_phases filters on samples -half_width to half_width + period, in float64, rounded to dtype."""
    half_width = _half_width(period, n_phases)
    cutoff = min(period, n_phases) * _ROLLOFF
    with torch.inference_mode(False), torch.no_grad():
        places = torch.arange(-half_width, half_width + period, dtype=torch.float64) / period
        beta = torch.tensor(_KAISER_BETA, dtype=torch.float64)
        blocks: list[Tensor] = []
        for phases in torch.arange(n_phases, dtype=torch.float64).split(max(1, _KERNEL_BLOCK // len(places))):
            t = (cutoff * (places - phases[:, None] / n_phases)).clamp(-_FILTER_WIDTH, _FILTER_WIDTH)
            window = torch.i0(beta * (1 - (t / _FILTER_WIDTH).square()).sqrt()) / torch.i0(beta)
            blocks.append((cutoff / period * torch.sinc(t) * window).to(dtype))
        return torch.cat(blocks)[:, None].to(device)


def _check_rates(from_rate: int, to_rate: int) -> None:
    for name, rate in (("from_rate", from_rate), ("to_rate", to_rate)):
        if not MIN_RATE <= rate <= MAX_RATE:
            raise ParameterError(f"{name}={rate} Hz must lie between {MIN_RATE} and {MAX_RATE} Hz; is it in kHz?")
    if from_rate == to_rate:
        return
    factor = math.gcd(from_rate, to_rate)
    taps = 2 * _FILTER_WIDTH * max(from_rate, to_rate) // min(from_rate, to_rate) + from_rate // factor
    if taps * (to_rate // factor) > _MAX_KERNEL:
        raise ParameterError(
            f"from_rate={from_rate} and to_rate={to_rate} share only the factor {factor}: the filter is too long; "
            f"go through a common rate, or round a rate to the nearest 25 Hz"
        )
