"""What makes sound of a mel spectrogram, after the stage that made the mel: a vocoder, or an inversion."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from torch import nn

from audiodiff.diffusion.noise import Seed
from audiodiff.dsp.mel import MelDialect
from audiodiff.models.chunking import ChunkPlan, Renderer


class Vocoder(nn.Module, ABC):
    """Render the mel spectrograms of another model, as its `vocoder`."""

    dialect: MelDialect | None
    """Of the mels that are taken."""

    @property
    @abstractmethod
    def needs_mel(self) -> bool:
        """Whether there is nothing to make sound from but a mel."""

    @property
    @abstractmethod
    def n_steps(self) -> int:
        """Steps of its sampler, 0 where nothing is sampled."""

    @abstractmethod
    def checked_iterations(self, iterations: int | None) -> int:
        """Return the iterations of the inversion that ends a generation, its own number where None.

        Raises:
            ParameterError: if they cannot be so many.
        """

    @abstractmethod
    def cut(self, *, n_iterations: int) -> ChunkPlan | None:
        """Return how its sounds may be cut into pieces, or None where only a whole can be made."""

    @abstractmethod
    def renderer(
        self, *, n_iterations: int, seed: Seed, items: Sequence[int], on_step: Callable[..., None] | None
    ) -> Renderer:
        """Return what makes the sound of a window of mels."""
