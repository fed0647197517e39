"""Mel filter matrices of the mel constraint, at the full rate and at a lower rate for the low band."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from audiodiff.dsp.constants import cached_tensors
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.stft import Stft

# The envelope above f_max: the mean of the uppermost bands, falling towards half the rate.
EDGE_BANDS = 4
_DECAY_DB_PER_OCTAVE = 24.0
# Bins below f_min are set to silence, and so are those on the outer slope of the first filter with a weight below this
# share of its peak: they hardly count in any band, so they would stay as loud as their neighbours and rumble.
_MIN_WEIGHT = 0.5

# Bounds of one iteration's change of a band's amplitude.
RATIO_MIN = 0.05
RATIO_MAX = 20.0

# The lower rate is at least this, in Hz; bands must lie within this share of its bins.
_LOW_RATE = 2600.0
_LOW_SHARE = 0.92


@dataclass(frozen=True)
class MelBands:
    """Hold the filters on bins first to last, those that a filter covers.

    Args:
        stft: of the signal that is iterated on.
        first, last: the first covered bin, and the one after the last.
        gather: from magnitudes to band amplitudes, (bins, n_mels).
        spread: from bands to bins, (n_mels, bins), with weights that sum to 1 over the bands of a bin.
        above: from the amplitudes of the uppermost bands to the envelope above them, (edge bands, bins above); None
            leaves those bins as they are.
        power, power_offset, amplitude_min, amplitude_max: as in `MelDialect`.
    """

    stft: Stft
    first: int
    last: int
    gather: Tensor
    spread: Tensor
    above: Tensor | None
    power: int
    power_offset: float
    amplitude_min: float
    amplitude_max: float

    def amplitude(self, covered: Tensor) -> Tensor:
        """Return the band amplitudes of a spectrum on the covered bins: MelDialect.amplitude_bands, clipped."""
        return self.amplitude_of_power(power(covered))

    def amplitude_of_power(self, covered: Tensor) -> Tensor:
        """Return the band amplitudes of squared magnitudes on the covered bins, which are used up."""
        covered = covered.add_(self.power_offset)
        amplitude = (covered @ self.gather).sqrt_() if self.power == 2 else covered.sqrt_() @ self.gather
        return amplitude.clamp_(self.amplitude_min, self.amplitude_max)

    def amplitude_of_noise(self) -> Tensor:
        """Return the band amplitudes of white noise of variance 1."""
        # A bin has the mean magnitude sqrt(pi / 4 sum w^2), and the sum w^2 is 3/8 of a Hann window.
        squared = 3 / 8 * self.stft.win_length
        weights = self.gather.sum(dim=0)
        return (weights * squared).sqrt() if self.power == 2 else weights * math.sqrt(math.pi / 4 * squared)

    def gains(self, amplitude: Tensor, target: Tensor, *, exponent: float) -> Tensor:
        """Return the gains of the covered bins that bring band amplitudes, which are used up, to a target."""
        # exp2(exponent * log2(excess)) is pow, three times as fast.
        excess = amplitude.div_(target).log2_().mul_(exponent).exp2_()
        # The harmonic mean of the bands' ratios: a bin between a band that is too loud and one that is right must fall.
        return (excess.clamp_(1 / RATIO_MAX, 1 / RATIO_MIN) @ self.spread).reciprocal_()


def power(spectrum: Tensor) -> Tensor:
    """Return squared magnitudes; their root is two to ten times as fast as abs, which guards against overflow."""
    return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)


@cached_tensors(maxsize=16)
def full_bands(dialect: MelDialect, dtype: torch.dtype, device: torch.device) -> MelBands:
    """Return the bands of a dialect at its own rate."""
    filters = dialect.filters()
    edge = filters[-EDGE_BANDS:]
    last, n_bins = int(filters.sum(dim=0).nonzero()[-1]) + 1, filters.shape[1]
    octaves = (torch.arange(last, n_bins, dtype=torch.float64) / (last - 1)).log2()
    above = 10 ** (-_DECAY_DB_PER_OCTAVE / 20 * octaves) / (
        len(edge) * edge.sum(dim=1, keepdim=True) ** (1 / dialect.power)
    )
    return _mel_bands(dialect, dialect.stft, filters, above, factor=1, dtype=dtype, device=device)


@cached_tensors(maxsize=16)
def low_bands(dialect: MelDialect, dtype: torch.dtype, device: torch.device) -> MelBands | None:
    """Return the bands below about 1.2 kHz, at a fraction of the rate with the same frames and bins, if there are any.

    The STFT of a signal without a high band equals, up to a factor, that of every factor-th sample of it.
    """
    own = dialect.stft
    most = math.gcd(own.n_fft // 2, own.hop_length, own.win_length, (own.n_fft - own.win_length) // 2)
    factor = max(k for k in range(1, most + 1) if most % k == 0 and (k == 1 or dialect.sample_rate / k >= _LOW_RATE))
    if factor == 1:
        return None
    # The part of the padding that full-rate frames cover belongs to the signal here, so no padding is added.
    stft = Stft(own.n_fft // factor, own.hop_length // factor, own.win_length // factor, 0, "constant")
    n_bins = stft.n_fft // 2 + 1
    filters = dialect.filters()
    # Bands that lie entirely below the lower rate's upper end, with some margin.
    filters = filters[filters[:, round(_LOW_SHARE * n_bins) :].sum(dim=1) == 0][:, :n_bins]
    if len(filters) == 0:
        return None
    return _mel_bands(dialect, stft, filters, None, factor=factor, dtype=dtype, device=device)


def _mel_bands(
    dialect: MelDialect,
    stft: Stft,
    filters: Tensor,
    above: Tensor | None,
    *,
    factor: int,
    dtype: torch.dtype,
    device: torch.device,
) -> MelBands:
    total = filters.sum(dim=0)
    first = int((total >= _MIN_WEIGHT * filters[0].max()).nonzero()[0])
    last = int(total.nonzero()[-1]) + 1
    with torch.inference_mode(False):
        return MelBands(
            stft,
            first,
            last,
            gather=(factor**dialect.power * filters.T[first:last]).to(device, dtype).contiguous(),
            spread=(filters / total.clamp(min=1e-300))[:, first:last].to(device, dtype).contiguous(),
            above=None if above is None else above.to(device, dtype),
            power=dialect.power,
            power_offset=dialect.power_offset / factor**2,
            amplitude_min=dialect.amplitude_min,
            amplitude_max=dialect.amplitude_max,
        )
