"""Training steps: a module from audio to losses, so that DDP has a single forward pass."""

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
from audiodiff.models.examples import training_example
from audiodiff.models.synthesizer import Synthesizer
from audiodiff.types import Mel, Sigma, Signal, Waveform

Losses = Float[Tensor, "batch"]


class Float32Batch:
    """A batch that Fabric leaves in float32: under bf16-mixed it would round the tensors among the arguments.

    Args:
        audio: the examples.
        n_valid: samples of each before its padding; None without padding.
        labels: indices of their labels in the conditioner's vocabularies, -1 if unknown; None without labels.
        mel: that another system made of them; None is their own.
    """

    def __init__(
        self,
        audio: Waveform,
        n_valid: Int[Tensor, "batch"] | None = None,
        labels: Int[Tensor, "batch labels"] | None = None,
        mel: Mel | None = None,
    ) -> None:
        self.mel = mel
        self.audio = audio
        self.n_valid = n_valid
        self.labels = labels


class TrainingStep(nn.Module, ABC):
    """Base class of training methods, which turn audio into losses.

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
        """Return the loss to minimise, the unweighted objective and the noise level of each example."""

    def trainable(self) -> Iterable[nn.Parameter]:
        """Return the parameters of the optimiser."""
        return self.synthesizer.parameters()

    def state(self) -> Mapping[str, Tensor]:
        """Return the state of what is trained beside the model, for a resume."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""

    def logged(self) -> Mapping[str, float]:
        """Return further numbers of the last batch for the curves, by name."""
        return {}

    def dependencies(self) -> Mapping[str, str]:
        """Return what the weights depend on beyond the configuration and the data, by name, for an exact resume."""
        return {}

    def _example(self, batch: Float32Batch, generator: torch.Generator) -> tuple[Signal, Condition]:
        """Return the clean signals x0, zero in the padding, and a condition of which parts are dropped at random."""
        x0, condition = training_example(
            self.synthesizer, batch.audio, n_valid=batch.n_valid, labels=batch.labels, mel=batch.mel
        )
        return x0, self.synthesizer.conditioner.dropped(condition, generator)

    def _noisy(self, x0: Signal, sigma: Sigma, condition: Condition, generator: torch.Generator) -> Signal:
        """Return x0 + sigma * eps, zero in the padding."""
        eps = self.synthesizer.denoiser.shaped(noise_like(x0, generator), condition)
        x = x0 + pad_dims_like(sigma, x0) * eps
        return x if condition.mask is None else x * condition.mask.unsqueeze(1)

    def _losses(self, prediction: Prediction, target: Signal, x: Signal, sigma: Sigma, condition: Condition) -> Losses:
        """Return the objective of each example as a mean without the padding, where all arguments are zero.

        Frames of an objective that extend beyond the end of a clip have slightly more weight.
        """
        losses = self.objective(prediction, target, x, sigma, observed=condition.signal)
        if condition.mask is None:
            return losses
        return losses / condition.mask.to(losses).mean(dim=1)

    def _weighted(self, losses: Losses, sigma: Sigma) -> tuple[Losses, Losses, Sigma]:
        """Weight losses whose sigma was drawn from the density."""
        plain = losses.detach()
        total = losses * self.density.weight(sigma).to(losses)
        schedule_loss = self.density.schedule_loss(sigma, plain)
        return (total if schedule_loss is None else total + schedule_loss), plain, sigma


class Denoising(TrainingStep):
    """Add noise to clean signals, denoise them, and compare."""

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
    """Seed a step's randomness as a pure function of its arguments, so that a resume needs no random state.

    Returns: the generator of the step's noise. Torch's own generators, which dropout uses, are seeded equally.
    """
    key = ((seed * 1_000_003 + step) * 4_099 + rank) % 2**63
    torch.manual_seed(key)
    generator = torch.Generator()
    generator.manual_seed(key)
    return generator
