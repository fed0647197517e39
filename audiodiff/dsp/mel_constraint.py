"""The mel constraint: accelerated multiplicative iterations that bring the mel of audio to a target.

The method, what it was compared with and how its constants were chosen: docs/mel-inversion.md.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool1d

from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.mel_bands import EDGE_BANDS, MelBands, full_bands, low_bands
from audiodiff.errors import ParameterError

DEFAULT_ITERATIONS = 16

# Bounds of one iteration's change of a band's amplitude.
_RATIO_MIN = 0.05
_RATIO_MAX = 20.0

# Frames on either side over which the level of the first guess is set.
_LEVEL_CONTEXT = 4

_TINY = 1e-12

_EXPONENT = 1.2
_LOW_MOMENTUM = 0.98

_MAX_LOW_ITERATIONS = 256
_LOW_FROM_HZ = 120.0  # lower bound of `constrain_low_band`
_LOW_OVERLAP = 2  # uppermost bins of the low band that are left as they were: bands above it change them as well


def constrain(
    audio: Float[Tensor, "batch time"],
    mel: Float[Tensor, "batch n_mels frames"],
    *,
    dialect: MelDialect,
    n_iterations: int = DEFAULT_ITERATIONS,
    momentum: float = 0.9,
    exponent: float = _EXPONENT,
    low_momentum: float = _LOW_MOMENTUM,
    first_frame: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> Float[Tensor, "batch time"]:
    """Bring audio to a mel: repeat y <- iSTFT(S' / spread((bands(|S'|) / target)^exponent)), accelerated.

    spread takes the mean of the bands that a bin belongs to, weighted by their filters, so that ratios are averaged
    harmonically. S' = S + momentum * (S - S_previous) is taken in the time domain, where it costs least: the STFT is
    linear. Items are processed one by one, so a result does not depend on what else is in the batch.

    Half-way, the same iteration runs on the band below about 1.2 kHz alone, which holds the strongest harmonics: at a
    fraction of the rate, with the same frames and bins. It is repeated as many times more often as it costs less, at
    most 256 times.

    Args:
        audio: first guess, from `excite` or from a model. Its length is kept; its n_frames must be the mel's.
        n_iterations: at the full rate; 0 returns the audio as it is.
        momentum: 0 is the plain iteration.
        exponent: of the ratio; diverges from about 1.3 on at this momentum.
        low_momentum: of the iterations below 1.2 kHz.
        first_frame: number of the first frame in the longer signal that audio is a window of. Frames are then processed
            in the same groups, with the same rounding; `margin_frames` from its ends a window equals the longer signal,
            to 1e-5.
        on_step: called after every iteration of the batch with the number of iterations done, 1 to n_iterations.

    Raises:
        MelError: if the mel is not of the dialect.
        ParameterError: if the shapes do not fit together, or a constant lies outside its range.
    """
    check_inputs(audio, mel, dialect=dialect, n_iterations=n_iterations)
    for name, value in (("momentum", momentum), ("low_momentum", low_momentum)):
        if not 0 <= value < 1:
            raise ParameterError(f"{name}={value} must lie in [0, 1)")
    if not 0 < exponent < 2:
        raise ParameterError(f"exponent={exponent} must lie between 0 and 2")
    if n_iterations == 0:
        return audio
    low = low_bands(dialect, audio.dtype, audio.device)
    with torch.no_grad():
        states = _states(audio, mel, dialect, first_frame)
        for state in states:
            state.match_level()
        for step in range(n_iterations):
            for state in states:
                if low is not None and step == n_iterations // 2:
                    state.iterate_low_band(low, n_iterations, momentum=low_momentum, exponent=exponent)
                state.iterate(momentum=momentum, exponent=exponent)
            if on_step is not None:
                on_step(step + 1)
        return torch.stack([state.signal for state in states])


def constrain_low_band(
    audio: Float[Tensor, "batch time"],
    mel: Float[Tensor, "batch n_mels frames"],
    *,
    dialect: MelDialect,
    n_iterations: int,
    first_frame: int = 0,
) -> Float[Tensor, "batch time"]:
    """Bring the band from 120 Hz to about 1.2 kHz to a mel, as `constrain` does half-way, and leave the rest unchanged.

    Below 120 Hz, where voices have no harmonics, iterations leave more noise than a network does, which would double
    the errors of voicing.

    Args:
        audio: complete but for the low band.
        n_iterations: as many iterations run at the lower rate as in `constrain` with this number.
        first_frame: as in `constrain`.

    Raises:
        MelError: if the mel is not of the dialect.
        ParameterError: if the shapes do not fit together.
    """
    check_inputs(audio, mel, dialect=dialect, n_iterations=n_iterations)
    low = low_bands(dialect, audio.dtype, audio.device)
    if low is None or n_iterations == 0:
        return audio
    first_bin = round(_LOW_FROM_HZ * dialect.n_fft / dialect.sample_rate)
    with torch.no_grad():
        states = _states(audio, mel, dialect, first_frame)
        for state in states:
            state.iterate_low_band(low, n_iterations, momentum=_LOW_MOMENTUM, exponent=_EXPONENT, first_bin=first_bin)
        return torch.stack([state.signal for state in states])


def margin_frames(n_iterations: int) -> int:
    """Return how many frames around a window make its samples those of the longer signal, to 1e-4 of full scale.

    Measured on steady tones, the worst case: 56 frames leave 2e-5 after 8 iterations, 88 leave 1e-3 after 16; speech
    needs a third of either. Beyond 16 iterations, those at the lower rate amplify rounding more than a wider margin
    would save.

    Example:
        >>> margin_frames(0), margin_frames(8), margin_frames(64)
        (0, 56, 152)
    """
    return 0 if n_iterations == 0 else min(24 + 4 * n_iterations, 152)


def check_inputs(audio: Float[Tensor, "batch time"], mel: Tensor, *, dialect: MelDialect, n_iterations: int) -> None:
    """Refuse audio and mels that do not fit together.

    Raises:
        MelError: if the mel is not of the dialect.
        ParameterError: if the shapes do not fit together, or n_iterations is negative.
    """
    if n_iterations < 0:
        raise ParameterError(f"n_iterations={n_iterations} must not be negative")
    if len(audio) != len(mel):
        raise ParameterError(f"audio has {len(audio)} items and mel has {len(mel)}: give one for each")
    if len(mel) == 0:
        raise ParameterError("the batch is empty")
    dialect.check(mel, name="mel")
    dialect.check_length(audio.shape[-1], mel.shape[-1], name="audio")


class _State:
    """Iterate on one item: its signal, the previous one, and the target amplitudes of its bands."""

    def __init__(self, signal: Tensor, target: Tensor, bands: MelBands, first_frame: int) -> None:
        self._bands = bands
        self._first_frame = first_frame
        self._target = target  # (frames, n_mels)
        self._above = None if bands.above is None else target[:, -EDGE_BANDS:] @ bands.above  # (frames, bins above)
        self.signal = self._previous = signal

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
        self.signal = self._previous = self.signal * gain

    def iterate(self, *, momentum: float, exponent: float) -> None:
        extrapolated = torch.lerp(self._previous, self.signal, 1 + momentum)
        self._previous = self.signal
        self.signal = self._transform(extrapolated, partial(self._correct, exponent=exponent))

    def iterate_low_band(
        self, low: MelBands, n_iterations: int, *, momentum: float, exponent: float, first_bin: int = 0
    ) -> None:
        """Iterate on the lowest bins alone, for about the time of n_iterations of all, and restart the momentum."""
        factor = self._bands.stft.hop_length // low.stft.hop_length
        spectrum = self._bands.stft.analyse(self.signal)[:, : low.stft.n_fft // 2 + 1] / factor
        signal = low.stft.synthesise(spectrum, length=(len(spectrum) - 1) * low.stft.hop_length + low.stft.n_fft)
        state = _State(signal, self._target[:, : low.gather.shape[1]], low, self._first_frame)
        for _ in range(min(factor * n_iterations, _MAX_LOW_ITERATIONS)):
            state.iterate(momentum=momentum, exponent=exponent)
        result = low.stft.analyse(state.signal)[:, : low.last - _LOW_OVERLAP] * factor

        def put(spectrum: Tensor, frames: slice) -> None:
            spectrum[:, first_bin : result.shape[1]] = result[frames, first_bin:]

        self.signal = self._previous = self._transform(self.signal, put)

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


def _states(audio: Tensor, mel: Tensor, dialect: MelDialect, first_frame: int) -> list[_State]:
    bands = full_bands(dialect, audio.dtype, audio.device)
    targets = [dialect.amplitude(item).mT.contiguous() for item in mel]
    return [_State(signal, target, bands, first_frame) for signal, target in zip(audio, targets, strict=True)]


def _power(spectrum: Tensor) -> Tensor:
    """Return squared magnitudes; their root is two to ten times as fast as abs, which guards against overflow."""
    return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)
