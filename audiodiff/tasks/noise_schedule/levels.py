"""Noise levels as plain numbers: tables of betas, and standard grids to start a search from."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from audiodiff.diffusion.grid import BetaTable, Karras, LogUniform, TimeUniform
from audiodiff.diffusion.process import VPCosine
from audiodiff.errors import ParameterError

Levels = tuple[float, ...]
"""Decreasing and positive; the step from the last to 0 is implied."""
DIGITS = 5
"""Significant digits of a searched level, so that the printed grid is exactly the one that was tried."""


def sigmas_of_betas(betas: Sequence[float]) -> Levels:
    """Return the levels of a variance-preserving chain with these betas, the noisiest first.

    Example:
        >>> [round(sigma, 4) for sigma in sigmas_of_betas([0.2, 0.5])]
        [1.2247, 0.5]
    """
    return tuple(BetaTable(betas)(len(betas)).tolist()[:-1])


def betas_of_sigmas(sigmas: Sequence[float]) -> Levels:
    """Return the table of betas, least noisy first, whose variance-preserving chain has these levels.

    beta_k = 1 - alpha_bar_k / alpha_bar_(k-1) with alpha_bar_k = 1 / (1 + sigma_k^2), computed without cancellation.

    Example:
        >>> [round(beta, 4) for beta in betas_of_sigmas([1.5**0.5, 0.5])]
        [0.2, 0.5]
    """
    rising = (0.0, *sorted(sigmas))
    return tuple((high - low) * (high + low) / (1.0 + high**2) for low, high in pairwise(rising))


def log_uniform(low: float, high: float, n: int) -> Levels:
    """Space n levels evenly in log(sigma), from high to low; the inner ones are rounded, and a single level is high.

    Example:
        >>> log_uniform(1.0, 100.0, 3)
        (100.0, 10.0, 1.0)
    """
    between = map(rounded, LogUniform(sigma_min=low, sigma_max=high)(n)[1 : n - 1].tolist())
    return (high,) if n == 1 else (high, *between, low)


def standard_grids(low: float, high: float, n: int) -> Mapping[str, Levels]:
    """Return standard grids between two levels, by name.

    Raises:
        ParameterError: unless 0 < low < high, and n is at least 1.
    """
    if not 0.0 < low < high < math.inf:
        raise ParameterError(f"sigma_min={low} and sigma_max={high} must satisfy 0 < sigma_min < sigma_max")
    cosine = TimeUniform(VPCosine(), t_start=2.0 / math.pi * math.atan(high))
    return {
        "karras": tuple(map(rounded, Karras(sigma_min=low, sigma_max=high)(n).tolist()[:-1])),
        "log-uniform": log_uniform(low, high, n),
        "time-uniform": tuple(map(rounded, cosine(n).tolist()[:-1])),
    }


def rounded(sigma: float) -> float:
    """Return a level with DIGITS significant digits."""
    return float(f"{sigma:.{DIGITS}g}")


def format_levels(levels: Sequence[float]) -> str:
    """Format levels or betas as command-line options take them.

    Example:
        >>> format_levels([4.0, 0.25])
        '4,0.25'
    """
    return ",".join(f"{level:.6g}" for level in levels)
