"""Conversion between processes, to sample a model under another process than that of its training.

A denoiser is a function of x = x_t / alpha_t and sigma, whatever the process. A grid of another process therefore needs
no conversion: its sigmas only have to lie in `sigma_range` of the process of training. A given x_t is converted.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from audiodiff.diffusion.broadcast import pad_dims_like
from audiodiff.diffusion.process.base import Process
from audiodiff.errors import ParameterError
from audiodiff.types import Signal


def sigma_range(process: Process) -> tuple[float, float]:
    """Return sigma at the two ends of a process's clock; the greater is inf, or above 1e15, if alpha_t ends at 0.

    Example:
        >>> from audiodiff.diffusion.process import VELinear
        >>> sigma_range(VELinear(sigma_max=4.0))
        (0.0, 4.0)
    """
    least, greatest = process.sigma(torch.tensor([0.0, process.last], dtype=torch.float64)).tolist()
    return least, greatest


def convert(
    x_t: Signal, t: Float[Tensor, "batch"], *, source: Process, target: Process
) -> tuple[Signal, Float[Tensor, "batch"]]:
    """Convert x_t of one process to the x_t of another with the same signal and sigma.

    Args:
        x_t: alpha_t * x0 + sigma_t * eps of the source.
        t: clock of the source, one per example; give float64 near the ends.
        source: the process that x_t belongs to.
        target: the process to convert to.

    Returns: x_t and t of the target.

    Raises:
        ParameterError: if alpha_t of the source is 0, or the target does not reach the noise level.

    Example:
        >>> from audiodiff.diffusion.process import Flow, VPCosine
        >>> x_t, t = convert(torch.ones(1, 1, 1), torch.tensor([0.5]), source=Flow(), target=VPCosine())
        >>> x_t, t
        (tensor([[[1.4142]]]), tensor([0.5000]))
    """
    clock = t.double()
    alpha_t, sigma_t = source.coefficients(clock)
    sigma = sigma_t / alpha_t
    least, greatest = sigma_range(target)
    for value in sigma.tolist():
        # Rounding at the ends.
        if not (math.isfinite(value) and least * (1.0 - 1e-6) <= value <= greatest * (1.0 + 1e-6)):
            raise ParameterError(
                f"t={t.tolist()} of the source holds sigma={value:.6g}, and the target's clock runs from "
                f"sigma={least:.6g} to {greatest:.6g}: convert a noise level that both of them have"
            )
    scale = target.alpha(sigma) / alpha_t
    return pad_dims_like(scale, x_t) * x_t, target.time(sigma).to(t.dtype)
