"""What every network is: F(x, c_noise, condition), with the part that does not depend on sigma made once."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.condition import Condition
from audiodiff.types import ReceptiveField, Signal


class Network(nn.Module, ABC):
    """Predict from a scaled noisy signal; a denoiser calls encode once per utterance and forward once per step."""

    @property
    @abstractmethod
    def receptive_field(self) -> ReceptiveField:
        """How many samples of x, or of what its condition stands for, an output depends on at most, to either side."""

    @property
    def alignment(self) -> int:
        """Samples by whose multiples x may be shifted without another result: the hop of a network that has frames."""
        return 1

    @abstractmethod
    def encode(self, condition: Condition) -> Condition:
        """Compute what does not depend on the noise level: upsampled mels, embedded tokens.

        Raises:
            ParameterError: if the condition lacks a field that the network needs, or has it in another size.
        """

    @abstractmethod
    def forward(self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition) -> Signal:
        """Compute F for the scaled input c_in * x, the noise level's clock and an encoded condition."""
