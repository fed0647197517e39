"""Statistics of mels of recordings: means and covariances of what `mel_statistics` finds, in dB.

`python benchmarks/mel_levels.py --fit` measures them: speech of 250 speakers, music, single drum hits and sounds of the
surroundings, as they are, quieter, band-limited and rounded to 16 bits, in thirteen dialects. Generated speech is
speech whose mel is blurred, as acoustic models make it.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

# Added to the variances, for recordings other than those measured.
_SLACK = (0.04, 0.02, 0.02, 0.01, 0.01, 0.005, 25.0)


@dataclass(frozen=True)
class Kind:
    """A kind of sound.

    Args:
        name: of the kind.
        weight: probability of the kind.
        mean: of the natural logarithms of three steps between quantiles, those of three differences of neighbours, and
            the level that 2 % of the values of a loud band pass, in dB.
        covariance: of these, the lower triangle.
        tilt: level of bands 0 and 1 above that of bands 4 to 7, mean and deviation in dB, for filters from 0 Hz.
        tilt_80: the same for filters from 80 Hz.
    """

    name: str
    weight: float
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    tilt: tuple[float, float]
    tilt_80: tuple[float, float]

    @cached_property
    def location(self) -> Float[Tensor, "7"]:
        """The mean."""
        return torch.tensor(self.mean, dtype=torch.float64)

    @cached_property
    def spread(self) -> Float[Tensor, "7 7"]:
        """The covariance."""
        lower = torch.zeros(len(self.mean), len(self.mean), dtype=torch.float64)
        for i, row in enumerate(self.covariance):
            lower[i, : i + 1] = torch.tensor(row, dtype=torch.float64)
        return lower + lower.tril(-1).T + torch.diag(torch.tensor(_SLACK, dtype=torch.float64))


KINDS = (
    # 1788 mels
    Kind(
        "speech",
        weight=0.4,
        mean=(3.01, 3.15, 2.55, 0.98, 1.15, 0.81, -21.70),
        covariance=(
            (0.174,),
            (0.019, 0.022),
            (0.000, 0.004, 0.043),
            (0.002, -0.003, -0.001, 0.018),
            (0.003, -0.002, -0.003, 0.009, 0.019),
            (-0.003, -0.001, 0.005, 0.008, 0.007, 0.011),
            (3.352, 0.653, 0.452, 0.295, 0.312, 0.151, 222.914),
        ),
        tilt=(-6.3, 8.5),
        tilt_80=(2.0, 4.4),
    ),
    # 1788 mels
    Kind(
        "generated",
        weight=0.15,
        mean=(3.05, 3.13, 2.28, 0.35, 0.25, -0.86, -27.13),
        covariance=(
            (0.261,),
            (0.013, 0.030),
            (-0.003, 0.005, 0.061),
            (0.030, -0.007, 0.006, 0.109),
            (0.046, -0.001, 0.018, 0.090, 0.121),
            (0.024, 0.001, 0.058, 0.131, 0.177, 0.331),
            (4.233, 0.564, 0.410, 1.190, 1.685, 1.508, 222.336),
        ),
        tilt=(-5.4, 7.6),
        tilt_80=(1.7, 3.9),
    ),
    # 68 mels
    Kind(
        "music",
        weight=0.2,
        mean=(2.95, 2.91, 2.13, 0.52, 1.47, 0.64, -21.48),
        covariance=(
            (0.263,),
            (0.111, 0.122),
            (0.048, 0.098, 0.115),
            (-0.007, -0.006, 0.000, 0.022),
            (0.051, 0.045, 0.025, 0.010, 0.101),
            (-0.009, -0.008, -0.001, 0.018, 0.010, 0.016),
            (6.346, 3.960, 2.208, -0.273, 2.553, -0.381, 385.489),
        ),
        tilt=(-8.6, 13.2),
        tilt_80=(-6.3, 9.1),
    ),
    # 1163 mels
    Kind(
        "other",
        weight=0.25,
        mean=(2.83, 2.95, 2.31, 0.77, 1.09, 0.76, -27.88),
        covariance=(
            (0.483,),
            (0.075, 0.189),
            (-0.023, 0.118, 0.214),
            (0.016, 0.019, 0.014, 0.049),
            (0.025, 0.022, 0.003, -0.002, 0.059),
            (0.005, -0.010, -0.007, 0.023, 0.005, 0.032),
            (6.393, 1.246, -0.398, 0.429, 0.031, 0.473, 381.394),
        ),
        tilt=(-4.9, 17.4),
        tilt_80=(3.1, 9.6),
    ),
)
"""Of recordings; see the head of this file."""
