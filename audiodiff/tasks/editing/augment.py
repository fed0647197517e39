"""Augment training data: varied copies of recordings, as a model of such sounds would have them."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.checked_audio import check_rate
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.models.validation import Labels, checked_items, checked_labels
from audiodiff.tasks.editing.edit import check_audio, check_model, check_strength, edit
from audiodiff.types import Waveform

DEFAULT_STRENGTH = 0.2
COPIES_PER_ITEM = 1 << 20
"""Numbers that a recording has for the noise of its copies: a copy does not depend on how many there are."""


def augment(
    model: Synthesizer,
    audio: Waveform,
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
) -> Float[Tensor, "batch copies channels time"]:
    """Make n varied copies of each recording, by `audiodiff.tasks.editing.edit.edit`, each with noise of its own.

    Args:
        model: any that generates from labels or from nothing.
        audio: the recordings.
        sample_rate: of them, Hz.
        n: copies of each.
        strength: from 0, the recording as the model's representation holds it, to 1, another sound altogether.
        labels: what the recordings are, and the copies are to stay, of a model that knows labels; of all alike, or of
            each. The stronger the edit, the more it is they alone that keep a copy's class.
        steps: as in `edit`, and so is all that follows.
        guidance: see steps.
        seed: see steps.
        items: see steps.
        on_step: see steps.

    Raises:
        ParameterError: if an argument has no meaning for this model or cannot be.
    """
    check_whole(n, name="n", least=1)
    model = check_model(model)
    check_audio(audio, sample_rate=sample_rate)
    rows = checked_labels(labels, batch=len(audio), known=model.labels)
    numbers = checked_items(items, batch=len(audio))
    copies = edit(
        model,
        audio.repeat_interleave(n, dim=0),
        sample_rate=sample_rate,
        strength=strength,
        labels=[row for row in rows for _ in range(n)],
        steps=steps,
        guidance=guidance,
        seed=seed,
        items=[number * COPIES_PER_ITEM + copy for number in numbers for copy in range(n)],
        on_step=on_step,
    )
    return copies.unflatten(0, (len(audio), n))


class DiffusionAugment(nn.Module):
    """Replace some of a batch of recordings by varied copies: a transform for training loops, idle in evaluation.

    The model is no part of the module: its parameters are neither listed nor saved with it, and it stays in evaluation
    and on its device, wherever the module goes.

    Args:
        model: any that generates from labels or from nothing.
        sample_rate: of the recordings, Hz.
        strength: as in `augment`.
        p: probability that a recording is replaced.
        steps: of the sampler; None is the model's number.
        generator: says which recordings and with which noise; None is torch's own.

    Raises:
        ParameterError: if p or strength is not in [0, 1], or recordings cannot be edited with the model.

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
            raise ParameterError(f"p={p} must lie in [0, 1]: it is a probability")
        check_strength(strength)
        check_rate(sample_rate)
        # Within a tuple it is not registered.
        self._models = (check_model(model),)
        self.sample_rate = sample_rate
        self.strength = strength
        self.p = p
        self.steps = steps
        self.generator = generator

    @property
    def model(self) -> Synthesizer:
        """What makes the copies."""
        return self._models[0]

    def forward(self, audio: Waveform, labels: Labels | None = None) -> Waveform:
        """Return the batch with some recordings replaced.

        Args:
            audio: the recordings.
            labels: what they are, as in `augment`.

        Returns: audio of the same shape and dtype.

        Raises:
            ParameterError: if the audio or the labels cannot be edited.
        """
        if not self.training:
            return audio
        check_audio(audio, sample_rate=self.sample_rate)
        generator = self.generator
        device = "cpu" if generator is None else generator.device
        chosen = (torch.rand(len(audio), generator=generator, device=device) < self.p).nonzero()[:, 0].tolist()
        seed = int(torch.randint(2**62, (), generator=generator, device=device))
        if not chosen:
            return audio
        rows = checked_labels(labels, batch=len(audio), known=self.model.labels)
        result = audio.clone()
        result[chosen] = edit(
            self.model,
            audio[chosen],
            sample_rate=self.sample_rate,
            strength=self.strength,
            labels=[rows[index] for index in chosen],
            steps=self.steps,
            seed=seed,
            items=chosen,
        ).to(result.dtype)
        return result
