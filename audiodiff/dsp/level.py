"""Active speech level, the RMS without pauses; gains that bring recordings to a level; and constant offsets."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

FRAME_SECONDS = 0.032
DYNAMIC_DB = 30.0
"""Frames further below the loudest frame are pauses."""
LEAST_OFFSET = 0.005
"""Least mean, relative to the peak, that is taken as an offset: that of a sound is not quite 0 either."""
_ROUNDING = 1e-5
SETTLING_SECONDS = 0.0067
"""1 / (pi f) at 48 Hz: over a time t, the mean of a sine of f or more is at most its peak / (pi f t)."""


def active_rms(audio: Float[Tensor, "*batch time"], *, sample_rate: int) -> Float[Tensor, "*batch"]:
    """Return the active speech level: the RMS over the frames of 32 ms within 30 dB of the loudest frame.

    Args:
        audio: at least one sample; an incomplete last frame is left out, unless it is the only one.
        sample_rate: in Hz.

    Example:
        >>> audio = torch.cat([0.5 * torch.ones(5120), torch.zeros(5120)])
        >>> active_rms(audio, sample_rate=16000)
        tensor(0.5000)
    """
    frame = min(max(1, round(FRAME_SECONDS * sample_rate)), audio.shape[-1])
    return _active(audio.unfold(-1, frame, frame).square().mean(dim=-1))


def gain_to(level: float | None, audio: Float[Tensor, "*batch time"], *, sample_rate: int) -> float:
    """Return the power of two that brings audio nearest to a level; a power of two, so that it can be undone exactly.

    Args:
        level: wanted RMS of `active_rms` over the whole batch; None gives a gain of 1.
        audio: the recording.
        sample_rate: in Hz.

    Example:
        >>> gain_to(0.07, torch.full((16000,), 0.3), sample_rate=16000)
        0.25
    """
    return _gain(level, active_rms(audio, sample_rate=sample_rate))


def constant_offset(audio: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch 1"]:
    """Return the mean of each signal over time, 0 where it is below 0.5 % of the peak of all.

    Example:
        >>> audio = torch.tensor([0.4, 0.2])
        >>> constant_offset(audio), constant_offset(torch.tensor([1.0, -0.999]))
        (tensor([0.3000]), tensor([0.]))
    """
    return offset_of(audio.mean(dim=-1, keepdim=True), peak=float(audio.abs().amax()))


def offset_of(mean: Float[Tensor, "*batch"], *, peak: float) -> Float[Tensor, "*batch"]:
    """Return the means that are offsets, otherwise 0."""
    return torch.where(mean.abs() > LEAST_OFFSET * peak, mean, 0.0)


class RunningOffset:
    """Remove the constant offset of a signal that arrives in blocks, sample by sample, without delay.

    The mean of all samples so far is removed as far as it exceeds what a sound without an offset may have: 0.5 % of the
    peak, and more at the beginning, where the mean has seen few periods. Such a sound stays as it is, to the bit.

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, *, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._n_samples, self._total, self._peak = 0, 0.0, 0.0

    def remove(self, audio: Float[Tensor, "_"]) -> Float[Tensor, "_"]:
        """Return the next block without its offset."""
        if len(audio) == 0:
            return audio
        samples = audio.double()
        count = torch.arange(self._n_samples + 1, self._n_samples + len(audio) + 1, dtype=torch.float64)
        totals = self._total + samples.cumsum(0)
        peaks = samples.abs().cummax(0).values.clamp(min=self._peak)
        self._n_samples, self._total, self._peak = int(count[-1]), float(totals[-1]), float(peaks[-1])
        mean = totals / count
        allowed = peaks * (LEAST_OFFSET + SETTLING_SECONDS * self._sample_rate / count)
        return audio - (mean.sign() * (mean.abs() - allowed).clamp(min=0.0)).to(audio)


class LevelMeter:
    """Measure the gain of `gain_to` for a recording that arrives in blocks, and its offset, which does not count.

    Args:
        sample_rate: in Hz.

    Example:
        >>> meter = LevelMeter(sample_rate=16000)
        >>> for block in torch.tensor([0.3, -0.3]).repeat(1, 8000).split(700, dim=-1):
        ...     meter.add(block)
        >>> meter.gain_to(0.07)
        0.25
    """

    def __init__(self, *, sample_rate: int) -> None:
        self._frame = max(1, round(FRAME_SECONDS * sample_rate))
        self._energies: list[Tensor] = []
        self._means: list[Tensor] = []
        self._total: Tensor | float = 0.0
        self._n_samples, self._peak = 0, 0.0
        self._rest: Tensor | None = None

    def add(self, audio: Float[Tensor, "channels _"]) -> None:
        """Add the next block."""
        held = audio if self._rest is None else torch.cat([self._rest, audio], dim=-1)
        whole = held.shape[-1] // self._frame * self._frame
        frames = held[:, :whole].unflatten(-1, (-1, self._frame))
        self._energies.append(frames.square().mean(dim=-1))
        self._means.append(frames.mean(dim=-1))
        self._rest = held[:, whole:].clone()
        self._total = self._total + audio.sum(dim=-1, keepdim=True, dtype=torch.float64)
        self._n_samples += audio.shape[-1]
        self._peak = max(self._peak, float(audio.abs().amax())) if audio.shape[-1] else self._peak

    def offset(self) -> Float[Tensor, "channels 1"]:
        """Return the `constant_offset` of all blocks so far, of which there must be at least one."""
        assert isinstance(self._total, Tensor)
        return offset_of((self._total / max(1, self._n_samples)).float(), peak=self._peak)

    def active_rms(self) -> Float[Tensor, "channels"]:
        """Return the `active_rms` of each channel over all blocks so far, of which there must be at least one."""
        assert self._rest is not None
        energy, mean, offset = torch.cat(self._energies, dim=-1), torch.cat(self._means, dim=-1), self.offset()
        if energy.shape[-1] == 0:
            return _active((self._rest - offset).square().mean(dim=-1, keepdim=True))
        centred = energy + offset * (offset - 2.0 * mean)
        return _active(torch.where(centred > _ROUNDING * energy, centred, 0.0))

    def gain_to(self, level: float | None) -> float:
        """Return the gain for all blocks so far, of which there must be at least one."""
        return _gain(level, self.active_rms())


def _active(energy: Float[Tensor, "*batch frames"]) -> Float[Tensor, "*batch"]:
    """Return the RMS over the frames that are not pauses."""
    active = energy >= 10.0 ** (-DYNAMIC_DB / 10.0) * energy.amax(dim=-1, keepdim=True)
    return ((energy * active).sum(dim=-1) / active.sum(dim=-1)).sqrt()


def _gain(level: float | None, rms: Float[Tensor, "*batch"]) -> float:
    """Return the power of two nearest to level / rms; 1 for silence, or where no level is wanted."""
    overall = float(rms.square().mean().sqrt())
    return 1.0 if level is None or overall == 0.0 else 2.0 ** round(math.log2(level / overall))
