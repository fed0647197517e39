"""Fine-tuning of a vocoder on generated mels, which differ from those of recordings.

A generated mel has no recording to train on. But the mel of a recording, noised to a level and denoised by the first
stage, is like a generated mel and still fits the recording (as in SDEdit); more noise makes it more like one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.diffusion.density import SigmaDistribution
from audiodiff.diffusion.few_step import euler_step
from audiodiff.diffusion.grid import Grid
from audiodiff.diffusion.objective import Objective
from audiodiff.errors import ParameterError, check_whole
from audiodiff.labels import LabelSet
from audiodiff.models.examples import training_example
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.initial import frozen
from audiodiff.training.state import weights_digest
from audiodiff.training.step import Float32Batch, Losses, TrainingStep
from audiodiff.types import Mel, Sigma

N_LEVELS = 256
"""Steps of the first stage's grid between which noise levels are interpolated."""


class OnGeneratedMels(TrainingStep):
    """Denoise sounds as `Denoising` does, conditioned on mels that the first stage has noised and denoised.

    Args:
        synthesizer: the vocoder, trained before: `train.init_from`.
        objective: the loss of a prediction.
        density: the distribution of the vocoder's sigma.
        first_stage: the trained model of mels.
        vocabularies: values of the labels in the training data; the first stage is given those that it has.
        sigma_max: greatest noise level of a mel, in the first stage's signal. Levels are uniform in the clock of its
            sampler, down to 0.
        n_steps: Euler steps of the first stage's denoising, uniform in the same clock.
        share_true: probability that an example keeps the mel of its recording.

    Raises:
        ParameterError: if the first stage makes no mel, a number is out of its range, or the synthesizer takes no mel.
        MelError: if the two stages have different mel dialects.

    Source: Meng et al. 2022 (SDEdit), algorithm 1, for the noised and denoised mels.
    """

    def __init__(
        self,
        *,
        synthesizer: Synthesizer,
        objective: Objective,
        density: SigmaDistribution,
        first_stage: Synthesizer,
        vocabularies: Mapping[str, Sequence[str]] | None,
        sigma_max: float,
        n_steps: int,
        share_true: float,
    ) -> None:
        super().__init__(synthesizer=synthesizer, objective=objective, density=density)
        first_stage.checked_vocoder(synthesizer)
        check_whole(n_steps, name="method.n_steps", least=1)
        highest = float(_fine(first_stage.sampler.grid)[0])
        if not 0.0 < sigma_max <= highest:
            raise ParameterError(
                f"method.sigma_max={sigma_max} must be positive and at most {highest:.4g}, where the first stage's "
                "sampling starts"
            )
        if not 0.0 <= share_true <= 1.0:
            raise ParameterError(f"method.share_true={share_true} must lie in [0, 1]")
        self.first_stage = first_stage
        self._places = _places(LabelSet(vocabularies or {}), known=first_stage.labels)
        self.sigma_max = sigma_max
        self.n_steps = n_steps
        self.share_true = share_true

    def dependencies(self) -> Mapping[str, str]:
        """Return the digest of the first stage's weights."""
        return {"first_stage": weights_digest(self.first_stage)}

    def forward(self, batch: Float32Batch, generator: torch.Generator) -> tuple[Losses, Losses, Sigma]:
        with torch.autocast(batch.audio.device.type, enabled=False), torch.no_grad():
            x0, condition = self._example(batch, generator)
            condition = replace(condition, frames=self._remade(batch, condition, generator))
            sigma = self.density(len(x0), generator=generator).to(x0)
            x = self._noisy(x0, sigma, condition, generator)
        prediction = self.synthesizer.denoiser(x, sigma, condition)
        with torch.autocast(batch.audio.device.type, enabled=False):
            return self._weighted(self._losses(prediction, x0, x, sigma, condition), sigma)

    def _remade(self, batch: Float32Batch, condition: Condition, generator: torch.Generator) -> Mel:
        """Return the mels that condition the vocoder."""
        true = condition.frames
        assert true is not None
        # Switching the vocoder between training and evaluation also switches the modules inside this one.
        first = self.first_stage.eval()
        signal, given = training_example(first, batch.audio, n_valid=batch.n_valid, labels=self._known(batch.labels))
        chance, keeps = torch.rand(2, len(true), generator=generator, device=generator.device).cpu()
        levels = levels_below(self.sigma_max, chance, grid=first.sampler.grid, n_steps=self.n_steps).to(signal.device)
        x = self._noisy(signal, levels[0], given, generator)
        denoise = first.denoiser.bind(given)
        for sigma, sigma_next in pairwise(levels):
            x = euler_step(denoise, x, sigma, sigma_next)
        _, made = first.representation.decode(x, noise=lambda like, _: like, n_samples=batch.audio.shape[-1])
        assert made is not None
        if given.mask is not None:
            # After the end of a clip its last frame is repeated, as in the mel of the recording.
            last = (given.mask.sum(dim=1) - 1).reshape(-1, 1, 1).expand(-1, made.shape[1], 1)
            made = torch.where(given.mask.unsqueeze(1), made, made.gather(2, last))
        return torch.where((keeps < self.share_true).to(true.device)[:, None, None], true, made)

    def _known(self, labels: Int[Tensor, "batch labels"] | None) -> Int[Tensor, "batch first_stage_labels"] | None:
        """Return labels of the training data by the first stage's indices."""
        if labels is None or self._places is None:
            return None
        unknown = labels.new_full((len(labels),), -1)
        return torch.stack(
            [
                unknown if column is None else torch.tensor([*places, -1], device=labels.device)[labels[:, column]]
                for column, places in self._places
            ],
            dim=1,
        )


