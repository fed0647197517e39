"""The interface of solvers, and helpers that they share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch

from audiodiff.diffusion.grid import Sigmas
from audiodiff.errors import ParameterError
from audiodiff.types import Denoise, Noise, Signal

OnStep = Callable[[int, Signal], None]
"""(step, denoised) -> None, called after every step, for example for a progress bar; step counts from 0."""
AfterStep = Callable[[Signal, int, float], Signal]
"""(x, step, sigma) -> x, applied to the result of every step; sigma is the level at the end of the step."""


@runtime_checkable
class Solver(Protocol):
    """Step x from the first sigma to the last. A solver has no state; `noise` is its only randomness."""

    def __call__(
        self,
        denoise: Denoise,
        x: Signal,
        sigmas: Sigmas,
        *,
        noise: Noise | None = None,
        on_step: OnStep | None = None,
        after_step: AfterStep | None = None,
    ) -> Signal: ...


def accept(sigmas: Sigmas, **options: object) -> None:
    """Accept any levels and options."""


@dataclass(frozen=True)
class SolverInfo:
    """Hold a solver and its properties, which tests verify.

    Args:
        solve: the solver.
        order: of convergence to the probability flow, or in law for a stochastic solver; 0 if it does not converge.
        n_evaluations: number of evaluations of the denoiser in n steps, the last of them to sigma = 0; None for
            adaptive steps.
        stochastic: whether it draws noise with its default options.
        jumps: whether it needs a denoiser that was trained to jump, BoundDenoiser.predict_jump.
        local: whether a sample of the result depends only on the receptive fields of the denoiser around it, and not
            on a norm over the whole signal.
        check: called as (sigmas, guided=..., **options), refuses levels, guidance or options that the solver does not
            take.
    """

    solve: Solver
    order: int
    n_evaluations: Callable[[int], int] | None
    stochastic: bool = False
    jumps: bool = False
    local: bool = True
    check: Callable[..., None] = accept


def evaluate(denoise: Denoise, x: Signal, sigma: float) -> Signal:
    """Evaluate the denoiser at one level for the whole batch."""
    # float64: the scalings need a higher precision than x.
    return denoise(x, torch.full((x.shape[0],), sigma, dtype=torch.float64, device=x.device))


def weighted_sum(weights: Sequence[float], signals: Sequence[Signal]) -> Signal:
    """Compute sum_k weights[k] * signals[k] with a single new tensor.

    Example:
        >>> weighted_sum([2.0, -1.0], [torch.ones(1, 1, 2), torch.tensor([[[0.5, 3.0]]])])
        tensor([[[ 1.5000, -1.0000]]])
    """
    total = weights[0] * signals[0]
    for weight, signal in zip(weights[1:], signals[1:], strict=True):
        total.add_(signal, alpha=weight)
    return total


def finish(
    x: Signal, denoised: Signal, step: int, sigma: float, on_step: OnStep | None, after_step: AfterStep | None
) -> Signal:
    """Apply the hooks at the end of a step to sigma."""
    if after_step is not None:
        x = after_step(x, step, sigma)
    if on_step is not None:
        on_step(step, denoised)
    return x


def fixed_step(noise: Noise, step: int) -> Noise:
    """Return a noise that draws with this step number, whatever number it is called with."""
    return lambda like, _: noise(like, step)


def required(noise: Noise | None, name: str) -> Noise:
    """Return the noise function of a solver, which is called by its name in the error.

    Raises:
        ParameterError: if there is none.
    """
    if noise is None:
        raise ParameterError(f"noise=None: {name} draws noise at every step; give it a noise function")
    return noise
