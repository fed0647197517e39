"""Pairs of signals in metrics: checks, computation in float64, and NaN where there is no value."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from audiodiff.errors import ParameterError


def in_float64(
    estimate: Tensor, reference: Tensor
) -> tuple[Float[Tensor, "*batch time"], Float[Tensor, "*batch time"]]:
    """Convert two signals to float64, and refuse those that cannot be compared.

    Raises:
        ParameterError: unless both are tensors of real floats, of equal shape and with a time axis.
    """
    for name, signal in (("estimate", estimate), ("reference", reference)):
        if not isinstance(signal, Tensor):
            kind = type(signal).__name__
            raise ParameterError(f"{name} is a {kind}; give a torch tensor; torch.from_numpy converts an array")
    if estimate.shape != reference.shape:
        raise ParameterError(
            f"estimate has shape {tuple(estimate.shape)} and reference {tuple(reference.shape)}: they must be equal; "
            f"trim both to the shorter"
        )
    if estimate.ndim < 1:
        raise ParameterError("estimate and reference are single numbers: they must have shape (..., time)")
    for name, signal in (("estimate", estimate), ("reference", reference)):
        if not signal.is_floating_point():
            raise ParameterError(f"{name} has dtype {signal.dtype}: it must be floating point in [-1, 1]")
    return estimate.double(), reference.double()


def result_like(value: Float[Tensor, "*batch"], estimate: Tensor) -> Float[Tensor, "*batch"]:
    """Return a value in float64 for a float64 estimate, and in float32 for any other, also for half precision."""
    return value if estimate.dtype == torch.float64 else value.float()


def is_silent(signal: Float[Tensor, "*batch time"]) -> Bool[Tensor, "*batch"]:
    """Return which examples are all zeros, or have no samples."""
    return (signal == 0).all(dim=-1)


def nan_where(mask: Bool[Tensor, "*batch"], value: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Replace values by NaN where the mask is True."""
    return torch.where(mask, torch.full_like(value, torch.nan), value)


def all_nan(signal: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch"]:
    """Return NaN for every example, for signals that are too short."""
    return torch.full(signal.shape[:-1], torch.nan, dtype=signal.dtype, device=signal.device)


def one_by_one(
    function: Callable[[Tensor, Tensor], float],
    estimate: Float[Tensor, "*batch time"],
    reference: Float[Tensor, "*batch time"],
) -> Float[Tensor, "*batch"]:
    """Score each example by a function of two signals (time,) on the CPU."""
    estimates = estimate.detach().cpu().reshape(-1, estimate.shape[-1]) if estimate.numel() else ()
    references = reference.detach().cpu().reshape(-1, reference.shape[-1]) if reference.numel() else ()
    values = [function(e, r) for e, r in zip(estimates, references, strict=True)]
    if not values:
        return all_nan(estimate)
    return torch.tensor(values, dtype=torch.float64, device=estimate.device).reshape(estimate.shape[:-1])
