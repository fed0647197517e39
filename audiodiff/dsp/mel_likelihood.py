"""Likelihood of an array as a mel spectrogram on a given scale, from the statistics that recordings have.

A scale says what level a value stands for: that of the white noise that would have this amplitude in its band, in dB.
Such levels hardly depend on frame, filters and window, so that one distribution serves all dialects. It is that of the
statistics in `mel_statistics`, as densities of the quantiles of the values, so that scales can be compared.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel_levels import KINDS, Kind
from audiodiff.dsp.mel_statistics import LEAST, MelStatistics

DB = 20 / math.log(10)
"""Decibels of a natural logarithm of 1."""
Number = TypeVar("Number", float, Tensor)
TOP_BANDS, TILT_BANDS, TILT_HZ = 0.9, 40, 50.0
"""Quantile over bands of their tops; fewest bands of which the lowest tell a tilt; filters from 0 Hz start below."""
_DEGREES = 6.0  # of freedom, of Student's t: sounds of other kinds than those measured
_SPEECH_DB = -8.0  # level of loud bands: the median is -6 dB in LibriSpeech (30 files), -11 dB in another corpus
_TILT_DB, _MOST_TILT_DB = 15.0, 40.0  # standard deviation and limit of the tilt of any sound
# Logarithms of the probabilities of values below a dialect's floor, and of clipping at another value.
_BELOW_FLOOR, _OTHER_FLOOR = math.log(0.002), math.log(0.02)


@dataclass(frozen=True)
class Scale:
    """A scale of mel values: level = gain * u + offset in dB, where u is the value or its natural logarithm.

    Args:
        gain: dB per unit of u.
        offset: of each band, in dB.
        is_logarithmic: u is the value; otherwise the value has no logarithm, and u is its natural logarithm.
        floor: value of u that silence is clipped to.
        f_min: lowest frequency of the filters, Hz.
    """

    gain: float
    offset: Float[Tensor, "n_mels"]
    is_logarithmic: bool
    floor: float
    f_min: float


@lru_cache(maxsize=128)
def scale_of(dialect: MelDialect) -> Scale:
    """Return the scale of a dialect, of values before mean and std."""
    power = dialect.power
    # White noise of standard deviation 1 has bins of about sqrt(sum of the squared window), 3 / 8 of its length.
    noise = (3 * dialect.win_length / 8) ** (power / 2)
    reference = DB / power * (dialect.filters().sum(dim=1) * noise).log()
    if dialect.log_gain == 0:
        return Scale(DB / power, -reference, False, power * math.log(dialect.amplitude_min), dialect.f_min)
    gain = DB / dialect.log_gain
    floor = dialect.log_offset + dialect.log_gain * math.log(dialect.amplitude_min)
    return Scale(gain, -dialect.log_offset * gain - reference, True, floor, dialect.f_min)


def log_likelihood(found: MelStatistics | None, scale: Scale) -> float:
    """Return the logarithm of the density of an array's statistics on a scale.

    Args:
        found: of the array, or of its logarithm for a scale without one; None for silence, which shows nothing.
        scale: of the array.

    Example:
        >>> from audiodiff.dsp.mel import dialect
        >>> from audiodiff.dsp.mel_statistics import statistics
        >>> natural, decibels = scale_of(dialect("hifigan")), scale_of(dialect("hifigan:log=db"))
        >>> found = statistics(dialect("hifigan").mel(0.1 * torch.randn(22050)))
        >>> log_likelihood(found, natural) > log_likelihood(found, decibels) + 10
        True
    """
    if found is None:
        return 0.0
    slack = 1e-3 * float(found.quantiles[-1] - found.low) + 1e-9
    total = 0.0
    if found.low < scale.floor - slack:
        total = _BELOW_FLOOR
    elif found.is_clipped and not found.is_relative and found.low > scale.floor + slack:
        total = _OTHER_FLOOR
    shape = found.shape + math.log(scale.gain)
    top = scale.gain * found.band_tops + scale.offset
    means = scale.gain * found.band_means + scale.offset
    values = torch.cat([shape, top.quantile(TOP_BANDS)[None]])
    tilt = float(means[:2].mean() - means[4:8].mean()) if len(means) >= TILT_BANDS else None
    parts = [_density(kind, values) + _tilt(kind, tilt, f_min=scale.f_min) for kind in KINDS]
    return (
        total + float(torch.stack(parts).logsumexp(0)) + _jacobian(found, scale.is_logarithmic) + math.log(scale.gain)
    )


def log_likelihood_of_shape(
    found: MelStatistics, gains: Float[Tensor, "gains"], *, is_logarithmic: bool = True
) -> Float[Tensor, "gains"]:
    """Return the logarithm of the density for each of some gains, in dB per unit, where the level is unknown.

    The density of the level in units of the array has to be added.
    """
    shapes = found.shape + gains.log()[:, None]
    return torch.stack([_density(kind, shapes) for kind in KINDS]).logsumexp(0) + _jacobian(found, is_logarithmic)


def normalization_guess(found: MelStatistics, *, unit_db: float, scale: Scale) -> tuple[float, float]:
    """Guess the mean and std that values on a scale with a logarithm were normalised by.

    The std brings one unit to unit_db. The mean brings the smallest value to the floor where many equal it, or else the
    loudest bands to the usual level of recorded speech.
    """
    std = unit_db / scale.gain
    if found.is_clipped:
        return scale.floor - found.low * std, std
    level = float((scale.gain * std * found.band_tops + scale.offset).quantile(TOP_BANDS))
    return (_SPEECH_DB - level) / scale.gain, std


def _jacobian(found: MelStatistics, is_logarithmic: bool) -> float:
    """Return the logarithm of the derivative of the statistics by the quantiles of the values."""
    total = -float(found.quantiles.diff().clamp(min=LEAST).log().sum())
    return total if is_logarithmic else total - float(found.quantiles.sum())


def _density(kind: Kind, values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Return the logarithm of the weight of a kind times the density, Student's t, of its first n statistics."""
    n = values.shape[-1]
    factor = torch.linalg.cholesky(kind.spread[:n, :n] * (_DEGREES - 2) / _DEGREES)
    distance = torch.linalg.solve_triangular(factor, (values - kind.location[:n])[..., None], upper=False)
    distance = distance.square().sum(dim=(-2, -1))
    constant = math.lgamma((_DEGREES + n) / 2) - math.lgamma(_DEGREES / 2) - n / 2 * math.log(_DEGREES * math.pi)
    constant += math.log(kind.weight) - float(factor.diagonal().log().sum())
    return constant - (_DEGREES + n) / 2 * (1 + distance / _DEGREES).log()


def _tilt(kind: Kind, tilt: float | None, *, f_min: float) -> float:
    """Return the logarithm of the density of the tilt, relative to that of any sound."""
    if tilt is None:
        return 0.0
    mean, spread = kind.tilt if f_min < TILT_HZ else kind.tilt_80
    tilt = min(max(tilt, -_MOST_TILT_DB), _MOST_TILT_DB)
    return log_normal(tilt, mean, spread) - log_normal(tilt, 0.0, _TILT_DB)


def log_normal(value: Number, mean: float, spread: float) -> Number:
    """Return the logarithm of the density of the normal distribution."""
    return -0.5 * ((value - mean) / spread) ** 2 - math.log(spread * math.sqrt(2 * math.pi))
