"""Statistics of mel spectrograms that show the scale of their values, and their distribution in recordings.

The strongest is the median difference between neighbouring values. At the scale of single cells a spectrogram is
interference, as of noise, whatever was recorded: in decibels the differences are nearly the same in speech, music and
noise, at any level. In the values of an array they are divided by the decibels of one unit, and so show those.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

QUANTILES = torch.tensor([0.1, 0.5, 0.9, 0.98], dtype=torch.float64)
"""Of the values of an array above its floor."""
CLIPPED_SHARE = 0.005
"""Share of values equal to the smallest one above which an array counts as clipped from below."""
_MIN_CELLS = 64
LEAST = 1e-12


@dataclass(frozen=True)
class MelStatistics:
    """Statistics of an array on a logarithmic scale.

    Args:
        quantiles: of the values above the floor, see `QUANTILES`.
        differences: natural logarithms of the median absolute difference in time, across bands, and of the mixed
            second difference x[b, t] - x[b + 1, t] - x[b, t + 1] + x[b + 1, t + 1].
        band_tops, band_means: 98 % quantile and mean of the values of each band.
        low: the smallest value.
        is_clipped: many values equal the smallest.
        is_relative: the largest value is exactly 0, as in decibels relative to it.
    """

    quantiles: Float[Tensor, "4"]
    differences: Float[Tensor, "3"]
    band_tops: Float[Tensor, "n_mels"]
    band_means: Float[Tensor, "n_mels"]
    low: float
    is_clipped: bool
    is_relative: bool

    @cached_property
    def shape(self) -> Float[Tensor, "6"]:
        """Natural logarithms of the steps between quantiles, and the differences; a gain adds its logarithm to all."""
        return torch.cat([self.quantiles.diff().clamp(min=LEAST).log(), self.differences])


def statistics(mel: Float[Tensor, "n_mels frames"]) -> MelStatistics | None:
    """Return the statistics of an array, None where too few values are above its floor, as in silence."""
    mel = mel.double()
    low = float(mel.min())
    above = mel > low + 1e-6 * abs(low)
    is_clipped = float((~above).double().mean()) > CLIPPED_SHARE
    if not is_clipped:
        above = torch.ones_like(above)
    in_time, across = mel.diff(dim=1).abs(), mel.diff(dim=0).abs()
    mixed = mel.diff(dim=1).diff(dim=0).abs()
    found = []
    for values, inside in (
        (in_time, above[:, 1:] & above[:, :-1]),
        (across, above[1:] & above[:-1]),
        (mixed, above[1:, 1:] & above[1:, :-1] & above[:-1, 1:] & above[:-1, :-1]),
    ):
        if int(inside.sum()) < _MIN_CELLS:
            return None
        found.append(float(values[inside].median().clamp(min=LEAST).log()))
    quantiles = torch.quantile(mel[above], QUANTILES)
    tops = torch.quantile(mel, QUANTILES[-1], dim=1)
    return MelStatistics(
        quantiles=quantiles,
        differences=torch.tensor(found, dtype=torch.float64),
        band_tops=tops,
        band_means=mel.mean(dim=1),
        low=low,
        is_clipped=is_clipped,
        is_relative=float(mel.max()) == 0.0,
    )
