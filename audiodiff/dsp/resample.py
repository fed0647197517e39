"""Resampling by a polyphase filter: a Kaiser-windowed sinc, applied as a strided convolution.

With the rates divided by their greatest common divisor to f (from) and g (to), the cutoff c = rolloff * min(f, g), and
the filter's width W in zero crossings of the sinc, sample j of the result is

    y[j] = (c / f) * sum_i x[i] * h(c * (i / f - j / g)),    h(t) = sinc(t) * I0(beta * sqrt(1 - (t / W)^2)) / I0(beta)

with sinc(t) = sin(pi t) / (pi t) and h(t) = 0 from |t| = W on. The weights of y[j + g] are those of y[j], moved by f
samples of x: g filters, each applied at every f-th sample, make the whole result. Rates that share so small a factor
that these filters are too many (22 051 and 22 050 Hz) have the weights of each sample computed in place.

Source: Smith, "Digital Audio Resampling" (https://ccrma.stanford.edu/~jos/resample/); Kaiser and Schafer 1980 for the
window. The constants are librosa's `kaiser_best`, the kernel's layout is that of torchaudio.transforms.Resample.
"""

import math
from collections.abc import Iterable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from audiodiff.dsp.constants import cached_tensors
from audiodiff.errors import ParameterError

MIN_RATE = 1_000
MAX_RATE = 768_000
INTACT_SHARE = 0.87
"""Share of half the lower rate below which resampling changes nothing."""

_FILTER_WIDTH = 64
_ROLLOFF = 0.9476
_KAISER_BETA = 14.77
# Above, weights are computed for each sample: rates without a common factor have to_rate filters of from_rate taps.
_MAX_KERNEL = 50_000_000
_MAX_TABLE = 1 << 24
_LEAST_FILTERS = 32
_KERNEL_BLOCK = 1 << 20
"""Weights that are computed at once, in float64; bounds the memory on top of the kernel's own."""


def resample(audio: Float[Tensor, "*batch time"], *, from_rate: int, to_rate: int) -> Float[Tensor, "*batch new_time"]:
    """Resample audio with a Kaiser-windowed sinc, to ceil(time * to_rate / from_rate) samples.

    Args:
        from_rate: rate of the input, in Hz.
        to_rate: rate of the result, in Hz. Where it equals from_rate, the input itself is returned.

    Raises:
        ParameterError: if a rate lies outside 1 kHz to 768 kHz, or there are no samples.

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
    n_samples = audio.shape[-1]
    signals = audio.reshape(math.prod(audio.shape[:-1]), 1, n_samples)
    if n_phases * (2 * half_width + period) > _MAX_KERNEL:
        result = _sample_by_sample(signals[:, 0], period, n_phases)
        return result.reshape(*audio.shape[:-1], result.shape[-1])
    # Filters repeated over several periods: a convolution to few channels is slower (at 2:1, 7 times).
    n_periods = max(1, _LEAST_FILTERS // n_phases)
    period, n_phases = period * n_periods, n_phases * n_periods
    kernel = _kernel(period, n_phases, audio.device, audio.dtype)
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
        """Delay of the output behind the input, in seconds."""
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


@cached_tensors(maxsize=8)  # making a kernel takes longer than resampling a second
def _kernel(period: int, n_phases: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "phases 1 taps"]:
    """Compute n_phases filters on samples -half_width to half_width + period, in float64, rounded to dtype."""
    half_width = _half_width(period, n_phases)
    cutoff = min(period, n_phases) * _ROLLOFF
    with torch.inference_mode(False), torch.no_grad():
        places = torch.arange(-half_width, half_width + period, dtype=torch.float64) / period
        blocks: list[Tensor] = []
        for phases in torch.arange(n_phases, dtype=torch.float64).split(max(1, _KERNEL_BLOCK // len(places))):
            blocks.append((cutoff / period * _filter(cutoff * (places - phases[:, None] / n_phases))).to(dtype))
        return torch.cat(blocks)[:, None].to(device)


def _sample_by_sample(signals: Float[Tensor, "batch time"], period: int, n_phases: int) -> Float[Tensor, "batch _"]:
    """Compute each sample of the result with weights of its own, in blocks."""
    taps = _taps(period, n_phases)
    if n_phases * len(taps) <= _MAX_TABLE:
        weights_of = _weight_table(period, n_phases, signals.dtype).__getitem__
    else:
        weights_of = partial(_weights, period=period, n_phases=n_phases)
    padded = F.pad(signals, (len(taps), len(taps)))
    numbers = torch.arange(math.ceil(signals.shape[-1] * n_phases / period))
    blocks: list[Tensor] = []
    for block in numbers.split(max(1, _KERNEL_BLOCK // (len(taps) * max(1, len(signals))))):
        first = block * period // n_phases
        weights = weights_of(block * period % n_phases)
        around = padded[:, (first[:, None] + taps + len(taps)).to(signals.device)]  # (batch, block, taps)
        blocks.append((around * weights.to(signals)).sum(dim=-1))
    return torch.cat(blocks, dim=-1)


def _taps(period: int, n_phases: int) -> Int64[Tensor, "taps"]:
    """Return the places of the input, from the sample before one of the result, that the filter covers."""
    return torch.arange(-_half_width(period, n_phases) - 1, _half_width(period, n_phases) + 2)


def _weights(phases: Int64[Tensor, "block"], *, period: int, n_phases: int) -> Float[Tensor, "block taps"]:
    """Compute the weights of samples that lie phases / n_phases behind one of the input."""
    scale = min(period, n_phases) * _ROLLOFF / period
    return scale * _filter(scale * (_taps(period, n_phases) - (phases.double() / n_phases)[:, None]))


@cached_tensors(maxsize=4)
def _weight_table(period: int, n_phases: int, dtype: torch.dtype) -> Float[Tensor, "phases taps"]:
    n_at_once = max(1, _KERNEL_BLOCK // len(_taps(period, n_phases)))
    with torch.inference_mode(False), torch.no_grad():
        phases = torch.arange(n_phases).split(n_at_once)
        return torch.cat([_weights(block, period=period, n_phases=n_phases).to(dtype) for block in phases])


def _filter(t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Compute h(t), the windowed sinc."""
    t = t.clamp(-_FILTER_WIDTH, _FILTER_WIDTH)
    beta = torch.tensor(_KAISER_BETA, dtype=torch.float64)
    return torch.sinc(t) * torch.i0(beta * (1 - (t / _FILTER_WIDTH).square()).sqrt()) / torch.i0(beta)


def _check_rates(from_rate: int, to_rate: int) -> None:
    for name, rate in (("from_rate", from_rate), ("to_rate", to_rate)):
        if not MIN_RATE <= rate <= MAX_RATE:
            raise ParameterError(f"{name}={rate} Hz must lie between {MIN_RATE} and {MAX_RATE} Hz; is it in kHz?")
