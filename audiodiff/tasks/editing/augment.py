"""Data augmentation: varied copies of recordings, drawn with a model of such sounds."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.validation import (
    Labels,
    check_rate,
    checked_items,
    checked_labels,
    checked_recordings,
    without_added_axes,
)
from audiodiff.tasks.editing.edit import check_model, check_strength, edit
from audiodiff.types import Recordings

DEFAULT_STRENGTH = 0.2
COPIES_PER_ITEM = 1 << 20
"""Noise keys reserved for each recording, so that a copy does not depend on how many there are."""


def augment(
    model: Synthesizer,
    audio: Recordings,
    *,
    sample_rate: int,
    n: int,
    strength: float = DEFAULT_STRENGTH,
    labels: Labels | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    seed: int = 0,
    items: Sequence[int] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "*copied_axes time"]:
    """Make n varied copies of each recording by `audiodiff.tasks.editing.edit.edit`, each with its own noise.

    Args:
        model: any that generates from labels or from nothing.
        audio: one recording or a batch.
        sample_rate: of the audio, Hz.
        n: copies of each.
        strength: from 0, the recording encoded and decoded, to 1, a new sound.
        labels: of the recordings and their copies, for a model with labels: one mapping for all, or one for each. At
            a high strength only labels preserve the class.
        steps: as in `edit`, and so for all that follows.
        guidance: see steps.
        seed: see steps.
        items: see steps.
        on_step: see steps.

    Returns: (batch, n, channels, time), without batch and channels where the audio has none.

    Raises:
        ParameterError: if an argument is out of its range or does not suit the model.
    """
    check_whole(n, name="n", least=1)
    model = check_model(model)
    recordings = checked_recordings(audio, sample_rate=sample_rate)
    rows = checked_labels(labels, batch=len(recordings), known=model.labels)
    numbers = checked_items(items, batch=len(recordings))
    copies = edit(
        model,
        recordings.repeat_interleave(n, dim=0),
        sample_rate=sample_rate,
        strength=strength,
        labels=[row for row in rows for _ in range(n)],
        steps=steps,
        guidance=guidance,
        seed=seed,
        items=[number * COPIES_PER_ITEM + copy for number in numbers for copy in range(n)],
        on_step=on_step,
    )
    return without_added_axes(copies.unflatten(0, (len(recordings), n)), given=audio)


class DiffusionAugment(nn.Module):
    """Transform for training loops that replaces random recordings by varied copies; does nothing in evaluation.

    The model is not a submodule: its parameters are neither listed nor saved, and it stays in evaluation mode and on
    its device.

    Args:
        model: any that generates from labels or from nothing.
        sample_rate: of the recordings, Hz.
        strength: as in `augment`.
        p: probability that a recording is replaced.
        steps: of the sampler; None is the model's number.
        generator: chooses the recordings and the noise; None is torch's default.

    Raises:
        ParameterError: if p or strength is not in [0, 1], or the model cannot edit recordings.

    Example:
        >>> import audiodiff
        >>> transform = DiffusionAugment(audiodiff.load("digits-8k"), sample_rate=8000, p=0.5)
        >>> transform.eval()(torch.ones(2, 1, 4000)).mean()
        tensor(1.)
    """

    def __init__(
        self,
        model: Synthesizer,
        *,
        sample_rate: int,
        strength: float = DEFAULT_STRENGTH,
        p: float = 0.5,
        steps: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 <= p <= 1.0:
            raise ParameterError(f"p={p} must be a probability in [0, 1]")
        check_strength(strength)
        check_rate(sample_rate)
        # In a tuple it is not registered as a submodule.
        self._models = (check_model(model),)
        self.sample_rate = sample_rate
        self.strength = strength
        self.p = p
        self.steps = steps
        self.generator = generator

    @property
    def model(self) -> Synthesizer:
        """Model that makes the copies."""
        return self._models[0]

    def forward(self, audio: Recordings, labels: Labels | None = None) -> Recordings:
        """Return the recordings, some of them replaced.

        Args:
            audio: one recording or a batch.
            labels: as in `augment`.

        Returns: audio of the same shape and dtype.

        Raises:
            ParameterError: if the audio or the labels are invalid.
        """
        if not self.training:
            return audio
        recordings = checked_recordings(audio, sample_rate=self.sample_rate)
        generator = self.generator
        device = "cpu" if generator is None else generator.device
        chosen = (torch.rand(len(recordings), generator=generator, device=device) < self.p).nonzero()[:, 0].tolist()
        seed = int(torch.randint(2**62, (), generator=generator, device=device))
        if not chosen:
            return audio
        rows = checked_labels(labels, batch=len(recordings), known=self.model.labels)
        result = audio.clone()[(None,) * (3 - audio.ndim)]
        result[chosen] = edit(
            self.model,
            recordings[chosen],
            sample_rate=self.sample_rate,
            strength=self.strength,
            labels=[rows[index] for index in chosen],
            steps=self.steps,
            seed=seed,
            items=chosen,
        ).to(result.dtype)
        return without_added_axes(result, given=audio)
