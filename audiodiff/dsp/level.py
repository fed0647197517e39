"""How loud speech is where there is some."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

FRAME_SECONDS = 0.032
DYNAMIC_DB = 30.0
"""Frames that are further below the loudest one are pauses."""


def active_rms(audio: Float[Tensor, "*batch time"], *, sample_rate: int) -> Float[Tensor, "*batch"]:
    """Return the RMS over the frames of 32 ms that are within 30 dB of the loudest one.

    Args:
        audio: of one sample at least; what remains after the last whole frame is not looked at, unless there is none.
        sample_rate: in Hz.

    Example:
        >>> audio = torch.cat([0.5 * torch.ones(5120), torch.zeros(5120)])
        >>> active_rms(audio, sample_rate=16000)
        tensor(0.5000)
    """
    frame = min(max(1, round(FRAME_SECONDS * sample_rate)), audio.shape[-1])
    return _active(audio.unfold(-1, frame, frame).square().mean(dim=-1))


def gain_to(level: float | None, audio: Float[Tensor, "*batch time"], *, sample_rate: int) -> float:
    """Return the power of two that brings audio nearest to a level: multiplied and divided by it, samples stay exact.

    Args:
        level: RMS that `active_rms`, over all of the batch, is to have; None asks for no gain.
        audio: the recording.
        sample_rate: in Hz.

    Example:
        >>> gain_to(0.07, torch.full((16000,), 0.3), sample_rate=16000)
        0.25
    """
    return _gain(level, active_rms(audio, sample_rate=sample_rate))


class LevelMeter:
    """Measure what `gain_to` measures of a recording that comes a stretch at a time.

    Args:
        sample_rate: in Hz.

    Example:
        >>> meter = LevelMeter(sample_rate=16000)
        >>> for stretch in torch.full((1, 16000), 0.3).split(700, dim=-1):
        ...     meter.add(stretch)
        >>> meter.gain_to(0.07)
        0.25
    """

    def __init__(self, *, sample_rate: int) -> None:
        self._frame = max(1, round(FRAME_SECONDS * sample_rate))
        self._energies: list[Tensor] = []
        self._rest: Tensor | None = None

    def add(self, audio: Float[Tensor, "channels _"]) -> None:
        """Take the next stretch."""
        held = audio if self._rest is None else torch.cat([self._rest, audio], dim=-1)
        whole = held.shape[-1] // self._frame * self._frame
        self._energies.append(held[:, :whole].unflatten(-1, (-1, self._frame)).square().mean(dim=-1))
        self._rest = held[:, whole:].clone()

    def gain_to(self, level: float | None) -> float:
        """Return the gain for all that came, of which there has to be some."""
        assert self._rest is not None
        energy = torch.cat(self._energies, dim=-1)
        if energy.shape[-1] == 0:
            energy = self._rest.square().mean(dim=-1, keepdim=True)
        return _gain(level, _active(energy))


def _active(energy: Float[Tensor, "*batch frames"]) -> Float[Tensor, "*batch"]:
    """Return the RMS over the frames that are no pauses."""
    active = energy >= 10.0 ** (-DYNAMIC_DB / 10.0) * energy.amax(dim=-1, keepdim=True)
    return ((energy * active).sum(dim=-1) / active.sum(dim=-1)).sqrt()


def _gain(level: float | None, loud: Float[Tensor, "*batch"]) -> float:
    """Return the power of two nearest to level / loud; no gain where nothing is loud, or no level is asked for."""
    together = float(loud.square().mean().sqrt())
    return 1.0 if level is None or together == 0.0 else 2.0 ** round(math.log2(level / together))
