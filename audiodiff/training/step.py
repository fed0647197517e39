"""One training example's way to its loss, in one module, so that DDP sees a single forward pass."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.density import Density
from audiodiff.diffusion.objective import Objective
from audiodiff.diffusion.process import share
from audiodiff.synthesizer import Synthesizer
from audiodiff.types import Sigma, Signal, Waveform

Losses = Float[Tensor, "batch"]


class Exact:
    """Carry audio into a wrapped forward as it is: under bf16-mixed, Fabric would round every tensor that it sees."""

    def __init__(self, audio: Waveform) -> None:
        self.audio = audio


class TrainingStep(nn.Module, ABC):
    """Turn audio into losses: what a way of training is.

    Args:
        synthesizer: the model in training.
        objective: the loss of a prediction.
        density: the distribution of sigma.
    """

    def __init__(self, *, synthesizer: Synthesizer, objective: Objective, density: Density) -> None:
        super().__init__()
        self.synthesizer = synthesizer
        self.objective = share(synthesizer.denoiser.schedule, objective)
        self.density = share(synthesizer.denoiser.schedule, density)

    @abstractmethod
    def forward(self, batch: Exact, generator: torch.Generator) -> tuple[Losses, Losses, Sigma]:
        """Return of each example the loss to be minimised, the objective as it is, and the noise level."""

    def dependencies(self) -> Mapping[str, str]:
        """Return what the weights depend on beyond the configuration and the data, by name, for an exact resume."""
        return {}

    def _weighted(self, losses: Losses, sigma: Sigma) -> tuple[Losses, Losses, Sigma]:
        """Weigh losses whose sigma was drawn from the density."""
        plain = losses.detach()
        total = losses * self.density.weight(sigma).to(losses)
        lesson = self.density.lesson(sigma, plain)
        return (total if lesson is None else total + lesson), plain, sigma


class Denoising(TrainingStep):
    """Noise clean signals, denoise them, and say how wrong that was."""

    def forward(self, batch: Exact, generator: torch.Generator) -> tuple[Losses, Losses, Sigma]:
        audio = batch.audio
        # Under automatic mixed precision the signal, its mel and the loss stay in float32; only the network does not.
        with torch.autocast(audio.device.type, enabled=False), torch.no_grad():
            x0, condition = self.synthesizer.example(audio)
            sigma = self.density(len(x0), generator=generator).to(x0)
            x = x0 + pad_dims_like(sigma, x0) * noise_like(x0, generator)
        prediction = self.synthesizer.denoiser(x, sigma, condition)
        with torch.autocast(audio.device.type, enabled=False):
            return self._weighted(self.objective(prediction, x0, x, sigma), sigma)


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
