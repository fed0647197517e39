"""Training examples: the clean signal and the condition that a model makes of recordings."""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from audiodiff.condition import Condition
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.window_sampler import prefix_mask
from audiodiff.types import Mel, Signal, Waveform


def training_example(
    model: Synthesizer,
    audio: Waveform,
    *,
    n_valid: Int[Tensor, "batch"] | None = None,
    labels: Int[Tensor, "batch labels"] | None = None,
    mel: Mel | None = None,
) -> tuple[Signal, Condition]:
    """Return the clean signal x0 and the condition of training examples.

    Args:
        model: the model that is trained.
        audio: the examples.
        n_valid: samples of each before its padding, where x0 is zero and the condition's mask False; None for all.
        labels: places of their labels in the vocabularies of the conditioner, -1 where one is not known.
        mel: of another system, for a model that is conditioned on a mel; None is that of the audio.
    """
    condition = model.conditioner(audio, labels)
    if mel is not None:
        condition = replace(condition, frames=mel)
    if n_valid is None or bool((n_valid >= audio.shape[-1]).all()):
        return model.representation.encode(audio), condition
    # One by one, so that the analysis at an end does not see the padding.
    clips = [clip[None, :, :n] for clip, n in zip(audio, n_valid.tolist(), strict=True)]
    if condition.frames is not None and mel is None:
        n_frames = condition.frames.shape[-1]
        frames = [own for clip in clips if (own := model.conditioner(clip).frames) is not None]
        # A network that interpolates between frames sees the last one beyond it, as without padding.
        padded = [F.pad(own, (0, n_frames - own.shape[-1]), mode="replicate") for own in frames]
        condition = replace(condition, frames=torch.cat(padded))
    encoded = [model.representation.encode(clip) for clip in clips]
    length = model.representation.length(audio.shape[-1])
    x0 = torch.cat([F.pad(signal, (0, length - signal.shape[-1])) for signal in encoded])
    return x0, replace(
        condition, mask=prefix_mask([signal.shape[-1] for signal in encoded], n_steps=length, device=x0.device)
    )
