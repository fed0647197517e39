"""From mels back to audio, without training: Griffin-Lim, and the accelerated multiplicative mel constraint.

The method, what it was compared with and how its constants were chosen: docs/mel-inversion.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool1d

from audiodiff.dsp.excitation import excitation_reach, excite
from audiodiff.dsp.mel import MelDialect
from audiodiff.dsp.stft import Stft
from audiodiff.errors import ParameterError
from audiodiff.types import ReceptiveField

DEFAULT_ITERATIONS = 16

# Bounds of one iteration's change of a band's amplitude.
_RATIO_MIN = 0.05
_RATIO_MAX = 20.0

# The envelope above f_max: the mean of the uppermost bands, falling towards half the rate.
_EDGE_BANDS = 4
_DECAY_DB_PER_OCTAVE = 24.0
# Below f_min: silence, and so on the outer slope of the first filter where it falls short of this share of its peak.
# Its band hardly hears those bins, so they would stay as loud as their neighbours: rumble.
_MIN_WEIGHT = 0.5

# The level of the first guess is set over this many frames on either side.
_LEVEL_REACH = 4

_TINY = 1e-12

_EXPONENT = 1.2
_LOW_MOMENTUM = 0.98

# What is worked on by itself at a lower rate: at least this rate, in Hz, and this share of its bins.
_LOW_RATE = 2600.0
_LOW_SHARE = 0.92
_LOW_AT_MOST = 256
_SETTLED_FROM = 120.0  # Hz, where a network has been there before
_OVERLAP = 2  # its uppermost bins, which bands above it move as well, are left as they were


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
    linear. Each item is worked on by itself, so its result does not depend on what else is in the batch.

    Half-way, the same is done below about 1.2 kHz alone, where the harmonics lie that are heard most: at a fraction of
    the rate, with the same frames and bins, and as many times as often as it costs less, up to 256 times.

    Args:
        audio: first guess, of `excite` or of a model. Its length is kept; its n_frames must be the mel's.
        n_iterations: at the full rate; 0 returns the audio as it is.
        momentum: 0 is the plain iteration.
        exponent: of the ratio; diverges from about 1.3 on at this momentum.
        low_momentum: of the iterations below 1.2 kHz.
        first_frame: number of the first frame in the longer signal that audio is a window of. Frames are then worked on
            in the same groups, and round alike; `margin_frames` from its ends a window is the longer signal, to 1e-5.
        on_step: called after every iteration of the batch with the number of iterations done, 1 to n_iterations.

    Raises:
        MelError: if the mel is not of the dialect.
        ParameterError: if the shapes do not belong together, or a constant lies outside its range.
    """
    _check(audio, mel, dialect, n_iterations)
    for name, value in (("momentum", momentum), ("low_momentum", low_momentum)):
        if not 0 <= value < 1:
            raise ParameterError(f"{name}={value} must lie in [0, 1)")
    if not 0 < exponent < 2:
        raise ParameterError(f"exponent={exponent} must lie between 0 and 2")
    if n_iterations == 0:
        return audio
    low = _low_bands(dialect, audio.dtype, audio.device)
    with torch.no_grad():
        states = _states(audio, mel, dialect, first_frame)
        for state in states:
            state.level()
        for step in range(n_iterations):
            for state in states:
                if low is not None and step == n_iterations // 2:
                    state.settle(low, n_iterations, momentum=low_momentum, exponent=exponent)
                state.advance(momentum=momentum, exponent=exponent)
            if on_step is not None:
                on_step(step + 1)
        return torch.stack([state.signal for state in states])


def settle(
    audio: Float[Tensor, "batch time"],
    mel: Float[Tensor, "batch n_mels frames"],
    *,
    dialect: MelDialect,
    n_iterations: int,
    first_frame: int = 0,
) -> Float[Tensor, "batch time"]:
    """Bring what lies from 120 Hz to about 1.2 kHz to a mel, as `constrain` does half-way, and leave the rest.

    Below any voice, iterations leave more noise than a network does, which would make errors of voicing twice as many.

    Args:
        audio: finished but for that.
        n_iterations: of which `constrain` would make as many at the lower rate.
        first_frame: as in `constrain`.

    Raises:
        MelError: if the mel is not of the dialect.
        ParameterError: if the shapes do not belong together.
    """
    _check(audio, mel, dialect, n_iterations)
    low = _low_bands(dialect, audio.dtype, audio.device)
    if low is None or n_iterations == 0:
        return audio
    first_bin = round(_SETTLED_FROM * dialect.n_fft / dialect.sample_rate)
    with torch.no_grad():
        states = _states(audio, mel, dialect, first_frame)
        for state in states:
            state.settle(low, n_iterations, momentum=_LOW_MOMENTUM, exponent=_EXPONENT, first_bin=first_bin)
        return torch.stack([state.signal for state in states])


