"""One training example's way to its loss, in one module, so that DDP sees a single forward pass."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audiodiff.condition import Condition
from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.denoiser import Prediction
from audiodiff.diffusion.density import SigmaDistribution
from audiodiff.diffusion.objective import Objective
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.types import Sigma, Signal, Waveform

Losses = Float[Tensor, "batch"]


class Float32Batch:
    """Carry a batch into a wrapped forward as it is: under bf16-mixed, Fabric would round every tensor that it sees.

    Args:
        audio: the examples.
        n_valid: samples of each before its padding; None where there is none.
        labels: places of their labels in the conditioner's vocabularies, -1 where not known; None where there are none.
    """

    def __init__(
        self,
        audio: Waveform,
        n_valid: Int[Tensor, "batch"] | None = None,
        labels: Int[Tensor, "batch labels"] | None = None,
    ) -> None:
        self.audio = audio
        self.n_valid = n_valid
        self.labels = labels


class TrainingStep(nn.Module, ABC):
    """Turn audio into losses: what a way of training is.

    Args:
        synthesizer: the model in training.
        objective: the loss of a prediction.
        density: the distribution of sigma.
    """

    def __init__(self, *, synthesizer: Synthesizer, objective: Objective, density: SigmaDistribution) -> None:
        super().__init__()
        self.synthesizer = synthesizer
        self.objective = objective
        self.density = density

    @abstractmethod
    def forward(self, batch: Float32Batch, generator: torch.Generator) -> tuple[Losses, Losses, Sigma]:
        """Return of each example the loss to be minimised, the objective as it is, and the noise level."""

    def learnt(self) -> Iterable[nn.Parameter]:
        """Return what the optimiser is to change."""
        return self.synthesizer.parameters()

    def state(self) -> Mapping[str, Tensor]:
        """Return what learns beside the model and is not part of it, for a resume."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` has returned."""

    def shown(self) -> Mapping[str, float]:
        """Return further numbers of the last batch, by name, for the curves."""
        return {}

    def dependencies(self) -> Mapping[str, str]:
        """Return what the weights depend on beyond the configuration and the data, by name, for an exact resume."""
        return {}

    def _example(self, batch: Float32Batch, generator: torch.Generator) -> tuple[Signal, Condition]:
        """Return the clean signals x0, zero where they are padding, and a condition of which parts may be left out."""
        x0, condition = self.synthesizer.example(batch.audio, n_valid=batch.n_valid, labels=batch.labels)
        return x0, self.synthesizer.conditioner.dropped(condition, generator)

    def _noisy(self, x0: Signal, sigma: Sigma, condition: Condition, generator: torch.Generator) -> Signal:
        """Return x0 + sigma * eps, zero in the padding."""
        x = x0 + pad_dims_like(sigma, x0) * noise_like(x0, generator)
        return x if condition.mask is None else x * condition.mask.unsqueeze(1)

    def _losses(self, prediction: Prediction, target: Signal, x: Signal, sigma: Sigma, condition: Condition) -> Losses:
        """Return the objective of each example, as the mean over what is not padding: there, all of these are zero.

        Of an objective of frames, the few that reach over a clip's end count a little more than alone.
        """
        losses = self.objective(prediction, target, x, sigma, observed=condition.signal)
        if condition.mask is None:
            return losses
        return losses / condition.mask.to(losses).mean(dim=1)

    def _weighted(self, losses: Losses, sigma: Sigma) -> tuple[Losses, Losses, Sigma]:
        """Weigh losses whose sigma was drawn from the density."""
        plain = losses.detach()
        total = losses * self.density.weight(sigma).to(losses)
        schedule_loss = self.density.schedule_loss(sigma, plain)
        return (total if schedule_loss is None else total + schedule_loss), plain, sigma


class Denoising(TrainingStep):
    """Noise clean signals, denoise them, and say how wrong that was."""

    def forward(self, batch: Float32Batch, generator: torch.Generator) -> tuple[Losses, Losses, Sigma]:
        # Under automatic mixed precision the signal, its mel and the loss stay in float32; only the network does not.
        with torch.autocast(batch.audio.device.type, enabled=False), torch.no_grad():
            x0, condition = self._example(batch, generator)
            sigma = self.density(len(x0), generator=generator).to(x0)
            x = self._noisy(x0, sigma, condition, generator)
        prediction = self.synthesizer.denoiser(x, sigma, condition)
        with torch.autocast(batch.audio.device.type, enabled=False):
            return self._weighted(self._losses(prediction, x0, x, sigma, condition), sigma)


def noise_like(x: Signal, generator: torch.Generator) -> Signal:
    """Draw white Gaussian noise of the shape, dtype and device of x, on the generator's device."""
    return torch.randn(x.shape, generator=generator, device=generator.device).to(x)


def seed_step(*, seed: int, step: int, rank: int) -> torch.Generator:
    """Seed a step's randomness as a pure function of its arguments, so that resume needs no memory of it.

    Returns: the source of the step's noise. Torch's own generators, which dropout draws from, are seeded alike.
    """
    key = ((seed * 1_000_003 + step) * 4_099 + rank) % 2**63
    torch.manual_seed(key)
    generator = torch.Generator()
    generator.manual_seed(key)
    return generator
