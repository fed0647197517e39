"""Devices by name."""

import torch

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
