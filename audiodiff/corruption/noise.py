"""Noise at a random signal-to-noise ratio: recorded, coloured, and babble."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.corruption.corruption import Corrupted, Corruption, check_range, uniform
from audiodiff.errors import ParameterError
from audiodiff.types import Waveform

SILENCE = 1e-5
"""RMS below which a segment is silent."""


def mixed_at_snr(audio: Waveform, noise: Waveform, snr: Float[Tensor, "batch"]) -> Waveform:
    """Add noise at a signal-to-noise ratio, with energies over the whole example.

    Args:
        audio: clean.
        noise: of the same shape; nothing is added if it, or the audio, is silent.
        snr: signal-to-noise ratio of each example, in dB.

    Example:
        >>> audio, noise = torch.ones(1, 1, 4), torch.tensor([[[1.0, -1.0, 1.0, -1.0]]])
        >>> mixed_at_snr(audio, noise, torch.tensor([20.0]))
        tensor([[[1.1000, 0.9000, 1.1000, 0.9000]]])
    """
    rms, noise_rms = (signal.square().mean(dim=(1, 2)).sqrt() for signal in (audio, noise))
    factor = rms / noise_rms.clamp(min=SILENCE) * 10.0 ** (-snr.to(audio) / 20.0)
    return audio + torch.where((rms > SILENCE) & (noise_rms > SILENCE), factor, 0.0)[:, None, None] * noise


class _Noise(Corruption):
    """Add noise at a random signal-to-noise ratio.

    Args:
        lowest_snr: in dB.
        highest_snr: in dB.
    """

    def __init__(self, *, lowest_snr: float = -5.0, highest_snr: float = 20.0) -> None:
        check_range(lowest_snr, highest_snr, name="snr", least=-60.0, greatest=100.0)
        self.lowest_snr = lowest_snr
        self.highest_snr = highest_snr

    @abstractmethod
    def noise(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Waveform:
        """Draw noise of the shape of the audio, at any level."""

    def __call__(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Corrupted:
        snr = uniform(len(audio), self.lowest_snr, self.highest_snr, generator)
        noise = self.noise(audio, generator, sample_rate=sample_rate).to(audio)
        return Corrupted(mixed_at_snr(audio, noise, snr), torch.ones_like(audio))


class RecordedNoise(_Noise):
    """Add random segments of recordings, repeated if they are shorter than the speech.

    Args:
        recordings: mono, at the sample rate of the speech.
        lowest_snr: in dB.
        highest_snr: in dB.
        n_tries: number of draws for a segment that is not silent.
    """

    def __init__(
        self,
        recordings: Sequence[Float[Tensor, "_"]],
        *,
        lowest_snr: float = -5.0,
        highest_snr: float = 20.0,
        n_tries: int = 4,
    ) -> None:
        super().__init__(lowest_snr=lowest_snr, highest_snr=highest_snr)
        if not recordings:
            raise ParameterError("recordings is empty: give at least one recording of noise")
        self.recordings = list(recordings)
        self.n_tries = n_tries

    def noise(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Waveform:
        return torch.stack([self._segment(audio.shape[-1], generator) for _ in audio]).unsqueeze(1)

    def _segment(self, n_samples: int, generator: torch.Generator) -> Float[Tensor, "time"]:
        segment = torch.zeros(n_samples)
        for _ in range(self.n_tries):
            which, where = torch.rand(2, generator=generator).tolist()
            recording = self.recordings[int(which * len(self.recordings))]
            recording = recording.repeat(-(-n_samples // len(recording)))
            first = int(where * (len(recording) - n_samples + 1))
            segment = recording[first : first + n_samples]
            if float(segment.square().mean()) > SILENCE**2:
                break
        return segment


class ColoredNoise(_Noise):
    """Add Gaussian noise with a power spectrum f^-slope, with a random slope from white (0) to brown (2)."""

    def noise(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Waveform:
        n_samples = audio.shape[-1]
        slope = uniform(len(audio), 0.0, 2.0, generator)[:, None, None]
        spectrum = torch.fft.rfft(torch.randn(len(audio), 1, n_samples, generator=generator))
        # Flat below 20 Hz, since the power law diverges.
        frequency = torch.fft.rfftfreq(n_samples, 1.0 / sample_rate).clamp(min=20.0)
        return torch.fft.irfft(spectrum * frequency ** (-slope / 2.0), n=n_samples)


class Babble(_Noise):
    """Add the sum of other examples of the batch, each rotated by a random time.

    Args:
        n_voices: number of other examples; fewer in a smaller batch.
        lowest_snr: in dB.
        highest_snr: in dB.
    """

    def __init__(self, *, n_voices: int = 6, lowest_snr: float = -5.0, highest_snr: float = 20.0) -> None:
        super().__init__(lowest_snr=lowest_snr, highest_snr=highest_snr)
        if n_voices < 1:
            raise ParameterError(f"n_voices={n_voices} must be at least 1")
        self.n_voices = n_voices

    def noise(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Waveform:
        voices = torch.zeros_like(audio)
        for shift in range(1, min(self.n_voices, len(audio) - 1) + 1):
            offset = int(torch.randint(audio.shape[-1], (1,), generator=generator))
            voices = voices + audio.roll(shift, dims=0).roll(offset, dims=-1)
        return voices
