"""The mel contract: eight named dialects of log-mel, most of which say "80 bands, hop 256" and mean other numbers.

A dialect is the whole recipe from audio to numbers: frame, window, padding, filters, compression. Two mels are
interchangeable only if every field but the name agrees.
"""

import math
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.dsp.dialects import DIALECTS
from audiodiff.dsp.filters import MelScale, mel_filters
from audiodiff.dsp.stft import PadMode, Stft
from audiodiff.errors import MelError, ParameterError
from audiodiff.types import Spectrum

# A network's mel may leave the range of real audio a little, and audio in float may pass full scale: 5 % of the range.
_RANGE_SLACK = 0.05
# A frame is impossible if audio in [-1, 1] lacks the energy for it; 2 dB are left for audio that passes full scale.
_ENERGY_SLACK_DB = 2.0
_FRAMES_AT_ONCE = 4096


@dataclass(frozen=True)
class MelDialect:
    """mel = log_gain * ln(clip(W |STFT(audio)|, amplitude_min, amplitude_max)) + log_offset, for audio in [-1, 1].

    Args:
        name: the dialect that this one is, or was derived from.
        sample_rate: rate of the audio, in Hz.
        n_fft, hop_length, win_length: of the STFT, in samples.
        n_mels: number of bands.
        f_min, f_max: lowest and highest frequency that a filter covers, in Hz.
        scale: formula of the mel scale, HTK's or Slaney's.
        area_normalised: divide each filter by half its width in Hz (librosa's norm="slaney"), or leave its peak at 1.
        window_normalised: divide the STFT by sqrt(sum of the squared window), as torchaudio's normalized=True.
        centred: pad n_fft / 2 on either side, so that frame m is centred on sample m hop_length; otherwise
            (n_fft - hop_length) / 2, rounded up, so that T samples make T / hop_length frames.
        pad_mode: what stands in the padding, see Stft.
        power_offset: added to |STFT|^2 before the square root.
        amplitude_min, amplitude_max: range that band amplitudes are clipped to before the logarithm.
        log_gain, log_offset: of the compression; 1 and 0 are the natural logarithm.

    Raises:
        ParameterError: if the fields do not fit together; the message names the field and the remedy.
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

    @property
    def stft(self) -> Stft:
        """The dialect's analysis, before filters and compression."""
        padding = self.n_fft // 2 if self.centred else max(0, -((self.hop_length - self.n_fft) // 2))
        return Stft(self.n_fft, self.hop_length, self.win_length, padding, self.pad_mode)

    def filters(self) -> Float[Tensor, "n_mels bins"]:
        """Make the filters, float64, any window normalisation included.

        Raises:
            ParameterError: if a filter is so narrow that it covers no bin.
        """
        return _filters(self).clone()

    def amplitude_bands(self, audio: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch n_mels frames"]:
        """Measure the amplitude in each band, neither clipped nor compressed."""
        return self._bands(self.stft.forward(audio))

    def _bands(self, spectrum: Spectrum) -> Float[Tensor, "*batch n_mels frames"]:
        if self.power_offset:
            magnitude = (spectrum.real.square() + spectrum.imag.square() + self.power_offset).sqrt()
        else:
            magnitude = spectrum.abs()
        return _filters(self).to(magnitude) @ magnitude

    def mel(self, audio: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch n_mels frames"]:
        """Analyse audio.

        Example:
            >>> dialect("hifigan").mel(torch.randn(1, 256 * 20)).shape
            torch.Size([1, 80, 20])
        """
        return self.compress(self.amplitude_bands(audio))

    def mel_of_padded(self, padded: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch n_mels frames"]:
        """Analyse audio, at least one frame of it, that has its padding or is the middle of a longer signal."""
        return self.compress(self._bands(replace(self.stft, padding=0).forward(padded)))

    def compress(self, amplitude: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Turn band amplitudes into mel values."""
        clipped = amplitude.clamp(self.amplitude_min, self.amplitude_max)
        # Rounding must not lead out of the range either.
        return (clipped.log() * self.log_gain + self.log_offset).clamp(self.floor, self._value(self.amplitude_max))

    def amplitude(self, mel: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Undo the compression: band amplitudes, within the range that the dialect clips to."""
        amplitude = ((mel - self.log_offset) / self.log_gain).exp()
        return amplitude.clamp(self.amplitude_min, self.amplitude_max)

    @property
    def floor(self) -> float:
        """The value of silence, the least that audio can reach."""
        return self._value(self.amplitude_min)

    @property
    def ceil(self) -> float:
        """A value that no band of audio in [-1, 1] can pass."""
        # Cauchy-Schwarz in each band, and Parseval: sum_k |X_k|^2 <= n_fft sum w^2 / 2 over the bins above 0 Hz.
        energy = self.n_fft * _squared_window(self) / 2
        amplitude = float(_filters(self).norm(dim=1).max()) * math.sqrt(energy)
        return self._value(max(self.amplitude_min, min(self.amplitude_max, amplitude)))

    def n_frames(self, n_samples: int) -> int:
        """Count the frames of a signal, at least one."""
        return self.stft.n_frames(n_samples)

    def n_samples(self, n_frames: int) -> int:
        """Count the samples that a mel stands for, the inverse of n_frames for multiples of hop_length.

        hop_length * n_frames, or hop_length * (n_frames - 1) where the dialect is centred; a single frame is one hop.
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
        """Refuse an array that is provably not a mel of this dialect.

        Args:
            name: what to call the array in the message: a file, an argument.

        Raises:
            MelError: naming the field that does not fit, and the remedy.
        """
        reason = self._objection(mel)
        if reason is None:
            return
        others = [other for other in DIALECT_NAMES if other != self.name and _named(other)._objection(mel) is None]
        remedy = f"; it could be of dialect {' or '.join(others)}" if others else ""
        raise MelError(f"{name} is no mel of dialect {self.name}: {reason}{remedy}")

    def limited(self, mel: Float[Tensor, "*batch n_mels frames"]) -> Float[Tensor, "*batch n_mels frames"]:
        """Bring what a network made into the dialect: values into the range, impossibly loud frames to full scale."""
        mel = mel.clamp(self.floor, self.ceil)
        too_loud = self._excess(mel).clamp(min=1.0).sqrt().to(mel).unsqueeze(-2)
        return self.compress(self.amplitude(mel) / too_loud)

    def _value(self, amplitude: float) -> float:
        # Rounded, so that the floor of a dialect on [0, 1] is 0 and not 1e-16.
        return round(self.log_gain * math.log(amplitude) + self.log_offset, 9)

    def _objection(self, mel: Tensor) -> str | None:
        if mel.ndim < 2:
            return f"its shape is {tuple(mel.shape)}; give (n_mels, frames)"
        bands, n_frames = mel.shape[-2:]
        if bands != self.n_mels:
            turned = "; it is transposed: give (n_mels, frames)" if n_frames == self.n_mels else ""
            return f"n_mels={bands}, but the dialect has n_mels={self.n_mels}{turned}"
        if n_frames == 0:
            return "it has no frames"
        if not bool(torch.isfinite(mel).all()):
            return "it holds NaN or infinite values"
        low, high = float(mel.min()), float(mel.max())
        slack = _RANGE_SLACK * (self.ceil - self.floor)
        if low < self.floor - slack or high > self.ceil + slack:
            return f"its values span {low:.2f} to {high:.2f}, but audio spans {self.floor:.2f} to {self.ceil:.2f}"
        # In doubles, so a part of a long mel at a time.
        excess = max(float(self._excess(part).max()) for part in mel.split(_FRAMES_AT_ONCE, dim=-1))
        excess_db = 10 * math.log10(excess)
        if excess_db > _ENERGY_SLACK_DB:
            return f"its values, {float(mel.mean()):.2f} in the mean, are of audio {excess_db:.1f} dB above full scale"
        return None

    def _excess(self, mel: Tensor) -> Tensor:
        """Compare the least energy that each frame needs with the most that audio in [-1, 1] has."""
        # Rows of A are the filters at unit norm: sum_b (mel_b / |w_b|)^2 = |A X|^2 <= lambda_max(A A^T) |X|^2.
        filters = _filters(self)
        norms = filters.norm(dim=1, keepdim=True)
        unit = filters / norms
        largest = float(torch.linalg.matrix_norm(unit @ unit.T, ord=2))
        energy = (self.amplitude(mel.double().cpu()) / norms).square().sum(-2) / largest
        bound = self.n_fft * _squared_window(self) / 2 + self.power_offset * (self.n_fft // 2 + 1)
        return energy / bound


def _squared_window(dialect: MelDialect) -> float:
    # The squares of a periodic Hann window of N > 2 samples sum to 3 N / 8.
    return 3 * dialect.win_length / 8


DIALECT_NAMES: tuple[str, ...] = tuple(DIALECTS)


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
) -> MelDialect:
    """Look up a dialect by name, or derive it at another rate, hop or size; None keeps what the name stands for.

    What the name ties together stays tied: an f_max of half the rate follows the rate, a window as long as the frame
    follows n_fft, and a hop too long for the frame (over half a window) brings a frame of at least four hops.

    Raises:
        ParameterError: if the name is unknown, or the values cannot fit together.

    Example:
        >>> dialect("hifigan").f_max
        8000.0
        >>> dialect("diffwave", sample_rate=44100).f_max
        22050.0
        >>> dialect("vocos", sample_rate=16000, hop_length=1000).win_length
        4096
    """
    if name not in DIALECTS:
        raise ParameterError(f"dialect {name!r} is unknown; there are {', '.join(DIALECT_NAMES)}")
    values = dict(DIALECTS[name])
    base_n_fft, base_win_length = values["n_fft"], values["win_length"]
    given = {"sample_rate": sample_rate, "n_mels": n_mels, "f_min": f_min, "f_max": f_max}
    values.update({key: value for key, value in given.items() if value is not None})
    hop = values["hop_length"] if hop_length is None else hop_length
    whole = base_n_fft == base_win_length
    if n_fft is None and win_length is None:
        fits = 2 * hop <= base_win_length
        n_fft = base_n_fft if fits else _power_of_two(4 * hop)
        win_length = base_win_length if fits else n_fft if whole else 4 * hop
    elif win_length is None:
        assert n_fft is not None
        win_length = n_fft if whole else round(base_win_length * n_fft / base_n_fft)
    elif n_fft is None:
        n_fft = base_n_fft if win_length <= base_n_fft else _power_of_two(win_length)
    values |= {"n_fft": n_fft, "hop_length": hop, "win_length": win_length}
    if values["f_max"] is None:
        values["f_max"] = values["sample_rate"] / 2
    values |= {"f_min": float(values["f_min"]), "f_max": float(values["f_max"])}
    result = MelDialect(name=name, **values)
    _filters(result)
    return result


def explain(mel: Float[Tensor, "*batch bands frames"]) -> dict[str, str | None]:
    """Say of each dialect why an array cannot be a mel of it, or None where it can.

    Example:
        >>> [name for name, objection in explain(torch.full((80, 10), 0.4)).items() if objection is None]
        ['diffwave']
    """
    return {name: _named(name)._objection(mel) for name in DIALECT_NAMES}


def ensure_same(
    stated: MelDialect, wanted: MelDialect, *, name: str, remedy: str = "make the mel again with that dialect"
) -> None:
    """Refuse a mel made in another dialect than the one it is used in.

    Args:
        name: what to call the mel, or what takes it, in the message.
        remedy: what to do about it.

    Raises:
        MelError: naming the first field that differs.
    """
    for field in fields(MelDialect):
        a, b = getattr(stated, field.name), getattr(wanted, field.name)
        # tacotron2 and speechbrain are one set of numbers under two names.
        if field.name != "name" and a != b:
            raise MelError(
                f"{name} has {field.name}={a} (dialect {stated.name}), but {field.name}={b} (dialect {wanted.name}) is "
                f"wanted; {remedy}"
            )


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


@lru_cache(maxsize=32)
def _named(name: str) -> MelDialect:
    return dialect(name)


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
