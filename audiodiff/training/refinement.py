"""Refinement: train one step from an inversion of the mel to the recording."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.corruption.corruption import uniform
from audiodiff.diffusion.density import SigmaDistribution
from audiodiff.diffusion.objective import Objective
from audiodiff.dsp.inversion import invert
from audiodiff.dsp.mel import MelDialect
from audiodiff.errors import ParameterError, check_whole
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.training.step import Float32Batch, Losses, TrainingStep, noise_like
from audiodiff.types import Mel, Sigma, Signal, Waveform


class Refinement(TrainingStep):
    """Predict recordings from inversions of their mels.

    The phases of an inversion come from noise, so that samples cannot be predicted; with an objective of magnitudes,
    `objective=mrstft`, the network keeps the phases of its input.

    Args:
        synthesizer: a model with `model.warm_start=true`.
        objective: the loss of a prediction.
        density: the distribution of sigma, the level of the noise added to the inversion.
        n_iterations: numbers of iterations of the mel constraint; each batch draws one.
        spread_db: levels of examples are varied by up to this much, below full scale.

    Raises:
        ParameterError: if the model does not start from a mel, or a number of iterations is out of range.
    """

    def __init__(
        self,
        *,
        synthesizer: Synthesizer,
        objective: Objective,
        density: SigmaDistribution,
        n_iterations: Sequence[int],
        spread_db: float = 8.0,
    ) -> None:
        super().__init__(synthesizer=synthesizer, objective=objective, density=density)
        if not synthesizer.warm_start or synthesizer.dialect is None:
            raise ParameterError("method=refinement trains a model that starts from a mel: set model.warm_start=true")
        if not n_iterations:
            raise ParameterError("method.n_iterations=[] must name a number of iterations, as [2, 8] does")
        for n in n_iterations:
            check_whole(n, name="method.n_iterations", least=1)
        if spread_db < 0.0:
            raise ParameterError(f"spread_db={spread_db} must not be negative")
        self.dialect = synthesizer.dialect
        self.n_iterations = tuple(n_iterations)
        self.spread_db = spread_db

    def forward(self, batch: Float32Batch, generator: torch.Generator) -> tuple[Losses, Losses, Sigma]:
        with torch.autocast(batch.audio.device.type, enabled=False), torch.no_grad():
            x0, condition = self._example(self._varied(batch, generator), generator)
            place = int(torch.randint(len(self.n_iterations), (), generator=generator, device=generator.device))
            assert condition.frames is not None
            start = first_guess(
                batch.audio,
                condition.frames,
                synthesizer=self.synthesizer,
                n_iterations=self.n_iterations[place],
                generator=generator,
            )
            sigma = self.density(len(x0), generator=generator).to(x0)
            x = self._noisy(start, sigma, condition, generator)
        prediction = self.synthesizer.denoiser(x, sigma, condition)
        with torch.autocast(batch.audio.device.type, enabled=False):
            return self._weighted(self._losses(prediction, x0, x, sigma, condition), sigma)

    def _varied(self, batch: Float32Batch, generator: torch.Generator) -> Float32Batch:
        """Return the batch at varied levels."""
        gain = 10.0 ** (uniform(len(batch.audio), -self.spread_db, self.spread_db, generator) / 20.0)
        peak = batch.audio.abs().amax(dim=(1, 2)).clamp(min=1e-4)
        gain = torch.minimum(gain.to(peak), 1.0 / peak)[:, None, None]
        mel = None if batch.mel is None else self.dialect.compress(self.dialect.amplitude(batch.mel) * gain)
        return Float32Batch(batch.audio * gain, batch.n_valid, batch.labels, mel)


def first_guess(
    audio: Waveform, mel: Mel, *, synthesizer: Synthesizer, n_iterations: int, generator: torch.Generator
) -> Signal:
    """Return the inversions of mels that sampling with warm_start begins with, as long as the audio."""
    assert synthesizer.dialect is not None
    noise = noise_like(audio, generator)[:, 0]
    inverted = inverted_together(noise, mel, dialect=synthesizer.dialect, n_iterations=n_iterations)
    return synthesizer.representation.encode(inverted[:, None])


def inverted_together(
    noise: Float[Tensor, "batch time"], mel: Mel, *, dialect: MelDialect, n_iterations: int
) -> Float[Tensor, "batch time"]:
    """Invert a batch of mels, joined to one long sound if possible, which is several times faster.

    Two frames on either side of a joint then differ slightly from a separate inversion.
    """
    n_items, n_samples = noise.shape
    if mel.shape[-1] * dialect.hop_length != n_samples or dialect.n_frames(
        n_items * n_samples
    ) * dialect.hop_length != (n_items * n_samples):
        return invert(noise, mel, dialect=dialect, n_iterations=n_iterations)
    joined = invert(
        noise.reshape(1, -1), mel.movedim(0, 1).reshape(1, mel.shape[1], -1), dialect=dialect, n_iterations=n_iterations
    )
    return joined.reshape(n_items, n_samples)