def margin_frames(n_iterations: int) -> int:
    """Return how many frames around a window make its samples those of the longer signal, to 1e-4 of full scale.

    Measured on steady tones, the worst case: 56 frames leave 2e-5 after 8 iterations, 88 leave 1e-3 after 16; on speech
    a third of either will do. Beyond 16, the iterations at the lower rate amplify rounding to more than what is cut off
    changes.

    Example:
        >>> margin_frames(0), margin_frames(8), margin_frames(64)
        (0, 56, 152)
    """
    return 0 if n_iterations == 0 else min(24 + 4 * n_iterations, 152)


def invert(
    noise: Float[Tensor, "batch time"],
    mel: Float[Tensor, "batch n_mels frames"],
    *,
    dialect: MelDialect,
    n_iterations: int = DEFAULT_ITERATIONS,
    first_frame: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> Float[Tensor, "batch time"]:
    """Make audio of a mel without training: the mel constraint, from the pulses of a voice where there is one.

    Args:
        noise: white, of variance 1.
        n_iterations: of the mel constraint, at least 1.
        first_frame: as in `constrain`; `invert_reach` from its ends a window is the longer signal.
        on_step: as in `constrain`.

    Raises:
        MelError: if the mel is not of the dialect.
        ParameterError: if the shapes do not belong together.
    """
    _check(noise, mel, dialect, n_iterations)
    with torch.no_grad():
        start = excite(noise, mel, dialect=dialect, first_frame=first_frame)
    return constrain(start, mel, dialect=dialect, n_iterations=n_iterations, first_frame=first_frame, on_step=on_step)


def invert_reach(dialect: MelDialect, n_iterations: int) -> ReceptiveField:
    """Return how many frames before and after it a sample of `invert` depends on."""
    before, after = excitation_reach(dialect)
    margin = margin_frames(n_iterations)
    return ReceptiveField(before + margin, after + margin)


def griffin_lim(
    mel: Float[Tensor, "batch n_mels frames"],
    start: Float[Tensor, "batch time"],
    *,
    dialect: MelDialect,
    n_iterations: int = 64,
    momentum: float = 0.99,
    on_step: Callable[[int], None] | None = None,
) -> Float[Tensor, "batch time"]:
    """Invert a mel by the baseline: pseudo-inverse magnitudes, then torchaudio's Griffin-Lim (Perraudin et al. 2013).

    c <- |target| t / |t| with t = G(c) - momentum / (1 + momentum) * G(c_previous), G the STFT of the inverse STFT.
    torchaudio.functional.griffinlim draws its own first phases and centres every frame, which hifigan does not: this is
    its iteration, with its meaning of momentum, on the dialect's own STFT and from the phases of start.

    Args:
        start: audio whose phases to begin with; its level does not matter.
        n_iterations: 0 gives the magnitudes of the mel and the phases of start.
        on_step: as in `constrain`.

    Raises:
        MelError: if the mel is not of the dialect.
        ParameterError: if the shapes do not belong together.
    """
    _check(start, mel, dialect, n_iterations)
    if not 0 <= momentum < 1:
        raise ParameterError(f"momentum={momentum} must lie in [0, 1)")
    stft, length = dialect.stft, start.shape[-1]
    with torch.no_grad():
        inverse = torch.linalg.pinv(dialect.filters()).to(mel)
        magnitudes = [(inverse @ dialect.amplitude(target)).clamp_(min=0).mT.contiguous() for target in mel]
        spectra = [
            torch.polar(magnitude, stft.analyse(signal).angle())
            for magnitude, signal in zip(magnitudes, start, strict=True)
        ]
        previous = [torch.zeros_like(spectrum) for spectrum in spectra]
        for step in range(n_iterations):
            for item, magnitude in enumerate(magnitudes):
                rebuilt = stft.analyse(stft.synthesise(spectra[item], length=length))
                spectrum = rebuilt - momentum / (1 + momentum) * previous[item]
                spectra[item] = spectrum.mul_(magnitude / spectrum.abs().clamp_(min=1e-16))
                previous[item] = rebuilt
            if on_step is not None:
                on_step(step + 1)
        return torch.stack([stft.synthesise(spectrum, length=length) for spectrum in spectra])


class _State:
    """One item on its way: the signal, the one before it, and what the mel asks for."""

    def __init__(self, signal: Tensor, target: Tensor, bands: "_Bands", first_frame: int) -> None:
        self._bands = bands
        self._first_frame = first_frame
        self._target = target  # (frames, n_mels)
        self._above = None if bands.above is None else target[:, -_EDGE_BANDS:] @ bands.above  # (frames, bins above)
        self.signal = self._previous = signal

    def level(self) -> None:
        """Bring the bands' summed amplitude to the mel's, around each frame.

        The level of a first guess says nothing: without this, noise as loud in pauses as in vowels costs iterations.
        """
        stft = self._bands.stft
        amplitude = self._amplitude(stft.analyse(self.signal)[:, self._bands.first : self._bands.last])
        sums = torch.stack([self._target.sum(dim=1), amplitude.sum(dim=1)])
        near = 2 * _LEVEL_REACH + 1
        target, own = avg_pool1d(sums, near, stride=1, padding=_LEVEL_REACH, count_include_pad=False)
        gain = target / own
        hop, centre = stft.hop_length, stft.n_fft / 2 - stft.padding
        position = (torch.arange(self.signal.shape[-1], device=self.signal.device) + 0.5 - centre) / hop
        position = position.clamp(0, len(gain) - 1)
        low = position.floor().long()
        gain = torch.lerp(gain[low], gain[(low + 1).clamp(max=len(gain) - 1)], (position - low).to(gain))
        self.signal = self._previous = self.signal * gain

    def advance(self, *, momentum: float, exponent: float) -> None:
        extrapolated = torch.lerp(self._previous, self.signal, 1 + momentum)
        self._previous = self.signal
        self.signal = self._changed(extrapolated, partial(self._correct, exponent=exponent))

    def settle(self, low: "_Bands", n_iterations: int, *, momentum: float, exponent: float, first_bin: int = 0) -> None:
        """Iterate on the lowest bins alone, for about the time of n_iterations of all, and begin anew from there."""
        factor = self._bands.stft.hop_length // low.stft.hop_length
        spectrum = self._bands.stft.analyse(self.signal)[:, : low.stft.n_fft // 2 + 1] / factor
        signal = low.stft.synthesise(spectrum, length=(len(spectrum) - 1) * low.stft.hop_length + low.stft.n_fft)
        state = _State(signal, self._target[:, : low.gather.shape[1]], low, self._first_frame)
        for _ in range(min(factor * n_iterations, _LOW_AT_MOST)):
            state.advance(momentum=momentum, exponent=exponent)
        settled = low.stft.analyse(state.signal)[:, : low.last - _OVERLAP] * factor

        def put(spectrum: Tensor, frames: slice) -> None:
            spectrum[:, first_bin : settled.shape[1]] = settled[frames, first_bin:]

        self.signal = self._previous = self._changed(self.signal, put)

    def _changed(self, signal: Tensor, change: Callable[[Tensor, slice], None]) -> Tensor:
        return self._bands.stft.transformed(signal, change, first_frame=self._first_frame)

    def _correct(self, spectrum: Tensor, frames: slice, *, exponent: float) -> None:
        """Bring spectra nearer to the mel, in place."""
        bands = self._bands
        covered = spectrum[:, bands.first : bands.last]
        # exp2(exponent * log2(excess)) is pow, three times as fast.
        excess = self._amplitude(covered).div_(self._target[frames]).log2_().mul_(exponent).exp2_()
        # The harmonic mean of the bands' ratios: a bin between a band that is too loud and one that is right must fall.
        covered *= (excess.clamp_(1 / _RATIO_MAX, 1 / _RATIO_MIN) @ bands.spread).reciprocal_()
        # Where no filter looks there is no ratio: the envelope is set, and only the phase is the signal's own.
        spectrum[:, : bands.first] = 0
        if self._above is not None:
            above = spectrum[:, bands.last :]
            above *= self._above[frames] / _power(above).sqrt_().clamp_(min=_TINY)

    def _amplitude(self, covered: Tensor) -> Tensor:
        """Band amplitudes of a spectrum on the covered bins: MelDialect.amplitude_bands, clipped."""
        bands = self._bands
        amplitude = _power(covered).add_(bands.power_offset).sqrt_() @ bands.gather
        return amplitude.clamp_(bands.amplitude_min, bands.amplitude_max)


def _states(audio: Tensor, mel: Tensor, dialect: MelDialect, first_frame: int) -> list[_State]:
    """Begin the items of a batch, each by itself."""
    bands = _bands(dialect, audio.dtype, audio.device)
    targets = [dialect.amplitude(item).mT.contiguous() for item in mel]
    return [_State(signal, target, bands, first_frame) for signal, target in zip(audio, targets, strict=True)]


def _power(spectrum: Tensor) -> Tensor:
    """Squared magnitudes; their root is two to ten times as fast as abs, which guards against an overflow far away."""
    return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)


@dataclass(frozen=True)
class _Bands:
    """The filters as the iteration needs them, on bins first to last, the ones that a filter covers."""

    stft: Stft
    first: int
    last: int
    gather: Tensor  # (bins, n_mels)
    spread: Tensor  # (n_mels, bins): weights normalised per bin
    above: Tensor | None  # (edge bands, bins above): from band amplitudes to an extrapolated envelope; None leaves them
    power_offset: float
    amplitude_min: float
    amplitude_max: float


@lru_cache(maxsize=16)
def _bands(dialect: MelDialect, dtype: torch.dtype, device: torch.device) -> _Bands:
    filters = dialect.filters()
    edge = filters[-_EDGE_BANDS:]
    last, n_bins = int(filters.sum(dim=0).nonzero()[-1]) + 1, filters.shape[1]
    octaves = (torch.arange(last, n_bins, dtype=torch.float64) / (last - 1)).log2()
    above = 10 ** (-_DECAY_DB_PER_OCTAVE / 20 * octaves) / (len(edge) * edge.sum(dim=1, keepdim=True))
    return _bands_of(dialect, dialect.stft, filters, above, factor=1, dtype=dtype, device=device)


@lru_cache(maxsize=16)
def _low_bands(dialect: MelDialect, dtype: torch.dtype, device: torch.device) -> _Bands | None:
    """Return the bands below about 1.2 kHz, at a fraction of the rate with the same frames and bins, if there are any.

    The STFT of a signal without what lies above is, but for a factor, that of every factor-th sample of it.
    """
    own = dialect.stft
    most = math.gcd(own.n_fft // 2, own.hop_length, own.win_length, (own.n_fft - own.win_length) // 2)
    factor = max(k for k in range(1, most + 1) if most % k == 0 and (k == 1 or dialect.sample_rate / k >= _LOW_RATE))
    if factor == 1:
        return None
    # What full-rate frames see of the padding is part of the signal here, which so needs none.
    stft = Stft(own.n_fft // factor, own.hop_length // factor, own.win_length // factor, 0, "constant")
    n_bins = stft.n_fft // 2 + 1
    filters = dialect.filters()
    # Bands that the lower rate has whole, and room above them.
    filters = filters[filters[:, round(_LOW_SHARE * n_bins) :].sum(dim=1) == 0][:, :n_bins]
    if len(filters) == 0:
        return None
    return _bands_of(dialect, stft, filters, None, factor=factor, dtype=dtype, device=device)


def _bands_of(
    dialect: MelDialect,
    stft: Stft,
    filters: Tensor,
    above: Tensor | None,
    *,
    factor: int,
    dtype: torch.dtype,
    device: torch.device,
) -> _Bands:
    total = filters.sum(dim=0)
    first = int((total >= _MIN_WEIGHT * filters[0].max()).nonzero()[0])
    last = int(total.nonzero()[-1]) + 1
    with torch.inference_mode(False):
        return _Bands(
            stft,
            first,
            last,
            gather=(factor * filters.T[first:last]).to(device, dtype).contiguous(),
            spread=(filters / total.clamp(min=1e-300))[:, first:last].to(device, dtype).contiguous(),
            above=None if above is None else above.to(device, dtype),
            power_offset=dialect.power_offset / factor**2,
            amplitude_min=dialect.amplitude_min,
            amplitude_max=dialect.amplitude_max,
        )


def _check(audio: Tensor, mel: Tensor, dialect: MelDialect, n_iterations: int) -> None:
    if n_iterations < 0:
        raise ParameterError(f"n_iterations={n_iterations} must not be negative")
    if len(audio) != len(mel):
        raise ParameterError(f"audio has {len(audio)} items, mel has {len(mel)}: one for each is needed")
    if len(mel) == 0:
        raise ParameterError("the batch is empty")
    dialect.check(mel, name="mel")
    n_samples, n_frames = audio.shape[-1], mel.shape[-1]
    if dialect.n_frames(n_samples) != n_frames:
        raise ParameterError(
            f"audio of {n_samples} samples has {dialect.n_frames(n_samples)} frames, but mel has {n_frames}; "
            f"give {dialect.n_samples(n_frames)} samples"
        )
