"""Bootstrap confidence intervals of means over files."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError

_CHUNK_DRAWS = 5_000_000


def bootstrap_interval(
    values: Float[Tensor, "n"], *, confidence: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Compute the percentile bootstrap interval of the mean: quantiles of the means of resamples with replacement.

    With few values it is too narrow, by a factor of sqrt((n - 1) / n) and more: below about 20, it is only indicative.

    Args:
        confidence: nominal probability that the interval contains the true mean, in (0, 1).
        n_resamples: 2000 puts the ends within about 2 % of the interval's width.
        seed: of the resampling; the same values and seed give the same interval.

    Returns:
        The lower and the upper end; NaN if there are fewer than two values.

    Raises:
        ParameterError: if a value is not finite, confidence is outside (0, 1) or n_resamples is below 1.

    Example:
        >>> low, high = bootstrap_interval(torch.linspace(0, 1, 100))
        >>> 0.43 < low < 0.45 and 0.55 < high < 0.57
        True

    Source:
        Efron and Tibshirani 1993, "An introduction to the bootstrap", section 13.3.
    """
    if not 0 < confidence < 1:
        raise ParameterError(f"confidence={confidence} must lie between 0 and 1")
    if n_resamples < 1:
        raise ParameterError(f"n_resamples={n_resamples} must be at least 1")
    if not torch.isfinite(values).all():
        raise ParameterError("values has NaN or inf: leave out values that cannot be averaged, and count them")
    n = values.numel()
    if n < 2:
        return math.nan, math.nan
    values = values.detach().cpu().double()
    generator = torch.Generator().manual_seed(seed)
    chunk = max(1, _CHUNK_DRAWS // n)
    means = torch.cat(
        [
            values[torch.randint(n, (min(chunk, n_resamples - start), n), generator=generator)].mean(-1)
            for start in range(0, n_resamples, chunk)
        ]
    )
    tails = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=means.dtype)
    low, high = means.quantile(tails).tolist()
    return low, high
