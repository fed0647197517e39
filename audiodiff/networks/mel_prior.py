"""Noise as loud as the mel: the prior of PriorGrad and WaveFM around a network."""

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.condition import Condition
from audiodiff.errors import ParameterError
from audiodiff.networks.network import Network, frames_of
from audiodiff.types import ReceptiveField, Signal


class MelPrior(Network):
    """Wrap a network whose noise has the standard deviation max((e - energy_min) / (energy_max - energy_min), std_min).

    e is the root of the sum over the bands of exp(mel), at most energy_max where is_limited, and is held for the
    samples of a frame. The network itself sees the noise as it is.

    Args:
        network: predicts as if the noise were white, or the noise at its level.
        frame_bands: bands of the mel, in the natural logarithm.
        hop_length: samples per frame.
        energy_min, energy_max: of e.
        std_min: the least standard deviation.
        is_limited: cut e at energy_max, so that the standard deviation is at most 1.

    Source: Lee et al. 2022 (PriorGrad); Luo et al. 2025 (WaveFM).
    """

    def __init__(
        self,
        network: Network,
        *,
        frame_bands: int,
        hop_length: int,
        energy_min: float,
        energy_max: float,
        std_min: float,
        is_limited: bool,
    ) -> None:
        super().__init__()
        if not 0 <= energy_min < energy_max:
            raise ParameterError(f"energy_min={energy_min} must lie between 0 and energy_max={energy_max}")
        if not std_min > 0:
            raise ParameterError(f"std_min={std_min} must be positive")
        self.network = network
        self.frame_bands = frame_bands
        self.hop_length = hop_length
        self.energy_min, self.energy_max, self.std_min = energy_min, energy_max, std_min
        self.is_limited = is_limited

    @property
    def receptive_field(self) -> ReceptiveField:
        own = self.network.receptive_field
        return ReceptiveField(max(own.before, self.hop_length), max(own.after, self.hop_length))

    @property
    def alignment(self) -> int:
        return self.network.alignment

    def encode(self, condition: Condition) -> Condition:
        return self.network.encode(condition)

    def forward(self, x: Signal, c_noise: Float[Tensor, "batch"], condition: Condition) -> Signal:
        return self.network(x, c_noise, condition)

    def noise_std(self, condition: Condition) -> Float[Tensor, "batch 1 time"]:
        """Return the standard deviation of the noise at each sample."""
        energy = torch.exp(frames_of(condition, n_bands=self.frame_bands)).sum(dim=1, keepdim=True).sqrt()
        if self.is_limited:
            energy = energy.clamp(max=self.energy_max)
        std = ((energy - self.energy_min) / (self.energy_max - self.energy_min)).clamp(min=self.std_min)
        return std.repeat_interleave(self.hop_length, dim=-1)
