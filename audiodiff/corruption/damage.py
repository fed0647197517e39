"""Low-pass filters, clipping and gaps."""

import torch

from audiodiff.corruption.corruption import Corrupted, Corruption, check_range, uniform
from audiodiff.errors import ParameterError
from audiodiff.types import Waveform


class Untouched(Corruption):
    """Leave recordings unchanged, so that a network learns not to change clean ones."""

    def __call__(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Corrupted:
        return Corrupted(audio, torch.ones_like(audio))


class LowPassed(Corruption):
    """Remove frequencies above a random cutoff, with a slope of random width.

    Args:
        lowest: least cutoff, in Hz.
        highest: greatest cutoff, in Hz; limited to half the sample rate. The cutoff is log-uniform.
        widest_slope: greatest width of the slope above the cutoff, as a share of the cutoff.
    """

    def __init__(self, *, lowest: float = 1500.0, highest: float = 7000.0, widest_slope: float = 0.15) -> None:
        if not 0.0 < lowest <= highest:
            raise ParameterError(f"lowest={lowest} and highest={highest} must satisfy 0 < lowest <= highest")
        check_range(0.0, widest_slope, name="slope", least=0.0, greatest=1.0)
        self.lowest = lowest
        self.highest = highest
        self.widest_slope = widest_slope

    def __call__(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Corrupted:
        ends = torch.tensor([self.lowest, min(self.highest, sample_rate / 2)]).log().tolist()
        cutoff = uniform(len(audio), ends[0], ends[1], generator).exp()[:, None, None]
        slope = uniform(len(audio), 0.0, self.widest_slope, generator)[:, None, None]
        frequency = torch.fft.rfftfreq(audio.shape[-1], 1.0 / sample_rate)
        over = ((frequency - cutoff) / (slope * cutoff).clamp(min=1e-3)).clamp(0.0, 1.0)
        passed = 0.5 + 0.5 * torch.cos(torch.pi * over)
        return Corrupted(
            torch.fft.irfft(torch.fft.rfft(audio) * passed.to(audio), n=audio.shape[-1]), torch.ones_like(audio)
        )


class Clipping(Corruption):
    """Clip at a random share of the peak; clipped samples are not known.

    Args:
        lowest_db: lowest threshold, relative to the peak.
        highest_db: highest threshold, relative to the peak, at most 0.
    """

    def __init__(self, *, lowest_db: float = -26.0, highest_db: float = -3.0) -> None:
        check_range(lowest_db, highest_db, name="db", least=-60.0, greatest=0.0)
        self.lowest_db = lowest_db
        self.highest_db = highest_db

    def __call__(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Corrupted:
        share = 10.0 ** (uniform(len(audio), self.lowest_db, self.highest_db, generator) / 20.0)
        limit = share.to(audio)[:, None, None] * audio.abs().amax(dim=(1, 2), keepdim=True)
        return Corrupted(torch.clamp(audio, -limit, limit), (audio.abs() < limit).to(audio))


class Gaps(Corruption):
    """Silence segments at random positions.

    Args:
        shortest: in seconds.
        longest: in seconds; the length is log-uniform.
        most: greatest number of gaps in an example; the least is one.
    """

    def __init__(self, *, shortest: float = 0.01, longest: float = 0.3, most: int = 3) -> None:
        if not 0.0 < shortest <= longest:
            raise ParameterError(f"shortest={shortest} and longest={longest} must satisfy 0 < shortest <= longest")
        if most < 1:
            raise ParameterError(f"most={most} must be at least 1")
        self.shortest = shortest
        self.longest = longest
        self.most = most

    def __call__(self, audio: Waveform, generator: torch.Generator, *, sample_rate: int) -> Corrupted:
        known = torch.ones_like(audio)
        n_samples = audio.shape[-1]
        ends = torch.tensor([self.shortest, self.longest]).log().tolist()
        for example in known:
            for _ in range(int(torch.randint(1, self.most + 1, (1,), generator=generator))):
                length = round(float(uniform(1, ends[0], ends[1], generator).exp()) * sample_rate)
                first = int(torch.rand(1, generator=generator) * max(1, n_samples - length))
                example[:, first : first + length] = 0.0
        return Corrupted(audio * known, known)
