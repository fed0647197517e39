"""What every metric does with its pair of signals: check it, compute in float64, give NaN where nothing can be said."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from audiodiff.errors import ParameterError


def in_float64(
    estimate: Tensor, reference: Tensor
) -> tuple[Float[Tensor, "*batch time"], Float[Tensor, "*batch time"]]:
    """Check that two signals can be compared, and convert them to float64.

    Raises:
        ParameterError: if one is no tensor of real floats, the shapes differ, or there is no time axis.
    """
    for name, signal in (("estimate", estimate), ("reference", reference)):
        if not isinstance(signal, Tensor):
            kind = type(signal).__name__
            raise ParameterError(f"{name} is a {kind}; give a torch tensor, as torch.from_numpy makes it of an array")
    if estimate.shape != reference.shape:
        raise ParameterError(
            f"estimate has shape {tuple(estimate.shape)} and reference {tuple(reference.shape)}: they must be equal; "
            f"trim both to the shorter"
        )
    if estimate.ndim < 1:
        raise ParameterError("estimate and reference are single numbers, they must have shape (..., time)")
    for name, signal in (("estimate", estimate), ("reference", reference)):
        if not signal.is_floating_point():
            raise ParameterError(f"{name} has dtype {signal.dtype}, it must be floating point in [-1, 1]")
    return estimate.double(), reference.double()


def result_like(value: Float[Tensor, "*batch"], estimate: Tensor) -> Float[Tensor, "*batch"]:
    """Return float64 for a float64 estimate and float32 for any other: a score in half precision says nothing."""
    return value if estimate.dtype == torch.float64 else value.float()


def is_silent(signal: Float[Tensor, "*batch time"]) -> Bool[Tensor, "*batch"]:
    """Say which examples are nothing but zeros (or have no samples)."""
    return (signal == 0).all(dim=-1)


def nan_where(mask: Bool[Tensor, "*batch"], value: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """Put NaN where a value cannot exist."""
    return torch.where(mask, torch.full_like(value, torch.nan), value)


def all_nan(signal: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch"]:
    """Return NaN for every example: none is long enough."""
    return torch.full(signal.shape[:-1], torch.nan, dtype=signal.dtype, device=signal.device)


def one_by_one(
    function: Callable[[Tensor, Tensor], float],
    estimate: Float[Tensor, "*batch time"],
    reference: Float[Tensor, "*batch time"],
) -> Float[Tensor, "*batch"]:
    """Score examples with a function that knows only two signals (time,) on the CPU."""
    estimates = estimate.detach().cpu().reshape(-1, estimate.shape[-1]) if estimate.numel() else ()
    references = reference.detach().cpu().reshape(-1, reference.shape[-1]) if reference.numel() else ()
    values = [function(e, r) for e, r in zip(estimates, references, strict=True)]
    if not values:
        return all_nan(estimate)
    return torch.tensor(values, dtype=torch.float64, device=estimate.device).reshape(estimate.shape[:-1])
