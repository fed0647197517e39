"""How loud speech is where there is some."""

import math

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
        >>> audio = torch.cat([0.5 * torch.ones(16000), torch.zeros(16000)])
        >>> active_rms(audio, sample_rate=16000)
        tensor(0.5000)
    """
    frame = min(max(1, round(FRAME_SECONDS * sample_rate)), audio.shape[-1])
    energy = audio.unfold(-1, frame, frame).square().mean(dim=-1)
    active = energy >= 10.0 ** (-DYNAMIC_DB / 10.0) * energy.amax(dim=-1, keepdim=True)
    return ((energy * active).sum(dim=-1) / active.sum(dim=-1)).sqrt()


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
    if level is None:
        return 1.0
    loud = float(active_rms(audio, sample_rate=sample_rate).square().mean().sqrt())
    return 1.0 if loud == 0.0 else 2.0 ** round(math.log2(level / loud))
