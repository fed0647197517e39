"""Baselines of restoration, except for enhancement."""

import math
from collections.abc import Sequence

import numpy as np
import scipy.interpolate
import scipy.signal

from audiodiff.dsp.autoregression import autoregression, find_gaps, interpolate_gaps

RATE = 16000
Audio = np.ndarray
"""Float64, (time,)."""

EULER_GAMMA = 0.5772156649
N_FFT = 512


def silence(audio: Audio, known: Audio) -> Audio:
    """Leave the gaps."""
    return audio * known


def shaped_noise(
    audio: Audio, known: Audio, *, rng: np.random.Generator, order: int = 32, context: int = 1600
) -> Audio:
    """Fill gaps with noise through the all-pole filter of the context, at the level of what the filter leaves of it."""
    result = audio * known
    for first, last in find_gaps(known):
        around = result[max(0, first - context) : last + context][known[max(0, first - context) : last + context] == 1]
        poles, power = autoregression(around, order=order)
        excitation = math.sqrt(power) * rng.standard_normal(context + last - first)
        result[first:last] = scipy.signal.lfilter([1.0], poles, excitation)[context:]
    return result


def janssen(audio: Audio, known: Audio) -> Audio:
    """Interpolate gaps as an autoregressive process."""
    return interpolate_gaps(audio, known, sample_rate=RATE)


class MeanBand:
    """The mean spectrum above a cutoff of training recordings.

    Args:
        recordings: clean, of the training set.
        cutoff: in Hz.
        sample_rate: in Hz.
    """

    def __init__(self, recordings: Sequence[Audio], *, cutoff: float, sample_rate: int) -> None:
        bins = np.arange(N_FFT // 2 + 1)
        self.edge = math.ceil(cutoff * N_FFT / sample_rate)
        self.sample_rate = sample_rate
        # Back and forth between the cutoff and 0.
        turn = np.abs((bins - self.edge) % (2 * self.edge) - self.edge)
        self.mirror = np.where(bins < self.edge, bins, np.minimum(turn, self.edge - 1))
        spectra = [self._stft(audio) for audio in recordings]
        power = np.log(np.concatenate([np.abs(each) ** 2 for each in spectra], axis=1) + 1e-10)
        level = np.log(np.exp(power[self.below]).mean(axis=0))
        loud = level > level.max() - 8.0
        self.noise_gain = (power - level)[:, loud].mean(axis=1)
        self.fold_gain = (power - power[self.mirror])[:, loud].mean(axis=1)

    @property
    def below(self) -> slice:
        """The bins of the kilohertz below the cutoff."""
        return slice(max(1, self.edge - round(1000 * N_FFT / self.sample_rate)), self.edge - 4)

    def noise(self, audio: Audio, *, rng: np.random.Generator) -> Audio:
        """Add noise of the mean high band, whose level follows the kilohertz below the cutoff in every frame."""
        spectrum = self._stft(audio)
        level = np.log((np.abs(spectrum[self.below]) ** 2).mean(axis=0) + 1e-10)
        noise = self._stft(rng.standard_normal(len(audio)))
        # The mean logarithm of the power of noise of unit mean power is -gamma.
        noise /= np.sqrt((np.abs(noise) ** 2).mean()) * math.exp(-EULER_GAMMA / 2)
        return self._added(audio, spectrum, noise * np.exp(0.5 * (self.noise_gain[:, None] + level)))

    def folded(self, audio: Audio) -> Audio:
        """Mirror the band below the cutoff, weakened as the mean spectrum is."""
        spectrum = self._stft(audio)
        return self._added(audio, spectrum, np.conj(spectrum[self.mirror]) * np.exp(0.5 * self.fold_gain)[:, None])

    def _added(self, audio: Audio, spectrum: Audio, high: Audio) -> Audio:
        high[: self.edge] = 0.0
        added = scipy.signal.istft(high, nperseg=N_FFT, noverlap=3 * N_FFT // 4, window="hann")[1]
        return audio + added[: len(audio)]

    def _stft(self, audio: Audio) -> Audio:
        return scipy.signal.stft(audio, nperseg=N_FFT, noverlap=3 * N_FFT // 4, window="hann")[2]


def cubic(audio: Audio, known: Audio) -> Audio:
    """Put a cubic spline through the samples that are known, and keep of it what lies beyond the clipped ones."""
    place = np.flatnonzero(known)
    spline = scipy.interpolate.CubicSpline(place, audio[place])(np.arange(len(audio)))
    beyond = np.sign(audio) * np.maximum(np.sign(audio) * spline, np.abs(audio))
    # Beyond the ends and over long stretches a cubic runs away; held as ours holds the spline that it starts from.
    limit = 2.0 * np.abs(audio).max()
    return np.where(known == 1, audio, np.clip(beyond, -limit, limit))
