"""Networks that make audio of mel frames in one call, without noise: generators of adversarially trained vocoders."""

from abc import abstractmethod

from jaxtyping import Float
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.errors import ParameterError
from audiodiff.networks.network import Network, frames_of
from audiodiff.types import Signal


class FrameVocoder(Network):
    """Map frames to audio, hop_length samples a frame.

    As a network of a denoiser that predicts x0, it gives the same x0 at every noise level, whatever x is: one step of
    any solver returns it.

    Args:
        frame_bands: bands of the frames.
        hop_length: samples per frame.
    """

    def __init__(self, *, frame_bands: int, hop_length: int) -> None:
        super().__init__()
        self.frame_bands = frame_bands
        self.hop_length = hop_length

    @property
    def alignment(self) -> int:
        return self.hop_length

    @abstractmethod
    def vocode(self, frames: Float[Tensor, "batch bands frames"]) -> Float[Tensor, "batch 1 time"]:
        """Return frames * hop_length samples."""

    def encode(self, condition: Condition) -> Condition:
        """Compute the audio; signal of the result holds it."""
        return Condition(signal=self.vocode(frames_of(condition, n_bands=self.frame_bands)))

    def forward(self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition) -> Signal:
        """Return the audio, as long as x.

        Raises:
            ParameterError: if the frames end before x does.
        """
        audio = condition.signal
        covered = 0 if audio is None else audio.shape[-1]
        if audio is None or covered < x.shape[-1]:
            raise ParameterError(
                f"the frames cover {covered} samples and x has {x.shape[-1]}: give more frames or a shorter x"
            )
        return audio[..., : x.shape[-1]].expand_as(x)
