"""From mels back to audio, without training: Griffin-Lim, and the accelerated multiplicative mel constraint.

The method, what it was compared with and how its constants were chosen: docs/mel-inversion.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool1d

from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError

DEFAULT_ITERATIONS = 64

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


def constrain(
    audio: Float[Tensor, "batch time"],
    mel: Float[Tensor, "batch n_mels frames"],
    *,
    dialect: MelDialect,
    n_iterations: int = DEFAULT_ITERATIONS,
    momentum: float = 0.99,
    exponent: float = 1.2,
    first_frame: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> Float[Tensor, "batch time"]:
    """Bring audio to a mel: repeat y <- iSTFT(S' / spread((bands(|S'|) / target)^exponent)), accelerated.

    spread takes the mean of the bands that a bin belongs to, weighted by their filters, so that ratios are averaged
    harmonically. S' = S + momentum * (S - S_previous) is taken in the time domain, where it costs least: the STFT is
    linear. Each item is worked on by itself, so its result does not depend on what else is in the batch.

    Args:
        audio: first guess, white noise or the output of a model. Its length is kept; its n_frames must be the mel's.
        n_iterations: 0 returns the audio as it is.
        momentum: 0 is the plain iteration, which needs about 4 times as many.
        exponent: of the ratio; diverges from about 1.5 on at this momentum.
        first_frame: number of the first frame in the longer signal that audio is a window of. Frames are then worked on
            in the same groups, and round alike; 32 frames from its ends a window is the longer signal, to 1e-5.
        on_step: called after every iteration of the batch with the number of iterations done, 1 to n_iterations.

    Raises:
        MelError: if the mel is not of the dialect.
        ParameterError: if the shapes do not belong together, or a constant lies outside its range.
    """
    _check(audio, mel, dialect, n_iterations)
    if not 0 <= momentum < 1:
        raise ParameterError(f"momentum={momentum} must lie in [0, 1)")
    if not 0 < exponent < 2:
        raise ParameterError(f"exponent={exponent} must lie between 0 and 2")
    if n_iterations == 0:
        return audio
    with torch.no_grad():
        states = [_State(signal, target, dialect, first_frame) for signal, target in zip(audio, mel, strict=True)]
        for step in range(n_iterations):
            for state in states:
                state.advance(momentum=momentum, exponent=exponent)
            if on_step is not None:
                on_step(step + 1)
        return torch.stack([state.signal for state in states])


def margin_frames(n_iterations: int) -> int:
    """Return how many frames around a window make its samples those of the longer signal, to 1e-4 of full scale.

    Measured on speech: 32 frames leave 1e-6 after 32 iterations, 48 leave 1e-5 after 64, 64 leave 4e-5 after 128.
    Beyond that the iteration amplifies rounding to more than what is cut off changes.

    Example:
        >>> margin_frames(0), margin_frames(32), margin_frames(64)
        (0, 32, 48)
    """
    return 0 if n_iterations == 0 else 16 + n_iterations // 2


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

    def __init__(self, signal: Tensor, mel: Tensor, dialect: MelDialect, first_frame: int) -> None:
        self._dialect = dialect
        self._stft = dialect.stft
        self._first_frame = first_frame
        self._target = dialect.amplitude(mel).mT.contiguous()  # (frames, n_mels)
        self._bands = _bands(dialect, signal.dtype, signal.device)
        self._above = self._target[:, -_EDGE_BANDS:] @ self._bands.above  # (frames, bins above f_max)
        # The level of a first guess says nothing: without this, noise as loud in pauses as in vowels costs iterations.
        self.signal = signal * self._gain(signal)
        self._previous = self.signal

    def _gain(self, signal: Tensor) -> Tensor:
        """Return the factor of every sample that brings the bands' summed amplitude to the mel's, around each frame."""
        amplitude = self._amplitude(self._stft.analyse(signal)[:, self._bands.first : self._bands.last])
        sums = torch.stack([self._target.sum(dim=1), amplitude.sum(dim=1)])
        near = 2 * _LEVEL_REACH + 1
        target, own = avg_pool1d(sums, near, stride=1, padding=_LEVEL_REACH, count_include_pad=False)
        gain = target / own
        hop, centre = self._stft.hop_length, self._stft.n_fft / 2 - self._stft.padding
        position = (torch.arange(signal.shape[-1], device=signal.device) + 0.5 - centre) / hop
        position = position.clamp(0, len(gain) - 1)
        low = position.floor().long()
        return torch.lerp(gain[low], gain[(low + 1).clamp(max=len(gain) - 1)], (position - low).to(gain))

    def advance(self, *, momentum: float, exponent: float) -> None:
        extrapolated = torch.lerp(self._previous, self.signal, 1 + momentum)
        self._previous = self.signal
        self.signal = self._stft.transformed(
            extrapolated, partial(self._correct, exponent=exponent), first_frame=self._first_frame
        )

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
        above = spectrum[:, bands.last :]
        above *= self._above[frames] / _power(above).sqrt_().clamp_(min=_TINY)

    def _amplitude(self, covered: Tensor) -> Tensor:
        """Band amplitudes of a spectrum on the covered bins: MelDialect.amplitude_bands, clipped."""
        amplitude = _power(covered).add_(self._dialect.power_offset).sqrt_() @ self._bands.gather
        return amplitude.clamp_(self._dialect.amplitude_min, self._dialect.amplitude_max)


def _power(spectrum: Tensor) -> Tensor:
    """Squared magnitudes; their root is two to ten times as fast as abs, which guards against an overflow far away."""
    return torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag)


@dataclass(frozen=True)
class _Bands:
    """The filters as the iteration needs them, on bins first to last, the ones that a filter covers."""

    first: int
    last: int
    gather: Tensor  # (bins, n_mels)
    spread: Tensor  # (n_mels, bins): weights normalised per bin
    above: Tensor  # (edge bands, bins above): from band amplitudes to an extrapolated envelope


@lru_cache(maxsize=16)
def _bands(dialect: MelDialect, dtype: torch.dtype, device: torch.device) -> _Bands:
    filters = dialect.filters()
    total = filters.sum(dim=0)
    first = int((total >= _MIN_WEIGHT * filters[0].max()).nonzero()[0])
    last = int(total.nonzero()[-1]) + 1
    n_bins = filters.shape[1]
    edge = filters[-_EDGE_BANDS:]
    octaves = (torch.arange(last, n_bins, dtype=torch.float64) / (last - 1)).log2()
    decay = 10 ** (-_DECAY_DB_PER_OCTAVE / 20 * octaves)
    above = decay / (len(edge) * edge.sum(dim=1, keepdim=True))
    with torch.inference_mode(False):
        return _Bands(
            first,
            last,
            gather=filters.T[first:last].to(device, dtype).contiguous(),
            spread=(filters / total.clamp(min=1e-300))[:, first:last].to(device, dtype).contiguous(),
            above=above.to(device, dtype),
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
