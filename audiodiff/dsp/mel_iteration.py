"""Iterations of the mel constraint, on signals that are tied together: see `audiodiff.dsp.mel_constraint`."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool1d

from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel_bands import EDGE_BANDS, MelBands, full_bands

# Bounds of one iteration's change of a band's amplitude.
_RATIO_MIN = 0.05
_RATIO_MAX = 20.0

# Frames on either side over which the level of the first guess is set.
_LEVEL_CONTEXT = 4

_TINY = 1e-12

_MAX_LOW_ITERATIONS = 256
_LOW_OVERLAP = 2  # uppermost bins of the low band that are left as they were: bands above it change them as well


class TiedSignals:
    """Iterate on the signals of one recording: its channels, and the sums and differences of their pairs."""

    def __init__(self, states: list["_Signal"], pairs: ChannelPairs) -> None:
        self._states = states
        self._pairs = pairs

    def channels(self) -> Float[Tensor, "channels time"]:
        return torch.stack([state.signal for state in self._states[: self._pairs.n_channels]])

    def match_level(self) -> None:
        for state in self._states:
            state.match_level()
        self._agree()

    def iterate(self, *, momentum: float, exponent: float) -> None:
        for state in self._states:
            state.iterate(momentum=momentum, exponent=exponent)
        self._agree()

    def iterate_low_band(
        self, low: MelBands, n_iterations: int, *, momentum: float, exponent: float, first_bin: int = 0
    ) -> None:
        """Iterate on the lowest bins alone, for about the time of n_iterations of all, and restart the momentum."""
        factor = self._states[0].factor_to(low)
        lower = TiedSignals([state.lowered(low) for state in self._states], self._pairs)
        for _ in range(min(factor * n_iterations, _MAX_LOW_ITERATIONS)):
            lower.iterate(momentum=momentum, exponent=exponent)
        for state, own in zip(self._states, lower._states, strict=True):
            state.replace_low_band(own, first_bin=first_bin)
        self._agree()

    def _agree(self) -> None:
        """Replace all signals by those of the channels that fit them best."""
        if len(self._states) > 1:
            signals = self._pairs.mixed(self._pairs.unmixed(torch.stack([state.signal for state in self._states])))
            for state, signal in zip(self._states, signals, strict=True):
                state.signal = signal


class _Signal:
    """Iterate on one signal: itself, the previous one if there is momentum, and the target amplitudes of its bands."""

    def __init__(self, signal: Tensor, target: Tensor, bands: MelBands, first_frame: int) -> None:
        self._bands = bands
        self._first_frame = first_frame
        self._target = target  # (frames, n_mels)
        self._above = None if bands.above is None else target[:, -EDGE_BANDS:] @ bands.above  # (frames, bins above)
        self.signal = signal
        self._previous: Tensor | None = None

    def match_level(self) -> None:
        """Bring the bands' summed amplitude to the mel's, around each frame.

        The level of a first guess means nothing: without this, noise as loud in pauses as in vowels costs iterations.
        """
        stft = self._bands.stft
        amplitude = self._amplitude(stft.analyse(self.signal)[:, self._bands.first : self._bands.last])
        sums = torch.stack([self._target.sum(dim=1), amplitude.sum(dim=1)])
        near = 2 * _LEVEL_CONTEXT + 1
        target, own = avg_pool1d(sums, near, stride=1, padding=_LEVEL_CONTEXT, count_include_pad=False)
        gain = target / own
        hop, centre = stft.hop_length, stft.n_fft / 2 - stft.padding
        position = (torch.arange(self.signal.shape[-1], device=self.signal.device) + 0.5 - centre) / hop
        position = position.clamp(0, len(gain) - 1)
        low = position.floor().long()
        gain = torch.lerp(gain[low], gain[(low + 1).clamp(max=len(gain) - 1)], (position - low).to(gain))
        self.signal = self.signal * gain

    def iterate(self, *, momentum: float, exponent: float) -> None:
        previous = self.signal if self._previous is None else self._previous
        extrapolated = torch.lerp(previous, self.signal, 1 + momentum)
        self._previous = self.signal
        self.signal = self._transform(extrapolated, partial(self._correct, exponent=exponent))

    def factor_to(self, low: MelBands) -> int:
        """Return the ratio of the rate to that of low bands."""
        return self._bands.stft.hop_length // low.stft.hop_length

    def lowered(self, low: MelBands) -> "_Signal":
        """Return the lowest bins alone, at their lower rate."""
        spectrum = self._bands.stft.analyse(self.signal)[:, : low.stft.n_fft // 2 + 1] / self.factor_to(low)
        signal = low.stft.synthesise(spectrum, length=(len(spectrum) - 1) * low.stft.hop_length + low.stft.n_fft)
        return _Signal(signal, self._target[:, : low.gather.shape[1]], low, self._first_frame)

    def replace_low_band(self, lower: "_Signal", *, first_bin: int) -> None:
        """Take the bins from the first one up from a lowered state, and restart the momentum."""
        low = lower._bands
        result = low.stft.analyse(lower.signal)[:, : low.last - _LOW_OVERLAP] * self.factor_to(low)

        def put(spectrum: Tensor, frames: slice) -> None:
            spectrum[:, first_bin : result.shape[1]] = result[frames, first_bin:]

        self.signal, self._previous = self._transform(self.signal, put), None

    def _transform(self, signal: Tensor, change: Callable[[Tensor, slice], None]) -> Tensor:
        return self._bands.stft.transformed(signal, change, first_frame=self._first_frame)

    def _correct(self, spectrum: Tensor, frames: slice, *, exponent: float) -> None:
        """Bring spectra nearer to the mel, in place."""
        bands = self._bands
        covered = spectrum[:, bands.first : bands.last]
        # exp2(exponent * log2(excess)) is pow, three times as fast.
        excess = self._amplitude(covered).div_(self._target[frames]).log2_().mul_(exponent).exp2_()
        # The harmonic mean of the bands' ratios: a bin between a band that is too loud and one that is right must fall.
        covered *= (excess.clamp_(1 / _RATIO_MAX, 1 / _RATIO_MIN) @ bands.spread).reciprocal_()
        # Bins that no filter covers have no ratio: the envelope is set, and only the phase is the signal's own.
        spectrum[:, : bands.first] = 0
        if self._above is not None:
            above = spectrum[:, bands.last :]
            above *= self._above[frames] / _power(above).sqrt_().clamp_(min=_TINY)

    def _amplitude(self, covered: Tensor) -> Tensor:
        """Return the band amplitudes of a spectrum on the covered bins: MelDialect.amplitude_bands, clipped."""
        bands = self._bands
        amplitude = _power(covered).add_(bands.power_offset).sqrt_() @ bands.gather
        return amplitude.clamp_(bands.amplitude_min, bands.amplitude_max)


def tied_signals(
    audio: Tensor, mel: Tensor, *, dialect: MelDialect, first_frame: int, pairs: ChannelPairs | None
) -> list[TiedSignals]:
    """Return the items as channels of one recording, or each as a recording of one channel."""
    bands = full_bands(dialect, audio.dtype, audio.device)
    states = [
        _Signal(signal, dialect.amplitude(item).mT.contiguous(), bands, first_frame)
        for signal, item in zip(audio if pairs is None else pairs.mixed(audio), mel, strict=True)
    ]
    if pairs is None:
        return [TiedSignals([state], ChannelPairs(1)) for state in states]
    return [TiedSignals(states, pairs)]


def _power(spectrum: Tensor) -> Tensor:
    """Return squared magnitudes; their root is two to ten times as fast as abs, which guards against overflow."""
    return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)
