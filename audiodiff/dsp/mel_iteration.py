"""Iterations of the mel constraint, on signals that are tied together: see `audiodiff.dsp.mel_constraint`."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool1d

from audiodiff.dsp.channel_pairs import ChannelPairs
from audiodiff.dsp.low_band import LowBandSignal
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel_bands import EDGE_BANDS, MelBands, full_bands, power

# Frames on either side over which the level of the first guess is set.
_LEVEL_CONTEXT = 4

TINY = 1e-12

_MAX_LOW_ITERATIONS = 256
LOW_OVERLAP = 2  # uppermost bins of the low band that are left as they were: bands above it change them as well


class TiedSignals:
    """Iterate on the signals of one recording: its channels, and the sums and differences of their pairs."""

    def __init__(self, states: list["BandSignal"], pairs: ChannelPairs) -> None:
        self._states = states
        self._pairs = pairs

    def channels(self) -> Float[Tensor, "channels time"]:
        return torch.stack([state.signal for state in self._states[: self._pairs.n_channels]])

    def match_level(self) -> None:
        for state in self._states:
            state.match_level()
        self._agree(self._states)

    def iterate(self, *, momentum: float, exponent: float) -> None:
        for state in self._states:
            state.iterate(momentum=momentum, exponent=exponent)
        self._agree(self._states)

    def iterate_low_band(
        self, low: MelBands, n_iterations: int, *, momentum: float, exponent: float, first_bin: int = 0
    ) -> None:
        """Iterate on the lowest bins alone, for about the time of n_iterations of all, and restart the momentum."""
        lowered = [state.lowered(low) for state in self._states]
        for _ in range(n_low_iterations(self._states[0].factor_to(low), n_iterations)):
            for signal in lowered:
                signal.iterate(momentum=momentum, exponent=exponent)
            self._agree(lowered)
        for state, signal in zip(self._states, lowered, strict=True):
            state.replace_low_band(signal, first_bin=first_bin)
        self._agree(self._states)

    def _agree(self, states: "Sequence[BandSignal] | Sequence[LowBandSignal]") -> None:
        """Replace all signals by those of the channels that fit them best."""
        if len(states) > 1:
            signals = self._pairs.mixed(self._pairs.unmixed(torch.stack([state.signal for state in states])))
            for state, signal in zip(states, signals, strict=True):
                state.signal = signal


def n_low_iterations(factor: int, n_iterations: int) -> int:
    """Count the iterations at a rate lower by a factor that take about the time of n_iterations of all bands."""
    return min(factor * n_iterations, _MAX_LOW_ITERATIONS)


def smoothed(levels: Float[Tensor, "*batch frames"]) -> Float[Tensor, "*batch frames"]:
    """Return the mean over a few frames on either side of each, over which the level of a first guess is set."""
    near = 2 * _LEVEL_CONTEXT + 1
    return avg_pool1d(levels[None], near, stride=1, padding=_LEVEL_CONTEXT, count_include_pad=False)[0]


class BandSignal:
    """Iterate on one signal: itself, the previous one if there is momentum, and the target amplitudes of its bands.

    Args:
        signal: the first guess.
        target: amplitudes of its bands, (frames, n_mels).
        bands: of the target.
        first_frame: as in `audiodiff.dsp.mel_constraint.constrain`.
        n_settled: first samples of the signal, which stay as they are.
    """

    def __init__(
        self, signal: Tensor, target: Tensor, bands: MelBands, *, first_frame: int = 0, n_settled: int = 0
    ) -> None:
        self._bands = bands
        self._first_frame = first_frame
        self._target = target
        self._above = None if bands.above is None else target[:, -EDGE_BANDS:] @ bands.above  # (frames, bins above)
        self._n_settled = n_settled
        if n_settled:
            n_fade = bands.stft.hop_length // 2
            self._fade = torch.arange(n_fade, 0, -1, dtype=signal.dtype, device=signal.device) / n_fade
        self.signal = signal
        self._previous: Tensor | None = None

    def match_level(self) -> None:
        """Bring the bands' summed amplitude to the mel's, around each frame.

        The level of a first guess means nothing: without this, noise as loud in pauses as in vowels costs iterations.
        """
        stft = self._bands.stft
        amplitude = self._bands.amplitude(stft.analyse(self.signal)[:, self._bands.first : self._bands.last])
        target, own = smoothed(torch.stack([self._target.sum(dim=1), amplitude.sum(dim=1)]))
        self.signal = self.signal * stft.between_frames((target / own)[None], n_samples=len(self.signal))[0]

    def iterate(self, *, momentum: float, exponent: float) -> None:
        previous = self.signal if self._previous is None else self._previous
        extrapolated = torch.lerp(previous, self.signal, 1 + momentum)
        self._previous = self.signal
        self.signal = self._transform(extrapolated, partial(self._correct, exponent=exponent))

    def factor_to(self, low: MelBands) -> int:
        """Return the ratio of the rate to that of low bands."""
        return self._bands.stft.hop_length // low.stft.hop_length

    def lowered(self, low: MelBands) -> LowBandSignal:
        """Return the lowest bins alone, at their lower rate."""
        stft, factor = self._bands.stft, self.factor_to(low)
        spectrum = stft.analyse(self.signal)[:, : low.stft.n_fft // 2 + 1] / factor
        signal = low.stft.synthesise(spectrum, length=(len(spectrum) - 1) * low.stft.hop_length + low.stft.n_fft)
        n_settled = (stft.padding + self._n_settled) // factor if self._n_settled else 0
        target = self._target[:, : low.gather.shape[1]]
        return LowBandSignal(signal, target, low, first_frame=self._first_frame, n_settled=n_settled)

    def replace_low_band(self, lower: LowBandSignal, *, first_bin: int) -> None:
        """Take the bins from the first one up from a lowered state, and restart the momentum."""
        low = lower.bands
        result = low.stft.analyse(lower.signal)[:, : low.last - LOW_OVERLAP] * self.factor_to(low)

        def put(spectrum: Tensor, frames: slice) -> None:
            spectrum[:, first_bin : result.shape[1]] = result[frames, first_bin:]

        self.signal, self._previous = self._transform(self.signal, put), None

    def _transform(self, signal: Tensor, change: Callable[[Tensor, slice], None]) -> Tensor:
        transformed = self._bands.stft.transformed(signal, change, first_frame=self._first_frame)
        if self._n_settled:
            # The difference at the last settled sample fades out after it, so that there is no step.
            settled, after = self.signal[: self._n_settled], transformed[self._n_settled :][: self._fade.shape[0]]
            after += (settled[-1] - transformed[self._n_settled - 1]) * self._fade[: len(after)]
            transformed[: self._n_settled] = settled
        return transformed

    def _correct(self, spectrum: Tensor, frames: slice, *, exponent: float) -> None:
        """Bring spectra nearer to the mel, in place."""
        bands = self._bands
        covered = spectrum[:, bands.first : bands.last]
        covered *= bands.gains(bands.amplitude(covered), self._target[frames], exponent=exponent)
        # Bins that no filter covers have no ratio: the envelope is set, and only the phase is the signal's own.
        spectrum[:, : bands.first] = 0
        if self._above is not None:
            above = spectrum[:, bands.last :]
            above *= self._above[frames] / power(above).sqrt_().clamp_(min=TINY)


def tied_signals(
    audio: Tensor, mel: Tensor, *, dialect: MelDialect, first_frame: int, pairs: ChannelPairs | None
) -> list[TiedSignals]:
    """Return the items as channels of one recording, or each as a recording of one channel."""
    bands = full_bands(dialect, audio.dtype, audio.device)
    states = [
        BandSignal(signal, dialect.amplitude(item).mT.contiguous(), bands, first_frame=first_frame)
        for signal, item in zip(audio if pairs is None else pairs.mixed(audio), mel, strict=True)
    ]
    if pairs is None:
        return [TiedSignals([state], ChannelPairs(1)) for state in states]
    return [TiedSignals(states, pairs)]
