"""Mel dialects: the complete recipe from audio to the numbers of a mel spectrogram."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.constants import cached_tensors
from audiodiff.dsp.dialects import DIALECT_NAMES, dialect_fields
from audiodiff.dsp.filters import MelScale, mel_filters
from audiodiff.dsp.mel_energy import energy_weights, loudest_band
from audiodiff.dsp.mel_normalization import Statistic, checked, column, extreme
from audiodiff.dsp.stft import PadMode, Stft
from audiodiff.errors import MelError, ParameterError
from audiodiff.types import Spectrum

# A network's mel may leave the range of real audio a little, and float audio may exceed full scale: 5 % of the range.
_RANGE_SLACK = 0.05
# A frame is impossible if it needs more energy than audio in [-1, 1] has; 2 dB are allowed for audio above full scale.
_ENERGY_SLACK_DB = 2.0
_FRAMES_AT_ONCE = 4096  # of a long mel, which is checked in float64


@dataclass(frozen=True)
class MelDialect:
    """mel = (log_gain ln(clip(A, amplitude_min, amplitude_max)) + log_offset - mean) / std, for audio in [-1, 1].

    A are the amplitudes of the bands, W |STFT(audio)|, or with power=2 the root of W |STFT(audio)|^2.

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
        log_gain, log_offset: of the compression; 1 and 0 are the natural logarithm (2 and 0 of the power), a log_gain
            of 0 is none: the values are A^power.
        power: of the magnitudes that the filters sum, 1 or 2.
        mean, std: that the values are normalised by, a number or one for each band.
        frames_first: files of bare arrays hold (frames, n_mels); in Python a mel is (n_mels, frames) always.

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
    power: int = 1
    mean: Statistic = 0.0
    std: Statistic = 1.0
    frames_first: bool = False

    def __post_init__(self) -> None:
        for name, least in (("sample_rate", 1), ("hop_length", 2), ("win_length", 4), ("n_mels", 1)):
            if getattr(self, name) < least:
                bound = "positive" if least == 1 else f"at least {least} samples"
                raise ParameterError(f"{name}={getattr(self, name)} must be {bound}")
        for name in ("mean", "std"):
            object.__setattr__(self, name, checked(name, getattr(self, name), n_mels=self.n_mels))
        if self.power not in (1, 2):
            raise ParameterError(f"power={self.power} must be 1 (amplitudes) or 2 (squared amplitudes)")
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
        """Return the amplitude of each band, the root where power=2, neither clipped nor compressed."""
        return self._bands(self.stft.forward(audio))

    def _bands(self, spectrum: Spectrum) -> Float[Tensor, "*batch n_mels frames"]:
        if self.power == 2:
            squared = spectrum.real.square() + spectrum.imag.square() + self.power_offset
            return (_filters(self).to(squared) @ squared).sqrt()
        if self.power_offset:
            magnitude = (spectrum.real.square() + spectrum.imag.square() + self.power_offset).sqrt()
        else:
            magnitude = spectrum.abs()
        return _filters(self).to(magnitude) @ magnitude

    def mel(self, audio: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch n_mels frames"]:
        """Compute the mel of audio.

        Example:
            >>> from audiodiff.dsp.mel import dialect
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
        values = clipped.log() * self.log_gain + self.log_offset if self.log_gain else clipped**self.power
        # Clamped again, since rounding can leave the range.
        values = values.clamp(self._value(self.amplitude_min), self._value(self.amplitude_max))
        return (values - column(values, self.mean)) / column(values, self.std) if self.is_normalised else values

    def amplitude(self, mel: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Convert mel values to band amplitudes, within the range that the dialect clips to."""
        return self._expanded(self.unnormalised(mel))

    def _expanded(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        if self.log_gain:
            amplitude = ((values - self.log_offset) / self.log_gain).exp()
        else:
            amplitude = values.clamp(min=0.0) ** (1 / self.power)
        return amplitude.clamp(self.amplitude_min, self.amplitude_max)

    @property
    def is_normalised(self) -> bool:
        """Whether the values are normalised by a mean and a standard deviation."""
        return (self.mean, self.std) != (0.0, 1.0)

    def unnormalised(self, mel: Float[Tensor, "*batch n_mels frames"]) -> Float[Tensor, "*batch n_mels frames"]:
        """Undo the mean and the standard deviation."""
        return mel * column(mel, self.std) + column(mel, self.mean) if self.is_normalised else mel

    @cached_property
    def floor(self) -> float:
        """The mel value of silence, the smallest possible, in the band where it is smallest."""
        return extreme(self._value(self.amplitude_min), self.mean, self.std, n_mels=self.n_mels, which=min)

    @cached_property
    def ceil(self) -> float:
        """An upper bound of the mel values of audio in [-1, 1]."""
        return extreme(self._value(self._most_amplitude), self.mean, self.std, n_mels=self.n_mels, which=max)

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
            >>> from audiodiff.dsp.mel import dialect
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
        known = (MelDialect(name=other, **dialect_fields(other, {})) for other in DIALECT_NAMES if other != self.name)
        others = [other.name for other in known if other.objection(mel) is None]
        remedy = f"; it could be of dialect {' or '.join(others)}" if others else ""
        raise MelError(f"{name} is no mel of dialect {self.name}: {reason}{remedy}")

    def objection(self, mel: Float[Tensor, "*batch bands frames"]) -> str | None:
        """Return why an array cannot be a mel of this dialect, or None if it can."""
        if mel.ndim < 2:
            return f"its shape is {tuple(mel.shape)}; give (n_mels, frames)"
        if (bands := mel.shape[-2]) != self.n_mels:
            turned = "; it is transposed: give (n_mels, frames), or frames_first=true"
            return f"n_mels={bands}, but the dialect has n_mels={self.n_mels}{turned * (mel.shape[-1] == self.n_mels)}"
        if mel.shape[-1] == 0:
            return "it has no frames"
        low, high = map(float, torch.aminmax(mel))
        if not (math.isfinite(low) and math.isfinite(high)):
            return "it holds NaN or infinite values"
        floor, ceil, undone = self._value(self.amplitude_min), self._value(self._most_amplitude), ""
        if self.is_normalised:
            low, high = map(float, torch.aminmax(self.unnormalised(mel)))
            undone = ", with mean and std undone,"
        slack = _RANGE_SLACK * (ceil - floor)
        if low < floor - slack or high > ceil + slack:
            return f"its values{undone} span {low:.2f} to {high:.2f}, but audio spans {floor:.2f} to {ceil:.2f}"
        # The loudest value in every band is an upper bound, mostly low enough to look no further.
        if self._expanded(torch.tensor(high)).square() * _energy_weights(self).sum() <= 1:
            return None
        parts = (self.amplitude(part.double().cpu()).square() for part in mel.split(_FRAMES_AT_ONCE, dim=-1))
        excess_db = 10 * math.log10(max(float((_energy_weights(self) @ part).max()) for part in parts))
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
        amplitude = self.amplitude(mel).clamp(max=self._most_amplitude)
        energy = _energy_weights(self) @ amplitude.double().cpu().square()
        return self.compress(amplitude / energy.clamp(min=1.0).sqrt().to(mel).unsqueeze(-2))

    def _value(self, amplitude: float) -> float:
        # Rounded, so that the floor of a dialect on [0, 1] is 0 and not 1e-16.
        if self.log_gain:
            return round(self.log_gain * math.log(amplitude) + self.log_offset, 9)
        return amplitude**self.power

    @cached_property
    def _most_amplitude(self) -> float:
        """An upper bound of the amplitude of any band, for audio in [-1, 1]."""
        amplitude = loudest_band(_filters(self), power=self.power) * math.sqrt(self.n_fft * _squared_window(self) / 2)
        return max(self.amplitude_min, min(self.amplitude_max, amplitude))


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
    # Parseval: the bins above 0 Hz hold at most n_fft sum w^2 / 2.
    bound = dialect.n_fft * _squared_window(dialect) / 2 + dialect.power_offset * (dialect.n_fft // 2 + 1)
    return energy_weights(_filters(dialect), power=dialect.power) / bound


def _squared_window(dialect: MelDialect) -> float:
    # The squares of a periodic Hann window of N > 2 samples sum to 3 N / 8.
    return 3 * dialect.win_length / 8
