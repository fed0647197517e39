"""Lightning Fabric: precision, deterministic algorithms, and the launch of its processes."""

import os
from collections.abc import Mapping
from typing import Any

import torch
from lightning_fabric import Fabric

from audiodiff.errors import ParameterError

PRECISIONS = ("auto", "32-true", "bf16-mixed")


def resolve_precision(precision: str, *, accelerator: str) -> str:
    """Return the precision that "auto" means: bf16-mixed where the hardware multiplies bfloat16 fast, else 32-true.

    On a CPU that takes AMX tiles; without them bfloat16 is emulated, a hundred times slower than float32.

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


def choose_algorithms(*, deterministic: bool) -> None:
    """Choose deterministic algorithms or the fastest, for the whole process."""
    if deterministic:
        # What cuBLAS asks for; it is read when CUDA is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)


def with_precision(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return Fabric's settings with a precision that it knows.

    Raises:
        ParameterError: for a GPU where there is none, or an unknown precision.
    """
    if node["accelerator"] in ("gpu", "cuda") and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        raise ParameterError(
            f"fabric.accelerator={node['accelerator']}: torch {torch.__version__} finds no GPU; choose fabric=cpu, or "
            "install a torch and a driver for your GPU"
        )
    return {**node, "precision": resolve_precision(node["precision"], accelerator=node["accelerator"])}


def launched(node: Mapping[str, Any]) -> Fabric:
    """Return Fabric with its processes running."""
    try:
        fabric = Fabric(**node)
        fabric.launch()
    except (RuntimeError, ValueError, TypeError) as error:
        raise ParameterError(f"fabric={dict(node)}: {str(error).splitlines()[0]}") from error
    return fabric