def levels_below(
    sigma_max: float, chance: Float[Tensor, "batch"], *, grid: Grid, n_steps: int
) -> Float[Tensor, "levels batch"]:
    """Return noise levels from a random one below sigma_max down to 0, uniform in the clock of a grid.

    Args:
        sigma_max: the greatest first level.
        chance: position of the first level of each example: 0 is sigma_max, 1 is 0.
        grid: defines the clock.
        n_steps: from the first level to 0.

    Example:
        >>> from audiodiff.diffusion.grid import TimeUniform
        >>> from audiodiff.diffusion.process import Flow
        >>> grid = TimeUniform(Flow(noise_scale=1.0), t_start=0.8)
        >>> levels_below(1.0, torch.tensor([0.0, 0.5]), grid=grid, n_steps=2).T  # t = 1/2, 1/4, 0 and 1/4, 1/8, 0
        tensor([[1.0000, 0.3333, 0.0000],
                [0.3333, 0.1429, 0.0000]], dtype=torch.float64)
    """
    sigmas = _fine(grid).numpy()
    clock = numpy.linspace(0.0, 1.0, len(sigmas))
    start = float(numpy.interp(sigma_max, sigmas[::-1], clock[::-1]))
    first = start + (1.0 - start) * chance.double().numpy()
    at = first + (1.0 - first) * numpy.linspace(0.0, 1.0, n_steps + 1)[:, None]
    return torch.from_numpy(numpy.interp(at, clock, sigmas))


def first_stage(where: str | None) -> Synthesizer:
    """Load the trained model of mels, frozen.

    Args:
        where: its checkpoint, or the run folder.

    Raises:
        ParameterError: if there is none.
        CheckpointError: if it is missing or damaged.
    """
    if where is None:
        raise ParameterError("a first stage is needed: give the run folder of a model of mels, first_stage.where=RUN")
    model = frozen(where, name="first_stage.where")
    model.vocoder = None
    return model


def _fine(grid: Grid) -> Float[Tensor, "levels"]:
    return grid(grid.only_steps or N_LEVELS)


def _places(own_labels: LabelSet, *, known: LabelSet | None) -> list[tuple[int | None, list[int]]] | None:
    """Return for each label of a model its column in the data, and its index of each of the data's values."""
    if known is None:
        return None
    found: list[tuple[int | None, list[int]]] = []
    for name, values in known.vocabularies.items():
        own = own_labels.vocabularies.get(name, ())
        column = own_labels.names.index(name) if name in own_labels.names else None
        found.append((column, [values.index(value) if value in values else -1 for value in own]))
    return found
