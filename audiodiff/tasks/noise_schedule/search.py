"""Derivative-free search for a grid of least cost."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from audiodiff.errors import ParameterError
from audiodiff.tasks.noise_schedule.levels import Levels, rounded

_FIRST_SIZE = 0.15
_LEAST_SIZE = 0.005


@dataclass(frozen=True)
class Trial:
    """A grid and its cost; lower is better."""

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
    """Minimize a cost over grids: try the starts, then a spread of grids, then Nelder-Mead from the best.

    The levels move in log(sigma), between low and high, and are sorted. A third of the trials after the starts go to
    points of Halton's sequence, because a metric may have several optima. A simplex that has become small is replaced
    by one around the best grid, of half the previous size and mirrored.

    Args:
        cost: to minimize, a pure function; values that are not finite count as the worst.
        starts: tried first, unchanged; all of one length.
        low: lowest level.
        high: highest level.
        n_trials: calls of cost, the starts included; no grid is tried twice.
        on_trial: called after each trial.

    Returns: the trials, in order. The best is at least as good as each start, if n_trials covers the starts.

    Raises:
        ParameterError: if there are no starts or no trials.

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

    def try_grid(sigmas: Levels) -> float:
        if sigmas not in known:
            if len(trials) == n_trials:
                raise _SpentError
            value = cost(sigmas)
            known[sigmas] = value if math.isfinite(value) else math.inf
            trials.append(Trial(sigmas, known[sigmas]))
            on_trial(trials[-1])
        # Nelder-Mead compares costs, but its stopping test subtracts them, and inf - inf is NaN.
        return min(known[sigmas], 1e300)

    width = math.log(high / low)
    size = _FIRST_SIZE
    try:
        for start in starts:
            try_grid(start)
        spread = qmc.Halton(d=len(starts[0]), scramble=False)
        spread.fast_forward(1)  # the sequence begins at 0
        for positions in spread.random(max(0, n_trials - len(starts)) // 3).tolist():
            try_grid(_levels(positions, low=low, width=width))
        while abs(size) > _LEAST_SIZE:
            positions = [min(1.0, max(0.0, math.log(sigma / low) / width)) for sigma in best(trials).sigmas]
            minimize(
                lambda moved: try_grid(_levels(moved.tolist(), low=low, width=width)),
                positions,
                method="Nelder-Mead",
                bounds=[(0.0, 1.0)] * len(positions),
                options={
                    "initial_simplex": _simplex(positions, size=size),
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
    """Return the trial of least cost, the first of several."""
    return min(trials, key=lambda trial: trial.cost)


class _SpentError(Exception):
    """Raised when no trial is left."""


def _levels(positions: Sequence[float], *, low: float, width: float) -> Levels:
    """Return decreasing levels from positions in [0, 1] in any order; equal ones are moved slightly apart."""
    levels: list[float] = []
    for position in sorted(positions, reverse=True):
        level = rounded(low * math.exp(width * position))
        levels.append(rounded(min(level, 0.999 * levels[-1])) if levels else level)
    return tuple(levels)


def _simplex(positions: Sequence[float], *, size: float) -> list[list[float]]:
    """Return a simplex: the positions, and each of them moved by size, in the direction that stays within bounds."""
    corners = [list(positions)]
    for k, position in enumerate(positions):
        moved = position + size if 0.0 <= position + size <= 1.0 else position - size
        corners.append([*positions[:k], moved, *positions[k + 1 :]])
    return corners
