"""Sampler: a solver, a grid, a number of steps, and hooks for the start and for the end of each step."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from audiodiff.diffusion.grid import Grid, Sigmas
from audiodiff.diffusion.process import Process
from audiodiff.diffusion.solvers import AfterStep, OnStep, Solver
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Signal

Start = Callable[[Signal, float], Signal]
"""(white noise, first sigma) -> x at the first sigma."""
FINE_STEPS = 1024
"""Least number of steps of `fine_grid`, if the grid has as many."""


def scaled_start(eps: Signal, sigma: float) -> Signal:
    """Start from sigma * eps: x0 is neglected at the first sigma."""
    return sigma * eps


def _alpha(process: Process, sigma: float) -> float:
    return float(process.alpha(torch.tensor(sigma, dtype=torch.float64)))


def unit_start(process: Process) -> Start:
    """Make a start from x_t ~ N(0, 1), that is x = eps / alpha_t, as in DDPM and DiffWave.

    It differs from sigma * eps if alpha_t of the first level is not near 0: by a factor of 1.18 for DiffWave's 50
    steps.

    Raises:
        ParameterError: if the process does not preserve the variance, so that its noisiest x_t is not N(0, 1).
    """
    if not math.isclose(_alpha(process, 1.0), math.sqrt(0.5)):
        raise ParameterError(
            f"process={type(process).__name__} must preserve the variance for a start from x_t ~ N(0, 1): choose "
            "another start, as in sampler=flow, or a VP process"
        )

    def start(eps: Signal, sigma: float) -> Signal:
        return eps / _alpha(process, sigma)

    return start


def clamp_scaled(process: Process, low: float = -1.0, high: float = 1.0) -> AfterStep:
    """Make a hook that clamps x_t = alpha_t * x (not x0) to [low, high] after every step, as in LMNT's DiffWave."""

    def after_step(x: Signal, step: int, sigma: float) -> Signal:
        alpha_t = _alpha(process, sigma)
        return torch.clamp(alpha_t * x, low, high) / alpha_t

    return after_step


@dataclass(frozen=True)
class Sampler:
    """Draw a signal: start at the first sigma of the grid and solve to the last.

    Args:
        solver: one of audiodiff.diffusion.solvers.
        grid: the sequence of sigma for a number of steps.
        n_steps: number of steps unless a call gives another.
        start: makes the first x from white noise; None starts from sigma * eps.
        after_step: applied to the result of every step.
    """

    solver: Solver
    grid: Grid
    n_steps: int
    start: Start | None = None
    after_step: AfterStep | None = None

    def __post_init__(self) -> None:
        if self.n_steps < 1:
            raise ParameterError(f"n_steps={self.n_steps} must be at least 1")

    def __call__(
        self, denoise: Denoise, like: Signal, noise: Noise, *, n_steps: int | None = None, on_step: OnStep | None = None
    ) -> Signal:
        """Return a signal of like's shape, dtype and device.

        Args:
            denoise: (x, sigma) -> x0, from Denoiser.bind.
            like: determines shape, dtype and device; its values are not used.
            noise: called with step number 0 for the start, k + 1 for transition k of the solver.
            n_steps: number of steps; None is that of the sampler.
            on_step: (step, denoised), called after every step.
        """
        sigmas = self.grid(self.n_steps if n_steps is None else n_steps)
        start = scaled_start if self.start is None else self.start
        x = start(noise(like, 0), float(sigmas[0]))
        return self.solver(denoise, x, sigmas, noise=noise, on_step=on_step, after_step=self.after_step)


def fine_grid(sampler: Sampler) -> Sigmas:
    """Return the levels of a sampler's grid in at least `FINE_STEPS` steps, a multiple of its own number of steps.

    Returns: the levels in the sampler's own number of steps if the grid does not have more.
    """
    try:
        return sampler.grid(sampler.n_steps * math.ceil(FINE_STEPS / sampler.n_steps))
    except ParameterError:
        return sampler.grid(sampler.n_steps)
