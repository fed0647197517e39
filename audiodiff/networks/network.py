"""The interface of networks: F(x, c_noise, condition), with the condition encoded once for all noise levels."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from audiodiff.condition import Condition
from audiodiff.errors import ParameterError
from audiodiff.types import ReceptiveField, Signal


class Network(nn.Module, ABC):
    """Predict from a scaled noisy signal; a denoiser calls encode once per signal and forward once per step."""

    @property
    @abstractmethod
    def receptive_field(self) -> ReceptiveField:
        """Samples of x, or of the audio that the condition describes, that an output depends on before and after it."""

    @property
    def alignment(self) -> int:
        """Samples by whose multiples a shift of x shifts the result: the hop length, for a network with frames."""
        return 1

    @abstractmethod
    def encode(self, condition: Condition) -> Condition:
        """Compute what does not depend on the noise level, for example upsampled mels.

        Raises:
            ParameterError: if the condition lacks a field that the network needs, or the field has a wrong size.
        """

    @abstractmethod
    def forward(self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition) -> Signal:
        """Compute F of the scaled input c_in * x, the clock of the noise level, and an encoded condition."""


def frames_of(condition: Condition, *, n_bands: int) -> Float[Tensor, "batch bands frames"]:
    """Return the frames of a condition.

    Raises:
        ParameterError: if there are none, or of another number of bands.
    """
    frames = condition.frames
    if frames is None or frames.shape[1] != n_bands:
        given = "None" if frames is None else f"of {frames.shape[1]} bands"
        raise ParameterError(f"condition.frames is {given}: this network needs frames of {n_bands} bands")
    return frames
