"""Which precision pays on the machine at hand."""

import torch

from audiodiff.errors import ParameterError

PRECISIONS = ("auto", "32-true", "bf16-mixed")


def resolve_precision(precision: str, *, accelerator: str) -> str:
    """Return the precision that "auto" means: bf16-mixed where the hardware multiplies bfloat16 fast, else 32-true.

    On a processor that is one with AMX tiles; without them bfloat16 is emulated, a hundred times slower than float32.

    Args:
        precision: one of PRECISIONS.
        accelerator: as Lightning Fabric names it.

    Raises:
        ParameterError: for another precision.
    """
    if precision not in PRECISIONS:
        raise ParameterError(
            f"fabric.precision={precision} must be one of {', '.join(PRECISIONS)}: the signal stays in float32 "
            "whatever the network does, and float16 would need its gradients scaled"
        )
    if precision != "auto":
        return precision
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    fast = torch.cuda.is_bf16_supported() if on_gpu else torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if fast else "32-true"
