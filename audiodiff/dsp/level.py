"""Active speech level, the RMS without pauses, and gains that bring recordings to a level."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

FRAME_SECONDS = 0.032
DYNAMIC_DB = 30.0
"""Frames further below the loudest frame are pauses."""


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


class LevelMeter:
    """Measure the gain of `gain_to` for a recording that arrives in blocks.

    Args:
        sample_rate: in Hz.

    Example:
        >>> meter = LevelMeter(sample_rate=16000)
        >>> for block in torch.full((1, 16000), 0.3).split(700, dim=-1):
        ...     meter.add(block)
        >>> meter.gain_to(0.07)
        0.25
    """

    def __init__(self, *, sample_rate: int) -> None:
        self._frame = max(1, round(FRAME_SECONDS * sample_rate))
        self._energies: list[Tensor] = []
        self._rest: Tensor | None = None

    def add(self, audio: Float[Tensor, "channels _"]) -> None:
        """Add the next block."""
        held = audio if self._rest is None else torch.cat([self._rest, audio], dim=-1)
        whole = held.shape[-1] // self._frame * self._frame
        self._energies.append(held[:, :whole].unflatten(-1, (-1, self._frame)).square().mean(dim=-1))
        self._rest = held[:, whole:].clone()

    def gain_to(self, level: float | None) -> float:
        """Return the gain for all blocks so far, of which there must be at least one."""
        assert self._rest is not None
        energy = torch.cat(self._energies, dim=-1)
        if energy.shape[-1] == 0:
            energy = self._rest.square().mean(dim=-1, keepdim=True)
        return _gain(level, _active(energy))


def _active(energy: Float[Tensor, "*batch frames"]) -> Float[Tensor, "*batch"]:
    """Return the RMS over the frames that are not pauses."""
    active = energy >= 10.0 ** (-DYNAMIC_DB / 10.0) * energy.amax(dim=-1, keepdim=True)
    return ((energy * active).sum(dim=-1) / active.sum(dim=-1)).sqrt()


def _gain(level: float | None, rms: Float[Tensor, "*batch"]) -> float:
    """Return the power of two nearest to level / rms; 1 for silence, or where no level is wanted."""
    overall = float(rms.square().mean().sqrt())
    return 1.0 if level is None or overall == 0.0 else 2.0 ** round(math.log2(level / overall))
