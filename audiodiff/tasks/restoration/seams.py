"""Seams between known and restored samples."""

import torch
from jaxtyping import Float
from torch import Tensor

FADE_SECONDS = 0.002


def splice(
    recording: Float[Tensor, "channels time"],
    restored: Float[Tensor, "channels time"],
    known: Float[Tensor, "channels time"],
    *,
    sample_rate: int,
) -> Float[Tensor, "channels time"]:
    """Return the recording where it is known and the restored samples elsewhere, without a step between them.

    The difference of the two at a known sample, which resampling leaves at high frequencies, is added to the restored
    samples beside it and fades over 2 ms; across a shorter gap it is interpolated from one side to the other.

    Example:
        >>> recording, known = torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[1.0, 0.0, 1.0]])
        >>> splice(recording, torch.tensor([[0.0, 5.0, 0.0]]), known, sample_rate=8000)
        tensor([[1., 7., 3.]])
    """
    n_samples = recording.shape[-1]
    is_known = known != 0
    place = torch.arange(n_samples, device=recording.device).expand_as(recording)
    before = torch.where(is_known, place, -1).cummax(dim=-1).values
    after = torch.where(is_known, place, n_samples).flip(-1).cummin(dim=-1).values.flip(-1)
    fade = (after - before).clamp(max=max(2, round(FADE_SECONDS * sample_rate)))
    error = torch.where(is_known, recording - restored, 0.0)
    for edge, distance in ((before, place - before), (after, after - place)):
        of_edge = error.gather(-1, edge.clamp(0, n_samples - 1)) * ((edge >= 0) & (edge < n_samples))
        restored = restored + of_edge * (1.0 - distance / fade).clamp(min=0.0)
    return torch.where(is_known, recording, restored)


def proximity(known: Float[Tensor, "*batch time"], *, sample_rate: int, seconds: float) -> Float[Tensor, "*batch time"]:
    """Return the proximity of a known sample: 1 at it and beside it, falling as a raised cosine to 0 at a distance.

    Args:
        known: 1 where a sample is known, otherwise 0.
        sample_rate: in Hz.
        seconds: the distance.

    Example:
        >>> proximity(torch.tensor([1.0, 0.0, 0.0, 0.0]), sample_rate=8000, seconds=2 / 8000)
        tensor([1.0000, 1.0000, 0.5000, 0.0000])
    """
    n_samples = known.shape[-1]
    place = torch.arange(n_samples, device=known.device).expand_as(known)
    before = torch.where(known != 0, place, -n_samples).cummax(dim=-1).values
    after = torch.where(known != 0, place, 2 * n_samples).flip(-1).cummin(dim=-1).values.flip(-1)
    distance = torch.minimum(place - before, after - place).clamp(min=1) - 1
    return 0.5 + 0.5 * torch.cos(torch.pi * (distance / (seconds * sample_rate)).clamp(max=1.0))
