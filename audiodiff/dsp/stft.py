"""The short-time Fourier transform and its least-squares inverse, with any padding.

torch.istft refuses center=False with a Hann window, whose first sample is zero; the mel dialects need that case, so
overlap-add is done here. Both directions are linear in their input and differentiable.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from audiodiff.dsp.constants import cached_tensors
from audiodiff.errors import ParameterError

PadMode = Literal["reflect", "constant"]

GROUP_FRAMES = 256
"""Frames that are processed at once, so that their data stay in the cache."""

# Below this share of the window's peak, dividing by the sum of squared windows would make a spectrum that is not the
# STFT of a signal click. Such samples are divided by this threshold instead, and so fade out.
_MIN_ENVELOPE = 1e-3


@dataclass(frozen=True)
class Stft:
    """X[k, m] = sum_n w[n] x[n + m hop_length - padding] exp(-2 pi i k n / n_fft), with a periodic Hann window.

    Args:
        n_fft: length of a frame and of its transform, in samples; bins = n_fft // 2 + 1.
        hop_length: samples from one frame to the next.
        win_length: length of the window, at most n_fft, centred in the frame.
        padding: samples added on either side of the signal; n_fft // 2 corresponds to center=True elsewhere.
        pad_mode: "reflect" mirrors the signal, repeatedly if it is short; "constant" is silence.

    Raises:
        ParameterError: if the lengths do not fit together.

    Example:
        >>> stft = Stft(n_fft=1024, hop_length=256, win_length=1024, padding=384, pad_mode="reflect")
        >>> audio = torch.randn(2, 5000)
        >>> spectrum = stft.forward(audio)
        >>> spectrum.shape
        torch.Size([2, 513, 19])
        >>> torch.allclose(stft.inverse(spectrum, length=5000), audio, atol=1e-5)
        True
    """

    n_fft: int
    hop_length: int
    win_length: int
    padding: int
    pad_mode: PadMode

    def __post_init__(self) -> None:
        if self.n_fft < 2 or self.n_fft % 2:
            raise ParameterError(f"n_fft={self.n_fft} must be even and positive")
        if not 1 <= self.win_length <= self.n_fft:
            raise ParameterError(f"win_length={self.win_length} must lie between 1 and n_fft={self.n_fft}")
        if not 1 <= self.hop_length <= self.win_length:
            raise ParameterError(f"hop_length={self.hop_length} must lie between 1 and win_length={self.win_length}")
        if self.padding < 0:
            raise ParameterError(f"padding={self.padding} must not be negative")
        if self.pad_mode not in ("reflect", "constant"):
            raise ParameterError(f"pad_mode={self.pad_mode!r} must be 'reflect' or 'constant'")

    def n_frames(self, n_samples: int) -> int:
        """Count the frames of a signal: 1 + floor((n_samples + 2 padding - n_fft) / hop_length), and at least one."""
        if n_samples < 1:
            raise ParameterError(f"n_samples={n_samples} must be positive: there is no audio to analyse")
        return max(1, 1 + (n_samples + 2 * self.padding - self.n_fft) // self.hop_length)

    def forward(self, audio: Float[Tensor, "*batch time"]) -> Complex[Tensor, "*batch bins frames"]:
        """Transform audio to its complex spectrum."""
        return self.analyse(audio).mT

    def inverse(self, spectrum: Complex[Tensor, "*batch bins frames"], *, length: int) -> Float[Tensor, "*batch time"]:
        """Find the signal whose STFT is nearest to the spectrum in the least-squares sense (Griffin & Lim 1984, eq. 6).

        Args:
            length: number of samples of the result; its n_frames must be the spectrum's.

        Raises:
            ParameterError: if the spectrum's shape and length do not fit together.
        """
        return self.synthesise(spectrum.mT, length=length)

    def analyse(self, audio: Float[Tensor, "*batch time"]) -> Complex[Tensor, "*batch frames bins"]:
        """Transform audio: forward with the last two dimensions swapped, as they lie in memory."""
        frames = self.pad(audio).unfold(-1, self.n_fft, self.hop_length)
        return torch.fft.rfft(frames * window_of(self, audio.dtype, audio.device))

    def synthesise(
        self, spectrum: Complex[Tensor, "*batch frames bins"], *, length: int
    ) -> Float[Tensor, "*batch time"]:
        """Invert analyse: overlap-add of windowed frames, divided by the sum of squared windows."""
        n_frames, bins = spectrum.shape[-2:]
        if bins != self.n_fft // 2 + 1:
            raise ParameterError(f"spectrum has {bins} bins, but n_fft={self.n_fft} makes {self.n_fft // 2 + 1}")
        if n_frames != self.n_frames(length):
            raise ParameterError(f"spectrum has {n_frames} frames, but length={length} makes {self.n_frames(length)}")
        frames = torch.fft.irfft(spectrum, n=self.n_fft)
        frames = frames * window_of(self, frames.dtype, frames.device)
        total = self.overlap_add(frames)[..., self.padding : self.padding + length]
        total = F.pad(total, (0, length - total.shape[-1]))
        return total * synthesis_gain(self, length, frames.dtype, frames.device)

    def unpadded_gain(self, real: Bool[Tensor, "batch frames"], *, length: int) -> Float[Tensor, "batch time"]:
        """Return the gain that makes `synthesise` of a batch with added frames equal that of the real frames alone.

        Args:
            real: False for frames that were added, and are zero.
            length: as in `synthesise`.
        """
        squared = window_of(self, torch.float32, real.device).square()
        envelope = self.overlap_add(real.float()[..., None] * squared)[..., self.padding : self.padding + length]
        envelope = F.pad(envelope, (0, length - envelope.shape[-1]))
        envelope = torch.maximum(envelope, _MIN_ENVELOPE * squared.max())
        return 1.0 / (envelope * synthesis_gain(self, length, torch.float32, real.device))

    def transformed(
        self,
        audio: Float[Tensor, "time"],
        change: Callable[[Tensor, slice], None],
        *,
        n_frames_at_once: int = GROUP_FRAMES,
        first_frame: int = 0,
    ) -> Float[Tensor, "time"]:
        """Analyse audio, change the spectra and synthesise, a few frames at a time so that the data stays in cache.

        Args:
            change: called with spectra (frames, bins), to be changed in place, and the slice of frames that they are.
            n_frames_at_once: affects only speed and rounding.
            first_frame: number of the first frame in a longer signal, which is then processed in the same groups.
        """
        length, hop = audio.shape[-1], self.hop_length
        window = window_of(self, audio.dtype, audio.device)
        frames = self.pad(audio).unfold(-1, self.n_fft, hop)
        n_frames, n_segments = len(frames), -(-self.n_fft // hop)
        total = audio.new_zeros(n_frames + n_segments - 1, hop)
        for part in frame_groups(n_frames, size=n_frames_at_once, first_frame=first_frame):
            spectrum = torch.fft.rfft(frames[part] * window)
            change(spectrum, part)
            changed = torch.fft.irfft(spectrum, n=self.n_fft).mul_(window)
            self._add(changed, total[part.start : part.stop + n_segments - 1])
        result = total.view(-1)[self.padding : self.padding + length]
        if len(result) < length:
            result = F.pad(result, (0, length - len(result)))
        return result.mul_(synthesis_gain(self, length, audio.dtype, audio.device))

    def between_frames(
        self,
        values: Float[Tensor, "batch frames"],
        *,
        n_samples: int,
        mix: Callable[[Tensor, Tensor, Tensor], Tensor] = torch.lerp,
    ) -> Float[Tensor, "batch time"]:
        """Interpolate values of frames to samples, between the centres of the frames; outside of them the values stay.

        Args:
            values: one for each frame.
            n_samples: of the result.
            mix: (values of the frames before, those after, fraction of the way) -> values between.
        """
        hop, n_frames = self.hop_length, values.shape[-1]
        n_before = hop - (self.n_fft // 2 - self.padding)  # samples of the first hop to a centre that are not there
        n_after = (n_before + n_samples + hop - 1) // hop - n_frames
        ends = torch.cat([values[:, :1], values, values[:, -1:].expand(-1, n_after)], dim=1)[..., None]
        fraction = (torch.arange(hop, dtype=values.dtype, device=values.device) + 0.5) / hop
        return mix(ends[:, :-1], ends[:, 1:], fraction).flatten(1)[:, n_before : n_before + n_samples]

    def pad(self, audio: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch padded"]:
        """Pad both sides, and the right side further if the signal would not fill one frame."""
        n_samples = audio.shape[-1]
        right = self.padding + max(0, self.n_fft - n_samples - 2 * self.padding)
        self.n_frames(n_samples)
        if right == 0:
            return audio
        if self.pad_mode == "constant":
            return F.pad(audio, (self.padding, right))
        if right < n_samples:
            padded = F.pad(audio.reshape(1, -1, n_samples), (self.padding, right), mode="reflect")
            return padded.reshape(*audio.shape[:-1], -1)
        period = max(1, 2 * (n_samples - 1))
        position = torch.arange(-self.padding, n_samples + right, device=audio.device) % period
        return audio[..., torch.where(position < n_samples, position, period - position)]

    def overlap_add(self, frames: Float[Tensor, "*batch frames n_fft"]) -> Float[Tensor, "*batch padded"]:
        """Add frames at steps of hop_length samples, one segment of a hop at a time."""
        n_frames, hop = frames.shape[-2], self.hop_length
        n_segments = -(-self.n_fft // hop)
        total = frames.new_zeros(*frames.shape[:-2], n_frames + n_segments - 1, hop)
        self._add(frames, total)
        return total.flatten(-2)[..., : (n_frames - 1) * hop + self.n_fft]

    def _add(self, frames: Tensor, total: Tensor) -> None:
        """Add frames (..., frames, n_fft) to segments of a hop each, (..., frames + n_segments - 1, hop)."""
        n_frames, hop = frames.shape[-2], self.hop_length
        n_segments = -(-self.n_fft // hop)
        if n_segments * hop != self.n_fft:
            frames = F.pad(frames, (0, n_segments * hop - self.n_fft))
        segments = frames.unflatten(-1, (n_segments, hop))
        for k in range(n_segments):
            total.narrow(-2, k, n_frames).add_(segments.select(-2, k))


def frame_groups(n_frames: int, *, size: int = GROUP_FRAMES, first_frame: int = 0) -> Iterator[slice]:
    """Divide frames into groups of a size, as those of a longer signal are whose frame of this number is the first."""
    for boundary in range(-(first_frame % size), n_frames, size):
        yield slice(max(0, boundary), min(boundary + size, n_frames))


@cached_tensors(maxsize=32)
def transform_matrices(
    stft: Stft, first_bin: int, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "n_fft parts"], Float[Tensor, "parts segments"]]:
    """Return the transform of a frame and its inverse as matrices, both with the window.

    For short frames they are as fast as an FFT, and do more in one step.

    Args:
        stft: of the frames.
        first_bin: the first bin that counts; lower ones are taken as zero.
        dtype: of the matrices.
        device: see dtype.

    Returns: the matrix from samples to the real parts of all bins followed by the imaginary ones, and the one back,
        with zeros to whole hops.
    """
    with torch.inference_mode(False):
        window = window_of(stft, torch.float64, torch.device("cpu"))
        bins = torch.arange(first_bin, stft.n_fft // 2 + 1, dtype=torch.float64)
        angle = 2 * math.pi / stft.n_fft * torch.arange(stft.n_fft, dtype=torch.float64)[:, None] * bins
        parts = torch.cat([angle.cos(), -angle.sin()], dim=1) * window[:, None]
        twice = torch.where((bins == 0) | (bins == stft.n_fft // 2), 1.0, 2.0).repeat(2)
        back = F.pad((parts * twice / stft.n_fft).mT, (0, -stft.n_fft % stft.hop_length))
        return parts.to(device, dtype), back.contiguous().to(device, dtype)


@cached_tensors(maxsize=32)
def window_of(stft: Stft, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "n_fft"]:
    """Return the window of a frame."""
    # The cached tensor may be used in training later, which a tensor made in inference mode could not.
    with torch.inference_mode(False):
        left = (stft.n_fft - stft.win_length) // 2
        window = torch.hann_window(stft.win_length, periodic=True, dtype=torch.float64)
        return F.pad(window, (left, stft.n_fft - stft.win_length - left)).to(device, dtype)


@cached_tensors(maxsize=8)
def synthesis_gain(stft: Stft, length: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "time"]:
    """Return the gain of samples after overlap-add, without the padding: one over the sum of squared windows."""
    with torch.inference_mode(False):
        squared = window_of(stft, torch.float64, torch.device("cpu")).square()
        envelope = stft.overlap_add(squared.expand(stft.n_frames(length), stft.n_fft))
        envelope = envelope[stft.padding : stft.padding + length]
        envelope = F.pad(envelope, (0, length - envelope.shape[-1]))
        # Samples that no frame covers are silent: the numerator is zero there.
        return torch.maximum(envelope, _MIN_ENVELOPE * squared.max()).reciprocal().to(device, dtype)
