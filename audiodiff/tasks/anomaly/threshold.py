"""Conformal threshold: a quantile of held-out normal scores that keeps the rate of false alarms."""

import math

from jaxtyping import Float
from torch import Tensor

from audiodiff.errors import ParameterError

MIN_FIT = 10
"""Fewest recordings that a scorer is fitted to."""


def conformal_threshold(scores: Float[Tensor, "n"], *, false_alarms: float) -> float:
    """Return the ceil((1 - false_alarms) (n + 1))-th smallest of normal scores.

    The probability that another normal score, exchangeable with these n, is above it is at most false_alarms, and at
    least false_alarms - 1 / (n + 1) where no two are equal.

    Raises:
        ParameterError: if there are too few scores for the rate.

    Example:
        >>> import torch
        >>> conformal_threshold(torch.arange(1.0, 20.0), false_alarms=0.1)
        18.0

    Source: Papadopoulos et al. 2002 (inductive conformal prediction); Lei et al. 2018, section 2.2.
    """
    n = len(scores)
    rank = math.ceil((1.0 - check_false_alarms(false_alarms)) * (n + 1) - 1e-9)
    if rank > n:
        raise ParameterError(
            f"false_alarms={false_alarms} needs {min_held_out(false_alarms)} held-out normal recordings, and there are "
            f"{n}"
        )
    return float(scores.sort().values[rank - 1])


def check_false_alarms(false_alarms: float) -> float:
    """Return a rate of false alarms, or refuse it.

    Raises:
        ParameterError: if it is not between 0 and 1.
    """
    if not 0.0 < false_alarms < 1.0:
        raise ParameterError(f"false_alarms={false_alarms} must lie between 0 and 1, as 0.05 does")
    return false_alarms


def min_held_out(false_alarms: float) -> int:
    """Return how many held-out recordings a threshold at this rate needs: with n, the lowest rate is 1 / (n + 1)."""
    return max(1, math.ceil(1.0 / check_false_alarms(false_alarms) - 1.0 - 1e-9))


def check_count(n: int, *, false_alarms: float) -> None:
    """Refuse too few normal recordings.

    Raises:
        ParameterError: with the number that is needed.
    """
    held_out = min_held_out(false_alarms)
    if n < MIN_FIT + held_out:
        raise ParameterError(
            f"{n} normal recordings are too few for false_alarms={false_alarms}: give {MIN_FIT + held_out} or more, "
            f"{held_out} of which are held out for the threshold, or allow more false alarms"
        )
