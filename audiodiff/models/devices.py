"""Devices by name, and the precision of models."""

from collections.abc import Callable

import torch
from torch import Tensor

from audiodiff.errors import ParameterError


def device_named(name: str | torch.device) -> torch.device:
    """Return the device that torch calls so, having found that it works here.

    Args:
        name: "cpu", "cuda", "cuda:1" and so on, or "auto": the GPU if there is one.

    Raises:
        ParameterError: if there is no such device.

    Example:
        >>> device_named("cpu")
        device(type='cpu')
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        # "meta" is made without complaint, and holds no numbers.
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ParameterError(f"device={str(name)!r} cannot be used here ({reason}): give cpu, or auto") from error
    return device


def check_precision(change: Callable[[Tensor], Tensor]) -> None:
    """Refuse a change of all tensors of a model, as `half`, `double` and `to` make it, to another precision.

    Audio in float16 or bfloat16 would lose its quiet parts, and inputs are float32.

    Args:
        change: of each tensor.

    Raises:
        ParameterError: before anything is changed, with the remedy.
    """
    dtype = change(torch.zeros(1)).dtype
    if dtype != torch.float32:
        raise ParameterError(
            f"dtype={dtype}: a model holds float32 alone; to compute faster on a GPU call it under torch.autocast: "
            'with torch.autocast("cuda", torch.bfloat16): model.generate(mel)'
        )
