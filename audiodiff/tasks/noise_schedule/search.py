"""Grids that cost less and less, by trial."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audiodiff.errors import ParameterError
from audiodiff.tasks.noise_schedule.levels import Levels, rounded

_FIRST_SIZE = 0.15
_LEAST_SIZE = 0.005


@dataclass(frozen=True)
class Trial:
    """Hold a grid that was tried and what it costs; lower is better."""

    sigmas: Levels
    cost: float


def search(
    cost: Callable[[Levels], float],
    starts: Sequence[Levels],
    *,
    low: float,
    high: float,
    n_trials: int,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Try grids that might cost less and less: the starts, some of all kinds, what Nelder and Mead make of the best.

    The levels move in log(sigma), between low and high, and are sorted. A third of the trials after the starts go to
    points of Halton's sequence, because a metric may have several optima. Where the simplex has become small, a new one
    is put around the best grid, half as large as the one before and the other way round.

    Args:
        cost: to be minimised, a pure function; what is not finite counts as the worst.
        starts: tried first, as they are; all of one length.
        low: the least level.
        high: the greatest level.
        n_trials: calls of cost, the starts included; no grid is tried twice.
        on_trial: called after each.

    Returns: the trials, in order. The cheapest is never dearer than a start, if n_trials reaches the starts.

    Raises:
        ParameterError: if there is nothing to start from, or no trial.

    Example:
        >>> trials = search(lambda sigmas: (sigmas[0] - 3.0) ** 2, [(8.0,)], low=0.1, high=10.0, n_trials=40)
        >>> f"{best(trials).sigmas[0]:.2f}"
        '3.00'
    """
    from scipy.optimize import minimize
    from scipy.stats import qmc

    if n_trials < 1:
        raise ParameterError(f"n_trials={n_trials} must be at least 1")
    if not starts or len({len(start) for start in starts}) != 1:
        raise ParameterError(f"starts={list(starts)} must be grids of one length, at least one")
    trials: list[Trial] = []
    known: dict[Levels, float] = {}

    def tried(sigmas: Levels) -> float:
        if sigmas not in known:
            if len(trials) == n_trials:
                raise _SpentError
            value = cost(sigmas)
            known[sigmas] = value if math.isfinite(value) else math.inf
            trials.append(Trial(sigmas, known[sigmas]))
            on_trial(trials[-1])
        # Nelder and Mead's method compares and never averages costs, but inf - inf in its test of the end is no number.
        return min(known[sigmas], 1e300)

    width = math.log(high / low)
    size = _FIRST_SIZE
    try:
        for start in starts:
            tried(start)
        spread = qmc.Halton(d=len(starts[0]), scramble=False)
        spread.fast_forward(1)  # the sequence begins at 0
        for places in spread.random(max(0, n_trials - len(starts)) // 3).tolist():
            tried(_levels(places, low=low, width=width))
        while abs(size) > _LEAST_SIZE:
            places = [min(1.0, max(0.0, math.log(sigma / low) / width)) for sigma in best(trials).sigmas]
            minimize(
                lambda moved: tried(_levels(moved.tolist(), low=low, width=width)),
                places,
                method="Nelder-Mead",
                bounds=[(0.0, 1.0)] * len(places),
                options={
                    "initial_simplex": _simplex(places, size=size),
                    "xatol": abs(size) / 10.0,
                    "fatol": math.inf,
                    "maxiter": 10 * n_trials,
                    "maxfev": 10 * n_trials,
                },
            )
            size *= -0.5
    except _SpentError:
        pass
    return trials


def best(trials: Sequence[Trial]) -> Trial:
    """Return the cheapest trial, the first of equals."""
    return min(trials, key=lambda trial: trial.cost)


class _SpentError(Exception):
    """No trial is left."""


def _levels(places: Sequence[float], *, low: float, width: float) -> Levels:
    """Return decreasing levels from places in [0, 1] of any order; equal ones are set a little apart."""
    levels: list[float] = []
    for place in sorted(places, reverse=True):
        level = rounded(low * math.exp(width * place))
        levels.append(rounded(min(level, 0.999 * levels[-1])) if levels else level)
    return tuple(levels)


def _simplex(places: Sequence[float], *, size: float) -> list[list[float]]:
    """Return the places and, for each of them, all places with that one moved by size, away from a bound in the way."""
    corners = [list(places)]
    for k, place in enumerate(places):
        moved = place + size if 0.0 <= place + size <= 1.0 else place - size
        corners.append([*places[:k], moved, *places[k + 1 :]])
    return corners
