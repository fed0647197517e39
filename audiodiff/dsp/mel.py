"""Mel spectrograms in eight named dialects, whose values differ even where bands and hop are the same.

A dialect is the complete recipe from audio to numbers: frame, window, padding, filters, compression. Two mels are
interchangeable only if every field except the name agrees.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.constants import cached_tensors
from audiodiff.dsp.dialects import DIALECT_NAMES, dialect_fields, read_dialect
from audiodiff.dsp.filters import MelScale, mel_filters
from audiodiff.dsp.stft import PadMode, Stft
from audiodiff.errors import MelError, ParameterError
from audiodiff.types import Spectrum

__all__ = ["DIALECT_NAMES", "MelDialect", "dialect"]

# A network's mel may leave the range of real audio a little, and float audio may exceed full scale: 5 % of the range.
_RANGE_SLACK = 0.05
# A frame is impossible if it needs more energy than audio in [-1, 1] has; 2 dB are allowed for audio above full scale.
_ENERGY_SLACK_DB = 2.0
_FRAMES_AT_ONCE = 4096  # of a long mel, which is checked in float64


@dataclass(frozen=True)
class MelDialect:
    """mel = log_gain * ln(clip(W |STFT(audio)|, amplitude_min, amplitude_max)) + log_offset, for audio in [-1, 1].

    Args:
        name: of the dialect, or of the one that it was derived from.
        sample_rate: rate of the audio, in Hz.
        n_fft, hop_length, win_length: of the STFT, in samples.
        n_mels: number of bands.
        f_min, f_max: lowest and highest frequency that a filter covers, in Hz.
        scale: mel scale, "htk" or "slaney".
        area_normalised: divide each filter by half its width in Hz (librosa's norm="slaney"), or leave its peak at 1.
        window_normalised: divide the STFT by sqrt(sum of the squared window), as torchaudio's normalized=True.
        centred: pad n_fft / 2 on either side, so that frame m is centred on sample m hop_length; otherwise
            (n_fft - hop_length) / 2, rounded up, so that T samples make T / hop_length frames.
        pad_mode: content of the padding, see `Stft`.
        power_offset: added to |STFT|^2 before the square root.
        amplitude_min, amplitude_max: range that band amplitudes are clipped to before the logarithm.
        log_gain, log_offset: of the compression; 1 and 0 are the natural logarithm, a log_gain of 0 is none.

    Raises:
        ParameterError: if the fields do not fit together.
    """

    name: str
    sample_rate: int
    n_fft: int
    hop_length: int
    win_length: int
    n_mels: int
    f_min: float
    f_max: float
    scale: MelScale
    area_normalised: bool
    window_normalised: bool
    centred: bool
    pad_mode: PadMode
    power_offset: float
    amplitude_min: float
    amplitude_max: float
    log_gain: float
    log_offset: float

    def __post_init__(self) -> None:
        if self.sample_rate < 1:
            raise ParameterError(f"sample_rate={self.sample_rate} Hz must be positive")
        if self.hop_length < 2:
            raise ParameterError(f"hop_length={self.hop_length} must be at least 2 samples")
        if self.win_length < 4:
            raise ParameterError(f"win_length={self.win_length} must be at least 4 samples")
        if self.n_mels < 1:
            raise ParameterError(f"n_mels={self.n_mels} must be positive")
        if not 0 <= self.f_min < self.f_max:
            raise ParameterError(f"f_min={self.f_min} Hz must lie between 0 and f_max={self.f_max} Hz")
        if self.f_max > self.sample_rate / 2:
            raise ParameterError(
                f"f_max={self.f_max} Hz must not pass half of sample_rate={self.sample_rate} Hz; "
                f"give f_max={self.sample_rate / 2} or less"
            )
        if not 0 < self.amplitude_min < self.amplitude_max:
            raise ParameterError(f"amplitude_min={self.amplitude_min} must lie between 0 and {self.amplitude_max}")
        _ = self.stft

    @cached_property
    def stft(self) -> Stft:
        """The STFT of the dialect."""
        padding = self.n_fft // 2 if self.centred else max(0, -((self.hop_length - self.n_fft) // 2))
        return Stft(self.n_fft, self.hop_length, self.win_length, padding, self.pad_mode)

    def filters(self) -> Float[Tensor, "n_mels bins"]:
        """Return the filters in float64, with the window normalisation.

        Raises:
            ParameterError: if a filter is so narrow that it covers no bin.
        """
        return _filters(self).clone()

    def amplitude_bands(self, audio: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch n_mels frames"]:
        """Return the amplitude of each band, neither clipped nor compressed."""
        return self._bands(self.stft.forward(audio))

    def _bands(self, spectrum: Spectrum) -> Float[Tensor, "*batch n_mels frames"]:
        if self.power_offset:
            magnitude = (spectrum.real.square() + spectrum.imag.square() + self.power_offset).sqrt()
        else:
            magnitude = spectrum.abs()
        return _filters(self).to(magnitude) @ magnitude

    def mel(self, audio: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch n_mels frames"]:
        """Compute the mel of audio.

        Example:
            >>> dialect("hifigan").mel(torch.randn(1, 256 * 20)).shape
            torch.Size([1, 80, 20])
        """
        return self.compress(self.amplitude_bands(audio))

    def mel_of_padded(self, padded: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch n_mels frames"]:
        """Compute the mel of audio, at least one frame, that is already padded or the middle of a longer signal."""
        return self.compress(self._bands(replace(self.stft, padding=0).forward(padded)))

    def compress(self, amplitude: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Convert band amplitudes to mel values."""
        clipped = amplitude.clamp(self.amplitude_min, self.amplitude_max)
        values = clipped.log() * self.log_gain + self.log_offset if self.log_gain else clipped
        # Clamped again, since rounding can leave the range.
        return values.clamp(self.floor, self._value(self.amplitude_max))

    def amplitude(self, mel: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Convert mel values to band amplitudes, within the range that the dialect clips to."""
        amplitude = ((mel - self.log_offset) / self.log_gain).exp() if self.log_gain else mel
        return amplitude.clamp(self.amplitude_min, self.amplitude_max)

    @cached_property
    def floor(self) -> float:
        """The mel value of silence, the smallest possible."""
        return self._value(self.amplitude_min)

    @cached_property
    def ceil(self) -> float:
        """An upper bound of the mel values of audio in [-1, 1]."""
        # Cauchy-Schwarz in each band, and Parseval: sum_k |X_k|^2 <= n_fft sum w^2 / 2 over the bins above 0 Hz.
        amplitude = float(_filters(self).norm(dim=1).max()) * math.sqrt(self.n_fft * _squared_window(self) / 2)
        return self._value(max(self.amplitude_min, min(self.amplitude_max, amplitude)))

    def n_frames(self, n_samples: int) -> int:
        """Count the frames of a signal, at least one."""
        return self.stft.n_frames(n_samples)

    def n_samples(self, n_frames: int) -> int:
        """Count the samples of a mel, the inverse of n_frames for multiples of hop_length.

        hop_length * n_frames, or hop_length * (n_frames - 1) if the dialect is centred; a single frame is one hop.
        """
        if n_frames < 1:
            raise ParameterError(f"n_frames={n_frames} must be positive")
        return self.hop_length * (max(1, n_frames - 1) if self.centred else n_frames)

    def natural_n_samples(self, n_frames: int) -> int:
        """Return the greatest length up to n_samples whose own mel has n_frames frames.

        Example:
            >>> [dialect("vocos").natural_n_samples(n) for n in (1, 2, 3)]
            [255, 256, 512]
        """
        n_samples = self.n_samples(n_frames)
        # A centred analysis makes two frames of one whole hop.
        return n_samples if self.n_frames(n_samples) == n_frames else n_samples - 1

    def check(self, mel: Float[Tensor, "*batch bands frames"], *, name: str) -> None:
        """Refuse an array that cannot be a mel of this dialect; name is that of the array in the message.

        Raises:
            MelError: with the field that does not fit, and the remedy.
        """
        if (reason := self.objection(mel)) is None:
            return
        others = [other for other in DIALECT_NAMES if other != self.name and dialect(other).objection(mel) is None]
        remedy = f"; it could be of dialect {' or '.join(others)}" if others else ""
        raise MelError(f"{name} is no mel of dialect {self.name}: {reason}{remedy}")

    def objection(self, mel: Float[Tensor, "*batch bands frames"]) -> str | None:
        """Return why an array cannot be a mel of this dialect, or None if it can."""
        if mel.ndim < 2:
            return f"its shape is {tuple(mel.shape)}; give (n_mels, frames)"
        if (bands := mel.shape[-2]) != self.n_mels:
            turned = "; it is transposed: give (n_mels, frames)" if mel.shape[-1] == self.n_mels else ""
            return f"n_mels={bands}, but the dialect has n_mels={self.n_mels}{turned}"
        if mel.shape[-1] == 0:
            return "it has no frames"
        low, high = map(float, torch.aminmax(mel))
        if not (math.isfinite(low) and math.isfinite(high)):
            return "it holds NaN or infinite values"
        slack = _RANGE_SLACK * (self.ceil - self.floor)
        if low < self.floor - slack or high > self.ceil + slack:
            return f"its values span {low:.2f} to {high:.2f}, but audio spans {self.floor:.2f} to {self.ceil:.2f}"
        # The loudest value in every band is an upper bound, mostly low enough to look no further.
        if self.amplitude(torch.tensor(high)).square() * _energy_weights(self).sum() <= 1:
            return None
        excess_db = 10 * math.log10(max(float(self._excess(part).max()) for part in mel.split(_FRAMES_AT_ONCE, dim=-1)))
        if excess_db > _ENERGY_SLACK_DB:
            return f"its values, {float(mel.mean()):.2f} in the mean, are of audio {excess_db:.1f} dB above full scale"
        return None

    def check_length(self, n_samples: int, n_frames: int, *, name: str) -> None:
        """Refuse audio (called name in the message) whose number of frames is not n_frames."""
        if self.n_frames(n_samples) != n_frames:
            raise ParameterError(
                f"{name} of {n_samples} samples has {self.n_frames(n_samples)} frames, but mel has {n_frames}; "
                f"give {self.n_samples(n_frames)} samples"
            )

    def limited(self, mel: Float[Tensor, "*batch n_mels frames"]) -> Float[Tensor, "*batch n_mels frames"]:
        """Return a network's output within the dialect: values in its range, impossibly loud frames at full scale."""
        mel = mel.clamp(self.floor, self.ceil)
        too_loud = self._excess(mel).clamp(min=1.0).sqrt().to(mel).unsqueeze(-2)
        return self.compress(self.amplitude(mel) / too_loud)

    def _value(self, amplitude: float) -> float:
        # Rounded, so that the floor of a dialect on [0, 1] is 0 and not 1e-16.
        return round(self.log_gain * math.log(amplitude) + self.log_offset, 9) if self.log_gain else amplitude

    def _excess(self, mel: Tensor) -> Tensor:
        """Return the least energy that each frame needs, divided by the most that audio in [-1, 1] can have."""
        return _energy_weights(self) @ self.amplitude(mel.double().cpu()).square()


def dialect(
    name: str,
    *,
    sample_rate: int | None = None,
    n_fft: int | None = None,
    hop_length: int | None = None,
    win_length: int | None = None,
    n_mels: int | None = None,
    f_min: float | None = None,
    f_max: float | None = None,
    log: int | str | None = None,
) -> MelDialect:
    """Return a dialect by name, or derive it at another rate, hop or size; None keeps the value of the name.

    Fields may be in the name: "hifigan:hop_length=200,log=10". The logarithm is "e" (natural), 10, "db" (20 log10)
    or "none" (the values are amplitudes). Dependent values follow: an f_max of half the rate follows the rate, a window
    as long as the frame follows n_fft, and a hop of over half a window gives a frame of at least four hops.

    Raises:
        ParameterError: if the name is unknown, or the values do not fit together.

    Example:
        >>> dialect("vocos", sample_rate=16000, hop_length=1000).win_length
        4096
        >>> dialect("hifigan:log=10").floor
        -5.0
    """
    name, fields = read_dialect(name)
    given = {"sample_rate": sample_rate, "n_fft": n_fft, "hop_length": hop_length, "win_length": win_length}
    given |= {"n_mels": n_mels, "f_min": f_min, "f_max": f_max, "log": log}
    fields |= {key: value for key, value in given.items() if value is not None}
    result = MelDialect(name=name, **dialect_fields(name, fields))
    _filters(result)  # refuses filters without a bin
    return result


def _filters(dialect: MelDialect) -> Tensor:
    return mel_filters(
        sample_rate=dialect.sample_rate,
        n_fft=dialect.n_fft,
        n_mels=dialect.n_mels,
        f_min=dialect.f_min,
        f_max=dialect.f_max,
        scale=dialect.scale,
        area_normalised=dialect.area_normalised,
        gain=1 / math.sqrt(_squared_window(dialect)) if dialect.window_normalised else 1.0,
    )


@cached_tensors(maxsize=128)
def _energy_weights(dialect: MelDialect) -> Float[Tensor, "n_mels"]:
    """Return w, so that w @ amplitude^2 is a frame's least energy, divided by the most that audio in [-1, 1] has."""
    # Rows of A are the filters at unit norm: sum_b (mel_b / |w_b|)^2 = |A X|^2 <= lambda_max(A A^T) |X|^2.
    filters = _filters(dialect)
    norms = filters.norm(dim=1)
    largest = torch.linalg.matrix_norm(filters / norms[:, None], ord=2).square()
    bound = dialect.n_fft * _squared_window(dialect) / 2 + dialect.power_offset * (dialect.n_fft // 2 + 1)
    return 1 / (norms.square() * largest * bound)


def _squared_window(dialect: MelDialect) -> float:
    # The squares of a periodic Hann window of N > 2 samples sum to 3 N / 8.
    return 3 * dialect.win_length / 8
